/**
 * mlperf-checkpoint: the checkpoint workloads of MLPerf Storage, through dcache, to a directory, or straight to an
 * object store. README.md says what is measured and how to read it.
 *
 * It looks inside the library where that saves it from having a second opinion (the node table, the options, where a
 * node store lies).
 */
#ifndef MLPERF_H
#define MLPERF_H

#include "model.h"
#include "mpi/agree.h"
#include "runtime/options.h"

#include <jansson.h>
#include <stdio.h>

#define PROGRAM "mlperf-checkpoint"
#define NOTICE  "MLPerf-Storage-shaped, unofficial"

/* Operations are numbered from 1, and so are their keys in the results: save_ckpt1. */
#define OPERATIONS_MAX 1000
#define MARKS          3
#define TEXT_MAX       1024

/** Where a checkpoint is read from. */
enum source { SOURCE_OWN, SOURCE_REPLICA, SOURCE_BLOB, SOURCES };

const char *source_name(enum source source);

/* --- what was asked for (options.c) ------------------------------------------------------------------------------ */

struct way;

/** The command line. The texts are argv's. */
struct mlperf_options {
    const struct model *model;
    const struct way *way;
    const char *results;
    const char *directory;
    const char *url;
    const char *job; /**< NULL: none; else go on from its newest checkpoint (continue.c) */
    int64_t scale;
    int64_t writes, reads;
    int64_t keep; /**< so many checkpoints stay in the directory or object store; 0 = all */
    int64_t level;
    double pause_s;
    enum source sources[SOURCES]; /**< in the order asked for; the first one is the load of summary.json */
    int source_count;
    bool subset, compressible, drop_caches, keep_data, list, help;
};

/** Read the command line; the text of what is wrong says what is allowed. Not collective. */
dcache_status_t mlperf_options_parse(struct diag *dg, int argc, char **argv, struct mlperf_options *options);

void mlperf_options_print_usage(FILE *out);

/** The processes that take part: all of the model's, or the subset. */
int mlperf_processes(const struct mlperf_options *options);

/** Print all files with their bytes, without MPI (list.c). */
void mlperf_print_files(FILE *out, const struct mlperf_options *options);

/* --- what was measured ------------------------------------------------------------------------------------------- */

/** This rank's times of one operation: when it began (seconds since 1970), and how long it took until each mark of the
 * way was reached; negative: not measured. Plain doubles, gathered from all ranks. */
struct times {
    double start;
    double marks[MARKS];
};

/** One save or load, on rank 0 with the times of all ranks, one after the other. */
struct operation {
    bool is_load;
    enum source source;
    int number;
    int64_t step;
    double resident;     /**< of a load: what part of its bytes was still in this host's page cache; < 0: not known */
    struct times *times; /**< owned; NULL but on rank 0 */
};

struct mlperf {
    struct mlperf_options options;
    struct options library; /**< as dcache_open() reads them */
    struct diag diag;
    struct world world;
    MPI_Comm host_comm;
    int host_rank;
    char stamp[32]; /**< YYYYMMDD_HHMMSS of the start, the same on all ranks */
    double started, ended;
    char leaf[TEXT_MAX]; /**< directory of the results; rank 0 */
    struct model_file files[MODEL_FILES_MAX];
    int file_count;
    uint64_t bytes;      /**< of this rank's files */
    unsigned char *data; /**< the files' contents, one behind the other */
    void *state;         /**< the way's */
    char caches[256];    /**< how caches were treated, in words */
    struct operation operations[OPERATIONS_MAX];
    int operation_count;
    struct traffic *traffic; /**< counters of this host's interfaces at the beginning of the phase */
    json_t *traffic_phases;  /**< rank 0: bytes per phase, host and interface */
};

/** Every local outcome becomes everybody's. Collective. */
dcache_status_t mlperf_agree(struct mlperf *m, dcache_status_t local) DCACHE_MUST_CHECK;

/** Seconds of a clock that only goes forward. */
double mlperf_now(void);

/** Sleep, whatever signals come. */
void mlperf_pause(double seconds);

/** A level that has been reached since `start`, as a time. */
static inline void mlperf_mark(struct times *times, int mark, double start)
{
    times->marks[mark] = mlperf_now() - start;
}

/** Where file `index` begins in the data. */
uint64_t mlperf_file_offset(const struct mlperf *m, int index);

