/* Apart from slot.c, so that a program which only reads slots is not linked with HDF5. */
#include "io/node_store.h"
#include "io/shard_hdf5.h"
#include "io/store_file.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

/* Remove what is in the place of a new file, if that is a file of ours: who still reads or maps it keeps it. */
static dcache_status_t clear_place(struct diag *dg, const struct store_place *place)
{
    int fd = -1;
    dcache_status_t status = store_file_open(dg, place, false, false, &fd);
    if (status == DCACHE_NOT_FOUND)
        return DCACHE_OK;
    if (status != DCACHE_OK)
        return status;
    (void)close(fd);
    if (unlinkat(place->dir_fd, place->name, 0) != 0 && errno != ENOENT)
        return diag_fail_errno(dg, errno, "cannot remove %s/%s", place->path, place->name);
    return DCACHE_OK;
}

/* The image by the path of its open file: no name is looked up again that someone could have replaced. */
static dcache_status_t write_image(struct diag *dg, const struct store_place *place, struct shard_header *header)
{
    char path[32];
    int fd = -1;
    dcache_status_t status = store_file_open(dg, place, true, true, &fd);
    if (status != DCACHE_OK)
        return status;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    status = diag_failpoint(dg, "slot.create");
    if (status == DCACHE_OK)
        status = shard_hdf5_create(dg, path, header);
    (void)close(fd);
    if (status != DCACHE_OK)
        return diag_fail(dg, status, "cannot make %s/%s: %s", place->path, place->name, dg->text);
    return DCACHE_OK;
}

dcache_status_t slot_create_image(struct diag *dg, const struct node_store *store, uint32_t rank, uint32_t index,
                                  struct shard_header *header, struct slot *slot)
{
    char name[48];
    slot_name(SLOT_OWN, rank, index, name);
    const struct store_place place = {store->dir_fd, store->path, name};
    dcache_status_t status = clear_place(dg, &place);
    if (status != DCACHE_OK)
        return status;
    status = write_image(dg, &place, header);
    if (status == DCACHE_OK)
        status = slot_open(dg, store, SLOT_OWN, rank, index, header->file_bytes, slot);
    if (status != DCACHE_OK)
        (void)unlinkat(place.dir_fd, place.name, 0);
    return status;
}
