/**
 * bench-checkpoint: what an application is stopped for by dcache's checkpoints and restarts, beside what the same
 * bytes cost when they are moved bare (the floors), measured in the same run, round by round. ../README.md says how to
 * read the figures.
 *
 * It is no application: it looks inside the library where that saves it from having a second opinion (the node table,
 * the options, where a node store lies).
 */
#ifndef BENCH_H
#define BENCH_H

#include "mpi/agree.h"
#include "runtime/options.h"

#include <stdio.h>

#define BENCH_JOB "bench-checkpoint"

/* --- what was asked for (options.c) ------------------------------------------------------------------------------ */

/** The command line. The texts are argv's. */
struct bench_options {
    int64_t bytes; /**< of application memory per rank */
    int64_t regions;
    int64_t rounds;
    int64_t node_size;     /**< -1: not given */
    const char *transport; /**< NULL: not given */
    const char *tier;      /**< directory on the memory tier, in which a scratch directory is made */
    const char *json_path; /**< NULL: standard output */
    bool json;
    bool threads; /**< MPI_THREAD_MULTIPLE */
    bool help;
};

/** True when `option` is among the arguments: what must be known before MPI starts. */
bool options_given(int argc, char **argv, const char *option);

/** Read the command line; the text of what is wrong says what is allowed. Not collective. */
dcache_status_t options_parse(struct diag *dg, int argc, char **argv, struct bench_options *options);

void options_print_usage(FILE *out);

/* --- measured figures (series.c) --------------------------------------------------------------------------------- */

/** Everything that is measured once a round. */
enum figure {
    FLOOR_COPY_MEMCPY,
    FLOOR_COPY_NONTEMPORAL,
    FLOOR_PUT,
    FLOOR_SEND,
    FLOOR_RESTORE,
    FLOOR_REBUILD,
    FLOOR_REBUILD_REPLICATED,
    FLOOR_AGREEMENTS,
    STAGED,
    REPLICATED,
    BACKGROUND_BLOCKED,
    BACKGROUND_REPLICATED,
    BACKGROUND_ITERATIONS,
    BACKGROUND_COST,
    STENCIL_ALONE,
    STENCIL_DURING,
    RESTART,
    REBUILD,
    REBUILD_REPLICATED,
    OPEN,
    FIGURES
};

/** The values of one figure, one for each round, in the order of the rounds. Equal on all ranks. */
struct series {
    double *values; /**< room for all rounds; owned */
    int count;
};

/** What does not change of a figure. */
struct figure_info {
    const char *key;   /**< in the JSON document, without unit */
    const char *unit;  /**< "s", or "" for a number */
    enum figure floor; /**< what it is measured against; FIGURES when there is nothing */
    bool lost_node;    /**< it moves the lost node's bytes; else all ranks' */
    bool rate;         /**< bytes per second make sense */
};

const struct figure_info *series_info(enum figure figure);

/** Median, least and largest of `count` > 0 values; the median of an even number is the mean of the two in the middle.
 */
struct spread {
    double median, min, max;
};

struct spread series_spread(const struct series *series);

/* --- the run ----------------------------------------------------------------------------------------------------- */

/** What costs more the first time: measured once, apart. Zero: not measured. */
struct firsts {
    double open_s;
    double floor_s;  /**< own copy and put, done bare, into files just made */
    double *steps_s; /**< the first step in each ring slot; owned */
    int steps;       /**< as many as the library keeps steps */
};

/** Memory per rank beyond what was there before dcache_open() and the shards, of the rank that needs most. */
struct overhead {
    double steps_MiB; /**< the most during open, first steps and all rounds of checkpoints */
    struct memory_parts {
        double anonymous; /**< heap, stacks */
        double files;     /**< programs and libraries: pages that all processes of a node share */
        double shared;    /**< memory shared by ranks: MPI's */
    } parts_MiB;          /**< what there is more of behind the rounds */
    double restart_MiB;   /**< open and a restart that rebuilds a node */
    bool exact;           /**< the kernel let us reset its high-water mark */
};

