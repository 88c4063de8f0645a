#include "io/manifest.h"

#include "io/json_field.h"
#include "io/step_objects.h"

#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

static const char format_name[] = "dcache-manifest";

#define VERSION_NAMES  3 /* the names of shards' own objects have the set's sequence */
#define VERSION_STORES 4 /* which store a shard is in */

void manifest_step_prefix(char *key, const char *job, uint64_t step)
{
    snprintf(key, OBJECT_KEY_MAX, "%s/%" PRIu64 "/", job, step);
}

void manifest_key(char *key, const char *job, uint64_t step)
{
    snprintf(key, OBJECT_KEY_MAX, "%s/%" PRIu64 "/manifest.json", job, step);
}

/* With the sequence in it: whoever removes the parts of an earlier attempt at the step must not meet, under the same
 * key, the part that this attempt's drainer has just put (docs/model.md). */
void manifest_part_key(char *key, const char *job, const struct shard_set *set, const char *drainer)
{
    snprintf(key, OBJECT_KEY_MAX, "%s/%" PRIu64 "/part-%s-%" PRIu64 ".json", job, set->step, drainer, set->sequence);
}

void manifest_early_name(uint32_t rank, enum codec codec, char name[MANIFEST_OBJECT_MAX + 1])
{
    snprintf(name, MANIFEST_OBJECT_MAX + 1, "shard-%" PRIu32 ".h5%s", rank, codec_suffix(codec));
}

/* With the sequence in it, too: nobody who drains another set of the step can replace the shard. */
void manifest_object_name(const struct shard_set *set, const struct manifest_shard *shard,
                          char name[MANIFEST_OBJECT_MAX + 1])
{
    if (shard->object[0] != '\0')
        memcpy(name, shard->object, MANIFEST_OBJECT_MAX + 1);
    else
        snprintf(name, MANIFEST_OBJECT_MAX + 1, "shard-%" PRIu32 "-%" PRIu64 ".h5%s", shard->rank, set->sequence,
                 codec_suffix((enum codec)shard->codec));
}

void manifest_object_key(char *key, const char *job, const struct shard_set *set, const struct manifest_shard *shard)
{
    char name[MANIFEST_OBJECT_MAX + 1];
    manifest_object_name(set, shard, name);
    snprintf(key, OBJECT_KEY_MAX, "%s/%" PRIu64 "/%s", job, set->step, name);
}

static bool has_early_name(const struct manifest_shard *shard)
{
    char name[MANIFEST_OBJECT_MAX + 1];
    manifest_early_name(shard->rank, (enum codec)shard->codec, name);
    return strcmp(shard->object, name) == 0;
}

bool manifest_in_pack(const struct manifest_shard *shard)
{
    return manifest_is_pack_name(shard->object);
}

uint64_t manifest_stored_bytes(const struct manifest_shard *shard)
{
    return shard->stored_bytes > 0 ? shard->stored_bytes : shard->bytes;
}

bool manifest_is_pack_name(const char *name)
{
    size_t length = strnlen(name, MANIFEST_OBJECT_MAX + 1);
    return length > 5 && length <= MANIFEST_OBJECT_MAX && strncmp(name, "pack-", 5) == 0 && json_field_is_word(name);
}

void manifest_free(struct manifest *manifest)
{
    free(manifest->shards);
    free(manifest->stores);
    memset(manifest, 0, sizeof *manifest);
}

