/**
 * heat2d: the heat equation on a 2D process grid, with checkpoints by dcache.
 *
 * The temperatures of a plate are read from an HDF5 file, advanced step by step, and written to an HDF5 file. When the
 * program is killed and launched again, it goes on from the newest checkpoint, and the result has the same bits as if
 * nothing had happened. All that dcache needs is in start(), simulate() and checkpoint(); the physics and the files
 * are in heat2d_field.c.
 *
 *   mpirun -n 4 heat2d --input field.h5 --output result.h5 --steps 1000 --every 100
 *
 * Exit status: 0 done; 1 the result could not be written; 2 it could not start (bad options, input or checkpoint); 3
 * stopped early (--auto): launch it again.
 */
#include "heat2d_field.h"

#include <dcache.h>
#include <errno.h>
#include <getopt.h>
#include <hdf5.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { EXIT_CANNOT_START = 2, EXIT_STOPPED = 3 };

struct options {
    struct input input;
    const char *output; /* NULL: the result is not written */
    const char *config; /* the INI file of dcache, or NULL */
    uint64_t steps;
    uint64_t every; /* 0: no checkpoints */
    uint64_t sleep_ms;
    bool automatic; /* dcache says when to checkpoint, and when to stop */
    bool verbose;
    bool help;
};

/* --- the simulation, with dcache --------------------------------------------------------------------------------- */

/* Go on from the newest checkpoint, or start with the input when there is none. Collective. */
static bool start(dcache_t *dc, struct field *field, const struct options *options, uint64_t *step,
                  struct problem *problem)
{
    if (dcache_protect_array(dc, "temperature", field->block, DCACHE_FLOAT64, 2, field->global, field->start,
                             field->count) != DCACHE_OK)
        problem_set(problem, "cannot protect the field: %s", dcache_error_text(dc));
    if (!problem_agree(problem, field->grid)) /* protecting is not collective: one rank alone can fail */
        return false;

    *step = DCACHE_LATEST;
    dcache_status_t status = dcache_restart(dc, step);
    if (status == DCACHE_NOT_FOUND) {
        *step = 0;
        return field_read(field, &options->input, problem);
    }
    if (status != DCACHE_OK)
        problem_set(problem, "cannot restart: %s", dcache_error_text(dc));
    else if (*step > options->steps)
        problem_set(problem,
                    "the checkpoint is of step %" PRIu64 ", beyond --steps %" PRIu64
                    "; ask for more steps or name a new job",
                    *step, options->steps);
    return problem->text[0] == '\0'; /* the same on every rank, as the status is */
}

/* A checkpoint that fails leaves the one before it untouched: the computation is worth going on with. Collective. */
static void checkpoint(dcache_t *dc, uint64_t step, int rank, bool verbose)
{
    double before = MPI_Wtime();
    dcache_status_t status = dcache_checkpoint(dc, step);
    double seconds = MPI_Wtime() - before;

    if (rank != 0)
        return;
    if (status == DCACHE_OK)
        printf("heat2d: step %" PRIu64 " checkpointed\n", step);
    else
        fprintf(stderr, "heat2d: step %" PRIu64 " not checkpointed: %s\n", step,
                status < 0 ? dcache_error_text(dc) : dcache_strerror(status));
    if (verbose)
        printf("heat2d: dcache_checkpoint took %.3f ms\n", seconds * 1e3);
}

/* Is it time for a checkpoint? A question that cannot be answered is not worth ending for. Collective. */
static bool is_due(dcache_t *dc, uint64_t step, const struct options *options)
{
    int due = 0;

    if (!options->automatic)
        return options->every > 0 && step % options->every == 0;
    return dcache_should_checkpoint(dc, &due) == DCACHE_OK && due;
}

static bool must_stop(dcache_t *dc, const struct options *options)
{
    int stop = 0;

    return options->automatic && dcache_should_stop(dc, &stop) == DCACHE_OK && stop;
}

