/* runtime/domains.c, the part that reads: map files and Slurm's addresses. */
#include "runtime/domains.h"
#include "tests/unit/unit.h"

static void check_map(const char *map, const char *node, const char *expected)
{
    char domain[DOMAINS_NAME_MAX] = "unchanged";
    CU_ASSERT_EQUAL(domains_look_up(map, node, domain), expected != NULL);
    CU_ASSERT_STRING_EQUAL(domain, expected != NULL ? expected : "unchanged");
}

static void test_map(void)
{
    const char *map = "# racks\n\n  node-1   rack/1\nnode-2\track/2 # comment\r\nhost/1 a\n#node-4 x\nnode-3 z";

    check_map(map, "node-1", "rack/1");
    check_map(map, "node-2", "rack/2");
    check_map(map, "node-3", "z");
    check_map(map, "node-1.cluster.example", "rack/1");
    check_map(map, "host.example/1", "a");
    check_map(map, "host/2", NULL);
    check_map(map, "host", NULL);
    check_map(map, "node-4", NULL);
    check_map(map, "node", NULL);
    check_map("", "node-1", NULL);
    check_map("node.example one\nnode two\n", "node.example", "one");
}

static void test_bad_maps(void)
{
    static const char *const bad[] = {"a b\nnode\n", "a b\na b c\n", "x y\n  node # rack\n"};
    static const char *const good[] = {"", "\n\n#x\n", "a b", " a\tb # c d\r\n"};
    char longest[600];
    struct diag dg;

    diag_init(&dg, "", -1, DIAG_ERROR);
    for (size_t i = 0; i < UNIT_COUNT(bad); i++) {
        CU_ASSERT_EQUAL(domains_check_map(&dg, "/etc/racks", bad[i]), DCACHE_ERR_OPTION);
        CU_ASSERT_PTR_NOT_NULL(strstr(dg.text, "/etc/racks:2: "));
    }
    for (size_t i = 0; i < UNIT_COUNT(good); i++)
        CU_ASSERT_EQUAL(domains_check_map(&dg, "/etc/racks", good[i]), DCACHE_OK);
    snprintf(longest, sizeof longest, "node %0*d\n", DOMAINS_NAME_MAX, 0);
    CU_ASSERT_EQUAL(domains_check_map(&dg, "/etc/racks", longest), DCACHE_ERR_OPTION);
    check_map(longest, "node", NULL);
    snprintf(longest, sizeof longest, "node %0*d\n", DOMAINS_NAME_MAX - 1, 0);
    CU_ASSERT_EQUAL(domains_check_map(&dg, "/etc/racks", longest), DCACHE_OK);
}

static void test_slurm(void)
{
    static const struct {
        const char *address, *pattern, *expected;
    } cases[] = {
        {"s0.s1.h3", "switch.switch.node", "s0.s1"},
        {"s0.h3", NULL, "s0"},
        {"s0.h3.example", "switch.node", "s0"},
        {"h3", "node", NULL},
        {"h3", NULL, NULL},
        {"h3", "switch.node", NULL},
        {"b1.h3", "block.node", "b1"},
        {".h3", NULL, NULL},
        {"s0.h3", "switch.switch", NULL},
        {"s0.h3", "", "s0"},
    };

    for (size_t i = 0; i < UNIT_COUNT(cases); i++) {
        char domain[DOMAINS_NAME_MAX] = "unchanged";
        CU_ASSERT_EQUAL(domains_parse_slurm(cases[i].address, cases[i].pattern, domain), cases[i].expected != NULL);
        CU_ASSERT_STRING_EQUAL(domain, cases[i].expected != NULL ? cases[i].expected : "unchanged");
    }
}

int main(void)
{
    static const struct unit_case cases[] = {
        {"a map", test_map},
        {"bad maps", test_bad_maps},
        {"Slurm's addresses", test_slurm},
    };
    return unit_main("domains", cases, UNIT_COUNT(cases));
}