const struct manifest_shard *manifest_find(const struct manifest *manifest, uint32_t rank)
{
    size_t low = 0;
    size_t high = manifest->shard_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (manifest->shards[middle].rank == rank)
            return &manifest->shards[middle];
        if (manifest->shards[middle].rank < rank)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

/* --- The document --------------------------------------------------------------------------------------------------*/

/* Version 1 knows plain objects of their own only, version 2 packs and codecs, neither of them names with a sequence;
 * none before version 4 knows of other stores: it would look for all shards beside the manifest. */
static int version_needed(const struct manifest *manifest)
{
    int version = 1;
    for (size_t i = 0; i < manifest->shard_count; i++) {
        const struct manifest_shard *shard = &manifest->shards[i];
        int needed = 1;
        if (shard->store != STRIPES_HOME)
            needed = VERSION_STORES;
        else if (shard->object[0] == '\0')
            needed = VERSION_NAMES;
        else if (shard->codec != CODEC_PLAIN || manifest_in_pack(shard))
            needed = 2;
        version = needed > version ? needed : version;
    }
    return version;
}

static int add_stores(json_t *root, const struct manifest *manifest)
{
    json_t *array = json_array();
    int failed = array == NULL;
    for (size_t i = 0; !failed && i < manifest->store_count; i++)
        failed = json_array_append_new(array, json_string(manifest->stores[i]));
    if (failed) {
        json_decref(array);
        return failed;
    }
    return json_object_set_new(root, "stores", array);
}

/* Is the object's name one that a reader of this version makes himself? */
static bool name_is_implied(const struct manifest_shard *shard, int version)
{
    return version < VERSION_NAMES ? !manifest_in_pack(shard) : shard->object[0] == '\0';
}

static int add_stored_form(json_t *entry, const struct manifest_shard *shard, int version)
{
    int failed = json_object_set_new(entry, "stored_bytes", json_integer((json_int_t)manifest_stored_bytes(shard)));
    if (shard->codec != CODEC_PLAIN)
        failed |= json_object_set_new(entry, "codec", json_string(codec_name((enum codec)shard->codec)));
    if (!name_is_implied(shard, version)) {
        failed |= json_object_set_new(entry, "object", json_string(shard->object));
        failed |= json_object_set_new(entry, "offset", json_integer((json_int_t)shard->offset));
    }
    return failed;
}

static json_t *encode_shard(const struct manifest_shard *shard, int version)
{
    char crc[17];
    snprintf(crc, sizeof crc, "%016" PRIx64, shard->crc);
    json_t *entry =
        json_pack("{s:I, s:I, s:s}", "rank", (json_int_t)shard->rank, "bytes", (json_int_t)shard->bytes, "crc64", crc);
    const bool simple = shard->codec == CODEC_PLAIN && name_is_implied(shard, version);
    int failed = entry == NULL;
    if (!failed && !simple)
        failed = add_stored_form(entry, shard, version);
    if (!failed && shard->store != STRIPES_HOME)
        failed = json_object_set_new(entry, "store", json_integer((json_int_t)shard->store - 1));
    if (failed) {
        json_decref(entry);
        entry = NULL;
    }
    return entry;
}

static json_t *encode_shards(const struct manifest *manifest, int version)
{
    json_t *array = json_array();
    for (size_t i = 0; array != NULL && i < manifest->shard_count; i++) {
        if (json_array_append_new(array, encode_shard(&manifest->shards[i], version)) != 0) {
            json_decref(array);
            array = NULL;
        }
    }
    return array;
}

/* The rules for where a shard is, on both ways. */
static bool stored_form_valid(const struct manifest_shard *shard)
{
    if (shard->codec >= CODECS || shard->stored_bytes > MANIFEST_STORED_MAX || shard->offset > MANIFEST_STORED_MAX)
        return false;
    if (shard->codec != CODEC_PLAIN ? shard->stored_bytes == 0 : manifest_stored_bytes(shard) != shard->bytes)
        return false;
    return manifest_in_pack(shard) || (shard->offset == 0 && (shard->object[0] == '\0' || has_early_name(shard)));
}

/* What the reader will refuse is not written. */
static bool can_be_encoded(const struct manifest *manifest)
{
    const struct shard_set *set = &manifest->set;
    if (!json_field_is_word(manifest->job) || !json_field_is_word(manifest->drainer) || set->world_size == 0 ||
        set->world_size > INT_MAX || set->step > INT64_MAX || set->sequence > INT64_MAX)
        return false;
    for (size_t i = 0; i < manifest->shard_count; i++) {
        const struct manifest_shard *shard = &manifest->shards[i];
        if (shard->rank >= set->world_size || shard->bytes > SHARD_FILE_MAX || !stored_form_valid(shard) ||
            shard->store > manifest->store_count || (i > 0 && shard[-1].rank >= shard->rank))
            return false;
    }
    return true;
}

dcache_status_t manifest_encode(struct diag *dg, const struct manifest *manifest, char **text, size_t *bytes)
{
    const struct shard_set *set = &manifest->set;
    char epoch[17];
    if (!can_be_encoded(manifest))
        return diag_fail(dg, DCACHE_ERR_INVALID,
                         "cannot write a manifest for step %" PRIu64
                         ": a name, number or the order of its ranks is out of bounds",
                         set->step);
    const int version = version_needed(manifest);
    snprintf(epoch, sizeof epoch, "%016" PRIx64, set->epoch);
    json_t *root = json_pack("{s:s, s:i, s:s, s:I, s:I, s:s, s:I, s:s, s:o}", "format", format_name, "version", version,
                             "job", manifest->job, "step", (json_int_t)set->step, "sequence", (json_int_t)set->sequence,
                             "epoch", epoch, "world_size", (json_int_t)set->world_size, "drainer", manifest->drainer,
                             "shards", encode_shards(manifest, version));
    if (root != NULL && version >= VERSION_STORES && add_stores(root, manifest) != 0) {
        json_decref(root);
        root = NULL;
    }
    return json_field_print(dg, "a manifest", root, text, bytes);
}

static dcache_status_t decode_head(struct diag *dg, const char *name, const json_t *root, struct manifest *manifest)
{
    struct shard_set *set = &manifest->set;
    uint64_t world_size = 0;
    dcache_status_t status = json_field_word(dg, name, root, "job", manifest->job, sizeof manifest->job);
    if (status == DCACHE_OK)
        status = json_field_word(dg, name, root, "drainer", manifest->drainer, sizeof manifest->drainer);
    if (status == DCACHE_OK)
        status = json_field_number(dg, name, root, "step", 0, DCACHE_STEP_MAX, &set->step);
    if (status == DCACHE_OK)
        status = json_field_number(dg, name, root, "sequence", 0, INT64_MAX, &set->sequence);
    if (status == DCACHE_OK)
        status = json_field_hex(dg, name, root, "epoch", &set->epoch);
    if (status == DCACHE_OK)
        status = json_field_number(dg, name, root, "world_size", 1, INT_MAX, &world_size);
    set->world_size = (uint32_t)world_size;
    return status;
}

/* Absent: the home. */
static dcache_status_t decode_store(struct diag *dg, const char *name, const json_t *entry, size_t store_count,
                                    struct manifest_shard *shard)
{
    uint64_t store = 0;
    if (json_object_get(entry, "store") == NULL)
        return DCACHE_OK;
    dcache_status_t status = json_field_number(dg, name, entry, "store", 0, MANIFEST_STORES_MAX - 1, &store);
    if (status != DCACHE_OK)
        return status;
    if (store >= store_count)
        return diag_fail(dg, DCACHE_ERR_CORRUPT,
                         "%s: rank %" PRIu32 " is in store %" PRIu64 " of \"stores\", which names %zu", name,
                         shard->rank, store, store_count);
    shard->store = (uint32_t)store + 1;
    return DCACHE_OK;
}

/* What versions 2 and 3 have more; each field may be left out. */
static dcache_status_t decode_stored_form(struct diag *dg, const char *name, const json_t *entry,
                                          struct manifest_shard *shard)
{
    char codec_text[32] = "plain";
    enum codec codec = CODEC_PLAIN;
    dcache_status_t status = DCACHE_OK;
    if (json_object_get(entry, "codec") != NULL)
        status = json_field_text(dg, name, entry, "codec", codec_text, sizeof codec_text);
    if (status == DCACHE_OK && !codec_parse(codec_text, &codec))
        status = diag_fail(dg, DCACHE_ERR_FORMAT,
                           "%s: a shard has a codec that this dcache does not know: use the dcache that wrote it or a "
                           "newer one",
                           name);
    shard->codec = codec;
    if (status == DCACHE_OK && json_object_get(entry, "object") != NULL)
        status = json_field_word(dg, name, entry, "object", shard->object, sizeof shard->object);
    if (status == DCACHE_OK && json_object_get(entry, "offset") != NULL)
        status = json_field_number(dg, name, entry, "offset", 0, MANIFEST_STORED_MAX, &shard->offset);
    if (status == DCACHE_OK && json_object_get(entry, "stored_bytes") != NULL)
        status = json_field_number(dg, name, entry, "stored_bytes", 1, MANIFEST_STORED_MAX, &shard->stored_bytes);
    if (status == DCACHE_OK && !stored_form_valid(shard))
        status = diag_fail(dg, DCACHE_ERR_CORRUPT,
                           "%s: where the shard of rank %" PRIu32 " is stored, and in how many bytes, cannot be", name,
                           shard->rank);
    return status;
}

static dcache_status_t decode_shard(struct diag *dg, const char *name, const json_t *entry, uint64_t version,
                                    const struct manifest *manifest, struct manifest_shard *shard)
{
    uint64_t rank = 0;
    dcache_status_t status = json_field_number(dg, name, entry, "rank", 0, manifest->set.world_size - 1, &rank);
    if (status == DCACHE_OK)
        status = json_field_number(dg, name, entry, "bytes", SHARD_FIXED_BYTES, SHARD_FILE_MAX, &shard->bytes);
    if (status == DCACHE_OK)
        status = json_field_hex(dg, name, entry, "crc64", &shard->crc);
    shard->rank = (uint32_t)rank;
    if (status == DCACHE_OK && version > 1)
        status = decode_stored_form(dg, name, entry, shard);
    if (status == DCACHE_OK && version >= VERSION_STORES)
        status = decode_store(dg, name, entry, manifest->store_count, shard);
    if (status == DCACHE_OK && version < VERSION_NAMES && !manifest_in_pack(shard)) {
        if (shard->object[0] != '\0')
            return diag_fail(dg, DCACHE_ERR_CORRUPT, "%s: \"object\" of rank %" PRIu32 " is no pack", name,
                             shard->rank);
        manifest_early_name(shard->rank, (enum codec)shard->codec, shard->object);
    }
    return status;
}

static bool is_store_url(const char *url)
{
    if (url == NULL || *url == '\0' || strlen(url) >= OBJECT_URL_MAX)
        return false;
    for (const char *c = url; *c != '\0'; c++) {
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            return false;
    }
    return true;
}

/* URLs that will be compared with those that are open, and shown, and nothing else. */
static dcache_status_t decode_stores(struct diag *dg, const char *name, const json_t *root, struct manifest *manifest)
{
    const json_t *array = json_object_get(root, "stores");
    const size_t count = json_array_size(array);
    if (array == NULL || json_integer_value(json_object_get(root, "version")) < VERSION_STORES)
        return DCACHE_OK;
    if (!json_is_array(array) || count > MANIFEST_STORES_MAX)
        return diag_fail(dg, DCACHE_ERR_CORRUPT, "%s: \"stores\" is no array of at most %d URLs", name,
                         MANIFEST_STORES_MAX);
    manifest->stores = calloc(count > 0 ? count : 1, sizeof *manifest->stores);
    if (manifest->stores == NULL)
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "out of memory for the %zu stores of %s", count, name);
    manifest->store_count = count;
    for (size_t i = 0; i < count; i++) {
        const json_t *entry = json_array_get(array, i);
        const char *url = json_string_value(entry);
        if (!is_store_url(url) || strlen(url) != json_string_length(entry))
            return diag_fail(dg, DCACHE_ERR_CORRUPT, "%s: entry %zu of \"stores\" is no URL", name, i);
        memcpy(manifest->stores[i], url, strlen(url) + 1);
    }
    return DCACHE_OK;
}

