#include "runtime/survey.h"

#include "mpi/gather.h"
#include "runtime/tiers.h"

#include <stdlib.h>
#include <string.h>

/* Manifests read to find the newest: the newest by number first. Sequence numbers decide among those. */
#define MANIFESTS_MAX 16u

/* ---- what the nodes hold ---- */

/* Stores of virtual nodes that this run does not have are shared out over those that it has. */
static bool is_ours(const struct world *world, unsigned index)
{
    return index % world->virtual_count == world->virtual_index;
}

/* Open what there is below a root; `skip` is how many virtual nodes' stores are known already. */
static dcache_status_t open_below(dcache_t *dc, struct survey *survey, const char *root, unsigned skip)
{
    unsigned *indexes = NULL;
    size_t count = 0;
    dcache_status_t status = node_store_list(&dc->diag, root, dc->job, &indexes, &count);

    if (status != DCACHE_OK)
        return status;
    struct node_store *more = realloc(survey->stores, (survey->store_count + count + 1) * sizeof *more);
    if (more == NULL) {
        free(indexes);
        return diag_fail(&dc->diag, DCACHE_ERR_NO_MEMORY, "out of memory for %zu node stores", count);
    }
    survey->stores = more;
    for (size_t i = 0; i < count; i++) {
        struct diag quiet = dc->diag;
        if (indexes[i] < skip || !is_ours(&dc->world, indexes[i]))
            continue;
        struct node_store *store = &survey->stores[survey->store_count];
        if (node_store_open(&quiet, root, dc->job, indexes[i], false, store) == DCACHE_OK)
            survey->store_count++;
        else
            diag_log(&dc->diag, DIAG_WARNING, "left out: %s", quiet.text);
    }
    free(indexes);
    return DCACHE_OK;
}

/* The other tier is looked at whatever the option says: the run before may have had another, and after a reboot the SSD
 * is all that is left. That its directory cannot be used is no reason to give up. */
static void open_other_tier(dcache_t *dc, struct survey *survey)
{
    const char *root = tiers_other_root(dc);
    struct diag before = dc->diag;

    if (root == NULL || open_below(dc, survey, root, 0) == DCACHE_OK)
        return;
    diag_log(&dc->diag, DIAG_WARNING, "restart without %s: %s", root, dc->diag.text);
    dc->diag = before;
}

static dcache_status_t open_stores(dcache_t *dc, struct survey *survey)
{
    survey->stores = malloc(sizeof *survey->stores);
    if (survey->stores == NULL)
        return diag_fail(&dc->diag, DCACHE_ERR_NO_MEMORY, "out of memory for a list of node stores");
    survey->stores[0] = dc->store;
    survey->store_count = 1;
    dcache_status_t status = open_below(dc, survey, tiers_root(dc), dc->world.virtual_count);
    survey->main_count = survey->store_count;
    if (status == DCACHE_OK)
        open_other_tier(dc, survey);
    return status;
}

/* The first rank of a node lists its stores. A store that cannot be listed is as good as lost. */
static dcache_status_t list_stores(dcache_t *dc, const struct survey *survey, struct survey_entry **out,
                                   size_t *out_count)
{
    struct survey_entry *all = NULL;
    size_t all_count = 0;

    for (uint32_t s = 0; s < survey->store_count && dc->world.node_rank == 0; s++) {
        struct catalog_entry *entries = NULL;
        size_t count = 0;
        dcache_status_t listed = node_store_catalog(&dc->diag, &survey->stores[s], &entries, &count);
        if (listed == DCACHE_ERR_FORMAT) {
            free(all);
            return listed;
        }
        if (listed != DCACHE_OK) {
            diag_log(&dc->diag, DIAG_WARNING, "left out: %s", dc->diag.text);
            continue;
        }
        struct survey_entry *more = realloc(all, (all_count + count + 1) * sizeof *all);
        if (more == NULL) {
            free(entries);
            free(all);
            return diag_fail(&dc->diag, DCACHE_ERR_NO_MEMORY, "out of memory for a catalog of %zu slots", count);
        }
        all = more;
        memset(all + all_count, 0, count * sizeof *all); /* padding is sent, too */
        for (size_t i = 0; i < count; i++) {
            all[all_count + i].slot = entries[i];
            all[all_count + i].slot.store = s;
            all[all_count + i].node = dc->world.node;
            all[all_count + i].in_ring =
                s < survey->main_count && entries[i].kind == SLOT_OWN && entries[i].slot < dc->slots;
        }
        all_count += count;
        free(entries);
    }
    *out = all;
    *out_count = all_count;
    return DCACHE_OK;
}

/* ---- what can be restored; rank 0 ---- */

static struct candidate *find_candidate(struct survey *survey, const struct shard_set *set)
{
    for (size_t i = 0; i < survey->candidate_count; i++) {
        if (shard_same_set(&survey->candidates[i].set, set))
            return &survey->candidates[i];
    }
    return NULL;
}

