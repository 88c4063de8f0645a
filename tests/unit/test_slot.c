/* io/slot.c, io/slot_data.c and io/slot_image.c: files of slots, and tiers that are full. */
#include "io/crc64.h"
#include "io/node_store.h"
#include "shard_sample.h"
#include "store_fixture.h"
#include "unit.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>

static void test_slot(void)
{
    struct node_store store;
    struct slot slot = {0};
    struct stat status;
    char name[48];
    slot_name(SLOT_REPLICA, UINT32_MAX, UINT32_MAX, name);
    CU_ASSERT_STRING_EQUAL(name, "replica-4294967295-4294967295.h5");
    slot_close(&slot); /* allowed */
    fixture_open(&store);
    fixture_expect(slot_open_read(fixture_diag(), &store, SLOT_OWN, 3, 1, &slot), DCACHE_NOT_FOUND, NULL);
    fixture_expect(slot_open(fixture_diag(), &store, SLOT_OWN, 3, 1, 0, &slot), DCACHE_ERR_INVALID, "own-3-1.h5");
    fixture_expect(slot_open(fixture_diag(), &store, SLOT_OWN, 3, 1, UINT64_MAX, &slot), DCACHE_ERR_INVALID,
                   "own-3-1.h5");
    CU_ASSERT_EQUAL(faccessat(store.dir_fd, "own-3-1.h5", F_OK, 0), -1);

    fixture_expect(slot_open(fixture_diag(), &store, SLOT_OWN, 3, 1, 100000, &slot), DCACHE_OK, NULL);
    CU_ASSERT_EQUAL(slot.bytes, 100000);
    CU_ASSERT_EQUAL(fstat(slot.fd, &status), 0);
    CU_ASSERT_EQUAL(status.st_size, 100000);
    CU_ASSERT_EQUAL(status.st_mode & 0777, 0600);
    CU_ASSERT_TRUE(status.st_blocks * 512 >= 100000);
    memset(slot.base, 'a', slot.bytes);
    slot_close(&slot);
    CU_ASSERT_PTR_NULL(slot.base);

    fixture_expect(slot_open(fixture_diag(), &store, SLOT_OWN, 3, 1, 200000, &slot), DCACHE_OK, NULL);
    CU_ASSERT_EQUAL(((char *)slot.base)[99999], 'a');
    CU_ASSERT_EQUAL(((char *)slot.base)[100000], 0);
    CU_ASSERT_EQUAL(fstat(slot.fd, &status), 0);
    CU_ASSERT_TRUE(status.st_blocks * 512 >= 200000);
    slot_close(&slot);
    fixture_expect(slot_open(fixture_diag(), &store, SLOT_OWN, 3, 1, 50000, &slot), DCACHE_OK, NULL);
    CU_ASSERT_EQUAL(((char *)slot.base)[49999], 'a');
    slot_close(&slot);
    fixture_expect(slot_open_read(fixture_diag(), &store, SLOT_OWN, 3, 1, &slot), DCACHE_OK, NULL);
    CU_ASSERT_EQUAL(slot.bytes, 50000);
    CU_ASSERT_PTR_NULL(slot.base);
    CU_ASSERT_EQUAL(write(slot.fd, "x", 1), -1);
    slot_close(&slot);
    fixture_expect(slot_remove(fixture_diag(), &store, SLOT_OWN, 3, 1), DCACHE_OK, NULL);
    fixture_expect(slot_remove(fixture_diag(), &store, SLOT_OWN, 3, 1), DCACHE_OK, NULL);
    fixture_expect(slot_open_read(fixture_diag(), &store, SLOT_OWN, 3, 1, &slot), DCACHE_NOT_FOUND, NULL);
    node_store_close(&store);
}

