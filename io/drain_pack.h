/**
 * Several small shards as the source of one object: one image behind the other, each in the form in which it is stored.
 * They are read in one go, straight to where they are sent from, so a pack has at most the bytes of one block.
 *
 * What is put under one name has always the same layout: the name tells who is in it, of which set, and which process
 * made it, and a pack in which an image turns out to be bad is not put at all but made anew without it. So neither a
 * repetition that comes late nor another process can make the places wrong that a part has told.
 */
#ifndef DCACHE_IO_DRAIN_PACK_H
#define DCACHE_IO_DRAIN_PACK_H

#include "io/drain_tasks.h"

/** How packs are made; the same for all of a step. */
struct drain_pack_maker {
    const struct drain_origin *origin;
    const struct governor *governor;
    const struct codec_settings *settings; /**< NULL: plain */
    uint64_t room;                         /**< bytes of one at most */
    uint64_t writer;                       /**< a random number of this process */
};

/** One pack; the caller's, and changed here only. */
struct drain_pack {
    const struct drain_pack_maker *maker;
    char name[MANIFEST_OBJECT_MAX + 1];
    uint32_t store; /**< which of the stores it goes to; set before it is put */
    size_t count;
    const struct drain_item **copies; /**< of each shard, ascending ranks */
    struct manifest_shard *shards;    /**< as they are stored, once it was read */
    uint64_t size;                    /**< UINT64_MAX: it was not read yet */
    size_t bad;                       /**< the one whose copy is bad; `count`: none */
};

/**
 * Prepare a pack of the copies that `next` says, one of each member (at most its copy_count: then the member is left
 * out). `count` is 0 when all are.
 * @return DCACHE_OK; DCACHE_ERR_NO_MEMORY
 */
dcache_status_t drain_pack_open(struct diag *dg, const struct drain_pack_maker *maker, const struct drain_task *task,
                                const size_t *next, struct drain_pack *pack) DCACHE_MUST_CHECK;
/** Safe on a zeroed struct. */
void drain_pack_close(struct drain_pack *pack);

struct object_source drain_pack_source(struct drain_pack *pack);

#endif
