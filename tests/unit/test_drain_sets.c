/* io/drain.c, when there are several sets of one step: attempts that were drained in part, one beside the other, and
 * what earlier versions left. timeout: 240 */
#include "io/drain.h"
#include "tests/unit/store_sample.h"
#include "tests/unit/unit.h"

#include <inttypes.h>
#include <sys/stat.h>

#define RANKS 2u
#define STEP  100u

static struct diag dg;

/* A node that has two attempts at the step: sequence 4 in slot 0, sequence 5 in slot 1. */
struct world {
    char root[600];
    struct node_store node;
    struct object_store *store;
};

enum attempt { FIRST, SECOND };

static struct shard_set set_of(enum attempt attempt)
{
    return (struct shard_set){.step = STEP, .sequence = 4u + attempt, .epoch = 7u + attempt, .world_size = RANKS};
}

static void setup(struct world *world, const char *name)
{
    struct object_credentials none;
    const struct object_policy policy = {.timeout_s = 5, .stall_s = 5};
    char url[OBJECT_URL_MAX];
    memset(world, 0, sizeof *world);
    memset(&none, 0, sizeof none);
    diag_init(&dg, "job", -1, DIAG_ERROR);
    snprintf(world->root, sizeof world->root, "%s/%s", unit_scratch(), name);
    CU_ASSERT_EQUAL_FATAL(mkdir(world->root, 0700), 0);
    CU_ASSERT_EQUAL_FATAL(node_store_open(&dg, world->root, "job", 0, true, &world->node), DCACHE_OK);
    for (unsigned i = 0; i < 2 * RANKS; i++) { /* sizes that tell nothing */
        const struct store_sample sample = {.job = "job",
                                            .set = set_of((enum attempt)(i / RANKS)),
                                            .rank = i % RANKS,
                                            .kind = SLOT_OWN,
                                            .slot = i / RANKS,
                                            .bytes = 5000,
                                            .state = SHARD_COMPLETE};
        CU_ASSERT_FATAL(store_sample_write(&world->node, &sample));
    }
    snprintf(url, sizeof url, "file://%s/objects", world->root);
    CU_ASSERT_EQUAL_FATAL(object_store_open(&dg, url, &none, &policy, &world->store), DCACHE_OK);
}

static void teardown(struct world *world)
{
    object_store_close(world->store);
    node_store_close(&world->node);
}

/* Ranks first to first + count - 1 of one attempt. */
static dcache_status_t drain_to(struct world *world, struct object_store *store, enum attempt attempt, uint32_t first,
                                uint32_t count, bool *durable)
{
    struct drain_item items[RANKS];
    struct drain_control control;
    memset(&control, 0, sizeof control);
    for (uint32_t i = 0; i < count; i++)
        items[i] = (struct drain_item){.store = 0, .kind = SLOT_OWN, .rank = first + i, .slot = attempt};
    const struct drain_request request = {.job = "job",
                                          .set = set_of(attempt),
                                          .drainer = attempt == FIRST ? "r0" : "r1",
                                          .stores = &world->node,
                                          .items = items,
                                          .item_count = count};
    return drain_step(&dg, store, &request, &control, durable);
}

static dcache_status_t drain(struct world *world, enum attempt attempt, uint32_t first, uint32_t count, bool *durable)
{
    return drain_to(world, world->store, attempt, first, count, durable);
}

static bool has_object(struct world *world, const char *name)
{
    struct object_info info;
    char key[OBJECT_KEY_MAX];
    snprintf(key, sizeof key, "job/%u/%s", STEP, name);
    return world->store->ops->head(world->store, &dg, key, &info) == DCACHE_OK;
}

static dcache_status_t count_object(void *context, const char *key, uint64_t bytes)
{
    (void)key;
    (void)bytes;
    ++*(unsigned *)context;
    return DCACHE_OK;
}

static unsigned count_objects(struct world *world)
{
    unsigned count = 0;
    CU_ASSERT_EQUAL(world->store->ops->list(world->store, &dg, "job/", count_object, &count), DCACHE_OK);
    return count;
}

