/* As an application that is killed and launched again: restart, compare, take more checkpoints. What it prints is what
 * a load generator checks: no step that it was told is safe may be lost. */
#include "mlperf.h"

static void tell(const struct mlperf *m, const char *before, int64_t step, const char *after)
{
    if (m->world.rank == 0) {
        printf(PROGRAM ": %s step %lld%s\n", before, (long long)step, after);
        (void)fflush(stdout);
    }
}

static dcache_status_t come_back(struct mlperf *m, int64_t *step)
{
    uint64_t found = 0;
    dcache_status_t status = dcache_way_restart(m, &found);

    if (status == DCACHE_NOT_FOUND) {
        *step = 0;
        return DCACHE_OK;
    }
    if (status != DCACHE_OK)
        return status;
    *step = (int64_t)found;
    status = mlperf_agree(m, mlperf_compare(m, *step));
    return status;
}

static dcache_status_t take(struct mlperf *m, int64_t step)
{
    struct times times;

    data_fill(m->data, m->bytes, m->world.rank, step, m->options.compressible);
    mlperf_pause(m->options.pause_s);
    return m->options.way->save(m, step, mlperf_now(), &times);
}

dcache_status_t mlperf_continue(struct mlperf *m)
{
    int64_t step = 0;
    dcache_status_t status = come_back(m, &step);

    if (status == DCACHE_OK)
        tell(m, step > 0 ? "restarted from" : "no checkpoint yet, this is", step,
             step > 0 ? ", all bytes compared" : "");
    for (int64_t last = step + m->options.writes; status == DCACHE_OK && step < last;) {
        status = take(m, ++step);
        if (status == DCACHE_OK)
            tell(m, "safe is", step, "");
    }
    return status;
}
