/* Reading headers. Nothing in them is believed before it was checked: they come from files that others may have
 * written, torn by a kill, or rotted. The digests catch accidents, the checks of every field catch the rest. */
#include "io/shard.h"

#include "io/crc64.h"
#include "io/shard_layout.h"
#include "io/store_file.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static bool all_zero(const unsigned char *data, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        if (data[i] != 0)
            return false;
    }
    return true;
}

/* A text of `field_bytes` - 1 bytes at most, with nothing but zeros behind it. */
static bool get_text(const unsigned char *field, size_t field_bytes, char *text)
{
    memcpy(text, field, field_bytes);
    size_t length = strnlen(text, field_bytes);
    return length < field_bytes && all_zero(field + length, field_bytes - length);
}

/* Whether these are the bytes of a header of ours, unharmed, in a version that is known here. */
static dcache_status_t check_seal(struct diag *dg, const unsigned char *data)
{
    unsigned char fixed[SHARD_FIXED_BYTES];
    memcpy(fixed, data, sizeof fixed);
    if (all_zero(fixed, sizeof fixed))
        return DCACHE_NOT_FOUND;
    if (memcmp(fixed + SHARD_AT_MAGIC, SHARD_MAGIC, SHARD_MAGIC_BYTES) != 0)
        return diag_fail(dg, DCACHE_ERR_CORRUPT, "not a shard image: it does not begin with the magic number");
    uint64_t stored = shard_get_u64(fixed + SHARD_AT_FIXED_CRC);
    memset(fixed + SHARD_AT_FIXED_CRC, 0, SHARD_DIGEST_BYTES);
    uint64_t found = crc64_update(0, fixed, sizeof fixed);
    if (found != stored)
        return diag_fail(dg, DCACHE_ERR_CORRUPT,
                         "the shard header has digest %016" PRIx64 " and should have %016" PRIx64
                         ": it is torn or damaged, take another copy",
                         found, stored);
    uint32_t version = shard_get_u32(fixed + SHARD_AT_VERSION);
    if (version > SHARD_FORMAT_VERSION)
        return diag_fail(dg, DCACHE_ERR_FORMAT,
                         "the shard has format version %" PRIu32
                         " and this dcache reads up to %u: use the dcache that wrote it, or a newer one",
                         version, SHARD_FORMAT_VERSION);
    if (version == 0)
        return diag_fail(dg, DCACHE_ERR_CORRUPT, "the shard header has format version 0, which never existed");
    return DCACHE_OK;
}

static dcache_status_t check_identity(struct diag *dg, const struct shard_header *header)
{
    if (header->state != SHARD_WRITING && header->state != SHARD_COMPLETE)
        return diag_fail(dg, DCACHE_ERR_CORRUPT, "the shard header has the unknown state %u", (unsigned)header->state);
    if (header->set.step > DCACHE_STEP_MAX)
        return diag_fail(dg, DCACHE_ERR_CORRUPT, "the shard header has the step %" PRIu64 ", which is too large",
                         header->set.step);
    if (header->rank >= header->set.world_size)
        return diag_fail(dg, DCACHE_ERR_CORRUPT, "the shard header is of rank %" PRIu32 " of %" PRIu32 " ranks",
                         header->rank, header->set.world_size);
    if (!shard_job_valid(header->job))
        return diag_fail(dg, DCACHE_ERR_CORRUPT, "the shard header has a malformed job name");
    return DCACHE_OK;
}

static bool is_header_size(uint64_t bytes)
{
    return bytes >= SHARD_HEADER_MIN && bytes <= SHARD_HEADER_MAX && (bytes & (bytes - 1)) == 0;
}

