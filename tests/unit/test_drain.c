/* io/drain.c: real node stores, a file:// object store, and things that go wrong. */
#include "io/drain.h"
#include "tests/unit/counting_store.h"
#include "tests/unit/store_sample.h"
#include "tests/unit/unit.h"

#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#define RANKS 4

static struct diag dg;

/* Two nodes of a job of four ranks: node 0 has ranks 0 and 1, node 1 has 2 and 3, each the other's replicas. */
struct world {
    char root[600];
    struct node_store stores[2];
    struct object_store *store;
    struct shard_set set;
    struct drain_control control;
};

static uint64_t data_bytes(uint32_t rank)
{
    return (2u << 20) + 12345 + rank * 100001; /* several chunks, none of them aligned to a block */
}

static struct store_sample sample_of(const struct world *world, uint32_t rank, enum slot_kind kind)
{
    return (struct store_sample){.job = "job",
                                 .set = world->set,
                                 .rank = rank,
                                 .kind = kind,
                                 .slot = (uint32_t)(world->set.sequence % 2),
                                 .bytes = data_bytes(rank),
                                 .state = SHARD_COMPLETE};
}

static uint32_t node_of(uint32_t rank, enum slot_kind kind)
{
    return kind == SLOT_OWN ? rank / 2 : 1 - rank / 2;
}

static void write_shards(const struct world *world)
{
    for (uint32_t rank = 0; rank < RANKS; rank++) {
        for (int kind = SLOT_OWN; kind <= SLOT_REPLICA; kind++) {
            struct store_sample sample = sample_of(world, rank, (enum slot_kind)kind);
            CU_ASSERT_FATAL(store_sample_write(&world->stores[node_of(rank, sample.kind)], &sample));
        }
    }
}

static void open_object_store(struct world *world, uint64_t block_bytes, unsigned connections)
{
    struct object_credentials none;
    const struct object_policy policy = {
        .timeout_s = 5, .stall_s = 5, .block_bytes = block_bytes, .connections = connections};
    char url[OBJECT_URL_MAX];
    memset(&none, 0, sizeof none);
    snprintf(url, sizeof url, "file://%s/objects", world->root);
    CU_ASSERT_EQUAL_FATAL(object_store_open(&dg, url, &none, &policy, &world->store), DCACHE_OK);
}

static void setup_with(struct world *world, const char *name, uint64_t block_bytes, unsigned connections)
{
    memset(world, 0, sizeof *world);
    diag_init(&dg, "job", -1, DIAG_ERROR);
    snprintf(world->root, sizeof world->root, "%s/%s", unit_scratch(), name);
    CU_ASSERT_EQUAL_FATAL(mkdir(world->root, 0700), 0);
    for (unsigned i = 0; i < 2; i++)
        CU_ASSERT_EQUAL_FATAL(node_store_open(&dg, world->root, "job", i, true, &world->stores[i]), DCACHE_OK);
    world->set = (struct shard_set){.step = 100, .sequence = 4, .epoch = 0xabcdef0123456789u, .world_size = RANKS};
    open_object_store(world, block_bytes, connections);
    write_shards(world);
}

static void setup(struct world *world, const char *name, uint64_t block_bytes)
{
    setup_with(world, name, block_bytes, 0);
}

static void teardown(struct world *world)
{
    object_store_close(world->store);
    node_store_close(&world->stores[0]);
    node_store_close(&world->stores[1]);
}

static struct drain_item item_of(const struct world *world, uint32_t rank, enum slot_kind kind)
{
    return (struct drain_item){
        .store = node_of(rank, kind), .kind = kind, .rank = rank, .slot = (uint32_t)(world->set.sequence % 2)};
}

static dcache_status_t drain_items(struct world *world, const char *drainer, const struct drain_item *items,
                                   size_t count, bool *durable)
{
    const struct drain_request request = {.job = "job",
                                          .set = world->set,
                                          .drainer = drainer,
                                          .stores = world->stores,
                                          .items = items,
                                          .item_count = count};
    return drain_step(&dg, world->store, &request, &world->control, durable);
}

