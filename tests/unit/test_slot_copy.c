/* io/slot_copy.c: a slot on another tier is the same to the last byte, or it says that it holds nothing. */
#include "io/slot_copy.h"
#include "store_fixture.h"
#include "store_sample.h"
#include "unit.h"

#include <pthread.h>
#include <sys/stat.h>
#include <time.h>

#define RANK  3u
#define BYTES ((3u << 20) + 12345) /* several chunks, and a last one that is no multiple of a block */

/* Two stores, and a shard in the first one. */
struct tiers {
    struct node_store memory, ssd;
    struct store_sample sample;
    struct slot_copy_control control;
};

static struct slot_copy_request request_of(const struct tiers *tiers)
{
    return (struct slot_copy_request){&tiers->memory, &tiers->ssd, RANK, tiers->sample.slot, 5, tiers->sample.set};
}

static void setup(struct tiers *tiers, uint64_t bytes)
{
    memset(tiers, 0, sizeof *tiers);
    fixture_open(&tiers->memory);
    fixture_open(&tiers->ssd);
    tiers->sample = (struct store_sample){.job = "sample",
                                          .set = {.step = 7, .sequence = 9, .epoch = 11, .world_size = 4},
                                          .rank = RANK,
                                          .kind = SLOT_OWN,
                                          .slot = 1,
                                          .bytes = bytes,
                                          .state = SHARD_COMPLETE};
    CU_ASSERT_FATAL(store_sample_write(&tiers->memory, &tiers->sample));
}

static void teardown(struct tiers *tiers)
{
    node_store_close(&tiers->memory);
    node_store_close(&tiers->ssd);
}

static dcache_status_t copy(struct tiers *tiers)
{
    const struct slot_copy_request request = request_of(tiers);
    return slot_copy(fixture_diag(), &request, &tiers->control);
}

static char *read_file(const struct node_store *store, const char *name, size_t *bytes)
{
    struct stat status;
    int fd = openat(store->dir_fd, name, O_RDONLY | O_CLOEXEC);
    CU_ASSERT_FATAL(fd >= 0 && fstat(fd, &status) == 0);
    *bytes = (size_t)status.st_size;
    char *data = malloc(*bytes + 1);
    CU_ASSERT_PTR_NOT_NULL_FATAL(data);
    CU_ASSERT_EQUAL_FATAL(pread(fd, data, *bytes, 0), (ssize_t)*bytes);
    close(fd);
    return data;
}

static void check_same(const struct tiers *tiers)
{
    size_t bytes = 0, copied = 0;
    char name[48];
    slot_name(SLOT_OWN, RANK, tiers->sample.slot, name);
    char *original = read_file(&tiers->memory, name, &bytes);
    slot_name(SLOT_OWN, RANK, 5, name);
    char *copy_of_it = read_file(&tiers->ssd, name, &copied);
    CU_ASSERT_EQUAL_FATAL(bytes, copied);
    CU_ASSERT_EQUAL(memcmp(original, copy_of_it, bytes), 0);
    free(original);
    free(copy_of_it);
}

/* Nothing in the second store can be believed. */
static void check_nothing(const struct tiers *tiers)
{
    struct catalog_entry *entries = NULL;
    size_t count = 99;
    CU_ASSERT_EQUAL(node_store_catalog(fixture_diag(), &tiers->ssd, &entries, &count), DCACHE_OK);
    CU_ASSERT_EQUAL(count, 0);
    free(entries);
}

static void test_copy(void)
{
    static const uint64_t sizes[] = {0, 1, 4096, 1u << 20, (1u << 20) + 1, BYTES, 9u << 20};
    for (size_t i = 0; i < UNIT_COUNT(sizes); i++) {
        struct tiers tiers;
        setup(&tiers, sizes[i]);
        fixture_expect(copy(&tiers), DCACHE_OK, NULL);
        check_same(&tiers);
        teardown(&tiers);
    }
}

