/* What agreement costs: MPI calls and bytes per rank of a checkpoint, counted through the profiling interface, are
 * bounded by constants, so they do not grow with the number of ranks (an all-reduce of n words is O(log ranks) messages
 * inside).
 *
 * ranks: 2 4 8 16
 */
#include "dcache.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REGION_BYTES (3u << 20)
#define STEPS        6

/* Counted since the last reset, on this rank. The wrappers are the only place that touches them. */
static struct {
    long collectives, collective_bytes, messages, puts, put_bytes, flushes;
} count;

int MPI_Iallreduce(const void *sendbuf, void *recvbuf, int n, MPI_Datatype type, MPI_Op op, MPI_Comm comm,
                   MPI_Request *request)
{
    int size = 0;
    PMPI_Type_size(type, &size);
    count.collectives++;
    count.collective_bytes += (long)n * size;
    return PMPI_Iallreduce(sendbuf, recvbuf, n, type, op, comm, request);
}

int MPI_Allreduce(const void *sendbuf, void *recvbuf, int n, MPI_Datatype type, MPI_Op op, MPI_Comm comm)
{
    count.collectives++;
    return PMPI_Allreduce(sendbuf, recvbuf, n, type, op, comm);
}

int MPI_Bcast(void *buffer, int n, MPI_Datatype type, int root, MPI_Comm comm)
{
    count.collectives++;
    return PMPI_Bcast(buffer, n, type, root, comm);
}

int MPI_Barrier(MPI_Comm comm)
{
    count.collectives++;
    return PMPI_Barrier(comm);
}

int MPI_Allgather(const void *sendbuf, int sendcount, MPI_Datatype sendtype, void *recvbuf, int recvcount,
                  MPI_Datatype recvtype, MPI_Comm comm)
{
    count.collectives++;
    return PMPI_Allgather(sendbuf, sendcount, sendtype, recvbuf, recvcount, recvtype, comm);
}

int MPI_Isend(const void *buffer, int n, MPI_Datatype type, int dest, int tag, MPI_Comm comm, MPI_Request *request)
{
    count.messages++;
    return PMPI_Isend(buffer, n, type, dest, tag, comm, request);
}

int MPI_Put(const void *origin, int n, MPI_Datatype origin_type, int rank, MPI_Aint disp, int target_n,
            MPI_Datatype target_type, MPI_Win win)
{
    count.puts++;
    count.put_bytes += n;
    return PMPI_Put(origin, n, origin_type, rank, disp, target_n, target_type, win);
}

int MPI_Win_flush(int rank, MPI_Win win)
{
    count.flushes++;
    return PMPI_Win_flush(rank, win);
}

static int failures;

static void expect(int good, const char *what, long value, long limit)
{
    int rank;

    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    if (!good) {
        fprintf(stderr, "rank %d: %s is %ld, the limit is %ld\n", rank, what, value, limit);
        failures++;
    }
}

static void check_limits(const char *transport)
{
    const long chunks = REGION_BYTES / (1 << 20) + 1;

    /* one agreement to look and choose, one on the outcome; 3 words and 4 for each of 2 slots, and a status each */
    expect(count.collectives == 2, "collective calls of a checkpoint", count.collectives, 2);
    expect(count.collective_bytes <= 2 * 16 * 8, "bytes of its collective calls", count.collective_bytes, 2 * 16 * 8);
    if (strcmp(transport, "one-sided") == 0) {
        expect(count.messages == 0, "messages", count.messages, 0);
        expect(count.puts <= chunks + 2, "puts (chunks, mark, header)", count.puts, chunks + 2);
        expect(count.flushes == 3, "flushes", count.flushes, 3);
        expect(count.put_bytes >= (long)REGION_BYTES, "bytes put", count.put_bytes, REGION_BYTES);
    } else { /* a notice and its data per put; a notice and an answer per flush */
        expect(count.messages <= 2 * (chunks + 2) + 2 * 3, "messages", count.messages, 2 * (chunks + 2) + 2 * 3);
    }
}

static void run(const char *transport)
{
    char *memory = malloc(REGION_BYTES);
    dcache_t *dc;
    int good = memory != NULL;

    setenv("DCACHE_TRANSPORT", transport, 1);
    good = good && dcache_open(MPI_COMM_WORLD, NULL, &dc) == DCACHE_OK;
    if (!good) {
        failures++;
        free(memory);
        return;
    }
    memset(memory, 1, REGION_BYTES);
    good = dcache_protect(dc, "memory", memory, REGION_BYTES, DCACHE_BYTE) == DCACHE_OK;
    for (uint64_t step = 0; step < STEPS; step++) {
        memset(&count, 0, sizeof count);
        good = dcache_checkpoint(dc, step) == DCACHE_OK && good;
    }
    expect(good, "a status", 0, 0);
    check_limits(transport);
    memset(&count, 0, sizeof count);
    dcache_level_t level;
    expect(dcache_test(dc, STEPS - 1, &level) == DCACHE_OK, "a status", 0, 0);
    expect(count.collectives == 1, "collective calls of dcache_test", count.collectives, 1);
    expect(dcache_close(&dc) == DCACHE_OK, "a status", 0, 0);
    free(memory);
}

int main(int argc, char **argv)
{
    char store[64], command[96];
    int rank, any = 0;

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    snprintf(store, sizeof store, "/dev/shm/dcache-calls-%d", (int)getppid()); /* mpirun's: the same on all ranks */
    setenv("DCACHE_MEMORY_STORE", store, 1);
    setenv("DCACHE_NODE_SIZE", "1", 1);
    setenv("DCACHE_STORE", "none", 1);
    setenv("DCACHE_JOB", "calls", 1);
    run("one-sided");
    run("two-sided");
    PMPI_Allreduce(&failures, &any, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    if (rank == 0) {
        snprintf(command, sizeof command, "rm -rf %s", store);
        if (system(command) != 0)
            any++;
        printf("%s\n", any == 0 ? "calls: OK" : "calls: FAILED");
    }
    MPI_Finalize();
    return any != 0;
}
