/* runtime/schedule.c, the part that is arithmetic: the interval between checkpoints and the end of the job's time. */
#include "runtime/schedule.h"
#include "tests/unit/unit.h"

#include <math.h>

/* Time wasted per failure-free second with interval `t`: Daly's model of a run, whose minimum the formula estimates. */
static double waste(double t, double cost, double mtbf)
{
    return mtbf * exp(cost / mtbf) * (exp((t + cost) / mtbf) - 1) / t;
}

/* No other interval wastes noticeably less; and the formula's leading term is Young's. */
static void test_optimum(void)
{
    static const double costs[] = {0.1, 1, 30, 300}, mtbfs[] = {3600, 86400, 3.15e7};

    for (size_t c = 0; c < UNIT_COUNT(costs); c++) {
        for (size_t m = 0; m < UNIT_COUNT(mtbfs); m++) {
            double best = schedule_optimum(costs[c], mtbfs[m]);
            CU_ASSERT(best > 0);
            for (double factor = 0.25; factor < 4.5; factor *= 1.1)
                CU_ASSERT(waste(best, costs[c], mtbfs[m]) <= waste(best * factor, costs[c], mtbfs[m]) * 1.0005);
        }
    }
    double young = sqrt(2 * 0.001 * 1e9);
    CU_ASSERT(fabs(schedule_optimum(0.001, 1e9) / young - 1) < 1e-4);
    CU_ASSERT_DOUBLE_EQUAL(schedule_optimum(5000, 1000), 1000, 0); /* it fails before a checkpoint is done */
    CU_ASSERT_DOUBLE_EQUAL(schedule_optimum(0, 1000), 0, 1e-9);
}

static void test_interval(void)
{
    struct options options = {.interval = 0, .mtbf = 0};

    CU_ASSERT_DOUBLE_EQUAL(schedule_interval(&options, -1, 4), 600, 0);
    CU_ASSERT_DOUBLE_EQUAL(schedule_interval(&options, 100, 4), 600, 0);
    options.mtbf = 4e6;
    CU_ASSERT_DOUBLE_EQUAL(schedule_interval(&options, 10, 4), schedule_optimum(10, 1e6), 1e-9);
    CU_ASSERT_DOUBLE_EQUAL(schedule_interval(&options, 10, 400), schedule_optimum(10, 1e4), 1e-9);
    CU_ASSERT_DOUBLE_EQUAL(schedule_interval(&options, -1, 4), 600, 0); /* the first one soon: it tells the cost */
    CU_ASSERT(schedule_interval(&options, -1, 4000) < 60);
    options.interval = 33;
    CU_ASSERT_DOUBLE_EQUAL(schedule_interval(&options, 10, 4), 33, 0);
}

static void test_time(void)
{
    static const char *const bad[] = {"", "0", "-5", "soon", "1700000000x", "1.5", "99999999999999", "NONE"};
    int64_t seconds = 77;

    for (size_t i = 0; i < UNIT_COUNT(bad); i++)
        CU_ASSERT_FALSE(schedule_parse_time(bad[i], &seconds));
    CU_ASSERT_EQUAL(seconds, 77);
    CU_ASSERT_TRUE(schedule_parse_time("1700000000", &seconds));
    CU_ASSERT_EQUAL(seconds, 1700000000);
}

int main(void)
{
    static const struct unit_case cases[] = {
        {"the optimum wastes least", test_optimum},
        {"which interval is kept", test_interval},
        {"the end of the job", test_time},
    };
    return unit_main("schedule", cases, UNIT_COUNT(cases));
}
