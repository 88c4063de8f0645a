/**
 * Where errors and log lines go: one of these hangs on every handle (and one on each background thread), and is the
 * first argument of everything that can fail. A failure is described once, where it is noticed, with diag_fail(); it is
 * logged once, where it is decided (by the runtime or the tool).
 *
 * Not thread-safe: one struct diag per thread.
 */
#ifndef DCACHE_IO_DIAG_H
#define DCACHE_IO_DIAG_H

#include "dcache.h"

#define DIAG_TEXT_MAX 1024

enum diag_level { DIAG_ERROR, DIAG_WARNING, DIAG_INFO, DIAG_DEBUG };

struct diag {
    enum diag_level threshold; /**< lines above it are not written */
    int rank;                  /**< for the log line and for failpoints; -1 outside of MPI */
    char job[64];              /**< for the log line; may be empty */
    char text[DIAG_TEXT_MAX];  /**< what went wrong last; "" when nothing did */
    unsigned failpoint_hits[16];
};

void diag_init(struct diag *dg, const char *job, int rank, enum diag_level threshold);

/** Describe a failure and return `status`: `return diag_fail(dg, DCACHE_ERR_IO, "cannot read %s: %s", path, why);` */
dcache_status_t diag_fail(struct diag *dg, dcache_status_t status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/** As diag_fail(), the status chosen from errno (ENOSPC, EACCES ...) and its text appended. */
dcache_status_t diag_fail_errno(struct diag *dg, int error_number, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/** Write one line to standard error: "dcache: [job:rank] warning: ..." with one write(2), if `level` is wanted. */
void diag_log(struct diag *dg, enum diag_level level, const char *format, ...) __attribute__((format(printf, 3, 4)));

/**
 * A place of io/failpoints.h where a test can make this process fail. Compiled to DCACHE_OK unless built with
 * DCACHE_FAILPOINTS. tests/README.md tells how a test says what shall happen.
 *
 * diag_failpoint_data() is for places where `*bytes` bytes at `data` go by, which may be spoilt or become fewer.
 */
#ifdef DCACHE_FAILPOINTS
dcache_status_t diag_failpoint(struct diag *dg, const char *name) DCACHE_MUST_CHECK;
dcache_status_t diag_failpoint_data(struct diag *dg, const char *name, void *data, size_t *bytes) DCACHE_MUST_CHECK;
#else
static inline DCACHE_MUST_CHECK dcache_status_t diag_failpoint(struct diag *dg, const char *name)
{
    (void)dg;
    (void)name;
    return DCACHE_OK;
}

static inline DCACHE_MUST_CHECK dcache_status_t diag_failpoint_data(struct diag *dg, const char *name, void *data,
                                                                    size_t *bytes)
{
    (void)dg;
    (void)name;
    (void)data;
    (void)bytes;
    return DCACHE_OK;
}
#endif

#endif