/* The attempt's own copy, the digest in the manifest and the object are one. */
static void check_shard(struct world *world, enum attempt attempt, const struct manifest_shard *shard)
{
    const struct shard_set set = set_of(attempt);
    char key[OBJECT_KEY_MAX];
    char *object = NULL;
    size_t bytes = 0;
    struct slot slot;
    manifest_object_key(key, "job", &set, shard);
    CU_ASSERT_EQUAL_FATAL(object_store_get_bytes(world->store, &dg, key, 1u << 20, &object, &bytes), DCACHE_OK);
    CU_ASSERT_EQUAL_FATAL(slot_open_read(&dg, &world->node, SLOT_OWN, shard->rank, attempt, &slot), DCACHE_OK);
    char *file = malloc(slot.bytes);
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    CU_ASSERT_EQUAL(pread(slot.fd, file, slot.bytes, 0), (ssize_t)slot.bytes);
    CU_ASSERT_FATAL(slot.bytes == bytes);
    CU_ASSERT_EQUAL(memcmp(file, object, bytes), 0);
    CU_ASSERT_EQUAL(shard->crc, crc64_update(0, file, bytes));
    free(file);
    free(object);
    slot_close(&slot);
}

/* The manifest is the attempt's, and so is every byte. */
static void check_durable(struct world *world, enum attempt attempt)
{
    const struct shard_set set = set_of(attempt);
    struct manifest manifest;
    CU_ASSERT_EQUAL_FATAL(manifest_load(&dg, world->store, "job", STEP, &manifest), DCACHE_OK);
    CU_ASSERT_FATAL(shard_same_set(&manifest.set, &set));
    for (uint32_t rank = 0; rank < RANKS; rank++)
        check_shard(world, attempt, &manifest.shards[rank]);
    manifest_free(&manifest);
}

/* --- One after the other -------------------------------------------------------------------------------------------*/

/* Both in part, and then the earlier one to its end: what it had is still there, and of the other nothing is left. */
static void test_in_turn(void)
{
    struct world world;
    bool durable = true;
    setup(&world, "turn");
    CU_ASSERT_EQUAL(drain(&world, FIRST, 0, 1, &durable), DCACHE_OK);
    CU_ASSERT_EQUAL(drain(&world, SECOND, 0, 1, &durable), DCACHE_OK);
    CU_ASSERT_FALSE(durable);
    CU_ASSERT_TRUE(has_object(&world, "shard-0-4.h5") && has_object(&world, "shard-0-5.h5"));
    CU_ASSERT_TRUE(has_object(&world, "part-r0-4.json") && has_object(&world, "part-r1-5.json"));
    CU_ASSERT_EQUAL(drain(&world, FIRST, 1, 1, &durable), DCACHE_OK);
    CU_ASSERT_TRUE(durable);
    check_durable(&world, FIRST);
    CU_ASSERT_EQUAL(count_objects(&world), 4); /* shards, part and manifest */
    CU_ASSERT_FALSE(has_object(&world, "shard-0-5.h5") || has_object(&world, "part-r1-5.json"));

    CU_ASSERT_EQUAL(drain(&world, SECOND, 0, 2, &durable), DCACHE_ERR_EXISTS);
    CU_ASSERT_EQUAL(count_objects(&world), 4);
    check_durable(&world, FIRST);
    teardown(&world);
}

/* Who put the manifest was killed before it had removed the other attempt's objects: whoever comes next does it. */
static void test_leftovers(void)
{
    struct world world;
    bool durable = false;
    setup(&world, "leftovers");
    CU_ASSERT_EQUAL(drain(&world, FIRST, 0, 2, &durable), DCACHE_OK);
    CU_ASSERT_TRUE(durable);
    static const char *const left[] = {"shard-0-5.h5", "shard-1-5.h5.zst", "part-r1-5.json"};
    for (size_t i = 0; i < UNIT_COUNT(left); i++) {
        char key[OBJECT_KEY_MAX];
        snprintf(key, sizeof key, "job/%u/%s", STEP, left[i]);
        CU_ASSERT_EQUAL(object_store_put_bytes(world.store, &dg, key, "x", 1, OBJECT_REPLACE), DCACHE_OK);
    }
    CU_ASSERT_EQUAL(drain(&world, SECOND, 0, 2, &durable), DCACHE_ERR_EXISTS); /* not whose step it is not */
    CU_ASSERT_EQUAL(count_objects(&world), 7);
    durable = false;
    CU_ASSERT_EQUAL(drain(&world, FIRST, 0, 1, &durable), DCACHE_OK);
    CU_ASSERT_TRUE(durable);
    CU_ASSERT_EQUAL(count_objects(&world), 4);
    check_durable(&world, FIRST);
    teardown(&world);
}

