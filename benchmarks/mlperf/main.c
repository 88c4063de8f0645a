/**
 * mlperf-checkpoint: see mlperf.h and README.md.
 *
 * Exit status: 0 done; 1 something failed on the way; 2 it could not start.
 */
#include "mlperf.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { EXIT_CANNOT_START = 2 };

#define RANK_0 "rank 0: "

/* The library's options come from the environment of rank 0; some are the program's to set. */
static dcache_status_t set_environment(struct mlperf *m)
{
    char job[64];

    snprintf(job, sizeof job, "mlperf-%s-%s", m->options.model->name, m->stamp);
    setenv("DCACHE_JOB", m->options.job != NULL ? m->options.job : job, 1);
    unsetenv("DCACHE_COMPONENT");
    setenv("DCACHE_STORE", "none", 0);
    dcache_status_t status = options_load(&m->diag, NULL, &m->library);
    return status == DCACHE_OK && m->options.way->check != NULL ? m->options.way->check(m) : status;
}

/* Rank 0's options and clock are everybody's. */
static dcache_status_t share_options(struct mlperf *m)
{
    time_t now = time(NULL);
    struct tm utc;

    strftime(m->stamp, sizeof m->stamp, "%Y%m%d_%H%M%S", gmtime_r(&now, &utc));
    dcache_status_t status = mlperf_agree(m, m->world.rank == 0 ? set_environment(m) : DCACHE_OK);
    if (status == DCACHE_OK)
        status =
            world_check(&m->diag, MPI_Bcast(m->stamp, (int)sizeof m->stamp, MPI_CHAR, 0, m->world.comm), "MPI_Bcast");
    if (status == DCACHE_OK)
        status = world_check(&m->diag, MPI_Bcast(&m->library, (int)sizeof m->library, MPI_BYTE, 0, m->world.comm),
                             "MPI_Bcast");
    return mlperf_agree(m, status);
}

static dcache_status_t find_hosts(struct mlperf *m)
{
    dcache_status_t status = mlperf_agree(m, world_find_nodes(&m->diag, &m->world, m->library.node_size));

    if (status != DCACHE_OK)
        return status;
    int code = MPI_Comm_split_type(m->world.comm, MPI_COMM_TYPE_SHARED, m->world.rank, MPI_INFO_NULL, &m->host_comm);
    status = mlperf_agree(m, world_check(&m->diag, code, "MPI_Comm_split_type"));
    if (status == DCACHE_OK)
        MPI_Comm_rank(m->host_comm, &m->host_rank);
    return status;
}

static dcache_status_t check_processes(struct mlperf *m)
{
    int wanted = mlperf_processes(&m->options);

    if (m->world.size != wanted)
        return diag_fail(&m->diag, DCACHE_ERR_OPTION, "%s%s has %d processes, and %d were started: use mpirun -n %d%s",
                         m->options.model->name, m->options.subset ? " --subset 8" : "", wanted, m->world.size, wanted,
                         m->options.subset || wanted == 8 ? "" : ", or --subset 8 and 8 processes");
    return DCACHE_OK;
}

/* Memory that can still be had on this host, in bytes; 0 = unknown. */
static double available_bytes(void)
{
    char line[256];
    double kilobytes = 0;
    FILE *file = fopen("/proc/meminfo", "re");

    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        (void)sscanf(line, "MemAvailable: %lf", &kilobytes);
    if (file != NULL)
        (void)fclose(file);
    return kilobytes * 1024;
}

/* The files' contents of all ranks of this host, and through dcache as much again for each slot and its replica. */
static dcache_status_t check_memory(struct mlperf *m)
{
    bool in_memory = m->options.way == &way_dcache && m->library.tier != TIER_SSD;
    double copies = 1 + (in_memory ? 2 * (double)m->library.slots : 0), mine = (double)m->bytes, need = 0;
    double have = available_bytes();

    MPI_Allreduce(&mine, &need, 1, MPI_DOUBLE, MPI_SUM, m->host_comm);
    if (have > 0 && need * copies > have)
        return diag_fail(&m->diag, DCACHE_ERR_NO_MEMORY,
                         "this host has %.2f GiB of memory left, and its ranks need %.2f GiB (their files %.0f times): "
                         "take more hosts, --scale or --subset 8",
                         have / 1073741824.0, need * copies / 1073741824.0, copies);
    return DCACHE_OK;
}

