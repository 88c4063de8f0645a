/* The file:// object store: a directory, in which each object is a file below directories of its key's segments.
 *
 * An object is written as a temporary file beside its final name and then renamed. The temporary's name has a '~',
 * which no key has, so that one left behind by a killed writer is never taken for an object. Every segment is opened
 * with O_NOFOLLOW from the directory before it, so that nothing outside the store can be reached by a symbolic link. */
#include "io/crc64.h"
#include "io/object_backend.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define DIRECTORY_FLAGS   (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
#define TEMPORARY_PREFIX  ".dcache~"
#define TEMPORARY_MAX     32
#define TEMPORARY_TRIES   16
#define NO_SPACE_REMEDY   "free some space there or name another store"
#define PERMISSION_REMEDY "the directory has to be writable for you"

struct file_store {
    struct object_store base;
    int root;                 /* descriptor of the directory */
    char url[OBJECT_URL_MAX]; /* for texts */
};

static struct file_store *file_store_of(struct object_store *store)
{
    return (struct file_store *)store;
}

static void close_fd(int fd)
{
    if (fd >= 0)
        close(fd); /* of files that were fsync'ed, or read only: nothing is lost if it fails */
}

static dcache_status_t fail_errno(struct diag *dg, int error_number, const struct file_store *store, const char *key,
                                  const char *verb)
{
    const char *remedy = "";
    if (error_number == ENOSPC || error_number == EDQUOT)
        remedy = " (" NO_SPACE_REMEDY ")";
    else if (error_number == EACCES || error_number == EPERM || error_number == EROFS)
        remedy = " (" PERMISSION_REMEDY ")";
    else if (error_number == ELOOP || error_number == ENOTDIR)
        remedy = " (a symbolic link or a file is where a directory of the store has to be; remove it)";
    return diag_fail_errno(dg, error_number, "cannot %s object %s in %s%s", verb, key, store->url, remedy);
}

/* --- Directories ----------------------------------------------------------------------------------------------- */

/* Make an entry of a directory durable. Some file systems cannot and say EINVAL; they do it by themselves. */
static int sync_directory(int directory)
{
    return fsync(directory) == 0 || errno == EINVAL || errno == ENOTSUP ? 0 : -1;
}

/* Open the directory `name` in `parent`, made first when it is missing and `make` is set. -1 and errno on failure. */
static int open_directory(int parent, const char *name, bool make)
{
    int fd = openat(parent, name, DIRECTORY_FLAGS);
    if (fd >= 0 || errno != ENOENT || !make)
        return fd;
    if (mkdirat(parent, name, 0700) != 0 && errno != EEXIST)
        return -1;
    if (sync_directory(parent) != 0)
        return -1;
    return openat(parent, name, DIRECTORY_FLAGS);
}

/* The last segment of a key. */
static const char *key_name(const char *key)
{
    const char *slash = strrchr(key, '/');
    return slash != NULL ? slash + 1 : key;
}

/* Open the directory that has the key's last segment. -1 and errno on failure. */
static int open_parent(const struct file_store *store, const char *key, bool make)
{
    char segment[OBJECT_KEY_MAX + 1];
    int directory = fcntl(store->root, F_DUPFD_CLOEXEC, 0);
    for (const char *end = strchr(key, '/'); end != NULL && directory >= 0; end = strchr(key, '/')) {
        memcpy(segment, key, (size_t)(end - key));
        segment[end - key] = '\0';
        int next = open_directory(directory, segment, make);
        int error_number = errno;
        close_fd(directory);
        errno = error_number;
        directory = next;
        key = end + 1;
    }
    return directory;
}

/* --- Put ------------------------------------------------------------------------------------------------------- */

/* Open a new temporary file in the key's directory. That directory may vanish meanwhile, when file_remove() finds it
 * empty: then it is made again. -1 and errno on failure. */
