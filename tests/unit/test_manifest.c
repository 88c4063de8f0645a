/* io/manifest.c, io/step_objects.c and io/json_field.c: the documents in the object store, from friend and foe. */
#include "io/json_field.h"
#include "io/manifest.h"
#include "io/step_objects.h"
#include "tests/unit/unit.h"

#include <inttypes.h>

static struct diag dg;

static struct object_store *open_store(const char *name)
{
    struct object_store *store = NULL;
    struct object_credentials none;
    const struct object_policy policy = {.timeout_s = 5, .stall_s = 5};
    char url[OBJECT_URL_MAX];
    memset(&none, 0, sizeof none);
    diag_init(&dg, "job", -1, DIAG_ERROR);
    snprintf(url, sizeof url, "file://%s/%s", unit_scratch(), name);
    CU_ASSERT_EQUAL_FATAL(object_store_open(&dg, url, &none, &policy, &store), DCACHE_OK);
    return store;
}

static void put(struct object_store *store, const char *key, const char *text)
{
    CU_ASSERT_EQUAL(object_store_put_bytes(store, &dg, key, text, strlen(text), OBJECT_REPLACE), DCACHE_OK);
}

/* An object of the size that the parts here claim for every shard; of sequence 2. */
#define SHARD_BYTES 4096

static void put_shard(struct object_store *store, uint64_t step, uint32_t rank)
{
    char key[OBJECT_KEY_MAX];
    static const char zeros[SHARD_BYTES];
    const struct shard_set set = {.step = step, .sequence = 2};
    const struct manifest_shard shard = {.rank = rank};
    manifest_object_key(key, "job", &set, &shard);
    CU_ASSERT_EQUAL(object_store_put_bytes(store, &dg, key, zeros, sizeof zeros, OBJECT_REPLACE), DCACHE_OK);
}

/* A part of `count` shards from rank `first` on; borrows `shards`. */
static struct manifest make_part(struct manifest_shard *shards, uint64_t step, uint64_t sequence, uint32_t world_size,
                                 uint32_t first, uint32_t count, const char *drainer)
{
    struct manifest part = {
        .set = {.step = step, .sequence = sequence, .epoch = 0xfedcba9876543210u + sequence, .world_size = world_size},
        .shard_count = count,
        .shards = shards};
    snprintf(part.job, sizeof part.job, "job");
    snprintf(part.drainer, sizeof part.drainer, "%s", drainer);
    for (uint32_t i = 0; i < count; i++)
        shards[i] = (struct manifest_shard){
            .rank = first + i, .bytes = SHARD_BYTES, .crc = 0x8000000000000001u * (first + i + 1) ^ sequence};
    return part;
}

/* --- Keys and documents --------------------------------------------------------------------------------------------*/

static void test_keys(void)
{
    char key[OBJECT_KEY_MAX];
    manifest_step_prefix(key, "a.b", 12);
    CU_ASSERT_STRING_EQUAL(key, "a.b/12/");
    manifest_key(key, "a.b", DCACHE_STEP_MAX);
    CU_ASSERT_STRING_EQUAL(key, "a.b/9223372036854775807/manifest.json");
    struct shard_set set = {.step = 0, .sequence = 9, .world_size = 1};
    manifest_part_key(key, "a.b", &set, "r12");
    CU_ASSERT_STRING_EQUAL(key, "a.b/0/part-r12-9.json");
    set.sequence++; /* another attempt's part is another object: removing one never removes the other */
    manifest_part_key(key, "a.b", &set, "r12");
    CU_ASSERT_STRING_EQUAL(key, "a.b/0/part-r12-10.json");
    struct manifest_shard shard = {.rank = UINT32_MAX - 1, .codec = CODEC_ZSTD_AES};
    manifest_object_key(key, "a.b", &set, &shard); /* and its shard, too */
    CU_ASSERT_STRING_EQUAL(key, "a.b/0/shard-4294967294-10.h5.zst.aes");
    set.sequence = UINT64_MAX;
    manifest_object_key(key, "a.b", &set, &shard);
    CU_ASSERT_STRING_EQUAL(key, "a.b/0/shard-4294967294-18446744073709551615.h5.zst.aes");
    manifest_early_name(UINT32_MAX - 1, CODEC_PLAIN, shard.object);
    manifest_object_key(key, "a.b", &set, &shard);
    CU_ASSERT_STRING_EQUAL(key, "a.b/0/shard-4294967294.h5");
}

static void test_round_trip(void)
{
    struct manifest_shard shards[5];
    struct manifest part = make_part(shards, DCACHE_STEP_MAX, 3, 10, 2, 5, "tool-host_0.x");
    struct manifest back;
    char *text = NULL;
    size_t bytes = 0;
    diag_init(&dg, "job", -1, DIAG_ERROR);
    part.shards[4].bytes = SHARD_FILE_MAX;
    part.shards[4].crc = UINT64_MAX;
    CU_ASSERT_EQUAL_FATAL(manifest_encode(&dg, &part, &text, &bytes), DCACHE_OK);
    CU_ASSERT_EQUAL(bytes, strlen(text));
    CU_ASSERT_EQUAL_FATAL(manifest_decode(&dg, "part", text, bytes, &back), DCACHE_OK);
    CU_ASSERT_STRING_EQUAL(back.job, "job");
    CU_ASSERT_STRING_EQUAL(back.drainer, "tool-host_0.x");
    CU_ASSERT(shard_same_set(&back.set, &part.set));
    CU_ASSERT_EQUAL_FATAL(back.shard_count, 5);
    for (size_t i = 0; i < 5; i++) {
        CU_ASSERT_EQUAL(back.shards[i].rank, shards[i].rank);
        CU_ASSERT_EQUAL(back.shards[i].bytes, shards[i].bytes);
        CU_ASSERT_EQUAL(back.shards[i].crc, shards[i].crc);
    }
    CU_ASSERT_PTR_NULL(manifest_find(&back, 1));
    CU_ASSERT_PTR_EQUAL(manifest_find(&back, 2), &back.shards[0]);
    CU_ASSERT_PTR_EQUAL(manifest_find(&back, 6), &back.shards[4]);
    CU_ASSERT_PTR_NULL(manifest_find(&back, 7));
    manifest_free(&back);
    CU_ASSERT_PTR_NULL(manifest_find(&back, 2));
    free(text);
}

