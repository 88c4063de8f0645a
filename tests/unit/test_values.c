/* runtime/values.c */
#include "runtime/values.h"
#include "tests/unit/unit.h"

#include <inttypes.h>
#include <locale.h>

struct sample {
    const char *text;
    int64_t value;
};

static void check_good(bool (*parse)(const char *, int64_t *), const struct sample samples[], size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int64_t value = -77;
        if (!parse(samples[i].text, &value) || value != samples[i].value) {
            fprintf(stderr, "\"%s\" was read as %" PRId64 "\n", samples[i].text, value);
            CU_FAIL("a good value was not read");
        }
    }
}

static void check_bad(bool (*parse)(const char *, int64_t *), const char *const samples[], size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int64_t value = -77;
        if (parse(samples[i], &value) || value != -77) {
            fprintf(stderr, "\"%s\" was read as %" PRId64 "\n", samples[i], value);
            CU_FAIL("a bad value was read, or changed the output");
        }
    }
}

static void test_integer(void)
{
    static const struct sample good[] = {
        {"0", 0}, {"-0", 0}, {"007", 7}, {"-12", -12}, {"9223372036854775807", INT64_MAX}};
    static const char *const bad[] = {"",     "-",
                                      "+1",   " 1",
                                      "1 ",   "1.0",
                                      "0x1",  "1e3",
                                      "--1",  "ten",
                                      "1\n2", "9223372036854775808",
                                      "1k",   "99999999999999999999999999"};
    check_good(values_parse_integer, good, UNIT_COUNT(good));
    check_bad(values_parse_integer, bad, UNIT_COUNT(bad));
}

static void test_size(void)
{
    static const struct sample good[] = {
        {"0", 0},
        {"512", 512},
        {"4k", 4000},
        {"4K", 4000},
        {"4KiB", 4096},
        {"3M", 3000000},
        {"3MiB", 3 << 20},
        {"2G", 2000000000},
        {"2GiB", INT64_C(2) << 30},
        {"1T", 1000000000000},
        {"8388607TiB", INT64_C(8388607) << 40},
        {"9223372036854775807", INT64_MAX},
    };
    static const char *const bad[] = {"",           "k",
                                      "-1",         "1.5g",
                                      "1.5G",       "1g",
                                      "1kB",        "1mib",
                                      "1 k",        "1MiBx",
                                      "8388608TiB", "9223372036854775808",
                                      "10000000T",  "9223372036854775807k"};
    check_good(values_parse_size, good, UNIT_COUNT(good));
    check_bad(values_parse_size, bad, UNIT_COUNT(bad));
}

static const struct sample good_durations[] = {
    {"0", 0},
    {"60", 60000000},
    {"60s", 60000000},
    {"250ms", 250000},
    {"1.5s", 1500000},
    {"1.5", 1500000},
    {"0.000001", 1},
    {"2m", 120000000},
    {"0.5h", 1800000000},
    {"24h", 86400000000},
    {"0.25ms", 250},
    {"2562047788h", INT64_C(2562047788) * 3600000000},
};

static void test_duration(void)
{
    static const char *const bad[] = {"",      "s",         "-1s",  "1,5", "1.",          ".5",
                                      "1.5.5", "1 s",       "1sec", "1d",  "1e3",         "inf",
                                      "nan",   "0.0000001", "0x1",  "1S",  "2562047789h", "9223372036854775807s"};
    check_good(values_parse_duration, good_durations, UNIT_COUNT(good_durations));
    check_bad(values_parse_duration, bad, UNIT_COUNT(bad));
}

/* A locale whose decimal mark is a comma changes nothing, if this machine has one. */
static void test_duration_in_other_locale(void)
{
    static const char *const names[] = {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "tr_TR.UTF-8"};
    for (size_t i = 0; i < UNIT_COUNT(names); i++) {
        if (setlocale(LC_ALL, names[i]) != NULL)
            check_good(values_parse_duration, good_durations, UNIT_COUNT(good_durations));
    }
    setlocale(LC_ALL, "C");
}

static void test_format_duration(void)
{
    static const struct sample samples[] = {{"0s", 0},           {"60s", 60000000}, {"250ms", 250000},
                                            {"1500ms", 1500000}, {"0.000001s", 1},  {"2.000250s", 2000250}};
    for (size_t i = 0; i < UNIT_COUNT(samples); i++) {
        char text[32];
        int64_t back = -1;
        values_format_duration(samples[i].value, text);
        CU_ASSERT_STRING_EQUAL(text, samples[i].text);
        CU_ASSERT_TRUE(values_parse_duration(text, &back));
        CU_ASSERT_EQUAL(back, samples[i].value);
    }
    for (int64_t value = 1; value < INT64_C(604800000000); value = value * 3 + 7) {
        char text[32];
        int64_t back = -1;
        values_format_duration(value, text);
        CU_ASSERT_TRUE(values_parse_duration(text, &back));
        CU_ASSERT_EQUAL(back, value);
    }
}

int main(void)
{
    static const struct unit_case cases[] = {
        {"integer", test_integer},
        {"size", test_size},
        {"duration", test_duration},
        {"duration: decimal comma", test_duration_in_other_locale},
        {"format duration", test_format_duration},
    };
    return unit_main("values", cases, UNIT_COUNT(cases));
}
