/* The results, in MLPerf Storage's layout: summary.json and one RANK_per_epoch_stats.json for each rank; and beside
 * them ranks.json, with every time of every rank, from which all else can be computed again. Rank 0 writes all of them.
 */
#include "mlperf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#define GIB 1073741824.0

extern char **environ;

/* "mkdir -p". */
static dcache_status_t make_directories(struct mlperf *m, char *path)
{
    for (char *at = path + 1; at != NULL; at = at != NULL && *at != '\0' ? at + 1 : NULL) {
        at = strchr(at, '/');
        if (at != NULL)
            *at = '\0';
        if (mkdir(path, S_IRWXU | S_IRWXG | S_IROTH | S_IXOTH) != 0 && errno != EEXIST)
            return diag_fail_errno(&m->diag, errno, "--results: cannot make the directory %s", path);
        if (at == NULL)
            break;
        *at = '/';
    }
    return DCACHE_OK;
}

dcache_status_t results_create(struct mlperf *m)
{
    dcache_status_t status = DCACHE_OK;

    if (m->world.rank == 0 && snprintf(m->leaf, sizeof m->leaf, "%s/checkpointing/%s", m->options.results,
                                       m->options.model->name) > (int)sizeof m->leaf - 100)
        status = diag_fail(&m->diag, DCACHE_ERR_OPTION, "--results: the path is too long");
    if (m->world.rank == 0 && status == DCACHE_OK)
        status = make_directories(m, m->leaf);
    if (m->world.rank == 0 && status == DCACHE_OK) {
        snprintf(m->leaf + strlen(m->leaf), 64, "/%s", m->stamp);
        if (mkdir(m->leaf, S_IRWXU | S_IRWXG | S_IROTH | S_IXOTH) != 0)
            status = diag_fail_errno(&m->diag, errno, "--results: cannot make the directory %s", m->leaf);
    }
    return mlperf_agree(m, status);
}

static dcache_status_t write_document(struct mlperf *m, const char *name, json_t *document)
{
    char path[TEXT_MAX + 64];
    dcache_status_t status = DCACHE_OK;

    snprintf(path, sizeof path, "%s/%s", m->leaf, name);
    if (document == NULL)
        return diag_fail(&m->diag, DCACHE_ERR_NO_MEMORY, "out of memory for %s", path);
    FILE *file = fopen(path, "we");
    if (file == NULL)
        status = diag_fail_errno(&m->diag, errno, "cannot write %s", path);
    else if (json_dumpf(document, file, JSON_INDENT(1)) != 0 || fputc('\n', file) == EOF)
        status = diag_fail_errno(&m->diag, errno, "cannot write %s", path);
    if (file != NULL && fclose(file) != 0 && status == DCACHE_OK)
        status = diag_fail_errno(&m->diag, errno, "cannot write %s", path);
    json_decref(document);
    return status;
}

static json_t *time_text(double seconds)
{
    char date[32], text[64];
    struct tm utc;
    time_t whole = (time_t)seconds;

    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", gmtime_r(&whole, &utc));
    snprintf(text, sizeof text, "%s.%06d", date, (int)((seconds - (double)whole) * 1e6));
    return json_string(text);
}

static int mark_of(const struct mlperf *m, const struct operation *operation)
{
    return operation->is_load ? m->options.way->load_mark : mlperf_save_mark(m);
}

/* Which loads are the ones of the results: those from the first source. */
static bool is_reported(const struct mlperf *m, const struct operation *operation)
{
    return !operation->is_load || operation->source == m->options.sources[0];
}

static json_t *describe_span(double start, double seconds, double size_GiB)
{
    return json_pack("{s:o, s:o, s:f, s:f}", "start", time_text(start), "end", time_text(start + seconds), "duration",
                     seconds, "throughput", size_GiB / seconds);
}

static dcache_status_t write_rank(struct mlperf *m, int rank)
{
    json_t *epoch = json_pack("{s:o, s:o, s:f}", "start", time_text(m->started), "end", time_text(m->ended), "duration",
                              m->ended - m->started);
    char key[64];

    for (int i = 0; i < m->operation_count; i++) {
        const struct operation *operation = &m->operations[i];
        const struct times *times = &operation->times[rank];
        if (!is_reported(m, operation))
            continue;
        snprintf(key, sizeof key, "%s_ckpt%d", operation->is_load ? "load" : "save", operation->number);
        json_object_set_new(epoch, key,
                            describe_span(times->start, times->marks[mark_of(m, operation)], mlperf_size_GiB(m)));
    }
    snprintf(key, sizeof key, "%d_per_epoch_stats.json", rank);
    return write_document(m, key, json_pack("{s:o}", "1", epoch));
}

/* --- ranks.json -------------------------------------------------------------------------------------------------- */

