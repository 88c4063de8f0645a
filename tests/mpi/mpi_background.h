/** Checkpoints behind the computation; the same tests for each thread level of MPI, which a program has one of. */
#ifndef DCACHE_TESTS_MPI_BACKGROUND_H
#define DCACHE_TESTS_MPI_BACKGROUND_H

/** MPI_Init_thread() with that level, all tests, MPI_Finalize(). Returns the exit status. */
int background_main(int argc, char **argv, int thread_level);

#endif
