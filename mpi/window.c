#include "mpi/window.h"

#include "io/threads.h"
#include "mpi/agree.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#define TURN_WAIT_S  30.0
#define FIRST_NAP_NS 500000u

void window_take_turns(struct world *world, const char *directory)
{
    if (world->node_rank == 0 && world->virtual_index == 0)
        world->turn_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* A lock that cannot be asked for (a file system without locks) is as good as one that was got. */
static bool try_turn(const struct world *world)
{
    return world->turn_fd < 0 || flock(world->turn_fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK;
}

static void end_turn(const struct world *world)
{
    if (world->turn_fd >= 0)
        (void)flock(world->turn_fd, LOCK_UN);
}

/* For a time that differs between communicators, so that two which take each other's hosts away do not go on so. */
static void nap(const struct world *world, unsigned attempt)
{
    struct timespec now;
    uint64_t most = (uint64_t)FIRST_NAP_NS << (attempt < 6 ? attempt : 6);

    if (world->turn_fd < 0)
        return;
    clock_gettime(CLOCK_MONOTONIC, &now);
    const struct timespec time = {
        .tv_nsec = (long)(FIRST_NAP_NS + ((uint64_t)now.tv_nsec + (uint64_t)getpid() * 7919u) % most)};
    (void)nanosleep(&time, NULL);
}

/* All hosts of the communicator, or none: a host that is kept while another is waited for could be waited for in turn.
 */
static dcache_status_t await_turn(struct diag *dg, const struct world *world)
{
    double until = threads_now() + TURN_WAIT_S;

    for (unsigned attempt = 0;; attempt++) {
        bool mine = try_turn(world);
        int64_t values[2] = {!mine, threads_now() > until};
        dcache_status_t status = agree_values(world, dg, NULL, DCACHE_OK, values, 2);
        if (status == DCACHE_OK && (values[0] == 0 || values[1] != 0))
            return DCACHE_OK;
        if (mine)
            end_turn(world);
        if (status != DCACHE_OK)
            return status;
        nap(world, attempt);
    }
}

dcache_status_t window_create(struct diag *dg, const struct world *world, void *base, uint64_t bytes, MPI_Win *window)
{
    dcache_status_t status = await_turn(dg, world);

    if (status != DCACHE_OK)
        return status;
    status =
        world_check(dg, MPI_Win_create(base, (MPI_Aint)bytes, 1, MPI_INFO_NULL, world->comm, window), "MPI_Win_create");
    end_turn(world);
    if (status == DCACHE_OK)
        MPI_Win_set_errhandler(*window, MPI_ERRORS_RETURN);
    return status;
}
