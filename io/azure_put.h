/**
 * Putting an object into Azure Blob Storage. One of one block is a Put Blob, a larger one Put Blocks, several of them
 * in flight, and a Put Block List, which makes the object appear at once and whole. Each put has a random identity. It
 * is part of its block ids, so that two writers of one key do not mix their blocks, and becomes metadata of the object,
 * so that a writer who never saw the answer to its commit can tell its own object from another's.
 */
#ifndef DCACHE_IO_AZURE_PUT_H
#define DCACHE_IO_AZURE_PUT_H

#include "io/azure_call.h"

/** The slot `put` of struct object_store_ops. Several puts at a time share the store's blocks. */
dcache_status_t azure_put_object(struct object_store *base, struct diag *dg, const char *key,
                                 const struct object_source *source, enum object_condition condition,
                                 const atomic_bool *cancel) DCACHE_MUST_CHECK;

/** The slot `swap`. */
dcache_status_t azure_put_swap(struct object_store *base, struct diag *dg, const char *key, const char *etag,
                               const void *data, size_t bytes, const atomic_bool *cancel) DCACHE_MUST_CHECK;

#endif
