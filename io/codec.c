#include "io/codec.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

static const char *const names[CODECS] = {"plain", "zstd", "aes-256-gcm", "zstd+aes-256-gcm"};
static const char *const suffixes[CODECS] = {"", ".zst", ".aes", ".zst.aes"};

const char *codec_name(enum codec codec)
{
    return names[(unsigned)codec % CODECS];
}

bool codec_parse(const char *name, enum codec *codec)
{
    for (unsigned i = 0; i < CODECS; i++) {
        if (strcmp(name, names[i]) == 0) {
            *codec = (enum codec)i;
            return true;
        }
    }
    return false;
}

const char *codec_suffix(enum codec codec)
{
    return suffixes[(unsigned)codec % CODECS];
}

/* --- Where frames are ----------------------------------------------------------------------------------------------*/

static uint64_t frames_in(uint64_t bytes, uint64_t frame_bytes)
{
    return bytes / frame_bytes + (bytes % frame_bytes != 0);
}

static uint64_t count_frames(const struct codec_layout *layout)
{
    return frames_in(layout->header_bytes, layout->frame_bytes) +
           frames_in(layout->bytes - layout->header_bytes, layout->frame_bytes);
}

struct codec_layout codec_layout_make(uint64_t bytes, uint64_t header_bytes)
{
    struct codec_layout layout = {.bytes = bytes, .header_bytes = header_bytes, .frame_bytes = CODEC_FRAME_MIN};
    while (layout.frame_bytes < CODEC_FRAME_MAX && count_frames(&layout) > CODEC_FRAMES_MAX)
        layout.frame_bytes *= 2;
    return layout;
}

bool codec_layout_valid(const struct codec_layout *layout)
{
    const uint32_t frame_bytes = layout->frame_bytes;
    return frame_bytes >= CODEC_FRAME_MIN && frame_bytes <= CODEC_FRAME_MAX && (frame_bytes & (frame_bytes - 1)) == 0 &&
           layout->header_bytes <= SHARD_HEADER_MAX && layout->bytes <= SHARD_FILE_MAX && layout->header_bytes > 0 &&
           layout->header_bytes < layout->bytes && count_frames(layout) <= CODEC_FRAMES_MAX;
}

uint32_t codec_frame_count(const struct codec_layout *layout)
{
    return (uint32_t)count_frames(layout);
}

uint32_t codec_frame_at(const struct codec_layout *layout, uint64_t offset)
{
    if (offset < layout->header_bytes)
        return (uint32_t)(offset / layout->frame_bytes);
    return (uint32_t)(frames_in(layout->header_bytes, layout->frame_bytes) +
                      (offset - layout->header_bytes) / layout->frame_bytes);
}

uint64_t codec_frame_offset(const struct codec_layout *layout, uint32_t index)
{
    uint64_t in_header = frames_in(layout->header_bytes, layout->frame_bytes);
    if (index < in_header)
        return (uint64_t)index * layout->frame_bytes;
    return layout->header_bytes + (index - in_header) * layout->frame_bytes;
}

uint32_t codec_frame_length(const struct codec_layout *layout, uint32_t index)
{
    uint64_t offset = codec_frame_offset(layout, index);
    uint64_t end = offset < layout->header_bytes ? layout->header_bytes : layout->bytes;
    return end - offset < layout->frame_bytes ? (uint32_t)(end - offset) : layout->frame_bytes;
}

size_t codec_frame_bound(enum codec codec, size_t bytes)
{
    size_t bound = (codec & CODEC_ZSTD) != 0 ? ZSTD_compressBound(bytes) : bytes;
    return (codec & CODEC_AES) != 0 ? bound + CODEC_TAG_BYTES : bound;
}

/* --- Keys ----------------------------------------------------------------------------------------------------------*/

static dcache_status_t keyed_hash(struct diag *dg, const unsigned char key[CODEC_KEY_BYTES], const void *data,
                                  size_t bytes, unsigned char digest[CODEC_KEY_BYTES])
{
    unsigned length = 0;
    if (HMAC(EVP_sha256(), key, CODEC_KEY_BYTES, data, bytes, digest, &length) == NULL || length != CODEC_KEY_BYTES)
        return diag_fail(dg, DCACHE_ERR_INTERNAL, "HMAC-SHA256 failed");
    return DCACHE_OK;
}

dcache_status_t codec_derive_key(struct diag *dg, const unsigned char user_key[CODEC_KEY_BYTES],
                                 const unsigned char salt[CODEC_SALT_BYTES], unsigned char key[CODEC_KEY_BYTES])
{
    static const char purpose[] = "dcache object key 1";
    unsigned char text[sizeof purpose - 1 + CODEC_SALT_BYTES];
    memcpy(text, purpose, sizeof purpose - 1);
    memcpy(text + sizeof purpose - 1, salt, CODEC_SALT_BYTES);
    return keyed_hash(dg, user_key, text, sizeof text, key);
}