static int open_temporary(const struct file_store *store, const char *key, int *parent, char name[TEMPORARY_MAX])
{
    for (int i = 0; i < TEMPORARY_TRIES; i++) {
        uint64_t number = 0;
        if (getrandom(&number, sizeof number, 0) != (ssize_t)sizeof number)
            return -1;
        snprintf(name, TEMPORARY_MAX, TEMPORARY_PREFIX "%016llx", (unsigned long long)number);
        int directory = open_parent(store, key, true);
        if (directory < 0) {
            if (errno == ENOENT)
                continue;
            return -1;
        }
        int fd = openat(directory, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd >= 0) {
            *parent = directory;
            return fd;
        }
        int error_number = errno;
        close_fd(directory);
        errno = error_number;
        if (error_number != ENOENT && error_number != EEXIST)
            return -1;
    }
    return -1;
}

static int write_all(int fd, const char *data, size_t bytes)
{
    while (bytes > 0) {
        ssize_t written = write(fd, data, bytes);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0) {
            errno = written == 0 ? ENOSPC : errno;
            return -1;
        }
        data += written;
        bytes -= (size_t)written;
    }
    return 0;
}

/* Write what the source has, block by block, each verified with the source's digest. */
static dcache_status_t write_source(const struct file_store *store, struct diag *dg, const char *key,
                                    const struct object_source *source, const atomic_bool *cancel, int fd)
{
    uint64_t wanted = store->base.policy.block_bytes > 0 ? store->base.policy.block_bytes : OBJECT_BLOCK_BYTES;
    size_t block = (size_t)(wanted < source->bytes ? wanted : source->bytes);
    char *buffer = malloc(block > 0 ? block : 1);
    if (buffer == NULL)
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "no memory for a block of %zu bytes", block);
    dcache_status_t status = DCACHE_OK;
    for (uint64_t offset = 0;
         status == DCACHE_OK && (offset == 0 ? source->bytes > 0 : offset < object_source_bytes(source));
         offset += block) {
        size_t bytes = (size_t)(source->bytes - offset < block ? source->bytes - offset : block);
        uint64_t crc = 0;
        if (cancel != NULL && atomic_load(cancel))
            status = diag_fail(dg, DCACHE_ERR_CANCELLED, "cancelled");
        else
            status = object_source_read(source, dg, offset, buffer, &bytes, &crc);
        if (status == DCACHE_OK && crc64_update(0, buffer, bytes) != crc)
            status = object_bad_source(dg, key, offset);
        if (status == DCACHE_OK)
            status = diag_failpoint_data(dg, "object_file_write", buffer, &bytes);
        if (status == DCACHE_OK && write_all(fd, buffer, bytes) != 0)
            status = fail_errno(dg, errno, store, key, "write");
    }
    if (status == DCACHE_OK && fsync(fd) != 0)
        status = fail_errno(dg, errno, store, key, "write");
    free(buffer);
    return status;
}

