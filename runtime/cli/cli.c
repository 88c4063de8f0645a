#include "runtime/cli/cli.h"

#include "io/json_field.h"
#include "io/manifest.h"
#include "io/node_store.h"
#include "runtime/cli/table.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PROGRESS_MS 200

/* --- Options -------------------------------------------------------------------------------------------------------*/

/* The default of the option job is the program's name: right for an application, never right here. */
static bool is_own_name(const char *job)
{
    char path[1024];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    if (length < 0)
        return false;
    path[length] = '\0';
    const char *slash = strrchr(path, '/');
    return strcmp(slash != NULL ? slash + 1 : path, job) == 0;
}

static int set_job(struct cli *cli, const char *argument)
{
    if (argument != NULL) {
        if (!json_field_is_word(argument) || strlen(argument) >= sizeof cli->job_name)
            return cli_misused(cli, "--job: a job has 1 to 63 of the characters A-Z a-z 0-9 _ . -");
        snprintf(cli->job_name, sizeof cli->job_name, "%s", argument);
    } else if (getenv("DCACHE_JOB") != NULL || !is_own_name(cli->options.job)) {
        options_job_name(&cli->options, cli->job_name);
    } else {
        return CLI_OK;
    }
    cli->job = cli->job_name;
    return CLI_OK;
}

static int set_text(struct cli *cli, const char *option, const char *argument, char *value, size_t size)
{
    if (argument == NULL)
        return CLI_OK;
    if (*argument == '\0' || strlen(argument) >= size)
        return cli_misused(cli, "%s: 1 to %zu characters", option, size - 1);
    snprintf(value, size, "%s", argument);
    return CLI_OK;
}

/* A bad URL from the user is wrong usage, and not an object store that cannot be asked. */
static int check_store(struct cli *cli)
{
    struct stripes_places places;
    if (!cli->store_given || cli->no_store || strcmp(cli->options.store, "none") == 0)
        return CLI_OK;
    dcache_status_t status =
        stripes_resolve(&cli->dg, cli->options.store, (enum object_auth)cli->options.store_auth, &places);
    explicit_bzero(&places, sizeof places);
    return status == DCACHE_OK ? CLI_OK : cli_failed(cli, status);
}

int cli_load_options(struct cli *cli, const struct cli_arguments *given)
{
    struct options *options = &cli->options;
    dcache_status_t status = options_load(&cli->dg, given->config, options);
    if (status != DCACHE_OK) {
        (void)cli_failed(cli, status);
        return CLI_USAGE;
    }
    cli->dg.threshold = (enum diag_level)options->log;
    cli->store_given = given->store != NULL || getenv("DCACHE_STORE") != NULL;
    int code = set_text(cli, "--store", given->store, options->store, sizeof options->store);
    if (code == CLI_OK)
        code =
            set_text(cli, "--memory-store", given->memory_store, options->memory_store, sizeof options->memory_store);
    if (code == CLI_OK && options->memory_store[0] != '/')
        code = cli_misused(cli, "--memory-store: the path must be absolute");
    if (code == CLI_OK)
        code = check_store(cli);
    if (code == CLI_OK)
        code = set_job(cli, given->job);
    return code;
}

bool cli_parse_step(const char *text, uint64_t *step)
{
    char *end = NULL;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '\0' || errno != 0 || number > DCACHE_STEP_MAX)
        return false;
    *step = number;
    return true;
}

/* --- What to say ---------------------------------------------------------------------------------------------------*/

int cli_failed(struct cli *cli, dcache_status_t status)
{
    const char *text = cli->dg.text[0] != '\0' ? cli->dg.text : dcache_strerror(status);
    diag_log(&cli->dg, DIAG_ERROR, "%s", text);
    switch (status) {
    case DCACHE_NOT_FOUND:
        return CLI_NOTHING;
    case DCACHE_ERR_BUSY:
        return CLI_BUSY;
    case DCACHE_ERR_OPTION:
    case DCACHE_ERR_INVALID:
        return CLI_USAGE;
    default:
        return CLI_BAD;
    }
}

