#include "io/drain.h"

#include "io/drain_pack.h"
#include "io/object_backend.h"
#include "io/step_objects.h"
#include "io/threads.h"
#include "io/workers.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* One drain_step() under way. Threads read it; what they change is behind the lock. */
struct drain {
    struct diag *dg; /* of the thread that called */
    struct object_store *store;
    const struct drain_request *request;
    struct drain_control *control;
    struct governor governor;
    struct drain_origin origin;
    struct codec_settings codec; /* as the request has it, with what its sources share */
    struct drain_pack_maker packs;
    struct coded_turns turns;
    struct step_objects objects;
    struct manifest stored; /* what the parts of this set say is there already */
    struct drain_tasks tasks;
    pthread_mutex_t lock;   /* of all that follows */
    pthread_cond_t changed; /* `width` has */
    unsigned width;         /* connections that the tasks under way can use */
    struct manifest part;   /* what this drainer stored or found stored; room for all it can be */
    char bad_text[DIAG_TEXT_MAX];
};

/* --- One shard -----------------------------------------------------------------------------------------------------*/

/* Into the part, at the rank's place. There is room: allocate_part() counted. */
static void add_to_part(struct drain *drain, const struct manifest_shard *shard)
{
    struct manifest *part = &drain->part;
    pthread_mutex_lock(&drain->lock);
    size_t at = part->shard_count;
    while (at > 0 && part->shards[at - 1].rank > shard->rank)
        at--;
    if (at == 0 || part->shards[at - 1].rank != shard->rank) {
        memmove(&part->shards[at + 1], &part->shards[at], (part->shard_count - at) * sizeof *shard);
        part->shards[at] = *shard;
        part->shard_count++;
    }
    pthread_mutex_unlock(&drain->lock);
}

static bool is_in_part(struct drain *drain, uint32_t rank)
{
    pthread_mutex_lock(&drain->lock);
    bool found = manifest_find(&drain->part, rank) != NULL;
    pthread_mutex_unlock(&drain->lock);
    return found;
}

static dcache_status_t put_image(struct drain *drain, struct diag *dg, struct drain_image *image,
                                 const struct manifest_shard *shard)
{
    char key[OBJECT_KEY_MAX];
    struct drain_form form = {.codec = CODEC_PLAIN};
    struct manifest_shard stored = *shard;
    dcache_status_t status = diag_failpoint(dg, "drain.shard");
    if (status == DCACHE_OK)
        status = drain_form_open(dg, image, drain->request->codec != NULL ? &drain->codec : NULL, true, &form);
    stored.codec = form.codec;
    stored.store = stripes_of_rank(drain->store, stored.rank);
    struct object_store *target = stripes_store(drain->store, stored.store);
    manifest_object_key(key, drain->request->job, &drain->request->set, &stored);
    if (status == DCACHE_OK)
        status = target->ops->put(target, dg, key, &form.source, OBJECT_REPLACE, &drain->control->cancel);
    if (status == DCACHE_OK && form.codec != CODEC_PLAIN)
        stored.stored_bytes = object_source_bytes(&form.source);
    drain_form_close(&form);
    if (status != DCACHE_OK)
        return status;
    add_to_part(drain, &stored);
    atomic_fetch_add(&drain->control->shards_stored, 1);
    return DCACHE_OK;
}

/* What is wrong with one copy is not the end: other shards go on, and another copy of this one may be good. */
static dcache_status_t note_bad(struct drain *drain, struct diag *dg, dcache_status_t status)
{
    if (status == DCACHE_ERR_NO_MEMORY || status == DCACHE_ERR_CANCELLED || status == DCACHE_ERR_INTERNAL)
        return status;
    diag_log(dg, DIAG_WARNING, "not drained: %s", dg->text);
    pthread_mutex_lock(&drain->lock);
    snprintf(drain->bad_text, sizeof drain->bad_text, "%s", dg->text);
    pthread_mutex_unlock(&drain->lock);
    return DCACHE_OK;
}

