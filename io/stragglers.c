#include "io/stragglers.h"

#include "io/threads.h"

#include <stdlib.h>
#include <string.h>

/* A block is late after so many medians of the last ones, but not before LATE_LEAST_S: on a fast network a short hitch
 * is none worth sending megabytes for. */
#define LATE_MEDIANS 3.0
#define LATE_LEAST_S 1.0
#define LOOK_S       0.05

void stragglers_open(struct stragglers *s, size_t blocks)
{
    memset(s, 0, sizeof *s);
    s->left = blocks;
    threads_init(&s->lock, &s->changed);
}

void stragglers_close(struct stragglers *s)
{
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
}

struct straggler *stragglers_begin(struct stragglers *s, unsigned worker, const void *what)
{
    struct straggler *straggler = &s->list[worker];
    pthread_mutex_lock(&s->lock);
    *straggler = (struct straggler){.what = what, .active = true, .since = threads_now(), .over = s->abandoned};
    pthread_mutex_unlock(&s->lock);
    return straggler;
}

bool stragglers_end(struct stragglers *s, struct straggler *straggler, bool stored)
{
    pthread_mutex_lock(&s->lock);
    if (stored) {
        atomic_store(&straggler->over, true);
        s->recent[s->samples++ % STRAGGLERS_SAMPLES] = threads_now() - straggler->since;
    }
    while (straggler->helping)
        pthread_cond_wait(&s->changed, &s->lock);
    stored = stored || straggler->stored;
    straggler->active = false;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    return stored;
}

void stragglers_count(struct stragglers *s)
{
    pthread_mutex_lock(&s->lock);
    s->left--;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

void stragglers_abandon(struct stragglers *s)
{
    pthread_mutex_lock(&s->lock);
    s->abandoned = true;
    for (unsigned i = 0; i < WORKERS_MAX; i++)
        atomic_store(&s->list[i].over, true);
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

static int ascending(const void *a, const void *b)
{
    const double left = *(const double *)a;
    const double right = *(const double *)b;
    return (left > right) - (left < right);
}

/* How long a block may take before it is late. Called with the lock held and a sample there. */
static double patience_s(const struct stragglers *s)
{
    double sorted[STRAGGLERS_SAMPLES];
    const unsigned count = s->samples < STRAGGLERS_SAMPLES ? s->samples : STRAGGLERS_SAMPLES;
    memcpy(sorted, s->recent, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, ascending);
    const double patience = LATE_MEDIANS * sorted[count / 2];
    return patience > LATE_LEAST_S ? patience : LATE_LEAST_S;
}

/* The block that is late for the longest time; NULL: none. */
static struct straggler *find_late(struct stragglers *s)
{
    struct straggler *late = NULL;
    for (unsigned i = 0; i < WORKERS_MAX; i++) {
        struct straggler *straggler = &s->list[i];
        if (!straggler->active || straggler->helped)
            continue;
        if (late == NULL || straggler->since < late->since)
            late = straggler;
    }
    const bool is_late = late != NULL && s->samples > 0 && threads_now() - late->since > patience_s(s);
    return is_late ? late : NULL;
}

struct straggler *stragglers_take(struct stragglers *s, const atomic_bool *cancel)
{
    struct straggler *late = NULL;
    pthread_mutex_lock(&s->lock);
    while (s->left > 0 && !s->abandoned && (cancel == NULL || !atomic_load(cancel))) {
        late = find_late(s);
        if (late != NULL)
            break;
        const struct timespec until = threads_deadline(LOOK_S);
        pthread_cond_timedwait(&s->changed, &s->lock, &until);
    }
    if (late != NULL)
        late->helped = late->helping = true;
    pthread_mutex_unlock(&s->lock);
    return late;
}

void stragglers_helped(struct stragglers *s, struct straggler *straggler, bool stored)
{
    pthread_mutex_lock(&s->lock);
    straggler->helping = false;
    straggler->stored = stored;
    if (stored)
        atomic_store(&straggler->over, true);
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}
