/* io/coded_source.c and io/shard_object.c on a file:// object store: what goes in comes out, by any range, and nothing
 * else does. */
#include "io/coded_source.h"
#include "io/shard_object.h"
#include "tests/unit/object_pattern.h"
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <sys/stat.h>

#define HEADER 8192u
#define BYTES  (5 * SHARD_CHUNK_BYTES + 777u)

static struct diag dg;
static unsigned char image[BYTES];
static const struct shard_set the_set = {.step = 5, .sequence = 2, .epoch = 3, .world_size = 4};

/* The image in memory as a source; `asked` is where it has to go on. */
struct memory {
    uint64_t next;
    uint64_t fail_at; /* this byte cannot be read */
};

static uint64_t flip_at = UINT64_MAX; /* a bit there flips after the digest was taken */

static dcache_status_t read_image(void *context, struct diag *diag, uint64_t offset, void *buffer, size_t bytes,
                                  uint64_t *crc)
{
    struct memory *memory = context;
    CU_ASSERT(offset == 0 || offset == memory->next);
    CU_ASSERT_FATAL(offset <= BYTES && bytes <= BYTES - offset);
    memory->next = offset + bytes;
    if (memory->fail_at >= offset && memory->fail_at - offset < bytes)
        return diag_fail(diag, DCACHE_ERR_BUSY, "the image says no");
    *crc = crc64_copy(0, buffer, image + offset, bytes);
    if (flip_at >= offset && flip_at - offset < bytes)
        ((unsigned char *)buffer)[flip_at - offset] ^= 1;
    return DCACHE_OK;
}

static dcache_status_t read_anywhere(void *context, struct diag *diag, uint64_t offset, void *buffer, size_t bytes,
                                     uint64_t *crc)
{
    struct memory memory = {.next = offset, .fail_at = UINT64_MAX};
    (void)context;
    return read_image(&memory, diag, offset, buffer, bytes, crc);
}

static void fill(bool compressible)
{
    for (size_t i = 0; i < sizeof image; i++)
        image[i] = compressible ? (unsigned char)(i / 5000) : (unsigned char)((i * 2654435761u ^ i * i * 40503u) >> 11);
}

static struct object_store *open_store(const char *name, uint64_t block_bytes)
{
    struct object_store *store = NULL;
    struct object_credentials none;
    const struct object_policy policy = {.timeout_s = 5, .stall_s = 5, .block_bytes = block_bytes, .connections = 3};
    char url[OBJECT_URL_MAX];
    memset(&none, 0, sizeof none);
    diag_init(&dg, "job", -1, DIAG_ERROR);
    snprintf(url, sizeof url, "file://%s/%s", unit_scratch(), name);
    CU_ASSERT_EQUAL_FATAL(object_store_open(&dg, url, &none, &policy, &store), DCACHE_OK);
    return store;
}

static struct codec_key *make_key(unsigned char fill_byte)
{
    unsigned char bytes[CODEC_KEY_BYTES];
    struct codec_key *key = NULL;
    memset(bytes, fill_byte, sizeof bytes);
    CU_ASSERT_EQUAL_FATAL(codec_key_make(&dg, bytes, &key), DCACHE_OK);
    return key;
}

/* Put the image; `shard` gets what a part would say of it. */
static dcache_status_t put(struct object_store *store, enum codec codec, unsigned threads, const struct codec_key *key,
                           uint64_t fail_at, struct manifest_shard *shard)
{
    const struct codec_settings settings = {.level = 1, .threads = threads, .key = key};
    const struct codec_object about = {
        .codec = codec, .job = "job", .set = the_set, .rank = 1, .layout = codec_layout_make(BYTES, HEADER)};
    struct memory memory = {.fail_at = fail_at};
    const struct object_source plain = {.bytes = BYTES, .context = &memory, .read = read_image};
    struct object_source source;
    struct coded_source *coded = NULL;
    char name[OBJECT_KEY_MAX];
    *shard = (struct manifest_shard){.rank = 1, .codec = codec, .bytes = BYTES, .crc = crc64_update(0, image, BYTES)};
    manifest_object_key(name, "job", &the_set, shard);
    CU_ASSERT_EQUAL_FATAL(coded_source_open(&dg, &settings, &about, &plain, &coded, &source), DCACHE_OK);
    dcache_status_t status = store->ops->put(store, &dg, name, &source, OBJECT_REPLACE, NULL);
    shard->stored_bytes = source.size(source.context);
    coded_source_close(coded);
    return status;
}

