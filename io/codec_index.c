#include "io/codec_index.h"

#include "io/crc64.h"

#include <stdlib.h>
#include <string.h>

#define SKIPPABLE_MAGIC 0x184D2A5Du
#define INDEX_VERSION   1u

static const unsigned char magic[8] = {'D', 'C', 'I', 'N', 'D', 'E', 'X', '\n'};

/* Places in the footer. */
enum {
    AT_DIGEST = 0,
    AT_MAGIC = 8,
    AT_VERSION = 16,
    AT_CODEC = 20,
    AT_BYTES = 24,
    AT_HEADER_BYTES = 32,
    AT_FRAME_BYTES = 40,
    AT_COUNT = 44,
    AT_FRAMES_BYTES = 48,
    AT_KEY_NUMBER = 56,
    AT_SALT = 64
};

static void put(unsigned char *at, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        at[i] = (unsigned char)(value >> 8 * i);
}

static uint64_t get(const unsigned char *at, unsigned bytes)
{
    uint64_t value = 0;
    for (unsigned i = bytes; i > 0; i--)
        value = value << 8 | at[i - 1];
    return value;
}

static uint64_t entries_bytes(uint32_t count)
{
    return (uint64_t)count * CODEC_ENTRY_BYTES;
}

uint64_t codec_index_bytes(const struct codec_layout *layout)
{
    return CODEC_SKIP_BYTES + entries_bytes(codec_frame_count(layout)) + CODEC_FOOTER_BYTES;
}

dcache_status_t codec_index_allocate(struct diag *dg, struct codec_index *index)
{
    index->count = codec_frame_count(&index->layout);
    index->starts = calloc((size_t)index->count + 1, sizeof *index->starts);
    index->digests = calloc((size_t)index->count + 1, sizeof *index->digests);
    if (index->starts == NULL || index->digests == NULL) {
        codec_index_free(index);
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "out of memory for an index of %u frames", index->count);
    }
    return DCACHE_OK;
}

void codec_index_free(struct codec_index *index)
{
    free(index->starts);
    free(index->digests);
    index->starts = index->digests = NULL;
}

/* Of entries and footer, its own place taken as zero. */
static uint64_t digest_of(const unsigned char *entries, const unsigned char *footer, uint32_t count)
{
    static const unsigned char zeros[8];
    uint64_t digest = crc64_update(0, entries, entries_bytes(count));
    digest = crc64_update(digest, zeros, sizeof zeros);
    return crc64_update(digest, footer + AT_MAGIC, CODEC_FOOTER_BYTES - AT_MAGIC);
}

void codec_index_encode(const struct codec_index *index, void *out)
{
    unsigned char *at = out;
    put(at, SKIPPABLE_MAGIC, 4);
    put(at + 4, entries_bytes(index->count) + CODEC_FOOTER_BYTES, 4);
    unsigned char *entries = at + CODEC_SKIP_BYTES;
    for (uint32_t i = 0; i < index->count; i++) {
        put(entries + entries_bytes(i), index->starts[i + 1] - index->starts[i], 4);
        put(entries + entries_bytes(i) + 4, index->digests[i], 8);
    }
    unsigned char *footer = entries + entries_bytes(index->count);
    memset(footer, 0, CODEC_FOOTER_BYTES);
    memcpy(footer + AT_MAGIC, magic, sizeof magic);
    put(footer + AT_VERSION, INDEX_VERSION, 4);
    put(footer + AT_CODEC, index->codec, 4);
    put(footer + AT_BYTES, index->layout.bytes, 8);
    put(footer + AT_HEADER_BYTES, index->layout.header_bytes, 8);
    put(footer + AT_FRAME_BYTES, index->layout.frame_bytes, 4);
    put(footer + AT_COUNT, index->count, 4);
    put(footer + AT_FRAMES_BYTES, index->frames_bytes, 8);
    put(footer + AT_KEY_NUMBER, index->key_number, 8);
    memcpy(footer + AT_SALT, index->salt, CODEC_SALT_BYTES);
    put(footer + AT_DIGEST, digest_of(entries, footer, index->count), 8);
}

