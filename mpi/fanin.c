#include "mpi/fanin.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A piece stays in the nearest cache between its arrival and what is done with it. Chunks are whole numbers of them. */
#define PIECE_BYTES (256u << 10)
#define WINDOW      4 /* requests under way per rank */
#define ANSWERS     8
#define SERVED      16 /* slots open at a time: a node serves few, its former neighbour's */

/* Ranks share cores: who has waited for so many looks in a row leaves the core to others for a while. */
#define LOOKS   40u
#define REST_NS 20000

struct request {
    uint32_t store, kind, rank, slot;
    uint64_t offset;
    uint32_t bytes, serial;
};

/* A slot that others read from. Not mapped: each page is read once, and mapping it would take longer. */
struct served {
    uint32_t store, kind, rank, number;
    struct slot slot; /* fd -1: free */
};

struct fanin {
    const struct world *world;
    const struct node_store *stores;
    uint32_t store_count;
    struct request incoming;
    MPI_Request receive;
    MPI_Request answers[ANSWERS];
    char *outgoing; /* a piece for each answer, there once somebody has asked */
    char *window;   /* a piece for each request under way, there once something was asked for */
    uint32_t looks; /* in a row with nothing to serve */
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

static const struct slot *open_served(struct fanin *fanin, const struct request *request)
{
    struct slot slot = {.fd = -1};
    struct diag quiet;

    for (int i = 0; i < SERVED; i++) {
        const struct served *served = &fanin->served[i];
        if (served->slot.fd >= 0 && served->store == request->store && served->kind == request->kind &&
            served->rank == request->rank && served->number == request->slot)
            return &served->slot;
    }
    diag_init(&quiet, "", fanin->world->rank, DIAG_ERROR);
    if (request->store >= fanin->store_count || request->kind > SLOT_REPLICA ||
        slot_open_read(&quiet, &fanin->stores[request->store], (enum slot_kind)request->kind, request->rank,
                       request->slot, &slot) != DCACHE_OK)
        return NULL;
    struct served *served = &fanin->served[fanin->next_served++ % SERVED];
    slot_close(&served->slot);
    *served = (struct served){request->store, request->kind, request->rank, request->slot, slot};
    return &served->slot;
}

/* The bytes asked for into `buffer`. False: a short answer tells the asker to try elsewhere. */
static bool read_range(struct fanin *fanin, const struct request *request, char *buffer)
{
    const struct slot *slot = open_served(fanin, request);
    struct diag quiet;

    if (slot == NULL || request->bytes > PIECE_BYTES || request->offset > slot->bytes ||
        request->bytes > slot->bytes - request->offset)
        return false;
    diag_init(&quiet, "", fanin->world->rank, DIAG_ERROR);
    return slot_read(&quiet, slot, request->offset, buffer, request->bytes) == DCACHE_OK;
}

/* -1: all answers are still under way. */
static int free_answer(struct fanin *fanin)
{
    for (int i = 0; i < ANSWERS; i++) {
        int done = 1;
        if (fanin->answers[i] != MPI_REQUEST_NULL)
            MPI_Test(&fanin->answers[i], &done, MPI_STATUS_IGNORE);
        if (done)
            return i;
    }
    return -1;
}

/* Out of memory is a short answer, too. */
static void answer_request(struct fanin *fanin, int answer, int asker)
{
    const struct request *request = &fanin->incoming;
    int tag = WORLD_TAG_FETCH + (int)(request->serial % WINDOW);

    if (fanin->outgoing == NULL)
        fanin->outgoing = malloc((size_t)ANSWERS * PIECE_BYTES);
    char *piece = fanin->outgoing != NULL ? fanin->outgoing + (size_t)answer * PIECE_BYTES : NULL;
    int bytes = piece != NULL && read_range(fanin, request, piece) ? (int)request->bytes : 0;
    if (MPI_Isend(piece, bytes, MPI_BYTE, asker, tag, fanin->world->comm, &fanin->answers[answer]) != MPI_SUCCESS)
        fanin->answers[answer] = MPI_REQUEST_NULL;
}

void fanin_serve(struct fanin *fanin)
{
    MPI_Status from;
    int come = 0, answer;

    while (fanin->receive != MPI_REQUEST_NULL && (answer = free_answer(fanin)) >= 0) {
        if (MPI_Test(&fanin->receive, &come, &from) != MPI_SUCCESS || !come)
            return;
        fanin->looks = 0;
        answer_request(fanin, answer, from.MPI_SOURCE);
        expect_request(fanin);
    }
}

/* For those who wait. */
static void serve_or_rest(void *context)
{
    const struct timespec rest = {0, REST_NS};
    struct fanin *fanin = context;

    fanin->looks++;
    fanin_serve(fanin);
    if (fanin->looks > LOOKS)
        (void)nanosleep(&rest, NULL);
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
    for (int i = 0; i < SERVED; i++)
        self->served[i].slot.fd = -1;
    expect_request(self);
    *fanin = self;
    return DCACHE_OK;
}

struct agree_idle fanin_idle(struct fanin *fanin)
{
    return (struct agree_idle){serve_or_rest, fanin};
}

/* Requests under way, oldest at `first`. */
struct flight {
    struct request request[WINDOW];
    MPI_Request send[WINDOW], receive[WINDOW];
    uint32_t bytes[WINDOW];
};

static char *place_of(struct fanin *fanin, uint32_t serial)
{
    return fanin->window + (size_t)(serial % WINDOW) * PIECE_BYTES;
}

static int ask(struct fanin *fanin, struct flight *flight, const struct fanin_source *source, uint64_t offset,
               uint32_t bytes)
{
    uint32_t serial = fanin->serial++, i = serial % WINDOW;
    MPI_Comm comm = fanin->world->comm;

    flight->request[i] =
        (struct request){source->store, (uint32_t)source->kind, source->rank, source->slot, offset, bytes, serial};
    flight->bytes[i] = bytes;
    int code = MPI_Irecv(place_of(fanin, serial), (int)bytes, MPI_BYTE, (int)source->server, WORLD_TAG_FETCH + (int)i,
                         comm, &flight->receive[i]);
    if (code == MPI_SUCCESS)
        code = MPI_Isend(&flight->request[i], (int)sizeof flight->request[i], MPI_BYTE, (int)source->server,
                         WORLD_TAG_REQUEST, comm, &flight->send[i]);
    return code;
}

/* Wait for the oldest answer. */
static int await(struct fanin *fanin, struct flight *flight, uint32_t serial, bool *good)
{
    uint32_t i = serial % WINDOW;
    int done = 0, bytes = 0, code = MPI_SUCCESS;
    MPI_Status status;

    fanin->looks = 0;
    while (code == MPI_SUCCESS && !done) {
        code = MPI_Test(&flight->receive[i], &done, &status);
        if (done)
            break;
        serve_or_rest(fanin);
        sched_yield();
    }
    if (code == MPI_SUCCESS)
        code = MPI_Wait(&flight->send[i], MPI_STATUS_IGNORE);
    if (code == MPI_SUCCESS)
        MPI_Get_count(&status, MPI_BYTE, &bytes);
    *good = code == MPI_SUCCESS && (uint32_t)bytes == flight->bytes[i];
    return code;
}

static dcache_status_t hand_over(struct diag *dg, char *piece, uint32_t bytes, fanin_take take, void *context)
{
    size_t length = bytes;
    dcache_status_t status = diag_failpoint_data(dg, "fanin.read", piece, &length);

    if (status == DCACHE_OK && length != bytes)
        status = DCACHE_ERR_IO;
    return status == DCACHE_OK ? take(context, piece, bytes) : status;
}

dcache_status_t fanin_stream(struct diag *dg, struct fanin *fanin, const struct fanin_source *source, uint64_t offset,
                             uint64_t bytes, fanin_take take, void *context)
{
    struct flight flight;
    uint32_t first = fanin->serial;
    uint64_t asked = 0;
    bool all_good = true;
    int code = MPI_SUCCESS;
    dcache_status_t status = DCACHE_OK;

    if (fanin->window == NULL)
        fanin->window = malloc((size_t)WINDOW * PIECE_BYTES);
    if (fanin->window == NULL)
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "out of memory for the fan-in");
    while (code == MPI_SUCCESS) {
        bool more = asked < bytes && all_good && status == DCACHE_OK;
        if (more && fanin->serial - first < WINDOW) {
            uint32_t piece = (uint32_t)(bytes - asked < PIECE_BYTES ? bytes - asked : PIECE_BYTES);
            code = ask(fanin, &flight, source, offset + asked, piece);
            asked += piece;
            continue;
        }
        if (first == fanin->serial) /* all has come, or a bad answer ended the asking */
            break;
        bool good;
        code = await(fanin, &flight, first, &good);
        all_good &= good;
        if (code == MPI_SUCCESS && all_good && status == DCACHE_OK)
            status = hand_over(dg, place_of(fanin, first), flight.bytes[first % WINDOW], take, context);
        first++;
    }
    if (code != MPI_SUCCESS)
        return world_check(dg, code, "MPI_Irecv");
    if (status != DCACHE_OK)
        return status;
    return all_good ? DCACHE_OK : DCACHE_ERR_IO;
}

static dcache_status_t keep(void *context, const void *data, uint64_t bytes)
{
    char **to = context;

    memcpy(*to, data, bytes);
    *to += bytes;
    return DCACHE_OK;
}

dcache_status_t fanin_read(struct diag *dg, struct fanin *fanin, const struct fanin_source *source, uint64_t offset,
                           void *buffer, uint64_t bytes)
{
    char *to = buffer;

    return fanin_stream(dg, fanin, source, offset, bytes, keep, &to);
}

static void wait_for_everyone(struct fanin *fanin)
{
    MPI_Request barrier;
    int done = 0;

    if (MPI_Ibarrier(fanin->world->comm, &barrier) != MPI_SUCCESS)
        return;
    while (!done && MPI_Test(&barrier, &done, MPI_STATUS_IGNORE) == MPI_SUCCESS) {
        serve_or_rest(fanin);
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
        slot_close(&fanin->served[i].slot);
    free(fanin->outgoing);
    free(fanin->window);
    free(fanin);
}
