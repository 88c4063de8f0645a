#include "runtime/options_table.h"

#include "runtime/ini.h"
#include "runtime/values.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SHOWN 80 /* how much of a bad value or key is shown */

/* DCACHE_* variables that are no options. */
static const char *const other_variables[] = {"DCACHE_CONFIG", "DCACHE_FAILPOINTS", "DCACHE_FAILPOINTS_LOG"};

/* What has been read so far. */
struct loader {
    struct options options;
    int line[OPTIONS_COUNT_MAX]; /* where the file has set it; 0: nowhere */
    bool from_environment[OPTIONS_COUNT_MAX];
};

static char *text_field(struct options *options, const struct option *option)
{
    return (char *)options + option->offset;
}

static int64_t *integer_field(struct options *options, const struct option *option)
{
    return (int64_t *)(void *)((char *)options + option->offset);
}

static double *duration_field(struct options *options, const struct option *option)
{
    return (double *)(void *)((char *)options + option->offset);
}

/* The C library's know other letters than these in some locales. */
static char to_upper(char c)
{
    return c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c;
}

void options_format_variable(const struct option *option, char name[OPTIONS_KEY_MAX + sizeof OPTIONS_PREFIX])
{
    int length = snprintf(name, OPTIONS_KEY_MAX + sizeof OPTIONS_PREFIX, OPTIONS_PREFIX "%s", option->key);
    for (int i = 0; i < length; i++)
        name[i] = to_upper(name[i]);
}

/* "block, skip or replace" */
static void format_choices(const char *const *choices, char *text, size_t size)
{
    size_t length = 0;
    text[0] = '\0';
    for (size_t i = 0; choices[i] != NULL && length < size; i++) {
        const char *separator = i == 0 ? "" : choices[i + 1] != NULL ? ", " : " or ";
        length += (size_t)snprintf(text + length, size - length, "%s%s", separator, choices[i]);
    }
}

void options_format_allowed(const struct option *option, char text[OPTIONS_ALLOWED_MAX])
{
    char low[32];
    char high[32];
    switch (option->type) {
    case OPTION_NAME:
        snprintf(text, OPTIONS_ALLOWED_MAX,
                 "%" PRId64 " to %" PRId64 " of the characters A-Z a-z 0-9 _ . - (not . or ..)", option->minimum,
                 option->maximum);
        break;
    case OPTION_PATH:
        snprintf(text, OPTIONS_ALLOWED_MAX, "an absolute path of at most %" PRId64 " bytes", option->maximum);
        break;
    case OPTION_TEXT:
        snprintf(text, OPTIONS_ALLOWED_MAX, "a text of %" PRId64 " to %" PRId64 " bytes", option->minimum,
                 option->maximum);
        break;
    case OPTION_INTEGER:
        snprintf(text, OPTIONS_ALLOWED_MAX, "a whole number from %" PRId64 " to %" PRId64, option->minimum,
                 option->maximum);
        break;
    case OPTION_SIZE:
        snprintf(text, OPTIONS_ALLOWED_MAX, "a size from %" PRId64 " to %" PRId64 " bytes: " VALUES_SIZE_FORM,
                 option->minimum, option->maximum);
        break;
    case OPTION_DURATION:
        values_format_duration(option->minimum * 1000, low);
        values_format_duration(option->maximum * 1000, high);
        snprintf(text, OPTIONS_ALLOWED_MAX, "a duration from %s to %s: " VALUES_DURATION_FORM, low, high);
        break;
    case OPTION_CHOICE:
        format_choices(option->choices, text, OPTIONS_ALLOWED_MAX);
        break;
    }
}