dcache_status_t codec_key_number(struct diag *dg, const unsigned char user_key[CODEC_KEY_BYTES], uint64_t *number)
{
    static const char purpose[] = "dcache key number 1";
    unsigned char digest[CODEC_KEY_BYTES];
    dcache_status_t status = keyed_hash(dg, user_key, purpose, sizeof purpose - 1, digest);
    if (status != DCACHE_OK)
        return status;
    *number = 0;
    for (unsigned i = 0; i < 8; i++)
        *number = *number << 8 | digest[i];
    return DCACHE_OK;
}

/* --- Frames --------------------------------------------------------------------------------------------------------*/

struct codec_worker {
    ZSTD_CCtx *compress;
    ZSTD_DCtx *decompress;
    EVP_CIPHER_CTX *cipher;
    void *between; /* a compressed frame before it is encrypted, or after it was decrypted */
    size_t between_room;
};

dcache_status_t codec_worker_open(struct diag *dg, int level, struct codec_worker **worker)
{
    struct codec_worker *made = calloc(1, sizeof *made);
    if (made == NULL)
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "out of memory for coding");
    made->compress = ZSTD_createCCtx();
    made->decompress = ZSTD_createDCtx();
    made->cipher = EVP_CIPHER_CTX_new();
    if (made->compress == NULL || made->decompress == NULL || made->cipher == NULL) {
        codec_worker_close(made);
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "out of memory for coding");
    }
    (void)ZSTD_CCtx_setParameter(made->compress, ZSTD_c_compressionLevel, level);
    (void)ZSTD_CCtx_setParameter(made->compress, ZSTD_c_checksumFlag, 1);
    *worker = made;
    return DCACHE_OK;
}

void codec_worker_close(struct codec_worker *worker)
{
    if (worker == NULL)
        return;
    ZSTD_freeCCtx(worker->compress);
    ZSTD_freeDCtx(worker->decompress);
    EVP_CIPHER_CTX_free(worker->cipher);
    if (worker->between != NULL)
        OPENSSL_cleanse(worker->between, worker->between_room);
    free(worker->between);
    free(worker);
}

static dcache_status_t make_room(struct diag *dg, struct codec_worker *worker, size_t room)
{
    if (worker->between_room >= room)
        return DCACHE_OK;
    void *larger = realloc(worker->between, room);
    if (larger == NULL)
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "out of memory for a frame of %zu bytes", room);
    worker->between = larger;
    worker->between_room = room;
    return DCACHE_OK;
}

static unsigned char *put_number(unsigned char *at, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        *at++ = (unsigned char)(value >> 8 * i);
    return at;
}

#define BINDING_BYTES 136u

/* What a frame is authenticated together with, so that it is good in its own place only. */
static void make_binding(const struct codec_object *object, uint32_t index, unsigned char binding[BINDING_BYTES])
{
    unsigned char *at = binding;
    memset(binding, 0, BINDING_BYTES);
    memcpy(at, "dcache frame 1", 14);
    memcpy(at + 16, object->job, strlen(object->job));
    at = put_number(at + 80, object->set.step, 8);
    at = put_number(at, object->set.sequence, 8);
    at = put_number(at, object->set.epoch, 8);
    at = put_number(at, object->set.world_size, 4);
    at = put_number(at, object->rank, 4);
    at = put_number(at, object->layout.bytes, 8);
    at = put_number(at, object->layout.header_bytes, 8);
    at = put_number(at, index, 4);
    put_number(at, (uint64_t)object->codec << 28 | object->layout.frame_bytes, 4);
}

/* The key is this object's alone and each of its frames has another number: no nonce comes twice with one key. */
static bool start_cipher(EVP_CIPHER_CTX *cipher, const struct codec_object *object, uint32_t index, bool encrypt)
{
    unsigned char nonce[12] = {0};
    unsigned char binding[BINDING_BYTES];
    int length = 0;
    put_number(nonce, index, 4);
    make_binding(object, index, binding);
    return EVP_CipherInit_ex(cipher, EVP_aes_256_gcm(), NULL, object->key, nonce, encrypt ? 1 : 0) == 1 &&
           EVP_CipherUpdate(cipher, NULL, &length, binding, (int)sizeof binding) == 1;
}

static dcache_status_t encrypt_frame(struct diag *dg, const struct codec_worker *worker,
                                     const struct codec_object *object, uint32_t index, const void *plain, size_t bytes,
                                     unsigned char *stored)
{
    int length = 0;
    int last = 0;
    bool good = start_cipher(worker->cipher, object, index, true) &&
                EVP_CipherUpdate(worker->cipher, stored, &length, plain, (int)bytes) == 1 &&
                EVP_CipherFinal_ex(worker->cipher, stored + length, &last) == 1 &&
                (size_t)length + (size_t)last == bytes &&
                EVP_CIPHER_CTX_ctrl(worker->cipher, EVP_CTRL_GCM_GET_TAG, CODEC_TAG_BYTES, stored + bytes) == 1;
    if (!good)
        return diag_fail(dg, DCACHE_ERR_INTERNAL, "AES-256-GCM failed");
    bytes += CODEC_TAG_BYTES;
    return diag_failpoint_data(dg, "codec.encrypt", stored, &bytes);
}

