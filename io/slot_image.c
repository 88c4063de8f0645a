/* Apart from slot.c, so that a program which only reads slots is not linked with HDF5. */
#include "io/node_store.h"
#include "io/shard_hdf5.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int compare_regions(const void *a, const void *b)
{
    const struct shard_region *const *x = a, *const *y = b;

    return ((*x)->offset > (*y)->offset) - ((*x)->offset < (*y)->offset);
}

static dcache_status_t copy_range(struct diag *dg, int drawn, char *image, uint64_t at, uint64_t end)
{
    while (at < end) {
        ssize_t got = pread(drawn, image + at, end - at, (off_t)at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return diag_fail_errno(dg, got < 0 ? errno : EIO, "cannot read back an HDF5 image");
        at += (uint64_t)got;
    }
    return DCACHE_OK;
}

/* Everything that is not a region's data: HDF5's own bytes and padding. The header's place becomes zero: EMPTY. */
static dcache_status_t copy_frame(struct diag *dg, int drawn, const struct shard_header *header, char *image)
{
    const struct shard_region **regions = malloc(((size_t)header->region_count + 1) * sizeof *regions);
    uint64_t at = header->header_bytes;
    dcache_status_t status = DCACHE_OK;
    size_t count = 0;

    if (regions == NULL)
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "out of memory for %u regions", header->region_count);
    for (uint32_t i = 0; i < header->region_count; i++) {
        if (header->regions[i].bytes > 0)
            regions[count++] = &header->regions[i];
    }
    qsort(regions, count, sizeof *regions, compare_regions);
    memset(image, 0, header->header_bytes);
    for (size_t i = 0; status == DCACHE_OK && i < count; i++) {
        status = copy_range(dg, drawn, image, at, regions[i]->offset);
        at = regions[i]->offset + regions[i]->bytes;
    }
    if (status == DCACHE_OK)
        status = copy_range(dg, drawn, image, at, header->file_bytes);
    free(regions);
    return status;
}

dcache_status_t slot_create_image(struct diag *dg, const struct node_store *store, uint32_t rank, uint32_t index,
                                  struct shard_header *header, struct slot *slot)
{
    struct slot made = {.fd = -1};
    int drawn = -1;

    char name[48];

    slot_name(SLOT_OWN, rank, index, name);
    dcache_status_t status = diag_failpoint(dg, "slot.create");
    if (status == DCACHE_OK) /* in memory: in place it would truncate the file, whose pages are worth keeping */
        status = shard_hdf5_create(dg, header, &drawn);
    if (status != DCACHE_OK)
        return diag_fail(dg, status, "cannot make %s/%s: %s", store->path, name, dg->text);
    status = slot_open(dg, store, SLOT_OWN, rank, index, header->file_bytes, &made);
    if (status == DCACHE_OK)
        status = copy_frame(dg, drawn, header, made.base);
    (void)close(drawn);
    if (status != DCACHE_OK) {
        slot_close(&made);
        return status;
    }
    *slot = made;
    return DCACHE_OK;
}
