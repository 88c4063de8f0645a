/* diag_failpoint(): what DCACHE_FAILPOINTS asks for is done where it asks for it. In test builds only. */
#include "io/failpoints.h"

#include "io/diag.h"

#ifdef DCACHE_FAILPOINTS

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* One entry of DCACHE_FAILPOINTS: name=action[@rank][#n]. */
struct failpoint {
    const char *name;
    size_t name_length;
    enum failpoint_action action;
    long delay_ms;
    long rank; /* -1: every rank */
    long hit;  /* 0: every hit */
};

static const struct {
    const char *name;
    unsigned actions;
} registry[] = {
#define FAILPOINT_ROW(name, actions) {name, actions},
    FAILPOINT_MAP(FAILPOINT_ROW)
#undef FAILPOINT_ROW
};

static const struct {
    const char *word;
    enum failpoint_action action;
} words[] = {{"error", FAILPOINT_ERROR},  {"enospc", FAILPOINT_ENOSPC},   {"kill", FAILPOINT_KILL},
             {"delay:", FAILPOINT_DELAY}, {"corrupt", FAILPOINT_CORRUPT}, {"short", FAILPOINT_SHORT}};

/* Step over `word` at *at, if it is there. */
static bool skip_word(const char **at, const char *word)
{
    size_t length = strlen(word);
    if (strncmp(*at, word, length) != 0)
        return false;
    *at += length;
    return true;
}

static bool parse_number(const char **at, long minimum, long *value)
{
    long number = 0;
    const char *start = *at;
    for (; **at >= '0' && **at <= '9' && number < 100000000; (*at)++)
        number = number * 10 + (**at - '0');
    *value = number;
    return *at > start && number >= minimum;
}

static bool parse_action(const char **at, struct failpoint *point)
{
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (!skip_word(at, words[i].word))
            continue;
        point->action = words[i].action;
        return point->action != FAILPOINT_DELAY || parse_number(at, 0, &point->delay_ms);
    }
    return false;
}

static bool is_named(const struct failpoint *point, const char *name)
{
    return strlen(name) == point->name_length && strncmp(name, point->name, point->name_length) == 0;
}

static bool is_registered(const struct failpoint *point)
{
    for (size_t i = 0; i < sizeof registry / sizeof registry[0]; i++) {
        if (is_named(point, registry[i].name))
            return (registry[i].actions & point->action) != 0;
    }
    return false;
}

/* Parse the entry at *at and step over it and over the comma behind it. */
static bool parse_failpoint(const char **at, struct failpoint *point)
{
    size_t name_length = strcspn(*at, "=,@#");
    *point = (struct failpoint){.name = *at, .name_length = name_length, .rank = -1};
    *at += name_length;
    if (name_length == 0 || !skip_word(at, "=") || !parse_action(at, point))
        return false;
    if (skip_word(at, "@") && !parse_number(at, 0, &point->rank))
        return false;
    if (skip_word(at, "#") && !parse_number(at, 1, &point->hit))
        return false;
    return **at == '\0' || skip_word(at, ",");
}

/* A line in the file that DCACHE_FAILPOINTS_LOG names: so a test knows that what it asked for has happened. */
static void log_act(const struct diag *dg, const struct failpoint *point)
{
    const char *path = getenv("DCACHE_FAILPOINTS_LOG");
    char line[128];
    const char *action = "";
    if (path == NULL)
        return;
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        action = words[i].action == point->action ? words[i].word : action;
    int length = snprintf(line, sizeof line, "%.*s %s %d\n", (int)point->name_length, point->name, action, dg->rank);
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, S_IRUSR | S_IWUSR);
    if (fd >= 0 && write(fd, line, (size_t)length) != (ssize_t)length)
        fprintf(stderr, "cannot write %s\n", path);
    if (fd >= 0)
        (void)close(fd);
}

static void wait_ms(long delay_ms)
{
    struct timespec left = {.tv_sec = delay_ms / 1000, .tv_nsec = delay_ms % 1000 * 1000000};
    while (nanosleep(&left, &left) != 0 && errno == EINTR) {
    }
}

static dcache_status_t act(struct diag *dg, const struct failpoint *point, unsigned char *data, size_t *bytes)
{
    int length = (int)point->name_length;
    log_act(dg, point);
    switch (point->action) {
    case FAILPOINT_ERROR:
        return diag_fail(dg, DCACHE_ERR_IO, "failpoint %.*s was set to fail here", length, point->name);
    case FAILPOINT_ENOSPC:
        return diag_fail(dg, DCACHE_ERR_NO_SPACE, "failpoint %.*s was set to have no space here", length, point->name);
    case FAILPOINT_KILL:
        (void)kill(getpid(), SIGKILL);
        break;
    case FAILPOINT_DELAY:
        wait_ms(point->delay_ms);
        break;
    case FAILPOINT_CORRUPT:
        if (data != NULL && *bytes > 0)
            data[*bytes / 2] ^= 0x10;
        break;
    case FAILPOINT_SHORT:
        if (bytes != NULL)
            *bytes /= 2;
        break;
    }
    return DCACHE_OK;
}

/* A misspelt entry fails at every failpoint: a fault that is silently not injected makes a test worthless. */
dcache_status_t diag_failpoint_data(struct diag *dg, const char *name, void *data, size_t *bytes)
{
    const size_t most = sizeof dg->failpoint_hits / sizeof dg->failpoint_hits[0];
    const char *at = getenv("DCACHE_FAILPOINTS");
    dcache_status_t status = DCACHE_OK;
    for (size_t i = 0; at != NULL && *at != '\0' && status == DCACHE_OK; i++) {
        const char *entry = at;
        struct failpoint point;
        if (i == most)
            return diag_fail(dg, DCACHE_ERR_OPTION, "DCACHE_FAILPOINTS has more than %zu entries", most);
        if (!parse_failpoint(&at, &point))
            return diag_fail(dg, DCACHE_ERR_OPTION,
                             "DCACHE_FAILPOINTS: \"%s\" is not name=action[@rank][#n] with an action of "
                             "error, enospc, kill, delay:MS, corrupt or short",
                             entry);
        if (!is_registered(&point))
            return diag_fail(dg, DCACHE_ERR_OPTION,
                             "DCACHE_FAILPOINTS: \"%s\": io/failpoints.h has no such place, or not that action there",
                             entry);
        if (!is_named(&point, name) || (point.rank >= 0 && point.rank != dg->rank))
            continue;
        dg->failpoint_hits[i]++;
        if (point.hit == 0 || (unsigned)point.hit == dg->failpoint_hits[i])
            status = act(dg, &point, data, bytes);
    }
    return status;
}

dcache_status_t diag_failpoint(struct diag *dg, const char *name)
{
    return diag_failpoint_data(dg, name, NULL, NULL);
}

#endif
