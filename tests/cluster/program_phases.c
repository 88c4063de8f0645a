/**
 * program_phases: computes, saves, and says at each moment what it is doing, so that somebody can take a node away just
 * then; checks what it gets back against values that it can compute from nothing.
 *
 *   program_phases [--steps N] [--every K] [--kib N] [--step-ms M] [--blocking] [--threads]
 *
 * Element i on rank r is mix(r, i) before the first step, and each step s adds s (2 i + 1) + r to it: one step that is
 * missing, done twice, or of another rank shows in every element. --blocking: dcache_checkpoint() instead of
 * dcache_checkpoint_begin() and a computation; --threads: MPI_THREAD_MULTIPLE, so that replication goes on behind it.
 *
 * Rank 0 says "phase restart|resync|compute|staging|replication N", "restarted from step N" (0: from nothing),
 * "replicated step N" when it has been told so, "resync sent B B ..." (bytes of each rank) when the second copies are
 * there again, and "step N: all values are right" at the end. Exit status 0 only then; 4 when a value is wrong.
 */
#include <dcache.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { EXIT_WRONG_VALUES = 4 };

struct program {
    uint64_t steps, every, kib, step_ms;
    bool blocking, threads;
    uint64_t *values;
    uint64_t count;
    uint64_t replicated; /* the newest step of which we were told */
    int rank;
    dcache_t *dc;
};

static void say(const struct program *p, const char *what, uint64_t step)
{
    if (p->rank == 0)
        printf("%s %" PRIu64 "\n", what, step);
}

static uint64_t first_value(int rank, uint64_t i)
{
    return ((uint64_t)rank + 1) * 0x9E3779B97F4A7C15u ^ i * 0xBF58476D1CE4E5B9u;
}

static void fill(struct program *p)
{
    for (uint64_t i = 0; i < p->count; i++)
        p->values[i] = first_value(p->rank, i);
}

static void advance(struct program *p, uint64_t step)
{
    for (uint64_t i = 0; i < p->count; i++)
        p->values[i] += step * (2 * i + 1) + (uint64_t)p->rank;
    usleep((useconds_t)(p->step_ms * 1000));
}

/* The same on all ranks: is every value that of `step`? */
static bool values_are_right(const struct program *p, uint64_t step)
{
    uint64_t sum = step * (step + 1) / 2, wrong = 0, wrong_anywhere = 0;

    for (uint64_t i = 0; i < p->count; i++)
        wrong += p->values[i] != first_value(p->rank, i) + sum * (2 * i + 1) + step * (uint64_t)p->rank;
    MPI_Allreduce(&wrong, &wrong_anywhere, 1, MPI_UINT64_T, MPI_SUM, MPI_COMM_WORLD);
    if (p->rank == 0 && wrong_anywhere > 0)
        printf("%" PRIu64 " values are WRONG for step %" PRIu64 "\n", wrong_anywhere, step);
    return wrong_anywhere == 0;
}

static int give_up(const struct program *p, const char *call, dcache_status_t status)
{
    if (p->rank == 0)
        printf("%s: %s\n", call, status < 0 ? dcache_error_text(p->dc) : dcache_strerror(status));
    return EXIT_FAILURE;
}

/* Was told that `step` is REPLICATED, or (on one node) that it cannot be. */
static int note_replicated(struct program *p, uint64_t step)
{
    dcache_status_t status = dcache_wait(p->dc, step, DCACHE_REPLICATED);

    if (status == DCACHE_ERR_LEVEL)
        return EXIT_SUCCESS;
    if (status != DCACHE_OK)
        return give_up(p, "dcache_wait", status);
    say(p, "replicated step", step);
    p->replicated = step;
    return EXIT_SUCCESS;
}

/* What each rank has put until now. */
static void say_sent(const struct program *p)
{
    dcache_statistics_t mine = {0};
    uint64_t *all = NULL;
    int size = 0;

    MPI_Comm_size(MPI_COMM_WORLD, &size);
    dcache_status_t status = dcache_get_statistics(p->dc, &mine);
    all = calloc((size_t)size, sizeof *all);
    if (status != DCACHE_OK || all == NULL)
        MPI_Abort(MPI_COMM_WORLD, EXIT_FAILURE);
    MPI_Gather(&mine.bytes_put, 1, MPI_UINT64_T, all, 1, MPI_UINT64_T, 0, MPI_COMM_WORLD);
    if (p->rank == 0)
        printf("resync sent");
    for (int r = 0; p->rank == 0 && r < size; r++)
        printf(" %" PRIu64 "%s", all[r], r == size - 1 ? "\n" : "");
    free(all);
}

