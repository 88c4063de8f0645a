/* The field of heat2d: decomposition, halo exchange, stencil and HDF5 files. See heat2d_field.h. */
#include "heat2d_field.h"

#include <errno.h>
#include <hdf5.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Thermal diffusivity times time step over the square of the cell width. Explicit steps are stable up to 0.25. */
static const double DIFFUSION = 0.2;

/* --- problems ---------------------------------------------------------------------------------------------------- */

void problem_set(struct problem *problem, const char *format, ...)
{
    va_list arguments;

    if (problem->text[0] != '\0')
        return;
    va_start(arguments, format);
    vsnprintf(problem->text, sizeof problem->text, format, arguments);
    va_end(arguments);
}

bool problem_agree(struct problem *problem, MPI_Comm comm)
{
    int rank = 0;
    int size = 0;
    int first = 0;

    MPI_Comm_rank(comm, &rank);
    MPI_Comm_size(comm, &size);
    int mine = problem->text[0] != '\0' ? rank : size;
    MPI_Allreduce(&mine, &first, 1, MPI_INT, MPI_MIN, comm);
    if (first == size)
        return true;
    MPI_Bcast(problem->text, sizeof problem->text, MPI_CHAR, first, comm);
    return false;
}

/* --- decomposition ----------------------------------------------------------------------------------------------- */

/* The part of `length` cells that the rank at `place` of `places` gets; the first ones get one more if it must be. */
static void cut(uint64_t length, int places, int place, uint64_t *start, uint64_t *count)
{
    uint64_t n = (uint64_t)places;
    uint64_t p = (uint64_t)place;
    uint64_t rest = length % n;

    *count = length / n + (p < rest ? 1 : 0);
    *start = length / n * p + (p < rest ? p : rest);
}

static void grid_create(struct field *field, MPI_Comm comm, int dims[2])
{
    const int periods[2] = {0, 0};
    int size = 0;

    MPI_Comm_size(comm, &size);
    MPI_Dims_create(size, 2, dims); /* the larger one first ... */
    if (field->global[1] > field->global[0]) {
        int longer = dims[0]; /* ... which belongs to the longer side of the field */
        dims[0] = dims[1];
        dims[1] = longer;
    }
    MPI_Cart_create(comm, 2, dims, periods, 0, &field->grid);
    MPI_Comm_rank(field->grid, &field->rank);
    MPI_Cart_shift(field->grid, 0, 1, &field->neighbour[NORTH], &field->neighbour[SOUTH]);
    MPI_Cart_shift(field->grid, 1, 1, &field->neighbour[WEST], &field->neighbour[EAST]);
}

/* The block of the rank `rank` of the grid. */
static void block_of(const struct field *field, int rank, uint64_t start[2], uint64_t count[2])
{
    int dims[2];
    int periods[2];
    int here[2];
    int coords[2];

    MPI_Cart_get(field->grid, 2, dims, periods, here);
    MPI_Cart_coords(field->grid, rank, 2, coords);
    for (int d = 0; d < 2; d++)
        cut(field->global[d], dims[d], coords[d], &start[d], &count[d]);
}

static void allocate(struct field *field, struct problem *problem)
{
    size_t ny = field->count[0];
    size_t nx = field->count[1];
    bool complete = true;

    field->block = ny > SIZE_MAX / sizeof(double) / nx ? NULL : calloc(ny * nx, sizeof(double));
    complete = field->block != NULL;
    for (int side = 0; side < SIDES; side++) {
        field->halo[side] = calloc(side == NORTH || side == SOUTH ? nx : ny, sizeof(double));
        complete = complete && field->halo[side] != NULL;
    }
    for (int i = 0; i < 2; i++) {
        field->row[i] = calloc(nx + 2, sizeof(double));
        complete = complete && field->row[i] != NULL;
    }
    if (!complete)
        problem_set(problem, "rank %d: out of memory for its block of %zu x %zu cells; use more ranks", field->rank, ny,
                    nx);
}

