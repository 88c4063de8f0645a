/**
 * What this host can see of one job: the copies in its node stores, and the manifests in the object store, put together
 * by step. All that the commands of the tool work on.
 */
#ifndef DCACHE_RUNTIME_CLI_OVERVIEW_H
#define DCACHE_RUNTIME_CLI_OVERVIEW_H

#include "io/drain.h"
#include "io/run_info.h"
#include "runtime/cli/cli.h"

/** One slot's file. */
struct overview_copy {
    struct catalog_entry entry; /* entry.store is the index into stores */
    int64_t modified;           /* seconds since 1970, 0 = unknown */
};

/** One attempt at one step. */
struct overview_step {
    struct shard_set set;
    const struct overview_copy *copies; /* borrowed from the overview; by rank, store and kind */
    size_t copy_count;
    bool durable;
    struct manifest manifest; /* when durable */
    /* Derived from the complete copies: */
    uint32_t own;
    uint32_t replica;
    uint32_t held;       /* ranks with a copy in a node store here */
    uint32_t held_twice; /* ranks with copies on two nodes here */
    uint64_t bytes;      /* one copy of each shard */
    int64_t modified;
};

/** A manifest that is there and cannot be used. */
struct overview_fault {
    uint64_t step;
    char text[DIAG_TEXT_MAX];
};

struct overview {
    struct cli *cli;
    char job[64];
    struct node_store *stores;
    unsigned *indexes;        /* of the virtual nodes, for each store */
    bool *on_ssd;             /* below the option ssd_store, for each store */
    struct drain_plan *plans; /* for each store; without ranks when there is none */
    size_t store_count;
    const struct drain_plan *plan; /* the first there is, or NULL */
    struct overview_copy *copies;
    size_t copy_count;
    struct overview_step *steps; /* newest first */
    size_t step_count;
    bool has_info;
    struct run_info info;        /* of the most recent run on this host */
    struct object_store *remote; /* NULL: none, or not asked */
    char remote_url[STRIPES_TEXT_MAX];
    bool remote_failed; /* should have been asked and could not; the warning is out */
    struct overview_fault *faults;
    size_t fault_count;
};

/**
 * Look at `job`. With `lock` the node stores are locked as long as the overview is open. A store that cannot be asked
 * is a warning and remote_failed.
 * @return DCACHE_OK, also when there is nothing; DCACHE_ERR_BUSY (with `lock`), DCACHE_ERR_PERMISSION, ...
 */
dcache_status_t overview_open(struct cli *cli, const char *job, bool lock, struct overview *overview) DCACHE_MUST_CHECK;
void overview_close(struct overview *overview);

/** The newest attempt at `step`, or NULL. */
const struct overview_step *overview_find(const struct overview *overview, uint64_t step);

/** "DURABLE" and so on, or "partial 3/4"; `text` has 40 bytes. Returns it. */
const char *overview_level(const struct overview_step *step, char text[40]);

/** What a copy's store is called: "0" or "0 ssd"; `text` has 24 bytes. Returns it. */
const char *overview_node(const struct overview *overview, const struct overview_copy *copy, char text[24]);

/** The path of a copy's file. */
void overview_copy_path(const struct overview *overview, const struct overview_copy *copy, char *path, size_t size);

#endif