static void test_bad_manifests_are_not_written(void)
{
    struct manifest_shard shards[2];
    char *text = NULL;
    size_t bytes = 0;
    diag_init(&dg, "job", -1, DIAG_ERROR);
    struct manifest part = make_part(shards, 1, 1, 4, 0, 2, "r0");
    shards[1].rank = 0;
    CU_ASSERT_EQUAL(manifest_encode(&dg, &part, &text, &bytes), DCACHE_ERR_INVALID);
    shards[1].rank = 4;
    CU_ASSERT_EQUAL(manifest_encode(&dg, &part, &text, &bytes), DCACHE_ERR_INVALID);
    part = make_part(shards, UINT64_MAX, 1, 4, 0, 2, "r0");
    CU_ASSERT_EQUAL(manifest_encode(&dg, &part, &text, &bytes), DCACHE_ERR_INVALID);
    part = make_part(shards, 1, 1, 4, 0, 2, "../r0");
    CU_ASSERT_EQUAL(manifest_encode(&dg, &part, &text, &bytes), DCACHE_ERR_INVALID);
    part = make_part(shards, 1, UINT64_MAX, 4, 0, 2, "r0");
    CU_ASSERT_EQUAL(manifest_encode(&dg, &part, &text, &bytes), DCACHE_ERR_INVALID);
    CU_ASSERT_PTR_NULL(text);
}

/* A shard in each form, and whether it can be written. */
static void test_stored_forms(void)
{
    static const struct manifest_shard forms[] = {
        {.rank = 0, .bytes = 5000, .crc = 1},
        {.rank = 1, .bytes = 5000, .crc = 2, .codec = CODEC_ZSTD, .stored_bytes = 77},
        {.rank = 2, .bytes = 5000, .crc = 3, .codec = CODEC_ZSTD_AES, .stored_bytes = 5077},
        {.rank = 3, .bytes = 5000, .crc = 4, .object = "pack-r0-0.bin", .offset = 123456789012, .stored_bytes = 5000},
        {.rank = 4, .bytes = 5000, .crc = 5, .codec = CODEC_AES, .object = "pack-x", .offset = 0, .stored_bytes = 1},
        {.rank = 5, .bytes = 5000, .crc = 6, .object = "shard-5.h5"},
        {.rank = 6, .bytes = 5000, .crc = 7, .codec = CODEC_ZSTD, .object = "shard-6.h5.zst", .stored_bytes = 9}};
    static const struct manifest_shard impossible[] = {
        {.bytes = 5000, .codec = CODECS, .stored_bytes = 77},
        {.bytes = 5000, .codec = CODEC_ZSTD},
        {.bytes = 5000, .stored_bytes = 4999},
        {.bytes = 5000, .offset = 1},
        {.bytes = 5000, .object = "shard-1.h5"},
        {.bytes = 5000, .object = "shard-0.h5", .offset = 1},
        {.bytes = 5000, .object = "shard-0.h5.zst"},
        {.bytes = 5000, .object = "shard-0-1.h5"},
        {.bytes = 5000, .object = "pack-"},
        {.bytes = 5000, .object = "pack-/../x"},
        {.bytes = 5000, .object = "pack-a", .offset = UINT64_MAX},
        {.bytes = 5000, .codec = CODEC_ZSTD, .stored_bytes = UINT64_MAX}};
    struct manifest_shard shards[7];
    struct manifest back;
    char *text = NULL;
    size_t bytes = 0;
    char key[OBJECT_KEY_MAX];
    diag_init(&dg, "job", -1, DIAG_ERROR);
    struct manifest part = make_part(shards, 1, 1, 7, 0, 7, "r0");
    memcpy(shards, forms, sizeof forms);
    CU_ASSERT_EQUAL_FATAL(manifest_encode(&dg, &part, &text, &bytes), DCACHE_OK);
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "\"version\": 3"));
    CU_ASSERT_EQUAL_FATAL(manifest_decode(&dg, "part", text, bytes, &back), DCACHE_OK);
    for (size_t i = 0; i < UNIT_COUNT(forms); i++) {
        const struct manifest_shard *shard = &back.shards[i];
        CU_ASSERT(shard->codec == forms[i].codec && shard->offset == forms[i].offset && shard->crc == forms[i].crc);
        CU_ASSERT_EQUAL(manifest_stored_bytes(shard), manifest_stored_bytes(&forms[i]));
        CU_ASSERT_STRING_EQUAL(shard->object, forms[i].object);
    }
    manifest_object_key(key, "job", &back.set, &back.shards[2]);
    CU_ASSERT_STRING_EQUAL(key, "job/1/shard-2-1.h5.zst.aes");
    manifest_object_key(key, "job", &back.set, &back.shards[3]);
    CU_ASSERT_STRING_EQUAL(key, "job/1/pack-r0-0.bin");
    manifest_free(&back);
    free(text);
    text = NULL;
    part.shard_count = 1;
    for (size_t i = 0; i < UNIT_COUNT(impossible); i++) {
        shards[0] = impossible[i];
        CU_ASSERT_EQUAL(manifest_encode(&dg, &part, &text, &bytes), DCACHE_ERR_INVALID);
    }
    CU_ASSERT_PTR_NULL(text);
}

/* --- Hostile documents ---------------------------------------------------------------------------------------------*/

