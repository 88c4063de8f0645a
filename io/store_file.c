#include "io/store_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* Not 0, 1 or 2, which an application may have closed and which others then write to; and 0 means "none" in our
 * structs. */
static int move_above_stdio(int fd)
{
    if (fd < 0 || fd > STDERR_FILENO)
        return fd;
    int moved = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    int saved_errno = errno;
    (void)close(fd);
    errno = saved_errno;
    return moved;
}

static dcache_status_t open_failed(struct diag *dg, const struct store_place *place, int error_number)
{
    if (error_number == ENOENT)
        return DCACHE_NOT_FOUND;
    if (error_number == ELOOP)
        return diag_fail(dg, DCACHE_ERR_PERMISSION,
                         "%s/%s is a symbolic link, which is never followed here: remove it, or choose another "
                         "memory_store or ssd_store",
                         place->path, place->name);
    if (error_number == ENOTDIR)
        return diag_fail(dg, DCACHE_ERR_PERMISSION,
                         "%s/%s is not a directory: remove it, or choose another memory_store or ssd_store",
                         place->path, place->name);
    if (error_number == ENXIO || error_number == EISDIR || error_number == ENODEV)
        return diag_fail(dg, DCACHE_ERR_PERMISSION, "%s/%s is not a regular file: remove it", place->path, place->name);
    return diag_fail_errno(dg, error_number, "cannot open %s/%s", place->path, place->name);
}

static dcache_status_t check_owner(struct diag *dg, const struct store_place *place, const struct stat *status)
{
    if (status->st_uid != geteuid())
        return diag_fail(dg, DCACHE_ERR_PERMISSION,
                         "%s/%s belongs to user %u and not to you (user %u): have it removed, or choose another "
                         "memory_store or ssd_store",
                         place->path, place->name, (unsigned)status->st_uid, (unsigned)geteuid());
    if ((status->st_mode & (S_IRWXG | S_IRWXO)) != 0)
        return diag_fail(dg, DCACHE_ERR_PERMISSION,
                         "%s/%s has mode %04o, so others can reach it: run chmod go= %s/%s if its content can be "
                         "trusted, else remove it",
                         place->path, place->name, (unsigned)(status->st_mode & 07777), place->path, place->name);
    return DCACHE_OK;
}

static dcache_status_t check_file(struct diag *dg, const struct store_place *place, int fd)
{
    struct stat status;
    if (fstat(fd, &status) != 0)
        return diag_fail_errno(dg, errno, "cannot look at %s/%s", place->path, place->name);
    if (!S_ISREG(status.st_mode))
        return diag_fail(dg, DCACHE_ERR_PERMISSION, "%s/%s is not a regular file: remove it", place->path, place->name);
    if (status.st_nlink > 1)
        return diag_fail(dg, DCACHE_ERR_PERMISSION,
                         "%s/%s has %ju hard links, so it is also another file: remove this name of it", place->path,
                         place->name, (uintmax_t)status.st_nlink);
    return check_owner(dg, place, &status);
}

dcache_status_t store_file_open(struct diag *dg, const struct store_place *place, bool create, bool writable, int *fd)
{
    /* O_NONBLOCK: a FIFO in the file's place must not make us wait for its other end. */
    int flags =
        O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | (writable ? O_RDWR : O_RDONLY) | (create ? O_CREAT : 0);
    int opened;
    do {
        opened = openat(place->dir_fd, place->name, flags, S_IRUSR | S_IWUSR);
    } while (opened < 0 && errno == EINTR);
    opened = move_above_stdio(opened);
    if (opened < 0)
        return open_failed(dg, place, errno);
    dcache_status_t status = check_file(dg, place, opened);
    if (status == DCACHE_OK)
        *fd = opened;
    else
        (void)close(opened);
    return status;
}

static dcache_status_t check_directory(struct diag *dg, const struct store_place *place, int fd)
{
    struct stat status;
    if (fstat(fd, &status) != 0)
        return diag_fail_errno(dg, errno, "cannot look at %s/%s", place->path, place->name);
    return check_owner(dg, place, &status);
}

dcache_status_t store_directory_open(struct diag *dg, const struct store_place *place, bool create, int *fd)
{
    if (create && mkdirat(place->dir_fd, place->name, S_IRWXU) != 0 && errno != EEXIST)
        return diag_fail_errno(dg, errno, "cannot make the directory %s/%s", place->path, place->name);
    /* With O_DIRECTORY a symbolic link is ENOTDIR and not ELOOP. */
    struct stat link;
    if (fstatat(place->dir_fd, place->name, &link, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(link.st_mode))
        return open_failed(dg, place, ELOOP);
    int opened = openat(place->dir_fd, place->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    opened = move_above_stdio(opened);
    if (opened < 0)
        return open_failed(dg, place, errno);
    dcache_status_t status = check_directory(dg, place, opened);
    if (status == DCACHE_OK)
        *fd = opened;
    else
        (void)close(opened);
    return status;
}

/* cppcheck wants readdir_r(), which glibc has given up: readdir() is safe as long as threads do not share a DIR. */
static struct dirent *next_entry(DIR *dir)
{
    errno = 0;
    // cppcheck-suppress readdirCalled
    return readdir(dir);
}

dcache_status_t store_directory_visit(struct diag *dg, int dir_fd, const char *path, store_name_visitor visit,
                                      void *context)
{
    DIR *dir = fdopendir(dir_fd);
    if (dir == NULL) {
        int error_number = errno;
        (void)close(dir_fd);
        return diag_fail_errno(dg, error_number, "cannot list %s", path);
    }
    dcache_status_t status = DCACHE_OK;
    const struct dirent *entry = next_entry(dir);
    while (entry != NULL && status == DCACHE_OK) {
        status = visit(dg, context, entry->d_name);
        if (status == DCACHE_OK)
            entry = next_entry(dir);
    }
    if (entry == NULL && errno != 0)
        status = diag_fail_errno(dg, errno, "cannot list %s", path);
    (void)closedir(dir);
    return status;
}

dcache_status_t store_file_read(struct diag *dg, int fd, uint64_t offset, void *buffer, size_t bytes, size_t *got)
{
    size_t done = 0;
    while (done < bytes) {
        ssize_t n = pread(fd, (char *)buffer + done, bytes - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return diag_fail_errno(dg, errno, "cannot read %zu bytes at %" PRIu64, bytes, offset);
        if (n == 0)
            break;
        done += (size_t)n;
    }
    *got = done;
    return diag_failpoint_data(dg, "store.read", buffer, got);
}

dcache_status_t store_file_limit(struct diag *dg, uint64_t bytes)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && bytes > limit.rlim_cur)
        return diag_fail(dg, DCACHE_ERR_NO_SPACE,
                         "a file of %" PRIu64 " bytes is needed and this process may have files of %" PRIu64
                         " bytes only: raise the limit (ulimit -f unlimited)",
                         bytes, (uint64_t)limit.rlim_cur);
    return DCACHE_OK;
}
