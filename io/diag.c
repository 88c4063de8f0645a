#include "io/diag.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef DCACHE_FAILPOINTS
#include <signal.h>
#include <time.h>
#endif

/* Room for the text and for "dcache: [job:rank] warning: " before it. */
#define LINE_MAX_BYTES (DIAG_TEXT_MAX + 128)

static const char ellipsis[] = "...";

void diag_init(struct diag *dg, const char *job, int rank, enum diag_level threshold)
{
    memset(dg, 0, sizeof *dg);
    dg->threshold = threshold;
    dg->rank = rank;
    snprintf(dg->job, sizeof dg->job, "%s", job != NULL ? job : "");
}

/* Show at the end of `text` that it was cut; `wanted` is what vsnprintf() returned. */
static void mark_if_cut(char *text, size_t size, int wanted)
{
    if (wanted < 0)
        text[0] = '\0';
    else if ((size_t)wanted >= size)
        memcpy(text + size - sizeof ellipsis, ellipsis, sizeof ellipsis);
}

/* By way of a buffer of its own, because an argument may be dg->text: "cannot open x: %s". */
static void set_text(struct diag *dg, const char *format, va_list arguments) __attribute__((format(printf, 2, 0)));
static void set_text(struct diag *dg, const char *format, va_list arguments)
{
    char text[DIAG_TEXT_MAX];
    int wanted = vsnprintf(text, sizeof text, format, arguments);
    mark_if_cut(text, sizeof text, wanted);
    memcpy(dg->text, text, sizeof text);
}

dcache_status_t diag_fail(struct diag *dg, dcache_status_t status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    set_text(dg, format, arguments);
    va_end(arguments);
    return status;
}

static dcache_status_t status_of_errno(int error_number)
{
    switch (error_number) {
    case ENOSPC:
    case EDQUOT:
        return DCACHE_ERR_NO_SPACE;
    case EACCES:
    case EPERM:
    case EROFS:
        return DCACHE_ERR_PERMISSION;
    case ENOMEM:
        return DCACHE_ERR_NO_MEMORY;
    case EEXIST:
        return DCACHE_ERR_EXISTS;
    default:
        return DCACHE_ERR_IO;
    }
}

dcache_status_t diag_fail_errno(struct diag *dg, int error_number, const char *format, ...)
{
    char why_buffer[128];
    const char *why = strerror_r(error_number, why_buffer, sizeof why_buffer);
    va_list arguments;
    va_start(arguments, format);
    set_text(dg, format, arguments);
    va_end(arguments);

    /* The reason stays readable, however long the text before it is. */
    size_t longest = sizeof dg->text - strlen(": ") - strlen(why) - 1;
    size_t length = strlen(dg->text);
    if (length > longest) {
        memcpy(dg->text + longest - strlen(ellipsis), ellipsis, strlen(ellipsis));
        length = longest;
    }
    snprintf(dg->text + length, sizeof dg->text - length, ": %s", why);
    return status_of_errno(error_number);
}

static const char *level_name(enum diag_level level)
{
    static const char *const names[] = {"error", "warning", "info", "debug"};
    return (unsigned)level < sizeof names / sizeof names[0] ? names[level] : "debug";
}

/* "dcache: [job:rank] warning: ", with as much of [job:rank] as is known. Returns its length. */
static size_t write_prefix(const struct diag *dg, enum diag_level level, char *line, size_t size)
{
    int length;
    if (dg->rank >= 0)
        length = snprintf(line, size, "dcache: [%s:%d] %s: ", dg->job, dg->rank, level_name(level));
    else if (dg->job[0] != '\0')
        length = snprintf(line, size, "dcache: [%s] %s: ", dg->job, level_name(level));
    else
        length = snprintf(line, size, "dcache: %s: ", level_name(level));
    return length < 0 ? 0 : (size_t)length; /* always shorter than a line: job has 64 bytes */
}

void diag_log(struct diag *dg, enum diag_level level, const char *format, ...)
{
    if (level > dg->threshold)
        return;
    int saved_errno = errno;
    char line[LINE_MAX_BYTES];
    size_t start = write_prefix(dg, level, line, sizeof line);
    size_t room = sizeof line - start - 1; /* a byte for the newline */
    va_list arguments;
    va_start(arguments, format);
    int wanted = vsnprintf(line + start, room, format, arguments);
    va_end(arguments);
    mark_if_cut(line + start, room, wanted);

    /* What is logged may come from a file or a server: keep it one line, and terminals safe. */
    size_t length = strlen(line);
    for (size_t i = 0; i < length; i++) {
        if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
            line[i] = ' ';
    }
    line[length++] = '\n';
    if (write(STDERR_FILENO, line, length) < 0) {
        /* Nowhere left to say so. */
    }
    errno = saved_errno;
}

#ifdef DCACHE_FAILPOINTS

enum failpoint_action { FAILPOINT_ERROR, FAILPOINT_ENOSPC, FAILPOINT_KILL, FAILPOINT_DELAY };

/* One entry of DCACHE_FAILPOINTS: name=action[@rank][#n]. */
struct failpoint {
    const char *name;
    size_t name_length;
    enum failpoint_action action;
    long delay_ms;
    long rank; /* -1: every rank */
    long hit;  /* 0: every hit */
};

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
    if (skip_word(at, "error"))
        point->action = FAILPOINT_ERROR;
    else if (skip_word(at, "enospc"))
        point->action = FAILPOINT_ENOSPC;
    else if (skip_word(at, "kill"))
        point->action = FAILPOINT_KILL;
    else if (skip_word(at, "delay:") && parse_number(at, 0, &point->delay_ms))
        point->action = FAILPOINT_DELAY;
    else
        return false;
    return true;
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

static dcache_status_t act(struct diag *dg, const struct failpoint *point)
{
    int length = (int)point->name_length;
    switch (point->action) {
    case FAILPOINT_ERROR:
        return diag_fail(dg, DCACHE_ERR_IO, "failpoint %.*s was set to fail here", length, point->name);
    case FAILPOINT_ENOSPC:
        return diag_fail(dg, DCACHE_ERR_NO_SPACE, "failpoint %.*s was set to have no space here", length, point->name);
    case FAILPOINT_KILL:
        (void)kill(getpid(), SIGKILL);
        break;
    case FAILPOINT_DELAY: {
        struct timespec left = {.tv_sec = point->delay_ms / 1000, .tv_nsec = point->delay_ms % 1000 * 1000000};
        while (nanosleep(&left, &left) != 0 && errno == EINTR) {
        }
        break;
    }
    }
    return DCACHE_OK;
}

/* A misspelt entry fails at every failpoint: a fault that is silently not injected makes a test worthless. */
dcache_status_t diag_failpoint(struct diag *dg, const char *name)
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
                             "error, enospc, kill or delay:MS",
                             entry);
        bool here = strlen(name) == point.name_length && strncmp(name, point.name, point.name_length) == 0;
        if (!here || (point.rank >= 0 && point.rank != dg->rank))
            continue;
        dg->failpoint_hits[i]++;
        if (point.hit == 0 || (unsigned)point.hit == dg->failpoint_hits[i])
            status = act(dg, &point);
    }
    return status;
}

#endif
