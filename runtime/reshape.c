#include "runtime/reshape.h"

#include "io/crc64.h"
#include "mpi/gather.h"
#include "runtime/blocks.h"
#include "runtime/regions.h"
#include "runtime/shard_reader.h"

#include <stdlib.h>
#include <string.h>

/* A region of a former rank, as all ranks get to know it. Plain data, sent as it is. */
struct former_region {
    struct shard_region shape;
    uint64_t crc; /* of its bytes, when it is no block */
    uint64_t rank;
};

/* A part of one of our regions, and the former region that has it. */
struct piece {
    uint32_t rank; /* former */
    uint32_t region;
    size_t former;
    struct block part;
};

struct reshape {
    dcache_t *dc;
    struct shard_copies copies;
    struct former_region *former; /* of all former ranks; owned */
    size_t former_count;
    struct piece *pieces; /* owned */
    size_t piece_count, piece_room;
    struct reshaped *reshaped;
};

static struct agree_idle idle_of(const struct reshape *r)
{
    return fanin_idle(r->copies.fanin);
}

/* ---- what there was: each rank looks at a share of the former shards, all learn of all ---- */

static dcache_status_t digest_whole_regions(struct shard_reader *reader, struct former_region *former)
{
    const struct shard_header *header = &reader->header;

    for (uint32_t i = 0; i < header->region_count; i++) {
        if (!header->regions[i].is_block)
            shard_reader_want(reader, header->regions[i].offset, header->regions[i].bytes);
    }
    dcache_status_t status = shard_reader_fetch(reader);
    for (uint32_t i = 0; status == DCACHE_OK && i < header->region_count; i++) {
        const struct shard_region *region = &header->regions[i];
        if (!region->is_block && region->bytes > 0)
            former[i].crc = crc64_update(0, reader->image + region->offset, region->bytes);
    }
    return status;
}

static dcache_status_t add_former(struct reshape *r, struct shard_reader *reader, struct former_region **list,
                                  size_t *count)
{
    uint32_t more = reader->header.region_count;
    struct former_region *longer = realloc(*list, (*count + more + 1) * sizeof *longer);

    if (longer == NULL)
        return diag_fail(&r->dc->diag, DCACHE_ERR_NO_MEMORY, "out of memory for %zu regions", *count + more);
    *list = longer;
    struct former_region *added = longer + *count;
    memset(added, 0, more * sizeof *added); /* padding is sent, too */
    for (uint32_t i = 0; i < more; i++) {
        added[i].shape = reader->header.regions[i];
        added[i].rank = reader->rank;
    }
    *count += more;
    return digest_whole_regions(reader, added);
}

static dcache_status_t look_at_share(struct reshape *r, struct former_region **list, size_t *count)
{
    dcache_status_t status = diag_failpoint(&r->dc->diag, "reshape.look");

    for (uint32_t rank = (uint32_t)r->dc->world.rank; status == DCACHE_OK && rank < r->copies.set.world_size;
         rank += (uint32_t)r->dc->world.size) {
        struct shard_reader reader;
        status = shard_reader_open(&reader, &r->copies, rank);
        if (status == DCACHE_OK)
            status = add_former(r, &reader, list, count);
        shard_reader_close(&reader);
    }
    return status;
}

static dcache_status_t learn_former(struct reshape *r)
{
    struct former_region *mine = NULL;
    size_t count = 0, bytes = 0;
    void *all = NULL;
    struct agree_idle idle = idle_of(r);

    dcache_status_t status = look_at_share(r, &mine, &count);
    status = gather_bytes(&r->dc->world, &r->dc->diag, &idle, status, mine, count * sizeof *mine, &all, &bytes);
    free(mine);
    if (status != DCACHE_OK)
        return status;
    r->former = all;
    r->former_count = bytes / sizeof *r->former;
    return DCACHE_OK;
}

/* ---- which parts come from where ---- */

static dcache_status_t add_piece(struct reshape *r, uint32_t region, size_t former, const struct block *part)
{
    if (r->piece_count == r->piece_room) {
        size_t room = r->piece_room == 0 ? 16 : r->piece_room * 2;
        struct piece *more = realloc(r->pieces, room * sizeof *more);
        if (more == NULL)
            return diag_fail(&r->dc->diag, DCACHE_ERR_NO_MEMORY, "out of memory for %zu parts of regions", room);
        r->pieces = more;
        r->piece_room = room;
    }
    r->pieces[r->piece_count++] = (struct piece){(uint32_t)r->former[former].rank, region, former, *part};
    return DCACHE_OK;
}

