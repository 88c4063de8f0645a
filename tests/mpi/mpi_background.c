#include "mpi_background.h"

#include "mpi_fields.h"
#include "mpi_stores.h"
#include "mpi_support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define JOB "test"
#define KIB 6000 /* of regions: several rounds of chunks */

/* A run and the application beside it, which exchanges halos on a communicator of its own. */
struct run {
    dcache_t *dc;
    struct fields fields;
    MPI_Comm halo;
    uint64_t round;
};

static void run_start(struct run *run)
{
    fields_init(&run->fields, support_rank);
    fields_add_some(&run->fields, KIB);
    MPI_Comm_dup(MPI_COMM_WORLD, &run->halo);
    run->round = 0;
    run->dc = support_open();
    fields_protect(run->dc, &run->fields);
}

static void run_end(struct run *run)
{
    support_close(&run->dc);
    MPI_Comm_free(&run->halo);
    fields_free(&run->fields);
}

/* Buffers change as soon as begin returns: what is saved must not. */
static void begin(struct run *run, uint64_t step)
{
    fields_fill(&run->fields, step);
    CHECK_STATUS(run->dc, dcache_checkpoint_begin(run->dc, step), DCACHE_OK);
    fields_scribble(&run->fields);
}

static void restore(struct run *run, uint64_t wanted, uint64_t expected)
{
    uint64_t step = wanted;

    fields_scribble(&run->fields);
    CHECK_STATUS(run->dc, dcache_restart(run->dc, &step), DCACHE_OK);
    CHECK(step == expected && fields_hold(&run->fields, expected));
}

/* The application goes on: neighbours exchange, all reduce, and nobody gets what was meant for dcache. */
static void exchange_halos(struct run *run)
{
    int left = (support_rank + support_size - 1) % support_size, right = (support_rank + 1) % support_size;
    uint64_t sent[64], received[64], sum = 0;

    run->round++;
    for (int i = 0; i < 64; i++)
        sent[i] = run->round * 1000 + (uint64_t)support_rank;
    MPI_Sendrecv(sent, 64, MPI_UINT64_T, right, 1, received, 64, MPI_UINT64_T, left, 1, run->halo, MPI_STATUS_IGNORE);
    CHECK(received[0] == run->round * 1000 + (uint64_t)left && received[63] == received[0]);
    MPI_Allreduce(sent, &sum, 1, MPI_UINT64_T, MPI_SUM, run->halo);
    CHECK(sum == (uint64_t)support_size * run->round * 1000 + (uint64_t)(support_size * (support_size - 1) / 2));
}

/* Levels only rise. The loop ends with the level, or the program ends as hanging. */
static void compute_until(struct run *run, uint64_t step, dcache_level_t wanted)
{
    dcache_level_t level = DCACHE_LEVEL_NONE, before = DCACHE_STAGED;

    while (level < wanted) {
        exchange_halos(run);
        CHECK_STATUS(run->dc, dcache_test(run->dc, step, &level), DCACHE_OK);
        CHECK(level >= before && level <= DCACHE_DURABLE);
        before = level;
    }
}

static void test_until_replicated(void)
{
    struct run run;

    support_trying("begin, halos and test until REPLICATED");
    run_start(&run);
    for (uint64_t step = 1; step <= 4; step++) {
        begin(&run, step);
        CHECK_STATUS(run.dc, dcache_wait(run.dc, step, DCACHE_STAGED), DCACHE_OK);
        compute_until(&run, step, DCACHE_REPLICATED);
        CHECK(stores_redundant(JOB, step, (uint32_t)support_size));
    }
    restore(&run, DCACHE_LATEST, 4);
    restore(&run, 3, 3);
    run_end(&run);
}

static void test_wait(void)
{
    struct run run;
    dcache_level_t level = DCACHE_LEVEL_NONE;

    support_trying("begin and wait");
    run_start(&run);
    begin(&run, 1);
    exchange_halos(&run);
    CHECK_STATUS(run.dc, dcache_wait(run.dc, 1, DCACHE_REPLICATED), DCACHE_OK);
    CHECK_STATUS(run.dc, dcache_wait(run.dc, 1, DCACHE_REPLICATED), DCACHE_OK);
    CHECK_STATUS(run.dc, dcache_test(run.dc, 1, &level), DCACHE_OK);
    CHECK(level == DCACHE_REPLICATED);
    CHECK_STATUS(run.dc, dcache_test(run.dc, 2, &level), DCACHE_NOT_FOUND);
    CHECK(stores_redundant(JOB, 1, (uint32_t)support_size));
    run_end(&run);
}

