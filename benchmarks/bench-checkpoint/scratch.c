#include "bench.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

/* <tier>/bench-checkpoint-<16 digits>, locked by the first rank on each host as long as it is in use. */
#define PREFIX         "bench-checkpoint-"
#define LOCK_NAME      "lock"
#define ALLOCATE_BYTES (UINT64_C(16) << 20)

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *where)
{
    (void)info;
    (void)kind;
    (void)where;
    return remove(path);
}

/* Everything below `path`, which need not be there. Links are removed and not followed. */
static dcache_status_t remove_tree(struct diag *dg, const char *path)
{
    if (nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) != 0 && errno != ENOENT)
        return diag_fail_errno(dg, errno, "cannot remove %s", path);
    return DCACHE_OK;
}

/* Open and lock a directory's lock file; -1 when somebody else has it, or there is none and `create` is false. */
static int take_lock(const char *directory, bool create)
{
    char path[600];

    snprintf(path, sizeof path, "%s/" LOCK_NAME, directory);
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | (create ? O_CREAT | O_EXCL : 0), S_IRUSR | S_IWUSR);
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0) {
        (void)close(fd);
        fd = -1;
    }
    return fd;
}

/* A killed run cannot clean up, and memory that nobody uses is dear: directories of ours that nobody has locked go. */
static void remove_stale(struct bench *b)
{
    struct dirent *entry;
    struct stat info;
    char path[512];
    DIR *tier = opendir(b->options.tier);

    while (tier != NULL && (entry = readdir(tier)) != NULL) {
        if (strncmp(entry->d_name, PREFIX, strlen(PREFIX)) != 0 ||
            snprintf(path, sizeof path, "%s/%s", b->options.tier, entry->d_name) >= (int)sizeof path ||
            lstat(path, &info) != 0 || !S_ISDIR(info.st_mode) || info.st_uid != geteuid())
            continue;
        int lock = take_lock(path, false);
        if (lock < 0)
            continue;
        if (remove_tree(&b->diag, path) != DCACHE_OK)
            diag_log(&b->diag, DIAG_WARNING, "%s", b->diag.text);
        (void)close(lock);
    }
    if (tier != NULL)
        (void)closedir(tier);
}

static dcache_status_t make_directory(struct bench *b)
{
    if (mkdir(b->scratch, S_IRWXU) != 0)
        return diag_fail_errno(&b->diag, errno, "cannot make %s (option --tier names the directory it is made in)",
                               b->scratch);
    b->scratch_lock = take_lock(b->scratch, true);
    if (b->scratch_lock < 0)
        return diag_fail_errno(&b->diag, errno, "cannot lock %s", b->scratch);
    return DCACHE_OK;
}

dcache_status_t scratch_create(struct bench *b)
{
    uint64_t name = 0;
    dcache_status_t status = DCACHE_OK;

    if (getrandom(&name, sizeof name, 0) != (ssize_t)sizeof name)
        status = diag_fail(&b->diag, DCACHE_ERR_INTERNAL, "the system has no random numbers");
    if (strlen(b->options.tier) > 300 || b->options.tier[0] != '/')
        status = diag_fail(&b->diag, DCACHE_ERR_OPTION, "--tier %.40s: an absolute path of at most 300 bytes is needed",
                           b->options.tier);
    status = bench_agree(b, status);
    if (status == DCACHE_OK)
        status = world_check(&b->diag, MPI_Bcast(&name, 1, MPI_UINT64_T, 0, b->world.comm), "MPI_Bcast");
    if (status == DCACHE_OK && b->host_rank == 0) {
        remove_stale(b);
        snprintf(b->scratch, sizeof b->scratch, "%s/" PREFIX "%016llx", b->options.tier, (unsigned long long)name);
        status = make_directory(b);
    }
    snprintf(b->scratch, sizeof b->scratch, "%s/" PREFIX "%016llx", b->options.tier, (unsigned long long)name);
    return bench_agree(b, status);
}

void scratch_remove(struct bench *b)
{
    MPI_Barrier(b->world.comm); /* nobody makes files any more */
    if (b->scratch[0] != '\0' && b->host_rank == 0 && remove_tree(&b->diag, b->scratch) != DCACHE_OK)
        diag_log(&b->diag, DIAG_WARNING, "%s", b->diag.text);
    if (b->scratch_lock >= 0)
        (void)close(b->scratch_lock);
    b->scratch_lock = -1;
    b->scratch[0] = '\0';
}

void scratch_store_root(const struct bench *b, char path[OPTIONS_TEXT_MAX])
{
    snprintf(path, OPTIONS_TEXT_MAX, "%s/store", b->scratch);
}

dcache_status_t scratch_wipe_lost(struct bench *b)
{
    char root[OPTIONS_TEXT_MAX], path[OPTIONS_TEXT_MAX + 64];
    dcache_status_t status = DCACHE_OK;

    scratch_store_root(b, root);
    snprintf(path, sizeof path, "%s/" BENCH_JOB "/node-%u", root, b->world.virtual_index);
    if (bench_is_lost(b) && b->world.node_rank == 0) {
        if (access(path, F_OK) != 0)
            status = diag_fail_errno(&b->diag, errno, "cannot lose %s", path);
        else
            status = remove_tree(&b->diag, path);
    }
    return bench_agree(b, status);
}

dcache_status_t scratch_wipe_all(struct bench *b)
{
    char root[OPTIONS_TEXT_MAX];
    dcache_status_t status = DCACHE_OK;

    scratch_store_root(b, root);
    if (b->host_rank == 0)
        status = remove_tree(&b->diag, root);
    return bench_agree(b, status);
}

static int allocate(int fd, uint64_t bytes)
{
    for (uint64_t done = 0; done < bytes; done += ALLOCATE_BYTES) {
        uint64_t piece = bytes - done < ALLOCATE_BYTES ? bytes - done : ALLOCATE_BYTES;
        int code = posix_fallocate(fd, (off_t)done, (off_t)piece);
        if (code != 0)
            return code;
    }
    return 0;
}

static dcache_status_t make_file(struct bench *b, const char *name, char path[600], int *fd)
{
    snprintf(path, 600, "%s/%s-%d", b->scratch, name, b->world.rank);
    *fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, S_IRUSR | S_IWUSR);
    return *fd < 0 ? diag_fail_errno(&b->diag, errno, "cannot make %s", path) : DCACHE_OK;
}

dcache_status_t scratch_open(struct bench *b, const char *name, int *fd)
{
    char path[600];

    dcache_status_t status = make_file(b, name, path, fd);
    if (status == DCACHE_OK)
        (void)unlink(path);
    return status;
}

dcache_status_t scratch_map(struct bench *b, const char *name, uint64_t bytes, unsigned char **base, int *fd_out)
{
    char path[600];
    int fd = -1;

    dcache_status_t status = make_file(b, name, path, &fd);
    if (status != DCACHE_OK)
        return status;
    int code = allocate(fd, bytes);
    void *mapping = code == 0 ? mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
    if (code != 0)
        status = diag_fail_errno(&b->diag, code, "cannot allocate %llu bytes for %s", (unsigned long long)bytes, path);
    else if (mapping == MAP_FAILED)
        status = diag_fail_errno(&b->diag, errno, "cannot map %llu bytes of %s", (unsigned long long)bytes, path);
    else
        *base = mapping;
    (void)unlink(path); /* the mapping keeps it */
    if (status == DCACHE_OK && fd_out != NULL)
        *fd_out = fd;
    else
        (void)close(fd);
    return status;
}