/* Ranks first to first + count - 1, from their own copies. */
static dcache_status_t drain_ranks(struct world *world, const char *drainer, uint32_t first, uint32_t count,
                                   bool *durable)
{
    struct drain_item items[RANKS];
    for (uint32_t i = 0; i < count; i++)
        items[i] = item_of(world, first + i, SLOT_OWN);
    return drain_items(world, drainer, items, count, durable);
}

static bool has_object(struct world *world, const char *key)
{
    struct object_info info;
    return world->store->ops->head(world->store, &dg, key, &info) == DCACHE_OK;
}

static void shard_key(const struct world *world, uint32_t rank, char key[OBJECT_KEY_MAX])
{
    const struct manifest_shard shard = {.rank = rank};
    manifest_object_key(key, "job", &world->set, &shard);
}

static bool has_shard(struct world *world, uint32_t rank)
{
    char key[OBJECT_KEY_MAX];
    shard_key(world, rank, key);
    return has_object(world, key);
}

/* The object is byte for byte the slot's file, and its digest that of the manifest. */
static void check_object(struct world *world, const struct manifest *manifest, uint32_t rank)
{
    char key[OBJECT_KEY_MAX];
    char *object = NULL;
    size_t bytes = 0;
    struct slot slot;
    const struct manifest_shard *shard = manifest_find(manifest, rank);
    CU_ASSERT_PTR_NOT_NULL_FATAL(shard);
    manifest_object_key(key, "job", &world->set, shard);
    CU_ASSERT_EQUAL_FATAL(object_store_get_bytes(world->store, &dg, key, 1u << 30, &object, &bytes), DCACHE_OK);
    const struct drain_item item = item_of(world, rank, SLOT_OWN);
    CU_ASSERT_EQUAL_FATAL(slot_open_read(&dg, &world->stores[item.store], item.kind, rank, item.slot, &slot),
                          DCACHE_OK);
    char *file = malloc(slot.bytes);
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    CU_ASSERT_EQUAL(pread(slot.fd, file, slot.bytes, 0), (ssize_t)slot.bytes);
    CU_ASSERT_EQUAL_FATAL(slot.bytes, bytes);
    CU_ASSERT_EQUAL(memcmp(file, object, bytes), 0);
    CU_ASSERT_EQUAL(shard->bytes, bytes);
    CU_ASSERT_EQUAL(shard->crc, crc64_update(0, object, bytes));
    free(file);
    free(object);
    slot_close(&slot);
}

static void check_durable(struct world *world)
{
    struct manifest manifest;
    CU_ASSERT_EQUAL_FATAL(manifest_load(&dg, world->store, "job", world->set.step, &manifest), DCACHE_OK);
    CU_ASSERT(shard_same_set(&manifest.set, &world->set));
    for (uint32_t rank = 0; rank < RANKS; rank++)
        check_object(world, &manifest, rank);
    manifest_free(&manifest);
}

/* --- All is well ---------------------------------------------------------------------------------------------------*/

/* Blocks of all sizes, so that ranges begin and end in the header, inside of chunks and between them. */
static void test_two_drainers(void)
{
    static const uint64_t blocks[] = {0, 4096, 5000, 777777, 1u << 20, (1u << 20) + 4096, (2u << 20) + 1, 3u << 20};
    for (size_t i = 0; i < UNIT_COUNT(blocks); i++) {
        struct world world;
        char name[32];
        bool durable = true;
        snprintf(name, sizeof name, "two-%zu", i);
        setup(&world, name, blocks[i]);
        CU_ASSERT_EQUAL(drain_ranks(&world, "r0", 0, 2, &durable), DCACHE_OK);
        CU_ASSERT_FALSE(durable);
        CU_ASSERT_FALSE(has_object(&world, "job/100/manifest.json"));
        CU_ASSERT_EQUAL(world.control.shards_stored, 2);
        CU_ASSERT_EQUAL(drain_ranks(&world, "r2", 2, 2, &durable), DCACHE_OK);
        CU_ASSERT_TRUE(durable);
        CU_ASSERT_EQUAL(world.control.shards_stored, 4);
        check_durable(&world);

        uint64_t before = world.control.bytes_stored;
        CU_ASSERT(before > 4 * data_bytes(0));
        durable = false;
        CU_ASSERT_EQUAL(drain_ranks(&world, "r1", 0, 4, &durable), DCACHE_OK); /* nothing left to do */
        CU_ASSERT_TRUE(durable);
        CU_ASSERT_EQUAL(world.control.bytes_stored, before);
        CU_ASSERT_FALSE(has_object(&world, "job/100/part-r1-4.json"));
        teardown(&world);
    }
}

