/* dcache rm and dcache prune: remove steps from the object store; by number, or all that a rule does not keep. */
#include "io/node_store.h"
#include "io/retention.h"
#include "runtime/cli/cli.h"
#include "runtime/cli/tool_claim.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct removing {
    struct cli *cli;
    char job[64];
    char url[STRIPES_TEXT_MAX];
    struct object_store *store;
    struct retention_list durable;
    json_t *document; /* array; NULL: for people */
};

static int begin(struct removing *r, struct cli *cli)
{
    struct overview overview;

    memset(r, 0, sizeof *r);
    r->cli = cli;
    if (cli->no_store)
        return cli_misused(cli, "without the object store (--no-store) there is nothing to remove");
    int code = cli_one_job(cli, r->job);
    if (code != CLI_OK)
        return code;
    dcache_status_t status = overview_open(cli, r->job, false, &overview);
    if (status != DCACHE_OK)
        return cli_failed(cli, status);
    bool failed = overview.remote_failed; /* the warning is out */
    memcpy(r->url, overview.remote_url, sizeof r->url);
    overview_close(&overview);
    if (failed)
        return CLI_BAD;
    status = cli_store_open(cli, r->url, NULL, &r->store);
    if (status == DCACHE_OK && r->store == NULL)
        status = diag_fail(&cli->dg, DCACHE_NOT_FOUND, "job %s has no object store: give one with --store URL", r->job);
    if (status == DCACHE_OK)
        status = retention_find(&cli->dg, r->store, r->job, &r->durable);
    r->document = cli->json ? json_array() : NULL;
    if (status == DCACHE_OK && !cli->json)
        printf("job %s, in %s\n", r->job, r->url);
    return status == DCACHE_OK ? CLI_OK : cli_failed(cli, status);
}

static int end(struct removing *r, int code)
{
    if (r->cli->json && r->document != NULL && (code == CLI_OK || code == CLI_BAD) &&
        cli_print_json(r->cli, json_pack("{s:s, s:s, s:b, s:O}", "job", r->job, "object_store", r->url, "dry_run",
                                         r->cli->dry_run, "steps", r->document)) != CLI_OK)
        code = CLI_BAD;
    json_decref(r->document);
    retention_list_free(&r->durable);
    object_store_close(r->store);
    return code;
}

static void tell(const struct removing *r, uint64_t step, const char *what, uint64_t objects)
{
    if (r->document != NULL)
        json_array_append_new(r->document, json_pack("{s:I, s:s, s:I}", "step", (json_int_t)step, "state", what,
                                                     "objects", (json_int_t)objects));
    else if (objects > 0)
        printf("step %" PRIu64 ": %s (%" PRIu64 " objects)\n", step, what, objects);
    else
        printf("step %" PRIu64 ": %s\n", step, what);
}

static int remove_step(struct removing *r, uint64_t step)
{
    uint64_t objects = 0;

    if (r->cli->dry_run) {
        tell(r, step, "would be removed", 0);
        return CLI_OK;
    }
    dcache_status_t status = retention_remove(&r->cli->dg, r->store, r->job, step, NULL, &objects);
    if (status != DCACHE_OK)
        return cli_failed(r->cli, status);
    tell(r, step, objects > 0 ? "removed" : "not there", objects);
    return CLI_OK;
}

/* ---- rm ---- */

static const struct retention_step *newest(const struct retention_list *list)
{
    const struct retention_step *best = NULL;

    for (size_t i = 0; i < list->count; i++) {
        if (best == NULL || list->steps[i].sequence > best->sequence)
            best = &list->steps[i];
    }
    return best;
}

static bool is_durable(const struct retention_list *list, uint64_t step)
{
    for (size_t i = 0; i < list->count; i++) {
        if (list->steps[i].step == step)
            return true;
    }
    return false;
}

