/* Frames of a coded image, and the index behind them, from a store that may send anything. The first byte says which
 * codec and what the rest is: a stored frame, a frame's content that is coded and then spoilt, or an index. */
#include "fuzz.h"

#include "io/codec_index.h"
#include "io/crc64.h"

#include <stdlib.h>
#include <string.h>

#define HEADER_BYTES 512u
#define BODY_BYTES   4096u

enum what { FRAME, SPOILT, INDEX, INDEX_WITH_DIGEST };

/* Two short frames: of the header and of the body. */
static struct codec_object make_object(enum codec codec)
{
    struct codec_object object = {.codec = codec,
                                  .job = "fuzz",
                                  .set = {.step = 5, .sequence = 2, .epoch = 3, .world_size = 4},
                                  .rank = 1,
                                  .layout = codec_layout_make(HEADER_BYTES + BODY_BYTES, HEADER_BYTES)};
    memset(object.key, 7, sizeof object.key);
    return object;
}

/* Into memory that ends where the frame does, so that a byte too many is seen. */
static dcache_status_t decode(struct codec_worker *worker, const struct codec_object *object, uint32_t index,
                              const void *stored, size_t bytes, unsigned char **plain)
{
    struct diag *dg = fuzz_diag();
    *plain = malloc(codec_frame_length(&object->layout, index));
    fuzz_require(*plain != NULL, "there is memory");
    dcache_status_t status = codec_decode_frame(dg, worker, object, index, stored, bytes, *plain);
    fuzz_require(status == DCACHE_OK || status == DCACHE_ERR_CORRUPT, "a frame is good or corrupt");
    fuzz_require_text(dg, status);
    return status;
}

static unsigned char *encode(struct codec_worker *worker, const struct codec_object *object, uint32_t index,
                             const void *plain, size_t *bytes)
{
    size_t room = codec_frame_bound(object->codec, codec_frame_length(&object->layout, index));
    unsigned char *stored = malloc(room);
    fuzz_require(stored != NULL &&
                     codec_encode_frame(fuzz_diag(), worker, object, index, plain, stored, room, bytes) == DCACHE_OK,
                 "every frame can be coded");
    fuzz_require(*bytes <= room, "no frame is longer than its bound");
    return stored;
}

/* What is read can be written, and is the same again. */
static void check_round_trip(struct codec_worker *worker, const struct codec_object *object, uint32_t index,
                             const unsigned char *plain)
{
    unsigned char *again = NULL;
    size_t bytes = 0;
    unsigned char *stored = encode(worker, object, index, plain, &bytes);
    fuzz_require(decode(worker, object, index, stored, bytes, &again) == DCACHE_OK &&
                     memcmp(plain, again, codec_frame_length(&object->layout, index)) == 0,
                 "a frame that is written is the same when it is read");
    free(again);
    free(stored);
}

static void try_frame(struct codec_worker *worker, const struct codec_object *object, const uint8_t *data, size_t size)
{
    for (uint32_t index = 0; index < codec_frame_count(&object->layout); index++) {
        unsigned char *plain = NULL;
        if (decode(worker, object, index, data, size, &plain) == DCACHE_OK)
            check_round_trip(worker, object, index, plain);
        free(plain);
    }
}

/* The first two bytes say where a bit flips, the others are the image's. */
static void try_spoilt(struct codec_worker *worker, const struct codec_object *object, const uint8_t *data, size_t size)
{
    unsigned char image[BODY_BYTES] = {0};
    unsigned char *plain = NULL;
    size_t bytes = 0;
    if (size < 2)
        return;
    for (size_t i = 0; size > 2 && i < sizeof image; i++)
        image[i] = data[2 + i % (size - 2)];
    check_round_trip(worker, object, 1, image);
    unsigned char *stored = encode(worker, object, 1, image, &bytes);
    size_t bit = (data[0] | (size_t)data[1] << 8) % (8 * bytes);
    stored[bit / 8] ^= (unsigned char)(1u << bit % 8);
    dcache_status_t status = decode(worker, object, 1, stored, bytes, &plain);
    fuzz_require((object->codec & CODEC_AES) == 0 || status == DCACHE_ERR_CORRUPT, "the tag sees every bit");
    fuzz_require(status != DCACHE_OK || memcmp(plain, image, sizeof image) == 0, "no other bytes are handed out");
    free(plain);
    free(stored);
}

static void check_index(const struct codec_index *index)
{
    fuzz_require(index->codec != CODEC_PLAIN && index->codec < CODECS && codec_layout_valid(&index->layout),
                 "an index that is read is within bounds");
    fuzz_require(index->count == codec_frame_count(&index->layout) && index->starts[0] == 0 &&
                     index->starts[index->count] == index->frames_bytes,
                 "its frames add up");
    for (uint32_t i = 0; i < index->count; i++)
        fuzz_require(index->starts[i + 1] > index->starts[i] &&
                         index->starts[i + 1] - index->starts[i] <=
                             codec_frame_bound(index->codec, codec_frame_length(&index->layout, i)),
                     "no frame is longer than its bound");
}

/* The bytes are the whole index of an object that says nothing about its own length but by them. */
static void try_index(const uint8_t *data, size_t size, bool with_digest)
{
    static const unsigned char zeros[8];
    struct diag *dg = fuzz_diag();
    struct codec_index index;
    uint64_t numbers[4]; /* bytes of the image; of header and frame size; frames; bytes of frames */
    if (size < CODEC_SKIP_BYTES + CODEC_FOOTER_BYTES)
        return;
    unsigned char *text = malloc(size);
    fuzz_require(text != NULL, "there is memory");
    memcpy(text, data, size);
    unsigned char *footer = text + size - CODEC_FOOTER_BYTES;
    memcpy(numbers, footer + 24, sizeof numbers);
    if (with_digest) { /* as whoever wants to be believed would */
        uint64_t crc = crc64_update(0, text + CODEC_SKIP_BYTES, size - CODEC_SKIP_BYTES - CODEC_FOOTER_BYTES);
        crc = crc64_update(crc64_update(crc, zeros, sizeof zeros), footer + 8, CODEC_FOOTER_BYTES - 8);
        for (unsigned i = 0; i < 8; i++)
            footer[i] = (unsigned char)(crc >> 8 * i);
    }
    dcache_status_t status = codec_index_decode_footer(dg, footer, numbers[3] + size, numbers[0], &index);
    fuzz_require_text(dg, status);
    if (status == DCACHE_OK && codec_index_bytes(&index.layout) == size) {
        status = codec_index_decode(dg, text, numbers[3] + size, numbers[0], &index);
        fuzz_require_text(dg, status);
        if (status == DCACHE_OK) {
            check_index(&index);
            codec_index_free(&index);
        }
    }
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct codec_worker *worker = NULL;
    if (size < 1)
        return -1;
    const enum codec codec = (enum codec)(1 + data[0] % (CODECS - 1));
    const struct codec_object object = make_object(codec);
    const enum what what = (enum what)(data[0] / 16 % 4);
    if (what == INDEX || what == INDEX_WITH_DIGEST) {
        try_index(data + 1, size - 1, what == INDEX_WITH_DIGEST);
        return 0;
    }
    if (codec_worker_open(fuzz_diag(), 1, &worker) != DCACHE_OK)
        return -1;
    if (what == FRAME)
        try_frame(worker, &object, data + 1, size - 1);
    else
        try_spoilt(worker, &object, data + 1, size - 1);
    codec_worker_close(worker);
    return 0;
}
