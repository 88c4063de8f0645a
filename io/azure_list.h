/**
 * One page of Azure's List Blobs: reads the XML, of which nobody vouches that it is any.
 */
#ifndef DCACHE_IO_AZURE_LIST_H
#define DCACHE_IO_AZURE_LIST_H

#include "io/diag.h"

#include <stddef.h>

#define AZURE_LIST_NAME_MAX   1024
#define AZURE_LIST_MARKER_MAX 4096

struct azure_blob {
    char *name;
    uint64_t bytes;
};

struct azure_page {
    struct azure_blob *blobs; /**< in the order of the answer */
    size_t count;
    char next[AZURE_LIST_MARKER_MAX + 1]; /**< marker of the next page; "" = this was the last */
};

/**
 * @param page  out: to be given to azure_list_free(). Blobs whose names are longer than Azure allows, or have
 * characters that XML cannot have, are left out
 * @return DCACHE_OK, DCACHE_ERR_STORE (no such document), DCACHE_ERR_NO_MEMORY
 */
dcache_status_t azure_list_parse(struct diag *dg, const char *xml, size_t bytes,
                                 struct azure_page *page) DCACHE_MUST_CHECK;

/** Safe on a zeroed struct. */
void azure_list_free(struct azure_page *page);

#endif