static dcache_status_t fail_value(struct diag *dg, const char *where, const struct option *option, const char *value)
{
    char allowed[OPTIONS_ALLOWED_MAX];
    options_format_allowed(option, allowed);
    /* A query may be a shared access signature: a secret, which must not reach the log. */
    size_t shown = option->type == OPTION_TEXT ? strcspn(value, "?") : strlen(value);
    const char *cut = value[shown] != '\0' || shown > SHOWN ? "..." : "";
    return diag_fail(dg, DCACHE_ERR_OPTION, "%s: %s = \"%.*s%s\" is not possible; allowed: %s", where, option->key,
                     (int)(shown > SHOWN ? SHOWN : shown), value, cut, allowed);
}

/* Those a name may have. */
static const char name_characters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";

static bool is_name(const char *text)
{
    return text[strspn(text, name_characters)] == '\0' && strcmp(text, ".") != 0 && strcmp(text, "..") != 0;
}

static bool has_control_character(const char *text)
{
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text < ' ' || *text == 0x7f)
            return true;
    }
    return false;
}

static bool set_text(const struct option *option, const char *value, struct options *options)
{
    size_t length = strlen(value);
    if (length < (size_t)option->minimum || length > (size_t)option->maximum || has_control_character(value))
        return false;
    if (option->type == OPTION_NAME && !is_name(value))
        return false;
    if (option->type == OPTION_PATH && length > 0 && value[0] != '/')
        return false;
    /* Zeros up to the end: equal options are equal bytes, and nothing of an earlier value is broadcast. */
    char *field = text_field(options, option);
    memset(field, 0, (size_t)option->maximum + 1);
    memcpy(field, value, length);
    return true;
}

static bool set_integer(const struct option *option, const char *value, struct options *options)
{
    int64_t number;
    bool good = option->type == OPTION_SIZE ? values_parse_size(value, &number) : values_parse_integer(value, &number);
    if (!good || number < option->minimum || number > option->maximum)
        return false;
    *integer_field(options, option) = number;
    return true;
}

static bool set_duration(const struct option *option, const char *value, struct options *options)
{
    int64_t microseconds;
    if (!values_parse_duration(value, &microseconds) || microseconds < option->minimum * 1000 ||
        microseconds > option->maximum * 1000)
        return false;
    *duration_field(options, option) = (double)microseconds / 1e6;
    return true;
}

static bool set_choice(const struct option *option, const char *value, struct options *options)
{
    for (int64_t i = 0; option->choices[i] != NULL; i++) {
        if (strcmp(option->choices[i], value) == 0) {
            *integer_field(options, option) = i;
            return true;
        }
    }
    return false;
}

static dcache_status_t set_option(struct diag *dg, const char *where, const struct option *option, const char *value,
                                  struct options *options)
{
    bool good = false;
    switch (option->type) {
    case OPTION_NAME:
    case OPTION_PATH:
    case OPTION_TEXT:
        good = set_text(option, value, options);
        break;
    case OPTION_INTEGER:
    case OPTION_SIZE:
        good = set_integer(option, value, options);
        break;
    case OPTION_DURATION:
        good = set_duration(option, value, options);
        break;
    case OPTION_CHOICE:
        good = set_choice(option, value, options);
        break;
    }
    return good ? DCACHE_OK : fail_value(dg, where, option, value);
}

/* The name of the program's file, with what a job's name cannot have replaced. */
static void default_job(char job[64])
{
    static const char deleted_mark[] = " (deleted)"; /* the kernel's, when the program was built anew meanwhile */
    char path[4096];
    memset(job, 0, 64);
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    path[length > 0 ? length : 0] = '\0';
    const size_t mark_length = strlen(deleted_mark);
    if (length > (ssize_t)mark_length && strcmp(path + (size_t)length - mark_length, deleted_mark) == 0)
        path[(size_t)length - mark_length] = '\0';
    const char *slash = strrchr(path, '/');
    snprintf(job, 64, "%.63s", slash != NULL ? slash + 1 : path);
    for (char *at = job + strspn(job, name_characters); *at != '\0'; at += strspn(at, name_characters))
        *at = '_';
    if (job[0] == '\0' || !is_name(job))
        memcpy(job, "job", sizeof "job");
}

