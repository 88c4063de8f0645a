#include "io/node_store.h"
#include "io/store_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* One fallocate() may be interrupted by a signal and then starts again: small enough to get done between two signals of
 * a profiler. */
#define ALLOCATE_BYTES (16ull << 20)

void slot_name(enum slot_kind kind, uint32_t rank, uint32_t slot, char name[48])
{
    snprintf(name, 48, "%s-%" PRIu32 "-%" PRIu32 ".h5", kind == SLOT_OWN ? "own" : "replica", rank, slot);
}

/* Text of bytes that are free for this user on the tier, for errors. */
static void describe_free(int fd, char text[64])
{
    struct statvfs tier;
    if (fstatvfs(fd, &tier) != 0)
        snprintf(text, 64, "an unknown number");
    else
        snprintf(text, 64, "%ju", (uintmax_t)tier.f_bavail * tier.f_frsize);
}

static dcache_status_t no_space(struct diag *dg, const struct store_place *place, uint64_t bytes, int error_number)
{
    char left[64];
    if (error_number == EDQUOT) /* what is free there is not for this user */
        return diag_fail(dg, DCACHE_ERR_NO_SPACE,
                         "cannot allocate %" PRIu64
                         " bytes for %s/%s: the disk quota there is used up (quota exceeded): "
                         "remove what you do not need, have it raised, use fewer slots, or set memory_store (or "
                         "ssd_store) to a directory elsewhere",
                         bytes, place->path, place->name);
    describe_free(place->dir_fd, left);
    return diag_fail(dg, DCACHE_ERR_NO_SPACE,
                     "cannot allocate %" PRIu64 " bytes for %s/%s, where %s bytes are free: free some space, use fewer "
                     "slots, or set memory_store (or ssd_store) to a directory on a larger tier",
                     bytes, place->path, place->name, left);
}

/* Allocate every block up to `bytes`; file systems without fallocate(2) get zeros written into their holes. */
static int allocate_blocks(int fd, uint64_t bytes)
{
    uint64_t done = 0;
    while (done < bytes) {
        uint64_t piece = bytes - done < ALLOCATE_BYTES ? bytes - done : ALLOCATE_BYTES;
        int error_number = fallocate(fd, 0, (off_t)done, (off_t)piece) == 0 ? 0 : errno;
        if (error_number == EOPNOTSUPP || error_number == ENOSYS)
            error_number = posix_fallocate(fd, (off_t)done, (off_t)piece);
        if (error_number == EINTR)
            continue;
        if (error_number != 0)
            return error_number;
        done += piece;
    }
    return 0;
}

/* Make the file `bytes` long, all of it allocated. After a failure it is as long as it was, or shorter. */
static dcache_status_t allocate(struct diag *dg, const struct store_place *place, int fd, uint64_t bytes)
{
    struct stat before;
    dcache_status_t status = diag_failpoint(dg, "slot.allocate");
    if (status == DCACHE_OK)
        status = store_file_limit(dg, bytes);
    if (status != DCACHE_OK)
        return status;
    if (fstat(fd, &before) != 0)
        return diag_fail_errno(dg, errno, "cannot look at %s/%s", place->path, place->name);
    if ((uint64_t)before.st_size > bytes && ftruncate(fd, (off_t)bytes) != 0)
        return diag_fail_errno(dg, errno, "cannot make %s/%s shorter", place->path, place->name);
    if ((uint64_t)before.st_size == bytes && (uint64_t)before.st_blocks * 512 >= bytes)
        return DCACHE_OK; /* nothing to get: a look at every page would cost as much as a copy */
    int error_number = allocate_blocks(fd, bytes);
    if (error_number == 0)
        return DCACHE_OK;
    if (error_number == ENOSPC || error_number == EDQUOT || error_number == EFBIG)
        status = no_space(dg, place, bytes, error_number);
    else
        status = diag_fail_errno(dg, error_number, "cannot allocate %" PRIu64 " bytes for %s/%s", bytes, place->path,
                                 place->name);
    if ((uint64_t)before.st_size < bytes && ftruncate(fd, before.st_size) != 0)
        diag_log(dg, DIAG_WARNING, "cannot give back what was allocated of %s/%s", place->path, place->name);
    return status;
}

/* On a memory file system the pages are there: huge ones where the system offers them, and all of them mapped in one go
 * instead of one fault for each. Hints: that they are not taken does not matter. */
