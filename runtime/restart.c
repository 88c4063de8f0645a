/* dcache_restart(): survey, choose, assemble, agree, hand out; then it is made redundant again. The application's
 * memory is written only when every rank has its whole shard. */
#include "runtime/assemble.h"
#include "runtime/levels.h"
#include "runtime/regions.h"
#include "runtime/replication.h"
#include "runtime/reshape.h"
#include "runtime/resync.h"
#include "runtime/resync_ahead.h"
#include "runtime/ssd_ring.h"
#include "runtime/stage.h"
#include "runtime/tiers.h"

#include <stdlib.h>
#include <string.h>

/* What rank 0 tells all others to try. Plain data. */
struct choice {
    int32_t status; /* when nothing is left to try */
    int32_t found;
    int32_t in_objects;
    uint32_t slot;
    struct shard_set set;
};

/* What a candidate gave: this rank's shard; or, of a step that was taken by other ranks, what the regions will hold. */
struct found {
    const struct candidate *candidate; /* on rank 0 */
    bool is_reshaped;
    struct assemble_result shard;
    struct reshaped reshaped;
};

/* The ring slot for a step that is in none: the one with the oldest content. Rank 0. */
static uint32_t oldest_slot(const dcache_t *dc, const struct survey *survey)
{
    uint64_t newest[TRANSPORT_SLOTS_MAX] = {0};
    uint32_t best = 0;

    for (size_t i = 0; i < survey->entry_count; i++) {
        const struct catalog_entry *entry = &survey->entries[i].slot;
        if (survey->entries[i].in_ring && entry->slot < dc->slots && entry->state == SHARD_COMPLETE &&
            entry->set.sequence > newest[entry->slot])
            newest[entry->slot] = entry->set.sequence;
    }
    for (uint32_t k = 1; k < dc->slots; k++)
        best = newest[k] < newest[best] ? k : best;
    return best;
}

static struct candidate *decide(dcache_t *dc, struct survey *survey, uint64_t want, struct choice *choice)
{
    struct candidate *candidate = survey_next(dc, survey, want);

    memset(choice, 0, sizeof *choice);
    if (candidate == NULL) {
        choice->status = survey_verdict(dc, survey, want);
        return NULL;
    }
    choice->found = 1;
    choice->set = candidate->set;
    choice->slot = candidate->slot < dc->slots ? candidate->slot : oldest_slot(dc, survey);
    choice->in_objects = candidate->has_manifest;
    return candidate;
}

/* Each rank learns what the manifest says of its own shard. */
static dcache_status_t share_manifest(dcache_t *dc, const struct candidate *candidate, struct manifest_shard *mine)
{
    size_t size = (size_t)dc->world.size;
    struct manifest_shard *all = NULL;
    dcache_status_t status = DCACHE_OK;

    if (dc->world.rank == 0) {
        all = calloc(size, sizeof *all);
        if (all == NULL)
            status = diag_fail(&dc->diag, DCACHE_ERR_NO_MEMORY, "out of memory for a manifest of %zu shards", size);
        for (size_t r = 0; all != NULL && r < size; r++) {
            const struct manifest_shard *shard = manifest_find(&candidate->manifest, (uint32_t)r);
            if (shard != NULL)
                all[r] = *shard;
        }
    }
    status = agree(&dc->world, &dc->diag, &dc->replicator.idle, status);
    if (status == DCACHE_OK)
        status = world_check(
            &dc->diag,
            MPI_Scatter(all, (int)sizeof *all, MPI_BYTE, mine, (int)sizeof *mine, MPI_BYTE, 0, dc->world.comm),
            "MPI_Scatter");
    free(all);
    return status;
}

static dcache_status_t reshape(dcache_t *dc, const struct assemble_request *request, bool in_objects,
                               struct found *found)
{
    found->is_reshaped = true;
    return reshape_assemble(dc, request->survey, request->fanin, &request->set, in_objects,
                            found->candidate != NULL ? &found->candidate->manifest : NULL, &found->reshaped);
}

