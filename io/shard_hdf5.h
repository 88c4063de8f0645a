/**
 * Makes the HDF5 body of a shard image: a file whose user block is left for the header of io/shard.h and which has one
 * contiguous, early-allocated, aligned dataset per region. After that HDF5 is done: data goes straight to the offsets
 * it told. The same regions give the same bytes (no time stamps), so a replica's skeleton equals its original's.
 */
#ifndef DCACHE_IO_SHARD_HDF5_H
#define DCACHE_IO_SHARD_HDF5_H

#include "io/shard.h"

/**
 * Create the image in a file in memory: HDF5's metadata, everything else holes. Slots copy it from there.
 *
 * In `header`: job, rank, set.world_size, region_count and the regions' names, types and dimensions. Out, on success:
 * header_bytes, file_bytes, step_offset, each region's offset (unspecified after a failure), chunk_count, and chunk_crc
 * (allocated, zero; one that was there is freed, so NULL before the first call). Data and header are holes. Root holds
 * the regions by name ('/' in a name makes groups; blocks of global arrays carry the attributes `dcache_global` and
 * `dcache_start`), and the group `dcache` with the attributes job, rank, world_size, format and the scalar dataset
 * step. The application's HDF5 error settings are left as they were.
 *
 * @param image_fd  out: descriptor of the file, the caller's to close
 *
 * Not thread-safe (HDF5 is not): called on the application's thread only.
 * @return DCACHE_OK, DCACHE_ERR_HDF5 (the text has HDF5's own reason), DCACHE_ERR_INVALID (a region's name is also a
 *         group of another), DCACHE_ERR_NO_SPACE, DCACHE_ERR_NO_MEMORY
 */
dcache_status_t shard_hdf5_create(struct diag *dg, struct shard_header *header, int *image_fd) DCACHE_MUST_CHECK;

#endif
