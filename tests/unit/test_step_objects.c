/* io/step_objects.c: the parts of many drainers are read several at a time, and what they say together does not depend
 * on which one came first. What one part can say is in test_manifest.c. */
#include "io/step_objects.h"

#include "tests/unit/counting_store.h"
#include "tests/unit/unit.h"

#include <inttypes.h>

#define PARTS    12u
#define EACH     3u /* shards of a part */
#define WORLD    (PARTS * EACH)
#define BYTES    4096u
#define SEQUENCE 2u

static struct diag dg;

struct world {
    struct object_store *files;
    struct counting_store counting; /* on top of them */
    struct step_objects objects;
};

static struct shard_set set_of_step(void)
{
    return (struct shard_set){.step = 7, .sequence = SEQUENCE, .epoch = 99, .world_size = WORLD};
}

static void put_part(struct world *world, uint32_t first, const char *drainer)
{
    struct manifest_shard shards[EACH];
    struct manifest part = {.set = set_of_step(), .shard_count = EACH, .shards = shards};
    char key[OBJECT_KEY_MAX];
    char *text = NULL;
    size_t bytes = 0;
    snprintf(part.job, sizeof part.job, "job");
    snprintf(part.drainer, sizeof part.drainer, "%s", drainer);
    for (uint32_t i = 0; i < EACH; i++) {
        static const char data[BYTES];
        shards[i] = (struct manifest_shard){.rank = first + i, .bytes = BYTES, .crc = first + i};
        manifest_object_key(key, "job", &part.set, &shards[i]);
        CU_ASSERT_EQUAL(object_store_put_bytes(world->files, &dg, key, data, BYTES, OBJECT_REPLACE), DCACHE_OK);
    }
    CU_ASSERT_EQUAL_FATAL(manifest_encode(&dg, &part, &text, &bytes), DCACHE_OK);
    manifest_part_key(key, "job", &part.set, drainer);
    CU_ASSERT_EQUAL(object_store_put_bytes(world->files, &dg, key, text, bytes, OBJECT_REPLACE), DCACHE_OK);
    free(text);
}

/* PARTS parts that list all ranks. */
static void setup(struct world *world, const char *name, unsigned connections)
{
    const struct object_credentials none = {.endpoint = ""};
    const struct object_policy policy = {.timeout_s = 5, .stall_s = 5, .connections = connections};
    char url[OBJECT_URL_MAX];
    diag_init(&dg, "job", -1, DIAG_ERROR);
    memset(world, 0, sizeof *world);
    snprintf(url, sizeof url, "file://%s/%s", unit_scratch(), name);
    CU_ASSERT_EQUAL_FATAL(object_store_open(&dg, url, &none, &policy, &world->files), DCACHE_OK);
    for (uint32_t i = 0; i < PARTS; i++) {
        char drainer[16];
        snprintf(drainer, sizeof drainer, "r%u", i);
        put_part(world, i * EACH, drainer);
    }
    counting_store_open(&world->counting, world->files);
}

static void list(struct world *world)
{
    const struct shard_set set = set_of_step();
    CU_ASSERT_EQUAL_FATAL(step_objects_list(&dg, world->files, "job", &set, &world->objects), DCACHE_OK);
}

static dcache_status_t unite(struct world *world, struct manifest *united)
{
    return step_objects_unite(&dg, &world->counting.base, &world->objects, "job", united);
}

static void teardown(struct world *world)
{
    step_objects_free(&world->objects);
    counting_store_close(&world->counting);
    object_store_close(world->files);
}

/* As many at a time as there are connections: the first ones wait for that. */
static void test_several_at_a_time(void)
{
    static const unsigned connections[] = {1, 4, PARTS};
    for (size_t i = 0; i < UNIT_COUNT(connections); i++) {
        struct world world;
        struct manifest united;
        char name[32];
        snprintf(name, sizeof name, "several-%zu", i);
        setup(&world, name, connections[i]);
        list(&world);
        CU_ASSERT_EQUAL(world.objects.part_count, PARTS);
        world.counting.getting.wanted = connections[i];
        CU_ASSERT_EQUAL_FATAL(unite(&world, &united), DCACHE_OK);
        CU_ASSERT_EQUAL(world.counting.getting.most, connections[i]);
        CU_ASSERT_EQUAL(world.counting.gets, PARTS);
        CU_ASSERT_EQUAL(united.shard_count, WORLD);
        for (uint32_t rank = 0; rank < united.shard_count; rank++)
            CU_ASSERT(united.shards[rank].rank == rank && united.shards[rank].crc == rank);
        manifest_free(&united);
        teardown(&world);
    }
}

