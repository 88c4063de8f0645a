#include "runtime/progress.h"

#include "io/threads.h"
#include "runtime/replication.h"
#include "runtime/resync.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

/* Between looks while others' puts may come: short enough for full link rate with 16 pieces of 4 MiB in the queue, long
 * enough to leave the core to the application. */
#define PAUSE_US 200

struct progress {
    pthread_t thread;
    pthread_mutex_t lock; /* held by whoever may touch replication and MPI state of the handle */
    pthread_cond_t wake;
    atomic_bool wanted; /* the application waits for the lock: a mutex alone would not let it in soon */
    bool stop;
};

static void *thread_main(void *argument)
{
    dcache_t *dc = argument;
    struct progress *p = dc->progress;

    pthread_mutex_lock(&p->lock);
    while (!p->stop) {
        if (!(dc->replicating.active || dc->replicating.due) || atomic_load(&p->wanted)) {
            pthread_cond_wait(&p->wake, &p->lock);
            continue;
        }
        resync_begin(dc); /* the next collective call does it where this thread was too late, so all ranks meet in it */
        if (dc->replicating.active && replication_advance(dc, false))
            drain_thread_pause(dc->drain, false);
        pthread_mutex_unlock(&p->lock);
        usleep(PAUSE_US);
        pthread_mutex_lock(&p->lock);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

static dcache_status_t start(dcache_t *dc)
{
    struct progress *p = calloc(1, sizeof *p);

    if (p == NULL)
        return diag_fail(&dc->diag, DCACHE_ERR_NO_MEMORY, "out of memory for the progress thread");
    threads_init(&p->lock, &p->wake);
    dc->progress = p;
    int code = threads_start(&p->thread, thread_main, dc);
    if (code == 0)
        return DCACHE_OK;
    dc->progress = NULL;
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    free(p);
    return diag_fail_errno(&dc->diag, code, "cannot start the progress thread");
}

dcache_status_t progress_start(dcache_t *dc)
{
    int level = MPI_THREAD_SINGLE;

    if (dc->options.progress == PROGRESS_CALLS || dc->replicator.transport == NULL)
        return DCACHE_OK;
    MPI_Query_thread(&level);
    if (level == MPI_THREAD_MULTIPLE)
        return start(dc);
    if (dc->options.progress == PROGRESS_THREAD)
        return diag_fail(
            &dc->diag, DCACHE_ERR_OPTION,
            "progress = thread needs MPI_THREAD_MULTIPLE: ask MPI_Init_thread() for it, or set progress = auto");
    return DCACHE_OK;
}

void progress_hold(dcache_t *dc)
{
    struct progress *p = dc->progress;

    if (p == NULL)
        return;
    atomic_store(&p->wanted, true);
    pthread_mutex_lock(&p->lock);
}

void progress_release(dcache_t *dc)
{
    struct progress *p = dc->progress;

    if (p == NULL)
        return;
    atomic_store(&p->wanted, false);
    pthread_cond_signal(&p->wake);
    pthread_mutex_unlock(&p->lock);
}

void progress_stop(dcache_t *dc)
{
    struct progress *p = dc->progress;

    if (p == NULL)
        return;
    pthread_mutex_lock(&p->lock);
    p->stop = true;
    pthread_cond_signal(&p->wake);
    pthread_mutex_unlock(&p->lock);
    pthread_join(p->thread, NULL);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    free(p);
    dc->progress = NULL;
}
