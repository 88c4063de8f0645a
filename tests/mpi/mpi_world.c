#include "mpi_world.h"

#include "mpi_support.h"

void test_world_open(struct test_world *tw, int node_size)
{
    diag_init(&tw->dg, "test", support_rank, DIAG_ERROR);
    CHECK(world_open(&tw->dg, MPI_COMM_WORLD, &tw->world) == DCACHE_OK);
    CHECK(world_find_nodes(&tw->dg, &tw->world, node_size) == DCACHE_OK);
    const struct placement_input input = {.node_count = tw->world.node_count,
                                          .rank_count = (uint32_t)tw->world.size,
                                          .node_of_rank = tw->world.node_of_rank,
                                          .drain_ranks_per_node = 1};
    CHECK(placement_compute(&tw->dg, &input, &tw->placement) == DCACHE_OK);
}

void test_world_close(struct test_world *tw)
{
    placement_free(&tw->placement);
    world_close(&tw->world);
}