/* By way of the file, and through a mapping that is made later: the same bytes. */
static void test_slot_file(void)
{
    static unsigned char data[300001], back[sizeof data];
    struct node_store store;
    struct slot slot = {.fd = -1}, reader = {.fd = -1};
    uint64_t crc = 0;
    fixture_open(&store);
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (unsigned char)(i * 7 + i / 255);
    fixture_expect(slot_open_file(fixture_diag(), &store, SLOT_OWN, 3, 1, sizeof data + 10, &slot), DCACHE_OK, NULL);
    CU_ASSERT_PTR_NULL(slot.base);
    fixture_expect(slot_write(fixture_diag(), &slot, 10, data, sizeof data), DCACHE_OK, NULL);
    fixture_expect(slot_read(fixture_diag(), &slot, 10, back, sizeof back), DCACHE_OK, NULL);
    CU_ASSERT_EQUAL(memcmp(data, back, sizeof data), 0);
    CU_ASSERT_TRUE(slot_digest(&slot, 10, sizeof data, &crc));
    CU_ASSERT_EQUAL(crc, crc64_update(0, data, sizeof data));
    fixture_expect(slot_map_cold(fixture_diag(), &store, &slot), DCACHE_OK, NULL);
    const void *base = slot.base;
    CU_ASSERT_FALSE(slot.warm);
    CU_ASSERT_EQUAL(memcmp((const char *)base + 10, data, sizeof data), 0);
    fixture_expect(slot_map(fixture_diag(), &store, &slot), DCACHE_OK, NULL);
    CU_ASSERT_PTR_EQUAL(slot.base, base);
    CU_ASSERT_TRUE(slot.warm);
    CU_ASSERT_EQUAL(memcmp((const char *)base + 10, data, sizeof data), 0);

    /* behind the end there is nothing, and a reader cannot write */
    fixture_expect(slot_read(fixture_diag(), &slot, 11, back, sizeof back), DCACHE_ERR_IO, "300001 bytes at 11");
    CU_ASSERT_FALSE(slot_digest(&slot, 11, sizeof data, &crc));
    fixture_expect(slot_open_read(fixture_diag(), &store, SLOT_OWN, 3, 1, &reader), DCACHE_OK, NULL);
    fixture_expect(slot_write(fixture_diag(), &reader, 0, data, 1), DCACHE_ERR_IO, "1 bytes at 0");
    slot_close(&reader);
    slot_close(&slot);
    node_store_close(&store);
}

