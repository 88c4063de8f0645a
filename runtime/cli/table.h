/**
 * Text for people: aligned tables, sizes, times, lists of numbers. Whatever a cell holds, no control character gets to
 * the terminal.
 */
#ifndef DCACHE_RUNTIME_CLI_TABLE_H
#define DCACHE_RUNTIME_CLI_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define TABLE_COLUMNS_MAX 12

/** Cells are added row by row; the first row is the heading. table_print() frees them. */
struct table {
    size_t columns;
    const char *alignment; /**< for each column 'l' or 'r' */
    char **cells;
    size_t count;
    size_t room;
    bool failed; /**< out of memory: some cells are missing */
};

/** Begin a table with the heading in `titles`, one for each letter of `alignment`. */
void table_begin(struct table *table, const char *alignment, const char *const titles[]);
void table_cell(struct table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));
/** Print and free. False when memory ran out, so that something is missing. */
bool table_print(struct table *table, FILE *out);

/** "1.2 GiB"; `text` has 16 bytes. Returns it. */
const char *text_size(uint64_t bytes, char text[16]);
/** Local time, "2025-01-31 12:00:00", or "-" for 0; `text` has 32 bytes. Returns it. */
const char *text_time(int64_t seconds, char text[32]);

/** Ascending numbers written as "1, 3-7, 9"; a long list ends in "...". */
struct number_list {
    char text[160];
    bool pending; /**< the run from first to last is not in text yet */
    uint32_t first;
    uint32_t last;
    uint64_t count; /**< of all numbers */
};
void number_list_add(struct number_list *list, uint32_t number);
/** The numbers from `first` to `last`, both included. */
void number_list_add_run(struct number_list *list, uint32_t first, uint32_t last);
/** Complete and return the text. */
const char *number_list_text(struct number_list *list);

#endif
