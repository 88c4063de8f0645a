#include "io/retention.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what there is ---- */

static const struct retention_step *known(const struct retention_list *list, uint64_t step)
{
    for (size_t i = 0; i < list->count; i++) {
        if (list->steps[i].step == step)
            return &list->steps[i];
    }
    return NULL;
}

/* Not `good`: the step is left out. */
static dcache_status_t look_up(struct diag *dg, struct object_store *store, const char *job, uint64_t step,
                               struct retention_step *found, bool *good)
{
    struct manifest manifest;
    struct diag quiet = *dg;
    dcache_status_t status = manifest_load(&quiet, store, job, step, &manifest);

    if (status == DCACHE_OK) {
        *found = (struct retention_step){.step = step, .sequence = manifest.set.sequence};
        status = manifest_check_stores(&quiet, &manifest);
        manifest_free(&manifest);
    }
    *good = status == DCACHE_OK;
    if (status == DCACHE_ERR_CORRUPT || status == DCACHE_ERR_FORMAT)
        diag_log(dg, DIAG_WARNING, "step %" PRIu64 " is kept, for its manifest cannot be read: %s", step, quiet.text);
    if (status == DCACHE_ERR_OPTION) /* without its manifest nobody would find what is left there */
        diag_log(dg, DIAG_WARNING, "step %" PRIu64 " is kept, for not all of it could be removed: %s", step,
                 quiet.text);
    if (status == DCACHE_OK || status == DCACHE_ERR_CORRUPT || status == DCACHE_ERR_FORMAT ||
        status == DCACHE_ERR_OPTION || status == DCACHE_NOT_FOUND)
        return DCACHE_OK;
    memcpy(dg->text, quiet.text, sizeof dg->text);
    return status;
}

dcache_status_t retention_find(struct diag *dg, struct object_store *store, const char *job,
                               struct retention_list *list)
{
    struct retention_list now = {NULL, 0};
    uint64_t *steps = NULL;
    size_t count = 0;

    dcache_status_t status = manifest_list_steps(dg, store, job, &steps, &count);
    if (status != DCACHE_OK)
        return status;
    now.steps = calloc(count + 1, sizeof *now.steps);
    if (now.steps == NULL)
        status = diag_fail(dg, DCACHE_ERR_NO_MEMORY, "out of memory for %zu steps", count);
    for (size_t i = 0; status == DCACHE_OK && i < count; i++) {
        const struct retention_step *before = known(list, steps[i]);
        bool good = before != NULL;
        if (good)
            now.steps[now.count] = *before;
        else
            status = look_up(dg, store, job, steps[i], &now.steps[now.count], &good);
        now.count += good;
    }
    free(steps);
    if (status != DCACHE_OK) {
        retention_list_free(&now);
        return status;
    }
    retention_list_free(list);
    *list = now;
    return DCACHE_OK;
}

struct unfinished {
    struct diag *dg;
    const char *job;
    uint64_t *steps; /* with repetitions, of one store after the other */
    size_t count, room;
};

/* Ascending keys: all of a step come one after the other. */
static dcache_status_t visit_object(void *context, const char *key, uint64_t bytes)
{
    struct unfinished *found = context;
    const char *at = key + strlen(found->job) + 1;
    char *end = NULL;
    char prefix[OBJECT_KEY_MAX];

    (void)bytes;
    uint64_t step = strtoull(at, &end, 10);
    manifest_step_prefix(prefix, found->job, step);
    if (*end != '/' || step > DCACHE_STEP_MAX || strncmp(key, prefix, strlen(prefix)) != 0)
        return DCACHE_OK; /* not one of a step's */
    if (found->count > 0 && found->steps[found->count - 1] == step)
        return DCACHE_OK;
    if (found->count == found->room) {
        size_t room = found->room == 0 ? 16 : found->room * 2;
        uint64_t *more = realloc(found->steps, room * sizeof *more);
        if (more == NULL)
            return diag_fail(found->dg, DCACHE_ERR_NO_MEMORY, "out of memory for %zu steps", room);
        found->steps = more;
        found->room = room;
    }
    found->steps[found->count++] = step;
    return DCACHE_OK;
}

static int compare_steps(const void *left, const void *right)
{
    const uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;

    return (a > b) - (a < b);
}

dcache_status_t retention_find_unfinished(struct diag *dg, struct object_store *store, const char *job,
                                          uint64_t **steps, size_t *count)
{
    struct unfinished found = {.dg = dg, .job = job};
    char prefix[OBJECT_KEY_MAX];
    uint64_t *durable = NULL;
    size_t durable_count = 0, kept = 0;

    snprintf(prefix, sizeof prefix, "%s/", job);
    dcache_status_t status = DCACHE_OK;
    for (uint32_t i = 0; status == DCACHE_OK && i < stripes_count(store); i++) {
        struct object_store *listed = stripes_store(store, i);
        status = listed->ops->list(listed, dg, prefix, visit_object, &found);
    }
    if (status == DCACHE_OK) /* asked after the objects: a step that is finished meanwhile counts as durable */
        status = manifest_list_steps(dg, store, job, &durable, &durable_count);
    if (status != DCACHE_OK) {
        free(found.steps);
        return status;
    }
    if (found.count > 0)
        qsort(found.steps, found.count, sizeof *found.steps, compare_steps);
    for (size_t i = 0; i < found.count; i++) {
        bool is_durable = durable_count > 0 &&
                          bsearch(&found.steps[i], durable, durable_count, sizeof *durable, compare_steps) != NULL;
        if (!is_durable && (kept == 0 || found.steps[kept - 1] != found.steps[i]))
            found.steps[kept++] = found.steps[i];
    }
    free(durable);
    *steps = found.steps;
    *count = kept;
    return DCACHE_OK;
}