bool field_create(struct field *field, MPI_Comm comm, const uint64_t shape[2], struct problem *problem)
{
    int dims[2] = {0, 0};

    *field = (struct field){.grid = MPI_COMM_NULL, .global = {shape[0], shape[1]}, .column = MPI_DATATYPE_NULL};
    grid_create(field, comm, dims);
    if (shape[0] < (uint64_t)dims[0] || shape[1] < (uint64_t)dims[1]) {
        problem_set(problem,
                    "a field of %" PRIu64 " x %" PRIu64 " cells is too small for %d x %d ranks; use fewer ranks",
                    shape[0], shape[1], dims[0], dims[1]);
        return false; /* the same on every rank */
    }
    block_of(field, field->rank, field->start, field->count);
    MPI_Type_vector((int)field->count[0], 1, (int)field->count[1], MPI_DOUBLE, &field->column);
    MPI_Type_commit(&field->column);
    allocate(field, problem);
    return problem_agree(problem, field->grid);
}

void field_destroy(struct field *field)
{
    free(field->block);
    for (int side = 0; side < SIDES; side++)
        free(field->halo[side]);
    for (int i = 0; i < 2; i++)
        free(field->row[i]);
    if (field->column != MPI_DATATYPE_NULL)
        MPI_Type_free(&field->column);
    if (field->grid != MPI_COMM_NULL)
        MPI_Comm_free(&field->grid);
}

/* --- computation ------------------------------------------------------------------------------------------------- */

/* Each neighbour gets the row or column of the block next to it, and its own one comes into the halo. */
static void exchange_halos(struct field *field)
{
    const int *to = field->neighbour;
    int ny = (int)field->count[0];
    int nx = (int)field->count[1];
    double *first_row = field->block;
    double *last_row = field->block + (field->count[0] - 1) * field->count[1];
    double *first_column = field->block;
    double *last_column = field->block + field->count[1] - 1;

    MPI_Sendrecv(first_row, nx, MPI_DOUBLE, to[NORTH], NORTH, field->halo[SOUTH], nx, MPI_DOUBLE, to[SOUTH], NORTH,
                 field->grid, MPI_STATUS_IGNORE);
    MPI_Sendrecv(last_row, nx, MPI_DOUBLE, to[SOUTH], SOUTH, field->halo[NORTH], nx, MPI_DOUBLE, to[NORTH], SOUTH,
                 field->grid, MPI_STATUS_IGNORE);
    MPI_Sendrecv(first_column, 1, field->column, to[WEST], WEST, field->halo[EAST], ny, MPI_DOUBLE, to[EAST], WEST,
                 field->grid, MPI_STATUS_IGNORE);
    MPI_Sendrecv(last_column, 1, field->column, to[EAST], EAST, field->halo[WEST], ny, MPI_DOUBLE, to[WEST], EAST,
                 field->grid, MPI_STATUS_IGNORE);
}

/* The five-point stencil; `above`, `here` and `below` are old values, here[0] is the cell to the west of row[0]. The
 * order of the operations is the same for every cell, so the result has the same bits however the field is cut. */
static void update_row(double *restrict row, const double *restrict above, const double *restrict here,
                       const double *restrict below, size_t from, size_t to)
{
    for (size_t x = from; x < to; x++) {
        double old = here[x + 1];
        double around = (above[x] + below[x]) + (here[x] + here[x + 2]);
        row[x] = old + DIFFUSION * (around - 4.0 * old);
    }
}

