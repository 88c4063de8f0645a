/* io/retention.c: what is kept, what is removed and in which order, and what a removal that is broken off leaves. */
#include "io/retention.h"
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

/* Two shards; the part is left out, as nothing here reads it. */
static void put_step(struct object_store *store, const char *job, uint64_t step, uint64_t sequence, bool durable)
{
    struct manifest_shard shards[2] = {{.rank = 0, .bytes = 4096}, {.rank = 1, .bytes = 4096}};
    struct manifest manifest = {.set = {.step = step, .sequence = sequence, .epoch = 5, .world_size = 2},
                                .drainer = "r0",
                                .shard_count = 2,
                                .shards = shards};
    char key[OBJECT_KEY_MAX], *text = NULL;
    size_t bytes = 0;

    snprintf(manifest.job, sizeof manifest.job, "%s", job);
    for (uint32_t rank = 0; rank < 2; rank++) {
        manifest_object_key(key, job, &manifest.set, &shards[rank]);
        put(store, key, "shard");
    }
    if (!durable)
        return;
    CU_ASSERT_EQUAL_FATAL(manifest_encode(&dg, &manifest, &text, &bytes), DCACHE_OK);
    manifest_key(key, job, step);
    put(store, key, text);
    free(text);
}

static dcache_status_t count_one(void *context, const char *key, uint64_t bytes)
{
    (void)key;
    (void)bytes;
    ++*(int *)context;
    return DCACHE_OK;
}

static int objects_of(struct object_store *store, const char *prefix)
{
    int count = 0;

    CU_ASSERT_EQUAL(store->ops->list(store, &dg, prefix, count_one, &count), DCACHE_OK);
    return count;
}

/* "1 2 5": the steps that retention_find() finds, or of them those that are marked. */
static void check_list(const struct retention_list *list, bool kept_only, const char *expected)
{
    char text[256] = "";
    size_t length = 0;

    for (size_t i = 0; i < list->count; i++) {
        if (!kept_only || list->steps[i].keep)
            length += (size_t)snprintf(text + length, sizeof text - length, "%s%" PRIu64, length > 0 ? " " : "",
                                       list->steps[i].step);
    }
    CU_ASSERT_STRING_EQUAL(text, expected);
}

static void test_mark(void)
{
    struct retention_step steps[] = {{.step = 10, .sequence = 9},
                                     {.step = 20, .sequence = 3},
                                     {.step = 30, .sequence = 4},
                                     {.step = 40, .sequence = 2}};
    struct retention_list list = {steps, UNIT_COUNT(steps)}, none = {NULL, 0};

    retention_mark(&list, &(struct retention_rule){0, 0});
    check_list(&list, true, "10 20 30 40");
    retention_mark(&list, &(struct retention_rule){1, 0}); /* newest by sequence: what a restart takes */
    check_list(&list, true, "10");
    retention_mark(&list, &(struct retention_rule){2, 0});
    check_list(&list, true, "10 30");
    retention_mark(&list, &(struct retention_rule){1, 20});
    check_list(&list, true, "10 20 40");
    retention_mark(&list, &(struct retention_rule){9, 0});
    check_list(&list, true, "10 20 30 40");
    retention_mark(&list, &(struct retention_rule){0, 1000}); /* a rule without a number keeps all */
    check_list(&list, true, "10 20 30 40");
    retention_mark(&none, &(struct retention_rule){1, 0});
}

