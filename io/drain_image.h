/**
 * One shard of a node store as the source of an object. It is read with pread(2), and every chunk is verified before it
 * is handed out; its header is in memory from the start, so what the object gets is what was checked. Compressed and
 * encrypted on the way where the settings say so.
 */
#ifndef DCACHE_IO_DRAIN_IMAGE_H
#define DCACHE_IO_DRAIN_IMAGE_H

#include "io/coded_source.h"
#include "io/governor.h"
#include "io/manifest.h"
#include "io/node_store.h"

/** One shard to drain: in which store (index into `stores`), as what, in which slot. */
struct drain_item {
    uint32_t store;
    enum slot_kind kind;
    uint32_t rank;
    uint32_t slot;
};

/** Whose shards they are and where they come from. The stores are an array that items point into. */
struct drain_origin {
    const char *job;
    struct shard_set set;
    const struct node_store *stores;
};

struct drain_image;

/**
 * Open a slot and read its header. Keeps a pointer to the governor.
 * @param image  out: for drain_image_close(); NULL on failure
 * @return DCACHE_OK; DCACHE_ERR_CORRUPT (gone, or another shard is in it by now), DCACHE_ERR_FORMAT,
 *         DCACHE_ERR_NO_MEMORY, DCACHE_ERR_IO
 */
dcache_status_t drain_image_open(struct diag *dg, const struct drain_origin *origin, const struct drain_item *item,
                                 const struct governor *governor, struct drain_image **image) DCACHE_MUST_CHECK;
/** NULL is allowed. */
void drain_image_close(struct drain_image *image);

/** Rank, size and digest, as a plain object of its own. */
struct manifest_shard drain_image_shard(const struct drain_image *image);

/** The slot's file, for texts. */
const char *drain_image_name(const struct drain_image *image);

/** Whether a failure was one of this copy, and not of where it goes. */
bool drain_image_is_bad(const struct drain_image *image);

/** The image in the form in which it is stored. */
struct drain_form {
    enum codec codec;
    struct object_source source; /**< to be put, or read from beginning to end */
    struct object_source plain;
    struct coded_source *coded;
};

/** Choose the form (settings may be NULL: plain) and begin. Give it to drain_form_close() in any case.
 * @param counted  what is read of the image from now on counts as stored */
dcache_status_t drain_form_open(struct diag *dg, struct drain_image *image, const struct codec_settings *settings,
                                bool counted, struct drain_form *form) DCACHE_MUST_CHECK;
void drain_form_close(struct drain_form *form);

#endif
