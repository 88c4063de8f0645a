#include "io/slot_copy.h"

#include "io/crc64.h"
#include "io/store_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* What direct writes want offsets, lengths and memory to be multiples of, on any device of today. Chunks are. */
#define BLOCK_BYTES   4096u
#define PAUSE_SLICE_S 0.005

struct copy {
    struct diag *dg;
    const struct slot_copy_request *request;
    struct slot_copy_control *control;
    struct slot source, target;
    struct shard_header header;
    unsigned char *buffer; /* of a chunk or the header, aligned */
};

/* Direct writes leave the page cache to the application. Not every file system has them: then by way of the cache. */
static void set_direct(int fd, bool direct)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags >= 0)
        (void)!fcntl(fd, F_SETFL, direct ? flags | O_DIRECT : flags & ~O_DIRECT);
}

static dcache_status_t write_range(struct copy *c, const void *data, uint64_t bytes, uint64_t offset)
{
    int fd = c->target.fd;
    bool may_be_direct = bytes % BLOCK_BYTES == 0;
    uint64_t done = 0;

    if (!may_be_direct)
        set_direct(fd, false);
    while (done < bytes) {
        ssize_t n = pwrite(fd, (const char *)data + done, bytes - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EINVAL && may_be_direct) { /* a device with larger blocks than any we know */
            set_direct(fd, false);
            may_be_direct = false;
            continue;
        }
        if (n <= 0)
            return diag_fail_errno(c->dg, n < 0 ? errno : EIO, "cannot write a copy of step %" PRIu64 " to %s",
                                   c->request->set.step, c->request->to->path);
        done += (uint64_t)n;
        if (done % BLOCK_BYTES != 0)
            set_direct(fd, false);
    }
    return DCACHE_OK;
}

/* The slot's header as it is now; DCACHE_NOT_FOUND when it speaks of another set. */
static dcache_status_t read_header(struct copy *c, struct shard_header *header)
{
    const struct slot_copy_request *request = c->request;
    struct diag quiet = *c->dg;

    memset(header, 0, sizeof *header);
    if (shard_read_header(&quiet, c->source.fd, header) != DCACHE_OK)
        return DCACHE_NOT_FOUND;
    if (shard_same_set(&header->set, &request->set) && header->rank == request->rank)
        return DCACHE_OK;
    shard_header_free(header);
    return DCACHE_NOT_FOUND;
}

/* A chunk that does not match: is the slot in use again, or has it rotted? */
static dcache_status_t judge_mismatch(struct copy *c, uint32_t index)
{
    struct shard_header header;

    if (read_header(c, &header) != DCACHE_OK)
        return DCACHE_NOT_FOUND;
    shard_header_free(&header);
    return diag_fail(c->dg, DCACHE_ERR_CORRUPT, "chunk %u of rank %u's shard of step %" PRIu64 " in %s is corrupt",
                     index, c->request->rank, c->request->set.step, c->request->from->path);
}

static dcache_status_t hold_back(struct copy *c)
{
    const struct timespec slice = {0, (long)(PAUSE_SLICE_S * 1e9)};

    while (atomic_load(&c->control->pause) && !atomic_load(&c->control->cancel))
        (void)nanosleep(&slice, NULL);
    if (atomic_load(&c->control->cancel))
        return diag_fail(c->dg, DCACHE_ERR_CANCELLED, "cancelled");
    return diag_failpoint(c->dg, "ssd.copy");
}

static dcache_status_t copy_chunk(struct copy *c, uint32_t index)
{
    uint64_t offset = shard_chunk_offset(&c->header, index);
    size_t length = shard_chunk_length(&c->header, index), got = 0;

    dcache_status_t status = hold_back(c);
    if (status == DCACHE_OK)
        status = store_file_read(c->dg, c->source.fd, offset, c->buffer, length, &got);
    if (status != DCACHE_OK)
        return status;
    if (got != length || crc64_update(0, c->buffer, length) != c->header.chunk_crc[index])
        return judge_mismatch(c, index);
    status = diag_failpoint_data(c->dg, "ssd.write", c->buffer, &length);
    return status != DCACHE_OK ? status : write_range(c, c->buffer, length, offset);
}

/* Data on the device, then the header, then that on the device, too. */
static dcache_status_t finish(struct copy *c)
{
    const struct node_store *to = c->request->to;

    dcache_status_t status = slot_sync(c->dg, to, &c->target);
    if (status == DCACHE_OK)
        status = diag_failpoint(c->dg, "ssd.header");
    if (status != DCACHE_OK)
        return status;
    shard_encode(&c->header, c->buffer);
    status = write_range(c, c->buffer, c->header.header_bytes, 0);
    if (status == DCACHE_OK)
        status = slot_sync(c->dg, to, &c->target);
    return status == DCACHE_OK ? node_store_sync(c->dg, to, false) : status;
}

static dcache_status_t prepare(struct copy *c)
{
    const struct slot_copy_request *request = c->request;
    size_t room = SHARD_CHUNK_BYTES;

    dcache_status_t status =
        slot_open_read(c->dg, request->from, SLOT_OWN, request->rank, request->from_index, &c->source);
    if (status == DCACHE_OK)
        status = read_header(c, &c->header);
    if (status != DCACHE_OK)
        return status;
    if (c->header.header_bytes > room)
        room = c->header.header_bytes;
    void *buffer = NULL;
    if (posix_memalign(&buffer, BLOCK_BYTES, room) != 0)
        return diag_fail(c->dg, DCACHE_ERR_NO_MEMORY, "out of memory for a copy to %s", request->to->path);
    c->buffer = buffer;
    status = slot_open_write(c->dg, request->to, SLOT_OWN, request->rank, request->to_index, c->header.file_bytes,
                             &c->target);
    if (status == DCACHE_OK)
        set_direct(c->target.fd, true);
    return status;
}

/* A copy that did not get to its end must not look like one, not even half of a header. */
static void take_back(struct copy *c)
{
    static const unsigned char nothing[SHARD_FIXED_BYTES];

    set_direct(c->target.fd, false);
    if (pwrite(c->target.fd, nothing, sizeof nothing, 0) != (ssize_t)sizeof nothing)
        diag_log(c->dg, DIAG_DEBUG, "cannot take back a copy in %s", c->request->to->path);
}

dcache_status_t slot_copy(struct diag *dg, const struct slot_copy_request *request, struct slot_copy_control *control)
{
    struct copy c = {.dg = dg, .request = request, .control = control, .source = {.fd = -1}, .target = {.fd = -1}};

    dcache_status_t status = prepare(&c);
    for (uint32_t i = 0; status == DCACHE_OK && i < c.header.chunk_count; i++)
        status = copy_chunk(&c, i);
    if (status == DCACHE_OK)
        status = finish(&c);
    if (status != DCACHE_OK && c.target.fd >= 0)
        take_back(&c);
    slot_close(&c.source);
    slot_close(&c.target);
    shard_header_free(&c.header);
    free(c.buffer);
    return status;
}