int cli_misused(struct cli *cli, const char *format, ...)
{
    char text[DIAG_TEXT_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    diag_log(&cli->dg, DIAG_ERROR, "%s (`dcache help` tells more)", text);
    return CLI_USAGE;
}

int cli_print_json(struct cli *cli, json_t *document)
{
    int failed = document == NULL || json_dumpf(document, stdout, JSON_INDENT(2)) != 0;
    json_decref(document);
    if (failed) {
        diag_log(&cli->dg, DIAG_ERROR, "cannot write the JSON document: out of memory, or standard output failed");
        return CLI_BAD;
    }
    putchar('\n');
    return CLI_OK;
}

int cli_finish(struct cli *cli, int exit_code)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return exit_code;
    diag_log(&cli->dg, DIAG_ERROR, "cannot write to standard output: %s", strerror(errno));
    return exit_code == CLI_OK ? CLI_BAD : exit_code;
}

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void cli_progress_show(struct cli_progress *progress, uint64_t done)
{
    char have[16];
    char all[16];
    int64_t now = now_ms();
    if (now - progress->last_ms < PROGRESS_MS || !isatty(STDERR_FILENO))
        return;
    progress->last_ms = now;
    progress->shown = true;
    fprintf(stderr, "\r\033[K%s %s of %s", progress->what, text_size(done, have), text_size(progress->total, all));
    fflush(stderr);
}

void cli_progress_clear(struct cli_progress *progress)
{
    if (progress->shown)
        fputs("\r\033[K", stderr);
    progress->shown = false;
}

/* --- Object store and jobs -----------------------------------------------------------------------------------------*/

/* Opening such a store would make its directory. */
static bool is_missing_directory(const char *url)
{
    static const char scheme[] = "file://";
    return strncmp(url, scheme, sizeof scheme - 1) == 0 && access(url + sizeof scheme - 1, F_OK) != 0 &&
           errno == ENOENT;
}

/* Without the first one there is nothing to ask for; the others are needed with it, and opening makes them. */
static dcache_status_t open_places(struct cli *cli, const struct stripes_places *places,
                                   const struct object_policy *policy, struct object_store **store)
{
    if (!cli->may_create && is_missing_directory(places->list[0].url))
        return DCACHE_OK;
    for (uint32_t i = 1; !cli->may_create && i < places->count; i++) {
        if (is_missing_directory(places->list[i].url))
            return diag_fail(&cli->dg, DCACHE_ERR_STORE,
                             "store %.400s is not there: mount it; `dcache store create` makes a new one",
                             places->list[i].url);
    }
    return stripes_open(&cli->dg, places, policy, store);
}

dcache_status_t cli_store_open(struct cli *cli, const char *url, char canonical[STRIPES_TEXT_MAX],
                               struct object_store **store)
{
    struct stripes_places places;
    const struct object_policy policy = {.timeout_s = cli->options.store_timeout,
                                         .stall_s = cli->options.store_stall,
                                         .connections = (unsigned)cli->options.store_connections};
    if (canonical != NULL)
        canonical[0] = '\0';
    *store = NULL;
    if (cli->no_store || *url == '\0' || strcmp(url, "none") == 0)
        return DCACHE_OK;
    const enum object_auth auth = (enum object_auth)cli->options.store_auth;
    dcache_status_t status = stripes_resolve(&cli->dg, url, auth, &places);
    if (status == DCACHE_OK && canonical != NULL)
        stripes_text(&places, canonical);
    if (status == DCACHE_OK)
        status = open_places(cli, &places, &policy, store);
    explicit_bzero(&places, sizeof places);
    return status;
}

dcache_status_t cli_key(struct cli *cli, const struct codec_key **key)
{
    dcache_status_t status = DCACHE_OK;
    if (!cli->key_loaded)
        status = codec_key_load(&cli->dg, cli->options.encrypt_key_file, cli->options.encrypt_key_command, &cli->key);
    cli->key_loaded = status == DCACHE_OK;
    *key = cli->key;
    return status;
}

void cli_jobs_free(char **jobs, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(jobs[i]);
    free(jobs);
}

