/* io/catalog.c: what is in a node store, as far as it can be believed. */
#include "io/crc64.h"
#include "io/node_store.h"
#include "io/shard_layout.h"
#include "shard_sample.h"
#include "store_fixture.h"
#include "unit.h"

#include <fcntl.h>
#include <sys/stat.h>

/* A complete shard in a slot of its own. */
static void put_shard(struct node_store *store, uint32_t rank, uint32_t index, uint64_t step, uint64_t sequence)
{
    struct slot slot = {0};
    struct shard_header header;
    sample_header(&header, rank, 4);
    fixture_expect(slot_create_image(fixture_diag(), store, rank, index, &header, &slot), DCACHE_OK, NULL);
    sample_complete(&header, slot.base, step, sequence);
    slot_close(&slot);
    shard_header_free(&header);
}

static void check_entry(const struct catalog_entry *entry, enum slot_kind kind, uint32_t rank, uint32_t index,
                        uint64_t sequence)
{
    CU_ASSERT_EQUAL(entry->kind, kind);
    CU_ASSERT_EQUAL(entry->rank, rank);
    CU_ASSERT_EQUAL(entry->slot, index);
    CU_ASSERT_EQUAL(entry->set.sequence, sequence);
    CU_ASSERT_EQUAL(entry->set.world_size, 4);
}

static size_t count_slots(struct node_store *store)
{
    struct catalog_entry *entries = NULL;
    size_t count = 0;
    fixture_expect(node_store_catalog(fixture_diag(), store, &entries, &count), DCACHE_OK, NULL);
    free(entries);
    return count;
}

static void test_catalog(void)
{
    struct node_store store;
    struct catalog_entry *entries = NULL;
    size_t count = 1;
    fixture_open(&store);
    CU_ASSERT_EQUAL(count_slots(&store), 0);
    put_shard(&store, 1, 0, 100, 7);
    put_shard(&store, 1, 1, 110, 8);
    put_shard(&store, 0, 1, 110, 8);
    put_shard(&store, 2, 0, 100, 7);
    CU_ASSERT_EQUAL(renameat(store.dir_fd, "own-2-0.h5", store.dir_fd, "replica-2-0.h5"), 0);
    put_shard(&store, 2, 0, 100, 7);
    CU_ASSERT_EQUAL(symlinkat("own-1-0.h5", store.dir_fd, "own-1-5.h5"), 0);
    fixture_write(&store, "own-3-0.h5", "short", 5);
    fixture_write(&store, "plan.json", "{}", 2);
    struct slot slot = {0};
    fixture_expect(slot_open(fixture_diag(), &store, SLOT_REPLICA, 3, 0, 8192, &slot), DCACHE_OK,
                   NULL); /* never written */
    slot_close(&slot);

    snprintf(fixture_diag()->text, sizeof fixture_diag()->text, "before");
    fixture_expect(node_store_catalog(fixture_diag(), &store, &entries, &count), DCACHE_OK, "before");
    CU_ASSERT_EQUAL_FATAL(count, 5);
    check_entry(&entries[0], SLOT_OWN, 0, 1, 8);
    check_entry(&entries[1], SLOT_OWN, 1, 1, 8);
    check_entry(&entries[2], SLOT_OWN, 1, 0, 7);
    check_entry(&entries[3], SLOT_OWN, 2, 0, 7);
    check_entry(&entries[4], SLOT_REPLICA, 2, 0, 7);
    CU_ASSERT_EQUAL(entries[0].set.step, 110);
    CU_ASSERT_EQUAL(entries[0].state, SHARD_COMPLETE);
    free(entries);
    CU_ASSERT_EQUAL(count_slots(&store), 5); /* again: the directory is read from its start */
    node_store_close(&store);
}

