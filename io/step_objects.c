#include "io/step_objects.h"

#include "io/json_field.h"
#include "io/pack_name.h"
#include "io/workers.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* --- Listing -------------------------------------------------------------------------------------------------------*/

/* All stores' objects. */
struct listing {
    pthread_mutex_t lock; /* of all that follows: stores beside the home are listed at the same time */
    size_t prefix_length;
    struct step_objects objects;
    size_t room;
    size_t part_room;
    struct object_store *home;
    const char *prefix;
};

/* One store that is being listed. */
struct listed {
    struct listing *listing;
    struct diag *dg;
    uint32_t store;
};

/* Room for one more element; `array` points to the array's pointer. */
static bool make_room(void **array, size_t count, size_t *room, size_t element_bytes)
{
    if (count < *room)
        return true;
    size_t wanted = *room > 0 ? *room * 2 : 16;
    void *larger = realloc(*array, wanted * element_bytes);
    if (larger == NULL)
        return false;
    *array = larger;
    *room = wanted;
    return true;
}

/* The names that a shard's own object can have: with the set's sequence, or as earlier versions did it. */
#define OWN_NAMES (2 * CODECS)

static void own_name(const struct shard_set *set, uint32_t rank, uint32_t index, char name[MANIFEST_OBJECT_MAX + 1])
{
    const struct manifest_shard shard = {.rank = rank, .codec = index % CODECS};
    if (index < CODECS)
        manifest_object_name(set, &shard, name);
    else
        manifest_early_name(rank, (enum codec)(index % CODECS), name);
}

/* "shard-<rank>-<sequence>.h5" or "shard-<rank>.h5" in one of its forms, the numbers written as we write them.
 * `foreign`: the sequence is not `set`'s. */
static bool parse_shard_name(const char *name, const struct shard_set *set, uint32_t *rank, bool *foreign)
{
    char again[MANIFEST_OBJECT_MAX + 1];
    char *end = NULL;
    struct shard_set named = *set;
    if (strncmp(name, "shard-", 6) != 0 || name[6] < '0' || name[6] > '9')
        return false;
    unsigned long long number = strtoull(name + 6, &end, 10);
    if (number >= UINT32_MAX)
        return false;
    if (end[0] == '-' && end[1] >= '0' && end[1] <= '9')
        named.sequence = strtoull(end + 1, NULL, 10);
    *rank = (uint32_t)number;
    *foreign = named.sequence != set->sequence;
    for (uint32_t i = 0; i < OWN_NAMES; i++) {
        own_name(&named, *rank, i, again);
        if (strcmp(name, again) == 0)
            return true;
    }
    return false;
}

static bool is_part_name(const char *name)
{
    size_t length = strlen(name);
    return strncmp(name, "part-", 5) == 0 && length > 10 && strcmp(name + length - 5, ".json") == 0;
}

static dcache_status_t add_object(const struct listed *listed, const char *name, const struct step_object *found)
{
    struct listing *listing = listed->listing;
    struct step_objects *objects = &listing->objects;
    void *list = objects->list;
    if (!make_room(&list, objects->count, &listing->room, sizeof *objects->list))
        return diag_fail(listed->dg, DCACHE_ERR_NO_MEMORY, "out of memory for a list of shards");
    objects->list = list;
    struct step_object *object = &objects->list[objects->count++];
    *object = *found;
    snprintf(object->name, sizeof object->name, "%s", name);
    objects->pack_count += found->rank == STEP_OBJECT_PACK ? 1 : 0;
    objects->foreign_count += found->foreign ? 1 : 0;
    return DCACHE_OK;
}

static dcache_status_t add_part(const struct listed *listed, const char *key)
{
    struct listing *listing = listed->listing;
    struct step_objects *objects = &listing->objects;
    void *parts = objects->parts;
    char *copy = strdup(key);
    if (copy == NULL || !make_room(&parts, objects->part_count, &listing->part_room, sizeof *objects->parts)) {
        free(copy);
        return diag_fail(listed->dg, DCACHE_ERR_NO_MEMORY, "out of memory for a list of parts");
    }
    objects->parts = parts;
    objects->parts[objects->part_count++] = copy;
    return DCACHE_OK;
}