static dcache_status_t set_defaults(struct diag *dg, struct options *options)
{
    memset(options, 0, sizeof *options);
    default_job(options->job);
    snprintf(options->memory_store, sizeof options->memory_store, "/dev/shm/dcache-%lu", (unsigned long)geteuid());
    for (size_t i = 0; options_table[i].key != NULL; i++) {
        if (options_table[i].preset == NULL)
            continue;
        dcache_status_t status = set_option(dg, "default", &options_table[i], options_table[i].preset, options);
        if (status != DCACHE_OK)
            return status;
    }
    return DCACHE_OK;
}

static size_t smallest(size_t a, size_t b, size_t c)
{
    size_t least = a < b ? a : b;
    return least < c ? least : c;
}

/* How many letters must be put in, taken out or changed to make `key` of `text`; upper and lower case are the same. */
static size_t edit_distance(const char *text, const char *key)
{
    size_t above[OPTIONS_KEY_MAX + 1];
    size_t key_length = strlen(key);
    for (size_t k = 0; k <= key_length; k++)
        above[k] = k;
    for (size_t t = 0; text[t] != '\0'; t++) {
        size_t diagonal = above[0];
        above[0] = t + 1;
        for (size_t k = 0; k < key_length; k++) {
            size_t differs = to_upper(text[t]) != to_upper(key[k]);
            size_t least = smallest(diagonal + differs, above[k] + 1, above[k + 1] + 1);
            diagonal = above[k + 1];
            above[k + 1] = least;
        }
    }
    return above[key_length];
}

/* The key that was meant, or NULL when none is near. */
static const struct option *find_nearest(const char *text)
{
    const struct option *nearest = NULL;
    size_t length = strnlen(text, 2 * OPTIONS_KEY_MAX);
    size_t limit = length / 3 + 2; /* more than that is no spelling mistake */
    for (size_t i = 0; options_table[i].key != NULL && length < 2 * OPTIONS_KEY_MAX; i++) {
        size_t distance = edit_distance(text, options_table[i].key);
        if (distance < limit) {
            nearest = &options_table[i];
            limit = distance;
        }
    }
    return nearest;
}

/* `name` is the variable, or the key in the file. The value is not shown: it might be a secret. */
static dcache_status_t fail_unknown(struct diag *dg, const char *where, const char *name, bool is_variable)
{
    const struct option *nearest = find_nearest(is_variable ? name + strlen(OPTIONS_PREFIX) : name);
    char variable[OPTIONS_KEY_MAX + sizeof OPTIONS_PREFIX];
    if (nearest == NULL)
        return diag_fail(dg, DCACHE_ERR_OPTION, "%s: unknown option %.*s; `dcache help options` lists them all", where,
                         SHOWN, name);
    options_format_variable(nearest, variable);
    return diag_fail(dg, DCACHE_ERR_OPTION,
                     "%s: unknown option %.*s; did you mean %s? `dcache help options` lists them all", where, SHOWN,
                     name, is_variable ? variable : nearest->key);
}

static const struct option *find_option(const char *key)
{
    for (size_t i = 0; options_table[i].key != NULL; i++) {
        if (strcmp(options_table[i].key, key) == 0)
            return &options_table[i];
    }
    return NULL;
}

static dcache_status_t visit_entry(void *context, struct diag *dg, const struct ini_entry *entry)
{
    struct loader *loader = context;
    const struct option *option = find_option(entry->key);
    if (option == NULL)
        return fail_unknown(dg, entry->where, entry->key, false);
    int *line = &loader->line[option - options_table];
    if (*line != 0)
        return diag_fail(dg, DCACHE_ERR_OPTION, "%s: %s = \"%.*s\": the key is given twice, first in line %d; keep one",
                         entry->where, option->key, SHOWN, option->type == OPTION_TEXT ? "..." : entry->value, *line);
    *line = entry->line;
    return set_option(dg, entry->where, option, entry->value, &loader->options);
}

