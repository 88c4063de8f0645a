/* dcache_should_checkpoint() and dcache_should_stop(): every reason, each noticed by one rank only, one answer
 * everywhere; handlers of the program are called and put back.
 * ranks: 1 2 3 4 */
#include "mpi_fields.h"
#include "mpi_support.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t handled; /* by the program's own handler */

static void own_handler(int number)
{
    handled += number == SIGUSR1;
}

/* The answer, which must be the same on all ranks. */
static bool same(dcache_t *dc, dcache_status_t (*ask)(dcache_t *, int *))
{
    int flag = -1, least = -1, most = -1;

    CHECK_STATUS(dc, ask(dc, &flag), DCACHE_OK);
    CHECK(flag == 0 || flag == 1);
    MPI_Allreduce(&flag, &least, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
    MPI_Allreduce(&flag, &most, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
    CHECK(least == most);
    return flag == 1;
}

static bool due(dcache_t *dc)
{
    return same(dc, dcache_should_checkpoint);
}

static bool stop(dcache_t *dc)
{
    return same(dc, dcache_should_stop);
}

static double value = 1;

static dcache_t *open_one(void)
{
    dcache_t *dc = support_open();

    CHECK_STATUS(dc, dcache_protect(dc, "value", &value, 1, DCACHE_FLOAT64), DCACHE_OK);
    return dc;
}

static void test_interval(void)
{
    support_trying("interval");
    support_option("INTERVAL", "100h");
    dcache_t *dc = open_one();
    CHECK(!due(dc) && !stop(dc));
    CHECK_STATUS(dc, dcache_checkpoint(dc, 1), DCACHE_OK);
    CHECK(!due(dc) && !stop(dc));
    support_close(&dc);

    support_option("INTERVAL", "20ms");
    dc = open_one();
    for (uint64_t step = 2; step < 5; step++) {
        while (!due(dc))
            usleep(1000);
        CHECK_STATUS(dc, dcache_checkpoint(dc, step), DCACHE_OK);
        CHECK(!stop(dc));
    }
    support_close(&dc);
    support_option("INTERVAL", "0");
    support_option("MTBF", "1s"); /* fails more often than anything can be saved: all the time, then */
    dc = open_one();
    CHECK_STATUS(dc, dcache_checkpoint_begin(dc, 6), DCACHE_OK);
    while (!due(dc))
        usleep(1000);
    support_close(&dc);
    support_option("MTBF", NULL);
}

/* Only rank 0 knows when the job ends, as under a launcher that does not pass the environment on. */
static void set_end(long seconds)
{
    char text[32];

    snprintf(text, sizeof text, "%ld", (long)time(NULL) + seconds);
    if (support_rank == 0)
        setenv("SLURM_JOB_END_TIME", text, 1);
}

static void test_end_of_time(void)
{
    support_trying("the end of the job's time");
    set_end(36000);
    dcache_t *dc = open_one();
    CHECK(!due(dc) && !stop(dc));
    set_end(30); /* less than the margin of 60 s and more */
    CHECK(!stop(dc));
    CHECK(due(dc) && due(dc) && !stop(dc));
    CHECK_STATUS(dc, dcache_checkpoint(dc, 10), DCACHE_OK);
    CHECK(stop(dc) && !due(dc) && stop(dc));
    support_close(&dc);

    support_option("END_MARGIN", "10s");
    dc = open_one();
    CHECK(!due(dc) && !stop(dc));
    set_end(5);
    CHECK(due(dc));
    set_end(-5); /* over, and the answer stays the same */
    CHECK(due(dc) && !stop(dc));
    support_close(&dc);
    support_option("END_MARGIN", NULL);

    setenv("SLURM_JOB_END_TIME", "tomorrow", 1);
    dc = open_one();
    CHECK(!due(dc) && !stop(dc));
    support_close(&dc);
    unsetenv("SLURM_JOB_END_TIME");
}

static void raise_on_last(int number)
{
    MPI_Barrier(MPI_COMM_WORLD);
    if (support_rank == support_size - 1)
        CHECK(raise(number) == 0);
}

static void test_signals(void)
{
    struct sigaction own = {.sa_handler = own_handler}, found;

    support_trying("signals");
    CHECK(sigaction(SIGUSR1, &own, NULL) == 0);
    CHECK(signal(SIGTERM, SIG_DFL) != SIG_ERR);
    support_option("SIGNALS", "yes");
    dcache_t *dc = open_one();
    support_option("COMPONENT", "other");
    dcache_t *other = open_one();
    support_option("COMPONENT", NULL);
    CHECK(sigaction(SIGTERM, NULL, &found) == 0 && found.sa_handler == SIG_DFL); /* nobody has asked yet */
    CHECK(!due(dc) && !due(other));
    raise_on_last(SIGUSR1);
    CHECK(handled == (support_rank == support_size - 1));
    CHECK(due(dc) && due(dc) && !stop(dc));
    CHECK_STATUS(dc, dcache_checkpoint(dc, 20), DCACHE_OK);
    CHECK(!due(dc) && !stop(dc));
    CHECK(due(other)); /* each handle has to be told */
    raise_on_last(SIGTERM);
    CHECK(!stop(dc) && due(dc));
    support_close(&other); /* the first of two to go */
    CHECK_STATUS(dc, dcache_checkpoint_begin(dc, 21), DCACHE_OK);
    CHECK(stop(dc) && !due(dc));
    support_close(&dc);
    CHECK(sigaction(SIGUSR1, NULL, &found) == 0 && found.sa_handler == own_handler);
    CHECK(sigaction(SIGTERM, NULL, &found) == 0 && found.sa_handler == SIG_DFL);

    dc = open_one();
    CHECK(!due(dc) && !stop(dc)); /* what came before is not this handle's */
    raise_on_last(SIGUSR2);
    CHECK(due(dc) && !stop(dc));
    support_close(&dc);
    support_option("SIGNALS", NULL);
}

static void test_refused(void)
{
    int flag = 7;

    support_trying("a NULL pointer on one rank");
    CHECK(dcache_should_stop(NULL, &flag) == DCACHE_ERR_INVALID);
    dcache_t *dc = open_one();
    int *pointer = support_rank == support_size - 1 ? NULL : &flag;
    dcache_status_t status = dcache_should_checkpoint(dc, pointer);
    CHECK_STATUS(dc, status, DCACHE_ERR_INVALID);
    CHECK_SAME(status, dcache_error_text(dc));
    CHECK(flag == 7);
    CHECK(!due(dc));
    support_close(&dc);
}

int main(int argc, char **argv)
{
    support_start(&argc, &argv, MPI_THREAD_SINGLE);
    support_option_number("NODE_SIZE", 1);
    test_interval();
    test_end_of_time();
    test_signals();
    test_refused();
    return support_finish();
}