/* Rank 0's decision, everybody's shard; or, of other ranks' shards, everybody's parts. Collective, agreed. */
static dcache_status_t attempt(dcache_t *dc, const struct choice *choice, const struct candidate *candidate,
                               struct assemble_request *request, struct found *found)
{
    struct agree_idle idle = fanin_idle(request->fanin);
    dcache_status_t status = DCACHE_OK;

    request->set = choice->set;
    request->slot = choice->slot;
    memset(&request->in_objects, 0, sizeof request->in_objects);
    found->candidate = candidate;
    found->is_reshaped = false;
    if (choice->set.world_size != (uint32_t)dc->world.size)
        return reshape(dc, request, choice->in_objects != 0, found);
    if (choice->in_objects)
        status = share_manifest(dc, candidate, &request->in_objects);
    resync_ahead_start(dc, request->survey, &request->set, request->slot);
    if (status == DCACHE_OK)
        status = assemble(dc, request, &found->shard);
    return agree(&dc->world, &dc->diag, &idle, status);
}

static bool worth_another_try(dcache_status_t status)
{
    return status == DCACHE_ERR_CORRUPT || status == DCACHE_ERR_IO || status == DCACHE_ERR_STORE ||
           status == DCACHE_ERR_FORMAT;
}

static void release(dcache_t *dc, struct found *found)
{
    assemble_release(dc, &found->shard);
    reshape_free(&found->reshaped);
}

/* Newest first until one can be completed. Collective, agreed; `found` is whole on every rank on DCACHE_OK. */
static dcache_status_t try_candidates(dcache_t *dc, struct survey *survey, uint64_t want,
                                      struct assemble_request *request, struct found *found)
{
    char first_failure[DIAG_TEXT_MAX] = "";
    dcache_status_t failed = DCACHE_OK;
    struct choice choice;

    for (;;) {
        struct candidate *candidate = NULL;
        if (dc->world.rank == 0)
            candidate = decide(dc, survey, want, &choice);
        dcache_status_t status =
            world_check(&dc->diag, MPI_Bcast(&choice, (int)sizeof choice, MPI_BYTE, 0, dc->world.comm), "MPI_Bcast");
        status = agree(&dc->world, &dc->diag, &dc->replicator.idle, status);
        if (status != DCACHE_OK) /* there is no choice */
            return status;
        status = choice.found ? attempt(dc, &choice, candidate, request, found)
                              : agree(&dc->world, &dc->diag, &dc->replicator.idle,
                                      dc->world.rank == 0 ? (dcache_status_t)choice.status : DCACHE_OK);
        if (!choice.found && failed != DCACHE_OK && (status == DCACHE_NOT_FOUND || status == DCACHE_ERR_CORRUPT)) {
            memcpy(dc->diag.text, first_failure, sizeof first_failure);
            return failed; /* there was a step, and this is why it cannot be had */
        }
        if (status == DCACHE_OK || !choice.found || !worth_another_try(status)) {
            if (status != DCACHE_OK)
                release(dc, found);
            return status;
        }
        release(dc, found);
        if (failed == DCACHE_OK) {
            failed = status;
            memcpy(first_failure, dc->diag.text, sizeof first_failure);
        }
        if (dc->world.rank == 0)
            diag_log(&dc->diag, DIAG_WARNING, "step %llu cannot be completed: %s", (unsigned long long)choice.set.step,
                     dc->diag.text);
    }
}

/* Where nobody might call for long, the second copies are made before the call returns. */
static bool resync_waits(const dcache_t *dc)
{
    return dc->options.resync == RESYNC_WAIT || (dc->options.resync == RESYNC_AUTO && dc->progress == NULL);
}

/* What goes wrong with the second copies is logged, and no failure of the restart unless the MPI has failed.
 * Collective, agreed. */