/* Give the temporary file its name. -1 and errno (EEXIST: taken) on failure. */
static int commit(int parent, const char *temporary, const char *name, enum object_condition condition)
{
    if (condition == OBJECT_REPLACE)
        return renameat(parent, temporary, parent, name);
    if (renameat2(parent, temporary, parent, name, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EINVAL && errno != ENOSYS)
        return -1;
    if (linkat(parent, temporary, parent, name, 0) != 0) /* file systems that do not know RENAME_NOREPLACE */
        return -1;
    unlinkat(parent, temporary, 0); /* if this fails, a second, invisible name is left: harmless */
    return 0;
}

static dcache_status_t put_into(const struct file_store *store, struct diag *dg, const char *key,
                                const struct object_source *source, enum object_condition condition,
                                const atomic_bool *cancel)
{
    char temporary[TEMPORARY_MAX];
    int parent = -1;
    int fd = open_temporary(store, key, &parent, temporary);
    if (fd < 0)
        return fail_errno(dg, errno, store, key, "write");
    dcache_status_t status = write_source(store, dg, key, source, cancel, fd);
    if (status == DCACHE_OK)
        status = diag_failpoint(dg, "object_file_commit");
    if (status == DCACHE_OK && commit(parent, temporary, key_name(key), condition) != 0)
        status = errno == EEXIST ? object_exists(dg, store->url, key) : fail_errno(dg, errno, store, key, "commit");
    if (status != DCACHE_OK)
        unlinkat(parent, temporary, 0);
    else if (sync_directory(parent) != 0)
        status = fail_errno(dg, errno, store, key, "commit");
    close_fd(fd);
    close_fd(parent);
    return status;
}

/* --- Get and head ---------------------------------------------------------------------------------------------- */

/* Open an object for reading. DCACHE_NOT_FOUND when there is none; O_NONBLOCK so that a FIFO cannot hold us. */
static dcache_status_t open_object(const struct file_store *store, struct diag *dg, const char *key, int *fd,
                                   struct stat *info)
{
    int parent = open_parent(store, key, false);
    int opened = parent < 0 ? -1 : openat(parent, key_name(key), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    int error_number = errno;
    close_fd(parent);
    if (opened < 0)
        return error_number == ENOENT ? DCACHE_NOT_FOUND : fail_errno(dg, error_number, store, key, "read");
    if (fstat(opened, info) != 0) {
        dcache_status_t status = fail_errno(dg, errno, store, key, "read");
        close_fd(opened);
        return status;
    }
    if (!S_ISREG(info->st_mode)) { /* a directory is the beginning of other keys */
        close_fd(opened);
        return S_ISDIR(info->st_mode) ? DCACHE_NOT_FOUND : fail_errno(dg, ENOTDIR, store, key, "read");
    }
    *fd = opened;
    return DCACHE_OK;
}

/* Objects are replaced by new files, so these tell one content from another. */
static void set_info(const struct stat *from, struct object_info *info)
{
    info->bytes = (uint64_t)from->st_size;
    snprintf(info->etag, sizeof info->etag, "%llx-%llx-%llx.%lx", (unsigned long long)from->st_ino,
             (unsigned long long)from->st_size, (unsigned long long)from->st_mtim.tv_sec,
             (unsigned long)from->st_mtim.tv_nsec);
}

static dcache_status_t read_all(const struct file_store *store, struct diag *dg, const char *key, int fd,
                                uint64_t offset, char *buffer, size_t bytes)
{
    while (bytes > 0) {
        ssize_t got = pread(fd, buffer, bytes, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return fail_errno(dg, errno, store, key, "read");
        if (got == 0)
            return object_too_short(dg, store->url, key, offset + bytes);
        buffer += got;
        offset += (uint64_t)got;
        bytes -= (size_t)got;
    }
    return DCACHE_OK;
}

static dcache_status_t file_get(struct object_store *base, struct diag *dg, const char *key, const char *etag,
                                uint64_t offset, void *buffer, size_t bytes)
{
    struct file_store *store = file_store_of(base);
    struct stat found;
    struct object_info info;
    int fd = -1;
    if (!object_key_valid(key))
        return object_bad_key(dg, key);
    dcache_status_t status = open_object(store, dg, key, &fd, &found);
    if (status != DCACHE_OK)
        return status;
    set_info(&found, &info);
    if (etag != NULL && *etag != '\0' && strcmp(etag, info.etag) != 0)
        status = object_changed(dg, store->url, key);
    else if (offset > info.bytes || bytes > info.bytes - offset)
        status = object_too_short(dg, store->url, key, offset + bytes);
    else
        status = read_all(store, dg, key, fd, offset, buffer, bytes);
    if (status == DCACHE_OK)
        status = diag_failpoint_data(dg, "object_file_read", buffer, &bytes);
    close_fd(fd);
    return status;
}

static dcache_status_t file_head(struct object_store *base, struct diag *dg, const char *key, struct object_info *info)
{
    struct stat found;
    int fd = -1;
    if (!object_key_valid(key))
        return object_bad_key(dg, key);
    dcache_status_t status = open_object(file_store_of(base), dg, key, &fd, &found);
    if (status != DCACHE_OK)
        return status;
    close_fd(fd);
    set_info(&found, info);
    return DCACHE_OK;
}

static dcache_status_t file_put(struct object_store *base, struct diag *dg, const char *key,
                                const struct object_source *source, enum object_condition condition,
                                const atomic_bool *cancel)
{
    struct object_info info;
    if (!object_key_valid(key))
        return object_bad_key(dg, key);
    if (condition == OBJECT_IF_ABSENT) { /* saves writing it in vain; commit() decides */
        dcache_status_t status = file_head(base, dg, key, &info);
        if (status != DCACHE_NOT_FOUND)
            return status == DCACHE_OK ? object_exists(dg, file_store_of(base)->url, key) : status;
    }
    return put_into(file_store_of(base), dg, key, source, condition, cancel);
}

/* --- Swap ------------------------------------------------------------------------------------------------------ */

/* Hold the object's file, so that others who would swap it wait for their turn in vain: after us it is not the one that
 * has the name. A lock goes with its holder. False: another one holds it. */
static bool hold_for_swap(int fd)
{
    return flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK;
}

/* Is the object the one with that etag? Then *held (to be closed) keeps others off. */
static dcache_status_t compare_for_swap(const struct file_store *store, struct diag *dg, const char *key,
                                        const char *etag, int *held)
{
    struct stat found;
    struct object_info info;
    int parent = open_parent(store, key, false);
    int fd = parent < 0 ? -1 : openat(parent, key_name(key), O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    int error_number = errno;
    close_fd(parent);
    if (fd < 0)
        return error_number == ENOENT ? object_lost_swap(dg, store->url, key)
                                      : fail_errno(dg, error_number, store, key, "swap");
    dcache_status_t status = hold_for_swap(fd) ? DCACHE_OK : object_lost_swap(dg, store->url, key);
    if (status == DCACHE_OK) /* by its name, and only now: the file that was opened may have lost it */
        status = file_head((struct object_store *)(uintptr_t)store, dg, key, &info);
    if (status == DCACHE_NOT_FOUND || (status == DCACHE_OK && strcmp(info.etag, etag) != 0))
        status = object_lost_swap(dg, store->url, key);
    else if (status == DCACHE_OK && fstat(fd, &found) != 0)
        status = fail_errno(dg, errno, store, key, "swap");
    if (status == DCACHE_OK) {
        set_info(&found, &info);
        if (strcmp(info.etag, etag) != 0)
            status = object_lost_swap(dg, store->url, key);
    }
    if (status == DCACHE_OK)
        *held = fd;
    else
        close_fd(fd);
    return status;
}

static dcache_status_t file_swap(struct object_store *base, struct diag *dg, const char *key, const char *etag,
                                 const void *data, size_t bytes, const atomic_bool *cancel)
{
    struct file_store *store = file_store_of(base);
    char temporary[TEMPORARY_MAX];
    int held = -1, parent = -1;
    (void)cancel; /* it is small */
    if (!object_key_valid(key))
        return object_bad_key(dg, key);
    dcache_status_t status = etag[0] != '\0' ? compare_for_swap(store, dg, key, etag, &held) : DCACHE_OK;
    if (status != DCACHE_OK)
        return status;
    int fd = open_temporary(store, key, &parent, temporary);
    if (fd < 0 || write_all(fd, data, bytes) != 0 || fsync(fd) != 0)
        status = fail_errno(dg, errno, store, key, "swap");
    else if (commit(parent, temporary, key_name(key), etag[0] != '\0' ? OBJECT_REPLACE : OBJECT_IF_ABSENT) != 0)
        status = errno == EEXIST ? object_lost_swap(dg, store->url, key) : fail_errno(dg, errno, store, key, "swap");
    if (status != DCACHE_OK && fd >= 0)
        unlinkat(parent, temporary, 0);
    else if (status == DCACHE_OK && sync_directory(parent) != 0)
        status = fail_errno(dg, errno, store, key, "swap");
    close_fd(fd);
    close_fd(parent);
    close_fd(held);
    return status;
}

/* --- Remove ---------------------------------------------------------------------------------------------------- */

/* Remove the directories of a key's segments that have become empty; those that have not stop it. */
static void prune(const struct file_store *store, const char *key)
{
    char path[OBJECT_KEY_MAX + 1];
    snprintf(path, sizeof path, "%s", key);
    for (char *slash = strrchr(path, '/'); slash != NULL; slash = strrchr(path, '/')) {
        *slash = '\0';
        int parent = open_parent(store, path, false);
        int removed = parent < 0 ? -1 : unlinkat(parent, key_name(path), AT_REMOVEDIR);
        close_fd(parent);
        if (removed != 0)
            return;
    }
}

static dcache_status_t file_remove(struct object_store *base, struct diag *dg, const char *key)
{
    struct file_store *store = file_store_of(base);
    if (!object_key_valid(key))
        return object_bad_key(dg, key);
    int parent = open_parent(store, key, false);
    int removed = parent < 0 ? -1 : unlinkat(parent, key_name(key), 0);
    int error_number = removed == 0 ? 0 : errno;
    if (removed == 0 && sync_directory(parent) != 0)
        error_number = errno;
    close_fd(parent);
    if (error_number == EISDIR) /* the beginning of other keys: no object */
        error_number = 0;
    else if (error_number == 0 || error_number == ENOENT)
        prune(store, key);
    return error_number == 0 || error_number == ENOENT ? DCACHE_OK : fail_errno(dg, error_number, store, key, "remove");
}

/* --- List ------------------------------------------------------------------------------------------------------ */

/* The entries of one directory that can be (the beginning of) keys: their names, directories with a slash at the end.
 * Sorted as strings, that is the order of the keys themselves. */
struct names {
    char **list;
    size_t count;
    size_t room;
};

struct walk {
    struct file_store *store;
    struct diag *dg;
    const char *prefix;
    object_visitor visit;
    void *context;
    char key[OBJECT_KEY_MAX + 2]; /* of the directory that is being listed, "" or with a slash at its end */
};

static void names_free(struct names *names)
{
    for (size_t i = 0; i < names->count; i++)
        free(names->list[i]);
    free(names->list);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool names_add(struct names *names, const char *name, bool is_directory)
{
    if (names->count == names->room) {
        size_t room = names->room > 0 ? 2 * names->room : 64;
        char **grown = realloc(names->list, room * sizeof *grown);
        if (grown == NULL)
            return false;
        names->list = grown;
        names->room = room;
    }
    size_t size = strlen(name) + 2;
    char *copy = malloc(size);
    if (copy == NULL)
        return false;
    snprintf(copy, size, "%s%s", name, is_directory ? "/" : "");
    names->list[names->count++] = copy;
    return true;
}

/* Read the directory that `stream` is open on. */
static dcache_status_t read_names(const struct walk *walk, DIR *stream, struct names *names)
{
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(stream);
        if (entry == NULL)
            break;
        struct stat info;
        if (!object_key_valid(entry->d_name))
            continue;
        if (fstatat(dirfd(stream), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0)
            continue; /* removed meanwhile */
        if ((S_ISREG(info.st_mode) || S_ISDIR(info.st_mode)) && !names_add(names, entry->d_name, S_ISDIR(info.st_mode)))
            return diag_fail(walk->dg, DCACHE_ERR_NO_MEMORY, "no memory to list %s", walk->store->url);
    }
    if (errno != 0)
        return diag_fail_errno(walk->dg, errno, "cannot list %s in %s", walk->key, walk->store->url);
    if (names->count > 1)
        qsort(names->list, names->count, sizeof names->list[0], compare_names);
    return DCACHE_OK;
}

static dcache_status_t list_directory(struct walk *walk, int directory);

/* Visit one object, or list one directory, if it can have the prefix. */
static dcache_status_t list_entry(struct walk *walk, int parent, const char *name)
{
    size_t parent_length = strlen(walk->key);
    size_t length = parent_length + strlen(name);
    size_t prefix_length = strlen(walk->prefix);
    if (length > OBJECT_KEY_MAX)
        return DCACHE_OK;
    memcpy(walk->key + parent_length, name, strlen(name) + 1);
    dcache_status_t status = DCACHE_OK;
    struct stat info;
    if (name[strlen(name) - 1] == '/') {
        if (strncmp(walk->key, walk->prefix, length < prefix_length ? length : prefix_length) == 0) {
            walk->key[length - 1] = '\0';
            int directory = openat(parent, key_name(walk->key), DIRECTORY_FLAGS);
            walk->key[length - 1] = '/';
            if (directory >= 0)
                status = list_directory(walk, directory);
            else if (errno != ENOENT)
                status = diag_fail_errno(walk->dg, errno, "cannot list %s in %s", walk->key, walk->store->url);
        }
    } else if (strncmp(walk->key, walk->prefix, prefix_length) == 0 &&
               fstatat(parent, name, &info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(info.st_mode)) {
        status = walk->visit(walk->context, walk->key, (uint64_t)info.st_size);
    }
    walk->key[parent_length] = '\0';
    return status;
}

/* List a directory and what is below it; closes `directory`. A key's length bounds the depth. */
static dcache_status_t list_directory(struct walk *walk, int directory)
{
    struct names names = {.count = 0};
    DIR *stream = fdopendir(directory);
    if (stream == NULL) {
        close_fd(directory);
        return diag_fail_errno(walk->dg, errno, "cannot list %s in %s", walk->key, walk->store->url);
    }
    dcache_status_t status = read_names(walk, stream, &names);
    for (size_t i = 0; status == DCACHE_OK && i < names.count; i++)
        status = list_entry(walk, dirfd(stream), names.list[i]);
    closedir(stream);
    names_free(&names);
    return status;
}

static dcache_status_t file_list(struct object_store *base, struct diag *dg, const char *prefix, object_visitor visit,
                                 void *context)
{
    struct file_store *store = file_store_of(base);
    struct walk walk = {.store = store, .dg = dg, .prefix = prefix, .visit = visit, .context = context};
    int directory = openat(store->root, ".", DIRECTORY_FLAGS); /* a position of its own */
    if (directory < 0)
        return diag_fail_errno(dg, errno, "cannot list %s", store->url);
    return list_directory(&walk, directory);
}

/* --- Open and close -------------------------------------------------------------------------------------------- */

static dcache_status_t file_create(struct object_store *base, struct diag *dg)
{
    (void)base; /* object_file_open() made it */
    (void)dg;
    return DCACHE_OK;
}

static void file_close(struct object_store *base)
{
    close_fd(file_store_of(base)->root);
    free(base);
}

static const struct object_store_ops file_ops = {
    .scheme = "file",
    .create = file_create,
    .put = file_put,
    .swap = file_swap,
    .get = file_get,
    .head = file_head,
    .list = file_list,
    .remove = file_remove,
    .close = file_close,
};

/* mkdir -p. 0 or -1 and errno. */
static int make_directories(const char *path)
{
    char partial[OBJECT_URL_MAX];
    snprintf(partial, sizeof partial, "%s", path);
    for (char *slash = strchr(partial + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(partial, 0700) != 0 && errno != EEXIST && access(partial, F_OK) != 0)
            return -1;
        *slash = '/';
    }
    return mkdir(partial, 0700) == 0 || errno == EEXIST ? 0 : -1;
}

/* Objects are what programs restart from: nobody else may be able to put one there. */
static dcache_status_t check_owner(struct diag *dg, const char *directory, int fd)
{
    struct stat info;
    if (fstat(fd, &info) != 0)
        return diag_fail_errno(dg, errno, "cannot use the object store's directory %s", directory);
    if (info.st_uid != geteuid() && info.st_uid != 0)
        return diag_fail(dg, DCACHE_ERR_PERMISSION,
                         "the object store's directory %s belongs to user %u: name a directory of your own, such as "
                         "one below it",
                         directory, (unsigned)info.st_uid);
    if ((info.st_mode & S_IWOTH) != 0 && (info.st_mode & S_ISVTX) == 0)
        return diag_fail(dg, DCACHE_ERR_PERMISSION,
                         "everybody can write to the object store's directory %s: chmod o-w it, or name one below it",
                         directory);
    return DCACHE_OK;
}

dcache_status_t object_file_open(struct diag *dg, const char *directory, const struct object_policy *policy,
                                 struct object_store **store)
{
    int root = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0 && errno == ENOENT && make_directories(directory) == 0)
        root = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return diag_fail_errno(dg, errno, "cannot use the object store's directory %s", directory);
    struct file_store *made = NULL;
    dcache_status_t status = check_owner(dg, directory, root);
    if (status != DCACHE_OK)
        goto fail;
    made = calloc(1, sizeof *made);
    if (made == NULL) {
        status = diag_fail(dg, DCACHE_ERR_NO_MEMORY, "no memory for an object store");
        goto fail;
    }
    made->base.ops = &file_ops;
    made->base.policy = *policy;
    made->root = root;
    snprintf(made->url, sizeof made->url, "file://%s", directory);
    *store = &made->base;
    return DCACHE_OK;
fail:
    close_fd(root);
    return status;
}
