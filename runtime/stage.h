/** The own copy: making a ring slot's image, and filling it from the application's memory. Not collective. */
#ifndef DCACHE_RUNTIME_STAGE_H
#define DCACHE_RUNTIME_STAGE_H

#include "runtime/context.h"

/** How many bytes its image takes at least, without making one. */
uint64_t stage_bytes(const dcache_t *dc);

/** Make the slot's image anew for the regions as they are protected now. What the slot held is gone. */
dcache_status_t stage_create(dcache_t *dc, struct ring_slot *ring, uint32_t slot) DCACHE_MUST_CHECK;

/** Sort the header's regions by offset; for images that come from elsewhere (restart). */
dcache_status_t stage_order(dcache_t *dc, struct ring_slot *ring) DCACHE_MUST_CHECK;

/** Mark the image WRITING for this set: from here on it is no longer what it was. */
void stage_begin(struct ring_slot *ring, const struct shard_set *set);

/** How to copy. */
struct stage_mode {
    bool stream;      /**< store past the caches */
    bool incremental; /**< the image still holds the step before: leave out chunks whose digest is the same */
};

/**
 * Copy all chunks from the application's memory and digest them, in one pass, with the copy threads if there are any.
 * Afterwards ring->moved tells which chunks changed.
 * @param ready  called for each chunk, in order, on this thread, as soon as it is in the image; may be NULL
 */
void stage_copy(dcache_t *dc, struct ring_slot *ring, struct stage_mode mode,
                void (*ready)(dcache_t *dc, uint32_t index));

/** All chunks are there: write the COMPLETE header. */
void stage_finish(struct ring_slot *ring);

/** Make the image say that it holds nothing. */
void stage_invalidate(struct ring_slot *ring);

/** Map the image of a step that was restored: a restart only reads and writes its file, and what comes later wants it
 * in memory. Nothing happens when it is mapped. */
dcache_status_t stage_map(dcache_t *dc, struct ring_slot *ring) DCACHE_MUST_CHECK;

/** Read the regions of a verified image back into the application's memory. A failure, of a device that gives up on
 * what it has just read well, leaves some of it written. */
dcache_status_t stage_restore(dcache_t *dc, const struct ring_slot *ring) DCACHE_MUST_CHECK;

/** Unmap and free. */
void stage_release(struct ring_slot *ring);

#endif
