/* dcache: look at, verify and drain the checkpoints of jobs, running or dead, without MPI. */
#include "runtime/cli/cli.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

static const struct cli_command commands[] = {
    {.name = "ls",
     .arguments = "",
     .summary = "list the checkpoints of all jobs, or of one, newest first",
     .help =
         "LEVEL is what the step survives as far as can be seen from this host: DURABLE when its manifest is in the\n"
         "object store, REPLICATED when every rank's shard is in two node stores, STAGED when it is in one, and\n"
         "else how many of the shards are here. Node stores of other hosts cannot be seen.\n",
     .needs_options = true,
     .run = command_ls},
    {.name = "show",
     .arguments = "STEP",
     .summary = "show who holds which shard of a step, and its regions",
     .help = "One row per copy; NODE is the index of the node store on this host.\n",
     .needs_options = true,
     .run = command_show},
    {.name = "verify",
     .arguments = "[STEP]",
     .summary = "compare every byte with its digest, in node stores and object store",
     .help = "Without STEP all steps are verified. Each bad copy gets a line with its name and bad chunks.\n",
     .needs_options = true,
     .run = command_verify},
    {.name = "drain",
     .arguments = "",
     .summary = "store what this node has and the object store lacks, and make steps durable",
     .help = "For a job that is not running any more: takes the lock of its node stores on this host. First it stores\n"
             "the shards that the job's plan gave to this node, then all others that are here and nobody stored yet.\n"
             "Run it on every node of the job, at the same time if you like; whoever is last makes a step durable.\n"
             "\n"
             "  --plan-only      leave out the second part\n",
     .specials = CLI_PLAN_ONLY,
     .needs_options = true,
     .run = command_drain},
    {.name = "rm",
     .arguments = "STEP...",
     .summary = "remove steps from the object store",
     .help = "Node stores are left alone. Each step's manifest goes first, so a step is whole or not there.\n"
             "\n"
             "  --dry-run        say what would be removed\n"
             "  --force          also the newest durable step, and steps that are not durable\n",
     .specials = CLI_REMOVES,
     .needs_options = true,
     .run = command_rm},
    {.name = "prune",
     .arguments = "",
     .summary = "remove all but the newest durable steps from the object store",
     .help = "What is kept is said by the options store_keep_last and store_keep_every, or here. The newest durable\n"
             "step always is. Steps that nobody finished are listed, and removed only when that is asked for.\n"
             "\n"
             "  --keep-last N    keep the N newest\n"
             "  --keep-every M   keep also those whose number is a multiple of M\n"
             "  --unfinished     remove steps that are not durable, too; no job or drain of this name may be running\n"
             "  --dry-run        say what would be removed\n",
     .specials = CLI_REMOVES | CLI_PRUNES,
     .needs_options = true,
     .run = command_prune},
    {.name = "store",
     .arguments = "create",
     .summary = "make the object store's container or directory",
     .help = "Nothing else ever makes one.\n",
     .needs_options = true,
     .run = command_store},
    {.name = "doctor",
     .arguments = "",
     .summary = "tell whether checkpoints would be safe here, and what to do if not",
     .help =
         "Tries the node store and the object store of this node, and looks at limits, memory and Slurm's settings.\n"
         "Exit code 1 when there is a problem: a checkpoint would fail or not be safe.\n"
         "\n"
         "  --bytes-per-rank SIZE   of the protected regions (default: the option reserve)\n"
         "  --ranks-per-node N      then it tells whether all slots fit\n",
     .specials = CLI_DOCTOR,
     .needs_options = true,
     .run = command_doctor},
    {.name = "events",
     .arguments = "",
     .summary = "tell whether Azure is going to take this machine away",
     .help =
         "Asks the service that the option events names (auto: Azure's, on an Azure virtual machine). A line for each\n"
         "event after which the machine's memory is lost. Exit code 3: there is none, or no service to ask.\n",
     .needs_options = true,
     .run = command_events},
    {.name = "help",
     .arguments = "[COMMAND | options]",
     .summary = "explain a command, or the options",
     .help =
         "`dcache help options` lists the options of library and tool, for the INI file and as DCACHE_* variables.\n"
         "\n"
         "  --markdown       print the options as Markdown\n",
     .specials = CLI_MARKDOWN,
     .run = command_help},
    {.name = NULL},
};