static struct block block_of(const struct shard_region *region)
{
    struct block block = {{0}, {0}};

    memcpy(block.start, region->start, region->ndims * sizeof block.start[0]);
    memcpy(block.count, region->count, region->ndims * sizeof block.count[0]);
    return block;
}

/* The same array, or for what is no block the same shape. */
static bool same_thing(const struct shard_region *a, const struct shard_region *b)
{
    if (a->type != b->type || a->ndims != b->ndims || a->is_block != b->is_block)
        return false;
    return memcmp(a->global, b->global, a->ndims * sizeof a->global[0]) == 0;
}

static dcache_status_t check_former(struct reshape *r, const struct shard_region *mine,
                                    const struct former_region *former)
{
    if (same_thing(mine, &former->shape))
        return DCACHE_OK;
    return diag_fail(&r->dc->diag, DCACHE_ERR_MISMATCH,
                     "region '%s' is not what rank %llu of the %u ranks that took step %llu had under this name: the "
                     "type and the extent of the global array must be the same",
                     mine->name, (unsigned long long)former->rank, r->copies.set.world_size,
                     (unsigned long long)r->copies.set.step);
}

static dcache_status_t no_cover(struct reshape *r, const struct shard_region *mine, const struct block *hole)
{
    return diag_fail(&r->dc->diag, DCACHE_ERR_MISMATCH,
                     "the %u ranks that took step %llu had no part of region '%s' at index %llu of its first dimension",
                     r->copies.set.world_size, (unsigned long long)r->copies.set.step, mine->name,
                     (unsigned long long)hole->start[0]);
}

static dcache_status_t take_parts(struct reshape *r, uint32_t region, struct block_list *wanted, size_t former)
{
    const struct shard_region *mine = &r->dc->regions[region].shape;
    struct block has = block_of(&r->former[former].shape);
    struct block_list taken = {NULL, 0, 0};

    dcache_status_t status = block_list_take(&r->dc->diag, mine->ndims, wanted, &has, &taken);
    for (size_t i = 0; status == DCACHE_OK && i < taken.count; i++)
        status = add_piece(r, region, former, &taken.blocks[i]);
    block_list_free(&taken);
    return status;
}

static dcache_status_t plan_block(struct reshape *r, uint32_t region)
{
    const struct shard_region *mine = &r->dc->regions[region].shape;
    struct block_list wanted = {NULL, 0, 0};
    struct block whole = block_of(mine);
    dcache_status_t status = DCACHE_OK;

    if (!block_is_empty(mine->ndims, &whole))
        status = block_list_add(&r->dc->diag, &wanted, &whole);
    for (size_t i = 0; status == DCACHE_OK && i < r->former_count; i++) {
        if (strcmp(r->former[i].shape.name, mine->name) != 0)
            continue;
        status = check_former(r, mine, &r->former[i]);
        if (status == DCACHE_OK)
            status = take_parts(r, region, &wanted, i);
    }
    if (status == DCACHE_OK && wanted.count > 0)
        status = no_cover(r, mine, &wanted.blocks[0]);
    block_list_free(&wanted);
    return status;
}

static dcache_status_t not_protected(struct reshape *r, const struct shard_region *mine, uint32_t had)
{
    return diag_fail(&r->dc->diag, DCACHE_ERR_MISMATCH,
                     "region '%s' was protected by %u of the %u ranks that took step %llu, and is no block of a global "
                     "array: unprotect it before dcache_restart(), or launch as before",
                     mine->name, had, r->copies.set.world_size, (unsigned long long)r->copies.set.step);
}

/* All former ranks must have had the same bytes: then it does not matter who has which rank's. Which one is taken
 * differs, so that not all ask the same node. */
static dcache_status_t plan_whole(struct reshape *r, uint32_t region)
{
    const struct shard_region *mine = &r->dc->regions[region].shape;
    uint32_t had = 0, ranks = r->copies.set.world_size;
    size_t first = 0, chosen = 0;
    struct block whole = block_of(mine);

    for (size_t i = 0; i < r->former_count; i++) {
        if (strcmp(r->former[i].shape.name, mine->name) != 0)
            continue;
        dcache_status_t status = check_former(r, mine, &r->former[i]);
        if (status != DCACHE_OK)
            return status;
        first = had++ == 0 ? i : first;
        if (r->former[i].rank == (uint32_t)r->dc->world.rank % ranks)
            chosen = i;
        if (r->former[i].crc != r->former[first].crc)
            return diag_fail(
                &r->dc->diag, DCACHE_ERR_MISMATCH,
                "region '%s' is no block of a global array and differs between the %u ranks that took step "
                "%llu: on another number of ranks it cannot be restored; unprotect it before "
                "dcache_restart() and make it anew, or launch with %u",
                mine->name, ranks, (unsigned long long)r->copies.set.step, ranks);
    }
    if (had != ranks)
        return not_protected(r, mine, had);
    return mine->bytes == 0 ? DCACHE_OK : add_piece(r, region, chosen, &whole);
}