static void sleep_for(uint64_t milliseconds)
{
    struct timespec pause = {(time_t)(milliseconds / 1000), (long)(milliseconds % 1000) * 1000000};

    nanosleep(&pause, NULL);
}

/* From wherever start() finds it to the last step, or with --auto to where dcache says stop. Collective. */
static bool simulate(dcache_t *dc, struct field *field, const struct options *options, struct problem *problem,
                     uint64_t *last)
{
    uint64_t step = 0;

    if (!start(dc, field, options, &step, problem))
        return false;
    if (field->rank == 0)
        printf("heat2d: %s from step %" PRIu64 "\n", step > 0 ? "restarted" : "started", step);

    while (step < options->steps && !must_stop(dc, options)) {
        field_advance(field);
        step++;
        if (is_due(dc, step, options))
            checkpoint(dc, step, field->rank, options->verbose);
        if (options->sleep_ms > 0)
            sleep_for(options->sleep_ms);
    }
    *last = step;
    return true;
}

/* Steps and result between dcache_open() and dcache_close(); the drain goes on while the result is written. */
static int run_with_dcache(struct field *field, const struct options *options, struct problem *problem, uint64_t *last)
{
    dcache_t *dc = NULL;
    int code = EXIT_SUCCESS;

    if (dcache_open(field->grid, options->config, &dc) != DCACHE_OK) {
        problem_set(problem, "cannot use dcache: the reason is above");
        return EXIT_CANNOT_START;
    }
    if (!simulate(dc, field, options, problem, last))
        code = EXIT_CANNOT_START;
    else if (*last == options->steps && options->output != NULL && !field_write(field, options->output, problem))
        code = EXIT_FAILURE;

    dcache_status_t status = dcache_close(&dc);
    if (status != DCACHE_OK && field->rank == 0)
        fprintf(stderr, "heat2d: closing dcache: %s\n", dcache_strerror(status));
    return code;
}

static int run(struct options *options, struct problem *problem)
{
    struct field field;
    uint64_t last = 0;
    int code = EXIT_CANNOT_START;

    if (!input_inspect(&options->input, MPI_COMM_WORLD, problem))
        return EXIT_CANNOT_START;
    if (field_create(&field, MPI_COMM_WORLD, options->input.shape, problem)) {
        if (options->verbose && field.rank == 0)
            printf("heat2d: %" PRIu64 " x %" PRIu64 " cells of %s in %s, %" PRIu64 " x %" PRIu64 " on rank 0\n",
                   field.global[0], field.global[1], options->input.dataset, options->input.path, field.count[0],
                   field.count[1]);
        code = run_with_dcache(&field, options, problem, &last);
    }
    if (code == EXIT_SUCCESS && last < options->steps) {
        if (field.rank == 0)
            printf("heat2d: stopped after step %" PRIu64 ": launch again to go on\n", last);
        code = EXIT_STOPPED;
    } else if (code == EXIT_SUCCESS) {
        uint64_t checksum = field_checksum(&field);
        if (field.rank == 0)
            printf("heat2d: step %" PRIu64 " done, checksum %016" PRIx64 "\n", options->steps, checksum);
    }
    field_destroy(&field);
    return code;
}

/* --- options ----------------------------------------------------------------------------------------------------- */

static const char USAGE[] =
    "usage: heat2d --input FILE [options]\n"
    "\n"
    "Solves the heat equation and goes on from the newest checkpoint, if there is one.\n"
    "\n"
    "  --input FILE     HDF5 file with the initial temperatures\n"
    "  --dataset NAME   2D dataset of integers or floating-point numbers in it (default: the first one)\n"
    "  --output FILE    HDF5 file for the result, as dataset temperature (default: none)\n"
    "  --steps N        number of steps (default 200)\n"
    "  --every K        steps between checkpoints (default 20; 0 = never)\n"
    "  --auto           checkpoint when dcache says so, and stop when it says so\n"
    "  --config FILE    INI file with dcache options (default: DCACHE_CONFIG and DCACHE_* variables)\n"
    "  --sleep-ms M     sleep after each step, to have time to kill it (default 0)\n"
    "  --verbose        say more\n"
    "  --help           print this\n";