/* The array is as long as the text made it, so its length can be believed. */
static dcache_status_t decode_shards(struct diag *dg, const char *name, const json_t *root, struct manifest *manifest)
{
    const json_t *array = json_object_get(root, "shards");
    const uint64_t version = (uint64_t)json_integer_value(json_object_get(root, "version"));
    size_t count = json_array_size(array);
    if (!json_is_array(array) || count > manifest->set.world_size)
        return diag_fail(dg, DCACHE_ERR_CORRUPT, "%s: \"shards\" is missing or no array of at most %" PRIu32 " entries",
                         name, manifest->set.world_size);
    manifest->shards = calloc(count > 0 ? count : 1, sizeof *manifest->shards);
    if (manifest->shards == NULL)
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "out of memory for the %zu shards of %s", count, name);
    manifest->shard_count = count;
    for (size_t i = 0; i < count; i++) {
        struct manifest_shard *shard = &manifest->shards[i];
        dcache_status_t status = decode_shard(dg, name, json_array_get(array, i), version, manifest, shard);
        if (status != DCACHE_OK)
            return status;
        if (i > 0 && shard[-1].rank >= shard->rank)
            return diag_fail(dg, DCACHE_ERR_CORRUPT, "%s: rank %" PRIu32 " of \"shards\" does not ascend", name,
                             shard->rank);
    }
    return DCACHE_OK;
}

