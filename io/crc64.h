/**
 * CRC-64/NVME: reflected polynomial 0x9A6C9329AC4BC9B5, initial value and final xor all ones; "123456789" gives
 * 0xAE8B14860A799888. It is the CRC64 of Azure Blob's x-ms-content-crc64 (there as 8 bytes little-endian, base64).
 *
 * All values are finished CRCs; the empty string's is 0, which is where an incremental computation starts. Pure
 * functions, thread-safe; the implementation is chosen once from what the CPU has.
 */
#ifndef DCACHE_IO_CRC64_H
#define DCACHE_IO_CRC64_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** The CRC of the bytes whose CRC is `crc`, followed by the `bytes` bytes at `data`. Start with 0. */
uint64_t crc64_update(uint64_t crc, const void *data, size_t bytes);

/** Copy and digest in one pass over the source; returns crc64_update(crc, source, bytes). No overlap. */
uint64_t crc64_copy(uint64_t crc, void *target, const void *source, size_t bytes);

/** As crc64_copy(), storing past the caches where that is faster: for targets that nobody here reads soon. */
uint64_t crc64_copy_stream(uint64_t crc, void *target, const void *source, size_t bytes);

/** The CRC of A followed by B from crc(A), crc(B) and the length of B, in O(log bytes_b) steps. */
uint64_t crc64_combine(uint64_t crc_a, uint64_t crc_b, uint64_t bytes_b);

/** One implementation, for tests and benchmarks that compare them. */
struct crc64_implementation {
    const char *name; /**< "table", "pclmulqdq", "vpclmulqdq" */
    bool (*usable)(void);
    uint64_t (*update)(uint64_t crc, const void *data, size_t bytes);
    uint64_t (*copy)(uint64_t crc, void *target, const void *source, size_t bytes);
    uint64_t (*copy_stream)(uint64_t crc, void *target, const void *source, size_t bytes);
};

/** All implementations compiled in, fastest first, the table last. */
const struct crc64_implementation *crc64_implementations(size_t *count);

#endif