static dcache_status_t open_shard(struct object_store *store, const struct manifest_shard *shard,
                                  const struct codec_key *key, struct shard_object *object)
{
    const struct shard_object_place place = {.job = "job", .set = the_set, .shard = *shard};
    dg.text[0] = '\0';
    return shard_object_open(&dg, store, &place, key, object);
}

/* All of it, and ranges that begin and end anywhere. */
static void check_ranges(const struct shard_object *object)
{
    static unsigned char buffer[BYTES];
    uint64_t random = 88172645463325252u;
    memset(buffer, 0xa5, sizeof buffer);
    CU_ASSERT_EQUAL(shard_object_read(&dg, object, 0, buffer, BYTES), DCACHE_OK);
    CU_ASSERT_EQUAL(memcmp(buffer, image, BYTES), 0);
    for (int i = 0; i < 40; i++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        uint64_t offset = random % BYTES;
        size_t bytes = (size_t)((random >> 32) % (BYTES - offset + 1));
        if (i % 2 == 0 && bytes > 5000)
            bytes = 5000;
        memset(buffer, 0xa5, bytes + (offset + bytes < BYTES));
        CU_ASSERT_EQUAL(shard_object_read(&dg, object, offset, buffer, bytes), DCACHE_OK);
        CU_ASSERT_EQUAL(memcmp(buffer, image + offset, bytes), 0);
        CU_ASSERT(offset + bytes == BYTES || buffer[bytes] == 0xa5);
    }
    CU_ASSERT_EQUAL(shard_object_read(&dg, object, 0, buffer, BYTES + 1), DCACHE_ERR_CORRUPT);
    CU_ASSERT_EQUAL(shard_object_read(&dg, object, UINT64_MAX, buffer, 2), DCACHE_ERR_CORRUPT);
}

static void test_round_trips(void)
{
    static const uint64_t blocks[] = {0, 777777, 1u << 20, 3u << 20};
    fill(true);
    for (unsigned i = 0; i < UNIT_COUNT(blocks); i++) {
        struct object_store *store = open_store("round", blocks[i]);
        struct codec_key *key = make_key(9);
        for (unsigned codec = CODEC_ZSTD; codec < CODECS; codec++) {
            struct manifest_shard shard;
            struct shard_object object;
            CU_ASSERT_EQUAL_FATAL(put(store, (enum codec)codec, 1 + i, key, UINT64_MAX, &shard), DCACHE_OK);
            CU_ASSERT((codec & CODEC_ZSTD) == 0 || shard.stored_bytes < BYTES / 4);
            CU_ASSERT_EQUAL_FATAL(open_shard(store, &shard, key, &object), DCACHE_OK);
            CU_ASSERT_EQUAL(object.info.bytes, shard.stored_bytes);
            check_ranges(&object);
            shard_object_close(&object);
        }
        codec_key_free(key);
        object_store_close(store);
    }
}

/* What does not shrink grows by little; encryption alone has a size that is known ahead. */
static void test_sizes(void)
{
    struct object_store *store = open_store("sizes", 0);
    struct codec_key *key = make_key(9);
    struct manifest_shard shard;
    struct shard_object object;
    const struct codec_layout layout = codec_layout_make(BYTES, HEADER);
    fill(false);
    CU_ASSERT_EQUAL(put(store, CODEC_ZSTD, 2, NULL, UINT64_MAX, &shard), DCACHE_OK);
    CU_ASSERT(shard.stored_bytes < BYTES + 4096);
    CU_ASSERT_EQUAL(put(store, CODEC_AES, 2, key, UINT64_MAX, &shard), DCACHE_OK);
    CU_ASSERT_EQUAL(shard.stored_bytes,
                    BYTES + codec_frame_count(&layout) * CODEC_TAG_BYTES + codec_index_bytes(&layout));
    CU_ASSERT_EQUAL_FATAL(open_shard(store, &shard, key, &object), DCACHE_OK);
    check_ranges(&object);
    shard_object_close(&object);
    codec_key_free(key);
    object_store_close(store);
}

/* An image of so many frames that the index is longer than what is fetched at first: 6000 MiB of zeros, of which one
 * frame is made and stored again and again. */
#define MANY_FRAMES 6001u