dcache_status_t manifest_decode(struct diag *dg, const char *name, const char *text, size_t bytes,
                                struct manifest *manifest)
{
    json_t *root = NULL;
    struct manifest found = {.shards = NULL};
    dcache_status_t status = json_field_parse(dg, name, text, bytes, format_name, MANIFEST_FORMAT_VERSION, &root);
    if (status != DCACHE_OK)
        return status;
    status = decode_head(dg, name, root, &found);
    if (status == DCACHE_OK)
        status = decode_stores(dg, name, root, &found);
    if (status == DCACHE_OK)
        status = decode_shards(dg, name, root, &found);
    json_decref(root);
    if (status != DCACHE_OK) {
        manifest_free(&found);
        return status;
    }
    *manifest = found;
    return DCACHE_OK;
}

/* --- Its stores ----------------------------------------------------------------------------------------------------*/

dcache_status_t manifest_name_stores(struct diag *dg, const struct object_store *home, struct manifest *manifest)
{
    const size_t count = stripes_count(home) - 1;
    char(*stores)[OBJECT_URL_MAX] = NULL;
    if (count > 0) {
        stores = calloc(count, sizeof *stores);
        if (stores == NULL)
            return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "out of memory for the URLs of %zu stores", count);
    }
    for (size_t i = 0; i < count; i++)
        snprintf(stores[i], sizeof stores[i], "%s", stripes_url(home, (uint32_t)i + 1));
    free(manifest->stores);
    manifest->stores = stores;
    manifest->store_count = count;
    return DCACHE_OK;
}

