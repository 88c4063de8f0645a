/* The conformance suite of the object stores: what io/object_store.h promises, for each backend. The Azure backend is
 * tested where TEST_AZURE_URL and AZURE_STORAGE_CONNECTION_STRING lead to a Blob service
 * (tests/azurite/with-azurite.sh); what only one backend can get wrong is at the end, and in test_object_faults. */
#include "io/object_store.h"
#include "object_pattern.h"
#include "unit.h"

#include <pthread.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>

#define BLOCK   (64u << 10)
#define WRITERS 6

static struct diag dg;
static struct object_store *store; /* of the backend that is being tested */
static char store_url[OBJECT_URL_MAX];

/* --- Sources ----------------------------------------------------------------------------------------------------*/

static dcache_status_t put_from(struct pattern_source *from, const char *key, uint64_t bytes,
                                enum object_condition condition)
{
    struct object_source source = {.bytes = bytes, .context = from, .read = read_pattern};
    return store->ops->put(store, &dg, key, &source, condition, from->cancel);
}

static dcache_status_t put_pattern(const char *key, uint64_t bytes, unsigned seed, enum object_condition condition)
{
    struct pattern_source from = good_pattern(seed);
    return put_from(&from, key, bytes, condition);
}

/* True when the object's `bytes` bytes at `offset` are those of the pattern. */
static bool range_matches(const char *key, const char *etag, uint64_t offset, size_t bytes, unsigned seed)
{
    unsigned char *buffer = malloc(bytes + 1);
    bool matches = buffer != NULL;
    if (matches) {
        buffer[bytes] = 0xa5;
        matches = store->ops->get(store, &dg, key, etag, offset, buffer, bytes) == DCACHE_OK && buffer[bytes] == 0xa5;
    }
    for (size_t i = 0; matches && i < bytes; i++)
        matches = buffer[i] == pattern(offset + i, seed);
    free(buffer);
    return matches;
}

static bool object_matches(const char *key, uint64_t bytes, unsigned seed)
{
    struct object_info info;
    return store->ops->head(store, &dg, key, &info) == DCACHE_OK && info.bytes == bytes &&
           range_matches(key, info.etag, 0, (size_t)bytes, seed);
}

static bool is_absent(const char *key)
{
    struct object_info info = {.bytes = 77};
    return store->ops->head(store, &dg, key, &info) == DCACHE_NOT_FOUND && info.bytes == 77;
}

/* --- Conformance ------------------------------------------------------------------------------------------------*/

static void test_create(void)
{
    CU_ASSERT_FATAL(store->ops->create(store, &dg) == DCACHE_OK);
    CU_ASSERT(store->ops->create(store, &dg) == DCACHE_OK);
}

static void test_round_trip(void)
{
    static const uint64_t sizes[] = {0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 5 * BLOCK + 4711};
    char key[64];
    for (unsigned i = 0; i < UNIT_COUNT(sizes); i++) {
        for (enum object_condition condition = OBJECT_REPLACE; condition <= OBJECT_IF_ABSENT; condition++) {
            snprintf(key, sizeof key, "trip/c%d/s%u", (int)condition, i);
            CU_ASSERT(is_absent(key));
            CU_ASSERT(put_pattern(key, sizes[i], i, condition) == DCACHE_OK);
            CU_ASSERT(object_matches(key, sizes[i], i));
        }
    }
}

/* Who reads the source: one thread at a time, in ascending order. */
struct watched_source {
    struct pattern_source from;
    atomic_bool busy;
    uint64_t next;
    unsigned broken;
};

static dcache_status_t read_watched(void *context, struct diag *diag, uint64_t offset, void *buffer, size_t bytes,
                                    uint64_t *crc)
{
    struct watched_source *watched = context;
    bool overlapped = atomic_exchange(&watched->busy, true);
    watched->broken += overlapped || offset != watched->next;
    watched->next = offset + bytes;
    usleep(200);
    dcache_status_t status = read_pattern(&watched->from, diag, offset, buffer, bytes, crc);
    atomic_store(&watched->busy, false);
    return status;
}

/* Many blocks in flight, and more pieces than one on the way back. */
static void test_many_blocks(void)
{
    const uint64_t bytes = 300 * BLOCK + 4711; /* 18.8 MiB */
    struct watched_source watched = {.from = good_pattern(4)};
    struct object_source source = {.bytes = bytes, .context = &watched, .read = read_watched};
    struct object_info info;
    CU_ASSERT(store->ops->put(store, &dg, "many/it", &source, OBJECT_IF_ABSENT, NULL) == DCACHE_OK);
    CU_ASSERT(watched.broken == 0 && watched.next == bytes);
    CU_ASSERT(object_matches("many/it", bytes, 4));
    CU_ASSERT(range_matches("many/it", NULL, 3, (size_t)bytes - 3, 4));
    CU_ASSERT_FATAL(store->ops->head(store, &dg, "many/it", &info) == DCACHE_OK);
    CU_ASSERT(put_pattern("many/it", bytes, 5, OBJECT_REPLACE) == DCACHE_OK);
    CU_ASSERT(!range_matches("many/it", info.etag, 0, (size_t)bytes, 5));
    CU_ASSERT(!range_matches("many/it", NULL, 1, (size_t)bytes, 5)); /* a byte too far */
    watched = (struct watched_source){.from = good_pattern(6)};
    watched.from.fail_offset = 150 * BLOCK;
    CU_ASSERT(store->ops->put(store, &dg, "many/it", &source, OBJECT_REPLACE, NULL) == DCACHE_ERR_BUSY);
    CU_ASSERT_STRING_EQUAL(dg.text, "the source says no");
    CU_ASSERT(object_matches("many/it", bytes, 5));
}

