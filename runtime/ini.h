/**
 * Reads an INI file: `key = value` lines, one section. Blanks around keys and values do not count. A value may stand in
 * double quotes, in which \" and \\ mean " and \. '#' and ';' start a comment at the beginning of a line, and behind a
 * value after a blank.
 */
#ifndef DCACHE_RUNTIME_INI_H
#define DCACHE_RUNTIME_INI_H

#include "io/diag.h"

#define INI_FILE_MAX  (1 << 20) /* bytes */
#define INI_LINE_MAX  4096      /* bytes */
#define INI_WHERE_MAX 256       /* bytes of "file:line", with the terminating zero */

/** One line `key = value`; all of it is valid during the visit only. */
struct ini_entry {
    const char *where; /**< "file:line", for messages */
    int line;
    const char *key;
    const char *value; /**< without the quotes; holds no control character */
};

/** Called for each entry, in the file's order. Not DCACHE_OK stops the reading, which then returns it. */
typedef dcache_status_t (*ini_visitor)(void *context, struct diag *dg, const struct ini_entry *entry);

/**
 * Visit the entries of a file. Entries before the first section header belong to `section`, the only one there may be.
 *
 * @return DCACHE_OK; what the visitor returned; DCACHE_ERR_OPTION (not such a file: the text names file, line, what
 *         stands there and what is expected); DCACHE_ERR_PERMISSION or DCACHE_ERR_IO (it cannot be read)
 */
dcache_status_t ini_read(struct diag *dg, const char *path, const char *section, ini_visitor visit,
                         void *context) DCACHE_MUST_CHECK;

/** "file:line" into `where`. The end of a long path is kept. */
void ini_format_where(const char *path, int line, char where[INI_WHERE_MAX]);

#endif