dcache_status_t manifest_resolve(struct diag *dg, const struct object_store *home, struct manifest *manifest)
{
    uint32_t numbers[MANIFEST_STORES_MAX + 1] = {STRIPES_HOME};
    for (size_t i = 0; i < manifest->store_count; i++)
        numbers[i + 1] = stripes_find(home, manifest->stores[i]);
    for (size_t i = 0; i < manifest->shard_count; i++) {
        struct manifest_shard *shard = &manifest->shards[i];
        const uint32_t named = shard->store;
        shard->store = numbers[named];
        if (shard->store == STRIPES_UNKNOWN)
            memcpy(manifest->unknown, manifest->stores[named - 1], sizeof manifest->unknown);
    }
    return manifest_name_stores(dg, home, manifest);
}

dcache_status_t manifest_check_stores(struct diag *dg, const struct manifest *manifest)
{
    if (manifest->unknown[0] == '\0')
        return DCACHE_OK;
    return diag_fail(dg, DCACHE_ERR_OPTION,
                     "step %" PRIu64 " of job %s has shards in %.500s, which is none of the stores here: name it in "
                     "option store, behind the first one",
                     manifest->set.step, manifest->job, manifest->unknown);
}

/* --- In the object store -------------------------------------------------------------------------------------------*/

dcache_status_t manifest_load(struct diag *dg, struct object_store *store, const char *job, uint64_t step,
                              struct manifest *manifest)
{
    char key[OBJECT_KEY_MAX];
    char *text = NULL;
    size_t bytes = 0;
    struct manifest found;
    manifest_key(key, job, step);
    dcache_status_t status = object_store_get_bytes(store, dg, key, MANIFEST_BYTES_MAX, &text, &bytes);
    if (status != DCACHE_OK)
        return status;
    status = manifest_decode(dg, key, text, bytes, &found);
    free(text);
    if (status != DCACHE_OK)
        return status;
    if (strcmp(found.job, job) != 0 || found.set.step != step)
        status = diag_fail(dg, DCACHE_ERR_CORRUPT, "%s is the manifest of another job or step (%s, %" PRIu64 ")", key,
                           found.job, found.set.step);
    else if (found.shard_count != found.set.world_size)
        status = diag_fail(dg, DCACHE_ERR_CORRUPT, "%s lists %zu shards of a job of %" PRIu32 " ranks", key,
                           found.shard_count, found.set.world_size);
    if (status == DCACHE_OK)
        status = manifest_resolve(dg, store, &found);
    if (status != DCACHE_OK) {
        manifest_free(&found);
        return status;
    }
    *manifest = found;
    return DCACHE_OK;
}

