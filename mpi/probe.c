/* Does RMA work here? Tried, not guessed: which osc component Open MPI picks, and what it can do between hosts, depends
 * on the network, on MCA parameters and on the thread level. */
#include "io/threads.h"
#include "mpi/agree.h"
#include "mpi/transport.h"
#include "mpi/window.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PHASES         3
#define PASSIVE_WAIT_S 0.1 /* times ranks per core, where ranks share cores */
#define PASSIVE_LOOKS  300 /* at least: a host that does not let us run for long says nothing about its network */

/* A phase for each node such that no node puts while its partner does: the partners form cycles, whose nodes alternate,
 * and the last of an odd cycle goes alone. */
static int *node_phases(const struct placement *placement, uint32_t node_count)
{
    int *phase = malloc(node_count * sizeof *phase);

    if (phase == NULL)
        return NULL;
    for (uint32_t n = 0; n < node_count; n++)
        phase[n] = -1;
    for (uint32_t first = 0; first < node_count; first++) {
        int next = 0;
        uint32_t last = first;
        for (uint32_t n = first; n != PLACEMENT_NONE && phase[n] < 0; n = placement->partner_of_node[n]) {
            phase[n] = next;
            next = 1 - next;
            last = n;
        }
        if (last != first && phase[last] == phase[first] && placement->partner_of_node[last] == first)
            phase[last] = 2;
    }
    return phase;
}

static unsigned char pattern(int rank, uint32_t at)
{
    return (unsigned char)(1u + ((unsigned)rank * 31u + at) % 255u); /* never 0, which is what is there before */
}

/* The last bytes come last on every transport that keeps order; where they do not, the check behind the barrier tells.
 */
static bool watch(const struct world *world, const volatile unsigned char *tail)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    double ranks = (double)world->virtual_count * world->node_ranks;
    double until = threads_now() + PASSIVE_WAIT_S * (cores > 0 && ranks > (double)cores ? ranks / (double)cores : 1.0);

    for (int looks = 0; *tail == 0 && (looks < PASSIVE_LOOKS || threads_now() < until); looks++)
        usleep(200); /* the putting rank may want this core */
    return *tail != 0;
}

static bool check(const unsigned char *bytes, uint32_t count, int rank)
{
    for (uint32_t i = 0; i < count; i++) {
        if (bytes[i] != pattern(rank, i))
            return false;
    }
    return true;
}

struct attempt {
    int host, host_phase; /* where I put, or -1; my phase */
    int guest, guest_phase;
    unsigned char *source, *target;
    uint32_t bytes;
    MPI_Win window;
    bool arrives, passive;
};

/* Only the first guest of each host takes part, so that nobody writes over another's bytes. */
static void find_roles(const struct world *world, const struct placement *placement, const int *phases,
                       struct attempt *attempt)
{
    uint32_t host = placement->host_of_rank[world->rank];

    attempt->host = attempt->guest = -1;
    if (host != PLACEMENT_NONE) {
        uint32_t node = world->node_of_rank[host];
        uint32_t host_ranks = world->first_of_node[node + 1] - world->first_of_node[node];
        if ((uint32_t)world->node_rank < host_ranks)
            attempt->host = (int)host;
    }
    attempt->host_phase = phases[world->node];
    for (int r = 0; r < world->size && attempt->guest < 0; r++) {
        if (placement->host_of_rank[r] == (uint32_t)world->rank) {
            attempt->guest = r;
            attempt->guest_phase = phases[world->node_of_rank[r]];
        }
    }
}

static int put_pattern(struct attempt *attempt, int rank)
{
    for (uint32_t i = 0; i < attempt->bytes; i++)
        attempt->source[i] = pattern(rank, i);
    int code = MPI_Put(attempt->source, (int)attempt->bytes, MPI_BYTE, attempt->host, 0, (int)attempt->bytes, MPI_BYTE,
                       attempt->window);
    return code == MPI_SUCCESS ? MPI_Win_flush(attempt->host, attempt->window) : code;
}