static void test_catalog_misplaced(void)
{
    static const char *const names[] = {"own-1-0.h5",   "own-00-0.h5", "own-0-0.h5.old", "own--0-0.h5",
                                        "own-0.h5",     "own- 0-0.h5", "own-+0-0.h5",    "own-0-99999999999.h5",
                                        "parity-0-0.h5"};
    struct node_store store;
    char job[700];
    fixture_open(&store);
    put_shard(&store, 0, 0, 1, 1);
    for (size_t i = 0; i < UNIT_COUNT(names); i++) {
        CU_ASSERT_EQUAL(renameat(store.dir_fd, "own-0-0.h5", store.dir_fd, names[i]), 0);
        CU_ASSERT_EQUAL(count_slots(&store), 0);
        CU_ASSERT_EQUAL(renameat(store.dir_fd, names[i], store.dir_fd, "own-0-0.h5"), 0);
    }
    int fd = openat(store.dir_fd, "own-0-0.h5", O_RDWR | O_CLOEXEC);
    off_t bytes = lseek(fd, 0, SEEK_END);
    CU_ASSERT_EQUAL(ftruncate(fd, bytes - 1), 0);
    CU_ASSERT_EQUAL(count_slots(&store), 0);
    CU_ASSERT_EQUAL(ftruncate(fd, bytes), 0);
    CU_ASSERT_EQUAL(count_slots(&store), 1);
    close(fd);

    /* The directory of another job: "xsample" ends like this one's name. */
    snprintf(job, sizeof job, "%s", store.path);
    strstr(job, "/sample/")[0] = '\0';
    char from[800];
    char to[800];
    snprintf(from, sizeof from, "%s/sample", job);
    snprintf(to, sizeof to, "%s/xsample", job);
    CU_ASSERT_EQUAL(rename(from, to), 0);
    struct node_store moved = {0};
    fixture_expect(node_store_open(fixture_diag(), job, "xsample", 0, false, &moved), DCACHE_OK, NULL);
    CU_ASSERT_EQUAL(count_slots(&moved), 0);
    node_store_close(&moved);
    node_store_close(&store);
}

static uint64_t slot_bytes(const struct node_store *store, const char *name)
{
    struct stat status = {0};
    CU_ASSERT_EQUAL(fstatat(store->dir_fd, name, &status, 0), 0);
    return (uint64_t)status.st_size;
}

/* One wrong byte anywhere in the fixed part, and the slot is not listed. */
static void test_catalog_torn(void)
{
    struct node_store store;
    struct slot slot = {0};
    fixture_open(&store);
    put_shard(&store, 0, 0, 1, 1);
    fixture_expect(slot_open(fixture_diag(), &store, SLOT_OWN, 0, 0, slot_bytes(&store, "own-0-0.h5"), &slot),
                   DCACHE_OK, NULL);
    unsigned char *bytes = slot.base;
    size_t listed = 0;
    for (size_t i = 0; i < SHARD_FIXED_BYTES; i++) {
        bytes[i] ^= 0x40;
        listed += count_slots(&store);
        bytes[i] ^= 0x40;
    }
    CU_ASSERT_EQUAL(listed, 0);
    CU_ASSERT_EQUAL(count_slots(&store), 1);

    struct shard_header header;
    struct catalog_entry *entries = NULL;
    size_t count = 0;
    uint32_t bad = 0;
    fixture_expect(shard_read_header(fixture_diag(), slot.fd, &header), DCACHE_OK, NULL);
    header.state = SHARD_WRITING;
    shard_encode_fixed(&header, bytes);
    shard_header_free(&header);
    fixture_expect(node_store_catalog(fixture_diag(), &store, &entries, &count), DCACHE_OK, NULL);
    CU_ASSERT_EQUAL_FATAL(count, 1);
    CU_ASSERT_EQUAL(entries[0].state, SHARD_WRITING);
    fixture_expect(slot_verify(fixture_diag(), &store, &entries[0], &bad), DCACHE_ERR_CORRUPT, "never completed");
    free(entries);
    slot_close(&slot);
    node_store_close(&store);
}

