/**
 * Objects for tests of object stores: bytes that can be told from any others, from a source that can also fail. Header
 * only, so that what is not used is not compiled.
 */
#ifndef DCACHE_TESTS_UNIT_OBJECT_PATTERN_H
#define DCACHE_TESTS_UNIT_OBJECT_PATTERN_H

#include "io/crc64.h"
#include "io/object_store.h"

/* Bytes that tell where they are and who wrote them. */
static inline unsigned char pattern(uint64_t offset, unsigned seed)
{
    return (unsigned char)((offset * 2654435761u + offset / 4096 + seed * 97) >> 3);
}

struct pattern_source {
    unsigned seed;
    uint64_t bad_offset;  /* the block with this byte comes with a wrong CRC; UINT64_MAX = none */
    uint64_t fail_offset; /* the block with this byte cannot be read */
    atomic_bool *cancel;  /* set when cancel_offset is read */
    uint64_t cancel_offset;
};

static inline dcache_status_t read_pattern(void *context, struct diag *diag, uint64_t offset, void *buffer,
                                           size_t bytes, uint64_t *crc)
{
    const struct pattern_source *from = context;
    unsigned char *out = buffer;
    for (size_t i = 0; i < bytes; i++)
        out[i] = pattern(offset + i, from->seed);
    *crc = crc64_update(0, buffer, bytes);
    if (from->bad_offset >= offset && from->bad_offset - offset < bytes)
        *crc ^= 1;
    if (from->cancel != NULL && from->cancel_offset >= offset && from->cancel_offset - offset < bytes)
        atomic_store(from->cancel, true);
    if (from->fail_offset >= offset && from->fail_offset - offset < bytes)
        return diag_fail(diag, DCACHE_ERR_BUSY, "the source says no");
    return DCACHE_OK;
}

static inline struct pattern_source good_pattern(unsigned seed)
{
    return (struct pattern_source){.seed = seed, .bad_offset = UINT64_MAX, .fail_offset = UINT64_MAX};
}

#endif