/* --- At the same time ----------------------------------------------------------------------------------------------*/

/* A store in which, at the n-th thing that is asked of it, the other attempt is drained meanwhile. */
struct meeting {
    struct object_store base;
    struct world *world;
    unsigned asked;
    unsigned when;
    dcache_status_t status; /* of the other drain */
    bool durable;
};

static struct object_store *meet(struct object_store *store)
{
    struct meeting *meeting = (struct meeting *)store;
    if (++meeting->asked == meeting->when)
        meeting->status = drain(meeting->world, SECOND, 0, RANKS, &meeting->durable);
    return meeting->world->store;
}

static dcache_status_t meet_put(struct object_store *store, struct diag *diag, const char *key,
                                const struct object_source *source, enum object_condition condition,
                                const atomic_bool *cancel)
{
    struct object_store *inner = meet(store);
    return inner->ops->put(inner, diag, key, source, condition, cancel);
}

static dcache_status_t meet_get(struct object_store *store, struct diag *diag, const char *key, const char *etag,
                                uint64_t offset, void *buffer, size_t bytes)
{
    struct object_store *inner = meet(store);
    return inner->ops->get(inner, diag, key, etag, offset, buffer, bytes);
}

static dcache_status_t meet_head(struct object_store *store, struct diag *diag, const char *key,
                                 struct object_info *info)
{
    struct object_store *inner = meet(store);
    return inner->ops->head(inner, diag, key, info);
}

static dcache_status_t meet_list(struct object_store *store, struct diag *diag, const char *prefix,
                                 object_visitor visit, void *context)
{
    struct object_store *inner = meet(store);
    return inner->ops->list(inner, diag, prefix, visit, context);
}

static dcache_status_t meet_remove(struct object_store *store, struct diag *diag, const char *key)
{
    struct object_store *inner = meet(store);
    return inner->ops->remove(inner, diag, key);
}

/* Whatever the first drainer is about to do when the other one comes and does all: one of them has the step, whole. */
static void test_beside_each_other(void)
{
    static const struct object_store_ops ops = {.scheme = "meeting",
                                                .put = meet_put,
                                                .get = meet_get,
                                                .head = meet_head,
                                                .list = meet_list,
                                                .remove = meet_remove};
    unsigned won = 0;
    unsigned lost = 0;
    for (unsigned when = 1, asked = when; asked >= when; when++) {
        struct world world;
        char name[32];
        bool durable = false;
        snprintf(name, sizeof name, "beside-%u", when);
        setup(&world, name);
        CU_ASSERT_EQUAL(drain(&world, SECOND, 0, 1, &durable), DCACHE_OK); /* something to be removed by who wins */
        struct meeting meeting = {.base = *world.store, .world = &world, .when = when, .status = DCACHE_ERR_INTERNAL};
        meeting.base.ops = &ops;
        meeting.base.policy.connections = 1; /* the things it asks for come in one order */
        dcache_status_t status = drain_to(&world, &meeting.base, FIRST, 0, RANKS, &durable);
        asked = meeting.asked;
        if (status == DCACHE_OK && !durable) /* its parts were gone when it looked: the next look tells why */
            status = drain(&world, FIRST, 0, RANKS, &durable);
        CU_ASSERT_EQUAL(status, durable ? DCACHE_OK : DCACHE_ERR_EXISTS);
        if (asked >= when) {
            CU_ASSERT_EQUAL(meeting.status, meeting.durable ? DCACHE_OK : DCACHE_ERR_EXISTS);
            CU_ASSERT_NOT_EQUAL(durable, meeting.durable);
        }
        check_durable(&world, durable ? FIRST : SECOND);
        won += durable;
        lost += !durable;
        teardown(&world);
    }
    CU_ASSERT(won >= 2 && lost >= 6);
}