static struct candidate *add_candidate(dcache_t *dc, struct survey *survey, const struct shard_set *set)
{
    struct candidate *more = realloc(survey->candidates, (survey->candidate_count + 1) * sizeof *more);

    if (more == NULL) {
        diag_log(&dc->diag, DIAG_WARNING, "out of memory: step %llu is not tried", (unsigned long long)set->step);
        return NULL;
    }
    survey->candidates = more;
    struct candidate *candidate = &more[survey->candidate_count++];
    memset(candidate, 0, sizeof *candidate);
    candidate->set = *set;
    candidate->slot = UINT32_MAX;
    return candidate;
}

static bool believable(const dcache_t *dc, const struct survey_entry *entry)
{
    return entry->slot.state == SHARD_COMPLETE && entry->slot.rank < entry->slot.set.world_size &&
           entry->slot.set.world_size <= (uint32_t)INT32_MAX && entry->slot.store < UINT32_MAX &&
           entry->node < dc->world.node_count;
}

/* Does every rank have a copy somewhere, and in which ring slot are most own copies? */
static void count_copies(dcache_t *dc, struct survey *survey, struct candidate *candidate)
{
    unsigned char *has = calloc(candidate->set.world_size, 1);
    uint32_t in_slot[TRANSPORT_SLOTS_MAX] = {0}, ranks = 0, most = 0;

    if (has == NULL)
        return;
    for (size_t i = 0; i < survey->entry_count; i++) {
        const struct survey_entry *entry = &survey->entries[i];
        if (!believable(dc, entry) || !shard_same_set(&entry->slot.set, &candidate->set))
            continue;
        ranks += !has[entry->slot.rank];
        has[entry->slot.rank] = 1;
        if (entry->in_ring && entry->slot.slot < dc->slots)
            in_slot[entry->slot.slot]++;
    }
    candidate->in_nodes = ranks == candidate->set.world_size;
    for (uint32_t k = 0; k < dc->slots; k++) {
        if (in_slot[k] > most) {
            most = in_slot[k];
            candidate->slot = k;
        }
    }
    free(has);
}

static void find_in_nodes(dcache_t *dc, struct survey *survey)
{
    for (size_t i = 0; i < survey->entry_count; i++) {
        const struct survey_entry *entry = &survey->entries[i];
        if (!believable(dc, entry) || find_candidate(survey, &entry->slot.set) != NULL)
            continue;
        struct candidate *candidate = add_candidate(dc, survey, &entry->slot.set);
        if (candidate != NULL)
            count_copies(dc, survey, candidate);
    }
    for (size_t i = 0; i < survey->entry_count; i++) {
        const struct survey_entry *entry = &survey->entries[i];
        struct candidate *candidate =
            entry->slot.state == SHARD_WRITING ? find_candidate(survey, &entry->slot.set) : NULL;
        if (candidate != NULL)
            candidate->unfinished = true;
    }
}

static void add_manifest(dcache_t *dc, struct survey *survey, struct object_store *objects, uint64_t step)
{
    struct manifest manifest;
    struct diag quiet = dc->diag;
    dcache_status_t status = manifest_load(&quiet, objects, dc->job, step, &manifest);

    if (status != DCACHE_OK) {
        if (status != DCACHE_NOT_FOUND) {
            diag_log(&dc->diag, DIAG_WARNING, "step %llu in the object store is left out: %s", (unsigned long long)step,
                     quiet.text);
            survey->objects_status = status;
            memcpy(dc->diag.text, quiet.text, sizeof quiet.text);
        }
        return;
    }
    if (manifest_check_stores(&quiet, &manifest) != DCACHE_OK) /* other copies of these shards may do */
        diag_log(&dc->diag, DIAG_WARNING, "%s", quiet.text);
    struct candidate *candidate = find_candidate(survey, &manifest.set);
    if (candidate == NULL)
        candidate = add_candidate(dc, survey, &manifest.set);
    if (candidate == NULL || candidate->has_manifest) {
        manifest_free(&manifest);
        return;
    }
    candidate->manifest = manifest;
    candidate->has_manifest = true;
    candidate->tried = false;
}

/* Add durable steps above `above`, the newest ones. */
static void ask(dcache_t *dc, struct survey *survey, struct object_store *objects, bool all, uint64_t above)
{
    uint64_t *steps = NULL;
    size_t count = 0;

    survey->objects_status = manifest_list_steps(&dc->diag, objects, dc->job, &steps, &count);
    if (survey->objects_status != DCACHE_OK) {
        diag_log(&dc->diag, DIAG_WARNING, "restart without the object store: %s", dc->diag.text);
        return;
    }
    for (size_t i = count; i > 0 && count - i < MANIFESTS_MAX && (all || steps[i - 1] > above); i--)
        add_manifest(dc, survey, objects, steps[i - 1]);
    free(steps);
}

/* The nodes have a complete step, but may have been out for a while: is there a newer one? Not worth a long wait, nor
 * more than the manifests of newer steps. */
