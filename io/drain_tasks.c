#include "io/drain_tasks.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define PACK_LEAST_BYTES  (1u << 20) /* smaller ones are not worth a request, however many connections are idle */
#define CODED_MORE(bytes) ((bytes) / 64 + (32u << 10)) /* what coding can add: frames that do not shrink, the index */

void drain_tasks_free(struct drain_tasks *tasks)
{
    free(tasks->items);
    free(tasks->members);
    free(tasks->list);
    memset(tasks, 0, sizeof *tasks);
}

/* --- Members -------------------------------------------------------------------------------------------------------*/

struct ordered {
    struct drain_item item;
    size_t at; /* where it was: earlier ones are tried first */
};

static int compare_ordered(const void *left, const void *right)
{
    const struct ordered *a = left;
    const struct ordered *b = right;
    if (a->item.rank != b->item.rank)
        return a->item.rank < b->item.rank ? -1 : 1;
    return (a->at > b->at) - (a->at < b->at);
}

/* The items by rank, each rank's in the order given. */
static bool sort_items(const struct drain_item *items, size_t count, struct drain_item *sorted)
{
    struct ordered *list = calloc(count + 1, sizeof *list);
    if (list == NULL)
        return false;
    for (size_t i = 0; i < count; i++)
        list[i] = (struct ordered){.item = items[i], .at = i};
    if (count > 0)
        qsort(list, count, sizeof *list, compare_ordered);
    for (size_t i = 0; i < count; i++)
        sorted[i] = list[i].item;
    free(list);
    return true;
}

/* Size of the slot's file, which is that of the image: only a guess, but one that costs no reading. 0: not known. */
static uint64_t file_bytes(const struct drain_origin *origin, const struct drain_item *item)
{
    char name[48];
    struct stat info;
    slot_name(item->kind, item->rank, item->slot, name);
    if (fstatat(origin->stores[item->store].dir_fd, name, &info, AT_SYMLINK_NOFOLLOW) != 0 || info.st_size < 0)
        return 0;
    return (uint64_t)info.st_size;
}

/* The largest of the copies, which ought to be alike. */
static uint64_t most_bytes(const struct drain_origin *origin, const struct drain_member *member)
{
    uint64_t most = 0;
    for (size_t i = 0; i < member->copy_count; i++) {
        uint64_t bytes = file_bytes(origin, &member->copies[i]);
        most = bytes > most ? bytes : most;
    }
    return most;
}

static size_t make_members(const struct drain_item *sorted, size_t count, struct drain_member *members)
{
    size_t made = 0;
    for (size_t i = 0; i < count; i++) {
        if (made > 0 && members[made - 1].rank == sorted[i].rank)
            members[made - 1].copy_count++;
        else
            members[made++] = (struct drain_member){.copies = &sorted[i], .copy_count = 1, .rank = sorted[i].rank};
    }
    return made;
}

/* --- Tasks ---------------------------------------------------------------------------------------------------------*/

/* What the shard can take in a pack at most. */
static uint64_t room_for(const struct drain_member *member, const struct drain_tasks_rule *rule)
{
    return rule->coded ? member->bytes + CODED_MORE(member->bytes) : member->bytes;
}

static bool is_small(const struct drain_member *member, const struct drain_tasks_rule *rule)
{
    return member->bytes > 0 && member->bytes < rule->pack_below && room_for(member, rule) <= rule->block_bytes;
}

static unsigned width_of(uint64_t bytes, const struct drain_tasks_rule *rule)
{
    const uint64_t blocks = bytes / rule->block_bytes + 1;
    return blocks < rule->connections ? (unsigned)blocks : rule->connections;
}

/* Small members in front, each kind in its order; returns how many are small. */
static size_t part_small(struct drain_member *members, size_t count, const struct drain_tasks_rule *rule,
                         struct drain_member *sorted)
{
    size_t small = 0;
    for (size_t i = 0; i < count; i++) {
        if (is_small(&members[i], rule))
            sorted[small++] = members[i];
    }
    size_t at = small;
    for (size_t i = 0; i < count; i++) {
        if (!is_small(&members[i], rule))
            sorted[at++] = members[i];
    }
    return small;
}

/* How large packs are to be: as many as there are connections, if that leaves them worth it. */
static uint64_t pack_bytes(const struct drain_member *small, size_t count, const struct drain_tasks_rule *rule)
{
    uint64_t total = 0;
    for (size_t i = 0; i < count; i++)
        total += room_for(&small[i], rule);
    uint64_t wanted = total / rule->connections + 1;
    if (wanted < PACK_LEAST_BYTES)
        wanted = PACK_LEAST_BYTES;
    if (wanted > rule->block_bytes)
        wanted = rule->block_bytes;
    return total / (total / wanted + 1) + 1; /* all about alike, and no small rest */
}

static void add_task(struct drain_tasks *tasks, struct drain_member *members, size_t count, unsigned width)
{
    tasks->list[tasks->count++] = (struct drain_task){.members = members, .member_count = count, .width = width};
}

static void add_packs(struct drain_tasks *tasks, struct drain_member *small, size_t count,
                      const struct drain_tasks_rule *rule)
{
    const uint64_t wanted = pack_bytes(small, count, rule);
    size_t first = 0;
    uint64_t bytes = 0;
    for (size_t i = 0; i < count; i++) {
        const uint64_t room = room_for(&small[i], rule);
        if (i > first && (bytes >= wanted || bytes + room > rule->block_bytes)) {
            add_task(tasks, &small[first], i - first, 1);
            first = i;
            bytes = 0;
        }
        bytes += room;
    }
    if (first < count)
        add_task(tasks, &small[first], count - first, 1);
}

dcache_status_t drain_tasks_make(struct diag *dg, const struct drain_origin *origin, const struct drain_item *items,
                                 size_t item_count, const struct manifest *stored, const struct drain_tasks_rule *rule,
                                 struct drain_tasks *tasks)
{
    struct drain_tasks made = {.count = 0};
    made.items = calloc(item_count + 1, sizeof *made.items);
    made.members = calloc(item_count + 1, sizeof *made.members);
    made.list = calloc(item_count + 1, sizeof *made.list);
    struct drain_member *members = calloc(item_count + 1, sizeof *members);
    if (made.items == NULL || made.members == NULL || made.list == NULL || members == NULL ||
        !sort_items(items, item_count, made.items)) {
        drain_tasks_free(&made);
        free(members);
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "out of memory for a drain of %zu shards", item_count);
    }
    const size_t count = make_members(made.items, item_count, members);
    for (size_t i = 0; i < count; i++)
        members[i].bytes = manifest_find(stored, members[i].rank) != NULL ? 0 : most_bytes(origin, &members[i]);
    const size_t small = part_small(members, count, rule, made.members);
    free(members);
    for (size_t i = small; i < count; i++) /* the large ones first: small ones fill what they leave over */
        add_task(&made, &made.members[i], 1, width_of(made.members[i].bytes, rule));
    add_packs(&made, made.members, small, rule);
    *tasks = made;
    return DCACHE_OK;
}