/* A newer version's slot is no damaged one: left out in silence, an older step would pass for the newest. */
static void test_catalog_newer(void)
{
    struct node_store store;
    struct slot slot = {0};
    struct catalog_entry *entries = NULL;
    size_t count = 0;
    fixture_open(&store);
    put_shard(&store, 0, 0, 1, 1);
    put_shard(&store, 1, 0, 1, 1);
    fixture_expect(slot_open(fixture_diag(), &store, SLOT_OWN, 1, 0, slot_bytes(&store, "own-1-0.h5"), &slot),
                   DCACHE_OK, NULL);
    unsigned char *bytes = slot.base;
    memset(bytes + SHARD_AT_VERSION, 0, 4);
    bytes[SHARD_AT_VERSION] = 99;
    memset(bytes + SHARD_AT_FIXED_CRC, 0, SHARD_DIGEST_BYTES);
    uint64_t digest = crc64_update(0, bytes, SHARD_FIXED_BYTES);
    for (size_t i = 0; i < SHARD_DIGEST_BYTES; i++)
        bytes[SHARD_AT_FIXED_CRC + i] = (unsigned char)(digest >> 8 * i);
    fixture_expect(node_store_catalog(fixture_diag(), &store, &entries, &count), DCACHE_ERR_FORMAT,
                   "own-1-0.h5: the shard has format version 99");
    CU_ASSERT_PTR_NULL(entries);
    slot_close(&slot);
    node_store_close(&store);
}

static void test_verify(void)
{
    struct node_store store;
    struct slot slot = {0};
    struct catalog_entry *entries = NULL;
    size_t count = 0;
    uint32_t bad = 99;
    fixture_open(&store);
    put_shard(&store, 0, 0, 1, 1);
    fixture_expect(node_store_catalog(fixture_diag(), &store, &entries, &count), DCACHE_OK, NULL);
    CU_ASSERT_EQUAL_FATAL(count, 1);
    struct catalog_entry entry = entries[0];
    free(entries);
    fixture_expect(slot_verify(fixture_diag(), &store, &entry, &bad), DCACHE_OK, NULL);
    CU_ASSERT_EQUAL(bad, 0);

    fixture_expect(slot_open(fixture_diag(), &store, SLOT_OWN, 0, 0, entry.file_bytes, &slot), DCACHE_OK, NULL);
    unsigned char *bytes = slot.base;
    bytes[entry.header_bytes] ^= 1; /* the first byte of the first chunk, the last of the last, one between */
    fixture_expect(slot_verify(fixture_diag(), &store, &entry, &bad), DCACHE_OK, NULL);
    CU_ASSERT_EQUAL(bad, 1);
    bytes[entry.file_bytes - 1] ^= 0x80;
    bytes[entry.header_bytes + SHARD_CHUNK_BYTES] ^= 0x10;
    fixture_expect(slot_verify(fixture_diag(), &store, &entry, &bad), DCACHE_OK, NULL);
    CU_ASSERT_EQUAL(bad, 3);
    bytes[entry.header_bytes - 1] ^= 1; /* the header's last byte, which nothing uses */
    fixture_expect(slot_verify(fixture_diag(), &store, &entry, &bad), DCACHE_ERR_CORRUPT, "own-0-0.h5");
    CU_ASSERT_EQUAL(bad, 3);
    slot_close(&slot);

    put_shard(&store, 0, 0, 1, 2);
    fixture_expect(slot_verify(fixture_diag(), &store, &entry, &bad), DCACHE_ERR_CORRUPT, "by now");
    fixture_expect(slot_remove(fixture_diag(), &store, SLOT_OWN, 0, 0), DCACHE_OK, NULL);
    fixture_expect(slot_verify(fixture_diag(), &store, &entry, &bad), DCACHE_ERR_CORRUPT, "gone");
    node_store_close(&store);
}

int main(void)
{
    static const struct unit_case cases[] = {
        {"catalog", test_catalog},
        {"catalog: what is not where it belongs", test_catalog_misplaced},
        {"catalog: torn header", test_catalog_torn},
        {"a slot of a newer version", test_catalog_newer},
        {"verify", test_verify},
    };
    return unit_main("catalog", cases, UNIT_COUNT(cases));
}
