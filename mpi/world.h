/**
 * The communicator of a handle and where its ranks are: nodes (virtual ones too), this rank's node, and the one
 * converter that every MPI return code goes through.
 */
#ifndef DCACHE_MPI_WORLD_H
#define DCACHE_MPI_WORLD_H

#include "io/diag.h"

/** Tags on world.comm, which nobody else sends on. Fetch replies use WORLD_TAG_FETCH + a small serial. */
enum world_tag {
    WORLD_TAG_SETUP = 1,
    WORLD_TAG_NOTICE,
    WORLD_TAG_DATA,
    WORLD_TAG_ACK,
    WORLD_TAG_REQUEST,
    WORLD_TAG_FETCH = 64
};

/** Plain data but for the communicators; world_close() frees what it owns. */
struct world {
    MPI_Comm
        comm; /**< a duplicate of the caller's, MPI_ERRORS_RETURN; a hang in it means that ranks called differently */
    MPI_Comm node_comm; /**< the ranks of my node */
    int rank, size;
    int node_rank, node_ranks;
    uint32_t node, node_count;
    uint32_t virtual_index; /**< number of my virtual node on its host; 0 on a real one */
    uint32_t virtual_count; /**< virtual nodes on my host; 1 without */
    uint32_t host_count;
    int turn_fd;             /**< mpi/window.h; -1 = none */
    char node_name[128];     /**< host name, with "/index" on a virtual node */
    uint32_t *node_of_rank;  /**< size entries; owned */
    uint32_t *first_of_node; /**< node_count + 1 entries into rank_by_node; owned */
    uint32_t *rank_by_node;  /**< ranks grouped by node, ascending within; owned */
};

/** Turn an MPI return code into DCACHE_OK or DCACHE_ERR_MPI, with a text naming the call and MPI's reason. Failpoint:
 * the call's name, also DCACHE_ERR_MPI. */
dcache_status_t world_check(struct diag *dg, int mpi_code, const char *call) DCACHE_MUST_CHECK;

/** Duplicate the communicator. Collective. The rest is filled by world_find_nodes(). */
dcache_status_t world_open(struct diag *dg, MPI_Comm comm, struct world *world) DCACHE_MUST_CHECK;

/** Group the ranks into nodes: hosts, or every `node_size` consecutive ranks of a host when it is not 0. Collective.
 * A local failure may leave other ranks with success: agree afterwards. */
dcache_status_t world_find_nodes(struct diag *dg, struct world *world, int64_t node_size) DCACHE_MUST_CHECK;

/** Collective. Safe on a zeroed struct whose communicators are MPI_COMM_NULL and whose turn_fd is -1. */
void world_close(struct world *world);

#endif
