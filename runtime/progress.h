/**
 * The progress thread: drives replication behind the computation, where the MPI allows calls from several threads. It
 * works only while the application is outside of the library: context_enter() keeps it off, context_finish() lets it go
 * on.
 */
#ifndef DCACHE_RUNTIME_PROGRESS_H
#define DCACHE_RUNTIME_PROGRESS_H

#include "runtime/context.h"

/** Start the thread if the option progress and the MPI's thread level say so. Not collective.
 * @return DCACHE_OK; DCACHE_ERR_OPTION (progress = thread without MPI_THREAD_MULTIPLE); DCACHE_ERR_NO_MEMORY */
dcache_status_t progress_start(dcache_t *dc) DCACHE_MUST_CHECK;

/** Keep the thread off until progress_release(). Both do nothing where there is none. */
void progress_hold(dcache_t *dc);
void progress_release(dcache_t *dc);

/** Join and free; not held. */
void progress_stop(dcache_t *dc);

#endif
