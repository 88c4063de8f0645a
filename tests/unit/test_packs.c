/* io/drain_pack.c, io/drain_tasks.c and io/pack_name.c: many small shards in few objects. timeout: 240 */
#include "io/drain.h"
#include "io/pack_name.h"
#include "io/shard_object.h"
#include "io/step_objects.h"
#include "tests/unit/counting_store.h"
#include "tests/unit/store_sample.h"
#include "tests/unit/unit.h"

#include <inttypes.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define RANKS       50
#define SMALL_BYTES (100u << 10)

static struct diag dg;

/* One node that holds own copies of all ranks, a second one with replicas; the store is one where requests are dear. */
struct world {
    char root[600];
    struct node_store stores[2];
    struct object_store *files;
    struct counting_store counting;
    struct object_store_ops ops;
    struct shard_set set;
    uint32_t ranks;
    struct drain_control control;
    struct codec_settings codec;
    struct codec_key key;
    bool durable;
};

static uint64_t data_bytes(uint32_t rank)
{
    return SMALL_BYTES + rank * 1001;
}

static struct store_sample sample_of(const struct world *world, uint32_t rank, enum slot_kind kind)
{
    return (struct store_sample){.job = "job",
                                 .set = world->set,
                                 .rank = rank,
                                 .kind = kind,
                                 .bytes = data_bytes(rank),
                                 .state = SHARD_COMPLETE};
}

static void write_shards(struct world *world, enum slot_kind kind)
{
    for (uint32_t rank = 0; rank < world->ranks; rank++) {
        struct store_sample sample = sample_of(world, rank, kind);
        CU_ASSERT_FATAL(store_sample_write(&world->stores[kind == SLOT_OWN ? 0 : 1], &sample));
    }
}

static void setup(struct world *world, const char *name, uint32_t ranks, unsigned connections)
{
    struct object_credentials none;
    const struct object_policy policy = {.timeout_s = 5, .stall_s = 5, .connections = connections};
    char url[OBJECT_URL_MAX];
    memset(world, 0, sizeof *world);
    memset(&none, 0, sizeof none);
    diag_init(&dg, "job", -1, DIAG_ERROR);
    snprintf(world->root, sizeof world->root, "%s/%s", unit_scratch(), name);
    CU_ASSERT_EQUAL_FATAL(mkdir(world->root, 0700), 0);
    for (unsigned i = 0; i < 2; i++)
        CU_ASSERT_EQUAL_FATAL(node_store_open(&dg, world->root, "job", i, true, &world->stores[i]), DCACHE_OK);
    snprintf(url, sizeof url, "file://%s/objects", world->root);
    CU_ASSERT_EQUAL_FATAL(object_store_open(&dg, url, &none, &policy, &world->files), DCACHE_OK);
    counting_store_open(&world->counting, world->files);
    world->ops = *world->counting.base.ops;
    world->ops.by_request = true;
    world->counting.base.ops = &world->ops;
    world->ranks = ranks;
    world->set = (struct shard_set){.step = 100, .sequence = 4, .epoch = 77, .world_size = ranks};
    world->codec = (struct codec_settings){.level = 1, .threads = 2, .pack_below = 1u << 20};
    write_shards(world, SLOT_OWN);
}

static void teardown(struct world *world)
{
    counting_store_close(&world->counting);
    object_store_close(world->files);
    node_store_close(&world->stores[0]);
    node_store_close(&world->stores[1]);
}

static dcache_status_t drain_items(struct world *world, const char *drainer, const struct drain_item *items,
                                   size_t count)
{
    const struct drain_request request = {.job = "job",
                                          .set = world->set,
                                          .drainer = drainer,
                                          .stores = world->stores,
                                          .items = items,
                                          .item_count = count,
                                          .codec = &world->codec};
    world->durable = false;
    return drain_step(&dg, &world->counting.base, &request, &world->control, &world->durable);
}

