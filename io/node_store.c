#include "io/node_store.h"

#include "io/store_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOCK_NAME       "lock"
#define NODE_PREFIX     "node-"
#define LOCK_TEXT_MAX   256
#define LOCK_TRIES      16
#define TEXT_BYTES_MAX  (16u << 20)
#define HOST_NAME_BYTES 65

/* The directory that `root` is in, which may be reached through symbolic links, and the root's own name. */
static dcache_status_t split_root(struct diag *dg, const char *root, char parent[512], char name[256])
{
    size_t length = strlen(root);
    while (length > 0 && root[length - 1] == '/')
        length--;
    size_t start = length;
    while (start > 0 && root[start - 1] != '/')
        start--;
    size_t name_length = length - start;
    bool dots = name_length <= 2 && strncmp(root + start, "..", name_length) == 0;
    if (name_length == 0 || dots || name_length > 255 || length > 400)
        return diag_fail(
            dg, DCACHE_ERR_INVALID,
            "\"%s\" cannot be a memory_store or ssd_store: give a directory of its own, of at most 400 characters",
            root);
    if (start == 0)
        snprintf(parent, 512, ".");
    else
        snprintf(parent, 512, "%.*s", start > 1 ? (int)start - 1 : 1, root);
    snprintf(name, 256, "%.*s", (int)name_length, root + start);
    return DCACHE_OK;
}