static void parse_number(const char *option, const char *text, uint64_t *number, struct problem *problem)
{
    char *end = NULL;

    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0 || value < 0)
        problem_set(problem, "--%s %s: a whole number, 0 or more, is needed", option, text);
    else
        *number = (uint64_t)value;
}

static void parse_dataset(const char *name, struct input *input, struct problem *problem)
{
    int length = snprintf(input->dataset, sizeof input->dataset, "%s", name);

    if (length == 0 || (size_t)length >= sizeof input->dataset)
        problem_set(problem, "--dataset '%.40s': a name of 1 to %zu characters is needed", name,
                    sizeof input->dataset - 1);
}

static const struct option OPTIONS[] = {
    {"input", required_argument, NULL, 'i'},
    {"dataset", required_argument, NULL, 'd'},
    {"output", required_argument, NULL, 'o'},
    {"config", required_argument, NULL, 'c'},
    {"steps", required_argument, NULL, 'n'},
    {"every", required_argument, NULL, 'k'},
    {"sleep-ms", required_argument, NULL, 's'},
    {"verbose", no_argument, NULL, 'v'},
    {"auto", no_argument, NULL, 'a'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

/* `letter` is what getopt_long() made of `word`. */
static void take_option(int letter, const char *word, struct options *options, struct problem *problem)
{
    switch (letter) {
    case 'i':
        options->input.path = optarg;
        break;
    case 'd':
        parse_dataset(optarg, &options->input, problem);
        break;
    case 'o':
        options->output = optarg;
        break;
    case 'c':
        options->config = optarg;
        break;
    case 'n':
        parse_number("steps", optarg, &options->steps, problem);
        break;
    case 'k':
        parse_number("every", optarg, &options->every, problem);
        break;
    case 's':
        parse_number("sleep-ms", optarg, &options->sleep_ms, problem);
        break;
    case 'a':
        options->automatic = true;
        break;
    case 'v':
        options->verbose = true;
        break;
    case 'h':
        options->help = true;
        break;
    case ':':
        problem_set(problem, "option %s needs a value", word);
        break;
    default:
        problem_set(problem, "unknown option %s; --help lists them", word);
    }
}

static void parse_options(int argc, char **argv, struct options *options, struct problem *problem)
{
    const char *word = argv[optind];
    int letter = 0;

    *options = (struct options){.steps = 200, .every = 20};
    opterr = 0; /* the texts are ours, so that they appear once and not once per rank */
    while ((letter = getopt_long(argc, argv, "+:", OPTIONS, NULL)) != -1) {
        take_option(letter, word, options, problem);
        word = argv[optind];
    }
    if (optind < argc)
        problem_set(problem, "unexpected argument %s; --help lists the options", argv[optind]);
    if (options->input.path == NULL && !options->help)
        problem_set(problem, "--input FILE is needed; --help lists the options");
}

int main(int argc, char **argv)
{
    struct options options;
    struct problem problem = {""};
    int rank = 0;
    int code = EXIT_CANNOT_START;

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    setvbuf(stdout, NULL, _IOLBF, 0);      /* lines appear at once, also through a pipe */
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL); /* one message of ours instead of a stack from each rank */

    parse_options(argc, argv, &options, &problem);
    if (problem_agree(&problem, MPI_COMM_WORLD)) {
        if (!options.help)
            code = run(&options, &problem);
        else
            code = rank == 0 && fputs(USAGE, stdout) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
    }
    if (rank == 0 && problem.text[0] != '\0')
        fprintf(stderr, "heat2d: %s\n", problem.text);
    MPI_Finalize();
    return code;
}
