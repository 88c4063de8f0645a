/* The header of a shard image, as it is, and with its digests put right: a hostile writer computes them, too. */
#include "fuzz.h"

#include "io/crc64.h"
#include "io/shard.h"
#include "io/shard_layout.h"

#include <stdlib.h>
#include <string.h>

#define IMAGE_MAX 65536u

static void check_places(const struct shard_header *header)
{
    for (uint32_t i = 0; i < header->region_count; i++) {
        const struct shard_region *region = &header->regions[i];
        fuzz_require(region->offset <= header->file_bytes && region->bytes <= header->file_bytes - region->offset,
                     "a region lies in the image");
    }
    for (uint32_t i = 0; i < header->chunk_count; i++) {
        uint64_t end = shard_chunk_offset(header, i) + shard_chunk_length(header, i);
        fuzz_require(shard_chunk_length(header, i) > 0 && end <= header->file_bytes, "a chunk lies in the image");
    }
}

static void decode(const uint8_t *image, size_t size)
{
    struct diag *dg = fuzz_diag();
    struct shard_header header;
    dcache_status_t status = shard_decode(dg, image, size, &header);
    fuzz_require_text(dg, status);
    if (status != DCACHE_OK)
        return;
    check_places(&header);
    uint8_t *again = malloc(header.header_bytes);
    fuzz_require(again != NULL, "memory");
    shard_encode(&header, again);
    fuzz_require(memcmp(again, image, header.header_bytes) == 0, "what is accepted is what would be written");
    free(again);
    shard_header_free(&header);
}

static void seal(uint8_t *image, size_t size)
{
    memcpy(image + SHARD_AT_MAGIC, SHARD_MAGIC, SHARD_MAGIC_BYTES);
    shard_put_u32(image + SHARD_AT_VERSION, SHARD_FORMAT_VERSION);
    shard_put_u64(image + SHARD_AT_TABLES_CRC, crc64_update(0, image + SHARD_FIXED_BYTES, size - SHARD_FIXED_BYTES));
    shard_put_u64(image + SHARD_AT_FIXED_CRC, 0);
    shard_put_u64(image + SHARD_AT_FIXED_CRC, crc64_update(0, image, SHARD_FIXED_BYTES));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t image[IMAGE_MAX];
    struct shard_header header;
    dcache_status_t status = shard_decode_fixed(fuzz_diag(), data, size, &header);
    (void)status;
    decode(data, size);
    uint64_t header_bytes = size >= SHARD_FIXED_BYTES ? shard_get_u64(data + SHARD_AT_HEADER_BYTES) : 0;
    if (header_bytes < SHARD_FIXED_BYTES || header_bytes > IMAGE_MAX || size > IMAGE_MAX)
        return 0;
    memset(image, 0, sizeof image);
    memcpy(image, data, size);
    seal(image, header_bytes);
    decode(image, header_bytes);
    return 0;
}
