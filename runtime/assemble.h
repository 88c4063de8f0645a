/**
 * One rank's shard from whatever still has its chunks: own copy, other copies on this node, replicas on other nodes,
 * the object store; each chunk verified by its digest, a bad one taken from the next source.
 */
#ifndef DCACHE_RUNTIME_ASSEMBLE_H
#define DCACHE_RUNTIME_ASSEMBLE_H

#include "mpi/fanin.h"
#include "runtime/survey.h"

/** What to assemble and where. */
struct assemble_request {
    struct shard_set set;
    uint32_t slot; /**< ring slot that the image is for */
    const struct survey *survey;
    struct fanin *fanin;
    struct manifest_shard in_objects; /**< this rank's shard in the object store; bytes 0 = not there */
};

/** A complete, verified image. `at` is the slot index of its file: request->slot, or a spare one beside the ring when
 * the slot's file holds another step, which assemble_adopt() then replaces. */
struct assemble_result {
    struct slot image;
    struct shard_header header;
    uint32_t at;
    uint64_t bytes_remote;  /**< taken from other nodes */
    uint64_t bytes_objects; /**< taken from the object store */
    uint32_t repaired;      /**< chunks that the own copy had wrong */
};

/** Not collective, but serves other ranks' requests meanwhile.
 * @return DCACHE_OK; DCACHE_ERR_CORRUPT (not all chunks are to be had: the text says which and where they were looked
 * for); DCACHE_ERR_NO_SPACE, DCACHE_ERR_NO_MEMORY, DCACHE_ERR_IO, DCACHE_ERR_MPI */
dcache_status_t assemble(dcache_t *dc, const struct assemble_request *request,
                         struct assemble_result *result) DCACHE_MUST_CHECK;

/** Make the image the own copy in ring slot request->slot; the result's memory moves to the handle. */
dcache_status_t assemble_adopt(dcache_t *dc, const struct assemble_request *request,
                               struct assemble_result *result) DCACHE_MUST_CHECK;

/** Give a result up. Safe on a zeroed one. */
void assemble_release(dcache_t *dc, struct assemble_result *result);

#endif