/* A good document, of which each hostile one changes one thing. */
#define FORMAT       "\"format\": \"dcache-manifest\""
#define VERSION      "\"version\": 1"
#define JOB          "\"job\": \"job\""
#define STEP         "\"step\": 5"
#define SEQ          "\"sequence\": 2"
#define EPOCH        "\"epoch\": \"00000000000000ff\""
#define WORLD        "\"world_size\": 2"
#define DRAINER      "\"drainer\": \"r0\""
#define CRC          "\"crc64\": \"0123456789abcdef\""
#define SHARD0       "{\"rank\": 0, \"bytes\": 4096, " CRC "}"
#define SHARD1       "{\"rank\": 1, \"bytes\": 4096, " CRC "}"
#define SHARDS       "\"shards\": [" SHARD0 ", " SHARD1 "]"
#define HEAD         FORMAT ", " VERSION ", " JOB ", " STEP ", " SEQ ", " EPOCH ", " WORLD ", " DRAINER
#define WITH(shards) "{" HEAD ", \"shards\": " shards "}"
#define INSTEAD_OF_WORLD(world)                                                                                        \
    "{" FORMAT ", " VERSION ", " JOB ", " STEP ", " SEQ ", " EPOCH ", " world ", " DRAINER ", " SHARDS "}"
#define INSTEAD_OF_STEP(step)                                                                                          \
    "{" FORMAT ", " VERSION ", " JOB ", " step ", " SEQ ", " EPOCH ", " WORLD ", " DRAINER ", " SHARDS "}"
#define INSTEAD_OF_JOB(job)                                                                                            \
    "{" FORMAT ", " VERSION ", " job ", " STEP ", " SEQ ", " EPOCH ", " WORLD ", " DRAINER ", " SHARDS "}"
#define INSTEAD_OF_EPOCH(epoch)                                                                                        \
    "{" FORMAT ", " VERSION ", " JOB ", " STEP ", " SEQ ", " epoch ", " WORLD ", " DRAINER ", " SHARDS "}"
#define INSTEAD_OF_VERSION(version)                                                                                    \
    "{" FORMAT ", " version ", " JOB ", " STEP ", " SEQ ", " EPOCH ", " WORLD ", " DRAINER ", " SHARDS "}"

static const char *const hostile[] = {
    "",
    " ",
    "null",
    "[]",
    "7",
    "{",
    "{}",
    "\xff\xfe",
    "{" HEAD, /* torn */
    "{" HEAD "}",
    WITH("null"),
    WITH("{}"),
    WITH("7"),
    WITH("[null, null]"),
    WITH("[" SHARD1 ", " SHARD0 "]"),                                  /* not ascending */
    WITH("[" SHARD0 ", " SHARD0 "]"),                                  /* twice */
    WITH("[" SHARD0 ", " SHARD1 ", " SHARD1 "]"),                      /* more than ranks */
    WITH("[{\"rank\": 2, \"bytes\": 4096, " CRC "}]"),                 /* no such rank */
    WITH("[{\"rank\": -1, \"bytes\": 4096, " CRC "}]"),                /* */
    WITH("[{\"rank\": 4294967296, \"bytes\": 4096, " CRC "}]"),        /* 0 in 32 bits */
    WITH("[{\"rank\": 0.0, \"bytes\": 4096, " CRC "}]"),               /* */
    WITH("[{\"rank\": \"0\", \"bytes\": 4096, " CRC "}]"),             /* */
    WITH("[{\"rank\": true, \"bytes\": 4096, " CRC "}]"),              /* */
    WITH("[{\"rank\": 0, \"bytes\": -4096, " CRC "}]"),                /* */
    WITH("[{\"rank\": 0, \"bytes\": 0, " CRC "}]"),                    /* */
    WITH("[{\"rank\": 0, \"bytes\": 1125899906842625, " CRC "}]"),     /* SHARD_FILE_MAX + 1 */
    WITH("[{\"rank\": 0, \"bytes\": 1e300, " CRC "}]"),                /* */
    WITH("[{\"rank\": 0, \"bytes\": 99999999999999999999, " CRC "}]"), /* */
    WITH("[{\"rank\": 0, \"rank\": 1, \"bytes\": 4096, " CRC "}]"),    /* a key twice */
    WITH("[{\"rank\": 0, \"bytes\": 4096}]"),                          /* */
    WITH("[{\"rank\": 0, \"bytes\": 4096, \"crc64\": 1}]"),            /* */
    WITH("[{\"rank\": 0, \"bytes\": 4096, \"crc64\": \"0x23456789abcdef\"}]"),
    WITH("[{\"rank\": 0, \"bytes\": 4096, \"crc64\": \"123456789abcdef\"}]"),
    WITH("[{\"rank\": 0, \"bytes\": 4096, \"crc64\": \"00123456789abcdef\"}]"),
    WITH("[{\"rank\": 0, \"bytes\": 4096, \"crc64\": \"-123456789abcdef\"}]"),
    INSTEAD_OF_WORLD("\"world_size\": 0"),
    INSTEAD_OF_WORLD("\"world_size\": -2"),
    INSTEAD_OF_WORLD("\"world_size\": 1"),
    INSTEAD_OF_WORLD("\"world_size\": 4294967298"),
    INSTEAD_OF_WORLD("\"world_size\": []"),
    INSTEAD_OF_STEP("\"step\": -1"),
    INSTEAD_OF_STEP("\"step\": 9223372036854775808"),
    INSTEAD_OF_STEP("\"step\": \"5\""),
    INSTEAD_OF_JOB("\"job\": \"\""),
    INSTEAD_OF_JOB("\"job\": \"..\""),
    INSTEAD_OF_JOB("\"job\": \"a/b\""),
    INSTEAD_OF_JOB("\"job\": \"\\u001b[2J\""),
    INSTEAD_OF_JOB("\"job\": \"j\\u0000b\""),
    INSTEAD_OF_JOB("\"job\": \"0123456789012345678901234567890123456789012345678901234567890123\""),
    INSTEAD_OF_EPOCH("\"epoch\": 255"),
    INSTEAD_OF_EPOCH("\"epoch\": \"ff\""),
    INSTEAD_OF_VERSION("\"version\": 0"),
    INSTEAD_OF_VERSION("\"version\": -1"),
    INSTEAD_OF_VERSION("\"version\": \"1\""),
};

