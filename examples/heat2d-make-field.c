/**
 * heat2d-make-field: write an initial field for heat2d.
 *
 *   heat2d-make-field OUT.h5 [ROWS COLS]
 *
 * Dataset `temperature`, float64: a ramp from 0 at the left edge to 100 at the right one, and a disc of 1000 in the
 * middle. The same arguments make the same bytes.
 */
#include <hdf5.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

enum { EXIT_USAGE = 2, DEFAULT_SIDE = 512, SMALLEST_SIDE = 3 };

static double temperature_at(hsize_t row, hsize_t column, hsize_t rows, hsize_t columns)
{
    double y = (double)row - (double)(rows - 1) / 2;
    double x = (double)column - (double)(columns - 1) / 2;
    double radius = (double)(rows < columns ? rows : columns) / 4;

    return x * x + y * y <= radius * radius ? 1000.0 : 100.0 * (double)column / (double)(columns - 1);
}

/* One row at a time, so that a field can be larger than memory. */
static bool write_rows(hid_t dataset, hsize_t rows, hsize_t columns)
{
    const hsize_t extent[2] = {1, columns};
    hid_t in_file = H5Dget_space(dataset);
    hid_t in_memory = H5Screate_simple(2, extent, NULL);
    double *line = calloc(columns, sizeof *line);
    bool ok = line != NULL;

    for (hsize_t row = 0; ok && row < rows; row++) {
        const hsize_t first[2] = {row, 0};
        for (hsize_t column = 0; column < columns; column++)
            line[column] = temperature_at(row, column, rows, columns);
        ok = H5Sselect_hyperslab(in_file, H5S_SELECT_SET, first, NULL, extent, NULL) >= 0 &&
             H5Dwrite(dataset, H5T_NATIVE_DOUBLE, in_memory, in_file, H5P_DEFAULT, line) >= 0;
    }
    free(line);
    H5Sclose(in_memory);
    H5Sclose(in_file);
    return ok;
}

static bool write_field(hid_t file, hsize_t rows, hsize_t columns)
{
    const hsize_t extent[2] = {rows, columns};
    hid_t space = H5Screate_simple(2, extent, NULL);
    hid_t properties = H5Pcreate(H5P_DATASET_CREATE);

    H5Pset_obj_track_times(properties, 0);
    hid_t dataset = H5Dcreate2(file, "temperature", H5T_IEEE_F64LE, space, H5P_DEFAULT, properties, H5P_DEFAULT);
    bool ok = dataset >= 0 && write_rows(dataset, rows, columns);
    if (dataset >= 0)
        ok = H5Dclose(dataset) >= 0 && ok;
    H5Pclose(properties);
    H5Sclose(space);
    return ok;
}

static bool parse_side(const char *text, hsize_t *side)
{
    char *end = NULL;
    long value = strtol(text, &end, 10);

    if (end == text || *end != '\0' || value < SMALLEST_SIDE || value > INT_MAX) {
        fprintf(stderr, "heat2d-make-field: %s: a whole number from %d to %d is needed\n", text, SMALLEST_SIDE,
                INT_MAX);
        return false;
    }
    *side = (hsize_t)value;
    return true;
}

int main(int argc, char **argv)
{
    hsize_t rows = DEFAULT_SIDE;
    hsize_t columns = DEFAULT_SIDE;

    if ((argc != 2 && argc != 4) || argv[1][0] == '-') {
        fprintf(stderr, "usage: heat2d-make-field OUT.h5 [ROWS COLS]\n");
        return EXIT_USAGE;
    }
    if (argc == 4 && (!parse_side(argv[2], &rows) || !parse_side(argv[3], &columns)))
        return EXIT_USAGE;

    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    hid_t file = H5Fcreate(argv[1], H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    if (file < 0) {
        fprintf(stderr, "heat2d-make-field: cannot create %s; does its directory exist, and may you write there?\n",
                argv[1]);
        return EXIT_FAILURE;
    }
    bool ok = write_field(file, rows, columns);
    ok = H5Fclose(file) >= 0 && ok;
    if (!ok)
        fprintf(stderr, "heat2d-make-field: cannot write %s; is its disk full?\n", argv[1]);
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
