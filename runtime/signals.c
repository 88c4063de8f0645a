#include "runtime/signals.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

static const int watched[] = {SIGUSR1, SIGUSR2, SIGTERM};

#define WATCHED (sizeof watched / sizeof watched[0])

/* The process's, see the header. `previous` is written before the handler that reads it is installed, and never taken
 * back: a handler that is still running when the last handle closes finds what it needs. */
static struct {
    pthread_mutex_t lock; /* of users and of installing */
    unsigned users;
    struct sigaction previous[WATCHED];
    atomic_uint checkpoint, stop;
} signals_of_process = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Only what is async-signal-safe: lock-free atomics, and whatever the program's own handler does. */
static void on_signal(int number, siginfo_t *info, void *context)
{
    int saved = errno;
    size_t i = 0;

    while (i + 1 < WATCHED && watched[i] != number)
        i++;
    const struct sigaction *previous = &signals_of_process.previous[i];
    atomic_fetch_add(number == SIGUSR1 ? &signals_of_process.checkpoint : &signals_of_process.stop, 1);
    if ((previous->sa_flags & SA_SIGINFO) != 0)
        previous->sa_sigaction(number, info, context);
    else if (previous->sa_handler != SIG_DFL && previous->sa_handler != SIG_IGN)
        previous->sa_handler(number);
    errno = saved;
}

static bool is_ours(const struct sigaction *action)
{
    return (action->sa_flags & SA_SIGINFO) != 0 && action->sa_sigaction == on_signal;
}

static int install(size_t i)
{
    struct sigaction current, action;

    if (sigaction(watched[i], NULL, &current) != 0)
        return errno;
    if (is_ours(&current)) /* somebody chains to us, or we were not taken out */
        return 0;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_signal;
    action.sa_mask = current.sa_mask;
    action.sa_flags = SA_SIGINFO | SA_RESTART | (current.sa_flags & SA_ONSTACK);
    signals_of_process.previous[i] = current;
    return sigaction(watched[i], &action, NULL) == 0 ? 0 : errno;
}

static void uninstall(size_t i)
{
    struct sigaction current;

    if (sigaction(watched[i], NULL, &current) == 0 && is_ours(&current))
        (void)sigaction(watched[i], &signals_of_process.previous[i], NULL);
}

dcache_status_t signals_watch(struct diag *dg)
{
    int failed = 0;

    pthread_mutex_lock(&signals_of_process.lock);
    for (size_t i = 0; failed == 0 && signals_of_process.users == 0 && i < WATCHED; i++)
        failed = install(i);
    if (failed == 0)
        signals_of_process.users++;
    pthread_mutex_unlock(&signals_of_process.lock);
    return failed == 0 ? DCACHE_OK : diag_fail_errno(dg, failed, "cannot install a signal handler (option signals)");
}

void signals_unwatch(void)
{
    pthread_mutex_lock(&signals_of_process.lock);
    if (--signals_of_process.users == 0) {
        for (size_t i = 0; i < WATCHED; i++)
            uninstall(i);
    }
    pthread_mutex_unlock(&signals_of_process.lock);
}

struct signals_count signals_read(void)
{
    return (struct signals_count){atomic_load(&signals_of_process.checkpoint), atomic_load(&signals_of_process.stop)};
}
