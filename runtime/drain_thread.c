#include "runtime/drain_thread.h"

#include "io/threads.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SLOTS         16
#define RETRY_FIRST_S 1.0
#define RETRY_MAX_S   60.0

struct entry {
    struct shard_set set;
    enum drain_state state;
    uint64_t serial; /* tells a later submission to the same slot from the one under way */
    char text[DIAG_TEXT_MAX];
};

struct drain_thread {
    pthread_t thread;
    pthread_mutex_t lock; /* guards everything up to `control` */
    pthread_cond_t changed;
    struct entry entries[SLOTS];
    uint64_t next_serial;
    bool failing; /* the last attempt failed: what waits would fare no better, so it is as good as failed, too */
    char failure[DIAG_TEXT_MAX];
    bool stop;
    double seconds; /* at work */
    struct drain_control control;
    struct diag diag; /* the thread's own */
    struct object_store *objects;
    const struct node_store *store;
    struct drain_duty *duties;
    size_t duty_count;
    struct drain_item *items; /* one per duty, reused */
    struct codec_settings codec;
    struct retention_rule keep;
    bool guarded;
    struct claim_guard guard;
    struct retention_list durable; /* as retention_apply() found it last */
    char job[64];
    char name[64];
};

/* The oldest waiting step first: it is the one whose slot is wanted next. Called with the lock held. */
static struct entry *next_entry(struct drain_thread *t, bool retry_too)
{
    struct entry *best = NULL;

    for (int k = 0; k < SLOTS; k++) {
        struct entry *entry = &t->entries[k];
        bool ready = entry->state == DRAIN_PENDING || (retry_too && entry->state == DRAIN_RETRYING);
        if (ready && (best == NULL || entry->set.sequence < best->set.sequence))
            best = entry;
    }
    return best;
}

static enum drain_state state_after(dcache_status_t status, bool durable)
{
    switch (status) {
    case DCACHE_OK:
        return durable ? DRAIN_DURABLE : DRAIN_STORED;
    case DCACHE_ERR_BUSY: /* another run has taken the name over */
    case DCACHE_ERR_EXISTS:
    case DCACHE_ERR_CORRUPT:
    case DCACHE_ERR_FORMAT:
    case DCACHE_NOT_FOUND:
        return DRAIN_FAILED;
    default:
        return DRAIN_RETRYING;
    }
}

static void log_outcome(struct drain_thread *t, const struct entry *work, enum drain_state state, bool was_failing)
{
    unsigned long long step = (unsigned long long)work->set.step;

    if (state == DRAIN_DURABLE)
        diag_log(&t->diag, DIAG_INFO, "step %llu is durable", step);
    else if (state == DRAIN_FAILED)
        diag_log(&t->diag, DIAG_WARNING, "step %llu will not be durable: %s", step, t->diag.text);
    else if (state == DRAIN_RETRYING && !was_failing)
        diag_log(&t->diag, DIAG_WARNING, "the drain of step %llu is held up and will be tried again: %s", step,
                 t->diag.text);
    else if (state == DRAIN_STORED && was_failing)
        diag_log(&t->diag, DIAG_WARNING, "the drain of step %llu goes on", step);
}

/* A step more is durable, so an old one may go. What cannot be removed now will be looked at when the next one is. */
static void remove_old_steps(struct drain_thread *t)
{
    pthread_mutex_unlock(&t->lock);
    dcache_status_t status = retention_apply(&t->diag, t->objects, t->job, &t->keep, &t->durable, &t->control.cancel);
    if (status != DCACHE_OK && status != DCACHE_ERR_CANCELLED)
        diag_log(&t->diag, DIAG_WARNING, "old steps stay in the object store for now: %s", t->diag.text);
    pthread_mutex_lock(&t->lock);
}

