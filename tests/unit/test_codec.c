/* io/codec.c, io/codec_index.c and the text of io/codec_key.c: bytes in, bytes or a status out, from friend and foe. */
#include "io/codec_index.h"
#include "io/codec_key.h"
#include "tests/unit/unit.h"

#include <sys/stat.h>

#define PLAIN_BYTES (3 * CODEC_FRAME_MIN + 12345u)
#define HEADER      8192u
#define GUARD       64u

static struct diag dg;
static unsigned char image[PLAIN_BYTES];

static struct codec_object object_of(enum codec codec)
{
    struct codec_object object = {.codec = codec,
                                  .job = "job",
                                  .set = {.step = 5, .sequence = 2, .epoch = 3, .world_size = 4},
                                  .rank = 1,
                                  .layout = codec_layout_make(sizeof image, HEADER)};
    memset(object.key, 7, sizeof object.key);
    return object;
}

static void setup(void)
{
    diag_init(&dg, "job", -1, DIAG_ERROR);
    for (size_t i = 0; i < sizeof image; i++)
        image[i] = (unsigned char)(i % 1000 < 900 ? i / 4096 : i * 2654435761u >> 7);
}

/* --- Layout --------------------------------------------------------------------------------------------------------*/

static void check_layout(uint64_t bytes, uint64_t header_bytes)
{
    const struct codec_layout layout = codec_layout_make(bytes, header_bytes);
    uint64_t next = 0;
    CU_ASSERT_FATAL(codec_layout_valid(&layout));
    for (uint32_t i = 0; i < codec_frame_count(&layout); i++) {
        CU_ASSERT_EQUAL(codec_frame_offset(&layout, i), next);
        uint32_t length = codec_frame_length(&layout, i);
        CU_ASSERT(length > 0 && length <= layout.frame_bytes);
        CU_ASSERT(codec_frame_at(&layout, next) == i && codec_frame_at(&layout, next + length - 1) == i);
        next += length;
    }
    CU_ASSERT_EQUAL(next, bytes);
    CU_ASSERT_EQUAL(codec_frame_offset(&layout, codec_frame_at(&layout, header_bytes)), header_bytes);
}

static void test_layout(void)
{
    check_layout(4097, 4096);
    check_layout(4096 + CODEC_FRAME_MIN, 4096);
    check_layout(4096 + CODEC_FRAME_MIN + 1, 4096);
    check_layout(10 * (uint64_t)CODEC_FRAME_MIN + 5, 4 * (uint64_t)CODEC_FRAME_MIN);
    struct codec_layout large = codec_layout_make(SHARD_FILE_MAX, SHARD_HEADER_MAX);
    CU_ASSERT(codec_layout_valid(&large) && large.frame_bytes > CODEC_FRAME_MIN);
    static const struct codec_layout bad[] = {
        {4096, 4096, CODEC_FRAME_MIN},          {8192, 0, CODEC_FRAME_MIN},        {8192, 4096, 0},
        {8192, 4096, CODEC_FRAME_MIN + 1},      {8192, 4096, 2 * CODEC_FRAME_MAX}, {UINT64_MAX, 4096, CODEC_FRAME_MAX},
        {SHARD_FILE_MAX, 4096, CODEC_FRAME_MIN}};
    for (size_t i = 0; i < UNIT_COUNT(bad); i++)
        CU_ASSERT_FALSE(codec_layout_valid(&bad[i]));
}

/* --- Frames --------------------------------------------------------------------------------------------------------*/

static unsigned char *encode(const struct codec_object *object, uint32_t frame, size_t *bytes)
{
    struct codec_worker *worker = NULL;
    size_t room = codec_frame_bound(object->codec, CODEC_FRAME_MIN);
    unsigned char *stored = malloc(room);
    CU_ASSERT_PTR_NOT_NULL_FATAL(stored);
    CU_ASSERT_EQUAL_FATAL(codec_worker_open(&dg, 3, &worker), DCACHE_OK);
    CU_ASSERT_EQUAL_FATAL(codec_encode_frame(&dg, worker, object, frame,
                                             image + codec_frame_offset(&object->layout, frame), stored, room, bytes),
                          DCACHE_OK);
    codec_worker_close(worker);
    return stored;
}