static size_t append_frame(struct codec_worker *worker, const struct codec_object *about, struct codec_index *index,
                           uint32_t frame, unsigned char *stored)
{
    static const unsigned char zeros[SHARD_CHUNK_BYTES];
    static unsigned char one[2 * SHARD_CHUNK_BYTES];
    size_t bytes = frame < 2 ? 0 : (size_t)(index->starts[2] - index->starts[1]);
    if (frame < 2) { /* the header, and the first of all others */
        CU_ASSERT_EQUAL_FATAL(codec_encode_frame(&dg, worker, about, frame, zeros, one, sizeof one, &bytes), DCACHE_OK);
    }
    memcpy(stored + index->starts[frame], one, bytes);
    index->starts[frame + 1] = index->starts[frame] + bytes;
    index->digests[frame] = crc64_update(0, one, bytes);
    return bytes;
}

static void put_many_frames(struct object_store *store, struct manifest_shard *shard)
{
    const struct codec_object about = {
        .codec = CODEC_ZSTD,
        .job = "job",
        .set = the_set,
        .rank = 1,
        .layout = codec_layout_make(HEADER + (MANY_FRAMES - 1) * (uint64_t)SHARD_CHUNK_BYTES, HEADER)};
    struct codec_index index = {.codec = CODEC_ZSTD, .layout = about.layout};
    struct codec_worker *worker = NULL;
    char name[OBJECT_KEY_MAX];
    unsigned char *stored = malloc(MANY_FRAMES * 200 + codec_index_bytes(&about.layout));
    CU_ASSERT_FATAL(stored != NULL);
    CU_ASSERT_EQUAL_FATAL(codec_index_allocate(&dg, &index), DCACHE_OK);
    CU_ASSERT_EQUAL_FATAL(index.count, MANY_FRAMES);
    CU_ASSERT_EQUAL_FATAL(codec_worker_open(&dg, 1, &worker), DCACHE_OK);
    for (uint32_t i = 0; i < MANY_FRAMES; i++)
        CU_ASSERT_FATAL(append_frame(worker, &about, &index, i, stored) < 200);
    index.frames_bytes = index.starts[MANY_FRAMES];
    codec_index_encode(&index, stored + index.frames_bytes);
    *shard = (struct manifest_shard){.rank = 1, .codec = CODEC_ZSTD, .bytes = about.layout.bytes};
    shard->stored_bytes = index.frames_bytes + codec_index_bytes(&about.layout);
    manifest_object_key(name, "job", &the_set, shard);
    CU_ASSERT_EQUAL_FATAL(object_store_put_bytes(store, &dg, name, stored, (size_t)shard->stored_bytes, OBJECT_REPLACE),
                          DCACHE_OK);
    codec_worker_close(worker);
    codec_index_free(&index);
    free(stored);
}

static void test_long_index(void)
{
    static const uint64_t offsets[] = {0, HEADER - 1, HEADER + 2999ull * SHARD_CHUNK_BYTES + 5,
                                       HEADER + (MANY_FRAMES - 2) * (uint64_t)SHARD_CHUNK_BYTES};
    struct object_store *store = open_store("long", 0);
    struct manifest_shard shard;
    struct shard_object object;
    unsigned char buffer[300];
    put_many_frames(store, &shard);
    CU_ASSERT(codec_index_bytes(&(struct codec_layout){shard.bytes, HEADER, SHARD_CHUNK_BYTES}) > 65536);
    CU_ASSERT_EQUAL_FATAL(open_shard(store, &shard, NULL, &object), DCACHE_OK);
    CU_ASSERT_EQUAL(object.index.count, MANY_FRAMES);
    for (size_t i = 0; i < UNIT_COUNT(offsets); i++) {
        memset(buffer, 0xa5, sizeof buffer);
        CU_ASSERT_EQUAL(shard_object_read(&dg, &object, offsets[i], buffer, sizeof buffer), DCACHE_OK);
        CU_ASSERT(buffer[0] == 0 && memcmp(buffer, buffer + 1, sizeof buffer - 1) == 0);
    }
    shard_object_close(&object);
    object_store_close(store);
}

/* The same image twice: not one block of ciphertext the same. */
static void test_nonces(void)
{
    struct object_store *store = open_store("nonces", 0);
    struct codec_key *key = make_key(9);
    struct manifest_shard shard;
    char *first = NULL;
    char *second = NULL;
    size_t bytes = 0;
    fill(true);
    CU_ASSERT_EQUAL(put(store, CODEC_AES, 2, key, UINT64_MAX, &shard), DCACHE_OK);
    CU_ASSERT_EQUAL_FATAL(object_store_get_bytes(store, &dg, "job/5/shard-1-2.h5.aes", 1u << 30, &first, &bytes),
                          DCACHE_OK);
    CU_ASSERT_EQUAL(put(store, CODEC_AES, 2, key, UINT64_MAX, &shard), DCACHE_OK);
    CU_ASSERT_EQUAL_FATAL(object_store_get_bytes(store, &dg, "job/5/shard-1-2.h5.aes", 1u << 30, &second, &bytes),
                          DCACHE_OK);
    for (size_t i = 0; i + 16 <= BYTES; i += 16)
        CU_ASSERT_FATAL(memcmp(first + i, second + i, 16) != 0);
    free(first);
    free(second);
    codec_key_free(key);
    object_store_close(store);
}

