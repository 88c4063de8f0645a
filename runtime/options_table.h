/**
 * Inside of the options: the table, and what the reader (options.c) and the printer (options_print.c) share of it.
 */
#ifndef DCACHE_RUNTIME_OPTIONS_TABLE_H
#define DCACHE_RUNTIME_OPTIONS_TABLE_H

#include "runtime/options.h"

#include <stddef.h>

#define OPTIONS_PREFIX      "DCACHE_"
#define OPTIONS_KEY_MAX     32 /* bytes of the longest key, with the terminating zero */
#define OPTIONS_ALLOWED_MAX 256

enum option_type {
    OPTION_NAME,     /* part of a job's name */
    OPTION_PATH,     /* absolute */
    OPTION_TEXT,     /* any other text */
    OPTION_INTEGER,  /* int64_t */
    OPTION_SIZE,     /* int64_t, bytes */
    OPTION_DURATION, /* double, seconds; minimum and maximum in milliseconds */
    OPTION_CHOICE    /* int64_t, index of the choice */
};

/* One option: everything that parser, help and documentation know of it. */
struct option {
    const char *key;
    enum option_type type;
    const char *preset; /* default, as in a file; NULL: computed, and `preset_help` tells how */
    const char *preset_help;
    const char *unit; /* or NULL */
    int64_t minimum;  /* OPTION_NAME, _PATH, _TEXT: length */
    int64_t maximum;
    const char *const *choices; /* up to NULL, in the order of the enum */
    size_t offset;              /* in struct options */
    const char *help;
};

/** All options, ended by one without a key. */
extern const struct option options_table[];
#define OPTIONS_COUNT_MAX 64

/** The environment variable of an option. */
void options_format_variable(const struct option *option, char name[OPTIONS_KEY_MAX + sizeof OPTIONS_PREFIX]);

/** What the option may be set to, for messages and help. */
void options_format_allowed(const struct option *option, char text[OPTIONS_ALLOWED_MAX]);

#endif
