/* To a directory, one file for each of the workload's: written, fsync'ed and closed. The directory may be a parallel
 * file system, a local disk, or one that another checkpoint library drains. */
#include "mlperf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE_BYTES (UINT64_C(16) << 20) /* of one write() or read() */

static bool is_kept(const struct mlperf *m, int64_t step)
{
    return m->options.keep == 0 || step > m->options.writes - m->options.keep;
}

/* Errors of a file all read alike. */
static dcache_status_t failed(struct mlperf *m, const char *what, const char *path)
{
    return diag_fail_errno(&m->diag, errno, "cannot %s %s", what, path);
}

static dcache_status_t write_all(struct mlperf *m, int fd, const char *path, const unsigned char *data, uint64_t bytes)
{
    for (uint64_t done = 0; done < bytes;) {
        ssize_t written = write(fd, data + done, bytes - done < PIECE_BYTES ? bytes - done : PIECE_BYTES);
        if (written < 0 && errno != EINTR)
            return failed(m, "write", path);
        done += written > 0 ? (uint64_t)written : 0;
    }
    return fsync(fd) == 0 ? DCACHE_OK : failed(m, "fsync", path);
}

static dcache_status_t read_all(struct mlperf *m, int fd, const char *path, unsigned char *data, uint64_t bytes)
{
    for (uint64_t done = 0; done < bytes;) {
        ssize_t got = read(fd, data + done, bytes - done < PIECE_BYTES ? bytes - done : PIECE_BYTES);
        if (got < 0 && errno != EINTR)
            return failed(m, "read", path);
        if (got == 0)
            return diag_fail(&m->diag, DCACHE_ERR_IO, "%s has %llu bytes, and %llu were written", path,
                             (unsigned long long)done, (unsigned long long)bytes);
        done += got > 0 ? (uint64_t)got : 0;
    }
    return DCACHE_OK;
}

static dcache_status_t save_file(struct mlperf *m, int64_t step, int index)
{
    char path[TEXT_MAX];

    mlperf_file_path(path, m->options.directory, step, m->files[index].name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, S_IRUSR | S_IWUSR);
    if (fd < 0)
        return failed(m, "make", path);
    dcache_status_t status = write_all(m, fd, path, m->data + mlperf_file_offset(m, index), m->files[index].bytes);
    if (close(fd) != 0 && status == DCACHE_OK)
        status = failed(m, "close", path);
    return status;
}

static dcache_status_t load_file(struct mlperf *m, int64_t step, int index)
{
    char path[TEXT_MAX];

    mlperf_file_path(path, m->options.directory, step, m->files[index].name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return failed(m, "open", path);
    dcache_status_t status = read_all(m, fd, path, m->data + mlperf_file_offset(m, index), m->files[index].bytes);
    (void)close(fd);
    return status;
}

/* Each rank: the directory may not be shared. */
static dcache_status_t make_directory(struct mlperf *m, int64_t step)
{
    char path[TEXT_MAX];

    mlperf_file_path(path, m->options.directory, step, NULL);
    return mkdir(path, S_IRWXU) == 0 || errno == EEXIST ? DCACHE_OK : failed(m, "make the directory", path);
}

static dcache_status_t open_way(struct mlperf *m)
{
    struct stat info;
    dcache_status_t status = DCACHE_OK;

    if (strlen(m->options.directory) > TEXT_MAX - 256 || stat(m->options.directory, &info) != 0 ||
        !S_ISDIR(info.st_mode))
        status =
            diag_fail(&m->diag, DCACHE_ERR_OPTION, "--directory %.200s is no directory here", m->options.directory);
    for (int64_t step = 1; step <= m->options.writes && status == DCACHE_OK; step++)
        status = make_directory(m, step);
    m->state = m; /* there may be files */
    snprintf(m->caches, sizeof m->caches,
             "files are synced and dropped from the page cache with posix_fadvise() before "
             "each read%s; key `resident` says what remained",
             m->options.drop_caches ? ", then /proc/sys/vm/drop_caches is written to" : "");
    return mlperf_agree(m, status);
}

static dcache_status_t remove_step(struct mlperf *m, int64_t step)
{
    char path[TEXT_MAX];
    dcache_status_t status = DCACHE_OK;

    for (int i = 0; i < m->file_count; i++) {
        mlperf_file_path(path, m->options.directory, step, m->files[i].name);
        if (unlink(path) != 0 && errno != ENOENT)
            status = failed(m, "remove", path);
    }
    return status;
}

static dcache_status_t save(struct mlperf *m, int64_t step, double start, struct times *times)
{
    dcache_status_t status = DCACHE_OK;

    for (int i = 0; i < m->file_count && status == DCACHE_OK; i++)
        status = save_file(m, step, i);
    mlperf_mark(times, 0, start);
    if (status == DCACHE_OK && m->options.keep != 0 && step > m->options.keep)
        status = remove_step(m, step - m->options.keep);
    return mlperf_agree(m, status);
}

/* Bytes of a file that are in this host's page cache, after asking the kernel to forget them. */
static uint64_t drop_file(struct mlperf *m, int64_t step, int index)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), bytes = m->files[index].bytes, resident = 0;
    uint64_t pages = (bytes + page - 1) / page;
    char path[TEXT_MAX];

    mlperf_file_path(path, m->options.directory, step, m->files[index].name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0; /* the read will say so */
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    unsigned char *map = malloc(pages);
    void *base = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
    if (map != NULL && base != MAP_FAILED && mincore(base, bytes, map) == 0) {
        for (uint64_t i = 0; i < pages; i++)
            resident += map[i] & 1u ? page : 0;
    }
    if (base != MAP_FAILED)
        (void)munmap(base, bytes);
    free(map);
    (void)close(fd);
    return resident < bytes ? resident : bytes;
}

