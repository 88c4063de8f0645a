/** The job's claim (io/claim.h) as commands of the tool hold it while they change what is in the object store. */
#ifndef DCACHE_RUNTIME_CLI_TOOL_CLAIM_H
#define DCACHE_RUNTIME_CLI_TOOL_CLAIM_H

#include "runtime/claim_keeper.h"
#include "runtime/cli/overview.h"

struct tool_claim {
    struct claim_guard guard;
    struct claim_keeper *keeper; /* NULL: there is none to be held */
};

/**
 * Take it. The overview's node stores are locked: so a run that left its mark in one of them has ended. `alone`: not
 * beside another tool either.
 * @return DCACHE_OK; DCACHE_ERR_BUSY: a run of the job is alive, somewhere; errors of the store
 */
dcache_status_t tool_claim_begin(struct overview *overview, struct object_store *store, bool alone,
                                 struct tool_claim *claim) DCACHE_MUST_CHECK;

/** What a drain's request has to show; NULL when there is no claim. */
struct claim_guard *tool_claim_guard(struct tool_claim *claim);

/** Give it back. */
void tool_claim_end(struct tool_claim *claim);

#endif