static void test_from_replicas(void)
{
    struct world world;
    struct drain_item items[RANKS];
    bool durable = false;
    setup(&world, "replicas", 0);
    for (uint32_t rank = 0; rank < RANKS; rank++)
        items[rank] = item_of(&world, rank, SLOT_REPLICA);
    CU_ASSERT_EQUAL(drain_items(&world, "r0", items, RANKS, &durable), DCACHE_OK);
    CU_ASSERT_TRUE(durable);
    check_durable(&world);
    teardown(&world);
}

/* A second pass of the same drainer keeps what its part said. */
static void test_second_pass(void)
{
    struct world world;
    bool durable = true;
    setup(&world, "passes", 0);
    for (uint32_t rank = 0; rank < RANKS; rank++) {
        CU_ASSERT_FALSE(rank > 0 && durable);
        CU_ASSERT_EQUAL(drain_ranks(&world, "tool-host", rank, 1, &durable), DCACHE_OK);
    }
    CU_ASSERT_TRUE(durable);
    CU_ASSERT_EQUAL(world.control.shards_stored, 4);
    check_durable(&world);
    teardown(&world);
}

static void test_found_stored(void)
{
    struct world world;
    bool durable = true;
    setup(&world, "found", 0);
    CU_ASSERT_EQUAL(drain_ranks(&world, "r0", 1, 2, &durable), DCACHE_OK);
    CU_ASSERT_FALSE(durable);
    CU_ASSERT_EQUAL(drain_ranks(&world, "r1", 0, 4, &durable), DCACHE_OK);
    CU_ASSERT_TRUE(durable);
    CU_ASSERT_EQUAL(world.control.shards_stored, 4); /* 1 and 2 were not stored again */
    CU_ASSERT(has_object(&world, "job/100/part-r1-4.json"));
    check_durable(&world);
    teardown(&world);
}

/* --- Bad copies ----------------------------------------------------------------------------------------------------*/

static void test_bad_chunk(void)
{
    struct world world;
    struct drain_item items[RANKS + 1];
    bool durable = false;
    setup(&world, "chunk", 777777);
    const struct store_sample bad = sample_of(&world, 1, SLOT_OWN);
    CU_ASSERT_FATAL(store_sample_damage(&world.stores[0], &bad, -1));
    CU_ASSERT_EQUAL(drain_ranks(&world, "r0", 0, 4, &durable), DCACHE_ERR_CORRUPT);
    CU_ASSERT_PTR_NOT_NULL(strstr(dg.text, "own-1-0.h5"));
    CU_ASSERT_FALSE(durable);
    CU_ASSERT_FALSE(has_shard(&world, 1));
    CU_ASSERT(has_shard(&world, 0) && has_shard(&world, 2) && has_shard(&world, 3));
    CU_ASSERT_FALSE(has_object(&world, "job/100/manifest.json"));

    /* The other copy is good; the bad one before it in the list does no harm. */
    for (uint32_t rank = 0; rank < RANKS; rank++)
        items[rank] = item_of(&world, rank, SLOT_OWN);
    items[RANKS] = item_of(&world, 1, SLOT_REPLICA);
    CU_ASSERT_EQUAL(drain_items(&world, "r0", items, RANKS + 1, &durable), DCACHE_OK);
    CU_ASSERT_TRUE(durable);
    CU_ASSERT_EQUAL(world.control.shards_stored, 4);

    /* Now the good one is checked against. */
    CU_ASSERT_FATAL(store_sample_damage(&world.stores[0], &bad, -1));
    check_durable(&world);
    teardown(&world);
}

