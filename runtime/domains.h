/**
 * Failure domains: which nodes fail together, because they share a switch, a rack or a power supply. Each node learns
 * the name of its own (option domains); numbers are made of the names, the same on all ranks.
 */
#ifndef DCACHE_RUNTIME_DOMAINS_H
#define DCACHE_RUNTIME_DOMAINS_H

#include "mpi/world.h"
#include "runtime/options.h"

#define DOMAINS_NAME_MAX 288

struct domains {
    uint32_t *of_node;          /**< node_count entries; owned; NULL with domains = none */
    char own[DOMAINS_NAME_MAX]; /**< of this rank's node, on the node's first rank; "" = not known */
    char reason[DIAG_TEXT_MAX]; /**< why it is not known, on all ranks; "" = all are known */
};

/**
 * Find the failure domain of every node. A node whose domain cannot be found counts as one of its own, as all do with
 * domains = none. Collective, agreed.
 * @return DCACHE_OK; DCACHE_ERR_OPTION (the map file cannot be read or understood); DCACHE_ERR_NO_MEMORY,
 * DCACHE_ERR_MPI
 */
dcache_status_t domains_find(struct diag *dg, const struct world *world, const struct options *options,
                             struct domains *domains) DCACHE_MUST_CHECK;
void domains_free(struct domains *domains);

/**
 * The domain of a node in the text of a map file: lines `node domain`, # starts a comment. `node` may have a domain
 * name (host.cluster.example) that the map leaves out. False: it is not in there.
 */
bool domains_look_up(const char *map, const char *node, char domain[DOMAINS_NAME_MAX]);

/** Check the text of a map file. `path` is for messages. */
dcache_status_t domains_check_map(struct diag *dg, const char *path, const char *map) DCACHE_MUST_CHECK;

/** The switches in SLURM_TOPOLOGY_ADDR, "s0.s1.host" of the pattern "switch.switch.node". False: it names none. */
bool domains_parse_slurm(const char *address, const char *pattern, char domain[DOMAINS_NAME_MAX]);

#endif
