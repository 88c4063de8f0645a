#include "io/object_pieces.h"

#include <stdlib.h>
#include <string.h>

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Where the piece begins that has this byte; of a byte of the head, the byte itself. */
static uint64_t begin_of(const struct object_source *source, uint64_t offset)
{
    return offset < source->head ? offset : offset - (offset - source->head) % source->grain;
}

static bool is_held(const struct object_pieces *pieces, uint64_t offset)
{
    return offset >= pieces->piece_at && offset - pieces->piece_at < pieces->piece_bytes;
}

/* Read the piece with this byte into the memory for one. */
static dcache_status_t hold(struct object_pieces *pieces, struct diag *dg, uint64_t offset)
{
    const struct object_source *source = pieces->source;
    pieces->piece_bytes = 0;
    if (pieces->piece == NULL)
        pieces->piece = malloc(source->grain);
    if (pieces->piece == NULL)
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "no memory for a piece of %zu bytes of an object", source->grain);
    size_t got = 0;
    pieces->piece_at = begin_of(source, offset);
    dcache_status_t status = source->fill(source->context, dg, pieces->piece_at, pieces->piece, source->grain, &got);
    if (status == DCACHE_OK && got <= offset - pieces->piece_at)
        status = diag_fail(dg, DCACHE_ERR_INTERNAL, "a source gave nothing where a piece was asked for");
    if (status == DCACHE_OK)
        pieces->piece_bytes = got;
    return status;
}

dcache_status_t object_pieces_read(struct object_pieces *pieces, struct diag *dg, uint64_t at, void *buffer,
                                   size_t *bytes)
{
    const struct object_source *source = pieces->source;
    const uint64_t offset = pieces->offset + at;
    const size_t room = (size_t)least(*bytes, pieces->bytes - at);
    dcache_status_t status = DCACHE_OK;
    *bytes = 0;
    if (!is_held(pieces, offset) && begin_of(source, offset) == offset)
        status = source->fill(source->context, dg, offset, buffer, room, bytes);
    if (status != DCACHE_OK || *bytes > 0)
        return status;
    if (!is_held(pieces, offset))
        status = hold(pieces, dg, offset);
    if (status != DCACHE_OK)
        return status;
    const uint64_t inside = offset - pieces->piece_at;
    *bytes = (size_t)least(room, pieces->piece_bytes - inside);
    memcpy(buffer, pieces->piece + inside, *bytes);
    return DCACHE_OK;
}

void object_pieces_close(struct object_pieces *pieces)
{
    free(pieces->piece);
    pieces->piece = NULL;
    pieces->piece_bytes = 0;
}
