/* Two-sided transport: a put is a notice and a message that the target receives straight into its exposed memory; a
 * flush is a notice that the target answers when all before it is in place. Everything moves in progress(), which the
 * sender's own waiting calls too, so two ranks that put to each other never wait for each other in vain. */
#include "mpi/agree.h"
#include "mpi/transport.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

#define PIECE_BYTES (4u << 20) /* large enough for full link rate, small enough to spread over a queue */
#define QUEUE       16         /* pieces under way per direction; bounds what MPI has to remember */

enum notice_kind { NOTICE_DATA = 1, NOTICE_FLUSH = 2 };

struct notice {
    uint32_t kind;
    uint32_t slot;
    uint64_t displacement;
    uint64_t bytes;
};

/* One rank whose puts come to me. A flush is answered when `receiving` is 0; until then its next notice waits. */
struct guest {
    uint32_t rank;
    struct notice notice;
    MPI_Request next_notice;
    unsigned receiving;
    bool flush_asked;
    dcache_status_t failed; /* of what came since the last flush */
    int64_t answer;         /* the buffer of the answering send */
    MPI_Request answer_send;
};

struct receiving {
    MPI_Request request;
    struct guest *guest;
    void *discard; /* a buffer of its own for bytes that fit nowhere; freed when received */
};

struct sending {
    MPI_Request notice_send, data_send;
    struct notice notice;
};

struct exposure {
    char *base;
    uint64_t bytes;
};

struct two_sided {
    struct transport base;
    struct exposure exposure[TRANSPORT_SLOTS_MAX];
    struct guest *guests;
    uint32_t guest_count;
    struct receiving receiving[QUEUE];
    struct sending sending[QUEUE];
    bool flush_pending;
    int64_t flush_answer;
    MPI_Request flush_receive;
    dcache_status_t failed; /* of MPI inside progress(); told by the next flush */
    struct diag diag;       /* where there is no caller who wants to know: progress() */
};

static void note_failure(struct two_sided *self, int code)
{
    if (code != MPI_SUCCESS && self->failed == DCACHE_OK)
        self->failed = DCACHE_ERR_MPI;
}

static bool test_request(struct two_sided *self, MPI_Request *request)
{
    int done = 0;

    if (*request == MPI_REQUEST_NULL)
        return true;
    note_failure(self, MPI_Test(request, &done, MPI_STATUS_IGNORE));
    return done != 0;
}

static void expect_notice(struct two_sided *self, struct guest *guest)
{
    note_failure(self, MPI_Irecv(&guest->notice, (int)sizeof guest->notice, MPI_BYTE, (int)guest->rank,
                                 WORLD_TAG_NOTICE, self->base.world->comm, &guest->next_notice));
}

static struct receiving *free_receiving(struct two_sided *self)
{
    for (int i = 0; i < QUEUE; i++) {
        if (self->receiving[i].guest == NULL)
            return &self->receiving[i];
    }
    return NULL;
}

/* Where the announced bytes go; outside of what is exposed they are received and thrown away, and the flush fails. */
static char *place_of(struct two_sided *self, const struct notice *notice, struct receiving *receiving)
{
    if (notice->slot < TRANSPORT_SLOTS_MAX) {
        const struct exposure *exposure = &self->exposure[notice->slot];
        if (notice->bytes <= exposure->bytes && notice->displacement <= exposure->bytes - notice->bytes)
            return exposure->base + notice->displacement;
    }
    receiving->guest->failed = DCACHE_ERR_INTERNAL;
    receiving->discard = malloc(PIECE_BYTES);
    return receiving->discard;
}

/* Returns false when there is no room now: the notice is kept and looked at again. */
static bool take_data(struct two_sided *self, struct guest *guest)
{
    struct receiving *receiving = free_receiving(self);

    if (receiving == NULL || guest->notice.bytes > PIECE_BYTES)
        return false;
    receiving->guest = guest;
    receiving->discard = NULL;
    char *place = place_of(self, &guest->notice, receiving);
    if (place == NULL && guest->notice.bytes > 0) {
        receiving->guest = NULL;
        return false; /* out of memory: try again */
    }
    note_failure(self, MPI_Irecv(place, (int)guest->notice.bytes, MPI_BYTE, (int)guest->rank, WORLD_TAG_DATA,
                                 self->base.world->comm, &receiving->request));
    guest->receiving++;
    return true;
}