static dcache_status_t make_data(struct mlperf *m)
{
    m->file_count = model_files(m->options.model, m->world.rank, (uint64_t)m->options.scale, m->files);
    m->bytes = model_bytes(m->options.model, m->world.rank, (uint64_t)m->options.scale);
    dcache_status_t status = mlperf_agree(m, check_memory(m));
    if (status != DCACHE_OK)
        return status;
    void *data = mmap(NULL, (size_t)m->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data != MAP_FAILED)
        m->data = data;
    else
        status = diag_fail(&m->diag, DCACHE_ERR_NO_MEMORY, "out of memory for %llu bytes to checkpoint",
                           (unsigned long long)m->bytes);
    m->traffic_phases = json_object();
    return mlperf_agree(m, status);
}

static dcache_status_t start(struct mlperf *m)
{
    dcache_status_t status = mlperf_agree(m, check_processes(m));

    if (status == DCACHE_OK)
        status = share_options(m);
    if (status == DCACHE_OK)
        status = find_hosts(m);
    if (status == DCACHE_OK)
        status = make_data(m);
    if (status == DCACHE_OK && m->options.job == NULL)
        status = results_create(m);
    return status == DCACHE_OK ? m->options.way->open(m) : status;
}

static dcache_status_t measure(struct mlperf *m)
{
    if (m->options.job != NULL)
        return mlperf_continue(m);
    dcache_status_t status = mlperf_run(m);
    if (status == DCACHE_OK)
        status = results_write(m);
    if (status == DCACHE_OK && m->world.rank == 0)
        report_print(m, stdout);
    return status;
}

static void finish(struct mlperf *m)
{
    for (int i = 0; i < m->operation_count; i++)
        free(m->operations[i].times);
    traffic_free(m);
    if (m->leaf[0] != '\0')
        (void)rmdir(m->leaf); /* of a run that got no results it is empty */
    if (m->data != NULL)
        (void)munmap(m->data, (size_t)m->bytes);
    if (m->host_comm != MPI_COMM_NULL)
        MPI_Comm_free(&m->host_comm);
}

/* What is asked for is the same on all ranks: no need to say whose text it is. */
static void complain(const struct mlperf *m, bool started)
{
    const char *text = m->diag.text;

    if (m->world.rank == 0)
        fprintf(stderr, PROGRAM ": %s\n",
                text + (!started && strncmp(text, RANK_0, strlen(RANK_0)) == 0 ? strlen(RANK_0) : 0));
}

static int run(struct mlperf *m, dcache_status_t parsed)
{
    dcache_status_t status = mlperf_agree(m, parsed);
    bool started = false;

    if (status == DCACHE_OK)
        status = start(m);
    if (status == DCACHE_OK) {
        started = true;
        status = measure(m);
    }
    if (status != DCACHE_OK)
        complain(m, started);
    dcache_status_t closed = m->options.way->close(m, status);
    if (status == DCACHE_OK && closed != DCACHE_OK)
        complain(m, started);
    finish(m);
    return closed == DCACHE_OK ? EXIT_SUCCESS : started ? EXIT_FAILURE : EXIT_CANNOT_START;
}

/* What needs no MPI. */
static bool answer_alone(dcache_status_t parsed, const struct mlperf_options *options)
{
    if (parsed != DCACHE_OK || !(options->help || options->list))
        return false;
    if (options->help)
        mlperf_options_print_usage(stdout);
    else
        mlperf_print_files(stdout, options);
    return true;
}

int main(int argc, char **argv)
{
    static struct mlperf m;
    int code = EXIT_CANNOT_START, threads;

    m.host_comm = MPI_COMM_NULL;
    diag_init(&m.diag, PROGRAM, -1, DIAG_WARNING);
    dcache_status_t parsed = mlperf_options_parse(&m.diag, argc, argv, &m.options);
    if (answer_alone(parsed, &m.options))
        return EXIT_SUCCESS;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &threads);
    if (world_open(&m.diag, MPI_COMM_WORLD, &m.world) == DCACHE_OK) {
        m.diag.rank = m.world.rank;
        code = run(&m, parsed);
    } else {
        fprintf(stderr, PROGRAM ": %s\n", m.diag.text);
    }
    world_close(&m.world);
    MPI_Finalize();
    return code;
}