/* Decode into a buffer that ends in guards; nothing may be written there, whatever the bytes are. */
static dcache_status_t decode(const struct codec_object *object, uint32_t frame, const void *stored, size_t bytes,
                              bool *same)
{
    static unsigned char plain[CODEC_FRAME_MIN + GUARD];
    struct codec_worker *worker = NULL;
    const uint32_t length = codec_frame_length(&object->layout, frame);
    memset(plain, 0xa5, sizeof plain);
    CU_ASSERT_EQUAL_FATAL(codec_worker_open(&dg, 3, &worker), DCACHE_OK);
    void *exact = malloc(bytes > 0 ? bytes : 1); /* so that a sanitizer sees a read behind it */
    CU_ASSERT_PTR_NOT_NULL_FATAL(exact);
    if (bytes > 0)
        memcpy(exact, stored, bytes);
    dcache_status_t status = codec_decode_frame(&dg, worker, object, frame, exact, bytes, plain);
    for (size_t i = 0; i < GUARD; i++)
        CU_ASSERT_FATAL(plain[length + i] == 0xa5);
    *same = memcmp(plain, image + codec_frame_offset(&object->layout, frame), length) == 0;
    free(exact);
    codec_worker_close(worker);
    return status;
}

static void test_frames(void)
{
    setup();
    for (unsigned codec = CODEC_ZSTD; codec < CODECS; codec++) {
        const struct codec_object object = object_of((enum codec)codec);
        for (uint32_t frame = 0; frame < codec_frame_count(&object.layout); frame++) {
            size_t bytes = 0;
            bool same = false;
            unsigned char *stored = encode(&object, frame, &bytes);
            CU_ASSERT_EQUAL(decode(&object, frame, stored, bytes, &same), DCACHE_OK);
            CU_ASSERT_TRUE(same);
            if ((codec & CODEC_ZSTD) != 0)
                CU_ASSERT(bytes < codec_frame_length(&object.layout, frame));
            if (codec == CODEC_AES)
                CU_ASSERT_EQUAL(bytes, codec_frame_length(&object.layout, frame) + CODEC_TAG_BYTES);
            free(stored);
        }
    }
}

/* A frame is good with its own key, in its own place, of its own image only. */
static void test_binding(void)
{
    setup();
    for (unsigned codec = CODEC_AES; codec < CODECS; codec++) {
        const struct codec_object object = object_of((enum codec)codec);
        size_t bytes = 0;
        bool same = false;
        unsigned char *stored = encode(&object, 1, &bytes);
        CU_ASSERT_EQUAL(decode(&object, 2, stored, bytes, &same), DCACHE_ERR_CORRUPT);
        CU_ASSERT_EQUAL(decode(&object, 1, stored, bytes, &same), DCACHE_OK);
        for (int i = 0; i < 8; i++) {
            struct codec_object other = object;
            other.key[31] ^= (unsigned char)(i == 0);
            other.rank += i == 1;
            other.set.step += i == 2;
            other.set.sequence += i == 3;
            other.set.epoch += i == 4;
            other.set.world_size += i == 5;
            other.job[0] = i == 6 ? 'k' : 'j';
            other.layout.bytes += i == 7;
            CU_ASSERT_EQUAL(decode(&other, 1, stored, bytes, &same), DCACHE_ERR_CORRUPT);
        }
        free(stored);
    }
}

/* Torn, longer, flipped and replaced by noise: never a crash, never OK with other bytes. */
static void test_bad_frames(void)
{
    uint64_t random = 88172645463325252u;
    setup();
    for (unsigned codec = CODEC_ZSTD; codec < CODECS; codec++) {
        const struct codec_object object = object_of((enum codec)codec);
        size_t bytes = 0;
        bool same = false;
        const uint32_t last = codec_frame_count(&object.layout) - 1; /* a short one */
        unsigned char *stored = encode(&object, last, &bytes);
        unsigned char *longer = calloc(1, bytes + 4096);
        CU_ASSERT_PTR_NOT_NULL_FATAL(longer);
        memcpy(longer, stored, bytes);
        CU_ASSERT_EQUAL(decode(&object, last, longer, bytes + 1, &same), DCACHE_ERR_CORRUPT);
        CU_ASSERT_EQUAL(decode(&object, last, longer, bytes + 4096, &same), DCACHE_ERR_CORRUPT);
        free(longer);
        for (size_t cut = 0; cut < bytes; cut += cut < 64 ? 1 : 997)
            CU_ASSERT_EQUAL(decode(&object, last, stored, cut, &same), DCACHE_ERR_CORRUPT);
        for (int i = 0; i < 400; i++) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            size_t at = i < 40 ? (size_t)i % bytes : random % bytes;
            stored[at] ^= (unsigned char)(1u << (random >> 40) % 8);
            dcache_status_t status = decode(&object, last, stored, bytes, &same);
            CU_ASSERT(status == DCACHE_ERR_CORRUPT || (status == DCACHE_OK && same)); /* bits that zstd does not use */
            CU_ASSERT(codec == CODEC_ZSTD || status == DCACHE_ERR_CORRUPT);
            stored[at] ^= (unsigned char)(1u << (random >> 40) % 8);
        }
        free(stored);
    }
}

