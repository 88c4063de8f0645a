/* io/shard.c and io/shard_decode.c: the header, whole, torn, flipped and forged. */
#include "io/crc64.h"
#include "io/shard.h"
#include "shard_sample.h"
#include "unit.h"

#include <fcntl.h>
#include <sys/stat.h>

/* Offsets as docs/formats.md has them: written down again on purpose, so that the layout cannot change unnoticed. */
enum {
    AT_VERSION = 8,
    AT_STATE = 12,
    AT_FIXED_CRC = 16,
    AT_TABLES_CRC = 24,
    AT_STEP = 32,
    AT_WORLD_SIZE = 56,
    AT_RANK = 60,
    AT_HEADER_BYTES = 64,
    AT_FILE_BYTES = 72,
    AT_CHUNK_BYTES = 80,
    AT_CHUNK_COUNT = 84,
    AT_REGION_COUNT = 88,
    AT_REGION_TABLE = 96,
    AT_DIGEST_TABLE = 104,
    AT_STEP_OFFSET = 112,
    AT_JOB = 120,
    AT_REGIONS = 256,
    REGION_BYTES = 320,
    /* in a region's entry */
    AT_TYPE = 64,
    AT_NDIMS = 68,
    AT_FLAGS = 72,
    AT_BYTES = 80,
    AT_OFFSET = 88,
    AT_GLOBAL = 96,
    AT_START = 160,
    AT_COUNT = 224
};

static void start_diag(struct diag *dg)
{
    diag_init(dg, "test", -1, DIAG_ERROR);
}

/* A COMPLETE header, laid out here without HDF5: the body begins with the step, then the regions follow. */
static void make_header(struct shard_header *header)
{
    sample_header(header, 2, 5);
    uint64_t body = 8;
    for (uint32_t i = 0; i < header->region_count; i++)
        body += header->regions[i].bytes;
    header->header_bytes = shard_header_bytes(header->region_count, body);
    header->file_bytes = header->header_bytes + body;
    header->step_offset = header->header_bytes;
    uint64_t offset = header->header_bytes + 8;
    for (uint32_t i = 0; i < header->region_count; i++) {
        struct shard_region *region = &header->regions[i];
        region->offset = region->bytes > 0 ? offset : 0;
        offset += region->bytes;
    }
    header->chunk_count = (uint32_t)((body + SHARD_CHUNK_BYTES - 1) / SHARD_CHUNK_BYTES);
    header->chunk_crc = calloc(header->chunk_count, sizeof *header->chunk_crc);
}

/* The whole image of such a header, malloc'ed. */
static unsigned char *make_image(struct shard_header *header)
{
    make_header(header);
    unsigned char *image = calloc(1, header->file_bytes);
    sample_complete(header, image, 77, 9);
    return image;
}

static bool same_region(const struct shard_region *a, const struct shard_region *b)
{
    return strcmp(a->name, b->name) == 0 && a->type == b->type && a->ndims == b->ndims && a->is_block == b->is_block &&
           a->bytes == b->bytes && a->offset == b->offset && memcmp(a->global, b->global, sizeof a->global) == 0 &&
           memcmp(a->start, b->start, sizeof a->start) == 0 && memcmp(a->count, b->count, sizeof a->count) == 0;
}

static void check_same(const struct shard_header *a, const struct shard_header *b)
{
    CU_ASSERT_EQUAL(a->state, b->state);
    CU_ASSERT_STRING_EQUAL(a->job, b->job);
    CU_ASSERT_TRUE(shard_same_set(&a->set, &b->set));
    CU_ASSERT_EQUAL(a->rank, b->rank);
    CU_ASSERT_EQUAL(a->header_bytes, b->header_bytes);
    CU_ASSERT_EQUAL(a->file_bytes, b->file_bytes);
    CU_ASSERT_EQUAL(a->step_offset, b->step_offset);
    CU_ASSERT_EQUAL_FATAL(a->region_count, b->region_count);
    CU_ASSERT_EQUAL_FATAL(a->chunk_count, b->chunk_count);
    for (uint32_t i = 0; i < a->region_count; i++)
        CU_ASSERT_TRUE(same_region(&a->regions[i], &b->regions[i]));
    CU_ASSERT_EQUAL(memcmp(a->chunk_crc, b->chunk_crc, a->chunk_count * sizeof *a->chunk_crc), 0);
}

