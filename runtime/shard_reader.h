/**
 * Any rank's shard of a set, read in parts from whatever copies there are: node stores of all nodes, then the object
 * store. Every chunk is verified; a bad one is taken from the next copy.
 */
#ifndef DCACHE_RUNTIME_SHARD_READER_H
#define DCACHE_RUNTIME_SHARD_READER_H

#include "io/shard_object.h"
#include "mpi/fanin.h"
#include "runtime/survey.h"

/** Where the copies of a set are. Borrowed. */
struct shard_copies {
    dcache_t *dc;
    const struct survey *survey;
    struct fanin *fanin;
    const struct manifest *manifest; /**< NULL: not in the object store */
    struct shard_set set;
};

struct shard_reader {
    const struct shard_copies *copies;
    uint32_t rank;
    struct shard_header header;
    char *image;                /**< address space for the whole image; what was fetched is there at its offset */
    unsigned char *wanted;      /**< per chunk: to be fetched */
    struct shard_object object; /**< open once it was needed */
    size_t place_count;
    struct shard_place {
        struct fanin_source source;
        uint64_t header_bytes;
    } * places;
};

/** Find the copies and read the header. Not collective, but serves other ranks meanwhile, as all functions here.
 * `copies` must outlive the reader. To be closed also after a failure.
 * @return DCACHE_OK; DCACHE_ERR_CORRUPT (no copy has a good header); DCACHE_ERR_NO_MEMORY, DCACHE_ERR_MPI */
dcache_status_t shard_reader_open(struct shard_reader *reader, const struct shard_copies *copies,
                                  uint32_t rank) DCACHE_MUST_CHECK;

/** Have the chunks of this range of the image fetched by the next shard_reader_fetch(). */
void shard_reader_want(struct shard_reader *reader, uint64_t offset, uint64_t bytes);

/** @return DCACHE_OK; DCACHE_ERR_CORRUPT (a chunk is good in no copy: the text names it); DCACHE_ERR_MPI */
dcache_status_t shard_reader_fetch(struct shard_reader *reader) DCACHE_MUST_CHECK;

/** Safe on a zeroed one. */
void shard_reader_close(struct shard_reader *reader);

#endif
