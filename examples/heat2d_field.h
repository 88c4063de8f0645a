/**
 * The field of heat2d: a global 2D array of temperatures, cut into one block per rank of a 2D process grid.
 *
 * A rank's block is contiguous and has no halo cells around it: what the neighbours own is kept in four strips beside
 * the block. So the block can be given as it is to MPI, to HDF5 and to dcache_protect_array(), without a packing copy,
 * and it never moves.
 *
 * Functions that say "collective" are called by every rank; they return the same on every rank, also when only one
 * rank failed, and then every rank has the same text in `problem`.
 */
#ifndef HEAT2D_FIELD_H
#define HEAT2D_FIELD_H

#include <mpi.h>
#include <stdbool.h>
#include <stdint.h>

/** What went wrong, in one line; "" when nothing did. */
struct problem {
    char text[1024];
};

/** Say what went wrong. The first text stays: later ones only follow from it. */
void problem_set(struct problem *problem, const char *format, ...) __attribute__((format(printf, 2, 3)));

/** Give every rank the text of the lowest rank that has one. Collective. @return true when no rank has one */
bool problem_agree(struct problem *problem, MPI_Comm comm);

/** The dataset that a field starts from. */
struct input {
    const char *path;
    char dataset[256]; /**< "" means the first 2D dataset of numbers in the file */
    uint64_t shape[2];
};

/** The directions of the neighbours, in the order of a Cartesian grid's dimensions. */
enum side { NORTH, SOUTH, WEST, EAST, SIDES };

/** One rank's part of the field. Index 0 is the row, index 1 the column. */
struct field {
    MPI_Comm grid;        /**< 2D, not periodic; the ranks of the communicator it was made from */
    int rank;             /**< in the grid */
    int neighbour[SIDES]; /**< MPI_PROC_NULL at the edge of the global field */
    uint64_t global[2];   /**< extent of the whole field */
    uint64_t start[2];    /**< first index of this rank's block */
    uint64_t count[2];    /**< extent of this rank's block */
    double *block;        /**< count[0] x count[1] temperatures, C order */
    double *halo[SIDES];  /**< the cells next to the block: a row of the neighbour, or a column of it */
    double *row[2];       /**< work space of field_advance(): the old values of two rows, with their halo cells */
    MPI_Datatype column;  /**< one column of the block */
};

/** Find the dataset and its shape: fills in `dataset` and `shape`. Collective. */
bool input_inspect(struct input *input, MPI_Comm comm, struct problem *problem);

/**
 * Cut a field of `shape` into blocks, one per rank of `comm`. All temperatures are 0. Collective.
 * The field is to be given to field_destroy(), also when this failed.
 */
bool field_create(struct field *field, MPI_Comm comm, const uint64_t shape[2], struct problem *problem);

/** Read this rank's block from `input`. Collective. */
bool field_read(struct field *field, const struct input *input, struct problem *problem);

/**
 * Write the whole field to a new HDF5 file, as dataset `temperature`. Collective.
 * The same field makes the same bytes, whatever the number of ranks and the time of day.
 */
bool field_write(const struct field *field, const char *path, struct problem *problem);

/** Advance the heat equation by one step. The cells at the edge of the global field keep their values. Collective. */
void field_advance(struct field *field);

/** A checksum of the whole field, bit by bit; does not depend on the number of ranks. Collective. */
uint64_t field_checksum(const struct field *field);

/** Free what field_create() made. Collective. */
void field_destroy(struct field *field);

#endif
