/* io/node_store.c: whose directories and files these are, and who holds them. Passes as root and as any other user. */
#include "io/node_store.h"
#include "shard_sample.h"
#include "store_fixture.h"
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

static mode_t mode_of(const char *path)
{
    struct stat status;
    return lstat(path, &status) == 0 ? status.st_mode & 07777 : 0;
}

static void test_open(void)
{
    struct node_store store = {0};
    char path[800];
    const char *root = fixture_root();
    fixture_expect(node_store_open(fixture_diag(), root, "job", 3, false, &store), DCACHE_NOT_FOUND, NULL);
    CU_ASSERT_EQUAL(store.dir_fd, 0);
    CU_ASSERT_EQUAL(access(root, F_OK), -1);
    node_store_close(&store); /* allowed: it was never opened */

    mode_t mask = umask(0);
    fixture_expect(node_store_open(fixture_diag(), root, "job", 3, true, &store), DCACHE_OK, NULL);
    umask(mask);
    CU_ASSERT_EQUAL(store.lock_fd, -1);
    snprintf(path, sizeof path, "%s/job/node-3", root);
    CU_ASSERT_STRING_EQUAL(store.path, path);
    CU_ASSERT_EQUAL(mode_of(root), 0700);
    CU_ASSERT_EQUAL(mode_of(path), 0700);
    CU_ASSERT_TRUE((fcntl(store.dir_fd, F_GETFD) & FD_CLOEXEC) != 0);
    int fd = store.dir_fd;
    node_store_close(&store);
    CU_ASSERT_EQUAL(store.dir_fd, -1);
    CU_ASSERT_EQUAL(fcntl(fd, F_GETFD), -1);
    node_store_close(&store);
    snprintf(path, sizeof path, "%s//", root);
    fixture_expect(node_store_open(fixture_diag(), path, "job", 3, false, &store), DCACHE_OK, NULL);
    node_store_close(&store);
}

static void test_open_relative(void)
{
    struct node_store store = {0};
    char before[600];
    diag_init(fixture_diag(), "test", 0, DIAG_ERROR);
    CU_ASSERT_PTR_NOT_NULL_FATAL(getcwd(before, sizeof before));
    CU_ASSERT_EQUAL_FATAL(chdir(unit_scratch()), 0);
    fixture_expect(node_store_open(fixture_diag(), "relative", "job", 0, true, &store), DCACHE_OK, NULL);
    CU_ASSERT_EQUAL(chdir(before), 0);
    CU_ASSERT_EQUAL(mode_of(fixture_path("relative/job/node-0")), 0700);
    node_store_close(&store);
}

static void test_open_invalid(void)
{
    static const char *const roots[] = {"", "/", "//", ".", "..", "/tmp/..", "/tmp/./"};
    static const char *const jobs[] = {"", ".", "..", "a/b", "../a", "a b", "a\n"};
    struct node_store store = {0};
    const char *root = fixture_root();
    for (size_t i = 0; i < UNIT_COUNT(roots); i++)
        fixture_expect(node_store_open(fixture_diag(), roots[i], "job", 0, true, &store), DCACHE_ERR_INVALID, roots[i]);
    for (size_t i = 0; i < UNIT_COUNT(jobs); i++)
        fixture_expect(node_store_open(fixture_diag(), root, jobs[i], 0, true, &store), DCACHE_ERR_INVALID, jobs[i]);
    CU_ASSERT_EQUAL(access(root, F_OK), -1);
    char longer[900];
    memset(longer, 'x', sizeof longer);
    longer[0] = '/';
    longer[sizeof longer - 1] = '\0';
    fixture_expect(node_store_open(fixture_diag(), longer, "job", 0, true, &store), DCACHE_ERR_INVALID, "400");
    fixture_expect(node_store_open(fixture_diag(), fixture_path("no/such/parent"), "job", 0, true, &store),
                   DCACHE_ERR_IO, "no/such");
}

static void test_open_without_stdin(void)
{
    struct node_store store = {0};
    const char *root = fixture_root();
    int saved = dup(0);
    close(0);
    fixture_expect(node_store_open(fixture_diag(), root, "job", 0, true, &store), DCACHE_OK, NULL);
    CU_ASSERT_TRUE(store.dir_fd > 2);
    fixture_expect(node_store_lock(fixture_diag(), &store, "test"), DCACHE_OK, NULL);
    CU_ASSERT_TRUE(store.lock_fd > 2);
    node_store_close(&store);
    if (saved >= 0) {
        CU_ASSERT_EQUAL(dup2(saved, 0), 0);
        close(saved);
    }
}

