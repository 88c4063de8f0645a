/* dcache ls: what there is, one row per attempt at a step. */
#include "io/claim.h"
#include "runtime/cli/overview.h"
#include "runtime/cli/table.h"

#include <inttypes.h>
#include <string.h>

static const char *or_unknown(const char *text)
{
    return *text != '\0' ? text : "unknown";
}

/* --- For people ----------------------------------------------------------------------------------------------------*/

/* Nothing when there is none, or it cannot be read: who needs it will say so. */
static bool read_claim(const struct overview *overview, struct claim *claim)
{
    struct diag quiet = overview->cli->dg;
    return overview->remote != NULL && !overview->remote_failed &&
           claim_read(&quiet, overview->remote, overview->job, claim) == DCACHE_OK;
}

static void print_claim(const struct overview *overview)
{
    struct claim claim;
    char holder[CLAIM_HOLDER_MAX], when[32];
    if (!read_claim(overview, &claim) || !claim.held)
        return;
    const char *state = claim_holder_ended(&claim) ? "left behind by" : "held by";
    printf("claim: %s %s, renewed %s\n", state, claim_holder_text(&claim, holder), text_time(claim.written, when));
}

static void print_heading(const struct overview *overview)
{
    const struct run_info *info = &overview->info;
    char when[32];
    if (overview->has_info) {
        printf("job %s: %" PRIu32 " ranks on %" PRIu32 " nodes, transport %s (%s)\n", overview->job, info->world_size,
               info->node_count, or_unknown(info->transport), or_unknown(info->transport_reason));
        printf("last run on this host: %s, pid %ld, since %s\n", or_unknown(info->node_name), info->pid,
               text_time(info->started, when));
    } else if (overview->step_count > 0) {
        printf("job %s: %" PRIu32 " ranks\n", overview->job, overview->steps[0].set.world_size);
    } else {
        printf("job %s: no checkpoints\n", overview->job);
    }
    if (overview->remote != NULL)
        printf("object store: %s%s\n", overview->remote_url, overview->remote_failed ? " (cannot be asked)" : "");
    print_claim(overview);
}

/* False when memory ran out. */
static bool print_steps(const struct overview *overview)
{
    static const char *const titles[] = {"STEP", "LEVEL", "SHARDS", "SIZE", "WHEN", "SEQUENCE"};
    struct table table;
    char level[40];
    char size[16];
    char when[32];
    table_begin(&table, "rlrrlr", titles);
    for (size_t i = 0; i < overview->step_count; i++) {
        const struct overview_step *step = &overview->steps[i];
        table_cell(&table, "%" PRIu64, step->set.step);
        table_cell(&table, "%s", overview_level(step, level));
        table_cell(&table, "%" PRIu32 "/%" PRIu32 "/%" PRIu32, step->own, step->replica, step->set.world_size);
        table_cell(&table, "%s", text_size(step->bytes, size));
        table_cell(&table, "%s", text_time(step->modified, when));
        table_cell(&table, "%" PRIu64, step->set.sequence);
    }
    return table_print(&table, stdout);
}

static void print_footnote(const struct overview *overview)
{
    bool partial = false;
    for (size_t i = 0; i < overview->step_count; i++)
        partial =
            partial || (!overview->steps[i].durable && overview->steps[i].held < overview->steps[i].set.world_size);
    puts("SHARDS: own copies / replicas in this host's node stores / ranks of the job");
    if (partial)
        puts("partial: only this host's node stores can be seen here; the other shards may well be on other nodes");
}

static int show_job(struct overview *overview)
{
    struct cli *cli = overview->cli;
    bool good = true;
    print_heading(overview);
    if (overview->step_count > 0) {
        good = print_steps(overview);
        print_footnote(overview);
    }
    fflush(stdout);
    for (size_t i = 0; i < overview->fault_count; i++)
        diag_log(&cli->dg, DIAG_WARNING, "step %" PRIu64 " has a bad manifest: %s", overview->faults[i].step,
                 overview->faults[i].text);
    return good && overview->fault_count == 0 && !overview->remote_failed ? CLI_OK : CLI_BAD;
}

/* --- For programs --------------------------------------------------------------------------------------------------*/

