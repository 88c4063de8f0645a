/** Taking the job's claim (io/claim.h) when a context is opened. */
#ifndef DCACHE_RUNTIME_CLAIM_OPEN_H
#define DCACHE_RUNTIME_CLAIM_OPEN_H

#include "runtime/context.h"

/**
 * Take it, for all ranks, and have it kept on rank 0. Nothing is done where nothing will be stored. A store that does
 * not answer is no failure: then it is taken as soon as it does, and nothing is stored before that.
 * Collective. @return DCACHE_OK; DCACHE_ERR_BUSY: another run of this name is alive; agreed
 */
dcache_status_t claim_open(dcache_t *dc) DCACHE_MUST_CHECK;

#endif
