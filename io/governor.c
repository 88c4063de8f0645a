#include "io/governor.h"

#include <time.h>

#define POLL_NS 2000000L

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now = {0};
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* The CPU time that reading and sending have taken since ever. */
static uint64_t used_ns(struct object_store *store, struct drain_control *control)
{
    return object_store_traffic(store).cpu_ns + atomic_load(&control->work_cpu_ns);
}

struct governor governor_make(struct object_store *store, struct drain_control *control)
{
    return (struct governor){
        .store = store, .control = control, .start = clock_ns(CLOCK_MONOTONIC), .cpu_ns = used_ns(store, control)};
}

/* Whether what is to be sent at `turn` has to wait. */
static bool must_wait(const struct governor *governor, uint64_t turn)
{
    struct drain_control *control = governor->control;
    const uint64_t now = clock_ns(CLOCK_MONOTONIC);
    if (atomic_load(&control->pause) || (now < turn && atomic_load(&control->pace.bytes_per_s) != 0))
        return true;
    return atomic_load(&control->pace.cpu_ns_per_s) != 0 &&
           pace_over_budget(&control->pace, used_ns(governor->store, control) - governor->cpu_ns,
                            now - governor->start);
}

dcache_status_t governor_wait(struct diag *dg, const struct governor *governor, uint64_t bytes)
{
    const struct timespec nap = {.tv_nsec = POLL_NS};
    struct drain_control *control = governor->control;
    const uint64_t turn = pace_reserve(&control->pace, bytes, clock_ns(CLOCK_MONOTONIC));
    while (!atomic_load(&control->cancel) && must_wait(governor, turn))
        (void)nanosleep(&nap, NULL);
    if (atomic_load(&control->cancel))
        return diag_fail(dg, DCACHE_ERR_CANCELLED, "the drain was cancelled");
    return DCACHE_OK;
}

uint64_t governor_thread_cpu(void)
{
    return clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

void governor_count(const struct governor *governor, uint64_t cpu_before)
{
    atomic_fetch_add(&governor->control->work_cpu_ns, governor_thread_cpu() - cpu_before);
}
