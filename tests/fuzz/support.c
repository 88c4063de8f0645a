#include "fuzz.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* What a hostile count asks for must not be given, not even with a failure that is handled well: machines that
 * overcommit would give it. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "max_allocation_size_mb=256";
}

struct diag *fuzz_diag(void)
{
    static struct diag dg;
    diag_init(&dg, "", -1, DIAG_ERROR);
    return &dg;
}

void fuzz_require(bool good, const char *promise)
{
    if (good)
        return;
    fprintf(stderr, "broken promise: %s\n", promise);
    abort();
}

void fuzz_require_text(const struct diag *dg, dcache_status_t status)
{
    if (status == DCACHE_OK || status == DCACHE_NOT_FOUND)
        return;
    fuzz_require(dg->text[0] != '\0', "a failure says what it is");
    for (const char *c = dg->text; *c != '\0'; c++)
        fuzz_require(((unsigned char)*c >= ' ' || *c == '\t') && *c != 0x7f,
                     "no control character of others reaches a text");
}

char *fuzz_text(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    fuzz_require(text != NULL, "memory");
    if (size > 0)
        memcpy(text, data, size);
    text[size] = '\0';
    return text;
}

const char *fuzz_file(const void *data, size_t size)
{
    static int fd = -1;
    static char path[64];
    if (fd < 0) {
        fd = memfd_create("input", MFD_CLOEXEC);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    bool good = fd >= 0 && ftruncate(fd, 0) == 0 && (size == 0 || pwrite(fd, data, size, 0) == (ssize_t)size);
    fuzz_require(good, "a file in memory");
    return path;
}

static char scratch[512];

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *place)
{
    (void)status;
    (void)type;
    (void)place;
    return remove(path);
}

static void remove_scratch(void)
{
    (void)nftw(scratch, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

const char *fuzz_scratch(void)
{
    if (scratch[0] == '\0') {
        const char *parent = getenv("TMPDIR");
        snprintf(scratch, sizeof scratch, "%.400s/dcache-fuzz-XXXXXX", parent != NULL ? parent : "/tmp");
        fuzz_require(mkdtemp(scratch) != NULL, "a scratch directory");
        atexit(remove_scratch);
    }
    return scratch;
}
