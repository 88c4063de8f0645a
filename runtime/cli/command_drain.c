/* dcache drain: what a dead job left in this host's node stores goes to the object store. */
#include "io/step_objects.h"
#include "io/threads.h"
#include "runtime/cli/overview.h"
#include "runtime/cli/table.h"
#include "runtime/cli/tool_claim.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* What became of one step. */
struct outcome {
    dcache_status_t status;
    bool durable;
    bool was_durable;           /* before we came */
    struct drain_report report; /* of what was stored now */
    struct number_list missing; /* ranks that are not in the object store */
    char text[DIAG_TEXT_MAX];   /* when status is an error */
};

struct drain_run {
    struct cli *cli;
    struct overview *overview;
    char drainer[64];
    struct drain_control control;
    struct codec_settings codec;
    json_t *document; /* array of steps, with --json */
    uint64_t steps;   /* looked at */
    int code;         /* CLI_OK so far, or what it ends with */
    struct tool_claim claim;
    bool claimed;
    uint64_t newer_durable; /* of the steps so far, which come newest first */
};

/* --- Progress ------------------------------------------------------------------------------------------------------*/

/* A thread that shows how far a step is; drain_step() does not come back until it is done. */
struct watcher {
    pthread_t thread;
    bool running;
    atomic_bool stop;
    struct drain_control *control;
    uint64_t start;
    struct cli_progress progress;
};

static void *watch(void *argument)
{
    struct watcher *watcher = argument;
    const struct timespec nap = {.tv_nsec = 100000000};
    do {
        cli_progress_show(&watcher->progress, atomic_load(&watcher->control->bytes_stored) - watcher->start);
        (void)nanosleep(&nap, NULL);
    } while (!atomic_load(&watcher->stop));
    cli_progress_clear(&watcher->progress);
    return NULL;
}

static void watcher_start(struct watcher *watcher, struct drain_control *control, const char *what, uint64_t total)
{
    memset(watcher, 0, sizeof *watcher);
    watcher->control = control;
    watcher->start = atomic_load(&control->bytes_stored);
    watcher->progress = (struct cli_progress){.what = what, .total = total};
    watcher->running = isatty(STDERR_FILENO) && pthread_create(&watcher->thread, NULL, watch, watcher) == 0;
}

static void watcher_stop(struct watcher *watcher)
{
    atomic_store(&watcher->stop, true);
    if (watcher->running)
        (void)pthread_join(watcher->thread, NULL);
}

/* --- What to drain -------------------------------------------------------------------------------------------------*/

static bool is_planned(const struct drain_plan *plan, uint32_t rank)
{
    size_t low = 0;
    size_t high = plan->rank_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (plan->ranks[middle] < rank)
            low = middle + 1;
        else
            high = middle;
    }
    return low < plan->rank_count && plan->ranks[low] == rank;
}

/* The complete copies of a step: those that the store's plan names, or all. */
static size_t collect(const struct overview *overview, const struct overview_step *step, bool planned_only,
                      struct drain_item *items)
{
    size_t count = 0;
    for (size_t i = 0; i < step->copy_count; i++) {
        const struct catalog_entry *entry = &step->copies[i].entry;
        if (entry->state != SHARD_COMPLETE ||
            (planned_only && !is_planned(&overview->plans[entry->store], entry->rank)))
            continue;
        items[count++] =
            (struct drain_item){.store = entry->store, .kind = entry->kind, .rank = entry->rank, .slot = entry->slot};
    }
    return count;
}

/* Of several attempts at the same step one can be in the object store: the one of which most is here, or the newest.
 */
static bool is_best_attempt(const struct overview *overview, const struct overview_step *step)
{
    for (size_t i = 0; i < overview->step_count; i++) {
        const struct overview_step *other = &overview->steps[i];
        if (other == step || other->set.step != step->set.step)
            continue;
        if (other->held > step->held || (other->held == step->held && other < step))
            return false;
    }
    return true;
}

