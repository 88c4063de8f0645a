#include "io/diag.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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
