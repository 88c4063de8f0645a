/* The SSD tier: tier = ssd and tier = both, with real directories for both tiers (the memory tier in /dev/shm where
 * there is one, the SSD below the directory the test starts in). A reboot of all nodes is the loss of the memory tier.
 *
 * ranks: 1 3
 * timeout: 240 */
#include "io/node_store.h"
#include "mpi_fields.h"
#include "mpi_stores.h"
#include "mpi_support.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define JOB "test"

static char ssd[400]; /* root of the node stores there */

struct run {
    dcache_t *dc;
    struct fields fields;
};

static void run_start(struct run *run)
{
    fields_init(&run->fields, support_rank);
    fields_add_some(&run->fields, 2300);
    CHECK_STATUS(NULL, dcache_open(MPI_COMM_WORLD, NULL, &run->dc), DCACHE_OK);
    fields_protect(run->dc, &run->fields);
    fields_scribble(&run->fields);
}

static void run_end(struct run *run)
{
    support_close(&run->dc);
    fields_free(&run->fields);
}

static void take(struct run *run, uint64_t step)
{
    fields_fill(&run->fields, step);
    CHECK_STATUS(run->dc, dcache_checkpoint(run->dc, step), DCACHE_OK);
}

static void restore(struct run *run, uint64_t wanted, uint64_t expected)
{
    uint64_t step = wanted;

    fields_scribble(&run->fields);
    CHECK_STATUS(run->dc, dcache_restart(run->dc, &step), DCACHE_OK);
    CHECK(step == expected);
    CHECK(fields_hold(&run->fields, expected));
}

/* A run that does nothing but restore. */
static void restart_alone(uint64_t expected)
{
    struct run run;

    run_start(&run);
    restore(&run, DCACHE_LATEST, expected);
    run_end(&run);
}

static void fail_to_restore(dcache_status_t expected)
{
    struct run run;
    uint64_t step = DCACHE_LATEST;

    run_start(&run);
    CHECK_STATUS(run.dc, dcache_restart(run.dc, &step), expected);
    CHECK(step == DCACHE_LATEST && fields_scribbled(&run.fields));
    run_end(&run);
}

static void use_tier(const char *tier, int slots)
{
    support_option("TIER", tier);
    support_option("SSD_STORE", ssd);
    support_option_number("SSD_SLOTS", slots);
}

static void remove_on_rank_0(const char *path)
{
    MPI_Barrier(MPI_COMM_WORLD);
    if (support_rank == 0)
        support_remove_tree(path);
    MPI_Barrier(MPI_COMM_WORLD);
}

static void reboot(void)
{
    remove_on_rank_0(support_stores());
}

static void forget_everything(void)
{
    char path[500];

    reboot();
    snprintf(path, sizeof path, "%s/%s", ssd, JOB);
    remove_on_rank_0(path);
    support_option("FAILPOINTS", NULL);
}

/* This rank's entry of that step in its node's store on the SSD, verified to the last byte. */
static bool find_on_ssd(uint64_t step, struct catalog_entry *found)
{
    struct node_store store;
    struct catalog_entry *entries = NULL;
    struct diag dg;
    size_t count = 0;
    uint32_t bad = 1;
    bool good = false;

    diag_init(&dg, JOB, support_rank, DIAG_ERROR);
    if (node_store_open(&dg, ssd, JOB, (unsigned)support_rank, false, &store) != DCACHE_OK)
        return false;
    CHECK(node_store_catalog(&dg, &store, &entries, &count) == DCACHE_OK);
    for (size_t i = 0; i < count && !good; i++) {
        good = entries[i].kind == SLOT_OWN && entries[i].rank == (uint32_t)support_rank &&
               entries[i].set.step == step && entries[i].state == SHARD_COMPLETE &&
               slot_verify(&dg, &store, &entries[i], &bad) == DCACHE_OK && bad == 0;
        *found = entries[i];
    }
    free(entries);
    node_store_close(&store);
    return good;
}

