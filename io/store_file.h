/**
 * Files and directories that must be ours: opened relative to a directory, never through a symbolic link, and checked
 * for owner and mode. What the node store and its slots are made of.
 */
#ifndef DCACHE_IO_STORE_FILE_H
#define DCACHE_IO_STORE_FILE_H

#include "io/diag.h"

#include <stdbool.h>

/** A file or directory for error texts: `path` is that of the directory, `name` the entry in it. */
struct store_place {
    int dir_fd;
    const char *path;
    const char *name;
};

/**
 * Open the regular file at `place`: with `create`, made if missing (0600); with `writable`, for reading and writing.
 * @return DCACHE_OK; DCACHE_NOT_FOUND (no text); DCACHE_ERR_PERMISSION (symbolic link, hard-linked, not regular, not
 *         ours, open to others); DCACHE_ERR_NO_SPACE, DCACHE_ERR_IO
 */
dcache_status_t store_file_open(struct diag *dg, const struct store_place *place, bool create, bool writable,
                                int *fd) DCACHE_MUST_CHECK;

/** The same for a directory (0700). */
dcache_status_t store_directory_open(struct diag *dg, const struct store_place *place, bool create,
                                     int *fd) DCACHE_MUST_CHECK;

/** Called with each name in a directory, "." and ".." included; not DCACHE_OK ends the listing. */
typedef dcache_status_t (*store_name_visitor)(struct diag *dg, void *context, const char *name);

/** Visit the names in a directory. `dir_fd` is closed in any case; `path` is for error texts. */
dcache_status_t store_directory_visit(struct diag *dg, int dir_fd, const char *path, store_name_visitor visit,
                                      void *context) DCACHE_MUST_CHECK;

/** pread(2) of all of it; *got is less than `bytes` at the end of the file only. */
dcache_status_t store_file_read(struct diag *dg, int fd, uint64_t offset, void *buffer, size_t bytes,
                                size_t *got) DCACHE_MUST_CHECK;

/**
 * Check that this process may have a file of so many bytes: beyond RLIMIT_FSIZE the kernel would send SIGXFSZ, which
 * ends a program. DCACHE_ERR_NO_SPACE otherwise.
 */
dcache_status_t store_file_limit(struct diag *dg, uint64_t bytes) DCACHE_MUST_CHECK;

#endif
