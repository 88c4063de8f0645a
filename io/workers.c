#include "io/workers.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

struct row {
    workers_task run;
    void *context;
    size_t tasks;
    atomic_size_t next;
    atomic_bool stop;
    atomic_uint first_failed; /* the worker whose task failed first, or NOBODY */
};

#define NOBODY WORKERS_MAX

struct worker {
    struct row *row;
    struct diag *dg;
    struct diag own; /* dg, but for the calling thread */
    unsigned index;
    dcache_status_t status;
    pthread_t thread;
};

static void *work(void *context)
{
    struct worker *worker = context;
    struct row *row = worker->row;
    while (!atomic_load(&row->stop)) {
        struct workers_turn turn = {.worker = worker->index, .dg = worker->dg, .stop = &row->stop};
        turn.task = atomic_fetch_add(&row->next, 1);
        if (turn.task >= row->tasks)
            break;
        worker->status = row->run(row->context, &turn);
        if (worker->status != DCACHE_OK) {
            unsigned nobody = NOBODY;
            atomic_compare_exchange_strong(&row->first_failed, &nobody, worker->index);
            atomic_store(&row->stop, true);
        }
    }
    return NULL;
}

/* Start the others; how many there are then, the calling thread included. Signals are the application's business and
 * must not be delivered to a thread that it does not know. */
static unsigned start_others(struct worker *workers, unsigned wanted)
{
    sigset_t all;
    sigset_t former;
    unsigned count = 1;
    sigfillset(&all);
    if (pthread_sigmask(SIG_SETMASK, &all, &former) != 0)
        return count;
    while (count < wanted && pthread_create(&workers[count].thread, NULL, work, &workers[count]) == 0)
        count++;
    pthread_sigmask(SIG_SETMASK, &former, NULL);
    return count;
}

dcache_status_t workers_run(struct diag *dg, unsigned threads, size_t tasks, workers_task run, void *context)
{
    struct row row = {.run = run, .context = context, .tasks = tasks, .first_failed = NOBODY};
    struct worker alone = {.row = &row, .dg = dg};
    unsigned wanted = threads < WORKERS_MAX ? threads : WORKERS_MAX;
    if (wanted > tasks)
        wanted = (unsigned)tasks;
    struct worker *workers = wanted > 1 ? calloc(wanted, sizeof *workers) : NULL;
    if (workers == NULL) { /* one task, or no memory for more threads */
        work(&alone);
        return alone.status;
    }
    for (unsigned i = 0; i < wanted; i++) {
        workers[i].row = &row;
        workers[i].index = i;
        workers[i].own = *dg;
        workers[i].dg = i == 0 ? dg : &workers[i].own;
    }
    unsigned count = start_others(workers, wanted);
    work(&workers[0]);
    for (unsigned i = 1; i < count; i++)
        pthread_join(workers[i].thread, NULL);
    unsigned failed = atomic_load(&row.first_failed);
    dcache_status_t status = failed == NOBODY ? DCACHE_OK : workers[failed].status;
    if (failed != NOBODY && failed != 0)
        memcpy(dg->text, workers[failed].own.text, sizeof dg->text);
    free(workers);
    return status;
}