static void test_replace(void)
{
    static const uint64_t sizes[] = {3 * BLOCK, 10, 0, 2 * BLOCK + 1, 2 * BLOCK + 1};
    for (unsigned i = 0; i < UNIT_COUNT(sizes); i++) {
        CU_ASSERT(put_pattern("replace/it", sizes[i], i, OBJECT_REPLACE) == DCACHE_OK);
        CU_ASSERT(object_matches("replace/it", sizes[i], i));
    }
}

static void test_if_absent(void)
{
    static const uint64_t sizes[] = {10, 3 * BLOCK};
    for (unsigned i = 0; i < UNIT_COUNT(sizes); i++) {
        CU_ASSERT(put_pattern("absent/it", sizes[i], 1, OBJECT_REPLACE) == DCACHE_OK);
        CU_ASSERT(put_pattern("absent/it", 20, 2, OBJECT_IF_ABSENT) == DCACHE_ERR_EXISTS);
        CU_ASSERT(strstr(dg.text, "absent/it") != NULL);
        CU_ASSERT(put_pattern("absent/it", 4 * BLOCK, 2, OBJECT_IF_ABSENT) == DCACHE_ERR_EXISTS);
        CU_ASSERT(object_matches("absent/it", sizes[i], 1));
        CU_ASSERT(store->ops->remove(store, &dg, "absent/it") == DCACHE_OK);
        CU_ASSERT(put_pattern("absent/it", sizes[i], 3, OBJECT_IF_ABSENT) == DCACHE_OK);
        CU_ASSERT(object_matches("absent/it", sizes[i], 3));
        CU_ASSERT(store->ops->remove(store, &dg, "absent/it") == DCACHE_OK);
    }
}

struct writer {
    pthread_t thread;
    pthread_barrier_t *start;
    const char *key;
    uint64_t bytes;
    unsigned seed;
    enum object_condition condition;
    dcache_status_t status;
    struct diag diag;
};

static void *write_one(void *context)
{
    struct writer *writer = context;
    struct pattern_source from = good_pattern(writer->seed);
    struct object_source source = {.bytes = writer->bytes, .context = &from, .read = read_pattern};
    pthread_barrier_wait(writer->start);
    writer->status = store->ops->put(store, &writer->diag, writer->key, &source, writer->condition, NULL);
    return NULL;
}

/* Let WRITERS threads put different bytes of one size at once. */
static void race(struct writer writers[WRITERS], const char *key, uint64_t bytes, enum object_condition condition)
{
    pthread_barrier_t start;
    pthread_barrier_init(&start, NULL, WRITERS);
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){.start = &start, .key = key, .bytes = bytes, .seed = i, .condition = condition};
        diag_init(&writers[i].diag, "unit", -1, DIAG_ERROR);
        CU_ASSERT_FATAL(pthread_create(&writers[i].thread, NULL, write_one, &writers[i]) == 0);
    }
    for (unsigned i = 0; i < WRITERS; i++)
        pthread_join(writers[i].thread, NULL);
    pthread_barrier_destroy(&start);
}

static void test_race_if_absent(void)
{
    static const uint64_t sizes[] = {100, 3 * BLOCK + 1};
    struct writer *writers = calloc(WRITERS, sizeof *writers);
    CU_ASSERT_FATAL(writers != NULL);
    for (unsigned round = 0; round < 6; round++) {
        char key[64];
        unsigned won = 0;
        snprintf(key, sizeof key, "race/%u/it", round);
        race(writers, key, sizes[round % 2], OBJECT_IF_ABSENT);
        for (unsigned i = 0; i < WRITERS; i++) {
            CU_ASSERT(writers[i].status == DCACHE_OK || writers[i].status == DCACHE_ERR_EXISTS);
            if (writers[i].status == DCACHE_OK) {
                won++;
                CU_ASSERT(object_matches(key, sizes[round % 2], i));
            }
        }
        CU_ASSERT(won == 1);
    }
    free(writers);
}

/* Whoever is last, the object is whole and one writer's. */
static void test_race_replace(void)
{
    struct writer *writers = calloc(WRITERS, sizeof *writers);
    CU_ASSERT_FATAL(writers != NULL);
    for (unsigned round = 0; round < 3; round++) {
        unsigned whose = 0;
        unsigned succeeded = 0;
        race(writers, "race/replace", 2 * BLOCK + 5, OBJECT_REPLACE);
        for (unsigned i = 0; i < WRITERS; i++) {
            CU_ASSERT(writers[i].status == DCACHE_OK || writers[i].status == DCACHE_ERR_STORE);
            succeeded += writers[i].status == DCACHE_OK;
            whose += object_matches("race/replace", 2 * BLOCK + 5, i);
        }
        CU_ASSERT(whose == 1);
        CU_ASSERT(succeeded >= 1);
    }
    free(writers);
}