/* In place: the block stays where it is, so it is protected once. That takes the old values of two rows. */
void field_advance(struct field *field)
{
    size_t ny = field->count[0];
    size_t nx = field->count[1];
    size_t from = field->neighbour[WEST] == MPI_PROC_NULL ? 1 : 0;
    size_t to = field->neighbour[EAST] == MPI_PROC_NULL ? nx - 1 : nx;
    double *above = field->row[0];
    double *here = field->row[1];

    exchange_halos(field);
    memcpy(above + 1, field->halo[NORTH], nx * sizeof(double));
    for (size_t y = 0; y < ny; y++) {
        double *row = field->block + y * nx;
        const double *below = y + 1 < ny ? row + nx : field->halo[SOUTH];
        uint64_t global_y = field->start[0] + y;

        here[0] = field->halo[WEST][y];
        memcpy(here + 1, row, nx * sizeof(double));
        here[nx + 1] = field->halo[EAST][y];
        if (global_y > 0 && global_y < field->global[0] - 1)
            update_row(row, above + 1, here, below, from, to);

        double *free_row = above;
        above = here;
        here = free_row;
    }
}

/* Spread the bits of a number over all 64 bits (the last stage of the splitmix64 generator). */
static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

uint64_t field_checksum(const struct field *field)
{
    uint64_t mine = 0;
    uint64_t all = 0;

    for (size_t y = 0; y < field->count[0]; y++) {
        uint64_t first = (field->start[0] + y) * field->global[1] + field->start[1];
        for (size_t x = 0; x < field->count[1]; x++) {
            uint64_t bits = 0;
            memcpy(&bits, &field->block[y * field->count[1] + x], sizeof bits);
            mine += mix(bits ^ mix(first + x)); /* a sum of integers: any order gives the same */
        }
    }
    MPI_Allreduce(&mine, &all, 1, MPI_UINT64_T, MPI_SUM, field->grid);
    return all;
}

/* --- reading ----------------------------------------------------------------------------------------------------- */

static hid_t file_open(const char *path, struct problem *problem)
{
    if (access(path, R_OK) != 0) {
        problem_set(problem, "cannot read %s: %s", path, strerror(errno));
        return H5I_INVALID_HID;
    }
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    if (file < 0)
        problem_set(problem, "cannot open %s: it is no HDF5 file, or is being written", path);
    return file;
}

static bool holds_numbers(hid_t dataset)
{
    hid_t type = H5Dget_type(dataset);
    H5T_class_t class = H5Tget_class(type);

    H5Tclose(type);
    return class == H5T_INTEGER || class == H5T_FLOAT;
}

/* The number of dimensions; `shape` is set when there are two. */
static int dataset_shape(hid_t dataset, uint64_t shape[2])
{
    hsize_t extent[2];
    hid_t space = H5Dget_space(dataset);
    int ndims = H5Sget_simple_extent_ndims(space);

    if (ndims == 2 && H5Sget_simple_extent_dims(space, extent, NULL) == 2) {
        shape[0] = extent[0];
        shape[1] = extent[1];
    }
    H5Sclose(space);
    return ndims;
}

/* Called for every link of a file: stops at the first one that leads to a 2D dataset of numbers. */
static herr_t look_for_dataset(hid_t group, const char *name, const H5L_info_t *info, void *found)
{
    struct input *input = found;
    hid_t object = H5Oopen(group, name, H5P_DEFAULT);
    bool fits = object >= 0 && H5Iget_type(object) == H5I_DATASET && dataset_shape(object, input->shape) == 2 &&
                holds_numbers(object) && strlen(name) < sizeof input->dataset;

    (void)info;
    if (fits)
        snprintf(input->dataset, sizeof input->dataset, "%s", name);
    if (object >= 0)
        H5Oclose(object);
    return fits ? 1 : 0;
}

