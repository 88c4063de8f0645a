/**
 * What the parts of the digest module share: the table implementation, which also does the last few bytes for the
 * carry-less multiply implementations, and the entry points of those.
 */
#ifndef DCACHE_IO_CRC64_INTERNAL_H
#define DCACHE_IO_CRC64_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

uint64_t crc64_table_update(uint64_t crc, const void *data, size_t bytes);
uint64_t crc64_table_copy(uint64_t crc, void *target, const void *source, size_t bytes);

#ifdef __x86_64__
bool crc64_pclmulqdq_usable(void);
uint64_t crc64_pclmulqdq_update(uint64_t crc, const void *data, size_t bytes);
uint64_t crc64_pclmulqdq_copy(uint64_t crc, void *target, const void *source, size_t bytes);
uint64_t crc64_pclmulqdq_copy_stream(uint64_t crc, void *target, const void *source, size_t bytes);

bool crc64_vpclmulqdq_usable(void);
uint64_t crc64_vpclmulqdq_update(uint64_t crc, const void *data, size_t bytes);
uint64_t crc64_vpclmulqdq_copy(uint64_t crc, void *target, const void *source, size_t bytes);
uint64_t crc64_vpclmulqdq_copy_stream(uint64_t crc, void *target, const void *source, size_t bytes);
#endif

#endif
