#include "mlperf.h"

#include "runtime/values.h"

#include <getopt.h>
#include <string.h>

#define SUBSET_PROCESSES   8
#define DEFAULT_OPERATIONS 10
#define DEFAULT_PAUSE_S    5.0
#define PAUSE_MAX_US       INT64_C(3600000000)
#define SCALE_MAX          INT64_C(1000000000)
#define OPERATIONS_EACH    250 /* saves, and loads from each source */

static const char USAGE[] =
    "usage: mpirun -n PROCESSES mlperf-checkpoint --model MODEL --results DIRECTORY [options]\n"
    "       mlperf-checkpoint --model MODEL --list [--subset 8] [--scale K]\n"
    "\n"
    "Writes and reads checkpoints as MLPerf Storage does; " NOTICE ".\n"
    "\n"
    "  --model MODEL      llama3-8b (8 processes), llama3-70b (64), llama3-405b (512) or llama3-1t (1024)\n"
    "  --subset 8         the first 8 processes of that job only\n"
    "  --scale K          every file has 1/K of its bytes (default 1)\n"
    "  --results DIRECTORY  results go to DIRECTORY/checkpointing/MODEL/DATE_TIME\n"
    "  --way WAY          dcache (default), posix (files in --directory, with fsync) or blob (objects below --url)\n"
    "  --directory DIR    for posix: a directory that all hosts see, or one of the same name on each\n"
    "  --url URL          for blob: azure://CONTAINER, https://... or file:///...; credentials as dcache finds them\n"
    "  --level LEVEL      for dcache: the save of the results is staged, replicated (default) or durable\n"
    "  --read SOURCES     for dcache: own, replica (a node is lost) and blob (all are), comma-separated; the first is\n"
    "                     the load of the results (default own)\n"
    "  --writes N, --reads N  how many of each (default 10)\n"
    "  --pause TIME       before each (default 5s)\n"
    "  --keep N           for posix and blob: so many checkpoints stay (default 0: all of the run)\n"
    "  --compressible     data that compress well (default: data that do not)\n"
    "  --drop-caches      before each read, write 3 to /proc/sys/vm/drop_caches on every host (root)\n"
    "  --keep-data        leave checkpoints behind\n"
    "  --job NAME         go on from the newest checkpoint of the dcache job NAME and leave everything there; prints "
    "a\n"
    "                     line for each step and no results: a load generator\n"
    "  --list             print all files and their bytes; needs no MPI\n"
    "  --help             this text\n"
    "\n"
    "Options of the library come from DCACHE_* variables; DCACHE_STORE is none unless set.\n";

static const struct option OPTIONS[] = {
    {"model", required_argument, NULL, 'm'}, {"subset", required_argument, NULL, 's'},
    {"scale", required_argument, NULL, 'k'}, {"results", required_argument, NULL, 'o'},
    {"way", required_argument, NULL, 'w'},   {"directory", required_argument, NULL, 'd'},
    {"url", required_argument, NULL, 'u'},   {"level", required_argument, NULL, 'v'},
    {"read", required_argument, NULL, 'R'},  {"writes", required_argument, NULL, 'W'},
    {"reads", required_argument, NULL, 'r'}, {"pause", required_argument, NULL, 'p'},
    {"keep", required_argument, NULL, 'K'},  {"compressible", no_argument, NULL, 'c'},
    {"drop-caches", no_argument, NULL, 'D'}, {"keep-data", no_argument, NULL, 'x'},
    {"job", required_argument, NULL, 'j'},   {"list", no_argument, NULL, 'l'},
    {"help", no_argument, NULL, 'h'},        {NULL, 0, NULL, 0}};

static const char *const SOURCE_NAMES[SOURCES] = {"own", "replica", "blob"};

const char *source_name(enum source source)
{
    return SOURCE_NAMES[source];
}

void mlperf_options_print_usage(FILE *out)
{
    fputs(USAGE, out);
}

int mlperf_processes(const struct mlperf_options *options)
{
    return options->subset ? SUBSET_PROCESSES : model_processes(options->model);
}

