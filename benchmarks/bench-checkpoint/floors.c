/* The floors: the bytes that a checkpoint or restart has to move, moved bare. No digest, no header, no agreement. */
#include "bench.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* An MPI count is an int. */
#define PIECE_BYTES (UINT64_C(1) << 30)

/* A lost node's shards go in pieces that are still in a cache when they are written. */
#define REBUILD_PIECE_BYTES (UINT64_C(1) << 20)

/* A checkpoint's agreements (checkpoint.c: one to choose the slot, one that both copies are whole), and about as many
 * words as the larger one has. */
#define AGREEMENTS      2
#define AGREEMENT_WORDS 16

enum { TAG_OWN = 1, TAG_REPLICA = 2, TAG_SEND = 3 };

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

/* A round of what can fail. Collective, agreed. */
static dcache_status_t timed(struct bench *b, dcache_status_t (*work)(struct bench *b), enum figure figure)
{
    double start = bench_start(b);
    dcache_status_t status = work(b);

    bench_add(b, figure, bench_wall(b, start, bench_now()));
    return bench_agree(b, status);
}

dcache_status_t floors_put(struct bench *b)
{
    return b->window != MPI_WIN_NULL ? timed(b, put, FLOOR_PUT) : DCACHE_OK;
}

/* The same bytes by messages. */
static dcache_status_t send(struct bench *b)
{
    uint64_t bytes = bytes_of(b);
    dcache_status_t status = DCACHE_OK;

    memcpy(b->own, b->data, bytes);
    for (uint64_t done = 0; done < bytes && status == DCACHE_OK; done += PIECE_BYTES) {
        int piece = (int)(bytes - done < PIECE_BYTES ? bytes - done : PIECE_BYTES);
        status = world_check(&b->diag,
                             MPI_Sendrecv(b->data + done, piece, MPI_BYTE, b->partner, TAG_SEND, b->replica + done,
                                          piece, MPI_BYTE, b->guest, TAG_SEND, b->world.comm, MPI_STATUS_IGNORE),
                             "MPI_Sendrecv");
    }
    return status;
}

dcache_status_t floors_send(struct bench *b)
{
    return bench_has_partner(b) ? timed(b, send, FLOOR_SEND) : DCACHE_OK;
}

/* A restarted process has its memory, and a file it has never seen: reading it is faster than mapping it anew. */
static dcache_status_t copy_back(struct bench *b)
{
    for (uint64_t done = 0; done < bytes_of(b);) {
        ssize_t count = pread(b->own_fd, b->data + done, bytes_of(b) - done, (off_t)done);
        if (count <= 0)
            return diag_fail_errno(&b->diag, count < 0 ? errno : EIO, "cannot read %llu bytes",
                                   (unsigned long long)bytes_of(b));
        done += (uint64_t)count;
    }
    return DCACHE_OK;
}

dcache_status_t floors_restore(struct bench *b)
{
    return timed(b, copy_back, FLOOR_RESTORE);
}

static dcache_status_t agree_bare(struct bench *b)
{
    int64_t mine[AGREEMENT_WORDS] = {0}, all[AGREEMENT_WORDS];
    int code = MPI_SUCCESS;

    for (int i = 0; i < AGREEMENTS && code == MPI_SUCCESS; i++)
        code = MPI_Allreduce(mine, all, AGREEMENT_WORDS, MPI_INT64_T, MPI_MAX, b->world.comm);
    return world_check(&b->diag, code, "MPI_Allreduce");
}

dcache_status_t floors_agreements(struct bench *b)
{
    return timed(b, agree_bare, FLOOR_AGREEMENTS);
}

/* What one rank has to do with a lost node: its files are -1 unless it is of that node. */
struct rebuild {
    bool partner_lost, guest_lost;
    bool replicas; /* and not the lost ranks' own shards alone */
    int own_fd, replica_fd;
    unsigned char *landing; /* a piece of a replica, before it is written */
};

