/** For tests: an image as a file of its own, sparse, so that h5dump can look at it. */
#ifndef DCACHE_TESTS_UNIT_SHARD_IMAGE_FILE_H
#define DCACHE_TESTS_UNIT_SHARD_IMAGE_FILE_H

#include "io/shard.h"

/** shard_hdf5_create() at `path`, which is truncated if it is there. */
dcache_status_t shard_image_file(struct diag *dg, const char *path, struct shard_header *header) DCACHE_MUST_CHECK;

#endif