/* An opened image: stored already, or to be put. */
static dcache_status_t drain_image(struct drain *drain, struct diag *dg, struct drain_image *image)
{
    const struct manifest_shard shard = drain_image_shard(image);
    const struct manifest_shard *stored = manifest_find(&drain->stored, shard.rank);
    if (stored == NULL) {
        dcache_status_t status = put_image(drain, dg, image, &shard);
        return status != DCACHE_OK && drain_image_is_bad(image) ? note_bad(drain, dg, status) : status;
    }
    if (stored->crc == shard.crc) {
        add_to_part(drain, stored);
        return DCACHE_OK;
    }
    return note_bad(drain, dg,
                    diag_fail(dg, DCACHE_ERR_CORRUPT,
                              "%s has digest %016" PRIx64 ", but a part in the object store lists shard %" PRIu32
                              " of this set with %016" PRIx64 ": remove the part if it is wrong",
                              drain_image_name(image), shard.crc, shard.rank, stored->crc));
}

/* The shard of one rank: the first of its copies that is good. */
static dcache_status_t drain_member(struct drain *drain, struct diag *dg, const struct drain_member *member)
{
    dcache_status_t status = DCACHE_OK;
    for (size_t i = 0; status == DCACHE_OK && i < member->copy_count && !is_in_part(drain, member->rank); i++) {
        struct drain_image *image = NULL;
        status = governor_wait(dg, &drain->governor, 0);
        if (status != DCACHE_OK)
            break;
        status = drain_image_open(dg, &drain->origin, &member->copies[i], &drain->governor, &image);
        status = status == DCACHE_OK ? drain_image(drain, dg, image) : note_bad(drain, dg, status);
        drain_image_close(image);
    }
    return status;
}

/* --- A pack --------------------------------------------------------------------------------------------------------*/

static dcache_status_t put_pack(struct drain *drain, struct diag *dg, struct drain_pack *pack)
{
    struct object_store *target = stripes_store(drain->store, pack->store);
    char prefix[OBJECT_KEY_MAX];
    char key[2 * OBJECT_KEY_MAX];
    const struct object_source source = drain_pack_source(pack);
    manifest_step_prefix(prefix, drain->request->job, drain->request->set.step);
    snprintf(key, sizeof key, "%s%s", prefix, pack->name);
    dcache_status_t status = diag_failpoint(dg, "drain.pack");
    if (status == DCACHE_OK)
        status = target->ops->put(target, dg, key, &source, OBJECT_REPLACE, &drain->control->cancel);
    if (status != DCACHE_OK)
        return status;
    for (size_t i = 0; i < pack->count; i++) {
        add_to_part(drain, &pack->shards[i]);
        atomic_fetch_add(&drain->control->bytes_stored, pack->shards[i].bytes);
    }
    atomic_fetch_add(&drain->control->shards_stored, pack->count);
    return DCACHE_OK;
}

/* One attempt; `next` says which copy of each member is to be tried. `again`: without the copy that was bad. */
static dcache_status_t try_pack(struct drain *drain, struct diag *dg, const struct drain_task *task, size_t *next,
                                bool *again)
{
    struct drain_pack pack;
    *again = false;
    dcache_status_t status = drain_pack_open(dg, &drain->packs, task, next, &pack);
    if (status != DCACHE_OK || pack.count == 0) {
        drain_pack_close(&pack);
        return status;
    }
    pack.store = stripes_of_pack(drain->store, drain->packs.writer, (size_t)(task - drain->tasks.list));
    status = put_pack(drain, dg, &pack);
    if (status != DCACHE_OK && pack.bad < pack.count) {
        *again = true;
        for (size_t i = 0; i < task->member_count; i++)
            next[i] += task->members[i].rank == pack.copies[pack.bad]->rank;
        status = note_bad(drain, dg, status);
    }
    drain_pack_close(&pack);
    return status;
}

static dcache_status_t drain_pack(struct drain *drain, struct diag *dg, const struct drain_task *task)
{
    size_t *next = calloc(task->member_count, sizeof *next);
    bool again = true;
    dcache_status_t status = DCACHE_OK;
    if (next == NULL)
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "out of memory for a pack of %zu shards", task->member_count);
    while (status == DCACHE_OK && again)
        status = try_pack(drain, dg, task, next, &again);
    free(next);
    return status;
}

