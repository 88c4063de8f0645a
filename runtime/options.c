#include "runtime/options.h"

#include "runtime/ini.h"
#include "runtime/values.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define VARIABLE_PREFIX "DCACHE_"
#define KEY_MAX         32 /* bytes of the longest key, with the terminating zero */
#define ALLOWED_MAX     256
#define SHOWN           80 /* how much of a bad value or key is shown */

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

#define FIELD(name) offsetof(struct options, name)

static const char *const tier_choices[] = {"memory", "ssd", "both", NULL};
static const char *const transport_choices[] = {"auto", "one-sided", "two-sided", NULL};
static const char *const progress_choices[] = {"auto", "thread", "calls", NULL};
static const char *const yes_choices[] = {"no", "yes", NULL};
static const char *const when_full_choices[] = {"block", "skip", "replace", NULL};
static const char *const log_choices[] = {"error", "warning", "info", "debug", NULL};

static const struct option table[] = {
    {.key = "job",
     .type = OPTION_NAME,
     .preset_help = "the program's name",
     .minimum = 1,
     .maximum = 63,
     .offset = FIELD(job),
     .help = "Name under which checkpoints are kept. A relaunch finds them by it, so give each run that must not "
             "continue another one a name of its own."},
    {.key = "component",
     .type = OPTION_NAME,
     .preset = "",
     .maximum = 63,
     .offset = FIELD(component),
     .help = "Part of a coupled program, one per communicator: its checkpoints are kept under job.component, which may "
             "have 63 characters."},
    {.key = "memory_store",
     .type = OPTION_PATH,
     .preset_help = "/dev/shm/dcache-UID",
     .minimum = 1,
     .maximum = OPTIONS_TEXT_MAX - 1,
     .offset = FIELD(memory_store),
     .help = "Directory on each node, on a memory file system, that holds the node stores. It is made with mode 0700 "
             "if it is missing."},
    {.key = "tier",
     .type = OPTION_CHOICE,
     .preset = "memory",
     .choices = tier_choices,
     .offset = FIELD(tier),
     .help = "Where the node stores are: in memory (memory_store); on an SSD (ssd_store), which survives a reboot of "
             "the node, and where a step has its level only when it is on the device; or both: in memory, and each "
             "rank's shards are copied to the SSD behind the computation."},
    {.key = "ssd_store",
     .type = OPTION_PATH,
     .preset = "",
     .maximum = OPTIONS_TEXT_MAX - 1,
     .offset = FIELD(ssd_store),
     .help = "Directory on a local file system of each node for tier = ssd or both. It is made with mode 0700 if it is "
             "missing. A restart looks there whatever the tier is."},
    {.key = "ssd_slots",
     .type = OPTION_INTEGER,
     .preset = "2",
     .unit = "steps",
     .minimum = 2,
     .maximum = 64,
     .offset = FIELD(ssd_slots),
     .help = "With tier = both: how many steps the SSDs keep. Each takes the size of the protected regions there."},
    {.key = "node_size",
     .type = OPTION_INTEGER,
     .preset = "0",
     .unit = "ranks",
     .maximum = 1000000,
     .offset = FIELD(node_size),
     .help = "Treat every so many consecutive ranks of a host as a node of their own, to try a cluster on one machine. "
             "0: the real hosts."},
    {.key = "slots",
     .type = OPTION_INTEGER,
     .preset = "2",
     .unit = "steps",
     .minimum = 2,
     .maximum = 16,
     .offset = FIELD(slots),
     .help = "How many steps the node stores keep. Each takes the size of the protected regions here and once more on "
             "the partner node."},
    {.key = "reserve",
     .type = OPTION_SIZE,
     .preset = "0",
     .unit = "bytes",
     .maximum = INT64_C(1) << 50,
     .offset = FIELD(reserve),
     .help =
         "Size of a rank's protected regions, if you know it: the slots get their memory when the context is opened "
         "instead of during the first checkpoints. 0: then."},
    {.key = "transport",
     .type = OPTION_CHOICE,
     .preset = "auto",
     .choices = transport_choices,
     .offset = FIELD(transport),
     .help = "How shards travel to the partner node: MPI_Put into its store, or messages to a helper thread. auto: a "
             "probe decides when the context is opened."},
    {.key = "progress",
     .type = OPTION_CHOICE,
     .preset = "auto",
     .choices = progress_choices,
     .offset = FIELD(progress),
     .help =
         "Who drives replication after dcache_checkpoint_begin(): a thread of each rank, which needs "
         "MPI_THREAD_MULTIPLE and takes time on a core while it copies, or only dcache_test(), dcache_wait() and the "
         "next checkpoint. auto: a thread where MPI allows it."},
    {.key = "incremental",
     .type = OPTION_CHOICE,
     .preset = "no",
     .choices = yes_choices,
     .offset = FIELD(incremental),
     .help = "Neither copy nor send chunks that are what the slot holds already, as their digests tell. Costs one more "
             "pass over the chunks that did change."},
    {.key = "copy_threads",
     .type = OPTION_INTEGER,
     .preset = "1",
     .unit = "threads",
     .minimum = 1,
     .maximum = 64,
     .offset = FIELD(copy_threads),
     .help = "How many threads of each rank copy and digest during a checkpoint: for few ranks on many cores."},
    {.key = "store",
     .type = OPTION_TEXT,
     .preset = "file://dcache-store",
     .minimum = 1,
     .maximum = OPTIONS_TEXT_MAX - 1,
     .offset = FIELD(store),
     .help =
         "Object store that makes steps durable: file://DIRECTORY, https://ACCOUNT.blob.core.windows.net/CONTAINER, "
         "azure://CONTAINER, or none. Credentials come from the AZURE_STORAGE_* variables, never from here."},
    {.key = "drain_every",
     .type = OPTION_INTEGER,
     .preset = "1",
     .unit = "checkpoints",
     .maximum = 1000000000,
     .offset = FIELD(drain_every),
     .help = "Drain every n-th checkpoint to the object store. 0: none."},
    {.key = "drain_ranks_per_node",
     .type = OPTION_INTEGER,
     .preset = "1",
     .unit = "ranks",
     .minimum = 1,
     .maximum = 1024,
     .offset = FIELD(drain_ranks_per_node),
     .help = "How many ranks of a node drain at the same time."},
    {.key = "drain_nodes",
     .type = OPTION_INTEGER,
     .preset = "0",
     .unit = "nodes",
     .maximum = 1000000,
     .offset = FIELD(drain_nodes),
     .help = "At most so many nodes drain, for an object store that takes no more; raised to what reaches every shard. "
             "0: all nodes."},
    {.key = "when_full",
     .type = OPTION_CHOICE,
     .preset = "block",
     .choices = when_full_choices,
     .offset = FIELD(when_full),
     .help = "What a checkpoint does when every slot holds a step that is still being drained: block until one is "
             "durable, skip the checkpoint, or replace the oldest step, which then never becomes durable."},
    {.key = "store_timeout",
     .type = OPTION_DURATION,
     .preset = "60s",
     .minimum = 100,
     .maximum = 86400000,
     .offset = FIELD(store_timeout),
     .help = "How long one operation of the object store may take with all its retries."},
    {.key = "store_stall",
     .type = OPTION_DURATION,
     .preset = "15s",
     .minimum = 100,
     .maximum = 3600000,
     .offset = FIELD(store_stall),
     .help = "A request to the object store that moves no byte for so long is given up and tried again."},
    {.key = "close_timeout",
     .type = OPTION_DURATION,
     .preset = "600s",
     .maximum = 604800000,
     .offset = FIELD(close_timeout),
     .help = "How long dcache_close() waits for the drain. What is left then is finished by `dcache drain`."},
    {.key = "log",
     .type = OPTION_CHOICE,
     .preset = "warning",
     .choices = log_choices,
     .offset = FIELD(log),
     .help = "Which lines are written to standard error: those of this level and of the graver ones."},
};