static void test_hostile(void)
{
    struct manifest manifest;
    diag_init(&dg, "job", -1, DIAG_ERROR);
    const char *good = WITH("[" SHARD0 ", " SHARD1 "]");
    CU_ASSERT_EQUAL_FATAL(manifest_decode(&dg, "m", good, strlen(good), &manifest), DCACHE_OK);
    manifest_free(&manifest);
    for (size_t i = 0; i < UNIT_COUNT(hostile); i++) {
        memset(&manifest, 0x5a, sizeof manifest);
        struct manifest before = manifest;
        dg.text[0] = '\0';
        dcache_status_t status = manifest_decode(&dg, "m", hostile[i], strlen(hostile[i]), &manifest);
        CU_ASSERT_EQUAL(status, DCACHE_ERR_CORRUPT);
        if (status != DCACHE_ERR_CORRUPT)
            fprintf(stderr, "hostile[%zu] gave %d: %s\n", i, (int)status, hostile[i]);
        CU_ASSERT_STRING_NOT_EQUAL(dg.text, "");
        CU_ASSERT_EQUAL(memcmp(&before, &manifest, sizeof manifest), 0); /* outputs on success only */
        CU_ASSERT_PTR_NULL(strchr(dg.text, 27));
    }
}

/* What a shard of version 2 or 3 says of where it is. */
#define VERSIONED(version, fields)                                                                                     \
    "{" FORMAT ", \"version\": " version ", " JOB ", " STEP ", " SEQ ", " EPOCH ", " WORLD ", " DRAINER                \
    ", \"shards\": [{\"rank\": 0, \"bytes\": 4096, " CRC ", " fields "}]}"
#define FORM(fields)  VERSIONED("2", fields)
#define FORM3(fields) VERSIONED("3", fields)

static const char *const hostile_forms[] = {
    FORM("\"codec\": 1"),
    FORM("\"codec\": \"zstd\""), /* in how many bytes? */
    FORM("\"codec\": \"zstd\", \"stored_bytes\": 0"),
    FORM("\"codec\": \"zstd\", \"stored_bytes\": -5"),
    FORM("\"codec\": \"zstd\", \"stored_bytes\": 2251799813685249"),
    FORM("\"codec\": \"zstd\", \"stored_bytes\": \"7\""),
    FORM("\"stored_bytes\": 4095"),
    FORM("\"offset\": 1"),
    FORM("\"object\": \"shard-0.h5\""), /* it is called so, but version 2 has no such word for it */
    FORM("\"object\": \"shard-1.h5\""),
    FORM3("\"object\": \"shard-1.h5\""),
    FORM3("\"object\": \"shard-0.h5.zst\""),
    FORM3("\"object\": \"shard-0.h5\", \"offset\": 1"),
    FORM3("\"object\": \"shard-0-2.h5\""),
    FORM3("\"object\": \"shard-0-3.h5\""),
    FORM3("\"object\": \"manifest.json\""),
    FORM("\"object\": \"\""),
    FORM("\"object\": 7"),
    FORM("\"object\": \"..\""),
    FORM("\"object\": \"pack-\""),
    FORM("\"object\": \"pack-../../other/5/shard-0.h5\""),
    FORM("\"object\": \"pack-a\\u0000b\""),
    FORM("\"object\": \"pack-0123456789012345678901234567890123456789012345678901234567890\""),
    FORM("\"object\": \"manifest.json\""),
    FORM("\"object\": \"pack-a\", \"offset\": -1"),
    FORM("\"object\": \"pack-a\", \"offset\": 9223372036854775807"),
    FORM("\"object\": \"pack-a\", \"offset\": 1.5"),
    FORM("\"object\": \"pack-a\", \"stored_bytes\": 4097"),
};

static void test_hostile_forms(void)
{
    struct manifest manifest;
    diag_init(&dg, "job", -1, DIAG_ERROR);
    for (size_t i = 0; i < UNIT_COUNT(hostile_forms); i++) {
        dg.text[0] = '\0';
        dcache_status_t status = manifest_decode(&dg, "m", hostile_forms[i], strlen(hostile_forms[i]), &manifest);
        CU_ASSERT_EQUAL(status, DCACHE_ERR_CORRUPT);
        if (status != DCACHE_ERR_CORRUPT)
            fprintf(stderr, "hostile_forms[%zu] gave %d\n", i, (int)status);
        CU_ASSERT_STRING_NOT_EQUAL(dg.text, "");
    }
    const char *unknown = FORM("\"codec\": \"rot13\", \"stored_bytes\": 7");
    CU_ASSERT_EQUAL(manifest_decode(&dg, "m", unknown, strlen(unknown), &manifest), DCACHE_ERR_FORMAT);
}

/* Keys that version 1 does not know are ignored there, as ever. */
static void test_version_1_is_plain(void)
{
    struct manifest manifest;
    const char *text = WITH("[{\"rank\": 0, \"bytes\": 4096, " CRC ", \"codec\": \"zstd\", \"object\": 5}]");
    diag_init(&dg, "job", -1, DIAG_ERROR);
    CU_ASSERT_EQUAL_FATAL(manifest_decode(&dg, "m", text, strlen(text), &manifest), DCACHE_OK);
    CU_ASSERT_EQUAL(manifest.shards[0].codec, CODEC_PLAIN);
    CU_ASSERT_STRING_EQUAL(manifest.shards[0].object, "shard-0.h5");
    CU_ASSERT_EQUAL(manifest_stored_bytes(&manifest.shards[0]), 4096);
    manifest_free(&manifest);
}

