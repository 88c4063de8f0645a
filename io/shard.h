/**
 * The shard image: header in the HDF5 user block, HDF5 body behind it (docs/formats.md). This module knows the header:
 * it lays it out, writes it into a mapping, and reads it from bytes that nobody vouches for. It never touches HDF5;
 * io/shard_hdf5.h makes the body.
 */
#ifndef DCACHE_IO_SHARD_H
#define DCACHE_IO_SHARD_H

#include "io/diag.h"

#include <stdbool.h>

#define SHARD_FORMAT_VERSION 1u
#define SHARD_CHUNK_BYTES    (1u << 20)
#define SHARD_JOB_MAX        63
/** Bytes of the fixed part of the header, which has a digest of its own and can be written alone (state WRITING). */
#define SHARD_FIXED_BYTES 256u
/** Bounds that a reader enforces before it believes any count. */
#define SHARD_REGIONS_MAX 65536u
#define SHARD_HEADER_MAX  (1ull << 30)
#define SHARD_FILE_MAX    (1ull << 50)

enum shard_state { SHARD_EMPTY = 0, SHARD_WRITING = 1, SHARD_COMPLETE = 2 };

/** What identifies one attempt to take one checkpoint; shards with the same four belong together. */
struct shard_set {
    uint64_t step;
    uint64_t
        sequence;   /**< grows with every attempt of a job, over relaunches; the newest step is the largest sequence */
    uint64_t epoch; /**< random number of the run that took it */
    uint32_t world_size; /**< number of ranks, so number of shards */
};

/** One region as stored. */
struct shard_region {
    char name[DCACHE_NAME_MAX + 1];
    dcache_type_t type;
    uint32_t ndims;                   /**< 1 to DCACHE_DIMS_MAX */
    bool is_block;                    /**< a block of a global array; else global = count, start = 0 */
    uint64_t global[DCACHE_DIMS_MAX]; /**< in elements */
    uint64_t start[DCACHE_DIMS_MAX];
    uint64_t count[DCACHE_DIMS_MAX];
    uint64_t bytes;  /**< product of count times element size */
    uint64_t offset; /**< of the first byte in the image; 0 when bytes is 0 */
};

/** The header in memory. regions and chunk_crc are owned by it; shard_header_free() frees them. */
struct shard_header {
    enum shard_state state;
    char job[SHARD_JOB_MAX + 1];
    struct shard_set set;
    uint32_t rank;
    uint64_t header_bytes; /**< size of the user block = offset of the body; a power of two >= 4096 */
    uint64_t file_bytes;   /**< size of the whole image */
    uint32_t region_count;
    struct shard_region *regions;
    uint64_t step_offset; /**< image offset of the little-endian uint64 dataset /dcache/step */
    uint32_t chunk_count; /**< ceil((file_bytes - header_bytes) / SHARD_CHUNK_BYTES); chunk i starts at header_bytes + i
                             MiB */
    uint64_t *chunk_crc;  /**< CRC-64/NVME of each chunk; the last chunk may be short */
};

/** Bytes of one element, 0 for an unknown type. */
size_t shard_type_bytes(dcache_type_t type);

/** "float64" and so on; "?" for an unknown type. The string is constant. */
const char *shard_type_name(dcache_type_t type);

/** The user block's size (power of two >= 4096) for that many regions and at most `body_bytes` of body. */
uint64_t shard_header_bytes(uint32_t region_count, uint64_t body_bytes);

/** Offset and length of chunk `index` in the image. */
uint64_t shard_chunk_offset(const struct shard_header *header, uint32_t index);
uint64_t shard_chunk_length(const struct shard_header *header, uint32_t index);

/**
 * Encode the whole header as it stands (state included) into `out`, header->header_bytes long; all of it is written,
 * unused bytes as zero; state EMPTY is all zeros. The fixed part can be stored before the rest: shard_encode_fixed()
 * gives the first SHARD_FIXED_BYTES alone, valid by themselves for state WRITING.
 */
void shard_encode(const struct shard_header *header, void *out);
void shard_encode_fixed(const struct shard_header *header, void *out);

/**
 * Read the fixed part (state, set, rank, sizes; no regions, no digests) of `bytes` untrusted bytes, at least
 * SHARD_FIXED_BYTES of them. Only fields that passed all checks are stored.
 * @return DCACHE_OK; DCACHE_NOT_FOUND (all zero: never written); DCACHE_ERR_CORRUPT (torn, not a shard, nonsense
 *         counts); DCACHE_ERR_FORMAT (a newer format version: the text says what to do)
 */
dcache_status_t shard_decode_fixed(struct diag *dg, const void *data, size_t bytes,
                                   struct shard_header *header) DCACHE_MUST_CHECK;

/**
 * Read a whole COMPLETE header from untrusted bytes; `bytes` >= its header_bytes. Region offsets are checked to lie in
 * the body, names to be valid, products not to overflow. On success the caller owns the header's arrays.
 * @return as shard_decode_fixed(); DCACHE_ERR_CORRUPT also when the state is not COMPLETE; DCACHE_ERR_NO_MEMORY
 */
dcache_status_t shard_decode(struct diag *dg, const void *data, size_t bytes,
                             struct shard_header *header) DCACHE_MUST_CHECK;

/** Read the header of an open file with pread(2). Also checks that the file is as long as the header says. */
dcache_status_t shard_read_header(struct diag *dg, int fd, struct shard_header *header) DCACHE_MUST_CHECK;

/** The CRC-64 of the whole image (encoded header and all chunks), combined without reading the data. */
uint64_t shard_image_crc(const struct shard_header *header, const void *encoded_header);

/** True when both describe the same attempt. */
bool shard_same_set(const struct shard_set *a, const struct shard_set *b);

/** Check a region name against the rules of dcache_protect(). */
bool shard_name_valid(const char *name);

/** Check a job's name: 1 to SHARD_JOB_MAX of the characters A-Z a-z 0-9 _ . - and neither "." nor "..". */
bool shard_job_valid(const char *job);

/** Free what decode or the runtime allocated and zero the struct. Safe on a zeroed one. */
void shard_header_free(struct shard_header *header);

#endif
