#include "runtime/ssd_thread.h"

#include "io/threads.h"

#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

struct job {
    struct shard_set set;
    uint32_t from, to;
};

/* What became of the copy that was last submitted for a slot. */
struct entry {
    struct shard_set set;
    enum ssd_state state;
};

struct ssd_thread {
    pthread_t thread;
    pthread_mutex_t lock; /* guards everything up to `control` */
    pthread_cond_t changed;
    struct entry entries[SSD_SLOTS_MAX];
    struct job next;
    bool waiting; /* `next` does */
    bool busy;
    bool stop;
    struct slot_copy_control control;
    struct diag diag; /* the thread's own */
    const struct node_store *from, *to;
    uint32_t rank;
    bool failing; /* the last copy failed for a reason of the SSD's */
};

static void log_outcome(struct ssd_thread *t, const struct job *job, dcache_status_t status)
{
    enum diag_level level = t->failing ? DIAG_DEBUG : DIAG_WARNING;

    if (status == DCACHE_ERR_CANCELLED)
        return;
    if (status == DCACHE_NOT_FOUND) {
        diag_log(&t->diag, DIAG_INFO,
                 "the copy of step %" PRIu64 " to the SSD is given up: its slot in memory is in use again; more slots "
                 "(option slots) give it more time",
                 job->set.step);
        return;
    }
    if (status != DCACHE_OK)
        diag_log(&t->diag, level, "step %" PRIu64 " is not on the SSD: %s", job->set.step, t->diag.text);
    else if (t->failing)
        diag_log(&t->diag, DIAG_WARNING, "step %" PRIu64 " is on the SSD again", job->set.step);
    else
        diag_log(&t->diag, DIAG_DEBUG, "step %" PRIu64 " is on the SSD", job->set.step);
    t->failing = status != DCACHE_OK;
}

/* Copy without holding the lock. */
static void work_on(struct ssd_thread *t, struct job job)
{
    const struct slot_copy_request request = {t->from, t->to, t->rank, job.from, job.to, job.set};
    struct entry *entry = &t->entries[job.to];

    pthread_mutex_unlock(&t->lock);
    t->diag.text[0] = '\0';
    dcache_status_t status = slot_copy(&t->diag, &request, &t->control);
    log_outcome(t, &job, status);
    pthread_mutex_lock(&t->lock);
    if (shard_same_set(&entry->set, &job.set))
        entry->state = status == DCACHE_OK ? SSD_COMPLETE : SSD_FAILED;
}

static void *run(void *argument)
{
    struct ssd_thread *t = argument;

    pthread_mutex_lock(&t->lock);
    while (!t->stop) {
        if (!t->waiting) {
            pthread_cond_wait(&t->changed, &t->lock);
            continue;
        }
        t->waiting = false;
        t->busy = true;
        work_on(t, t->next);
        t->busy = false;
        pthread_cond_broadcast(&t->changed);
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

static void free_all(struct ssd_thread *t)
{
    pthread_cond_destroy(&t->changed);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

dcache_status_t ssd_thread_start(struct diag *dg, const struct node_store *from, const struct node_store *to,
                                 uint32_t rank, struct ssd_thread **thread)
{
    struct ssd_thread *t = calloc(1, sizeof *t);

    if (t == NULL)
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "out of memory for the SSD thread");
    threads_init(&t->lock, &t->changed);
    t->from = from;
    t->to = to;
    t->rank = rank;
    t->diag = *dg;
    for (uint32_t k = 0; k < SSD_SLOTS_MAX; k++)
        t->entries[k].state = SSD_FAILED; /* nothing was submitted */
    int code = threads_start(&t->thread, run, t);
    if (code != 0) {
        free_all(t);
        return diag_fail_errno(dg, code, "cannot start the SSD thread");
    }
    *thread = t;
    return DCACHE_OK;
}

void ssd_thread_submit(struct ssd_thread *t, const struct shard_set *set, uint32_t from, uint32_t to)
{
    if (t == NULL || to >= SSD_SLOTS_MAX)
        return;
    pthread_mutex_lock(&t->lock);
    if (t->waiting)
        t->entries[t->next.to].state = SSD_FAILED;
    t->next = (struct job){*set, from, to};
    t->waiting = true;
    t->entries[to] = (struct entry){*set, SSD_PENDING};
    pthread_cond_broadcast(&t->changed);
    pthread_mutex_unlock(&t->lock);
}

enum ssd_state ssd_thread_state(struct ssd_thread *t, const struct shard_set *set, uint32_t to)
{
    enum ssd_state state = SSD_FAILED;

    if (t == NULL || to >= SSD_SLOTS_MAX)
        return SSD_FAILED;
    pthread_mutex_lock(&t->lock);
    if (shard_same_set(&t->entries[to].set, set))
        state = t->entries[to].state;
    pthread_mutex_unlock(&t->lock);
    return state;
}

void ssd_thread_wait(struct ssd_thread *t, double seconds)
{
    struct timespec until = threads_deadline(seconds);

    pthread_mutex_lock(&t->lock);
    pthread_cond_timedwait(&t->changed, &t->lock, &until);
    pthread_mutex_unlock(&t->lock);
}

void ssd_thread_pause(struct ssd_thread *t, bool pause)
{
    if (t != NULL)
        atomic_store(&t->control.pause, pause);
}

void ssd_thread_abandon(struct ssd_thread *t)
{
    if (t == NULL)
        return;
    pthread_mutex_lock(&t->lock);
    if (t->waiting)
        t->entries[t->next.to].state = SSD_FAILED;
    t->waiting = false;
    atomic_store(&t->control.cancel, true);
    while (t->busy)
        pthread_cond_wait(&t->changed, &t->lock);
    atomic_store(&t->control.cancel, false);
    pthread_mutex_unlock(&t->lock);
}

void ssd_thread_stop(struct ssd_thread *t)
{
    if (t == NULL)
        return;
    pthread_mutex_lock(&t->lock);
    t->stop = true;
    atomic_store(&t->control.cancel, true);
    pthread_cond_broadcast(&t->changed);
    pthread_mutex_unlock(&t->lock);
    pthread_join(t->thread, NULL);
    free_all(t);
}
