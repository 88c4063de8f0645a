/**
 * A shard in the object store as its reader sees it: bytes of the image by offset, whatever form it is stored in and
 * wherever in an object it begins. What is read is always of one and the same object: it is pinned when it is opened,
 * and changed afterwards it is a failure. Frames are fetched and decoded on several threads. Nothing here vouches for
 * the bytes: the image's own digests do. Knows no MPI.
 */
#ifndef DCACHE_IO_SHARD_OBJECT_H
#define DCACHE_IO_SHARD_OBJECT_H

#include "io/codec_index.h"
#include "io/codec_key.h"
#include "io/manifest.h"

/** What the manifest says of the shard. */
struct shard_object_place {
    const char *job;
    struct shard_set set;
    struct manifest_shard shard;
};

struct shard_object {
    struct object_store *store; /**< borrowed; NULL = not open */
    struct manifest_shard shard;
    char key[OBJECT_KEY_MAX];
    struct object_info info;
    uint64_t stored_bytes;      /**< of the shard in the object */
    struct codec_object coding; /**< with the object's key; plain: unused */
    struct codec_index index;
};

/**
 * Find the object and look whether it can be what the manifest says; of a coded one, read the index. Give it to
 * shard_object_close(), also after a failure.
 * @param key  NULL: there is none
 * @return DCACHE_OK; DCACHE_NOT_FOUND (with a text); DCACHE_ERR_CORRUPT (too short, a bad index); DCACHE_ERR_OPTION (it
 *         is encrypted and there is no key, or another one); DCACHE_ERR_FORMAT; errors of the store
 */
dcache_status_t shard_object_open(struct diag *dg, struct object_store *store, const struct shard_object_place *place,
                                  const struct codec_key *key, struct shard_object *object) DCACHE_MUST_CHECK;

/** Bytes [offset, offset + bytes) of the image. Several threads may read, each with its own diag. What was in the
 * buffer is lost in any case.
 * @return DCACHE_OK; DCACHE_ERR_CORRUPT (no such range; a bad frame; the object was changed meanwhile); errors of the
 * store */
dcache_status_t shard_object_read(struct diag *dg, const struct shard_object *object, uint64_t offset, void *buffer,
                                  size_t bytes) DCACHE_MUST_CHECK;

/** Safe on a zeroed struct. */
void shard_object_close(struct shard_object *object);

#endif
