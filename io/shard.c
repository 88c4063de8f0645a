#include "io/shard.h"

#include "io/crc64.h"
#include "io/shard_layout.h"

#include <stdlib.h>
#include <string.h>

struct type_entry {
    const char *name;
    size_t bytes;
};

static const struct type_entry *find_type(dcache_type_t type)
{
    static const struct type_entry types[] = {
        [DCACHE_INT8] = {"int8", 1},         [DCACHE_UINT8] = {"uint8", 1},     [DCACHE_INT16] = {"int16", 2},
        [DCACHE_UINT16] = {"uint16", 2},     [DCACHE_INT32] = {"int32", 4},     [DCACHE_UINT32] = {"uint32", 4},
        [DCACHE_INT64] = {"int64", 8},       [DCACHE_UINT64] = {"uint64", 8},   [DCACHE_FLOAT16] = {"float16", 2},
        [DCACHE_BFLOAT16] = {"bfloat16", 2}, [DCACHE_FLOAT32] = {"float32", 4}, [DCACHE_FLOAT64] = {"float64", 8},
    };
    size_t index = (size_t)type;
    return index < sizeof types / sizeof types[0] && types[index].name != NULL ? &types[index] : NULL;
}

size_t shard_type_bytes(dcache_type_t type)
{
    const struct type_entry *entry = find_type(type);
    return entry != NULL ? entry->bytes : 0;
}

const char *shard_type_name(dcache_type_t type)
{
    const struct type_entry *entry = find_type(type);
    return entry != NULL ? entry->name : "?";
}

uint64_t shard_header_bytes(uint32_t region_count, uint64_t body_bytes)
{
    uint64_t needed = shard_tables_end(region_count, shard_chunks_in(body_bytes));
    uint64_t bytes = SHARD_HEADER_MIN;
    while (bytes < needed)
        bytes *= 2;
    return bytes;
}

uint64_t shard_chunk_offset(const struct shard_header *header, uint32_t index)
{
    return header->header_bytes + (uint64_t)index * SHARD_CHUNK_BYTES;
}

uint64_t shard_chunk_length(const struct shard_header *header, uint32_t index)
{
    uint64_t left = header->file_bytes - shard_chunk_offset(header, index);
    return left < SHARD_CHUNK_BYTES ? left : SHARD_CHUNK_BYTES;
}

static void put_dims(unsigned char *at, const uint64_t *dims, uint32_t ndims)
{
    for (uint32_t i = 0; i < ndims; i++)
        shard_put_u64(at + 8 * i, dims[i]);
}

/* `at` holds zeros. */
static void encode_region(const struct shard_region *region, unsigned char *at)
{
    memcpy(at + SHARD_REGION_AT_NAME, region->name, strnlen(region->name, DCACHE_NAME_MAX));
    shard_put_u32(at + SHARD_REGION_AT_TYPE, (uint32_t)region->type);
    shard_put_u32(at + SHARD_REGION_AT_NDIMS, region->ndims);
    shard_put_u32(at + SHARD_REGION_AT_FLAGS, region->is_block ? SHARD_FLAG_BLOCK : 0);
    shard_put_u64(at + SHARD_REGION_AT_BYTES, region->bytes);
    shard_put_u64(at + SHARD_REGION_AT_OFFSET, region->offset);
    put_dims(at + SHARD_REGION_AT_GLOBAL, region->global, region->ndims);
    put_dims(at + SHARD_REGION_AT_START, region->start, region->ndims);
    put_dims(at + SHARD_REGION_AT_COUNT, region->count, region->ndims);
}

static void encode_fixed(const struct shard_header *header, uint64_t tables_crc, unsigned char *out)
{
    memset(out, 0, SHARD_FIXED_BYTES);
    if (header->state == SHARD_EMPTY)
        return;
    memcpy(out + SHARD_AT_MAGIC, SHARD_MAGIC, SHARD_MAGIC_BYTES);
    shard_put_u32(out + SHARD_AT_VERSION, SHARD_FORMAT_VERSION);
    shard_put_u32(out + SHARD_AT_STATE, (uint32_t)header->state);
    shard_put_u64(out + SHARD_AT_TABLES_CRC, tables_crc);
    shard_put_u64(out + SHARD_AT_STEP, header->set.step);
    shard_put_u64(out + SHARD_AT_SEQUENCE, header->set.sequence);
    shard_put_u64(out + SHARD_AT_EPOCH, header->set.epoch);
    shard_put_u32(out + SHARD_AT_WORLD_SIZE, header->set.world_size);
    shard_put_u32(out + SHARD_AT_RANK, header->rank);
    shard_put_u64(out + SHARD_AT_HEADER_BYTES, header->header_bytes);
    shard_put_u64(out + SHARD_AT_FILE_BYTES, header->file_bytes);
    shard_put_u32(out + SHARD_AT_CHUNK_BYTES, SHARD_CHUNK_BYTES);
    shard_put_u32(out + SHARD_AT_CHUNK_COUNT, header->chunk_count);
    shard_put_u32(out + SHARD_AT_REGION_COUNT, header->region_count);
    shard_put_u64(out + SHARD_AT_REGION_TABLE, SHARD_FIXED_BYTES);
    shard_put_u64(out + SHARD_AT_DIGEST_TABLE, shard_digest_table_offset(header->region_count));
    shard_put_u64(out + SHARD_AT_STEP_OFFSET, header->step_offset);
    memcpy(out + SHARD_AT_JOB, header->job, strnlen(header->job, SHARD_JOB_MAX));
    shard_put_u64(out + SHARD_AT_FIXED_CRC, crc64_update(0, out, SHARD_FIXED_BYTES));
}