static void test_ranges(void)
{
    const uint64_t size = 3 * BLOCK + 100;
    char byte = 'x';
    CU_ASSERT(put_pattern("ranges/it", size, 9, OBJECT_REPLACE) == DCACHE_OK);
    CU_ASSERT(range_matches("ranges/it", NULL, 0, 1, 9));
    CU_ASSERT(range_matches("ranges/it", "", BLOCK - 1, 2, 9));
    CU_ASSERT(range_matches("ranges/it", NULL, BLOCK + 17, 2 * BLOCK, 9));
    CU_ASSERT(range_matches("ranges/it", NULL, size - 1, 1, 9));
    CU_ASSERT(range_matches("ranges/it", NULL, size, 0, 9));
    CU_ASSERT(range_matches("ranges/it", NULL, 5, 0, 9));
    CU_ASSERT(store->ops->get(store, &dg, "ranges/it", NULL, size, &byte, 1) == DCACHE_ERR_CORRUPT);
    CU_ASSERT(strstr(dg.text, "ranges/it") != NULL);
    CU_ASSERT(store->ops->get(store, &dg, "ranges/it", NULL, size + 1, &byte, 0) == DCACHE_ERR_CORRUPT);
    CU_ASSERT(store->ops->get(store, &dg, "ranges/it", NULL, UINT64_MAX - 1, &byte, 1) == DCACHE_ERR_CORRUPT);
    CU_ASSERT(!range_matches("ranges/it", NULL, size - 10, 11, 9));
}

static void test_missing(void)
{
    static const char *const keys[] = {"nothing", "nothing/here", "trip", "trip/c0"};
    char byte = 'x';
    char *data = NULL;
    size_t bytes = 0;
    for (size_t i = 0; i < UNIT_COUNT(keys); i++) {
        snprintf(dg.text, sizeof dg.text, "untouched");
        CU_ASSERT(is_absent(keys[i]));
        CU_ASSERT(store->ops->get(store, &dg, keys[i], NULL, 0, &byte, 1) == DCACHE_NOT_FOUND);
        CU_ASSERT(store->ops->get(store, &dg, keys[i], NULL, 0, &byte, 0) == DCACHE_NOT_FOUND);
        CU_ASSERT(object_store_get_bytes(store, &dg, keys[i], 100, &data, &bytes) == DCACHE_NOT_FOUND && data == NULL);
        CU_ASSERT(store->ops->remove(store, &dg, keys[i]) == DCACHE_OK);
        CU_ASSERT_STRING_EQUAL(dg.text, "untouched");
    }
}

static void test_remove(void)
{
    CU_ASSERT(put_pattern("remove/a/b", 10, 1, OBJECT_REPLACE) == DCACHE_OK);
    CU_ASSERT(put_pattern("remove/a/c", 2 * BLOCK, 2, OBJECT_REPLACE) == DCACHE_OK);
    CU_ASSERT(store->ops->remove(store, &dg, "remove/a/b") == DCACHE_OK);
    CU_ASSERT(is_absent("remove/a/b"));
    CU_ASSERT(store->ops->remove(store, &dg, "remove/a/b") == DCACHE_OK);
    CU_ASSERT(object_matches("remove/a/c", 2 * BLOCK, 2));
    CU_ASSERT(store->ops->remove(store, &dg, "remove/a/c") == DCACHE_OK);
    CU_ASSERT(is_absent("remove/a/c"));
    CU_ASSERT(put_pattern("remove/a/c", 10, 1, OBJECT_IF_ABSENT) == DCACHE_OK);
}

static void test_etag(void)
{
    struct object_info first;
    struct object_info second;
    char byte = 'x';
    CU_ASSERT(put_pattern("etag/it", 100, 1, OBJECT_REPLACE) == DCACHE_OK);
    CU_ASSERT(store->ops->head(store, &dg, "etag/it", &first) == DCACHE_OK && first.etag[0] != '\0');
    CU_ASSERT(range_matches("etag/it", first.etag, 50, 50, 1));
    CU_ASSERT(put_pattern("etag/it", 100, 2, OBJECT_REPLACE) == DCACHE_OK);
    CU_ASSERT(store->ops->head(store, &dg, "etag/it", &second) == DCACHE_OK);
    CU_ASSERT(strcmp(first.etag, second.etag) != 0);
    CU_ASSERT(store->ops->get(store, &dg, "etag/it", first.etag, 0, &byte, 1) == DCACHE_ERR_CORRUPT);
    CU_ASSERT(strstr(dg.text, "etag/it") != NULL);
    CU_ASSERT(store->ops->get(store, &dg, "etag/it", first.etag, 0, &byte, 0) == DCACHE_ERR_CORRUPT);
    CU_ASSERT(store->ops->get(store, &dg, "etag/it", "x\r\nInjected: yes", 0, &byte, 1) == DCACHE_ERR_CORRUPT);
    CU_ASSERT(range_matches("etag/it", second.etag, 0, 100, 2));
}

