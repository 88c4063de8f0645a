#include "runtime/assemble.h"

#include "io/crc64.h"
#include "io/shard_object.h"
#include "runtime/regions.h"
#include "runtime/stage.h"
#include "runtime/tiers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Bytes fetched in one go from a source. */
#define RUN_CHUNKS  8u
#define LOCAL_BYTES (128u << 10) /* from a file of this node at a time; on the stack */

enum source_kind { IN_PLACE, ON_NODE, REMOTE, IN_OBJECTS };

struct source {
    enum source_kind kind;
    struct fanin_source place; /* all but IN_OBJECTS */
    uint64_t header_bytes;
    struct slot slot; /* IN_PLACE, ON_NODE: open once it was needed; else fd -1 */
};

/* Work in progress on one shard. */
struct work {
    dcache_t *dc;
    const struct assemble_request *request;
    struct assemble_result *result;
    struct source *sources;
    size_t source_count;
    unsigned char *bad; /* per chunk: not there yet */
    uint32_t bad_count;
    dcache_status_t broken;        /* the image cannot be filled, from whatever source */
    struct shard_object object;    /* open once it was needed */
    dcache_status_t object_status; /* why it could not be opened, and the text */
    char object_text[640];
};

static int compare_sources(const void *a, const void *b)
{
    const struct source *x = a, *y = b;

    if (x->kind != y->kind)
        return x->kind > y->kind ? 1 : -1; /* nearest first, and there the main store first */
    return (x->place.store > y->place.store) - (x->place.store < y->place.store);
}

static void describe_source(struct work *w, const struct survey_entry *entry, struct source *source)
{
    const struct world *world = &w->dc->world;
    uint32_t first = world->first_of_node[entry->node], ranks = world->first_of_node[entry->node + 1] - first;
    bool here = entry->node == world->node;
    bool in_place =
        here && entry->slot.store == 0 && entry->slot.kind == SLOT_OWN && entry->slot.slot == w->request->slot;

    source->kind = in_place ? IN_PLACE : here ? ON_NODE : REMOTE;
    source->place = (struct fanin_source){world->rank_by_node[first + (uint32_t)world->rank % ranks], entry->slot.store,
                                          entry->slot.kind, entry->slot.rank, entry->slot.slot};
    source->header_bytes = entry->slot.header_bytes;
    source->slot.fd = -1;
}

static dcache_status_t find_sources(struct work *w)
{
    const struct survey *survey = w->request->survey;
    uint32_t rank = (uint32_t)w->dc->world.rank;

    w->sources = calloc(survey->entry_count + 1, sizeof *w->sources);
    if (w->sources == NULL)
        return diag_fail(&w->dc->diag, DCACHE_ERR_NO_MEMORY, "out of memory for %zu sources", survey->entry_count);
    for (size_t i = 0; i < survey->entry_count; i++) {
        const struct survey_entry *entry = &survey->entries[i];
        if (entry->slot.rank == rank && entry->slot.state == SHARD_COMPLETE &&
            shard_same_set(&entry->slot.set, &w->request->set) && entry->node < w->dc->world.node_count)
            describe_source(w, entry, &w->sources[w->source_count++]);
    }
    qsort(w->sources, w->source_count, sizeof *w->sources, compare_sources);
    if (w->request->in_objects.bytes > 0 && w->dc->objects != NULL)
        w->sources[w->source_count++] = (struct source){.kind = IN_OBJECTS, .slot.fd = -1};
    return DCACHE_OK;
}

static dcache_status_t open_local(struct work *w, struct source *source)
{
    const struct fanin_source *place = &source->place;

    if (source->slot.fd >= 0)
        return DCACHE_OK;
    return slot_open_read(&w->dc->diag, &w->request->survey->stores[place->store], place->kind, place->rank,
                          place->slot, &source->slot);
}

