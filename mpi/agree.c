#include "mpi/agree.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>

/* Order of severity: success, answers (positive), errors; the low half prefers the lowest rank. */
static int64_t encode(dcache_status_t status, int rank)
{
    int64_t severity = status < 0 ? 1000 - (int64_t)status : (int64_t)status;

    return severity == 0 ? 0 : (severity << 32) | (INT32_MAX - rank);
}

static dcache_status_t decode(int64_t word, int *rank)
{
    int64_t severity = word >> 32;

    *rank = (int)(INT32_MAX - (word & INT32_MAX));
    return (dcache_status_t)(severity > 1000 ? 1000 - severity : severity);
}

static int wait_all(MPI_Request *request, const struct agree_idle *idle)
{
    int done = 0, code = MPI_SUCCESS;

    if (idle == NULL || idle->progress == NULL)
        return MPI_Wait(request, MPI_STATUS_IGNORE);
    while (code == MPI_SUCCESS && !done) {
        code = MPI_Test(request, &done, MPI_STATUS_IGNORE);
        if (done)
            break;
        idle->progress(idle->context);
        sched_yield(); /* ranks may share cores */
    }
    return code;
}

/* The failed rank tells what went wrong; the others take its words. */
static dcache_status_t share_text(const struct world *world, struct diag *dg, int failed_rank)
{
    char text[DIAG_TEXT_MAX];

    snprintf(text, sizeof text, "%s", dg->text);
    int code = MPI_Bcast(text, (int)sizeof text, MPI_CHAR, failed_rank, world->comm);
    if (code != MPI_SUCCESS)
        return world_check(dg, code, "MPI_Bcast");
    text[sizeof text - 1] = '\0';
    if (strncmp(text, "rank ", 5) == 0)
        snprintf(dg->text, sizeof dg->text, "%s", text);
    else
        snprintf(dg->text, sizeof dg->text, "rank %d: %.*s", failed_rank, (int)sizeof text - 32, text);
    return DCACHE_OK;
}

dcache_status_t agree_values(const struct world *world, struct diag *dg, const struct agree_idle *idle,
                             dcache_status_t local, int64_t *values, int count)
{
    int64_t mine[1 + AGREE_VALUES_MAX], all[1 + AGREE_VALUES_MAX];
    MPI_Request request;

    mine[0] = encode(local, world->rank);
    for (int i = 0; i < count; i++)
        mine[1 + i] = values[i];
    int code = MPI_Iallreduce(mine, all, 1 + count, MPI_INT64_T, MPI_MAX, world->comm, &request);
    if (code == MPI_SUCCESS)
        code = wait_all(&request, idle);
    if (code != MPI_SUCCESS) /* nothing can be agreed any more: the ranks that can tell, tell */
        return world_check(dg, code, "MPI_Iallreduce");
    if (all[0] != 0) {
        int failed_rank;
        dcache_status_t status = decode(all[0], &failed_rank);
        if (status > 0) /* an answer, which has no text */
            return status;
        dcache_status_t shared = share_text(world, dg, failed_rank);
        return shared == DCACHE_OK ? status : shared;
    }
    for (int i = 0; i < count; i++)
        values[i] = all[1 + i];
    return DCACHE_OK;
}

dcache_status_t agree(const struct world *world, struct diag *dg, const struct agree_idle *idle, dcache_status_t local)
{
    return agree_values(world, dg, idle, local, NULL, 0);
}
