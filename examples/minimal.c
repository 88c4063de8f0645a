/* minimal: the smallest program that survives being killed. Kill it, launch it again: it goes on where it was. */
#include <dcache.h>
#include <stdio.h>
#include <unistd.h>

enum { CELLS = 1 << 20, STEPS = 60 };

static int give_up(dcache_t *dc)
{
    fprintf(stderr, "minimal: %s\n", dcache_error_text(dc));
    return MPI_Abort(MPI_COMM_WORLD, 1);
}

int main(int argc, char **argv)
{
    static double cells[CELLS];
    uint64_t step = DCACHE_LATEST;
    dcache_t *dc = NULL;

    MPI_Init(&argc, &argv);
    if (dcache_open(MPI_COMM_WORLD, NULL, &dc) != DCACHE_OK)
        return MPI_Abort(MPI_COMM_WORLD, 1); /* why is on standard error */
    if (dcache_protect(dc, "cells", cells, CELLS, DCACHE_FLOAT64) != DCACHE_OK)
        return give_up(dc);

    dcache_status_t status = dcache_restart(dc, &step);
    if (status == DCACHE_NOT_FOUND)
        step = 0; /* nothing to restart from: a first start */
    else if (status != DCACHE_OK)
        return give_up(dc);

    while (step < STEPS) {
        for (int i = 0; i < CELLS; i++)
            cells[i] += 1.0;
        sleep(1);
        step++;
        if (step % 10 == 0 && dcache_checkpoint(dc, step) < 0)
            return give_up(dc);
    }

    printf("minimal: %d steps done, cells[0] is %g\n", STEPS, cells[0]);
    status = dcache_close(&dc);
    MPI_Finalize();
    return status == DCACHE_OK ? 0 : 1;
}