static void test_small_objects(void)
{
    static const char text[] = "{\"format\": 1}";
    char *data = NULL;
    size_t bytes = 0;
    CU_ASSERT(object_store_put_bytes(store, &dg, "small/it", text, strlen(text), OBJECT_IF_ABSENT) == DCACHE_OK);
    CU_ASSERT(object_store_put_bytes(store, &dg, "small/it", text, 1, OBJECT_IF_ABSENT) == DCACHE_ERR_EXISTS);
    CU_ASSERT_FATAL(object_store_get_bytes(store, &dg, "small/it", strlen(text), &data, &bytes) == DCACHE_OK);
    CU_ASSERT(bytes == strlen(text));
    CU_ASSERT_STRING_EQUAL(data, text); /* with the zero behind it */
    free(data);
    data = NULL;
    CU_ASSERT(object_store_get_bytes(store, &dg, "small/it", strlen(text) - 1, &data, &bytes) == DCACHE_ERR_CORRUPT);
    CU_ASSERT(data == NULL);
    CU_ASSERT(object_store_put_bytes(store, &dg, "small/empty", NULL, 0, OBJECT_REPLACE) == DCACHE_OK);
    CU_ASSERT_FATAL(object_store_get_bytes(store, &dg, "small/empty", 0, &data, &bytes) == DCACHE_OK);
    CU_ASSERT(bytes == 0 && data[0] == '\0');
    free(data);
}

static void test_bad_keys(void)
{
    char too_long[OBJECT_KEY_MAX + 2] = "";
    memset(too_long, 'k', OBJECT_KEY_MAX + 1);
    const char *const keys[] = {"",      "/",   "/a",   "a/",  "a//b",  ".",   "..",       "a/..", "../a",
                                "a/./b", "a b", "a\\b", "a~b", "a%2fb", "a?b", "\xc3\xa4", "a\nb", too_long};
    struct object_info info;
    char byte = 'x';
    for (size_t i = 0; i < UNIT_COUNT(keys); i++) {
        CU_ASSERT(!object_key_valid(keys[i]));
        CU_ASSERT(put_pattern(keys[i], 1, 1, OBJECT_REPLACE) == DCACHE_ERR_INVALID);
        CU_ASSERT(store->ops->get(store, &dg, keys[i], NULL, 0, &byte, 1) == DCACHE_ERR_INVALID);
        CU_ASSERT(store->ops->head(store, &dg, keys[i], &info) == DCACHE_ERR_INVALID);
        CU_ASSERT(store->ops->remove(store, &dg, keys[i]) == DCACHE_ERR_INVALID);
        CU_ASSERT(strlen(dg.text) > 0 && strchr(dg.text, '\n') == NULL);
    }
    CU_ASSERT(!object_key_valid(NULL));
    CU_ASSERT(object_key_valid("a") && object_key_valid("A-Z_0.9/..x/.y") && object_key_valid("..."));
}

/* The longest key: segments of 64 characters. */
static void test_long_key(void)
{
    char key[OBJECT_KEY_MAX + 1];
    for (size_t i = 0; i < OBJECT_KEY_MAX; i++)
        key[i] = i % 64 == 63 && i + 1 < OBJECT_KEY_MAX ? '/' : 'k';
    key[OBJECT_KEY_MAX] = '\0';
    CU_ASSERT(put_pattern(key, 3, 1, OBJECT_IF_ABSENT) == DCACHE_OK);
    CU_ASSERT(object_matches(key, 3, 1));
    CU_ASSERT(store->ops->remove(store, &dg, key) == DCACHE_OK);
    CU_ASSERT(is_absent(key));
}

/* --- Lists ------------------------------------------------------------------------------------------------------*/

struct listing {
    char (*keys)[OBJECT_KEY_MAX + 1];
    uint64_t *bytes;
    size_t count;
    size_t room;
    size_t stop_after;
    bool remove;
};

static dcache_status_t note(void *context, const char *key, uint64_t bytes)
{
    struct listing *listing = context;
    if (listing->count < listing->room) {
        snprintf(listing->keys[listing->count], OBJECT_KEY_MAX + 1, "%s", key);
        listing->bytes[listing->count] = bytes;
    }
    listing->count++;
    if (listing->remove && store->ops->remove(store, &dg, key) != DCACHE_OK)
        return DCACHE_ERR_INTERNAL;
    return listing->count == listing->stop_after ? DCACHE_ERR_BUSY : DCACHE_OK;
}

static struct listing make_listing(size_t room)
{
    struct listing listing = {.room = room, .keys = calloc(room, OBJECT_KEY_MAX + 1)};
    listing.bytes = calloc(room, sizeof *listing.bytes);
    CU_ASSERT_FATAL(listing.keys != NULL && listing.bytes != NULL);
    return listing;
}

static void free_listing(struct listing *listing)
{
    free(listing->keys);
    free(listing->bytes);
}

/* In the order of strcmp(), where '-' and '.' come before '/', and '0' after it. */
static const char *const listed[] = {"list/a",    "list/b-c/x", "list/b.c", "list/b/a",     "list/b/c/d",
                                     "list/b/c0", "list/b0",    "list/c",   "list/step-10", "list/step-9"};

static void check_list(const char *prefix, size_t first, size_t count)
{
    struct listing listing = make_listing(UNIT_COUNT(listed));
    CU_ASSERT(store->ops->list(store, &dg, prefix, note, &listing) == DCACHE_OK);
    CU_ASSERT(listing.count == count);
    for (size_t i = 0; i < count && i < listing.count; i++) {
        CU_ASSERT_STRING_EQUAL(listing.keys[i], listed[first + i]);
        CU_ASSERT(listing.bytes[i] == first + i);
    }
    free_listing(&listing);
}