/* The job's rule says that it need not be stored: enough newer steps are durable. Else a drain would bring back what
 * was removed on purpose. */
static bool is_given_up(const struct drain_run *run, const struct overview_step *step)
{
    const struct drain_plan *plan = run->overview->plan;
    if (step->durable || plan == NULL || plan->keep.last == 0 || run->newer_durable < plan->keep.last)
        return false;
    return plan->keep.every == 0 || step->set.step % plan->keep.every != 0;
}

/* --- One step ------------------------------------------------------------------------------------------------------*/

static dcache_status_t drain_pass(struct drain_run *run, const struct overview_step *step, bool planned_only,
                                  bool *durable)
{
    struct diag *dg = &run->cli->dg;
    struct drain_item *items = calloc(step->copy_count + 1, sizeof *items);
    if (items == NULL)
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "out of memory for %zu shards", step->copy_count);
    const struct drain_request request = {.job = run->overview->job,
                                          .set = step->set,
                                          .drainer = run->drainer,
                                          .stores = run->overview->stores,
                                          .items = items,
                                          .item_count = collect(run->overview, step, planned_only, items),
                                          .codec = &run->codec,
                                          .guard = tool_claim_guard(&run->claim)};
    dcache_status_t status = drain_step(dg, run->overview->remote, &request, &run->control, durable);
    free(items);
    return status;
}

static dcache_status_t find_missing(struct drain_run *run, const struct overview_step *step,
                                    struct number_list *missing)
{
    struct step_objects objects;
    struct manifest united;
    struct diag *dg = &run->cli->dg;
    dcache_status_t status = step_objects_list(dg, run->overview->remote, run->overview->job, &step->set, &objects);
    if (status != DCACHE_OK)
        return status;
    status = step_objects_unite(dg, run->overview->remote, &objects, run->overview->job, &united);
    step_objects_free(&objects);
    if (status != DCACHE_OK)
        return status;
    uint32_t next = 0;
    for (size_t i = 0; i < united.shard_count; i++) {
        if (united.shards[i].rank > next)
            number_list_add_run(missing, next, united.shards[i].rank - 1);
        next = united.shards[i].rank + 1;
    }
    if (next < step->set.world_size)
        number_list_add_run(missing, next, step->set.world_size - 1);
    manifest_free(&united);
    return DCACHE_OK;
}

static struct drain_report report_now(struct drain_run *run)
{
    const struct object_traffic traffic = object_store_traffic(run->overview->remote);
    return (struct drain_report){.shards = atomic_load(&run->control.shards_stored),
                                 .bytes = atomic_load(&run->control.bytes_stored),
                                 .seconds = threads_now(),
                                 .cpu_seconds =
                                     (double)(traffic.cpu_ns + atomic_load(&run->control.work_cpu_ns)) * 1e-9,
                                 .traffic = traffic};
}

static struct drain_report report_since(struct drain_run *run, const struct drain_report *before)
{
    struct drain_report report = report_now(run);
    report.shards -= before->shards;
    report.bytes -= before->bytes;
    report.seconds -= before->seconds;
    report.cpu_seconds -= before->cpu_seconds;
    report.traffic.requests -= before->traffic.requests;
    report.traffic.retries -= before->traffic.retries;
    report.traffic.throttled -= before->traffic.throttled;
    report.traffic.hedged -= before->traffic.hedged;
    report.traffic.sent -= before->traffic.sent;
    return report;
}