static void test_types(void)
{
    static const size_t sizes[] = {0, 1, 1, 2, 2, 4, 4, 8, 8, 2, 2, 4, 8, 0};
    for (unsigned i = 0; i < UNIT_COUNT(sizes); i++)
        CU_ASSERT_EQUAL(shard_type_bytes((dcache_type_t)i), sizes[i]);
    CU_ASSERT_EQUAL(shard_type_bytes((dcache_type_t)UINT32_MAX), 0);
    CU_ASSERT_STRING_EQUAL(shard_type_name(DCACHE_BFLOAT16), "bfloat16");
    CU_ASSERT_STRING_EQUAL(shard_type_name(DCACHE_INT8), "int8");
    CU_ASSERT_STRING_EQUAL(shard_type_name((dcache_type_t)0), "?");
    CU_ASSERT_STRING_EQUAL(shard_type_name((dcache_type_t)13), "?");
}

static void test_names(void)
{
    static const char *const good[] = {"a", "a/b", "A-z_0.9", "..a", "x/dcache", "dcache2", "dcache.x", "a/b/c/d/e"};
    static const char *const bad[] = {"",    "/",   "/a",  "a/",     "a//b",     ".",   "..",   "a/../b",
                                      "./a", "a b", "a\n", "dcache", "\xc3\xa4", "a:b", "a\\b", "dcache/step"};
    for (size_t i = 0; i < UNIT_COUNT(good); i++)
        CU_ASSERT_TRUE(shard_name_valid(good[i]));
    for (size_t i = 0; i < UNIT_COUNT(bad); i++)
        CU_ASSERT_FALSE(shard_name_valid(bad[i]));
    char name[DCACHE_NAME_MAX + 2];
    memset(name, 'n', sizeof name);
    name[DCACHE_NAME_MAX] = '\0';
    CU_ASSERT_TRUE(shard_name_valid(name));
    name[DCACHE_NAME_MAX] = 'n';
    name[DCACHE_NAME_MAX + 1] = '\0';
    CU_ASSERT_FALSE(shard_name_valid(name));

    CU_ASSERT_TRUE(shard_job_valid("heat2d.ocean-1_x"));
    CU_ASSERT_FALSE(shard_job_valid(""));
    CU_ASSERT_FALSE(shard_job_valid(".."));
    CU_ASSERT_FALSE(shard_job_valid("a/b"));
    CU_ASSERT_FALSE(shard_job_valid("a b"));
}

static void test_sizes(void)
{
    CU_ASSERT_EQUAL(shard_header_bytes(0, 1), 4096);
    CU_ASSERT_EQUAL(shard_header_bytes(12, 0), 4096); /* 256 + 12 * 320 = 4096: just fits */
    CU_ASSERT_EQUAL(shard_header_bytes(12, 1), 8192);
    CU_ASSERT_EQUAL(shard_header_bytes(0, 480ull << 20), 4096); /* 256 + 480 * 8 = 4096 */
    CU_ASSERT_EQUAL(shard_header_bytes(0, (480ull << 20) + 1), 8192);

    struct shard_header header = {.header_bytes = 4096, .file_bytes = 4096 + (2u << 20) + 5, .chunk_count = 3};
    CU_ASSERT_EQUAL(shard_chunk_offset(&header, 0), 4096);
    CU_ASSERT_EQUAL(shard_chunk_offset(&header, 2), 4096 + (2u << 20));
    CU_ASSERT_EQUAL(shard_chunk_length(&header, 1), 1u << 20);
    CU_ASSERT_EQUAL(shard_chunk_length(&header, 2), 5);
}

