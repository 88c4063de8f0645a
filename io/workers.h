/**
 * A row of tasks done by a few threads at once. The calling thread is one of them, so the call needs no thread that
 * cannot be had, and returns when the last task has ended.
 */
#ifndef DCACHE_IO_WORKERS_H
#define DCACHE_IO_WORKERS_H

#include "io/diag.h"

#include <stdatomic.h>
#include <stdbool.h>

#define WORKERS_MAX 64u

/** One task, as it is about to run. */
struct workers_turn {
    size_t task;             /**< 0 to tasks - 1, handed out in ascending order */
    unsigned worker;         /**< which thread this is: 0 to threads - 1 */
    struct diag *dg;         /**< this thread's */
    const atomic_bool *stop; /**< becomes true when another task has failed: end soon, with any status but DCACHE_OK */
};

typedef dcache_status_t (*workers_task)(void *context, const struct workers_turn *turn);

/**
 * Run `tasks` tasks on up to `threads` threads (at most WORKERS_MAX). After a failure no further task begins.
 * @return DCACHE_OK: all of them ended so; else the status, and in `dg` the text, of the task that failed first
 */
dcache_status_t workers_run(struct diag *dg, unsigned threads, size_t tasks, workers_task run,
                            void *context) DCACHE_MUST_CHECK;

#endif
