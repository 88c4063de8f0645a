#include "io/drain_image.h"

#include "io/crc64.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NO_CHUNK UINT32_MAX

struct drain_image {
    struct slot slot;
    char name[640]; /* for texts */
    struct shard_header header;
    unsigned char *encoded; /* the header, header.header_bytes long */
    unsigned char *chunk;   /* for ranges that begin or end inside of a chunk; NULL: there was none yet */
    uint32_t chunk_index;   /* the verified chunk that is in there, or NO_CHUNK */
    const struct governor *governor;
    bool counts;      /* what is read counts as stored */
    uint64_t counted; /* bytes of this image that are in control->bytes_stored; retries count once */
    atomic_int error; /* why reading failed, DCACHE_OK when it did not */
};

/* A failure to read may be any thread's. Returns the status. */
static dcache_status_t note_error(struct drain_image *image, dcache_status_t status)
{
    if (status != DCACHE_OK)
        atomic_store(&image->error, (int)status);
    return status;
}

/* --- Reading -------------------------------------------------------------------------------------------------------*/

static dcache_status_t read_exactly(struct diag *dg, const struct drain_image *image, uint64_t offset, void *buffer,
                                    uint64_t bytes)
{
    unsigned char *target = buffer;
    while (bytes > 0) {
        ssize_t got = pread(image->slot.fd, target, bytes, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return diag_fail_errno(dg, errno, "cannot read %s at %" PRIu64, image->name, offset);
        if (got == 0)
            return diag_fail(dg, DCACHE_ERR_CORRUPT, "%s ends at %" PRIu64 ", its header says %" PRIu64 " bytes",
                             image->name, offset, image->header.file_bytes);
        target += got;
        offset += (uint64_t)got;
        bytes -= (uint64_t)got;
    }
    return DCACHE_OK;
}

/* Read chunk `index` to `target` and verify it. */
static dcache_status_t read_chunk(struct diag *dg, const struct drain_image *image, uint32_t index, void *target)
{
    uint64_t length = shard_chunk_length(&image->header, index);
    dcache_status_t status = read_exactly(dg, image, shard_chunk_offset(&image->header, index), target, length);
    if (status != DCACHE_OK)
        return status;
    if (crc64_update(0, target, length) != image->header.chunk_crc[index])
        return diag_fail(dg, DCACHE_ERR_CORRUPT,
                         "%s: chunk %" PRIu32 " does not match its digest: the slot was used again, or has rotted",
                         image->name, index);
    return DCACHE_OK;
}

/* The part of the range that begins in chunk `index`, `inside` bytes after its start. A whole chunk is read in place
 * and its digest used as it is; a part of one by way of image->chunk, which the next range is likely to go on with. */
static dcache_status_t read_body(struct diag *dg, struct drain_image *image, uint32_t index, uint64_t inside,
                                 void *target, uint64_t bytes, uint64_t *crc)
{
    if (bytes == shard_chunk_length(&image->header, index)) {
        *crc = crc64_combine(*crc, image->header.chunk_crc[index], bytes);
        return read_chunk(dg, image, index, target);
    }
    if (image->chunk_index != index) {
        image->chunk_index = NO_CHUNK;
        if (image->chunk == NULL)
            image->chunk = malloc(SHARD_CHUNK_BYTES);
        if (image->chunk == NULL)
            return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "out of memory for a chunk of %s", image->name);
        dcache_status_t status = read_chunk(dg, image, index, image->chunk);
        if (status != DCACHE_OK)
            return status;
        image->chunk_index = index;
    }
    *crc = crc64_copy(*crc, target, image->chunk + inside, bytes);
    return DCACHE_OK;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static dcache_status_t read_range(struct diag *dg, struct drain_image *image, uint64_t offset, unsigned char *target,
                                  uint64_t bytes, uint64_t *crc)
{
    const struct shard_header *header = &image->header;
    dcache_status_t status = governor_wait(dg, image->governor, bytes);
    if (status == DCACHE_OK && (offset > header->file_bytes || bytes > header->file_bytes - offset))
        status = diag_fail(dg, DCACHE_ERR_INTERNAL, "a range outside of %s was asked for", image->name);
    *crc = 0;
    if (status == DCACHE_OK && offset < header->header_bytes && bytes > 0) {
        uint64_t length = least(bytes, header->header_bytes - offset);
        *crc = crc64_copy(0, target, image->encoded + offset, length);
        offset += length;
        target += length;
        bytes -= length;
    }
    while (status == DCACHE_OK && bytes > 0) {
        uint32_t index = (uint32_t)((offset - header->header_bytes) / SHARD_CHUNK_BYTES);
        uint64_t inside = offset - shard_chunk_offset(header, index);
        uint64_t length = least(bytes, shard_chunk_length(header, index) - inside);
        status = read_body(dg, image, index, inside, target, length, crc);
        offset += length;
        target += length;
        bytes -= length;
    }
    return status;
}

/* It is on its way, as far as this. */
static void count_to(struct drain_image *image, uint64_t end)
{
    if (image->counts && end > image->counted) {
        atomic_fetch_add(&image->governor->control->bytes_stored, end - image->counted);
        image->counted = end;
    }
}

static dcache_status_t read_image(void *context, struct diag *dg, uint64_t offset, void *buffer, size_t bytes,
                                  uint64_t *crc)
{
    struct drain_image *image = context;
    uint64_t digest = 0;
    const uint64_t cpu_before = governor_thread_cpu();
    dcache_status_t status = read_range(dg, image, offset, buffer, bytes, &digest);
    governor_count(image->governor, cpu_before);
    if (status == DCACHE_OK)
        status = diag_failpoint_data(dg, "drain.read", buffer, &bytes);
    if (status != DCACHE_OK)
        return note_error(image, status);
    count_to(image, offset + bytes);
    *crc = digest;
    return DCACHE_OK;
}

/* As read_image(), but what is read does not count as stored. */
static dcache_status_t sample_image(void *context, struct diag *dg, uint64_t offset, void *buffer, size_t bytes,
                                    uint64_t *crc)
{
    struct drain_image *image = context;
    dcache_status_t status = read_range(dg, image, offset, buffer, bytes, crc);
    return note_error(image, status);
}

/* --- Piece by piece ------------------------------------------------------------------------------------------------*/

/* The digest of a range that begins and ends where chunks do, from the digests that chunks must have. */
static dcache_status_t announce_range(void *context, struct diag *dg, uint64_t offset, uint64_t bytes, uint64_t *crc)
{
    struct drain_image *image = context;
    const struct shard_header *header = &image->header;
    const uint64_t end = offset + bytes;
    dcache_status_t status = governor_wait(dg, image->governor, bytes);
    if (status == DCACHE_OK && (offset > header->file_bytes || bytes > header->file_bytes - offset))
        status = diag_fail(dg, DCACHE_ERR_INTERNAL, "a range outside of %s was asked for", image->name);
    if (status != DCACHE_OK)
        return note_error(image, status);
    *crc = offset == 0 ? crc64_update(0, image->encoded, header->header_bytes) : 0;
    uint64_t at = offset == 0 ? header->header_bytes : offset;
    while (at < end) {
        const uint32_t index = (uint32_t)((at - header->header_bytes) / SHARD_CHUNK_BYTES);
        const uint64_t length = shard_chunk_length(header, index);
        *crc = crc64_combine(*crc, header->chunk_crc[index], length);
        at += length;
    }
    count_to(image, end);
    return DCACHE_OK;
}

/* What of the header is wanted, and whole chunks. */
static dcache_status_t fill_range(struct diag *dg, const struct drain_image *image, uint64_t offset,
                                  unsigned char *target, size_t room, size_t *bytes)
{
    const struct shard_header *header = &image->header;
    if (offset < header->header_bytes) {
        *bytes = (size_t)least(room, header->header_bytes - offset);
        memcpy(target, image->encoded + offset, *bytes);
    }
    while (offset + *bytes >= header->header_bytes && offset + *bytes < header->file_bytes) {
        const uint32_t index = (uint32_t)((offset + *bytes - header->header_bytes) / SHARD_CHUNK_BYTES);
        const uint64_t length = shard_chunk_length(header, index);
        if (length > room - *bytes)
            break;
        dcache_status_t status = read_chunk(dg, image, index, target + *bytes);
        if (status != DCACHE_OK)
            return status;
        *bytes += (size_t)length;
    }
    return DCACHE_OK;
}

/* On the thread that sends, whose CPU time is counted there. */
static dcache_status_t fill(void *context, struct diag *dg, uint64_t offset, void *buffer, size_t room, size_t *bytes)
{
    struct drain_image *image = context;
    *bytes = 0;
    dcache_status_t status = fill_range(dg, image, offset, buffer, room, bytes);
    if (status == DCACHE_OK && *bytes > 0)
        status = diag_failpoint_data(dg, "drain.read", buffer, bytes);
    return note_error(image, status);
}

/* --- Open and close ------------------------------------------------------------------------------------------------*/

/* What is in the slot now: the shard that is wanted, complete? */
static dcache_status_t check_header(struct diag *dg, const struct drain_origin *origin, const struct drain_item *item,
                                    struct drain_image *image)
{
    const struct shard_header *header = &image->header;
    if (header->rank != item->rank || strcmp(header->job, origin->job) != 0 ||
        !shard_same_set(&header->set, &origin->set))
        return diag_fail(dg, DCACHE_ERR_CORRUPT, "%s holds another shard than step %" PRIu64 " of rank %" PRIu32,
                         image->name, origin->set.step, item->rank);
    image->encoded = malloc(header->header_bytes);
    if (image->encoded == NULL)
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "out of memory for the header of %s (%" PRIu64 " bytes)",
                         image->name, header->header_bytes);
    shard_encode(header, image->encoded);
    return DCACHE_OK;
}