#define OPTION_COUNT (sizeof table / sizeof table[0])

/* DCACHE_* variables that are no options. */
static const char *const other_variables[] = {"DCACHE_CONFIG", "DCACHE_FAILPOINTS"};

/* What has been read so far. */
struct loader {
    struct options options;
    int line[OPTION_COUNT]; /* where the file has set it; 0: nowhere */
    bool from_environment[OPTION_COUNT];
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

static void format_variable(const struct option *option, char name[KEY_MAX + sizeof VARIABLE_PREFIX])
{
    int length = snprintf(name, KEY_MAX + sizeof VARIABLE_PREFIX, VARIABLE_PREFIX "%s", option->key);
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

/* What the option may be set to, for messages and help. */
static void format_allowed(const struct option *option, char text[ALLOWED_MAX])
{
    char low[32];
    char high[32];
    switch (option->type) {
    case OPTION_NAME:
        snprintf(text, ALLOWED_MAX, "%" PRId64 " to %" PRId64 " of the characters A-Z a-z 0-9 _ . - (not . or ..)",
                 option->minimum, option->maximum);
        break;
    case OPTION_PATH:
        snprintf(text, ALLOWED_MAX, "an absolute path of at most %" PRId64 " bytes", option->maximum);
        break;
    case OPTION_TEXT:
        snprintf(text, ALLOWED_MAX, "a text of %" PRId64 " to %" PRId64 " bytes", option->minimum, option->maximum);
        break;
    case OPTION_INTEGER:
        snprintf(text, ALLOWED_MAX, "a whole number from %" PRId64 " to %" PRId64, option->minimum, option->maximum);
        break;
    case OPTION_SIZE:
        snprintf(text, ALLOWED_MAX, "a size from %" PRId64 " to %" PRId64 " bytes: " VALUES_SIZE_FORM, option->minimum,
                 option->maximum);
        break;
    case OPTION_DURATION:
        values_format_duration(option->minimum * 1000, low);
        values_format_duration(option->maximum * 1000, high);
        snprintf(text, ALLOWED_MAX, "a duration from %s to %s: " VALUES_DURATION_FORM, low, high);
        break;
    case OPTION_CHOICE:
        format_choices(option->choices, text, ALLOWED_MAX);
        break;
    }
}

static dcache_status_t fail_value(struct diag *dg, const char *where, const struct option *option, const char *value)
{
    char allowed[ALLOWED_MAX];
    format_allowed(option, allowed);
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
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        if (table[i].preset == NULL)
            continue;
        dcache_status_t status = set_option(dg, "default", &table[i], table[i].preset, options);
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
    size_t above[KEY_MAX + 1];
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
    size_t length = strnlen(text, 2 * KEY_MAX);
    size_t limit = length / 3 + 2; /* more than that is no spelling mistake */
    for (size_t i = 0; i < OPTION_COUNT && length < 2 * KEY_MAX; i++) {
        size_t distance = edit_distance(text, table[i].key);
        if (distance < limit) {
            nearest = &table[i];
            limit = distance;
        }
    }
    return nearest;
}

/* `name` is the variable, or the key in the file. The value is not shown: it might be a secret. */
static dcache_status_t fail_unknown(struct diag *dg, const char *where, const char *name, bool is_variable)
{
    const struct option *nearest = find_nearest(is_variable ? name + strlen(VARIABLE_PREFIX) : name);
    char variable[KEY_MAX + sizeof VARIABLE_PREFIX];
    if (nearest == NULL)
        return diag_fail(dg, DCACHE_ERR_OPTION, "%s: unknown option %.*s; `dcache help options` lists them all", where,
                         SHOWN, name);
    format_variable(nearest, variable);
    return diag_fail(dg, DCACHE_ERR_OPTION,
                     "%s: unknown option %.*s; did you mean %s? `dcache help options` lists them all", where, SHOWN,
                     name, is_variable ? variable : nearest->key);
}

static const struct option *find_option(const char *key)
{
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        if (strcmp(table[i].key, key) == 0)
            return &table[i];
    }
    return NULL;
}

static dcache_status_t visit_entry(void *context, struct diag *dg, const struct ini_entry *entry)
{
    struct loader *loader = context;
    const struct option *option = find_option(entry->key);
    if (option == NULL)
        return fail_unknown(dg, entry->where, entry->key, false);
    int *line = &loader->line[option - table];
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
    if (strncmp(entry, VARIABLE_PREFIX, strlen(VARIABLE_PREFIX)) != 0)
        return DCACHE_OK;
    snprintf(name, sizeof name, "%.*s", (int)strcspn(entry, "="), entry);
    for (size_t i = 0; i < sizeof other_variables / sizeof other_variables[0]; i++) {
        if (strcmp(name, other_variables[i]) == 0)
            return DCACHE_OK;
    }
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        char variable[KEY_MAX + sizeof VARIABLE_PREFIX];
        format_variable(&table[i], variable);
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
    for (size_t i = 0; i < OPTION_COUNT && status == DCACHE_OK; i++) {
        char variable[KEY_MAX + sizeof VARIABLE_PREFIX];
        format_variable(&table[i], variable);
        const char *value = getenv(variable);
        if (value == NULL)
            continue;
        loader->from_environment[i] = true;
        status = set_option(dg, variable, &table[i], value, &loader->options);
    }
    return status;
}

/* What has set the option: variable, line of the file, or "default". */
static void format_origin(const struct loader *loader, const struct option *option, const char *file,
                          char where[INI_WHERE_MAX])
{
    size_t i = (size_t)(option - table);
    if (loader->from_environment[i])
        format_variable(option, where);
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
    const char *tier = tier_choices[options->tier];
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
        *options = loader.options;
    return status;
}

void options_job_name(const struct options *options, char name[64])
{
    const char *dot = options->component[0] != '\0' ? "." : "";
    char whole[sizeof options->job + sizeof options->component];
    snprintf(whole, sizeof whole, "%s%s%s", options->job, dot, options->component);
    snprintf(name, 64, "%.63s", whole); /* options_load() has checked that it fits */
}

static const char *preset_of(const struct option *option)
{
    const char *preset = option->preset != NULL ? option->preset : option->preset_help;
    return preset[0] != '\0' ? preset : "empty";
}

static void print_markdown(FILE *out)
{
    fputs("# Options\n\n"
          "<!-- Written by options_print_help() from the table in runtime/options.c; a test compares them. -->\n\n"
          "Options come from an INI file, the one given to `dcache_open()` or else named by the environment variable\n"
          "`DCACHE_CONFIG`, as lines `key = value` in the section `[dcache]`; and from environment variables, which\n"
          "win. Rank 0 reads both and tells the other ranks. A text may stand in double quotes, `#` and `;` start\n"
          "comments. Whatever is unknown, misspelt, given twice or out of range is an error.\n\n"
          "| key | environment | default | unit | allowed |\n"
          "| --- | --- | --- | --- | --- |\n",
          out);
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        char variable[KEY_MAX + sizeof VARIABLE_PREFIX];
        char allowed[ALLOWED_MAX];
        format_variable(&table[i], variable);
        format_allowed(&table[i], allowed);
        fprintf(out, "| `%s` | `%s` | %s | %s | %s |\n", table[i].key, variable, preset_of(&table[i]),
                table[i].unit != NULL ? table[i].unit : "", allowed);
    }
    for (size_t i = 0; i < OPTION_COUNT; i++)
        fprintf(out, "\n## %s\n\n%s\n", table[i].key, table[i].help);
}

