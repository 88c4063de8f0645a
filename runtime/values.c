#include "runtime/values.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

struct unit {
    const char *suffix;
    int64_t factor;
};

/* Step over the digits at *at. False when there is none or the number is too large. */
static bool parse_digits(const char **at, int64_t *value)
{
    const char *start = *at;
    int64_t number = 0;
    for (; **at >= '0' && **at <= '9'; (*at)++) {
        if (__builtin_mul_overflow(number, 10, &number) || __builtin_add_overflow(number, **at - '0', &number))
            return false;
    }
    *value = number;
    return *at > start;
}

static const struct unit *find_unit(const struct unit *units, size_t count, const char *suffix)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(units[i].suffix, suffix) == 0)
            return &units[i];
    }
    return NULL;
}

bool values_parse_integer(const char *text, int64_t *value)
{
    bool negative = *text == '-';
    const char *at = text + negative;
    int64_t number;
    if (!parse_digits(&at, &number) || *at != '\0')
        return false;
    *value = negative ? -number : number;
    return true;
}

bool values_parse_size(const char *text, int64_t *bytes)
{
    static const struct unit units[] = {
        {"", 1},
        {"k", 1000},
        {"K", 1000},
        {"M", 1000000},
        {"G", 1000000000},
        {"T", 1000000000000},
        {"KiB", INT64_C(1) << 10},
        {"MiB", INT64_C(1) << 20},
        {"GiB", INT64_C(1) << 30},
        {"TiB", INT64_C(1) << 40},
    };
    int64_t number;
    if (!parse_digits(&text, &number))
        return false;
    const struct unit *unit = find_unit(units, sizeof units / sizeof units[0], text);
    if (unit == NULL || __builtin_mul_overflow(number, unit->factor, &number))
        return false;
    *bytes = number;
    return true;
}

/* The digits behind the point, as millionths. */
static bool parse_fraction(const char **at, int64_t *millionths)
{
    *millionths = 0;
    if (**at != '.')
        return true;
    (*at)++;
    int digits = 0;
    for (; **at >= '0' && **at <= '9' && digits < 6; (*at)++, digits++)
        *millionths = *millionths * 10 + (**at - '0');
    bool some = digits > 0;
    for (; digits < 6; digits++)
        *millionths *= 10;
    return some;
}

bool values_parse_duration(const char *text, int64_t *microseconds)
{
    static const struct unit units[] = {
        {"", 1000000}, {"ms", 1000}, {"s", 1000000}, {"m", 60000000}, {"h", 3600000000},
    };
    int64_t whole;
    int64_t millionths;
    if (!parse_digits(&text, &whole) || !parse_fraction(&text, &millionths))
        return false;
    const struct unit *unit = find_unit(units, sizeof units / sizeof units[0], text);
    if (unit == NULL || __builtin_mul_overflow(whole, unit->factor, &whole))
        return false;
    int64_t fraction = millionths * unit->factor / 1000000; /* below 10^6 * 3.6 * 10^9: fits */
    return !__builtin_add_overflow(whole, fraction, microseconds);
}

void values_format_duration(int64_t microseconds, char text[32])
{
    if (microseconds % 1000000 == 0)
        snprintf(text, 32, "%" PRId64 "s", microseconds / 1000000);
    else if (microseconds % 1000 == 0)
        snprintf(text, 32, "%" PRId64 "ms", microseconds / 1000);
    else
        snprintf(text, 32, "%" PRId64 ".%06" PRId64 "s", microseconds / 1000000, microseconds % 1000000);
}