void shard_encode_fixed(const struct shard_header *header, void *out)
{
    encode_fixed(header, 0, out);
}

void shard_encode(const struct shard_header *header, void *out)
{
    unsigned char *image = out;
    memset(image, 0, header->header_bytes);
    if (header->state == SHARD_EMPTY)
        return;
    unsigned char *at = image + SHARD_FIXED_BYTES;
    for (uint32_t i = 0; i < header->region_count; i++, at += SHARD_REGION_BYTES)
        encode_region(&header->regions[i], at);
    for (uint32_t i = 0; i < header->chunk_count; i++, at += SHARD_DIGEST_BYTES)
        shard_put_u64(at, header->chunk_crc[i]);
    uint64_t tables_crc = 0;
    if (header->state == SHARD_COMPLETE)
        tables_crc = crc64_update(0, image + SHARD_FIXED_BYTES, header->header_bytes - SHARD_FIXED_BYTES);
    encode_fixed(header, tables_crc, image);
}

uint64_t shard_image_crc(const struct shard_header *header, const void *encoded_header)
{
    uint64_t crc = crc64_update(0, encoded_header, header->header_bytes);
    for (uint32_t i = 0; i < header->chunk_count; i++)
        crc = crc64_combine(crc, header->chunk_crc[i], shard_chunk_length(header, i));
    return crc;
}

bool shard_same_set(const struct shard_set *a, const struct shard_set *b)
{
    return a->step == b->step && a->sequence == b->sequence && a->epoch == b->epoch && a->world_size == b->world_size;
}

static bool word_char(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '.' ||
           c == '-';
}

/* Whether these bytes can name one thing: a file, a segment of an object's key, an HDF5 link. */
static bool word_valid(const char *word, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (!word_char(word[i]))
            return false;
    }
    bool dots = (length == 1 || length == 2) && word[0] == '.' && word[length - 1] == '.';
    return length > 0 && !dots;
}

bool shard_job_valid(const char *job)
{
    size_t length = strlen(job);
    return length <= SHARD_JOB_MAX && word_valid(job, length);
}

bool shard_name_valid(const char *name)
{
    if (strlen(name) > DCACHE_NAME_MAX)
        return false;
    const char *segment = name;
    for (;;) {
        size_t length = strcspn(segment, "/");
        if (!word_valid(segment, length))
            return false;
        if (segment == name && length == strlen("dcache") && memcmp(segment, "dcache", length) == 0)
            return false; /* ours: /dcache holds job, rank and step */
        if (segment[length] == '\0')
            return true;
        segment += length + 1;
    }
}

/* The extents of a region: each block inside its array, nothing in the dimensions it does not have. */
static bool dims_valid(const struct shard_region *region)
{
    if (region->ndims < 1 || region->ndims > DCACHE_DIMS_MAX)
        return false;
    for (unsigned i = 0; i < DCACHE_DIMS_MAX; i++) {
        uint64_t global = region->global[i];
        uint64_t start = region->start[i];
        uint64_t count = region->count[i];
        if (i >= region->ndims && (global != 0 || start != 0 || count != 0))
            return false;
        if (count > global || start > global - count)
            return false;
        if (!region->is_block && (start != 0 || count != global))
            return false;
    }
    return true;
}

/* Whether `bytes` is what these counts and this type make. */
static bool bytes_valid(const struct shard_region *region)
{
    uint64_t bytes = shard_type_bytes(region->type);
    bool empty = false;
    bool overflow = bytes == 0; /* of an unknown type */
    for (unsigned i = 0; i < region->ndims; i++) {
        empty = empty || region->count[i] == 0;
        overflow = __builtin_mul_overflow(bytes, region->count[i], &bytes) || overflow;
    }
    if (empty)
        return region->bytes == 0 && shard_type_bytes(region->type) > 0;
    return !overflow && bytes == region->bytes;
}

bool shard_extents_valid(const struct shard_region *region)
{
    return dims_valid(region) && bytes_valid(region);
}

void shard_header_free(struct shard_header *header)
{
    free(header->regions);
    free(header->chunk_crc);
    memset(header, 0, sizeof *header);
}
