#include "runtime/stage.h"

#include "io/crc64.h"
#include "runtime/regions.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* What a header says must be in the store before (or after) what it speaks of: neither compiler nor CPU may reorder. */
static void store_fence(void)
{
    atomic_thread_fence(memory_order_seq_cst);
}

static dcache_status_t describe(dcache_t *dc, struct shard_header *header)
{
    struct shard_region *regions = calloc((size_t)dc->region_count + 1, sizeof *regions);

    if (regions == NULL)
        return diag_fail(&dc->diag, DCACHE_ERR_NO_MEMORY, "out of memory for %u regions", dc->region_count);
    memset(header, 0, sizeof *header);
    memcpy(header->job, dc->job, sizeof header->job);
    header->rank = (uint32_t)dc->world.rank;
    header->set.world_size = (uint32_t)dc->world.size;
    header->regions = regions;
    header->region_count = dc->region_count;
    for (uint32_t i = 0; i < dc->region_count; i++)
        regions[i] = dc->regions[i].shape;
    return DCACHE_OK;
}

uint64_t stage_bytes(const dcache_t *dc)
{
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < dc->region_count; i++)
        bytes += dc->regions[i].shape.bytes;
    return bytes + shard_header_bytes(dc->region_count, bytes);
}

dcache_status_t stage_order(dcache_t *dc, struct ring_slot *ring)
{
    const struct shard_header *header = &ring->header;
    uint32_t *order = malloc(((size_t)header->region_count + 1) * sizeof *order);
    unsigned char *moved = calloc((size_t)header->chunk_count + 1, 1);
    uint32_t count = 0;

    if (order == NULL || moved == NULL) {
        free(order);
        free(moved);
        return diag_fail(&dc->diag, DCACHE_ERR_NO_MEMORY, "out of memory for %u regions", header->region_count);
    }
    for (uint32_t i = 0; i < header->region_count; i++) {
        uint32_t at = count;
        if (header->regions[i].bytes == 0)
            continue;
        while (at > 0 && header->regions[order[at - 1]].offset > header->regions[i].offset) {
            order[at] = order[at - 1]; /* nearly sorted: HDF5 lays out in the order of creation */
            at--;
        }
        order[at] = i;
        count++;
    }
    free(ring->order);
    free(ring->moved);
    ring->moved = moved;
    ring->order = order;
    ring->order_count = count;
    return DCACHE_OK;
}

dcache_status_t stage_create(dcache_t *dc, struct ring_slot *ring, uint32_t slot)
{
    struct shard_header header;
    struct slot own = {.fd = -1};

    stage_release(ring);
    ring->worth = 0;
    dcache_status_t status = describe(dc, &header);
    if (status == DCACHE_OK)
        status = slot_create_image(&dc->diag, &dc->store, (uint32_t)dc->world.rank, slot, &header, &own);
    if (status != DCACHE_OK) {
        shard_header_free(&header);
        return status;
    }
    ring->own = own;
    ring->header = header;
    ring->layout = dc->layout;
    return stage_order(dc, ring);
}

void stage_begin(struct ring_slot *ring, const struct shard_set *set)
{
    ring->header.set = *set;
    ring->header.state = SHARD_WRITING;
    shard_encode_fixed(&ring->header, ring->own.base);
    store_fence();
    memcpy((char *)ring->own.base + ring->header.step_offset, &set->step, sizeof set->step);
}