struct bench {
    struct bench_options options;
    struct options library; /**< as dcache_open() will read them */
    struct diag diag;
    struct world world; /**< our own duplicate, with the library's node table */
    MPI_Comm host_comm; /**< ranks with my clock */
    int host_rank;
    int partner, guest;     /**< where bare replicas go, and whose comes here; a node apart */
    uint32_t lost_node;     /**< the one that rebuild wipes */
    int mpi_threads;        /**< the level that MPI provides */
    char scratch[512];      /**< directory on the memory tier; "" = none */
    int scratch_lock;       /**< -1 = not held here */
    unsigned char *data;    /**< the application's memory: options.bytes */
    unsigned char *own;     /**< warm mapping of a file on the tier; as large */
    int own_fd;             /**< that file, which has no name any more; -1 = none */
    unsigned char *replica; /**< the same, written by `guest` through `window` */
    MPI_Win window;         /**< MPI_WIN_NULL: MPI has none here, or one node only */
    char window_reason[256];
    struct stencil *stencil;
    dcache_t *dc;  /**< NULL: not open */
    uint64_t step; /**< the last one taken */
    struct series series[FIGURES];
    struct firsts firsts;
    struct overhead overhead;
    char transport[16];
    char transport_reason[256];
};

/** More than one node: there are replicas, and a node that can be lost. */
static inline bool bench_has_partner(const struct bench *b)
{
    return b->world.node_count > 1;
}

/** True on the ranks of the node that rebuild wipes. */
static inline bool bench_is_lost(const struct bench *b)
{
    return b->world.node == b->lost_node;
}

/** Every local outcome becomes everybody's. Collective. */
dcache_status_t bench_agree(struct bench *b, dcache_status_t local) DCACHE_MUST_CHECK;

/** Seconds of this host's clock, behind a barrier or at once. The first is collective. */
double bench_start(struct bench *b);
double bench_now(void);

/** A round's time: from the first start behind the barrier to the last end, by the clock of each host, of the slowest
 * host. (A rank without a core begins late; its own time alone would hide that.) Collective, equal on all ranks. */
double bench_wall(struct bench *b, double start, double end);

void bench_add(struct bench *b, enum figure figure, double value);

/** The application bytes that one round of a figure moves. */
double bench_bytes(const struct bench *b, enum figure figure);

/** Change some of the application's memory in each chunk, so that no step is like the one before. Not timed. */
void bench_change_data(struct bench *b);

/** Open bench.dc and protect the application's memory, in options.regions pieces; `open_s` is dcache_open()'s time.
 * Collective, agreed. */
dcache_status_t bench_open(struct bench *b, double *open_s) DCACHE_MUST_CHECK;

/** Close bench.dc, if it is open. Returns `status`, unless that is DCACHE_OK and closing fails. Collective. */
dcache_status_t bench_close(struct bench *b, dcache_status_t status) DCACHE_MUST_CHECK;

/** A status of a call of dcache.h, with the text of the handle when it is no success. */
dcache_status_t bench_check(struct bench *b, const char *call, dcache_status_t status) DCACHE_MUST_CHECK;

/* --- parts ------------------------------------------------------------------------------------------------------- */

/** Make the scratch directory, after removing those that killed runs left behind. Collective, agreed. (scratch.c) */
dcache_status_t scratch_create(struct bench *b) DCACHE_MUST_CHECK;
void scratch_remove(struct bench *b);

/** The root of the node stores in it. */
void scratch_store_root(const struct bench *b, char path[OPTIONS_TEXT_MAX]);

/** Remove the store of the node that is to be lost, as a dead node does; or the stores of all. Collective, agreed. */
dcache_status_t scratch_wipe_lost(struct bench *b) DCACHE_MUST_CHECK;
dcache_status_t scratch_wipe_all(struct bench *b) DCACHE_MUST_CHECK;

/** A new file of `bytes` in the scratch directory, all of it allocated, mapped and nameless; the descriptor is the
 * caller's, or closed when `fd` is NULL. Not collective. */
dcache_status_t scratch_map(struct bench *b, const char *name, uint64_t bytes, unsigned char **base,
                            int *fd) DCACHE_MUST_CHECK;

