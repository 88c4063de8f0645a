#include "runtime/cli/table.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Control characters of ASCII, and those of Unicode that terminals obey, which are 0xc2 0x80 to 0xc2 0x9f in UTF-8. */
static void make_safe(char *text)
{
    for (unsigned char *at = (unsigned char *)text; *at != '\0'; at++) {
        if (*at < ' ' || *at == 0x7f)
            *at = '?';
        else if (*at == 0xc2 && at[1] >= 0x80 && at[1] <= 0x9f)
            at[0] = at[1] = '?';
    }
}

/* Takes `text`, which is NULL when memory ran out. */
static void add_cell(struct table *table, char *text)
{
    if (text != NULL && table->count == table->room) {
        size_t wanted = table->room > 0 ? table->room * 2 : 64;
        char **larger = realloc(table->cells, wanted * sizeof *larger);
        if (larger != NULL) {
            table->cells = larger;
            table->room = wanted;
        }
    }
    if (text == NULL || table->count == table->room) {
        free(text);
        table->failed = true;
        return;
    }
    make_safe(text);
    table->cells[table->count++] = text;
}

void table_begin(struct table *table, const char *alignment, const char *const titles[])
{
    memset(table, 0, sizeof *table);
    table->alignment = alignment;
    table->columns = strlen(alignment);
    for (size_t i = 0; i < table->columns; i++)
        add_cell(table, strdup(titles[i]));
}

void table_cell(struct table *table, const char *format, ...)
{
    char *text = NULL;
    va_list arguments;
    va_start(arguments, format);
    if (vasprintf(&text, format, arguments) < 0)
        text = NULL;
    va_end(arguments);
    add_cell(table, text);
}

static void measure(const struct table *table, int widths[TABLE_COLUMNS_MAX])
{
    memset(widths, 0, TABLE_COLUMNS_MAX * sizeof *widths);
    for (size_t i = 0; i < table->count; i++) {
        int length = (int)strlen(table->cells[i]);
        if (length > widths[i % table->columns])
            widths[i % table->columns] = length;
    }
}

bool table_print(struct table *table, FILE *out)
{
    int widths[TABLE_COLUMNS_MAX];
    measure(table, widths);
    for (size_t i = 0; i < table->count; i++) {
        size_t column = i % table->columns;
        bool last = column + 1 == table->columns;
        if (table->alignment[column] == 'r')
            fprintf(out, "%*s", widths[column], table->cells[i]);
        else
            fprintf(out, "%-*s", last ? 0 : widths[column], table->cells[i]);
        fputs(last ? "\n" : "  ", out);
    }
    for (size_t i = 0; i < table->count; i++)
        free(table->cells[i]);
    free(table->cells);
    table->cells = NULL;
    table->count = 0;
    return !table->failed;
}

const char *text_size(uint64_t bytes, char text[16])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 1023.95 && unit + 1 < sizeof units / sizeof units[0]) {
        value /= 1024;
        unit++;
    }
    snprintf(text, 16, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
    return text;
}

const char *text_time(int64_t seconds, char text[32])
{
    time_t when = (time_t)seconds;
    struct tm local;
    if (seconds == 0 || localtime_r(&when, &local) == NULL || strftime(text, 32, "%Y-%m-%d %H:%M:%S", &local) == 0)
        memcpy(text, "-", 2);
    return text;
}

static void append_run(struct number_list *list)
{
    static const char more[] = ", ...";
    size_t length = strlen(list->text);
    char run[32];
    const char *comma = length > 0 ? ", " : "";
    if (length >= sizeof more && strcmp(list->text + length - (sizeof more - 1), more) == 0)
        return;
    if (list->first == list->last)
        snprintf(run, sizeof run, "%s%" PRIu32, comma, list->first);
    else
        snprintf(run, sizeof run, "%s%" PRIu32 "-%" PRIu32, comma, list->first, list->last);
    bool fits = length + strlen(run) + sizeof more <= sizeof list->text;
    snprintf(list->text + length, sizeof list->text - length, "%s", fits ? run : more);
}

void number_list_add_run(struct number_list *list, uint32_t first, uint32_t last)
{
    if (list->pending && first == list->last + 1) {
        list->last = last;
    } else {
        if (list->pending)
            append_run(list);
        list->first = first;
        list->last = last;
        list->pending = true;
    }
    list->count += (uint64_t)last - first + 1;
}

void number_list_add(struct number_list *list, uint32_t number)
{
    number_list_add_run(list, number, number);
}

const char *number_list_text(struct number_list *list)
{
    if (list->pending)
        append_run(list);
    list->pending = false;
    return list->text;
}