/* Messages that stay on the way: nobody says REPLICATED before the host has all of them. */
static void test_on_the_way(void)
{
#ifdef DCACHE_FAILPOINTS
    struct run run;
    int threads = MPI_THREAD_SINGLE;

    MPI_Query_thread(&threads);
    if (threads == MPI_THREAD_MULTIPLE) /* a progress thread may be faster than this */
        return;
    support_trying("a replica that stays on the way");
    run_start(&run);
    begin(&run, 1);
    CHECK_STATUS(run.dc, dcache_wait(run.dc, 1, DCACHE_REPLICATED), DCACHE_OK);
    begin(&run, 2);
    support_option("FAILPOINTS", "transport.receive=error");
    MPI_Barrier(MPI_COMM_WORLD); /* all have come out of begin, and nobody receives any more */
    for (int i = 0; i < 50; i++) {
        dcache_level_t level = DCACHE_LEVEL_NONE;
        CHECK_STATUS(run.dc, dcache_test(run.dc, 2, &level), DCACHE_OK);
        CHECK(level == DCACHE_STAGED);
    }
    support_option("FAILPOINTS", "");
    CHECK_STATUS(run.dc, dcache_wait(run.dc, 2, DCACHE_REPLICATED), DCACHE_OK);
    CHECK(stores_redundant(JOB, 2, (uint32_t)support_size));
    run_end(&run);
#endif
}

/* The next checkpoint of either kind and a restart complete what is under way first. */
static void test_one_after_the_other(void)
{
    struct run run;

    support_trying("begin while another is in flight");
    run_start(&run);
    begin(&run, 1);
    begin(&run, 2);
    CHECK_STATUS(run.dc, dcache_wait(run.dc, 1, DCACHE_REPLICATED), DCACHE_OK);
    exchange_halos(&run);
    begin(&run, 3);
    CHECK_STATUS(run.dc, dcache_wait(run.dc, 1, DCACHE_STAGED), DCACHE_NOT_FOUND); /* its slot is used again */
    CHECK_STATUS(run.dc, dcache_wait(run.dc, 2, DCACHE_REPLICATED), DCACHE_OK);
    fields_fill(&run.fields, 4);
    CHECK_STATUS(run.dc, dcache_checkpoint(run.dc, 4), DCACHE_OK);
    CHECK(stores_redundant(JOB, 3, (uint32_t)support_size));
    CHECK(stores_redundant(JOB, 4, (uint32_t)support_size));
    begin(&run, 5);
    restore(&run, DCACHE_LATEST, 5);
    begin(&run, 6);
    restore(&run, 5, 5);
    begin(&run, 7); /* after the roll-back */
    restore(&run, DCACHE_LATEST, 7);
    run_end(&run);
}

/* The regions are given up and their memory freed while the replica is still being made. */
static void test_freed_memory(void)
{
    struct run run;

    support_trying("memory freed right after begin");
    run_start(&run);
    begin(&run, 1);
    for (int i = 0; i < run.fields.count; i++)
        CHECK_STATUS(run.dc, dcache_unprotect(run.dc, run.fields.items[i].name), DCACHE_OK);
    fields_free(&run.fields);
    compute_until(&run, 1, DCACHE_REPLICATED);
    fields_add_some(&run.fields, KIB);
    fields_protect(run.dc, &run.fields);
    restore(&run, 1, 1);
    run_end(&run);
}

/* Closing completes it; a node may be lost right afterwards. */
static void test_close_in_flight(void)
{
    struct run run;

    support_trying("close while a step is in flight");
    run_start(&run);
    begin(&run, 1);
    begin(&run, 2);
    run_end(&run);
    CHECK(stores_redundant(JOB, 2, (uint32_t)support_size));
    stores_lose_node(JOB, 0);
    run_start(&run);
    restore(&run, DCACHE_LATEST, 2);
    CHECK_STATUS(run.dc, dcache_wait(run.dc, 2, DCACHE_REPLICATED), DCACHE_OK);
    CHECK(stores_redundant(JOB, 2, (uint32_t)support_size));
    run_end(&run);
}