/* Every chunk counts, wherever blocks begin and end. */
static void test_every_chunk(void)
{
    for (off_t mib = 0; mib < 2; mib++) {
        struct world world;
        char name[32];
        bool durable = false;
        snprintf(name, sizeof name, "every-%d", (int)mib);
        setup(&world, name, (1u << 20) + 54321);
        const struct store_sample bad = sample_of(&world, 3, SLOT_OWN);
        CU_ASSERT_FATAL(store_sample_damage(&world.stores[1], &bad, mib * (1 << 20) + 500000));
        CU_ASSERT_EQUAL(drain_ranks(&world, "r0", 0, 4, &durable), DCACHE_ERR_CORRUPT);
        CU_ASSERT_FALSE(has_shard(&world, 3));
        teardown(&world);
    }
}

static void test_bad_header_and_missing(void)
{
    struct world world;
    bool durable = false;
    setup(&world, "header", 0);
    const struct store_sample bad = sample_of(&world, 0, SLOT_OWN);
    CU_ASSERT_FATAL(store_sample_damage(&world.stores[0], &bad, 300));
    CU_ASSERT_EQUAL(slot_remove(&dg, &world.stores[1], SLOT_OWN, 2, 0), DCACHE_OK);
    CU_ASSERT_EQUAL(drain_ranks(&world, "r0", 0, 4, &durable), DCACHE_ERR_CORRUPT);
    CU_ASSERT_FALSE(has_shard(&world, 0));
    CU_ASSERT_FALSE(has_shard(&world, 2));
    CU_ASSERT(has_shard(&world, 1) && has_shard(&world, 3));
    const struct drain_item others[] = {item_of(&world, 0, SLOT_REPLICA), item_of(&world, 2, SLOT_REPLICA)};
    CU_ASSERT_EQUAL(drain_items(&world, "r1", others, 2, &durable), DCACHE_OK);
    CU_ASSERT_TRUE(durable);
    teardown(&world);
}

/* What is in the slot is complete, but another step by now, or of another run, or is still being written. */
static void test_not_of_this_set(void)
{
    struct world world;
    bool durable = false;
    setup(&world, "set", 0);
    struct store_sample other = sample_of(&world, 0, SLOT_OWN);
    other.set.epoch++;
    CU_ASSERT_FATAL(store_sample_write(&world.stores[0], &other));
    other = sample_of(&world, 1, SLOT_OWN);
    other.set.step = 101;
    CU_ASSERT_FATAL(store_sample_write(&world.stores[0], &other));
    other = sample_of(&world, 2, SLOT_OWN);
    other.state = SHARD_WRITING;
    CU_ASSERT_FATAL(store_sample_write(&world.stores[1], &other));
    CU_ASSERT_EQUAL(drain_ranks(&world, "r0", 0, 4, &durable), DCACHE_ERR_CORRUPT);
    CU_ASSERT(!has_shard(&world, 0) && !has_shard(&world, 1) && !has_shard(&world, 2) && has_shard(&world, 3));
    teardown(&world);
}

static void test_truncated(void)
{
    struct world world;
    bool durable = false;
    char name[48];
    setup(&world, "truncated", 0);
    slot_name(SLOT_OWN, 1, 0, name);
    int fd = openat(world.stores[0].dir_fd, name, O_WRONLY);
    CU_ASSERT_EQUAL(ftruncate(fd, 2 << 20), 0);
    CU_ASSERT_EQUAL(close(fd), 0);
    CU_ASSERT_EQUAL(drain_ranks(&world, "r0", 0, 2, &durable), DCACHE_ERR_CORRUPT);
    CU_ASSERT(has_shard(&world, 0) && !has_shard(&world, 1));
    teardown(&world);
}

