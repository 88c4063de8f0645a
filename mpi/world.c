#include "mpi/world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

dcache_status_t world_check(struct diag *dg, int mpi_code, const char *call)
{
    char reason[MPI_MAX_ERROR_STRING] = "";
    int length = 0;

    if (mpi_code == MPI_SUCCESS) {
        dcache_status_t status = diag_failpoint(dg, call);
        return status == DCACHE_OK ? DCACHE_OK : diag_fail(dg, DCACHE_ERR_MPI, "%s failed: %s", call, dg->text);
    }
    MPI_Error_string(mpi_code, reason, &length);
    return diag_fail(dg, DCACHE_ERR_MPI, "%s failed: %s", call, reason);
}

dcache_status_t world_open(struct diag *dg, MPI_Comm comm, struct world *world)
{
    memset(world, 0, sizeof *world);
    world->comm = MPI_COMM_NULL;
    world->node_comm = MPI_COMM_NULL;
    world->turn_fd = -1;
    int code = MPI_Comm_dup(comm, &world->comm);
    if (code == MPI_SUCCESS)
        code = MPI_Comm_set_errhandler(world->comm, MPI_ERRORS_RETURN);
    if (code != MPI_SUCCESS)
        return world_check(dg, code, "MPI_Comm_dup");
    MPI_Comm_rank(world->comm, &world->rank);
    MPI_Comm_size(world->comm, &world->size);
    return DCACHE_OK;
}

/* Split the communicator by host, then by virtual node. */
static int split_nodes(struct world *world, int64_t node_size)
{
    MPI_Comm host_comm = MPI_COMM_NULL;
    int host_rank = 0, host_ranks = 0, leaders = 0;

    int code = MPI_Comm_split_type(world->comm, MPI_COMM_TYPE_SHARED, world->rank, MPI_INFO_NULL, &host_comm);
    if (code != MPI_SUCCESS)
        return code;
    MPI_Comm_rank(host_comm, &host_rank);
    MPI_Comm_size(host_comm, &host_ranks);
    int64_t per_node = node_size > 0 ? node_size : host_ranks;
    world->virtual_index = (uint32_t)(host_rank / per_node);
    world->virtual_count = (uint32_t)((host_ranks + per_node - 1) / per_node);
    code = MPI_Comm_split(host_comm, (int)world->virtual_index, world->rank, &world->node_comm);
    int is_leader = host_rank == 0;
    MPI_Comm_free(&host_comm);
    if (code == MPI_SUCCESS)
        code = MPI_Allreduce(&is_leader, &leaders, 1, MPI_INT, MPI_SUM, world->comm);
    world->host_count = (uint32_t)leaders;
    return code;
}

/* Number the nodes in the order of their first ranks, and tell everybody who is where. */
static int number_nodes(struct world *world)
{
    uint32_t is_leader, before = 0;

    MPI_Comm_rank(world->node_comm, &world->node_rank);
    MPI_Comm_size(world->node_comm, &world->node_ranks);
    is_leader = world->node_rank == 0;
    int code = MPI_Exscan(&is_leader, &before, 1, MPI_UINT32_T, MPI_SUM, world->comm);
    if (world->rank == 0)
        before = 0; /* MPI leaves it undefined there */
    if (code == MPI_SUCCESS)
        code = MPI_Bcast(&before, 1, MPI_UINT32_T, 0, world->node_comm);
    world->node = before;
    if (code == MPI_SUCCESS)
        code = MPI_Allreduce(&is_leader, &world->node_count, 1, MPI_UINT32_T, MPI_SUM, world->comm);
    if (code == MPI_SUCCESS)
        code = MPI_Allgather(&world->node, 1, MPI_UINT32_T, world->node_of_rank, 1, MPI_UINT32_T, world->comm);
    return code;
}

static void group_ranks(struct world *world)
{
    uint32_t size = (uint32_t)world->size;

    for (uint32_t r = 0; r < size; r++)
        world->first_of_node[world->node_of_rank[r] + 1]++;
    for (uint32_t n = 0; n < world->node_count; n++)
        world->first_of_node[n + 1] += world->first_of_node[n];
    for (uint32_t r = 0; r < size; r++)
        world->rank_by_node[world->first_of_node[world->node_of_rank[r]]++] = r;
    for (uint32_t n = world->node_count; n > 0; n--) /* the loop above moved each start to its end */
        world->first_of_node[n] = world->first_of_node[n - 1];
    world->first_of_node[0] = 0;
}

static void name_node(struct world *world)
{
    char host[96] = "unknown";

    if (gethostname(host, sizeof host) == 0)
        host[sizeof host - 1] = '\0';
    if (world->virtual_count > 1)
        snprintf(world->node_name, sizeof world->node_name, "%s/%u", host, world->virtual_index);
    else
        snprintf(world->node_name, sizeof world->node_name, "%s", host);
}

dcache_status_t world_find_nodes(struct diag *dg, struct world *world, int64_t node_size)
{
    size_t size = (size_t)world->size;
    /* Sized for the worst case and before any collective, so that running out of memory leaves no rank behind. */
    uint32_t *of_rank = calloc(size, sizeof *of_rank);
    uint32_t *first = calloc(size + 1, sizeof *first);
    uint32_t *grouped = calloc(size, sizeof *grouped);
    int have = of_rank != NULL && first != NULL && grouped != NULL, all_have = 0;

    world->node_of_rank = of_rank;
    world->first_of_node = first;
    world->rank_by_node = grouped;
    int code = MPI_Allreduce(&have, &all_have, 1, MPI_INT, MPI_MIN, world->comm);
    if (code != MPI_SUCCESS)
        return world_check(dg, code, "MPI_Allreduce");
    if (!all_have)
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "out of memory for a table of %zu ranks", size);
    code = split_nodes(world, node_size);
    if (code != MPI_SUCCESS)
        return world_check(dg, code, "MPI_Comm_split_type");
    dcache_status_t status = world_check(dg, number_nodes(world), "MPI_Allgather");
    if (status != DCACHE_OK)
        return status;
    group_ranks(world);
    name_node(world);
    return DCACHE_OK;
}

void world_close(struct world *world)
{
    if (world->turn_fd >= 0)
        close(world->turn_fd);
    free(world->node_of_rank);
    free(world->first_of_node);
    free(world->rank_by_node);
    if (world->node_comm != MPI_COMM_NULL)
        MPI_Comm_free(&world->node_comm);
    if (world->comm != MPI_COMM_NULL)
        MPI_Comm_free(&world->comm);
    memset(world, 0, sizeof *world);
    world->comm = MPI_COMM_NULL;
    world->node_comm = MPI_COMM_NULL;
    world->turn_fd = -1;
}
