#include "mpi/fanin.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PIECE_BYTES SHARD_CHUNK_BYTES
#define WINDOW      8 /* requests under way per rank */
#define ANSWERS     64
#define SERVED      16 /* slots mapped at a time: a node serves few, its former neighbour's */

struct request {
    uint32_t store, kind, rank, slot;
    uint64_t offset;
    uint32_t bytes, serial;
};

/* A slot that others read from: mapped, so that its bytes go out without a copy. */
struct served {
    uint32_t store, kind, rank, slot;
    char *base; /* NULL: free */
    uint64_t bytes;
};

struct fanin {
    const struct world *world;
    const struct node_store *stores;
    uint32_t store_count;
    struct request incoming;
    MPI_Request receive;
    MPI_Request answers[ANSWERS];
    struct served served[SERVED];
    uint32_t next_served;
    uint32_t serial;
};

static void expect_request(struct fanin *fanin)
{
    if (MPI_Irecv(&fanin->incoming, (int)sizeof fanin->incoming, MPI_BYTE, MPI_ANY_SOURCE, WORLD_TAG_REQUEST,
                  fanin->world->comm, &fanin->receive) != MPI_SUCCESS)
        fanin->receive = MPI_REQUEST_NULL;
}

static void unmap(struct served *served)
{
    if (served->base != NULL)
        (void)munmap(served->base, served->bytes);
    served->base = NULL;
}

/* Answers may be under way from any mapping: when all places are taken, wait for them before one is given up. */
static struct served *free_served(struct fanin *fanin)
{
    struct served *served = &fanin->served[fanin->next_served++ % SERVED];

    if (served->base != NULL)
        (void)MPI_Waitall(ANSWERS, fanin->answers, MPI_STATUSES_IGNORE);
    unmap(served);
    return served;
}

static const struct served *map_slot(struct fanin *fanin, const struct request *request)
{
    struct slot slot = {.fd = -1};
    struct diag quiet;

    for (int i = 0; i < SERVED; i++) {
        const struct served *served = &fanin->served[i];
        if (served->base != NULL && served->store == request->store && served->kind == request->kind &&
            served->rank == request->rank && served->slot == request->slot)
            return served;
    }
    diag_init(&quiet, "", fanin->world->rank, DIAG_ERROR);
    if (request->store >= fanin->store_count || request->kind > SLOT_REPLICA ||
        slot_open_read(&quiet, &fanin->stores[request->store], (enum slot_kind)request->kind, request->rank,
                       request->slot, &slot) != DCACHE_OK)
        return NULL;
    void *base = mmap(NULL, slot.bytes, PROT_READ, MAP_SHARED, slot.fd, 0);
    uint64_t bytes = slot.bytes;
    slot_close(&slot);
    if (base == MAP_FAILED)
        return NULL;
    struct served *served = free_served(fanin);
    *served = (struct served){request->store, request->kind, request->rank, request->slot, base, bytes};
    return served;
}

/* The bytes asked for, or NULL: a short answer tells the asker to try elsewhere. */
static const char *find_range(struct fanin *fanin, const struct request *request)
{
    const struct served *served = map_slot(fanin, request);

    if (served == NULL || request->bytes > PIECE_BYTES || request->offset > served->bytes ||
        request->bytes > served->bytes - request->offset)
        return NULL;
    return served->base + request->offset;
}

static MPI_Request *free_answer(struct fanin *fanin)
{
    for (int i = 0; i < ANSWERS; i++) {
        int done = 1;
        if (fanin->answers[i] != MPI_REQUEST_NULL)
            MPI_Test(&fanin->answers[i], &done, MPI_STATUS_IGNORE);
        if (done)
            return &fanin->answers[i];
    }
    return NULL;
}

static void serve(void *context)
{
    struct fanin *fanin = context;
    MPI_Request *answer;
    MPI_Status from;
    int come = 0;

    while (fanin->receive != MPI_REQUEST_NULL && (answer = free_answer(fanin)) != NULL) {
        if (MPI_Test(&fanin->receive, &come, &from) != MPI_SUCCESS || !come)
            return;
        const char *data = find_range(fanin, &fanin->incoming);
        int bytes = data != NULL ? (int)fanin->incoming.bytes : 0;
        int tag = WORLD_TAG_FETCH + (int)(fanin->incoming.serial % WINDOW);
        if (MPI_Isend(data, bytes, MPI_BYTE, from.MPI_SOURCE, tag, fanin->world->comm, answer) != MPI_SUCCESS)
            *answer = MPI_REQUEST_NULL;
        expect_request(fanin);
    }
}