static dcache_status_t write_piece(struct bench *b, int fd, const unsigned char *piece, int bytes, uint64_t at)
{
    ssize_t count = pwrite(fd, piece, (size_t)bytes, (off_t)at);

    return count == bytes ? DCACHE_OK
                          : diag_fail_errno(&b->diag, count < 0 ? errno : ENOSPC, "cannot write a new file");
}

/* One piece of what a lost node gets back: its ranks' shards from their partners, and the replicas it kept. */
static dcache_status_t move_piece(struct bench *b, const struct rebuild *r, uint64_t at, int bytes)
{
    MPI_Request requests[4];
    MPI_Comm comm = b->world.comm;
    int count = 0;

    if (r->own_fd >= 0)
        MPI_Irecv(b->data + at, bytes, MPI_BYTE, b->partner, TAG_OWN, comm, &requests[count++]);
    if (r->replica_fd >= 0)
        MPI_Irecv(r->landing, bytes, MPI_BYTE, b->guest, TAG_REPLICA, comm, &requests[count++]);
    if (r->guest_lost)
        MPI_Isend(b->replica + at, bytes, MPI_BYTE, b->guest, TAG_OWN, comm, &requests[count++]);
    if (r->partner_lost && r->replicas)
        MPI_Isend(b->own + at, bytes, MPI_BYTE, b->partner, TAG_REPLICA, comm, &requests[count++]);
    dcache_status_t status = world_check(&b->diag, MPI_Waitall(count, requests, MPI_STATUSES_IGNORE), "MPI_Waitall");
    if (status == DCACHE_OK && r->own_fd >= 0)
        status = write_piece(b, r->own_fd, b->data + at, bytes, at);
    if (status == DCACHE_OK && r->replica_fd >= 0)
        status = write_piece(b, r->replica_fd, r->landing, bytes, at);
    return status;
}

static dcache_status_t prepare(struct bench *b, struct rebuild *r)
{
    dcache_status_t status = DCACHE_OK;

    if (!bench_is_lost(b))
        return DCACHE_OK;
    status = scratch_open(b, "floor-new-own", &r->own_fd);
    if (status != DCACHE_OK || !r->replicas)
        return status;
    r->landing = malloc(REBUILD_PIECE_BYTES);
    if (r->landing == NULL)
        return diag_fail(&b->diag, DCACHE_ERR_NO_MEMORY, "out of memory for a piece of a replica");
    return scratch_open(b, "floor-new-replica", &r->replica_fd);
}

static dcache_status_t rebuild(struct bench *b, struct rebuild *r)
{
    dcache_status_t status = bench_agree(b, prepare(b, r));

    if (status != DCACHE_OK)
        return status;
    for (uint64_t at = 0; at < bytes_of(b) && status == DCACHE_OK; at += REBUILD_PIECE_BYTES) {
        uint64_t left = bytes_of(b) - at;
        status = move_piece(b, r, at, (int)(left < REBUILD_PIECE_BYTES ? left : REBUILD_PIECE_BYTES));
    }
    return status == DCACHE_OK && r->own_fd < 0 ? copy_back(b) : status;
}

static dcache_status_t measure_rebuild(struct bench *b, bool replicas, enum figure figure)
{
    struct rebuild r = {.replicas = replicas, .own_fd = -1, .replica_fd = -1};

    if (!bench_has_partner(b))
        return DCACHE_OK;
    r.partner_lost = b->world.node_of_rank[b->partner] == b->lost_node;
    r.guest_lost = b->world.node_of_rank[b->guest] == b->lost_node;
    double start = bench_start(b);
    dcache_status_t status = rebuild(b, &r);
    bench_add(b, figure, bench_wall(b, start, bench_now()));
    if (r.own_fd >= 0)
        (void)close(r.own_fd);
    if (r.replica_fd >= 0)
        (void)close(r.replica_fd);
    free(r.landing);
    return bench_agree(b, status);
}

dcache_status_t floors_rebuild(struct bench *b)
{
    dcache_status_t status = measure_rebuild(b, false, FLOOR_REBUILD);

    return status == DCACHE_OK ? measure_rebuild(b, true, FLOOR_REBUILD_REPLICATED) : status;
}
