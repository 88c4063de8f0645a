/* The floors: the bytes that a checkpoint or restart has to move, moved bare. No digest, no header, no agreement. */
#include "bench.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* An MPI count is an int. */
#define PIECE_BYTES (UINT64_C(1) << 30)

enum { TAG_OWN = 1, TAG_REPLICA = 2 };

static uint64_t bytes_of(const struct bench *b)
{
    return (uint64_t)b->options.bytes;
}

/* MPI may have no window here (Debian's Open MPI has none that spans hosts): then there is no such floor. */
static void make_window(struct bench *b)
{
    struct diag quiet = b->diag;

    b->window = MPI_WIN_NULL;
    if (!bench_has_partner(b)) {
        snprintf(b->window_reason, sizeof b->window_reason, "all ranks are on one node");
        return;
    }
    int code = MPI_Win_create(b->replica, (MPI_Aint)bytes_of(b), 1, MPI_INFO_NULL, b->world.comm, &b->window);
    dcache_status_t status = world_check(&quiet, code, "MPI_Win_create");
    if (status == DCACHE_OK) {
        MPI_Win_set_errhandler(b->window, MPI_ERRORS_RETURN);
        status = world_check(&quiet, MPI_Win_lock_all(MPI_MODE_NOCHECK, b->window), "MPI_Win_lock_all");
    }
    if (agree(&b->world, &quiet, NULL, status) != DCACHE_OK) {
        snprintf(b->window_reason, sizeof b->window_reason, "%.250s", quiet.text);
        b->window = MPI_WIN_NULL; /* freeing it is collective, and not every rank may have one */
    }
}

static dcache_status_t put(struct bench *b)
{
    uint64_t bytes = bytes_of(b);
    dcache_status_t status = DCACHE_OK;

    memcpy(b->own, b->data, bytes);
    for (uint64_t done = 0; done < bytes && status == DCACHE_OK; done += PIECE_BYTES) {
        int piece = (int)(bytes - done < PIECE_BYTES ? bytes - done : PIECE_BYTES);
        status = world_check(
            &b->diag, MPI_Put(b->data + done, piece, MPI_BYTE, b->partner, (MPI_Aint)done, piece, MPI_BYTE, b->window),
            "MPI_Put");
    }
    if (status == DCACHE_OK)
        status = world_check(&b->diag, MPI_Win_flush(b->partner, b->window), "MPI_Win_flush");
    return status;
}

/* The same start that a first step has: files are made, allocated, mapped, exposed and written for the first time. */
static dcache_status_t first_step(struct bench *b)
{
    double start = bench_start(b);

    dcache_status_t status = scratch_map(b, "floor-own", bytes_of(b), &b->own, &b->own_fd);
    if (status == DCACHE_OK)
        status = scratch_map(b, "floor-replica", bytes_of(b), &b->replica, NULL);
    status = bench_agree(b, status);
    if (status != DCACHE_OK)
        return status;
    make_window(b);
    if (b->window != MPI_WIN_NULL)
        status = put(b);
    else
        memcpy(b->own, b->data, bytes_of(b));
    b->firsts.floor_s = bench_wall(b, start, bench_now());
    return bench_agree(b, status);
}

dcache_status_t floors_create(struct bench *b)
{
    dcache_status_t status = first_step(b);

    if (status == DCACHE_OK) /* a put may have gone past this process: now its own pages are warm, too */
        memset(b->replica, b->world.rank, bytes_of(b));
    if (status == DCACHE_OK && b->window != MPI_WIN_NULL)
        status = put(b);
    return bench_agree(b, status);
}

void floors_free(struct bench *b)
{
    if (b->window != MPI_WIN_NULL) {
        MPI_Win_unlock_all(b->window);
        MPI_Win_free(&b->window);
    }
    b->window = MPI_WIN_NULL;
    if (b->own != NULL)
        (void)munmap(b->own, bytes_of(b));
    if (b->replica != NULL)
        (void)munmap(b->replica, bytes_of(b));
    if (b->own_fd >= 0)
        (void)close(b->own_fd);
    b->own = b->replica = NULL;
    b->own_fd = -1;
}

dcache_status_t floors_copy(struct bench *b)
{
    double start = bench_start(b);

    memcpy(b->own, b->data, bytes_of(b));
    bench_add(b, FLOOR_COPY_MEMCPY, bench_wall(b, start, bench_now()));
    return DCACHE_OK;
}