static void answer_flush(struct two_sided *self, struct guest *guest)
{
    if (!test_request(self, &guest->answer_send))
        return;
    guest->answer = guest->failed;
    guest->failed = DCACHE_OK;
    note_failure(self, MPI_Isend(&guest->answer, 1, MPI_INT64_T, (int)guest->rank, WORLD_TAG_ACK,
                                 self->base.world->comm, &guest->answer_send));
    guest->flush_asked = false;
    guest->notice.kind = 0;
    expect_notice(self, guest);
}

static void serve_guest(struct two_sided *self, struct guest *guest)
{
    if (guest->next_notice != MPI_REQUEST_NULL && !test_request(self, &guest->next_notice))
        return;
    if (guest->flush_asked) {
        if (guest->receiving == 0)
            answer_flush(self, guest);
        return;
    }
    if (guest->notice.kind == NOTICE_DATA) {
        if (take_data(self, guest)) {
            guest->notice.kind = 0;
            expect_notice(self, guest);
        }
    } else if (guest->notice.kind == NOTICE_FLUSH) {
        guest->flush_asked = true;
    }
}

static void two_sided_progress(struct transport *transport)
{
    struct two_sided *self = (struct two_sided *)transport;

    for (int i = 0; i < QUEUE; i++) {
        struct receiving *receiving = &self->receiving[i];
        if (receiving->guest != NULL && test_request(self, &receiving->request)) {
            free(receiving->discard);
            receiving->guest->receiving--;
            receiving->guest = NULL;
        }
    }
    if (diag_failpoint(&self->diag, "transport.receive") != DCACHE_OK)
        return; /* it stays on the way */
    for (uint32_t g = 0; g < self->guest_count; g++)
        serve_guest(self, &self->guests[g]);
}

static dcache_status_t two_sided_attach(struct transport *transport, struct diag *dg, uint32_t slot, void *base,
                                        uint64_t bytes)
{
    struct two_sided *self = (struct two_sided *)transport;

    self->exposure[slot] = (struct exposure){base, bytes};
    return agree(transport->world, dg, NULL, diag_failpoint(dg, "transport.attach"));
}

static void two_sided_detach(struct transport *transport, uint32_t slot)
{
    struct two_sided *self = (struct two_sided *)transport;

    self->exposure[slot] = (struct exposure){NULL, 0};
}

/* A free place in the queue of sends, serving others while there is none. */
static struct sending *wait_sending(struct two_sided *self)
{
    for (;;) {
        for (int i = 0; i < QUEUE; i++) {
            struct sending *sending = &self->sending[i];
            if (test_request(self, &sending->notice_send) && test_request(self, &sending->data_send))
                return sending;
        }
        if (self->failed != DCACHE_OK)
            return NULL;
        two_sided_progress(&self->base);
        sched_yield();
    }
}

static dcache_status_t send_notice(struct two_sided *self, struct diag *dg, uint32_t rank, struct notice notice,
                                   const void *data)
{
    struct sending *sending = wait_sending(self);
    MPI_Comm comm = self->base.world->comm;

    if (sending == NULL)
        return diag_fail(dg, self->failed, "MPI failed while a shard was sent to rank %u", rank);
    sending->notice = notice;
    int code = MPI_Isend(&sending->notice, (int)sizeof notice, MPI_BYTE, (int)rank, WORLD_TAG_NOTICE, comm,
                         &sending->notice_send);
    if (code == MPI_SUCCESS && notice.kind == NOTICE_DATA)
        code = MPI_Isend(data, (int)notice.bytes, MPI_BYTE, (int)rank, WORLD_TAG_DATA, comm, &sending->data_send);
    note_failure(self, code);
    return world_check(dg, code, "MPI_Isend");
}

static dcache_status_t two_sided_put(struct transport *transport, struct diag *dg, uint32_t slot, uint32_t rank,
                                     uint64_t displacement, const void *source, uint64_t bytes)
{
    struct two_sided *self = (struct two_sided *)transport;
    const char *from = source;

    for (uint64_t done = 0; done < bytes;) {
        uint64_t left = bytes - done;
        struct notice notice = {NOTICE_DATA, slot, displacement + done, left < PIECE_BYTES ? left : PIECE_BYTES};
        dcache_status_t status = send_notice(self, dg, rank, notice, from + done);
        if (status != DCACHE_OK)
            return status;
        done += notice.bytes;
    }
    two_sided_progress(transport);
    return DCACHE_OK;
}

