/**
 * bench-checkpoint: see bench.h and ../README.md.
 *
 * Exit status: 0 measured; 1 something failed on the way; 2 it could not start.
 */
#include "bench.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statvfs.h>

enum { EXIT_CANNOT_START = 2 };

#define RANK_0 "rank 0: "

/* The library's options come from the environment of rank 0; some are the benchmark's to set. */
static dcache_status_t set_environment(struct bench *b)
{
    char number[32];

    if (b->options.node_size >= 0) {
        snprintf(number, sizeof number, "%lld", (long long)b->options.node_size);
        setenv("DCACHE_NODE_SIZE", number, 1);
    }
    setenv("DCACHE_NODE_SIZE", "1", 0);
    setenv("DCACHE_STORE", "none", 0);
    setenv("DCACHE_RESYNC", "behind", 0); /* the second copies after a restart are a row of their own */
    if (b->options.transport != NULL)
        setenv("DCACHE_TRANSPORT", b->options.transport, 1);
    setenv("DCACHE_JOB", BENCH_JOB, 1);
    unsetenv("DCACHE_COMPONENT");
    unsetenv("DCACHE_MEMORY_STORE"); /* set once the scratch directory has a name */
    dcache_status_t status = options_load(&b->diag, NULL, &b->library);
    if (status == DCACHE_OK && b->library.tier != TIER_MEMORY)
        status =
            diag_fail(&b->diag, DCACHE_ERR_OPTION, "the option tier is set: only the memory tier is measured here");
    unsetenv("DCACHE_SSD_STORE"); /* a restart would look there, too */
    return status;
}

static void set_memory_store(const struct bench *b)
{
    char root[OPTIONS_TEXT_MAX];

    scratch_store_root(b, root);
    setenv("DCACHE_MEMORY_STORE", root, 1);
}

/* Bare replicas go one node further, to the rank in the same place there. */
static void find_partners(struct bench *b)
{
    const struct world *w = &b->world;
    uint32_t size = (uint32_t)w->size, apart = w->first_of_node[1], place = 0;

    while (w->rank_by_node[place] != (uint32_t)w->rank)
        place++;
    b->partner = (int)w->rank_by_node[(place + apart) % size];
    b->guest = (int)w->rank_by_node[(place + size - apart % size) % size];
    b->lost_node = 0;
}

/* The application's memory, the floors' two files, and own copy and replica of each step that the library keeps. */
static dcache_status_t check_room(struct bench *b)
{
    struct statvfs tier;
    int ranks = 0;

    MPI_Comm_size(b->host_comm, &ranks);
    double files = (double)b->options.bytes * ranks * (2 + 2 * (double)b->library.slots);
    double memory = files + (double)b->options.bytes * ranks, have = (double)machine_memory_available();
    if (statvfs(b->options.tier, &tier) != 0)
        return diag_fail(&b->diag, DCACHE_ERR_OPTION, "--tier %s is no directory that can be used", b->options.tier);
    double room = (double)tier.f_bavail * (double)tier.f_frsize;
    if (files > room)
        return diag_fail(&b->diag, DCACHE_ERR_NO_SPACE,
                         "%s has room for %.2f GB, and %d ranks need %.2f GB there: take fewer ranks or --bytes",
                         b->options.tier, room / 1e9, ranks, files / 1e9);
    if (have > 0 && memory > have)
        return diag_fail(&b->diag, DCACHE_ERR_NO_SPACE,
                         "%.2f GB of memory can be had, and %d ranks need %.2f GB: take fewer ranks or --bytes",
                         have / 1e9, ranks, memory / 1e9);
    return DCACHE_OK;
}

/* Bytes that no file system and no copy can guess, different on each rank. */
static void fill_data(struct bench *b)
{
    uint64_t state = 88172645463325252u + (uint64_t)b->world.rank;

    for (int64_t i = 0; i < b->options.bytes; i++) {
        if (i % 8 == 0) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
        }
        b->data[i] = (unsigned char)(state >> (i % 8 * 8));
    }
}

static dcache_status_t make_room(struct bench *b)
{
    dcache_status_t status = DCACHE_OK;

    for (int f = 0; f < FIGURES; f++) {
        b->series[f].values = calloc((size_t)b->options.rounds, sizeof(double));
        if (b->series[f].values == NULL)
            status = diag_fail(&b->diag, DCACHE_ERR_NO_MEMORY, "out of memory for the times of %lld rounds",
                               (long long)b->options.rounds);
    }
    void *data = mmap(NULL, (size_t)b->options.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data != MAP_FAILED)
        b->data = data;
    else
        status = diag_fail(&b->diag, DCACHE_ERR_NO_MEMORY, "out of memory for %lld bytes to checkpoint",
                           (long long)b->options.bytes);
    status = bench_agree(b, status);
    if (status == DCACHE_OK)
        fill_data(b);
    return status;
}

/* Rank 0's options are everybody's. */
static dcache_status_t share_options(struct bench *b)
{
    dcache_status_t status = bench_agree(b, b->world.rank == 0 ? set_environment(b) : DCACHE_OK);

    if (status == DCACHE_OK)
        status = world_check(&b->diag, MPI_Bcast(&b->library, (int)sizeof b->library, MPI_BYTE, 0, b->world.comm),
                             "MPI_Bcast");
    return bench_agree(b, status);
}

