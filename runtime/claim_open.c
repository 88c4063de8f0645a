#include "runtime/claim_open.h"

#include "io/run_info.h"
#include "mpi/agree.h"

#include <string.h>

/* On rank 0: who holds it, as far as that can be told. Zeroed: nobody. */
static void look(dcache_t *dc, struct claim *there)
{
    struct diag quiet = dc->diag;
    memset(there, 0, sizeof *there);
    if (claim_read(&quiet, dc->objects_quick, dc->job, there) != DCACHE_OK || !there->held)
        memset(there, 0, sizeof *there);
}

/* Any node may know that the holder has ended: it was on this host, or it left its mark in a store whose lock we have.
 */
static int64_t has_ended(dcache_t *dc, const struct claim *there)
{
    if (dc->world.node_rank != 0 || !there->held)
        return 0;
    return run_info_left_by(&dc->diag, &dc->store, there->run) || claim_holder_ended(there);
}

/* On rank 0. What is not another run's claim is a matter for later. */
static dcache_status_t take(dcache_t *dc, uint64_t ended, int64_t *held)
{
    struct diag quiet = dc->diag, *dg = &quiet; /* a test's n-th time is not one of these */
    dcache_status_t status = claim_take(dg, dc->objects_quick, dc->job, &dc->guard.me, ended);
    *held = status == DCACHE_OK;
    memcpy(dc->diag.text, quiet.text, sizeof dc->diag.text);
    if (status == DCACHE_ERR_BUSY || status == DCACHE_ERR_NO_MEMORY || status == DCACHE_ERR_FORMAT)
        return status;
    if (status != DCACHE_OK)
        diag_log(dg, DIAG_WARNING, "nothing is stored until the job's claim in the object store can be had: %s",
                 dg->text);
    return claim_keeper_start(&dc->diag, dc->objects_quick, dc->job, &dc->guard.me, *held, &dc->claim_keeper);
}

dcache_status_t claim_open(dcache_t *dc)
{
    struct claim there;
    int64_t ended, held = 0;

    if (dc->objects == NULL)
        return DCACHE_OK;
    dcache_status_t status = DCACHE_OK;
    if (dc->world.rank == 0)
        status = stripes_check_home(&dc->diag, dc->objects_quick, dc->job);
    status = agree(&dc->world, &dc->diag, NULL, status);
    if (status != DCACHE_OK || dc->options.claim_lease <= 0 || dc->options.drain_every == 0)
        return status;
    const double lease = dc->options.claim_lease < 1 ? 1 : dc->options.claim_lease;
    dc->guard = (struct claim_guard){.me = claim_self(CLAIM_RUN, dc->epoch, (uint32_t)lease)};
    dc->guarded = true;
    if (dc->world.rank == 0)
        look(dc, &there);
    status =
        agree(&dc->world, &dc->diag, NULL,
              world_check(&dc->diag, MPI_Bcast(&there, (int)sizeof there, MPI_BYTE, 0, dc->world.comm), "MPI_Bcast"));
    if (status != DCACHE_OK)
        return status;
    ended = has_ended(dc, &there);
    status = agree_values(&dc->world, &dc->diag, NULL, DCACHE_OK, &ended, 1);
    if (status == DCACHE_OK && dc->world.rank == 0)
        status = take(dc, ended ? there.run : 0, &held);
    status = agree_values(&dc->world, &dc->diag, NULL, status, &held, 1);
    dc->guard.held = held != 0;
    return status;
}