/* A frame that unpacks to far more than belongs there. */
static void test_bomb(void)
{
    struct codec_object large = object_of(CODEC_ZSTD);
    struct codec_object small = large;
    size_t bytes = 0;
    bool same = false;
    setup();
    memset(image, 0, sizeof image);
    unsigned char *stored = encode(&large, 1, &bytes); /* 1 MiB */
    CU_ASSERT(bytes < 1000);
    const uint32_t last = codec_frame_count(&small.layout) - 1;
    CU_ASSERT_EQUAL(decode(&small, last, stored, bytes, &same), DCACHE_ERR_CORRUPT);
    CU_ASSERT_EQUAL(decode(&small, 0, stored, bytes, &same), DCACHE_ERR_CORRUPT);
    free(stored);
}

/* --- Index ---------------------------------------------------------------------------------------------------------*/

static void make_index(struct codec_index *index, enum codec codec)
{
    *index = (struct codec_index){.codec = codec, .layout = codec_layout_make(sizeof image, HEADER), .key_number = 99};
    CU_ASSERT_EQUAL_FATAL(codec_index_allocate(&dg, index), DCACHE_OK);
    for (uint32_t i = 0; i < index->count; i++) {
        index->starts[i + 1] = index->starts[i] + codec_frame_length(&index->layout, i) / 2;
        index->digests[i] = i * 0x0102030405060708u;
    }
    index->frames_bytes = index->starts[index->count];
    memset(index->salt, 0x5c, sizeof index->salt);
}

static dcache_status_t read_index(const unsigned char *text, uint64_t bytes, uint64_t stored, uint64_t plain,
                                  struct codec_index *found)
{
    dcache_status_t status = codec_index_decode_footer(&dg, text + bytes - CODEC_FOOTER_BYTES, stored, plain, found);
    if (status == DCACHE_OK && codec_index_bytes(&found->layout) != bytes)
        return DCACHE_ERR_CORRUPT;
    return status == DCACHE_OK ? codec_index_decode(&dg, text, stored, plain, found) : status;
}

static void test_index(void)
{
    struct codec_index index;
    struct codec_index found;
    setup();
    make_index(&index, CODEC_ZSTD_AES);
    const uint64_t bytes = codec_index_bytes(&index.layout);
    const uint64_t stored = index.frames_bytes + bytes;
    unsigned char *text = malloc(bytes);
    CU_ASSERT_PTR_NOT_NULL_FATAL(text);
    codec_index_encode(&index, text);
    CU_ASSERT_EQUAL_FATAL(read_index(text, bytes, stored, sizeof image, &found), DCACHE_OK);
    CU_ASSERT(found.codec == CODEC_ZSTD_AES && found.count == index.count && found.key_number == 99);
    CU_ASSERT_EQUAL(memcmp(found.starts, index.starts, (index.count + 1) * sizeof *index.starts), 0);
    CU_ASSERT_EQUAL(memcmp(found.digests, index.digests, index.count * sizeof *index.digests), 0);
    CU_ASSERT_EQUAL(memcmp(found.salt, index.salt, sizeof index.salt), 0);
    codec_index_free(&found);
    CU_ASSERT_NOT_EQUAL(read_index(text, bytes, stored + 1, sizeof image, &found), DCACHE_OK);
    CU_ASSERT_NOT_EQUAL(read_index(text, bytes, stored, sizeof image + 1, &found), DCACHE_OK);
    CU_ASSERT_NOT_EQUAL(read_index(text, bytes, 100, sizeof image, &found), DCACHE_OK);
    for (uint64_t i = 0; i < bytes * 8; i++) { /* every bit */
        text[i / 8] ^= (unsigned char)(1u << i % 8);
        dcache_status_t status = read_index(text, bytes, stored, sizeof image, &found);
        CU_ASSERT(status == DCACHE_ERR_CORRUPT || status == DCACHE_ERR_FORMAT);
        text[i / 8] ^= (unsigned char)(1u << i % 8);
    }
    free(text);
    codec_index_free(&index);
}

