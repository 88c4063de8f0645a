/**
 * Threads that share the chunks of an image among themselves: for few ranks on many cores. They know nothing of MPI.
 * Used from the application's thread only.
 */
#ifndef DCACHE_RUNTIME_COPY_THREADS_H
#define DCACHE_RUNTIME_COPY_THREADS_H

#include "io/diag.h"

#include <stdbool.h>

struct copy_threads;

/** Start `count` threads besides the caller's own, which works, too. */
dcache_status_t copy_threads_start(struct diag *dg, unsigned count, struct copy_threads **threads) DCACHE_MUST_CHECK;

/**
 * Call work(context, i) once for each i in [0, count), on any of the threads, and done(context, i) for each, in
 * ascending order, on the caller's thread, as soon as all before it are worked on; `done` may be NULL. A NULL `threads`
 * does all of it here, one after the other.
 */
void copy_threads_run(struct copy_threads *threads, uint32_t count, void (*work)(void *context, uint32_t index),
                      void (*done)(void *context, uint32_t index), void *context);

/** Join and free. NULL is allowed. */
void copy_threads_stop(struct copy_threads *threads);

#endif
