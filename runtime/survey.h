/**
 * The survey at restart: what the stores of all nodes hold, what the object store holds, and which step to try first.
 * After survey_nodes() every rank knows all entries; rank 0 alone asks the object store and chooses.
 */
#ifndef DCACHE_RUNTIME_SURVEY_H
#define DCACHE_RUNTIME_SURVEY_H

#include "io/manifest.h"
#include "runtime/context.h"

/** One slot in one store of one node. Plain data, sent as it is. */
struct survey_entry {
    struct catalog_entry slot;
    uint32_t node;
    uint32_t in_ring; /**< an own copy in a main store: its slot is that of the ring */
};

/** A step that may be restored: all there is of one set. */
struct candidate {
    struct shard_set set;
    uint32_t slot;   /**< ring slot where most own copies are, if below the number of slots */
    bool in_nodes;   /**< every rank has at least one copy in some node store */
    bool unfinished; /**< some copy says WRITING: killed in the middle, and never complete on all nodes */
    bool tried;      /**< failed already, with what was known then */
    bool has_manifest;
    struct manifest manifest; /**< owned; when has_manifest */
};

struct survey {
    struct survey_entry *entries; /**< of all nodes; owned */
    size_t entry_count;
    struct node_store *stores; /**< of this node: [0] is borrowed from the handle, then those of former virtual nodes,
                                  then those of the other tier */
    uint32_t store_count;
    uint32_t main_count;          /**< how many are not of the other tier */
    struct candidate *candidates; /**< rank 0 only; newest first; owned */
    size_t candidate_count;
    bool objects_glanced;           /**< asked for newer steps than the nodes have */
    bool objects_asked;             /**< asked for all */
    dcache_status_t objects_status; /**< rank 0 only: what came of asking */
};

/** Look at all node stores. Collective, agreed. */
dcache_status_t survey_nodes(dcache_t *dc, struct survey *survey) DCACHE_MUST_CHECK;

/**
 * Rank 0 only, not collective: the next candidate to try, NULL when there is none left. The object store is
 * asked once, also when the nodes have a complete step: it may have a newer one, taken on other nodes meanwhile.
 * @param want  DCACHE_LATEST or a step
 * @return borrowed until survey_free()
 */
struct candidate *survey_next(dcache_t *dc, struct survey *survey, uint64_t want);

/** Rank 0 only: why survey_next() found nothing at all. DCACHE_NOT_FOUND, or an error with its text. */
dcache_status_t survey_verdict(dcache_t *dc, const struct survey *survey, uint64_t want);

/** Close all stores but the borrowed one and free everything. */
void survey_free(struct survey *survey);

#endif