/* Ranks first to first + count - 1, from their own copies. */
static dcache_status_t drain_ranks(struct world *world, const char *drainer, uint32_t first, uint32_t count)
{
    struct drain_item items[RANKS];
    for (uint32_t i = 0; i < count; i++)
        items[i] = (struct drain_item){.store = 0, .kind = SLOT_OWN, .rank = first + i};
    return drain_items(world, drainer, items, count);
}

static struct step_objects list_objects(struct world *world)
{
    struct step_objects objects;
    CU_ASSERT_EQUAL_FATAL(step_objects_list(&dg, world->files, "job", &world->set, &objects), DCACHE_OK);
    return objects;
}

static size_t count_packs(struct world *world)
{
    struct step_objects objects = list_objects(world);
    size_t count = objects.pack_count;
    step_objects_free(&objects);
    return count;
}

static size_t count_objects(struct world *world)
{
    struct step_objects objects = list_objects(world);
    size_t count = objects.count;
    step_objects_free(&objects);
    return count;
}

/* Read back as a restart reads: by its place, the object pinned. */
static void check_shard(struct world *world, const struct manifest *manifest, uint32_t rank)
{
    struct shard_object object;
    struct slot slot;
    const struct shard_object_place place = {.job = "job", .set = world->set, .shard = manifest->shards[rank]};
    const struct manifest_shard *shard = &manifest->shards[rank];
    CU_ASSERT_EQUAL_FATAL(shard->rank, rank);
    CU_ASSERT_EQUAL_FATAL(
        shard_object_open(&dg, world->files, &place, world->codec.key != NULL ? &world->key : NULL, &object),
        DCACHE_OK);
    CU_ASSERT_EQUAL_FATAL(slot_open_read(&dg, &world->stores[0], SLOT_OWN, rank, 0, &slot), DCACHE_OK);
    CU_ASSERT_EQUAL_FATAL(slot.bytes, shard->bytes);
    unsigned char *file = malloc(slot.bytes);
    unsigned char *back = malloc(slot.bytes);
    CU_ASSERT_FATAL(file != NULL && back != NULL);
    CU_ASSERT_EQUAL(pread(slot.fd, file, slot.bytes, 0), (ssize_t)slot.bytes);
    CU_ASSERT_EQUAL(shard_object_read(&dg, &object, 0, back, slot.bytes), DCACHE_OK);
    CU_ASSERT_EQUAL(memcmp(file, back, slot.bytes), 0);
    CU_ASSERT_EQUAL(shard_object_read(&dg, &object, 5000, back, 7777), DCACHE_OK); /* and a range of it */
    CU_ASSERT_EQUAL(memcmp(file + 5000, back, 7777), 0);
    CU_ASSERT_EQUAL(shard->crc, crc64_update(0, file, slot.bytes));
    free(file);
    free(back);
    slot_close(&slot);
    shard_object_close(&object);
}

/* Returns how many shards are in packs. */
static size_t check_durable(struct world *world)
{
    struct manifest manifest;
    size_t packed = 0;
    CU_ASSERT_TRUE(world->durable);
    CU_ASSERT_EQUAL_FATAL(manifest_load(&dg, world->files, "job", world->set.step, &manifest), DCACHE_OK);
    for (uint32_t rank = 0; rank < world->ranks; rank++) {
        check_shard(world, &manifest, rank);
        packed += manifest_in_pack(&manifest.shards[rank]);
    }
    manifest_free(&manifest);
    return packed;
}

/* --- All is well ---------------------------------------------------------------------------------------------------*/

static void test_few_requests(void)
{
    struct world world;
    setup(&world, "few", RANKS, 8);
    CU_ASSERT_EQUAL(drain_ranks(&world, "r0", 0, RANKS), DCACHE_OK);
    CU_ASSERT_EQUAL(check_durable(&world), RANKS);
    const size_t packs = count_packs(&world);
    CU_ASSERT(packs >= 2 && packs <= 8);
    CU_ASSERT_EQUAL(count_objects(&world), packs);
    CU_ASSERT_EQUAL(world.counting.puts, packs + 2); /* part and manifest */
    CU_ASSERT_EQUAL(world.counting.lists, 2);
    CU_ASSERT_EQUAL(world.counting.heads, 1); /* the part is read again by the one who writes the manifest */
    CU_ASSERT_EQUAL(world.counting.gets, 1);
    CU_ASSERT_EQUAL(world.counting.removes, 0);
    CU_ASSERT_EQUAL(world.control.shards_stored, RANKS);
    teardown(&world);
}

