/**
 * What `dcache doctor` found: one line each, with a remedy where there is one, or all of it as JSON.
 */
#ifndef DCACHE_RUNTIME_CLI_FINDINGS_H
#define DCACHE_RUNTIME_CLI_FINDINGS_H

#include <jansson.h>
#include <stdbool.h>

enum finding_level {
    FINDING_OK,
    FINDING_WARNING, /**< it works, but less well or less safely than it could */
    FINDING_PROBLEM  /**< a checkpoint would fail or not be safe */
};

struct findings {
    json_t *list;
    unsigned count[3]; /**< by level */
    bool failed;       /**< out of memory: some are missing */
};

/** Begin; findings_end() frees. */
void findings_begin(struct findings *findings);

/** Add one; `remedy` may be NULL. Control characters are replaced, so the value may come from anywhere. */
void findings_add(struct findings *findings, enum finding_level level, const char *what, const char *remedy,
                  const char *format, ...) __attribute__((format(printf, 5, 6)));

/** Print all, free them, and tell whether a checkpoint is safe: no problems, nothing missing. */
bool findings_end(struct findings *findings, bool json);

#endif