/* Better to know now than after an hour. */
static dcache_status_t check_output(struct bench *b)
{
    const char *path = b->options.json_path;
    FILE *file = path != NULL && b->world.rank == 0 ? fopen(path, "ae") : NULL;

    if (path == NULL || b->world.rank != 0)
        return DCACHE_OK;
    if (file == NULL)
        return diag_fail(&b->diag, DCACHE_ERR_OPTION, "--json %s: cannot be written: %s", path, strerror(errno));
    (void)fclose(file);
    return DCACHE_OK;
}

static dcache_status_t start(struct bench *b)
{
    dcache_status_t status = bench_agree(b, check_output(b));

    if (status == DCACHE_OK)
        status = share_options(b);

    if (status == DCACHE_OK)
        status = bench_agree(b, world_find_nodes(&b->diag, &b->world, b->library.node_size));
    if (status != DCACHE_OK)
        return status;
    find_partners(b);
    int code = MPI_Comm_split_type(b->world.comm, MPI_COMM_TYPE_SHARED, b->world.rank, MPI_INFO_NULL, &b->host_comm);
    status = bench_agree(b, world_check(&b->diag, code, "MPI_Comm_split_type"));
    if (status != DCACHE_OK)
        return status;
    MPI_Comm_rank(b->host_comm, &b->host_rank);
    status = scratch_create(b);
    if (status == DCACHE_OK)
        status = bench_agree(b, check_room(b)); /* now that what killed runs left behind is gone */
    if (status == DCACHE_OK)
        status = make_room(b);
    if (status == DCACHE_OK)
        set_memory_store(b);
    return status;
}

/* Of each the rank that has most. */
static void share_overhead(struct overhead *o, MPI_Comm comm)
{
    double values[] = {o->steps_MiB, o->restart_MiB, o->parts_MiB.anonymous, o->parts_MiB.files, o->parts_MiB.shared};
    int exact = o->exact;

    MPI_Allreduce(MPI_IN_PLACE, values, 5, MPI_DOUBLE, MPI_MAX, comm);
    MPI_Allreduce(MPI_IN_PLACE, &exact, 1, MPI_INT, MPI_MIN, comm);
    *o = (struct overhead){values[0], {values[2], values[3], values[4]}, values[1], exact != 0};
}

static dcache_status_t measure(struct bench *b)
{
    dcache_status_t status = floors_create(b);

    if (status == DCACHE_OK)
        status = stencil_create(b);
    if (status == DCACHE_OK)
        status = steps_measure(b);
    if (status == DCACHE_OK)
        status = restarts_measure(b);
    if (status != DCACHE_OK)
        return status;
    share_overhead(&b->overhead, b->world.comm);
    return DCACHE_OK;
}

static dcache_status_t tell(struct bench *b)
{
    dcache_status_t status = DCACHE_OK;

    if (b->world.rank == 0) {
        if (!b->options.json || b->options.json_path != NULL)
            report_print(b, stdout);
        if (b->options.json)
            status = json_write(b);
    }
    return bench_agree(b, status);
}

static void finish(struct bench *b)
{
    stencil_free(b);
    floors_free(b);
    scratch_remove(b);
    if (b->data != NULL)
        (void)munmap(b->data, (size_t)b->options.bytes);
    for (int f = 0; f < FIGURES; f++)
        free(b->series[f].values);
    free(b->firsts.steps_s);
    if (b->host_comm != MPI_COMM_NULL)
        MPI_Comm_free(&b->host_comm);
}

static int run(struct bench *b, dcache_status_t parsed)
{
    dcache_status_t status = bench_agree(b, parsed);
    int code = EXIT_CANNOT_START;

    if (status == DCACHE_OK && b->options.help) {
        if (b->world.rank == 0)
            options_print_usage(stdout);
        return EXIT_SUCCESS;
    }
    if (status == DCACHE_OK)
        status = start(b);
    if (status == DCACHE_OK) {
        code = EXIT_FAILURE;
        status = measure(b);
        if (status == DCACHE_OK)
            status = tell(b);
    }
    if (status != DCACHE_OK &&
        b->world.rank == 0) /* what is asked for is the same on all ranks: no need to say whose */
        fprintf(stderr, "bench-checkpoint: %s\n",
                b->diag.text + (code == EXIT_CANNOT_START && strncmp(b->diag.text, RANK_0, strlen(RANK_0)) == 0
                                    ? strlen(RANK_0)
                                    : 0));
    finish(b);
    return status == DCACHE_OK ? EXIT_SUCCESS : code;
}

int main(int argc, char **argv)
{
    struct bench b;
    int level = options_given(argc, argv, "--mpi-threads") ? MPI_THREAD_MULTIPLE : MPI_THREAD_SINGLE;
    int code = EXIT_CANNOT_START;

    memset(&b, 0, sizeof b);
    b.host_comm = MPI_COMM_NULL;
    b.window = MPI_WIN_NULL;
    b.scratch_lock = -1;
    b.own_fd = -1;
    MPI_Init_thread(&argc, &argv, level, &b.mpi_threads);
    diag_init(&b.diag, BENCH_JOB, -1, DIAG_WARNING);
    if (world_open(&b.diag, MPI_COMM_WORLD, &b.world) == DCACHE_OK) {
        b.diag.rank = b.world.rank;
        code = run(&b, options_parse(&b.diag, argc, argv, &b.options));
    } else {
        fprintf(stderr, "bench-checkpoint: %s\n", b.diag.text);
    }
    world_close(&b.world);
    MPI_Finalize();
    return code;
}