static int restart(struct program *p, uint64_t *step)
{
    say(p, "phase restart", 0);
    *step = DCACHE_LATEST;
    dcache_status_t status = dcache_restart(p->dc, step);
    if (status == DCACHE_NOT_FOUND) {
        fill(p);
        *step = 0;
    } else if (status != DCACHE_OK) {
        return give_up(p, "dcache_restart", status);
    }
    say(p, "restarted from step", *step);
    if (!values_are_right(p, *step))
        return EXIT_WRONG_VALUES;
    if (*step == 0)
        return EXIT_SUCCESS;
    say(p, "phase resync", *step);
    int code = note_replicated(p, *step);
    if (code == EXIT_SUCCESS)
        say_sent(p);
    return code;
}

static int checkpoint(struct program *p, uint64_t step)
{
    say(p, "phase staging", step);
    if (p->blocking) {
        dcache_status_t status = dcache_checkpoint(p->dc, step);
        return status == DCACHE_OK ? note_replicated(p, step) : give_up(p, "dcache_checkpoint", status);
    }
    dcache_status_t status = dcache_checkpoint_begin(p->dc, step);
    say(p, "phase replication", step);
    return status == DCACHE_OK ? EXIT_SUCCESS : give_up(p, "dcache_checkpoint_begin", status);
}

/* What was begun is asked for two steps later: until then it goes on behind the computation. */
static bool is_to_be_awaited(const struct program *p, uint64_t step)
{
    return !p->blocking && step > p->every && step % p->every == 2;
}

static int compute(struct program *p)
{
    uint64_t step = 0;

    int code = restart(p, &step);
    while (code == EXIT_SUCCESS && step < p->steps) {
        if (step % p->every == 2 || p->every < 3)
            say(p, "phase compute", step);
        advance(p, ++step);
        if (step % p->every == 0)
            code = checkpoint(p, step);
        else if (is_to_be_awaited(p, step) && p->replicated < step - 2)
            code = note_replicated(p, step - 2);
    }
    if (code == EXIT_SUCCESS && !values_are_right(p, step))
        return EXIT_WRONG_VALUES;
    return code;
}

static uint64_t number(const char *text)
{
    return text != NULL ? strtoull(text, NULL, 10) : 0;
}

static bool take_options(struct program *p, int argc, char **argv)
{
    const struct {
        const char *name;
        uint64_t *number;
        bool *flag;
    } options[] = {{"--steps", &p->steps, NULL},       {"--every", &p->every, NULL},
                   {"--kib", &p->kib, NULL},           {"--step-ms", &p->step_ms, NULL},
                   {"--blocking", NULL, &p->blocking}, {"--threads", NULL, &p->threads}};
    const size_t count = sizeof options / sizeof options[0];

    for (int at = 1; at < argc; at++) {
        size_t i = 0;
        while (i < count && strcmp(argv[at], options[i].name) != 0)
            i++;
        if (i == count)
            return false;
        if (options[i].flag != NULL)
            *options[i].flag = true;
        else
            *options[i].number = number(argv[++at]);
    }
    return p->every > 0 && p->kib > 0;
}

static int run(struct program *p)
{
    p->count = p->kib * 1024 / sizeof *p->values;
    p->values = calloc(p->count, sizeof *p->values);
    if (p->values == NULL || dcache_open(MPI_COMM_WORLD, NULL, &p->dc) != DCACHE_OK)
        return EXIT_FAILURE;
    dcache_status_t status = dcache_protect(p->dc, "values", p->values, p->count, DCACHE_UINT64);
    int code = status == DCACHE_OK ? compute(p) : give_up(p, "dcache_protect", status);
    status = dcache_close(&p->dc);
    if (code == EXIT_SUCCESS && p->rank == 0)
        printf("step %" PRIu64 ": all values are right; closed: %s\n", p->steps, dcache_strerror(status));
    free(p->values);
    return code;
}

int main(int argc, char **argv)
{
    struct program p = {.steps = 60, .every = 10, .kib = 8192, .step_ms = 20};
    int level = MPI_THREAD_SINGLE, code = EXIT_FAILURE;

    if (!take_options(&p, argc, argv)) {
        fprintf(stderr, "program_phases: wrong options; the head of program_phases.c lists them\n");
        return EXIT_FAILURE;
    }
    MPI_Init_thread(&argc, &argv, p.threads ? MPI_THREAD_MULTIPLE : MPI_THREAD_SINGLE, &level);
    MPI_Comm_rank(MPI_COMM_WORLD, &p.rank);
    setvbuf(stdout, NULL, _IOLBF, 0);
    code = run(&p);
    MPI_Finalize();
    return code;
}