/* Print words in columns `indent` to 100; the first line stands at `indent` already. */
static void print_wrapped(FILE *out, int indent, const char *text)
{
    int column = indent;
    while (*text != '\0') {
        int length = (int)strcspn(text, " ");
        if (column > indent && column + 1 + length > 100) {
            fprintf(out, "\n%*s", indent, "");
            column = indent;
        }
        column += fprintf(out, "%s%.*s", column > indent ? " " : "", length, text);
        text += length;
        text += strspn(text, " ");
    }
    fputc('\n', out);
}

static void print_plain(FILE *out)
{
    const int indent = 24;
    fputs("Options, as `key = value` in the INI file given to dcache_open() or named by DCACHE_CONFIG, or as\n"
          "environment variables DCACHE_KEY, which win.\n",
          out);
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        char allowed[ALLOWED_MAX];
        char facts[ALLOWED_MAX + 128];
        format_allowed(&table[i], allowed);
        snprintf(facts, sizeof facts, "Default: %s%s%s. Allowed: %s.", preset_of(&table[i]),
                 table[i].unit != NULL ? " " : "", table[i].unit != NULL ? table[i].unit : "", allowed);
        fprintf(out, "\n%-*s", indent, table[i].key);
        print_wrapped(out, indent, table[i].help);
        fprintf(out, "%*s", indent, "");
        print_wrapped(out, indent, facts);
    }
}