static void drain_one(struct drain_run *run, const struct overview_step *step, struct outcome *outcome)
{
    char what[64];
    struct watcher watcher;
    const struct drain_report before = report_now(run);
    memset(outcome, 0, sizeof *outcome);
    outcome->durable = outcome->was_durable = step->durable;
    if (step->durable)
        return;
    if (!run->claimed) /* only now: a job of which nothing is left to be stored may well be running elsewhere */
        outcome->status = tool_claim_begin(run->overview, run->overview->remote, false, &run->claim);
    run->claimed = outcome->status == DCACHE_OK;
    if (!run->claimed) {
        snprintf(outcome->text, sizeof outcome->text, "%s", run->cli->dg.text);
        return;
    }
    snprintf(what, sizeof what, "draining step %" PRIu64 ":", step->set.step);
    watcher_start(&watcher, &run->control, what, step->bytes);
    outcome->status = drain_pass(run, step, true, &outcome->durable);
    bool go_on = outcome->status == DCACHE_OK || outcome->status == DCACHE_ERR_CORRUPT;
    if (go_on && !outcome->durable && !run->cli->plan_only)
        outcome->status = drain_pass(run, step, false, &outcome->durable);
    if (outcome->status == DCACHE_OK && !outcome->durable)
        outcome->status = find_missing(run, step, &outcome->missing);
    watcher_stop(&watcher);
    if (outcome->status != DCACHE_OK)
        snprintf(outcome->text, sizeof outcome->text, "%s", run->cli->dg.text);
    outcome->report = report_since(run, &before);
}

static void print_outcome(const struct overview_step *step, struct outcome *outcome)
{
    char size[16];
    printf("step %" PRIu64 ": ", step->set.step);
    if (outcome->was_durable) {
        puts("DURABLE already");
        return;
    }
    printf("%" PRIu64 " shard%s stored (%s), ", outcome->report.shards, outcome->report.shards == 1 ? "" : "s",
           text_size(outcome->report.bytes, size));
    if (outcome->durable)
        puts("DURABLE");
    else if (outcome->status != DCACHE_OK)
        puts("not durable: failed");
    else
        printf("not durable yet: rank%s %s missing in the object store; run `dcache drain` on other nodes of the job "
               "(a checkpoint that was interrupted stays incomplete)\n",
               outcome->missing.count == 1 ? "" : "s", number_list_text(&outcome->missing));
    if (outcome->report.bytes > 0 || outcome->report.traffic.retries > 0) {
        char text[DRAIN_REPORT_MAX];
        drain_report_text(&outcome->report, text);
        printf("  %s\n", text);
    }
    fflush(stdout);
}

static json_t *outcome_json(const struct overview_step *step, struct outcome *outcome)
{
    uint64_t missing = outcome->missing.count;
    const struct drain_report *report = &outcome->report;
    const struct object_traffic *traffic = &report->traffic;
    return json_pack("{s:I, s:I, s:I, s:I, s:b, s:I, s:s, s:f, s:f, s:f, s:I, s:I, s:I, s:I, s:I, s:o}", "step",
                     (json_int_t)step->set.step, "sequence", (json_int_t)step->set.sequence, "shards_stored",
                     (json_int_t)report->shards, "bytes_stored", (json_int_t)report->bytes, "durable", outcome->durable,
                     "missing_ranks", (json_int_t)missing, "missing", number_list_text(&outcome->missing), "seconds",
                     report->seconds, "bytes_per_second",
                     report->seconds > 0 ? (double)report->bytes / report->seconds : 0.0, "cpu_seconds",
                     report->cpu_seconds, "requests", (json_int_t)traffic->requests, "retries",
                     (json_int_t)traffic->retries, "throttled", (json_int_t)traffic->throttled, "hedged",
                     (json_int_t)traffic->hedged, "bytes_sent", (json_int_t)traffic->sent, "error",
                     outcome->status != DCACHE_OK ? json_string(outcome->text) : json_null());
}

