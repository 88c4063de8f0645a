#include "io/shard_object.h"

#include "io/crc64.h"
#include "io/workers.h"

#include <inttypes.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#define TAIL_BYTES  (64u << 10) /* fetched for the index; enough for 5000 frames */
#define GROUP_BYTES (8u << 20)  /* of image that one thread fetches and decodes in one go */

/* --- Open ----------------------------------------------------------------------------------------------------------*/

/* An object of its own is the shard and nothing else; a pack has others before and behind it. How long a coded one of
 * its own is, the object itself knows best: another drainer may have made the same shard anew since the manifest. */
static dcache_status_t check_place(struct diag *dg, struct shard_object *object)
{
    const struct manifest_shard *shard = &object->shard;
    uint64_t stored = manifest_stored_bytes(shard);
    bool fits = object->info.bytes >= stored && object->info.bytes - stored >= shard->offset;
    if (!manifest_in_pack(shard) && shard->codec != CODEC_PLAIN)
        stored = object->info.bytes;
    else if (!manifest_in_pack(shard))
        fits = object->info.bytes == stored;
    object->stored_bytes = stored;
    if (!fits && (manifest_in_pack(shard) || shard->codec == CODEC_PLAIN))
        return diag_fail(dg, DCACHE_ERR_CORRUPT,
                         "object %s has %" PRIu64 " bytes, the manifest says that there are %" PRIu64
                         " of rank %" PRIu32 " from %" PRIu64 " on",
                         object->key, object->info.bytes, stored, shard->rank, shard->offset);
    return DCACHE_OK;
}

static dcache_status_t get_stored(struct diag *dg, const struct shard_object *object, uint64_t offset, void *buffer,
                                  size_t bytes)
{
    return object->store->ops->get(object->store, dg, object->key, object->info.etag, object->shard.offset + offset,
                                   buffer, bytes);
}

/* Put the object's name before a text that speaks of its index or of a frame. */
static dcache_status_t name_object(struct diag *dg, const struct shard_object *object, dcache_status_t status)
{
    char text[DIAG_TEXT_MAX];
    if (status != DCACHE_ERR_CORRUPT && status != DCACHE_ERR_FORMAT)
        return status;
    snprintf(text, sizeof text, "%.700s", dg->text);
    return diag_fail(dg, status, "object %.250s: %s", object->key, text);
}

/* The index, from the end of the stored form: most fit into what is fetched for the footer. */
static dcache_status_t fetch_index(struct diag *dg, struct shard_object *object)
{
    size_t bytes = object->stored_bytes < TAIL_BYTES ? (size_t)object->stored_bytes : TAIL_BYTES;
    struct codec_index *index = &object->index;
    if (bytes < CODEC_FOOTER_BYTES)
        return diag_fail(dg, DCACHE_ERR_CORRUPT, "object %s has %" PRIu64 " bytes, less than any coded shard",
                         object->key, object->stored_bytes);
    unsigned char *tail = malloc(bytes);
    if (tail == NULL)
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "out of memory for the index of %s", object->key);
    dcache_status_t status = get_stored(dg, object, object->stored_bytes - bytes, tail, bytes);
    if (status == DCACHE_OK)
        status = name_object(dg, object,
                             codec_index_decode_footer(dg, tail + bytes - CODEC_FOOTER_BYTES, object->stored_bytes,
                                                       object->shard.bytes, index));
    uint64_t wanted = status == DCACHE_OK ? codec_index_bytes(&index->layout) : 0;
    if (status == DCACHE_OK && wanted > bytes) { /* it is in the object, so it is not longer than that */
        unsigned char *larger = realloc(tail, wanted);
        if (larger == NULL) {
            status = diag_fail(dg, DCACHE_ERR_NO_MEMORY, "out of memory for the index of %s", object->key);
        } else {
            tail = larger;
            bytes = (size_t)wanted;
            status = get_stored(dg, object, object->stored_bytes - wanted, tail, bytes);
        }
    }
    if (status == DCACHE_OK)
        status = name_object(
            dg, object,
            codec_index_decode(dg, tail + bytes - wanted, object->stored_bytes, object->shard.bytes, index));
    free(tail);
    return status;
}