static json_t *describe_operation(const struct mlperf *m, const struct operation *operation)
{
    const char *const *names = operation->is_load ? m->options.way->load_marks : m->options.way->save_marks;
    json_t *start = json_array(), *seconds = json_object();

    for (int rank = 0; rank < m->world.size; rank++)
        json_array_append_new(start, json_real(operation->times[rank].start));
    for (int mark = 0; mark < MARKS && names[mark] != NULL; mark++) {
        json_t *list = json_array();
        for (int rank = 0; rank < m->world.size; rank++) {
            double time = operation->times[rank].marks[mark];
            json_array_append_new(list, time >= 0 ? json_real(time) : json_null());
        }
        json_object_set_new(seconds, names[mark], list);
    }
    return json_pack("{s:s, s:o, s:i, s:I, s:o, s:o, s:o}", "kind", operation->is_load ? "load" : "save", "source",
                     operation->is_load ? json_string(source_name(operation->source)) : json_null(), "number",
                     operation->number, "step", (json_int_t)operation->step, "resident",
                     operation->resident >= 0 ? json_real(operation->resident) : json_null(), "start", start, "seconds",
                     seconds);
}

static void set_work(const struct mlperf *m, json_t *root)
{
    json_object_set_new(root, "note", json_string(NOTICE));
    json_object_set_new(root, "model", json_string(m->options.model->name));
    json_object_set_new(root, "subset", json_boolean(m->options.subset));
    json_object_set_new(root, "scale", json_integer(m->options.scale));
    json_object_set_new(root, "way", json_string(m->options.way->name));
    json_object_set_new(root, "save_mark", json_string(m->options.way->save_marks[mlperf_save_mark(m)]));
    json_object_set_new(root, "load_mark", json_string(m->options.way->load_marks[m->options.way->load_mark]));
    json_object_set_new(root, "load_source", json_string(source_name(m->options.sources[0])));
}

static dcache_status_t write_times(struct mlperf *m)
{
    json_t *root = json_pack("{s:s, s:i, s:s}", "format", PROGRAM, "version", 1, "dcache", DCACHE_VERSION);
    json_t *bytes = json_array(), *operations = json_array();

    set_work(m, root);
    for (int rank = 0; rank < m->world.size; rank++)
        json_array_append_new(
            bytes, json_integer((json_int_t)model_bytes(m->options.model, rank, (uint64_t)m->options.scale)));
    for (int i = 0; i < m->operation_count; i++)
        json_array_append_new(operations, describe_operation(m, &m->operations[i]));
    json_object_set_new(root, "bytes_per_rank", bytes);
    json_object_set_new(root, "operations", operations);
    return write_document(m, "ranks.json", root);
}

/* --- summary.json ------------------------------------------------------------------------------------------------ */

static void set_metric(json_t *metric, const char *kind, const struct metric *values)
{
    const double numbers[] = {values->rate_mean, values->rate_stdev, values->seconds_mean, values->seconds_stdev};
    static const char *const names[] = {"io_mean_GB_per_second", "io_stdev_GB_per_second", "duration_mean_seconds",
                                        "duration_stdev_seconds"};
    char key[96];

    for (int i = 0; i < 4 && values->count > 0; i++) {
        snprintf(key, sizeof key, "%s_checkpoint_%s", kind, names[i]);
        json_object_set_new(metric, key, json_real(numbers[i]));
    }
}

static json_t *describe_metrics(const struct mlperf *m)
{
    json_t *metric = json_pack("{s:f}", "checkpoint_size_GB", mlperf_size_GiB(m));
    struct metric save = metric_of(m, false, SOURCE_OWN, mlperf_save_mark(m), false);
    struct metric load = metric_of(m, true, m->options.sources[0], m->options.way->load_mark, false);

    set_metric(metric, "save", &save);
    set_metric(metric, "load", &load);
    return metric;
}

static json_t *describe_metric(const struct metric *values)
{
    return json_pack("{s:i, s:f, s:f, s:f, s:f}", "count", values->count, "GiB_per_second_mean", values->rate_mean,
                     "GiB_per_second_stdev", values->rate_stdev, "seconds_mean", values->seconds_mean, "seconds_stdev",
                     values->seconds_stdev);
}

/* Each mark of the saves, or of the loads from one source: of rank 0, and of the slowest rank. */
static json_t *describe_marks(const struct mlperf *m, bool is_load, enum source source)
{
    const char *const *names = is_load ? m->options.way->load_marks : m->options.way->save_marks;
    json_t *marks = json_object();

    for (int mark = 0; mark < MARKS && names[mark] != NULL; mark++) {
        struct metric first = metric_of(m, is_load, source, mark, false);
        struct metric slowest = metric_of(m, is_load, source, mark, true);
        if (first.count > 0)
            json_object_set_new(
                marks, names[mark],
                json_pack("{s:o, s:o}", "rank_0", describe_metric(&first), "slowest_rank", describe_metric(&slowest)));
    }
    return marks;
}

/* What the library was told: the variables that are its options. */
static json_t *describe_environment(void)
{
    json_t *all = json_object();

    for (char **entry = environ; *entry != NULL; entry++) {
        char name[64];
        size_t length = strcspn(*entry, "=");
        if (strncmp(*entry, "DCACHE_", 7) != 0 || length >= sizeof name || (*entry)[length] == '\0')
            continue;
        snprintf(name, sizeof name, "%.*s", (int)length, *entry);
        json_object_set_new(all, name, json_string(*entry + length + 1));
    }
    return all;
}