static json_t *step_json(const struct overview_step *step)
{
    char level[40];
    char epoch[17];
    snprintf(epoch, sizeof epoch, "%016" PRIx64, step->set.epoch);
    overview_level(step, level);
    level[strcspn(level, " ")] = '\0'; /* "partial": how much is in held */
    return json_pack("{s:I, s:I, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:o}", "step", (json_int_t)step->set.step,
                     "sequence", (json_int_t)step->set.sequence, "epoch", epoch, "level", level, "own",
                     (json_int_t)step->own, "replica", (json_int_t)step->replica, "held", (json_int_t)step->held,
                     "ranks", (json_int_t)step->set.world_size, "bytes", (json_int_t)step->bytes, "modified",
                     step->modified != 0 ? json_integer((json_int_t)step->modified) : json_null());
}

static json_t *run_json(const struct overview *overview)
{
    const struct run_info *info = &overview->info;
    if (!overview->has_info)
        return json_null();
    return json_pack("{s:I, s:I, s:I, s:s, s:I, s:s, s:s, s:I}", "ranks", (json_int_t)info->world_size, "nodes",
                     (json_int_t)info->node_count, "node", (json_int_t)info->node, "node_name", info->node_name, "pid",
                     (json_int_t)info->pid, "transport", info->transport, "transport_reason", info->transport_reason,
                     "started", (json_int_t)info->started);
}

static json_t *claim_json(const struct overview *overview)
{
    struct claim claim;
    char run[17];
    if (!read_claim(overview, &claim))
        return json_null();
    snprintf(run, sizeof run, "%016" PRIx64, claim.run);
    return json_pack("{s:b, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I}", "held", claim.held, "owner",
                     claim.owner == CLAIM_RUN ? "run" : "tool", "run", run, "host", claim.host, "slurm_job",
                     claim.slurm, "pid", (json_int_t)claim.pid, "generation", (json_int_t)claim.generation, "written",
                     (json_int_t)claim.written, "lease_seconds", (json_int_t)claim.lease_s);
}

static json_t *job_json(const struct overview *overview)
{
    json_t *steps = json_array();
    json_t *faults = json_array();
    for (size_t i = 0; i < overview->step_count; i++)
        json_array_append_new(steps, step_json(&overview->steps[i]));
    for (size_t i = 0; i < overview->fault_count; i++)
        json_array_append_new(faults, json_pack("{s:I, s:s}", "step", (json_int_t)overview->faults[i].step, "text",
                                                overview->faults[i].text));
    return json_pack("{s:s, s:o, s:o, s:s, s:b, s:o, s:o}", "job", overview->job, "run", run_json(overview), "claim",
                     claim_json(overview), "object_store", overview->remote_url, "object_store_failed",
                     overview->remote_failed, "steps", steps, "bad_manifests", faults);
}

/* --- The command ---------------------------------------------------------------------------------------------------*/

/* Show one job, or append it to `document`. *found: it has a checkpoint. */
static int list_job(struct cli *cli, const char *job, json_t *document, bool *found)
{
    struct overview overview;
    int code = CLI_OK;
    dcache_status_t status = overview_open(cli, job, false, &overview);
    if (status != DCACHE_OK)
        return cli_failed(cli, status);
    bool here = overview.step_count > 0 || overview.fault_count > 0 || overview.store_count > 0;
    if (document != NULL) {
        if (here)
            json_array_append_new(document, job_json(&overview));
        code = overview.remote_failed || overview.fault_count > 0 ? CLI_BAD : CLI_OK;
    } else if (here) {
        if (*found)
            putchar('\n');
        code = show_job(&overview);
    } else if (overview.remote_failed) {
        code = CLI_BAD;
    }
    *found = *found || here;
    overview_close(&overview);
    return code;
}

int command_ls(struct cli *cli)
{
    char *given[] = {cli->job_name};
    char **jobs = given;
    size_t count = 1;
    int code = CLI_OK;
    bool found = false;
    if (cli->argument_count > 0)
        return cli_misused(cli, "ls takes no arguments: choose a job with --job NAME");
    if (cli->job == NULL) {
        dcache_status_t status = cli_jobs(cli, &jobs, &count);
        if (status != DCACHE_OK)
            return cli_failed(cli, status);
    }
    json_t *list = cli->json ? json_array() : NULL;
    for (size_t i = 0; i < count; i++) {
        int job_code = list_job(cli, jobs[i], list, &found);
        code = code != CLI_OK ? code : job_code;
    }
    if (cli->job == NULL)
        cli_jobs_free(jobs, count);
    if (cli->json && cli_print_json(cli, json_pack("{s:o}", "jobs", list)) != CLI_OK)
        return CLI_BAD;
    if (found || code != CLI_OK)
        return code;
    return cli_failed(cli, diag_fail(&cli->dg, DCACHE_NOT_FOUND, "no checkpoints in %s%s", cli->options.memory_store,
                                     cli->no_store ? "" : " or the object store"));
}