static dcache_status_t take_model(struct diag *dg, const char *value, struct mlperf_options *options)
{
    options->model = model_find(value);
    if (options->model == NULL)
        return diag_fail(dg, DCACHE_ERR_OPTION,
                         "--model %.40s: llama3-8b, llama3-70b, llama3-405b or llama3-1t is allowed", value);
    return DCACHE_OK;
}

static dcache_status_t take_way(struct diag *dg, const char *value, struct mlperf_options *options)
{
    static const struct way *const ways[] = {&way_dcache, &way_posix, &way_blob};

    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        if (strcmp(value, ways[i]->name) == 0) {
            options->way = ways[i];
            return DCACHE_OK;
        }
    }
    return diag_fail(dg, DCACHE_ERR_OPTION, "--way %.40s: dcache, posix or blob is allowed", value);
}

static dcache_status_t take_level(struct diag *dg, const char *value, struct mlperf_options *options)
{
    for (int mark = 0; mark < MARKS; mark++) {
        if (strcmp(value, way_dcache.save_marks[mark]) == 0) {
            options->level = DCACHE_STAGED + mark;
            return DCACHE_OK;
        }
    }
    return diag_fail(dg, DCACHE_ERR_OPTION, "--level %.40s: staged, replicated or durable is allowed", value);
}

static bool has_source(const struct mlperf_options *options, enum source source)
{
    for (int i = 0; i < options->source_count; i++) {
        if (options->sources[i] == source)
            return true;
    }
    return false;
}

static dcache_status_t take_sources(struct diag *dg, const char *value, struct mlperf_options *options)
{
    const char *word = value;

    options->source_count = 0;
    for (;;) {
        size_t length = strcspn(word, ",");
        enum source source = SOURCE_OWN;
        while (source < SOURCES &&
               (strlen(SOURCE_NAMES[source]) != length || strncmp(word, SOURCE_NAMES[source], length) != 0))
            source++;
        if (source == SOURCES || has_source(options, source))
            return diag_fail(dg, DCACHE_ERR_OPTION,
                             "--read %.40s: own, replica and blob are allowed, each once, with commas between", value);
        options->sources[options->source_count++] = source;
        if (word[length] == '\0')
            return DCACHE_OK;
        word += length + 1;
    }
}

static dcache_status_t take_number(struct diag *dg, const char *name, const char *value, int64_t least, int64_t most,
                                   int64_t *number)
{
    if (!values_parse_integer(value, number) || *number < least || *number > most)
        return diag_fail(dg, DCACHE_ERR_OPTION, "--%s %.40s: a whole number from %lld to %lld is allowed", name, value,
                         (long long)least, (long long)most);
    return DCACHE_OK;
}

static dcache_status_t take_pause(struct diag *dg, const char *value, struct mlperf_options *options)
{
    int64_t pause_us = 0;

    if (!values_parse_duration(value, &pause_us) || pause_us < 0 || pause_us > PAUSE_MAX_US)
        return diag_fail(dg, DCACHE_ERR_OPTION, "--pause %.40s: from 0s to 3600s is allowed: " VALUES_DURATION_FORM,
                         value);
    options->pause_s = (double)pause_us * 1e-6;
    return DCACHE_OK;
}

static void take_flag(int letter, struct mlperf_options *options)
{
    options->compressible |= letter == 'c';
    options->drop_caches |= letter == 'D';
    options->keep_data |= letter == 'x';
    options->list |= letter == 'l';
    options->help |= letter == 'h';
}

static dcache_status_t take_text(int letter, const char *value, struct mlperf_options *options)
{
    switch (letter) {
    case 'o':
        options->results = value;
        break;
    case 'd':
        options->directory = value;
        break;
    case 'u':
        options->url = value;
        break;
    case 'j':
        options->job = value;
        break;
    default:
        take_flag(letter, options);
    }
    return DCACHE_OK;
}