/* One that is no part, and one that is gone since the listing, are left out; the others count. */
static void test_some_are_bad(void)
{
    struct world world;
    struct manifest united;
    const struct shard_set set = set_of_step();
    char key[OBJECT_KEY_MAX];
    setup(&world, "bad", 4);
    manifest_part_key(key, "job", &set, "r3");
    CU_ASSERT_EQUAL(object_store_put_bytes(world.files, &dg, key, "{\"for", 5, OBJECT_REPLACE), DCACHE_OK);
    list(&world);
    manifest_part_key(key, "job", &set, "r8");
    CU_ASSERT_EQUAL(world.files->ops->remove(world.files, &dg, key), DCACHE_OK);
    CU_ASSERT_EQUAL_FATAL(unite(&world, &united), DCACHE_OK);
    CU_ASSERT_EQUAL(united.shard_count, WORLD - 2 * EACH);
    for (uint32_t rank = 0; rank < WORLD; rank++)
        CU_ASSERT_EQUAL(manifest_find(&united, rank) == NULL, rank / EACH == 3 || rank / EACH == 8);
    manifest_free(&united);
    teardown(&world);
}

/* Two that disagree are named in the order of their names, however often it is tried. */
static void test_disagreement(void)
{
    struct world world;
    struct manifest united;
    struct manifest_shard wrong = {.rank = 4, .bytes = BYTES, .crc = 12345};
    struct manifest part = {.set = set_of_step(), .job = "job", .drainer = "a", .shard_count = 1, .shards = &wrong};
    char key[OBJECT_KEY_MAX];
    char *text = NULL;
    size_t bytes = 0;
    setup(&world, "disagree", 4);
    CU_ASSERT_EQUAL_FATAL(manifest_encode(&dg, &part, &text, &bytes), DCACHE_OK);
    manifest_part_key(key, "job", &part.set, part.drainer);
    CU_ASSERT_EQUAL(object_store_put_bytes(world.files, &dg, key, text, bytes, OBJECT_REPLACE), DCACHE_OK);
    free(text);
    list(&world);
    for (int i = 0; i < 10; i++) {
        CU_ASSERT_EQUAL(unite(&world, &united), DCACHE_ERR_CORRUPT);
        CU_ASSERT_PTR_NOT_NULL(strstr(dg.text, "part-a-2.json and job/7/part-r1-2.json disagree"));
    }
    teardown(&world);
}

static dcache_status_t get_fails(struct object_store *store, struct diag *diag, const char *key, const char *etag,
                                 uint64_t offset, void *buffer, size_t bytes)
{
    struct counting_store *counting = (struct counting_store *)store;
    if (strstr(key, "part-r5-") != NULL)
        return diag_fail(diag, DCACHE_ERR_STORE, "the store is gone: %s", key);
    return counting->inner->ops->get(counting->inner, diag, key, etag, offset, buffer, bytes);
}

/* A store that fails is no part that is missing: the call fails, with the text of what failed. */
static void test_store_fails(void)
{
    struct world world;
    struct manifest united = {.shard_count = 77};
    setup(&world, "fails", 4);
    list(&world);
    struct object_store_ops ops = *world.counting.base.ops;
    ops.get = get_fails;
    world.counting.base.ops = &ops;
    CU_ASSERT_EQUAL(unite(&world, &united), DCACHE_ERR_STORE);
    CU_ASSERT_STRING_EQUAL(dg.text, "the store is gone: job/7/part-r5-2.json");
    CU_ASSERT_EQUAL(united.shard_count, 77);
    teardown(&world);
}

int main(void)
{
    static const struct unit_case cases[] = {
        {"several at a time", test_several_at_a_time},
        {"some are bad", test_some_are_bad},
        {"two disagree", test_disagreement},
        {"the store fails", test_store_fails},
    };
    return unit_main("step objects", cases, UNIT_COUNT(cases));
}
