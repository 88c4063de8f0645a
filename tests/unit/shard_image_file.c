#include "shard_image_file.h"

#include "io/shard_hdf5.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>

static dcache_status_t copy_range(struct diag *dg, int from, int to, off_t at, off_t end)
{
    char buffer[65536];
    while (at < end) {
        size_t wanted = (size_t)(end - at) < sizeof buffer ? (size_t)(end - at) : sizeof buffer;
        ssize_t n = pread(from, buffer, wanted, at);
        if (n > 0)
            n = pwrite(to, buffer, (size_t)n, at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return diag_fail_errno(dg, n < 0 ? errno : EIO, "cannot write the empty shard image");
        at += n;
    }
    return DCACHE_OK;
}

/* Copy what HDF5 wrote, and none of the holes where the data will be. */
static dcache_status_t copy_skeleton(struct diag *dg, int from, const char *path, uint64_t bytes)
{
    int to = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, S_IRUSR | S_IWUSR);
    if (to < 0)
        return diag_fail_errno(dg, errno, "cannot write the empty shard image");
    dcache_status_t status = DCACHE_OK;
    if (ftruncate(to, (off_t)bytes) != 0)
        status = diag_fail_errno(dg, errno, "cannot make the shard image %" PRIu64 " bytes long", bytes);
    off_t end = 0;
    while (status == DCACHE_OK) {
        off_t start = lseek(from, end, SEEK_DATA);
        if (start < 0 && errno == ENXIO)
            break; /* only a hole is left */
        end = start < 0 ? -1 : lseek(from, start, SEEK_HOLE);
        if (end < 0)
            status = diag_fail_errno(dg, errno, "cannot find the metadata in the empty shard image");
        else
            status = copy_range(dg, from, to, start, end);
    }
    if (close(to) != 0 && status == DCACHE_OK)
        status = diag_fail_errno(dg, errno, "cannot write the empty shard image");
    return status;
}

dcache_status_t shard_image_file(struct diag *dg, const char *path, struct shard_header *header)
{
    int fd = -1;
    dcache_status_t status = shard_hdf5_create(dg, header, &fd);
    if (status != DCACHE_OK)
        return status;
    status = copy_skeleton(dg, fd, path, header->file_bytes);
    (void)close(fd);
    return status;
}