static void test_round_trip(void)
{
    struct diag dg;
    struct shard_header header;
    struct shard_header found;
    start_diag(&dg);
    unsigned char *image = make_image(&header);
    CU_ASSERT_EQUAL_FATAL(shard_decode(&dg, image, header.header_bytes, &found), DCACHE_OK);
    check_same(&header, &found);
    unsigned char *again = malloc(header.header_bytes);
    memset(again, 0xff, header.header_bytes);
    shard_encode(&found, again);
    CU_ASSERT_EQUAL(memcmp(again, image, header.header_bytes), 0);
    CU_ASSERT_EQUAL(shard_image_crc(&found, again), crc64_update(0, image, header.file_bytes));
    shard_header_free(&found);
    CU_ASSERT_PTR_NULL(found.regions);
    shard_header_free(&found);

    CU_ASSERT_EQUAL_FATAL(shard_decode_fixed(&dg, image, SHARD_FIXED_BYTES, &found), DCACHE_OK);
    CU_ASSERT_PTR_NULL(found.regions);
    CU_ASSERT_EQUAL(found.chunk_count, header.chunk_count);
    CU_ASSERT_TRUE(shard_same_set(&found.set, &header.set));
    free(again);
    free(image);
    shard_header_free(&header);
}

/* The fixed part, byte by byte, of a header with small numbers: what docs/formats.md promises to other readers. */
static void test_layout(void)
{
    struct shard_header header = {.state = SHARD_WRITING,
                                  .job = "job",
                                  .set = {.step = 1, .sequence = 2, .epoch = 0x0102030405060708, .world_size = 4},
                                  .rank = 3,
                                  .header_bytes = 4096,
                                  .file_bytes = 4096 + 16,
                                  .region_count = 0,
                                  .step_offset = 4104,
                                  .chunk_count = 1};
    unsigned char out[SHARD_FIXED_BYTES];
    unsigned char expected[SHARD_FIXED_BYTES] = {0x89, 'D', 'C', 'A', 'C', 'H', 'E', '\n', 1, 0, 0, 0, 1, 0, 0, 0};
    static const unsigned char epoch[] = {8, 7, 6, 5, 4, 3, 2, 1};
    shard_encode_fixed(&header, out);
    memcpy(expected + AT_FIXED_CRC, out + AT_FIXED_CRC, 8);
    expected[AT_STEP] = 1;
    expected[40] = 2;
    memcpy(expected + 48, epoch, sizeof epoch);
    expected[AT_WORLD_SIZE] = 4;
    expected[AT_RANK] = 3;
    expected[AT_HEADER_BYTES + 1] = 0x10;
    expected[AT_FILE_BYTES] = 0x10;
    expected[AT_FILE_BYTES + 1] = 0x10;
    expected[AT_CHUNK_BYTES + 2] = 0x10;
    expected[AT_CHUNK_COUNT] = 1;
    expected[AT_REGION_TABLE + 1] = 1;
    expected[AT_DIGEST_TABLE + 1] = 1;
    expected[AT_STEP_OFFSET] = 8;
    expected[AT_STEP_OFFSET + 1] = 0x10;
    memcpy(expected + AT_JOB, "job", 3);
    CU_ASSERT_EQUAL(memcmp(out, expected, sizeof out), 0);
}

static void test_states(void)
{
    struct diag dg;
    struct shard_header header;
    struct shard_header found;
    start_diag(&dg);
    unsigned char *image = make_image(&header);
    header.state = SHARD_WRITING;
    shard_encode_fixed(&header, image); /* over the old header, as the runtime does it */
    CU_ASSERT_EQUAL_FATAL(shard_decode_fixed(&dg, image, header.header_bytes, &found), DCACHE_OK);
    CU_ASSERT_EQUAL(found.state, SHARD_WRITING);
    CU_ASSERT_EQUAL(shard_decode(&dg, image, header.header_bytes, &found), DCACHE_ERR_CORRUPT);
    shard_encode(&header, image);
    CU_ASSERT_EQUAL(shard_decode_fixed(&dg, image, header.header_bytes, &found), DCACHE_OK);
    CU_ASSERT_EQUAL(shard_decode(&dg, image, header.header_bytes, &found), DCACHE_ERR_CORRUPT);
    header.state = SHARD_EMPTY;
    shard_encode(&header, image);
    CU_ASSERT_EQUAL(shard_decode_fixed(&dg, image, header.header_bytes, &found), DCACHE_NOT_FOUND);
    CU_ASSERT_EQUAL(shard_decode(&dg, image, header.header_bytes, &found), DCACHE_NOT_FOUND);
    CU_ASSERT_EQUAL(shard_decode_fixed(&dg, image, SHARD_FIXED_BYTES - 1, &found), DCACHE_ERR_CORRUPT);
    free(image);
    shard_header_free(&header);
}

