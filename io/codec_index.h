/**
 * The index behind the frames of a coded image (docs/formats.md): how long each frame is, its digest, and what is
 * needed to decode them. It is a frame of zstd's that decoders skip, so that `zstd -dc` of a compressed object gives
 * the image. Readers trust nothing of it but what was checked here.
 */
#ifndef DCACHE_IO_CODEC_INDEX_H
#define DCACHE_IO_CODEC_INDEX_H

#include "io/codec.h"

#define CODEC_FOOTER_BYTES 128u
#define CODEC_ENTRY_BYTES  12u
#define CODEC_SKIP_BYTES   8u

struct codec_index {
    enum codec codec;
    struct codec_layout layout;
    uint32_t count;      /**< frames */
    uint64_t key_number; /**< of the user's key; 0 without encryption */
    unsigned char salt[CODEC_SALT_BYTES];
    uint64_t frames_bytes; /**< of all frames, as stored */
    uint64_t *starts;      /**< count + 1: where each frame begins in the stored form; owned */
    uint64_t *digests;     /**< CRC-64 of each frame as stored; owned */
};

/** Bytes of the whole index. */
uint64_t codec_index_bytes(const struct codec_layout *layout);

/** Allocate the arrays for index->layout. */
dcache_status_t codec_index_allocate(struct diag *dg, struct codec_index *index) DCACHE_MUST_CHECK;
void codec_index_free(struct codec_index *index);

/** Write it; `out` has codec_index_bytes() bytes. */
void codec_index_encode(const struct codec_index *index, void *out);

/** The footer, the last CODEC_FOOTER_BYTES of `stored_bytes` of an image of `image_bytes`: everything but the arrays.
 */
dcache_status_t codec_index_decode_footer(struct diag *dg, const void *footer, uint64_t stored_bytes,
                                          uint64_t image_bytes, struct codec_index *index) DCACHE_MUST_CHECK;

/** All of it, codec_index_bytes() long; owned by the caller on success.
 * @return DCACHE_OK, DCACHE_ERR_CORRUPT, DCACHE_ERR_FORMAT, DCACHE_ERR_NO_MEMORY */
dcache_status_t codec_index_decode(struct diag *dg, const void *data, uint64_t stored_bytes, uint64_t image_bytes,
                                   struct codec_index *index) DCACHE_MUST_CHECK;

#endif
