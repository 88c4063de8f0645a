#include "shard_sample.h"

#include "io/crc64.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct shard_region *grow(struct shard_header *header)
{
    size_t count = header->region_count + 1;
    struct shard_region *regions = realloc(header->regions, count * sizeof *regions);
    if (regions == NULL)
        abort();
    header->regions = regions;
    header->region_count = (uint32_t)count;
    memset(&regions[count - 1], 0, sizeof *regions);
    return &regions[count - 1];
}

void sample_add(struct shard_header *header, const char *name, dcache_type_t type, uint64_t count)
{
    struct shard_region *region = grow(header);
    snprintf(region->name, sizeof region->name, "%s", name);
    region->type = type;
    region->ndims = 1;
    region->global[0] = count;
    region->count[0] = count;
    region->bytes = count * shard_type_bytes(type);
}

static void add_block(struct shard_header *header)
{
    sample_add(header, SAMPLE_BLOCK, DCACHE_FLOAT64, 15);
    struct shard_region *region = &header->regions[header->region_count - 1];
    region->is_block = true;
    region->ndims = 2;
    region->global[0] = 10;
    region->global[1] = 20;
    region->start[0] = 2;
    region->start[1] = 3;
    region->count[0] = 3;
    region->count[1] = 5;
}

void sample_header(struct shard_header *header, uint32_t rank, uint32_t world_size)
{
    memset(header, 0, sizeof *header);
    snprintf(header->job, sizeof header->job, "sample");
    header->rank = rank;
    header->set.world_size = world_size;
    header->set.epoch = 0x1122334455667788u;
    for (int type = DCACHE_INT8; type <= DCACHE_FLOAT64; type++) {
        char name[32];
        snprintf(name, sizeof name, "types/%s", shard_type_name((dcache_type_t)type));
        sample_add(header, name, (dcache_type_t)type, 3 + (uint64_t)type);
    }
    add_block(header);
    sample_add(header, SAMPLE_LARGE, DCACHE_UINT8, (2u << 20) + 777);
    sample_add(header, SAMPLE_EMPTY, DCACHE_FLOAT32, 0);
}

unsigned sample_value(const struct shard_region *region, uint64_t i)
{
    return (unsigned)((i * 7 + strlen(region->name)) % 100);
}

/* A small whole number as a float with that many bits for exponent and mantissa. */
static uint16_t small_float(unsigned value, int exponent_bits, int mantissa_bits)
{
    if (value == 0)
        return 0;
    int exponent = 31 - __builtin_clz(value);
    unsigned mantissa = value - (1u << exponent); /* below the leading one */
    int shift = mantissa_bits - exponent;
    mantissa = shift >= 0 ? mantissa << shift : mantissa >> -shift;
    unsigned biased = (unsigned)exponent + (1u << (exponent_bits - 1)) - 1;
    return (uint16_t)(biased << mantissa_bits | mantissa);
}

static void put_value(dcache_type_t type, unsigned value, unsigned char *at)
{
    float f = (float)value;
    double d = (double)value;
    uint16_t half = type == DCACHE_FLOAT16 ? small_float(value, 5, 10) : small_float(value, 8, 7);
    uint64_t integer = value;
    switch (type) {
    case DCACHE_FLOAT16:
    case DCACHE_BFLOAT16:
        memcpy(at, &half, sizeof half);
        break;
    case DCACHE_FLOAT32:
        memcpy(at, &f, sizeof f);
        break;
    case DCACHE_FLOAT64:
        memcpy(at, &d, sizeof d);
        break;
    default:
        memcpy(at, &integer, shard_type_bytes(type));
    }
}

void sample_complete(struct shard_header *header, void *image, uint64_t step, uint64_t sequence)
{
    unsigned char *bytes = image;
    header->set.step = step;
    header->set.sequence = sequence;
    header->state = SHARD_COMPLETE;
    memcpy(bytes + header->step_offset, &step, sizeof step);
    for (uint32_t r = 0; r < header->region_count; r++) {
        const struct shard_region *region = &header->regions[r];
        size_t size = shard_type_bytes(region->type);
        for (uint64_t i = 0; i < region->bytes / size; i++)
            put_value(region->type, sample_value(region, i), bytes + region->offset + i * size);
    }
    for (uint32_t i = 0; i < header->chunk_count; i++)
        header->chunk_crc[i] = crc64_update(0, bytes + shard_chunk_offset(header, i), shard_chunk_length(header, i));
    shard_encode(header, image);
}