/* A file with holes gets all its blocks: nothing can run out when it is written. */
static void test_slot_holes(void)
{
    struct node_store store;
    struct slot slot = {0};
    struct stat status;
    fixture_open(&store);
    int fd = openat(store.dir_fd, "own-0-0.h5", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    CU_ASSERT_EQUAL(ftruncate(fd, 40 << 20), 0);
    CU_ASSERT_EQUAL(pwrite(fd, "kept", 4, 5 << 20), 4);
    close(fd);
    fixture_expect(slot_open(fixture_diag(), &store, SLOT_OWN, 0, 0, 40 << 20, &slot), DCACHE_OK, NULL);
    CU_ASSERT_EQUAL(fstat(slot.fd, &status), 0);
    CU_ASSERT_TRUE(status.st_blocks * 512 >= 40 << 20);
    CU_ASSERT_EQUAL(memcmp((char *)slot.base + (5 << 20), "kept", 4), 0);
    slot_close(&slot);
    node_store_close(&store);
}

static dcache_status_t use_slot(struct node_store *store)
{
    struct slot slot = {0};
    return slot_open(fixture_diag(), store, SLOT_OWN, 0, 0, 4096, &slot);
}

static dcache_status_t use_slot_read(struct node_store *store)
{
    struct slot slot = {0};
    return slot_open_read(fixture_diag(), store, SLOT_OWN, 0, 0, &slot);
}

static dcache_status_t use_slot_image(struct node_store *store)
{
    struct slot slot = {0};
    struct shard_header header;
    sample_header(&header, 0, 1);
    dcache_status_t status = slot_create_image(fixture_diag(), store, 0, 0, &header, &slot);
    shard_header_free(&header);
    return status;
}

static void test_slot_hostile(void)
{
    fixture_try_hostile("own-0-0.h5", use_slot);
    fixture_try_hostile("own-0-0.h5", use_slot_read);
    fixture_try_hostile("own-0-0.h5", use_slot_image);
}

static void test_slot_image(void)
{
    struct node_store store;
    struct slot old = {0};
    struct slot slot = {0};
    struct shard_header header;
    struct shard_header found;
    struct stat status, before;
    fixture_open(&store);
    fixture_expect(slot_open(fixture_diag(), &store, SLOT_OWN, 2, 1, 30000, &old), DCACHE_OK, NULL);
    memset(old.base, 'o', old.bytes);
    sample_header(&header, 2, 4);
    fixture_expect(slot_create_image(fixture_diag(), &store, 2, 1, &header, &slot), DCACHE_OK, NULL);
    CU_ASSERT_EQUAL(slot.bytes, header.file_bytes);
    CU_ASSERT_EQUAL(fstat(slot.fd, &status), 0);
    CU_ASSERT_EQUAL((uint64_t)status.st_size, header.file_bytes);
    CU_ASSERT_TRUE((uint64_t)status.st_blocks * 512 >= header.file_bytes);
    CU_ASSERT_EQUAL(status.st_mode & 0777, 0600);
    CU_ASSERT_EQUAL(shard_read_header(fixture_diag(), slot.fd, &found), DCACHE_NOT_FOUND);
    CU_ASSERT_EQUAL(fstat(old.fd, &before), 0); /* the same file: its pages are used again */
    CU_ASSERT_EQUAL(before.st_ino, status.st_ino);
    slot_close(&old);
    sample_complete(&header, slot.base, 5, 1);
    fixture_expect(shard_read_header(fixture_diag(), slot.fd, &found), DCACHE_OK, NULL);
    shard_header_free(&found);
    slot_close(&slot);
    shard_header_free(&header);

    sample_header(&header, 2, 4); /* one that cannot be made leaves the slot as it was */
    sample_add(&header, SAMPLE_LARGE, DCACHE_INT8, 1);
    fixture_expect(slot_create_image(fixture_diag(), &store, 2, 1, &header, &slot), DCACHE_ERR_INVALID, "own-2-1.h5");
    shard_header_free(&header);
    fixture_expect(slot_open_read(fixture_diag(), &store, SLOT_OWN, 2, 1, &slot), DCACHE_OK, NULL);
    fixture_expect(shard_read_header(fixture_diag(), slot.fd, &found), DCACHE_OK, NULL);
    shard_header_free(&found);
    slot_close(&slot);
    node_store_close(&store);
}

static bool write_text_to(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool good = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0)
        close(fd);
    return good;
}

/* Mount a tmpfs of that size in a namespace of this process's own; also without root where the kernel allows it. */
static bool mount_small_tier(const char *path, const char *size)
{
    char options[64];
    unsigned uid = geteuid();
    unsigned gid = getegid();
    char map[64];
    if (unshare(CLONE_NEWNS) != 0) {
        if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0)
            return false;
        snprintf(map, sizeof map, "%u %u 1", uid, uid);
        if (!write_text_to("/proc/self/setgroups", "deny") || !write_text_to("/proc/self/uid_map", map))
            return false;
        snprintf(map, sizeof map, "%u %u 1", gid, gid);
        if (!write_text_to("/proc/self/gid_map", map))
            return false;
    }
    snprintf(options, sizeof options, "size=%s,mode=0700", size);
    return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("none", path, "tmpfs", MS_NOSUID | MS_NODEV, options) == 0;
}

static uint64_t space_used(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 ? (uint64_t)status.st_blocks * 512 : 0;
}

