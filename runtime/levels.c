#include "runtime/levels.h"

#include "runtime/replication.h"
#include "runtime/ssd_ring.h"

#include <stdio.h>

#define WAIT_SLICE_S 0.05

bool levels_can_replicate(const dcache_t *dc)
{
    return dc->world.node_count > 1;
}

static void start_drain(dcache_t *dc, uint32_t slot)
{
    if (dc->ring[slot].to_drain)
        drain_thread_submit(dc->drain, &dc->ring[slot].header.set, slot);
}

void levels_staged(dcache_t *dc, uint32_t slot)
{
    struct ring_slot *ring = &dc->ring[slot];

    ring->level = DCACHE_STAGED;
    ring->worth = ring->header.set.sequence;
    ring->replication = DCACHE_OK;
    ring->durable = false;
    if (!levels_can_replicate(dc))
        start_drain(dc, slot);
}

void levels_replicated(dcache_t *dc, uint32_t slot, dcache_status_t status)
{
    struct ring_slot *ring = &dc->ring[slot];

    ring->replication = status;
    if (status != DCACHE_OK) /* drain ranks may count on the replica: without it the step stays on its nodes */
        return;
    ring->level = DCACHE_REPLICATED;
    start_drain(dc, slot);
}

dcache_status_t levels_ask(dcache_t *dc, uint32_t slot, struct levels_drain *drain)
{
    struct ring_slot *ring = &dc->ring[slot];
    enum drain_state state = drain_thread_state(dc->drain, &ring->header.set, slot, NULL);
    int64_t values[3] = {state == DRAIN_DURABLE || ring->durable, state == DRAIN_PENDING,
                         state == DRAIN_RETRYING || state == DRAIN_FAILED};

    dcache_status_t status = agree_values(&dc->world, &dc->diag, &dc->replicator.idle, DCACHE_OK, values, 3);
    if (status != DCACHE_OK)
        return status;
    ring->durable = values[0] != 0;
    *drain = (struct levels_drain){values[0] != 0, values[1] != 0, values[2] != 0};
    return DCACHE_OK;
}

dcache_status_t levels_drain_failure(dcache_t *dc, uint32_t slot)
{
    char text[DIAG_TEXT_MAX] = "";
    enum drain_state state = drain_thread_state(dc->drain, &dc->ring[slot].header.set, slot, text);
    dcache_status_t status = DCACHE_OK;

    if (state == DRAIN_RETRYING || state == DRAIN_FAILED)
        status = diag_fail(&dc->diag, DCACHE_ERR_STORE, "step %llu is not durable: %.900s",
                           (unsigned long long)dc->ring[slot].header.set.step, text);
    status = agree(&dc->world, &dc->diag, &dc->replicator.idle, status);
    if (status == DCACHE_OK) /* it has recovered between the two questions */
        status = diag_fail(&dc->diag, DCACHE_ERR_STORE, "step %llu is not durable yet; ask again",
                           (unsigned long long)dc->ring[slot].header.set.step);
    return status;
}

/* The ring slot of a step, the newest attempt if there are several; -1 when there is none. Equal on all ranks. */
static int find_slot(const dcache_t *dc, uint64_t step)
{
    int best = -1;

    for (uint32_t k = 0; k < dc->slots; k++) {
        const struct ring_slot *ring = &dc->ring[k];
        if (ring->level == DCACHE_LEVEL_NONE || ring->header.set.step != step)
            continue;
        if (best < 0 || ring->header.set.sequence > dc->ring[best].header.set.sequence)
            best = (int)k;
    }
    return best;
}

/* The question must be the same everywhere before anyone acts on it. */
static dcache_status_t agree_question(dcache_t *dc, uint64_t step, int level)
{
    int64_t values[4] = {(int64_t)step, (int64_t)(0 - step), level, -level};
    dcache_status_t status = DCACHE_OK;

    if (dc->broken)
        return diag_fail(&dc->diag, DCACHE_ERR_STATE, "MPI has failed on this handle: only dcache_close() is left");
    if (level < DCACHE_STAGED || level > DCACHE_DURABLE || step > DCACHE_STEP_MAX)
        status = diag_fail(&dc->diag, DCACHE_ERR_INVALID, "step %llu or level %d is not allowed here",
                           (unsigned long long)step, level);
    status = agree_values(&dc->world, &dc->diag, &dc->replicator.idle, status, values, 4);
    if (status == DCACHE_OK && (values[0] != -values[1] || values[2] != -values[3]))
        status = diag_fail(&dc->diag, DCACHE_ERR_MISMATCH, "the ranks asked for different steps or levels");
    return status;
}

