/* The computation that goes on while replication does: Jacobi iterations on a strip of a periodic plane. Two fields of
 * 8 MiB per rank do not fit in the caches, so it wants the same memory bandwidth that replication wants. */
#include "bench.h"

#include <stdlib.h>
#include <string.h>

enum { ROWS = 1024, COLUMNS = 1024, TAG_UP = 1, TAG_DOWN = 2 };

struct stencil {
    MPI_Comm comm;      /* the application's own, as the library must leave it alone */
    double *now, *next; /* ROWS + 2 rows: the first and the last are the neighbours' */
    int up, down;
};

static size_t field_bytes(void)
{
    return sizeof(double) * (ROWS + 2) * COLUMNS;
}

dcache_status_t stencil_create(struct bench *b)
{
    struct stencil *s = calloc(1, sizeof *s);
    dcache_status_t status = DCACHE_OK;

    b->stencil = s;
    if (s != NULL) {
        s->comm = MPI_COMM_NULL;
        s->now = malloc(field_bytes());
        s->next = malloc(field_bytes());
    }
    if (s == NULL || s->now == NULL || s->next == NULL)
        status = diag_fail(&b->diag, DCACHE_ERR_NO_MEMORY, "out of memory for the stencil loop's %zu bytes",
                           2 * field_bytes());
    status = bench_agree(b, status);
    if (status != DCACHE_OK)
        return status;
    for (size_t i = 0; i < (size_t)(ROWS + 2) * COLUMNS; i++)
        s->now[i] = s->next[i] = (double)(i % 97) + b->world.rank;
    s->up = (b->world.rank + b->world.size - 1) % b->world.size;
    s->down = (b->world.rank + 1) % b->world.size;
    return bench_agree(b, world_check(&b->diag, MPI_Comm_dup(b->world.comm, &s->comm), "MPI_Comm_dup"));
}

static void exchange_halos(struct stencil *s)
{
    double *first = s->now + COLUMNS, *last = s->now + (size_t)ROWS * COLUMNS;

    MPI_Sendrecv(first, COLUMNS, MPI_DOUBLE, s->up, TAG_UP, last + COLUMNS, COLUMNS, MPI_DOUBLE, s->down, TAG_UP,
                 s->comm, MPI_STATUS_IGNORE);
    MPI_Sendrecv(last, COLUMNS, MPI_DOUBLE, s->down, TAG_DOWN, s->now, COLUMNS, MPI_DOUBLE, s->up, TAG_DOWN, s->comm,
                 MPI_STATUS_IGNORE);
}

void stencil_iterate(struct bench *b)
{
    struct stencil *s = b->stencil;

    exchange_halos(s);
    for (size_t row = 1; row <= ROWS; row++) {
        const double *here = s->now + row * COLUMNS;
        double *out = s->next + row * COLUMNS;
        for (size_t x = 1; x + 1 < COLUMNS; x++)
            out[x] = 0.2 * (here[x] + here[x - 1] + here[x + 1] + here[x - COLUMNS] + here[x + COLUMNS]);
    }
    double *swap = s->now;
    s->now = s->next;
    s->next = swap;
}

void stencil_free(struct bench *b)
{
    struct stencil *s = b->stencil;

    if (s == NULL)
        return;
    if (s->comm != MPI_COMM_NULL)
        MPI_Comm_free(&s->comm);
    free(s->now);
    free(s->next);
    free(s);
    b->stencil = NULL;
}