static void test_apply(void)
{
    struct object_store *store = open_store("apply");
    struct retention_list list = {NULL, 0};
    const struct retention_rule rule = {2, 300};

    for (uint64_t step = 100; step <= 600; step += 100)
        put_step(store, "job", step, step, true);
    put_step(store, "job", 50, 0, false);
    put_step(store, "job.other", 100, 1, true);
    put_step(store, "job2", 100, 1, true);
    put(store, "job/700/manifest.json", "{\"format\": \"dcache-manifest\", \"version\": 99}");
    put(store, "job/40/manifest.json", "{\"format\": "); /* torn: what it was is for a person to find out */
    CU_ASSERT_EQUAL(retention_apply(&dg, store, "job", &(struct retention_rule){0, 0}, &list, NULL), DCACHE_OK);
    CU_ASSERT_EQUAL(objects_of(store, "job/"), 6 * 3 + 2 + 2);
    CU_ASSERT_EQUAL(retention_apply(&dg, store, "job", &rule, &list, NULL), DCACHE_OK);
    CU_ASSERT_EQUAL(objects_of(store, "job/100/") + objects_of(store, "job/200/") + objects_of(store, "job/400/"), 0);
    CU_ASSERT_EQUAL(objects_of(store, "job/300/"), 3);
    CU_ASSERT_EQUAL(objects_of(store, "job/500/") + objects_of(store, "job/600/"), 6);
    CU_ASSERT_EQUAL(objects_of(store, "job/700/"), 1); /* newer than this reader */
    CU_ASSERT_EQUAL(objects_of(store, "job/40/"), 1);
    CU_ASSERT_EQUAL(objects_of(store, "job/50/"), 2);
    CU_ASSERT_EQUAL(objects_of(store, "job.other/"), 3);
    CU_ASSERT_EQUAL(objects_of(store, "job2/"), 3);
    CU_ASSERT_EQUAL(retention_find(&dg, store, "job", &list), DCACHE_OK);
    check_list(&list, false, "300 500 600");
    retention_list_free(&list);
    object_store_close(store);
}

/* A removal that ends in the middle has taken the manifest, and the step is found by those who look for such. */
static void test_broken_off(void)
{
    struct object_store *store = open_store("broken");
    struct retention_list list = {NULL, 0};
    uint64_t *steps = NULL, objects = 0;
    size_t count = 0;

    put_step(store, "job", 1, 1, true);
    put_step(store, "job", 2, 2, true);
    put_step(store, "job", 30, 3, false);
    setenv("DCACHE_FAILPOINTS", "retention.object=error#2", 1);
    CU_ASSERT(retention_apply(&dg, store, "job", &(struct retention_rule){1, 0}, &list, NULL) != DCACHE_OK);
    unsetenv("DCACHE_FAILPOINTS");
    CU_ASSERT_EQUAL(objects_of(store, "job/1/"), 2);
    CU_ASSERT_EQUAL(retention_find(&dg, store, "job", &list), DCACHE_OK);
    check_list(&list, false, "2");
    CU_ASSERT_EQUAL(retention_find_unfinished(&dg, store, "job", &steps, &count), DCACHE_OK);
    CU_ASSERT_EQUAL_FATAL(count, 2);
    CU_ASSERT_EQUAL(steps[0], 1);
    CU_ASSERT_EQUAL(steps[1], 30);
    free(steps);
    CU_ASSERT_EQUAL(retention_remove(&dg, store, "job", 1, NULL, &objects), DCACHE_OK);
    CU_ASSERT_EQUAL(objects, 2);
    CU_ASSERT_EQUAL(retention_remove(&dg, store, "job", 1, NULL, &objects), DCACHE_OK);
    CU_ASSERT_EQUAL(objects, 0);
    CU_ASSERT_EQUAL(objects_of(store, "job/2/"), 3);
    retention_list_free(&list);
    object_store_close(store);
}

static void test_cancel(void)
{
    struct object_store *store = open_store("cancel");
    struct retention_list list = {NULL, 0};
    atomic_bool cancel;

    atomic_init(&cancel, true);
    put_step(store, "job", 1, 1, true);
    put_step(store, "job", 2, 2, true);
    CU_ASSERT_EQUAL(retention_apply(&dg, store, "job", &(struct retention_rule){1, 0}, &list, &cancel),
                    DCACHE_ERR_CANCELLED);
    CU_ASSERT_EQUAL(objects_of(store, "job/"), 6);
    retention_list_free(&list);
    object_store_close(store);
}

int main(void)
{
    static const struct unit_case cases[] = {
        {"what a rule keeps", test_mark},
        {"removing what it does not keep", test_apply},
        {"a removal that is broken off", test_broken_off},
        {"cancelled", test_cancel},
    };
    return unit_main("retention", cases, UNIT_COUNT(cases));
}