/** A new, empty and nameless file in the scratch directory; the descriptor is the caller's. Not collective. */
dcache_status_t scratch_open(struct bench *b, const char *name, int *fd) DCACHE_MUST_CHECK;

/** Make warm mappings and window; measures firsts.floor_s. Collective, agreed. (floors.c) */
dcache_status_t floors_create(struct bench *b) DCACHE_MUST_CHECK;
void floors_free(struct bench *b);

/** One round of the floors of checkpoints, or of restarts. Collective, agreed. */
dcache_status_t floors_copy(struct bench *b) DCACHE_MUST_CHECK;
dcache_status_t floors_copy_nontemporal(struct bench *b) DCACHE_MUST_CHECK;
dcache_status_t floors_put(struct bench *b) DCACHE_MUST_CHECK;
dcache_status_t floors_send(struct bench *b) DCACHE_MUST_CHECK;
dcache_status_t floors_agreements(struct bench *b) DCACHE_MUST_CHECK;
dcache_status_t floors_restore(struct bench *b) DCACHE_MUST_CHECK;
dcache_status_t floors_rebuild(struct bench *b) DCACHE_MUST_CHECK; /* both floors of rebuilding */

/** Plain loop of stores past the caches. False: this CPU (or this program) has none. Not collective. (nontemporal.c) */
bool nontemporal_copy(void *target, const void *source, size_t bytes);

/** A Jacobi iteration on a field larger than the caches, with exchange of halos. Collective. (stencil.c) */
dcache_status_t stencil_create(struct bench *b) DCACHE_MUST_CHECK;
void stencil_iterate(struct bench *b);
void stencil_free(struct bench *b);

/** All rounds of checkpoints; all rounds of restarts. Collective, agreed. (steps.c, restarts.c) */
dcache_status_t steps_measure(struct bench *b) DCACHE_MUST_CHECK;
dcache_status_t restarts_measure(struct bench *b) DCACHE_MUST_CHECK;

/** What this process keeps in memory. (memory.c) */
struct memory_mark {
    double before_MiB; /**< resident when the mark was set */
    struct memory_parts parts_MiB;
    bool exact;
};

/** Remember what is resident now, and let the kernel's high-water mark start anew from here. */
void memory_mark(struct memory_mark *mark);

/** Start the high-water mark anew, the comparison stays. */
void memory_reset(struct memory_mark *mark);

/** High-water mark minus what was resident at the mark minus what is mapped of files below `root` now. */
double memory_over_mark(const struct memory_mark *mark, const char *root);

/** What there is now, minus what there was at the mark, minus mapped files below `root`. */
struct memory_parts memory_parts_over_mark(const struct memory_mark *mark, const char *root);

/** Anonymous memory, sampled by a thread: the most there was between start and stop minus that at start. */
struct memory_sampler;
struct memory_sampler *memory_sampler_start(void);
double memory_sampler_stop(struct memory_sampler *sampler);

/** The table for people; the document for programs. Rank 0. (report.c, json.c) */
void report_print(const struct bench *b, FILE *out);
dcache_status_t json_write(struct bench *b) DCACHE_MUST_CHECK;

/** The faster of the two one-copy floors. */
enum figure report_floor_copy(const struct bench *b);

/** The measured floor of a figure, with the transport that the library uses; FIGURES when there is none. */
enum figure report_floor_of(const struct bench *b, enum figure figure);

/** Bytes per second of a figure in GB/s (1e9): of its median time, its longest (min) and its shortest (max). */
struct spread report_rate(const struct bench *b, enum figure figure);

/** How many times longer an iteration of the stencil loop takes while a step is replicated behind it. */
double report_slowdown(const struct bench *b);

/** The machine this rank runs on. (machine.c) */
struct machine {
    char cpu[128];
    char kernel[128];
    char mpi[256];
    char date[32]; /**< ISO 8601, UTC */
    const char *digest;
    long cores;
    double memory_GiB;
    double load; /**< average over the last minute */
    char huge_pages[64];
};

void machine_describe(struct machine *machine);

/** Memory that can still be had on this host, in bytes; 0 = unknown. */
uint64_t machine_memory_available(void);

#endif
