#include "mpi/replicate.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* A ring index no option allows: the probe's scratch file cannot collide with a shard. */
#define PROBE_SLOT 99u

static dcache_status_t find_guests(struct diag *dg, const struct placement *placement, struct replicator *r)
{
    uint32_t me = (uint32_t)r->world->rank, size = (uint32_t)r->world->size;

    r->host = placement->host_of_rank[me];
    for (uint32_t rank = 0; rank < size; rank++)
        r->guest_count += placement->host_of_rank[rank] == me;
    r->guests = calloc(r->guest_count + 1, sizeof *r->guests);
    r->report = calloc(r->guest_count + 1, sizeof *r->report);
    r->requests = calloc(r->guest_count + 1, sizeof *r->requests);
    for (uint32_t slot = 0; r->guests != NULL && slot < TRANSPORT_SLOTS_MAX; slot++) {
        r->ring[slot].guest_slots = calloc(r->guest_count + 1, sizeof *r->ring[slot].guest_slots);
        if (r->ring[slot].guest_slots == NULL)
            return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "out of memory for replicas of %u ranks", r->guest_count);
    }
    if (r->guests == NULL || r->report == NULL || r->requests == NULL)
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "out of memory for replicas of %u ranks", r->guest_count);
    for (uint32_t rank = 0, g = 0; rank < size; rank++) {
        if (placement->host_of_rank[rank] == me)
            r->guests[g++] = rank;
    }
    return DCACHE_OK;
}

/* Probe on memory of the node store, for that is what windows will be made on. A tier without room for that is no
 * reason to stop: what is in the node stores can still be restarted from, and messages need no room. */
static dcache_status_t probe(struct diag *dg, struct replicator *r, const struct placement *placement,
                             struct transport_probe *found)
{
    struct slot scratch = {.fd = -1};
    uint32_t me = (uint32_t)r->world->rank;
    dcache_status_t status = slot_open(dg, r->store, SLOT_OWN, me, PROBE_SLOT, TRANSPORT_PROBE_BYTES, &scratch);
    int64_t no_room = status == DCACHE_ERR_NO_SPACE;

    status = agree_values(r->world, dg, NULL, no_room ? DCACHE_OK : status, &no_room, 1);
    if (status == DCACHE_OK && no_room)
        snprintf(found->reason, sizeof found->reason, "the tier has no room for trying out a window: %u bytes per rank",
                 TRANSPORT_PROBE_BYTES);
    else if (status == DCACHE_OK)
        status = transport_probe(dg, r->world, placement, scratch.base, found);
    if (scratch.base != NULL) {
        slot_close(&scratch);
        struct diag quiet = *dg;
        if (slot_remove(&quiet, r->store, SLOT_OWN, me, PROBE_SLOT) != DCACHE_OK)
            diag_log(dg, DIAG_DEBUG, "%s", quiet.text);
    }
    return status;
}

static dcache_status_t choose(struct diag *dg, struct replicator *r, const struct placement *placement,
                              enum replicate_choice choice, bool *one_sided)
{
    struct transport_probe found = {.window = false};

    *one_sided = false;
    if (choice == REPLICATE_TWO_SIDED) {
        snprintf(r->reason, sizeof r->reason, "asked for by the option transport");
        return DCACHE_OK;
    }
    dcache_status_t status = probe(dg, r, placement, &found);
    if (status != DCACHE_OK)
        return status;
    snprintf(r->reason, sizeof r->reason, "%s", found.reason);
    *one_sided = found.passive || (choice == REPLICATE_ONE_SIDED && found.arrives);
    if (choice == REPLICATE_ONE_SIDED && !found.arrives)
        return diag_fail(dg, DCACHE_ERR_OPTION, "transport = one-sided cannot be used: %s; or set transport = auto",
                         found.reason);
    if (!*one_sided && r->world->rank == 0)
        diag_log(dg, DIAG_WARNING, "replicas travel two-sided: %s", found.reason);
    return DCACHE_OK;
}

static void progress(void *context)
{
    struct transport *transport = context;

    transport->ops->progress(transport);
}

dcache_status_t replicate_open(struct diag *dg, const struct world *world, const struct placement *placement,
                               const struct node_store *store, enum replicate_choice choice, struct replicator *r)
{
    bool one_sided = false;

    memset(r, 0, sizeof *r);
    r->world = world;
    r->store = store;
    snprintf(r->transport_name, sizeof r->transport_name, "none");
    snprintf(r->reason, sizeof r->reason, "all ranks are on one node");
    dcache_status_t status = agree(world, dg, NULL, find_guests(dg, placement, r));
    if (status != DCACHE_OK || world->node_count < 2)
        return status;
    status = choose(dg, r, placement, choice, &one_sided);
    if (status != DCACHE_OK)
        return status;
    if (one_sided)
        status = transport_one_sided_create(dg, world, &r->transport);
    else
        status = transport_two_sided_create(dg, world, r->guests, r->guest_count, &r->transport);
    status = agree(world, dg, NULL, status);
    if (status != DCACHE_OK)
        return status;
    snprintf(r->transport_name, sizeof r->transport_name, "%s", r->transport->ops->name);
    r->idle = (struct agree_idle){progress, r->transport};
    return DCACHE_OK;
}