/* How many ranks have a good copy of the step on their SSD. */
static int ranks_on_ssd(uint64_t step)
{
    struct catalog_entry entry;
    int mine = find_on_ssd(step, &entry), all = 0;

    MPI_Allreduce(&mine, &all, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    return all;
}

static bool on_all_ssds(uint64_t step)
{
    return ranks_on_ssd(step) == support_size;
}

/* Compute on until the step is on all SSDs. */
static void await_ssd(struct run *run, uint64_t step)
{
    dcache_level_t level;

    do {
        CHECK_STATUS(run->dc, dcache_test(run->dc, step, &level), DCACHE_OK);
        usleep(2000);
    } while (!on_all_ssds(step));
    CHECK_STATUS(run->dc, dcache_test(run->dc, step, &level), DCACHE_OK); /* now the handle knows, too */
}

/* Flip a byte of this rank's copy on the SSD, or cut its file. */
static void damage_on_ssd(uint64_t step, bool cut)
{
    struct catalog_entry entry;
    char path[600], name[48];
    unsigned char byte = 0;

    CHECK(find_on_ssd(step, &entry));
    slot_name(SLOT_OWN, entry.rank, entry.slot, name);
    snprintf(path, sizeof path, "%s/%s/node-%d/%s", ssd, JOB, support_rank, name);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    off_t at = (off_t)(entry.header_bytes + (1u << 20) + 77);
    CHECK(fd >= 0 && pread(fd, &byte, 1, at) == 1);
    byte ^= 4;
    CHECK(pwrite(fd, &byte, 1, at) == 1);
    CHECK(!cut || ftruncate(fd, at) == 0);
    close(fd);
}

static bool redundant(uint64_t step)
{
    return support_size < 2 || stores_redundant(JOB, step, (uint32_t)support_size);
}

/* ---- tier = ssd ---- */

static void test_ssd_round_trip(void)
{
    struct run run;
    dcache_level_t level = DCACHE_LEVEL_NONE;

    support_trying("tier = ssd");
    forget_everything();
    use_tier("ssd", 2);
    run_start(&run);
    take(&run, 1);
    fields_fill(&run.fields, 2);
    CHECK_STATUS(run.dc, dcache_checkpoint_begin(run.dc, 2), DCACHE_OK);
    fields_scribble(&run.fields);
    if (support_size > 1)
        CHECK_STATUS(run.dc, dcache_wait(run.dc, 2, DCACHE_REPLICATED), DCACHE_OK);
    CHECK_STATUS(run.dc, dcache_test(run.dc, 2, &level), DCACHE_OK);
    CHECK(level == (support_size > 1 ? DCACHE_REPLICATED : DCACHE_STAGED));
    restore(&run, 1, 1);
    restore(&run, DCACHE_LATEST, 2);
    run_end(&run);
    CHECK(access(support_stores(), F_OK) != 0); /* nothing was in memory */
    reboot();
    restart_alone(2);
}

static void test_ssd_lost_node(void)
{
    struct run run;
    char path[500];

    support_trying("tier = ssd, a node is lost");
    forget_everything();
    use_tier("ssd", 2);
    run_start(&run);
    take(&run, 1);
    take(&run, 2);
    run_end(&run);
    for (int node = 0; node < support_size; node++) {
        snprintf(path, sizeof path, "%s/%s/node-%d", ssd, JOB, node);
        remove_on_rank_0(path);
        if (support_size > 1)
            restart_alone(2);
    }
    if (support_size == 1)
        fail_to_restore(DCACHE_NOT_FOUND);
}

/* A shard that cannot be got to the device is a checkpoint that does not exist. */
static void test_ssd_sync_fails(void)
{
    static const char *const actions[] = {"error", "enospc"};
    static const dcache_status_t statuses[] = {DCACHE_ERR_IO, DCACHE_ERR_NO_SPACE};
    struct run run;
    char points[64];

    for (int i = 0; i < 6; i++) {
        int hit = 3 + i / 2; /* own data, own header, replicas of step 2; step 1 has had as many */
        if (support_size == 1 && i >= 4)
            break;
        hit += support_size > 1 ? 1 : 0;
        support_trying("tier = ssd, sync %d fails with %s", hit, actions[i % 2]);
        forget_everything();
        use_tier("ssd", 2);
        snprintf(points, sizeof points, "slot.sync=%s@%d#%d", actions[i % 2], support_size - 1, hit);
        support_option("FAILPOINTS", points);
        run_start(&run);
        take(&run, 1);
        fields_fill(&run.fields, 2);
        dcache_status_t status = dcache_checkpoint(run.dc, 2);
        CHECK_STATUS(run.dc, status, statuses[i % 2]);
        CHECK_SAME(status, dcache_error_text(run.dc));
        CHECK_STATUS(run.dc, dcache_wait(run.dc, 2, DCACHE_STAGED), DCACHE_NOT_FOUND);
        restore(&run, DCACHE_LATEST, 1);
        take(&run, 3);
        run_end(&run);
        support_option("FAILPOINTS", NULL);
        restart_alone(3);
    }
}

/* Behind the computation the step then stays on its own nodes. */
static void test_ssd_replica_sync_fails(void)
{
    struct run run;
    char points[64];

    if (support_size == 1)
        return;
    support_trying("tier = ssd, the sync of replicas fails behind the computation");
    forget_everything();
    use_tier("ssd", 2);
    snprintf(points, sizeof points, "slot.sync=error@%d#3", support_size - 1);
    support_option("FAILPOINTS", points);
    run_start(&run);
    fields_fill(&run.fields, 1);
    CHECK_STATUS(run.dc, dcache_checkpoint_begin(run.dc, 1), DCACHE_OK);
    CHECK_STATUS(run.dc, dcache_wait(run.dc, 1, DCACHE_REPLICATED), DCACHE_ERR_IO);
    CHECK_STATUS(run.dc, dcache_wait(run.dc, 1, DCACHE_STAGED), DCACHE_OK);
    run_end(&run);
    support_option("FAILPOINTS", NULL);
    restart_alone(1);
}

/* ---- tier = both ---- */

static void test_both_reboot(void)
{
    struct run run;

    support_trying("tier = both, reboot");
    forget_everything();
    use_tier("both", 3);
    run_start(&run);
    for (uint64_t step = 1; step <= 5; step++) {
        take(&run, step);
        await_ssd(&run, step);
    }
    CHECK(on_all_ssds(3) && on_all_ssds(4) && !on_all_ssds(2)); /* older steps stay there */
    fields_fill(&run.fields, 6);
    CHECK_STATUS(run.dc, dcache_checkpoint_begin(run.dc, 6), DCACHE_OK);
    run_end(&run); /* which waits for the copy */
    CHECK(on_all_ssds(6) && on_all_ssds(5) && on_all_ssds(4));
    restart_alone(6); /* from memory */
    reboot();
    run_start(&run);
    restore(&run, DCACHE_LATEST, 6);
    CHECK(redundant(6));
    take(&run, 7);
    run_end(&run);
    CHECK(redundant(7) && on_all_ssds(7) && on_all_ssds(6) && on_all_ssds(5));
    reboot();
    run_start(&run);
    restore(&run, 5, 5); /* an older one, which only the SSDs have */
    run_end(&run);
}

/* Restore when memory has less than a step, and the SSDs have less than one, too: together they have it. */
static void test_both_together(void)
{
    struct run run;
    char path[500];

    if (support_size == 1)
        return;
    support_trying("tier = both, memory and SSDs complete each other");
    for (int lost = 0; lost < support_size; lost++) {
        forget_everything();
        use_tier("both", 2);
        run_start(&run);
        take(&run, 1);
        take(&run, 2);
        run_end(&run);
        CHECK(on_all_ssds(2));
        stores_lose_shard(JOB, (uint32_t)lost, 2); /* own copy and replica in memory */
        snprintf(path, sizeof path, "%s/%s/node-%d", ssd, JOB, (lost + 1) % support_size);
        remove_on_rank_0(path); /* another one's copy on the SSD */
        restart_alone(2);
        CHECK(redundant(2));
    }
}

/* What a power cut leaves of a copy on an SSD: then the step before it. */
static void test_both_torn(void)
{
    struct run run;

    for (int i = 0; i < 3; i++) {
        support_trying("tier = both, torn copies: %d", i);
        forget_everything();
        use_tier("both", 2);
        run_start(&run);
        for (uint64_t step = 1; step <= 2; step++) {
            take(&run, step);
            await_ssd(&run, step);
        }
        run_end(&run);
        reboot();
        if (support_rank == support_size - 1)
            damage_on_ssd(2, i == 1);
        if (i == 2 && support_rank == 0)
            damage_on_ssd(1, false);
        MPI_Barrier(MPI_COMM_WORLD);
        if (i < 2)
            restart_alone(1);
        else
            fail_to_restore(DCACHE_ERR_CORRUPT);
    }
}

/* The newest step that is complete on the SSDs is not the newest that some SSD has: it is what must not be lost. */
static void test_both_incomplete(void)
{
    struct run run;

    support_trying("tier = both, the newest step is not on all SSDs");
    if (support_size == 1)
        return;
    forget_everything();
    use_tier("both", 2);
    run_start(&run);
    for (uint64_t step = 1; step <= 2; step++) {
        take(&run, step);
        await_ssd(&run, step);
    }
    run_end(&run);
    reboot();
    if (support_rank == 0)
        damage_on_ssd(2, true);
    MPI_Barrier(MPI_COMM_WORLD);
    run_start(&run);
    restore(&run, DCACHE_LATEST, 1);
    support_option("FAILPOINTS", "ssd.header=error");
    take(&run, 3);
    run_end(&run);
    support_option("FAILPOINTS", NULL);
    reboot();
    restart_alone(1);
}

/* How many slots of ranks the SSD's store of a virtual node has. */
static int slots_of_node(int node)
{
    char path[600], name[48];
    int found = 0;

    for (uint32_t rank = 0; rank < (uint32_t)support_size; rank++) {
        for (uint32_t k = 0; k < 8; k++) {
            slot_name(SLOT_OWN, rank, k, name);
            snprintf(path, sizeof path, "%s/%s/node-%d/%s", ssd, JOB, node, name);
            found += access(path, F_OK) == 0;
        }
    }
    return found;
}

/* Ranks are elsewhere after a relaunch: their steps are found, and what is left of the former placement goes when a new
 * step is on all SSDs. */
static void test_both_moved(void)
{
    struct run run;

    support_trying("tier = both, other nodes");
    forget_everything();
    use_tier("both", 3);
    run_start(&run);
    take(&run, 1);
    take(&run, 2);
    run_end(&run);
    reboot();
    support_option_number("NODE_SIZE", support_size);
    use_tier("both", 2);
    run_start(&run);
    restore(&run, DCACHE_LATEST, 2);
    take(&run, 3);
    run_end(&run);
    CHECK(slots_of_node(0) >= support_size);
    for (int node = 1; node < support_size; node++)
        CHECK(slots_of_node(node) == 0);
    reboot();
    restart_alone(3);
    support_option("NODE_SIZE", "1");
}

/* A relaunch with another tier finds what the former one left. */
static void test_other_tiers(void)
{
    static const char *const tiers[] = {"memory", "ssd", "both"};
    struct run run;

    for (int from = 0; from < 3; from++) {
        for (int to = 0; to < 3; to++) {
            support_trying("tier = %s, then %s", tiers[from], tiers[to]);
            forget_everything();
            use_tier(tiers[from], 2);
            run_start(&run);
            take(&run, 1);
            take(&run, 2);
            run_end(&run);
            if (from == 2)
                reboot();
            use_tier(tiers[to], 2);
            run_start(&run);
            restore(&run, DCACHE_LATEST, 2);
            take(&run, 3);
            run_end(&run);
            restart_alone(3);
        }
    }
}

/* The newest step on the SSDs is never given up for a copy that may fail: at each moment one is complete there. */
static void test_both_failing(void)
{
    struct run run;
    char points[128];

    support_trying("tier = both, copies fail");
    forget_everything();
    use_tier("both", 2);
    snprintf(points, sizeof points, "ssd.copy=enospc@%d#9,ssd.header=error@0#4,slot.sync=error@%d#11", support_size - 1,
             support_size - 1);
    support_option("FAILPOINTS", points);
    run_start(&run);
    int failed = 0;
    for (uint64_t step = 1, last = 0; step <= 8; step++) {
        dcache_level_t level;
        take(&run, step);
        for (int i = 0; i < 300 && !on_all_ssds(step); i++) {
            CHECK(last == 0 || on_all_ssds(last));
            CHECK_STATUS(run.dc, dcache_test(run.dc, step, &level), DCACHE_OK);
            usleep(1000);
        }
        if (on_all_ssds(step))
            last = step;
        else
            failed++;
        CHECK(last == 0 || on_all_ssds(last));
    }
    CHECK(failed >= 2 && failed < 5); /* the failpoints were met, and then it went on */
    run_end(&run);
    support_option("FAILPOINTS", NULL);
    CHECK(on_all_ssds(8));
    reboot();
    restart_alone(8);
}

/* An SSD that is slower than the checkpoints come: they do not wait, and at the end the newest step is there. With more
 * than two slots in memory, ever newer ones are also there on the way. */
static void test_both_slow(int memory_slots, int slots)
{
    struct run run;
    int most = 0;

    support_trying("tier = both, a slow SSD, %d slots and %d there", memory_slots, slots);
    forget_everything();
    use_tier("both", slots);
    support_option_number("SLOTS", memory_slots);
    support_option("FAILPOINTS", support_size > 1 ? "ssd.copy=delay:30@1" : "ssd.copy=delay:30");
    run_start(&run);
    for (uint64_t step = 1; step <= 12; step++) {
        take(&run, step);
        for (uint64_t before = 1; before <= step; before++)
            most = on_all_ssds(before) && (int)before > most ? (int)before : most;
        usleep(20000);
    }
    CHECK(memory_slots == 2 || most > 1);
    run_end(&run);
    CHECK(on_all_ssds(12));
    support_option("FAILPOINTS", NULL);
    support_option("SLOTS", NULL);
    reboot();
    restart_alone(12);
}

/* Closed before the copy is done: the step is in memory, and nothing half-done is on the SSD. */
static void test_close_timeout(void)
{
    struct run run;

    support_trying("tier = both, close_timeout");
    forget_everything();
    use_tier("both", 2);
    support_option("CLOSE_TIMEOUT", "100ms");
    support_option("FAILPOINTS", "ssd.copy=delay:400@0");
    run_start(&run);
    take(&run, 1);
    run_end(&run);
    support_option("CLOSE_TIMEOUT", NULL);
    support_option("FAILPOINTS", NULL);
    CHECK(ranks_on_ssd(1) < support_size);
    run_start(&run);
    restore(&run, DCACHE_LATEST, 1); /* a restored step is copied if the SSDs lack it */
    await_ssd(&run, 1);
    run_end(&run);
}

/* The store on the SSD is locked as the one in memory is. */
static void test_lock(void)
{
    struct run run;
    dcache_t *other = NULL;
    char elsewhere[400];

    support_trying("the lock of the SSD's store");
    forget_everything();
    use_tier("both", 2);
    run_start(&run);
    snprintf(elsewhere, sizeof elsewhere, "%s/elsewhere", support_scratch());
    support_option("MEMORY_STORE", elsewhere);
    support_option("LOG", "error");
    CHECK_STATUS(NULL, dcache_open(MPI_COMM_WORLD, NULL, &other), DCACHE_ERR_BUSY);
    support_option("MEMORY_STORE", support_stores());
    run_end(&run);
}

/* ---- room ---- */

/* A small file system of this rank's own in place of `path`. False where that is not allowed. */
static bool mount_small(const char *path, const char *size)
{
    char options[64];
    int good = unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0, all = 0;

    snprintf(options, sizeof options, "size=%s,mode=0700", size);
    good = good && (mkdir(path, 0700) == 0 || access(path, F_OK) == 0);
    good = good && mount("small", path, "tmpfs", 0, options) == 0;
    MPI_Allreduce(&good, &all, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
    if (good && !all)
        (void)umount(path);
    return all != 0;
}

static void check_refused(struct run *run, const char *const *words)
{
    fields_fill(&run->fields, 1);
    dcache_status_t status = dcache_checkpoint(run->dc, 1);
    CHECK_STATUS(run->dc, status, DCACHE_ERR_NO_SPACE);
    CHECK_SAME(status, dcache_error_text(run->dc));
    for (; *words != NULL; words++) {
        if (strstr(dcache_error_text(run->dc), *words) == NULL)
            fprintf(stderr, "\"%s\" lacks \"%s\"\n", dcache_error_text(run->dc), *words);
        CHECK(strstr(dcache_error_text(run->dc), *words) != NULL);
    }
}

/* Too small for the ring: said before anything is allocated, and smaller regions fit. */
static void test_too_small(const char *tier, const char *path, const char *const *words)
{
    struct run run;

    support_trying("a tier that is too small, tier = %s", tier);
    forget_everything();
    use_tier(tier, 4);
    if (!mount_small(path, "8m"))
        return;
    support_option("SLOTS", "4");
    run_start(&run);
    check_refused(&run, words);
    for (int i = 0; i < run.fields.count; i++)
        fields_resize(&run.fields, run.fields.items[i].name, 100);
    fields_protect(run.dc, &run.fields);
    for (uint64_t step = 2; step <= 8; step++)
        take(&run, step);
    run_end(&run);
    support_option("SLOTS", NULL);
    CHECK(umount(path) == 0);
}

/* Also when the size is known at open. */
static void test_reserve_too_small(void)
{
    dcache_t *dc = NULL;

    support_trying("reserve more than the tier has");
    forget_everything();
    use_tier("ssd", 2);
    if (!mount_small(ssd, "8m"))
        return;
    support_option("RESERVE", "5MiB");
    CHECK_STATUS(NULL, dcache_open(MPI_COMM_WORLD, NULL, &dc), DCACHE_ERR_NO_SPACE);
    CHECK(dc == NULL);
    support_option("RESERVE", NULL);
    CHECK(umount(ssd) == 0);
}

/* Somebody else fills the SSD while the job runs: the application does not notice, and when there is room again the
 * copies go on. */
static void test_full_later(void)
{
    struct run run;
    struct statvfs info;
    char junk[500], size[16];

    support_trying("tier = both, the SSD is filled by others");
    forget_everything();
    use_tier("both", 2);
    snprintf(size, sizeof size, "%dm", 4 + 8 * support_size); /* it is as if all nodes shared it */
    if (!mount_small(ssd, size))
        return;
    run_start(&run);
    take(&run, 1);
    await_ssd(&run, 1);
    snprintf(junk, sizeof junk, "%s/junk", ssd);
    int fd = open(junk, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && fstatvfs(fd, &info) == 0);
    CHECK(posix_fallocate(fd, 0, (off_t)(info.f_bavail * info.f_frsize) - (1 << 20)) == 0);
    take(&run, 2);
    take(&run, 3);
    CHECK(on_all_ssds(1) && ranks_on_ssd(2) == 0);
    CHECK(close(fd) == 0 && unlink(junk) == 0);
    take(&run, 4);
    run_end(&run);
    CHECK(on_all_ssds(4));
    CHECK(umount(ssd) == 0);
}

static void make_ssd(void)
{
    char here[300];

    CHECK(getcwd(here, sizeof here) != NULL);
    snprintf(ssd, sizeof ssd, "%s/ssd-XXXXXX", here);
    if (support_rank == 0)
        CHECK(mkdtemp(ssd) != NULL);
    MPI_Bcast(ssd, (int)sizeof ssd, MPI_CHAR, 0, MPI_COMM_WORLD);
}

int main(int argc, char **argv)
{
    static const char *const ssd_words[] = {
        "needs ",      " on the ssd tier for 4 slots of all own shards and replicas",
        " bytes free", "option slots",
        "option tier", "more nodes",
        NULL};
    static const char *const memory_words[] = {"on the memory tier for 4 slots", "smaller regions", NULL};
    static const char *const both_words[] = {"on the ssd tier for 4 slots of all own shards,", "option ssd_slots",
                                             NULL};

    support_start(&argc, &argv, MPI_THREAD_SINGLE);
    make_ssd();
    support_option("NODE_SIZE", "1");
    test_ssd_round_trip();
    test_ssd_lost_node();
    test_ssd_sync_fails();
    test_ssd_replica_sync_fails();
    test_both_reboot();
    test_both_together();
    test_both_torn();
    test_both_incomplete();
    test_both_moved();
    test_other_tiers();
    test_both_failing();
    test_both_slow(2, 2);
    test_both_slow(3, 2);
    test_both_slow(4, 4);
    test_close_timeout();
    test_lock();
    test_too_small("ssd", ssd, ssd_words);
    test_too_small("both", ssd, both_words);
    test_too_small("memory", support_stores(), memory_words);
    test_reserve_too_small();
    test_full_later();
    remove_on_rank_0(ssd);
    return support_finish();
}
