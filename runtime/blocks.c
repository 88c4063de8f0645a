#include "runtime/blocks.h"

#include <stdlib.h>
#include <string.h>

bool block_is_empty(uint32_t ndims, const struct block *block)
{
    for (uint32_t d = 0; d < ndims; d++) {
        if (block->count[d] == 0)
            return true;
    }
    return false;
}

static uint64_t end_of(const struct block *block, uint32_t d)
{
    return block->start[d] + block->count[d];
}

/* False when they have nothing in common. */
static bool intersect(uint32_t ndims, const struct block *a, const struct block *b, struct block *common)
{
    memset(common, 0, sizeof *common);
    for (uint32_t d = 0; d < ndims; d++) {
        uint64_t start = a->start[d] > b->start[d] ? a->start[d] : b->start[d];
        uint64_t end = end_of(a, d) < end_of(b, d) ? end_of(a, d) : end_of(b, d);
        if (start >= end)
            return false;
        common->start[d] = start;
        common->count[d] = end - start;
    }
    return true;
}

dcache_status_t block_list_add(struct diag *dg, struct block_list *list, const struct block *block)
{
    if (list->count == list->room) {
        size_t room = list->room == 0 ? 8 : list->room * 2;
        struct block *more = realloc(list->blocks, room * sizeof *more);
        if (more == NULL)
            return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "out of memory for %zu blocks of an array", room);
        list->blocks = more;
        list->room = room;
    }
    list->blocks[list->count++] = *block;
    return DCACHE_OK;
}

/* Cut off, dimension by dimension, what lies before and behind `common`; what remains in the end is `common` itself. */
static dcache_status_t add_remains(struct diag *dg, uint32_t ndims, struct block_list *list, struct block whole,
                                   const struct block *common)
{
    dcache_status_t status = DCACHE_OK;

    for (uint32_t d = 0; d < ndims && status == DCACHE_OK; d++) {
        struct block before = whole, behind = whole;
        before.count[d] = common->start[d] - whole.start[d];
        behind.start[d] = end_of(common, d);
        behind.count[d] = end_of(&whole, d) - end_of(common, d);
        if (before.count[d] > 0)
            status = block_list_add(dg, list, &before);
        if (behind.count[d] > 0 && status == DCACHE_OK)
            status = block_list_add(dg, list, &behind);
        whole.start[d] = common->start[d];
        whole.count[d] = common->count[d];
    }
    return status;
}

dcache_status_t block_list_take(struct diag *dg, uint32_t ndims, struct block_list *wanted, const struct block *has,
                                struct block_list *taken)
{
    size_t count = wanted->count; /* what is cut off lies outside of `has`: it need not be looked at */

    for (size_t i = 0; i < count;) {
        struct block whole = wanted->blocks[i], common;
        if (!intersect(ndims, &whole, has, &common)) {
            i++;
            continue;
        }
        wanted->blocks[i] = wanted->blocks[--count];
        wanted->blocks[count] = wanted->blocks[--wanted->count];
        dcache_status_t status = block_list_add(dg, taken, &common);
        if (status == DCACHE_OK)
            status = add_remains(dg, ndims, wanted, whole, &common);
        if (status != DCACHE_OK)
            return status;
    }
    return DCACHE_OK;
}

void block_list_free(struct block_list *list)
{
    free(list->blocks);
    memset(list, 0, sizeof *list);
}

/* Bytes from one index of dimension d to the next. */
static void strides(uint32_t ndims, size_t element_bytes, const struct block *block, uint64_t *stride)
{
    uint64_t bytes = element_bytes;

    for (uint32_t d = ndims; d-- > 0;) {
        stride[d] = bytes;
        bytes *= block->count[d];
    }
}

void block_rows_start(struct block_rows *rows, uint32_t ndims, size_t element_bytes, const struct block *part,
                      const struct block *from, const struct block *to)
{
    memset(rows, 0, sizeof *rows);
    rows->done = block_is_empty(ndims, part);
    if (rows->done)
        return;
    strides(ndims, element_bytes, from, rows->from_stride);
    strides(ndims, element_bytes, to, rows->to_stride);
    for (uint32_t d = 0; d < ndims; d++) {
        rows->count[d] = part->count[d];
        rows->from += (part->start[d] - from->start[d]) * rows->from_stride[d];
        rows->to += (part->start[d] - to->start[d]) * rows->to_stride[d];
    }
    rows->outer = ndims - 1; /* a row of the last dimension is contiguous in both; more, where rows are whole in both */
    while (rows->outer > 0 && part->count[rows->outer] == from->count[rows->outer] &&
           part->count[rows->outer] == to->count[rows->outer])
        rows->outer--;
    rows->bytes = part->count[rows->outer] * rows->from_stride[rows->outer];
}

bool block_rows_next(struct block_rows *rows, uint64_t *from, uint64_t *to)
{
    if (rows->done)
        return false;
    *from = rows->from;
    *to = rows->to;
    for (uint32_t d = 0; d < rows->outer; d++) {
        *from += rows->at[d] * rows->from_stride[d];
        *to += rows->at[d] * rows->to_stride[d];
    }
    uint32_t d = rows->outer;
    while (d-- > 0) { /* the next index, the last dimension first */
        if (++rows->at[d] < rows->count[d])
            return true;
        rows->at[d] = 0;
    }
    rows->done = true;
    return true;
}