static dcache_status_t wait_replicated(dcache_t *dc, uint32_t slot)
{
    if (!levels_can_replicate(dc))
        return diag_fail(
            &dc->diag, DCACHE_ERR_LEVEL,
            "REPLICATED cannot be reached: all ranks are on one node; run on two or more, or set node_size "
            "to try virtual nodes");
    if (dc->replicating.active && dc->replicating.slot == slot)
        return replication_finish(dc);
    if (dc->ring[slot].level >= DCACHE_REPLICATED)
        return DCACHE_OK;
    return diag_fail(&dc->diag, dc->ring[slot].replication != DCACHE_OK ? dc->ring[slot].replication : DCACHE_ERR_LEVEL,
                     "the replication of step %llu has failed", (unsigned long long)dc->ring[slot].header.set.step);
}

static dcache_status_t wait_durable(dcache_t *dc, uint32_t slot)
{
    struct levels_drain drain;

    if (dc->replicating.active && dc->replicating.slot == slot) {
        dcache_status_t status = replication_finish(dc);
        if (status != DCACHE_OK)
            return status;
    }
    for (;;) {
        dcache_status_t status = levels_ask(dc, slot, &drain);
        if (status != DCACHE_OK || drain.durable)
            return status;
        if (drain.failing)
            return levels_drain_failure(dc, slot);
        if (!drain.pending)
            return diag_fail(
                &dc->diag, DCACHE_ERR_LEVEL,
                "DURABLE cannot be reached by step %llu: it is not drained (options store and drain_every), "
                "or its replication failed",
                (unsigned long long)dc->ring[slot].header.set.step);
        drain_thread_wait(dc->drain, WAIT_SLICE_S);
    }
}

static dcache_status_t wait_level(dcache_t *dc, uint64_t step, dcache_level_t level)
{
    dcache_status_t status = agree_question(dc, step, (int)level);

    if (status != DCACHE_OK)
        return status;
    int slot = find_slot(dc, step);
    if (slot < 0)
        return DCACHE_NOT_FOUND;
    if (level == DCACHE_REPLICATED)
        return wait_replicated(dc, (uint32_t)slot);
    return level == DCACHE_DURABLE ? wait_durable(dc, (uint32_t)slot) : DCACHE_OK;
}

dcache_status_t dcache_wait(dcache_t *dc, uint64_t step, dcache_level_t level)
{
    if (dc == NULL)
        return DCACHE_ERR_INVALID;
    context_enter(dc);
    return context_finish(dc, "dcache_wait", wait_level(dc, step, level));
}

/* One agreement for question and answer: this is called often. */
struct test_view {
    bool unfinished; /* some rank's replica is not complete */
    bool durable;
};

static dcache_status_t look(dcache_t *dc, uint64_t step, bool bad_pointer, struct test_view *view)
{
    dcache_status_t status = DCACHE_OK;
    int slot = find_slot(dc, step);
    int64_t values[4 + SSD_RING_VALUES_MAX] = {(int64_t)step, (int64_t)(0 - step), 0, 0};

    if (dc->replicating.active)
        values[2] = !replication_advance(dc, false);
    if (slot >= 0)
        values[3] = dc->ring[slot].durable ||
                    drain_thread_state(dc->drain, &dc->ring[slot].header.set, (uint32_t)slot, NULL) == DRAIN_DURABLE;
    if (bad_pointer || step > DCACHE_STEP_MAX)
        status = diag_fail(&dc->diag, DCACHE_ERR_INVALID, "step %llu or a NULL pointer is not allowed here",
                           (unsigned long long)step);
    int count = 4 + ssd_ring_ask(dc, values + 4);
    status = agree_values(&dc->world, &dc->diag, &dc->replicator.idle, status, values, count);
    if (status == DCACHE_OK) {
        ssd_ring_learn(dc, values + 4);
        ssd_ring_resume(dc);
    }
    if (status == DCACHE_OK && values[0] != -values[1])
        status = diag_fail(&dc->diag, DCACHE_ERR_MISMATCH, "the ranks asked for different steps");
    *view = (struct test_view){values[2] != 0, values[3] != 0};
    return status;
}

static dcache_status_t test_level(dcache_t *dc, uint64_t step, dcache_level_t *level)
{
    struct test_view view;

    if (dc->broken)
        return diag_fail(&dc->diag, DCACHE_ERR_STATE, "MPI has failed on this handle: only dcache_close() is left");
    dcache_status_t status = look(dc, step, level == NULL, &view);
    if (status != DCACHE_OK)
        return status;
    int slot = find_slot(dc, step);
    if (slot < 0)
        return DCACHE_NOT_FOUND;
    if (dc->replicating.active && !view.unfinished)
        status = replication_finish(dc);
    if (status != DCACHE_OK)
        return status;
    dc->ring[slot].durable = view.durable;
    *level = view.durable ? DCACHE_DURABLE : dc->ring[slot].level;
    return DCACHE_OK;
}

dcache_status_t dcache_test(dcache_t *dc, uint64_t step, dcache_level_t *level)
{
    if (dc == NULL)
        return DCACHE_ERR_INVALID;
    context_enter(dc);
    return context_finish(dc, "dcache_test", test_level(dc, step, level));
}
