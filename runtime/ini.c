#include "runtime/ini.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* How much of a bad line is shown. */
#define SHOWN 60

/* A file being read, and its current line. */
struct reader {
    FILE *file;
    const char *path;
    const char *section;
    size_t bytes; /* read so far */
    int line;
    char where[INI_WHERE_MAX];
    char text[INI_LINE_MAX + 1];
    size_t length;
};

void ini_format_where(const char *path, int line, char where[INI_WHERE_MAX])
{
    const size_t most = INI_WHERE_MAX - 32; /* leaves room for dots and number */
    size_t length = strlen(path);
    if (length > most)
        snprintf(where, INI_WHERE_MAX, "...%s:%d", path + length - most, line);
    else
        snprintf(where, INI_WHERE_MAX, "%s:%d", path, line);
}

/* The file is opened without waiting and must be a regular one, so that a FIFO or a device cannot hold up the job. */
static dcache_status_t open_file(struct diag *dg, const char *path, FILE **file)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return diag_fail_errno(dg, errno, "cannot open the options file %s", path);
    dcache_status_t status = DCACHE_OK;
    struct stat about;
    if (fstat(fd, &about) != 0)
        status = diag_fail_errno(dg, errno, "cannot look at the options file %s", path);
    else if (S_ISDIR(about.st_mode))
        status = diag_fail(dg, DCACHE_ERR_IO, "the options file %s is a directory; name an INI file", path);
    else if (!S_ISREG(about.st_mode))
        status = diag_fail(dg, DCACHE_ERR_IO, "the options file %s is not a regular file; name an INI file", path);
    else if ((*file = fdopen(fd, "r")) == NULL)
        status = diag_fail_errno(dg, errno, "cannot open the options file %s", path);
    if (status != DCACHE_OK)
        close(fd);
    return status;
}

static dcache_status_t check_bytes(struct diag *dg, const struct reader *reader)
{
    for (size_t i = 0; i < reader->length; i++) {
        unsigned char byte = (unsigned char)reader->text[i];
        if ((byte < ' ' && byte != '\t') || byte == 0x7f)
            return diag_fail(dg, DCACHE_ERR_OPTION,
                             "%s: byte %zu of the line is 0x%02x, which no text file holds; is this the right file?",
                             reader->where, i + 1, byte);
    }
    return DCACHE_OK;
}

/* Take away what ends the line, and the byte order mark some editors put before the first one. */
static void strip_marks(struct reader *reader)
{
    static const char mark[] = "\xef\xbb\xbf";
    const size_t mark_length = sizeof mark - 1;
    if (reader->length > 0 && reader->text[reader->length - 1] == '\r')
        reader->length--;
    reader->text[reader->length] = '\0';
    if (reader->line == 1 && reader->length >= mark_length && memcmp(reader->text, mark, mark_length) == 0) {
        reader->length -= mark_length;
        memmove(reader->text, reader->text + mark_length, reader->length + 1);
    }
}

