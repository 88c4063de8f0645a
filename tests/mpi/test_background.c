/* Checkpoints behind the computation, driven from calls.
 *
 * ranks: 2 3
 * timeout: 300 */
#include "mpi_background.h"

#include <mpi.h>

int main(int argc, char **argv)
{
    return background_main(argc, argv, MPI_THREAD_SINGLE);
}