void slot_warm(struct slot *slot)
{
    struct statfs tier;
    if (slot->base == NULL || slot->warm)
        return;
    slot->warm = true;
    if (fstatfs(slot->fd, &tier) != 0 || tier.f_type != TMPFS_MAGIC)
        return;
    (void)madvise(slot->base, slot->bytes, MADV_HUGEPAGE);
#ifdef MADV_POPULATE_READ /* maps 16 pages a time, writable as they are; MADV_POPULATE_WRITE takes twice as long */
    (void)madvise(slot->base, slot->bytes, MADV_POPULATE_READ);
#endif
}

dcache_status_t slot_map_cold(struct diag *dg, const struct node_store *store, struct slot *slot)
{
    if (slot->base != NULL)
        return DCACHE_OK;
    void *base = mmap(NULL, slot->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, slot->fd, 0);
    if (base == MAP_FAILED)
        return diag_fail_errno(dg, errno, "cannot map %" PRIu64 " bytes of a slot in %s", slot->bytes, store->path);
    slot->base = base;
    slot->warm = false;
    return DCACHE_OK;
}

dcache_status_t slot_map(struct diag *dg, const struct node_store *store, struct slot *slot)
{
    dcache_status_t status = slot_map_cold(dg, store, slot);
    if (status == DCACHE_OK)
        slot_warm(slot);
    return status;
}

static bool exists(const struct store_place *place)
{
    struct stat status;
    return fstatat(place->dir_fd, place->name, &status, AT_SYMLINK_NOFOLLOW) == 0;
}

static dcache_status_t check_bytes(struct diag *dg, const struct store_place *place, uint64_t bytes)
{
    if (bytes > 0 && bytes <= SHARD_FILE_MAX)
        return DCACHE_OK;
    return diag_fail(dg, DCACHE_ERR_INVALID, "%s/%s cannot be %" PRIu64 " bytes long", place->path, place->name, bytes);
}

/* A file that was made and cannot be used is removed again. */
static void give_up(const struct store_place *place, int fd, bool existed)
{
    (void)close(fd);
    if (!existed)
        (void)unlinkat(place->dir_fd, place->name, 0);
}

dcache_status_t slot_open_file(struct diag *dg, const struct node_store *store, enum slot_kind kind, uint32_t rank,
                               uint32_t index, uint64_t bytes, struct slot *slot)
{
    char name[48];
    slot_name(kind, rank, index, name);
    const struct store_place place = {store->dir_fd, store->path, name};
    int fd = -1;
    dcache_status_t status = diag_failpoint(dg, "slot.open");
    if (status == DCACHE_OK)
        status = check_bytes(dg, &place, bytes);
    if (status != DCACHE_OK)
        return status;
    bool existed = exists(&place);
    status = store_file_open(dg, &place, true, true, &fd);
    if (status != DCACHE_OK)
        return status;
    status = allocate(dg, &place, fd, bytes);
    if (status == DCACHE_OK)
        *slot = (struct slot){.fd = fd, .base = NULL, .bytes = bytes};
    else
        give_up(&place, fd, existed);
    return status;
}

dcache_status_t slot_open_cold(struct diag *dg, const struct node_store *store, enum slot_kind kind, uint32_t rank,
                               uint32_t index, uint64_t bytes, struct slot *slot)
{
    char name[48];
    slot_name(kind, rank, index, name);
    const struct store_place place = {store->dir_fd, store->path, name};
    struct slot opened = {.fd = -1};
    bool existed = exists(&place);
    dcache_status_t status = slot_open_file(dg, store, kind, rank, index, bytes, &opened);
    if (status != DCACHE_OK)
        return status;
    status = slot_map_cold(dg, store, &opened);
    if (status == DCACHE_OK)
        *slot = opened;
    else
        give_up(&place, opened.fd, existed);
    return status;
}

dcache_status_t slot_open(struct diag *dg, const struct node_store *store, enum slot_kind kind, uint32_t rank,
                          uint32_t index, uint64_t bytes, struct slot *slot)
{
    dcache_status_t status = slot_open_cold(dg, store, kind, rank, index, bytes, slot);
    if (status == DCACHE_OK)
        slot_warm(slot);
    return status;
}