static void test_list(void)
{
    for (size_t i = UNIT_COUNT(listed); i-- > 0;)
        CU_ASSERT(put_pattern(listed[i], i, 1, OBJECT_REPLACE) == DCACHE_OK);
    check_list("list/", 0, 10);
    check_list("list/b", 1, 6);
    check_list("list/b/", 3, 3);
    check_list("list/b/c/d", 4, 1);
    check_list("list/b/c/d/", 0, 0);
    check_list("list/step-", 8, 2);
    check_list("list/zzz", 0, 0);
    check_list("list/../list/", 0, 0);
    struct listing stopped = make_listing(3);
    stopped.stop_after = 3;
    CU_ASSERT(store->ops->list(store, &dg, "list/", note, &stopped) == DCACHE_ERR_BUSY);
    CU_ASSERT(stopped.count == 3);
    free_listing(&stopped);
    struct listing all = make_listing(1);
    CU_ASSERT(store->ops->list(store, &dg, "", note, &all) == DCACHE_OK);
    CU_ASSERT(all.count > UNIT_COUNT(listed)); /* other tests' objects too */
    free_listing(&all);
}

/* More objects than one page of Azure's has (1000), removed by the visitor while they are listed. */
static void test_list_pages(void)
{
    const size_t count = 1103;
    char key[64];
    for (size_t i = 0; i < count; i++) {
        snprintf(key, sizeof key, "pages/%04zu", i);
        if (object_store_put_bytes(store, &dg, key, key, i % 7, OBJECT_REPLACE) != DCACHE_OK)
            CU_FAIL_FATAL("cannot put");
    }
    struct listing listing = make_listing(count);
    CU_ASSERT(store->ops->list(store, &dg, "pages/", note, &listing) == DCACHE_OK);
    CU_ASSERT(listing.count == count);
    for (size_t i = 0; i < count && i < listing.count; i++) {
        snprintf(key, sizeof key, "pages/%04zu", i);
        if (strcmp(key, listing.keys[i]) != 0 || listing.bytes[i] != i % 7)
            CU_FAIL("wrong entry");
    }
    listing.count = 0;
    listing.remove = true;
    CU_ASSERT(store->ops->list(store, &dg, "pages/", note, &listing) == DCACHE_OK);
    CU_ASSERT(listing.count == count);
    listing.count = 0;
    CU_ASSERT(store->ops->list(store, &dg, "pages/", note, &listing) == DCACHE_OK);
    CU_ASSERT(listing.count == 0);
    free_listing(&listing);
}

/* --- Failures ---------------------------------------------------------------------------------------------------*/

static void test_wrong_crc(void)
{
    static const uint64_t sizes[] = {100, 3 * BLOCK};
    for (unsigned i = 0; i < UNIT_COUNT(sizes); i++) {
        struct pattern_source from = good_pattern(1);
        from.bad_offset = sizes[i] - 1;
        CU_ASSERT(put_from(&from, "crc/it", sizes[i], OBJECT_IF_ABSENT) == DCACHE_ERR_CORRUPT);
        CU_ASSERT(strstr(dg.text, "crc/it") != NULL);
        CU_ASSERT(is_absent("crc/it"));
        CU_ASSERT(put_pattern("crc/old", 10, 5, OBJECT_REPLACE) == DCACHE_OK);
        CU_ASSERT(put_from(&from, "crc/old", sizes[i], OBJECT_REPLACE) == DCACHE_ERR_CORRUPT);
        CU_ASSERT(object_matches("crc/old", 10, 5));
    }
}

static void test_source_fails(void)
{
    struct pattern_source from = good_pattern(1);
    from.fail_offset = 2 * BLOCK;
    CU_ASSERT(put_from(&from, "source/it", 3 * BLOCK, OBJECT_IF_ABSENT) == DCACHE_ERR_BUSY);
    CU_ASSERT_STRING_EQUAL(dg.text, "the source says no");
    CU_ASSERT(is_absent("source/it"));
}

static void test_cancel(void)
{
    atomic_bool cancel = false;
    struct pattern_source from = good_pattern(1);
    from.cancel = &cancel;
    from.cancel_offset = BLOCK;
    CU_ASSERT(put_from(&from, "cancel/it", 4 * BLOCK, OBJECT_REPLACE) == DCACHE_ERR_CANCELLED);
    CU_ASSERT(is_absent("cancel/it"));
    from.cancel_offset = UINT64_MAX; /* it is set already */
    CU_ASSERT(put_from(&from, "cancel/it", 10, OBJECT_REPLACE) == DCACHE_ERR_CANCELLED);
    CU_ASSERT(is_absent("cancel/it"));
    atomic_store(&cancel, false);
    CU_ASSERT(put_from(&from, "cancel/it", 4 * BLOCK, OBJECT_REPLACE) == DCACHE_OK);
    CU_ASSERT(object_matches("cancel/it", 4 * BLOCK, 1));
}

/* --- The file backend alone -------------------------------------------------------------------------------------*/

static const char *file_root(void)
{
    return store_url + strlen("file://");
}

static char *below_root(char path[2048], const char *name)
{
    snprintf(path, 2048, "%s/%s", file_root(), name);
    return path;
}