/* --- Several at a time ---------------------------------------------------------------------------------------------*/

/* So many connections the tasks under way may ask for: twice what there are, less one. Then there is always one more
 * shard to send when one comes to its end, and with one connection they still go one by one. */
static unsigned width_limit(const struct drain *drain)
{
    return 2 * drain->store->policy.connections - 1;
}

/* False: another task has failed meanwhile. */
static bool enter(struct drain *drain, unsigned width, const atomic_bool *stop)
{
    pthread_mutex_lock(&drain->lock);
    while (drain->width >= width_limit(drain) && !atomic_load(stop)) {
        const struct timespec until = threads_deadline(0.1);
        pthread_cond_timedwait(&drain->changed, &drain->lock, &until);
    }
    const bool stopped = atomic_load(stop);
    if (!stopped)
        drain->width += width;
    pthread_mutex_unlock(&drain->lock);
    return !stopped;
}

static void leave(struct drain *drain, unsigned width)
{
    pthread_mutex_lock(&drain->lock);
    drain->width -= width;
    pthread_cond_broadcast(&drain->changed);
    pthread_mutex_unlock(&drain->lock);
}

static dcache_status_t run_task(void *context, const struct workers_turn *turn)
{
    struct drain *drain = context;
    const struct drain_task *task = &drain->tasks.list[turn->task];
    if (!enter(drain, task->width, turn->stop))
        return diag_fail(turn->dg, DCACHE_ERR_CANCELLED, "cancelled");
    dcache_status_t status =
        task->member_count > 1 ? drain_pack(drain, turn->dg, task) : drain_member(drain, turn->dg, &task->members[0]);
    leave(drain, task->width);
    return status;
}

static struct drain_tasks_rule rule_of(const struct drain *drain)
{
    const struct object_policy *policy = &drain->store->policy;
    return (struct drain_tasks_rule){.block_bytes = drain->packs.room,
                                     .connections = policy->connections,
                                     .pack_below = drain->store->ops->by_request ? drain->codec.pack_below : 0,
                                     .coded = drain->codec.compress != COMPRESS_NONE || drain->codec.key != NULL};
}

static dcache_status_t store_shards(struct drain *drain)
{
    const struct drain_request *request = drain->request;
    const struct drain_tasks_rule rule = rule_of(drain);
    dcache_status_t status = drain_tasks_make(drain->dg, &drain->origin, request->items, request->item_count,
                                              &drain->stored, &rule, &drain->tasks);
    if (status == DCACHE_OK)
        status = workers_run(drain->dg, width_limit(drain), drain->tasks.count, run_task, drain);
    return status;
}

/* --- The step's objects as they are --------------------------------------------------------------------------------*/

static bool any_item_is_there(const struct drain *drain)
{
    for (size_t i = 0; i < drain->request->item_count; i++) {
        if (step_objects_may_have(&drain->objects, drain->request->items[i].rank))
            return true;
    }
    return false;
}

/* This drainer's own part of an earlier try, whose shards belong into the new one. DCACHE_OK also when there is none.
 */
static dcache_status_t keep_own_part(struct drain *drain)
{
    char key[OBJECT_KEY_MAX];
    char *text = NULL;
    size_t bytes = 0;
    struct manifest own = {.shards = NULL};
    manifest_part_key(key, drain->request->job, &drain->request->set, drain->request->drainer);
    dcache_status_t status = object_store_get_bytes(drain->store, drain->dg, key, MANIFEST_BYTES_MAX, &text, &bytes);
    if (status == DCACHE_NOT_FOUND)
        return DCACHE_OK;
    if (status != DCACHE_OK)
        return status;
    status = manifest_decode(drain->dg, key, text, bytes, &own);
    free(text);
    if (status == DCACHE_ERR_NO_MEMORY)
        return status;
    /* Believed as far as step_objects_unite() did: a shard of this set that is there in that size. */
    for (size_t i = 0; status == DCACHE_OK && i < own.shard_count; i++) {
        const struct manifest_shard *stored = manifest_find(&drain->stored, own.shards[i].rank);
        if (stored != NULL && stored->crc == own.shards[i].crc && shard_same_set(&own.set, &drain->request->set))
            add_to_part(drain, stored);
    }
    manifest_free(&own);
    return DCACHE_OK;
}