/* A step that is known to be incomplete by the names alone costs nobody a look into parts. */
static void test_two_drainers(void)
{
    struct world world;
    setup(&world, "two", RANKS, 8);
    CU_ASSERT_EQUAL(drain_ranks(&world, "r0", 0, 20), DCACHE_OK);
    CU_ASSERT_FALSE(world.durable);
    CU_ASSERT_EQUAL(world.counting.heads + world.counting.gets, 0);
    CU_ASSERT_EQUAL(drain_ranks(&world, "r20", 20, 30), DCACHE_OK);
    CU_ASSERT_EQUAL(check_durable(&world), RANKS);
    CU_ASSERT_EQUAL(world.counting.heads, 2); /* two parts at the end, none before */
    teardown(&world);
}

static void test_found_stored(void)
{
    struct world world;
    setup(&world, "found", RANKS, 8);
    CU_ASSERT_EQUAL(drain_ranks(&world, "r0", 0, 20), DCACHE_OK);
    CU_ASSERT_EQUAL(drain_ranks(&world, "tool", 10, 40), DCACHE_OK);
    CU_ASSERT_EQUAL(world.control.shards_stored, RANKS); /* 10 to 19 were not stored again */
    CU_ASSERT_EQUAL(check_durable(&world), RANKS);
    const unsigned puts = world.counting.puts;
    CU_ASSERT_EQUAL(drain_ranks(&world, "late", 0, RANKS), DCACHE_OK);
    CU_ASSERT_TRUE(world.durable);
    CU_ASSERT_EQUAL(world.counting.puts, puts);
    teardown(&world);
}

/* A second pass of the same drainer does not spoil what its first part tells of. */
static void test_second_pass(void)
{
    struct world world;
    setup(&world, "pass", RANKS, 8);
    for (uint32_t first = 0; first < RANKS; first += 10)
        CU_ASSERT_EQUAL(drain_ranks(&world, "tool-host", first, 10), DCACHE_OK);
    CU_ASSERT_EQUAL(check_durable(&world), RANKS);
    teardown(&world);
}

static void test_off(void)
{
    struct world world;
    setup(&world, "off", 6, 8);
    world.codec.pack_below = 0;
    CU_ASSERT_EQUAL(drain_ranks(&world, "r0", 0, 6), DCACHE_OK);
    CU_ASSERT_EQUAL(check_durable(&world), 0);
    teardown(&world);
    setup(&world, "files", 6, 8);
    world.ops.by_request = false;
    CU_ASSERT_EQUAL(drain_ranks(&world, "r0", 0, 6), DCACHE_OK);
    CU_ASSERT_EQUAL(check_durable(&world), 0);
    teardown(&world);
}

/* Ranks 0 to 2 are below the limit; the last of a drainer alone is no pack. */
static void test_which_are_small(void)
{
    struct world world;
    struct slot slot;
    setup(&world, "small", 6, 8);
    CU_ASSERT_EQUAL_FATAL(slot_open_read(&dg, &world.stores[0], SLOT_OWN, 3, 0, &slot), DCACHE_OK);
    world.codec.pack_below = slot.bytes;
    slot_close(&slot);
    CU_ASSERT_EQUAL(drain_ranks(&world, "r0", 2, 4), DCACHE_OK);
    CU_ASSERT_EQUAL(count_packs(&world), 0);
    CU_ASSERT_EQUAL(drain_ranks(&world, "r1", 0, 2), DCACHE_OK);
    CU_ASSERT_EQUAL(count_packs(&world), 1);
    CU_ASSERT_EQUAL(check_durable(&world), 2);
    teardown(&world);
}

