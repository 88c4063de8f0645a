#include "runtime/notices.h"

#include "io/instance_metadata.h"
#include "io/threads.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* As the service's manual advises. Its first answer may take two minutes: asking turns it on. */
#define POLL_S     1
#define PATIENCE_S 150.0
#define PLACE_S    10.0
#define SLOW_S     60 /* between tries while it does not answer */
#define KNOWN_MAX  64

struct notices {
    pthread_t thread;
    pthread_mutex_t lock; /* guards heard and stop */
    pthread_cond_t wake;
    struct notices_heard heard;
    bool stop;
    atomic_bool cancel;
    struct diag diag; /* from here on the thread's own */
    struct http_client *client;
    char url[1024];
    char name[INSTANCE_METADATA_NAME_MAX];
    uint64_t known[KNOWN_MAX]; /* events already counted, used in turn */
    size_t known_count;
    bool failing;
};

static bool is_known(const struct notices *n, uint64_t id)
{
    for (size_t i = 0; i < KNOWN_MAX && i < n->known_count; i++) {
        if (n->known[i] == id)
            return true;
    }
    return false;
}

/* Count what is new; the time of departure is that of this answer: an event that is cancelled is not in it any more. */
static void take_events(struct notices *n, const struct scheduled_events *events)
{
    struct notices_heard heard = n->heard; /* nobody else writes it */

    heard.leaves_at = INT64_MAX;
    for (size_t i = 0; i < events->count; i++) {
        const struct scheduled_event *event = &events->list[i];
        if (event->kind != SCHEDULED_FREEZE && event->not_before > 0 && event->not_before < heard.leaves_at)
            heard.leaves_at = event->not_before;
        if (is_known(n, event->id))
            continue;
        n->known[n->known_count++ % KNOWN_MAX] = event->id;
        heard.checkpoint++;
        heard.stop += event->kind == SCHEDULED_LEAVE;
        diag_log(&n->diag, DIAG_WARNING, "Azure has announced that this node (%s) will %s: a checkpoint is asked for",
                 n->name[0] != '\0' ? n->name : "name unknown", scheduled_kind_text(event->kind));
    }
    pthread_mutex_lock(&n->lock);
    n->heard = heard;
    pthread_mutex_unlock(&n->lock);
}

static dcache_status_t ask_once(struct notices *n)
{
    const struct instance_patience patience = {PATIENCE_S, &n->cancel}, short_patience = {PLACE_S, &n->cancel};
    struct instance_place place;
    struct scheduled_events events;
    dcache_status_t status = DCACHE_OK;

    if (n->name[0] == '\0') {
        status = instance_metadata_place(&n->diag, n->client, n->url, &short_patience, &place);
        if (status == DCACHE_OK)
            memcpy(n->name, place.name, sizeof n->name);
    }
    if (status != DCACHE_ERR_CANCELLED) /* a machine without a name can still be told */
        status = instance_metadata_events(&n->diag, n->client, n->url, &patience, n->name, &events);
    if (status == DCACHE_OK)
        take_events(n, &events);
    if (status != DCACHE_OK && status != DCACHE_ERR_CANCELLED && !n->failing)
        diag_log(&n->diag, DIAG_WARNING, "scheduled events cannot be seen (option events): %s", n->diag.text);
    n->failing = status != DCACHE_OK;
    return status;
}

static void *thread_main(void *argument)
{
    struct notices *n = argument;
    int pause = POLL_S;

    for (;;) {
        pause = ask_once(n) == DCACHE_OK ? POLL_S : pause < SLOW_S ? 2 * pause : SLOW_S;
        const struct timespec until = threads_deadline(pause);
        pthread_mutex_lock(&n->lock);
        while (!n->stop && pthread_cond_timedwait(&n->wake, &n->lock, &until) == 0)
            continue;
        bool stop = n->stop;
        pthread_mutex_unlock(&n->lock);
        if (stop)
            return NULL;
    }
}

static void free_notices(struct notices *n)
{
    http_client_close(n->client);
    pthread_cond_destroy(&n->wake);
    pthread_mutex_destroy(&n->lock);
    free(n);
}

dcache_status_t notices_start(struct diag *dg, const char *url, struct notices **notices)
{
    struct notices *n = calloc(1, sizeof *n);

    if (n == NULL)
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "out of memory for watching scheduled events");
    n->diag = *dg;
    n->heard.leaves_at = INT64_MAX;
    snprintf(n->url, sizeof n->url, "%s", url);
    threads_init(&n->lock, &n->wake);
    dcache_status_t status = http_client_open(dg, &n->client);
    if (status != DCACHE_OK)
        goto failed;
    int code = threads_start(&n->thread, thread_main, n);
    if (code != 0) {
        status = diag_fail_errno(dg, code, "cannot start a thread that watches scheduled events");
        goto failed;
    }
    *notices = n;
    return DCACHE_OK;

failed:
    free_notices(n);
    return status;
}

struct notices_heard notices_read(struct notices *notices)
{
    struct notices_heard heard = {0, 0, INT64_MAX};

    if (notices == NULL)
        return heard;
    pthread_mutex_lock(&notices->lock);
    heard = notices->heard;
    pthread_mutex_unlock(&notices->lock);
    return heard;
}

void notices_stop(struct notices *notices)
{
    if (notices == NULL)
        return;
    atomic_store(&notices->cancel, true);
    pthread_mutex_lock(&notices->lock);
    notices->stop = true;
    pthread_cond_signal(&notices->wake);
    pthread_mutex_unlock(&notices->lock);
    pthread_join(notices->thread, NULL);
    free_notices(notices);
}
