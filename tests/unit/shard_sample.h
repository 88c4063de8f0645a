/**
 * Shards for tests: regions of every kind, with values that can be told from any others.
 */
#ifndef DCACHE_TESTS_UNIT_SHARD_SAMPLE_H
#define DCACHE_TESTS_UNIT_SHARD_SAMPLE_H

#include "io/shard.h"

/** Names of the regions of sample_header(), for tests that look for some of them. */
#define SAMPLE_BLOCK "grid/temperature" /* float64, the block [2..4] x [3..7] of a 10 x 20 array */
#define SAMPLE_LARGE "large"            /* uint8, 2 MiB + 777 bytes: the image has several chunks */
#define SAMPLE_EMPTY "empty"            /* float32, no element */

/** An allocated header of job "sample" with a region of each type and the three above. Free with shard_header_free().
 */
void sample_header(struct shard_header *header, uint32_t rank, uint32_t world_size);

/** Add a region of one dimension to a header. */
void sample_add(struct shard_header *header, const char *name, dcache_type_t type, uint64_t count);

/** Element i of every region: a small number, the same in all types (0 to 99). */
unsigned sample_value(const struct shard_region *region, uint64_t i);

/** Write values and step into an image made from `header`, digest its chunks and put the COMPLETE header. */
void sample_complete(struct shard_header *header, void *image, uint64_t step, uint64_t sequence);

#endif