/* Refuse the variable `entry` ("NAME=value") when it looks like an option and is none. */
static dcache_status_t check_variable(struct diag *dg, const char *entry)
{
    char name[128];
    if (strncmp(entry, OPTIONS_PREFIX, strlen(OPTIONS_PREFIX)) != 0)
        return DCACHE_OK;
    snprintf(name, sizeof name, "%.*s", (int)strcspn(entry, "="), entry);
    for (size_t i = 0; i < sizeof other_variables / sizeof other_variables[0]; i++) {
        if (strcmp(name, other_variables[i]) == 0)
            return DCACHE_OK;
    }
    for (size_t i = 0; options_table[i].key != NULL; i++) {
        char variable[OPTIONS_KEY_MAX + sizeof OPTIONS_PREFIX];
        options_format_variable(&options_table[i], variable);
        if (strcmp(name, variable) == 0)
            return DCACHE_OK;
    }
    return fail_unknown(dg, "environment", name, true);
}

static dcache_status_t load_environment(struct diag *dg, struct loader *loader)
{
    dcache_status_t status = DCACHE_OK;
    for (char **entry = environ; entry != NULL && *entry != NULL && status == DCACHE_OK; entry++)
        status = check_variable(dg, *entry);
    for (size_t i = 0; options_table[i].key != NULL && status == DCACHE_OK; i++) {
        char variable[OPTIONS_KEY_MAX + sizeof OPTIONS_PREFIX];
        options_format_variable(&options_table[i], variable);
        const char *value = getenv(variable);
        if (value == NULL)
            continue;
        loader->from_environment[i] = true;
        status = set_option(dg, variable, &options_table[i], value, &loader->options);
    }
    return status;
}

/* What has set the option: variable, line of the file, or "default". */
static void format_origin(const struct loader *loader, const struct option *option, const char *file,
                          char where[INI_WHERE_MAX])
{
    size_t i = (size_t)(option - options_table);
    if (loader->from_environment[i])
        options_format_variable(option, where);
    else if (loader->line[i] != 0)
        ini_format_where(file, loader->line[i], where);
    else
        snprintf(where, INI_WHERE_MAX, "default");
}

/* What no option can check alone. */
static dcache_status_t check_job_name(struct diag *dg, const struct loader *loader, const char *file)
{
    const struct options *options = &loader->options;
    size_t length = strlen(options->job) + 1 + strlen(options->component);
    if (options->component[0] == '\0' || length < sizeof options->job)
        return DCACHE_OK;
    char job_where[INI_WHERE_MAX];
    char component_where[INI_WHERE_MAX];
    format_origin(loader, find_option("job"), file, job_where);
    format_origin(loader, find_option("component"), file, component_where);
    return diag_fail(dg, DCACHE_ERR_OPTION,
                     "%s: component = \"%s\" and job = \"%s\" (%s): job.component has %zu characters, at most %zu are "
                     "allowed; shorten one",
                     component_where, options->component, options->job, job_where, length, sizeof options->job - 1);
}

static size_t path_length(const char *path)
{
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/')
        length--;
    return length;
}

/* The SSD tier needs a directory, and one that is not the memory tier's. */
static dcache_status_t check_tier(struct diag *dg, const struct loader *loader, const char *file)
{
    const struct options *options = &loader->options;
    const char *tier = options->tier == TIER_SSD ? "ssd" : "both";
    char where[INI_WHERE_MAX];
    size_t length = path_length(options->ssd_store);
    if (options->tier == TIER_MEMORY)
        return DCACHE_OK;
    format_origin(loader, find_option("tier"), file, where);
    if (length == 0)
        return diag_fail(dg, DCACHE_ERR_OPTION,
                         "%s: tier = %s needs the option ssd_store: a directory on a local file system of each node",
                         where, tier);
    if (options->tier == TIER_BOTH && length == path_length(options->memory_store) &&
        strncmp(options->ssd_store, options->memory_store, length) == 0)
        return diag_fail(dg, DCACHE_ERR_OPTION, "%s: tier = both needs two directories: ssd_store is memory_store, %s",
                         where, options->memory_store);
    return DCACHE_OK;
}

