/* Checkpoints behind the computation, driven by a progress thread in each rank.
 *
 * ranks: 2 5
 * timeout: 300 */
#include "mpi_background.h"

#include <mpi.h>

int main(int argc, char **argv)
{
    return background_main(argc, argv, MPI_THREAD_MULTIPLE);
}
