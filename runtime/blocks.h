/**
 * Blocks of a global array: what two of them have in common, what is left of one when another is taken away, and how
 * the common part lies in memory. Pure: numbers in, numbers out.
 */
#ifndef DCACHE_RUNTIME_BLOCKS_H
#define DCACHE_RUNTIME_BLOCKS_H

#include "io/diag.h"

#include <stdbool.h>

/** Start and extent in each dimension, in elements; start + count does not overflow. How many dimensions there are, 1
 * to DCACHE_DIMS_MAX, is told beside it; the others are not looked at. */
struct block {
    uint64_t start[DCACHE_DIMS_MAX];
    uint64_t count[DCACHE_DIMS_MAX];
};

/** Blocks that do not overlap. Zeroed when empty. */
struct block_list {
    struct block *blocks; /**< owned */
    size_t count, room;
};

bool block_is_empty(uint32_t ndims, const struct block *block);

/** @return DCACHE_OK, DCACHE_ERR_NO_MEMORY */
dcache_status_t block_list_add(struct diag *dg, struct block_list *list, const struct block *block) DCACHE_MUST_CHECK;

/** Move what `has` covers of `wanted` to the end of `taken`. After DCACHE_ERR_NO_MEMORY both may only be freed. */
dcache_status_t block_list_take(struct diag *dg, uint32_t ndims, struct block_list *wanted, const struct block *has,
                                struct block_list *taken) DCACHE_MUST_CHECK;

void block_list_free(struct block_list *list);

/** The pieces of a part that are contiguous both in the array's block it is in and in the one it goes to (C order). */
struct block_rows {
    uint32_t outer; /**< dimensions that are counted through */
    uint64_t count[DCACHE_DIMS_MAX];
    uint64_t at[DCACHE_DIMS_MAX];
    uint64_t from_stride[DCACHE_DIMS_MAX]; /**< in bytes */
    uint64_t to_stride[DCACHE_DIMS_MAX];
    uint64_t from, to; /**< of the part's first element, in bytes */
    uint64_t bytes;    /**< of one piece */
    bool done;
};

/** Begin with `part`, which lies in both `from` and `to`. */
void block_rows_start(struct block_rows *rows, uint32_t ndims, size_t element_bytes, const struct block *part,
                      const struct block *from, const struct block *to);

/** The next piece: where it is in either block, in bytes from the block's first element. False: there was none. */
bool block_rows_next(struct block_rows *rows, uint64_t *from, uint64_t *to);

#endif