/* One document of each version, as it was written then, and the objects that its shards are in. */
static const struct {
    const char *shards;
    int version;
    const char *objects[3];
} versions[] = {
    {"{\"rank\": 0, \"bytes\": 4096, " CRC "}, {\"rank\": 1, \"bytes\": 4096, " CRC "}",
     1,
     {"shard-0.h5", "shard-1.h5"}},
    {"{\"rank\": 0, \"bytes\": 4096, " CRC "}, {\"rank\": 1, \"bytes\": 4096, " CRC
     ", \"stored_bytes\": 77, \"codec\": \"zstd+aes-256-gcm\"}, {\"rank\": 2, \"bytes\": 4096, " CRC
     ", \"stored_bytes\": 4096, \"object\": \"pack-x\", \"offset\": 5}",
     2,
     {"shard-0.h5", "shard-1.h5.zst.aes", "pack-x"}},
    {"{\"rank\": 0, \"bytes\": 4096, " CRC "}, {\"rank\": 1, \"bytes\": 4096, " CRC
     ", \"stored_bytes\": 77, \"codec\": \"zstd+aes-256-gcm\"}, {\"rank\": 2, \"bytes\": 4096, " CRC
     ", \"stored_bytes\": 4096, \"object\": \"shard-2.h5\", \"offset\": 0}",
     3,
     {"shard-0-2.h5", "shard-1-2.h5.zst.aes", "shard-2.h5"}},
};

/* Read, and written again in the version that they had. */
static void test_versions(void)
{
    for (size_t i = 0; i < UNIT_COUNT(versions); i++) {
        char document[2000];
        char wanted[32];
        struct manifest manifest;
        char *text = NULL;
        size_t bytes = 0;
        diag_init(&dg, "job", -1, DIAG_ERROR);
        snprintf(document, sizeof document,
                 "{%s, \"version\": %d, %s, %s, %s, %s, \"world_size\": 3, %s, \"shards\": [%s]}", FORMAT,
                 versions[i].version, JOB, STEP, SEQ, EPOCH, DRAINER, versions[i].shards);
        CU_ASSERT_EQUAL_FATAL(manifest_decode(&dg, "m", document, strlen(document), &manifest), DCACHE_OK);
        for (size_t s = 0; s < manifest.shard_count; s++) {
            char name[MANIFEST_OBJECT_MAX + 1];
            manifest_object_name(&manifest.set, &manifest.shards[s], name);
            CU_ASSERT_STRING_EQUAL(name, versions[i].objects[s]);
            CU_ASSERT_EQUAL(manifest_in_pack(&manifest.shards[s]), strncmp(name, "pack", 4) == 0);
        }
        CU_ASSERT_EQUAL_FATAL(manifest_encode(&dg, &manifest, &text, &bytes), DCACHE_OK);
        snprintf(wanted, sizeof wanted, "\"version\": %d,", versions[i].version);
        CU_ASSERT_PTR_NOT_NULL(strstr(text, wanted));
        for (size_t s = 0; s < manifest.shard_count; s++) /* what the reader knows himself is not written */
            CU_ASSERT_EQUAL(strstr(text, versions[i].objects[s]) != NULL,
                            strstr(versions[i].shards, versions[i].objects[s]) != NULL);
        free(text);
        manifest_free(&manifest);
    }
}

static void test_newer_version(void)
{
    struct manifest manifest;
    const char *newer = INSTEAD_OF_VERSION("\"version\": 5");
    diag_init(&dg, "job", -1, DIAG_ERROR);
    CU_ASSERT_EQUAL(manifest_decode(&dg, "m", newer, strlen(newer), &manifest), DCACHE_ERR_FORMAT);
    CU_ASSERT_PTR_NOT_NULL(strstr(dg.text, "version 5"));
}

static void test_unknown_keys_are_ignored(void)
{
    struct manifest manifest;
    const char *text =
        "{\"later\": {\"a\": [1, 2]}, " HEAD ", \"shards\": [{\"x\": null, \"rank\": 1, \"bytes\": 4096, " CRC "}]}";
    diag_init(&dg, "job", -1, DIAG_ERROR);
    CU_ASSERT_EQUAL_FATAL(manifest_decode(&dg, "m", text, strlen(text), &manifest), DCACHE_OK);
    CU_ASSERT_EQUAL(manifest.shard_count, 1);
    manifest_free(&manifest);
}

static void test_deep_nesting(void)
{
    const size_t depth = 4u << 20;
    struct manifest manifest;
    char *text = malloc(2 * depth);
    CU_ASSERT_PTR_NOT_NULL_FATAL(text);
    diag_init(&dg, "job", -1, DIAG_ERROR);
    memset(text, '[', depth);
    memset(text + depth, ']', depth);
    CU_ASSERT_EQUAL(manifest_decode(&dg, "m", text, 2 * depth, &manifest), DCACHE_ERR_CORRUPT);
    CU_ASSERT_EQUAL(manifest_decode(&dg, "m", text, depth, &manifest), DCACHE_ERR_CORRUPT);
    free(text);
}

/* Every prefix of a good document, and every single byte of it changed: an answer, never a crash. */
static void test_torn_and_flipped(void)
{
    struct manifest manifest;
    struct manifest_shard shards[3];
    struct manifest part = make_part(shards, 5, 2, 3, 0, 3, "r0");
    char *text = NULL;
    size_t bytes = 0;
    diag_init(&dg, "job", -1, DIAG_ERROR);
    CU_ASSERT_EQUAL_FATAL(manifest_encode(&dg, &part, &text, &bytes), DCACHE_OK);
    for (size_t i = 0; i + 1 < bytes; i++) /* the last byte is the newline */
        CU_ASSERT_NOT_EQUAL(manifest_decode(&dg, "m", text, i == bytes - 1 ? 0 : i, &manifest), DCACHE_OK);
    for (size_t i = 0; i < bytes; i++) {
        char kept = text[i];
        text[i] = (char)(kept ^ (1 << (i % 8)));
        dcache_status_t status = manifest_decode(&dg, "m", text, bytes, &manifest);
        CU_ASSERT(status == DCACHE_OK || status == DCACHE_ERR_CORRUPT || status == DCACHE_ERR_FORMAT);
        if (status == DCACHE_OK)
            manifest_free(&manifest);
        text[i] = kept;
    }
    free(text);
}

/* --- Loading and listing -------------------------------------------------------------------------------------------*/

