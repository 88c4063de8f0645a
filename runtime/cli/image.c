#include "runtime/cli/image.h"

#include "io/crc64.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_CHUNKS 8u

static dcache_status_t read_file(struct diag *dg, int fd, uint64_t offset, unsigned char *buffer, size_t bytes)
{
    while (bytes > 0) {
        ssize_t got = pread(fd, buffer, bytes, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return diag_fail_errno(dg, errno, "cannot read at %" PRIu64, offset);
        if (got == 0)
            return diag_fail(dg, DCACHE_ERR_CORRUPT, "it ends at %" PRIu64, offset);
        buffer += got;
        offset += (uint64_t)got;
        bytes -= (size_t)got;
    }
    return DCACHE_OK;
}

static dcache_status_t read_at(struct diag *dg, struct image *image, uint64_t offset, void *buffer, size_t bytes)
{
    if (image->object.store == NULL)
        return read_file(dg, image->slot.fd, offset, buffer, bytes);
    return shard_object_read(dg, &image->object, offset, buffer, bytes);
}

/* The size is what file or object really has, so that it bounds what the header may claim. */
static dcache_status_t read_header(struct diag *dg, struct image *image)
{
    unsigned char fixed[SHARD_FIXED_BYTES];
    struct shard_header header;
    memset(&header, 0, sizeof header);
    if (image->bytes < sizeof fixed)
        return diag_fail(dg, DCACHE_ERR_CORRUPT, "it has %" PRIu64 " bytes, less than any shard", image->bytes);
    dcache_status_t status = read_at(dg, image, 0, fixed, sizeof fixed);
    if (status == DCACHE_OK)
        status = shard_decode_fixed(dg, fixed, sizeof fixed, &header);
    if (status != DCACHE_OK)
        return status;
    if (header.file_bytes != image->bytes || header.header_bytes > image->bytes)
        return diag_fail(dg, DCACHE_ERR_CORRUPT, "it has %" PRIu64 " bytes, its header says %" PRIu64, image->bytes,
                         header.file_bytes);
    image->encoded = malloc(header.header_bytes);
    if (image->encoded == NULL)
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "out of memory for its header of %" PRIu64 " bytes",
                         header.header_bytes);
    status = read_at(dg, image, 0, image->encoded, header.header_bytes);
    if (status == DCACHE_OK)
        status = shard_decode(dg, image->encoded, header.header_bytes, &image->header);
    return status;
}

dcache_status_t image_open_copy(struct diag *dg, const struct node_store *store, const struct catalog_entry *entry,
                                struct image *image)
{
    struct stat about;
    memset(image, 0, sizeof *image);
    dcache_status_t status = slot_open_read(dg, store, entry->kind, entry->rank, entry->slot, &image->slot);
    if (status != DCACHE_OK)
        return status;
    if (fstat(image->slot.fd, &about) != 0)
        return diag_fail_errno(dg, errno, "cannot ask for its size");
    image->bytes = (uint64_t)about.st_size;
    return read_header(dg, image);
}

dcache_status_t image_open_object(struct cli *cli, struct object_store *store, const struct manifest *manifest,
                                  const struct manifest_shard *shard, struct image *image)
{
    const struct shard_object_place place = {.job = manifest->job, .set = manifest->set, .shard = *shard};
    struct diag *dg = &cli->dg;
    const struct codec_key *key = NULL;
    memset(image, 0, sizeof *image);
    dcache_status_t status = (shard->codec & CODEC_AES) != 0 ? cli_key(cli, &key) : DCACHE_OK;
    if (status == DCACHE_OK)
        status = shard_object_open(dg, store, &place, key, &image->object);
    if (status != DCACHE_OK)
        return status;
    image->bytes = shard->bytes;
    return read_header(dg, image);
}

void image_close(struct image *image)
{
    if (image->object.store == NULL)
        slot_close(&image->slot);
    shard_object_close(&image->object);
    shard_header_free(&image->header);
    free(image->encoded);
    image->encoded = NULL;
}

/* Read and check `count` chunks from `first` on. */
static dcache_status_t verify_chunks(struct diag *dg, struct image *image, uint32_t first, uint32_t count,
                                     unsigned char *buffer, struct number_list *bad)
{
    const struct shard_header *header = &image->header;
    uint64_t start = shard_chunk_offset(header, first);
    uint64_t end = shard_chunk_offset(header, first + count - 1) + shard_chunk_length(header, first + count - 1);
    dcache_status_t status = read_at(dg, image, start, buffer, end - start);
    for (uint32_t i = first; status == DCACHE_OK && i < first + count; i++) {
        const unsigned char *chunk = buffer + (shard_chunk_offset(header, i) - start);
        if (crc64_update(0, chunk, shard_chunk_length(header, i)) != header->chunk_crc[i])
            number_list_add(bad, i);
    }
    return status;
}

dcache_status_t image_verify(struct diag *dg, struct image *image, struct cli_progress *progress, uint64_t *done,
                             struct number_list *bad)
{
    const uint32_t total = image->header.chunk_count;
    dcache_status_t status = DCACHE_OK;
    unsigned char *buffer = malloc((size_t)READ_CHUNKS * SHARD_CHUNK_BYTES);
    if (buffer == NULL)
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "out of memory for %u chunks", READ_CHUNKS);
    *done += image->header.header_bytes;
    for (uint32_t first = 0; status == DCACHE_OK && first < total; first += READ_CHUNKS) {
        uint32_t count = total - first < READ_CHUNKS ? total - first : READ_CHUNKS;
        status = verify_chunks(dg, image, first, count, buffer, bad);
        *done += shard_chunk_offset(&image->header, first + count - 1) +
                 shard_chunk_length(&image->header, first + count - 1) - shard_chunk_offset(&image->header, first);
        cli_progress_show(progress, *done);
    }
    free(buffer);
    return status;
}

bool image_used_again(struct image *image, const struct shard_set *set)
{
    unsigned char fixed[SHARD_FIXED_BYTES];
    struct shard_header header;
    struct diag quiet;
    if (image->object.store != NULL || image->slot.fd <= 0)
        return false;
    diag_init(&quiet, "", -1, DIAG_ERROR);
    memset(&header, 0, sizeof header);
    if (read_at(&quiet, image, 0, fixed, sizeof fixed) != DCACHE_OK ||
        shard_decode_fixed(&quiet, fixed, sizeof fixed, &header) != DCACHE_OK)
        return false;
    return header.state != SHARD_COMPLETE || !shard_same_set(&header.set, set);
}
