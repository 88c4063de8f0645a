#include "runtime/tiers.h"

#include "runtime/levels.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

const char *tiers_root(const dcache_t *dc)
{
    return dc->options.tier == TIER_SSD ? dc->options.ssd_store : dc->options.memory_store;
}

const char *tiers_other_root(const dcache_t *dc)
{
    if (dc->options.tier == TIER_SSD)
        return dc->options.memory_store;
    return dc->options.ssd_store[0] != '\0' ? dc->options.ssd_store : NULL;
}

static bool on_device(const dcache_t *dc)
{
    return dc->options.tier == TIER_SSD;
}

dcache_status_t tiers_sync_own(dcache_t *dc, const struct slot *own)
{
    dcache_status_t status = DCACHE_OK;

    if (on_device(dc))
        status = slot_sync(&dc->diag, &dc->store, own);
    return status == DCACHE_OK ? tiers_sync_names(dc) : status;
}

dcache_status_t tiers_sync_names(dcache_t *dc)
{
    return on_device(dc) ? node_store_sync(&dc->diag, &dc->store, false) : DCACHE_OK;
}

dcache_status_t tiers_sync_replicas(dcache_t *dc, uint32_t slot)
{
    const struct replicator *r = &dc->replicator;
    dcache_status_t status = DCACHE_OK;

    if (!on_device(dc) || !levels_can_replicate(dc))
        return DCACHE_OK;
    for (uint32_t g = 0; status == DCACHE_OK && g < r->guest_count; g++)
        status = slot_sync(&dc->diag, &dc->store, &r->ring[slot].guest_slots[g]);
    if (status == DCACHE_OK)
        status = tiers_sync_names(dc);
    return agree(&dc->world, &dc->diag, &r->idle, status);
}

/* ---- room ---- */

/* Bytes of one node on one tier. */
struct room {
    int64_t need; /* for all slots */
    int64_t held; /* by their files already */
};

static int64_t held_by(const struct node_store *store, enum slot_kind kind, uint32_t rank, uint32_t index)
{
    struct stat info;
    char name[48];

    slot_name(kind, rank, index, name);
    if (fstatat(store->dir_fd, name, &info, AT_SYMLINK_NOFOLLOW) != 0)
        return 0;
    return (int64_t)info.st_blocks * 512;
}

static void count_main(const dcache_t *dc, uint64_t own, uint64_t guests, struct room *room)
{
    const struct replicator *r = &dc->replicator;

    room->need = (int64_t)dc->slots * (int64_t)(own + guests);
    for (uint32_t k = 0; k < dc->slots; k++) {
        room->held += held_by(&dc->store, SLOT_OWN, (uint32_t)dc->world.rank, k);
        for (uint32_t g = 0; g < r->guest_count; g++)
            room->held += held_by(&dc->store, SLOT_REPLICA, r->guests[g], k);
    }
}

static void count_second(const dcache_t *dc, uint64_t own, struct room *room)
{
    if (dc->options.tier != TIER_BOTH)
        return;
    room->need = dc->options.ssd_slots * (int64_t)own;
    for (uint32_t k = 0; k < (uint32_t)dc->options.ssd_slots; k++)
        room->held += held_by(&dc->ssd, SLOT_OWN, (uint32_t)dc->world.rank, k);
}

/* Virtual nodes share their host's tiers. */
static int sum_over_host(dcache_t *dc, struct room rooms[2])
{
    MPI_Comm host = dc->world.node_comm;
    int code = MPI_SUCCESS;
    bool split = dc->options.node_size > 0;

    if (split)
        code = MPI_Comm_split_type(dc->world.comm, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &host);
    if (code == MPI_SUCCESS)
        code = MPI_Allreduce(MPI_IN_PLACE, rooms, 4, MPI_INT64_T, MPI_SUM, host);
    if (split && host != MPI_COMM_NULL)
        MPI_Comm_free(&host);
    return code;
}

/* What a refusal says of a tier besides its numbers. */
struct tier_words {
    const char *name;
    const char *holds;
    const char *remedy;
};

static dcache_status_t check_tier(dcache_t *dc, const struct node_store *store, const struct room *room, int64_t slots,
                                  const struct tier_words *words)
{
    struct statvfs info;

    if (room->need <= room->held)
        return DCACHE_OK;
    if (fstatvfs(store->dir_fd, &info) != 0)
        return diag_fail_errno(&dc->diag, errno, "cannot see how much is free in %s", store->path);
    uint64_t free_bytes = (uint64_t)info.f_bavail * info.f_frsize;
    if ((uint64_t)(room->need - room->held) <= free_bytes)
        return DCACHE_OK;
    return diag_fail(&dc->diag, DCACHE_ERR_NO_SPACE,
                     "node %s needs %" PRId64 " bytes (%.2f GiB) on the %s tier for %" PRId64
                     " slots of %s, and %s has "
                     "%" PRIu64 " bytes free besides the %" PRId64 " that are in these slots: use %s, more nodes, or "
                     "smaller regions",
                     dc->world.node_name, room->need, (double)room->need / 0x1p30, words->name, slots, words->holds,
                     store->path, free_bytes, room->held, words->remedy);
}

static dcache_status_t judge(dcache_t *dc, const struct room rooms[2])
{
    const struct tier_words words = {on_device(dc) ? "ssd" : "memory", "all own shards and replicas",
                                     "fewer slots (option slots), another tier (option tier)"},
                            second = {"ssd", "all own shards",
                                      "fewer slots (option ssd_slots), one tier only (option tier)"};

    dcache_status_t status = check_tier(dc, &dc->store, &rooms[0], dc->options.slots, &words);
    if (status == DCACHE_OK)
        status = check_tier(dc, &dc->ssd, &rooms[1], dc->options.ssd_slots, &second);
    return status;
}

dcache_status_t tiers_check_room(dcache_t *dc, uint64_t bytes)
{
    struct room rooms[2] = {{0, 0}, {0, 0}};
    uint64_t guests = 0;

    dcache_status_t status = replicate_guest_bytes(&dc->diag, &dc->replicator, bytes, &guests);
    count_main(dc, bytes, guests, &rooms[0]);
    count_second(dc, bytes, &rooms[1]);
    int code = sum_over_host(dc, rooms); /* also after a failure: the others are there */
    if (status == DCACHE_OK)
        status = world_check(&dc->diag, code, "MPI_Allreduce");
    if (status == DCACHE_OK)
        status = judge(dc, rooms);
    return agree(&dc->world, &dc->diag, &dc->replicator.idle, status);
}
