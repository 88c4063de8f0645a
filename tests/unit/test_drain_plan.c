/* io/drain_plan.c and io/run_info.c: documents in a node store, and what is not believed of them. */
#include "io/drain.h"
#include "io/run_info.h"
#include "tests/unit/unit.h"

#include <sys/stat.h>

static struct diag dg;

static void setup(struct node_store *store, const char *name)
{
    char root[600];
    diag_init(&dg, "job", -1, DIAG_ERROR);
    snprintf(root, sizeof root, "%s/%s", unit_scratch(), name);
    CU_ASSERT_EQUAL_FATAL(mkdir(root, 0700), 0);
    CU_ASSERT_EQUAL_FATAL(node_store_open(&dg, root, "job", 0, true, store), DCACHE_OK);
}

static void test_plan(void)
{
    struct node_store store;
    struct drain_plan back;
    setup(&store, "plan");
    CU_ASSERT_EQUAL(drain_plan_read(&dg, &store, &back), DCACHE_NOT_FOUND);
    uint32_t ranks[] = {0, 3, 2147483646};
    struct drain_plan plan = {.world_size = 2147483647, .drain_every = 7, .rank_count = 3, .ranks = ranks};
    snprintf(plan.store_url, sizeof plan.store_url, "https://account.blob.core.windows.net/c/p");
    CU_ASSERT_EQUAL(drain_plan_write(&dg, &store, &plan), DCACHE_OK);
    CU_ASSERT_EQUAL_FATAL(drain_plan_read(&dg, &store, &back), DCACHE_OK);
    CU_ASSERT_STRING_EQUAL(back.store_url, plan.store_url);
    CU_ASSERT(back.world_size == plan.world_size && back.drain_every == 7 && back.rank_count == 3);
    CU_ASSERT_EQUAL(memcmp(back.ranks, ranks, sizeof ranks), 0);
    drain_plan_free(&back);
    plan.rank_count = 0;
    plan.store_url[0] = '\0';
    CU_ASSERT_EQUAL(drain_plan_write(&dg, &store, &plan), DCACHE_OK);
    CU_ASSERT_EQUAL_FATAL(drain_plan_read(&dg, &store, &back), DCACHE_OK);
    CU_ASSERT(back.rank_count == 0 && back.store_url[0] == '\0');
    drain_plan_free(&back);
    node_store_close(&store);
}

static void test_hostile_plan(void)
{
#define PLAN(rest) "{\"format\": \"dcache-plan\", \"version\": 1, \"store_url\": \"file:///x\", " rest "}"
    static const char *const hostile[] = {
        "",
        "{}",
        "{\"format\": \"dcache-run\", \"version\": 1}",
        PLAN("\"world_size\": 4, \"drain_every\": 1"),
        PLAN("\"world_size\": 4, \"drain_every\": -1, \"ranks\": []"),
        PLAN("\"world_size\": 0, \"drain_every\": 1, \"ranks\": []"),
        PLAN("\"world_size\": 4, \"drain_every\": 1, \"ranks\": {}"),
        PLAN("\"world_size\": 4, \"drain_every\": 1, \"ranks\": [4]"),
        PLAN("\"world_size\": 4, \"drain_every\": 1, \"ranks\": [-1]"),
        PLAN("\"world_size\": 4, \"drain_every\": 1, \"ranks\": [1, 1]"),
        PLAN("\"world_size\": 4, \"drain_every\": 1, \"ranks\": [2, 1]"),
        PLAN("\"world_size\": 4, \"drain_every\": 1, \"ranks\": [1.5]"),
        PLAN("\"world_size\": 4, \"drain_every\": 1, \"ranks\": [\"1\"]"),
        PLAN("\"world_size\": 4, \"drain_every\": 1, \"ranks\": [1, null]"),
    };
    struct node_store store;
    struct drain_plan plan;
    setup(&store, "hostile-plan");
    for (size_t i = 0; i < UNIT_COUNT(hostile); i++) {
        CU_ASSERT_EQUAL(node_store_write_text(&dg, &store, "plan.json", hostile[i], strlen(hostile[i])), DCACHE_OK);
        CU_ASSERT_EQUAL(drain_plan_read(&dg, &store, &plan), DCACHE_ERR_CORRUPT);
        CU_ASSERT_PTR_NOT_NULL(strstr(dg.text, "plan.json"));
    }
    const char *newer = "{\"format\": \"dcache-plan\", \"version\": 2}";
    CU_ASSERT_EQUAL(node_store_write_text(&dg, &store, "plan.json", newer, strlen(newer)), DCACHE_OK);
    CU_ASSERT_EQUAL(drain_plan_read(&dg, &store, &plan), DCACHE_ERR_FORMAT);
    node_store_close(&store);
}

static void test_run_info(void)
{
    struct node_store store;
    struct run_info back;
    struct run_info info = {.world_size = 4, .node_count = 2, .node = 1, .pid = 4711, .started = 1700000000};
    setup(&store, "run");
    CU_ASSERT_EQUAL(run_info_read(&dg, &store, &back), DCACHE_NOT_FOUND);
    snprintf(info.job, sizeof info.job, "job");
    snprintf(info.node_name, sizeof info.node_name, "n\033[2J\xff");
    snprintf(info.transport, sizeof info.transport, "one-sided");
    snprintf(info.transport_reason, sizeof info.transport_reason, "\"quotes\"\nand lines");
    snprintf(info.store_url, sizeof info.store_url, "file:///x");
    CU_ASSERT_EQUAL(run_info_write(&dg, &store, &info), DCACHE_OK);
    CU_ASSERT_EQUAL_FATAL(run_info_read(&dg, &store, &back), DCACHE_OK);
    CU_ASSERT_STRING_EQUAL(back.job, "job");
    CU_ASSERT_STRING_EQUAL(back.node_name, "n?[2J?");
    CU_ASSERT_STRING_EQUAL(back.transport, "one-sided");
    CU_ASSERT_STRING_EQUAL(back.transport_reason, "\"quotes\"?and lines");
    CU_ASSERT_STRING_EQUAL(back.store_url, "file:///x");
    CU_ASSERT(back.world_size == 4 && back.node_count == 2 && back.node == 1 && back.pid == 4711);
    CU_ASSERT_EQUAL(back.started, 1700000000);
    const char *bad = "{\"format\": \"dcache-run\", \"version\": 1, \"job\": \"x/y\"}";
    CU_ASSERT_EQUAL(node_store_write_text(&dg, &store, "run.json", bad, strlen(bad)), DCACHE_OK);
    CU_ASSERT_EQUAL(run_info_read(&dg, &store, &back), DCACHE_ERR_CORRUPT);
    node_store_close(&store);
}

int main(void)
{
    static const struct unit_case cases[] = {
        {"plan", test_plan},
        {"hostile plan", test_hostile_plan},
        {"run.json", test_run_info},
    };
    return unit_main("drain plan", cases, UNIT_COUNT(cases));
}