/* --- Others --------------------------------------------------------------------------------------------------------*/

static void put_text(struct world *world, const char *key, const char *text)
{
    CU_ASSERT_EQUAL(object_store_put_bytes(world->store, &dg, key, text, strlen(text), OBJECT_REPLACE), DCACHE_OK);
}

static void test_junk_in_the_step(void)
{
    struct world world;
    bool durable = false;
    setup(&world, "junk", 0);
    dg.threshold = DIAG_ERROR;
    put_text(&world, "job/100/part-x.json", "{\"format\":");
    put_text(&world, "job/100/part-y.json", "");
    put_text(&world, "job/100/part-r0-4.json", "[[[[[[");
    put_text(&world, "job/100/shard-0-4.h5", "not a shard");
    put_text(&world, "job/100/shard-1.h5", "not a shard, as earlier versions name it");
    put_text(&world, "job/100/shard-9-4.h5", "no such rank");
    put_text(&world, "job/100/notes.txt", "?");
    CU_ASSERT_EQUAL(drain_ranks(&world, "r0", 0, 4, &durable), DCACHE_OK);
    CU_ASSERT_TRUE(durable);
    check_durable(&world);
    CU_ASSERT(has_object(&world, "job/100/notes.txt"));
    teardown(&world);
}

static void test_other_runs_manifest(void)
{
    struct world world;
    bool durable = false;
    setup(&world, "exists", 0);
    CU_ASSERT_EQUAL(drain_ranks(&world, "r0", 0, 4, &durable), DCACHE_OK);
    CU_ASSERT_TRUE(durable);
    check_durable(&world);

    struct world again = world; /* the same step once more */
    again.set.sequence += 2;
    write_shards(&again);
    durable = false;
    CU_ASSERT_EQUAL(drain_ranks(&again, "r0", 0, 4, &durable), DCACHE_ERR_EXISTS);
    CU_ASSERT_FALSE(durable);
    CU_ASSERT_PTR_NOT_NULL(strstr(dg.text, "job job: step 100"));
    CU_ASSERT_PTR_NOT_NULL(strstr(dg.text, "job/100/manifest.json"));
    write_shards(&world);
    check_durable(&world); /* as it was */
    teardown(&world);
}

/* A part that lists another digest for a shard of this very set: somebody is wrong, so it stays. */
static void test_disputed_shard(void)
{
    struct world world;
    bool durable = false;
    setup(&world, "disputed", 0);
    CU_ASSERT_EQUAL(drain_ranks(&world, "r0", 0, 1, &durable), DCACHE_OK);
    struct store_sample sample = sample_of(&world, 0, SLOT_OWN);
    struct shard_set kept = sample.set;
    sample.set.sequence++; /* other bytes ... */
    CU_ASSERT_FATAL(store_sample_write(&world.stores[0], &sample));
    struct slot slot;
    struct shard_header header;
    CU_ASSERT_EQUAL_FATAL(slot_open_read(&dg, &world.stores[0], SLOT_OWN, 0, 0, &slot), DCACHE_OK);
    CU_ASSERT_EQUAL_FATAL(shard_read_header(&dg, slot.fd, &header), DCACHE_OK);
    slot_close(&slot);
    header.set = kept; /* ... under the same name */
    unsigned char *encoded = malloc(header.header_bytes);
    CU_ASSERT_PTR_NOT_NULL_FATAL(encoded);
    shard_encode(&header, encoded);
    int fd = openat(world.stores[0].dir_fd, "own-0-0.h5", O_WRONLY);
    CU_ASSERT_EQUAL(pwrite(fd, encoded, header.header_bytes, 0), (ssize_t)header.header_bytes);
    CU_ASSERT_EQUAL(close(fd), 0);
    free(encoded);
    shard_header_free(&header);
    CU_ASSERT_EQUAL(drain_ranks(&world, "r1", 0, 3, &durable), DCACHE_ERR_CORRUPT);
    CU_ASSERT_PTR_NOT_NULL(strstr(dg.text, "own-0-0.h5"));
    CU_ASSERT_EQUAL(world.control.shards_stored, 3); /* 0 by r0, then 1 and 2 */

    /* The step can be completed all the same, with the shard that was verified when it was stored. */
    CU_ASSERT_EQUAL(drain_ranks(&world, "r1", 0, 4, &durable), DCACHE_OK);
    CU_ASSERT_TRUE(durable);
    CU_ASSERT_EQUAL(world.control.shards_stored, 4);
    teardown(&world);
}