static void run_phases(const struct world *world, struct attempt *attempt)
{
    attempt->arrives = attempt->passive = true;
    for (int phase = 0; phase < PHASES; phase++) {
        MPI_Barrier(world->comm);
        if (attempt->host >= 0 && attempt->host_phase == phase)
            attempt->arrives &= put_pattern(attempt, world->rank) == MPI_SUCCESS;
        else if (attempt->guest >= 0 && attempt->guest_phase == phase)
            attempt->passive = watch(world, attempt->target + attempt->bytes - 1);
        MPI_Barrier(world->comm);
        if (attempt->guest >= 0 && attempt->guest_phase == phase)
            attempt->arrives &= check(attempt->target, attempt->bytes, attempt->guest);
    }
}

static dcache_status_t open_window(const struct world *world, struct diag *dg, struct attempt *attempt)
{
    int *model = NULL, found = 0;

    dcache_status_t status = window_create(dg, world, attempt->target, attempt->bytes, &attempt->window);
    if (status != DCACHE_OK) {
        attempt->window = MPI_WIN_NULL;
        return status;
    }
    MPI_Win_get_attr(attempt->window, MPI_WIN_MODEL, &model, &found);
    if (!found || *model != MPI_WIN_UNIFIED)
        return diag_fail(dg, DCACHE_ERR_MPI, "the MPI's windows do not have the unified memory model");
    return world_check(dg, MPI_Win_lock_all(MPI_MODE_NOCHECK, attempt->window), "MPI_Win_lock_all");
}

static void describe(struct transport_probe *probe, const char *failure)
{
    if (!probe->window)
        snprintf(probe->reason, sizeof probe->reason,
                 "no window over these hosts: %.120s; on InfiniBand or TCP with UCX set OMPI_MCA_osc=ucx,rdma,sm "
                 "(docs/operations.md)",
                 failure);
    else if (!probe->arrives)
        snprintf(probe->reason, sizeof probe->reason,
                 "a put into the partner's window did not arrive; try another osc component (OMPI_MCA_osc)");
    else if (!probe->passive)
        snprintf(probe->reason, sizeof probe->reason,
                 "puts complete only while the target is inside MPI, as over TCP; InfiniBand would not need it to be");
    else
        snprintf(probe->reason, sizeof probe->reason, "puts arrive while the target computes");
}

/* A window that only some ranks have cannot be freed, which is collective: it is left behind. */
static dcache_status_t try_window(struct diag *dg, const struct world *world, struct attempt *attempt,
                                  struct transport_probe *probe)
{
    struct diag window_diag = *dg; /* a failure here is a finding */
    dcache_status_t status = agree(world, &window_diag, NULL, open_window(world, &window_diag, attempt));
    int64_t bad[2] = {0, 0};

    probe->window = status == DCACHE_OK;
    if (probe->window) {
        run_phases(world, attempt);
        MPI_Win_unlock_all(attempt->window);
        MPI_Win_free(&attempt->window);
        bad[0] = !attempt->arrives;
        bad[1] = !attempt->passive;
    }
    status = agree_values(world, dg, NULL, DCACHE_OK, bad, 2);
    probe->arrives = probe->window && bad[0] == 0;
    probe->passive = probe->arrives && bad[1] == 0;
    describe(probe, window_diag.text);
    return status;
}

dcache_status_t transport_probe(struct diag *dg, const struct world *world, const struct placement *placement,
                                void *scratch, struct transport_probe *probe)
{
    struct attempt attempt = {.bytes = TRANSPORT_PROBE_BYTES, .target = scratch, .window = MPI_WIN_NULL};
    int *phases = node_phases(placement, world->node_count);
    dcache_status_t status = DCACHE_OK;

    attempt.source = malloc(attempt.bytes);
    if (phases == NULL || attempt.source == NULL)
        status = diag_fail(dg, DCACHE_ERR_NO_MEMORY, "out of memory for the transport probe");
    status = agree(world, dg, NULL, status);
    if (status == DCACHE_OK) {
        find_roles(world, placement, phases, &attempt);
        memset(attempt.target, 0, attempt.bytes);
        status = try_window(dg, world, &attempt, probe);
    }
    free(attempt.source);
    free(phases);
    return status;
}
