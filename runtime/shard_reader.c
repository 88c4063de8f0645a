#include "runtime/shard_reader.h"

#include "io/crc64.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Bytes fetched in one go from a copy. */
#define RUN_CHUNKS 8u

/* The copy on this node is the nearest; of the others, ranks begin with different ones. */
static void add_place(struct shard_reader *reader, const struct survey_entry *entry)
{
    const struct world *world = &reader->copies->dc->world;
    uint32_t first = world->first_of_node[entry->node], ranks = world->first_of_node[entry->node + 1] - first;
    bool here = entry->node == world->node;
    uint32_t server = here ? (uint32_t)world->rank : world->rank_by_node[first + (uint32_t)world->rank % ranks];
    size_t at = reader->place_count++;

    if (here || (uint32_t)world->rank % reader->place_count == 0) {
        reader->places[at] = reader->places[0];
        at = 0;
    }
    reader->places[at] = (struct shard_place){
        {server, entry->slot.store, entry->slot.kind, entry->slot.rank, entry->slot.slot}, entry->slot.header_bytes};
}

static dcache_status_t find_places(struct shard_reader *reader)
{
    const struct survey *survey = reader->copies->survey;
    const dcache_t *dc = reader->copies->dc;

    reader->places = calloc(survey->entry_count + 1, sizeof *reader->places);
    if (reader->places == NULL)
        return diag_fail(&reader->copies->dc->diag, DCACHE_ERR_NO_MEMORY, "out of memory for %zu copies",
                         survey->entry_count);
    for (size_t i = 0; i < survey->entry_count; i++) {
        const struct survey_entry *entry = &survey->entries[i];
        if (entry->slot.rank == reader->rank && entry->slot.state == SHARD_COMPLETE &&
            shard_same_set(&entry->slot.set, &reader->copies->set) && entry->node < dc->world.node_count)
            add_place(reader, entry);
    }
    return DCACHE_OK;
}

static const struct manifest_shard *stored_shard(const struct shard_reader *reader)
{
    const struct shard_copies *copies = reader->copies;

    return copies->manifest == NULL || copies->dc->objects == NULL ? NULL
                                                                   : manifest_find(copies->manifest, reader->rank);
}

static dcache_status_t read_object(struct shard_reader *reader, uint64_t offset, void *buffer, uint64_t bytes)
{
    dcache_t *dc = reader->copies->dc;
    const struct shard_object_place place = {
        .job = dc->job, .set = reader->copies->set, .shard = *stored_shard(reader)};
    dcache_status_t status = DCACHE_OK;

    if (reader->object.store == NULL) {
        status = shard_object_open(&dc->diag, dc->objects, &place, dc->key, &reader->object);
        if (status != DCACHE_OK)
            shard_object_close(&reader->object);
    }
    return status == DCACHE_OK ? shard_object_read(&dc->diag, &reader->object, offset, buffer, bytes) : status;
}

/* From copy number `place`; the one behind the last is the object. */
static dcache_status_t read_copy(struct shard_reader *reader, size_t place, uint64_t offset, void *buffer,
                                 uint64_t bytes)
{
    dcache_t *dc = reader->copies->dc;

    if (place < reader->place_count)
        return fanin_read(&dc->diag, reader->copies->fanin, &reader->places[place].source, offset, buffer, bytes);
    dcache_status_t status = read_object(reader, offset, buffer, bytes);
    fanin_serve(reader->copies->fanin);
    return status;
}

static size_t copy_count(const struct shard_reader *reader)
{
    return reader->place_count + (stored_shard(reader) != NULL);
}

/* ---- header ---- */

static dcache_status_t header_length(struct shard_reader *reader, size_t place, uint64_t *bytes)
{
    unsigned char fixed[SHARD_FIXED_BYTES];
    struct shard_header header;

    if (place < reader->place_count) {
        *bytes = reader->places[place].header_bytes;
        return DCACHE_OK;
    }
    dcache_status_t status = read_copy(reader, place, 0, fixed, sizeof fixed);
    memset(&header, 0, sizeof header);
    if (status == DCACHE_OK)
        status = shard_decode_fixed(&reader->copies->dc->diag, fixed, sizeof fixed, &header);
    *bytes = header.header_bytes;
    return status;
}

/* What the manifest says of an object binds its header; a header in a node store is bound by its set alone. */
static bool header_fits(const struct shard_reader *reader, size_t place, const struct shard_header *header,
                        const void *encoded)
{
    const struct manifest_shard *stored = stored_shard(reader);
    bool fits = shard_same_set(&header->set, &reader->copies->set) && header->rank == reader->rank &&
                strcmp(header->job, reader->copies->dc->job) == 0;

    if (!fits || place < reader->place_count)
        return fits;
    return header->file_bytes == stored->bytes && shard_image_crc(header, encoded) == stored->crc;
}