/* Put a symbolic link to a directory of ours in the place of each of the three directories. */
static void test_directory_links(void)
{
    static const char *const places[] = {"", "/job", "/job/node-0"};
    for (size_t i = 0; i < UNIT_COUNT(places); i++) {
        struct node_store store = {0};
        char place[800];
        const char *root = fixture_root();
        snprintf(place, sizeof place, "%s/job", root);
        CU_ASSERT_EQUAL(mkdir(fixture_path("elsewhere"), 0700) == 0 || errno == EEXIST, true);
        if (i > 0)
            CU_ASSERT_EQUAL(mkdir(root, 0700), 0);
        if (i > 1)
            CU_ASSERT_EQUAL(mkdir(place, 0700), 0);
        snprintf(place, sizeof place, "%s%s", root, places[i]);
        CU_ASSERT_EQUAL(symlink(fixture_path("elsewhere"), place), 0);
        fixture_expect(node_store_open(fixture_diag(), root, "job", 0, true, &store), DCACHE_ERR_PERMISSION,
                       "symbolic link");
        CU_ASSERT_PTR_NOT_NULL(strstr(fixture_diag()->text, place));
        fixture_expect(node_store_open(fixture_diag(), root, "job", 0, false, &store), DCACHE_ERR_PERMISSION,
                       "symbolic link");
        CU_ASSERT_EQUAL(rmdir(fixture_path("elsewhere")), 0); /* it is empty still */

        CU_ASSERT_EQUAL(unlink(place), 0);
        CU_ASSERT_EQUAL(symlink("/no/such/place", place), 0);
        fixture_expect(node_store_open(fixture_diag(), root, "job", 0, true, &store), DCACHE_ERR_PERMISSION,
                       "symbolic link");
        CU_ASSERT_EQUAL(unlink(place), 0);
        int fd = open(place, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        close(fd);
        fixture_expect(node_store_open(fixture_diag(), root, "job", 0, true, &store), DCACHE_ERR_PERMISSION,
                       "not a directory");
    }
    /* Above the root they are the administrator's affair. */
    struct node_store store = {0};
    char root[800];
    CU_ASSERT_EQUAL(mkdir(fixture_path("real"), 0700), 0);
    CU_ASSERT_EQUAL(symlink(fixture_path("real"), fixture_path("link")), 0);
    snprintf(root, sizeof root, "%s/root", fixture_path("link"));
    fixture_expect(node_store_open(fixture_diag(), root, "job", 0, true, &store), DCACHE_OK, NULL);
    node_store_close(&store);
}

static void test_directory_modes(void)
{
    static const char *const places[] = {"", "/job", "/job/node-0"};
    static const mode_t modes[] = {0710, 0701, 0777, 0750, 01777};
    for (size_t i = 0; i < UNIT_COUNT(places) * UNIT_COUNT(modes); i++) {
        struct node_store store = {0};
        char place[800];
        const char *root = fixture_root();
        fixture_expect(node_store_open(fixture_diag(), root, "job", 0, true, &store), DCACHE_OK, NULL);
        node_store_close(&store);
        snprintf(place, sizeof place, "%s%s", root, places[i / UNIT_COUNT(modes)]);
        CU_ASSERT_EQUAL(chmod(place, modes[i % UNIT_COUNT(modes)]), 0);
        fixture_expect(node_store_open(fixture_diag(), root, "job", 0, true, &store), DCACHE_ERR_PERMISSION,
                       "chmod go=");
        CU_ASSERT_PTR_NOT_NULL(strstr(fixture_diag()->text, place));
        CU_ASSERT_EQUAL(chmod(place, 0700), 0);
    }
}

static void test_foreign_owner(void)
{
    struct node_store store = {0};
    if (geteuid() != 0) {
        fixture_root();
        fixture_expect(node_store_open(fixture_diag(), "/usr", "job", 0, true, &store), DCACHE_ERR_PERMISSION,
                       "user 0");
        return;
    }
    static const char *const places[] = {"", "/job", "/job/node-0"};
    for (size_t i = 0; i < UNIT_COUNT(places); i++) {
        char place[800];
        const char *root = fixture_root();
        fixture_expect(node_store_open(fixture_diag(), root, "job", 0, true, &store), DCACHE_OK, NULL);
        node_store_close(&store);
        snprintf(place, sizeof place, "%s%s", root, places[i]);
        CU_ASSERT_EQUAL(chown(place, 12345, 12345), 0);
        fixture_expect(node_store_open(fixture_diag(), root, "job", 0, true, &store), DCACHE_ERR_PERMISSION,
                       "user 12345");
        CU_ASSERT_PTR_NOT_NULL(strstr(fixture_diag()->text, place));
    }
}

static void test_list(void)
{
    static const unsigned expected[] = {0, 2, 10, 4294967};
    static const char *const others[] = {"node-", "node-007", "node-1x", "node--1", "xnode-1", "node-99999999999"};
    struct node_store store = {0};
    unsigned *indexes = NULL;
    size_t count = 1;
    const char *root = fixture_root();
    fixture_expect(node_store_list(fixture_diag(), root, "job", &indexes, &count), DCACHE_OK, NULL);
    CU_ASSERT_EQUAL(count, 0);
    free(indexes);
    for (size_t i = UNIT_COUNT(expected); i > 0; i--) {
        fixture_expect(node_store_open(fixture_diag(), root, "job", expected[i - 1], true, &store), DCACHE_OK, NULL);
        node_store_close(&store);
    }
    for (size_t i = 0; i < UNIT_COUNT(others); i++) {
        char path[800];
        snprintf(path, sizeof path, "%s/job/%s", root, others[i]);
        CU_ASSERT_EQUAL(mkdir(path, 0700), 0);
    }
    fixture_expect(node_store_list(fixture_diag(), root, "job", &indexes, &count), DCACHE_OK, NULL);
    CU_ASSERT_EQUAL_FATAL(count, UNIT_COUNT(expected));
    CU_ASSERT_EQUAL(memcmp(indexes, expected, sizeof expected), 0);
    free(indexes);
}

static void test_jobs(void)
{
    static const char *const expected[] = {"ant", "bee", "cat.ocean"};
    struct node_store store = {0};
    char **jobs = NULL;
    size_t count = 1;
    char path[800];
    const char *root = fixture_root();
    fixture_expect(node_store_jobs(fixture_diag(), root, &jobs, &count), DCACHE_OK, NULL);
    CU_ASSERT_EQUAL(count, 0);
    free(jobs);
    for (size_t i = UNIT_COUNT(expected); i > 0; i--) {
        fixture_expect(node_store_open(fixture_diag(), root, expected[i - 1], 0, true, &store), DCACHE_OK, NULL);
        node_store_close(&store);
    }
    snprintf(path, sizeof path, "%s/a file", root);
    CU_ASSERT_EQUAL(mkdir(path, 0700), 0);
    snprintf(path, sizeof path, "%s/link", root);
    CU_ASSERT_EQUAL(symlink("ant", path), 0);
    fixture_expect(node_store_jobs(fixture_diag(), root, &jobs, &count), DCACHE_OK, NULL);
    CU_ASSERT_EQUAL_FATAL(count, UNIT_COUNT(expected));
    for (size_t i = 0; i < count; i++) {
        CU_ASSERT_STRING_EQUAL(jobs[i], expected[i]);
        free(jobs[i]);
    }
    free(jobs);
}

/* A process that opens the store, takes the lock and lives until it is killed. */
static pid_t start_holder(const char *root, const char *who)
{
    int ready[2];
    char byte = 0;
    CU_ASSERT_EQUAL_FATAL(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) {
        struct node_store store = {0};
        close(ready[0]);
        bool good = node_store_open(fixture_diag(), root, "sample", 0, true, &store) == DCACHE_OK &&
                    node_store_lock(fixture_diag(), &store, who) == DCACHE_OK;
        if (write(ready[1], good ? "y" : "n", 1) == 1)
            pause();
        _exit(1);
    }
    close(ready[1]);
    CU_ASSERT_EQUAL(read(ready[0], &byte, 1), 1);
    CU_ASSERT_EQUAL(byte, 'y');
    close(ready[0]);
    return child;
}

static void stop_holder(pid_t child)
{
    kill(child, SIGKILL);
    CU_ASSERT_EQUAL(waitpid(child, NULL, 0), child);
}

static void test_lock(void)
{
    struct node_store store = {0};
    char pid[32];
    const char *root = fixture_root();
    pid_t child = start_holder(root, "heat2d --steps 7");
    fixture_expect(node_store_open(fixture_diag(), root, "sample", 0, true, &store), DCACHE_OK, NULL);
    snprintf(pid, sizeof pid, "process %ld ", (long)child);
    fixture_expect(node_store_lock(fixture_diag(), &store, "second"), DCACHE_ERR_BUSY, pid);
    CU_ASSERT_PTR_NOT_NULL(strstr(fixture_diag()->text, "heat2d --steps 7"));
    CU_ASSERT_PTR_NOT_NULL(strstr(fixture_diag()->text, store.path));
    CU_ASSERT_EQUAL(store.lock_fd, -1);
    stop_holder(child);
    fixture_expect(node_store_lock(fixture_diag(), &store, "second"), DCACHE_OK, NULL);
    CU_ASSERT_TRUE(store.lock_fd > 2);

    struct node_store again = {0};
    fixture_expect(node_store_open(fixture_diag(), root, "sample", 0, true, &again), DCACHE_OK, NULL);
    fixture_expect(node_store_lock(fixture_diag(), &again, "third"), DCACHE_ERR_BUSY, "this process");
    CU_ASSERT_PTR_NOT_NULL(strstr(fixture_diag()->text, "component"));
    node_store_close(&store);
    fixture_expect(node_store_lock(fixture_diag(), &again, "third"), DCACHE_OK, NULL);
    node_store_close(&again);
}

/* The lock's file holds nothing, or something else, while it is locked. */
static void test_lock_text(void)
{
    static const char *const texts[] = {"", "\n", "12", "-5 host who\n", "abc def ghi\n", "1 \xff\xfe"};
    struct node_store store = {0};
    const char *root = fixture_root();
    pid_t child = start_holder(root, "holder");
    fixture_expect(node_store_open(fixture_diag(), root, "sample", 0, true, &store), DCACHE_OK, NULL);
    for (size_t i = 0; i < UNIT_COUNT(texts); i++) {
        fixture_write(&store, "lock", texts[i], strlen(texts[i]));
        fixture_expect(node_store_lock(fixture_diag(), &store, "second"), DCACHE_ERR_BUSY, "another process");
    }
    char longer[5000];
    memset(longer, '7', sizeof longer);
    fixture_write(&store, "lock", longer, sizeof longer);
    fixture_expect(node_store_lock(fixture_diag(), &store, "second"), DCACHE_ERR_BUSY, NULL);
    stop_holder(child);
    fixture_expect(node_store_lock(fixture_diag(), &store, "second"), DCACHE_OK, NULL);
    CU_ASSERT_TRUE(lseek(store.lock_fd, 0, SEEK_END) < 300);
    node_store_close(&store);
}

static dcache_status_t use_lock(struct node_store *store)
{
    return node_store_lock(fixture_diag(), store, "test");
}

static void test_lock_hostile(void)
{
    fixture_try_hostile("lock", use_lock);
}

static dcache_status_t use_text(struct node_store *store)
{
    char *text = NULL;
    size_t bytes = 0;
    return node_store_read_text(fixture_diag(), store, "plan.json", &text, &bytes);
}

static void test_text(void)
{
    struct node_store store;
    char *text = NULL;
    size_t bytes = 0;
    fixture_open(&store);
    fixture_expect(node_store_read_text(fixture_diag(), &store, "plan.json", &text, &bytes), DCACHE_NOT_FOUND, NULL);
    fixture_expect(node_store_write_text(fixture_diag(), &store, "plan.json", "first", 5), DCACHE_OK, NULL);
    fixture_write(&store, ".plan.json.tmp", "left behind by a kill", 21);
    fixture_expect(node_store_write_text(fixture_diag(), &store, "plan.json", "second", 6), DCACHE_OK, NULL);
    fixture_expect(node_store_read_text(fixture_diag(), &store, "plan.json", &text, &bytes), DCACHE_OK, NULL);
    CU_ASSERT_EQUAL(bytes, 6);
    CU_ASSERT_STRING_EQUAL(text, "second");
    free(text);
    CU_ASSERT_EQUAL(faccessat(store.dir_fd, ".plan.json.tmp", F_OK, 0), -1);
    fixture_expect(node_store_write_text(fixture_diag(), &store, "empty", "", 0), DCACHE_OK, NULL);
    fixture_expect(node_store_read_text(fixture_diag(), &store, "empty", &text, &bytes), DCACHE_OK, NULL);
    CU_ASSERT_EQUAL(bytes, 0);
    free(text);

    static const char *const names[] = {"", "..", "a/b", "../x", "lock"};
    for (size_t i = 0; i < UNIT_COUNT(names); i++) {
        fixture_expect(node_store_write_text(fixture_diag(), &store, names[i], "x", 1), DCACHE_ERR_INVALID, names[i]);
        fixture_expect(node_store_read_text(fixture_diag(), &store, names[i], &text, &bytes), DCACHE_ERR_INVALID,
                       names[i]);
    }
    int fd = openat(store.dir_fd, "large", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    CU_ASSERT_EQUAL(ftruncate(fd, 17 << 20), 0);
    close(fd);
    fixture_expect(node_store_read_text(fixture_diag(), &store, "large", &text, &bytes), DCACHE_ERR_CORRUPT, "large");
    node_store_close(&store);
    fixture_try_hostile("plan.json", use_text);
}

int main(void)
{
    static const struct unit_case cases[] = {
        {"open", test_open},
        {"open: a relative root", test_open_relative},
        {"open: invalid names", test_open_invalid},
        {"open: with standard input closed", test_open_without_stdin},
        {"open: symbolic links", test_directory_links},
        {"open: modes", test_directory_modes},
        {"open: foreign owner", test_foreign_owner},
        {"list", test_list},
        {"jobs", test_jobs},
        {"lock", test_lock},
        {"lock: its text", test_lock_text},
        {"lock: hostile files", test_lock_hostile},
        {"text files", test_text},
    };
    return unit_main("node_store", cases, UNIT_COUNT(cases));
}
