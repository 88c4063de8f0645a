/** Bringing what each node found to rank 0. Collective over the context's communicator. */
#ifndef DCACHE_RUNTIME_DOCTOR_GATHER_H
#define DCACHE_RUNTIME_DOCTOR_GATHER_H

#include "runtime/cli/findings.h"
#include "runtime/context.h"

/** One finding for each node: its ranks, its partner, its failure domain. */
void gather_partners(dcache_t *dc, struct findings *all);

/** Add the findings of each host's first rank to rank 0's, with the host's name. */
void gather_findings(dcache_t *dc, const struct findings *own, struct findings *all);

#endif
