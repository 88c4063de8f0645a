#include "mpi/gather.h"

#include <limits.h>
#include <stdlib.h>

/* Everybody's length; starts[size] is the sum. The same on every rank, and so is the outcome. */
static dcache_status_t gather_lengths(const struct world *world, struct diag *dg, size_t bytes, int *lengths,
                                      int *starts)
{
    int mine = bytes > INT_MAX ? -1 : (int)bytes;
    int64_t total = 0;

    dcache_status_t status =
        world_check(dg, MPI_Allgather(&mine, 1, MPI_INT, lengths, 1, MPI_INT, world->comm), "MPI_Allgather");
    for (int r = 0; status == DCACHE_OK && r < world->size; r++) {
        starts[r] = (int)total;
        total += lengths[r];
        if (lengths[r] < 0 || total > INT_MAX)
            status =
                diag_fail(dg, DCACHE_ERR_NO_MEMORY, "what %d ranks have to tell each other exceeds 2 GiB", world->size);
    }
    starts[world->size] = (int)total;
    return status;
}

dcache_status_t gather_bytes(const struct world *world, struct diag *dg, const struct agree_idle *idle,
                             dcache_status_t local, const void *mine, size_t bytes, void **all, size_t *total)
{
    size_t size = (size_t)world->size;
    int *lengths = calloc(size, sizeof *lengths), *starts = calloc(size + 1, sizeof *starts);
    char *gathered = NULL;
    dcache_status_t status = local;

    if (status == DCACHE_OK && (lengths == NULL || starts == NULL))
        status = diag_fail(dg, DCACHE_ERR_NO_MEMORY, "out of memory for %d ranks", world->size);
    status = agree(world, dg, idle, status);
    if (status == DCACHE_OK)
        status = gather_lengths(world, dg, bytes, lengths, starts);
    if (status == DCACHE_OK) {
        gathered = malloc((size_t)starts[size] + 1);
        if (gathered == NULL)
            status = diag_fail(dg, DCACHE_ERR_NO_MEMORY, "out of memory for %d bytes of all ranks", starts[size]);
    }
    status = agree(world, dg, idle, status);
    if (status == DCACHE_OK)
        status = world_check(
            dg, MPI_Allgatherv(mine, (int)bytes, MPI_BYTE, gathered, lengths, starts, MPI_BYTE, world->comm),
            "MPI_Allgatherv");
    status = agree(world, dg, idle, status);
    if (status == DCACHE_OK) {
        *all = gathered;
        *total = (size_t)starts[size];
    } else {
        free(gathered);
    }
    free(lengths);
    free(starts);
    return status;
}
