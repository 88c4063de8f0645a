#include "mpi_support.h"

#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

/* No assertion: a test that hangs shall not occupy the machine after ctest has given it up. */
#define HANG_S 840

int support_rank, support_size;

static char scratch[256], stores[300], objects[300], trying[256];

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *place)
{
    (void)status;
    (void)type;
    (void)place;
    return remove(path);
}

void support_remove_tree(const char *path)
{
    (void)nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* A memory file system where there is one: a test writes and reads its shards many times. */
static void make_scratch(void)
{
    static const char *const parents[] = {"/dev/shm", "."};
    char here[200] = "";

    for (size_t i = 0; support_rank == 0 && scratch[0] == '\0' && i < sizeof parents / sizeof parents[0]; i++) {
        const char *parent = strcmp(parents[i], ".") == 0 ? getcwd(here, sizeof here) : parents[i];
        if (parent == NULL)
            continue;
        snprintf(scratch, sizeof scratch, "%s/dcache-test-XXXXXX", parent);
        if (mkdtemp(scratch) == NULL)
            scratch[0] = '\0';
    }
    MPI_Bcast(scratch, (int)sizeof scratch, MPI_CHAR, 0, MPI_COMM_WORLD);
    CHECK(scratch[0] != '\0');
    snprintf(stores, sizeof stores, "%s/memory", scratch);
    snprintf(objects, sizeof objects, "%s/objects", scratch);
}

/* Can a process read the memory of another one that is not its child, as ranks would? Not in every container. */
static bool siblings_can_read(void)
{
    static volatile int word = 0;
    int answer = 1;

    pid_t holder = fork();
    if (holder == 0) {
        pause();
        _exit(0);
    }
    pid_t reader = fork();
    if (reader == 0) {
        int copy = 0;
        struct iovec here = {&copy, sizeof copy}, there = {(void *)&word, sizeof word};
        _exit(process_vm_readv(holder, &here, 1, &there, 1, 0) == (ssize_t)sizeof copy ? 0 : 1);
    }
    if (reader > 0)
        (void)waitpid(reader, &answer, 0);
    if (holder > 0) {
        (void)kill(holder, SIGKILL);
        (void)waitpid(holder, NULL, 0);
    }
    return holder > 0 && reader > 0 && WIFEXITED(answer) && WEXITSTATUS(answer) == 0;
}

/* With cma a put needs nothing of its target, as with InfiniBand; else Open MPI emulates it, and the target has to be
 * inside MPI. Before MPI_Init(). */
static void choose_copying(void)
{
    setenv("OMPI_MCA_btl_vader_single_copy_mechanism", siblings_can_read() ? "cma" : "emulated", 1);
}

void support_start(int *argc, char ***argv, int thread_level)
{
    int provided = 0;

    alarm(HANG_S);
    choose_copying();
    MPI_Init_thread(argc, argv, thread_level, &provided);
    MPI_Comm_rank(MPI_COMM_WORLD, &support_rank);
    MPI_Comm_size(MPI_COMM_WORLD, &support_size);
    make_scratch();
    support_option("MEMORY_STORE", stores);
    support_option("STORE", "none");
    support_option("LOG", "error");
    support_option("JOB", "test");
}

int support_finish(void)
{
    MPI_Barrier(MPI_COMM_WORLD);
    if (support_rank == 0)
        support_remove_tree(scratch);
    MPI_Finalize();
    return 0;
}

const char *support_scratch(void)
{
    return scratch;
}

const char *support_stores(void)
{
    return stores;
}

const char *support_objects(void)
{
    return objects;
}

void support_use_objects(bool yes)
{
    char url[320];

    MPI_Barrier(MPI_COMM_WORLD);
    if (support_rank == 0)
        support_remove_tree(objects);
    MPI_Barrier(MPI_COMM_WORLD);
    snprintf(url, sizeof url, "file://%s", objects);
    support_option("STORE", yes ? url : "none");
}

void support_option(const char *name, const char *value)
{
    char variable[64];

    snprintf(variable, sizeof variable, "DCACHE_%s", name);
    if (value != NULL)
        setenv(variable, value, 1);
    else
        unsetenv(variable);
}

void support_option_number(const char *name, long value)
{
    char text[32];

    snprintf(text, sizeof text, "%ld", value);
    support_option(name, text);
}

static void fail(void)
{
    fflush(stderr);
    support_remove_tree(scratch);
    MPI_Abort(MPI_COMM_WORLD, 1);
    abort();
}

void support_check(bool good, const char *what, const char *file, int line)
{
    if (good)
        return;
    fprintf(stderr, "%s:%d: rank %d of %d: not true: %s; trying: %s\n", file, line, support_rank, support_size, what,
            trying);
    fail();
}

void support_check_status(const dcache_t *dc, dcache_status_t status, dcache_status_t wanted, const char *what,
                          const char *file, int line)
{
    if (status == wanted)
        return;
    fprintf(stderr, "%s:%d: rank %d of %d: %s is %d (%s), not %d (%s); trying: %s; error text: %s\n", file, line,
            support_rank, support_size, what, (int)status, dcache_strerror(status), (int)wanted,
            dcache_strerror(wanted), trying, dcache_error_text(dc));
    fail();
}

void support_check_same(dcache_status_t status, const char *text, const char *file, int line)
{
    char first[1024] = "";
    int first_status = (int)status;

    snprintf(first, sizeof first, "%s", text);
    MPI_Bcast(first, (int)sizeof first, MPI_CHAR, 0, MPI_COMM_WORLD);
    MPI_Bcast(&first_status, 1, MPI_INT, 0, MPI_COMM_WORLD);
    bool same = first_status == (int)status && strncmp(first, text, sizeof first - 1) == 0;
    if (!same)
        fprintf(stderr, "rank %d: status %d, text \"%s\"\nrank 0: status %d, text \"%s\"\n", support_rank, (int)status,
                text, first_status, first);
    support_check(same, "all ranks have the same status and text", file, line);
    MPI_Barrier(MPI_COMM_WORLD); /* nobody goes on while another is about to abort */
}

dcache_status_t support_open_and_listen(MPI_Comm comm, const char *config, dcache_t **dc, char *text, size_t room)
{
    char path[512];

    snprintf(path, sizeof path, "%s/stderr-%d", support_scratch(), support_rank);
    int file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), saved = dup(2);
    CHECK(file >= 0 && saved >= 0);
    fflush(stderr);
    dup2(file, 2);
    dcache_status_t status = dcache_open(comm, config, dc);
    dup2(saved, 2);
    close(saved);
    ssize_t bytes = pread(file, text, room - 1, 0);
    CHECK(bytes >= 0);
    text[bytes] = '\0';
    close(file);
    return status;
}

