/* Replication and resync over a network, timed; bench-cluster.sh runs it on hosts whose links have a known rate.
 *
 *   mpirun ... bench-cluster save BYTES ROUNDS
 *   mpirun ... bench-cluster restart BYTES
 *
 * BYTES of each rank. `save` takes ROUNDS steps by dcache_checkpoint() and as many by dcache_checkpoint_begin(), and
 * says for each how long it took until the step was REPLICATED, in the first case from the call on, in the second from
 * its return. `restart` goes on from the last of them and says how long it took until that step was REPLICATED again,
 * from the return of dcache_restart(), and how many bytes the rank that put the most has put for that. One line each:
 * what, bytes that went over the busiest link, seconds. */
#include <dcache.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct bench {
    dcache_t *dc;
    unsigned char *data;
    size_t bytes;
    int rank;
};

static void stop_if(bool bad, const struct bench *b, const char *what)
{
    if (!bad)
        return;
    fprintf(stderr, "bench-cluster: rank %d: %s: %s\n", b->rank, what, b->dc != NULL ? dcache_error_text(b->dc) : "");
    MPI_Abort(MPI_COMM_WORLD, 1);
}

/* New in each step, so that nothing can be left out. */
static void fill(struct bench *b, uint64_t step)
{
    uint64_t state = 88172645463325252u + 1000003u * step + (uint64_t)b->rank;

    for (size_t i = 0; i + sizeof state <= b->bytes; i += sizeof state) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        memcpy(b->data + i, &state, sizeof state);
    }
}

/* Hosts that are namespaces of one machine have one clock. */
static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* From the first rank that came here until the last one is done: the rank that has much to send may be ahead. */
static void report(const struct bench *b, const char *what, uint64_t bytes, double from)
{
    double end = now(), first = 0, last = 0;
    uint64_t most = 0;

    MPI_Reduce(&from, &first, 1, MPI_DOUBLE, MPI_MIN, 0, MPI_COMM_WORLD);
    MPI_Reduce(&end, &last, 1, MPI_DOUBLE, MPI_MAX, 0, MPI_COMM_WORLD);
    MPI_Reduce(&bytes, &most, 1, MPI_UINT64_T, MPI_MAX, 0, MPI_COMM_WORLD);
    if (b->rank == 0)
        printf("%s %" PRIu64 " %.6f\n", what, most, last - first);
}

static void save(struct bench *b, bool begin, uint64_t step, bool counts)
{
    fill(b, step);
    MPI_Barrier(MPI_COMM_WORLD);
    double from = now();
    if (begin) {
        stop_if(dcache_checkpoint_begin(b->dc, step) != DCACHE_OK, b, "dcache_checkpoint_begin");
        from = now();
    } else {
        stop_if(dcache_checkpoint(b->dc, step) != DCACHE_OK, b, "dcache_checkpoint");
    }
    stop_if(dcache_wait(b->dc, step, DCACHE_REPLICATED) != DCACHE_OK, b, "dcache_wait");
    if (counts)
        report(b, begin ? "background" : "blocking", b->bytes, from);
}

static void save_all(struct bench *b, int rounds)
{
    uint64_t step = 0;

    for (int i = 0; i < 2; i++) /* makes the slots */
        save(b, false, ++step, false);
    for (int i = 0; i < rounds; i++) {
        save(b, false, ++step, true);
        save(b, true, ++step, true);
    }
}

static void restart(struct bench *b)
{
    uint64_t step = DCACHE_LATEST;
    dcache_statistics_t statistics;

    stop_if(dcache_restart(b->dc, &step) != DCACHE_OK, b, "dcache_restart");
    double from = now();
    stop_if(dcache_wait(b->dc, step, DCACHE_REPLICATED) != DCACHE_OK, b, "dcache_wait");
    stop_if(dcache_get_statistics(b->dc, &statistics) != DCACHE_OK, b, "dcache_get_statistics");
    report(b, "resync", statistics.bytes_put, from);
}

int main(int argc, char **argv)
{
    struct bench b = {.dc = NULL};
    int level = 0;

    /* So that a progress thread goes on with what dcache_restart() has begun. */
    MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &level);
    MPI_Comm_rank(MPI_COMM_WORLD, &b.rank);
    bool saves = argc == 4 && strcmp(argv[1], "save") == 0;
    stop_if(!saves && !(argc == 3 && strcmp(argv[1], "restart") == 0), &b, "wrong usage: see the head of the source");
    b.bytes = strtoull(argv[2], NULL, 10);
    b.data = malloc(b.bytes);
    stop_if(b.bytes == 0 || b.data == NULL, &b, "no memory for so many bytes");
    stop_if(dcache_open(MPI_COMM_WORLD, NULL, &b.dc) != DCACHE_OK, &b, "dcache_open");
    stop_if(dcache_protect(b.dc, "data", b.data, b.bytes, DCACHE_BYTE) != DCACHE_OK, &b, "dcache_protect");
    if (saves)
        save_all(&b, atoi(argv[3]));
    else
        restart(&b);
    stop_if(dcache_close(&b.dc) != DCACHE_OK, &b, "dcache_close");
    free(b.data);
    MPI_Finalize();
    return 0;
}
