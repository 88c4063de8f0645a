/* io/pace.c: what may go when, on a clock of our own; and how a drain tells its rate. */
#include "io/drain.h"
#include "tests/unit/unit.h"

#define SECOND 1000000000u

static void test_no_limit(void)
{
    struct pace pace = {.bytes_per_s = 0};
    CU_ASSERT_EQUAL(pace_reserve(&pace, UINT64_MAX, 5), 5);
    CU_ASSERT_EQUAL(pace_reserve(&pace, UINT64_MAX, 4), 4);
    CU_ASSERT_FALSE(pace_over_budget(&pace, UINT64_MAX, 0));
}

static void test_rate(void)
{
    struct pace pace = {.bytes_per_s = 1000};
    CU_ASSERT_EQUAL(pace_reserve(&pace, 500, SECOND), SECOND); /* the first ones go at once */
    CU_ASSERT_EQUAL(pace_reserve(&pace, 2000, SECOND), SECOND + SECOND / 2);
    CU_ASSERT_EQUAL(pace_reserve(&pace, 1000, SECOND + 1), 3ull * SECOND + SECOND / 2);
    CU_ASSERT_EQUAL(pace_reserve(&pace, 1000, 100ull * SECOND), 100ull * SECOND); /* nothing is saved up */
    CU_ASSERT_EQUAL(pace_reserve(&pace, 1000, 100ull * SECOND), 101ull * SECOND);
    pace_lift(&pace);
    CU_ASSERT_EQUAL(pace_reserve(&pace, 1000, 100ull * SECOND), 100ull * SECOND);
}

static void test_extremes(void)
{
    struct pace pace = {.bytes_per_s = 1};
    CU_ASSERT_EQUAL(pace_reserve(&pace, UINT64_MAX, 0), 0);
    uint64_t last = 0;
    for (int i = 0; i < 40; i++) { /* ends at the end of time, and does not begin anew */
        const uint64_t turn = pace_reserve(&pace, UINT64_MAX, 0);
        CU_ASSERT(turn >= last && turn > SECOND);
        last = turn;
    }
    CU_ASSERT_EQUAL(last, UINT64_MAX);
}

static void test_budget(void)
{
    struct pace pace = {.cpu_ns_per_s = SECOND / 20};
    CU_ASSERT_FALSE(pace_over_budget(&pace, 0, 0));
    CU_ASSERT_TRUE(pace_over_budget(&pace, 1, 0));
    CU_ASSERT_FALSE(pace_over_budget(&pace, SECOND / 20, SECOND));
    CU_ASSERT_TRUE(pace_over_budget(&pace, SECOND / 20 + 1000, SECOND));
    CU_ASSERT_FALSE(pace_over_budget(&pace, SECOND, 20ull * SECOND));
    pace_lift(&pace);
    CU_ASSERT_FALSE(pace_over_budget(&pace, SECOND, 0));
}

static void test_report_text(void)
{
    char text[DRAIN_REPORT_MAX];
    const struct drain_report report = {.shards = 3,
                                        .bytes = 2500000,
                                        .seconds = 2,
                                        .cpu_seconds = 0.5,
                                        .traffic = {.requests = 9, .retries = 4, .throttled = 2, .hedged = 1}};
    drain_report_text(&report, text);
    CU_ASSERT_STRING_EQUAL(text,
                           "3 shards, 2.5 MB in 2.0 s (1.2 MB/s, 0.50 CPU s), 9 requests, 4 retries, 2 throttled, "
                           "1 hedged");
}

int main(void)
{
    static const struct unit_case cases[] = {{"no limit", test_no_limit},
                                             {"rate", test_rate},
                                             {"extremes", test_extremes},
                                             {"budget", test_budget},
                                             {"report", test_report_text}};
    return unit_main("pace", cases, UNIT_COUNT(cases));
}
