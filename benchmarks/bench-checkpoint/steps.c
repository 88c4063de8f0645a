/* Checkpoints: first ones apart, then rounds in which floors and steps take turns. */
#include "bench.h"

#include <stdlib.h>

/* Iterations of the stencil loop that are timed alone, for comparison. */
#define ITERATIONS_ALONE 32

static dcache_status_t wait_replicated(struct bench *b)
{
    if (!bench_has_partner(b))
        return DCACHE_OK;
    return bench_check(b, "dcache_wait", dcache_wait(b->dc, b->step, DCACHE_REPLICATED));
}

static dcache_status_t take_step(struct bench *b, bool background, double *seconds)
{
    bench_change_data(b);
    b->step++;
    double start = bench_start(b);
    dcache_status_t status = background
                                 ? bench_check(b, "dcache_checkpoint_begin", dcache_checkpoint_begin(b->dc, b->step))
                                 : bench_check(b, "dcache_checkpoint", dcache_checkpoint(b->dc, b->step));
    *seconds = bench_wall(b, start, bench_now());
    return status;
}

static dcache_status_t first_steps(struct bench *b)
{
    dcache_status_t status = DCACHE_OK;

    for (int i = 0; i < b->firsts.steps && status == DCACHE_OK; i++)
        status = take_step(b, false, &b->firsts.steps_s[i]);
    return status;
}

static dcache_status_t staged(struct bench *b)
{
    double seconds = 0;
    dcache_status_t status = take_step(b, true, &seconds);

    bench_add(b, STAGED, seconds);
    return status == DCACHE_OK ? wait_replicated(b) : status;
}

static dcache_status_t replicated(struct bench *b)
{
    double seconds = 0;

    if (!bench_has_partner(b))
        return DCACHE_OK;
    dcache_status_t status = take_step(b, false, &seconds);
    bench_add(b, REPLICATED, seconds);
    return status;
}

static double iterate_alone(struct bench *b)
{
    double start = bench_start(b);

    for (int i = 0; i < ITERATIONS_ALONE; i++)
        stencil_iterate(b);
    return bench_wall(b, start, bench_now()) / ITERATIONS_ALONE;
}

/* Compute until the step is replicated, as an application does that wants to know. */
static dcache_status_t iterate_until_replicated(struct bench *b, int *iterations)
{
    dcache_level_t level = DCACHE_STAGED;
    dcache_status_t status = DCACHE_OK;

    *iterations = 0;
    do {
        stencil_iterate(b);
        status = bench_check(b, "dcache_test", dcache_test(b->dc, b->step, &level));
        (*iterations)++;
    } while (status == DCACHE_OK && level < DCACHE_REPLICATED);
    return status;
}

/* What the loop loses in all is what it was blocked and what its iterations took longer. */
static dcache_status_t background(struct bench *b)
{
    int iterations = 0;

    if (!bench_has_partner(b))
        return DCACHE_OK;
    double alone = iterate_alone(b);
    bench_change_data(b);
    b->step++;
    double start = bench_start(b);
    dcache_status_t status = bench_check(b, "dcache_checkpoint_begin", dcache_checkpoint_begin(b->dc, b->step));
    double begun = bench_now();
    if (status == DCACHE_OK)
        status = iterate_until_replicated(b, &iterations);
    double end = bench_now();
    if (status != DCACHE_OK)
        return status;
    double blocked = bench_wall(b, start, begun), total = bench_wall(b, start, end);
    bench_add(b, STENCIL_ALONE, alone);
    bench_add(b, BACKGROUND_BLOCKED, blocked);
    bench_add(b, BACKGROUND_REPLICATED, total);
    bench_add(b, BACKGROUND_ITERATIONS, iterations);
    bench_add(b, BACKGROUND_COST, total - alone * iterations);
    bench_add(b, STENCIL_DURING, bench_wall(b, begun, end) / iterations);
    return DCACHE_OK;
}

typedef dcache_status_t (*measure_t)(struct bench *b);

/* Each round begins with another one, so that none always follows the same. */
static dcache_status_t one_round(struct bench *b, int round)
{
    static const measure_t measures[] = {
        floors_copy, floors_copy_nontemporal, staged, floors_put, replicated, background,
        floors_send, floors_agreements};
    int count = (int)(sizeof measures / sizeof measures[0]);
    dcache_status_t status = DCACHE_OK;

    for (int i = 0; i < count && status == DCACHE_OK; i++)
        status = measures[(i + round) % count](b);
    return status;
}

static dcache_status_t with_open_handle(struct bench *b)
{
    char root[OPTIONS_TEXT_MAX];
    struct memory_mark mark;
    double most, more;

    scratch_store_root(b, root);
    (void)iterate_alone(b); /* what it needs is no overhead of the library */
    memory_mark(&mark);
    dcache_status_t status = bench_open(b, &b->firsts.open_s);
    most = memory_over_mark(&mark, root);
    if (status == DCACHE_OK)
        status = first_steps(b);
    more = memory_over_mark(&mark, root);
    most = more > most ? more : most;
    memory_reset(&mark); /* from here on all shards are resident: whatever else comes and goes is seen */
    for (int round = 0; round < b->options.rounds && status == DCACHE_OK; round++)
        status = one_round(b, round);
    more = memory_over_mark(&mark, root);
    b->overhead.steps_MiB = more > most ? more : most;
    b->overhead.parts_MiB = memory_parts_over_mark(&mark, root);
    b->overhead.exact = mark.exact;
    return status;
}

dcache_status_t steps_measure(struct bench *b)
{
    b->firsts.steps = (int)b->library.slots;
    b->firsts.steps_s = calloc((size_t)b->firsts.steps, sizeof *b->firsts.steps_s);
    dcache_status_t status = DCACHE_OK;

    if (b->firsts.steps_s == NULL)
        status = diag_fail(&b->diag, DCACHE_ERR_NO_MEMORY, "out of memory for %d times", b->firsts.steps);
    status = bench_agree(b, status);
    if (status == DCACHE_OK)
        status = bench_close(b, with_open_handle(b));
    dcache_status_t wiped = scratch_wipe_all(b);
    return status == DCACHE_OK ? wiped : status;
}