/* --- At the same time ----------------------------------------------------------------------------------------------*/

struct racer {
    struct world world; /* stores of its own */
    const char *drainer;
    uint32_t first;
    uint32_t count;
    dcache_status_t status;
    bool durable;
};

static void *race(void *argument)
{
    struct racer *racer = argument;
    struct diag own;
    struct drain_item items[RANKS];
    diag_init(&own, "job", -1, DIAG_ERROR);
    for (uint32_t i = 0; i < racer->count; i++)
        items[i] = item_of(&racer->world, racer->first + i, SLOT_OWN);
    const struct drain_request request = {.job = "job",
                                          .set = racer->world.set,
                                          .drainer = racer->drainer,
                                          .stores = racer->world.stores,
                                          .items = items,
                                          .item_count = racer->count};
    racer->status = drain_step(&own, racer->world.store, &request, &racer->world.control, &racer->durable);
    if (racer->status != DCACHE_OK)
        fprintf(stderr, "%s: %s\n", racer->drainer, own.text);
    return NULL;
}

static void race_once(const char *name, uint32_t first_count, uint32_t second_first, uint32_t second_count)
{
    struct racer racers[2] = {{.drainer = "r0", .first = 0, .count = first_count},
                              {.drainer = "r1", .first = second_first, .count = second_count}};
    pthread_t threads[2];
    setup(&racers[0].world, name, 0);
    racers[1].world = racers[0].world;
    for (int i = 0; i < 2; i++)
        CU_ASSERT_EQUAL_FATAL(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
    for (int i = 0; i < 2; i++)
        CU_ASSERT_EQUAL_FATAL(pthread_join(threads[i], NULL), 0);
    CU_ASSERT_EQUAL(racers[0].status, DCACHE_OK);
    CU_ASSERT_EQUAL(racers[1].status, DCACHE_OK);
    CU_ASSERT(racers[0].durable || racers[1].durable);
    if (first_count == RANKS && second_count == RANKS)
        CU_ASSERT(racers[0].durable && racers[1].durable);
    check_durable(&racers[0].world);
    teardown(&racers[0].world);
}

static void test_race(void)
{
    for (int round = 0; round < 4; round++) {
        char name[32];
        snprintf(name, sizeof name, "race-halves-%d", round);
        race_once(name, 2, 2, 2);
        snprintf(name, sizeof name, "race-all-%d", round);
        race_once(name, RANKS, 0, RANKS);
    }
}

/* --- Several at a time ---------------------------------------------------------------------------------------------*/

/* No put is answered before there are as many of them as there may be: one for each connection and one less again, but
 * with one connection they go one by one. */
static void test_several_at_a_time(void)
{
    static const unsigned most[] = {0, 1, 3, RANKS};
    for (unsigned connections = 1; connections < UNIT_COUNT(most); connections++) {
        struct world world;
        struct counting_store counting;
        bool durable = false;
        char name[32];
        snprintf(name, sizeof name, "several-%u", connections);
        setup_with(&world, name, 0, connections);
        counting_store_open(&counting, world.store);
        counting.putting.wanted = most[connections];
        struct world counted = world;
        counted.store = &counting.base;
        CU_ASSERT_EQUAL(drain_ranks(&counted, "r0", 0, RANKS, &durable), DCACHE_OK);
        CU_ASSERT_TRUE(durable);
        CU_ASSERT_EQUAL(counting.putting.most, most[connections]);
        CU_ASSERT_EQUAL(counting.puts, RANKS + 2); /* part and manifest */
        check_durable(&world);
        counting_store_close(&counting);
        teardown(&world);
    }
}

/* --- Limits --------------------------------------------------------------------------------------------------------*/

struct lifter {
    struct drain_control *control;
    bool cancel; /* instead of lifting the limits */
    uint64_t stored;
};

static void *lift_later(void *argument)
{
    struct lifter *lifter = argument;
    const struct timespec nap = {.tv_nsec = 300000000};
    (void)nanosleep(&nap, NULL);
    lifter->stored = atomic_load(&lifter->control->shards_stored);
    if (lifter->cancel)
        atomic_store(&lifter->control->cancel, true);
    else
        pace_lift(&lifter->control->pace);
    return NULL;
}

static dcache_status_t drain_limited(struct world *world, struct lifter *lifter, bool *durable)
{
    pthread_t thread;
    CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, lift_later, lifter), 0);
    const dcache_status_t status = drain_ranks(world, "r0", 0, RANKS, durable);
    pthread_join(thread, NULL);
    return status;
}

