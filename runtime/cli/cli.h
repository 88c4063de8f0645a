/**
 * The `dcache` tool: what its commands share. One struct cli holds the command line, the options and where failures go;
 * a command is a function on it that returns an exit code.
 */
#ifndef DCACHE_RUNTIME_CLI_CLI_H
#define DCACHE_RUNTIME_CLI_CLI_H

#include "io/stripes.h"
#include "runtime/options.h"

#include <jansson.h>

/** Exit codes, the same for all commands (docs/operations.md). */
enum cli_exit { CLI_OK = 0, CLI_BAD = 1, CLI_USAGE = 2, CLI_NOTHING = 3, CLI_BUSY = 4 };

struct cli_command;

struct cli {
    struct diag dg;
    struct options options; /* with what the command line says on top */
    const char *job;        /* from --job, DCACHE_JOB or the file; NULL = find out */
    char job_name[64];
    bool store_given; /* by --store or DCACHE_STORE; else what the job's last run used comes first */
    bool json;
    bool no_store;
    bool may_create; /* set by commands that store: others leave no empty directory behind */
    bool plan_only;
    bool markdown;
    bool dry_run;
    bool force;
    bool unfinished;
    const char *keep_last; /* as given; NULL = not */
    const char *keep_every;
    const char *bytes_per_rank; /* as given; NULL = not */
    const char *ranks_per_node;
    bool mpi;           /* this process is a rank */
    const char *config; /* as given; NULL = not */
    bool key_loaded;
    struct codec_key *key; /* cli_key() */
    int argument_count;    /* what follows the command */
    char **arguments;
};

/** Options that only some commands take; the others are common. */
enum cli_special { CLI_PLAN_ONLY = 1, CLI_MARKDOWN = 2, CLI_DOCTOR = 4, CLI_REMOVES = 8, CLI_PRUNES = 16 };

struct cli_command {
    const char *name;
    const char *arguments; /* for the usage line */
    const char *summary;   /* one line */
    const char *help;      /* the rest of `dcache help COMMAND` */
    unsigned specials;     /* enum cli_special, ored */
    bool needs_options;
    int (*run)(struct cli *cli);
};

int command_ls(struct cli *cli);
int command_show(struct cli *cli);
int command_verify(struct cli *cli);
int command_drain(struct cli *cli);
int command_rm(struct cli *cli);
int command_prune(struct cli *cli);
int command_store(struct cli *cli);
int command_doctor(struct cli *cli);
int command_events(struct cli *cli);
int command_help(struct cli *cli);

/** Options and the command line's word on them. Returns an exit code. */
struct cli_arguments {
    const char *config;
    const char *job;
    const char *memory_store;
    const char *store;
};
int cli_load_options(struct cli *cli, const struct cli_arguments *given);

/** Print dg.text as an error; the exit code that fits `status`. */
int cli_failed(struct cli *cli, dcache_status_t status);

/** Print how the command is called and why this was wrong; CLI_USAGE. */
int cli_misused(struct cli *cli, const char *format, ...) __attribute__((format(printf, 2, 3)));

/** Print a document and free it. CLI_OK, or CLI_BAD when it could not be written. */
int cli_print_json(struct cli *cli, json_t *document);

/** Flush standard output: a full disk behind a redirection must not look like success. */
int cli_finish(struct cli *cli, int exit_code);

/** A step's number from an argument. */
bool cli_parse_step(const char *text, uint64_t *step);

/**
 * Open the object store at `url`, or the stores at several (io/stripes.h). DCACHE_OK with *store NULL when there is
 * none to ask: --no-store, "none", "", or a directory that does not exist and need not be made. `canonical` may be
 * NULL.
 */
dcache_status_t cli_store_open(struct cli *cli, const char *url, char canonical[STRIPES_TEXT_MAX],
                               struct object_store **store) DCACHE_MUST_CHECK;

/** The key that the options name, loaded when it is first asked for; *key is NULL when they name none. */
dcache_status_t cli_key(struct cli *cli, const struct codec_key **key) DCACHE_MUST_CHECK;

/** The jobs in the node stores and in the object store; names and array malloc'ed, the caller's: cli_jobs_free(). An
 * object store that cannot be asked is a warning. */
dcache_status_t cli_jobs(struct cli *cli, char ***jobs, size_t *count) DCACHE_MUST_CHECK;
void cli_jobs_free(char **jobs, size_t count);

/** The job to work on: the one given, or the only one there is. `name` has 64 bytes. Returns an exit code. */
int cli_one_job(struct cli *cli, char name[64]);

/** Progress on standard error, when that is a terminal: "verifying 1.2 GiB of 3.4 GiB", at most a few times a second.
 */
struct cli_progress {
    const char *what;
    uint64_t total;
    bool shown; /* something is on the line */
    int64_t last_ms;
};
void cli_progress_show(struct cli_progress *progress, uint64_t done);
void cli_progress_clear(struct cli_progress *progress);

#endif
