/** Protected regions against those of a stored shard. The public calls are in regions.c. */
#ifndef DCACHE_RUNTIME_REGIONS_H
#define DCACHE_RUNTIME_REGIONS_H

#include "runtime/context.h"

/** The stored region of that name, or NULL. Borrowed from the header. */
const struct shard_region *regions_stored(const struct shard_header *header, const char *name);

/** Can every protected region be filled from this shard? Else DCACHE_ERR_MISMATCH with the difference. Regions that
 * only the shard has are ignored. Not collective. */
dcache_status_t regions_match(dcache_t *dc, const struct shard_header *header) DCACHE_MUST_CHECK;

/** Would the protected regions, in their order, give an image of the same layout? */
bool regions_equal(const dcache_t *dc, const struct shard_header *header);

#endif