static bool own_part_is_listed(const struct drain *drain)
{
    char key[OBJECT_KEY_MAX];
    manifest_part_key(key, drain->request->job, &drain->request->set, drain->request->drainer);
    for (size_t i = 0; i < drain->objects.part_count; i++) {
        if (strcmp(drain->objects.parts[i], key) == 0)
            return true;
    }
    return false;
}

static dcache_status_t allocate_part(struct drain *drain)
{
    const struct drain_request *request = drain->request;
    size_t most = request->item_count + drain->stored.shard_count;
    drain->part.set = request->set;
    snprintf(drain->part.job, sizeof drain->part.job, "%s", request->job);
    snprintf(drain->part.drainer, sizeof drain->part.drainer, "%s", request->drainer);
    drain->part.shards = calloc(most > 0 ? most : 1, sizeof *drain->part.shards);
    if (drain->part.shards == NULL)
        return diag_fail(drain->dg, DCACHE_ERR_NO_MEMORY, "out of memory for a part of %zu shards", most);
    return manifest_name_stores(drain->dg, drain->store, &drain->part);
}

/* Nobody can have listed a shard that is not there: then the parts need not be read, and a first drain of a step by
 * many drainers costs each of them one listing. */
static dcache_status_t see_what_is_stored(struct drain *drain)
{
    const struct drain_request *request = drain->request;
    dcache_status_t status = DCACHE_OK;
    if (any_item_is_there(drain) || own_part_is_listed(drain))
        status = step_objects_unite(drain->dg, drain->store, &drain->objects, request->job, &drain->stored);
    if (status == DCACHE_OK)
        status = allocate_part(drain);
    if (status == DCACHE_OK && own_part_is_listed(drain))
        status = keep_own_part(drain);
    return status;
}

static dcache_status_t commit(struct drain *drain, bool *durable)
{
    const struct drain_request *request = drain->request;
    dcache_status_t status = diag_failpoint(drain->dg, "drain.part");
    if (status == DCACHE_OK) /* again: the shards may have taken hours, or this process may have been stopped */
        status = claim_check(drain->dg, drain->store, request->job, request->guard);
    if (status == DCACHE_OK)
        status = manifest_commit(drain->dg, drain->store, &drain->part, durable);
    if (status != DCACHE_OK || *durable)
        return status;
    for (size_t i = 0; i < request->item_count; i++) {
        if (manifest_find(&drain->part, request->items[i].rank) == NULL)
            return diag_fail(drain->dg, DCACHE_ERR_CORRUPT, "%s", drain->bad_text);
    }
    return DCACHE_OK;
}

static dcache_status_t mark_stores(struct drain *drain)
{
    if (atomic_load(&drain->control->marked))
        return DCACHE_OK;
    dcache_status_t status = stripes_mark(drain->dg, drain->store, drain->request->job);
    atomic_store(&drain->control->marked, status == DCACHE_OK);
    return status;
}

static dcache_status_t store_and_commit(struct drain *drain, bool *durable)
{
    dcache_status_t status = see_what_is_stored(drain);
    if (status == DCACHE_OK)
        status = mark_stores(drain);
    if (status == DCACHE_OK)
        status = store_shards(drain);
    if (status == DCACHE_OK)
        status = commit(drain, durable);
    return status;
}

/* The number that names this process's packs. Without random numbers the clock has to do. */
static uint64_t writer_of(struct drain_control *control)
{
    uint64_t drawn = 0;
    uint64_t none = 0;
    if (getrandom(&drawn, sizeof drawn, 0) != (ssize_t)sizeof drawn || drawn == 0)
        drawn = (uint64_t)(threads_now() * 1e9) | 1;
    atomic_compare_exchange_strong(&control->writer, &none, drawn);
    return atomic_load(&control->writer);
}