static void test_choice(void)
{
    const struct object_source plain = {.bytes = BYTES, .read = read_anywhere};
    diag_init(&dg, "job", -1, DIAG_ERROR);
    struct codec_key *key = make_key(1);
    static const struct {
        enum codec_compress compress;
        bool compressible, key;
        enum codec codec;
    } cases[] = {{COMPRESS_NONE, true, false, CODEC_PLAIN},   {COMPRESS_NONE, true, true, CODEC_AES},
                 {COMPRESS_AUTO, true, false, CODEC_ZSTD},    {COMPRESS_AUTO, false, false, CODEC_PLAIN},
                 {COMPRESS_AUTO, true, true, CODEC_ZSTD_AES}, {COMPRESS_AUTO, false, true, CODEC_AES},
                 {COMPRESS_ALWAYS, false, false, CODEC_ZSTD}};
    for (size_t i = 0; i < UNIT_COUNT(cases); i++) {
        const struct codec_settings settings = {
            .compress = cases[i].compress, .level = 1, .threads = 1, .key = cases[i].key ? key : NULL};
        enum codec codec = CODEC_PLAIN;
        fill(cases[i].compressible);
        CU_ASSERT_EQUAL(coded_source_choose(&dg, &settings, &plain, HEADER, &codec), DCACHE_OK);
        CU_ASSERT_EQUAL(codec, cases[i].codec);
    }
    codec_key_free(key);
}

static void test_wrong_keys(void)
{
    struct object_store *store = open_store("keys", 0);
    struct codec_key *key = make_key(9);
    struct codec_key *other = make_key(8);
    struct manifest_shard shard;
    struct shard_object object;
    char number[32];
    fill(true);
    snprintf(number, sizeof number, "%016llx", (unsigned long long)key->number);
    CU_ASSERT_EQUAL(put(store, CODEC_ZSTD_AES, 1, key, UINT64_MAX, &shard), DCACHE_OK);
    CU_ASSERT_EQUAL(open_shard(store, &shard, NULL, &object), DCACHE_ERR_OPTION);
    CU_ASSERT(strstr(dg.text, number) != NULL && strstr(dg.text, "encrypt_key_file") != NULL);
    shard_object_close(&object);
    CU_ASSERT_EQUAL(open_shard(store, &shard, other, &object), DCACHE_ERR_OPTION);
    CU_ASSERT_PTR_NOT_NULL(strstr(dg.text, number));
    shard_object_close(&object);
    CU_ASSERT_EQUAL(open_shard(store, &shard, key, &object), DCACHE_OK);
    object.coding.set.sequence++; /* another attempt's shard */
    CU_ASSERT_EQUAL(shard_object_read(&dg, &object, 5, &number, 5), DCACHE_ERR_CORRUPT);
    CU_ASSERT_PTR_NOT_NULL(strstr(dg.text, "job/5/shard-1-2.h5.zst.aes"));
    shard_object_close(&object);
    codec_key_free(other);
    codec_key_free(key);
    object_store_close(store);
}

static void replace(struct object_store *store, const char *name, const char *data, size_t bytes)
{
    CU_ASSERT_EQUAL(object_store_put_bytes(store, &dg, name, data, bytes, OBJECT_REPLACE), DCACHE_OK);
}

