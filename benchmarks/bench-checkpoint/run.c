/* What all measurements share: clock, figures, the application's memory, the handle. */
#include "bench.h"

#include "io/run_info.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* One word in so many bytes changes from step to step: some in each chunk. */
#define CHANGE_BYTES 65536u

dcache_status_t bench_agree(struct bench *b, dcache_status_t local)
{
    return agree(&b->world, &b->diag, NULL, local);
}

double bench_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double bench_start(struct bench *b)
{
    MPI_Barrier(b->world.comm);
    return bench_now();
}

double bench_wall(struct bench *b, double start, double end)
{
    double mine[2] = {-start, end}, host[2], wall, slowest;

    MPI_Allreduce(mine, host, 2, MPI_DOUBLE, MPI_MAX, b->host_comm);
    wall = host[0] + host[1];
    MPI_Allreduce(&wall, &slowest, 1, MPI_DOUBLE, MPI_MAX, b->world.comm);
    return slowest;
}

void bench_add(struct bench *b, enum figure figure, double value)
{
    struct series *series = &b->series[figure];

    if (series->count < b->options.rounds)
        series->values[series->count++] = value;
}

double bench_bytes(const struct bench *b, enum figure figure)
{
    uint32_t ranks = (uint32_t)b->world.size;

    if (series_info(figure)->lost_node)
        ranks = b->world.first_of_node[b->lost_node + 1] - b->world.first_of_node[b->lost_node];
    return (double)b->options.bytes * ranks;
}

void bench_change_data(struct bench *b)
{
    uint64_t bytes = (uint64_t)b->options.bytes;

    for (uint64_t at = 0; at < bytes; at += CHANGE_BYTES)
        b->data[at]++;
    b->data[bytes - 1]++;
}

dcache_status_t bench_check(struct bench *b, const char *call, dcache_status_t status)
{
    const char *text = b->dc != NULL ? dcache_error_text(b->dc) : "";

    if (status == DCACHE_OK)
        return DCACHE_OK;
    return diag_fail(&b->diag, status, "%s: %s%s%.900s", call, dcache_strerror(status), text[0] != '\0' ? ": " : "",
                     text);
}

/* Pieces of nearly the same size: the first ones have one byte more if it must be. */
static dcache_status_t protect(struct bench *b)
{
    uint64_t bytes = (uint64_t)b->options.bytes, count = (uint64_t)b->options.regions, at = 0;
    dcache_status_t status = DCACHE_OK;

    for (uint64_t i = 0; i < count && status == DCACHE_OK; i++) {
        char name[32];
        uint64_t piece = bytes / count + (i < bytes % count ? 1 : 0);
        snprintf(name, sizeof name, "region-%04u", (unsigned)i);
        status = bench_check(b, "dcache_protect", dcache_protect(b->dc, name, b->data + at, piece, DCACHE_BYTE));
        at += piece;
    }
    return status;
}

/* What the probe found, as it is written into each node store. */
static dcache_status_t find_transport(struct bench *b)
{
    struct node_store store = {.dir_fd = -1, .lock_fd = -1};
    char root[OPTIONS_TEXT_MAX];
    struct run_info info;

    if (b->world.rank != 0 || b->transport[0] != '\0')
        return DCACHE_OK;
    scratch_store_root(b, root);
    dcache_status_t status = node_store_open(&b->diag, root, BENCH_JOB, b->world.virtual_index, false, &store);
    if (status == DCACHE_OK)
        status = run_info_read(&b->diag, &store, &info);
    if (status == DCACHE_OK) {
        snprintf(b->transport, sizeof b->transport, "%s", info.transport);
        snprintf(b->transport_reason, sizeof b->transport_reason, "%s", info.transport_reason);
    }
    node_store_close(&store);
    return status;
}

dcache_status_t bench_open(struct bench *b, double *open_s)
{
    double start = bench_start(b);
    dcache_status_t status = bench_check(b, "dcache_open", dcache_open(b->world.comm, NULL, &b->dc));

    *open_s = bench_wall(b, start, bench_now());
    if (status != DCACHE_OK)
        return status;
    status = protect(b);
    if (status == DCACHE_OK)
        status = find_transport(b);
    return bench_agree(b, status);
}

dcache_status_t bench_close(struct bench *b, dcache_status_t status)
{
    dcache_status_t closed = b->dc != NULL ? dcache_close(&b->dc) : DCACHE_OK;

    return status == DCACHE_OK ? bench_check(b, "dcache_close", closed) : status;
}