/* False when it makes no sense to go on: the object store failed, and would for the next step. */
static bool handle_step(struct drain_run *run, const struct overview_step *step)
{
    struct outcome outcome;
    drain_one(run, step, &outcome);
    run->steps++;
    if (run->document != NULL)
        json_array_append_new(run->document, outcome_json(step, &outcome));
    else
        print_outcome(step, &outcome);
    run->newer_durable += outcome.durable;
    if (outcome.status == DCACHE_OK)
        return true;
    diag_log(&run->cli->dg, DIAG_ERROR, "step %" PRIu64 ": %s", step->set.step, outcome.text);
    run->code = outcome.status == DCACHE_ERR_BUSY ? CLI_BUSY : CLI_BAD;
    return outcome.status == DCACHE_ERR_CORRUPT || outcome.status == DCACHE_ERR_EXISTS ||
           outcome.status == DCACHE_ERR_FORMAT;
}

static void leave_out(struct drain_run *run, const struct overview_step *step)
{
    run->steps++;
    if (!run->cli->json)
        printf("step %" PRIu64 ": left out, the object store keeps %" PRIu64 " newer ones\n", step->set.step,
               run->overview->plan->keep.last);
}

/* --- The command ---------------------------------------------------------------------------------------------------*/

/* The name of this drainer's parts: one for each host, so that a second try goes on with its own. */
static void name_drainer(char name[64])
{
    char host[48] = "";
    if (gethostname(host, sizeof host - 1) != 0 || host[0] == '\0')
        memcpy(host, "host", sizeof "host");
    for (char *at = host; *at != '\0'; at++) {
        bool fine = (*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z') || (*at >= '0' && *at <= '9') ||
                    *at == '-' || *at == '.';
        if (!fine)
            *at = '_';
    }
    snprintf(name, 64, "tool-%s", host);
}

static int drain_all(struct drain_run *run)
{
    struct cli *cli = run->cli;
    const struct overview *overview = run->overview;
    if (overview->remote_failed) /* the warning is out */
        return CLI_BAD;
    if (overview->remote == NULL) {
        if (!cli->json)
            printf("job %s: nothing to do, there is no object store (give one with --store URL)\n", overview->job);
        return CLI_OK;
    }
    if (!cli->json)
        printf("job %s, to %s\n", overview->job, overview->remote_url);
    dcache_status_t status = diag_failpoint(&cli->dg, "tool.drain");
    if (status != DCACHE_OK)
        return cli_failed(cli, status);
    bool go_on = true;
    for (size_t i = 0; go_on && i < overview->step_count; i++) {
        const struct overview_step *step = &overview->steps[i];
        if (step->held == 0 || !is_best_attempt(overview, step))
            continue;
        if (is_given_up(run, step))
            leave_out(run, step);
        else
            go_on = handle_step(run, step);
    }
    if (run->steps == 0)
        return cli_failed(cli,
                          diag_fail(&cli->dg, DCACHE_NOT_FOUND,
                                    "job %s has no complete shards in the node stores of this host", overview->job));
    return run->code;
}

int command_drain(struct cli *cli)
{
    char job[64];
    struct overview overview;
    struct drain_run run = {.cli = cli, .overview = &overview};
    if (cli->argument_count > 0)
        return cli_misused(cli, "drain takes no arguments: choose a job with --job NAME");
    if (cli->no_store)
        return cli_misused(cli, "drain without the object store (--no-store) makes no sense");
    int code = cli_one_job(cli, job);
    if (code != CLI_OK)
        return code;
    cli->may_create = true;
    const struct codec_key *key = NULL;
    dcache_status_t status = cli_key(cli, &key);
    if (status == DCACHE_OK)
        status = overview_open(cli, job, true, &overview);
    if (status != DCACHE_OK)
        return cli_failed(cli, status);
    run.codec = options_codec(&cli->options, key);
    name_drainer(run.drainer);
    run.document = cli->json ? json_array() : NULL;
    code = drain_all(&run);
    if (cli->json && code != CLI_NOTHING &&
        cli_print_json(cli, json_pack("{s:s, s:s, s:O}", "job", job, "object_store", overview.remote_url, "steps",
                                      run.document)) != CLI_OK)
        code = CLI_BAD;
    json_decref(run.document);
    tool_claim_end(&run.claim);
    overview_close(&overview);
    return code;
}