void options_print_help(FILE *out, bool markdown)
{
    if (markdown)
        print_markdown(out);
    else
        print_plain(out);
}

static void print_quoted(FILE *out, const char *text)
{
    fputc('"', out);
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            fputc('\\', out);
        fputc(*text, out);
    }
    fputc('"', out);
}

static void print_value(FILE *out, const struct option *option, const struct options *options)
{
    const char *field = (const char *)options + option->offset;
    int64_t integer;
    double seconds;
    char duration[32];
    switch (option->type) {
    case OPTION_NAME:
    case OPTION_PATH:
    case OPTION_TEXT:
        print_quoted(out, field);
        break;
    case OPTION_INTEGER:
    case OPTION_SIZE:
        memcpy(&integer, field, sizeof integer);
        fprintf(out, "%" PRId64, integer);
        break;
    case OPTION_DURATION:
        memcpy(&seconds, field, sizeof seconds);
        values_format_duration((int64_t)(seconds * 1e6 + 0.5), duration);
        fputs(duration, out);
        break;
    case OPTION_CHOICE:
        memcpy(&integer, field, sizeof integer);
        fputs(option->choices[integer], out);
        break;
    }
}

void options_print_values(FILE *out, const struct options *options)
{
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        fprintf(out, "%s = ", table[i].key);
        print_value(out, &table[i], options);
        fputc('\n', out);
    }
}