/* --- What earlier versions left ------------------------------------------------------------------------------------*/

/* As versions before the third did it: one name for the shards of all sets, a part that does not tell its set. */
static void make_early(struct world *world, enum attempt attempt, uint32_t rank)
{
    const struct shard_set set = set_of(attempt);
    struct manifest_shard shard = {.rank = rank};
    struct manifest part;
    char key[OBJECT_KEY_MAX];
    char *bytes = NULL;
    char *text = NULL;
    size_t count = 0;
    bool durable = false;
    CU_ASSERT_EQUAL_FATAL(drain(world, attempt, rank, 1, &durable), DCACHE_OK);
    manifest_object_key(key, "job", &set, &shard);
    CU_ASSERT_EQUAL_FATAL(object_store_get_bytes(world->store, &dg, key, 1u << 20, &bytes, &count), DCACHE_OK);
    CU_ASSERT_EQUAL(world->store->ops->remove(world->store, &dg, key), DCACHE_OK);
    manifest_early_name(rank, CODEC_PLAIN, shard.object);
    manifest_object_key(key, "job", &set, &shard);
    CU_ASSERT_EQUAL(object_store_put_bytes(world->store, &dg, key, bytes, count, OBJECT_REPLACE), DCACHE_OK);
    free(bytes);

    manifest_part_key(key, "job", &set, attempt == FIRST ? "r0" : "r1");
    CU_ASSERT_EQUAL_FATAL(object_store_get_bytes(world->store, &dg, key, 1u << 20, &text, &count), DCACHE_OK);
    CU_ASSERT_EQUAL_FATAL(manifest_decode(&dg, key, text, count, &part), DCACHE_OK);
    CU_ASSERT_EQUAL(world->store->ops->remove(world->store, &dg, key), DCACHE_OK);
    free(text);
    memcpy(part.shards[0].object, shard.object, sizeof shard.object);
    CU_ASSERT_EQUAL_FATAL(manifest_encode(&dg, &part, &text, &count), DCACHE_OK);
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "\"version\": 1,"));
    snprintf(key, sizeof key, "job/%u/part-early.json", STEP);
    CU_ASSERT_EQUAL(object_store_put_bytes(world->store, &dg, key, text, count, OBJECT_REPLACE), DCACHE_OK);
    free(text);
    manifest_free(&part);
}

/* The set that was drained in part by an earlier version is finished with what is there already. */
static void test_early_part(void)
{
    struct world world;
    bool durable = false;
    setup(&world, "early");
    make_early(&world, FIRST, 0);
    CU_ASSERT_EQUAL(drain(&world, FIRST, 0, 2, &durable), DCACHE_OK);
    CU_ASSERT_TRUE(durable);
    CU_ASSERT_TRUE(has_object(&world, "shard-0.h5") && has_object(&world, "shard-1-4.h5"));
    CU_ASSERT_FALSE(has_object(&world, "shard-0-4.h5"));
    check_durable(&world, FIRST);
    teardown(&world);
}

/* Another set does not touch it, and in the end it is gone. */
static void test_early_part_of_another_set(void)
{
    struct world world;
    bool durable = false;
    setup(&world, "other");
    make_early(&world, FIRST, 0);
    CU_ASSERT_EQUAL(drain(&world, SECOND, 0, 1, &durable), DCACHE_OK);
    CU_ASSERT_FALSE(durable);
    CU_ASSERT_TRUE(has_object(&world, "shard-0.h5") && has_object(&world, "part-early.json"));
    CU_ASSERT_EQUAL(drain(&world, SECOND, 1, 1, &durable), DCACHE_OK);
    CU_ASSERT_TRUE(durable);
    check_durable(&world, SECOND);
    CU_ASSERT_EQUAL(count_objects(&world), 4);
    teardown(&world);
}

int main(void)
{
    static const struct unit_case cases[] = {
        {"in turn", test_in_turn},
        {"leftovers", test_leftovers},
        {"beside each other", test_beside_each_other},
        {"a part of an earlier version", test_early_part},
        {"an earlier version's part of another set", test_early_part_of_another_set},
    };
    return unit_main("drain_sets", cases, UNIT_COUNT(cases));
}
