/* One-sided transport: one window per ring slot over the mapped replica slots, locked by everyone for as long as it
 * lives (passive target); a put is an MPI_Put, a flush an MPI_Win_flush. */
#include "mpi/agree.h"
#include "mpi/transport.h"
#include "mpi/window.h"

#include <stdlib.h>

/* An MPI count is an int; pieces below 2 GiB also keep every osc component on its well-trodden path. */
#define PUT_BYTES_MAX (1u << 30)

struct one_sided {
    struct transport base;
    MPI_Win window[TRANSPORT_SLOTS_MAX];
};

static dcache_status_t create_window(struct one_sided *self, struct diag *dg, uint32_t slot, void *base, uint64_t bytes)
{
    MPI_Win *window = &self->window[slot];
    dcache_status_t status = window_create(dg, self->base.world, base, bytes, window);

    if (status != DCACHE_OK)
        return status;
    return world_check(dg, MPI_Win_lock_all(MPI_MODE_NOCHECK, *window), "MPI_Win_lock_all");
}

static dcache_status_t one_sided_attach(struct transport *transport, struct diag *dg, uint32_t slot, void *base,
                                        uint64_t bytes)
{
    struct one_sided *self = (struct one_sided *)transport;
    dcache_status_t status = create_window(self, dg, slot, base, bytes);

    status = agree(transport->world, dg, NULL, status);
    if (status != DCACHE_OK) /* freeing is collective, and not every rank may have a window: it is left behind */
        self->window[slot] = MPI_WIN_NULL;
    return status;
}

static void one_sided_detach(struct transport *transport, uint32_t slot)
{
    struct one_sided *self = (struct one_sided *)transport;

    if (self->window[slot] == MPI_WIN_NULL)
        return;
    MPI_Win_unlock_all(self->window[slot]);
    MPI_Win_free(&self->window[slot]);
    self->window[slot] = MPI_WIN_NULL;
}

static dcache_status_t one_sided_put(struct transport *transport, struct diag *dg, uint32_t slot, uint32_t rank,
                                     uint64_t displacement, const void *source, uint64_t bytes)
{
    struct one_sided *self = (struct one_sided *)transport;
    const char *from = source;

    for (uint64_t done = 0; done < bytes;) {
        uint64_t left = bytes - done;
        int piece = (int)(left < PUT_BYTES_MAX ? left : PUT_BYTES_MAX);
        int code = MPI_Put(from + done, piece, MPI_BYTE, (int)rank, (MPI_Aint)(displacement + done), piece, MPI_BYTE,
                           self->window[slot]);
        dcache_status_t status = world_check(dg, code, "MPI_Put");
        if (status != DCACHE_OK)
            return status;
        done += (uint64_t)piece;
    }
    return DCACHE_OK;
}

/* MPI has no "is it flushed yet" for a window, so without `wait` this waits too: callers that must not wait for a
 * target outside MPI use this transport only where it is passive. */
static dcache_status_t one_sided_flush(struct transport *transport, struct diag *dg, uint32_t slot, uint32_t rank,
                                       bool wait, bool *done)
{
    struct one_sided *self = (struct one_sided *)transport;

    (void)wait;
    *done = true;
    return world_check(dg, MPI_Win_flush((int)rank, self->window[slot]), "MPI_Win_flush");
}

static void one_sided_progress(struct transport *transport)
{
    (void)transport; /* MPI's own, in any call */
}

static void one_sided_close(struct transport *transport)
{
    free(transport);
}

static const struct transport_ops one_sided_ops = {
    .name = "one-sided",
    .attach = one_sided_attach,
    .detach = one_sided_detach,
    .put = one_sided_put,
    .flush = one_sided_flush,
    .progress = one_sided_progress,
    .close = one_sided_close,
};

dcache_status_t transport_one_sided_create(struct diag *dg, const struct world *world, struct transport **transport)
{
    struct one_sided *self = calloc(1, sizeof *self);

    if (self == NULL)
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "out of memory for the one-sided transport");
    self->base.ops = &one_sided_ops;
    self->base.world = world;
    for (uint32_t k = 0; k < TRANSPORT_SLOTS_MAX; k++)
        self->window[k] = MPI_WIN_NULL;
    *transport = &self->base;
    return DCACHE_OK;
}