/* In a process of its own: what is wrong, or 0. */
static int on_a_full_tier(const char *tier)
{
    struct node_store store = {0};
    struct slot slot = {0};
    struct slot large = {0};
    struct shard_header header;
    char path[800];
    if (!mount_small_tier(tier, "1m"))
        return 77;
    snprintf(path, sizeof path, "%s/root", tier);
    if (node_store_open(fixture_diag(), path, "sample", 0, true, &store) != DCACHE_OK ||
        node_store_lock(fixture_diag(), &store, "test") != DCACHE_OK)
        return 1;
    if (slot_open(fixture_diag(), &store, SLOT_OWN, 0, 0, 600 << 10, &slot) != DCACHE_OK)
        return 2;
    memset(slot.base, 'x', slot.bytes);
    if (slot_open(fixture_diag(), &store, SLOT_OWN, 0, 1, 600 << 10, &large) != DCACHE_ERR_NO_SPACE)
        return 3;
    if (strstr(fixture_diag()->text, "614400 bytes") == NULL ||
        strstr(fixture_diag()->text, "free some space") == NULL || strstr(fixture_diag()->text, "own-0-1.h5") == NULL ||
        strstr(fixture_diag()->text, "fewer slots") == NULL)
        return 4;
    if (faccessat(store.dir_fd, "own-0-1.h5", F_OK, 0) == 0)
        return 5; /* a file that was not there before is not there now */
    if (slot_open(fixture_diag(), &store, SLOT_OWN, 0, 0, 2 << 20, &large) != DCACHE_ERR_NO_SPACE)
        return 6;
    snprintf(path, sizeof path, "%s/own-0-0.h5", store.path);
    if (space_used(path) != 600 << 10 || ((char *)slot.base)[slot.bytes - 1] != 'x')
        return 7; /* and one that was there is as it was */
    sample_header(&header, 0, 1);
    if (slot_create_image(fixture_diag(), &store, 0, 1, &header, &large) != DCACHE_ERR_NO_SPACE)
        return 8;
    if (faccessat(store.dir_fd, "own-0-1.h5", F_OK, 0) == 0)
        return 9;
    if (slot_open(fixture_diag(), &store, SLOT_OWN, 0, 2, 420 << 10, &large) != DCACHE_OK)
        return 10; /* nothing of the failures holds space */
    shard_header_free(&header);
    return 0;
}

/* Nothing but the metadata of HDF5 does not fit: HDF5 itself must not notice, or it crashes at exit. */
static int on_a_tier_too_small_for_metadata(const char *tier)
{
    struct node_store store = {0};
    struct slot slot = {0};
    struct shard_header header = {.job = "sample", .set.world_size = 1};
    char path[800];
    if (!mount_small_tier(tier, "1m"))
        return 77;
    snprintf(path, sizeof path, "%s/root", tier);
    for (int i = 0; i < 6000; i++) {
        char name[32];
        snprintf(name, sizeof name, "r%d", i);
        sample_add(&header, name, DCACHE_INT8, 1);
    }
    if (node_store_open(fixture_diag(), path, "sample", 0, true, &store) != DCACHE_OK)
        return 1;
    if (slot_create_image(fixture_diag(), &store, 0, 0, &header, &slot) != DCACHE_ERR_NO_SPACE)
        return 2;
    if (strstr(fixture_diag()->text, "own-0-0.h5") == NULL || faccessat(store.dir_fd, "own-0-0.h5", F_OK, 0) == 0)
        return 3;
    shard_header_free(&header);
    node_store_close(&store);
    return 0;
}

/* The tier gets full after some of many pieces: those are given back, and what was there before stays. */
static int on_a_tier_that_gets_full(const char *tier)
{
    struct node_store store = {0};
    struct slot slot = {0};
    struct slot large = {0};
    struct stat status;
    char path[800];
    if (!mount_small_tier(tier, "40m"))
        return 77;
    snprintf(path, sizeof path, "%s/root", tier);
    if (node_store_open(fixture_diag(), path, "sample", 0, true, &store) != DCACHE_OK ||
        slot_open(fixture_diag(), &store, SLOT_REPLICA, 0, 0, 1 << 20, &slot) != DCACHE_OK)
        return 1;
    memset(slot.base, 'x', slot.bytes);
    if (slot_open(fixture_diag(), &store, SLOT_REPLICA, 0, 0, 60 << 20, &large) != DCACHE_ERR_NO_SPACE)
        return 2;
    if (fstat(slot.fd, &status) != 0 || status.st_size != 1 << 20 || status.st_blocks * 512 != 1 << 20)
        return 3;
    if (((char *)slot.base)[slot.bytes - 1] != 'x')
        return 4;
    slot_close(&slot);
    node_store_close(&store);
    return 0;
}

