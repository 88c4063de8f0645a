#include "io/drain.h"

#include "io/crc64.h"
#include "io/step_objects.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NO_CHUNK      UINT32_MAX
#define PAUSE_POLL_NS 2000000L

/* --- One image as the source of an object --------------------------------------------------------------------------*/

/* From when on, and from which counts on, the drain of a step is held to its budget. */
struct window {
    struct object_store *store;
    uint64_t start;
    uint64_t cpu_ns;
};

/* An open slot. The header is in memory from the start: what the object gets is what was checked. */
struct image {
    struct slot slot;
    char name[640]; /* for texts */
    struct shard_header header;
    unsigned char *encoded; /* the header, header.header_bytes long */
    unsigned char *chunk;   /* room for one chunk, for ranges that begin or end inside of one */
    uint32_t chunk_index;   /* the verified chunk that is in there, or NO_CHUNK */
    struct drain_control *control;
    const struct window *window;
    uint64_t counted;      /* bytes of this image that are in control->bytes_stored; retries count once */
    dcache_status_t error; /* why reading failed, DCACHE_OK when it did not */
};

static void image_close(struct image *image)
{
    slot_close(&image->slot);
    shard_header_free(&image->header);
    free(image->encoded);
    free(image->chunk);
}

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now = {0};
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* The CPU time that reading and sending have taken since ever. */
static uint64_t cpu_ns(struct object_store *store, struct drain_control *control)
{
    return object_store_traffic(store).cpu_ns + atomic_load(&control->reading_cpu_ns);
}

/* Whether what is to be sent at `turn` has to wait: for that, for a checkpoint that is being taken, or because the
 * drain of this step has used more CPU time than it may by now. */
static bool must_wait(const struct window *window, struct drain_control *control, uint64_t turn)
{
    const uint64_t now = clock_ns(CLOCK_MONOTONIC);
    if (atomic_load(&control->pause) || (now < turn && atomic_load(&control->pace.bytes_per_s) != 0))
        return true;
    return atomic_load(&control->pace.cpu_ns_per_s) != 0 &&
           pace_over_budget(&control->pace, cpu_ns(window->store, control) - window->cpu_ns, now - window->start);
}

static dcache_status_t hold_back(struct diag *dg, const struct window *window, struct drain_control *control,
                                 uint64_t bytes)
{
    const struct timespec nap = {.tv_nsec = PAUSE_POLL_NS};
    const uint64_t turn = pace_reserve(&control->pace, bytes, clock_ns(CLOCK_MONOTONIC));
    while (!atomic_load(&control->cancel) && must_wait(window, control, turn))
        (void)nanosleep(&nap, NULL);
    if (atomic_load(&control->cancel))
        return diag_fail(dg, DCACHE_ERR_CANCELLED, "the drain was cancelled");
    return DCACHE_OK;
}