dcache_status_t drain_image_open(struct diag *dg, const struct drain_origin *origin, const struct drain_item *item,
                                 const struct governor *governor, struct drain_image **image)
{
    const struct node_store *store = &origin->stores[item->store];
    char name[48];
    struct drain_image *made = calloc(1, sizeof *made);
    *image = NULL;
    if (made == NULL)
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "out of memory for a shard of rank %" PRIu32, item->rank);
    made->slot.fd = -1;
    made->chunk_index = NO_CHUNK;
    made->governor = governor;
    slot_name(item->kind, item->rank, item->slot, name);
    snprintf(made->name, sizeof made->name, "%s/%s", store->path, name);
    dcache_status_t status = slot_open_read(dg, store, item->kind, item->rank, item->slot, &made->slot);
    if (status == DCACHE_NOT_FOUND) /* has no text of its own */
        status = diag_fail(dg, DCACHE_ERR_CORRUPT, "%s is not there any more", made->name);
    if (status == DCACHE_OK)
        status = shard_read_header(dg, made->slot.fd, &made->header);
    if (status == DCACHE_OK)
        status = check_header(dg, origin, item, made);
    if (status != DCACHE_OK) {
        drain_image_close(made);
        return status;
    }
    *image = made;
    return DCACHE_OK;
}