static void print_usage(FILE *out)
{
    fputs("usage: dcache COMMAND [OPTIONS]\n\ncommands:\n", out);
    for (const struct cli_command *command = commands; command->name != NULL; command++)
        fprintf(out, "  %-8s %s\n", command->name, command->summary);
    fputs("\n"
          "options, for all commands:\n"
          "  --job NAME          the job (default: DCACHE_JOB, or the only job there is)\n"
          "  --config FILE       read this INI file (default: DCACHE_CONFIG)\n"
          "  --memory-store DIR  where the node stores are (default: DCACHE_MEMORY_STORE, or /dev/shm/dcache-UID)\n"
          "  --store URL         the object store (default: DCACHE_STORE, or what the job's last run here used)\n"
          "  --no-store          do not ask the object store\n"
          "  --json              print one JSON document\n"
          "  --help, --version\n"
          "\n"
          "exit codes: 0 well, 1 something is bad or failed, 2 wrong usage or option, 3 nothing found, 4 in use\n",
          out);
}

int command_help(struct cli *cli)
{
    if (cli->argument_count > 1)
        return cli_misused(cli, "help takes one argument: a command, or options");
    if (cli->argument_count == 0) {
        print_usage(stdout);
        return CLI_OK;
    }
    if (strcmp(cli->arguments[0], "options") == 0) {
        options_print_help(stdout, cli->markdown);
        return CLI_OK;
    }
    for (const struct cli_command *command = commands; command->name != NULL; command++) {
        if (strcmp(command->name, cli->arguments[0]) == 0) {
            printf("usage: dcache %s%s%s [OPTIONS]\n\n%s.\n\n%s", command->name, *command->arguments != '\0' ? " " : "",
                   command->arguments, command->summary, command->help);
            puts("\n`dcache help` lists the options that all commands take.");
            return CLI_OK;
        }
    }
    return cli_misused(cli, "there is no command %s", cli->arguments[0]);
}

enum {
    OPTION_JOB = 256,
    OPTION_CONFIG,
    OPTION_MEMORY,
    OPTION_STORE,
    OPTION_NO_STORE,
    OPTION_JSON,
    OPTION_PLAN_ONLY,
    OPTION_MARKDOWN,
    OPTION_DRY_RUN,
    OPTION_FORCE,
    OPTION_UNFINISHED,
    OPTION_KEEP_LAST,
    OPTION_KEEP_EVERY,
    OPTION_BYTES,
    OPTION_MPI,
    OPTION_RANKS,
    OPTION_HELP,
    OPTION_VERSION
};

static const struct option long_options[] = {
    {"job", required_argument, NULL, OPTION_JOB},
    {"config", required_argument, NULL, OPTION_CONFIG},
    {"memory-store", required_argument, NULL, OPTION_MEMORY},
    {"store", required_argument, NULL, OPTION_STORE},
    {"no-store", no_argument, NULL, OPTION_NO_STORE},
    {"json", no_argument, NULL, OPTION_JSON},
    {"plan-only", no_argument, NULL, OPTION_PLAN_ONLY},
    {"markdown", no_argument, NULL, OPTION_MARKDOWN},
    {"dry-run", no_argument, NULL, OPTION_DRY_RUN},
    {"force", no_argument, NULL, OPTION_FORCE},
    {"unfinished", no_argument, NULL, OPTION_UNFINISHED},
    {"keep-last", required_argument, NULL, OPTION_KEEP_LAST},
    {"keep-every", required_argument, NULL, OPTION_KEEP_EVERY},
    {"mpi", no_argument, NULL, OPTION_MPI},
    {"bytes-per-rank", required_argument, NULL, OPTION_BYTES},
    {"ranks-per-node", required_argument, NULL, OPTION_RANKS},
    {"help", no_argument, NULL, OPTION_HELP},
    {"version", no_argument, NULL, OPTION_VERSION},
    {NULL, 0, NULL, 0},
};

struct command_line {
    struct cli_arguments given;
    bool help;
    bool version;
};

/* Options that only some commands take. False: it is not one of them. */
static bool take_special(struct cli *cli, int option)
{
    switch (option) {
    case OPTION_PLAN_ONLY:
        cli->plan_only = true;
        return true;
    case OPTION_MARKDOWN:
        cli->markdown = true;
        return true;
    case OPTION_DRY_RUN:
        cli->dry_run = true;
        return true;
    case OPTION_FORCE:
        cli->force = true;
        return true;
    case OPTION_UNFINISHED:
        cli->unfinished = true;
        return true;
    case OPTION_KEEP_LAST:
        cli->keep_last = optarg;
        return true;
    case OPTION_KEEP_EVERY:
        cli->keep_every = optarg;
        return true;
    case OPTION_BYTES:
        cli->bytes_per_rank = optarg;
        return true;
    case OPTION_MPI:
        cli->mpi = true;
        return true;
    case OPTION_RANKS:
        cli->ranks_per_node = optarg;
        return true;
    default:
        return false;
    }
}