static void describe_cpu(char *text, size_t room)
{
    char line[512];
    FILE *file = fopen("/proc/cpuinfo", "re");

    snprintf(text, room, "unknown");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        const char *colon = strchr(line, ':');
        if (colon == NULL || strncmp(line, "model name", 10) != 0)
            continue;
        snprintf(text, room, "%.*s", (int)strcspn(colon + 2, "\n"), colon + 2);
        break;
    }
    if (file != NULL)
        (void)fclose(file);
}

static json_t *describe_machine(const struct mlperf *m)
{
    char cpu[128], mpi[MPI_MAX_LIBRARY_VERSION_STRING] = "";
    struct utsname system;
    double load = -1;
    int length = 0;

    describe_cpu(cpu, sizeof cpu);
    MPI_Get_library_version(mpi, &length);
    mpi[strcspn(mpi, ",\n")] = '\0';
    if (uname(&system) != 0)
        memset(&system, 0, sizeof system);
    if (getloadavg(&load, 1) != 1)
        load = -1;
    return json_pack("{s:s, s:s, s:s, s:i, s:i, s:f}", "cpu", cpu, "kernel", system.release, "mpi", mpi, "hosts",
                     (int)m->world.host_count, "nodes", (int)m->world.node_count, "load_1min", load);
}

/* Everything that MLPerf Storage has no key for. */
static json_t *describe_beyond(const struct mlperf *m)
{
    json_t *root = json_object(), *loads = json_object();

    set_work(m, root);
    for (int i = 0; i < m->options.source_count && m->options.reads > 0; i++)
        json_object_set_new(loads, source_name(m->options.sources[i]), describe_marks(m, true, m->options.sources[i]));
    json_object_set_new(root, "save", describe_marks(m, false, SOURCE_OWN));
    json_object_set_new(root, "load", loads);
    json_object_set_new(root, "pause_seconds", json_real(m->options.pause_s));
    json_object_set_new(root, "compressible", json_boolean(m->options.compressible));
    json_object_set_new(root, "caches", json_string(m->caches));
    json_object_set(root, "bytes_over_interfaces", m->traffic_phases);
    json_object_set_new(root, "options", describe_environment());
    json_object_set_new(root, "machine", describe_machine(m));
    json_object_set_new(root, "dcache", json_string(DCACHE_VERSION));
    return root;
}

struct host {
    double memory_GiB, cpus; /**< 0: not the first rank of its host */
};

/* Collective; the list is on rank 0 and the caller's. */
static dcache_status_t gather_hosts(struct mlperf *m, struct host **hosts)
{
    struct host mine = {0, 0};
    dcache_status_t status = DCACHE_OK;

    if (m->host_rank == 0)
        mine = (struct host){(double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE) / GIB,
                             (double)sysconf(_SC_NPROCESSORS_ONLN)};
    *hosts = m->world.rank == 0 ? calloc((size_t)m->world.size, sizeof **hosts) : NULL;
    if (m->world.rank == 0 && *hosts == NULL)
        status = diag_fail(&m->diag, DCACHE_ERR_NO_MEMORY, "out of memory for %d hosts", m->world.size);
    status = mlperf_agree(m, status);
    if (status == DCACHE_OK)
        MPI_Gather(&mine, 2, MPI_DOUBLE, *hosts, 2, MPI_DOUBLE, 0, m->world.comm);
    return status;
}

static dcache_status_t write_summary(struct mlperf *m, const struct host *hosts)
{
    char host[256] = "";
    json_t *memory = json_array(), *cpus = json_array();

    (void)gethostname(host, sizeof host - 1);
    for (int rank = 0; rank < m->world.size; rank++) {
        if (hosts[rank].cpus > 0) {
            json_array_append_new(memory, json_real(hosts[rank].memory_GiB));
            json_array_append_new(cpus, json_integer((json_int_t)hosts[rank].cpus));
        }
    }
    return write_document(m, "summary.json",
                          json_pack("{s:s, s:o, s:o, s:i, s:i, s:s, s:o, s:o, s:o, s:i, s:o}", "note", NOTICE, "start",
                                    time_text(m->started), "end", time_text(m->ended), "num_accelerators",
                                    m->world.size, "num_hosts", (int)m->world.host_count, "hostname", host, "metric",
                                    describe_metrics(m), "host_memory_GB", memory, "host_cpu_count", cpus, "epochs", 1,
                                    "unofficial", describe_beyond(m)));
}

dcache_status_t results_write(struct mlperf *m)
{
    struct host *hosts = NULL;
    dcache_status_t status = gather_hosts(m, &hosts);

    if (m->world.rank == 0 && status == DCACHE_OK)
        status = write_times(m);
    for (int rank = 0; rank < m->world.size && m->world.rank == 0 && status == DCACHE_OK; rank++)
        status = write_rank(m, rank);
    if (m->world.rank == 0 && status == DCACHE_OK)
        status = write_summary(m, hosts); /* last: where it is, the results are complete */
    free(hosts);
    return mlperf_agree(m, status);
}
