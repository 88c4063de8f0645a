/* What is in a node store: listing it by the headers, and verifying a slot to the last byte. */
#include "io/crc64.h"
#include "io/node_store.h"
#include "io/store_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct entry_list {
    const struct node_store *store;
    struct catalog_entry *entries;
    size_t count;
    size_t room;
};

/* Kind, rank and slot from a name that slot_name() made; no other spelling of them. */
static bool parse_name(const char *name, struct catalog_entry *entry)
{
    static const char *const forms[] = {
        [SLOT_OWN] = "own-%10" SCNu32 "-%10" SCNu32, [SLOT_REPLICA] = "replica-%10" SCNu32 "-%10" SCNu32};
    char again[48];
    for (int kind = SLOT_OWN; kind <= SLOT_REPLICA; kind++) {
        if (sscanf(name, forms[kind], &entry->rank, &entry->slot) != 2)
            continue;
        entry->kind = (enum slot_kind)kind;
        slot_name(entry->kind, entry->rank, entry->slot, again);
        return strcmp(name, again) == 0;
    }
    return false;
}

/* The directory of the job that a store is in: <root>/<job>/node-<index>. */
static bool is_job_of(const struct node_store *store, const char *job)
{
    const char *end = strrchr(store->path, '/');
    size_t length = strlen(job);
    if (end == NULL || (size_t)(end - store->path) < length + 1)
        return false;
    const char *start = end - length;
    return memcmp(start, job, length) == 0 && start[-1] == '/';
}

static dcache_status_t check_entry(struct diag *dg, const struct node_store *store, const struct shard_header *header,
                                   const struct catalog_entry *entry, uint64_t bytes)
{
    if (header->rank != entry->rank)
        return diag_fail(dg, DCACHE_ERR_CORRUPT, "it holds the shard of rank %" PRIu32, header->rank);
    if (!is_job_of(store, header->job))
        return diag_fail(dg, DCACHE_ERR_CORRUPT, "it holds a shard of the job %s", header->job);
    if (header->file_bytes != bytes)
        return diag_fail(dg, DCACHE_ERR_CORRUPT, "it has %" PRIu64 " bytes and its header says %" PRIu64, bytes,
                         header->file_bytes);
    return DCACHE_OK;
}

/* Fill `entry`, whose kind, rank and slot are set, from its file. */
static dcache_status_t read_entry(struct diag *dg, const struct node_store *store, struct catalog_entry *entry)
{
    unsigned char fixed[SHARD_FIXED_BYTES];
    struct shard_header header;
    struct slot slot;
    size_t got = 0;
    dcache_status_t status = slot_open_read(dg, store, entry->kind, entry->rank, entry->slot, &slot);
    if (status != DCACHE_OK)
        return status;
    status = store_file_read(dg, slot.fd, 0, fixed, sizeof fixed, &got);
    if (status == DCACHE_OK)
        status = shard_decode_fixed(dg, fixed, got, &header);
    if (status == DCACHE_OK)
        status = check_entry(dg, store, &header, entry, slot.bytes);
    slot_close(&slot);
    if (status != DCACHE_OK)
        return status;
    entry->state = header.state;
    entry->set = header.set;
    entry->header_bytes = header.header_bytes;
    entry->file_bytes = header.file_bytes;
    return DCACHE_OK;
}

static dcache_status_t add_entry(struct diag *dg, struct entry_list *list, const struct catalog_entry *entry)
{
    if (list->count == list->room) {
        size_t room = list->room > 0 ? 2 * list->room : 16;
        struct catalog_entry *grown = realloc(list->entries, room * sizeof *grown);
        if (grown == NULL)
            return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "no memory for a list of %zu slots", room);
        list->entries = grown;
        list->room = room;
    }
    list->entries[list->count++] = *entry;
    return DCACHE_OK;
}

/* Add the slot of that name, if it is one and can be believed. */
static dcache_status_t consider(struct diag *dg, void *context, const char *name)
{
    struct entry_list *list = context;
    const struct node_store *store = list->store;
    struct catalog_entry entry = {.kind = SLOT_OWN};
    if (!parse_name(name, &entry))
        return DCACHE_OK;
    struct diag quiet = *dg; /* why a slot is left out is no failure of this call */
    quiet.text[0] = '\0';
    dcache_status_t status = read_entry(&quiet, store, &entry);
    if (status == DCACHE_OK)
        return add_entry(dg, list, &entry);
    if (status ==
        DCACHE_ERR_FORMAT) /* of a newer dcache, and good: without it, older steps would look like the newest */
        return diag_fail(dg, status, "%s/%s: %s", store->path, name, quiet.text);
    diag_log(dg, DIAG_DEBUG, "left out %s/%s: %s", store->path, name,
             quiet.text[0] != '\0' ? quiet.text : "it was never written");
    return DCACHE_OK;
}

