/**
 * An application's memory for tests: named regions whose every byte follows from rank, region and step, so that what a
 * restart hands out can be checked without keeping it anywhere.
 */
#ifndef DCACHE_TESTS_MPI_FIELDS_H
#define DCACHE_TESTS_MPI_FIELDS_H

#include "dcache.h"

#include <stdbool.h>

#define FIELDS_MAX 512

struct field {
    char name[DCACHE_NAME_MAX + 1];
    dcache_type_t type;
    int ndims; /* 0: dcache_protect(), else dcache_protect_array() */
    uint64_t global[DCACHE_DIMS_MAX], start[DCACHE_DIMS_MAX], count[DCACHE_DIMS_MAX];
    uint64_t bytes;
    unsigned char *memory; /* with guard bytes behind it */
};

struct fields {
    int owner; /* whose bytes: the rank in the handle's communicator */
    int count;
    struct field items[FIELDS_MAX];
};

/** Start with no regions. */
void fields_init(struct fields *fields, int owner);

/** Add `count` elements, or a block of a global array. */
void fields_add(struct fields *fields, const char *name, dcache_type_t type, uint64_t count);
void fields_add_block(struct fields *fields, const char *name, dcache_type_t type, int ndims, const uint64_t global[],
                      const uint64_t start[], const uint64_t count[]);

/** Take a region away, or give it another number of elements. */
void fields_drop(struct fields *fields, const char *name);
void fields_resize(struct fields *fields, const char *name, uint64_t count);

/** A small mixture of regions, different on each rank: about `kib` KiB. */
void fields_add_some(struct fields *fields, unsigned kib);

/** Protect all of them. Not collective; must succeed. */
void fields_protect(dcache_t *dc, struct fields *fields);

/** support_open() with some of them (fields_add_some()), protected. Collective. */
dcache_t *fields_open(struct fields *fields, unsigned kib);

/** Write the bytes of `step`, or nonsense. */
void fields_fill(struct fields *fields, uint64_t step);
void fields_scribble(struct fields *fields);

/** Are all bytes those of `step`, or of the last fields_scribble()? Also false when something was written behind them.
 */
bool fields_hold(const struct fields *fields, uint64_t step);
bool fields_scribbled(const struct fields *fields);

/** Restart from the newest step, which must come to `wanted` on all ranks: with DCACHE_OK to the bytes of the step
 * `expected`; else with `word` in the text, and with nothing written. Collective. */
void fields_restart(dcache_t *dc, struct fields *fields, dcache_status_t wanted, uint64_t expected, const char *word);

void fields_free(struct fields *fields);

#endif