/* An object of the step, by its name. */
static dcache_status_t add(const struct listed *listed, const char *key, const char *name, uint64_t bytes)
{
    struct step_objects *objects = &listed->listing->objects;
    const bool is_home = listed->store == STRIPES_HOME;
    struct step_object found = {.bytes = bytes, .store = listed->store};
    if (strcmp(name, "manifest.json") == 0 && !is_home)
        objects->other_home = listed->store;
    else if (strcmp(name, "manifest.json") == 0)
        objects->manifest = true;
    else if (is_part_name(name))
        return is_home ? add_part(listed, key) : DCACHE_OK;
    else if (parse_shard_name(name, &objects->set, &found.rank, &found.foreign))
        return add_object(listed, name, &found);
    found = (struct step_object){.bytes = bytes, .rank = STEP_OBJECT_PACK, .store = listed->store};
    return manifest_is_pack_name(name) ? add_object(listed, name, &found) : DCACHE_OK;
}

static dcache_status_t visit(void *context, const char *key, uint64_t bytes)
{
    const struct listed *listed = context;
    struct listing *listing = listed->listing;
    if (!object_key_valid(key) || strlen(key) <= listing->prefix_length)
        return DCACHE_OK;
    pthread_mutex_lock(&listing->lock);
    dcache_status_t status = add(listed, key, key + listing->prefix_length, bytes);
    pthread_mutex_unlock(&listing->lock);
    return status;
}

static dcache_status_t list_one(struct listing *listing, struct diag *dg, uint32_t number)
{
    struct listed listed = {.listing = listing, .dg = dg, .store = number};
    struct object_store *store = stripes_store(listing->home, number);
    return store->ops->list(store, dg, listing->prefix, visit, &listed);
}

static dcache_status_t list_other(void *context, const struct workers_turn *turn)
{
    return list_one(context, turn->dg, (uint32_t)turn->task + 1);
}

static int compare_names(const void *left, const void *right)
{
    const struct step_object *a = left;
    const struct step_object *b = right;
    const int order = strcmp(a->name, b->name);
    return order != 0 ? order : (a->store > b->store) - (a->store < b->store);
}

dcache_status_t step_objects_list(struct diag *dg, struct object_store *store, const char *job,
                                  const struct shard_set *set, struct step_objects *objects)
{
    char prefix[OBJECT_KEY_MAX];
    manifest_step_prefix(prefix, job, set->step);
    struct listing listing = {.prefix_length = strlen(prefix), .objects.set = *set, .home = store, .prefix = prefix};
    const uint32_t count = stripes_count(store);
    listing.objects.store_count = count;
    pthread_mutex_init(&listing.lock, NULL);
    /* First the home: what its parts tell of was put before them. */
    dcache_status_t status = list_one(&listing, dg, STRIPES_HOME);
    if (status == DCACHE_OK && count > 1)
        status = workers_run(dg, count - 1, count - 1, list_other, &listing);
    pthread_mutex_destroy(&listing.lock);
    if (status != DCACHE_OK) {
        step_objects_free(&listing.objects);
        return status;
    }
    if (listing.objects.count > 0)
        qsort(listing.objects.list, listing.objects.count, sizeof(struct step_object), compare_names);
    *objects = listing.objects;
    return DCACHE_OK;
}

void step_objects_free(struct step_objects *objects)
{
    for (size_t i = 0; i < objects->part_count; i++)
        free(objects->parts[i]);
    free(objects->parts);
    free(objects->list);
    memset(objects, 0, sizeof *objects);
}

