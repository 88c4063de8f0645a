/** A struct world and its placement without a handle, for tests of the mpi/ floor alone. */
#ifndef DCACHE_TESTS_MPI_WORLD_H
#define DCACHE_TESTS_MPI_WORLD_H

#include "mpi/placement.h"
#include "mpi/world.h"

struct test_world {
    struct diag dg;
    struct world world;
    struct placement placement;
};

/** MPI_COMM_WORLD, nodes of so many ranks. Collective, as test_world_close() is. */
void test_world_open(struct test_world *tw, int node_size);
void test_world_close(struct test_world *tw);

#endif