/* Sizes, counts and the places of the tables. After this no sum of them can overflow. */
static dcache_status_t check_sizes(struct diag *dg, const struct shard_header *header, const unsigned char *fixed)
{
    if (!is_header_size(header->header_bytes))
        return diag_fail(dg, DCACHE_ERR_CORRUPT, "the shard header says it is %" PRIu64 " bytes long",
                         header->header_bytes);
    if (header->file_bytes <= header->header_bytes || header->file_bytes > SHARD_FILE_MAX)
        return diag_fail(dg, DCACHE_ERR_CORRUPT, "the shard header says the image is %" PRIu64 " bytes long",
                         header->file_bytes);
    uint64_t body_bytes = header->file_bytes - header->header_bytes;
    if (shard_get_u32(fixed + SHARD_AT_CHUNK_BYTES) != SHARD_CHUNK_BYTES ||
        header->chunk_count != shard_chunks_in(body_bytes))
        return diag_fail(dg, DCACHE_ERR_CORRUPT,
                         "the shard header has %" PRIu32 " chunks, which is not what a body of %" PRIu64 " bytes has",
                         header->chunk_count, body_bytes);
    if (header->region_count > SHARD_REGIONS_MAX ||
        shard_tables_end(header->region_count, header->chunk_count) > header->header_bytes ||
        shard_get_u64(fixed + SHARD_AT_REGION_TABLE) != SHARD_FIXED_BYTES ||
        shard_get_u64(fixed + SHARD_AT_DIGEST_TABLE) != shard_digest_table_offset(header->region_count))
        return diag_fail(dg, DCACHE_ERR_CORRUPT,
                         "the shard header's tables (%" PRIu32 " regions, %" PRIu32
                         " chunks) are not where they belong",
                         header->region_count, header->chunk_count);
    if (header->step_offset < header->header_bytes || header->step_offset > header->file_bytes - sizeof(uint64_t))
        return diag_fail(dg, DCACHE_ERR_CORRUPT, "the shard header has the step at %" PRIu64 ", outside of the body",
                         header->step_offset);
    return DCACHE_OK;
}

dcache_status_t shard_decode_fixed(struct diag *dg, const void *data, size_t bytes, struct shard_header *header)
{
    const unsigned char *fixed = data;
    if (bytes < SHARD_FIXED_BYTES)
        return diag_fail(dg, DCACHE_ERR_CORRUPT, "%zu bytes are no shard image: the header alone has more", bytes);
    dcache_status_t status = check_seal(dg, fixed);
    if (status != DCACHE_OK)
        return status;

    struct shard_header found = {
        .state = (enum shard_state)shard_get_u32(fixed + SHARD_AT_STATE),
        .set.step = shard_get_u64(fixed + SHARD_AT_STEP),
        .set.sequence = shard_get_u64(fixed + SHARD_AT_SEQUENCE),
        .set.epoch = shard_get_u64(fixed + SHARD_AT_EPOCH),
        .set.world_size = shard_get_u32(fixed + SHARD_AT_WORLD_SIZE),
        .rank = shard_get_u32(fixed + SHARD_AT_RANK),
        .header_bytes = shard_get_u64(fixed + SHARD_AT_HEADER_BYTES),
        .file_bytes = shard_get_u64(fixed + SHARD_AT_FILE_BYTES),
        .region_count = shard_get_u32(fixed + SHARD_AT_REGION_COUNT),
        .step_offset = shard_get_u64(fixed + SHARD_AT_STEP_OFFSET),
        .chunk_count = shard_get_u32(fixed + SHARD_AT_CHUNK_COUNT),
    };
    if (!get_text(fixed + SHARD_AT_JOB, sizeof found.job, found.job))
        found.job[0] = '\0'; /* which is no valid name either */
    if (!all_zero(fixed + SHARD_AT_RESERVED, 4) || !all_zero(fixed + SHARD_AT_TAIL, SHARD_FIXED_BYTES - SHARD_AT_TAIL))
        return diag_fail(dg, DCACHE_ERR_CORRUPT, "the shard header has something in its reserved bytes");
    status = check_identity(dg, &found);
    if (status == DCACHE_OK)
        status = check_sizes(dg, &found, fixed);
    if (status == DCACHE_OK)
        *header = found;
    return status;
}