/* ---- what is kept ---- */

static int newest_first(const void *left, const void *right)
{
    const struct retention_step *a = left, *b = right;

    return (a->sequence < b->sequence) - (a->sequence > b->sequence);
}

static int by_number(const void *left, const void *right)
{
    const struct retention_step *a = left, *b = right;

    return (a->step > b->step) - (a->step < b->step);
}

void retention_mark(struct retention_list *list, const struct retention_rule *rule)
{
    if (list->count == 0)
        return;
    qsort(list->steps, list->count, sizeof *list->steps, newest_first);
    for (size_t i = 0; i < list->count; i++)
        list->steps[i].keep =
            i == 0 || rule->last == 0 || i < rule->last || (rule->every > 0 && list->steps[i].step % rule->every == 0);
    qsort(list->steps, list->count, sizeof *list->steps, by_number);
}

/* ---- removing ---- */

struct removal {
    struct diag *dg;
    struct object_store *store; /* the one at hand */
    const atomic_bool *cancel;
    uint64_t objects;
};

static dcache_status_t visit_to_remove(void *context, const char *key, uint64_t bytes)
{
    struct removal *removal = context;

    (void)bytes;
    if (removal->cancel != NULL && atomic_load(removal->cancel))
        return diag_fail(removal->dg, DCACHE_ERR_CANCELLED, "cancelled");
    dcache_status_t status = diag_failpoint(removal->dg, "retention.object");
    if (status == DCACHE_OK)
        status = removal->store->ops->remove(removal->store, removal->dg, key);
    removal->objects += status == DCACHE_OK;
    return status;
}

/* What is in a store beside the home. Where there is a manifest of this step another job of the same name is at home,
 * and all that is there is left to it. */
static dcache_status_t remove_from_other(struct removal *removal, const char *job, uint64_t step)
{
    struct object_info info;
    char key[OBJECT_KEY_MAX];

    manifest_key(key, job, step);
    dcache_status_t status = removal->store->ops->head(removal->store, removal->dg, key, &info);
    if (status == DCACHE_OK) {
        diag_log(removal->dg, DIAG_WARNING,
                 "what step %" PRIu64 " of job %s has in %.400s stays there: there is a manifest, as if that were the "
                 "first one of its stores",
                 step, job, stripes_url(removal->store, STRIPES_HOME));
        return DCACHE_OK;
    }
    if (status != DCACHE_NOT_FOUND)
        return status;
    manifest_step_prefix(key, job, step);
    return removal->store->ops->list(removal->store, removal->dg, key, visit_to_remove, removal);
}

dcache_status_t retention_remove(struct diag *dg, struct object_store *store, const char *job, uint64_t step,
                                 const atomic_bool *cancel, uint64_t *objects)
{
    struct removal removal = {dg, store, cancel, 0};
    struct object_info info;
    char key[OBJECT_KEY_MAX];

    manifest_key(key, job, step);
    dcache_status_t status = store->ops->head(store, dg, key, &info);
    if (status == DCACHE_OK)
        status = visit_to_remove(&removal, key, 0);
    if (status == DCACHE_NOT_FOUND)
        status = DCACHE_OK;
    for (uint32_t i = 1; status == DCACHE_OK && i < stripes_count(store); i++) {
        removal.store = stripes_store(store, i);
        status = remove_from_other(&removal, job, step);
    }
    removal.store = store;
    manifest_step_prefix(key, job, step);
    if (status == DCACHE_OK)
        status = store->ops->list(store, dg, key, visit_to_remove, &removal);
    if (objects != NULL)
        *objects = removal.objects;
    return status;
}

dcache_status_t retention_apply(struct diag *dg, struct object_store *store, const char *job,
                                const struct retention_rule *rule, struct retention_list *list,
                                const atomic_bool *cancel)
{
    if (rule->last == 0)
        return DCACHE_OK;
    dcache_status_t status = retention_find(dg, store, job, list);
    if (status != DCACHE_OK)
        return status;
    retention_mark(list, rule);
    for (size_t i = 0; status == DCACHE_OK && i < list->count; i++) {
        if (list->steps[i].keep)
            continue;
        if (cancel != NULL && atomic_load(cancel)) /* between steps only: half a step would be left behind */
            return diag_fail(dg, DCACHE_ERR_CANCELLED, "cancelled");
        status = retention_remove(dg, store, job, list->steps[i].step, NULL, NULL);
        if (status == DCACHE_OK)
            diag_log(dg, DIAG_INFO, "step %" PRIu64 " is removed from the object store", list->steps[i].step);
    }
    return status;
}

void retention_list_free(struct retention_list *list)
{
    free(list->steps);
    memset(list, 0, sizeof *list);
}
