/**
 * Node stores with shards in them, for tests of what reads node stores. Header only, so that the program which fills
 * stores for shell tests has it too.
 */
#ifndef DCACHE_TESTS_UNIT_STORE_SAMPLE_H
#define DCACHE_TESTS_UNIT_STORE_SAMPLE_H

#include "io/crc64.h"
#include "io/node_store.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/** Which shard to write. `bytes` is the size of its region "data"; there is also the block "grid" of a global array. */
struct store_sample {
    const char *job;
    struct shard_set set;
    uint32_t rank;
    enum slot_kind kind;
    uint32_t slot;
    uint64_t bytes;
    enum shard_state state;
};

static inline void store_sample_regions(const struct store_sample *sample, struct shard_region regions[2])
{
    memset(regions, 0, 2 * sizeof *regions);
    snprintf(regions[0].name, sizeof regions[0].name, "data");
    regions[0].type = DCACHE_UINT8;
    regions[0].ndims = 1;
    regions[0].count[0] = regions[0].global[0] = regions[0].bytes = sample->bytes;
    snprintf(regions[1].name, sizeof regions[1].name, "field/grid");
    regions[1].type = DCACHE_FLOAT64;
    regions[1].ndims = 2;
    regions[1].is_block = true;
    regions[1].global[0] = 4 * (uint64_t)sample->set.world_size;
    regions[1].global[1] = regions[1].count[1] = 8;
    regions[1].start[0] = 4 * (uint64_t)sample->rank;
    regions[1].count[0] = 4;
    regions[1].bytes = 4 * 8 * sizeof(double);
}

/* The same for own copy and replica; another one for each rank, step and sequence. */
static inline void store_sample_fill(const struct store_sample *sample, struct shard_header *header,
                                     unsigned char *image)
{
    const struct shard_region *data = &header->regions[0];
    for (uint64_t i = 0; i < data->bytes; i++)
        image[data->offset + i] =
            (unsigned char)(i * 2654435761u >> 7 ^ sample->rank * 31 ^ sample->set.step ^ sample->set.sequence * 7);
    memcpy(image + header->step_offset, &sample->set.step, sizeof sample->set.step);
    for (uint32_t i = 0; i < header->chunk_count; i++)
        header->chunk_crc[i] = crc64_update(0, image + shard_chunk_offset(header, i), shard_chunk_length(header, i));
    header->set = sample->set;
    header->state = sample->state;
    shard_encode(header, image);
}

/** Write the shard into its slot. False on failure, which is then on standard error. */
static inline bool store_sample_write(const struct node_store *store, const struct store_sample *sample)
{
    struct diag dg;
    struct shard_header header;
    struct slot slot = {.fd = -1};
    char made[48];
    char wanted[48];
    diag_init(&dg, sample->job, -1, DIAG_WARNING);
    memset(&header, 0, sizeof header);
    snprintf(header.job, sizeof header.job, "%s", sample->job);
    header.rank = sample->rank;
    header.set = sample->set;
    header.region_count = 2;
    header.regions = calloc(2, sizeof *header.regions);
    if (header.regions == NULL)
        return false;
    store_sample_regions(sample, header.regions);
    dcache_status_t status = slot_create_image(&dg, store, sample->rank, 99, &header, &slot);
    if (status == DCACHE_OK)
        store_sample_fill(sample, &header, slot.base);
    else
        fprintf(stderr, "cannot write a sample: %s\n", dg.text);
    slot_close(&slot);
    shard_header_free(&header);
    slot_name(SLOT_OWN, sample->rank, 99, made);
    slot_name(sample->kind, sample->rank, sample->slot, wanted);
    return status == DCACHE_OK && renameat(store->dir_fd, made, store->dir_fd, wanted) == 0;
}

/** Flip a bit of the byte at `offset` of a slot's file; negative offsets count from the end. */
static inline bool store_sample_damage(const struct node_store *store, const struct store_sample *sample, off_t offset)
{
    char name[48];
    unsigned char byte = 0;
    slot_name(sample->kind, sample->rank, sample->slot, name);
    int fd = openat(store->dir_fd, name, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return false;
    if (offset < 0)
        offset += lseek(fd, 0, SEEK_END);
    bool good = pread(fd, &byte, 1, offset) == 1;
    byte ^= 0x10;
    good = good && pwrite(fd, &byte, 1, offset) == 1;
    return close(fd) == 0 && good;
}

#endif