/* --- ways (way_*.c) ---------------------------------------------------------------------------------------------- */

/** A way to keep checkpoints. All slots are collective and agreed; NULL where there is nothing to do. Times are local,
 * from the moment behind the barrier that the caller waits in. */
struct way {
    const char *name;
    const char *save_marks[MARKS]; /**< names of what is timed; NULL: no more */
    const char *load_marks[MARKS];
    int load_mark;   /**< which one is the time of a load */
    bool has_levels; /**< save_marks are dcache's levels; else the first one is the time of a save */
    /** Can this be done as asked? Before anything else, on options alone; not collective. */
    dcache_status_t (*check)(struct mlperf *m);
    dcache_status_t (*open)(struct mlperf *m);
    dcache_status_t (*save)(struct mlperf *m, int64_t step, double start, struct times *times);
    /** What is to be lost is lost, caches are dropped; not timed. `step` may be replaced by the one that will be read.
     */
    dcache_status_t (*prepare_load)(struct mlperf *m, struct operation *load);
    dcache_status_t (*load)(struct mlperf *m, const struct operation *load, double start, struct times *times);
    /** Let go of everything; what was stored is removed unless options.keep_data. Also after a failure. */
    dcache_status_t (*close)(struct mlperf *m, dcache_status_t status);
};

extern const struct way way_dcache, way_posix, way_blob;

/** Which mark of a save is its time in the results. */
int mlperf_save_mark(const struct mlperf *m);

/** For rank and the others alike: what a rank calls the file of its job. "<dir>/global_epoch1_step<step>[/<name>]" */
void mlperf_file_path(char path[TEXT_MAX], const char *directory, int64_t step, const char *name);

/* The pieces of way_dcache.c that continue.c uses, too. */
dcache_status_t dcache_way_open(struct mlperf *m) DCACHE_MUST_CHECK;
dcache_status_t dcache_way_close(struct mlperf *m, dcache_status_t status) DCACHE_MUST_CHECK;
dcache_status_t dcache_way_restart(struct mlperf *m, uint64_t *step) DCACHE_MUST_CHECK;

/* --- parts ------------------------------------------------------------------------------------------------------- */

/** Fill memory with what rank `rank` has at `step`; compressible: blocks of 4 KiB of one repeated word. (data.c) */
void data_fill(unsigned char *data, uint64_t bytes, int rank, int64_t step, bool compressible);

/** The place of the first byte that is not what data_fill() writes; `bytes`: there is none. */
uint64_t data_first_difference(const unsigned char *data, uint64_t bytes, int rank, int64_t step, bool compressible);

/** All saves, then all loads. Collective, agreed. (run.c) */
dcache_status_t mlperf_run(struct mlperf *m) DCACHE_MUST_CHECK;

/** Restart from options.job, compare, and take options.writes more checkpoints, one line each. (continue.c) */
dcache_status_t mlperf_continue(struct mlperf *m) DCACHE_MUST_CHECK;

/** Compare what was loaded with what was saved. Not collective. */
dcache_status_t mlperf_compare(struct mlperf *m, int64_t step) DCACHE_MUST_CHECK;

/** Count what goes over the interfaces of each host from begin to end. Collective. (traffic.c) */
dcache_status_t traffic_begin(struct mlperf *m) DCACHE_MUST_CHECK;
dcache_status_t traffic_end(struct mlperf *m, const char *phase) DCACHE_MUST_CHECK;
void traffic_free(struct mlperf *m);

/** Make the directory of the results; write them. Collective, agreed. (results.c) */
dcache_status_t results_create(struct mlperf *m) DCACHE_MUST_CHECK;
dcache_status_t results_write(struct mlperf *m) DCACHE_MUST_CHECK;

/** Means and population standard deviations over the operations of one kind. */
struct metric {
    int count;
    double seconds_mean, seconds_stdev, rate_mean, rate_stdev; /**< rate in GiB/s */
};

/** Of `mark` of the saves, or of the loads from a source, of rank 0; or of the slowest rank of each. Rank 0. */
struct metric metric_of(const struct mlperf *m, bool is_load, enum source source, int mark, bool slowest);

/** The bytes of all ranks in GiB. */
double mlperf_size_GiB(const struct mlperf *m);

/** The table for people. Rank 0. (report.c) */
void report_print(const struct mlperf *m, FILE *out);

#endif
