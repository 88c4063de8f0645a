/* The document for programs. Its keys are listed in ../README.md. */
#include "bench.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

extern char **environ;

/* Keys are made of a name and a unit: "staged" and "_GBps". A figure that was not measured is null. */
static void set(json_t *object, const char *name, const char *unit, json_t *value)
{
    char key[96];

    snprintf(key, sizeof key, "%.80s%.10s", name, unit);
    json_object_set_new(object, key, value);
}

static void set_spread(json_t *object, const char *name, const char *unit, const struct spread *s)
{
    char key[96];

    snprintf(key, sizeof key, "%.80s%.10s", name, unit);
    set(object, key, "", s != NULL ? json_real(s->median) : json_null());
    set(object, key, "_min", s != NULL ? json_real(s->min) : json_null());
    set(object, key, "_max", s != NULL ? json_real(s->max) : json_null());
}

static void set_figure(const struct bench *b, json_t *object, const char *name, enum figure figure)
{
    const struct figure_info *info = series_info(figure);
    bool measured = b->series[figure].count > 0;
    struct spread values = {0}, rate = {0};

    if (measured)
        values = series_spread(&b->series[figure]);
    if (measured && info->rate)
        rate = report_rate(b, figure);
    if (info->rate)
        set_spread(object, name, "_GBps", measured ? &rate : NULL);
    set_spread(object, name, info->unit[0] != '\0' ? "_s" : "", measured ? &values : NULL);
}

static json_t *describe_machine(const struct bench *b)
{
    struct machine machine;

    machine_describe(&machine);
    return json_pack("{s:s, s:I, s:f, s:s, s:s, s:s, s:I, s:s, s:s, s:f}", "cpu", machine.cpu, "cores",
                     (json_int_t)machine.cores, "memory_GiB", machine.memory_GiB, "kernel", machine.kernel,
                     "huge_pages", machine.huge_pages, "mpi", machine.mpi, "hosts", (json_int_t)b->world.host_count,
                     "digest", machine.digest, "date", machine.date, "load_1min", machine.load);
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

static void set_work(const struct bench *b, json_t *root)
{
    set(root, "ranks", "", json_integer(b->world.size));
    set(root, "nodes", "", json_integer(b->world.node_count));
    set(root, "bytes_per_rank", "", json_integer(b->options.bytes));
    set(root, "regions", "", json_integer(b->options.regions));
    set(root, "rounds", "", json_integer(b->options.rounds));
    set(root, "node_size", "", json_integer(b->library.node_size));
    set(root, "slots", "", json_integer(b->library.slots));
    set(root, "transport", "", json_string(b->transport));
    set(root, "transport_reason", "", json_string(b->transport_reason));
    set(root, "mpi_threads", "", json_boolean(b->mpi_threads == MPI_THREAD_MULTIPLE));
    set(root, "options", "", describe_environment());
}

static void set_ratios(const struct bench *b, json_t *root)
{
    json_t *ratios = json_object(), *floors = json_object();

    for (enum figure f = 0; f < FIGURES; f++) {
        enum figure floor = report_floor_of(b, f);
        if (b->series[f].count == 0 || floor == FIGURES || !series_info(f)->rate)
            continue;
        set(ratios, series_info(f)->key, "", json_real(report_rate(b, f).median / report_rate(b, floor).median));
        set(floors, series_info(f)->key, "", json_string(series_info(floor)->key));
    }
    set(root, "of_floor", "", ratios);
    set(root, "floor_of", "", floors);
    set(root, "background_slowdown", "",
        b->series[STENCIL_DURING].count > 0 ? json_real(report_slowdown(b)) : json_null());
}

static void set_once(const struct bench *b, json_t *root)
{
    json_t *steps = json_array();

    for (int i = 0; i < b->firsts.steps; i++)
        json_array_append_new(steps, json_real(b->firsts.steps_s[i]));
    set(root, "first_open_s", "", json_real(b->firsts.open_s));
    set(root, "first_step_s", "", json_real(b->firsts.steps_s[0]));
    set(root, "first_steps_s", "", steps);
    set(root, "floor_first_step_s", "", json_real(b->firsts.floor_s));
    set(root, "overhead_MiB_per_rank", "", json_real(b->overhead.steps_MiB));
    set(root, "restart_overhead_MiB_per_rank", "",
        b->series[REBUILD].count > 0 ? json_real(b->overhead.restart_MiB) : json_null());
    set(root, "overhead_parts_MiB", "",
        json_pack("{s:f, s:f, s:f}", "anonymous", b->overhead.parts_MiB.anonymous, "files", b->overhead.parts_MiB.files,
                  "shared", b->overhead.parts_MiB.shared));
    set(root, "overhead_exact", "", json_boolean(b->overhead.exact));
}

/* Every single value, so that all of the above can be computed again. */
static void set_rounds(const struct bench *b, json_t *root)
{
    json_t *all = json_object(), *bytes = json_object();

    for (enum figure f = 0; f < FIGURES; f++) {
        const struct figure_info *info = series_info(f);
        json_t *values = json_array();
        for (int i = 0; i < b->series[f].count; i++)
            json_array_append_new(values, json_real(b->series[f].values[i]));
        set(all, info->key, info->unit[0] != '\0' ? "_s" : "", values);
        if (info->rate)
            set(bytes, info->key, "", json_real(bench_bytes(b, f)));
    }
    set(root, "bytes", "", bytes);
    set(root, "values", "", all);
}

static json_t *make_document(const struct bench *b)
{
    json_t *root = json_pack("{s:s, s:i, s:s}", "format", "bench-checkpoint", "version", 1, "dcache", DCACHE_VERSION);
    enum figure floor_copy = report_floor_copy(b);

    if (root == NULL)
        return NULL;
    set(root, "machine", "", describe_machine(b));
    set_work(b, root);
    set_figure(b, root, "floor_copy", floor_copy);
    set(root, "floor_copy_by", "", json_string(series_info(floor_copy)->key));
    for (enum figure f = 0; f < FIGURES; f++)
        set_figure(b, root, series_info(f)->key, f);
    set_ratios(b, root);
    set_once(b, root);
    set_rounds(b, root);
    return root;
}

dcache_status_t json_write(struct bench *b)
{
    const char *path = b->options.json_path;
    dcache_status_t status = DCACHE_OK;
    json_t *root = make_document(b);
    FILE *out = path != NULL ? fopen(path, "we") : stdout;

    if (root == NULL)
        status = diag_fail(&b->diag, DCACHE_ERR_NO_MEMORY, "out of memory for the JSON document");
    else if (out == NULL)
        status = diag_fail_errno(&b->diag, errno, "cannot write %s", path);
    else if (json_dumpf(root, out, JSON_INDENT(1)) != 0 || fputc('\n', out) == EOF || fflush(out) != 0)
        status = diag_fail_errno(&b->diag, errno, "cannot write the JSON document");
    if (out != NULL && path != NULL && fclose(out) != 0 && status == DCACHE_OK)
        status = diag_fail_errno(&b->diag, errno, "cannot write %s", path);
    json_decref(root);
    return status;
}