/* Torn at any place, flipped at any place: an error that names the object, or the right bytes. */
static void test_damage(void)
{
    static unsigned char buffer[BYTES];
    static const char name[] = "job/5/shard-1-2.h5.zst";
    struct object_store *store = open_store("damage", 0);
    struct manifest_shard shard;
    struct shard_object object;
    char *good = NULL;
    size_t bytes = 0;
    fill(true);
    CU_ASSERT_EQUAL(put(store, CODEC_ZSTD, 1, NULL, UINT64_MAX, &shard), DCACHE_OK);
    CU_ASSERT_EQUAL_FATAL(object_store_get_bytes(store, &dg, name, 1u << 30, &good, &bytes), DCACHE_OK);
    for (size_t i = 0; i < bytes; i += 61) {
        good[i] = (char)(good[i] ^ 4);
        replace(store, name, good, bytes);
        good[i] = (char)(good[i] ^ 4);
        dcache_status_t status = open_shard(store, &shard, NULL, &object);
        if (status == DCACHE_OK)
            status = shard_object_read(&dg, &object, 0, buffer, BYTES);
        CU_ASSERT(status == DCACHE_ERR_CORRUPT || status == DCACHE_ERR_FORMAT);
        CU_ASSERT_PTR_NOT_NULL(strstr(dg.text, name));
        shard_object_close(&object);
    }
    for (size_t cut = 0; cut < bytes; cut += cut < 300 ? 7 : 613) {
        replace(store, name, good, cut);
        CU_ASSERT_EQUAL(open_shard(store, &shard, NULL, &object), DCACHE_ERR_CORRUPT);
        shard_object_close(&object);
    }
    CU_ASSERT_EQUAL(store->ops->remove(store, &dg, name), DCACHE_OK);
    CU_ASSERT_EQUAL(open_shard(store, &shard, NULL, &object), DCACHE_NOT_FOUND);
    CU_ASSERT_PTR_NOT_NULL(strstr(dg.text, name));
    shard_object_close(&object);
    free(good);
    object_store_close(store);
}

/* Another drainer's object under the same name is as good, once it is opened; one that changes afterwards is not. */
static void test_changed(void)
{
    struct object_store *store = open_store("changed", 0);
    struct manifest_shard shard;
    struct manifest_shard again;
    struct shard_object object;
    char byte = 0;
    fill(true);
    CU_ASSERT_EQUAL(put(store, CODEC_ZSTD, 1, NULL, UINT64_MAX, &shard), DCACHE_OK);
    shard.stored_bytes += 5; /* the manifest speaks of the other's */
    CU_ASSERT_EQUAL_FATAL(open_shard(store, &shard, NULL, &object), DCACHE_OK);
    check_ranges(&object);
    fill(false);
    CU_ASSERT_EQUAL(put(store, CODEC_ZSTD, 1, NULL, UINT64_MAX, &again), DCACHE_OK);
    CU_ASSERT_EQUAL(shard_object_read(&dg, &object, 0, &byte, 1), DCACHE_ERR_CORRUPT);
    CU_ASSERT_PTR_NOT_NULL(strstr(dg.text, "changed while it was being read"));
    shard_object_close(&object);
    object_store_close(store);
}

/* A plain and a coded shard in one pack. */
static void test_pack(void)
{
    struct object_store *store = open_store("pack", 0);
    struct manifest_shard shard;
    struct shard_object object;
    char *coded = NULL;
    size_t bytes = 0;
    fill(true);
    CU_ASSERT_EQUAL(put(store, CODEC_ZSTD, 2, NULL, UINT64_MAX, &shard), DCACHE_OK);
    CU_ASSERT_EQUAL_FATAL(object_store_get_bytes(store, &dg, "job/5/shard-1-2.h5.zst", 1u << 30, &coded, &bytes),
                          DCACHE_OK);
    char *pack = malloc(BYTES + bytes + 99);
    CU_ASSERT_PTR_NOT_NULL_FATAL(pack);
    memset(pack, 'x', BYTES + bytes + 99);
    memcpy(pack + 33, image, BYTES);
    memcpy(pack + 33 + BYTES, coded, bytes);
    replace(store, "job/5/pack-r0", pack, BYTES + bytes + 99);
    snprintf(shard.object, sizeof shard.object, "pack-r0");
    shard.offset = 33 + BYTES;
    CU_ASSERT_EQUAL_FATAL(open_shard(store, &shard, NULL, &object), DCACHE_OK);
    check_ranges(&object);
    shard_object_close(&object);
    shard = (struct manifest_shard){.rank = 1, .bytes = BYTES, .offset = 33, .object = "pack-r0"};
    CU_ASSERT_EQUAL_FATAL(open_shard(store, &shard, NULL, &object), DCACHE_OK);
    check_ranges(&object);
    shard_object_close(&object);
    shard.offset = bytes + 100;
    CU_ASSERT_EQUAL(open_shard(store, &shard, NULL, &object), DCACHE_ERR_CORRUPT);
    shard_object_close(&object);
    free(pack);
    free(coded);
    object_store_close(store);
}

