/**
 * A range of a source that has pieces, as somebody reads it who takes what he gets into his own buffer: in whatever
 * amounts, again from the beginning if need be. Where the buffer has room for whole pieces they are read and verified
 * in it; else by way of memory for one piece.
 */
#ifndef DCACHE_IO_OBJECT_PIECES_H
#define DCACHE_IO_OBJECT_PIECES_H

#include "io/object_store.h"

/** One reader of one range; all zeros but for the first three. For one thread at a time. */
struct object_pieces {
    const struct object_source *source; /**< with pieces */
    uint64_t offset;                    /**< of the range, where a piece begins, or 0 */
    uint64_t bytes;                     /**< of the range, which ends where a piece does */
    unsigned char *piece;               /**< memory for one, once it was needed */
    uint64_t piece_at;                  /**< offset in the object of what is there, */
    size_t piece_bytes;                 /**< and how much that is */
};

/**
 * Read up to `*bytes` bytes (at least 1 of them is in the range) at `at` of the range; `*bytes` becomes how many, at
 * least one.
 * @return DCACHE_OK; DCACHE_ERR_NO_MEMORY; what the source's `fill` returns
 */
dcache_status_t object_pieces_read(struct object_pieces *pieces, struct diag *dg, uint64_t at, void *buffer,
                                   size_t *bytes) DCACHE_MUST_CHECK;

/** Free what it has allocated. */
void object_pieces_close(struct object_pieces *pieces);

#endif
