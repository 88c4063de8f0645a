/**
 * The node stores of a test's job, seen from outside: losing them, damaging them, and checking what they hold. All
 * functions are collective over MPI_COMM_WORLD; rank 0 does the work while no handle is open or all others wait.
 */
#ifndef DCACHE_TESTS_MPI_STORES_H
#define DCACHE_TESTS_MPI_STORES_H

#include "io/node_store.h"

/** A file of a slot: virtual node, kind, rank and ring slot, and what its header says. */
struct stored {
    unsigned node;
    struct catalog_entry entry;
};

/** Remove the directory of virtual node `index`, as if the node was gone. */
void stores_lose_node(const char *job, unsigned index);

/** Remove the whole job's directory. */
void stores_lose_all(const char *job);

/** Remove every copy that the node stores have of rank's shard of the step. */
void stores_lose_shard(const char *job, uint32_t rank, uint64_t step);

/** Keep a copy of all node stores beside them, and bring it back in place of what is there then. */
void stores_keep(const char *job);
void stores_bring_back(const char *job);

/** All believable slots of the job, on every rank; malloc'ed, the caller's. */
struct stored *stores_list(const char *job, size_t *count);

/** The slot of that kind with a complete copy of rank's shard of the step, or NULL. The newest if there are several. */
const struct stored *stores_find(const struct stored *list, size_t count, enum slot_kind kind, uint32_t rank,
                                 uint64_t step);

/** Path of a slot's file. */
void stores_path(const char *job, const struct stored *stored, char *path, size_t room);

/** Does every rank have an own copy and a replica of the step, both verified to the last byte and on different nodes?
 */
bool stores_redundant(const char *job, uint64_t step, uint32_t ranks);

/** Damage a slot: its header says WRITING from now on, as if its process had been killed in the middle. Not collective.
 */
void stores_mark_writing(const char *job, const struct stored *stored);

/** How many slot files there are, whatever is in them. */
size_t stores_count_files(const char *job);

#endif