/* Before anything is removed: all or nothing of a command line with a mistake in it. */
static int check_steps(struct removing *r)
{
    struct cli *cli = r->cli;
    const struct retention_step *last = newest(&r->durable);

    for (int i = 0; i < cli->argument_count; i++) {
        uint64_t step = 0;
        if (!cli_parse_step(cli->arguments[i], &step))
            return cli_misused(cli, "rm: \"%s\" is not the number of a step", cli->arguments[i]);
        if (cli->force)
            continue;
        if (last != NULL && step == last->step)
            return cli_misused(cli, "rm: step %" PRIu64 " is the newest durable step of job %s: --force removes it",
                               step, r->job);
        if (!is_durable(&r->durable, step))
            return cli_failed(cli,
                              diag_fail(&cli->dg, DCACHE_NOT_FOUND,
                                        "step %" PRIu64 " of job %s is not durable in %s; what there may be of it is "
                                        "removed with --force",
                                        step, r->job, r->url));
    }
    return CLI_OK;
}

int command_rm(struct cli *cli)
{
    struct removing r;
    if (cli->argument_count == 0)
        return cli_misused(cli, "rm takes the numbers of the steps to remove");
    int code = begin(&r, cli);
    if (code == CLI_OK)
        code = check_steps(&r);
    for (int i = 0; code == CLI_OK && i < cli->argument_count; i++) {
        uint64_t step = 0;
        if (cli_parse_step(cli->arguments[i], &step))
            code = remove_step(&r, step);
    }
    return end(&r, code);
}

/* ---- prune ---- */

static int parse_rule(struct cli *cli, struct retention_rule *rule)
{
    *rule = (struct retention_rule){(uint64_t)cli->options.store_keep_last, (uint64_t)cli->options.store_keep_every};
    if (cli->keep_last != NULL && (!cli_parse_step(cli->keep_last, &rule->last) || rule->last == 0))
        return cli_misused(cli, "--keep-last: a number of steps, at least 1");
    if (cli->keep_every != NULL && !cli_parse_step(cli->keep_every, &rule->every))
        return cli_misused(cli, "--keep-every: a number");
    if (rule->last == 0 && !cli->unfinished)
        return cli_misused(cli, "prune: how many steps are kept? --keep-last N, or the option store_keep_last");
    return CLI_OK;
}

/* Steps that nobody finished may be those that somebody is at work on: here, who holds the locks, or elsewhere, who
 * holds the job's claim. */
static int hold_job(struct removing *r, struct overview *overview, struct tool_claim *claim)
{
    dcache_status_t status = overview_open(r->cli, r->job, true, overview);
    if (status != DCACHE_OK)
        return cli_failed(r->cli, status);
    status = tool_claim_begin(overview, r->store, true, claim);
    if (status == DCACHE_OK)
        return CLI_OK;
    int code = cli_failed(r->cli, status);
    overview_close(overview);
    return code;
}

static int prune_unfinished(struct removing *r)
{
    struct cli *cli = r->cli;
    struct overview overview;
    uint64_t *steps = NULL;
    size_t count = 0;
    struct tool_claim claim;
    bool removes = cli->unfinished && !cli->dry_run;
    int code = removes ? hold_job(r, &overview, &claim) : CLI_OK;
    if (code != CLI_OK)
        return code;
    dcache_status_t status = retention_find_unfinished(&cli->dg, r->store, r->job, &steps, &count);
    if (status != DCACHE_OK)
        code = cli_failed(cli, status);
    for (size_t i = 0; code == CLI_OK && i < count; i++) {
        if (cli->unfinished)
            code = remove_step(r, steps[i]);
        else
            tell(r, steps[i], "not finished: left alone (--unfinished removes it)", 0);
    }
    free(steps);
    if (removes) {
        tool_claim_end(&claim);
        overview_close(&overview);
    }
    return code;
}

int command_prune(struct cli *cli)
{
    struct removing r;
    struct retention_rule rule;
    if (cli->argument_count > 0)
        return cli_misused(cli, "prune takes no arguments: choose a job with --job NAME");
    int code = parse_rule(cli, &rule);
    if (code != CLI_OK)
        return code;
    code = begin(&r, cli);
    if (code == CLI_OK)
        retention_mark(&r.durable, &rule);
    for (size_t i = 0; code == CLI_OK && i < r.durable.count; i++) {
        if (r.durable.steps[i].keep)
            tell(&r, r.durable.steps[i].step, "kept", 0);
        else
            code = remove_step(&r, r.durable.steps[i].step);
    }
    if (code == CLI_OK)
        code = prune_unfinished(&r);
    return end(&r, code);
}
