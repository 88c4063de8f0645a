/* runtime/ssd_thread.c: copies behind the computation, one at a time and the newest one waiting; real stores. */
#include "runtime/ssd_thread.h"
#include "store_fixture.h"
#include "store_sample.h"
#include "unit.h"

#include <pthread.h>
#include <signal.h>

#define RANK 2u

/* A run: its two stores and its thread. Step s is in memory slot s % 3. */
struct run {
    struct node_store memory, ssd;
    struct ssd_thread *thread;
};

static struct shard_set set_of(uint64_t step)
{
    return (struct shard_set){.step = step, .sequence = 100 + step, .epoch = 5, .world_size = 4};
}

static void put_step(struct run *run, uint64_t step)
{
    const struct store_sample sample = {.job = "sample",
                                        .set = set_of(step),
                                        .rank = RANK,
                                        .kind = SLOT_OWN,
                                        .slot = (uint32_t)(step % 3),
                                        .bytes = (1u << 20) + 100 * step,
                                        .state = SHARD_COMPLETE};
    CU_ASSERT_FATAL(store_sample_write(&run->memory, &sample));
}

static void submit(struct run *run, uint64_t step, uint32_t to)
{
    const struct shard_set set = set_of(step);
    ssd_thread_submit(run->thread, &set, (uint32_t)(step % 3), to);
}

static enum ssd_state state_of(struct run *run, uint64_t step, uint32_t to)
{
    const struct shard_set set = set_of(step);
    return ssd_thread_state(run->thread, &set, to);
}

static enum ssd_state end_of(struct run *run, uint64_t step, uint32_t to)
{
    while (state_of(run, step, to) == SSD_PENDING)
        ssd_thread_wait(run->thread, 0.01);
    return state_of(run, step, to);
}

static void setup(struct run *run)
{
    memset(run, 0, sizeof *run);
    fixture_open(&run->memory);
    fixture_open(&run->ssd);
    CU_ASSERT_EQUAL_FATAL(ssd_thread_start(fixture_diag(), &run->memory, &run->ssd, RANK, &run->thread), DCACHE_OK);
    for (uint64_t step = 1; step <= 3; step++)
        put_step(run, step);
}

static void teardown(struct run *run)
{
    ssd_thread_stop(run->thread);
    node_store_close(&run->memory);
    node_store_close(&run->ssd);
}

/* How many complete steps the SSD has; each is verified. */
static size_t steps_there(struct run *run)
{
    struct catalog_entry *entries = NULL;
    size_t count = 0;
    uint32_t bad = 0;
    CU_ASSERT_EQUAL(node_store_catalog(fixture_diag(), &run->ssd, &entries, &count), DCACHE_OK);
    for (size_t i = 0; i < count; i++) {
        CU_ASSERT_EQUAL(entries[i].state, SHARD_COMPLETE);
        CU_ASSERT_EQUAL(slot_verify(fixture_diag(), &run->ssd, &entries[i], &bad), DCACHE_OK);
        CU_ASSERT_EQUAL(bad, 0);
    }
    free(entries);
    return count;
}

static void test_copies(void)
{
    struct run run;
    setup(&run);
    CU_ASSERT_EQUAL(state_of(&run, 1, 0), SSD_FAILED); /* nobody asked for it */
    for (uint64_t step = 1; step <= 3; step++) {
        submit(&run, step, (uint32_t)(60 + step));
        CU_ASSERT_EQUAL(end_of(&run, step, (uint32_t)(60 + step)), SSD_COMPLETE);
    }
    CU_ASSERT_EQUAL(state_of(&run, 1, 61), SSD_COMPLETE); /* still */
    CU_ASSERT_EQUAL(state_of(&run, 2, 61), SSD_FAILED);
    CU_ASSERT_EQUAL(state_of(&run, 1, 64), SSD_FAILED); /* there is no such slot */
    CU_ASSERT_EQUAL(steps_there(&run), 3);
    teardown(&run);
}

/* While one is under way the newest waits, and those between are given up. */
static void test_newest_waits(void)
{
    struct run run;
    setup(&run);
    ssd_thread_pause(run.thread, true);
    submit(&run, 1, 0);
    ssd_thread_wait(run.thread, 0.2); /* it has taken the first one by now, or takes the third: both are allowed */
    submit(&run, 2, 1);
    submit(&run, 3, 2);
    CU_ASSERT_EQUAL(state_of(&run, 2, 1), SSD_FAILED);
    CU_ASSERT_EQUAL(state_of(&run, 3, 2), SSD_PENDING);
    ssd_thread_pause(run.thread, false);
    CU_ASSERT_EQUAL(end_of(&run, 3, 2), SSD_COMPLETE);
    CU_ASSERT_NOT_EQUAL(state_of(&run, 1, 0), SSD_PENDING);
    CU_ASSERT(steps_there(&run) >= 1);
    teardown(&run);
}

