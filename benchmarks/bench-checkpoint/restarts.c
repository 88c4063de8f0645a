/* Restarts: with nothing lost, and with one node's store gone. What comes back is compared with what was saved. */
#include "bench.h"

#include "io/crc64.h"

#include <string.h>

static uint64_t digest_of(const struct bench *b)
{
    return crc64_update(0, b->data, (size_t)b->options.bytes);
}

/* A new process has other memory: nothing of the old may help. */
static void forget(struct bench *b)
{
    memset(b->data, 0x5a, (size_t)b->options.bytes);
}

static dcache_status_t save(struct bench *b, uint64_t *digest)
{
    bench_change_data(b);
    *digest = digest_of(b);
    b->step++;
    dcache_status_t status = bench_check(b, "dcache_checkpoint", dcache_checkpoint(b->dc, b->step));
    if (status == DCACHE_OK && bench_has_partner(b))
        status = bench_check(b, "dcache_wait", dcache_wait(b->dc, b->step, DCACHE_REPLICATED));
    return status;
}

/* How long it takes to have one's memory again, and until it would survive the next loss. */
struct times {
    double open_s, restart_s, replicated_s;
};

/* Open, restart, compare. */
static dcache_status_t come_back(struct bench *b, uint64_t digest, struct times *times)
{
    uint64_t step = DCACHE_LATEST;

    forget(b);
    dcache_status_t status = bench_open(b, &times->open_s);
    if (status != DCACHE_OK)
        return status;
    double start = bench_start(b);
    status = bench_check(b, "dcache_restart", dcache_restart(b->dc, &step));
    double restored = bench_now();
    if (status == DCACHE_OK && bench_has_partner(b))
        status = bench_check(b, "dcache_wait", dcache_wait(b->dc, step, DCACHE_REPLICATED));
    double replicated = bench_now();
    if (status != DCACHE_OK)
        return status;
    times->restart_s = bench_wall(b, start, restored);
    times->replicated_s = bench_wall(b, start, replicated);
    if (step != b->step)
        status = diag_fail(&b->diag, DCACHE_ERR_INTERNAL, "step %llu was restored, and %llu was the newest",
                           (unsigned long long)step, (unsigned long long)b->step);
    else if (digest_of(b) != digest)
        status =
            diag_fail(&b->diag, DCACHE_ERR_INTERNAL, "step %llu came back with other bytes", (unsigned long long)step);
    return bench_agree(b, status);
}

static dcache_status_t lose_nothing(struct bench *b)
{
    struct times times = {0};
    uint64_t digest = 0;

    dcache_status_t status = bench_close(b, save(b, &digest));
    if (status == DCACHE_OK)
        status = come_back(b, digest, &times);
    bench_add(b, RESTART, times.restart_s);
    return status;
}

/* Save, close, and have the store of one node removed. */
static dcache_status_t lose_node(struct bench *b, uint64_t *digest)
{
    dcache_status_t status = bench_close(b, save(b, digest));

    return status == DCACHE_OK ? scratch_wipe_lost(b) : status;
}

static dcache_status_t one_round(struct bench *b)
{
    struct times times = {0};
    uint64_t digest = 0;

    dcache_status_t status = floors_restore(b);
    if (status == DCACHE_OK)
        status = lose_nothing(b);
    if (status == DCACHE_OK)
        status = floors_rebuild(b);
    if (status != DCACHE_OK || !bench_has_partner(b))
        return status;
    status = lose_node(b, &digest);
    if (status == DCACHE_OK)
        status = come_back(b, digest, &times);
    bench_add(b, OPEN, times.open_s);
    bench_add(b, REBUILD, times.restart_s);
    bench_add(b, REBUILD_REPLICATED, times.replicated_s);
    return status;
}

/* Once more with a thread that looks at the memory, which would disturb the rounds that are timed. */
static dcache_status_t measure_memory(struct bench *b)
{
    struct times times = {0};
    uint64_t digest = 0;

    if (!bench_has_partner(b))
        return DCACHE_OK;
    dcache_status_t status = lose_node(b, &digest);
    struct memory_sampler *sampler = memory_sampler_start();
    if (status == DCACHE_OK)
        status = come_back(b, digest, &times);
    b->overhead.restart_MiB = memory_sampler_stop(sampler);
    return status;
}

static dcache_status_t with_open_handle(struct bench *b)
{
    double open_s;
    dcache_status_t status = bench_open(b, &open_s);

    for (int round = 0; round < b->options.rounds && status == DCACHE_OK; round++)
        status = one_round(b);
    return status == DCACHE_OK ? measure_memory(b) : status;
}

dcache_status_t restarts_measure(struct bench *b)
{
    return bench_close(b, with_open_handle(b));
}