/* On as many ranks as before each has its own. */
static dcache_status_t plan_own(struct reshape *r, uint32_t region)
{
    const struct shard_region *mine = &r->dc->regions[region].shape;
    struct block whole = block_of(mine);

    for (size_t i = 0; i < r->former_count; i++) {
        const struct former_region *former = &r->former[i];
        if (former->rank != (uint32_t)r->dc->world.rank || strcmp(former->shape.name, mine->name) != 0)
            continue;
        dcache_status_t status = check_former(r, mine, former);
        return status == DCACHE_OK && mine->bytes > 0 ? add_piece(r, region, i, &whole) : status;
    }
    return not_protected(r, mine, 0);
}

static dcache_status_t plan_region(struct reshape *r, uint32_t region)
{
    if (r->dc->regions[region].shape.is_block)
        return plan_block(r, region);
    return r->copies.set.world_size == (uint32_t)r->dc->world.size ? plan_own(r, region) : plan_whole(r, region);
}

static int compare_pieces(const void *a, const void *b)
{
    const struct piece *x = a, *y = b;

    return (x->rank > y->rank) - (x->rank < y->rank);
}

static dcache_status_t plan(struct reshape *r)
{
    dcache_status_t status = diag_failpoint(&r->dc->diag, "reshape.plan");

    for (uint32_t i = 0; status == DCACHE_OK && i < r->dc->region_count; i++)
        status = plan_region(r, i);
    if (status == DCACHE_OK && r->piece_count > 0)
        qsort(r->pieces, r->piece_count, sizeof *r->pieces, compare_pieces);
    return status;
}

/* ---- fetching ---- */

static dcache_status_t make_room(struct reshape *r)
{
    const dcache_t *dc = r->dc;

    r->reshaped->bytes = calloc((size_t)dc->region_count + 1, sizeof *r->reshaped->bytes);
    if (r->reshaped->bytes == NULL)
        return diag_fail(&r->dc->diag, DCACHE_ERR_NO_MEMORY, "out of memory for %u regions", dc->region_count);
    r->reshaped->count = dc->region_count;
    for (uint32_t i = 0; i < dc->region_count; i++) {
        r->reshaped->bytes[i] = malloc(dc->regions[i].shape.bytes + 1);
        if (r->reshaped->bytes[i] == NULL)
            return diag_fail(&r->dc->diag, DCACHE_ERR_NO_MEMORY,
                             "out of memory for region '%s' (%llu bytes), which a restart on another number of ranks "
                             "needs a second time",
                             dc->regions[i].shape.name, (unsigned long long)dc->regions[i].shape.bytes);
    }
    return DCACHE_OK;
}

static struct block_rows rows_of(const struct reshape *r, const struct piece *piece)
{
    const struct shard_region *mine = &r->dc->regions[piece->region].shape;
    struct block from = block_of(&r->former[piece->former].shape), to = block_of(mine);
    struct block_rows rows;

    block_rows_start(&rows, mine->ndims, shard_type_bytes(mine->type), &piece->part, &from, &to);
    return rows;
}

static void want_piece(const struct reshape *r, struct shard_reader *reader, const struct piece *piece)
{
    struct block_rows rows = rows_of(r, piece);
    uint64_t from, to;

    while (block_rows_next(&rows, &from, &to))
        shard_reader_want(reader, r->former[piece->former].shape.offset + from, rows.bytes);
}

static void copy_piece(const struct reshape *r, const struct shard_reader *reader, const struct piece *piece)
{
    struct block_rows rows = rows_of(r, piece);
    uint64_t from, to;

    while (block_rows_next(&rows, &from, &to))
        memcpy(r->reshaped->bytes[piece->region] + to, reader->image + r->former[piece->former].shape.offset + from,
               rows.bytes);
}

/* All pieces of one former rank: its copies are verified ones, so what was gathered of its regions is what its header
 * says; should another copy's header differ after all, its digests do not fit. */