static dcache_status_t check_key_source(struct diag *dg, const struct loader *loader, const char *file)
{
    char where[INI_WHERE_MAX];
    if (loader->options.encrypt_key_file[0] == '\0' || loader->options.encrypt_key_command[0] == '\0')
        return DCACHE_OK;
    format_origin(loader, find_option("encrypt_key_command"), file, where);
    return diag_fail(dg, DCACHE_ERR_OPTION,
                     "%s: encrypt_key_file and encrypt_key_command are both set: keep the one that gives the key",
                     where);
}

static bool is_url(const char *text)
{
    return strncmp(text, "http://", 7) == 0 || strncmp(text, "https://", 8) == 0;
}

/* A misspelt word must not be taken for something else. */
static dcache_status_t check_sources(struct diag *dg, const struct loader *loader, const char *file)
{
    const char *events = loader->options.events, *domains = loader->options.domains;
    char where[INI_WHERE_MAX];
    if (strcmp(events, "none") != 0 && strcmp(events, "auto") != 0 && !is_url(events)) {
        format_origin(loader, find_option("events"), file, where);
        return diag_fail(dg, DCACHE_ERR_OPTION, "%s: events = \"%.*s\" is not possible; allowed: none, auto or a URL",
                         where, SHOWN, events);
    }
    if (strcmp(domains, "none") != 0 && strcmp(domains, "slurm") != 0 && strcmp(domains, "azure") != 0 &&
        !is_url(domains) && domains[0] != '/') {
        format_origin(loader, find_option("domains"), file, where);
        return diag_fail(dg, DCACHE_ERR_OPTION,
                         "%s: domains = \"%.*s\" is not possible; allowed: none, slurm, azure, a URL or the absolute "
                         "path of a map file",
                         where, SHOWN, domains);
    }
    return DCACHE_OK;
}

dcache_status_t options_load(struct diag *dg, const char *config_file, struct options *options)
{
    struct loader loader = {.line = {0}};
    const char *file = config_file != NULL ? config_file : getenv("DCACHE_CONFIG");
    dcache_status_t status = set_defaults(dg, &loader.options);
    if (status == DCACHE_OK && file != NULL && (config_file != NULL || file[0] != '\0'))
        status = ini_read(dg, file, "dcache", visit_entry, &loader);
    if (status == DCACHE_OK)
        status = load_environment(dg, &loader);
    if (status == DCACHE_OK)
        status = check_job_name(dg, &loader, file);
    if (status == DCACHE_OK)
        status = check_tier(dg, &loader, file);
    if (status == DCACHE_OK)
        status = check_sources(dg, &loader, file);
    if (status == DCACHE_OK)
        status = check_key_source(dg, &loader, file);
    if (status == DCACHE_OK)
        *options = loader.options;
    return status;
}

struct codec_settings options_codec(const struct options *options, const struct codec_key *key)
{
    return (struct codec_settings){.compress = (enum codec_compress)options->compress,
                                   .level = (int)options->compress_level,
                                   .threads = (unsigned)options->compress_threads,
                                   .key = key,
                                   .pack_below = (uint64_t)options->pack_below};
}

void options_job_name(const struct options *options, char name[64])
{
    const char *dot = options->component[0] != '\0' ? "." : "";
    char whole[sizeof options->job + sizeof options->component];
    snprintf(whole, sizeof whole, "%s%s%s", options->job, dot, options->component);
    snprintf(name, 64, "%.63s", whole); /* options_load() has checked that it fits */
}
