/**
 * A shard in the object store as its reader sees it: bytes of the image by offset, whatever form it is stored in and
 * wherever in an object it begins. What is read is always of one and the same object: it is pinned when it is opened,
 * and changed afterwards it is a failure. Nothing here vouches for the bytes: the image's own digests do. Knows no MPI.
 */
#ifndef DCACHE_IO_SHARD_OBJECT_H
#define DCACHE_IO_SHARD_OBJECT_H

#include "io/manifest.h"

struct shard_object {
    struct object_store *store; /**< borrowed; NULL = not open */
    struct manifest_shard shard;
    char key[OBJECT_KEY_MAX];
    struct object_info info;
};

/**
 * Find the object and look whether it can be what the manifest says. Give it to shard_object_close(), also after a
 * failure.
 * @return DCACHE_OK; DCACHE_NOT_FOUND (with a text); DCACHE_ERR_CORRUPT (it is too short); errors of the store
 */
dcache_status_t shard_object_open(struct diag *dg, struct object_store *store, const char *job, uint64_t step,
                                  const struct manifest_shard *shard, struct shard_object *object) DCACHE_MUST_CHECK;

/** Bytes [offset, offset + bytes) of the image. Several threads may read, each with its own diag.
 * @return DCACHE_OK; DCACHE_ERR_CORRUPT (no such range; the object was changed meanwhile); errors of the store */
dcache_status_t shard_object_read(struct diag *dg, const struct shard_object *object, uint64_t offset, void *buffer,
                                  size_t bytes) DCACHE_MUST_CHECK;

/** Safe on a zeroed struct. */
void shard_object_close(struct shard_object *object);

#endif