static dcache_status_t open_object(struct work *w)
{
    if (w->object.store != NULL)
        return DCACHE_OK;
    const struct shard_object_place place = {
        .job = w->dc->job, .set = w->request->set, .shard = w->request->in_objects};
    struct shard_object object;
    dcache_status_t status = shard_object_open(&w->dc->diag, w->dc->objects, &place, w->dc->key, &object);
    if (status != DCACHE_OK) {
        shard_object_close(&object);
        w->object_status = status;
        snprintf(w->object_text, sizeof w->object_text, "%.600s", w->dc->diag.text);
    } else {
        w->object = object; /* kept; assemble() closes it */
    }
    return status;
}

/* Read a range from a source; any failure means: try the next. */
static dcache_status_t read_source(struct work *w, struct source *source, uint64_t offset, void *buffer, uint64_t bytes)
{
    struct diag *dg = &w->dc->diag;
    dcache_status_t status;

    switch (source->kind) {
    case REMOTE:
        w->result->bytes_remote += bytes;
        return fanin_read(dg, w->request->fanin, &source->place, offset, buffer, bytes);
    case IN_OBJECTS:
        w->result->bytes_objects += bytes;
        status = open_object(w);
        if (status == DCACHE_OK)
            status = shard_object_read(dg, &w->object, offset, buffer, bytes);
        struct agree_idle idle = fanin_idle(w->request->fanin);
        idle.progress(idle.context);
        return status;
    case IN_PLACE:
    case ON_NODE:
    default:
        status = open_local(w, source);
        return status == DCACHE_OK ? slot_read(dg, &source->slot, offset, buffer, bytes) : status;
    }
}

static bool header_fits(const struct work *w, const struct shard_header *header)
{
    return shard_same_set(&header->set, &w->request->set) && header->rank == (uint32_t)w->dc->world.rank &&
           strcmp(header->job, w->dc->job) == 0;
}

/* The object's size and digest are vouched for by the manifest. */
static bool object_fits(const struct work *w, const struct shard_header *header, const void *encoded)
{
    const struct manifest_shard *shard = &w->request->in_objects;

    return header->file_bytes == shard->bytes && shard_image_crc(header, encoded) == shard->crc;
}

static dcache_status_t object_header_bytes(struct work *w, struct source *source)
{
    unsigned char fixed[SHARD_FIXED_BYTES];
    struct shard_header header;

    dcache_status_t status = read_source(w, source, 0, fixed, sizeof fixed);
    memset(&header, 0, sizeof header);
    if (status == DCACHE_OK)
        status = shard_decode_fixed(&w->dc->diag, fixed, sizeof fixed, &header);
    if (status == DCACHE_OK)
        source->header_bytes = header.header_bytes;
    return status;
}

static dcache_status_t read_header(struct work *w, struct source *source, struct shard_header *header)
{
    dcache_status_t status = DCACHE_OK;

    if (source->kind == IN_OBJECTS && source->header_bytes == 0)
        status = object_header_bytes(w, source);
    if (status != DCACHE_OK)
        return status;
    void *encoded = malloc(source->header_bytes);
    if (encoded == NULL)
        return diag_fail(&w->dc->diag, DCACHE_ERR_NO_MEMORY, "out of memory for a shard header of %llu bytes",
                         (unsigned long long)source->header_bytes);
    status = read_source(w, source, 0, encoded, source->header_bytes);
    if (status == DCACHE_OK)
        status = shard_decode(&w->dc->diag, encoded, source->header_bytes, header);
    if (status == DCACHE_OK &&
        (!header_fits(w, header) || (source->kind == IN_OBJECTS && !object_fits(w, header, encoded)))) {
        shard_header_free(header);
        status = DCACHE_ERR_CORRUPT;
    }
    free(encoded);
    return status;
}

/* With the right key the step can be had: going back to an older one would lose it without need. */
static dcache_status_t lost_status(const struct work *w)
{
    return w->object_status == DCACHE_ERR_OPTION ? DCACHE_ERR_OPTION : DCACHE_ERR_CORRUPT;
}

/* The header from the nearest source that has a good one. The others' chunks may be good all the same. */
static dcache_status_t find_header(struct work *w)
{
    struct shard_header header;

    for (size_t s = 0; s < w->source_count; s++) {
        memset(&header, 0, sizeof header);
        if (read_header(w, &w->sources[s], &header) == DCACHE_OK) {
            w->result->header = header;
            return DCACHE_OK;
        }
    }
    return diag_fail(
        &w->dc->diag, lost_status(w), "no readable copy of this rank's shard of step %llu is left in node stores%s%s%s",
        (unsigned long long)w->request->set.step, w->request->in_objects.bytes > 0 ? " or object store" : "",
        w->object_text[0] != '\0' ? ": " : "", w->object_text);
}

