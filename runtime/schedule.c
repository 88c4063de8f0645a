#include "runtime/schedule.h"

#include "io/instance_metadata.h"
#include "io/threads.h"
#include "runtime/context.h"
#include "runtime/notices.h"
#include "runtime/values.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DEFAULT_INTERVAL_S 600.0 /* where nobody knows how often nodes fail: hours of work are not at risk then */
#define FIRST_COST_S       1.0   /* before one was taken: a guess that errs on the side of an early one */
#define MARGIN_S           60.0
#define NEVER              INT64_MAX

double schedule_optimum(double cost, double mtbf)
{
    double ratio = cost / (2 * mtbf);

    if (ratio >= 1)
        return mtbf;
    return sqrt(2 * cost * mtbf) * (1 + sqrt(ratio) / 3 + ratio / 9) - cost;
}

double schedule_interval(const struct options *options, double cost, unsigned nodes)
{
    if (options->interval > 0)
        return options->interval;
    if (options->mtbf <= 0)
        return DEFAULT_INTERVAL_S;
    double best = schedule_optimum(cost >= 0 ? cost : FIRST_COST_S, options->mtbf / nodes);
    return cost >= 0 || best < DEFAULT_INTERVAL_S ? best : DEFAULT_INTERVAL_S;
}

bool schedule_parse_time(const char *text, int64_t *seconds)
{
    int64_t value;

    if (!values_parse_integer(text, &value) || value <= 0 || value > INT64_C(1) << 40)
        return false;
    *seconds = value;
    return true;
}

void schedule_open(dcache_t *dc)
{
    dc->schedule = (struct schedule){.last = threads_now(), .cost = -1};
}

void schedule_begin(dcache_t *dc)
{
    dc->schedule.begun = threads_now();
}

static struct signals_count heard_signals(const dcache_t *dc)
{
    struct signals_count none = {0, 0};

    return dc->schedule.signals ? signals_read() : none;
}

/* Notices of a checkpoint that came while it was taken are met by it: the program's data have not changed since. */
void schedule_end(dcache_t *dc, dcache_status_t status)
{
    struct schedule *s = &dc->schedule;
    double end = threads_now();

    if (status != DCACHE_OK)
        return;
    s->cost = s->cost < 0 ? end - s->begun : (s->cost + end - s->begun) / 2;
    s->last = end;
    s->wanted = false;
    s->checkpoint = heard_signals(dc).checkpoint + notices_read(s->notices).checkpoint;
}

/* ---- watching ---- */

/* NULL: this rank watches no events. One of each machine does. */
static const char *events_url(const dcache_t *dc)
{
    if (dc->world.node_rank != 0 || dc->world.virtual_index != 0)
        return NULL;
    return instance_metadata_events_url(dc->options.events);
}

/* What cannot be watched is no reason to end a computation: it is said, once. */
static void watch(dcache_t *dc)
{
    struct schedule *s = &dc->schedule;

    const char *end = getenv("SLURM_JOB_END_TIME");
    int64_t seconds;

    s->watching = true;
    if (dc->world.rank == 0 && end != NULL && *end != '\0' && !schedule_parse_time(end, &seconds))
        diag_log(&dc->diag, DIAG_WARNING, "SLURM_JOB_END_TIME is \"%.40s\" and no time: the job's end is not known",
                 end);
    if (dc->options.signals && signals_watch(&dc->diag) == DCACHE_OK) {
        struct signals_count count = signals_read(); /* what other handles have heard before */
        s->signals = true;
        s->checkpoint = count.checkpoint;
        s->stop = count.stop;
    } else if (dc->options.signals) {
        diag_log(&dc->diag, DIAG_WARNING, "signals are not watched: %s", dc->diag.text);
    }
    const char *url = events_url(dc);
    if (url != NULL && notices_start(&dc->diag, url, &s->notices) != DCACHE_OK)
        diag_log(&dc->diag, DIAG_WARNING, "scheduled events are not watched: %s", dc->diag.text);
}

void schedule_close(dcache_t *dc)
{
    notices_stop(dc->schedule.notices);
    if (dc->schedule.signals)
        signals_unwatch();
    dc->schedule = (struct schedule){.cost = -1};
}

/* ---- deciding ---- */