static void unmap_area(struct replicator *r, uint32_t slot)
{
    struct replica_ring_slot *ring = &r->ring[slot];

    for (uint32_t g = 0; g < r->guest_count && ring->guest_slots != NULL; g++) {
        ring->guest_slots[g].base = NULL; /* inside the area, which goes as a whole */
        slot_close(&ring->guest_slots[g]);
    }
    if (ring->area != NULL)
        munmap(ring->area, ring->area_bytes);
    ring->area = NULL;
    ring->area_bytes = 0;
}

static void detach(struct replicator *r, uint32_t slot)
{
    if (r->ring[slot].attached)
        r->transport->ops->detach(r->transport, slot);
    r->ring[slot].attached = false;
    unmap_area(r, slot);
}

/* Move the slot's mapping, page tables and all, to its place in the area. */
static dcache_status_t map_at(struct diag *dg, struct slot *slot, char *place)
{
    void *moved = mremap(slot->base, slot->bytes, slot->bytes, MREMAP_MAYMOVE | MREMAP_FIXED, place);

    if (moved == MAP_FAILED)
        return diag_fail_errno(dg, errno, "cannot map %llu bytes of a replica", (unsigned long long)slot->bytes);
    slot->base = moved;
    return DCACHE_OK;
}

static uint64_t page_round(uint64_t bytes)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);

    return (bytes + page - 1) / page * page;
}