/* The slot's file may hold another complete step: that one is kept until this one is whole on every rank. */
static bool slot_is_taken(const struct work *w)
{
    const struct survey *survey = w->request->survey;

    for (size_t i = 0; i < survey->entry_count; i++) {
        const struct survey_entry *entry = &survey->entries[i];
        if (entry->node == w->dc->world.node && entry->slot.store == 0 && entry->slot.kind == SLOT_OWN &&
            entry->slot.rank == (uint32_t)w->dc->world.rank && entry->slot.slot == w->request->slot)
            return entry->slot.state == SHARD_COMPLETE && !shard_same_set(&entry->slot.set, &w->request->set);
    }
    return false;
}

static dcache_status_t open_image(struct work *w)
{
    struct assemble_result *result = w->result;
    uint32_t rank = (uint32_t)w->dc->world.rank;
    dcache_status_t status = DCACHE_ERR_NO_SPACE;

    result->at = slot_is_taken(w) ? w->dc->slots : w->request->slot;
    if (result->at != w->request->slot)
        status = slot_open_file(&w->dc->diag, &w->dc->store, SLOT_OWN, rank, result->at, result->header.file_bytes,
                                &result->image);
    if (status == DCACHE_ERR_NO_SPACE) { /* no room beside it: better to lose the other step than this one */
        result->at = w->request->slot;
        status = slot_open_file(&w->dc->diag, &w->dc->store, SLOT_OWN, rank, result->at, result->header.file_bytes,
                                &result->image);
    }
    return status;
}

static void note_chunk(struct work *w, uint32_t index, uint64_t crc)
{
    if (w->bad[index] && crc == w->result->header.chunk_crc[index]) {
        w->bad[index] = 0;
        w->bad_count--;
    }
}

static void verify_in_place(struct work *w)
{
    const struct shard_header *header = &w->result->header;

    for (uint32_t i = 0; i < header->chunk_count; i++) {
        uint64_t crc = 0;
        if (slot_digest(&w->result->image, shard_chunk_offset(header, i), shard_chunk_length(header, i), &crc))
            note_chunk(w, i, crc);
        fanin_serve(w->request->fanin);
    }
    w->result->repaired = w->bad_count;
}

/* Where what arrives of a run of chunks goes next. */
struct arrival {
    struct work *w;
    uint32_t chunk;
    uint64_t in_chunk; /* bytes of it that are there */
    uint64_t crc;
};

/* While it is in the cache: digest it, and write it to the image. A piece never belongs to two chunks. */
static dcache_status_t take_piece(void *context, const void *data, uint64_t bytes)
{
    struct arrival *arrival = context;
    struct work *w = arrival->w;
    const struct shard_header *header = &w->result->header;
    uint64_t offset = shard_chunk_offset(header, arrival->chunk) + arrival->in_chunk;

    arrival->crc = crc64_update(arrival->crc, data, bytes);
    dcache_status_t status = slot_write(&w->dc->diag, &w->result->image, offset, data, bytes);
    if (status != DCACHE_OK) {
        w->broken = status; /* no other source would help */
        return status;
    }
    arrival->in_chunk += bytes;
    if (arrival->in_chunk == shard_chunk_length(header, arrival->chunk)) {
        note_chunk(w, arrival->chunk, arrival->crc);
        *arrival = (struct arrival){.w = w, .chunk = arrival->chunk + 1};
    }
    return DCACHE_OK;
}

static dcache_status_t read_local(struct work *w, struct source *source, uint64_t offset, uint64_t bytes,
                                  struct arrival *arrival)
{
    char piece[LOCAL_BYTES];
    dcache_status_t status = DCACHE_OK;

