/**
 * Where the header of a shard image keeps what (docs/formats.md has the same table in words), for the encoder and the
 * decoder. All integers are little-endian, whatever the machine is.
 */
#ifndef DCACHE_IO_SHARD_LAYOUT_H
#define DCACHE_IO_SHARD_LAYOUT_H

#include "io/shard.h"

#define SHARD_MAGIC        "\211DCACHE\n" /* octal: \x89 would take the D for one of its digits */
#define SHARD_MAGIC_BYTES  8u
#define SHARD_HEADER_MIN   4096u
#define SHARD_REGION_BYTES 320u
#define SHARD_DIGEST_BYTES 8u
#define SHARD_FLAG_BLOCK   1u

/** Offsets in the fixed part. */
enum shard_fixed_offset {
    SHARD_AT_MAGIC = 0,
    SHARD_AT_VERSION = 8,
    SHARD_AT_STATE = 12,
    SHARD_AT_FIXED_CRC = 16,
    SHARD_AT_TABLES_CRC = 24,
    SHARD_AT_STEP = 32,
    SHARD_AT_SEQUENCE = 40,
    SHARD_AT_EPOCH = 48,
    SHARD_AT_WORLD_SIZE = 56,
    SHARD_AT_RANK = 60,
    SHARD_AT_HEADER_BYTES = 64,
    SHARD_AT_FILE_BYTES = 72,
    SHARD_AT_CHUNK_BYTES = 80,
    SHARD_AT_CHUNK_COUNT = 84,
    SHARD_AT_REGION_COUNT = 88,
    SHARD_AT_RESERVED = 92, /* 4 bytes */
    SHARD_AT_REGION_TABLE = 96,
    SHARD_AT_DIGEST_TABLE = 104,
    SHARD_AT_STEP_OFFSET = 112,
    SHARD_AT_JOB = 120, /* SHARD_JOB_MAX + 1 bytes */
    SHARD_AT_TAIL = 184 /* reserved, to the end */
};

/** Offsets in an entry of the region table. */
enum shard_region_offset {
    SHARD_REGION_AT_NAME = 0, /* DCACHE_NAME_MAX + 1 bytes */
    SHARD_REGION_AT_TYPE = 64,
    SHARD_REGION_AT_NDIMS = 68,
    SHARD_REGION_AT_FLAGS = 72,
    SHARD_REGION_AT_RESERVED = 76, /* 4 bytes */
    SHARD_REGION_AT_BYTES = 80,
    SHARD_REGION_AT_OFFSET = 88,
    SHARD_REGION_AT_GLOBAL = 96,
    SHARD_REGION_AT_START = 160,
    SHARD_REGION_AT_COUNT = 224,
    SHARD_REGION_AT_TAIL = 288 /* reserved, to the end */
};

static inline void shard_put_u32(unsigned char *at, uint32_t value)
{
    for (unsigned i = 0; i < 4; i++)
        at[i] = (unsigned char)(value >> (8 * i));
}

static inline void shard_put_u64(unsigned char *at, uint64_t value)
{
    for (unsigned i = 0; i < 8; i++)
        at[i] = (unsigned char)(value >> (8 * i));
}

static inline uint32_t shard_get_u32(const unsigned char *at)
{
    uint32_t value = 0;
    for (unsigned i = 0; i < 4; i++)
        value |= (uint32_t)at[i] << (8 * i);
    return value;
}

static inline uint64_t shard_get_u64(const unsigned char *at)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < 8; i++)
        value |= (uint64_t)at[i] << (8 * i);
    return value;
}

/** The region table begins behind the fixed part, the digest table behind the region table. */
static inline uint64_t shard_digest_table_offset(uint64_t region_count)
{
    return SHARD_FIXED_BYTES + region_count * SHARD_REGION_BYTES;
}

static inline uint64_t shard_tables_end(uint64_t region_count, uint64_t chunk_count)
{
    return shard_digest_table_offset(region_count) + chunk_count * SHARD_DIGEST_BYTES;
}

/** Written without the sum that could overflow. */
static inline uint64_t shard_chunks_in(uint64_t body_bytes)
{
    return body_bytes / SHARD_CHUNK_BYTES + (body_bytes % SHARD_CHUNK_BYTES != 0);
}

/** Whether dimensions, place in the global array and number of bytes of a region fit each other and its type. */
bool shard_extents_valid(const struct shard_region *region);

#endif
