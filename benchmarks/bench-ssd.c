/* Steps on the SSD tier, timed: with tier = ssd from the call of dcache_checkpoint() to its return, with tier = both
 * from the return of dcache_checkpoint() until the step is on the SSDs of all ranks. bench-ssd.sh runs it beside fio.
 *
 *   mpirun -n RANKS bench-ssd BYTES ROUNDS
 *
 * BYTES of each rank; the options of dcache come from DCACHE_* variables. Prints one line for each round: GB/s of all
 * ranks together. */
#include "runtime/context.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct bench {
    dcache_t *dc;
    unsigned char *data;
    size_t bytes;
    int rank, size;
};

static void stop_if(bool bad, const struct bench *b, const char *what)
{
    if (!bad)
        return;
    fprintf(stderr, "bench-ssd: rank %d: %s: %s\n", b->rank, what, b->dc != NULL ? dcache_error_text(b->dc) : "");
    MPI_Abort(MPI_COMM_WORLD, 1);
}

/* Bytes that nothing on the way can guess, new ones for each step. */
static void fill(struct bench *b, uint64_t step)
{
    uint64_t state = 88172645463325252u + 1000003u * step + (uint64_t)b->rank;

    for (size_t i = 0; i + 8 <= b->bytes; i += 8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        memcpy(b->data + i, &state, sizeof state);
    }
}

static double start(void)
{
    MPI_Barrier(MPI_COMM_WORLD);
    return MPI_Wtime();
}

/* Seconds until the last rank came here. */
static double seconds_since(double from)
{
    MPI_Barrier(MPI_COMM_WORLD);
    return MPI_Wtime() - from;
}

/* No call of the library tells it; what the handle knows is what it goes by itself. */
static void await_copies(struct bench *b, uint64_t step)
{
    dcache_level_t level;

    while (b->dc->ssd_ring.pending_count > 0) {
        stop_if(dcache_test(b->dc, step, &level) != DCACHE_OK, b, "dcache_test");
        usleep(5000);
    }
    bool there = false;
    for (int k = 0; k < SSD_SLOTS_MAX; k++)
        there = there || b->dc->ssd_ring.worth[k] == b->dc->last_sequence;
    stop_if(!there, b, "the step is not on all SSDs");
}

static double one_step(struct bench *b, uint64_t step)
{
    fill(b, step);
    double from = start();
    stop_if(dcache_checkpoint(b->dc, step) != DCACHE_OK, b, "dcache_checkpoint");
    if (b->dc->options.tier == TIER_SSD)
        return seconds_since(from);
    from = start();
    await_copies(b, step);
    return seconds_since(from);
}

static void run(struct bench *b, int rounds)
{
    stop_if(dcache_open(MPI_COMM_WORLD, NULL, &b->dc) != DCACHE_OK, b, "dcache_open");
    stop_if(b->dc->options.tier == TIER_MEMORY, b, "DCACHE_TIER must be ssd or both");
    stop_if(dcache_protect(b->dc, "data", b->data, b->bytes, DCACHE_BYTE) != DCACHE_OK, b, "dcache_protect");
    int first = (int)(b->dc->options.tier == TIER_SSD ? b->dc->options.slots : b->dc->options.ssd_slots);
    for (int step = 1; step <= first + rounds; step++) { /* the first ones make the slots */
        double seconds = one_step(b, (uint64_t)step);
        if (b->rank == 0 && step > first)
            printf("%.3f\n", (double)b->bytes * b->size / seconds / 1e9);
    }
    stop_if(dcache_close(&b->dc) != DCACHE_OK, b, "dcache_close");
}

int main(int argc, char **argv)
{
    struct bench b = {.dc = NULL};

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &b.rank);
    MPI_Comm_size(MPI_COMM_WORLD, &b.size);
    b.bytes = argc == 3 ? strtoull(argv[1], NULL, 10) : 0;
    int rounds = argc == 3 ? atoi(argv[2]) : 0;
    stop_if(b.bytes == 0 || rounds < 1, &b, "usage: bench-ssd BYTES ROUNDS");
    b.data = malloc(b.bytes);
    stop_if(b.data == NULL, &b, "out of memory");
    run(&b, rounds);
    free(b.data);
    MPI_Finalize();
    return 0;
}