static void test_load(void)
{
    struct object_store *store = open_store("load");
    struct manifest manifest;
    CU_ASSERT_EQUAL(manifest_load(&dg, store, "job", 5, &manifest), DCACHE_NOT_FOUND);
    put(store, "job/5/manifest.json", WITH("[" SHARD0 ", " SHARD1 "]"));
    CU_ASSERT_EQUAL_FATAL(manifest_load(&dg, store, "job", 5, &manifest), DCACHE_OK);
    CU_ASSERT_EQUAL(manifest.shard_count, 2);
    manifest_free(&manifest);
    put(store, "job/5/manifest.json", WITH("[" SHARD1 "]")); /* a rank is missing */
    CU_ASSERT_EQUAL(manifest_load(&dg, store, "job", 5, &manifest), DCACHE_ERR_CORRUPT);
    put(store, "job/6/manifest.json", WITH("[" SHARD0 ", " SHARD1 "]")); /* of step 5 */
    CU_ASSERT_EQUAL(manifest_load(&dg, store, "job", 6, &manifest), DCACHE_ERR_CORRUPT);
    put(store, "other/5/manifest.json", WITH("[" SHARD0 ", " SHARD1 "]"));
    CU_ASSERT_EQUAL(manifest_load(&dg, store, "other", 5, &manifest), DCACHE_ERR_CORRUPT);
    object_store_close(store);
}

static void test_list(void)
{
    struct object_store *store = open_store("list");
    uint64_t *steps = NULL;
    char **jobs = NULL;
    size_t count = 9;
    CU_ASSERT_EQUAL(manifest_list_steps(&dg, store, "job", &steps, &count), DCACHE_OK);
    CU_ASSERT_EQUAL(count, 0);
    free(steps);
    static const char *const keys[] = {
        "job/5/manifest.json",   "job/100/manifest.json",   "job/20/manifest.json",
        "job/20/shard-0.h5",     "job/7/part-r0.json",      "job/7/shard-0.h5",
        "job-2/3/manifest.json", "job/007/manifest.json",   "job/9223372036854775808/manifest.json",
        "job/x/manifest.json",   "job/8/sub/manifest.json", "manifest.json",
        "job.b/0/manifest.json", "undrained/1/part-r0.json"};
    for (size_t i = 0; i < UNIT_COUNT(keys); i++)
        put(store, keys[i], "{}");
    CU_ASSERT_EQUAL_FATAL(manifest_list_steps(&dg, store, "job", &steps, &count), DCACHE_OK);
    CU_ASSERT_EQUAL_FATAL(count, 3);
    CU_ASSERT(steps[0] == 5 && steps[1] == 20 && steps[2] == 100);
    free(steps);
    CU_ASSERT_EQUAL_FATAL(manifest_list_jobs(&dg, store, &jobs, &count), DCACHE_OK);
    CU_ASSERT_EQUAL_FATAL(count, 3);
    CU_ASSERT_STRING_EQUAL(jobs[0], "job");
    CU_ASSERT_STRING_EQUAL(jobs[1], "job-2");
    CU_ASSERT_STRING_EQUAL(jobs[2], "job.b");
    for (size_t i = 0; i < count; i++)
        free(jobs[i]);
    free(jobs);
    object_store_close(store);
}

static void test_step_objects(void)
{
    struct object_store *store = open_store("objects");
    struct step_objects objects;
    static const char *const others[] = {"job/5/shard-03.h5",
                                         "job/5/shard-.h5",
                                         "job/5/shard--1.h5",
                                         "job/5/shard-1.h5.x",
                                         "job/5/shard-99999999999.h5",
                                         "job/5/part-.json",
                                         "job/50/shard-7.h5",
                                         "job/5/x/shard-8.h5",
                                         "job/5/shard-1-.h5",
                                         "job/5/shard-1-02.h5",
                                         "job/5/shard-1--2.h5",
                                         "job/5/shard-1-2-2.h5",
                                         "job/5/shard-1-99999999999999999999.h5"};
    const struct shard_set set = {.step = 5, .sequence = 2};
    for (size_t i = 0; i < UNIT_COUNT(others); i++)
        put(store, others[i], "x");
    for (uint32_t rank = 0; rank < 12; rank += 2)
        put_shard(store, 5, rank);
    put(store, "job/5/shard-20-2.h5.zst", "x");
    put(store, "job/5/shard-21-2.h5.zst.aes", "x");
    put(store, "job/5/shard-22.h5.zst", "x"); /* an earlier version's: whose is it? */
    put(store, "job/5/shard-23-1.h5", "x");
    put(store, "job/5/shard-24-3.h5.zst", "x");
    put(store, "job/5/pack-r0-0.bin", "x");
    put(store, "job/5/part-b.json", "x");
    put(store, "job/5/part-a.json", "x");
    CU_ASSERT_EQUAL_FATAL(step_objects_list(&dg, store, "job", &set, &objects), DCACHE_OK);
    CU_ASSERT_EQUAL(objects.count, 12);
    CU_ASSERT_EQUAL(objects.pack_count, 1);
    CU_ASSERT_EQUAL(objects.foreign_count, 2);
    CU_ASSERT_EQUAL(objects.part_count, 2);
    CU_ASSERT_FALSE(objects.manifest);
    CU_ASSERT_PTR_NULL(step_objects_find(&objects, 0, "shard-3-2.h5"));
    CU_ASSERT_PTR_NULL(step_objects_find(&objects, 0, "shard-1.h5.x"));
    const struct step_object *found = step_objects_find(&objects, 0, "shard-10-2.h5");
    CU_ASSERT_PTR_NOT_NULL_FATAL(found);
    CU_ASSERT(found->rank == 10 && found->bytes == SHARD_BYTES);
    found = step_objects_find(&objects, 0, "shard-21-2.h5.zst.aes");
    CU_ASSERT(found != NULL && found->rank == 21 && found->bytes == 1 && !found->foreign);
    found = step_objects_find(&objects, 0, "shard-23-1.h5");
    CU_ASSERT(found != NULL && found->rank == 23 && found->foreign);
    found = step_objects_find(&objects, 0, "shard-22.h5.zst");
    CU_ASSERT(found != NULL && found->rank == 22 && !found->foreign);
    CU_ASSERT(step_objects_may_have(&objects, 21) && step_objects_may_have(&objects, 5)); /* the pack may have it */
    step_objects_free(&objects);
    CU_ASSERT_EQUAL(store->ops->remove(store, &dg, "job/5/pack-r0-0.bin"), DCACHE_OK);
    CU_ASSERT_EQUAL_FATAL(step_objects_list(&dg, store, "job", &set, &objects), DCACHE_OK);
    CU_ASSERT(step_objects_may_have(&objects, 21) && !step_objects_may_have(&objects, 5));
    CU_ASSERT(step_objects_may_have(&objects, 22) && !step_objects_may_have(&objects, 23));
    CU_ASSERT_FALSE(step_objects_may_have(&objects, 24));
    CU_ASSERT_EQUAL(step_objects_most(&objects), 9);
    step_objects_free(&objects);
    object_store_close(store);
}