static void test_coded(void)
{
    for (int encrypt = 0; encrypt < 2; encrypt++) {
        struct world world;
        char name[32];
        unsigned char bytes[CODEC_KEY_BYTES] = {1, 2, 3};
        struct codec_key *key = NULL;
        snprintf(name, sizeof name, "coded-%d", encrypt);
        setup(&world, name, 20, 4);
        world.codec.compress = COMPRESS_ALWAYS;
        if (encrypt) {
            CU_ASSERT_EQUAL_FATAL(codec_key_make(&dg, bytes, &key), DCACHE_OK);
            world.key = *key;
            world.codec.key = key;
        }
        CU_ASSERT_EQUAL(drain_ranks(&world, "r0", 0, 20), DCACHE_OK);
        CU_ASSERT_EQUAL(check_durable(&world), 20);
        CU_ASSERT(world.control.work_cpu_ns > 0);
        codec_key_free(key);
        teardown(&world);
    }
}

/* --- What goes wrong -----------------------------------------------------------------------------------------------*/

static void test_bad_copy(void)
{
    struct world world;
    setup(&world, "bad", 20, 4);
    const struct store_sample bad = sample_of(&world, 7, SLOT_OWN);
    CU_ASSERT_FATAL(store_sample_damage(&world.stores[0], &bad, -1));
    CU_ASSERT_EQUAL(slot_remove(&dg, &world.stores[0], SLOT_OWN, 9, 0), DCACHE_OK);
    CU_ASSERT_EQUAL(drain_ranks(&world, "r0", 0, 20), DCACHE_ERR_CORRUPT);
    CU_ASSERT_FALSE(world.durable);
    CU_ASSERT_EQUAL(world.control.shards_stored, 18);

    write_shards(&world, SLOT_REPLICA);
    struct drain_item items[40]; /* the bad copy comes first */
    for (uint32_t i = 0; i < 40; i++)
        items[i] = (struct drain_item){.store = i / 20, .kind = i < 20 ? SLOT_OWN : SLOT_REPLICA, .rank = i % 20};
    CU_ASSERT_EQUAL(drain_items(&world, "r0", items, 40), DCACHE_OK);
    CU_ASSERT_TRUE(world.durable);
    CU_ASSERT_EQUAL(world.control.shards_stored, 20);
    write_shards(&world, SLOT_OWN); /* to be compared with */
    (void)check_durable(&world);
    teardown(&world);
}

/* A pack with a bad copy in it is made with the other copy of the same rank. */
static void test_other_copy(void)
{
    struct world world;
    setup(&world, "other", 20, 4);
    const struct store_sample bad = sample_of(&world, 7, SLOT_OWN);
    CU_ASSERT_FATAL(store_sample_damage(&world.stores[0], &bad, 300));
    write_shards(&world, SLOT_REPLICA);
    struct drain_item items[40];
    for (uint32_t i = 0; i < 40; i++)
        items[i] = (struct drain_item){.store = i % 2, .kind = i % 2 == 0 ? SLOT_OWN : SLOT_REPLICA, .rank = i / 2};
    CU_ASSERT_EQUAL(drain_items(&world, "r0", items, 40), DCACHE_OK);
    CU_ASSERT_EQUAL(world.control.shards_stored, 20);
    write_shards(&world, SLOT_OWN);
    CU_ASSERT_EQUAL(check_durable(&world), 20);
    teardown(&world);
}

static void test_cancel(void)
{
    struct world world;
    setup(&world, "cancel", 10, 4);
    atomic_store(&world.control.cancel, true);
    CU_ASSERT_EQUAL(drain_ranks(&world, "r0", 0, 10), DCACHE_ERR_CANCELLED);
    CU_ASSERT_EQUAL(count_objects(&world), 0);
    atomic_store(&world.control.cancel, false);
    CU_ASSERT_EQUAL(drain_ranks(&world, "r0", 0, 10), DCACHE_OK);
    CU_ASSERT_EQUAL(check_durable(&world), 10);
    teardown(&world);
}

