/**
 * The names that dcache gives to packs: "pack-<id>-<first>-<last>-<count>", shards of so many ranks from `first` to
 * `last`. Readers need none of it, the manifest says where a shard is; but who sees the names in a listing knows
 * without reading any part that a rank cannot be in a pack, or that shards are missing.
 */
#ifndef DCACHE_IO_PACK_NAME_H
#define DCACHE_IO_PACK_NAME_H

#include "io/manifest.h"

struct pack_name {
    uint64_t id; /**< of what is in it and of who made it */
    uint32_t first;
    uint32_t last;
    uint32_t count; /**< 1 to last - first + 1 */
};

void pack_name_text(const struct pack_name *name, char text[MANIFEST_OBJECT_MAX + 1]);

/** False: it was named by somebody else, and may have any ranks. */
bool pack_name_parse(const char *text, struct pack_name *name) DCACHE_MUST_CHECK;

#endif
