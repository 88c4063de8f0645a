/* The table on standard output; report.py makes the longer ones from the results. */
#include "mlperf.h"

static void print_metric(FILE *out, const char *what, const char *mark, const struct metric *first,
                         const struct metric *slowest)
{
    fprintf(out, "%-14s %-17s %5d %10.3f %10.3f %9.4f %9.4f %9.4f\n", what, mark, first->count, first->rate_mean,
            slowest->rate_mean, first->seconds_mean, slowest->seconds_mean, first->seconds_stdev);
}

static void print_marks(const struct mlperf *m, FILE *out, bool is_load, enum source source)
{
    const char *const *names = is_load ? m->options.way->load_marks : m->options.way->save_marks;
    char what[32];

    snprintf(what, sizeof what, "%s%s%s", is_load ? "load" : "save", is_load ? " " : "",
             is_load && m->options.way->has_levels ? source_name(source) : "");
    for (int mark = 0; mark < MARKS && names[mark] != NULL; mark++) {
        struct metric first = metric_of(m, is_load, source, mark, false);
        struct metric slowest = metric_of(m, is_load, source, mark, true);
        if (first.count > 0)
            print_metric(out, what, names[mark], &first, &slowest);
    }
}

void report_print(const struct mlperf *m, FILE *out)
{
    const struct mlperf_options *options = &m->options;

    fprintf(out, "%s\n%s%s, scale 1/%lld, %.3f GiB by %d ranks on %u nodes of %u hosts, way %s\n", NOTICE,
            options->model->name, options->subset ? " (subset of 8)" : "", (long long)options->scale,
            mlperf_size_GiB(m), m->world.size, m->world.node_count, m->world.host_count, options->way->name);
    fprintf(out, "%-14s %-17s %5s %10s %10s %9s %9s %9s\n", "", "", "count", "GiB/s", "slowest", "seconds", "slowest",
            "stdev");
    print_marks(m, out, false, SOURCE_OWN);
    for (int i = 0; i < options->source_count && options->reads > 0; i++)
        print_marks(m, out, true, options->sources[i]);
    fprintf(out, "caches: %s\nresults: %s\n", m->caches, m->leaf);
}