static dcache_status_t read_header(struct shard_reader *reader, size_t place)
{
    struct diag *dg = &reader->copies->dc->diag;
    struct shard_header header;
    uint64_t bytes = 0;

    memset(&header, 0, sizeof header);
    dcache_status_t status = header_length(reader, place, &bytes);
    if (status != DCACHE_OK)
        return status;
    void *encoded = malloc(bytes);
    if (encoded == NULL)
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "out of memory for a shard header of %llu bytes",
                         (unsigned long long)bytes);
    status = read_copy(reader, place, 0, encoded, bytes);
    if (status == DCACHE_OK)
        status = shard_decode(dg, encoded, bytes, &header);
    if (status == DCACHE_OK && !header_fits(reader, place, &header, encoded))
        status = diag_fail(dg, DCACHE_ERR_CORRUPT, "a copy of shard %u is of something else", reader->rank);
    free(encoded);
    if (status == DCACHE_OK)
        reader->header = header;
    else
        shard_header_free(&header);
    return status;
}

static dcache_status_t find_header(struct shard_reader *reader)
{
    for (size_t place = 0; place < copy_count(reader); place++) {
        dcache_status_t status = read_header(reader, place);
        if (status == DCACHE_OK || status == DCACHE_ERR_NO_MEMORY || status == DCACHE_ERR_MPI)
            return status;
    }
    return diag_fail(&reader->copies->dc->diag, DCACHE_ERR_CORRUPT,
                     "none of the %zu copies of rank %u's shard of step %llu has a good header", copy_count(reader),
                     reader->rank, (unsigned long long)reader->copies->set.step);
}

dcache_status_t shard_reader_open(struct shard_reader *reader, const struct shard_copies *copies, uint32_t rank)
{
    struct diag *dg = &copies->dc->diag;

    memset(reader, 0, sizeof *reader);
    reader->copies = copies;
    reader->rank = rank;
    dcache_status_t status = find_places(reader);
    if (status == DCACHE_OK)
        status = find_header(reader);
    if (status != DCACHE_OK)
        return status;
    reader->wanted = calloc((size_t)reader->header.chunk_count + 1, 1);
    reader->image = mmap(NULL, reader->header.file_bytes, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (reader->image == MAP_FAILED)
        reader->image = NULL;
    if (reader->wanted == NULL || reader->image == NULL)
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "out of memory for a shard of %llu bytes",
                         (unsigned long long)reader->header.file_bytes);
    return DCACHE_OK;
}

/* ---- chunks ---- */

void shard_reader_want(struct shard_reader *reader, uint64_t offset, uint64_t bytes)
{
    if (bytes == 0)
        return;
    uint64_t first = (offset - reader->header.header_bytes) / SHARD_CHUNK_BYTES;
    uint64_t last = (offset + bytes - 1 - reader->header.header_bytes) / SHARD_CHUNK_BYTES;
    memset(reader->wanted + first, 1, last - first + 1);
}

static bool chunk_good(const struct shard_reader *reader, uint32_t index)
{
    const struct shard_header *header = &reader->header;
    const char *at = reader->image + shard_chunk_offset(header, index);

    return crc64_update(0, at, shard_chunk_length(header, index)) == header->chunk_crc[index];
}

/* Chunks [first, end) from one copy; those that verify are not wanted any more. */
static dcache_status_t fetch_run(struct shard_reader *reader, size_t place, uint32_t first, uint32_t end)
{
    const struct shard_header *header = &reader->header;
    uint64_t offset = shard_chunk_offset(header, first);
    uint64_t bytes = shard_chunk_offset(header, end - 1) + shard_chunk_length(header, end - 1) - offset;

    dcache_status_t status = read_copy(reader, place, offset, reader->image + offset, bytes);
    for (uint32_t i = first; status == DCACHE_OK && i < end; i++)
        reader->wanted[i] = !chunk_good(reader, i);
    return status;
}

static dcache_status_t fetch_from(struct shard_reader *reader, size_t place)
{
    uint32_t count = reader->header.chunk_count, limit = RUN_CHUNKS;
    dcache_status_t status = DCACHE_OK;

    if (place >= reader->place_count) /* of an object, as much as keeps all connections busy */
        limit *= (uint32_t)reader->copies->dc->options.store_connections;
    for (uint32_t i = 0; i < count && status == DCACHE_OK; i++) {
        uint32_t end = i;
        while (end < count && end - i < limit && reader->wanted[end])
            end++;
        if (end > i) {
            status = fetch_run(reader, place, i, end);
            i = end - 1;
        }
    }
    return status;
}

dcache_status_t shard_reader_fetch(struct shard_reader *reader)
{
    uint32_t count = reader->header.chunk_count;

    for (size_t place = 0; place < copy_count(reader); place++) {
        dcache_status_t status = fetch_from(reader, place); /* a copy that cannot be read: the next one */
        if (status == DCACHE_ERR_MPI)
            return status;
        if (memchr(reader->wanted, 1, count) == NULL)
            return DCACHE_OK;
    }
    const unsigned char *missing = memchr(reader->wanted, 1, count);
    return missing == NULL ? DCACHE_OK
                           : diag_fail(&reader->copies->dc->diag, DCACHE_ERR_CORRUPT,
                                       "chunk %zu of rank %u's shard of step %llu is lost or corrupt in all of its %zu "
                                       "copies",
                                       (size_t)(missing - reader->wanted), reader->rank,
                                       (unsigned long long)reader->copies->set.step, copy_count(reader));
}

void shard_reader_close(struct shard_reader *reader)
{
    if (reader->image != NULL)
        (void)munmap(reader->image, reader->header.file_bytes);
    shard_object_close(&reader->object);
    shard_header_free(&reader->header);
    free(reader->wanted);
    free(reader->places);
    memset(reader, 0, sizeof *reader);
}