/* Open the root; DCACHE_NOT_FOUND, without a text, when it is missing and not to be made. */
static dcache_status_t open_root(struct diag *dg, const char *root, bool create, int *fd)
{
    char parent[512];
    char name[256];
    dcache_status_t status = split_root(dg, root, parent, name);
    if (status != DCACHE_OK)
        return status;
    int parent_fd = open(parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (parent_fd < 0 && errno == ENOENT && !create)
        return DCACHE_NOT_FOUND;
    if (parent_fd < 0)
        return diag_fail_errno(dg, errno, "cannot open the directory %s for the node store %s, make it first", parent,
                               root);
    const struct store_place place = {parent_fd, parent, name};
    status = store_directory_open(dg, &place, create, fd);
    (void)close(parent_fd);
    return status;
}

/* As open_root(), for the directory of a job below it. */
static dcache_status_t open_job(struct diag *dg, const char *root, const char *job, bool create, int *fd)
{
    if (!shard_job_valid(job))
        return diag_fail(dg, DCACHE_ERR_INVALID, "\"%s\" is no name for a job: use up to %d of A-Z a-z 0-9 _ . -", job,
                         SHARD_JOB_MAX);
    int root_fd = -1;
    dcache_status_t status = open_root(dg, root, create, &root_fd);
    if (status != DCACHE_OK)
        return status;
    const struct store_place place = {root_fd, root, job};
    status = store_directory_open(dg, &place, create, fd);
    (void)close(root_fd);
    return status;
}

dcache_status_t node_store_open(struct diag *dg, const char *root, const char *job, unsigned index, bool create,
                                struct node_store *store)
{
    int job_fd = -1;
    dcache_status_t status = diag_failpoint(dg, "store.open");
    if (status == DCACHE_OK)
        status = open_job(dg, root, job, create, &job_fd);
    if (status != DCACHE_OK)
        return status;

    struct node_store opened = {.dir_fd = -1, .lock_fd = -1};
    char job_path[512];
    char name[32];
    snprintf(job_path, sizeof job_path, "%s/%s", root, job);
    snprintf(name, sizeof name, NODE_PREFIX "%u", index);
    int length = snprintf(opened.path, sizeof opened.path, "%s/%s", job_path, name);
    const struct store_place place = {job_fd, job_path, name};
    if (length < 0 || (size_t)length >= sizeof opened.path)
        status = diag_fail(dg, DCACHE_ERR_INVALID,
                           "the path %s is too long: choose a shorter memory_store or ssd_store", job_path);
    else
        status = store_directory_open(dg, &place, create, &opened.dir_fd);
    (void)close(job_fd);
    if (status == DCACHE_OK)
        *store = opened;
    return status;
}

static void own_host_name(char host[HOST_NAME_BYTES])
{
    if (gethostname(host, HOST_NAME_BYTES) != 0)
        snprintf(host, HOST_NAME_BYTES, "unknown");
    host[HOST_NAME_BYTES - 1] = '\0';
}

/* Say who holds the lock. Its file may be empty or hold a dead process's text for an instant, while the new holder
 * writes. */
static dcache_status_t report_busy(struct diag *dg, const struct node_store *store, int fd)
{
    char text[LOCK_TEXT_MAX];
    ssize_t length = pread(fd, text, sizeof text - 1, 0);
    text[length > 0 ? length : 0] = '\0';
    long pid = 0;
    char host[HOST_NAME_BYTES] = "";
    char who[128] = "";
    char own_host[HOST_NAME_BYTES];
    own_host_name(own_host);
    if (sscanf(text, "%ld %64s %127[^\n]", &pid, host, who) != 3 || pid <= 0)
        return diag_fail(dg, DCACHE_ERR_BUSY,
                         "the node store %s is in use by another process: wait until it ends, or give this run another "
                         "job name",
                         store->path);
    if (pid == (long)getpid() && strcmp(host, own_host) == 0)
        return diag_fail(dg, DCACHE_ERR_BUSY,
                         "this process (%ld) already has the node store %s open: give the second handle another job or "
                         "component name",
                         pid, store->path);
    return diag_fail(dg, DCACHE_ERR_BUSY,
                     "the node store %s is in use by process %ld (%s) on %s: wait until it ends, or give this run "
                     "another job name",
                     store->path, pid, who, host);
}

/* Whether the file that was locked is still the one that others will find. */
static bool still_there(const struct node_store *store, int fd)
{
    struct stat locked;
    struct stat found;
    return fstat(fd, &locked) == 0 && fstatat(store->dir_fd, LOCK_NAME, &found, AT_SYMLINK_NOFOLLOW) == 0 &&
           locked.st_dev == found.st_dev && locked.st_ino == found.st_ino;
}

/* Open the lock's file and lock it; *fd is -1 when it was replaced meanwhile and another try is due. */
static dcache_status_t try_lock(struct diag *dg, const struct node_store *store, int *fd)
{
    const struct store_place place = {store->dir_fd, store->path, LOCK_NAME};
    int opened = -1;
    *fd = -1;
    dcache_status_t status = store_file_open(dg, &place, true, true, &opened);
    if (status != DCACHE_OK)
        return status;
    int failed;
    do {
        failed = flock(opened, LOCK_EX | LOCK_NB);
    } while (failed != 0 && errno == EINTR);
    if (failed != 0 && errno == EWOULDBLOCK)
        status = report_busy(dg, store, opened);
    else if (failed != 0)
        status = diag_fail_errno(dg, errno, "cannot lock %s/" LOCK_NAME, store->path);
    else if (still_there(store, opened)) {
        *fd = opened;
        return DCACHE_OK;
    }
    (void)close(opened);
    return status;
}

/* For the message others get; a lock without a text still locks, so a full tier is no reason to fail here. */
static void write_holder(struct diag *dg, const struct node_store *store, int fd, const char *who)
{
    char text[LOCK_TEXT_MAX];
    char host[HOST_NAME_BYTES];
    own_host_name(host);
    int length = snprintf(text, sizeof text, "%ld %s %.127s\n", (long)getpid(), host, who);
    if (ftruncate(fd, 0) != 0 || pwrite(fd, text, (size_t)length, 0) != (ssize_t)length)
        diag_log(dg, DIAG_DEBUG, "cannot write who holds %s/" LOCK_NAME, store->path);
}

dcache_status_t node_store_lock(struct diag *dg, struct node_store *store, const char *who)
{
    dcache_status_t status = diag_failpoint(dg, "store.lock");
    int fd = -1;
    for (int i = 0; i < LOCK_TRIES && status == DCACHE_OK && fd < 0; i++)
        status = try_lock(dg, store, &fd);
    if (status == DCACHE_NOT_FOUND || (status == DCACHE_OK && fd < 0))
        return diag_fail(dg, DCACHE_ERR_IO,
                         "%s/" LOCK_NAME " is being removed by someone: let nothing clean %s while jobs run",
                         store->path, store->path);
    if (status != DCACHE_OK)
        return status;
    write_holder(dg, store, fd, who);
    store->lock_fd = fd;
    return DCACHE_OK;
}

void node_store_close(struct node_store *store)
{
    if (store->dir_fd <= 0)
        return;
    if (store->lock_fd > 0)
        (void)close(store->lock_fd); /* which unlocks */
    (void)close(store->dir_fd);
    store->dir_fd = -1;
    store->lock_fd = -1;
}

dcache_status_t node_store_sync(struct diag *dg, const struct node_store *store, bool above)
{
    static const char *const places[] = {"..", "../..", "../../.."}; /* job, root, and what the root is in */
    dcache_status_t status = diag_failpoint(dg, "store.sync");
    if (status != DCACHE_OK)
        return status;
    if (fsync(store->dir_fd) != 0 && errno != EINVAL) /* a file system that knows no such thing */
        return diag_fail_errno(dg, errno, "cannot get the names in %s to the device", store->path);
    for (size_t i = 0; above && i < sizeof places / sizeof places[0]; i++) {
        int fd = openat(store->dir_fd, places[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0) /* not ours to read: then it was not made by us either */
            continue;
        (void)fsync(fd);
        (void)close(fd);
    }
    return DCACHE_OK;
}

struct index_list {
    unsigned *indexes;
    size_t count;
};

static dcache_status_t add_index(struct diag *dg, void *context, const char *name)
{
    struct index_list *list = context;
    unsigned index = 0;
    char again[32];
    if (sscanf(name, NODE_PREFIX "%9u", &index) != 1)
        return DCACHE_OK;
    snprintf(again, sizeof again, NODE_PREFIX "%u", index);
    if (strcmp(name, again) != 0)
        return DCACHE_OK; /* node-007, node-1.old: not ours */
    unsigned *grown = realloc(list->indexes, (list->count + 1) * sizeof *grown);
    if (grown == NULL)
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "no memory for a list of node stores");
    list->indexes = grown;
    grown[list->count++] = index;
    return DCACHE_OK;
}

static int compare_indexes(const void *a, const void *b)
{
    unsigned x = *(const unsigned *)a;
    unsigned y = *(const unsigned *)b;
    return x < y ? -1 : x > y;
}

dcache_status_t node_store_list(struct diag *dg, const char *root, const char *job, unsigned **indexes, size_t *count)
{
    struct index_list list = {NULL, 0};
    int fd = -1;
    dcache_status_t status = open_job(dg, root, job, false, &fd);
    if (status == DCACHE_OK)
        status = store_directory_visit(dg, fd, job, add_index, &list);
    else if (status == DCACHE_NOT_FOUND)
        status = DCACHE_OK;
    if (status != DCACHE_OK) {
        free(list.indexes);
        return status;
    }
    if (list.count > 0)
        qsort(list.indexes, list.count, sizeof *list.indexes, compare_indexes);
    *indexes = list.indexes;
    *count = list.count;
    return DCACHE_OK;
}

struct job_list {
    int root_fd;
    char **names;
    size_t count;
};

static dcache_status_t add_job(struct diag *dg, void *context, const char *name)
{
    struct job_list *list = context;
    struct stat status;
    if (!shard_job_valid(name) || fstatat(list->root_fd, name, &status, AT_SYMLINK_NOFOLLOW) != 0 ||
        !S_ISDIR(status.st_mode))
        return DCACHE_OK;
    char **grown = realloc(list->names, (list->count + 1) * sizeof *grown);
    if (grown != NULL) {
        list->names = grown;
        grown[list->count] = strdup(name);
    }
    if (grown == NULL || grown[list->count] == NULL)
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "no memory for a list of jobs");
    list->count++;
    return DCACHE_OK;
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

dcache_status_t node_store_jobs(struct diag *dg, const char *root, char ***jobs, size_t *count)
{
    struct job_list list = {-1, NULL, 0};
    dcache_status_t status = open_root(dg, root, false, &list.root_fd);
    if (status == DCACHE_OK)
        status = store_directory_visit(dg, list.root_fd, root, add_job, &list);
    else if (status == DCACHE_NOT_FOUND)
        status = DCACHE_OK;
    if (status != DCACHE_OK) {
        for (size_t i = 0; i < list.count; i++)
            free(list.names[i]);
        free(list.names);
        return status;
    }
    if (list.count > 0)
        qsort(list.names, list.count, sizeof *list.names, compare_texts);
    *jobs = list.names;
    *count = list.count;
    return DCACHE_OK;
}

/* Names of small files have the same form as names of jobs. */
static dcache_status_t check_text_name(struct diag *dg, const char *name)
{
    if (shard_job_valid(name) && strcmp(name, LOCK_NAME) != 0)
        return DCACHE_OK;
    return diag_fail(dg, DCACHE_ERR_INVALID, "\"%s\" is no name for a file in a node store", name);
}

static dcache_status_t read_text(struct diag *dg, const struct store_place *place, int fd, char **text, size_t *bytes)
{
    struct stat info;
    if (fstat(fd, &info) != 0)
        return diag_fail_errno(dg, errno, "cannot look at %s/%s", place->path, place->name);
    if (info.st_size > TEXT_BYTES_MAX)
        return diag_fail(dg, DCACHE_ERR_CORRUPT, "%s/%s has %jd bytes, more than it ever should: remove it",
                         place->path, place->name, (intmax_t)info.st_size);
    size_t size = (size_t)info.st_size;
    char *read = malloc(size + 1);
    if (read == NULL)
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "no memory for %s/%s, %zu bytes", place->path, place->name, size);
    size_t got = 0;
    dcache_status_t status = store_file_read(dg, fd, 0, read, size, &got);
    if (status != DCACHE_OK) {
        free(read);
        return diag_fail(dg, status, "%s/%s: %s", place->path, place->name, dg->text);
    }
    read[got] = '\0';
    *text = read;
    *bytes = got;
    return DCACHE_OK;
}