/* --- Commit --------------------------------------------------------------------------------------------------------*/

static void test_commit(void)
{
    struct object_store *store = open_store("commit");
    struct manifest_shard shards[4];
    struct manifest manifest;
    bool durable = true;
    for (uint32_t rank = 0; rank < 5; rank++)
        put_shard(store, 5, rank);
    put(store, "job/5/part-junk.json", "{\"format\": ");
    put(store, "job/5/part-newer.json", INSTEAD_OF_VERSION("\"version\": 9"));
    put(store, "job/5/part-other.json", INSTEAD_OF_STEP("\"step\": 6"));

    struct manifest part = make_part(shards, 5, 2, 5, 0, 2, "r0");
    CU_ASSERT_EQUAL(manifest_commit(&dg, store, &part, &durable), DCACHE_OK);
    CU_ASSERT_FALSE(durable);
    part = make_part(shards, 5, 1, 5, 2, 3, "r9"); /* an older attempt's */
    CU_ASSERT_EQUAL(manifest_commit(&dg, store, &part, &durable), DCACHE_OK);
    CU_ASSERT_FALSE(durable);
    part = make_part(shards, 5, 2, 5, 1, 3, "r1"); /* overlaps and agrees */
    CU_ASSERT_EQUAL(manifest_commit(&dg, store, &part, &durable), DCACHE_OK);
    CU_ASSERT_FALSE(durable);
    CU_ASSERT_EQUAL(manifest_load(&dg, store, "job", 5, &manifest), DCACHE_NOT_FOUND);
    part = make_part(shards, 5, 2, 5, 4, 1, "r2");
    CU_ASSERT_EQUAL(manifest_commit(&dg, store, &part, &durable), DCACHE_OK);
    CU_ASSERT_TRUE(durable);
    CU_ASSERT_EQUAL_FATAL(manifest_load(&dg, store, "job", 5, &manifest), DCACHE_OK);
    CU_ASSERT_STRING_EQUAL(manifest.drainer, "r2");
    CU_ASSERT(shard_same_set(&manifest.set, &part.set));
    CU_ASSERT_EQUAL(manifest.shards[3].crc, 0x8000000000000001u * 4 ^ 2);
    manifest_free(&manifest);

    /* Again, and with nothing to say: still durable. For another set it is taken. */
    durable = false;
    part.shard_count = 0;
    CU_ASSERT_EQUAL(manifest_commit(&dg, store, &part, &durable), DCACHE_OK);
    CU_ASSERT_TRUE(durable);
    part = make_part(shards, 5, 3, 5, 0, 1, "r3");
    durable = false;
    CU_ASSERT_EQUAL(manifest_commit(&dg, store, &part, &durable), DCACHE_ERR_EXISTS);
    CU_ASSERT_FALSE(durable);
    CU_ASSERT_PTR_NOT_NULL(strstr(dg.text, "job job: step 5"));
    object_store_close(store);
}

static const struct object_store_ops *true_ops;

/* As the store's, but another run's manifest is there an instant before ours. */
static dcache_status_t put_too_late(struct object_store *store, struct diag *diag, const char *key,
                                    const struct object_source *source, enum object_condition condition,
                                    const atomic_bool *cancel)
{
    struct manifest_shard shards[1];
    struct manifest manifest = make_part(shards, 5, 9, 1, 0, 1, "r9");
    char *text = NULL;
    size_t bytes = 0;
    store->ops = true_ops;
    if (strstr(key, "manifest.json") != NULL) {
        CU_ASSERT_EQUAL_FATAL(manifest_encode(diag, &manifest, &text, &bytes), DCACHE_OK);
        put(store, key, text);
        free(text);
    }
    return store->ops->put(store, diag, key, source, condition, cancel);
}

/* Nobody saw another manifest, and yet it was first: it stays. */
static void test_commit_loses_a_race(void)
{
    struct object_store *store = open_store("race");
    struct object_store_ops late = *store->ops;
    struct manifest_shard shards[1];
    struct manifest manifest;
    bool durable = false;
    put_shard(store, 5, 0);
    struct manifest part = make_part(shards, 5, 2, 1, 0, 1, "r0");
    CU_ASSERT_EQUAL(manifest_commit(&dg, store, &part, &durable), DCACHE_OK);
    CU_ASSERT_TRUE(durable);
    CU_ASSERT_EQUAL(store->ops->remove(store, &dg, "job/5/manifest.json"), DCACHE_OK);
    part.shard_count = 0; /* its part is there already: the manifest is the next thing to be put */
    true_ops = store->ops;
    late.put = put_too_late;
    store->ops = &late;
    durable = false;
    CU_ASSERT_EQUAL(manifest_commit(&dg, store, &part, &durable), DCACHE_ERR_EXISTS);
    CU_ASSERT_FALSE(durable);
    CU_ASSERT_PTR_EQUAL(store->ops, true_ops);
    CU_ASSERT_EQUAL_FATAL(manifest_load(&dg, store, "job", 5, &manifest), DCACHE_OK);
    CU_ASSERT_EQUAL(manifest.set.sequence, 9);
    manifest_free(&manifest);
    object_store_close(store);
}

