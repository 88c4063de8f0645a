/** What the parts of `dcache doctor` share. */
#ifndef DCACHE_RUNTIME_CLI_DOCTOR_H
#define DCACHE_RUNTIME_CLI_DOCTOR_H

#include "runtime/cli/findings.h"
#include "runtime/options.h"

struct doctor {
    struct findings findings;
    struct diag *dg;
    const struct options *options;
    int64_t bytes_per_rank; /**< of a shard; 0 = not known */
    int64_t ranks_per_node; /**< 0 = not known */
};

/** Node stores, limits, pages, Slurm: what can be seen from this node. */
void doctor_check_node(struct doctor *doctor);

#endif
