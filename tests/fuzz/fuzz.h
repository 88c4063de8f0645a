/**
 * What the fuzz targets share. A target (target_<name>.c) is one function that takes any bytes; it is linked with
 * libFuzzer, with AFL++, or with replay.c (CMakeLists.txt says how). It finds a bug by crashing: under a sanitizer, or
 * because fuzz_require() says what was promised and is not so.
 */
#ifndef DCACHE_TESTS_FUZZ_FUZZ_H
#define DCACHE_TESTS_FUZZ_FUZZ_H

#include "io/diag.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** The target. Returns 0, or -1: not of interest. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/** A fresh one that logs nothing a fuzzer would have to read. */
struct diag *fuzz_diag(void);

/** What was promised: aborts, with the text, when it is not so. */
void fuzz_require(bool good, const char *promise);

/** A failure has a text, on one line, or is one of those that have none (DCACHE_NOT_FOUND). */
void fuzz_require_text(const struct diag *dg, dcache_status_t status);

/** The bytes with a zero behind them; malloc'ed, the caller's. */
char *fuzz_text(const uint8_t *data, size_t size);

/** The path of a regular file with these bytes, the same path for each input, valid until the next call. */
const char *fuzz_file(const void *data, size_t size);

/** This process's directory for files, below $TMPDIR or /tmp. Left behind by a crash. */
const char *fuzz_scratch(void);

#endif