static dcache_status_t resync_now(dcache_t *dc, uint32_t slot)
{
    resync_schedule(dc, slot);
    resync_begin(dc);
    if (dc->broken)
        return diag_fail(&dc->diag, DCACHE_ERR_MPI, "%s", dc->replicating.diag.text);
    dcache_status_t status = replication_finish(dc);
    if (status != DCACHE_OK && dc->world.rank == 0)
        diag_log(&dc->diag, DIAG_WARNING, "step %llu is restored, but not replicated: %s",
                 (unsigned long long)dc->ring[slot].header.set.step, dc->diag.text);
    return status == DCACHE_ERR_MPI ? status : DCACHE_OK;
}

static void note_restored(dcache_t *dc, uint32_t slot, bool durable)
{
    struct ring_slot *ring = &dc->ring[slot];

    if (ring->header.set.sequence > dc->last_sequence)
        dc->last_sequence = ring->header.set.sequence;
    ring->to_drain = !durable && dc->objects != NULL && dc->options.drain_every > 0;
    levels_staged(dc, slot);
    ring->durable = durable;
    ring->worth = dc->last_sequence + 1; /* also when it is older than what other slots hold: it was asked for */
    dc->last_sequence++;
    dc->clean_due = true;
}

/* One line for the whole job: where the shards came from. A failure to add the numbers up is told at the next
 * agreement. */
static void tell_sources(dcache_t *dc, const struct assemble_request *request, const struct assemble_result *result)
{
    int64_t mine[3] = {(int64_t)result->bytes_remote, (int64_t)result->bytes_objects, result->repaired},
            all[3] = {0, 0, 0};

    if (MPI_Allreduce(mine, all, 3, MPI_INT64_T, MPI_SUM, dc->world.comm) != MPI_SUCCESS || dc->world.rank != 0)
        return;
    diag_log(
        &dc->diag, DIAG_INFO,
        "restarting from step %llu: %lld bytes from other nodes, %lld from the object store, the rest from own nodes",
        (unsigned long long)request->set.step, (long long)all[0], (long long)all[1]);
    if (all[2] > 0)
        diag_log(&dc->diag, DIAG_WARNING,
                 "step %llu: %lld corrupt chunks of own copies were repaired from other copies",
                 (unsigned long long)request->set.step, (long long)all[2]);
}

/* The same number of ranks may still have cut its arrays another way. The text that tells of what does not fit is the
 * one about this rank's own shard. Collective, agreed; serves the fan-in. */
static dcache_status_t fit_regions(dcache_t *dc, const struct assemble_request *request, struct found *found)
{
    struct agree_idle idle = fanin_idle(request->fanin);
    dcache_status_t status = agree(&dc->world, &dc->diag, &idle, regions_match(dc, &found->shard.header));

    if (status != DCACHE_ERR_MISMATCH)
        return status;
    struct diag mismatch = dc->diag;
    status = reshape(dc, request, request->in_objects.bytes > 0, found);
    if (status == DCACHE_ERR_MISMATCH)
        dc->diag = mismatch;
    return status;
}

/* Every rank has its shard, which fits: make it the own copy, hand it out. Collective, agreed. */
static dcache_status_t take_over(dcache_t *dc, const struct assemble_request *request, struct assemble_result *result)
{
    bool durable = request->in_objects.bytes > 0;
    uint32_t slot = request->slot;

    tell_sources(dc, request, result);
    drain_thread_drop(dc->drain, slot);
    dc->ring[slot].level = DCACHE_LEVEL_NONE; /* until all have the new content */
    dcache_status_t status = agree(&dc->world, &dc->diag, &dc->replicator.idle, assemble_adopt(dc, request, result));
    if (status != DCACHE_OK)
        return status;
    note_restored(dc, slot, durable);
    if (resync_waits(dc))
        status = resync_now(dc, slot);
    if (status == DCACHE_OK) /* on error the application's memory is as it was */
        status = agree(&dc->world, &dc->diag, &dc->replicator.idle, stage_restore(dc, &dc->ring[slot]));
    if (status != DCACHE_OK)
        return status;
    ssd_ring_add_restored(dc, slot);
    if (!resync_waits(dc))
        resync_schedule(dc, slot);
    return DCACHE_OK;
}