static void write_file(const char *path)
{
    FILE *file = fopen(path, "w");
    CU_ASSERT_FATAL(file != NULL);
    CU_ASSERT(fputs("outside", file) >= 0);
    CU_ASSERT(fclose(file) == 0);
}

static void test_file_modes(void)
{
    char path[2048];
    struct stat info;
    mode_t former = umask(0);
    CU_ASSERT(put_pattern("modes/deep/it", 10, 1, OBJECT_REPLACE) == DCACHE_OK);
    umask(former);
    CU_ASSERT(stat(below_root(path, "modes/deep/it"), &info) == 0 && (info.st_mode & 07777) == 0600);
    CU_ASSERT(stat(below_root(path, "modes/deep"), &info) == 0 && (info.st_mode & 07777) == 0700);
    CU_ASSERT(stat(below_root(path, "modes"), &info) == 0 && (info.st_mode & 07777) == 0700);
    CU_ASSERT(stat(file_root(), &info) == 0 && (info.st_mode & 07777) == 0700);
    CU_ASSERT(store->ops->remove(store, &dg, "modes/deep/it") == DCACHE_OK); /* and its empty directories */
    CU_ASSERT(stat(below_root(path, "modes"), &info) != 0);
    CU_ASSERT(stat(file_root(), &info) == 0);
}

/* A symbolic link in the store leads nowhere, whether it is the object or a directory before it. */
static void test_file_symlinks(void)
{
    char path[2048];
    char outside[600];
    char byte = 'x';
    struct stat info;
    snprintf(outside, sizeof outside, "%s/outside", unit_scratch());
    CU_ASSERT_FATAL(mkdir(outside, 0700) == 0);
    CU_ASSERT(symlink(outside, below_root(path, "linked")) == 0);
    snprintf(outside, sizeof outside, "%s/outside/file", unit_scratch());
    write_file(outside);
    CU_ASSERT(symlink(outside, below_root(path, "linkedfile")) == 0);
    CU_ASSERT(put_pattern("linked/new", 10, 1, OBJECT_REPLACE) == DCACHE_ERR_IO);
    CU_ASSERT(store->ops->get(store, &dg, "linked/file", NULL, 0, &byte, 1) == DCACHE_ERR_IO);
    CU_ASSERT(store->ops->get(store, &dg, "linkedfile", NULL, 0, &byte, 1) == DCACHE_ERR_IO);
    CU_ASSERT(store->ops->remove(store, &dg, "linked/file") == DCACHE_ERR_IO);
    struct listing listing = make_listing(1);
    CU_ASSERT(store->ops->list(store, &dg, "linked", note, &listing) == DCACHE_OK && listing.count == 0);
    free_listing(&listing);
    CU_ASSERT(put_pattern("linkedfile", 10, 1, OBJECT_REPLACE) == DCACHE_OK); /* replaces the link itself */
    CU_ASSERT(stat(outside, &info) == 0 && info.st_size == 7);
    snprintf(outside, sizeof outside, "%s/outside/new", unit_scratch());
    CU_ASSERT(stat(outside, &info) != 0);
    CU_ASSERT(unlink(below_root(path, "linked")) == 0);
}

/* Directories in each other, and a file in the last one: a name that is longer than keys can be. */
static void make_too_deep(const char *below)
{
    char path[2048];
    below_root(path, below);
    for (int depth = 0; depth < 3; depth++) {
        size_t length = strlen(path);
        snprintf(path + length, sizeof path - length, "/%0200d", depth);
        CU_ASSERT(mkdir(path, 0700) == 0);
    }
    write_file(strcat(path, "/file"));
}

/* What a killed writer left, and files and FIFOs that are not ours, are no objects and do no harm. */
static void test_file_foreign(void)
{
    char path[2048];
    char byte = 'x';
    CU_ASSERT(put_pattern("foreign/it", 10, 1, OBJECT_REPLACE) == DCACHE_OK);
    write_file(below_root(path, "foreign/.dcache~0123456789abcdef"));
    write_file(below_root(path, "foreign/has blank"));
    CU_ASSERT(mkfifo(below_root(path, "foreign/fifo"), 0600) == 0);
    make_too_deep("foreign");
    struct listing listing = make_listing(1);
    CU_ASSERT(store->ops->list(store, &dg, "foreign/", note, &listing) == DCACHE_OK);
    CU_ASSERT(listing.count == 1 && strcmp(listing.keys[0], "foreign/it") == 0);
    free_listing(&listing);
    CU_ASSERT(store->ops->get(store, &dg, "foreign/fifo", NULL, 0, &byte, 1) == DCACHE_ERR_IO);
    CU_ASSERT(store->ops->remove(store, &dg, "foreign/it") == DCACHE_OK);
    CU_ASSERT(put_pattern("foreign/it", 10, 1, OBJECT_IF_ABSENT) == DCACHE_OK);
    CU_ASSERT(put_pattern("foreign/it/below", 10, 1, OBJECT_IF_ABSENT) == DCACHE_ERR_IO); /* a file is in the way */
    CU_ASSERT(object_matches("foreign/it", 10, 1));
}

static struct object_store *open_file(const char *directory, dcache_status_t *status)
{
    char url[OBJECT_URL_MAX];
    struct object_credentials none = {.endpoint = ""};
    struct object_policy policy = {.block_bytes = BLOCK};
    struct object_store *opened = NULL;
    snprintf(url, sizeof url, "file://%s", directory);
    *status = object_store_open(&dg, url, &none, &policy, &opened);
    return opened;
}

