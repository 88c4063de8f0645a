/**
 * Names and JSON documents in the object store:
 *
 *   <job>/<step>/shard-<rank>-<sequence>.h5  a shard image; as it is stored also .h5.zst, .h5.aes, .h5.zst.aes
 *   <job>/<step>/pack-<name>         several shard images
 *   <job>/<step>/part-<drainer>-<sequence>.json  which shards one drainer has stored, with sizes and digests
 *   <job>/<step>/manifest.json       all shards of the step; its presence makes the step DURABLE; never replaced
 *
 * Of a job that is spread over several stores (io/stripes.h) the first one has parts and manifests, and says in them
 * which of the others a shard or pack is in, under the same key.
 *
 * Parts and manifest are the same document (docs/formats.md); digests are 16 hexadecimal digits in a string. Readers
 * trust nothing: sizes, counts, ranks and names are checked, unknown keys ignored, a newer format version refused.
 */
#ifndef DCACHE_IO_MANIFEST_H
#define DCACHE_IO_MANIFEST_H

#include "io/codec.h"
#include "io/object_store.h"
#include "io/shard.h"
#include "io/stripes.h"

#define MANIFEST_FORMAT_VERSION 4
#define MANIFEST_BYTES_MAX      (256u << 20)
#define MANIFEST_OBJECT_MAX     63 /**< characters of an object's name below the step's prefix */
#define MANIFEST_STORED_MAX     (2 * SHARD_FILE_MAX)
#define MANIFEST_STORES_MAX     255 /**< that one document can name */

/** One shard, and in which form and where it is stored. Plain data: ranks send it to each other as it is. */
struct manifest_shard {
    uint32_t rank;
    uint32_t codec;                       /**< enum codec */
    uint64_t bytes;                       /**< of the image */
    uint64_t crc;                         /**< CRC-64/NVME of the whole image, header included */
    char object[MANIFEST_OBJECT_MAX + 1]; /**< "" = one of its own, by rank, set and codec; else a pack, "pack-<name>",
                                             or its own as earlier versions named it, "shard-<rank>.h5" */
    uint64_t offset;                      /**< of its first byte in the object; 0 in one of its own */
    uint64_t stored_bytes; /**< in the object, from there on; 0 = as many as the image has (plain only) */
    uint32_t store;        /**< which of the stores: STRIPES_HOME, where the document itself is; else see below */
};

struct manifest {
    char job[SHARD_JOB_MAX + 1];
    struct shard_set set;
    char drainer[64]; /**< who wrote it */
    size_t shard_count;
    struct manifest_shard *shards; /**< ascending ranks; owned */
    /** The stores beside the home that shards are in: `store` of a shard is 1 for the first. manifest_resolve() makes
     * these the ones that are open, so that the numbers are those of io/stripes.h. */
    size_t store_count;
    char (*stores)[OBJECT_URL_MAX]; /**< canonical URLs; owned */
    char unknown[OBJECT_URL_MAX];   /**< one that has shards and is not open: their `store` is STRIPES_UNKNOWN */
};

/** Object keys; `key` has OBJECT_KEY_MAX bytes. */
void manifest_step_prefix(char *key, const char *job, uint64_t step);
void manifest_key(char *key, const char *job, uint64_t step);
void manifest_part_key(char *key, const char *job, const struct shard_set *set, const char *drainer);

/** The name, below the step's prefix, and the key of the object that has the shard. */
void manifest_object_name(const struct shard_set *set, const struct manifest_shard *shard,
                          char name[MANIFEST_OBJECT_MAX + 1]);
void manifest_object_key(char *key, const char *job, const struct shard_set *set, const struct manifest_shard *shard);

/** The shard's own object as versions 1 and 2 named it: the shards of all sets of a step had one name. */
void manifest_early_name(uint32_t rank, enum codec codec, char name[MANIFEST_OBJECT_MAX + 1]);

/** True when there may be other shards in its object. */
bool manifest_in_pack(const struct manifest_shard *shard);

/** How many bytes of the object are the shard's. */
uint64_t manifest_stored_bytes(const struct manifest_shard *shard);

/** True for a name that a pack can have: "pack-" and something, of the characters A-Z a-z 0-9 _ . - */
bool manifest_is_pack_name(const char *name);

/** Text of a part or manifest; malloc'ed, the caller's. In the earliest version that can say it, so that older readers
 * can read what they understand. */
dcache_status_t manifest_encode(struct diag *dg, const struct manifest *manifest, char **text,
                                size_t *bytes) DCACHE_MUST_CHECK;
/** @return DCACHE_OK, DCACHE_ERR_CORRUPT, DCACHE_ERR_FORMAT, DCACHE_ERR_NO_MEMORY; `name` is for the texts */
dcache_status_t manifest_decode(struct diag *dg, const char *name, const char *text, size_t bytes,
                                struct manifest *manifest) DCACHE_MUST_CHECK;
void manifest_free(struct manifest *manifest);

/** Let a document that is to be written name the stores that belong to `home`. @return DCACHE_OK,
 * DCACHE_ERR_NO_MEMORY */
dcache_status_t manifest_name_stores(struct diag *dg, const struct object_store *home,
                                     struct manifest *manifest) DCACHE_MUST_CHECK;

/** Find the stores that a document names among those that are open, by their URLs: the document leads nowhere else. */
dcache_status_t manifest_resolve(struct diag *dg, const struct object_store *home,
                                 struct manifest *manifest) DCACHE_MUST_CHECK;

/** @return DCACHE_OK; DCACHE_ERR_OPTION: shards are in a store that is not configured (the text names it) */
dcache_status_t manifest_check_stores(struct diag *dg, const struct manifest *manifest) DCACHE_MUST_CHECK;

/** The shard of `rank`, or NULL. */
const struct manifest_shard *manifest_find(const struct manifest *manifest, uint32_t rank);

/** Read, check and resolve the manifest of a step: DCACHE_NOT_FOUND when the step is not durable; every rank
 * 0..world_size-1 is in a manifest that is returned. Shards may be in unknown stores: manifest_check_stores(). */
dcache_status_t manifest_load(struct diag *dg, struct object_store *store, const char *job, uint64_t step,
                              struct manifest *manifest) DCACHE_MUST_CHECK;

/** All durable steps of a job, ascending by step; malloc'ed, the caller's. */
dcache_status_t manifest_list_steps(struct diag *dg, struct object_store *store, const char *job, uint64_t **steps,
                                    size_t *count) DCACHE_MUST_CHECK;

/** Jobs that have at least one durable step, ascending; names and array malloc'ed, the caller's. */
dcache_status_t manifest_list_jobs(struct diag *dg, struct object_store *store, char ***jobs,
                                   size_t *count) DCACHE_MUST_CHECK;

/**
 * Is the manifest of this set there?
 * @return DCACHE_OK; DCACHE_ERR_EXISTS (a manifest of another set has this step's number); as manifest_load()
 */
dcache_status_t manifest_check(struct diag *dg, struct object_store *store, const char *job,
                               const struct shard_set *set, bool *durable) DCACHE_MUST_CHECK;

/**
 * Put a part, then, if the parts of this set now cover every rank, the manifest (OBJECT_IF_ABSENT). Losing that race to
 * the same set is success.
 * @param durable  out: the manifest of this set is there
 * @return DCACHE_OK; DCACHE_ERR_EXISTS (a manifest of another set has this step's number: nothing was replaced); others
 *         from the store
 */
dcache_status_t manifest_commit(struct diag *dg, struct object_store *store, const struct manifest *part,
                                bool *durable) DCACHE_MUST_CHECK;

#endif
