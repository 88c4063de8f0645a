/**
 * What the MPI tests share: start and end, checks that fail the whole program at once, options, random numbers.
 *
 * A check that fails on one rank prints what it saw and aborts all ranks: no test hangs because a check failed, and
 * none succeeds because it failed on a rank that nobody looks at. A program that hangs ends itself after a while.
 */
#ifndef DCACHE_TESTS_MPI_SUPPORT_H
#define DCACHE_TESTS_MPI_SUPPORT_H

#include "dcache.h"

#include <stdbool.h>

/** This process; MPI_COMM_WORLD. */
extern int support_rank, support_size;

/** MPI_Init_thread(), a scratch directory for all ranks, and options that suit a test: node stores in the scratch
 * directory, no object store, only errors logged. Collective, as support_finish() is. */
void support_start(int *argc, char ***argv, int thread_level);

/** Remove the scratch directory and finalize. Returns the exit status of a test whose checks all held. */
int support_finish(void);

/** The scratch directory, the same on all ranks. */
const char *support_scratch(void);

/** Directory of the node stores (option memory_store). */
const char *support_stores(void);

/** Directory of the object store, and the option store: a new, empty one, or none. Collective. */
const char *support_objects(void);
void support_use_objects(bool yes);

/** Set an option by its environment variable's name without DCACHE_ ("NODE_SIZE"), or with NULL unset it. All ranks. */
void support_option(const char *name, const char *value);
void support_option_number(const char *name, long value);

/** Fail all ranks unless `good`. */
void support_check(bool good, const char *what, const char *file, int line);
#define CHECK(condition) support_check((condition), #condition, __FILE__, __LINE__)

/** Fail all ranks unless `status` is `wanted`; tells the handle's error text. Not collective. */
void support_check_status(const dcache_t *dc, dcache_status_t status, dcache_status_t wanted, const char *what,
                          const char *file, int line);
#define CHECK_STATUS(dc, call, wanted) support_check_status((dc), (call), (wanted), #call, __FILE__, __LINE__)

/** Fail unless all ranks have the same status and text. Collective. */
void support_check_same(dcache_status_t status, const char *text, const char *file, int line);
#define CHECK_SAME(status, text) support_check_same((status), (text), __FILE__, __LINE__)

/** dcache_open(), and what it says on standard error on this rank. Collective over `comm`. */
dcache_status_t support_open_and_listen(MPI_Comm comm, const char *config, dcache_t **dc, char *text, size_t room);

/** dcache_open() on MPI_COMM_WORLD and dcache_close(), which must succeed. */
dcache_t *support_open(void);
void support_close(dcache_t **dc);

/** What is being tried, printed with a check that fails; with TEST_VERBOSE set, at once. */
void support_trying(const char *format, ...) __attribute__((format(printf, 1, 2)));

/** A seed that is new in each run, printed, the same on all ranks; TEST_SEED=n repeats a run. Collective. */
uint64_t support_seed(void);

/** The next number after `*state`, and one below `limit`. */
uint64_t support_random(uint64_t *state);
uint64_t support_random_below(uint64_t *state, uint64_t limit);

/** Remove a file or a directory with all that is in it; not an error when there is none. */
void support_remove_tree(const char *path);

#endif
