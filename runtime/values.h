/**
 * Numbers, sizes and durations as people write them, and back. Whole or decimal numbers only, always with a point,
 * whatever the locale says.
 */
#ifndef DCACHE_RUNTIME_VALUES_H
#define DCACHE_RUNTIME_VALUES_H

#include <stdbool.h>
#include <stdint.h>

/** What values_parse_size() takes, for messages. */
#define VALUES_SIZE_FORM "a whole number of bytes, or one with k, M, G, T (powers of 1000) or KiB, MiB, GiB, TiB"

/** What values_parse_duration() takes, for messages. */
#define VALUES_DURATION_FORM "a number with ms, s, m or h (none: seconds)"

/** A whole number, "-" allowed before it. False (and `value` unchanged): something else, or too large for an int64. */
bool values_parse_integer(const char *text, int64_t *value);

/** A size in bytes: see VALUES_SIZE_FORM. False (and `bytes` unchanged): something else, or too large for an int64. */
bool values_parse_size(const char *text, int64_t *bytes);

/**
 * A duration, in microseconds: see VALUES_DURATION_FORM; at most six digits behind the point. False (and `microseconds`
 * unchanged): something else, or too large for an int64.
 */
bool values_parse_duration(const char *text, int64_t *microseconds);

/** The shortest text that values_parse_duration() reads as the same duration, in seconds or milliseconds. */
void values_format_duration(int64_t microseconds, char text[32]);

#endif