static dcache_status_t prepare_key(struct diag *dg, struct shard_object *object, const struct codec_key *key)
{
    const struct codec_index *index = &object->index;
    if ((index->codec & CODEC_AES) == 0)
        return DCACHE_OK;
    if (key == NULL)
        return diag_fail(dg, DCACHE_ERR_OPTION,
                         "object %s is encrypted with key %016" PRIx64
                         ", and no key is given: set encrypt_key_file or encrypt_key_command",
                         object->key, index->key_number);
    if (key->number != index->key_number)
        return diag_fail(dg, DCACHE_ERR_OPTION,
                         "object %s is encrypted with key %016" PRIx64 ", but the key given is %016" PRIx64
                         ": set encrypt_key_file or encrypt_key_command to the one of then",
                         object->key, index->key_number, key->number);
    return codec_derive_key(dg, key->bytes, index->salt, object->coding.key);
}

static dcache_status_t open_coded(struct diag *dg, struct shard_object *object, const struct shard_object_place *place,
                                  const struct codec_key *key)
{
    dcache_status_t status = fetch_index(dg, object);
    if (status != DCACHE_OK)
        return status;
    if (object->index.codec != (enum codec)object->shard.codec)
        return diag_fail(dg, DCACHE_ERR_CORRUPT, "object %s is stored as %s, the manifest says %s", object->key,
                         codec_name(object->index.codec), codec_name((enum codec)object->shard.codec));
    struct codec_object *coding = &object->coding;
    *coding = (struct codec_object){
        .codec = object->index.codec, .set = place->set, .rank = object->shard.rank, .layout = object->index.layout};
    snprintf(coding->job, sizeof coding->job, "%s", place->job);
    return prepare_key(dg, object, key);
}

dcache_status_t shard_object_open(struct diag *dg, struct object_store *store, const struct shard_object_place *place,
                                  const struct codec_key *key, struct shard_object *object)
{
    memset(object, 0, sizeof *object);
    object->store = stripes_store(store, place->shard.store);
    object->shard = place->shard;
    manifest_object_key(object->key, place->job, &place->set, &place->shard);
    if (object->store == NULL)
        return diag_fail(dg, DCACHE_ERR_OPTION,
                         "object %s is in a store that is none of those in option store: add the one that the warning "
                         "about its manifest names",
                         object->key);
    dcache_status_t status = object->store->ops->head(object->store, dg, object->key, &object->info);
    if (status == DCACHE_NOT_FOUND)
        return diag_fail(dg, DCACHE_NOT_FOUND, "object %s is missing in %.400s", object->key, object->store->url);
    if (status == DCACHE_OK)
        status = check_place(dg, object);
    if (status == DCACHE_OK && place->shard.codec != CODEC_PLAIN)
        status = open_coded(dg, object, place, key);
    return status;
}

void shard_object_close(struct shard_object *object)
{
    codec_index_free(&object->index);
    OPENSSL_cleanse(object, sizeof *object);
}

/* --- Read ----------------------------------------------------------------------------------------------------------*/

/* A range of the image that is being put together from frames. */
struct range {
    const struct shard_object *object;
    uint64_t offset;
    unsigned char *buffer;
    size_t bytes;
    uint32_t first; /* frame */
    uint32_t end;
    uint32_t group_frames;
};