static void get_dims(const unsigned char *at, uint64_t dims[DCACHE_DIMS_MAX])
{
    for (unsigned i = 0; i < DCACHE_DIMS_MAX; i++)
        dims[i] = shard_get_u64(at + 8 * i);
}

static bool place_valid(const struct shard_region *region, const struct shard_header *header)
{
    if (region->bytes == 0)
        return region->offset == 0;
    return region->offset >= header->header_bytes && region->offset <= header->file_bytes &&
           region->bytes <= header->file_bytes - region->offset;
}

static dcache_status_t decode_region(struct diag *dg, const unsigned char *at, const struct shard_header *header,
                                     struct shard_region *region)
{
    uint32_t flags = shard_get_u32(at + SHARD_REGION_AT_FLAGS);
    region->type = (dcache_type_t)shard_get_u32(at + SHARD_REGION_AT_TYPE);
    region->ndims = shard_get_u32(at + SHARD_REGION_AT_NDIMS);
    region->is_block = (flags & SHARD_FLAG_BLOCK) != 0;
    region->bytes = shard_get_u64(at + SHARD_REGION_AT_BYTES);
    region->offset = shard_get_u64(at + SHARD_REGION_AT_OFFSET);
    get_dims(at + SHARD_REGION_AT_GLOBAL, region->global);
    get_dims(at + SHARD_REGION_AT_START, region->start);
    get_dims(at + SHARD_REGION_AT_COUNT, region->count);

    if (!get_text(at + SHARD_REGION_AT_NAME, sizeof region->name, region->name) || !shard_name_valid(region->name))
        return diag_fail(dg, DCACHE_ERR_CORRUPT, "the shard header has a region with a malformed name");
    if (shard_type_bytes(region->type) == 0 || (flags & ~SHARD_FLAG_BLOCK) != 0 ||
        !all_zero(at + SHARD_REGION_AT_RESERVED, 4) ||
        !all_zero(at + SHARD_REGION_AT_TAIL, SHARD_REGION_BYTES - SHARD_REGION_AT_TAIL))
        return diag_fail(dg, DCACHE_ERR_CORRUPT, "the shard header has region %s of unknown type %u, flags %u or more",
                         region->name, (unsigned)region->type, (unsigned)flags);
    if (!shard_extents_valid(region))
        return diag_fail(dg, DCACHE_ERR_CORRUPT, "the shard header has region %s with impossible extents",
                         region->name);
    if (!place_valid(region, header))
        return diag_fail(dg, DCACHE_ERR_CORRUPT,
                         "the shard header has region %s at %" PRIu64 ", %" PRIu64 " bytes long, outside of the body",
                         region->name, region->offset, region->bytes);
    return DCACHE_OK;
}

/* At least one entry, so that an empty table is not taken for a failure of malloc. */
static void *allocate_table(size_t entries, size_t entry_bytes)
{
    return calloc(entries > 0 ? entries : 1, entry_bytes);
}

static dcache_status_t decode_tables(struct diag *dg, const unsigned char *data, struct shard_header *header)
{
    header->regions = allocate_table(header->region_count, sizeof *header->regions);
    header->chunk_crc = allocate_table(header->chunk_count, sizeof *header->chunk_crc);
    if (header->regions == NULL || header->chunk_crc == NULL)
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "no memory for a shard header of %" PRIu64 " bytes",
                         header->header_bytes);
    const unsigned char *at = data + SHARD_FIXED_BYTES;
    for (uint32_t i = 0; i < header->region_count; i++, at += SHARD_REGION_BYTES) {
        dcache_status_t status = decode_region(dg, at, header, &header->regions[i]);
        if (status != DCACHE_OK)
            return status;
    }
    for (uint32_t i = 0; i < header->chunk_count; i++, at += SHARD_DIGEST_BYTES)
        header->chunk_crc[i] = shard_get_u64(at);
    if (!all_zero(at, header->header_bytes - (size_t)(at - data)))
        return diag_fail(dg, DCACHE_ERR_CORRUPT, "the shard header has something behind its tables");
    return DCACHE_OK;
}