static void test_commit_believes_its_eyes(void)
{
    struct object_store *store = open_store("eyes");
    struct manifest_shard shards[3];
    bool durable = true;
    put_shard(store, 5, 0);
    put_shard(store, 5, 1);
    struct manifest part = make_part(shards, 5, 2, 3, 0, 3, "r0");
    CU_ASSERT_EQUAL(manifest_commit(&dg, store, &part, &durable), DCACHE_OK); /* shard 2 is not there */
    CU_ASSERT_FALSE(durable);
    put(store, "job/5/shard-2-2.h5", "short");
    CU_ASSERT_EQUAL(manifest_commit(&dg, store, &part, &durable), DCACHE_OK);
    CU_ASSERT_FALSE(durable);
    put_shard(store, 5, 2);
    struct manifest_shard one;
    struct manifest liar = make_part(&one, 5, 2, 3, 1, 1, "liar");
    one.crc ^= 1;
    CU_ASSERT_EQUAL(manifest_commit(&dg, store, &liar, &durable), DCACHE_ERR_CORRUPT);
    CU_ASSERT_FALSE(durable);
    CU_ASSERT_PTR_NOT_NULL(strstr(dg.text, "part-liar-2.json"));
    CU_ASSERT_PTR_NOT_NULL(strstr(dg.text, "part-r0-2.json"));
    CU_ASSERT_EQUAL(store->ops->remove(store, &dg, "job/5/part-liar-2.json"), DCACHE_OK);
    CU_ASSERT_EQUAL(manifest_commit(&dg, store, &part, &durable), DCACHE_OK);
    CU_ASSERT_TRUE(durable);
    object_store_close(store);
}

static void put_pack(struct object_store *store, const char *key, size_t bytes)
{
    static const char zeros[2 * SHARD_BYTES];
    CU_ASSERT_EQUAL(object_store_put_bytes(store, &dg, key, zeros, bytes, OBJECT_REPLACE), DCACHE_OK);
}

/* Shards in packs count where the pack is there and long enough. */
static void test_commit_of_packs(void)
{
    struct object_store *store = open_store("packs");
    struct manifest_shard shards[2];
    struct manifest manifest;
    bool durable = true;
    struct manifest part = make_part(shards, 5, 2, 2, 0, 2, "r0");
    for (uint32_t i = 0; i < 2; i++) {
        snprintf(shards[i].object, sizeof shards[i].object, "pack-r0");
        shards[i].offset = (uint64_t)i * SHARD_BYTES;
    }
    CU_ASSERT_EQUAL(manifest_commit(&dg, store, &part, &durable), DCACHE_OK);
    CU_ASSERT_FALSE(durable);
    put_pack(store, "job/5/pack-r0", 2 * SHARD_BYTES - 1);
    CU_ASSERT_EQUAL(manifest_commit(&dg, store, &part, &durable), DCACHE_OK);
    CU_ASSERT_FALSE(durable);
    put_pack(store, "job/5/pack-r0", 2 * SHARD_BYTES);
    CU_ASSERT_EQUAL(manifest_commit(&dg, store, &part, &durable), DCACHE_OK);
    CU_ASSERT_TRUE(durable);
    CU_ASSERT_EQUAL_FATAL(manifest_load(&dg, store, "job", 5, &manifest), DCACHE_OK);
    CU_ASSERT_STRING_EQUAL(manifest.shards[1].object, "pack-r0");
    CU_ASSERT_EQUAL(manifest.shards[1].offset, SHARD_BYTES);
    manifest_free(&manifest);
    object_store_close(store);
}

static void test_commit_with_bad_manifest(void)
{
    struct object_store *store = open_store("bad");
    struct manifest_shard shards[1];
    bool durable = false;
    put_shard(store, 5, 0);
    put(store, "job/5/manifest.json", "{}");
    struct manifest part = make_part(shards, 5, 2, 1, 0, 1, "r0");
    CU_ASSERT_EQUAL(manifest_commit(&dg, store, &part, &durable), DCACHE_ERR_CORRUPT);
    CU_ASSERT_FALSE(durable);
    CU_ASSERT_PTR_NOT_NULL(strstr(dg.text, "job/5/manifest.json"));
    object_store_close(store);
}

static void test_words(void)
{
    CU_ASSERT(json_field_is_word("a"));
    CU_ASSERT(json_field_is_word("A-z_0.9"));
    CU_ASSERT_FALSE(json_field_is_word(""));
    CU_ASSERT_FALSE(json_field_is_word("."));
    CU_ASSERT_FALSE(json_field_is_word(".."));
    CU_ASSERT_FALSE(json_field_is_word("a/b"));
    CU_ASSERT_FALSE(json_field_is_word("a b"));
    CU_ASSERT_FALSE(json_field_is_word("\xc3\xa4"));
}

int main(void)
{
    static const struct unit_case cases[] = {
        {"keys", test_keys},
        {"round trip", test_round_trip},
        {"bad manifests are not written", test_bad_manifests_are_not_written},
        {"stored forms", test_stored_forms},
        {"hostile documents", test_hostile},
        {"hostile stored forms", test_hostile_forms},
        {"version 1 has no stored forms", test_version_1_is_plain},
        {"a document of each version", test_versions},
        {"commit of packs", test_commit_of_packs},
        {"newer version", test_newer_version},
        {"unknown keys are ignored", test_unknown_keys_are_ignored},
        {"deep nesting", test_deep_nesting},
        {"torn and flipped", test_torn_and_flipped},
        {"load", test_load},
        {"list", test_list},
        {"objects of a step", test_step_objects},
        {"commit", test_commit},
        {"commit loses a race", test_commit_loses_a_race},
        {"commit believes its eyes", test_commit_believes_its_eyes},
        {"commit with a bad manifest", test_commit_with_bad_manifest},
        {"words", test_words},
    };
    return unit_main("manifest", cases, UNIT_COUNT(cases));
}