const struct step_object *step_objects_find(const struct step_objects *objects, uint32_t store, const char *name)
{
    struct step_object wanted = {.store = store};
    if (objects->count == 0 || strlen(name) > MANIFEST_OBJECT_MAX)
        return NULL;
    snprintf(wanted.name, sizeof wanted.name, "%s", name);
    return bsearch(&wanted, objects->list, objects->count, sizeof wanted, compare_names);
}

/* A pack may have the ranks that its name tells of, or any when that tells of none. */
static bool pack_may_have(const struct step_objects *objects, uint32_t rank)
{
    for (size_t i = 0; objects->pack_count > 0 && i < objects->count; i++) {
        struct pack_name name;
        if (objects->list[i].rank == STEP_OBJECT_PACK &&
            (!pack_name_parse(objects->list[i].name, &name) || (name.first <= rank && rank <= name.last)))
            return true;
    }
    return false;
}

bool step_objects_may_have(const struct step_objects *objects, uint32_t rank)
{
    char name[MANIFEST_OBJECT_MAX + 1];
    for (uint32_t i = 0; i < OWN_NAMES; i++) {
        own_name(&objects->set, rank, i, name);
        for (uint32_t store = 0; store < objects->store_count; store++) {
            if (step_objects_find(objects, store, name) != NULL)
                return true;
        }
    }
    return pack_may_have(objects, rank);
}

size_t step_objects_most(const struct step_objects *objects)
{
    size_t most = objects->count - objects->pack_count - objects->foreign_count;
    for (size_t i = 0; objects->pack_count > 0 && i < objects->count; i++) {
        struct pack_name name;
        if (objects->list[i].rank != STEP_OBJECT_PACK)
            continue;
        if (!pack_name_parse(objects->list[i].name, &name) || most > SIZE_MAX - name.count)
            return SIZE_MAX;
        most += name.count;
    }
    return most;
}

/* --- What nobody needs ---------------------------------------------------------------------------------------------*/

struct unused {
    struct object_store *store;
    const struct step_objects *objects;
    char prefix[OBJECT_KEY_MAX];
    size_t count;
    size_t *list; /* indices: objects, then, from the objects' count on, parts */
};

/* By its key: of earlier versions' parts, which do not tell their set, none is needed either. */
static bool part_is_of_set(const char *key, const struct shard_set *set)
{
    char end[40];
    const int length = snprintf(end, sizeof end, "-%" PRIu64 ".json", set->sequence);
    return strlen(key) > (size_t)length && strcmp(key + strlen(key) - (size_t)length, end) == 0;
}

/* False: out of memory. */
static bool find_unused(struct unused *unused, const struct manifest *manifest)
{
    const struct step_objects *objects = unused->objects;
    const size_t all = objects->count + objects->part_count;
    bool *used = calloc(all + 1, sizeof *used);
    unused->list = calloc(all + 1, sizeof *unused->list);
    if (used == NULL || unused->list == NULL) {
        free(used);
        return false;
    }
    for (size_t i = 0; i < manifest->shard_count; i++) {
        char name[MANIFEST_OBJECT_MAX + 1];
        manifest_object_name(&manifest->set, &manifest->shards[i], name);
        const struct step_object *object = step_objects_find(objects, manifest->shards[i].store, name);
        if (object != NULL)
            used[object - objects->list] = true;
    }
    for (size_t i = 0; i < objects->part_count; i++)
        used[objects->count + i] = part_is_of_set(objects->parts[i], &manifest->set);
    for (size_t i = 0; i < all; i++) {
        if (!used[i])
            unused->list[unused->count++] = i;
    }
    free(used);
    return true;
}

static dcache_status_t remove_one(void *context, const struct workers_turn *turn)
{
    struct unused *unused = context;
    const struct step_objects *objects = unused->objects;
    const size_t index = unused->list[turn->task];
    char key[OBJECT_KEY_MAX + MANIFEST_OBJECT_MAX + 1];
    if (index >= objects->count)
        return unused->store->ops->remove(unused->store, turn->dg, objects->parts[index - objects->count]);
    struct object_store *store = stripes_store(unused->store, objects->list[index].store);
    snprintf(key, sizeof key, "%s%s", unused->prefix, objects->list[index].name);
    return store->ops->remove(store, turn->dg, key);
}