/* The same slot again while it is being written: what counts is the last one. */
static void test_same_slot(void)
{
    struct run run;
    setup(&run);
    for (int i = 0; i < 20; i++) {
        for (uint64_t step = 1; step <= 3; step++)
            submit(&run, step, 7);
        CU_ASSERT_EQUAL(end_of(&run, 3, 7), SSD_COMPLETE);
        CU_ASSERT_EQUAL(state_of(&run, 1, 7), SSD_FAILED);
        CU_ASSERT_EQUAL(state_of(&run, 2, 7), SSD_FAILED);
        CU_ASSERT_EQUAL(steps_there(&run), 1);
    }
    teardown(&run);
}

/* A step that is not in memory any more. */
static void test_used_again(void)
{
    struct run run;
    setup(&run);
    put_step(&run, 4); /* where step 1 was */
    submit(&run, 1, 0);
    CU_ASSERT_EQUAL(end_of(&run, 1, 0), SSD_FAILED);
    submit(&run, 4, 0);
    CU_ASSERT_EQUAL(end_of(&run, 4, 0), SSD_COMPLETE);
    teardown(&run);
}

/* Stopped while it works and another one waits: no hang, and nothing that is not complete. */
static void test_stop(void)
{
    struct run run;
    setup(&run);
    ssd_thread_pause(run.thread, true);
    submit(&run, 1, 0);
    submit(&run, 2, 1);
    ssd_thread_stop(run.thread);
    run.thread = NULL;
    CU_ASSERT_EQUAL(steps_there(&run), 0);
    ssd_thread_pause(run.thread, true); /* without a thread nothing happens */
    submit(&run, 1, 0);
    CU_ASSERT_EQUAL(state_of(&run, 1, 0), SSD_FAILED);
    teardown(&run);
}

/* Abandoned in the middle: nothing is written from then on, and later ones are copied again. */
static void test_abandon(void)
{
    struct run run;
    setup(&run);
    ssd_thread_abandon(NULL);
    ssd_thread_abandon(run.thread);
    for (int i = 0; i < 10; i++) {
        ssd_thread_pause(run.thread, i % 2 == 0);
        submit(&run, 1, 0);
        submit(&run, 2, 1);
        submit(&run, 3, 2);
        ssd_thread_abandon(run.thread);
        size_t before = steps_there(&run);
        for (uint64_t step = 1; step <= 3; step++)
            CU_ASSERT_NOT_EQUAL(state_of(&run, step, (uint32_t)step - 1), SSD_PENDING);
        CU_ASSERT(i % 2 != 0 || state_of(&run, 3, 2) == SSD_FAILED); /* paused: it cannot have got so far */
        ssd_thread_pause(run.thread, false);
        ssd_thread_wait(run.thread, 0.01);
        CU_ASSERT_EQUAL(steps_there(&run), before);
        submit(&run, 2, 9);
        CU_ASSERT_EQUAL(end_of(&run, 2, 9), SSD_COMPLETE);
    }
    teardown(&run);
}

/* Signals of the application stay on its own threads. */
static volatile sig_atomic_t signals;
static pthread_t where;

static void note_signal(int number)
{
    (void)number;
    where = pthread_self();
    signals++;
}

static void test_signals(void)
{
    struct run run;
    const struct sigaction action = {.sa_handler = note_signal};
    CU_ASSERT_EQUAL(sigaction(SIGUSR1, &action, NULL), 0);
    setup(&run);
    for (int i = 0; i < 50; i++) {
        submit(&run, 1, 0);
        CU_ASSERT_EQUAL(kill(getpid(), SIGUSR1), 0);
        CU_ASSERT_EQUAL(end_of(&run, 1, 0), SSD_COMPLETE);
        CU_ASSERT(pthread_equal(where, pthread_self()));
    }
    CU_ASSERT(signals > 0);
    teardown(&run);
}

#ifdef DCACHE_FAILPOINTS
/* A failure is this copy's, and the next one is tried again. */
static void test_failures(void)
{
    static const char *const failpoints[] = {"slot.allocate=enospc#1", "ssd.copy=enospc#1", "ssd.header=error#1",
                                             "slot.sync=error#1", "slot.sync=error#2"};
    for (size_t i = 0; i < UNIT_COUNT(failpoints); i++) {
        struct run run;
        setup(&run);
        setenv("DCACHE_FAILPOINTS", failpoints[i], 1);
        submit(&run, 1, 0);
        CU_ASSERT_EQUAL(end_of(&run, 1, 0), SSD_FAILED);
        CU_ASSERT_EQUAL(steps_there(&run), 0);
        submit(&run, 1, 0);
        CU_ASSERT_EQUAL(end_of(&run, 1, 0), SSD_COMPLETE);
        CU_ASSERT_EQUAL(steps_there(&run), 1);
        unsetenv("DCACHE_FAILPOINTS");
        teardown(&run);
    }
}
#endif

int main(void)
{
    static const struct unit_case cases[] = {
        {"steps are copied", test_copies},
        {"the newest waits", test_newest_waits},
        {"the same slot again", test_same_slot},
        {"a step that is not in memory any more", test_used_again},
        {"stopped in the middle", test_stop},
        {"abandoned", test_abandon},
        {"signals", test_signals},
#ifdef DCACHE_FAILPOINTS
        {"failures", test_failures},
#endif
    };
    return unit_main("ssd_thread", cases, UNIT_COUNT(cases));
}
