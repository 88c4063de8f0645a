#include "mpi_fields.h"

#include "io/shard.h"
#include "mpi_support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GUARD_BYTES 64
#define GUARD       0xE7
#define NONSENSE    UINT64_MAX /* fields_scribble() as a "step", which no checkpoint can have */

void fields_init(struct fields *fields, int owner)
{
    fields->owner = owner;
    fields->count = 0;
}

static void allocate(struct field *field)
{
    field->memory = malloc(field->bytes + GUARD_BYTES);
    CHECK(field->memory != NULL);
    memset(field->memory, 0, field->bytes);
    memset(field->memory + field->bytes, GUARD, GUARD_BYTES);
}

static struct field *new_field(struct fields *fields, const char *name, dcache_type_t type)
{
    CHECK(fields->count < FIELDS_MAX);
    struct field *field = &fields->items[fields->count++];
    memset(field, 0, sizeof *field);
    snprintf(field->name, sizeof field->name, "%s", name);
    field->type = type;
    return field;
}

void fields_add(struct fields *fields, const char *name, dcache_type_t type, uint64_t count)
{
    struct field *field = new_field(fields, name, type);

    field->count[0] = count;
    field->bytes = count * shard_type_bytes(type);
    allocate(field);
}

void fields_add_block(struct fields *fields, const char *name, dcache_type_t type, int ndims, const uint64_t global[],
                      const uint64_t start[], const uint64_t count[])
{
    struct field *field = new_field(fields, name, type);

    field->ndims = ndims;
    field->bytes = shard_type_bytes(type);
    for (int d = 0; d < ndims; d++) {
        field->global[d] = global[d];
        field->start[d] = start[d];
        field->count[d] = count[d];
        field->bytes *= count[d];
    }
    allocate(field);
}

static struct field *find(struct fields *fields, const char *name)
{
    for (int i = 0; i < fields->count; i++) {
        if (strcmp(fields->items[i].name, name) == 0)
            return &fields->items[i];
    }
    CHECK(!"a region of that name");
    return NULL;
}

void fields_drop(struct fields *fields, const char *name)
{
    struct field *field = find(fields, name);

    free(field->memory);
    memmove(field, field + 1, (size_t)(&fields->items[--fields->count] - field) * sizeof *field);
}

void fields_resize(struct fields *fields, const char *name, uint64_t count)
{
    struct field *field = find(fields, name);

    free(field->memory);
    field->count[0] = count;
    field->bytes = count * shard_type_bytes(field->type);
    allocate(field);
}

void fields_add_some(struct fields *fields, unsigned kib)
{
    uint64_t part = (uint64_t)kib * 1024 / 4, rank = (uint64_t)fields->owner;

    fields_add(fields, "temperature", DCACHE_FLOAT64, part / 8 * 3 + rank);
    fields_add(fields, "mesh/cells", DCACHE_INT32, part / 4 + 100 * rank);
    fields_add(fields, "mesh/flags", DCACHE_BYTE, 1 + 3 * rank);
    fields_add(fields, "empty", DCACHE_FLOAT32, 0);
}

void fields_protect(dcache_t *dc, struct fields *fields)
{
    for (int i = 0; i < fields->count; i++) {
        struct field *f = &fields->items[i];
        if (f->ndims == 0)
            CHECK_STATUS(dc, dcache_protect(dc, f->name, f->memory, f->count[0], f->type), DCACHE_OK);
        else
            CHECK_STATUS(dc,
                         dcache_protect_array(dc, f->name, f->memory, f->type, f->ndims, f->global, f->start, f->count),
                         DCACHE_OK);
    }
}

/* Where the sequence of a region's bytes starts: different for each rank, region and step. */
static uint64_t start_of(const struct fields *fields, const struct field *field, uint64_t step)
{
    uint64_t state = (uint64_t)fields->owner * 1000003u + step;

    for (const char *c = field->name; *c != '\0'; c++)
        state = support_random(&state) + (unsigned char)*c;
    return state;
}

static void fill(const struct fields *fields, struct field *field, uint64_t step)
{
    uint64_t state = start_of(fields, field, step);

    for (uint64_t at = 0; at < field->bytes; at += sizeof(uint64_t)) {
        uint64_t word = support_random(&state), left = field->bytes - at;
        memcpy(field->memory + at, &word, left < sizeof word ? left : sizeof word);
    }
}

static bool holds(const struct fields *fields, const struct field *field, uint64_t step)
{
    uint64_t state = start_of(fields, field, step);

    for (uint64_t at = 0; at < field->bytes; at += sizeof(uint64_t)) {
        uint64_t word = support_random(&state), left = field->bytes - at;
        if (memcmp(field->memory + at, &word, left < sizeof word ? left : sizeof word) != 0)
            return false;
    }
    for (uint64_t at = 0; at < GUARD_BYTES; at++) {
        if (field->memory[field->bytes + at] != GUARD)
            return false;
    }
    return true;
}

void fields_fill(struct fields *fields, uint64_t step)
{
    for (int i = 0; i < fields->count; i++)
        fill(fields, &fields->items[i], step);
}

bool fields_hold(const struct fields *fields, uint64_t step)
{
    for (int i = 0; i < fields->count; i++) {
        if (!holds(fields, &fields->items[i], step)) {
            fprintf(stderr, "rank %d: region %s has not the bytes of step %llu\n", support_rank, fields->items[i].name,
                    (unsigned long long)step);
            return false;
        }
    }
    return true;
}

void fields_scribble(struct fields *fields)
{
    fields_fill(fields, NONSENSE);
}

bool fields_scribbled(const struct fields *fields)
{
    return fields_hold(fields, NONSENSE);
}

dcache_t *fields_open(struct fields *fields, unsigned kib)
{
    dcache_t *dc = support_open();

    fields_init(fields, support_rank);
    fields_add_some(fields, kib);
    fields_protect(dc, fields);
    return dc;
}

void fields_restart(dcache_t *dc, struct fields *fields, dcache_status_t wanted, uint64_t expected, const char *word)
{
    uint64_t step = DCACHE_LATEST;

    fields_scribble(fields);
    dcache_status_t status = dcache_restart(dc, &step);
    CHECK_STATUS(dc, status, wanted);
    if (wanted == DCACHE_OK) {
        CHECK(step == expected && fields_hold(fields, expected));
    } else {
        CHECK_SAME(status, dcache_error_text(dc));
        CHECK(strstr(dcache_error_text(dc), word) != NULL && fields_scribbled(fields));
    }
}

void fields_free(struct fields *fields)
{
    for (int i = 0; i < fields->count; i++)
        free(fields->items[i].memory);
    fields->count = 0;
}