/* The first region that ends behind `offset`. */
static uint32_t first_region(const struct ring_slot *ring, uint64_t offset)
{
    uint32_t low = 0, high = ring->order_count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct shard_region *region = &ring->header.regions[ring->order[middle]];
        if (region->offset + region->bytes > offset)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

enum pass { DIGEST, COPY, STREAM };

static uint64_t pass_over(enum pass pass, uint64_t crc, char *to, const char *from, uint64_t bytes)
{
    if (pass == DIGEST)
        return crc64_update(crc, from, bytes);
    return pass == STREAM ? crc64_copy_stream(crc, to, from, bytes) : crc64_copy(crc, to, from, bytes);
}

/* One chunk: the regions' pieces in it from the application's memory, and between them HDF5's own bytes and padding,
 * which are in the image already. */
static uint64_t chunk_pass(const dcache_t *dc, const struct ring_slot *ring, uint32_t index, enum pass pass)
{
    uint64_t at = shard_chunk_offset(&ring->header, index), end = at + shard_chunk_length(&ring->header, index);
    char *image = ring->own.base;
    uint64_t crc = 0;

    for (uint32_t i = first_region(ring, at); at < end; i++) {
        const struct shard_region *region = i < ring->order_count ? &ring->header.regions[ring->order[i]] : NULL;
        uint64_t gap_end = region != NULL && region->offset < end ? region->offset : end;
        if (at < gap_end) {
            crc = crc64_update(crc, image + at, gap_end - at);
            at = gap_end;
        }
        if (region == NULL || at >= end)
            continue;
        uint64_t region_end = region->offset + region->bytes, stop = region_end < end ? region_end : end;
        const char *from = (const char *)dc->regions[ring->order[i]].memory + (at - region->offset);
        crc = pass_over(pass, crc, image + at, from, stop - at);
        at = stop;
    }
    return crc;
}

struct copying {
    dcache_t *dc;
    struct ring_slot *ring;
    struct stage_mode mode;
    void (*ready)(dcache_t *dc, uint32_t index);
};

static void copy_chunk(void *context, uint32_t index)
{
    const struct copying *c = context;
    struct ring_slot *ring = c->ring;

    ring->moved[index] = 0;
    if (c->mode.incremental && chunk_pass(c->dc, ring, index, DIGEST) == ring->header.chunk_crc[index])
        return;
    ring->moved[index] = 1;
    ring->header.chunk_crc[index] = chunk_pass(c->dc, ring, index, c->mode.stream ? STREAM : COPY);
}

static void chunk_ready(void *context, uint32_t index)
{
    const struct copying *c = context;
    size_t length = (size_t)shard_chunk_length(&c->ring->header, index);
    char *chunk = (char *)c->ring->own.base + shard_chunk_offset(&c->ring->header, index);

    if (c->ring->moved[index])
        c->dc->statistics.bytes_copied += length;
    (void)!diag_failpoint_data(&c->dc->diag, "checkpoint.data", chunk, &length);
    if (c->ready != NULL)
        c->ready(c->dc, index);
}

void stage_copy(dcache_t *dc, struct ring_slot *ring, struct stage_mode mode,
                void (*ready)(dcache_t *dc, uint32_t index))
{
    struct copying copying = {dc, ring, mode, ready};

    copy_threads_run(dc->copying, ring->header.chunk_count, copy_chunk, chunk_ready, &copying);
}

void stage_finish(struct ring_slot *ring)
{
    store_fence();
    ring->header.state = SHARD_COMPLETE;
    shard_encode(&ring->header, ring->own.base);
    store_fence();
    (void)futimens(ring->own.fd, NULL); /* stores through a mapping leave the time for `dcache ls` as it was */
}

void stage_invalidate(struct ring_slot *ring)
{
    if (ring->own.base != NULL)
        memset(ring->own.base, 0, SHARD_FIXED_BYTES);
    store_fence();
    ring->worth = 0;
    ring->level = DCACHE_LEVEL_NONE;
}

dcache_status_t stage_map(dcache_t *dc, struct ring_slot *ring)
{
    return slot_map(&dc->diag, &dc->store, &ring->own);
}

dcache_status_t stage_restore(dcache_t *dc, const struct ring_slot *ring)
{
    dcache_status_t status = DCACHE_OK;

    for (uint32_t i = 0; status == DCACHE_OK && i < dc->region_count; i++) {
        const struct shard_region *stored = regions_stored(&ring->header, dc->regions[i].shape.name);
        if (stored != NULL && stored->bytes > 0)
            status = slot_read(&dc->diag, &ring->own, stored->offset, dc->regions[i].memory, stored->bytes);
    }
    return status;
}

void stage_release(struct ring_slot *ring)
{
    if (ring->own.fd >= 0)
        slot_close(&ring->own);
    memset(&ring->own, 0, sizeof ring->own);
    ring->own.fd = -1;
    shard_header_free(&ring->header);
    free(ring->order);
    free(ring->moved);
    ring->order = NULL;
    ring->moved = NULL;
    ring->order_count = 0;
    ring->layout = 0;
}