/* Durable jobs, as far as the object store can be asked: node stores are shown without it, too. */
static void durable_jobs(struct cli *cli, char ***jobs, size_t *count)
{
    struct object_store *store = NULL;
    dcache_status_t status = cli_store_open(cli, cli->options.store, NULL, &store);
    if (status == DCACHE_OK && store != NULL)
        status = manifest_list_jobs(&cli->dg, store, jobs, count);
    if (status != DCACHE_OK && status != DCACHE_NOT_FOUND)
        diag_log(&cli->dg, DIAG_WARNING, "not looking for jobs in the object store: %s", cli->dg.text);
    object_store_close(store);
}

static int compare_names(const void *left, const void *right)
{
    return strcmp(*(char *const *)left, *(char *const *)right);
}

/* Add names to the list and leave nothing in `more`. */
static dcache_status_t append_jobs(struct cli *cli, char ***jobs, size_t *count, char **more, size_t more_count)
{
    char **larger = realloc(*jobs, (*count + more_count + 1) * sizeof *larger);
    if (larger == NULL) {
        cli_jobs_free(more, more_count);
        return diag_fail(&cli->dg, DCACHE_ERR_NO_MEMORY, "out of memory for a list of jobs");
    }
    *jobs = larger;
    for (size_t i = 0; i < more_count; i++)
        larger[(*count)++] = more[i];
    free(more);
    return DCACHE_OK;
}

static dcache_status_t local_jobs(struct cli *cli, const char *root, char ***jobs, size_t *count)
{
    char **local = NULL;
    size_t local_count = 0;
    dcache_status_t status = *root != '\0' ? node_store_jobs(&cli->dg, root, &local, &local_count) : DCACHE_OK;
    return status == DCACHE_OK ? append_jobs(cli, jobs, count, local, local_count) : status;
}

static size_t sort_jobs(char **jobs, size_t count)
{
    size_t kept = 0;
    qsort(jobs, count, sizeof *jobs, compare_names);
    for (size_t i = 0; i < count; i++) {
        if (kept > 0 && strcmp(jobs[kept - 1], jobs[i]) == 0)
            free(jobs[i]);
        else
            jobs[kept++] = jobs[i];
    }
    return kept;
}

dcache_status_t cli_jobs(struct cli *cli, char ***jobs, size_t *count)
{
    char **all = NULL;
    char **durable = NULL;
    size_t total = 0;
    size_t durable_count = 0;
    dcache_status_t status = local_jobs(cli, cli->options.memory_store, &all, &total);
    if (status == DCACHE_OK)
        status = local_jobs(cli, cli->options.ssd_store, &all, &total);
    if (status == DCACHE_OK) {
        durable_jobs(cli, &durable, &durable_count);
        status = append_jobs(cli, &all, &total, durable, durable_count);
    }
    if (status != DCACHE_OK) {
        cli_jobs_free(all, total);
        return status;
    }
    *count = sort_jobs(all, total);
    *jobs = all;
    return DCACHE_OK;
}

/* "a, b, c" as far as there is room. */
static void join_names(char **names, size_t count, char *text, size_t size)
{
    size_t length = 0;
    text[0] = '\0';
    for (size_t i = 0; i < count && length < size; i++)
        length += (size_t)snprintf(text + length, size - length, "%s%s", i > 0 ? ", " : "", names[i]);
}

int cli_one_job(struct cli *cli, char name[64])
{
    char **jobs = NULL;
    size_t count = 0;
    char names[512];
    if (cli->job != NULL) {
        memcpy(name, cli->job_name, sizeof cli->job_name);
        return CLI_OK;
    }
    dcache_status_t status = cli_jobs(cli, &jobs, &count);
    if (status != DCACHE_OK)
        return cli_failed(cli, status);
    int code = CLI_OK;
    join_names(jobs, count, names, sizeof names);
    if (count == 1)
        snprintf(name, 64, "%.63s", jobs[0]);
    else if (count == 0)
        code = cli_failed(cli, diag_fail(&cli->dg, DCACHE_NOT_FOUND, "no job has checkpoints in %s or the object store",
                                         cli->options.memory_store));
    else
        code = cli_misused(cli, "there are %zu jobs: choose one with --job NAME (%s)", count, names);
    cli_jobs_free(jobs, count);
    return code;
}