/* `bytes` is without the tag. */
static bool decrypt_frame(const struct codec_worker *worker, const struct codec_object *object, uint32_t index,
                          const unsigned char *stored, size_t bytes, unsigned char *plain)
{
    unsigned char tag[CODEC_TAG_BYTES];
    int length = 0;
    int last = 0;
    memcpy(tag, stored + bytes, sizeof tag);
    return start_cipher(worker->cipher, object, index, false) &&
           EVP_CipherUpdate(worker->cipher, plain, &length, stored, (int)bytes) == 1 && (size_t)length == bytes &&
           EVP_CIPHER_CTX_ctrl(worker->cipher, EVP_CTRL_GCM_SET_TAG, CODEC_TAG_BYTES, tag) == 1 &&
           EVP_CipherFinal_ex(worker->cipher, plain + length, &last) == 1 && last == 0;
}

dcache_status_t codec_encode_frame(struct diag *dg, struct codec_worker *worker, const struct codec_object *object,
                                   uint32_t index, const void *plain, void *stored, size_t room, size_t *stored_bytes)
{
    const bool compress = (object->codec & CODEC_ZSTD) != 0;
    const bool encrypt = (object->codec & CODEC_AES) != 0;
    size_t bytes = codec_frame_length(&object->layout, index);
    const void *from = plain;
    if (room < codec_frame_bound(object->codec, bytes))
        return diag_fail(dg, DCACHE_ERR_INTERNAL, "no room for a frame of %zu bytes", bytes);
    if (compress) {
        size_t bound = ZSTD_compressBound(bytes);
        dcache_status_t status = encrypt ? make_room(dg, worker, bound) : DCACHE_OK;
        if (status != DCACHE_OK)
            return status;
        void *target = encrypt ? worker->between : stored;
        bytes = ZSTD_compress2(worker->compress, target, bound, plain, bytes);
        if (ZSTD_isError(bytes))
            return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "cannot compress: %s", ZSTD_getErrorName(bytes));
        status = diag_failpoint_data(dg, "codec.compress", target, &bytes);
        if (status != DCACHE_OK)
            return status;
        from = target;
    }
    *stored_bytes = encrypt ? bytes + CODEC_TAG_BYTES : bytes;
    return encrypt ? encrypt_frame(dg, worker, object, index, from, bytes, stored) : DCACHE_OK;
}

static dcache_status_t bad_frame(struct diag *dg, uint32_t index, const char *why)
{
    return diag_fail(dg, DCACHE_ERR_CORRUPT, "frame %u %s", index, why);
}

/* To `target`, which is the frame's place in the image, or is to be decompressed. */
static dcache_status_t open_frame(struct diag *dg, struct codec_worker *worker, const struct codec_object *object,
                                  uint32_t index, const void *stored, size_t bytes, void *target)
{
    if (!decrypt_frame(worker, object, index, stored, bytes, target)) {
        OPENSSL_cleanse(target, bytes); /* nobody has vouched for it */
        return bad_frame(dg, index, "was changed, or is not the one that belongs there: its tag does not fit");
    }
    return diag_failpoint_data(dg, "codec.decrypt", target, &bytes);
}

/* One frame and nothing else: the decoder would go on with what follows it. */
static dcache_status_t decompress_frame(struct diag *dg, const struct codec_worker *worker, uint32_t index,
                                        const void *from, size_t bytes, void *plain, size_t wanted)
{
    size_t length = ZSTD_findFrameCompressedSize(from, bytes);
    size_t made = ZSTD_isError(length) || length != bytes
                      ? 0
                      : ZSTD_decompressDCtx(worker->decompress, plain, wanted, from, bytes);
    if (ZSTD_isError(made) || made != wanted)
        return bad_frame(dg, index, "cannot be decompressed");
    return diag_failpoint_data(dg, "codec.decompress", plain, &made);
}

dcache_status_t codec_decode_frame(struct diag *dg, struct codec_worker *worker, const struct codec_object *object,
                                   uint32_t index, const void *stored, size_t stored_bytes, void *plain)
{
    const bool compressed = (object->codec & CODEC_ZSTD) != 0;
    const size_t wanted = codec_frame_length(&object->layout, index);
    const void *from = stored;
    size_t bytes = stored_bytes;
    if (bytes > codec_frame_bound(object->codec, wanted))
        return bad_frame(dg, index, "is longer than it can be");
    if ((object->codec & CODEC_AES) != 0) {
        if (bytes < CODEC_TAG_BYTES || (!compressed && bytes != wanted + CODEC_TAG_BYTES))
            return bad_frame(dg, index, "has not the length of an encrypted one");
        bytes -= CODEC_TAG_BYTES;
        dcache_status_t status = compressed ? make_room(dg, worker, bytes > 0 ? bytes : 1) : DCACHE_OK;
        if (status != DCACHE_OK)
            return status;
        void *target = compressed ? worker->between : plain;
        status = open_frame(dg, worker, object, index, stored, bytes, target);
        if (status != DCACHE_OK)
            return status;
        from = target;
    }
    return compressed ? decompress_frame(dg, worker, index, from, bytes, plain, wanted) : DCACHE_OK;
}