dcache_status_t slot_reserve(struct diag *dg, const struct node_store *store, enum slot_kind kind, uint32_t rank,
                             uint32_t index, uint64_t bytes)
{
    char name[48];
    slot_name(kind, rank, index, name);
    const struct store_place place = {store->dir_fd, store->path, name};
    struct slot slot = {.fd = -1};
    if (exists(&place))
        return DCACHE_OK;
    dcache_status_t status = slot_open(dg, store, kind, rank, index, bytes, &slot);
    if (status == DCACHE_OK)
        slot_close(&slot);
    return status;
}

dcache_status_t slot_open_write(struct diag *dg, const struct node_store *store, enum slot_kind kind, uint32_t rank,
                                uint32_t index, uint64_t bytes, struct slot *slot)
{
    static const unsigned char nothing[SHARD_FIXED_BYTES];
    char name[48];
    slot_name(kind, rank, index, name);
    const struct store_place place = {store->dir_fd, store->path, name};
    int fd = -1;
    dcache_status_t status = check_bytes(dg, &place, bytes);
    if (status != DCACHE_OK)
        return status;
    bool existed = exists(&place);
    status = store_file_open(dg, &place, true, true, &fd);
    if (status != DCACHE_OK)
        return status;
    if (pwrite(fd, nothing, sizeof nothing, 0) != (ssize_t)sizeof nothing)
        status = diag_fail_errno(dg, errno, "cannot write to %s/%s", place.path, place.name);
    if (status == DCACHE_OK)
        status = allocate(dg, &place, fd, bytes);
    if (status == DCACHE_OK)
        *slot = (struct slot){.fd = fd, .base = NULL, .bytes = bytes};
    else
        give_up(&place, fd, existed);
    return status;
}

dcache_status_t slot_sync(struct diag *dg, const struct node_store *store, const struct slot *slot)
{
    dcache_status_t status = diag_failpoint(dg, "slot.sync");
    if (status != DCACHE_OK)
        return status;
    if (fdatasync(slot->fd) != 0)
        return diag_fail_errno(dg, errno, "cannot get a shard in %s to the device", store->path);
    return DCACHE_OK;
}

dcache_status_t slot_open_read(struct diag *dg, const struct node_store *store, enum slot_kind kind, uint32_t rank,
                               uint32_t index, struct slot *slot)
{
    char name[48];
    slot_name(kind, rank, index, name);
    const struct store_place place = {store->dir_fd, store->path, name};
    int fd = -1;
    dcache_status_t status = store_file_open(dg, &place, false, false, &fd);
    if (status != DCACHE_OK)
        return status;
    struct stat info;
    if (fstat(fd, &info) != 0) {
        status = diag_fail_errno(dg, errno, "cannot look at %s/%s", place.path, place.name);
        (void)close(fd);
        return status;
    }
    *slot = (struct slot){.fd = fd, .base = NULL, .bytes = (uint64_t)info.st_size};
    return DCACHE_OK;
}

void slot_close(struct slot *slot)
{
    if (slot->base != NULL)
        (void)munmap(slot->base, slot->bytes);
    if (slot->fd > 0)
        (void)close(slot->fd);
    *slot = (struct slot){.fd = -1, .base = NULL, .bytes = 0};
}

dcache_status_t slot_remove(struct diag *dg, const struct node_store *store, enum slot_kind kind, uint32_t rank,
                            uint32_t index)
{
    char name[48];
    slot_name(kind, rank, index, name);
    dcache_status_t status = diag_failpoint(dg, "slot.remove");
    if (status != DCACHE_OK)
        return status;
    if (unlinkat(store->dir_fd, name, 0) != 0 && errno != ENOENT)
        return diag_fail_errno(dg, errno, "cannot remove %s/%s", store->path, name);
    return DCACHE_OK;
}

dcache_status_t slot_rename(struct diag *dg, const struct node_store *store, enum slot_kind kind, uint32_t rank,
                            uint32_t from, uint32_t to)
{
    char old_name[48], new_name[48];

    slot_name(kind, rank, from, old_name);
    slot_name(kind, rank, to, new_name);
    dcache_status_t status = diag_failpoint(dg, "slot.rename");
    if (status != DCACHE_OK)
        return status;
    if (renameat(store->dir_fd, old_name, store->dir_fd, new_name) != 0)
        return diag_fail_errno(dg, errno, "cannot rename %s/%s to %s", store->path, old_name, new_name);
    return DCACHE_OK;
}
