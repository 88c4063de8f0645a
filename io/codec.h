/**
 * The forms in which a shard's image can be stored in an object: as it is, compressed, encrypted, or both. A coded
 * image is a row of frames, each of which can be decoded alone, and an index behind them (io/codec_index.h). This
 * module knows where frames begin and how one is made and read (docs/formats.md); bytes in, bytes or a status out.
 */
#ifndef DCACHE_IO_CODEC_H
#define DCACHE_IO_CODEC_H

#include "io/shard.h"

/** Two bits. */
enum codec { CODEC_PLAIN = 0, CODEC_ZSTD = 1, CODEC_AES = 2, CODEC_ZSTD_AES = 3 };
#define CODECS 4

#define CODEC_KEY_BYTES  32u
#define CODEC_SALT_BYTES 32u
#define CODEC_TAG_BYTES  16u
/** Bytes of image in a frame; a power of two. */
#define CODEC_FRAME_MIN  SHARD_CHUNK_BYTES
#define CODEC_FRAME_MAX  (64u << 20)
#define CODEC_FRAMES_MAX (1u << 26)
#define CODEC_LEVEL_MIN  1
#define CODEC_LEVEL_MAX  19

/** "plain", "zstd", "aes-256-gcm" or "zstd+aes-256-gcm". */
const char *codec_name(enum codec codec);

/** The codec of that name; false when there is none. */
bool codec_parse(const char *name, enum codec *codec);

/** What follows ".h5" in the name of an object: "", ".zst", ".aes" or ".zst.aes". */
const char *codec_suffix(enum codec codec);

/** How an image is cut: frames of the header, then frames of the body, so that frames and chunks begin together. */
struct codec_layout {
    uint64_t bytes;
    uint64_t header_bytes;
    uint32_t frame_bytes;
};

/** The layout that a writer uses. */
struct codec_layout codec_layout_make(uint64_t bytes, uint64_t header_bytes);

/** Within the bounds that everything below relies on. */
bool codec_layout_valid(const struct codec_layout *layout);
uint32_t codec_frame_count(const struct codec_layout *layout);

/** The frame that has the byte at `offset` of the image; where a frame begins there, and how long it is. */
uint32_t codec_frame_at(const struct codec_layout *layout, uint64_t offset);
uint64_t codec_frame_offset(const struct codec_layout *layout, uint32_t index);
uint32_t codec_frame_length(const struct codec_layout *layout, uint32_t index);

/** The most bytes that a frame of `bytes` bytes of image can be stored in. */
size_t codec_frame_bound(enum codec codec, size_t bytes);

/** What all frames of one object have in common. With encryption each frame is bound to all of it. */
struct codec_object {
    enum codec codec;
    char job[SHARD_JOB_MAX + 1];
    struct shard_set set;
    uint32_t rank;
    struct codec_layout layout;
    unsigned char key[CODEC_KEY_BYTES]; /**< this object's alone; to be cleansed */
};

/** The object's key from the user's and the object's salt; and the number by which a user's key is known. */
dcache_status_t codec_derive_key(struct diag *dg, const unsigned char user_key[CODEC_KEY_BYTES],
                                 const unsigned char salt[CODEC_SALT_BYTES],
                                 unsigned char key[CODEC_KEY_BYTES]) DCACHE_MUST_CHECK;
dcache_status_t codec_key_number(struct diag *dg, const unsigned char user_key[CODEC_KEY_BYTES],
                                 uint64_t *number) DCACHE_MUST_CHECK;

/** What one thread needs to make or read frames, one after the other. */
struct codec_worker;
dcache_status_t codec_worker_open(struct diag *dg, int level, struct codec_worker **worker) DCACHE_MUST_CHECK;
void codec_worker_close(struct codec_worker *worker);

/** Make frame `index`. `room` is at least codec_frame_bound(). */
dcache_status_t codec_encode_frame(struct diag *dg, struct codec_worker *worker, const struct codec_object *object,
                                   uint32_t index, const void *plain, void *stored, size_t room,
                                   size_t *stored_bytes) DCACHE_MUST_CHECK;

/** Read frame `index` from untrusted bytes; `plain` gets codec_frame_length() bytes, and never one more.
 * @return DCACHE_OK, DCACHE_ERR_CORRUPT, DCACHE_ERR_NO_MEMORY */
dcache_status_t codec_decode_frame(struct diag *dg, struct codec_worker *worker, const struct codec_object *object,
                                   uint32_t index, const void *stored, size_t stored_bytes,
                                   void *plain) DCACHE_MUST_CHECK;

#endif
