/* A slot's bytes by way of its file: what is read once needs no mapping. */
#include "io/crc64.h"
#include "io/node_store.h"

#include <errno.h>
#include <inttypes.h>
#include <unistd.h>

/* Read and digested while it is in the nearest cache; on the stack. */
#define DIGEST_BYTES (128u << 10)

dcache_status_t slot_read(struct diag *dg, const struct slot *slot, uint64_t offset, void *buffer, uint64_t bytes)
{
    uint64_t done = 0;

    while (done < bytes) {
        ssize_t n = pread(slot->fd, (char *)buffer + done, bytes - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return diag_fail_errno(dg, n < 0 ? errno : EIO, "cannot read %" PRIu64 " bytes at %" PRIu64 " of a shard",
                                   bytes, offset);
        done += (uint64_t)n;
    }
    return DCACHE_OK;
}

dcache_status_t slot_write(struct diag *dg, const struct slot *slot, uint64_t offset, const void *data, uint64_t bytes)
{
    uint64_t done = 0;

    while (done < bytes) {
        ssize_t n = pwrite(slot->fd, (const char *)data + done, bytes - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return diag_fail_errno(dg, n < 0 ? errno : EIO, "cannot write %" PRIu64 " bytes at %" PRIu64 " of a shard",
                                   bytes, offset);
        done += (uint64_t)n;
    }
    return DCACHE_OK;
}

bool slot_digest(const struct slot *slot, uint64_t offset, uint64_t bytes, uint64_t *crc)
{
    char buffer[DIGEST_BYTES];
    uint64_t sum = 0;

    while (bytes > 0) {
        ssize_t n = pread(slot->fd, buffer, bytes < sizeof buffer ? bytes : sizeof buffer, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        sum = crc64_update(sum, buffer, (size_t)n);
        offset += (uint64_t)n;
        bytes -= (uint64_t)n;
    }
    *crc = sum;
    return true;
}
