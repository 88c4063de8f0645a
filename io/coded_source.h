/**
 * An image as the source of a coded object: frames made ahead on a few threads while others send what is made already,
 * then the index. Memory is bounded: two frames for each thread. How long the object will be is known at its end only.
 */
#ifndef DCACHE_IO_CODED_SOURCE_H
#define DCACHE_IO_CODED_SOURCE_H

#include "io/codec_key.h"
#include "io/object_store.h"

#include <semaphore.h>

enum codec_compress { COMPRESS_NONE, COMPRESS_AUTO, COMPRESS_ALWAYS };

/** What all sources of one drain share, so that several at once take no more CPUs than one. */
struct coded_turns {
    sem_t free;               /**< as many as threads may compress and encrypt at the same time */
    _Atomic uint64_t *cpu_ns; /**< what that takes is added to it */
};

/** How a drainer is to store shards. */
struct codec_settings {
    enum codec_compress compress;
    int level;
    unsigned threads;            /**< 1 to WORKERS_MAX */
    const struct codec_key *key; /**< NULL: not encrypted */
    struct coded_turns *turns;   /**< NULL: there are no other sources, and nobody counts */
    uint64_t pack_below;         /**< shards of fewer bytes are put together where requests are dear; 0: none */
};

/**
 * The codec for one image. With COMPRESS_AUTO some of its chunks are compressed first, to see whether that is worth it.
 * @param plain  the image; read by offset
 */
dcache_status_t coded_source_choose(struct diag *dg, const struct codec_settings *settings,
                                    const struct object_source *plain, uint64_t header_bytes,
                                    enum codec *codec) DCACHE_MUST_CHECK;

struct coded_source;

/**
 * Begin. `plain` is the image and must live as long; its read is called in ascending order, by one thread at a time.
 * @param source  out: to be put
 */
dcache_status_t coded_source_open(struct diag *dg, const struct codec_settings *settings,
                                  const struct codec_object *about, const struct object_source *plain,
                                  struct coded_source **coded, struct object_source *source) DCACHE_MUST_CHECK;

/** NULL is allowed. */
void coded_source_close(struct coded_source *coded);

#endif