/* A directory in which nobody but its owner may do anything, and not even that. Root may always: so as another user. */
static void test_file_permission(void)
{
    char directory[600];
    dcache_status_t status;
    struct object_store *former = store;
    bool as_root = geteuid() == 0;
    snprintf(directory, sizeof directory, "%s/readonly", unit_scratch());
    CU_ASSERT_FATAL(mkdir(directory, 0500) == 0);
    if (as_root) {
        CU_ASSERT_FATAL(chown(directory, 65534, 65534) == 0 && chmod(unit_scratch(), 0711) == 0);
        store = open_file(directory, &status); /* of another user */
        CU_ASSERT(status == DCACHE_ERR_PERMISSION && strstr(dg.text, directory) != NULL && store == NULL);
        if (access("/proc/self/root", X_OK) == 0 && seteuid(65534) != 0)
            as_root = false;
    }
    store = open_file(directory, &status);
    if (status == DCACHE_OK) {
        CU_ASSERT(put_pattern("it", 10, 1, OBJECT_REPLACE) == DCACHE_ERR_PERMISSION);
        CU_ASSERT(put_pattern("a/it", 10, 1, OBJECT_REPLACE) == DCACHE_ERR_PERMISSION);
        CU_ASSERT(strstr(dg.text, directory) != NULL && strstr(dg.text, "writable") != NULL);
        CU_ASSERT(is_absent("it"));
        object_store_close(store);
    } else { /* a scratch directory that another user cannot reach */
        CU_ASSERT(as_root && status == DCACHE_ERR_PERMISSION);
    }
    store = former;
    if (as_root)
        CU_ASSERT_FATAL(seteuid(0) == 0);
    CU_ASSERT(chmod(directory, 0777) == 0 && chown(directory, geteuid(), getegid()) == 0);
    struct object_store *open_to_all = open_file(directory, &status);
    CU_ASSERT(open_to_all == NULL && status == DCACHE_ERR_PERMISSION && strstr(dg.text, "chmod") != NULL);
}

/* A full disk: nothing is left, and what was there still is. Needs the right to mount. */
static void test_file_no_space(void)
{
    char directory[600];
    dcache_status_t status;
    struct object_store *former = store;
    snprintf(directory, sizeof directory, "%s/tiny", unit_scratch());
    CU_ASSERT_FATAL(mkdir(directory, 0700) == 0);
    if (mount("tmpfs", directory, "tmpfs", 0, "size=512k,mode=0700") != 0) {
        printf("(not tested: this process cannot mount a small file system) ");
        return;
    }
    store = open_file(directory, &status);
    CU_ASSERT_FATAL(status == DCACHE_OK);
    CU_ASSERT(put_pattern("old", 3 * BLOCK, 1, OBJECT_REPLACE) == DCACHE_OK);
    CU_ASSERT(put_pattern("new", 16 * BLOCK, 2, OBJECT_REPLACE) == DCACHE_ERR_NO_SPACE);
    CU_ASSERT(strstr(dg.text, directory) != NULL && strstr(dg.text, "free some space") != NULL);
    CU_ASSERT(put_pattern("old", 16 * BLOCK, 2, OBJECT_REPLACE) == DCACHE_ERR_NO_SPACE);
    CU_ASSERT(is_absent("new"));
    CU_ASSERT(object_matches("old", 3 * BLOCK, 1));
    CU_ASSERT(put_pattern("new", 3 * BLOCK, 2, OBJECT_REPLACE) == DCACHE_OK); /* no temporary takes the space */
    object_store_close(store);
    store = former;
    CU_ASSERT(umount(directory) == 0);
}

static void test_file_bad_directory(void)
{
    char path[600];
    dcache_status_t status;
    snprintf(path, sizeof path, "%s/plain-file", unit_scratch());
    write_file(path);
    CU_ASSERT(open_file(path, &status) == NULL && status == DCACHE_ERR_IO && strstr(dg.text, path) != NULL);
    snprintf(path, sizeof path, "%s/plain-file/below", unit_scratch());
    CU_ASSERT(open_file(path, &status) == NULL && status == DCACHE_ERR_IO);
    snprintf(path, sizeof path, "%s/made/on/the/way", unit_scratch());
    struct object_store *opened = open_file(path, &status);
    CU_ASSERT(opened != NULL && status == DCACHE_OK);
    object_store_close(opened);
    object_store_close(NULL);
}

/* --- The Azure backend alone ------------------------------------------------------------------------------------*/