/* Options may stand anywhere; getopt_long() moves them before the rest, and says itself what it does not know. */
static int parse_options(struct cli *cli, int argc, char **argv, struct command_line *line)
{
    int found;
    while ((found = getopt_long(argc, argv, "h", long_options, NULL)) != -1) {
        switch (found) {
        case OPTION_JOB:
            line->given.job = optarg;
            break;
        case OPTION_CONFIG:
            line->given.config = optarg;
            break;
        case OPTION_MEMORY:
            line->given.memory_store = optarg;
            break;
        case OPTION_STORE:
            line->given.store = optarg;
            break;
        case OPTION_NO_STORE:
            cli->no_store = true;
            break;
        case OPTION_JSON:
            cli->json = true;
            break;
        case 'h':
        case OPTION_HELP:
            line->help = true;
            break;
        case OPTION_VERSION:
            line->version = true;
            break;
        default:
            if (!take_special(cli, found))
                return cli_misused(cli, "unknown option, or one without its value");
        }
    }
    return CLI_OK;
}

/* An option that this command does not take. */
static int check_specials(struct cli *cli, unsigned taken)
{
    if (cli->plan_only && (taken & CLI_PLAN_ONLY) == 0)
        return cli_misused(cli, "--plan-only is an option of drain");
    if (cli->markdown && (taken & CLI_MARKDOWN) == 0)
        return cli_misused(cli, "--markdown is an option of help");
    if ((cli->bytes_per_rank != NULL || cli->ranks_per_node != NULL || cli->mpi) && (taken & CLI_DOCTOR) == 0)
        return cli_misused(cli, "--bytes-per-rank, --ranks-per-node and --mpi are options of doctor");
    if (cli->dry_run && (taken & CLI_REMOVES) == 0)
        return cli_misused(cli, "--dry-run is an option of rm and prune");
    if (cli->force && ((taken & CLI_REMOVES) == 0 || (taken & CLI_PRUNES) != 0))
        return cli_misused(cli, "--force is an option of rm");
    if ((cli->keep_last != NULL || cli->keep_every != NULL || cli->unfinished) && (taken & CLI_PRUNES) == 0)
        return cli_misused(cli, "--keep-last, --keep-every and --unfinished are options of prune");
    return CLI_OK;
}

static int run_command(struct cli *cli, const struct cli_command *command, const struct cli_arguments *given)
{
    int code = check_specials(cli, command->specials);
    if (code != CLI_OK)
        return code;
    cli->config = given->config;
    code = command->needs_options ? cli_load_options(cli, given) : CLI_OK;
    return code == CLI_OK ? command->run(cli) : code;
}

static int run(struct cli *cli, int argc, char **argv)
{
    struct command_line line = {.help = false};
    int code = parse_options(cli, argc, argv, &line);
    if (code != CLI_OK)
        return code;
    if (line.version) {
        puts("dcache " DCACHE_VERSION);
        return CLI_OK;
    }
    if (optind == argc && !line.help) {
        print_usage(stderr);
        return CLI_USAGE;
    }
    if (line.help) { /* `dcache drain --help` is `dcache help drain` */
        cli->argument_count = argc > optind ? 1 : 0;
        cli->arguments = argv + optind;
        return command_help(cli);
    }
    cli->argument_count = argc - optind - 1;
    cli->arguments = argv + optind + 1;
    for (const struct cli_command *command = commands; command->name != NULL; command++) {
        if (strcmp(command->name, argv[optind]) == 0)
            return run_command(cli, command, &line.given);
    }
    return cli_misused(cli, "there is no command %s", argv[optind]);
}

int main(int argc, char **argv)
{
    const struct rlimit no_core = {0, 0}; /* it would have the object store's credentials in it */
    struct cli cli;
    memset(&cli, 0, sizeof cli);
    diag_init(&cli.dg, "", -1, DIAG_WARNING);
    (void)setrlimit(RLIMIT_CORE, &no_core);
    int code = run(&cli, argc, argv);
    codec_key_free(cli.key);
    return cli_finish(&cli, code);
}