/* The step stays as the ranks before left it until a checkpoint of this run is complete: the ring slots that have any
 * of its copies are worth more than the others. */
static void take_over_reshaped(dcache_t *dc, const struct assemble_request *request, const struct reshaped *reshaped)
{
    const struct survey *survey = request->survey;

    if (dc->world.rank == 0)
        diag_log(&dc->diag, DIAG_INFO, "restarting from step %llu, cut anew from the shards of %u ranks for %d",
                 (unsigned long long)request->set.step, request->set.world_size, dc->world.size);
    if (request->set.sequence > dc->last_sequence)
        dc->last_sequence = request->set.sequence;
    dc->last_sequence++;
    for (size_t i = 0; i < survey->entry_count; i++) {
        const struct catalog_entry *entry = &survey->entries[i].slot;
        if (entry->slot < dc->slots && shard_same_set(&entry->set, &request->set))
            dc->ring[entry->slot].worth = dc->last_sequence;
    }
    dc->clean_due = true;
    reshape_deliver(dc, reshaped);
}

static dcache_status_t agree_wanted(dcache_t *dc, const uint64_t *step)
{
    uint64_t want = step != NULL ? *step : 0;
    int64_t values[2] = {(int64_t)want, (int64_t)(0 - want)};
    dcache_status_t status = DCACHE_OK;

    if (step == NULL)
        status = diag_fail(&dc->diag, DCACHE_ERR_INVALID, "dcache_restart() was given a NULL pointer for the step");
    else if (want != DCACHE_LATEST && want > DCACHE_STEP_MAX)
        status = diag_fail(&dc->diag, DCACHE_ERR_INVALID, "step %llu is larger than %llu (DCACHE_STEP_MAX)",
                           (unsigned long long)want, (unsigned long long)DCACHE_STEP_MAX);
    status = agree_values(&dc->world, &dc->diag, &dc->replicator.idle, status, values, 2);
    if (status == DCACHE_OK && values[0] != -values[1])
        status = diag_fail(&dc->diag, DCACHE_ERR_MISMATCH, "the ranks asked to restart from different steps");
    return status;
}

static dcache_status_t restart(dcache_t *dc, uint64_t *step)
{
    struct survey survey;
    struct assemble_request request;
    struct found found;

    if (dc->broken)
        return diag_fail(&dc->diag, DCACHE_ERR_STATE, "MPI has failed on this handle: only dcache_close() is left");
    if (replication_finish(dc) != DCACHE_OK && dc->world.rank == 0)
        diag_log(&dc->diag, DIAG_WARNING, "the step before stays on its nodes only: %s", dc->diag.text);
    dcache_status_t status = agree_wanted(dc, step);
    if (status != DCACHE_OK)
        return status;
    ssd_ring_abandon(dc);
    memset(&request, 0, sizeof request);
    memset(&found, 0, sizeof found);
    status = survey_nodes(dc, &survey);
    request.survey = &survey;
    if (status == DCACHE_OK)
        status = fanin_open(&dc->diag, &dc->world, survey.stores, survey.store_count, &request.fanin);
    if (status == DCACHE_OK) {
        status = try_candidates(dc, &survey, *step, &request, &found);
        if (status == DCACHE_OK && !found.is_reshaped)
            status = fit_regions(dc, &request, &found);
        fanin_close(request.fanin);
        if (status == DCACHE_OK && found.is_reshaped)
            take_over_reshaped(dc, &request, &found.reshaped);
        else if (status == DCACHE_OK)
            status = take_over(dc, &request, &found.shard);
        release(dc, &found);
    }
    survey_free(&survey);
    if (status != DCACHE_OK || found.is_reshaped)
        resync_ahead_drop(dc); /* no resync comes */
    if (status == DCACHE_OK)
        *step = request.set.step;
    return status;
}

dcache_status_t dcache_restart(dcache_t *dc, uint64_t *step)
{
    if (dc == NULL)
        return DCACHE_ERR_INVALID;
    context_enter(dc);
    return context_finish(dc, "dcache_restart", restart(dc, step));
}