dcache_status_t fanin_open(struct diag *dg, const struct world *world, const struct node_store *stores,
                           uint32_t store_count, struct fanin **fanin)
{
    struct fanin *self = calloc(1, sizeof *self);
    dcache_status_t status = DCACHE_OK;

    if (self == NULL)
        status = diag_fail(dg, DCACHE_ERR_NO_MEMORY, "out of memory for the fan-in");
    status = agree(world, dg, NULL, status);
    if (status != DCACHE_OK) {
        free(self);
        return status;
    }
    self->world = world;
    self->stores = stores;
    self->store_count = store_count;
    for (int i = 0; i < ANSWERS; i++)
        self->answers[i] = MPI_REQUEST_NULL;
    expect_request(self);
    *fanin = self;
    return DCACHE_OK;
}

struct agree_idle fanin_idle(struct fanin *fanin)
{
    return (struct agree_idle){serve, fanin};
}

/* Requests under way, oldest at `first`. */
struct flight {
    struct request request[WINDOW];
    MPI_Request send[WINDOW], receive[WINDOW];
    uint32_t bytes[WINDOW];
};

static int ask(struct fanin *fanin, struct flight *flight, const struct fanin_source *source, uint64_t offset,
               void *buffer, uint32_t bytes)
{
    uint32_t serial = fanin->serial++, i = serial % WINDOW;
    MPI_Comm comm = fanin->world->comm;

    flight->request[i] =
        (struct request){source->store, (uint32_t)source->kind, source->rank, source->slot, offset, bytes, serial};
    flight->bytes[i] = bytes;
    int code = MPI_Irecv(buffer, (int)bytes, MPI_BYTE, (int)source->server, WORLD_TAG_FETCH + (int)i, comm,
                         &flight->receive[i]);
    if (code == MPI_SUCCESS)
        code = MPI_Isend(&flight->request[i], (int)sizeof flight->request[i], MPI_BYTE, (int)source->server,
                         WORLD_TAG_REQUEST, comm, &flight->send[i]);
    return code;
}

/* Wait for the oldest answer. */
static int take(struct fanin *fanin, struct flight *flight, uint32_t serial, bool *good)
{
    uint32_t i = serial % WINDOW;
    int done = 0, bytes = 0, code = MPI_SUCCESS;
    MPI_Status status;

    while (code == MPI_SUCCESS && !done) {
        code = MPI_Test(&flight->receive[i], &done, &status);
        if (done)
            break;
        serve(fanin);
        sched_yield();
    }
    if (code == MPI_SUCCESS)
        code = MPI_Wait(&flight->send[i], MPI_STATUS_IGNORE);
    if (code == MPI_SUCCESS)
        MPI_Get_count(&status, MPI_BYTE, &bytes);
    *good = code == MPI_SUCCESS && (uint32_t)bytes == flight->bytes[i];
    return code;
}

dcache_status_t fanin_read(struct diag *dg, struct fanin *fanin, const struct fanin_source *source, uint64_t offset,
                           void *buffer, uint64_t bytes)
{
    struct flight flight;
    uint32_t first = fanin->serial;
    uint64_t asked = 0;
    bool all_good = true;
    int code = MPI_SUCCESS;

    while (code == MPI_SUCCESS && (asked < bytes || first != fanin->serial)) {
        if (asked < bytes && all_good && fanin->serial - first < WINDOW) {
            uint32_t piece = (uint32_t)(bytes - asked < PIECE_BYTES ? bytes - asked : PIECE_BYTES);
            code = ask(fanin, &flight, source, offset + asked, (char *)buffer + asked, piece);
            asked += piece;
            continue;
        }
        if (first == fanin->serial)
            break; /* a bad answer ended the asking */
        bool good;
        code = take(fanin, &flight, first++, &good);
        all_good &= good;
    }
    if (code != MPI_SUCCESS)
        return world_check(dg, code, "MPI_Irecv");
    size_t length = (size_t)bytes;
    return all_good ? diag_failpoint_data(dg, "fanin.read", buffer, &length) : DCACHE_ERR_IO;
}

static void wait_for_everyone(struct fanin *fanin)
{
    MPI_Request barrier;
    int done = 0;

    if (MPI_Ibarrier(fanin->world->comm, &barrier) != MPI_SUCCESS)
        return;
    while (!done && MPI_Test(&barrier, &done, MPI_STATUS_IGNORE) == MPI_SUCCESS) {
        serve(fanin);
        sched_yield();
    }
}

void fanin_close(struct fanin *fanin)
{
    if (fanin == NULL)
        return;
    wait_for_everyone(fanin);
    if (fanin->receive != MPI_REQUEST_NULL) {
        MPI_Cancel(&fanin->receive);
        MPI_Wait(&fanin->receive, MPI_STATUS_IGNORE);
    }
    (void)MPI_Waitall(ANSWERS, fanin->answers, MPI_STATUSES_IGNORE);
    for (int i = 0; i < SERVED; i++)
        unmap(&fanin->served[i]);
    free(fanin);
}