/* Over files that are shorter, and a longer one that is a hole. */
static void test_over_another(void)
{
    static const size_t sizes[] = {100, 4096, 64u << 20};
    for (size_t i = 0; i < UNIT_COUNT(sizes); i++) {
        struct tiers tiers;
        setup(&tiers, BYTES);
        int fd = openat(tiers.ssd.dir_fd, "own-3-5.h5", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        CU_ASSERT_EQUAL(ftruncate(fd, (off_t)sizes[i]), 0);
        CU_ASSERT_EQUAL(pwrite(fd, "old", 3, 0), 3);
        close(fd);
        fixture_expect(copy(&tiers), DCACHE_OK, NULL);
        check_same(&tiers);
        teardown(&tiers);
    }
}

static void test_other_set(void)
{
    struct tiers tiers;
    setup(&tiers, BYTES);
    for (int field = 0; field < 4; field++) {
        struct slot_copy_request request = request_of(&tiers);
        request.set.step += field == 0;
        request.set.sequence += field == 1;
        request.set.epoch += field == 2;
        request.from_index += field == 3; /* where there is none */
        CU_ASSERT_EQUAL(slot_copy(fixture_diag(), &request, &tiers.control), DCACHE_NOT_FOUND);
        check_nothing(&tiers);
    }
    teardown(&tiers);
}

/* Damage to a chunk is the slot's, damage to the header makes it another one. What was in the target is gone. */
static void test_damaged(void)
{
    struct tiers tiers;
    setup(&tiers, BYTES);
    fixture_expect(copy(&tiers), DCACHE_OK, NULL);
    CU_ASSERT(store_sample_damage(&tiers.memory, &tiers.sample, -1));
    fixture_expect(copy(&tiers), DCACHE_ERR_CORRUPT, "chunk 3 of rank 3's shard of step 7");
    check_nothing(&tiers);
    CU_ASSERT(store_sample_damage(&tiers.memory, &tiers.sample, -1)); /* repaired */
    fixture_expect(copy(&tiers), DCACHE_OK, NULL);
    check_same(&tiers);
    CU_ASSERT(store_sample_damage(&tiers.memory, &tiers.sample, 20));
    CU_ASSERT_EQUAL(copy(&tiers), DCACHE_NOT_FOUND);
    teardown(&tiers);
}

/* Take the slot for a newer step while its copy is held back in the middle. */
static void *use_again(void *argument)
{
    struct tiers *tiers = argument;
    struct store_sample newer = tiers->sample;
    const struct timespec nap = {.tv_nsec = 20000000};
    char name[48];
    slot_name(SLOT_OWN, RANK, 1, name);
    (void)nanosleep(&nap, NULL);
    newer.set.step++;
    newer.set.sequence++;
    newer.slot = 2;
    CU_ASSERT(store_sample_write(&tiers->memory, &newer));
    /* In place, as a checkpoint does it: the copy has the file open. */
    size_t bytes = 0;
    char *image = read_file(&tiers->memory, "own-3-2.h5", &bytes);
    int fd = openat(tiers->memory.dir_fd, name, O_RDWR | O_CLOEXEC);
    CU_ASSERT_EQUAL(pwrite(fd, image, bytes, 0), (ssize_t)bytes);
    close(fd);
    free(image);
    atomic_store(&tiers->control.pause, false);
    return NULL;
}

static void test_used_again(void)
{
    struct tiers tiers;
    pthread_t thread;
    setup(&tiers, BYTES);
    atomic_store(&tiers.control.pause, true);
    CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, use_again, &tiers), 0);
    CU_ASSERT_EQUAL(copy(&tiers), DCACHE_NOT_FOUND);
    CU_ASSERT_EQUAL(pthread_join(thread, NULL), 0);
    check_nothing(&tiers);
    teardown(&tiers);
}

static void test_cancel(void)
{
    struct tiers tiers;
    setup(&tiers, BYTES);
    atomic_store(&tiers.control.pause, true);
    atomic_store(&tiers.control.cancel, true);
    fixture_expect(copy(&tiers), DCACHE_ERR_CANCELLED, NULL);
    check_nothing(&tiers);
    teardown(&tiers);
}

