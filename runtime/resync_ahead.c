#include "runtime/resync_ahead.h"

#include "io/threads.h"
#include "runtime/levels.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <sys/statvfs.h>

struct ahead_guest {
    struct replica_wanted wanted;
    uint64_t file_bytes; /* 0: not known */
    bool done;
    struct replica_report report;
};

struct resync_ahead {
    pthread_t thread;
    bool running;
    atomic_bool stop;
    struct diag diag; /* its own; what goes wrong here is told by the resync when it comes to the same */
    const struct node_store *store;
    uint32_t slot;
    uint64_t own_bytes; /* that the ranks of this node may still want for their own copies */
    uint32_t count;
    struct ahead_guest guests[];
};

/* A replica is the second thing to have: no room is taken away from the images of this node's ranks. */
static bool has_room(const struct resync_ahead *a, uint64_t bytes)
{
    struct statvfs tier;

    if (fstatvfs(a->store->dir_fd, &tier) != 0)
        return false;
    return (uint64_t)tier.f_bavail * tier.f_frsize >= bytes + a->own_bytes;
}

/* One that is not there is made; one of another size may be of another step, which is still to be had. */
static void prepare(struct resync_ahead *a, struct ahead_guest *guest)
{
    struct slot slot = {.fd = -1};
    uint32_t rank = guest->wanted.rank;

    dcache_status_t status = slot_open_read(&a->diag, a->store, SLOT_REPLICA, rank, a->slot, &slot);
    if (status == DCACHE_NOT_FOUND && has_room(a, guest->file_bytes))
        status = slot_open_file(&a->diag, a->store, SLOT_REPLICA, rank, a->slot, guest->file_bytes, &slot);
    if (status == DCACHE_OK && slot.bytes == guest->file_bytes) {
        replica_report_make(&a->diag, &slot, &guest->wanted, &a->stop, &guest->report);
        guest->done = !atomic_load(&a->stop);
    }
    if (status == DCACHE_OK)
        slot_close(&slot);
}

static void *thread_main(void *argument)
{
    struct resync_ahead *a = argument;

    for (uint32_t g = 0; g < a->count && !atomic_load(&a->stop); g++) {
        if (a->guests[g].file_bytes > 0)
            prepare(a, &a->guests[g]);
    }
    return NULL;
}

/* Any copy of the rank's shard tells how large it is. */
static const struct survey_entry *find_shard(const struct survey *survey, const struct shard_set *set, uint32_t rank)
{
    for (size_t i = 0; i < survey->entry_count; i++) {
        const struct catalog_entry *slot = &survey->entries[i].slot;
        if (slot->rank == rank && slot->state == SHARD_COMPLETE && shard_same_set(&slot->set, set))
            return &survey->entries[i];
    }
    return NULL;
}

/* Which ranks have a copy on the node that they are on now? */
static bool all_are_at_home(const dcache_t *dc, const struct survey *survey, const struct shard_set *set)
{
    const struct world *world = &dc->world;
    unsigned char *at_home = calloc((size_t)world->size, 1);
    int count = 0;

    for (size_t i = 0; at_home != NULL && i < survey->entry_count; i++) {
        const struct survey_entry *entry = &survey->entries[i];
        uint32_t rank = entry->slot.rank;
        if (entry->slot.state == SHARD_COMPLETE && shard_same_set(&entry->slot.set, set) &&
            rank < (uint32_t)world->size && entry->node == world->node_of_rank[rank] && !at_home[rank]) {
            at_home[rank] = 1;
            count++;
        }
    }
    free(at_home);
    return count == world->size;
}

static void describe(dcache_t *dc, struct resync_ahead *a, const struct survey *survey, const struct shard_set *set)
{
    const struct world *world = &dc->world;

    for (uint32_t g = 0; g < a->count; g++) {
        const struct survey_entry *entry = find_shard(survey, set, dc->replicator.guests[g]);
        a->guests[g].wanted = (struct replica_wanted){*set, dc->replicator.guests[g], 0};
        if (entry == NULL)
            continue;
        a->guests[g].wanted.header_bytes = entry->slot.header_bytes;
        a->guests[g].file_bytes = entry->slot.file_bytes;
    }
    for (uint32_t i = world->first_of_node[world->node]; i < world->first_of_node[world->node + 1]; i++) {
        const struct survey_entry *entry = find_shard(survey, set, (uint32_t)world->rank_by_node[i]);
        a->own_bytes += entry != NULL ? entry->slot.file_bytes : 0;
    }
}

void resync_ahead_start(dcache_t *dc, const struct survey *survey, const struct shard_set *set, uint32_t slot)
{
    uint32_t count = dc->replicator.guest_count;

    resync_ahead_drop(dc);
    if (!levels_can_replicate(dc) || count == 0 || all_are_at_home(dc, survey, set))
        return;
    struct resync_ahead *a = calloc(1, sizeof *a + count * sizeof a->guests[0]);
    if (a == NULL)
        return; /* the resync does it all */
    a->diag = dc->diag;
    a->store = &dc->store;
    a->slot = slot;
    a->count = count;
    describe(dc, a, survey, set);
    a->running = threads_start(&a->thread, thread_main, a) == 0;
    dc->ahead = a;
}

static void join(struct resync_ahead *a)
{
    if (a->running)
        (void)pthread_join(a->thread, NULL);
    a->running = false;
}

bool resync_ahead_take(dcache_t *dc, uint32_t slot, const struct replica_wanted *wanted, uint64_t file_bytes,
                       struct replica_report *report)
{
    struct resync_ahead *a = dc->ahead;

    if (a == NULL || a->slot != slot)
        return false;
    join(a);
    for (uint32_t g = 0; g < a->count; g++) {
        struct ahead_guest *guest = &a->guests[g];
        if (!guest->done || guest->wanted.rank != wanted->rank || guest->file_bytes != file_bytes ||
            guest->wanted.header_bytes != wanted->header_bytes || !shard_same_set(&guest->wanted.set, &wanted->set))
            continue;
        guest->done = false;
        *report = guest->report;
        guest->report.words = NULL;
        return true;
    }
    return false;
}

void resync_ahead_drop(dcache_t *dc)
{
    struct resync_ahead *a = dc->ahead;

    if (a == NULL)
        return;
    atomic_store(&a->stop, true);
    join(a);
    for (uint32_t g = 0; g < a->count; g++)
        free(a->guests[g].report.words);
    free(a);
    dc->ahead = NULL;
}