static void test_azure_no_container(void)
{
    char url[OBJECT_URL_MAX];
    struct object_credentials credentials;
    struct object_policy policy = {.timeout_s = 20, .stall_s = 10, .block_bytes = BLOCK};
    struct object_store *former = store;
    char *slash = NULL;
    char byte = 'x';
    CU_ASSERT_FATAL(object_store_resolve(&dg, store_url, url, &credentials) == DCACHE_OK);
    slash = strstr(url, "/dcache-test");
    CU_ASSERT_FATAL(slash != NULL);
    snprintf(slash, OBJECT_URL_MAX - (size_t)(slash - url), "/no-such-one");
    CU_ASSERT_FATAL(object_store_open(&dg, url, &credentials, &policy, &store) == DCACHE_OK);
    struct listing listing = make_listing(1);
    for (int i = 0; i < 5; i++) {
        dcache_status_t status = DCACHE_OK;
        struct object_info info;
        if (i == 0)
            status = put_pattern("it", 10, 1, OBJECT_IF_ABSENT);
        else if (i == 1)
            status = put_pattern("it", 3 * BLOCK, 1, OBJECT_IF_ABSENT);
        else if (i == 2)
            status = store->ops->get(store, &dg, "it", NULL, 0, &byte, 1);
        else if (i == 3)
            status = store->ops->head(store, &dg, "it", &info);
        else
            status = store->ops->list(store, &dg, "", note, &listing);
        CU_ASSERT(status == DCACHE_ERR_STORE);
        CU_ASSERT(strstr(dg.text, "no-such-one") != NULL && strstr(dg.text, "az storage container create") != NULL);
    }
    free_listing(&listing);
    object_store_close(store);
    store = former;
}

static void test_azure_wrong_key(void)
{
    char url[OBJECT_URL_MAX];
    struct object_credentials credentials;
    struct object_policy policy = {.timeout_s = 20, .stall_s = 10, .block_bytes = BLOCK};
    struct object_store *former = store;
    CU_ASSERT_FATAL(object_store_resolve(&dg, store_url, url, &credentials) == DCACHE_OK);
    credentials.key[0] = credentials.key[0] == 'A' ? 'B' : 'A';
    CU_ASSERT_FATAL(object_store_open(&dg, url, &credentials, &policy, &store) == DCACHE_OK);
    CU_ASSERT(put_pattern("denied", 10, 1, OBJECT_REPLACE) == DCACHE_ERR_PERMISSION);
    CU_ASSERT(strstr(dg.text, "HTTP 40") != NULL && strstr(dg.text, "key") != NULL &&
              strstr(dg.text, "1 attempt ") != NULL);
    CU_ASSERT(strstr(dg.text, credentials.key + 1) == NULL);
    CU_ASSERT(put_pattern("denied", 3 * BLOCK, 1, OBJECT_REPLACE) == DCACHE_ERR_PERMISSION);
    object_store_close(store);
    store = former;
    CU_ASSERT(is_absent("denied"));
    snprintf(credentials.key, sizeof credentials.key, "SECRET!");
    struct object_store *none = NULL;
    CU_ASSERT(object_store_open(&dg, url, &credentials, &policy, &none) == DCACHE_ERR_OPTION && none == NULL);
    CU_ASSERT(strstr(dg.text, "SECRET") == NULL);
}

/* --- Running it -------------------------------------------------------------------------------------------------*/

#define CONFORMANCE                                                                                                    \
    {"create", test_create}, {"round trip", test_round_trip}, {"many blocks", test_many_blocks},                       \
        {"replace", test_replace}, {"if absent", test_if_absent}, {"race of writers, if absent", test_race_if_absent}, \
        {"race of writers, replace", test_race_replace}, {"ranges", test_ranges}, {"missing objects", test_missing},   \
        {"remove", test_remove}, {"etag", test_etag}, {"small objects", test_small_objects},                           \
        {"bad keys", test_bad_keys}, {"the longest key", test_long_key}, {"list", test_list},                          \
        {"list of several pages", test_list_pages}, {"wrong CRC", test_wrong_crc},                                     \
        {"source fails", test_source_fails},                                                                           \
    {                                                                                                                  \
        "cancel", test_cancel                                                                                          \
    }

static int run_on(const char *name, const char *url, const struct unit_case cases[], size_t count)
{
    struct object_credentials credentials;
    struct object_policy policy = {.timeout_s = 60, .stall_s = 20, .block_bytes = BLOCK};
    diag_init(&dg, "unit", -1, DIAG_ERROR);
    if (object_store_resolve(&dg, url, store_url, &credentials) != DCACHE_OK ||
        object_store_open(&dg, store_url, &credentials, &policy, &store) != DCACHE_OK) {
        fprintf(stderr, "%s: %s\n", name, dg.text);
        return 1;
    }
    int status = unit_main(name, cases, count);
    object_store_close(store);
    return status;
}

int main(void)
{
    static const struct unit_case file_cases[] = {CONFORMANCE,
                                                  {"file: modes", test_file_modes},
                                                  {"file: symbolic links", test_file_symlinks},
                                                  {"file: foreign files", test_file_foreign},
                                                  {"file: permission", test_file_permission},
                                                  {"file: no space", test_file_no_space},
                                                  {"file: bad directory", test_file_bad_directory}};
    static const struct unit_case azure_cases[] = {
        CONFORMANCE, {"azure: no container", test_azure_no_container}, {"azure: wrong key", test_azure_wrong_key}};
    const char *azure_url = getenv("TEST_AZURE_URL");
    char url[OBJECT_URL_MAX];
    if (azure_url != NULL) {
        snprintf(url, sizeof url, "%s/unit", azure_url);
        return run_on("object store: Azure", url, azure_cases, UNIT_COUNT(azure_cases));
    }
    printf("TEST_AZURE_URL is not set: only the file backend is tested here\n");
    snprintf(url, sizeof url, "file://%s/store", unit_scratch());
    return run_on("object store: file", url, file_cases, UNIT_COUNT(file_cases));
}