#ifdef DCACHE_FAILPOINTS
struct failure {
    const char *failpoints;
    dcache_status_t status;
};

static void copy_with(const char *failpoints, dcache_status_t expected)
{
    struct tiers tiers;
    setup(&tiers, BYTES);
    fixture_expect(copy(&tiers), DCACHE_OK, NULL); /* so that there is something to lose */
    setenv("DCACHE_FAILPOINTS", failpoints, 1);
    memset(fixture_diag()->failpoint_hits, 0, sizeof fixture_diag()->failpoint_hits);
    fixture_expect(copy(&tiers), expected, NULL);
    unsetenv("DCACHE_FAILPOINTS");
    check_nothing(&tiers);
    fixture_expect(copy(&tiers), DCACHE_OK, NULL);
    check_same(&tiers);
    teardown(&tiers);
}

static void test_failures(void)
{
    static const struct failure failures[] = {
        {"slot.allocate=enospc", DCACHE_ERR_NO_SPACE}, {"ssd.copy=error#1", DCACHE_ERR_IO},
        {"ssd.copy=enospc#3", DCACHE_ERR_NO_SPACE},    {"slot.sync=error#1", DCACHE_ERR_IO},
        {"ssd.header=error", DCACHE_ERR_IO},           {"slot.sync=error#2", DCACHE_ERR_IO},
        {"store.sync=error", DCACHE_ERR_IO},
    };
    for (size_t i = 0; i < UNIT_COUNT(failures); i++)
        copy_with(failures[i].failpoints, failures[i].status);
}

static int killed_copy(const char *failpoints)
{
    static struct tiers tiers; /* of the parent's: the same directories */
    setup(&tiers, BYTES);
    FILE *paths = fopen(fixture_path("paths"), "w");
    if (paths == NULL || fprintf(paths, "%s\n", tiers.ssd.path) < 0 || fclose(paths) != 0)
        return 3;
    if (copy(&tiers) != DCACHE_OK)
        return 1;
    memset(fixture_diag()->failpoint_hits, 0, sizeof fixture_diag()->failpoint_hits);
    setenv("DCACHE_FAILPOINTS", failpoints, 1);
    return copy(&tiers) == DCACHE_OK ? 2 : 4;
}

/* A kill at any point before the header is there leaves nothing that could be believed. */
static void test_kill(void)
{
    static const char *const failpoints[] = {"slot.allocate=kill", "ssd.copy=kill#2", "slot.sync=kill#1",
                                             "ssd.header=kill"};
    for (size_t i = 0; i < UNIT_COUNT(failpoints); i++) {
        char path[800] = "";
        struct catalog_entry *entries = NULL;
        size_t count = 99;
        (void)unit_scratch();
        CU_ASSERT_EQUAL(fixture_in_child(killed_copy, failpoints[i]), 1000 + 9);
        FILE *paths = fopen(fixture_path("paths"), "r");
        CU_ASSERT_FATAL(paths != NULL && fscanf(paths, "%799s", path) == 1);
        fclose(paths);
        struct node_store store = {.dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), .lock_fd = -1};
        snprintf(store.path, sizeof store.path, "%.500s", path);
        CU_ASSERT_EQUAL(node_store_catalog(fixture_diag(), &store, &entries, &count), DCACHE_OK);
        CU_ASSERT_EQUAL(count, 0);
        free(entries);
        node_store_close(&store);
        unit_remove_scratch();
        unit_scratch_buffer()[0] = '\0';
    }
}
#endif

int main(void)
{
    static const struct unit_case cases[] = {
        {"copies of all sizes", test_copy},
        {"over another one", test_over_another},
        {"another set is not copied", test_other_set},
        {"damaged slots", test_damaged},
        {"a slot that is used again meanwhile", test_used_again},
        {"cancelled", test_cancel},
#ifdef DCACHE_FAILPOINTS
        {"failures on the way", test_failures},
        {"kills on the way", test_kill},
#endif
    };
    return unit_main("slot_copy", cases, UNIT_COUNT(cases));
}
