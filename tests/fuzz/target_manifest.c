/* A part or manifest, from a store that may send anything. */
#include "fuzz.h"

#include "io/manifest.h"

#include <stdlib.h>
#include <string.h>

static void check_same(const struct manifest *a, const struct manifest *b)
{
    bool same = strcmp(a->job, b->job) == 0 && strcmp(a->drainer, b->drainer) == 0 &&
                shard_same_set(&a->set, &b->set) && a->shard_count == b->shard_count;
    for (size_t i = 0; same && i < a->shard_count; i++)
        same = a->shards[i].rank == b->shards[i].rank && a->shards[i].bytes == b->shards[i].bytes &&
               a->shards[i].crc == b->shards[i].crc && a->shards[i].codec == b->shards[i].codec &&
               a->shards[i].offset == b->shards[i].offset &&
               manifest_stored_bytes(&a->shards[i]) == manifest_stored_bytes(&b->shards[i]) &&
               strcmp(a->shards[i].object, b->shards[i].object) == 0 && a->shards[i].store == b->shards[i].store &&
               a->shards[i].store <= a->store_count &&
               (a->shards[i].store == STRIPES_HOME ||
                strcmp(a->stores[a->shards[i].store - 1], b->stores[b->shards[i].store - 1]) == 0);
    fuzz_require(same, "a manifest that is read can be written and is the same again");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct diag *dg = fuzz_diag();
    struct manifest manifest;
    struct manifest again;
    char *text = NULL;
    size_t bytes = 0;
    dcache_status_t status = manifest_decode(dg, "job/1/manifest.json", (const char *)data, size, &manifest);
    fuzz_require_text(dg, status);
    if (status != DCACHE_OK)
        return 0;
    for (size_t i = 0; i < manifest.shard_count; i++)
        fuzz_require(manifest_find(&manifest, manifest.shards[i].rank) == &manifest.shards[i], "ranks are found");
    status = manifest_encode(dg, &manifest, &text, &bytes);
    fuzz_require(status == DCACHE_OK, "a manifest that is read can be written");
    status = manifest_decode(dg, "again", text, bytes, &again);
    fuzz_require(status == DCACHE_OK, "a manifest that is written can be read");
    check_same(&manifest, &again);
    free(text);
    manifest_free(&manifest);
    manifest_free(&again);
    return 0;
}