static dcache_status_t drop_all(struct mlperf *m)
{
    static const char path[] = "/proc/sys/vm/drop_caches";

    if (!m->options.drop_caches || m->host_rank != 0)
        return DCACHE_OK;
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return diag_fail_errno(&m->diag, errno, "--drop-caches: cannot open %s", path);
    bool done = write(fd, "3", 1) == 1;
    int reason = errno;
    (void)close(fd);
    return done ? DCACHE_OK : diag_fail_errno(&m->diag, reason, "--drop-caches: cannot write to %s", path);
}

static dcache_status_t prepare_load(struct mlperf *m, struct operation *load)
{
    double resident[2] = {0, (double)m->bytes};
    dcache_status_t status = mlperf_agree(m, drop_all(m));

    while (!is_kept(m, load->step))
        load->step += m->options.keep;
    for (int i = 0; i < m->file_count && status == DCACHE_OK; i++)
        resident[0] += (double)drop_file(m, load->step, i);
    if (status == DCACHE_OK)
        MPI_Allreduce(MPI_IN_PLACE, resident, 2, MPI_DOUBLE, MPI_SUM, m->world.comm);
    load->resident = resident[0] / resident[1];
    return status;
}

static dcache_status_t load(struct mlperf *m, const struct operation *load, double start, struct times *times)
{
    dcache_status_t status = DCACHE_OK;

    for (int i = 0; i < m->file_count && status == DCACHE_OK; i++)
        status = load_file(m, load->step, i);
    mlperf_mark(times, 0, start);
    return mlperf_agree(m, status);
}

static dcache_status_t close_way(struct mlperf *m, dcache_status_t status)
{
    dcache_status_t removed = DCACHE_OK;
    char path[TEXT_MAX];

    if (m->state == NULL || m->options.keep_data)
        return status;
    for (int64_t step = 1; step <= m->options.writes; step++) {
        dcache_status_t one = remove_step(m, step);
        removed = removed == DCACHE_OK ? one : removed;
    }
    removed = mlperf_agree(m, removed);
    for (int64_t step = 1; step <= m->options.writes && m->host_rank == 0; step++) {
        mlperf_file_path(path, m->options.directory, step, NULL);
        (void)rmdir(path); /* whoever is first */
    }
    return status == DCACHE_OK ? removed : status;
}

const struct way way_posix = {.name = "posix",
                              .save_marks = {"synced"},
                              .load_marks = {"loaded"},
                              .open = open_way,
                              .save = save,
                              .prepare_load = prepare_load,
                              .load = load,
                              .close = close_way};
