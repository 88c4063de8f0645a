#include "runtime/copy_threads.h"

#include "io/threads.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

/* The work at hand; valid from the start of a run to its end. */
struct run {
    uint32_t count;
    void (*work)(void *context, uint32_t index);
    void *context;
    atomic_uint next;
    atomic_uchar *finished; /* per index */
};

struct copy_threads {
    pthread_mutex_t lock; /* guards run, generation, busy, stop */
    pthread_cond_t wake, idle;
    struct run *run;
    uint64_t generation; /* of the run, so that a thread takes part once */
    unsigned busy;       /* threads inside the run */
    bool stop;
    unsigned count;
    pthread_t threads[];
};

static bool work_once(struct run *run)
{
    uint32_t i = atomic_fetch_add(&run->next, 1u);

    if (i >= run->count)
        return false;
    run->work(run->context, i);
    atomic_store_explicit(&run->finished[i], 1, memory_order_release);
    return true;
}

static void *thread_main(void *argument)
{
    struct copy_threads *t = argument;
    uint64_t seen = 0;

    pthread_mutex_lock(&t->lock);
    for (;;) {
        while (!t->stop && (t->run == NULL || t->generation == seen))
            pthread_cond_wait(&t->wake, &t->lock);
        if (t->stop)
            break;
        struct run *run = t->run;
        seen = t->generation;
        t->busy++;
        pthread_mutex_unlock(&t->lock);
        while (work_once(run))
            continue;
        pthread_mutex_lock(&t->lock);
        if (--t->busy == 0)
            pthread_cond_broadcast(&t->idle);
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

dcache_status_t copy_threads_start(struct diag *dg, unsigned count, struct copy_threads **threads)
{
    struct copy_threads *t = calloc(1, sizeof *t + count * sizeof t->threads[0]);

    if (t == NULL)
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "out of memory for %u copy threads", count);
    threads_init(&t->lock, &t->wake);
    pthread_cond_init(&t->idle, NULL);
    int code = 0;
    while (code == 0 && t->count < count) {
        code = threads_start(&t->threads[t->count], thread_main, t);
        t->count += code == 0;
    }
    if (code != 0) {
        copy_threads_stop(t);
        return diag_fail_errno(dg, code, "cannot start %u copy threads (option copy_threads)", count);
    }
    *threads = t;
    return DCACHE_OK;
}

static void run_alone(uint32_t count, void (*work)(void *context, uint32_t index),
                      void (*done)(void *context, uint32_t index), void *context)
{
    for (uint32_t i = 0; i < count; i++) {
        work(context, i);
        if (done != NULL)
            done(context, i);
    }
}

static void set_run(struct copy_threads *t, struct run *run)
{
    pthread_mutex_lock(&t->lock);
    t->run = run;
    t->generation++;
    pthread_cond_broadcast(&t->wake);
    while (run == NULL && t->busy > 0)
        pthread_cond_wait(&t->idle, &t->lock);
    pthread_mutex_unlock(&t->lock);
}

void copy_threads_run(struct copy_threads *t, uint32_t count, void (*work)(void *context, uint32_t index),
                      void (*done)(void *context, uint32_t index), void *context)
{
    struct run run = {.count = count, .work = work, .context = context};
    uint32_t reported = 0;

    if (t != NULL && count > 1)
        run.finished = calloc(count, sizeof *run.finished);
    if (run.finished == NULL) {
        run_alone(count, work, done, context);
        return;
    }
    set_run(t, &run);
    while (reported < count) {
        bool worked = work_once(&run);
        while (reported < count && atomic_load_explicit(&run.finished[reported], memory_order_acquire)) {
            if (done != NULL)
                done(context, reported);
            reported++;
        }
        if (!worked)
            sched_yield();
    }
    set_run(t, NULL);
    free(run.finished);
}

void copy_threads_stop(struct copy_threads *t)
{
    if (t == NULL)
        return;
    pthread_mutex_lock(&t->lock);
    t->stop = true;
    pthread_cond_broadcast(&t->wake);
    pthread_mutex_unlock(&t->lock);
    for (unsigned i = 0; i < t->count; i++)
        pthread_join(t->threads[i], NULL);
    pthread_cond_destroy(&t->idle);
    pthread_cond_destroy(&t->wake);
    pthread_mutex_destroy(&t->lock);
    free(t);
}
