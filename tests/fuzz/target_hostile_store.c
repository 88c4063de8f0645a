/* An object store that lists and returns anything: lines "key size", an empty line, and the text of every object. What
 * the commit makes of it stays within the step's own keys. */
#include "fuzz.h"

#include "io/manifest.h"
#include "io/step_objects.h"

#include <stdlib.h>
#include <string.h>

static const struct shard_set set = {.step = 1, .sequence = 5, .epoch = 7, .world_size = 2};

struct hostile_store {
    struct object_store base;
    const char *listing;
    const char *body; /* of every object */
};

static void require_key(const char *key)
{
    fuzz_require(object_key_valid(key) && strncmp(key, "job/1/", 6) == 0, "only keys of the step are used");
}

static dcache_status_t put(struct object_store *store, struct diag *dg, const char *key,
                           const struct object_source *source, enum object_condition condition,
                           const atomic_bool *cancel)
{
    (void)store;
    (void)source;
    (void)cancel;
    require_key(key);
    return condition == OBJECT_REPLACE ? DCACHE_OK : diag_fail(dg, DCACHE_ERR_EXISTS, "it is there already");
}

static dcache_status_t head(struct object_store *store, struct diag *dg, const char *key, struct object_info *info)
{
    struct hostile_store *hostile = (struct hostile_store *)store;
    (void)dg;
    require_key(key);
    memset(info, 0, sizeof *info);
    info->bytes = strlen(hostile->body);
    return DCACHE_OK;
}

static dcache_status_t get(struct object_store *store, struct diag *dg, const char *key, const char *etag,
                           uint64_t offset, void *buffer, size_t bytes)
{
    struct hostile_store *hostile = (struct hostile_store *)store;
    (void)etag;
    require_key(key);
    if (offset > strlen(hostile->body) || bytes > strlen(hostile->body) - offset)
        return diag_fail(dg, DCACHE_ERR_CORRUPT, "it is shorter");
    memcpy(buffer, hostile->body + offset, bytes);
    return DCACHE_OK;
}

static dcache_status_t list(struct object_store *store, struct diag *dg, const char *prefix, object_visitor visit,
                            void *context)
{
    char *copy = strdup(((struct hostile_store *)store)->listing);
    char *rest = copy;
    dcache_status_t status = copy != NULL ? DCACHE_OK : diag_fail(dg, DCACHE_ERR_NO_MEMORY, "out of memory");
    for (char *line = strsep(&rest, "\n"); line != NULL && status == DCACHE_OK; line = strsep(&rest, "\n")) {
        char *blank = strrchr(line, ' ');
        uint64_t bytes = blank != NULL ? strtoull(blank + 1, NULL, 10) : 0;
        if (blank != NULL)
            *blank = '\0';
        if (strncmp(line, prefix, strlen(prefix)) == 0)
            status = visit(context, line, bytes);
    }
    free(copy);
    return status;
}

static dcache_status_t delete_object(struct object_store *store, struct diag *dg, const char *key)
{
    (void)store;
    (void)dg;
    require_key(key);
    return DCACHE_OK;
}

static const struct object_store_ops operations = {
    .scheme = "hostile", .put = put, .get = get, .head = head, .list = list, .remove = delete_object};

static void list_all(struct object_store *store)
{
    uint64_t *steps = NULL;
    char **jobs = NULL;
    size_t count = 0;
    struct diag *dg = fuzz_diag();
    dcache_status_t status = manifest_list_steps(dg, store, "job", &steps, &count);
    for (size_t i = 0; status == DCACHE_OK && i < count; i++)
        fuzz_require(steps[i] <= DCACHE_STEP_MAX && (i == 0 || steps[i - 1] <= steps[i]), "steps ascend");
    free(steps);
    count = 0;
    status = manifest_list_jobs(dg, store, &jobs, &count);
    for (size_t i = 0; status == DCACHE_OK && i < count; i++) {
        fuzz_require(shard_job_valid(jobs[i]), "jobs have names that are no paths");
        free(jobs[i]);
    }
    free(jobs);
}

static void commit(struct object_store *store)
{
    struct manifest_shard shards[1] = {{.rank = 0, .bytes = 8192, .crc = 1}};
    const struct manifest part = {.job = "job", .set = set, .drainer = "r0", .shard_count = 1, .shards = shards};
    struct diag *dg = fuzz_diag();
    struct manifest found;
    bool durable = false;
    dcache_status_t status = manifest_load(dg, store, "job", set.step, &found);
    if (status == DCACHE_OK) {
        fuzz_require(found.shard_count == found.set.world_size && found.set.step == set.step,
                     "a manifest that is loaded has all ranks of its step");
        manifest_free(&found);
    }
    status = manifest_commit(dg, store, &part, &durable);
    fuzz_require_text(dg, status);
    if (durable) {
        status = manifest_load(dg, store, "job", set.step, &found);
        fuzz_require(status == DCACHE_OK && shard_same_set(&found.set, &set), "durable means the manifest is there");
        manifest_free(&found);
    }
}

static void unite(struct object_store *store)
{
    struct diag *dg = fuzz_diag();
    struct step_objects objects;
    struct manifest united;
    dcache_status_t status = step_objects_list(dg, store, "job", &set, &objects);
    if (status != DCACHE_OK)
        return;
    status = step_objects_unite(dg, store, &objects, "job", &united);
    fuzz_require_text(dg, status);
    for (size_t i = 0; status == DCACHE_OK && i < united.shard_count; i++) {
        char name[MANIFEST_OBJECT_MAX + 1];
        manifest_object_name(&set, &united.shards[i], name);
        fuzz_require(step_objects_find(&objects, 0, name) != NULL, "a shard is believed only where it is there");
        fuzz_require(united.shards[i].rank < set.world_size, "ranks are below the world size");
    }
    if (status == DCACHE_OK)
        manifest_free(&united);
    step_objects_free(&objects);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hostile_store store = {.base.ops = &operations, .body = ""};
    char *text = fuzz_text(data, size);
    char *body = strstr(text, "\n\n");
    if (body != NULL) {
        *body = '\0';
        store.body = body + 2;
    }
    store.listing = text;
    list_all(&store.base);
    unite(&store.base);
    commit(&store.base);
    free(text);
    return 0;
}