static void glance_at_objects(dcache_t *dc, struct survey *survey, const struct candidate *have)
{
    uint64_t above = have->set.step;

    survey->objects_glanced = true;
    if (dc->objects_quick != NULL)
        ask(dc, survey, dc->objects_quick, false, above);
}

static void ask_objects(dcache_t *dc, struct survey *survey, uint64_t want)
{
    survey->objects_asked = true;
    if (dc->objects == NULL)
        return;
    if (want != DCACHE_LATEST)
        add_manifest(dc, survey, dc->objects, want);
    else
        ask(dc, survey, dc->objects, true, 0);
}

static bool fits(const struct candidate *candidate, uint64_t want)
{
    return want == DCACHE_LATEST || candidate->set.step == want;
}

static struct candidate *newest_untried(const struct survey *survey, uint64_t want)
{
    struct candidate *best = NULL;

    for (size_t i = 0; i < survey->candidate_count; i++) {
        struct candidate *candidate = &survey->candidates[i];
        if (!fits(candidate, want) || candidate->tried || !(candidate->in_nodes || candidate->has_manifest))
            continue;
        if (best == NULL || candidate->set.sequence > best->set.sequence)
            best = candidate;
    }
    return best;
}

static bool any_tried(const struct survey *survey)
{
    for (size_t i = 0; i < survey->candidate_count; i++) {
        if (survey->candidates[i].tried)
            return true;
    }
    return false;
}

struct candidate *survey_next(dcache_t *dc, struct survey *survey, uint64_t want)
{
    if (survey->candidates == NULL)
        find_in_nodes(dc, survey);
    struct candidate *next = newest_untried(survey, want);
    if (!survey->objects_asked && (next == NULL || any_tried(survey)))
        ask_objects(dc, survey, want); /* it may also have what is corrupt in the step that was tried */
    else if (!survey->objects_asked && !survey->objects_glanced && want == DCACHE_LATEST)
        glance_at_objects(dc, survey, next);
    next = newest_untried(survey, want);
    if (next != NULL)
        next->tried = true;
    return next;
}

/* The newest step that was there once: a step that some rank was still writing never was. */
static const struct candidate *newest_lost(const struct survey *survey, uint64_t want)
{
    const struct candidate *best = NULL;

    for (size_t i = 0; i < survey->candidate_count; i++) {
        const struct candidate *candidate = &survey->candidates[i];
        if (fits(candidate, want) && !candidate->unfinished &&
            (best == NULL || candidate->set.sequence > best->set.sequence))
            best = candidate;
    }
    return best;
}

dcache_status_t survey_verdict(dcache_t *dc, const struct survey *survey, uint64_t want)
{
    if (survey->objects_status != DCACHE_OK)
        return survey->objects_status; /* the text is there already */
    const struct candidate *lost = newest_lost(survey, want);
    if (lost == NULL)
        return DCACHE_NOT_FOUND;
    if (want != DCACHE_LATEST)
        return diag_fail(&dc->diag, DCACHE_ERR_CORRUPT,
                         "too many copies of step %llu of job '%s' are lost to complete it; `dcache ls` shows what is "
                         "left",
                         (unsigned long long)want, dc->job);
    return diag_fail(&dc->diag, DCACHE_ERR_CORRUPT,
                     "job '%s' has checkpoints, but too many copies are lost to complete any of them, the newest "
                     "being step %llu; `dcache ls` shows what is left",
                     dc->job, (unsigned long long)lost->set.step);
}

dcache_status_t survey_nodes(dcache_t *dc, struct survey *survey)
{
    struct survey_entry *mine = NULL;
    size_t mine_count = 0;

    memset(survey, 0, sizeof *survey);
    dcache_status_t status = diag_failpoint(&dc->diag, "restart.survey");
    if (status == DCACHE_OK)
        status = open_stores(dc, survey);
    if (status == DCACHE_OK)
        status = list_stores(dc, survey, &mine, &mine_count);
    void *all = NULL;
    size_t bytes = 0;
    status = gather_bytes(&dc->world, &dc->diag, &dc->replicator.idle, status, mine, mine_count * sizeof *mine, &all,
                          &bytes);
    free(mine);
    if (status == DCACHE_OK) {
        survey->entries = all;
        survey->entry_count = bytes / sizeof *survey->entries;
    }
    for (size_t i = 0; status == DCACHE_OK && i < survey->entry_count; i++) {
        uint64_t sequence = survey->entries[i].slot.set.sequence;
        if (sequence > dc->last_sequence && sequence <= INT64_MAX)
            dc->last_sequence = sequence;
    }
    return status;
}

void survey_free(struct survey *survey)
{
    for (uint32_t s = 1; s < survey->store_count; s++)
        node_store_close(&survey->stores[s]);
    for (size_t i = 0; i < survey->candidate_count; i++) {
        if (survey->candidates[i].has_manifest)
            manifest_free(&survey->candidates[i].manifest);
    }
    free(survey->stores);
    free(survey->candidates);
    free(survey->entries);
    memset(survey, 0, sizeof *survey);
}