/* Two attempts at one step, each drained half: packs of the one are never taken for the other's. */
static void test_no_mix_of_attempts(void)
{
    struct world world;
    setup(&world, "mix", 10, 4);
    world.set.sequence = 2;
    write_shards(&world, SLOT_OWN);
    CU_ASSERT_EQUAL(drain_ranks(&world, "r0", 0, 6), DCACHE_OK);
    world.set.sequence = 4;
    write_shards(&world, SLOT_OWN);
    CU_ASSERT_EQUAL(drain_ranks(&world, "r0", 4, 6), DCACHE_OK);
    CU_ASSERT_FALSE(world.durable);
    CU_ASSERT_EQUAL(drain_ranks(&world, "r1", 0, 4), DCACHE_OK);
    CU_ASSERT_EQUAL(check_durable(&world), 10);
    CU_ASSERT_EQUAL(count_packs(&world), 2); /* that of the first attempt is gone: nobody needs it */
    teardown(&world);
}

static void test_removed(void)
{
    struct world world;
    uint64_t objects = 0;
    setup(&world, "removed", 10, 4);
    CU_ASSERT_EQUAL(drain_ranks(&world, "r0", 0, 10), DCACHE_OK);
    CU_ASSERT_EQUAL(retention_remove(&dg, world.files, "job", 100, NULL, &objects), DCACHE_OK);
    CU_ASSERT(objects >= 3);
    CU_ASSERT_EQUAL(count_objects(&world), 0);
    teardown(&world);
}

#ifdef DCACHE_FAILPOINTS
static void drain_and_die(struct world *world, const char *failpoint)
{
    pid_t pid = fork();
    CU_ASSERT_FATAL(pid >= 0);
    if (pid == 0) {
        (void)setenv("DCACHE_FAILPOINTS", failpoint, 1);
        dcache_status_t status = drain_ranks(world, "r0", 0, world->ranks);
        _exit(status == DCACHE_OK ? 0 : 1);
    }
    int how = 0;
    CU_ASSERT_EQUAL(waitpid(pid, &how, 0), pid);
    CU_ASSERT(WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL);
}

/* Another process goes on; what it does not know of is gone in the end. */
static void test_killed(void)
{
    static const char *const points[] = {"drain.pack=kill#2", "drain.shard=kill#12", "object_file_commit=kill#2",
                                         "drain.part=kill", "drain.manifest=kill"};
    for (size_t i = 0; i < UNIT_COUNT(points); i++) {
        struct world world;
        char name[32];
        snprintf(name, sizeof name, "killed-%zu", i);
        setup(&world, name, 30, 1);
        world.counting.base.policy.block_bytes = 2u << 20; /* two packs */
        drain_and_die(&world, points[i]);
        CU_ASSERT_EQUAL(drain_ranks(&world, "r0", 0, 30), DCACHE_OK);
        CU_ASSERT_EQUAL(check_durable(&world), 30);
        struct step_objects objects = list_objects(&world);
        CU_ASSERT_EQUAL(step_objects_most(&objects), 30);
        step_objects_free(&objects);
        teardown(&world);
    }
}

/* An outage that lasts for many attempts does not fill the store: the same process makes the same packs. */
static void test_many_attempts(void)
{
    struct world world;
    setup(&world, "attempts", 30, 2);
    (void)setenv("DCACHE_FAILPOINTS", "drain.part=error", 1);
    for (int i = 0; i < 3; i++) {
        diag_init(&dg, "job", -1, DIAG_ERROR);
        CU_ASSERT_EQUAL(drain_ranks(&world, "r0", 0, 30), DCACHE_ERR_IO);
        struct step_objects objects = list_objects(&world);
        CU_ASSERT_EQUAL(step_objects_most(&objects), 30);
        step_objects_free(&objects);
    }
    (void)unsetenv("DCACHE_FAILPOINTS");
    CU_ASSERT_EQUAL(drain_ranks(&world, "r0", 0, 30), DCACHE_OK);
    CU_ASSERT_EQUAL(check_durable(&world), 30);
    teardown(&world);
}

