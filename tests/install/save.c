/* The smallest user of an installed dcache: save, close, open, restore. Says what it restored. */
#include <dcache.h>
#include <stdio.h>

static int save(double *value)
{
    dcache_t *dc = NULL;
    int failed = dcache_open(MPI_COMM_WORLD, NULL, &dc) != DCACHE_OK ||
                 dcache_protect(dc, "value", value, 1, DCACHE_FLOAT64) != DCACHE_OK ||
                 dcache_checkpoint(dc, 7) != DCACHE_OK;
    return dcache_close(&dc) != DCACHE_OK || failed;
}

static int restore(double *value, uint64_t *step)
{
    dcache_t *dc = NULL;
    int failed = dcache_open(MPI_COMM_WORLD, NULL, &dc) != DCACHE_OK ||
                 dcache_protect(dc, "value", value, 1, DCACHE_FLOAT64) != DCACHE_OK ||
                 dcache_restart(dc, step) != DCACHE_OK;
    return dcache_close(&dc) != DCACHE_OK || failed;
}

int main(int argc, char **argv)
{
    int rank = 0;
    uint64_t step = DCACHE_LATEST;

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    double saved = 0.5 + rank, restored = 0;
    int failed = save(&saved) || restore(&restored, &step);
    if (!failed)
        printf("rank %d: step %d, value %.1f\n", rank, (int)step, restored);
    MPI_Finalize();
    return failed;
}