/* Decode one frame, into its place when all of it is wanted, else by way of `whole`. */
static dcache_status_t place_frame(struct diag *dg, const struct range *range, struct codec_worker *worker,
                                   uint32_t frame, const unsigned char *stored, unsigned char *whole)
{
    const struct codec_object *coding = &range->object->coding;
    const struct codec_index *index = &range->object->index;
    const size_t stored_bytes = (size_t)(index->starts[frame + 1] - index->starts[frame]);
    const uint64_t start = codec_frame_offset(&coding->layout, frame);
    const uint64_t end = start + codec_frame_length(&coding->layout, frame);
    const uint64_t from = start > range->offset ? start : range->offset;
    const uint64_t to = end < range->offset + range->bytes ? end : range->offset + range->bytes;
    unsigned char *target = range->buffer + (from - range->offset);
    if (crc64_update(0, stored, stored_bytes) != index->digests[frame])
        return diag_fail(dg, DCACHE_ERR_CORRUPT, "frame %" PRIu32 " does not match its digest", frame);
    if (from == start && to == end)
        return codec_decode_frame(dg, worker, coding, frame, stored, stored_bytes, target);
    dcache_status_t status = codec_decode_frame(dg, worker, coding, frame, stored, stored_bytes, whole);
    if (status == DCACHE_OK)
        memcpy(target, whole + (from - start), to - from);
    return status;
}

/* Some frames in a row, on one of the threads. */
static dcache_status_t read_group(void *context, const struct workers_turn *turn)
{
    const struct range *range = context;
    const struct shard_object *object = range->object;
    const uint64_t *starts = object->index.starts;
    const uint32_t first = range->first + (uint32_t)turn->task * range->group_frames;
    const uint32_t end = range->end - first < range->group_frames ? range->end : first + range->group_frames;
    const size_t bytes = (size_t)(starts[end] - starts[first]);
    struct codec_worker *worker = NULL;
    unsigned char *stored = malloc(bytes + object->coding.layout.frame_bytes);
    if (stored == NULL)
        return diag_fail(turn->dg, DCACHE_ERR_NO_MEMORY, "out of memory for %zu bytes of frames", bytes);
    dcache_status_t status = codec_worker_open(turn->dg, CODEC_LEVEL_MIN, &worker);
    if (status == DCACHE_OK)
        status = get_stored(turn->dg, object, starts[first], stored, bytes);
    for (uint32_t frame = first; status == DCACHE_OK && frame < end; frame++)
        status = name_object(
            turn->dg, object,
            place_frame(turn->dg, range, worker, frame, stored + (starts[frame] - starts[first]), stored + bytes));
    codec_worker_close(worker);
    free(stored);
    return status;
}

static dcache_status_t read_coded(struct diag *dg, const struct shard_object *object, uint64_t offset, void *buffer,
                                  size_t bytes)
{
    const struct codec_layout *layout = &object->index.layout;
    struct range range = {.object = object, .offset = offset, .buffer = buffer, .bytes = bytes};
    range.first = codec_frame_at(layout, offset);
    range.end = codec_frame_at(layout, offset + bytes - 1) + 1;
    range.group_frames = layout->frame_bytes < GROUP_BYTES ? GROUP_BYTES / layout->frame_bytes : 1;
    size_t groups = (range.end - range.first + range.group_frames - 1) / range.group_frames;
    unsigned threads = object->store->policy.connections;
    return workers_run(dg, threads > 0 ? threads : OBJECT_CONNECTIONS, groups, read_group, &range);
}

dcache_status_t shard_object_read(struct diag *dg, const struct shard_object *object, uint64_t offset, void *buffer,
                                  size_t bytes)
{
    const struct manifest_shard *shard = &object->shard;
    if (offset > shard->bytes || bytes > shard->bytes - offset)
        return diag_fail(dg, DCACHE_ERR_CORRUPT,
                         "bytes from %" PRIu64 " on were wanted of object %s, which has %" PRIu64 " of rank %" PRIu32,
                         offset, object->key, shard->bytes, shard->rank);
    if (bytes == 0)
        return DCACHE_OK;
    return shard->codec == CODEC_PLAIN ? get_stored(dg, object, offset, buffer, bytes)
                                       : read_coded(dg, object, offset, buffer, bytes);
}
