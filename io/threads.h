/** What the background threads of all floors have in common: how they start, how they wait, and the clock they wait by.
 */
#ifndef DCACHE_IO_THREADS_H
#define DCACHE_IO_THREADS_H

#include <pthread.h>
#include <time.h>

/** Start a thread that takes no signals: the application's are handled on its own threads. Returns 0 or an errno. */
int threads_start(pthread_t *thread, void *(*run)(void *argument), void *argument);

/** A mutex, and a condition that is waited for by the clock of threads_deadline(). */
void threads_init(pthread_mutex_t *lock, pthread_cond_t *condition);

/** Seconds on a clock that no one sets: a jump of the wall clock must not matter. */
double threads_now(void);

/** That clock, so many seconds from now, for pthread_cond_timedwait(). */
struct timespec threads_deadline(double seconds);

#endif
