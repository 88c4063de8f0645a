/* The order of things: saves, then loads, each behind a pause and a barrier. */
#include "mlperf.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define GIB 1073741824.0

double mlperf_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double unix_time(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

dcache_status_t mlperf_agree(struct mlperf *m, dcache_status_t local)
{
    return agree(&m->world, &m->diag, NULL, local);
}

uint64_t mlperf_file_offset(const struct mlperf *m, int index)
{
    uint64_t offset = 0;

    for (int i = 0; i < index; i++)
        offset += m->files[i].bytes;
    return offset;
}

void mlperf_file_path(char path[TEXT_MAX], const char *directory, int64_t step, const char *name)
{
    snprintf(path, TEXT_MAX, "%.900s/global_epoch1_step%lld%s%.63s", directory, (long long)step,
             name != NULL ? "/" : "", name != NULL ? name : "");
}

int mlperf_save_mark(const struct mlperf *m)
{
    return m->options.way->has_levels ? (int)(m->options.level - DCACHE_STAGED) : 0;
}

double mlperf_size_GiB(const struct mlperf *m)
{
    return (double)model_total(m->options.model, m->world.size, (uint64_t)m->options.scale) / GIB;
}

void mlperf_pause(double seconds)
{
    struct timespec left = {(time_t)seconds, (long)((seconds - floor(seconds)) * 1e9)};

    while (nanosleep(&left, &left) != 0)
        ;
}

/* A new operation; the array has room for all that the options allow. */
static struct operation *add_operation(struct mlperf *m, bool is_load, enum source source, int number)
{
    struct operation *operation = &m->operations[m->operation_count++];

    *operation =
        (struct operation){.is_load = is_load, .source = source, .number = number, .step = number, .resident = -1};
    return operation;
}

/* Behind the barrier: when it begins, and what is not measured yet. */
static double begin(struct mlperf *m, struct times *times)
{
    for (int mark = 0; mark < MARKS; mark++)
        times->marks[mark] = -1;
    MPI_Barrier(m->world.comm);
    times->start = unix_time();
    return mlperf_now();
}

/* All ranks' times to rank 0. */
static dcache_status_t gather(struct mlperf *m, struct operation *operation, struct times *times)
{
    const int doubles = (int)(sizeof *times / sizeof(double));
    dcache_status_t status = DCACHE_OK;

    if (m->world.rank == 0)
        operation->times = malloc((size_t)m->world.size * sizeof *operation->times);
    if (m->world.rank == 0 && operation->times == NULL)
        status = diag_fail(&m->diag, DCACHE_ERR_NO_MEMORY, "out of memory for the times of %d ranks", m->world.size);
    status = mlperf_agree(m, status);
    if (status == DCACHE_OK)
        status = world_check(
            &m->diag, MPI_Gather(times, doubles, MPI_DOUBLE, operation->times, doubles, MPI_DOUBLE, 0, m->world.comm),
            "MPI_Gather");
    return mlperf_agree(m, status);
}

static dcache_status_t save(struct mlperf *m, int number)
{
    struct operation *operation = add_operation(m, false, SOURCE_OWN, number);
    struct times times;

    data_fill(m->data, m->bytes, m->world.rank, number, m->options.compressible);
    mlperf_pause(m->options.pause_s);
    double start = begin(m, &times);
    dcache_status_t status = m->options.way->save(m, number, start, &times);
    return status == DCACHE_OK ? gather(m, operation, &times) : status;
}

dcache_status_t mlperf_compare(struct mlperf *m, int64_t step)
{
    uint64_t at = data_first_difference(m->data, m->bytes, m->world.rank, step, m->options.compressible);

    if (at == m->bytes)
        return DCACHE_OK;
    return diag_fail(&m->diag, DCACHE_ERR_CORRUPT, "checkpoint %lld came back with other bytes: first at %llu of %llu",
                     (long long)step, (unsigned long long)at, (unsigned long long)m->bytes);
}

static dcache_status_t load(struct mlperf *m, enum source source, int number)
{
    struct operation *operation = add_operation(m, true, source, number);
    struct times times;

    operation->step = 1 + (number - 1) % m->options.writes;
    memset(m->data, 0x5a, (size_t)m->bytes);
    dcache_status_t status = m->options.way->prepare_load(m, operation);
    if (status != DCACHE_OK)
        return status;
    mlperf_pause(m->options.pause_s);
    double start = begin(m, &times);
    status = m->options.way->load(m, operation, start, &times);
    if (status != DCACHE_OK)
        return status;
    status = mlperf_agree(m, mlperf_compare(m, operation->step));
    return status == DCACHE_OK ? gather(m, operation, &times) : status;
}

/* One phase with its traffic. */
static dcache_status_t saves(struct mlperf *m)
{
    dcache_status_t status = traffic_begin(m);

    for (int number = 1; number <= m->options.writes && status == DCACHE_OK; number++)
        status = save(m, number);
    return status == DCACHE_OK ? traffic_end(m, "save") : status;
}

static dcache_status_t loads(struct mlperf *m, enum source source)
{
    char phase[32];
    dcache_status_t status = traffic_begin(m);

    snprintf(phase, sizeof phase, "load_%s", source_name(source));
    for (int number = 1; number <= m->options.reads && status == DCACHE_OK; number++)
        status = load(m, source, number);
    return status == DCACHE_OK ? traffic_end(m, phase) : status;
}

dcache_status_t mlperf_run(struct mlperf *m)
{
    m->started = unix_time();
    dcache_status_t status = saves(m);
    for (int i = 0; i < m->options.source_count && m->options.reads > 0 && status == DCACHE_OK; i++)
        status = loads(m, m->options.sources[i]);
    m->ended = unix_time();
    return status;
}

/* --- means ------------------------------------------------------------------------------------------------------- */

static double time_of(const struct mlperf *m, const struct operation *operation, int mark, bool slowest)
{
    double time = operation->times[0].marks[mark];

    for (int rank = 1; rank < m->world.size && slowest; rank++)
        time = fmax(time, operation->times[rank].marks[mark]);
    return time;
}

/* Two passes: the deviations are small beside the values. */
static void mean_and_stdev(const double *values, int count, double *mean, double *stdev)
{
    double sum = 0, squares = 0;

    for (int i = 0; i < count; i++)
        sum += values[i];
    *mean = sum / count;
    for (int i = 0; i < count; i++)
        squares += (values[i] - *mean) * (values[i] - *mean);
    *stdev = sqrt(squares / count);
}

struct metric metric_of(const struct mlperf *m, bool is_load, enum source source, int mark, bool slowest)
{
    double seconds[OPERATIONS_MAX], rates[OPERATIONS_MAX], size = mlperf_size_GiB(m);
    struct metric metric = {0};

    for (int i = 0; i < m->operation_count; i++) {
        const struct operation *operation = &m->operations[i];
        if (operation->is_load != is_load || (is_load && operation->source != source))
            continue;
        double time = time_of(m, operation, mark, slowest);
        if (time < 0)
            continue;
        seconds[metric.count] = time;
        rates[metric.count++] = size / time;
    }
    if (metric.count > 0) {
        mean_and_stdev(seconds, metric.count, &metric.seconds_mean, &metric.seconds_stdev);
        mean_and_stdev(rates, metric.count, &metric.rate_mean, &metric.rate_stdev);
    }
    return metric;
}