static void check_dataset(hid_t dataset, struct input *input, struct problem *problem)
{
    int ndims = dataset_shape(dataset, input->shape);
    uint64_t rows = input->shape[0];
    uint64_t columns = input->shape[1];

    if (ndims != 2)
        problem_set(problem, "dataset %s of %s has %d dimensions; 2 are needed", input->dataset, input->path, ndims);
    else if (!holds_numbers(dataset))
        problem_set(problem, "dataset %s of %s does not hold integers or floating-point numbers", input->dataset,
                    input->path);
    else if (rows < 3 || columns < 3)
        problem_set(problem,
                    "dataset %s of %s is too small: %" PRIu64 " x %" PRIu64 "; at least 3 x 3 cells are needed",
                    input->dataset, input->path, rows, columns);
    else if (rows > INT_MAX || columns > INT_MAX)
        problem_set(problem,
                    "dataset %s of %s is too large: %" PRIu64 " x %" PRIu64 "; at most %d cells a side can be handled",
                    input->dataset, input->path, rows, columns, INT_MAX);
}

static void inspect(struct input *input, struct problem *problem)
{
    hid_t file = file_open(input->path, problem);
    if (file < 0)
        return;
    if (input->dataset[0] == '\0' && H5Lvisit(file, H5_INDEX_NAME, H5_ITER_INC, look_for_dataset, input) != 1)
        problem_set(problem, "%s has no 2D dataset of numbers", input->path);

    hid_t dataset = input->dataset[0] == '\0' ? H5I_INVALID_HID : H5Dopen2(file, input->dataset, H5P_DEFAULT);
    if (dataset >= 0) {
        check_dataset(dataset, input, problem);
        H5Dclose(dataset);
    } else {
        problem_set(problem, "%s has no dataset %s", input->path, input->dataset);
    }
    H5Fclose(file);
}

bool input_inspect(struct input *input, MPI_Comm comm, struct problem *problem)
{
    int rank = 0;

    MPI_Comm_rank(comm, &rank);
    if (rank == 0)
        inspect(input, problem);
    if (!problem_agree(problem, comm))
        return false;
    MPI_Bcast(input->dataset, sizeof input->dataset, MPI_CHAR, 0, comm);
    MPI_Bcast(input->shape, 2, MPI_UINT64_T, 0, comm);
    return true;
}

/* The place of a block in a dataset, for H5Dread() and H5Dwrite(). */
static bool select_block(hid_t space, const uint64_t start[2], const uint64_t count[2])
{
    const hsize_t first[2] = {start[0], start[1]};
    const hsize_t extent[2] = {count[0], count[1]};

    return H5Sselect_hyperslab(space, H5S_SELECT_SET, first, NULL, extent, NULL) >= 0;
}

/* HDF5 converts whatever type the file has to doubles. */
static bool read_block(hid_t dataset, struct field *field)
{
    const hsize_t extent[2] = {field->count[0], field->count[1]};
    hid_t in_file = H5Dget_space(dataset);
    hid_t in_memory = H5Screate_simple(2, extent, NULL);
    bool ok = select_block(in_file, field->start, field->count) &&
              H5Dread(dataset, H5T_NATIVE_DOUBLE, in_memory, in_file, H5P_DEFAULT, field->block) >= 0;

    H5Sclose(in_memory);
    H5Sclose(in_file);
    return ok;
}

bool field_read(struct field *field, const struct input *input, struct problem *problem)
{
    hid_t file = file_open(input->path, problem);
    if (file >= 0) {
        hid_t dataset = H5Dopen2(file, input->dataset, H5P_DEFAULT);
        if (dataset < 0 || !read_block(dataset, field))
            problem_set(problem, "rank %d: cannot read its block of dataset %s of %s", field->rank, input->dataset,
                        input->path);
        if (dataset >= 0)
            H5Dclose(dataset);
        H5Fclose(file);
    }
    return problem_agree(problem, field->grid);
}

/* --- writing ----------------------------------------------------------------------------------------------------- */

/* A dataset without time stamps: the same field makes the same file. */
static hid_t create_dataset(hid_t file, const uint64_t global[2])
{
    const hsize_t extent[2] = {global[0], global[1]};
    hid_t space = H5Screate_simple(2, extent, NULL);
    hid_t properties = H5Pcreate(H5P_DATASET_CREATE);

    H5Pset_obj_track_times(properties, 0);
    hid_t dataset = H5Dcreate2(file, "temperature", H5T_IEEE_F64LE, space, H5P_DEFAULT, properties, H5P_DEFAULT);
    H5Pclose(properties);
    H5Sclose(space);
    return dataset;
}