/* One byte in a second, or next to no CPU time: nothing would ever end if the limits were not lifted, or cancelled. */
static void test_limits(void)
{
    for (int round = 0; round < 4; round++) {
        struct world world;
        bool durable = false;
        char name[32];
        snprintf(name, sizeof name, "limits-%d", round);
        setup_with(&world, name, 0, 1);
        struct lifter lifter = {.control = &world.control, .cancel = round % 2 == 1};
        if (round < 2)
            atomic_store(&world.control.pace.bytes_per_s, 1);
        else
            atomic_store(&world.control.pace.cpu_ns_per_s, 1);
        const dcache_status_t status = drain_limited(&world, &lifter, &durable);
        CU_ASSERT_EQUAL(status, lifter.cancel ? DCACHE_ERR_CANCELLED : DCACHE_OK);
        CU_ASSERT_EQUAL(durable, !lifter.cancel);
        CU_ASSERT(lifter.stored <= 1);
        teardown(&world);
    }
}

static void test_cancel(void)
{
    struct world world;
    bool durable = false;
    setup(&world, "cancel", 0);
    atomic_store(&world.control.cancel, true);
    atomic_store(&world.control.pause, true); /* cancel wins */
    CU_ASSERT_EQUAL(drain_ranks(&world, "r0", 0, 4, &durable), DCACHE_ERR_CANCELLED);
    CU_ASSERT_FALSE(has_shard(&world, 0));
    atomic_store(&world.control.cancel, false);
    atomic_store(&world.control.pause, false);
    CU_ASSERT_EQUAL(drain_ranks(&world, "r0", 0, 4, &durable), DCACHE_OK);
    CU_ASSERT_TRUE(durable);
    teardown(&world);
}

static void test_pause(void)
{
    const struct timespec moment = {.tv_nsec = 50000000};
    struct racer racer = {.drainer = "r0", .first = 0, .count = RANKS};
    pthread_t thread;
    setup(&racer.world, "pause", 4096);
    atomic_store(&racer.world.control.pause, true);
    CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, race, &racer), 0);
    (void)nanosleep(&moment, NULL);
    CU_ASSERT_EQUAL(atomic_load(&racer.world.control.bytes_stored), 0);
    atomic_store(&racer.world.control.pause, false);
    CU_ASSERT_EQUAL_FATAL(pthread_join(thread, NULL), 0);
    CU_ASSERT_EQUAL(racer.status, DCACHE_OK);
    CU_ASSERT_TRUE(racer.durable);
    teardown(&racer.world);
}

/* --- Killed --------------------------------------------------------------------------------------------------------*/

