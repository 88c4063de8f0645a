#include "runtime/claim_keeper.h"

#include "io/threads.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum keeper_state { KEEPER_WAITING, KEEPER_HELD, KEEPER_LOST };

struct claim_keeper {
    pthread_t thread;
    pthread_mutex_t lock; /* guards `stop` */
    pthread_cond_t changed;
    bool stop;
    atomic_bool cancel;
    struct object_store *store;
    struct claim me;
    char job[64];
    /* The thread's own: */
    struct diag diag;
    enum keeper_state state;
    struct claim_watch watch;
    bool failing; /* the last time, and that was said */
};

/* Said once, and again when it has been better in between. */
static void note_failure(struct claim_keeper *keeper, const char *what)
{
    if (!keeper->failing)
        diag_log(&keeper->diag, DIAG_WARNING, "%s: %s", what, keeper->diag.text);
    keeper->failing = true;
}

static void renew(struct claim_keeper *keeper)
{
    dcache_status_t status = claim_renew(&keeper->diag, keeper->store, keeper->job, &keeper->me, &keeper->cancel);
    if (status == DCACHE_OK) {
        keeper->failing = false;
    } else if (status == DCACHE_ERR_BUSY) {
        diag_log(&keeper->diag, DIAG_ERROR, "%s", keeper->diag.text);
        keeper->state = KEEPER_LOST;
    } else if (status != DCACHE_ERR_CANCELLED) {
        note_failure(keeper, "the job's claim in the object store cannot be renewed, and will be tried again");
    }
}

static void take(struct claim_keeper *keeper)
{
    dcache_status_t status = claim_try(&keeper->diag, keeper->store, keeper->job, &keeper->me, 0, &keeper->watch, NULL);
    if (status == DCACHE_OK) {
        keeper->state = KEEPER_HELD;
        keeper->failing = false;
        diag_log(&keeper->diag, DIAG_INFO, "the job's claim in the object store is taken");
    } else {
        note_failure(keeper, "nothing is stored until the job's claim in the object store can be had");
    }
}

static void *run(void *argument)
{
    struct claim_keeper *keeper = argument;
    pthread_mutex_lock(&keeper->lock);
    while (!keeper->stop) {
        const double pause = (double)keeper->me.lease_s / 3;
        const struct timespec until = threads_deadline(keeper->state == KEEPER_WAITING && pause > 1 ? 1 : pause);
        if (pthread_cond_timedwait(&keeper->changed, &keeper->lock, &until) == 0 || keeper->stop)
            continue;
        pthread_mutex_unlock(&keeper->lock);
        if (keeper->state == KEEPER_HELD)
            renew(keeper);
        else if (keeper->state == KEEPER_WAITING)
            take(keeper);
        pthread_mutex_lock(&keeper->lock);
    }
    pthread_mutex_unlock(&keeper->lock);
    return NULL;
}

static void free_all(struct claim_keeper *keeper)
{
    pthread_cond_destroy(&keeper->changed);
    pthread_mutex_destroy(&keeper->lock);
    free(keeper);
}

dcache_status_t claim_keeper_start(struct diag *dg, struct object_store *store, const char *job, const struct claim *me,
                                   bool held, struct claim_keeper **keeper)
{
    struct claim_keeper *made = calloc(1, sizeof *made);
    if (made == NULL)
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "out of memory for the keeper of the job's claim");
    threads_init(&made->lock, &made->changed);
    made->store = store;
    made->me = *me;
    made->diag = *dg;
    made->state = held ? KEEPER_HELD : KEEPER_WAITING;
    snprintf(made->job, sizeof made->job, "%s", job);
    int code = threads_start(&made->thread, run, made);
    if (code != 0) {
        free_all(made);
        return diag_fail_errno(dg, code, "cannot start the keeper of the job's claim");
    }
    *keeper = made;
    return DCACHE_OK;
}

void claim_keeper_stop(struct claim_keeper *keeper)
{
    if (keeper == NULL)
        return;
    atomic_store(&keeper->cancel, true);
    pthread_mutex_lock(&keeper->lock);
    keeper->stop = true;
    pthread_cond_broadcast(&keeper->changed);
    pthread_mutex_unlock(&keeper->lock);
    pthread_join(keeper->thread, NULL);
    /* A store that failed a moment ago is not waited for once more: the lease runs out by itself. */
    if (keeper->state == KEEPER_HELD && !keeper->failing &&
        claim_release(&keeper->diag, keeper->store, keeper->job, &keeper->me) != DCACHE_OK)
        diag_log(&keeper->diag, DIAG_INFO, "the job's claim is not given back, it runs out: %s", keeper->diag.text);
    free_all(keeper);
}