static dcache_status_t take_option(struct diag *dg, int letter, const char *word, struct mlperf_options *options)
{
    int64_t subset = 0;
    dcache_status_t status;

    switch (letter) {
    case 'm':
        return take_model(dg, optarg, options);
    case 'w':
        return take_way(dg, optarg, options);
    case 'v':
        return take_level(dg, optarg, options);
    case 'R':
        return take_sources(dg, optarg, options);
    case 'p':
        return take_pause(dg, optarg, options);
    case 's':
        status = take_number(dg, "subset", optarg, SUBSET_PROCESSES, SUBSET_PROCESSES, &subset);
        options->subset = true;
        return status;
    case 'k':
        return take_number(dg, "scale", optarg, 1, SCALE_MAX, &options->scale);
    case 'W':
        return take_number(dg, "writes", optarg, 1, OPERATIONS_EACH, &options->writes);
    case 'r':
        return take_number(dg, "reads", optarg, 0, OPERATIONS_EACH, &options->reads);
    case 'K':
        return take_number(dg, "keep", optarg, 0, OPERATIONS_EACH, &options->keep);
    case ':':
        return diag_fail(dg, DCACHE_ERR_OPTION, "%.40s needs a value; --help lists the options", word);
    case '?':
        return diag_fail(dg, DCACHE_ERR_OPTION, "unknown option %.40s; --help lists the options", word);
    default:
        return take_text(letter, optarg, options);
    }
}

static dcache_status_t check_scale(struct diag *dg, const struct mlperf_options *options)
{
    int64_t most = (int64_t)model_scale_max(options->model, mlperf_processes(options));

    if (options->scale > most)
        return diag_fail(dg, DCACHE_ERR_OPTION,
                         "--scale %lld: the smallest file of %s has %lld bytes, so at most that much is allowed",
                         (long long)options->scale, options->model->name, (long long)most);
    return DCACHE_OK;
}

/* What does not fit together. */
static dcache_status_t check_together(struct diag *dg, const struct mlperf_options *options)
{
    if (options->model == NULL)
        return diag_fail(dg, DCACHE_ERR_OPTION, "--model is needed; --help lists the options");
    dcache_status_t status = check_scale(dg, options);
    if (status != DCACHE_OK || options->list)
        return status;
    if (options->results == NULL && options->job == NULL)
        return diag_fail(dg, DCACHE_ERR_OPTION, "--results is needed: the directory that results are written to");
    if (options->job != NULL && options->way != &way_dcache)
        return diag_fail(dg, DCACHE_ERR_OPTION, "--job goes with --way dcache only");
    if ((options->directory != NULL) != (options->way == &way_posix))
        return diag_fail(dg, DCACHE_ERR_OPTION, "--directory is needed with --way posix, and goes with it only");
    if ((options->url != NULL) != (options->way == &way_blob))
        return diag_fail(dg, DCACHE_ERR_OPTION, "--url is needed with --way blob, and goes with it only");
    if (options->way != &way_dcache && (options->source_count != 1 || options->sources[0] != SOURCE_OWN))
        return diag_fail(dg, DCACHE_ERR_OPTION, "--read goes with --way dcache only");
    return DCACHE_OK;
}

dcache_status_t mlperf_options_parse(struct diag *dg, int argc, char **argv, struct mlperf_options *options)
{
    const char *word = argv[optind];
    dcache_status_t status = DCACHE_OK;
    int letter = 0;

    *options = (struct mlperf_options){.way = &way_dcache,
                                       .scale = 1,
                                       .writes = DEFAULT_OPERATIONS,
                                       .reads = DEFAULT_OPERATIONS,
                                       .level = DCACHE_REPLICATED,
                                       .pause_s = DEFAULT_PAUSE_S,
                                       .sources = {SOURCE_OWN},
                                       .source_count = 1};
    opterr = 0; /* the texts are ours, so that they appear once and not once per rank */
    while (status == DCACHE_OK && (letter = getopt_long(argc, argv, "+:", OPTIONS, NULL)) != -1) {
        status = take_option(dg, letter, word, options);
        word = argv[optind];
    }
    if (status == DCACHE_OK && optind < argc)
        status = diag_fail(dg, DCACHE_ERR_OPTION, "unexpected argument %.40s; --help lists the options", argv[optind]);
    return status == DCACHE_OK && !options->help ? check_together(dg, options) : status;
}