/* Drain one entry without holding the lock; returns whether the store worked. */
static bool work_on(struct drain_thread *t, struct entry *entry, bool was_failing)
{
    struct entry work = *entry;
    uint32_t slot = (uint32_t)(entry - t->entries);
    bool durable = false;

    atomic_store(&t->control.cancel, false);
    pthread_mutex_unlock(&t->lock);
    for (size_t i = 0; i < t->duty_count; i++)
        t->items[i] = (struct drain_item){0, t->duties[i].kind, t->duties[i].rank, slot};
    struct drain_request request = {t->job,   work.set,      t->name,   t->store,
                                    t->items, t->duty_count, &t->codec, t->guarded ? &t->guard : NULL};
    t->diag.text[0] = '\0';
    const double start = threads_now();
    dcache_status_t status = drain_step(&t->diag, t->objects, &request, &t->control, &durable);
    const double seconds = threads_now() - start;
    enum drain_state state = state_after(status, durable);
    pthread_mutex_lock(&t->lock);
    t->seconds += seconds;
    if (entry->serial != work.serial || entry->state == DRAIN_NONE || t->stop)
        return true; /* dropped meanwhile: what came of it is nobody's business */
    log_outcome(t, &work, state, was_failing);
    entry->state = state;
    snprintf(entry->text, sizeof entry->text, "%s", t->diag.text);
    if (state == DRAIN_RETRYING)
        snprintf(t->failure, sizeof t->failure, "%s", t->diag.text);
    pthread_cond_broadcast(&t->changed);
    if (state == DRAIN_DURABLE)
        remove_old_steps(t);
    return state != DRAIN_RETRYING;
}

static void *run(void *argument)
{
    struct drain_thread *t = argument;
    double retry = RETRY_FIRST_S;
    struct timespec next_try = {0, 0};

    pthread_mutex_lock(&t->lock);
    while (!t->stop) {
        struct timespec now = threads_deadline(0);
        bool retry_now =
            now.tv_sec > next_try.tv_sec || (now.tv_sec == next_try.tv_sec && now.tv_nsec >= next_try.tv_nsec);
        struct entry *entry = retry_now || !t->failing ? next_entry(t, retry_now) : NULL;
        if (entry != NULL) {
            bool good = work_on(t, entry, t->failing);
            retry = good ? RETRY_FIRST_S : (retry * 2 < RETRY_MAX_S ? retry * 2 : RETRY_MAX_S);
            next_try = threads_deadline(good ? 0 : retry);
            t->failing = !good;
            continue;
        }
        struct timespec until = t->failing ? next_try : threads_deadline(RETRY_MAX_S);
        pthread_cond_timedwait(&t->changed, &t->lock, &until);
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

static void free_all(struct drain_thread *t)
{
    if (t == NULL)
        return;
    pthread_cond_destroy(&t->changed);
    pthread_mutex_destroy(&t->lock);
    free(t->duties);
    free(t->items);
    retention_list_free(&t->durable);
    free(t);
}

dcache_status_t drain_thread_start(struct diag *dg, const char *job, const char *name, struct object_store *objects,
                                   const struct node_store *store, const struct codec_settings *codec,
                                   const struct retention_rule *keep, const struct claim_guard *guard,
                                   const struct drain_duty *duties, size_t duty_count, struct drain_thread **thread)
{
    struct drain_thread *t = calloc(1, sizeof *t);

    if (t == NULL)
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "out of memory for the drain thread");
    threads_init(&t->lock, &t->changed);
    t->duties = malloc((duty_count + 1) * sizeof *t->duties);
    t->items = malloc((duty_count + 1) * sizeof *t->items);
    if (t->duties == NULL || t->items == NULL) {
        free_all(t);
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "out of memory for a drain of %zu shards", duty_count);
    }
    if (duty_count > 0)
        memcpy(t->duties, duties, duty_count * sizeof *duties);
    t->duty_count = duty_count;
    t->keep = *keep;
    t->guarded = guard != NULL;
    if (guard != NULL)
        t->guard = *guard;
    t->objects = objects;
    t->store = store;
    t->codec = *codec;
    t->diag = *dg;
    snprintf(t->job, sizeof t->job, "%s", job);
    snprintf(t->name, sizeof t->name, "%s", name);
    int code = threads_start(&t->thread, run, t);
    if (code != 0) {
        free_all(t);
        return diag_fail_errno(dg, code, "cannot start the drain thread");
    }
    *thread = t;
    return DCACHE_OK;
}

void drain_thread_submit(struct drain_thread *t, const struct shard_set *set, uint32_t slot)
{
    if (t == NULL || slot >= SLOTS)
        return;
    pthread_mutex_lock(&t->lock);
    struct entry *entry = &t->entries[slot];
    entry->set = *set;
    entry->state = DRAIN_PENDING;
    entry->serial = ++t->next_serial;
    entry->text[0] = '\0';
    pthread_cond_broadcast(&t->changed);
    pthread_mutex_unlock(&t->lock);
}