/* Read the next line; `more` becomes false at the end of the file. */
static dcache_status_t next_line(struct diag *dg, struct reader *reader, bool *more)
{
    int byte;
    reader->length = 0;
    ini_format_where(reader->path, ++reader->line, reader->where);
    while ((byte = getc(reader->file)) != EOF) {
        if (++reader->bytes > INI_FILE_MAX)
            return diag_fail(dg, DCACHE_ERR_OPTION, "%s: the file is larger than %d bytes; is this the right file?",
                             reader->where, INI_FILE_MAX);
        if (byte == '\n')
            break;
        if (reader->length == INI_LINE_MAX)
            return diag_fail(dg, DCACHE_ERR_OPTION, "%s: the line is longer than %d bytes", reader->where,
                             INI_LINE_MAX);
        reader->text[reader->length++] = (char)byte;
    }
    if (ferror(reader->file))
        return diag_fail_errno(dg, errno, "%s: cannot read on", reader->where);
    *more = byte == '\n' || reader->length > 0;
    strip_marks(reader);
    return check_bytes(dg, reader);
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static char *skip_blanks(char *text)
{
    while (is_blank(*text))
        text++;
    return text;
}

/* Nothing, or a comment. */
static bool is_end(const char *text)
{
    return *text == '\0' || *text == '#' || *text == ';';
}

static void trim_end(char *text)
{
    size_t length = strlen(text);
    while (length > 0 && is_blank(text[length - 1]))
        text[--length] = '\0';
}

static dcache_status_t check_section(struct diag *dg, const struct reader *reader, char *text)
{
    char *end = strchr(text, ']');
    if (end == NULL || !is_end(skip_blanks(end + 1)))
        return diag_fail(dg, DCACHE_ERR_OPTION, "%s: \"%.*s\" is no section header; the only one is [%s]",
                         reader->where, SHOWN, text, reader->section);
    *end = '\0';
    char *name = skip_blanks(text + 1);
    trim_end(name);
    if (strcmp(name, reader->section) != 0)
        return diag_fail(dg, DCACHE_ERR_OPTION, "%s: unknown section [%.*s]; the only one is [%s]", reader->where,
                         SHOWN, name, reader->section);
    return DCACHE_OK;
}

/* Take the quotes off the value at `text`, which starts with one, in place. */
static dcache_status_t unquote(struct diag *dg, const struct reader *reader, const char *key, char *text)
{
    char *from = text + 1;
    char *to = text;
    for (; *from != '"'; from++) {
        if (*from == '\\' && (from[1] == '"' || from[1] == '\\'))
            from++;
        else if (*from == '\\')
            return diag_fail(dg, DCACHE_ERR_OPTION,
                             "%s: value of %.*s: in quotes, a \\ must stand before \" or \\; write \\\\ for one \\",
                             reader->where, SHOWN, key);
        if (*from == '\0')
            return diag_fail(dg, DCACHE_ERR_OPTION, "%s: value of %.*s: the closing quote is missing", reader->where,
                             SHOWN, key);
        *to++ = *from;
    }
    char *rest = skip_blanks(from + 1);
    if (!is_end(rest))
        return diag_fail(dg, DCACHE_ERR_OPTION, "%s: value of %.*s: \"%.*s\" stands behind the closing quote",
                         reader->where, SHOWN, key, SHOWN, rest);
    *to = '\0';
    return DCACHE_OK;
}

/* Cut an unquoted value at a comment, and at the blanks before it. */
static void cut_comment(char *text)
{
    for (char *at = text; *at != '\0'; at++) {
        if ((*at == '#' || *at == ';') && (at == text || is_blank(at[-1])))
            *at = '\0';
        if (*at == '\0')
            break;
    }
    trim_end(text);
}

static dcache_status_t visit_line(struct diag *dg, struct reader *reader, ini_visitor visit, void *context)
{
    char *key = skip_blanks(reader->text);
    if (is_end(key))
        return DCACHE_OK;
    if (*key == '[')
        return check_section(dg, reader, key);

    char *equals = strchr(key, '=');
    if (equals == NULL || equals == key)
        return diag_fail(dg, DCACHE_ERR_OPTION, "%s: \"%.*s\" is not of the form key = value", reader->where, SHOWN,
                         key);
    *equals = '\0';
    trim_end(key);
    char *value = skip_blanks(equals + 1);
    dcache_status_t status = DCACHE_OK;
    if (*value == '"')
        status = unquote(dg, reader, key, value);
    else
        cut_comment(value);
    if (status != DCACHE_OK)
        return status;
    struct ini_entry entry = {.where = reader->where, .line = reader->line, .key = key, .value = value};
    return visit(context, dg, &entry);
}

dcache_status_t ini_read(struct diag *dg, const char *path, const char *section, ini_visitor visit, void *context)
{
    struct reader reader = {.path = path, .section = section};
    dcache_status_t status = open_file(dg, path, &reader.file);
    if (status != DCACHE_OK)
        return status;
    bool more = true;
    while (status == DCACHE_OK && more) {
        status = next_line(dg, &reader, &more);
        if (status == DCACHE_OK && more)
            status = visit_line(dg, &reader, visit, context);
    }
    fclose(reader.file);
    return status;
}