    for (uint64_t done = 0; status == DCACHE_OK && done < bytes;) {
        uint64_t left = shard_chunk_length(&w->result->header, arrival->chunk) - arrival->in_chunk;
        uint64_t next = left < sizeof piece ? left : sizeof piece;
        status = read_source(w, source, offset + done, piece, next);
        if (status == DCACHE_OK)
            status = take_piece(arrival, piece, next);
        done += next;
    }
    fanin_serve(w->request->fanin);
    return status;
}

/* Large pieces, straight into the image: the way from an object store is slower than mapping it. */
static dcache_status_t read_objects(struct work *w, struct source *source, uint64_t offset, uint64_t bytes,
                                    const struct arrival *arrival)
{
    const struct shard_header *header = &w->result->header;

    dcache_status_t status = slot_map(&w->dc->diag, &w->dc->store, &w->result->image);
    if (status != DCACHE_OK) {
        w->broken = status;
        return status;
    }
    const char *base = w->result->image.base;
    status = read_source(w, source, offset, (char *)w->result->image.base + offset, bytes);
    for (uint32_t i = arrival->chunk; status == DCACHE_OK && shard_chunk_offset(header, i) < offset + bytes; i++)
        note_chunk(w, i, crc64_update(0, base + shard_chunk_offset(header, i), shard_chunk_length(header, i)));
    return status;
}

/* Chunks [first, end) from one source; keeps what verifies. False when the source could not be read. */
static bool fill_run(struct work *w, struct source *source, uint32_t first, uint32_t end)
{
    const struct shard_header *header = &w->result->header;
    uint64_t offset = shard_chunk_offset(header, first);
    uint64_t bytes = shard_chunk_offset(header, end - 1) + shard_chunk_length(header, end - 1) - offset;
    struct arrival arrival = {.w = w, .chunk = first};

    if (source->kind == IN_OBJECTS)
        return read_objects(w, source, offset, bytes, &arrival) == DCACHE_OK;
    if (source->kind != REMOTE)
        return read_local(w, source, offset, bytes, &arrival) == DCACHE_OK;
    w->result->bytes_remote += bytes;
    return fanin_stream(&w->dc->diag, w->request->fanin, &source->place, offset, bytes, take_piece, &arrival) ==
           DCACHE_OK;
}

/* Of an object, as much as keeps all connections busy. */
static uint32_t run_limit(const struct work *w, const struct source *source)
{
    return source->kind == IN_OBJECTS ? RUN_CHUNKS * (uint32_t)w->dc->options.store_connections : RUN_CHUNKS;
}

static void fill_from(struct work *w, struct source *source)
{
    uint32_t count = w->result->header.chunk_count, limit = run_limit(w, source);

    for (uint32_t i = 0; i < count && w->bad_count > 0 && w->broken == DCACHE_OK;) {
        uint32_t end = i;
        while (end < count && end - i < limit && w->bad[end])
            end++;
        if (end > i && !fill_run(w, source, i, end) && source->kind == IN_OBJECTS)
            return; /* a store that does not answer takes its time to say so: not for every run of chunks */
        i = end > i ? end : i + 1;
    }
}

static dcache_status_t missing_text(struct work *w)
{
    uint32_t first = 0;

    while (!w->bad[first])
        first++;
    return diag_fail(
        &w->dc->diag, lost_status(w),
        "%u of %u chunks of this rank's shard of step %llu, the first of them chunk %u, are lost or corrupt "
        "in all of its %zu copies%s%s",
        w->bad_count, w->result->header.chunk_count, (unsigned long long)w->request->set.step, first, w->source_count,
        w->object_text[0] != '\0' ? ": " : "", w->object_text);
}

static dcache_status_t fill_chunks(struct work *w)
{
    static const unsigned char nothing[SHARD_FIXED_BYTES];
    struct assemble_result *result = w->result;
    bool in_place = w->source_count > 0 && w->sources[0].kind == IN_PLACE && result->at == w->request->slot;
    dcache_status_t status = DCACHE_OK;

    if (in_place)
        verify_in_place(w);
    if (w->bad_count > 0 && !in_place) /* until all is there, the file says so */
        status = slot_write(&w->dc->diag, &result->image, 0, nothing, sizeof nothing);
    if (status != DCACHE_OK)
        return status;
    for (size_t s = in_place ? 1 : 0; s < w->source_count && w->bad_count > 0 && w->broken == DCACHE_OK; s++)
        fill_from(w, &w->sources[s]);
    if (w->broken != DCACHE_OK)
        return w->broken;
    return w->bad_count > 0 ? missing_text(w) : DCACHE_OK;
}