/* Slurm tells it in the environment; asking its controller from every job would be no kindness. */
static int64_t job_end(const dcache_t *dc)
{
    const char *text = getenv("SLURM_JOB_END_TIME");
    int64_t seconds;

    if (dc->world.rank != 0 || text == NULL || *text == '\0')
        return NEVER;
    return schedule_parse_time(text, &seconds) ? seconds : NEVER;
}

static double margin(const dcache_t *dc)
{
    double cost = dc->schedule.cost > 0 ? dc->schedule.cost : 0;

    return dc->options.end_margin > 0 ? dc->options.end_margin : 2 * cost + MARGIN_S;
}

/* What one agreement tells; the maximum over all ranks. */
enum { DUE, CHECKPOINT, STOP, DEADLINE, CLOCK, MARGIN, VALUES };

static void collect(const dcache_t *dc, int64_t values[VALUES], struct signals_count *heard)
{
    const struct schedule *s = &dc->schedule;
    struct notices_heard events = notices_read(s->notices);
    struct signals_count signals = heard_signals(dc);
    int64_t end = job_end(dc);

    *heard = (struct signals_count){signals.checkpoint + events.checkpoint, signals.stop + events.stop};
    memset(values, 0, VALUES * sizeof *values);
    values[CHECKPOINT] = heard->checkpoint != s->checkpoint;
    values[STOP] = heard->stop != s->stop;
    values[DEADLINE] = -(end < events.leaves_at ? end : events.leaves_at);
    if (dc->world.rank == 0) {
        values[DUE] = threads_now() - s->last >= schedule_interval(&dc->options, s->cost, dc->world.node_count);
        values[CLOCK] = (int64_t)time(NULL);
        values[MARGIN] = (int64_t)ceil(margin(dc));
    }
}

static void learn(dcache_t *dc, const int64_t values[VALUES])
{
    struct schedule *s = &dc->schedule;
    int64_t left = -values[DEADLINE] - values[CLOCK];
    bool ends = values[STOP] || left <= values[MARGIN];

    if (ends && !s->stopping && dc->world.rank == 0 && values[STOP])
        diag_log(&dc->diag, DIAG_INFO, "told to stop: a last checkpoint is asked for");
    else if (ends && !s->stopping && dc->world.rank == 0)
        diag_log(&dc->diag, DIAG_INFO, "%lld s are left: a last checkpoint is asked for", (long long)left);
    s->wanted = s->wanted || values[CHECKPOINT] || (ends && !s->stopping);
    s->stopping = s->stopping || ends;
}

/* One agreement for both questions. */
static dcache_status_t ask(dcache_t *dc, const int *flag, bool *due)
{
    int64_t values[VALUES];
    struct signals_count heard;
    dcache_status_t status = DCACHE_OK;

    if (dc->broken)
        return diag_fail(&dc->diag, DCACHE_ERR_STATE, "MPI has failed on this handle: only dcache_close() is left");
    if (flag == NULL)
        status = diag_fail(&dc->diag, DCACHE_ERR_INVALID, "the pointer for the answer is NULL");
    if (!dc->schedule.watching)
        watch(dc);
    collect(dc, values, &heard);
    status = agree_values(&dc->world, &dc->diag, &dc->replicator.idle, status, values, VALUES);
    if (status != DCACHE_OK)
        return status;
    dc->schedule.checkpoint = heard.checkpoint;
    dc->schedule.stop = heard.stop;
    learn(dc, values);
    *due = values[DUE] != 0;
    return DCACHE_OK;
}

dcache_status_t dcache_should_checkpoint(dcache_t *dc, int *flag)
{
    bool due = false;

    if (dc == NULL)
        return DCACHE_ERR_INVALID;
    context_enter(dc);
    dcache_status_t status = ask(dc, flag, &due);
    if (status == DCACHE_OK)
        *flag = dc->schedule.wanted || due;
    return context_finish(dc, "dcache_should_checkpoint", status);
}

/* Without a checkpoint since the notice there would be nothing gained by ending early. */
dcache_status_t dcache_should_stop(dcache_t *dc, int *flag)
{
    bool due = false;

    if (dc == NULL)
        return DCACHE_ERR_INVALID;
    context_enter(dc);
    dcache_status_t status = ask(dc, flag, &due);
    if (status == DCACHE_OK)
        *flag = dc->schedule.stopping && !dc->schedule.wanted;
    return context_finish(dc, "dcache_should_stop", status);
}