static dcache_status_t bad_index(struct diag *dg, const char *why)
{
    return diag_fail(dg, DCACHE_ERR_CORRUPT, "the index behind the frames %s", why);
}

dcache_status_t codec_index_decode_footer(struct diag *dg, const void *data, uint64_t stored_bytes,
                                          uint64_t image_bytes, struct codec_index *index)
{
    const unsigned char *footer = data;
    struct codec_index found = {.starts = NULL};
    if (memcmp(footer + AT_MAGIC, magic, sizeof magic) != 0)
        return bad_index(dg, "is not there: the object is torn, or not what its name says");
    if (get(footer + AT_VERSION, 4) != INDEX_VERSION)
        return diag_fail(dg, DCACHE_ERR_FORMAT,
                         "the index behind the frames has format version %llu, this dcache reads %u: use the dcache "
                         "that wrote it or a newer one",
                         (unsigned long long)get(footer + AT_VERSION, 4), INDEX_VERSION);
    uint64_t codec = get(footer + AT_CODEC, 4);
    found.layout = (struct codec_layout){.bytes = get(footer + AT_BYTES, 8),
                                         .header_bytes = get(footer + AT_HEADER_BYTES, 8),
                                         .frame_bytes = (uint32_t)get(footer + AT_FRAME_BYTES, 4)};
    found.frames_bytes = get(footer + AT_FRAMES_BYTES, 8);
    found.key_number = get(footer + AT_KEY_NUMBER, 8);
    memcpy(found.salt, footer + AT_SALT, CODEC_SALT_BYTES);
    if (codec == CODEC_PLAIN || codec >= CODECS || !codec_layout_valid(&found.layout))
        return bad_index(dg, "has numbers that cannot be");
    found.codec = (enum codec)codec;
    found.count = codec_frame_count(&found.layout);
    uint64_t own = codec_index_bytes(&found.layout);
    if (found.layout.bytes != image_bytes || get(footer + AT_COUNT, 4) != found.count || own > stored_bytes ||
        found.frames_bytes != stored_bytes - own)
        return bad_index(dg, "does not fit the object or the manifest");
    *index = found;
    return DCACHE_OK;
}

/* The arrays, from entries that fit the footer's digest. */
static dcache_status_t read_entries(struct diag *dg, const unsigned char *entries, struct codec_index *index)
{
    for (uint32_t i = 0; i < index->count; i++) {
        uint64_t length = get(entries + entries_bytes(i), 4);
        if (length == 0 || length > codec_frame_bound(index->codec, codec_frame_length(&index->layout, i)))
            return bad_index(dg, "has a frame of a length that cannot be");
        index->starts[i + 1] = index->starts[i] + length;
        index->digests[i] = get(entries + entries_bytes(i) + 4, 8);
    }
    return index->starts[index->count] == index->frames_bytes ? DCACHE_OK
                                                              : bad_index(dg, "has frames that do not add up");
}

dcache_status_t codec_index_decode(struct diag *dg, const void *data, uint64_t stored_bytes, uint64_t image_bytes,
                                   struct codec_index *index)
{
    struct codec_index found;
    const unsigned char *at = data;
    /* The caller has seen the footer; how long the rest is follows from what it asked for. */
    const uint64_t own = index->count > 0 ? codec_index_bytes(&index->layout) : 0;
    if (own == 0)
        return bad_index(dg, "was not looked at");
    const unsigned char *footer = at + own - CODEC_FOOTER_BYTES;
    dcache_status_t status = codec_index_decode_footer(dg, footer, stored_bytes, image_bytes, &found);
    if (status != DCACHE_OK)
        return status;
    const unsigned char *entries = at + CODEC_SKIP_BYTES;
    if (codec_index_bytes(&found.layout) != own || get(at, 4) != SKIPPABLE_MAGIC ||
        get(at + 4, 4) != own - CODEC_SKIP_BYTES || digest_of(entries, footer, found.count) != get(footer, 8))
        return bad_index(dg, "does not match its digest");
    status = codec_index_allocate(dg, &found);
    if (status == DCACHE_OK)
        status = read_entries(dg, entries, &found);
    if (status != DCACHE_OK) {
        codec_index_free(&found);
        return status;
    }
    *index = found;
    return DCACHE_OK;
}