static bool write_block(hid_t dataset, const uint64_t start[2], const uint64_t count[2], const double *block)
{
    const hsize_t extent[2] = {count[0], count[1]};
    hid_t in_file = H5Dget_space(dataset);
    hid_t in_memory = H5Screate_simple(2, extent, NULL);
    bool ok = select_block(in_file, start, count) &&
              H5Dwrite(dataset, H5T_NATIVE_DOUBLE, in_memory, in_file, H5P_DEFAULT, block) >= 0;

    H5Sclose(in_memory);
    H5Sclose(in_file);
    return ok;
}

/* Blocks can have more than INT_MAX cells, so they are sent by rows. */
static MPI_Datatype row_type(uint64_t cells)
{
    MPI_Datatype type;

    MPI_Type_contiguous((int)cells, MPI_DOUBLE, &type);
    MPI_Type_commit(&type);
    return type;
}

static void receive_block(const struct field *field, int rank, const uint64_t count[2], double *block)
{
    MPI_Datatype row = row_type(count[1]);

    MPI_Recv(block, (int)count[0], row, rank, 0, field->grid, MPI_STATUS_IGNORE);
    MPI_Type_free(&row);
}

/* Rank 0 takes one block after the other, so it needs memory for one only, and takes all, also when it cannot write
 * them any more: the other ranks wait for that. Its own block is the largest one. */
static bool collect_blocks(const struct field *field, hid_t dataset, double *buffer)
{
    int size = 0;
    bool ok = write_block(dataset, field->start, field->count, field->block);

    MPI_Comm_size(field->grid, &size);
    for (int rank = 1; rank < size; rank++) {
        uint64_t start[2];
        uint64_t count[2];
        block_of(field, rank, start, count);
        receive_block(field, rank, count, buffer);
        ok = ok && write_block(dataset, start, count, buffer);
    }
    return ok;
}

static void send_block(const struct field *field)
{
    MPI_Datatype row = row_type(field->count[1]);

    MPI_Send(field->block, (int)field->count[0], row, 0, 0, field->grid);
    MPI_Type_free(&row);
}

/* What rank 0 needs before the others may send: file, dataset and a buffer. */
struct output {
    hid_t file;
    hid_t dataset;
    double *buffer;
};

static void output_open(struct output *output, const struct field *field, const char *path, struct problem *problem)
{
    output->buffer = calloc(field->count[0] * field->count[1], sizeof(double));
    if (output->buffer == NULL)
        problem_set(problem, "out of memory for writing %s", path);
    else if ((output->file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT)) < 0)
        problem_set(problem, "cannot create %s; does its directory exist, and may you write there?", path);
    else if ((output->dataset = create_dataset(output->file, field->global)) < 0)
        problem_set(problem, "cannot create dataset temperature in %s", path);
}

/* HDF5 may write what it kept in memory only now, so closing can fail. */
static bool output_close(struct output *output)
{
    bool ok = output->dataset < 0 || H5Dclose(output->dataset) >= 0;

    ok = (output->file < 0 || H5Fclose(output->file) >= 0) && ok;
    free(output->buffer);
    return ok;
}

bool field_write(const struct field *field, const char *path, struct problem *problem)
{
    struct output output = {H5I_INVALID_HID, H5I_INVALID_HID, NULL};
    bool ok = true;

    if (field->rank == 0)
        output_open(&output, field, path, problem);
    bool opened = problem_agree(problem, field->grid);
    if (opened && field->rank == 0)
        ok = collect_blocks(field, output.dataset, output.buffer);
    else if (opened)
        send_block(field);
    if (!output_close(&output) || !ok)
        problem_set(problem, "cannot write %s; is its disk full?", path);
    return problem_agree(problem, field->grid);
}