static void test_source_fails(void)
{
    struct object_store *store = open_store("fails", 1u << 20);
    struct manifest_shard shard;
    struct object_info info;
    fill(false);
    for (unsigned threads = 1; threads < 4; threads++) {
        CU_ASSERT_EQUAL(put(store, CODEC_ZSTD, threads, NULL, BYTES - 1, &shard), DCACHE_ERR_BUSY);
        CU_ASSERT_STRING_EQUAL(dg.text, "the image says no");
        CU_ASSERT_EQUAL(store->ops->head(store, &dg, "job/5/shard-1-2.h5.zst", &info), DCACHE_NOT_FOUND);
    }
    for (unsigned codec = CODEC_ZSTD; codec < CODECS; codec++) {
        struct codec_key *key = make_key(9);
        flip_at = codec == CODEC_AES ? HEADER - 1 : BYTES - 1;
        CU_ASSERT_EQUAL(put(store, (enum codec)codec, 2, key, UINT64_MAX, &shard), DCACHE_ERR_CORRUPT);
        CU_ASSERT_PTR_NOT_NULL(strstr(dg.text, "has changed between reading and coding"));
        codec_key_free(key);
    }
    flip_at = UINT64_MAX;
    object_store_close(store);
}

/* An error in the codec is the caller's error. Bits that flip in it, when memory is bad, are never taken for the image:
 * a digest finds them, zstd's, the tag or, of what is decoded, the image's own, which the reader compares. */
static void test_failpoints(void)
{
#ifdef DCACHE_FAILPOINTS
    static unsigned char buffer[BYTES];
    static const struct {
        const char *name;
        enum codec codec;
        bool writing, vouched;
    } places[] = {
        {"codec.compress", CODEC_ZSTD, true, true},     {"codec.compress", CODEC_ZSTD_AES, true, true},
        {"codec.encrypt", CODEC_AES, true, true},       {"codec.encrypt", CODEC_ZSTD_AES, true, true},
        {"codec.decrypt", CODEC_ZSTD_AES, false, true}, {"codec.decrypt", CODEC_AES, false, false},
        {"codec.decompress", CODEC_ZSTD, false, false}, {"codec.decompress", CODEC_ZSTD_AES, false, false},
    };
    struct object_store *store = open_store("failpoints", 0);
    struct codec_key *key = make_key(9);
    fill(true);
    for (unsigned i = 0; i < 2 * UNIT_COUNT(places); i++) {
        const bool corrupt = i % 2 == 1, writing = places[i / 2].writing;
        struct manifest_shard shard;
        struct shard_object object;
        char value[64];
        snprintf(value, sizeof value, "%s=%s#1", places[i / 2].name, corrupt ? "corrupt" : "error");
        CU_ASSERT_EQUAL(setenv("DCACHE_FAILPOINTS", writing ? value : "", 1), 0);
        memset(dg.failpoint_hits, 0, sizeof dg.failpoint_hits);
        dcache_status_t status = put(store, places[i / 2].codec, 1, key, UINT64_MAX, &shard);
        CU_ASSERT_EQUAL(status, writing && !corrupt ? DCACHE_ERR_IO : DCACHE_OK);
        CU_ASSERT_EQUAL(setenv("DCACHE_FAILPOINTS", writing ? "" : value, 1), 0);
        if (status != DCACHE_OK)
            continue;
        CU_ASSERT_EQUAL_FATAL(open_shard(store, &shard, key, &object), DCACHE_OK);
        status = shard_object_read(&dg, &object, 0, buffer, BYTES);
        if (!corrupt)
            CU_ASSERT_EQUAL(status, DCACHE_ERR_IO);
        if (corrupt && places[i / 2].vouched)
            CU_ASSERT_EQUAL(status, DCACHE_ERR_CORRUPT);
        CU_ASSERT(status != DCACHE_OK || crc64_update(0, buffer, BYTES) != shard.crc);
        shard_object_close(&object);
    }
    unsetenv("DCACHE_FAILPOINTS");
    codec_key_free(key);
    object_store_close(store);
#endif
}

int main(void)
{
    static const struct unit_case cases[] = {
        {"round trips", test_round_trips},
        {"sizes", test_sizes},
        {"long index", test_long_index},
        {"nonces", test_nonces},
        {"choice", test_choice},
        {"wrong keys", test_wrong_keys},
        {"damage", test_damage},
        {"changed", test_changed},
        {"pack", test_pack},
        {"source fails", test_source_fails},
        {"failpoints", test_failpoints},
    };
    return unit_main("coded", cases, UNIT_COUNT(cases));
}
