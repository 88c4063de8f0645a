/**
 * Between io/object_store.c, which reads URLs, and the backends that it opens.
 */
#ifndef DCACHE_IO_OBJECT_BACKEND_H
#define DCACHE_IO_OBJECT_BACKEND_H

#include "io/object_store.h"

#define OBJECT_BLOCK_BYTES (8u << 20)

/** Where an Azure store is: its canonical URL taken apart. */
struct object_azure_place {
    char url[OBJECT_URL_MAX]; /**< all of it, for texts */
    char endpoint[512];       /**< without a slash at its end */
    char account[128];
    char container[64];
    char prefix[OBJECT_URL_MAX]; /**< "" or with a slash at its end */
};

/** A store in a directory, which is made (0700) when it is missing. */
dcache_status_t object_file_open(struct diag *dg, const char *directory, const struct object_policy *policy,
                                 struct object_store **store) DCACHE_MUST_CHECK;

/** A store in a container. */
dcache_status_t object_azure_open(struct diag *dg, const struct object_azure_place *place,
                                  const struct object_credentials *credentials, const struct object_policy *policy,
                                  struct object_store **store) DCACHE_MUST_CHECK;

/** As many bytes as the source is known to have: its size, or the most it can be as long as its end was not met. */
uint64_t object_source_bytes(const struct object_source *source);

/** Read up to `*bytes` bytes; `*bytes` becomes how many there were. */
dcache_status_t object_source_read(const struct object_source *source, struct diag *dg, uint64_t offset, void *buffer,
                                   size_t *bytes, uint64_t *crc) DCACHE_MUST_CHECK;

/* Texts that both backends have; each returns its status. */

/** `key` is against the rules: DCACHE_ERR_INVALID. */
dcache_status_t object_bad_key(struct diag *dg, const char *key);
/** The key is taken: DCACHE_ERR_EXISTS. */
dcache_status_t object_exists(struct diag *dg, const char *store_url, const char *key);
/** The object is not the one whose etag was given: DCACHE_ERR_CORRUPT. */
dcache_status_t object_changed(struct diag *dg, const char *store_url, const char *key);
/** The object is not the one that was to be swapped: DCACHE_ERR_EXISTS. */
dcache_status_t object_lost_swap(struct diag *dg, const char *store_url, const char *key);
/** The object ends before byte `wanted`: DCACHE_ERR_CORRUPT. */
dcache_status_t object_too_short(struct diag *dg, const char *store_url, const char *key, uint64_t wanted);
/** What was read to be stored at `offset` does not match the source's own digest: DCACHE_ERR_CORRUPT. */
dcache_status_t object_bad_source(struct diag *dg, const char *key, uint64_t offset);

#endif