/* --- Commit --------------------------------------------------------------------------------------------------------*/

dcache_status_t manifest_check(struct diag *dg, struct object_store *store, const char *job,
                               const struct shard_set *set, bool *durable)
{
    char key[OBJECT_KEY_MAX];
    struct manifest found;
    manifest_key(key, job, set->step);
    dcache_status_t status = manifest_load(dg, store, job, set->step, &found);
    if (status == DCACHE_NOT_FOUND) {
        *durable = false;
        return DCACHE_OK;
    }
    if (status != DCACHE_OK)
        return status;
    bool same = shard_same_set(&found.set, set);
    uint64_t sequence = found.set.sequence;
    manifest_free(&found);
    if (!same)
        return diag_fail(dg, DCACHE_ERR_EXISTS,
                         "job %s: step %" PRIu64 " is in the object store already, from another run (sequence %" PRIu64
                         ", here %" PRIu64 "): it stays; go on with higher steps, use another job name, or remove %s",
                         job, set->step, sequence, set->sequence, key);
    *durable = true;
    return DCACHE_OK;
}

static dcache_status_t put_document(struct diag *dg, struct object_store *store, const char *key,
                                    const struct manifest *manifest, enum object_condition condition)
{
    char *text = NULL;
    size_t bytes = 0;
    dcache_status_t status = manifest_encode(dg, manifest, &text, &bytes);
    if (status != DCACHE_OK)
        return status;
    status = object_store_put_bytes(store, dg, key, text, bytes, condition);
    free(text);
    return status;
}

/* `complete` has all shards. Whoever else gets here at the same time puts the same, but for the drainer. */
static dcache_status_t put_manifest(struct diag *dg, struct object_store *store, const struct step_objects *objects,
                                    const struct manifest *complete, bool *durable)
{
    char key[OBJECT_KEY_MAX];
    manifest_key(key, complete->job, complete->set.step);
    dcache_status_t status = diag_failpoint(dg, "drain.manifest");
    if (status == DCACHE_OK)
        status = put_document(dg, store, key, complete, OBJECT_IF_ABSENT);
    if (status == DCACHE_ERR_EXISTS)
        return manifest_check(dg, store, complete->job, &complete->set, durable);
    if (status != DCACHE_OK)
        return status;
    *durable = true;
    step_objects_remove_unused(dg, store, objects, complete);
    return DCACHE_OK;
}

/* One listing tells cheaply that shards are missing: parts are read only by those who come near the end. */
static dcache_status_t commit_if_complete(struct diag *dg, struct object_store *store, const struct manifest *part,
                                          const struct step_objects *objects, bool *durable)
{
    const struct shard_set *set = &part->set;
    struct manifest united = {.shards = NULL};
    *durable = false;
    if (objects->manifest)
        return manifest_check(dg, store, part->job, set, durable);
    if (step_objects_most(objects) < set->world_size)
        return DCACHE_OK;
    dcache_status_t status = step_objects_unite(dg, store, objects, part->job, &united);
    if (status != DCACHE_OK)
        return status;
    snprintf(united.drainer, sizeof united.drainer, "%s", part->drainer);
    if (united.shard_count == set->world_size)
        status = put_manifest(dg, store, objects, &united, durable);
    manifest_free(&united);
    return status;
}

dcache_status_t manifest_commit(struct diag *dg, struct object_store *store, const struct manifest *part, bool *durable)
{
    char key[OBJECT_KEY_MAX];
    struct step_objects objects;
    dcache_status_t status = DCACHE_OK;
    bool found = false;
    manifest_part_key(key, part->job, &part->set, part->drainer);
    if (part->shard_count > 0)
        status = put_document(dg, store, key, part, OBJECT_REPLACE);
    if (status == DCACHE_OK)
        status = step_objects_list(dg, store, part->job, &part->set, &objects);
    if (status != DCACHE_OK)
        return status;
    status = commit_if_complete(dg, store, part, &objects, &found);
    step_objects_free(&objects);
    if (status == DCACHE_OK)
        *durable = found;
    return status;
}

/* --- What there is -------------------------------------------------------------------------------------------------*/

struct search {
    struct diag *dg;
    const char *job; /* NULL: look for jobs */
    uint64_t *steps;
    char **jobs;
    size_t count;
    size_t room;
};