dcache_status_t floors_copy_nontemporal(struct bench *b)
{
    double start = bench_start(b);
    int done = nontemporal_copy(b->own, b->data, bytes_of(b)), all_done = 0;
    double wall = bench_wall(b, start, bench_now());

    MPI_Allreduce(&done, &all_done, 1, MPI_INT, MPI_MIN, b->world.comm);
    if (all_done)
        bench_add(b, FLOOR_COPY_NONTEMPORAL, wall);
    return DCACHE_OK;
}

dcache_status_t floors_put(struct bench *b)
{
    if (b->window == MPI_WIN_NULL)
        return DCACHE_OK;
    double start = bench_start(b);
    dcache_status_t status = put(b);
    bench_add(b, FLOOR_PUT, bench_wall(b, start, bench_now()));
    return bench_agree(b, status);
}

/* A restarted process has never seen its file: a mapping of its own, made now. */
static dcache_status_t copy_back(struct bench *b)
{
    void *mapping = mmap(NULL, bytes_of(b), PROT_READ, MAP_SHARED | MAP_POPULATE, b->own_fd, 0);

    if (mapping == MAP_FAILED)
        return diag_fail_errno(&b->diag, errno, "cannot map %llu bytes", (unsigned long long)bytes_of(b));
    memcpy(b->data, mapping, bytes_of(b));
    (void)munmap(mapping, bytes_of(b));
    return DCACHE_OK;
}

dcache_status_t floors_restore(struct bench *b)
{
    double start = bench_start(b);
    dcache_status_t status = copy_back(b);

    bench_add(b, FLOOR_RESTORE, bench_wall(b, start, bench_now()));
    return bench_agree(b, status);
}

/* One piece of what a lost node gets back: its ranks' shards from their partners, and the replicas it kept. */
static int move_piece(struct bench *b, bool partner_lost, bool guest_lost, unsigned char *new_own,
                      unsigned char *new_replica, uint64_t at, int bytes)
{
    MPI_Request requests[4];
    MPI_Comm comm = b->world.comm;
    int count = 0;

    if (new_own != NULL && new_replica != NULL) {
        MPI_Irecv(new_own + at, bytes, MPI_BYTE, b->partner, TAG_OWN, comm, &requests[count++]);
        MPI_Irecv(new_replica + at, bytes, MPI_BYTE, b->guest, TAG_REPLICA, comm, &requests[count++]);
    }
    if (guest_lost)
        MPI_Isend(b->replica + at, bytes, MPI_BYTE, b->guest, TAG_OWN, comm, &requests[count++]);
    if (partner_lost)
        MPI_Isend(b->own + at, bytes, MPI_BYTE, b->partner, TAG_REPLICA, comm, &requests[count++]);
    return MPI_Waitall(count, requests, MPI_STATUSES_IGNORE);
}

static dcache_status_t rebuild(struct bench *b, unsigned char **new_own, unsigned char **new_replica)
{
    bool partner_lost = b->world.node_of_rank[b->partner] == b->lost_node;
    bool guest_lost = b->world.node_of_rank[b->guest] == b->lost_node;
    uint64_t bytes = bytes_of(b);
    dcache_status_t status = DCACHE_OK;

    if (bench_is_lost(b)) {
        status = scratch_map(b, "floor-new-own", bytes, new_own, NULL);
        if (status == DCACHE_OK)
            status = scratch_map(b, "floor-new-replica", bytes, new_replica, NULL);
    }
    status = bench_agree(b, status);
    for (uint64_t at = 0; at < bytes && status == DCACHE_OK; at += PIECE_BYTES) {
        int piece = (int)(bytes - at < PIECE_BYTES ? bytes - at : PIECE_BYTES);
        status = world_check(&b->diag, move_piece(b, partner_lost, guest_lost, *new_own, *new_replica, at, piece),
                             "MPI_Waitall");
    }
    if (status != DCACHE_OK)
        return status;
    if (*new_own == NULL)
        return copy_back(b);
    memcpy(b->data, *new_own, bytes);
    return DCACHE_OK;
}

dcache_status_t floors_rebuild(struct bench *b)
{
    unsigned char *new_own = NULL, *new_replica = NULL;

    if (!bench_has_partner(b))
        return DCACHE_OK;
    double start = bench_start(b);
    dcache_status_t status = rebuild(b, &new_own, &new_replica);
    bench_add(b, FLOOR_REBUILD, bench_wall(b, start, bench_now()));
    if (new_own != NULL)
        (void)munmap(new_own, bytes_of(b));
    if (new_replica != NULL)
        (void)munmap(new_replica, bytes_of(b));
    return bench_agree(b, status);
}