static enum drain_state state_of(const struct drain_thread *t, const struct entry *entry)
{
    return entry->state == DRAIN_PENDING && t->failing ? DRAIN_RETRYING : entry->state;
}

enum drain_state drain_thread_state(struct drain_thread *t, const struct shard_set *set, uint32_t slot, char *text)
{
    enum drain_state state = DRAIN_NONE;

    if (t == NULL || slot >= SLOTS)
        return DRAIN_NONE;
    pthread_mutex_lock(&t->lock);
    const struct entry *entry = &t->entries[slot];
    if (shard_same_set(&entry->set, set)) {
        state = state_of(t, entry);
        if (text != NULL)
            snprintf(text, DIAG_TEXT_MAX, "%s", entry->text[0] == '\0' && t->failing ? t->failure : entry->text);
    }
    pthread_mutex_unlock(&t->lock);
    return state;
}

enum drain_state drain_thread_slot_state(struct drain_thread *t, uint32_t slot)
{
    if (t == NULL || slot >= SLOTS)
        return DRAIN_NONE;
    pthread_mutex_lock(&t->lock);
    enum drain_state state = state_of(t, &t->entries[slot]);
    pthread_mutex_unlock(&t->lock);
    return state;
}

void drain_thread_drop(struct drain_thread *t, uint32_t slot)
{
    if (t == NULL || slot >= SLOTS)
        return;
    pthread_mutex_lock(&t->lock);
    struct entry *entry = &t->entries[slot];
    if (entry->state == DRAIN_PENDING && next_entry(t, false) == entry)
        atomic_store(&t->control.cancel, true); /* at worst another's attempt, which is then made again */
    entry->state = DRAIN_NONE;
    entry->serial = ++t->next_serial;
    pthread_cond_broadcast(&t->changed);
    pthread_mutex_unlock(&t->lock);
}

void drain_thread_wait(struct drain_thread *t, double seconds)
{
    struct timespec until = threads_deadline(seconds);

    if (t == NULL) {
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
        return;
    }
    atomic_store(&t->control.pause, false);
    pthread_mutex_lock(&t->lock);
    pthread_cond_timedwait(&t->changed, &t->lock, &until);
    pthread_mutex_unlock(&t->lock);
}

void drain_thread_pause(struct drain_thread *t, bool pause)
{
    if (t != NULL)
        atomic_store(&t->control.pause, pause);
}

void drain_thread_limit(struct drain_thread *t, uint64_t bytes_per_s, double cpu_share)
{
    if (t == NULL)
        return;
    atomic_store(&t->control.pace.bytes_per_s, bytes_per_s);
    atomic_store(&t->control.pace.cpu_ns_per_s, (uint64_t)(cpu_share * 1e9));
}

void drain_thread_hurry(struct drain_thread *t)
{
    if (t != NULL)
        pace_lift(&t->control.pace);
}

struct drain_report drain_thread_report(struct drain_thread *t)
{
    struct drain_report report = {.shards = 0};

    if (t == NULL)
        return report;
    report.shards = atomic_load(&t->control.shards_stored);
    report.bytes = atomic_load(&t->control.bytes_stored);
    report.traffic = object_store_traffic(t->objects);
    report.cpu_seconds = (double)(report.traffic.cpu_ns + atomic_load(&t->control.work_cpu_ns)) * 1e-9;
    pthread_mutex_lock(&t->lock);
    report.seconds = t->seconds;
    pthread_mutex_unlock(&t->lock);
    return report;
}

static void log_report(struct drain_thread *t)
{
    char text[DRAIN_REPORT_MAX];
    const struct drain_report report = drain_thread_report(t);

    drain_report_text(&report, text);
    if (report.shards > 0 || report.traffic.retries > 0)
        diag_log(&t->diag, DIAG_INFO, "drained %s", text);
}

void drain_thread_stop(struct drain_thread *t)
{
    if (t == NULL)
        return;
    pthread_mutex_lock(&t->lock);
    t->stop = true;
    atomic_store(&t->control.cancel, true);
    pthread_cond_broadcast(&t->changed);
    pthread_mutex_unlock(&t->lock);
    pthread_join(t->thread, NULL);
    log_report(t);
    free_all(t);
}