/* "<job>/<step>/manifest.json", the number written as we write it. */
static bool parse_manifest_key(const char *key, char *job, uint64_t *step)
{
    char again[OBJECT_KEY_MAX];
    size_t length = strcspn(key, "/");
    if (length == 0 || length > SHARD_JOB_MAX || key[length] != '/' || key[length + 1] < '0' || key[length + 1] > '9')
        return false;
    memcpy(job, key, length);
    job[length] = '\0';
    *step = strtoull(key + length + 1, NULL, 10);
    manifest_key(again, job, *step);
    return *step <= DCACHE_STEP_MAX && json_field_is_word(job) && strcmp(key, again) == 0;
}

static dcache_status_t grow_search(struct search *search)
{
    size_t element = search->job != NULL ? sizeof *search->steps : sizeof *search->jobs;
    size_t wanted = search->room > 0 ? search->room * 2 : 16;
    void *larger = NULL;
    if (search->count < search->room)
        return DCACHE_OK;
    larger = realloc(search->job != NULL ? (void *)search->steps : (void *)search->jobs, wanted * element);
    if (larger == NULL)
        return diag_fail(search->dg, DCACHE_ERR_NO_MEMORY, "out of memory for a list of checkpoints");
    if (search->job != NULL)
        search->steps = larger;
    else
        search->jobs = larger;
    search->room = wanted;
    return DCACHE_OK;
}

static dcache_status_t visit_step(void *context, const char *key, uint64_t bytes)
{
    struct search *search = context;
    char job[SHARD_JOB_MAX + 1];
    uint64_t step = 0;
    (void)bytes;
    if (!parse_manifest_key(key, job, &step) || strcmp(job, search->job) != 0)
        return DCACHE_OK;
    dcache_status_t status = grow_search(search);
    if (status == DCACHE_OK)
        search->steps[search->count++] = step;
    return status;
}

/* Keys come sorted, but '/' is not the smallest character of a key: a job's keys need not be neighbours. */
static dcache_status_t visit_job(void *context, const char *key, uint64_t bytes)
{
    struct search *search = context;
    char job[SHARD_JOB_MAX + 1];
    uint64_t step = 0;
    (void)bytes;
    if (!parse_manifest_key(key, job, &step))
        return DCACHE_OK;
    for (size_t i = 0; i < search->count; i++) {
        if (strcmp(search->jobs[i], job) == 0)
            return DCACHE_OK;
    }
    dcache_status_t status = grow_search(search);
    if (status != DCACHE_OK)
        return status;
    search->jobs[search->count] = strdup(job);
    if (search->jobs[search->count] == NULL)
        return diag_fail(search->dg, DCACHE_ERR_NO_MEMORY, "out of memory for a list of jobs");
    search->count++;
    return DCACHE_OK;
}

static int compare_steps(const void *left, const void *right)
{
    const uint64_t a = *(const uint64_t *)left;
    const uint64_t b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

static int compare_jobs(const void *left, const void *right)
{
    return strcmp(*(char *const *)left, *(char *const *)right);
}

dcache_status_t manifest_list_steps(struct diag *dg, struct object_store *store, const char *job, uint64_t **steps,
                                    size_t *count)
{
    char prefix[OBJECT_KEY_MAX];
    struct search search = {.dg = dg, .job = job};
    snprintf(prefix, sizeof prefix, "%s/", job);
    dcache_status_t status = store->ops->list(store, dg, prefix, visit_step, &search);
    if (status != DCACHE_OK) {
        free(search.steps);
        return status;
    }
    if (search.count > 0)
        qsort(search.steps, search.count, sizeof *search.steps, compare_steps);
    *steps = search.steps;
    *count = search.count;
    return DCACHE_OK;
}

dcache_status_t manifest_list_jobs(struct diag *dg, struct object_store *store, char ***jobs, size_t *count)
{
    struct search search = {.dg = dg};
    dcache_status_t status = store->ops->list(store, dg, "", visit_job, &search);
    if (status != DCACHE_OK) {
        for (size_t i = 0; i < search.count; i++)
            free(search.jobs[i]);
        free(search.jobs);
        return status;
    }
    if (search.count > 0)
        qsort(search.jobs, search.count, sizeof *search.jobs, compare_jobs);
    *jobs = search.jobs;
    *count = search.count;
    return DCACHE_OK;
}