/* Both halves, whatever comes of the first: as long as MPI works an answer is under way from here on. */
static dcache_status_t ask_flush(struct two_sided *self, struct diag *dg, uint32_t slot, uint32_t rank)
{
    int code = MPI_Irecv(&self->flush_answer, 1, MPI_INT64_T, (int)rank, WORLD_TAG_ACK, self->base.world->comm,
                         &self->flush_receive);

    note_failure(self, code);
    self->flush_pending = true;
    dcache_status_t status = send_notice(self, dg, rank, (struct notice){NOTICE_FLUSH, slot, 0, 0}, NULL);
    return status == DCACHE_OK ? world_check(dg, code, "MPI_Irecv") : status;
}

static dcache_status_t two_sided_flush(struct transport *transport, struct diag *dg, uint32_t slot, uint32_t rank,
                                       bool wait, bool *done)
{
    struct two_sided *self = (struct two_sided *)transport;
    dcache_status_t status = DCACHE_OK;

    *done = false;
    if (!self->flush_pending)
        status = ask_flush(self, dg, slot, rank);
    while (!test_request(self, &self->flush_receive)) {
        two_sided_progress(transport);
        if (self->failed != DCACHE_OK)
            return diag_fail(dg, self->failed, "MPI failed while rank %u stored a replica", rank);
        if (!wait)
            return status;
        sched_yield();
    }
    self->flush_pending = false;
    *done = true;
    if (status != DCACHE_OK)
        return status;
    if (self->flush_answer != DCACHE_OK)
        return diag_fail(dg, (dcache_status_t)self->flush_answer, "rank %u could not store this rank's replica", rank);
    return DCACHE_OK;
}

static void cancel(MPI_Request *request)
{
    if (*request == MPI_REQUEST_NULL)
        return;
    MPI_Cancel(request);
    MPI_Wait(request, MPI_STATUS_IGNORE);
}

static void two_sided_close(struct transport *transport)
{
    struct two_sided *self = (struct two_sided *)transport;

    cancel(&self->flush_receive); /* pending only when MPI has failed */
    for (uint32_t g = 0; g < self->guest_count; g++) {
        struct guest *guest = &self->guests[g];
        cancel(&guest->next_notice);
        if (guest->answer_send != MPI_REQUEST_NULL)
            MPI_Wait(&guest->answer_send, MPI_STATUS_IGNORE);
    }
    for (int i = 0; i < QUEUE; i++) {
        MPI_Wait(&self->sending[i].notice_send, MPI_STATUS_IGNORE);
        MPI_Wait(&self->sending[i].data_send, MPI_STATUS_IGNORE);
    }
    free(self->guests);
    free(self);
}

static const struct transport_ops two_sided_ops = {
    .name = "two-sided",
    .attach = two_sided_attach,
    .detach = two_sided_detach,
    .put = two_sided_put,
    .flush = two_sided_flush,
    .progress = two_sided_progress,
    .close = two_sided_close,
};

dcache_status_t transport_two_sided_create(struct diag *dg, const struct world *world, const uint32_t *hosted,
                                           uint32_t hosted_count, struct transport **transport)
{
    struct two_sided *self = calloc(1, sizeof *self);
    struct guest *guests = calloc(hosted_count + 1, sizeof *guests);

    if (self == NULL || guests == NULL) {
        free(self);
        free(guests);
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "out of memory for the two-sided transport");
    }
    self->base.ops = &two_sided_ops;
    self->base.world = world;
    self->diag = *dg;
    self->guests = guests;
    self->guest_count = hosted_count;
    self->flush_receive = MPI_REQUEST_NULL;
    for (int i = 0; i < QUEUE; i++) {
        self->sending[i].notice_send = MPI_REQUEST_NULL;
        self->sending[i].data_send = MPI_REQUEST_NULL;
    }
    for (uint32_t g = 0; g < hosted_count; g++) {
        guests[g].rank = hosted[g];
        guests[g].answer_send = MPI_REQUEST_NULL;
        expect_notice(self, &guests[g]);
    }
    *transport = &self->base;
    return DCACHE_OK;
}