static void test_full_tier(void)
{
    static int (*const works[])(const char *) = {on_a_full_tier, on_a_tier_too_small_for_metadata,
                                                 on_a_tier_that_gets_full};
    fixture_root();
    CU_ASSERT_EQUAL(mkdir(fixture_path("tier"), 0700), 0);
    for (size_t i = 0; i < UNIT_COUNT(works); i++) {
        int result = fixture_in_child(works[i], fixture_path("tier"));
        if (result == 77)
            printf("(no small tmpfs can be mounted here: left out) ");
        else
            CU_ASSERT_EQUAL(result, 0);
    }
}

static int beyond_the_limit(const char *root)
{
    const struct rlimit limit = {1 << 20, 1 << 20};
    struct node_store store = {0};
    struct slot slot = {0};
    if (node_store_open(fixture_diag(), root, "sample", 0, true, &store) != DCACHE_OK ||
        setrlimit(RLIMIT_FSIZE, &limit) != 0)
        return 1;
    if (slot_open(fixture_diag(), &store, SLOT_OWN, 0, 0, (1 << 20) + 1, &slot) != DCACHE_ERR_NO_SPACE)
        return 2;
    if (strstr(fixture_diag()->text, "ulimit") == NULL || faccessat(store.dir_fd, "own-0-0.h5", F_OK, 0) == 0)
        return 3;
    if (slot_open(fixture_diag(), &store, SLOT_OWN, 0, 0, 1 << 20, &slot) != DCACHE_OK)
        return 4;
    slot_close(&slot);
    node_store_close(&store);
    return 0;
}

static void test_file_size_limit(void)
{
    CU_ASSERT_EQUAL(fixture_in_child(beyond_the_limit, fixture_root()), 0);
}

#ifdef DCACHE_FAILPOINTS
static void test_failpoints(void)
{
    struct node_store store;
    struct node_store other = {0};
    struct shard_header header;
    struct slot slot = {0};
    fixture_open(&store);
    sample_header(&header, 0, 1);
    setenv("DCACHE_FAILPOINTS", "store.open=error", 1);
    fixture_expect(node_store_open(fixture_diag(), fixture_root(), "job", 0, true, &other), DCACHE_ERR_IO,
                   "store.open");
    setenv("DCACHE_FAILPOINTS", "store.lock=error", 1);
    fixture_expect(node_store_lock(fixture_diag(), &store, "x"), DCACHE_ERR_IO, "store.lock");
    CU_ASSERT_EQUAL(store.lock_fd, -1);
    setenv("DCACHE_FAILPOINTS", "slot.open=enospc", 1);
    fixture_expect(slot_open(fixture_diag(), &store, SLOT_OWN, 0, 0, 4096, &slot), DCACHE_ERR_NO_SPACE, "slot.open");
    setenv("DCACHE_FAILPOINTS", "slot.allocate=enospc", 1);
    fixture_expect(slot_open(fixture_diag(), &store, SLOT_OWN, 0, 0, 4096, &slot), DCACHE_ERR_NO_SPACE,
                   "slot.allocate");
    fixture_expect(slot_create_image(fixture_diag(), &store, 0, 1, &header, &slot), DCACHE_ERR_NO_SPACE,
                   "slot.allocate");
    setenv("DCACHE_FAILPOINTS", "slot.create=error", 1);
    fixture_expect(slot_create_image(fixture_diag(), &store, 0, 1, &header, &slot), DCACHE_ERR_IO, "slot.create");
    unsetenv("DCACHE_FAILPOINTS");
    CU_ASSERT_EQUAL(faccessat(store.dir_fd, "own-0-0.h5", F_OK, 0), -1);
    CU_ASSERT_EQUAL(faccessat(store.dir_fd, "own-0-1.h5", F_OK, 0), -1);
    shard_header_free(&header);
    node_store_close(&store);
}
#endif

int main(void)
{
    static const struct unit_case cases[] = {
        {"slot", test_slot},
        {"slot: by way of the file", test_slot_file},
        {"slot: holes", test_slot_holes},
        {"slot: hostile files", test_slot_hostile},
        {"slot: image", test_slot_image},
        {"full tier", test_full_tier},
        {"limit of a file's size", test_file_size_limit},
#ifdef DCACHE_FAILPOINTS
        {"failpoints", test_failpoints},
#endif
    };
    return unit_main("slot", cases, UNIT_COUNT(cases));
}