static void test_wrong_bytes(void)
{
    struct world world;
    setup(&world, "wrong", 10, 1);
    (void)setenv("DCACHE_FAILPOINTS", "drain.read=corrupt#4", 1);
    CU_ASSERT_EQUAL(drain_ranks(&world, "r0", 0, 10), DCACHE_ERR_CORRUPT);
    (void)unsetenv("DCACHE_FAILPOINTS");
    CU_ASSERT_EQUAL(count_objects(&world), 0);
    CU_ASSERT_EQUAL(drain_ranks(&world, "r0", 0, 10), DCACHE_OK);
    CU_ASSERT_EQUAL(check_durable(&world), 10);
    teardown(&world);
}
#endif

/* --- Names ---------------------------------------------------------------------------------------------------------*/

static void test_names(void)
{
    static const char *const others[] = {
        "pack-r0-0.bin",
        "pack-0123456789abcdef-5-4-1",
        "pack-0123456789abcdef-5-5-0",
        "pack-0123456789abcdef-5-6-3",
        "pack-0123456789abcdef-05-6-2",
        "pack-123456789abcdef-5-6-2",
        "pack-0123456789ABCDEF-5-6-2",
        "pack-0123456789abcdef-5-6-2x",
        "pack-0123456789abcdef--5-6-2",
        "pack-0123456789abcdef-5-99999999999-2",
    };
    char text[MANIFEST_OBJECT_MAX + 1];
    struct pack_name back;
    const struct pack_name name = {.id = UINT64_MAX, .first = 0, .last = UINT32_MAX - 1, .count = UINT32_MAX};
    pack_name_text(&name, text);
    CU_ASSERT_FATAL(pack_name_parse(text, &back));
    CU_ASSERT(back.id == name.id && back.first == name.first && back.last == name.last && back.count == name.count);
    for (size_t i = 0; i < UNIT_COUNT(others); i++)
        CU_ASSERT_FALSE(pack_name_parse(others[i], &back));
}

/* A pack whose name says nothing may have any shard; one that says something, only those. */
static void test_what_names_tell(void)
{
    struct world world;
    setup(&world, "tell", 2, 1);
    static const char *const names[] = {"pack-0123456789abcdef-10-19-7", "shard-3.h5", "pack-x"};
    static const size_t most[] = {7, 8, SIZE_MAX};
    for (size_t i = 0; i < UNIT_COUNT(names); i++) {
        char key[OBJECT_KEY_MAX];
        snprintf(key, sizeof key, "job/100/%s", names[i]);
        CU_ASSERT_EQUAL(object_store_put_bytes(world.files, &dg, key, "x", 1, OBJECT_REPLACE), DCACHE_OK);
        struct step_objects objects = list_objects(&world);
        CU_ASSERT_EQUAL(step_objects_most(&objects), most[i]);
        CU_ASSERT_TRUE(step_objects_may_have(&objects, 10) && step_objects_may_have(&objects, 19));
        CU_ASSERT_EQUAL(step_objects_may_have(&objects, 20), i == 2);
        CU_ASSERT_EQUAL(step_objects_may_have(&objects, 3), i >= 1);
        step_objects_free(&objects);
    }
    teardown(&world);
}

int main(void)
{
    static const struct unit_case cases[] = {
        {"few requests", test_few_requests},
        {"two drainers", test_two_drainers},
        {"found stored", test_found_stored},
        {"second pass of a drainer", test_second_pass},
        {"off", test_off},
        {"which are small", test_which_are_small},
        {"coded", test_coded},
        {"bad copy", test_bad_copy},
        {"other copy", test_other_copy},
        {"cancel", test_cancel},
        {"no mix of attempts", test_no_mix_of_attempts},
        {"removed", test_removed},
#ifdef DCACHE_FAILPOINTS
        {"killed", test_killed},
        {"many attempts", test_many_attempts},
        {"wrong bytes", test_wrong_bytes},
#endif
        {"names", test_names},
        {"what names tell", test_what_names_tell},
    };
    return unit_main("packs", cases, UNIT_COUNT(cases));
}