void step_objects_remove_unused(struct diag *dg, struct object_store *store, const struct step_objects *objects,
                                const struct manifest *manifest)
{
    struct diag quiet = *dg;
    struct unused unused = {.store = store, .objects = objects};
    manifest_step_prefix(unused.prefix, manifest->job, manifest->set.step);
    if (find_unused(&unused, manifest) &&
        workers_run(&quiet, store->policy.connections, unused.count, remove_one, &unused) != DCACHE_OK)
        diag_log(dg, DIAG_WARNING, "objects of step %" PRIu64 " that nobody needs are left behind: %s",
                 manifest->set.step, quiet.text);
    free(unused.list);
}

/* --- Union ---------------------------------------------------------------------------------------------------------*/

/* Is there an object that can have what the part says? One of its own has just that size; a pack, that place. */
static bool is_there(const struct step_objects *objects, const struct manifest_shard *shard)
{
    char name[MANIFEST_OBJECT_MAX + 1];
    manifest_object_name(&objects->set, shard, name);
    const struct step_object *object = step_objects_find(objects, shard->store, name);
    uint64_t stored = manifest_stored_bytes(shard);
    if (object == NULL)
        return false;
    return object->rank != STEP_OBJECT_PACK ? object->bytes == stored
                                            : object->bytes >= stored && object->bytes - stored >= shard->offset;
}

/* One part's word for one shard. */
struct claim {
    struct manifest_shard shard;
    size_t part; /* index into the keys, for the text when two disagree */
};

struct claims {
    struct claim *list;
    size_t count;
    size_t room;
};

static int compare_claims(const void *left, const void *right)
{
    const struct claim *a = left;
    const struct claim *b = right;
    if (a->shard.rank != b->shard.rank)
        return a->shard.rank < b->shard.rank ? -1 : 1;
    return (a->part > b->part) - (a->part < b->part); /* whichever was read first */
}

static dcache_status_t add_claims(struct diag *dg, const struct step_objects *objects, size_t part,
                                  const struct manifest *manifest, struct claims *claims)
{
    for (size_t i = 0; i < manifest->shard_count; i++) {
        const struct manifest_shard *shard = &manifest->shards[i];
        void *list = claims->list;
        if (shard->store == STRIPES_UNKNOWN) {
            diag_log(dg, DIAG_WARNING,
                     "%s lists shard %" PRIu32
                     " in %.400s, which is none of the stores here: it counts as missing, and "
                     "stays there",
                     objects->parts[part], shard->rank, manifest->unknown);
            continue;
        }
        if (!is_there(objects, shard)) {
            diag_log(dg, DIAG_WARNING,
                     "%s lists shard %" PRIu32 ", but it is not there in that size: it counts as missing",
                     objects->parts[part], shard->rank);
            continue;
        }
        if (!make_room(&list, claims->count, &claims->room, sizeof *claims->list))
            return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "out of memory for the shards of %s", objects->parts[part]);
        claims->list = list;
        claims->list[claims->count++] = (struct claim){.shard = *shard, .part = part};
    }
    return DCACHE_OK;
}

/* Read one part. DCACHE_NOT_FOUND when it is not to be used: gone meanwhile, junk, or another job's or step's. */
static dcache_status_t read_part(struct diag *dg, struct object_store *store, const char *key, const char *job,
                                 uint64_t step, struct manifest *part)
{
    char *text = NULL;
    size_t bytes = 0;
    dcache_status_t status = object_store_get_bytes(store, dg, key, MANIFEST_BYTES_MAX, &text, &bytes);
    if (status == DCACHE_OK) {
        status = manifest_decode(dg, key, text, bytes, part);
        free(text);
    }
    if (status == DCACHE_ERR_CORRUPT || status == DCACHE_ERR_FORMAT) {
        diag_log(dg, DIAG_WARNING, "ignoring a part: %s", dg->text);
        return DCACHE_NOT_FOUND;
    }
    if (status == DCACHE_OK && (strcmp(part->job, job) != 0 || part->set.step != step)) {
        diag_log(dg, DIAG_WARNING, "ignoring %s: it is of another job or step", key);
        manifest_free(part);
        return DCACHE_NOT_FOUND;
    }
    return status;
}