dcache_t *support_open(void)
{
    dcache_t *dc = NULL;

    CHECK_STATUS(dc, dcache_open(MPI_COMM_WORLD, NULL, &dc), DCACHE_OK);
    CHECK(dc != NULL);
    return dc;
}

void support_close(dcache_t **dc)
{
    CHECK_STATUS(NULL, dcache_close(dc), DCACHE_OK);
    CHECK(*dc == NULL);
    /* Closing does not wait for the others, and what a test looks at next may be another rank's doing: the first rank
     * of a node cleans up its store. */
    MPI_Barrier(MPI_COMM_WORLD);
}

void support_trying(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(trying, sizeof trying, format, arguments);
    va_end(arguments);
    if (support_rank == 0 && getenv("TEST_VERBOSE") != NULL)
        fprintf(stderr, "%s\n", trying);
}

uint64_t support_seed(void)
{
    const char *given = getenv("TEST_SEED");
    uint64_t seed = 0;

    if (support_rank == 0) {
        if (given != NULL)
            seed = strtoull(given, NULL, 0);
        else if (getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed)
            seed = 1;
        printf("TEST_SEED=%llu\n", (unsigned long long)seed);
        fflush(stdout);
    }
    MPI_Bcast(&seed, 1, MPI_UINT64_T, 0, MPI_COMM_WORLD);
    return seed;
}

/* splitmix64 */
uint64_t support_random(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u;

    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

uint64_t support_random_below(uint64_t *state, uint64_t limit)
{
    return support_random(state) % limit;
}
