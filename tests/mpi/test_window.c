/* Windows of disjoint communicators on one host, made and freed at the same time: each rank finds its own neighbour's
 * bytes in its window and nobody else's.
 *
 * ranks: 4 5 */
#include "mpi/agree.h"
#include "mpi/window.h"
#include "mpi_support.h"

#include <string.h>

#define ROUNDS 60
#define BYTES  65536u

static unsigned char pattern(int rank, int round)
{
    return (unsigned char)(1 + (rank * 37 + round) % 255);
}

/* Every rank puts to the next one of its half. */
static void exchange(struct diag *dg, const struct world *world, MPI_Win window, unsigned char *exposed, int round)
{
    static unsigned char source[BYTES];
    int next = (world->rank + 1) % world->size;
    int sender = (world->rank + world->size - 1) % world->size;

    memset(source, pattern(support_rank, round), sizeof source);
    CHECK(MPI_Win_lock_all(MPI_MODE_NOCHECK, window) == MPI_SUCCESS);
    CHECK(MPI_Put(source, BYTES, MPI_BYTE, next, 0, BYTES, MPI_BYTE, window) == MPI_SUCCESS);
    CHECK(MPI_Win_flush(next, window) == MPI_SUCCESS);
    CHECK(agree(world, dg, NULL, DCACHE_OK) == DCACHE_OK);
    int sent_by = support_rank - world->rank + sender; /* halves are consecutive ranks */
    for (uint32_t i = 0; i < BYTES; i++)
        CHECK(exposed[i] == pattern(sent_by, round));
    CHECK(MPI_Win_unlock_all(window) == MPI_SUCCESS);
}

static void test_halves_at_once(const char *directory)
{
    static unsigned char exposed[BYTES];
    struct diag dg;
    struct world world;
    MPI_Comm half;

    support_trying("two halves at once");
    diag_init(&dg, "test", support_rank, DIAG_ERROR);
    MPI_Comm_split(MPI_COMM_WORLD, support_rank >= (support_size + 1) / 2, support_rank, &half);
    CHECK(world_open(&dg, half, &world) == DCACHE_OK);
    CHECK(world_find_nodes(&dg, &world, 1) == DCACHE_OK);
    window_take_turns(&world, directory);
    CHECK((world.turn_fd >= 0) == (world.rank == 0));
    for (int round = 0; round < ROUNDS; round++) {
        MPI_Win window = MPI_WIN_NULL;
        memset(exposed, 0, sizeof exposed);
        MPI_Barrier(MPI_COMM_WORLD); /* so that both come here at the same time */
        CHECK(window_create(&dg, &world, exposed, BYTES, &window) == DCACHE_OK);
        exchange(&dg, &world, window, exposed, round);
        CHECK(MPI_Win_free(&window) == MPI_SUCCESS);
    }
    world_close(&world);
    MPI_Comm_free(&half);
}

/* Turns cannot be had: windows are made all the same. */
static void test_without_turns(void)
{
    static unsigned char exposed[BYTES];
    struct diag dg;
    struct world world;
    MPI_Win window = MPI_WIN_NULL;

    support_trying("no directory to lock");
    diag_init(&dg, "test", support_rank, DIAG_ERROR);
    CHECK(world_open(&dg, MPI_COMM_WORLD, &world) == DCACHE_OK);
    CHECK(world_find_nodes(&dg, &world, 1) == DCACHE_OK);
    window_take_turns(&world, "/nowhere");
    CHECK(world.turn_fd == -1);
    CHECK(window_create(&dg, &world, exposed, BYTES, &window) == DCACHE_OK);
    CHECK(MPI_Win_free(&window) == MPI_SUCCESS);
    world_close(&world);
}

int main(int argc, char **argv)
{
    support_start(&argc, &argv, MPI_THREAD_SINGLE);
    test_halves_at_once(support_scratch());
    test_without_turns();
    return support_finish();
}