static int compare_u64(uint64_t a, uint64_t b)
{
    return a < b ? -1 : a > b;
}

static int compare_entries(const void *a, const void *b)
{
    const struct catalog_entry *x = a;
    const struct catalog_entry *y = b;
    int order = compare_u64(y->set.sequence, x->set.sequence);
    if (order == 0)
        order = compare_u64(x->rank, y->rank);
    if (order == 0)
        order = compare_u64(x->kind, y->kind);
    return order != 0 ? order : compare_u64(x->slot, y->slot);
}

dcache_status_t node_store_catalog(struct diag *dg, const struct node_store *store, struct catalog_entry **entries,
                                   size_t *count)
{
    int fd = openat(store->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* with a read position of its own */
    if (fd < 0)
        return diag_fail_errno(dg, errno, "cannot list %s", store->path);
    struct entry_list list = {store, NULL, 0, 0};
    dcache_status_t status = store_directory_visit(dg, fd, store->path, consider, &list);
    if (status != DCACHE_OK) {
        free(list.entries);
        return status;
    }
    if (list.count > 0)
        qsort(list.entries, list.count, sizeof *list.entries, compare_entries);
    *entries = list.entries;
    *count = list.count;
    return DCACHE_OK;
}

/* Count the chunks whose bytes do not have the digest of the header; a chunk that is cut short is one. */
static dcache_status_t count_bad_chunks(struct diag *dg, int fd, const struct shard_header *header,
                                        uint32_t *bad_chunks)
{
    void *buffer = malloc(SHARD_CHUNK_BYTES);
    if (buffer == NULL)
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "no memory for a chunk of %u bytes", SHARD_CHUNK_BYTES);
    uint32_t bad = 0;
    dcache_status_t status = DCACHE_OK;
    for (uint32_t i = 0; i < header->chunk_count && status == DCACHE_OK; i++) {
        size_t length = shard_chunk_length(header, i);
        size_t got = 0;
        status = store_file_read(dg, fd, shard_chunk_offset(header, i), buffer, length, &got);
        if (got != length || crc64_update(0, buffer, length) != header->chunk_crc[i])
            bad++;
    }
    free(buffer);
    if (status == DCACHE_OK)
        *bad_chunks = bad;
    return status;
}

static dcache_status_t verify_open_slot(struct diag *dg, const struct slot *slot, const struct catalog_entry *entry,
                                        uint32_t *bad_chunks)
{
    struct shard_header header = {.state = SHARD_EMPTY};
    dcache_status_t status = shard_read_header(dg, slot->fd, &header);
    if (status == DCACHE_NOT_FOUND)
        return diag_fail(dg, DCACHE_ERR_CORRUPT, "the shard header is empty");
    if (status != DCACHE_OK)
        return status;
    if (header.rank != entry->rank || !shard_same_set(&header.set, &entry->set))
        status =
            diag_fail(dg, DCACHE_ERR_CORRUPT,
                      "it holds step %" PRIu64 " of rank %" PRIu32 " by now, not step %" PRIu64 " of rank %" PRIu32,
                      header.set.step, header.rank, entry->set.step, entry->rank);
    else
        status = count_bad_chunks(dg, slot->fd, &header, bad_chunks);
    shard_header_free(&header);
    return status;
}

dcache_status_t slot_verify(struct diag *dg, const struct node_store *store, const struct catalog_entry *entry,
                            uint32_t *bad_chunks)
{
    char name[48];
    slot_name(entry->kind, entry->rank, entry->slot, name);
    struct slot slot;
    dcache_status_t status = slot_open_read(dg, store, entry->kind, entry->rank, entry->slot, &slot);
    if (status == DCACHE_NOT_FOUND)
        return diag_fail(dg, DCACHE_ERR_CORRUPT, "%s/%s is gone", store->path, name);
    if (status != DCACHE_OK)
        return status;
    status = verify_open_slot(dg, &slot, entry, bad_chunks);
    slot_close(&slot);
    if (status != DCACHE_OK)
        return diag_fail(dg, status, "%s/%s: %s", store->path, name, dg->text);
    return DCACHE_OK;
}