/* In: the sizes the guests told; out: where their replicas are in the area. */
static dcache_status_t map_guests(struct diag *dg, struct replicator *r, uint32_t slot, uint64_t *words)
{
    struct replica_ring_slot *ring = &r->ring[slot];
    uint64_t total = 0, place = 0;

    for (uint32_t g = 0; g < r->guest_count; g++)
        total += page_round(words[g]);
    if (total == 0)
        return DCACHE_OK;
    void *area = mmap(NULL, total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (area == MAP_FAILED)
        return diag_fail_errno(dg, errno, "cannot reserve %llu bytes of address space", (unsigned long long)total);
    ring->area = area;
    ring->area_bytes = total;
    for (uint32_t g = 0; g < r->guest_count; g++) {
        struct slot *guest = &ring->guest_slots[g];
        dcache_status_t status = slot_open_cold(dg, r->store, SLOT_REPLICA, r->guests[g], slot, words[g], guest);
        if (status != DCACHE_OK)
            return status;
        status = map_at(dg, guest, (char *)area + place);
        if (status != DCACHE_OK) {
            munmap(guest->base, guest->bytes);
            return status;
        }
        place += page_round(words[g]);
        words[g] = place - page_round(words[g]);
    }
    return DCACHE_OK;
}

/* Tell the host how much room this rank needs, hear the same from the guests; or, on the way back, tell the guests
 * where their replicas are. Said also by a rank that has failed, so that nobody waits for it. */
static dcache_status_t talk(struct diag *dg, struct replicator *r, bool to_host, uint64_t *mine, uint64_t *guests)
{
    MPI_Comm comm = r->world->comm;
    MPI_Request *requests = r->requests;
    int count = 0, code = MPI_SUCCESS;

    for (uint32_t g = 0; g < r->guest_count && code == MPI_SUCCESS; g++) {
        int guest = (int)r->guests[g];
        code = to_host ? MPI_Irecv(&guests[g], 1, MPI_UINT64_T, guest, WORLD_TAG_SETUP, comm, &requests[count++])
                       : MPI_Isend(&guests[g], 1, MPI_UINT64_T, guest, WORLD_TAG_SETUP, comm, &requests[count++]);
    }
    if (r->host != PLACEMENT_NONE && code == MPI_SUCCESS)
        code = to_host ? MPI_Isend(mine, 1, MPI_UINT64_T, (int)r->host, WORLD_TAG_SETUP, comm, &requests[count++])
                       : MPI_Irecv(mine, 1, MPI_UINT64_T, (int)r->host, WORLD_TAG_SETUP, comm, &requests[count++]);
    if (code == MPI_SUCCESS)
        code = MPI_Waitall(count, requests, MPI_STATUSES_IGNORE);
    return world_check(dg, code, "MPI_Waitall");
}

static dcache_status_t prepare_slot(struct diag *dg, struct replicator *r, uint32_t slot, uint64_t bytes)
{
    struct replica_ring_slot *ring = &r->ring[slot];

    dcache_status_t status = talk(dg, r, true, &bytes, r->report);
    if (status == DCACHE_OK)
        status = map_guests(dg, r, slot, r->report);
    status = agree(r->world, dg, NULL, status);
    if (status == DCACHE_OK)
        status = agree(r->world, dg, NULL, talk(dg, r, false, &ring->displacement, r->report));
    if (status != DCACHE_OK) {
        unmap_area(r, slot);
        return status;
    }
    ring->bytes = bytes;
    status = r->transport->ops->attach(r->transport, dg, slot, ring->area, ring->area_bytes);
    ring->attached = status == DCACHE_OK;
    if (status != DCACHE_OK)
        ring->area = NULL; /* some rank's window may still point there: the mapping is left behind */
    return status;
}

dcache_status_t replicate_prepare(struct diag *dg, struct replicator *r, uint32_t slot, uint64_t bytes)
{
    if (r->transport == NULL)
        return DCACHE_OK;
    detach(r, slot);
    return prepare_slot(dg, r, slot, bytes);
}

void replicate_warm(struct replicator *r, uint32_t slot)
{
    for (uint32_t g = 0; r->ring[slot].attached && g < r->guest_count; g++)
        slot_warm(&r->ring[slot].guest_slots[g]);
}

dcache_status_t replicate_tell_host(struct diag *dg, struct replicator *r, uint64_t word)
{
    return r->transport == NULL ? DCACHE_OK : talk(dg, r, true, &word, r->report);
}

dcache_status_t replicate_guest_bytes(struct diag *dg, struct replicator *r, uint64_t mine, uint64_t *guests)
{
    uint64_t total = 0;

    dcache_status_t status = replicate_tell_host(dg, r, mine);
    for (uint32_t g = 0; r->transport != NULL && g < r->guest_count; g++)
        total += r->report[g];
    if (status == DCACHE_OK)
        *guests = total;
    return status;
}

dcache_status_t replicate_report(struct diag *dg, struct replicator *r, const struct replica_report *reports,
                                 uint64_t *mine, uint32_t room)
{
    MPI_Comm comm = r->world->comm;
    int count = 0, code = MPI_SUCCESS;

    for (uint32_t g = 0; g < r->guest_count && code == MPI_SUCCESS; g++)
        code = MPI_Isend(reports[g].words, (int)reports[g].count, MPI_UINT64_T, (int)r->guests[g], WORLD_TAG_SETUP,
                         comm, &r->requests[count++]);
    if (r->host != PLACEMENT_NONE && code == MPI_SUCCESS)
        code = MPI_Irecv(mine, (int)room, MPI_UINT64_T, (int)r->host, WORLD_TAG_SETUP, comm, &r->requests[count++]);
    if (code == MPI_SUCCESS)
        code = MPI_Waitall(count, r->requests, MPI_STATUSES_IGNORE);
    return world_check(dg, code, "MPI_Waitall");
}

dcache_status_t replicate_put(struct diag *dg, struct replicator *r, uint32_t slot, uint64_t offset, const void *source,
                              uint64_t bytes)
{
    const struct replica_ring_slot *ring = &r->ring[slot];

    if (!ring->attached || offset > ring->bytes || bytes > ring->bytes - offset)
        return diag_fail(dg, DCACHE_ERR_INTERNAL, "a put of %llu bytes at %llu does not fit the replica of %llu",
                         (unsigned long long)bytes, (unsigned long long)offset, (unsigned long long)ring->bytes);
    dcache_status_t status = diag_failpoint(dg, "replicate.put");
    if (status != DCACHE_OK)
        return status;
    return r->transport->ops->put(r->transport, dg, slot, r->host, ring->displacement + offset, source, bytes);
}

dcache_status_t replicate_flush(struct diag *dg, struct replicator *r, uint32_t slot, bool wait, bool *done)
{
    dcache_status_t status = diag_failpoint(dg, "replicate.flush");

    if (status != DCACHE_OK)
        return status;
    return r->transport->ops->flush(r->transport, dg, slot, r->host, wait, done);
}

void replicate_close(struct replicator *r)
{
    for (uint32_t slot = 0; slot < TRANSPORT_SLOTS_MAX; slot++) {
        if (r->world != NULL)
            detach(r, slot);
        free(r->ring[slot].guest_slots);
    }
    if (r->transport != NULL)
        r->transport->ops->close(r->transport);
    free(r->guests);
    free(r->report);
    free(r->requests);
    memset(r, 0, sizeof *r);
}
