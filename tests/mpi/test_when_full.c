/* The object store takes nothing, and every slot holds a step that waits for it: the option when_full decides, the
 * newest complete step is never given up for the next one, and what was left undone is done by a later run.
 *
 * ranks: 1 2 3 */
#include "mpi_fields.h"
#include "mpi_stores.h"
#include "mpi_support.h"

#include <stdio.h>
#include <string.h>

#define JOB "test"

static dcache_status_t checkpoint(dcache_t *dc, struct fields *fields, uint64_t step)
{
    fields_fill(fields, step);
    dcache_status_t status = dcache_checkpoint(dc, step);
    CHECK_SAME(status, "");
    CHECK(fields_hold(fields, step));
    return status;
}

static void restore(dcache_t *dc, struct fields *fields, uint64_t wanted, uint64_t expected)
{
    uint64_t step = wanted;

    fields_scribble(fields);
    CHECK_STATUS(dc, dcache_restart(dc, &step), DCACHE_OK);
    CHECK(step == expected && fields_hold(fields, expected));
}

static void lack(dcache_t *dc, uint64_t wanted)
{
    uint64_t step = wanted;

    CHECK_STATUS(dc, dcache_restart(dc, &step), DCACHE_NOT_FOUND);
}

/* Two steps, which wait for the store, or only the first. Every attempt to drain fails at once. */
static dcache_t *fill_ring(struct fields *fields, const char *when_full)
{
    stores_lose_all(JOB);
    support_use_objects(true);
    support_option("WHEN_FULL", when_full);
    support_option("FAILPOINTS", "drain.begin=error");
    fields_init(fields, support_rank);
    fields_add_some(fields, 50);
    dcache_t *dc = support_open();
    fields_protect(dc, fields);
    CHECK(checkpoint(dc, fields, 1) == DCACHE_OK);
    CHECK(checkpoint(dc, fields, 2) == DCACHE_OK);
    return dc;
}

/* Without hanging, and saying that steps are left to drain. */
static void close_with_debts(dcache_t **dc)
{
    dcache_status_t status = dcache_close(dc);

    CHECK_STATUS(NULL, status, DCACHE_ERR_STORE);
    CHECK(*dc == NULL);
    CHECK_SAME(status, "");
}

/* The store works again: what the run before could not drain, this one does. */
static void next_run(struct fields *fields, uint64_t newest)
{
    support_option("FAILPOINTS", "");
    dcache_t *dc = support_open();
    fields_protect(dc, fields);
    restore(dc, fields, DCACHE_LATEST, newest);
    CHECK_STATUS(dc, dcache_wait(dc, newest, DCACHE_DURABLE), DCACHE_OK);
    CHECK(checkpoint(dc, fields, 9) == DCACHE_OK);
    CHECK_STATUS(dc, dcache_wait(dc, 9, DCACHE_DURABLE), DCACHE_OK);
    support_close(&dc);
    stores_lose_all(JOB);
    dc = support_open();
    fields_protect(dc, fields);
    restore(dc, fields, newest, newest);
    restore(dc, fields, DCACHE_LATEST, 9);
    support_close(&dc);
    fields_free(fields);
}

static void test_skip(void)
{
    struct fields fields;
    dcache_level_t level = DCACHE_LEVEL_NONE;

    support_trying("when_full = skip");
    dcache_t *dc = fill_ring(&fields, "skip");
    CHECK(checkpoint(dc, &fields, 3) == DCACHE_SKIPPED);
    CHECK(checkpoint(dc, &fields, 4) == DCACHE_SKIPPED);
    CHECK_STATUS(dc, dcache_test(dc, 3, &level), DCACHE_NOT_FOUND);
    dcache_status_t status = dcache_wait(dc, 2, DCACHE_DURABLE);
    CHECK_STATUS(dc, status, DCACHE_ERR_STORE);
    CHECK_SAME(status, dcache_error_text(dc));
    CHECK(strstr(dcache_error_text(dc), "step 2") != NULL && strstr(dcache_error_text(dc), "drain.begin") != NULL);
    restore(dc, &fields, 1, 1);
    restore(dc, &fields, 2, 2);
    close_with_debts(&dc);
    next_run(&fields, 2);
}

static void test_replace(void)
{
    struct fields fields;

    support_trying("when_full = replace");
    dcache_t *dc = fill_ring(&fields, "replace");
    CHECK(checkpoint(dc, &fields, 3) == DCACHE_OK);
    lack(dc, 1);
    restore(dc, &fields, 2, 2);
    restore(dc, &fields, 3, 3);
    close_with_debts(&dc);
    next_run(&fields, 3);
}

/* Blocking ends when the store has stopped taking anything: the application has to go on. */
static void test_block(void)
{
    struct fields fields;

    support_trying("when_full = block");
    dcache_t *dc = fill_ring(&fields, "block");
    CHECK(checkpoint(dc, &fields, 3) == DCACHE_OK);
    restore(dc, &fields, DCACHE_LATEST, 3);
    restore(dc, &fields, 2, 2);
    close_with_debts(&dc);
    next_run(&fields, 3);
}

/* A store that is only slow is waited for: the third checkpoint does not return before the first one is stored. Nothing
 * but the store has it then. */
static void test_block_waits(void)
{
    struct fields fields;

    support_trying("when_full = block, and a slow store");
    stores_lose_all(JOB);
    support_use_objects(true);
    support_option("WHEN_FULL", "block");
    support_option("FAILPOINTS", "drain.shard=delay:400");
    fields_init(&fields, support_rank);
    fields_add_some(&fields, 50);
    dcache_t *dc = support_open();
    fields_protect(dc, &fields);
    for (uint64_t step = 1; step <= 3; step++)
        CHECK(checkpoint(dc, &fields, step) == DCACHE_OK);
    support_close(&dc);
    stores_lose_all(JOB);
    support_option("FAILPOINTS", "");
    dc = support_open();
    fields_protect(dc, &fields);
    for (uint64_t step = 1; step <= 3; step++)
        restore(dc, &fields, step, step);
    support_close(&dc);
    fields_free(&fields);
}

/* The newest step does not wait for the store, the older one does: neither is free. */
static void test_newest_is_kept(void)
{
    struct fields fields;

    support_trying("the newest step is kept");
    support_option("DRAIN_EVERY", "2");
    dcache_t *dc = fill_ring(&fields, "skip");
    CHECK(checkpoint(dc, &fields, 3) == DCACHE_SKIPPED);
    restore(dc, &fields, DCACHE_LATEST, 2);
    restore(dc, &fields, 1, 1);
    CHECK(dcache_close(&dc) == DCACHE_ERR_STORE);
    support_option("DRAIN_EVERY", NULL);
    next_run(&fields, 2);
}

int main(int argc, char **argv)
{
#ifndef DCACHE_FAILPOINTS
    (void)argc;
    (void)argv;
    return 77; /* skipped: the object store cannot be made to fail in this build */
#endif
    support_start(&argc, &argv, MPI_THREAD_SINGLE);
    support_option_number("NODE_SIZE", 1);
    support_option("FAILPOINTS", ""); /* set once and for all: later changes do not move the environment */
    test_skip();
    test_replace();
    test_block();
    test_block_waits();
    test_newest_is_kept();
    return support_finish();
}