static dcache_status_t read_exactly(struct diag *dg, const struct image *image, uint64_t offset, void *buffer,
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
static dcache_status_t read_chunk(struct diag *dg, const struct image *image, uint32_t index, void *target)
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
static dcache_status_t read_body(struct diag *dg, struct image *image, uint32_t index, uint64_t inside, void *target,
                                 uint64_t bytes, uint64_t *crc)
{
    if (bytes == shard_chunk_length(&image->header, index)) {
        *crc = crc64_combine(*crc, image->header.chunk_crc[index], bytes);
        return read_chunk(dg, image, index, target);
    }
    if (image->chunk_index != index) {
        image->chunk_index = NO_CHUNK;
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

static dcache_status_t read_range(struct diag *dg, struct image *image, uint64_t offset, unsigned char *target,
                                  uint64_t bytes, uint64_t *crc)
{
    const struct shard_header *header = &image->header;
    dcache_status_t status = hold_back(dg, image->window, image->control, bytes);
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

static dcache_status_t read_image(void *context, struct diag *dg, uint64_t offset, void *buffer, size_t bytes,
                                  uint64_t *crc)
{
    struct image *image = context;
    uint64_t digest = 0;
    const uint64_t cpu_before = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    dcache_status_t status = read_range(dg, image, offset, buffer, bytes, &digest);
    atomic_fetch_add(&image->control->reading_cpu_ns, clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu_before);
    if (status == DCACHE_OK)
        status = diag_failpoint_data(dg, "drain.read", buffer, &bytes);
    if (status != DCACHE_OK) {
        image->error = status;
        return status;
    }
    if (offset + bytes > image->counted) {
        atomic_fetch_add(&image->control->bytes_stored, offset + bytes - image->counted);
        image->counted = offset + bytes;
    }
    *crc = digest;
    return DCACHE_OK;
}

/* As read_image(), but what is read does not count as stored. */
static dcache_status_t sample_image(void *context, struct diag *dg, uint64_t offset, void *buffer, size_t bytes,
                                    uint64_t *crc)
{
    struct image *image = context;
    dcache_status_t status = read_range(dg, image, offset, buffer, bytes, crc);
    if (status != DCACHE_OK)
        image->error = status;
    return status;
}

/* --- One step ------------------------------------------------------------------------------------------------------*/

/* One drain_step() under way. */
struct drain {
    struct diag *dg;
    struct object_store *store;
    const struct drain_request *request;
    struct drain_control *control;
    struct window window;
    struct step_objects objects;
    struct manifest stored; /* what the parts of this set say is there already */
    struct manifest part;   /* what this drainer stored or found stored; room for all it can be */
    char bad_text[DIAG_TEXT_MAX];
};

static bool same_set(const struct drain *drain, const struct shard_header *header)
{
    return strcmp(header->job, drain->request->job) == 0 && shard_same_set(&header->set, &drain->request->set);
}

static dcache_status_t image_open(struct drain *drain, const struct drain_item *item, struct image *image)
{
    struct diag *dg = drain->dg;
    const struct node_store *store = &drain->request->stores[item->store];
    char name[48];
    slot_name(item->kind, item->rank, item->slot, name);
    snprintf(image->name, sizeof image->name, "%s/%s", store->path, name);
    dcache_status_t status = slot_open_read(dg, store, item->kind, item->rank, item->slot, &image->slot);
    if (status == DCACHE_OK)
        status = shard_read_header(dg, image->slot.fd, &image->header);
    if (status != DCACHE_OK)
        return status;
    if (image->header.rank != item->rank || !same_set(drain, &image->header))
        return diag_fail(dg, DCACHE_ERR_CORRUPT, "%s holds another shard than step %" PRIu64 " of rank %" PRIu32,
                         image->name, drain->request->set.step, item->rank);
    image->encoded = malloc(image->header.header_bytes);
    image->chunk = malloc(SHARD_CHUNK_BYTES);
    if (image->encoded == NULL || image->chunk == NULL)
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "out of memory for the header of %s (%" PRIu64 " bytes)",
                         image->name, image->header.header_bytes);
    shard_encode(&image->header, image->encoded);
    image->chunk_index = NO_CHUNK;
    image->control = drain->control;
    image->window = &drain->window;
    return DCACHE_OK;
}

/* Into the part, at the rank's place. There is room: allocate_part() counted. */
static void add_to_part(struct drain *drain, const struct manifest_shard *shard)
{
    struct manifest *part = &drain->part;
    size_t at = part->shard_count;
    while (at > 0 && part->shards[at - 1].rank > shard->rank)
        at--;
    if (at > 0 && part->shards[at - 1].rank == shard->rank)
        return;
    memmove(&part->shards[at + 1], &part->shards[at], (part->shard_count - at) * sizeof *shard);
    part->shards[at] = *shard;
    part->shard_count++;
}

static dcache_status_t put_source(struct drain *drain, const struct object_source *source,
                                  const struct manifest_shard *shard)
{
    char key[OBJECT_KEY_MAX];
    manifest_object_key(key, drain->request->job, drain->request->set.step, shard);
    return drain->store->ops->put(drain->store, drain->dg, key, source, OBJECT_REPLACE, &drain->control->cancel);
}

static dcache_status_t put_coded(struct drain *drain, const struct image *image, const struct object_source *plain,
                                 struct manifest_shard *shard)
{
    const struct shard_header *header = &image->header;
    struct coded_source *coded = NULL;
    struct object_source source;
    struct codec_object about = {.codec = (enum codec)shard->codec,
                                 .set = header->set,
                                 .rank = header->rank,
                                 .layout = codec_layout_make(header->file_bytes, header->header_bytes)};
    snprintf(about.job, sizeof about.job, "%s", header->job);
    dcache_status_t status = coded_source_open(drain->dg, drain->request->codec, &about, plain, &coded, &source);
    if (status != DCACHE_OK)
        return status;
    status = put_source(drain, &source, shard);
    shard->stored_bytes = source.size(source.context);
    coded_source_close(coded);
    return status;
}

static dcache_status_t put_image(struct drain *drain, struct image *image, const struct manifest_shard *shard)
{
    const struct codec_settings *settings = drain->request->codec;
    const struct object_source plain = {.bytes = shard->bytes, .context = image, .read = read_image};
    const struct object_source sampled = {.bytes = shard->bytes, .context = image, .read = sample_image};
    struct manifest_shard stored = *shard;
    enum codec codec = CODEC_PLAIN;
    dcache_status_t status = diag_failpoint(drain->dg, "drain.shard");
    if (status == DCACHE_OK && settings != NULL)
        status = coded_source_choose(drain->dg, settings, &sampled, image->header.header_bytes, &codec);
    stored.codec = codec;
    if (status == DCACHE_OK)
        status = codec == CODEC_PLAIN ? put_source(drain, &plain, &stored) : put_coded(drain, image, &plain, &stored);
    if (status != DCACHE_OK)
        return status;
    add_to_part(drain, &stored);
    atomic_fetch_add(&drain->control->shards_stored, 1);
    return DCACHE_OK;
}

/* An opened image: stored already, or to be put. */
static dcache_status_t drain_image(struct drain *drain, struct image *image)
{
    const struct manifest_shard shard = {.rank = image->header.rank,
                                         .bytes = image->header.file_bytes,
                                         .crc = shard_image_crc(&image->header, image->encoded)};
    const struct manifest_shard *stored = manifest_find(&drain->stored, shard.rank);
    if (stored == NULL)
        return put_image(drain, image, &shard);
    if (stored->crc != shard.crc) {
        image->error = DCACHE_ERR_CORRUPT;
        return diag_fail(drain->dg, DCACHE_ERR_CORRUPT,
                         "%s has digest %016" PRIx64 ", but a part in the object store lists shard %" PRIu32
                         " of this set with %016" PRIx64 ": remove the part if it is wrong",
                         image->name, shard.crc, shard.rank, stored->crc);
    }
    add_to_part(drain, stored);
    return DCACHE_OK;
}

/* What is wrong with one copy is not the end: other shards go on, and another copy of this one may be good. */
static dcache_status_t note_bad(struct drain *drain, dcache_status_t status)
{
    if (status == DCACHE_ERR_NO_MEMORY || status == DCACHE_ERR_CANCELLED || status == DCACHE_ERR_INTERNAL)
        return status;
    diag_log(drain->dg, DIAG_WARNING, "not drained: %s", drain->dg->text);
    snprintf(drain->bad_text, sizeof drain->bad_text, "%s", drain->dg->text);
    return DCACHE_OK;
}

static dcache_status_t drain_item(struct drain *drain, const struct drain_item *item)
{
    struct image image = {.slot = {.fd = -1}};
    if (manifest_find(&drain->part, item->rank) != NULL)
        return DCACHE_OK; /* from another copy */
    dcache_status_t status = hold_back(drain->dg, &drain->window, drain->control, 0);
    if (status != DCACHE_OK)
        return status;
    status = image_open(drain, item, &image);
    if (status == DCACHE_NOT_FOUND) /* has no text of its own */
        status = diag_fail(drain->dg, DCACHE_ERR_CORRUPT, "%s is not there any more", image.name);
    if (status != DCACHE_OK) {
        status = note_bad(drain, status);
    } else {
        status = drain_image(drain, &image);
        if (status != DCACHE_OK && image.error != DCACHE_OK)
            status = note_bad(drain, status);
    }
    image_close(&image);
    return status;
}

/* --- The step's objects as they are --------------------------------------------------------------------------------*/

static bool any_item_is_there(const struct drain *drain)
{
    for (size_t i = 0; i < drain->request->item_count; i++) {
        if (step_objects_may_have(&drain->objects, drain->request->items[i].rank))
            return true;
    }
    return false;
}

/* This drainer's own part of an earlier try, whose shards belong into the new one. DCACHE_OK also when there is none.
 */
static dcache_status_t keep_own_part(struct drain *drain)
{
    char key[OBJECT_KEY_MAX];
    char *text = NULL;
    size_t bytes = 0;
    struct manifest own = {.shards = NULL};
    manifest_part_key(key, drain->request->job, &drain->request->set, drain->request->drainer);
    dcache_status_t status = object_store_get_bytes(drain->store, drain->dg, key, MANIFEST_BYTES_MAX, &text, &bytes);
    if (status == DCACHE_NOT_FOUND)
        return DCACHE_OK;
    if (status != DCACHE_OK)
        return status;
    status = manifest_decode(drain->dg, key, text, bytes, &own);
    free(text);
    if (status == DCACHE_ERR_NO_MEMORY)
        return status;
    /* Believed as far as take_over() did: a shard of this set that is there in that size. */
    for (size_t i = 0; status == DCACHE_OK && i < own.shard_count; i++) {
        const struct manifest_shard *stored = manifest_find(&drain->stored, own.shards[i].rank);
        if (stored != NULL && stored->crc == own.shards[i].crc && shard_same_set(&own.set, &drain->request->set))
            add_to_part(drain, stored);
    }
    manifest_free(&own);
    return DCACHE_OK;
}

static bool own_part_is_listed(const struct drain *drain)
{
    char key[OBJECT_KEY_MAX];
    manifest_part_key(key, drain->request->job, &drain->request->set, drain->request->drainer);
    for (size_t i = 0; i < drain->objects.part_count; i++) {
        if (strcmp(drain->objects.parts[i], key) == 0)
            return true;
    }
    return false;
}

static dcache_status_t allocate_part(struct drain *drain)
{
    const struct drain_request *request = drain->request;
    size_t most = request->item_count + drain->stored.shard_count;
    drain->part.set = request->set;
    snprintf(drain->part.job, sizeof drain->part.job, "%s", request->job);
    snprintf(drain->part.drainer, sizeof drain->part.drainer, "%s", request->drainer);
    drain->part.shards = calloc(most > 0 ? most : 1, sizeof *drain->part.shards);
    if (drain->part.shards == NULL)
        return diag_fail(drain->dg, DCACHE_ERR_NO_MEMORY, "out of memory for a part of %zu shards", most);
    return DCACHE_OK;
}

/* Nobody can have listed a shard that is not there: then the parts need not be read, and a first drain of a step by
 * many drainers costs each of them one listing. */
static dcache_status_t see_what_is_stored(struct drain *drain)
{
    const struct drain_request *request = drain->request;
    dcache_status_t status = DCACHE_OK;
    if (any_item_is_there(drain) || own_part_is_listed(drain))
        status = step_objects_take_over(drain->dg, drain->store, &drain->objects, request->job, &request->set,
                                        &drain->stored);
    if (status == DCACHE_OK)
        status = allocate_part(drain);
    if (status == DCACHE_OK && own_part_is_listed(drain))
        status = keep_own_part(drain);
    return status;
}

static dcache_status_t commit(struct drain *drain, bool *durable)
{
    dcache_status_t status = diag_failpoint(drain->dg, "drain.part");
    if (status == DCACHE_OK)
        status = manifest_commit(drain->dg, drain->store, &drain->part, durable);
    if (status != DCACHE_OK || *durable)
        return status;
    for (size_t i = 0; i < drain->request->item_count; i++) {
        if (manifest_find(&drain->part, drain->request->items[i].rank) == NULL)
            return diag_fail(drain->dg, DCACHE_ERR_CORRUPT, "%s", drain->bad_text);
    }
    return DCACHE_OK;
}

static dcache_status_t store_and_commit(struct drain *drain, bool *durable)
{
    dcache_status_t status = see_what_is_stored(drain);
    for (size_t i = 0; status == DCACHE_OK && i < drain->request->item_count; i++)
        status = drain_item(drain, &drain->request->items[i]);
    if (status == DCACHE_OK)
        status = commit(drain, durable);
    return status;
}

dcache_status_t drain_step(struct diag *dg, struct object_store *store, const struct drain_request *request,
                           struct drain_control *control, bool *durable)
{
    struct drain drain = {.dg = dg, .store = store, .request = request, .control = control};
    bool found = false;
    drain.window =
        (struct window){.store = store, .start = clock_ns(CLOCK_MONOTONIC), .cpu_ns = cpu_ns(store, control)};
    dcache_status_t status = diag_failpoint(dg, "drain.begin");
    if (status == DCACHE_OK)
        status = step_objects_list(dg, store, request->job, request->set.step, &drain.objects);
    if (status == DCACHE_OK && drain.objects.manifest)
        status = manifest_check(dg, store, request->job, &request->set, &found);
    if (status == DCACHE_OK && !found)
        status = store_and_commit(&drain, &found);
    manifest_free(&drain.stored);
    manifest_free(&drain.part);
    step_objects_free(&drain.objects);
    if (status == DCACHE_OK)
        *durable = found;
    return status;
}

void drain_report_text(const struct drain_report *report, char text[DRAIN_REPORT_MAX])
{
    const double rate = report->seconds > 0 ? (double)report->bytes / 1e6 / report->seconds : 0;
    snprintf(text, DRAIN_REPORT_MAX,
             "%" PRIu64 " shards, %.1f MB in %.1f s (%.1f MB/s, %.2f CPU s), %" PRIu64 " requests, %" PRIu64
             " retries, %" PRIu64 " throttled, %" PRIu64 " hedged",
             report->shards, (double)report->bytes / 1e6, report->seconds, rate, report->cpu_seconds,
             report->traffic.requests, report->traffic.retries, report->traffic.throttled, report->traffic.hedged);
}