/* Parts that are being read. */
struct reading {
    struct object_store *store;
    const struct step_objects *objects;
    const struct manifest *wanted;
    pthread_mutex_t lock; /* of the claims */
    struct claims claims;
};

static dcache_status_t use_part(void *context, const struct workers_turn *turn)
{
    struct reading *reading = context;
    const struct manifest *wanted = reading->wanted;
    struct manifest part = {.shards = NULL};
    const char *key = reading->objects->parts[turn->task];
    dcache_status_t status = read_part(turn->dg, reading->store, key, wanted->job, wanted->set.step, &part);
    if (status == DCACHE_OK)
        status = manifest_resolve(turn->dg, reading->store, &part);
    if (status == DCACHE_NOT_FOUND)
        return DCACHE_OK;
    if (status == DCACHE_OK && shard_same_set(&part.set, &wanted->set)) {
        pthread_mutex_lock(&reading->lock);
        status = add_claims(turn->dg, reading->objects, turn->task, &part, &reading->claims);
        pthread_mutex_unlock(&reading->lock);
    }
    manifest_free(&part);
    return status;
}

/* Several at a time: a part costs two round trips, and a step of a thousand drainers has a thousand parts. */
static dcache_status_t read_parts(struct diag *dg, struct object_store *store, const struct step_objects *objects,
                                  const struct manifest *wanted, struct claims *claims)
{
    struct reading reading = {.store = store, .objects = objects, .wanted = wanted};
    pthread_mutex_init(&reading.lock, NULL);
    dcache_status_t status = workers_run(dg, store->policy.connections, objects->part_count, use_part, &reading);
    pthread_mutex_destroy(&reading.lock);
    *claims = reading.claims;
    if (claims->count > 0)
        qsort(claims->list, claims->count, sizeof *claims->list, compare_claims);
    return status;
}

/* Sorted claims to one entry a rank. */
static dcache_status_t merge_claims(struct diag *dg, const struct step_objects *objects, const struct claims *claims,
                                    struct manifest *united)
{
    united->shards = calloc(claims->count > 0 ? claims->count : 1, sizeof *united->shards);
    if (united->shards == NULL)
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "out of memory for %zu shards", claims->count);
    for (size_t i = 0; i < claims->count; i++) {
        const struct claim *claim = &claims->list[i];
        if (i == 0 || claim[-1].shard.rank != claim->shard.rank)
            united->shards[united->shard_count++] = claim->shard;
        else if (claim[-1].shard.crc != claim->shard.crc)
            return diag_fail(dg, DCACHE_ERR_CORRUPT,
                             "%s and %s disagree about the digest of shard %" PRIu32 ": remove the wrong one",
                             objects->parts[claim[-1].part], objects->parts[claim->part], claim->shard.rank);
    }
    return DCACHE_OK;
}

dcache_status_t step_objects_unite(struct diag *dg, struct object_store *store, const struct step_objects *objects,
                                   const char *job, struct manifest *united)
{
    struct claims claims = {.list = NULL};
    struct manifest result = {.set = objects->set};
    snprintf(result.job, sizeof result.job, "%s", job);
    dcache_status_t status = read_parts(dg, store, objects, &result, &claims);
    if (status == DCACHE_OK)
        status = merge_claims(dg, objects, &claims, &result);
    if (status == DCACHE_OK)
        status = manifest_name_stores(dg, store, &result);
    free(claims.list);
    if (status != DCACHE_OK) {
        manifest_free(&result);
        return status;
    }
    *united = result;
    return DCACHE_OK;
}