dcache_status_t shard_decode(struct diag *dg, const void *data, size_t bytes, struct shard_header *header)
{
    const unsigned char *image = data;
    struct shard_header found;
    dcache_status_t status = shard_decode_fixed(dg, data, bytes, &found);
    if (status != DCACHE_OK)
        return status;
    if (found.state != SHARD_COMPLETE)
        return diag_fail(dg, DCACHE_ERR_CORRUPT, "the shard of step %" PRIu64 ", rank %" PRIu32 " was never completed",
                         found.set.step, found.rank);
    if (found.header_bytes > bytes)
        return diag_fail(dg, DCACHE_ERR_CORRUPT, "the shard header is cut: %zu of %" PRIu64 " bytes are there", bytes,
                         found.header_bytes);
    uint64_t stored = shard_get_u64(image + SHARD_AT_TABLES_CRC);
    uint64_t digest = crc64_update(0, image + SHARD_FIXED_BYTES, found.header_bytes - SHARD_FIXED_BYTES);
    if (digest != stored)
        return diag_fail(dg, DCACHE_ERR_CORRUPT,
                         "the shard header's tables have digest %016" PRIx64 " and should have %016" PRIx64
                         ": they are torn or damaged, take another copy",
                         digest, stored);
    status = decode_tables(dg, image, &found);
    if (status == DCACHE_OK)
        *header = found;
    else
        shard_header_free(&found);
    return status;
}

/* The first `bytes` bytes of a file; a shorter one is corrupt. */
static dcache_status_t read_exactly(struct diag *dg, int fd, void *buffer, size_t bytes)
{
    size_t got = 0;
    dcache_status_t status = store_file_read(dg, fd, 0, buffer, bytes, &got);
    if (status == DCACHE_OK && got < bytes)
        status = diag_fail(dg, DCACHE_ERR_CORRUPT, "the shard header is cut: %zu of %zu bytes are there", got, bytes);
    return status;
}

static dcache_status_t check_file_length(struct diag *dg, int fd, const struct shard_header *header)
{
    struct stat status;
    if (fstat(fd, &status) != 0)
        return diag_fail_errno(dg, errno, "cannot get the length of a shard image");
    if (status.st_size < 0 || (uint64_t)status.st_size != header->file_bytes)
        return diag_fail(dg, DCACHE_ERR_CORRUPT,
                         "the shard image is %jd bytes long and its header says %" PRIu64 ": take another copy",
                         (intmax_t)status.st_size, header->file_bytes);
    return DCACHE_OK;
}

dcache_status_t shard_read_header(struct diag *dg, int fd, struct shard_header *header)
{
    unsigned char fixed[SHARD_FIXED_BYTES];
    struct shard_header found;
    dcache_status_t status = read_exactly(dg, fd, fixed, sizeof fixed);
    if (status == DCACHE_OK)
        status = shard_decode_fixed(dg, fixed, sizeof fixed, &found);
    if (status == DCACHE_OK) /* before memory is taken for what a header merely says */
        status = check_file_length(dg, fd, &found);
    if (status != DCACHE_OK)
        return status;

    size_t bytes = found.header_bytes;
    unsigned char *data = malloc(bytes);
    if (data == NULL)
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "no memory for a shard header of %zu bytes", bytes);
    status = read_exactly(dg, fd, data, bytes);
    if (status == DCACHE_OK)
        status = shard_decode(dg, data, bytes, &found);
    free(data);
    if (status != DCACHE_OK)
        return status;
    status = check_file_length(dg, fd, &found); /* the slot may have been used again meanwhile */
    if (status == DCACHE_OK)
        *header = found;
    else
        shard_header_free(&found);
    return status;
}
