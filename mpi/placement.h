/**
 * Placement: a node table in; partners, replica hosts and drain ranks out. Pure: no MPI, no clock, no random numbers,
 * the same answer on every rank; works for 8 ranks in a test and for 100,000 nodes in a simulation (O(n log n) time).
 */
#ifndef DCACHE_MPI_PLACEMENT_H
#define DCACHE_MPI_PLACEMENT_H

#include "io/diag.h"

/** Who is where. Ranks of a node may be any, not only consecutive ones. */
struct placement_input {
    uint32_t node_count;
    uint32_t rank_count;
    const uint32_t *node_of_rank;   /**< rank_count entries, each < node_count; every node has at least one rank */
    const uint32_t *domain_of_node; /**< node_count entries; NULL = every node is its own failure domain */
    uint32_t drain_ranks_per_node;  /**< >= 1; the first so many ranks of a node drain */
    uint32_t drain_nodes; /**< at most so many nodes drain; 0 = all; raised to what is needed to reach every shard */
};

#define PLACEMENT_NONE UINT32_MAX

/** Owned by the caller; placement_free(). */
struct placement {
    uint32_t *
        partner_of_node; /**< node that holds this node's replicas; another failure domain where one exists; NONE when
                            there is one node only. A permutation without fixed points, so each node hosts one other. */
    uint32_t *host_of_rank; /**< rank on the partner node that receives this rank's replica, spread evenly; or NONE */
    uint32_t *drainer_of_rank;  /**< drain rank that drains this rank's shard: on its node (own copy) or on the partner
                                   node  (replica), loads balanced over the drain ranks */
    uint32_t same_domain_nodes; /**< nodes whose partner had to be in the same failure domain (0 when all is well) */
};

dcache_status_t placement_compute(struct diag *dg, const struct placement_input *input,
                                  struct placement *placement) DCACHE_MUST_CHECK;
void placement_free(struct placement *placement);

#endif