/* With a progress thread, or not: the application computes and never calls. */
static void test_no_calls(void)
{
    struct run run;

    support_trying("no calls between begin and the next one");
    run_start(&run);
    for (uint64_t step = 1; step <= 3; step++) {
        begin(&run, step);
        for (int i = 0; i < 20; i++) {
            exchange_halos(&run);
            usleep(500);
        }
    }
    restore(&run, DCACHE_LATEST, 3);
    restore(&run, 2, 2);
    run_end(&run);
}

/* Two steps of two handles are in flight at the same time. */
static void test_two_handles(void)
{
    struct run one, two;

    support_trying("two handles in flight");
    support_option("COMPONENT", "one");
    run_start(&one);
    support_option("COMPONENT", "two");
    run_start(&two);
    support_option("COMPONENT", NULL);
    begin(&one, 1);
    begin(&two, 2);
    compute_until(&one, 1, DCACHE_REPLICATED);
    begin(&one, 3);
    compute_until(&two, 2, DCACHE_REPLICATED);
    CHECK(stores_redundant(JOB ".two", 2, (uint32_t)support_size));
    run_end(&one);
    restore(&two, DCACHE_LATEST, 2);
    run_end(&two);
    CHECK(stores_redundant(JOB ".one", 3, (uint32_t)support_size));
    stores_lose_all(JOB ".one");
    stores_lose_all(JOB ".two");
}

static bool manifest_there(uint64_t step)
{
    char path[512];

    snprintf(path, sizeof path, "%s/" JOB "/%llu/manifest.json", support_objects(), (unsigned long long)step);
    return access(path, R_OK) == 0;
}

/* On to the object store; a step that is DURABLE needs no node any more. */
static void test_durable(void)
{
    struct run run;

    support_trying("until DURABLE");
    support_use_objects(true);
    run_start(&run);
    begin(&run, 1);
    compute_until(&run, 1, DCACHE_DURABLE);
    CHECK(manifest_there(1));
    begin(&run, 2);
    CHECK_STATUS(run.dc, dcache_wait(run.dc, 2, DCACHE_DURABLE), DCACHE_OK);
    CHECK(manifest_there(2));
    begin(&run, 3);
    run_end(&run); /* which waits for it */
    CHECK(manifest_there(3));
    stores_lose_all(JOB);
    run_start(&run);
    restore(&run, DCACHE_LATEST, 3);
    restore(&run, 1, 1);
    run_end(&run);
    support_use_objects(false);
}

/* Every second step only: the others cannot become durable, and waiting for it says so instead of hanging. */
static void test_drain_every(void)
{
    struct run run;

    support_trying("drain every second step");
    support_use_objects(true);
    support_option("DRAIN_EVERY", "2");
    run_start(&run);
    begin(&run, 1);
    CHECK_STATUS(run.dc, dcache_wait(run.dc, 1, DCACHE_DURABLE), DCACHE_OK);
    begin(&run, 2);
    CHECK_STATUS(run.dc, dcache_wait(run.dc, 2, DCACHE_DURABLE), DCACHE_ERR_LEVEL);
    CHECK_STATUS(run.dc, dcache_wait(run.dc, 2, DCACHE_REPLICATED), DCACHE_OK);
    run_end(&run);
    CHECK(manifest_there(1) && !manifest_there(2));
    support_option("DRAIN_EVERY", NULL);
    support_use_objects(false);
}

static void test_all(const char *transport)
{
    static void (*const tests[])(void) = {test_until_replicated, test_wait,     test_one_after_the_other,
                                          test_freed_memory,     test_no_calls, test_close_in_flight,
                                          test_two_handles,      test_durable,  test_drain_every};

    support_option("TRANSPORT", transport);
    if (strcmp(transport, "two-sided") == 0)
        test_on_the_way();
    stores_lose_all(JOB);
    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++) {
        tests[i]();
        stores_lose_all(JOB);
    }
}

int background_main(int argc, char **argv, int thread_level)
{
    support_start(&argc, &argv, thread_level);
    support_option_number("NODE_SIZE", support_size > 4 ? 2 : 1);
    test_all("two-sided");
    test_all("one-sided");
    return support_finish();
}