void drain_image_close(struct drain_image *image)
{
    if (image == NULL)
        return;
    slot_close(&image->slot);
    shard_header_free(&image->header);
    free(image->encoded);
    free(image->chunk);
    free(image);
}

struct manifest_shard drain_image_shard(const struct drain_image *image)
{
    return (struct manifest_shard){.rank = image->header.rank,
                                   .bytes = image->header.file_bytes,
                                   .crc = shard_image_crc(&image->header, image->encoded)};
}

const char *drain_image_name(const struct drain_image *image)
{
    return image->name;
}

bool drain_image_is_bad(const struct drain_image *image)
{
    return atomic_load(&image->error) != DCACHE_OK;
}

/* --- The form in which it is stored --------------------------------------------------------------------------------*/

static dcache_status_t open_coded(struct diag *dg, const struct drain_image *image,
                                  const struct codec_settings *settings, struct drain_form *form)
{
    const struct shard_header *header = &image->header;
    struct codec_object about = {.codec = form->codec,
                                 .set = header->set,
                                 .rank = header->rank,
                                 .layout = codec_layout_make(header->file_bytes, header->header_bytes)};
    snprintf(about.job, sizeof about.job, "%s", header->job);
    return coded_source_open(dg, settings, &about, &form->plain, &form->coded, &form->source);
}

dcache_status_t drain_form_open(struct diag *dg, struct drain_image *image, const struct codec_settings *settings,
                                bool counted, struct drain_form *form)
{
    const struct object_source sampled = {.bytes = image->header.file_bytes, .context = image, .read = sample_image};
    dcache_status_t status = DCACHE_OK;
    image->counts = counted;
    *form = (struct drain_form){.codec = CODEC_PLAIN};
    form->plain = (struct object_source){.bytes = image->header.file_bytes,
                                         .context = image,
                                         .read = read_image,
                                         .head = image->header.header_bytes,
                                         .grain = SHARD_CHUNK_BYTES,
                                         .announce = announce_range,
                                         .fill = fill};
    form->source = form->plain;
    if (settings != NULL)
        status = coded_source_choose(dg, settings, &sampled, image->header.header_bytes, &form->codec);
    if (status == DCACHE_OK && form->codec != CODEC_PLAIN)
        status = open_coded(dg, image, settings, form);
    return status;
}

void drain_form_close(struct drain_form *form)
{
    coded_source_close(form->coded);
    form->coded = NULL;
}