dcache_status_t node_store_read_text(struct diag *dg, const struct node_store *store, const char *name, char **text,
                                     size_t *bytes)
{
    const struct store_place place = {store->dir_fd, store->path, name};
    int fd = -1;
    dcache_status_t status = check_text_name(dg, name);
    if (status == DCACHE_OK)
        status = store_file_open(dg, &place, false, false, &fd);
    if (status != DCACHE_OK)
        return status;
    status = read_text(dg, &place, fd, text, bytes);
    (void)close(fd);
    return status;
}

static dcache_status_t write_all(struct diag *dg, const struct store_place *place, int fd, const char *text,
                                 size_t bytes)
{
    size_t done = 0;
    dcache_status_t status = diag_failpoint_data(dg, "store.write", NULL, &bytes);
    if (status != DCACHE_OK)
        return status;
    while (done < bytes) {
        ssize_t n = pwrite(fd, text + done, bytes - done, (off_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return diag_fail_errno(dg, errno, "cannot write %s/%s", place->path, place->name);
        done += (size_t)n;
    }
    if (fsync(fd) != 0) /* or a power failure after the rename could leave an empty file */
        return diag_fail_errno(dg, errno, "cannot write %s/%s", place->path, place->name);
    return DCACHE_OK;
}

dcache_status_t node_store_write_text(struct diag *dg, const struct node_store *store, const char *name,
                                      const char *text, size_t bytes)
{
    char temporary[SHARD_JOB_MAX + 8];
    snprintf(temporary, sizeof temporary, ".%s.tmp", name);
    const struct store_place place = {store->dir_fd, store->path, temporary};
    int fd = -1;
    dcache_status_t status = check_text_name(dg, name);
    if (status != DCACHE_OK)
        return status;
    if (unlinkat(store->dir_fd, temporary, 0) != 0 && errno != ENOENT) /* of a process that was killed */
        return diag_fail_errno(dg, errno, "cannot remove %s/%s", store->path, temporary);
    status = store_file_open(dg, &place, true, true, &fd);
    if (status == DCACHE_OK)
        status = write_all(dg, &place, fd, text, bytes);
    if (fd >= 0)
        (void)close(fd);
    if (status == DCACHE_OK)
        status = diag_failpoint(dg, "store.replace");
    if (status == DCACHE_OK && renameat(store->dir_fd, temporary, store->dir_fd, name) != 0)
        status = diag_fail_errno(dg, errno, "cannot replace %s/%s", store->path, name);
    if (status != DCACHE_OK)
        (void)unlinkat(store->dir_fd, temporary, 0);
    return status;
}
