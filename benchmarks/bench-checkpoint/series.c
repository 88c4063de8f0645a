#include "bench.h"

#include <stdlib.h>
#include <string.h>

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

struct spread series_spread(const struct series *series)
{
    size_t count = (size_t)series->count;
    double *sorted = malloc(count * sizeof *sorted);
    struct spread spread = {series->values[0], series->values[0], series->values[0]};

    if (sorted == NULL)
        return spread; /* a few KiB: who cannot have them has other sorrows */
    memcpy(sorted, series->values, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, compare);
    spread.min = sorted[0];
    spread.max = sorted[count - 1];
    spread.median = count % 2 != 0 ? sorted[count / 2] : (sorted[count / 2 - 1] + sorted[count / 2]) / 2;
    free(sorted);
    return spread;
}

const struct figure_info *series_info(enum figure figure)
{
    static const struct figure_info infos[FIGURES] = {
        [FLOOR_COPY_MEMCPY] = {"floor_copy_memcpy", "s", FIGURES, false, true},
        [FLOOR_COPY_NONTEMPORAL] = {"floor_copy_nontemporal", "s", FIGURES, false, true},
        [FLOOR_PUT] = {"floor_put", "s", FIGURES, false, true},
        [FLOOR_SEND] = {"floor_send", "s", FIGURES, false, true},
        [FLOOR_RESTORE] = {"floor_restore", "s", FIGURES, false, true},
        [FLOOR_REBUILD] = {"floor_rebuild", "s", FIGURES, true, true},
        [FLOOR_REBUILD_REPLICATED] = {"floor_rebuild_replicated", "s", FIGURES, true, true},
        [FLOOR_AGREEMENTS] = {"floor_agreements", "s", FIGURES, false, false},
        [STAGED] = {"staged", "s", FLOOR_COPY_MEMCPY, false, true},
        [REPLICATED] = {"replicated", "s", FLOOR_PUT, false, true},
        [BACKGROUND_BLOCKED] = {"background_blocked", "s", FLOOR_COPY_MEMCPY, false, true},
        [BACKGROUND_REPLICATED] = {"background_replicated", "s", FLOOR_PUT, false, true},
        [BACKGROUND_ITERATIONS] = {"background_iterations", "", FIGURES, false, false},
        [BACKGROUND_COST] = {"background_cost", "s", FIGURES, false, false},
        [STENCIL_ALONE] = {"stencil_alone", "s", FIGURES, false, false},
        [STENCIL_DURING] = {"stencil_during", "s", STENCIL_ALONE, false, false},
        [RESTART] = {"restart", "s", FLOOR_RESTORE, false, true},
        [REBUILD] = {"rebuild", "s", FLOOR_REBUILD, true, true},
        [REBUILD_REPLICATED] = {"rebuild_replicated", "s", FLOOR_REBUILD_REPLICATED, true, true},
        [OPEN] = {"open", "s", FIGURES, false, false},
    };

    return &infos[figure];
}
