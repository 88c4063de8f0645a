/**
 * One shard image to look at, in a node store or in the object store: its header, and whether its bytes are what the
 * header says.
 */
#ifndef DCACHE_RUNTIME_CLI_IMAGE_H
#define DCACHE_RUNTIME_CLI_IMAGE_H

#include "io/node_store.h"
#include "io/shard_object.h"
#include "runtime/cli/cli.h"
#include "runtime/cli/table.h"

struct image {
    struct slot slot;           /* of a copy */
    struct shard_object object; /* its store is NULL for a copy */
    uint64_t bytes;             /* how many there really are */
    unsigned char *encoded;     /* the header's bytes */
    struct shard_header header;
};

/** Open and read the header. Give it to image_close(), also after a failure.
 * @return DCACHE_OK, DCACHE_NOT_FOUND, DCACHE_ERR_CORRUPT, DCACHE_ERR_FORMAT, errors of file or store */
dcache_status_t image_open_copy(struct diag *dg, const struct node_store *store, const struct catalog_entry *entry,
                                struct image *image) DCACHE_MUST_CHECK;
dcache_status_t image_open_object(struct cli *cli, struct object_store *store, const struct manifest *manifest,
                                  const struct manifest_shard *shard, struct image *image) DCACHE_MUST_CHECK;
void image_close(struct image *image);

/** Compare every chunk with its digest; `bad` gets those that do not match. `*done` and the progress move on by what
 * was read. */
dcache_status_t image_verify(struct diag *dg, struct image *image, struct cli_progress *progress, uint64_t *done,
                             struct number_list *bad) DCACHE_MUST_CHECK;

/** True when a copy's slot is by now being written, or holds another set than `set`: a running job used it again, and
 * what was found bad means nothing. False for objects. */
bool image_used_again(struct image *image, const struct shard_set *set);

#endif
