#include "runtime/cli/tool_claim.h"

#include <string.h>
#include <sys/random.h>

/* The run that holds it, when that one has ended. */
static uint64_t ended_run(const struct overview *overview, const struct claim *there)
{
    for (size_t i = 0; i < overview->store_count; i++) {
        if (run_info_left_by(&overview->cli->dg, &overview->stores[i], there->run))
            return there->run;
    }
    return 0;
}

dcache_status_t tool_claim_begin(struct overview *overview, struct object_store *store, bool alone,
                                 struct tool_claim *claim)
{
    struct diag *dg = &overview->cli->dg;
    const double lease = overview->cli->options.claim_lease;
    struct claim there = {.run = 0};
    uint64_t number = 0;

    memset(claim, 0, sizeof *claim);
    if (lease <= 0)
        return DCACHE_OK;
    if (getrandom(&number, sizeof number, 0) != (ssize_t)sizeof number)
        return diag_fail(dg, DCACHE_ERR_INTERNAL, "the system has no random numbers for a claim");
    claim->guard.me = claim_self(CLAIM_TOOL, number, lease < 1 ? 1 : (uint32_t)lease);
    dcache_status_t status = claim_read(dg, store, overview->job, &there);
    if (status != DCACHE_OK && status != DCACHE_NOT_FOUND && status != DCACHE_ERR_CORRUPT)
        return status;
    const bool held = status == DCACHE_OK && there.held;
    if (alone && held && there.owner == CLAIM_TOOL && !claim_holder_ended(&there)) {
        char holder[CLAIM_HOLDER_MAX];
        return diag_fail(dg, DCACHE_ERR_BUSY,
                         "job %s is being drained by %s: wait for it, or, if it has ended without saying so, run "
                         "`dcache drain` once more",
                         overview->job, claim_holder_text(&there, holder));
    }
    status = claim_take(dg, store, overview->job, &claim->guard.me, held ? ended_run(overview, &there) : 0);
    if (status == DCACHE_OK)
        status = claim_keeper_start(dg, store, overview->job, &claim->guard.me, true, &claim->keeper);
    claim->guard.held = status == DCACHE_OK;
    return status;
}

struct claim_guard *tool_claim_guard(struct tool_claim *claim)
{
    return claim->keeper != NULL ? &claim->guard : NULL;
}

void tool_claim_end(struct tool_claim *claim)
{
    claim_keeper_stop(claim->keeper);
    claim->keeper = NULL;
}
