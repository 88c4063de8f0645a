/* The shards to be drained: images in a node store, as a checkpoint leaves them. */
#include "bench.h"
#include "io/crc64.h"

#include <dirent.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define JOB "bench-drain"

/* Bytes that do not compress and that differ between the shards. */
static void fill(unsigned char *data, uint64_t bytes, uint32_t rank)
{
    uint64_t state = 88172645463325252ull + rank;
    for (uint64_t i = 0; i + sizeof state <= bytes; i += sizeof state) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        memcpy(data + i, &state, sizeof state);
    }
}

static dcache_status_t make_shard(struct diag *dg, const struct bench_options *options, struct bench_shards *shards,
                                  uint32_t rank)
{
    struct shard_header header = {.rank = rank, .set = shards->set, .region_count = 1};
    struct slot slot = {.fd = -1};
    snprintf(header.job, sizeof header.job, JOB);
    header.regions = calloc(1, sizeof *header.regions);
    if (header.regions == NULL)
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "no memory for a shard");
    struct shard_region *region = &header.regions[0];
    snprintf(region->name, sizeof region->name, "data");
    region->type = DCACHE_UINT8;
    region->ndims = 1;
    region->count[0] = region->global[0] = region->bytes = options->bytes;
    dcache_status_t status = slot_create_image(dg, &shards->store, rank, 0, &header, &slot);
    if (status == DCACHE_OK) {
        unsigned char *image = slot.base;
        fill(image + region->offset, region->bytes, rank);
        memcpy(image + header.step_offset, &shards->set.step, sizeof shards->set.step);
        for (uint32_t i = 0; i < header.chunk_count; i++)
            header.chunk_crc[i] =
                crc64_update(0, image + shard_chunk_offset(&header, i), shard_chunk_length(&header, i));
        header.set = shards->set;
        header.state = SHARD_COMPLETE;
        shard_encode(&header, image);
        shards->bytes += header.file_bytes;
    }
    slot_close(&slot);
    shard_header_free(&header);
    return status;
}

dcache_status_t shards_make(struct diag *dg, const struct bench_options *options, struct bench_shards *shards)
{
    memset(shards, 0, sizeof *shards);
    shards->set = (struct shard_set){.step = 1, .sequence = 1, .epoch = 1, .world_size = options->shards};
    int length = snprintf(shards->root, sizeof shards->root, "%s/bench-drain-XXXXXX", options->tier);
    if (length < 0 || (size_t)length >= sizeof shards->root || mkdtemp(shards->root) == NULL) {
        shards->root[0] = '\0';
        return diag_fail(dg, DCACHE_ERR_IO, "cannot make a directory in %s: see --tier", options->tier);
    }
    shards->items = calloc(options->shards, sizeof *shards->items);
    dcache_status_t status = shards->items != NULL ? DCACHE_OK : diag_fail(dg, DCACHE_ERR_NO_MEMORY, "no memory");
    if (status == DCACHE_OK)
        status = node_store_open(dg, shards->root, JOB, 0, true, &shards->store);
    for (uint32_t rank = 0; status == DCACHE_OK && rank < options->shards; rank++) {
        shards->items[rank] = (struct drain_item){.kind = SLOT_OWN, .rank = rank};
        status = make_shard(dg, options, shards, rank);
    }
    return status;
}

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *place)
{
    (void)info;
    (void)type;
    (void)place;
    return remove(path);
}

void shards_remove(struct bench_shards *shards)
{
    node_store_close(&shards->store);
    if (shards->root[0] != '\0')
        nftw(shards->root, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    free(shards->items);
    memset(shards, 0, sizeof *shards);
}