/* With a digest that fits, but numbers that do not: frames of impossible lengths, and such as do not add up. */
static void test_forged_index(void)
{
    static const uint64_t lengths[] = {0, UINT32_MAX, 2 * CODEC_FRAME_MIN};
    struct codec_index found;
    setup();
    for (size_t i = 0; i <= UNIT_COUNT(lengths); i++) {
        struct codec_index index;
        make_index(&index, CODEC_ZSTD);
        if (i < UNIT_COUNT(lengths))
            index.starts[2] = index.starts[1] + lengths[i];
        else
            index.frames_bytes++;
        const uint64_t bytes = codec_index_bytes(&index.layout);
        unsigned char *text = malloc(bytes);
        CU_ASSERT_PTR_NOT_NULL_FATAL(text);
        codec_index_encode(&index, text);
        CU_ASSERT_EQUAL(read_index(text, bytes, index.frames_bytes + bytes, sizeof image, &found), DCACHE_ERR_CORRUPT);
        free(text);
        codec_index_free(&index);
    }
}

/* --- Keys ----------------------------------------------------------------------------------------------------------*/

static void write_file(const char *path, const char *text, mode_t mode)
{
    FILE *file = fopen(path, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    CU_ASSERT(fputs(text, file) >= 0 && fclose(file) == 0 && chmod(path, mode) == 0);
}

#define HEX "000102030405060708090a0b0c0d0e0f101112131415161718191A1B1C1D1E1F"
#define B64 "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

static void test_key_text(void)
{
    static const char *const bad[] = {"", " ", "00", HEX "0", HEX HEX, "g" HEX, B64 "=", "AAEC", "=" B64};
    unsigned char bytes[CODEC_KEY_BYTES];
    static const char *const good[] = {HEX, " " HEX "\n", B64, B64 "\r\n"};
    for (size_t i = 0; i < UNIT_COUNT(good); i++) {
        memset(bytes, 0xff, sizeof bytes);
        CU_ASSERT_TRUE(codec_key_parse(good[i], strlen(good[i]), bytes));
        for (unsigned b = 0; b < CODEC_KEY_BYTES; b++)
            CU_ASSERT_EQUAL(bytes[b], b);
    }
    for (size_t i = 0; i < UNIT_COUNT(bad); i++)
        CU_ASSERT_FALSE(codec_key_parse(bad[i], strlen(bad[i]), bytes));
}

static void test_key_sources(void)
{
    char path[600];
    char command[700];
    struct codec_key *key = NULL;
    struct codec_key *same = NULL;
    setup();
    snprintf(path, sizeof path, "%s/key", unit_scratch());
    CU_ASSERT_EQUAL(codec_key_load(&dg, "", "", &key), DCACHE_OK);
    CU_ASSERT_PTR_NULL(key);
    CU_ASSERT_NOT_EQUAL(codec_key_load(&dg, path, "", &key), DCACHE_OK);
    CU_ASSERT_PTR_NOT_NULL(strstr(dg.text, path));
    write_file(path, HEX "\n", 0600);
    CU_ASSERT_EQUAL_FATAL(codec_key_load(&dg, path, "", &key), DCACHE_OK);
    CU_ASSERT(key->bytes[31] == 31 && key->number != 0);
    snprintf(command, sizeof command, "cat '%s'", path);
    CU_ASSERT_EQUAL_FATAL(codec_key_load(&dg, "", command, &same), DCACHE_OK);
    CU_ASSERT_EQUAL(same->number, key->number);
    codec_key_free(same);
    codec_key_free(key);
    write_file(path, HEX "\n", 0640);
    CU_ASSERT_EQUAL(codec_key_load(&dg, path, "", &key), DCACHE_ERR_PERMISSION);
    write_file(path, "no key, but a secret", 0600);
    CU_ASSERT_EQUAL(codec_key_load(&dg, path, "", &key), DCACHE_ERR_OPTION);
    CU_ASSERT_PTR_NULL(strstr(dg.text, "secret"));
    CU_ASSERT_EQUAL(codec_key_load(&dg, unit_scratch(), "", &key), DCACHE_ERR_OPTION);
    CU_ASSERT_EQUAL(codec_key_load(&dg, "", "exit 3", &key), DCACHE_ERR_OPTION);
    CU_ASSERT_PTR_NOT_NULL(strstr(dg.text, "status 3"));
    CU_ASSERT_EQUAL(codec_key_load(&dg, "", "yes", &key), DCACHE_ERR_OPTION); /* never ends by itself */
    CU_ASSERT_EQUAL(codec_key_load(&dg, "", "kill -9 $$", &key), DCACHE_ERR_OPTION);
}

int main(void)
{
    static const struct unit_case cases[] = {
        {"layout", test_layout},
        {"frames", test_frames},
        {"binding", test_binding},
        {"bad frames", test_bad_frames},
        {"bomb", test_bomb},
        {"index", test_index},
        {"forged index", test_forged_index},
        {"text of a key", test_key_text},
        {"where keys come from", test_key_sources},
    };
    return unit_main("codec", cases, UNIT_COUNT(cases));
}
