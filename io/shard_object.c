#include "io/shard_object.h"

#include <inttypes.h>
#include <string.h>

/* An object of its own is the shard and nothing else; a pack has others before and behind it. */
static dcache_status_t check_place(struct diag *dg, const struct shard_object *object)
{
    const struct manifest_shard *shard = &object->shard;
    uint64_t stored = manifest_stored_bytes(shard);
    bool fits = object->info.bytes >= stored && object->info.bytes - stored >= shard->offset;
    if (shard->object[0] == '\0')
        fits = object->info.bytes == stored;
    if (!fits)
        return diag_fail(dg, DCACHE_ERR_CORRUPT,
                         "object %s has %" PRIu64 " bytes, the manifest says that there are %" PRIu64
                         " of rank %" PRIu32 " from %" PRIu64 " on",
                         object->key, object->info.bytes, stored, shard->rank, shard->offset);
    return DCACHE_OK;
}

dcache_status_t shard_object_open(struct diag *dg, struct object_store *store, const char *job, uint64_t step,
                                  const struct manifest_shard *shard, struct shard_object *object)
{
    memset(object, 0, sizeof *object);
    object->store = store;
    object->shard = *shard;
    manifest_object_key(object->key, job, step, shard);
    if (shard->codec != CODEC_PLAIN)
        return diag_fail(dg, DCACHE_ERR_FORMAT, "object %s is stored as %s, which this dcache cannot read", object->key,
                         codec_name((enum codec)shard->codec));
    dcache_status_t status = store->ops->head(store, dg, object->key, &object->info);
    if (status == DCACHE_NOT_FOUND)
        return diag_fail(dg, DCACHE_NOT_FOUND, "object %s is missing", object->key);
    return status == DCACHE_OK ? check_place(dg, object) : status;
}

dcache_status_t shard_object_read(struct diag *dg, const struct shard_object *object, uint64_t offset, void *buffer,
                                  size_t bytes)
{
    const struct manifest_shard *shard = &object->shard;
    if (offset > shard->bytes || bytes > shard->bytes - offset)
        return diag_fail(dg, DCACHE_ERR_CORRUPT,
                         "bytes from %" PRIu64 " on were wanted of object %s, which has %" PRIu64 " of rank %" PRIu32,
                         offset, object->key, shard->bytes, shard->rank);
    return object->store->ops->get(object->store, dg, object->key, object->info.etag, shard->offset + offset, buffer,
                                   bytes);
}

void shard_object_close(struct shard_object *object)
{
    memset(object, 0, sizeof *object);
}