static dcache_status_t fetch_pieces(struct reshape *r, const struct piece *pieces, size_t count)
{
    struct shard_reader reader;

    dcache_status_t status = shard_reader_open(&reader, &r->copies, pieces[0].rank);
    for (size_t i = 0; status == DCACHE_OK && i < count; i++) {
        const struct former_region *former = &r->former[pieces[i].former];
        const struct shard_region *there = regions_stored(&reader.header, former->shape.name);
        if (there == NULL || there->offset != former->shape.offset || there->bytes != former->shape.bytes)
            status =
                diag_fail(&r->dc->diag, DCACHE_ERR_CORRUPT, "two copies of rank %u's shard differ", pieces[0].rank);
        else
            want_piece(r, &reader, &pieces[i]);
    }
    if (status == DCACHE_OK)
        status = shard_reader_fetch(&reader);
    for (size_t i = 0; status == DCACHE_OK && i < count; i++)
        copy_piece(r, &reader, &pieces[i]);
    shard_reader_close(&reader);
    return status;
}

static size_t end_of_rank(const struct reshape *r, size_t first)
{
    size_t end = first;

    while (end < r->piece_count && r->pieces[end].rank == r->pieces[first].rank)
        end++;
    return end;
}

/* Ranks begin with different former ranks, so that they do not all ask the same node at a time. */
static dcache_status_t fetch(struct reshape *r)
{
    dcache_status_t status = diag_failpoint(&r->dc->diag, "reshape.fetch");
    size_t start = 0;

    if (status == DCACHE_OK)
        status = make_room(r);
    if (r->piece_count > 0) {
        size_t wanted = (size_t)((uint64_t)r->dc->world.rank * r->piece_count / (uint64_t)r->dc->world.size);
        while (end_of_rank(r, start) <= wanted)
            start = end_of_rank(r, start);
    }
    for (size_t i = start; status == DCACHE_OK && i < r->piece_count; i = end_of_rank(r, i))
        status = fetch_pieces(r, &r->pieces[i], end_of_rank(r, i) - i);
    for (size_t i = 0; status == DCACHE_OK && i < start; i = end_of_rank(r, i))
        status = fetch_pieces(r, &r->pieces[i], end_of_rank(r, i) - i);
    return status;
}

/* ---- the whole ---- */

/* Rank 0's manifest to all: any rank may need any shard. */
static dcache_status_t share_manifest(struct reshape *r, const struct manifest *manifest, struct manifest *shared)
{
    dcache_t *dc = r->dc;
    char *text = NULL;
    size_t bytes = 0;
    dcache_status_t status = DCACHE_OK;

    if (dc->world.rank == 0)
        status = manifest_encode(&dc->diag, manifest, &text, &bytes);
    void *all = NULL;
    size_t total = 0;
    struct agree_idle idle = idle_of(r);
    status = gather_bytes(&dc->world, &dc->diag, &idle, status, text, bytes, &all, &total);
    free(text);
    if (status == DCACHE_OK)
        status = manifest_decode(&dc->diag, "the manifest", all, total, shared);
    free(all);
    return agree(&dc->world, &dc->diag, &idle, status);
}

dcache_status_t reshape_assemble(dcache_t *dc, const struct survey *survey, struct fanin *fanin,
                                 const struct shard_set *set, bool in_objects, const struct manifest *manifest,
                                 struct reshaped *reshaped)
{
    struct reshape r = {.dc = dc, .copies = {dc, survey, fanin, NULL, *set}, .reshaped = reshaped};
    struct manifest shared = {.shards = NULL};
    dcache_status_t status = DCACHE_OK;
    struct agree_idle idle = fanin_idle(fanin);

    memset(reshaped, 0, sizeof *reshaped);
    if (in_objects) {
        status = share_manifest(&r, manifest, &shared);
        r.copies.manifest = &shared;
    }
    if (status == DCACHE_OK)
        status = learn_former(&r);
    if (status == DCACHE_OK)
        status = agree(&dc->world, &dc->diag, &idle, plan(&r));
    if (status == DCACHE_OK)
        status = agree(&dc->world, &dc->diag, &idle, fetch(&r));
    manifest_free(&shared);
    free(r.former);
    free(r.pieces);
    if (status != DCACHE_OK)
        reshape_free(reshaped);
    return status;
}

void reshape_deliver(dcache_t *dc, const struct reshaped *reshaped)
{
    for (uint32_t i = 0; i < reshaped->count; i++) {
        if (dc->regions[i].shape.bytes > 0)
            memcpy(dc->regions[i].memory, reshaped->bytes[i], dc->regions[i].shape.bytes);
    }
}

void reshape_free(struct reshaped *reshaped)
{
    for (uint32_t i = 0; i < reshaped->count; i++)
        free(reshaped->bytes[i]);
    free(reshaped->bytes);
    memset(reshaped, 0, sizeof *reshaped);
}
