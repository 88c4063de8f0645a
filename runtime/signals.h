/**
 * Signals as notices: SIGUSR1 asks for a checkpoint, SIGUSR2 and SIGTERM for a checkpoint and the end.
 *
 * What a process does with a signal belongs to the process, and a handler is given nothing but the signal's number: so
 * this module alone keeps something outside of handles, namely how many of each have come, and the handlers that were
 * there before. No decision hangs on it: each handle remembers what it has seen, and handles do not see each other.
 */
#ifndef DCACHE_RUNTIME_SIGNALS_H
#define DCACHE_RUNTIME_SIGNALS_H

#include "io/diag.h"

/** How many have come since the process began to watch; they only grow. */
struct signals_count {
    unsigned checkpoint;
    unsigned stop;
};

/** Install the handlers, if this is the first to watch. Handlers that were there are called by ours. */
dcache_status_t signals_watch(struct diag *dg) DCACHE_MUST_CHECK;

/** Put back what was there, if this is the last to watch and nobody has installed another handler since. */
void signals_unwatch(void);

struct signals_count signals_read(void);

#endif
