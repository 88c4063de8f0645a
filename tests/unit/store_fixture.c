#include "store_fixture.h"

#include "unit.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

static struct diag dg;

struct diag *fixture_diag(void)
{
    return &dg;
}

const char *fixture_path(const char *name)
{
    static char paths[4][700];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, 700, "%s/%s", unit_scratch(), name);
    return path;
}

const char *fixture_root(void)
{
    static unsigned number;
    static char root[700];
    diag_init(&dg, "test", 0, DIAG_ERROR);
    snprintf(root, sizeof root, "%s/root%u", unit_scratch(), number++);
    return root;
}

void fixture_expect(dcache_status_t found, dcache_status_t expected, const char *word)
{
    CU_ASSERT_EQUAL(found, expected);
    if (found != expected || (word != NULL && strstr(dg.text, word) == NULL)) {
        fprintf(stderr, "  status %d, expected %d with \"%s\": %s\n", found, expected, word != NULL ? word : "",
                dg.text);
        CU_ASSERT_PTR_NOT_NULL(word != NULL ? strstr(dg.text, word) : dg.text);
    }
}

void fixture_open(struct node_store *store)
{
    memset(store, 0, sizeof *store);
    dcache_status_t status = node_store_open(&dg, fixture_root(), "sample", 0, true, store);
    CU_ASSERT_EQUAL_FATAL(status, DCACHE_OK);
}

void fixture_write(const struct node_store *store, const char *name, const void *data, size_t bytes)
{
    int fd = openat(store->dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CU_ASSERT_TRUE_FATAL(fd >= 0);
    CU_ASSERT_EQUAL(write(fd, data, bytes), (ssize_t)bytes);
    close(fd);
}

/* Whatever `make` puts into the place of a file, `use` must refuse it with this word. */
static void make_link(const char *path)
{
    CU_ASSERT_EQUAL(symlink(fixture_path("target"), path), 0);
}

static void make_dangling_link(const char *path)
{
    CU_ASSERT_EQUAL(symlink("not-there", path), 0);
}

static void make_fifo(const char *path)
{
    CU_ASSERT_EQUAL(mkfifo(path, 0600), 0);
}

static void make_directory(const char *path)
{
    CU_ASSERT_EQUAL(mkdir(path, 0700), 0);
}

static void make_hard_link(const char *path)
{
    CU_ASSERT_EQUAL(link(fixture_path("target"), path), 0);
}

static void make_open_file(const char *path)
{
    CU_ASSERT_EQUAL(close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600)), 0);
    CU_ASSERT_EQUAL(chmod(path, 0640), 0);
}

static void make_foreign(const char *path)
{
    make_open_file(path);
    CU_ASSERT_EQUAL(chmod(path, 0600), 0);
    /* Only root can give a file away; for others the best that is possible. */
    CU_ASSERT_EQUAL(geteuid() == 0 ? chown(path, 12345, 12345) : chmod(path, 0604), 0);
}

static const struct hostile {
    void (*make)(const char *path);
    const char *word;
} hostiles[] = {
    {make_link, "symbolic link"}, {make_dangling_link, "symbolic link"}, {make_fifo, "regular"},
    {make_directory, "regular"},  {make_hard_link, "hard links"},        {make_open_file, "mode 0640"},
    {make_foreign, "others"},
};

static const char target_text[] = "nobody may touch this";

void fixture_try_hostile(const char *name, dcache_status_t (*use)(struct node_store *store))
{
    for (size_t i = 0; i < UNIT_COUNT(hostiles); i++) {
        struct node_store store;
        char path[800];
        char text[64] = "";
        fixture_open(&store);
        int fd = open(fixture_path("target"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        CU_ASSERT_EQUAL(write(fd, target_text, sizeof target_text), (ssize_t)sizeof target_text);
        snprintf(path, sizeof path, "%s/%s", store.path, name);
        hostiles[i].make(path);
        bool foreign = hostiles[i].make == make_foreign && geteuid() == 0;
        fixture_expect(use(&store), DCACHE_ERR_PERMISSION, foreign ? "user 12345" : hostiles[i].word);
        CU_ASSERT_EQUAL(pread(fd, text, sizeof text, 0), (ssize_t)sizeof target_text);
        CU_ASSERT_STRING_EQUAL(text, target_text);
        close(fd);
        unlink(path);
        unlink(fixture_path("target"));
        node_store_close(&store);
    }
}

int fixture_in_child(int (*work)(const char *), const char *argument)
{
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        int result = work(argument);
        if (result != 0 && result != 77)
            fprintf(stderr, "  step %d: %s\n", result, dg.text);
        exit(result); /* with all that runs at exit: HDF5's end is part of the test */
    }
    int status = 0;
    CU_ASSERT_EQUAL_FATAL(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}