static void prepare(struct drain *drain)
{
    const struct drain_request *request = drain->request;
    threads_init(&drain->lock, &drain->changed);
    drain->governor = governor_make(drain->store, drain->control);
    drain->origin = (struct drain_origin){.job = request->job, .set = request->set, .stores = request->stores};
    if (request->codec != NULL)
        drain->codec = *request->codec;
    drain->codec.turns = &drain->turns;
    drain->turns.cpu_ns = &drain->control->work_cpu_ns;
    sem_init(&drain->turns.free, 0, drain->codec.threads > 0 ? drain->codec.threads : 1);
    const uint64_t block_bytes = drain->store->policy.block_bytes;
    drain->packs = (struct drain_pack_maker){.origin = &drain->origin,
                                             .governor = &drain->governor,
                                             .settings = request->codec != NULL ? &drain->codec : NULL,
                                             .room = block_bytes > 0 ? block_bytes : OBJECT_BLOCK_BYTES,
                                             .writer = writer_of(drain->control)};
}

static void clean_up(struct drain *drain)
{
    drain_tasks_free(&drain->tasks);
    manifest_free(&drain->stored);
    manifest_free(&drain->part);
    step_objects_free(&drain->objects);
    sem_destroy(&drain->turns.free);
    pthread_cond_destroy(&drain->changed);
    pthread_mutex_destroy(&drain->lock);
}

/* Another job of the same name, at home where this one has a stripe: what is removed of the one would be the other's.
 */
static dcache_status_t check_homes(struct drain *drain)
{
    const struct drain_request *request = drain->request;
    if (drain->objects.other_home == STRIPES_HOME)
        return DCACHE_OK;
    return diag_fail(drain->dg, DCACHE_ERR_EXISTS,
                     "job %s: step %" PRIu64
                     " has a manifest in %.400s, which is not the first of the stores here: name "
                     "that one first, or use another job name",
                     request->job, request->set.step, stripes_url(drain->store, drain->objects.other_home));
}

/* Who put the manifest may have been killed before it had removed what other attempts left. */
static void remove_leftovers(struct drain *drain)
{
    struct diag quiet = *drain->dg;
    struct manifest manifest;
    if (drain->objects.foreign_count == 0 ||
        manifest_load(&quiet, drain->store, drain->request->job, drain->request->set.step, &manifest) != DCACHE_OK)
        return;
    if (shard_same_set(&manifest.set, &drain->request->set))
        step_objects_remove_unused(drain->dg, drain->store, &drain->objects, &manifest);
    manifest_free(&manifest);
}

dcache_status_t drain_step(struct diag *dg, struct object_store *store, const struct drain_request *request,
                           struct drain_control *control, bool *durable)
{
    struct drain drain = {.dg = dg, .store = store, .request = request, .control = control};
    bool found = false;
    prepare(&drain);
    dcache_status_t status = diag_failpoint(dg, "drain.begin");
    if (status == DCACHE_OK)
        status = step_objects_list(dg, store, request->job, &request->set, &drain.objects);
    if (status == DCACHE_OK)
        status = check_homes(&drain);
    if (status == DCACHE_OK && drain.objects.manifest)
        status = manifest_check(dg, store, request->job, &request->set, &found);
    if (status == DCACHE_OK && found)
        remove_leftovers(&drain);
    if (status == DCACHE_OK && !found)
        status = claim_check(dg, store, request->job, request->guard);
    if (status == DCACHE_OK && !found)
        status = store_and_commit(&drain, &found);
    clean_up(&drain);
    if (status == DCACHE_OK)
        *durable = found;
    return status;
}

void drain_report_text(const struct drain_report *report, char text[DRAIN_REPORT_MAX])
{
    const double rate = report->seconds > 0 ? (double)report->bytes / 1e6 / report->seconds : 0;
    snprintf(text, DRAIN_REPORT_MAX,
             "%" PRIu64 " shards, %.1f MB in %.1f s (%.1f MB/s, %.2f CPU s), %" PRIu64 " requests, %" PRIu64
             " retries, %" PRIu64 " throttled, %" PRIu64 " hedged",
             report->shards, (double)report->bytes / 1e6, report->seconds, rate, report->cpu_seconds,
             report->traffic.requests, report->traffic.retries, report->traffic.throttled, report->traffic.hedged);
}