#ifdef DCACHE_FAILPOINTS
/* Drain all ranks in a process that is killed at the failpoint. */
static void drain_and_die(struct world *world, const char *failpoint)
{
    pid_t pid = fork();
    CU_ASSERT_FATAL(pid >= 0);
    if (pid == 0) {
        bool durable = false;
        (void)setenv("DCACHE_FAILPOINTS", failpoint, 1);
        dcache_status_t status = drain_ranks(world, "r0", 0, 4, &durable);
        _exit(status == DCACHE_OK ? 0 : 1);
    }
    int how = 0;
    CU_ASSERT_EQUAL(waitpid(pid, &how, 0), pid);
    CU_ASSERT(WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL);
}

struct death {
    const char *name;
    const char *failpoint;
    uint64_t shards_left; /* for the one who goes on */
};

static void test_killed(void)
{
    static const struct death deaths[] = {{"begin", "drain.begin=kill", 4},
                                          {"shard", "drain.shard=kill#3", 4},
                                          {"commit", "object_file_commit=kill#2", 4},
                                          {"part", "drain.part=kill", 4},
                                          {"manifest", "drain.manifest=kill", 0}};
    for (size_t i = 0; i < UNIT_COUNT(deaths); i++) {
        struct world world;
        char name[32];
        bool durable = false;
        snprintf(name, sizeof name, "killed-%s", deaths[i].name);
        setup_with(&world, name, 0, 1); /* one after the other, so that it is known which one is the third */
        drain_and_die(&world, deaths[i].failpoint);
        CU_ASSERT_FALSE(has_object(&world, "job/100/manifest.json"));
        CU_ASSERT_EQUAL(drain_ranks(&world, "r1", 0, 4, &durable), DCACHE_OK);
        CU_ASSERT_TRUE(durable);
        CU_ASSERT_EQUAL(world.control.shards_stored, deaths[i].shards_left);
        check_durable(&world);
        teardown(&world);
    }
}

static void test_errors(void)
{
    static const char *const points[] = {"drain.begin=error", "drain.shard=error#2", "drain.part=error",
                                         "drain.manifest=error"};
    struct world world;
    setup_with(&world, "errors", 0, 1);
    for (size_t i = 0; i < UNIT_COUNT(points); i++) {
        bool durable = false;
        diag_init(&dg, "job", -1, DIAG_ERROR);
        (void)setenv("DCACHE_FAILPOINTS", points[i], 1);
        CU_ASSERT_EQUAL(drain_ranks(&world, "r0", 0, 4, &durable), DCACHE_ERR_IO);
        CU_ASSERT_FALSE(durable);
        (void)unsetenv("DCACHE_FAILPOINTS");
    }
    bool durable = false;
    CU_ASSERT_EQUAL(drain_ranks(&world, "r0", 0, 4, &durable), DCACHE_OK);
    CU_ASSERT_TRUE(durable);
    teardown(&world);
}
#endif

int main(void)
{
    static const struct unit_case cases[] = {
        {"two drainers, many block sizes", test_two_drainers},
        {"from replicas", test_from_replicas},
        {"second pass of a drainer", test_second_pass},
        {"found stored", test_found_stored},
        {"bad chunk", test_bad_chunk},
        {"every chunk", test_every_chunk},
        {"bad header, missing slot", test_bad_header_and_missing},
        {"not of this set", test_not_of_this_set},
        {"truncated", test_truncated},
        {"junk in the step", test_junk_in_the_step},
        {"another run's manifest", test_other_runs_manifest},
        {"disputed shard", test_disputed_shard},
        {"race", test_race},
        {"several at a time", test_several_at_a_time},
        {"cancel", test_cancel},
        {"pause", test_pause},
        {"limits", test_limits},
#ifdef DCACHE_FAILPOINTS
        {"killed", test_killed},
        {"errors", test_errors},
#endif
    };
    return unit_main("drain", cases, UNIT_COUNT(cases));
}
