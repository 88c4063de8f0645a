#include "bench.h"

#include "runtime/values.h"

#include <getopt.h>
#include <string.h>

#define DEFAULT_BYTES  (INT64_C(64) << 20)
#define DEFAULT_ROUNDS 9
#define BYTES_MAX      (INT64_C(1) << 40)
#define REGIONS_MAX    4096
#define ROUNDS_MAX     10000

static const char USAGE[] =
    "usage: mpirun -n RANKS bench-checkpoint [options]\n"
    "\n"
    "Measures checkpoints and restarts of dcache beside the floors: the same bytes moved bare.\n"
    "\n"
    "  --bytes SIZE      application memory per rank: 64MiB (default), 700MiB, 1000000 ...; M is a million\n"
    "  --regions N       protected in so many regions (default 1)\n"
    "  --rounds N        rounds, each of which measures everything once (default 9)\n"
    "  --node-size K     every K consecutive ranks of a host are a node of their own (default: DCACHE_NODE_SIZE or 1;\n"
    "                    0: real hosts)\n"
    "  --transport NAME  auto, one-sided or two-sided (default: DCACHE_TRANSPORT or auto)\n"
    "  --tier DIR        directory on the memory tier; a scratch directory is made in it and removed (default "
    "/dev/shm)\n"
    "  --mpi-threads     start MPI with MPI_THREAD_MULTIPLE\n"
    "  --json [FILE]     write a JSON document to FILE and the table to standard output; without FILE: the document "
    "to\n"
    "                    standard output and no table\n"
    "  --help            print this\n"
    "\n"
    "Other options of dcache are taken from DCACHE_* variables; DCACHE_STORE is none unless it is set.\n"
    "Exit status: 0 measured; 1 something failed on the way; 2 it could not start.\n";

static const struct option OPTIONS[] = {
    {"bytes", required_argument, NULL, 'b'},
    {"regions", required_argument, NULL, 'r'},
    {"rounds", required_argument, NULL, 'n'},
    {"node-size", required_argument, NULL, 'k'},
    {"transport", required_argument, NULL, 't'},
    {"tier", required_argument, NULL, 'd'},
    {"mpi-threads", no_argument, NULL, 'm'},
    {"json", optional_argument, NULL, 'j'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

bool options_given(int argc, char **argv, const char *option)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], option) == 0)
            return true;
    }
    return false;
}

void options_print_usage(FILE *out)
{
    fputs(USAGE, out);
}

static dcache_status_t parse_number(struct diag *dg, const char *option, int64_t least, int64_t most, int64_t *number)
{
    int64_t value = 0;

    if (!values_parse_integer(optarg, &value) || value < least || value > most)
        return diag_fail(dg, DCACHE_ERR_OPTION, "--%s %.40s: a whole number from %lld to %lld is needed", option,
                         optarg, (long long)least, (long long)most);
    *number = value;
    return DCACHE_OK;
}

static dcache_status_t parse_bytes(struct diag *dg, int64_t *bytes)
{
    int64_t value = 0;

    if (!values_parse_size(optarg, &value) || value < 1 || value > BYTES_MAX)
        return diag_fail(dg, DCACHE_ERR_OPTION, "--bytes %.40s: needed is " VALUES_SIZE_FORM ", from 1 to 1TiB",
                         optarg);
    *bytes = value;
    return DCACHE_OK;
}

static dcache_status_t parse_transport(struct diag *dg, const char **transport)
{
    static const char *const names[] = {"auto", "one-sided", "two-sided"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(optarg, names[i]) == 0) {
            *transport = names[i];
            return DCACHE_OK;
        }
    }
    return diag_fail(dg, DCACHE_ERR_OPTION, "--transport %.40s: auto, one-sided or two-sided is needed", optarg);
}

/* getopt knows optional values as --json=FILE only; people write --json FILE. */
static void parse_json(int argc, char **argv, struct bench_options *options)
{
    options->json = true;
    options->json_path = optarg;
    if (optarg == NULL && optind < argc && argv[optind][0] != '-')
        options->json_path = argv[optind++];
}

static dcache_status_t take_option(struct diag *dg, int letter, const char *word, struct bench_options *options)
{
    switch (letter) {
    case 'b':
        return parse_bytes(dg, &options->bytes);
    case 'r':
        return parse_number(dg, "regions", 1, REGIONS_MAX, &options->regions);
    case 'n':
        return parse_number(dg, "rounds", 1, ROUNDS_MAX, &options->rounds);
    case 'k':
        return parse_number(dg, "node-size", 0, 1000000, &options->node_size);
    case 't':
        return parse_transport(dg, &options->transport);
    case 'd':
        options->tier = optarg;
        return DCACHE_OK;
    case 'm':
        options->threads = true;
        return DCACHE_OK;
    case 'h':
        options->help = true;
        return DCACHE_OK;
    case ':':
        return diag_fail(dg, DCACHE_ERR_OPTION, "%.40s needs a value; --help lists the options", word);
    default:
        return diag_fail(dg, DCACHE_ERR_OPTION, "unknown option %.40s; --help lists the options", word);
    }
}

dcache_status_t options_parse(struct diag *dg, int argc, char **argv, struct bench_options *options)
{
    const char *word = argv[optind];
    dcache_status_t status = DCACHE_OK;
    int letter = 0;

    *options = (struct bench_options){
        .bytes = DEFAULT_BYTES, .regions = 1, .rounds = DEFAULT_ROUNDS, .node_size = -1, .tier = "/dev/shm"};
    opterr = 0; /* the texts are ours, so that they appear once and not once per rank */
    while (status == DCACHE_OK && (letter = getopt_long(argc, argv, "+:", OPTIONS, NULL)) != -1) {
        if (letter == 'j')
            parse_json(argc, argv, options);
        else
            status = take_option(dg, letter, word, options);
        word = argv[optind];
    }
    if (status == DCACHE_OK && optind < argc)
        status = diag_fail(dg, DCACHE_ERR_OPTION, "unexpected argument %.40s; --help lists the options", argv[optind]);
    if (status == DCACHE_OK && options->regions > options->bytes)
        status = diag_fail(dg, DCACHE_ERR_OPTION, "--regions %lld: %lld bytes cannot be in more than %lld regions",
                           (long long)options->regions, (long long)options->bytes, (long long)options->bytes);
    return status;
}
