/* timeout: 240
 * Somebody swaps names of a node store between files and symbolic links while they are being opened: what the links
 * point to is never touched. */
#include "store_fixture.h"
#include "unit.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>

#define ROUNDS 300

struct swapper {
    pthread_t thread;
    atomic_bool stop;
    char name[800];   /* what is opened */
    char link[800];   /* a symbolic link to what must not be touched */
    char honest[800]; /* what belongs there */
};

static void *swap(void *context)
{
    struct swapper *swapper = context;
    while (!atomic_load(&swapper->stop)) {
        (void)rename(swapper->link, swapper->name);
        (void)rename(swapper->name, swapper->link);
        (void)rename(swapper->honest, swapper->name);
        (void)rename(swapper->name, swapper->honest);
    }
    return NULL;
}

static void start(struct swapper *swapper, const char *directory, const char *name)
{
    snprintf(swapper->name, sizeof swapper->name, "%s/%s", directory, name);
    snprintf(swapper->link, sizeof swapper->link, "%s/link", directory);
    snprintf(swapper->honest, sizeof swapper->honest, "%s/honest", directory);
    atomic_store(&swapper->stop, false);
    CU_ASSERT_EQUAL_FATAL(symlink(fixture_path("target"), swapper->link), 0);
    CU_ASSERT_EQUAL_FATAL(pthread_create(&swapper->thread, NULL, swap, swapper), 0);
}

static void finish(struct swapper *swapper)
{
    atomic_store(&swapper->stop, true);
    pthread_join(swapper->thread, NULL);
}

static const char untouched[] = "nobody may touch this";

static void make_target(void)
{
    int fd = open(fixture_path("target"), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CU_ASSERT_TRUE_FATAL(fd >= 0);
    CU_ASSERT_EQUAL(write(fd, untouched, sizeof untouched), (ssize_t)sizeof untouched);
    close(fd);
}

static void check_target(void)
{
    char text[64] = "";
    struct stat status;
    int fd = open(fixture_path("target"), O_RDONLY | O_CLOEXEC);
    CU_ASSERT_TRUE_FATAL(fd >= 0);
    CU_ASSERT_EQUAL(fstat(fd, &status), 0);
    CU_ASSERT_EQUAL(status.st_size, (off_t)sizeof untouched);
    CU_ASSERT_EQUAL(read(fd, text, sizeof text), (ssize_t)sizeof untouched);
    CU_ASSERT_STRING_EQUAL(text, untouched);
    close(fd);
}

static bool is_expected(dcache_status_t status)
{
    return status == DCACHE_OK || status == DCACHE_ERR_PERMISSION || status == DCACHE_NOT_FOUND ||
           status == DCACHE_ERR_IO;
}

static void test_slots(void)
{
    struct node_store store;
    struct swapper swapper = {.name = ""};
    struct slot slot;
    unsigned refused = 0;
    fixture_open(&store);
    make_target();
    fixture_write(&store, "honest", "", 0);
    start(&swapper, store.path, "own-0-0.h5");
    for (int i = 0; i < ROUNDS; i++) {
        memset(&slot, 0, sizeof slot);
        slot.fd = -1;
        dcache_status_t status = slot_open_write(fixture_diag(), &store, SLOT_OWN, 0, 0, 8192, &slot);
        CU_ASSERT(is_expected(status));
        refused += status == DCACHE_ERR_PERMISSION;
        if (status == DCACHE_OK)
            slot_close(&slot);
    }
    finish(&swapper);
    check_target();
    printf(" (%u of %d refused) ", refused, ROUNDS);
    node_store_close(&store);
    unlink(fixture_path("target"));
}

static void test_documents(void)
{
    struct node_store store;
    struct swapper swapper = {.name = ""};
    fixture_open(&store);
    make_target();
    fixture_write(&store, "honest", "{}", 2);
    start(&swapper, store.path, "plan.json");
    for (int i = 0; i < ROUNDS; i++) {
        char *text = NULL;
        size_t bytes = 0;
        dcache_status_t status = node_store_write_text(fixture_diag(), &store, "plan.json", "{}", 2);
        CU_ASSERT(is_expected(status));
        status = node_store_read_text(fixture_diag(), &store, "plan.json", &text, &bytes);
        CU_ASSERT(is_expected(status));
        if (status == DCACHE_OK)
            CU_ASSERT(strcmp(text, "{}") == 0);
        free(text);
    }
    finish(&swapper);
    check_target();
    node_store_close(&store);
    unlink(fixture_path("target"));
}

int main(void)
{
    static const struct unit_case cases[] = {{"slots", test_slots}, {"documents", test_documents}};
    return unit_main("names that are swapped", cases, UNIT_COUNT(cases));
}