static dcache_status_t write_header(struct work *w)
{
    struct shard_header *header = &w->result->header;
    void *encoded = malloc(header->header_bytes);

    if (encoded == NULL)
        return diag_fail(&w->dc->diag, DCACHE_ERR_NO_MEMORY, "out of memory for a shard header of %llu bytes",
                         (unsigned long long)header->header_bytes);
    header->state = SHARD_COMPLETE;
    shard_encode(header, encoded);
    dcache_status_t status = slot_write(&w->dc->diag, &w->result->image, 0, encoded, header->header_bytes);
    free(encoded);
    return status;
}

static dcache_status_t fill_image(struct work *w)
{
    uint32_t count = w->result->header.chunk_count;

    w->bad = malloc((size_t)count + 1);
    if (w->bad == NULL)
        return diag_fail(&w->dc->diag, DCACHE_ERR_NO_MEMORY, "out of memory for %u chunks", count);
    memset(w->bad, 1, count);
    w->bad_count = count;
    dcache_status_t status = fill_chunks(w);
    if (status == DCACHE_OK) /* data before header, always */
        status = tiers_sync_own(w->dc, &w->result->image);
    if (status == DCACHE_OK)
        status = diag_failpoint(&w->dc->diag, "restart.header");
    if (status == DCACHE_OK)
        status = write_header(w);
    return status == DCACHE_OK ? tiers_sync_own(w->dc, &w->result->image) : status;
}

dcache_status_t assemble(dcache_t *dc, const struct assemble_request *request, struct assemble_result *result)
{
    struct work w = {.dc = dc, .request = request, .result = result};

    memset(result, 0, sizeof *result);
    result->image.fd = -1;
    dcache_status_t status = diag_failpoint(&dc->diag, "restart.assemble");
    if (status == DCACHE_OK)
        status = find_sources(&w);
    if (status == DCACHE_OK)
        status = find_header(&w);
    if (status == DCACHE_OK)
        status = open_image(&w);
    if (status == DCACHE_OK)
        status = fill_image(&w);
    shard_object_close(&w.object);
    for (size_t s = 0; s < w.source_count; s++)
        slot_close(&w.sources[s].slot);
    free(w.sources);
    free(w.bad);
    if (status != DCACHE_OK)
        assemble_release(dc, result);
    return status;
}

dcache_status_t assemble_adopt(dcache_t *dc, const struct assemble_request *request, struct assemble_result *result)
{
    struct ring_slot *ring = &dc->ring[request->slot];

    dcache_status_t status = diag_failpoint(&dc->diag, "restart.adopt");
    if (status != DCACHE_OK)
        return status;
    if (result->at != request->slot) {
        status = slot_rename(&dc->diag, &dc->store, SLOT_OWN, (uint32_t)dc->world.rank, result->at, request->slot);
        if (status == DCACHE_OK)
            status = tiers_sync_names(dc);
        if (status != DCACHE_OK)
            return status;
        result->at = request->slot;
    }
    stage_release(ring);
    ring->own = result->image;
    ring->header = result->header;
    ring->layout = regions_equal(dc, &ring->header) ? dc->layout : 0;
    memset(result, 0, sizeof *result);
    result->image.fd = -1;
    return stage_order(dc, ring);
}

void assemble_release(dcache_t *dc, struct assemble_result *result)
{
    struct diag quiet = dc->diag;

    if (result->image.fd >= 0)
        slot_close(&result->image);
    shard_header_free(&result->header); /* which may be there without an image */
    if (result->at >= dc->slots &&
        slot_remove(&quiet, &dc->store, SLOT_OWN, (uint32_t)dc->world.rank, result->at) != DCACHE_OK)
        diag_log(&dc->diag, DIAG_DEBUG, "%s", quiet.text);
    memset(result, 0, sizeof *result);
    result->image.fd = -1;
}