static void test_every_bit(void)
{
    struct diag dg;
    struct shard_header header;
    struct shard_header found;
    start_diag(&dg);
    unsigned char *image = make_image(&header);
    size_t wrong = 0;
    for (size_t bit = 0; bit < header.header_bytes * 8; bit++) {
        image[bit / 8] ^= (unsigned char)(1u << bit % 8);
        wrong += shard_decode(&dg, image, header.header_bytes, &found) != DCACHE_ERR_CORRUPT;
        bool fixed = bit < 8 * SHARD_FIXED_BYTES;
        dcache_status_t expected = fixed ? DCACHE_ERR_CORRUPT : DCACHE_OK;
        wrong += shard_decode_fixed(&dg, image, SHARD_FIXED_BYTES, &found) != expected;
        image[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    CU_ASSERT_EQUAL(wrong, 0);
    free(image);
    shard_header_free(&header);
}

/* Torn by a kill: the first n bytes are of the new header, the rest of an older one. */
static void test_torn(void)
{
    struct diag dg;
    struct shard_header header;
    struct shard_header found;
    start_diag(&dg);
    unsigned char *torn = make_image(&header);
    unsigned char *new = malloc(header.header_bytes);
    header.set.step++;
    header.set.sequence++;
    for (uint32_t i = 0; i < header.chunk_count; i++)
        header.chunk_crc[i] ^= 0x0101010101010101u * (i + 1);
    shard_encode(&header, new);
    size_t differs = 0;
    for (size_t n = 0; n < header.header_bytes; n++) {
        dcache_status_t status = shard_decode(&dg, torn, header.header_bytes, &found);
        bool is_old = n <= AT_FIXED_CRC;
        bool is_new = memcmp(torn, new, header.header_bytes) == 0;
        if (status != (is_old || is_new ? DCACHE_OK : DCACHE_ERR_CORRUPT))
            differs++;
        if (status == DCACHE_OK)
            shard_header_free(&found);
        torn[n] = new[n];
    }
    CU_ASSERT_EQUAL(differs, 0);
    free(torn);
    free(new);
    shard_header_free(&header);
}

static void test_every_length(void)
{
    struct diag dg;
    struct shard_header header;
    struct shard_header found;
    start_diag(&dg);
    unsigned char *image = make_image(&header);
    size_t wrong = 0;
    for (size_t length = 0; length < header.header_bytes; length++) {
        unsigned char *cut = malloc(length > 0 ? length : 1); /* so that a read behind its end is noticed */
        memcpy(cut, image, length);
        wrong += shard_decode(&dg, cut, length, &found) != DCACHE_ERR_CORRUPT;
        free(cut);
    }
    CU_ASSERT_EQUAL(wrong, 0);
    free(image);
    shard_header_free(&header);
}

static void put_le(unsigned char *at, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        at[i] = (unsigned char)(value >> (8 * i));
}

/* Give a forged header the digests it needs to be looked at more closely. */
static void seal(unsigned char *image, size_t header_bytes)
{
    put_le(image + AT_TABLES_CRC, crc64_update(0, image + 256, header_bytes - 256), 8);
    put_le(image + AT_FIXED_CRC, 0, 8);
    put_le(image + AT_FIXED_CRC, crc64_update(0, image, 256), 8);
}

struct forgery {
    size_t at;
    size_t bytes;
    uint64_t value;
};

static size_t count_accepted(const struct forgery *forgeries, size_t count, size_t base, bool in_fixed)
{
    struct diag dg;
    struct shard_header header;
    struct shard_header found;
    size_t accepted = 0;
    start_diag(&dg);
    unsigned char *image = make_image(&header);
    unsigned char *forged = malloc(header.header_bytes);
    for (size_t i = 0; i < count; i++) {
        memcpy(forged, image, header.header_bytes);
        put_le(forged + base + forgeries[i].at, forgeries[i].value, forgeries[i].bytes);
        seal(forged, header.header_bytes);
        bool bad = shard_decode(&dg, forged, header.header_bytes, &found) == DCACHE_ERR_CORRUPT;
        if (in_fixed)
            bad = bad && shard_decode_fixed(&dg, forged, header.header_bytes, &found) == DCACHE_ERR_CORRUPT;
        if (!bad) {
            accepted++;
            fprintf(stderr, "accepted: %zu bytes at %zu\n", forgeries[i].bytes, forgeries[i].at);
        }
    }
    free(forged);
    free(image);
    shard_header_free(&header);
    return accepted;
}

static void test_forged_fixed(void)
{
    struct shard_header h;
    make_header(&h);
    const struct forgery forgeries[] = {
        {AT_VERSION, 4, 0},
        {AT_STATE, 4, 0},
        {AT_STATE, 4, 3},
        {AT_STEP, 8, DCACHE_STEP_MAX + 1},
        {AT_STEP, 8, UINT64_MAX},
        {AT_WORLD_SIZE, 4, 0},
        {AT_RANK, 4, h.set.world_size},
        {AT_HEADER_BYTES, 8, 0},
        {AT_HEADER_BYTES, 8, 256},
        {AT_HEADER_BYTES, 8, h.header_bytes - 1},
        {AT_HEADER_BYTES, 8, h.header_bytes / 2},
        {AT_HEADER_BYTES, 8, h.header_bytes * 2},
        {AT_HEADER_BYTES, 8, SHARD_HEADER_MAX * 2},
        {AT_HEADER_BYTES, 8, 1ull << 63},
        {AT_FILE_BYTES, 8, 0},
        {AT_FILE_BYTES, 8, h.header_bytes},
        {AT_FILE_BYTES, 8, h.header_bytes + 1},
        {AT_FILE_BYTES, 8, SHARD_FILE_MAX + 1},
        {AT_FILE_BYTES, 8, UINT64_MAX},
        {AT_CHUNK_BYTES, 4, 0},
        {AT_CHUNK_BYTES, 4, 4096},
        {AT_CHUNK_COUNT, 4, 0},
        {AT_CHUNK_COUNT, 4, h.chunk_count + 1},
        {AT_CHUNK_COUNT, 4, UINT32_MAX},
        {AT_REGION_COUNT, 4, h.region_count + 1},
        {AT_REGION_COUNT, 4, SHARD_REGIONS_MAX + 1},
        {AT_REGION_COUNT, 4, UINT32_MAX},
        {AT_REGION_TABLE, 8, 0},
        {AT_REGION_TABLE, 8, UINT64_MAX},
        {AT_DIGEST_TABLE, 8, 256},
        {AT_DIGEST_TABLE, 8, UINT64_MAX - 7},
        {AT_STEP_OFFSET, 8, 0},
        {AT_STEP_OFFSET, 8, h.header_bytes - 8},
        {AT_STEP_OFFSET, 8, h.file_bytes - 7},
        {AT_STEP_OFFSET, 8, UINT64_MAX},
        {AT_JOB, 1, 0},
        {AT_JOB, 1, '/'},
        {AT_JOB + 20, 1, 'x'},
        {92, 4, 1},
        {184, 1, 1},
        {255, 1, 1},
        {AT_JOB, 8, 0x2e2e},
    };
    CU_ASSERT_EQUAL(count_accepted(forgeries, UNIT_COUNT(forgeries), 0, true), 0);
    shard_header_free(&h);
}

static void test_newer_version(void)
{
    struct diag dg;
    struct shard_header header;
    struct shard_header found;
    start_diag(&dg);
    unsigned char *image = make_image(&header);
    put_le(image + AT_VERSION, SHARD_FORMAT_VERSION + 1, 4);
    memset(image + AT_STATE, 0xff, 4); /* may mean anything there */
    seal(image, header.header_bytes);
    CU_ASSERT_EQUAL(shard_decode(&dg, image, header.header_bytes, &found), DCACHE_ERR_FORMAT);
    CU_ASSERT_PTR_NOT_NULL(strstr(dg.text, "version 2"));
    free(image);
    shard_header_free(&header);
}

/* Region 0 has one dimension, 4 elements of int8; SAMPLE_BLOCK has two. */
static void test_forged_region(void)
{
    struct shard_header h;
    make_header(&h);
    const struct forgery first[] = {
        {0, 1, 0},
        {0, 1, '/'},
        {0, 7, 0x656863616364}, /* "dcache" */
        {60, 1, 'x'},           /* behind the end of the name */
        {AT_TYPE, 4, 0},
        {AT_TYPE, 4, 13},
        {AT_TYPE, 4, UINT32_MAX},
        {AT_TYPE, 4, DCACHE_INT16},
        {AT_NDIMS, 4, 0},
        {AT_NDIMS, 4, 2},
        {AT_NDIMS, 4, 9},
        {AT_NDIMS, 4, UINT32_MAX},
        {AT_FLAGS, 4, 2},
        {AT_BYTES, 8, 3},
        {AT_BYTES, 8, 5},
        {AT_BYTES, 8, 0},
        {AT_BYTES, 8, UINT64_MAX},
        {AT_OFFSET, 8, 0},
        {AT_OFFSET, 8, h.header_bytes - 1},
        {AT_OFFSET, 8, h.file_bytes - 3},
        {AT_OFFSET, 8, h.file_bytes + 1},
        {AT_OFFSET, 8, UINT64_MAX - 2},
        {AT_GLOBAL, 8, 5},
        {AT_START, 8, 1},
        {AT_COUNT, 8, 5},
        {AT_COUNT + 8, 8, 1},
        {AT_GLOBAL + 56, 8, 1},
        {76, 4, 1},
        {288, 1, 1},
        {319, 1, 1},
    };
    CU_ASSERT_EQUAL(count_accepted(first, UNIT_COUNT(first), AT_REGIONS, false), 0);

    const struct forgery block[] = {
        {AT_START, 8, 8}, {AT_START, 8, UINT64_MAX}, {AT_COUNT + 8, 8, 18}, {AT_COUNT, 8, 1ull << 61},
        {AT_COUNT, 8, 0}, {AT_GLOBAL, 8, 4},         {AT_GLOBAL, 8, 0},     {AT_COUNT + 8, 8, UINT64_MAX},
        {AT_FLAGS, 4, 0},
    };
    const struct forgery behind_tables[] = {{h.header_bytes - 1, 1, 1}};
    CU_ASSERT_EQUAL(count_accepted(behind_tables, 1, 0, false), 0);

    size_t index = 12;
    CU_ASSERT_STRING_EQUAL(h.regions[index].name, SAMPLE_BLOCK);
    CU_ASSERT_EQUAL(count_accepted(block, UNIT_COUNT(block), AT_REGIONS + index * REGION_BYTES, false), 0);

    const struct forgery empty[] = {{AT_OFFSET, 8, h.header_bytes}, {AT_BYTES, 8, 4}};
    CU_ASSERT_EQUAL(count_accepted(empty, UNIT_COUNT(empty), AT_REGIONS + (index + 2) * REGION_BYTES, false), 0);
    shard_header_free(&h);
}

/* A product of counts that is right only after it went round: 2^32 * 2^32 * 1 byte = 0 mod 2^64. */
static void test_forged_overflow(void)
{
    struct diag dg;
    struct shard_header header;
    struct shard_header found;
    start_diag(&dg);
    unsigned char *image = make_image(&header);
    unsigned char *entry = image + AT_REGIONS;
    put_le(entry + AT_NDIMS, 2, 4);
    for (size_t i = 0; i < 2; i++) {
        put_le(entry + AT_GLOBAL + 8 * i, 1ull << 32, 8);
        put_le(entry + AT_COUNT + 8 * i, 1ull << 32, 8);
    }
    put_le(entry + AT_BYTES, 0, 8);
    put_le(entry + AT_OFFSET, 0, 8);
    seal(image, header.header_bytes);
    CU_ASSERT_EQUAL(shard_decode(&dg, image, header.header_bytes, &found), DCACHE_ERR_CORRUPT);

    put_le(entry + AT_COUNT, 0, 8); /* but an empty one is empty, whatever its other dimensions are */
    put_le(entry + AT_GLOBAL, 0, 8);
    seal(image, header.header_bytes);
    CU_ASSERT_EQUAL_FATAL(shard_decode(&dg, image, header.header_bytes, &found), DCACHE_OK);
    CU_ASSERT_EQUAL(found.regions[0].bytes, 0);
    shard_header_free(&found);
    free(image);
    shard_header_free(&header);
}

static bool holds_together(const struct shard_header *header)
{
    bool good = header->rank < header->set.world_size && header->file_bytes > header->header_bytes;
    for (uint32_t i = 0; i < header->region_count; i++) {
        const struct shard_region *region = &header->regions[i];
        good = good && shard_name_valid(region->name) && region->bytes <= header->file_bytes &&
               region->offset <= header->file_bytes - region->bytes &&
               (region->bytes == 0 || region->offset >= header->header_bytes);
    }
    return good;
}

/* Noise with good digests: nothing crashes, and what is accepted holds together. */
static void test_random(void)
{
    struct diag dg;
    struct shard_header header;
    struct shard_header found;
    start_diag(&dg);
    srandom(12345);
    unsigned char *image = make_image(&header);
    unsigned char *forged = malloc(header.header_bytes);
    size_t wrong = 0;
    size_t accepted = 0;
    for (int round = 0; round < 20000; round++) {
        memcpy(forged, image, header.header_bytes);
        for (long n = random() % 4; n >= 0; n--) {
            size_t used = 256 + 15 * REGION_BYTES;
            size_t at = 8 + (size_t)random() % (used - 16);
            put_le(forged + at, (uint64_t)random() << (random() % 64), 1 + (size_t)random() % 8);
        }
        if (round % 16 == 0) {
            for (size_t i = 12; i < header.header_bytes; i++)
                forged[i] = (unsigned char)random();
        }
        seal(forged, header.header_bytes);
        if (shard_decode(&dg, forged, header.header_bytes, &found) == DCACHE_OK) {
            wrong += !holds_together(&found);
            accepted++;
            shard_header_free(&found);
        }
    }
    CU_ASSERT_EQUAL(wrong, 0);
    CU_ASSERT_TRUE(accepted > 100 && accepted < 19000); /* else the noise would test one way only */
    free(forged);
    free(image);
    shard_header_free(&header);
}

static int write_file(const char *name, const void *data, size_t bytes)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", unit_scratch(), name);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CU_ASSERT_TRUE_FATAL(fd >= 0);
    CU_ASSERT_EQUAL_FATAL(write(fd, data, bytes), (ssize_t)bytes);
    return fd;
}

static void test_read_header(void)
{
    struct diag dg;
    struct shard_header header;
    struct shard_header found;
    start_diag(&dg);
    unsigned char *image = make_image(&header);
    int fd = write_file("image", image, header.file_bytes);
    CU_ASSERT_EQUAL_FATAL(shard_read_header(&dg, fd, &found), DCACHE_OK);
    check_same(&header, &found);
    shard_header_free(&found);

    off_t lengths[] = {
        (off_t)header.file_bytes - 1, (off_t)header.file_bytes + 1, (off_t)header.header_bytes, 4096, 256, 255, 1, 0};
    for (size_t i = 0; i < UNIT_COUNT(lengths); i++) {
        CU_ASSERT_EQUAL(ftruncate(fd, lengths[i]), 0);
        CU_ASSERT_EQUAL(shard_read_header(&dg, fd, &found), DCACHE_ERR_CORRUPT);
    }
    CU_ASSERT_EQUAL(ftruncate(fd, 8192), 0); /* zeros */
    CU_ASSERT_EQUAL(shard_read_header(&dg, fd, &found), DCACHE_NOT_FOUND);
    close(fd);
    CU_ASSERT_EQUAL(shard_read_header(&dg, -1, &found), DCACHE_ERR_IO);
    free(image);
    shard_header_free(&header);
}

int main(void)
{
    static const struct unit_case cases[] = {
        {"types", test_types},
        {"names", test_names},
        {"sizes and chunks", test_sizes},
        {"round trip", test_round_trip},
        {"layout", test_layout},
        {"states", test_states},
        {"every bit flipped", test_every_bit},
        {"torn between two headers", test_torn},
        {"cut at every length", test_every_length},
        {"forged fixed part", test_forged_fixed},
        {"newer version", test_newer_version},
        {"forged regions", test_forged_region},
        {"forged product of counts", test_forged_overflow},
        {"noise with good digests", test_random},
        {"read from a file", test_read_header},
    };
    return unit_main("shard", cases, UNIT_COUNT(cases));
}
