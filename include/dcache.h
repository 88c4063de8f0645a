/**
 * @file dcache.h
 * dcache: checkpoints for MPI programs.
 *
 * A checkpoint is at once on the node it came from, a moment later on a second node, and soon after in an object
 * store, while the program computes on. The words used here (job, step, region, shard, level ...) are defined in
 * docs/design.md.
 *
 * @code
 *   dcache_t *dc;
 *   uint64_t step = DCACHE_LATEST;
 *   if (dcache_open(MPI_COMM_WORLD, NULL, &dc) != DCACHE_OK) ...
 *   dcache_protect(dc, "temperature", t, n, DCACHE_FLOAT64);
 *   if (dcache_restart(dc, &step) == DCACHE_NOT_FOUND) step = 0;      // nothing to restart from: a first start
 *   while (step < last) {
 *       compute(t);
 *       step++;
 *       if (step % 100 == 0) dcache_checkpoint(dc, step); // or when dcache_should_checkpoint(dc, &flag) says so
 *   }
 *   dcache_close(&dc);
 * @endcode
 *
 * Collective calls are made by every rank of the communicator given to dcache_open(), in the same order; they return
 * the same status on every rank, also when only one rank failed. Any number of handles may be open, on any
 * communicators. There is no global state. One handle is used by one thread at a time.
 */
#ifndef DCACHE_H
#define DCACHE_H

#include <mpi.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DCACHE_VERSION_MAJOR 0
#define DCACHE_VERSION_MINOR 1
#define DCACHE_VERSION_PATCH 0
#define DCACHE_VERSION       "0.1.0"

/** For dcache_restart(): the newest step that can be completed. No checkpoint can have this number. */
#define DCACHE_LATEST UINT64_MAX
/** The largest number a step can have (JSON readers know signed 64 bit numbers). */
#define DCACHE_STEP_MAX ((uint64_t)INT64_MAX)
/** The longest region name in bytes, without the terminating zero. */
#define DCACHE_NAME_MAX 63
/** The most dimensions a region can have. */
#define DCACHE_DIMS_MAX 8

/**
 * Every status, its number and its text. Zero is success, a positive status is an answer that is no error, a negative
 * one is an error. The numbers never change.
 */
#define DCACHE_STATUS_MAP(X)                                                                                           \
    X(OK, 0, "success")                                                                                                \
    X(NOT_FOUND, 1, "no such checkpoint")                                                                              \
    X(SKIPPED, 2, "checkpoint skipped: every slot holds a step that is still being drained")                           \
    X(ERR_INVALID, -1, "invalid argument")                                                                             \
    X(ERR_OPTION, -2, "invalid option")                                                                                \
    X(ERR_STATE, -3, "the call does not fit the state of the handle")                                                  \
    X(ERR_MISMATCH, -4, "ranks, regions or checkpoint do not fit each other")                                          \
    X(ERR_NO_MEMORY, -5, "out of memory")                                                                              \
    X(ERR_NO_SPACE, -6, "no space left on a storage tier")                                                             \
    X(ERR_BUSY, -7, "the node store is in use by another process")                                                     \
    X(ERR_PERMISSION, -8, "permission denied")                                                                         \
    X(ERR_IO, -9, "input/output error")                                                                                \
    X(ERR_CORRUPT, -10, "data does not match its digest")                                                              \
    X(ERR_FORMAT, -11, "unknown or newer format")                                                                      \
    X(ERR_LEVEL, -12, "the level cannot be reached")                                                                   \
    X(ERR_STORE, -13, "the object store failed")                                                                       \
    X(ERR_EXISTS, -14, "exists already")                                                                               \
    X(ERR_CANCELLED, -15, "cancelled")                                                                                 \
    X(ERR_MPI, -16, "MPI failed")                                                                                      \
    X(ERR_HDF5, -17, "HDF5 failed")                                                                                    \
    X(ERR_INTERNAL, -18, "internal error: please report it")

/** What a call came to. See DCACHE_STATUS_MAP for the texts. */
typedef enum dcache_status {
#define DCACHE_STATUS_ENUM(name, number, text) DCACHE_##name = (number),
    DCACHE_STATUS_MAP(DCACHE_STATUS_ENUM)
#undef DCACHE_STATUS_ENUM
} dcache_status_t;

/** How much a step survives. Each level includes the ones below it. */
typedef enum dcache_level {
    DCACHE_LEVEL_NONE = 0, /**< not a complete step */
    DCACHE_STAGED = 1,     /**< death of processes: the shards are in the node stores */
    DCACHE_REPLICATED = 2, /**< loss of any one failure domain: each shard is in two node stores */
    DCACHE_DURABLE = 3     /**< loss of the cluster: the manifest is in the object store */
} dcache_level_t;

/** Element types of regions. Stored as the little-endian HDF5 type of the same meaning. */
typedef enum dcache_type {
    DCACHE_INT8 = 1,
    DCACHE_UINT8 = 2,
    DCACHE_INT16 = 3,
    DCACHE_UINT16 = 4,
    DCACHE_INT32 = 5,
    DCACHE_UINT32 = 6,
    DCACHE_INT64 = 7,
    DCACHE_UINT64 = 8,
    DCACHE_FLOAT16 = 9,   /**< IEEE binary16 */
    DCACHE_BFLOAT16 = 10, /**< the upper half of an IEEE binary32 */
    DCACHE_FLOAT32 = 11,
    DCACHE_FLOAT64 = 12,
    DCACHE_BYTE = DCACHE_UINT8
} dcache_type_t;

/** One open checkpoint context. */
typedef struct dcache dcache_t;

#if defined(__GNUC__)
#define DCACHE_MUST_CHECK __attribute__((warn_unused_result))
#else
#define DCACHE_MUST_CHECK
#endif

/**
 * Open a context on a communicator. Collective over `comm`.
 *
 * Options come from `config_file` (an INI file, or NULL: then from the file named by DCACHE_CONFIG, if set) and from
 * `DCACHE_*` environment variables, which win; rank 0 reads both and tells the others. `dcache help options` lists
 * them.
 *
 * @param comm         an intracommunicator; duplicated, so the caller may free it afterwards. Keep MPI initialised
 * until dcache_close(). MPI_THREAD_SINGLE is enough.
 * @param config_file  path read by rank 0, or NULL; not kept
 * @param dc           out: the handle, owned by the caller, to be given to dcache_close(). NULL on failure; what went
 *                     wrong is then on standard error.
 * @return DCACHE_OK, DCACHE_ERR_INVALID, DCACHE_ERR_OPTION, DCACHE_ERR_BUSY (another process uses the node store of
 * this job, or another run its name in the object store; the text says which), DCACHE_ERR_PERMISSION,
 * DCACHE_ERR_NO_SPACE, DCACHE_ERR_IO, DCACHE_ERR_NO_MEMORY, DCACHE_ERR_STORE, DCACHE_ERR_MPI
 */
dcache_status_t dcache_open(MPI_Comm comm, const char *config_file, dcache_t **dc) DCACHE_MUST_CHECK;

/**
 * Protect `count` elements at `ptr` under `name`. Not collective: ranks may protect different regions.
 *
 * Protecting a name again replaces its pointer, count and type. The memory stays the caller's, is read by
 * dcache_checkpoint() and written by dcache_restart() only, and must stay valid until dcache_unprotect() or
 * dcache_close().
 *
 * @param name   1 to DCACHE_NAME_MAX of the characters A-Z a-z 0-9 _ . - and '/' (which makes HDF5 groups); copied.
 *               `dcache` and names below `dcache/` are reserved
 * @param ptr    the first element; may be NULL when `count` is 0
 * @param count  number of elements, not bytes
 * @return DCACHE_OK, DCACHE_ERR_INVALID, DCACHE_ERR_NO_MEMORY
 */
dcache_status_t dcache_protect(dcache_t *dc, const char *name, void *ptr, uint64_t count,
                               dcache_type_t type) DCACHE_MUST_CHECK;

/**
 * Protect this rank's block of a global array. Not collective. As dcache_protect(), and the place of the block in the
 * global array is kept with it.
 *
 * @param ptr     the block, contiguous in C order (last dimension fastest)
 * @param ndims   number of dimensions, 1 to DCACHE_DIMS_MAX
 * @param global  extent of the global array in each dimension, in elements; copied
 * @param start   first index of the block in each dimension; copied
 * @param count   extent of the block in each dimension; start + count must not exceed global; copied
 * @return DCACHE_OK, DCACHE_ERR_INVALID, DCACHE_ERR_NO_MEMORY
 */
dcache_status_t dcache_protect_array(dcache_t *dc, const char *name, void *ptr, dcache_type_t type, int ndims,
                                     const uint64_t global[], const uint64_t start[],
                                     const uint64_t count[]) DCACHE_MUST_CHECK;

/**
 * Stop protecting `name`. Not collective.
 * @return DCACHE_OK, DCACHE_ERR_INVALID (no such region)
 */
dcache_status_t dcache_unprotect(dcache_t *dc, const char *name) DCACHE_MUST_CHECK;

/**
 * Save all protected regions as checkpoint `step`. Collective.
 *
 * On return with DCACHE_OK the step has level DCACHE_REPLICATED (DCACHE_STAGED when the job runs on one node only) and
 * is on its way to the object store in the background. On any error the step does not exist and the previous step
 * is as it was.
 *
 * @param step  the same on every rank, at most DCACHE_STEP_MAX
 * @return DCACHE_OK; DCACHE_SKIPPED (option when_full = skip); DCACHE_ERR_MISMATCH (ranks gave different steps);
 *         DCACHE_ERR_INVALID, DCACHE_ERR_NO_SPACE, DCACHE_ERR_NO_MEMORY, DCACHE_ERR_IO, DCACHE_ERR_HDF5,
 *         DCACHE_ERR_MPI, DCACHE_ERR_STATE
 */
dcache_status_t dcache_checkpoint(dcache_t *dc, uint64_t step) DCACHE_MUST_CHECK;

/**
 * Save all protected regions on this node and return; replication goes on behind the computation. Collective.
 *
 * On return with DCACHE_OK the step has level DCACHE_STAGED and the regions may be changed. Replication is driven from
 * dcache_test(), dcache_wait() and the next dcache_checkpoint*() call, which completes it first.
 *
 * @return as dcache_checkpoint()
 */
dcache_status_t dcache_checkpoint_begin(dcache_t *dc, uint64_t step) DCACHE_MUST_CHECK;

/**
 * Wait until `step` has at least `level`. Collective.
 *
 * @return DCACHE_OK; DCACHE_NOT_FOUND (no such step was taken or restored by this handle, or its slot was used again);
 *         DCACHE_ERR_LEVEL (cannot be reached: one node only, no object store, or the step was not drained);
 *         DCACHE_ERR_STORE (the drain failed; it can be finished by `dcache drain`); DCACHE_ERR_MISMATCH,
 *         DCACHE_ERR_INVALID, DCACHE_ERR_MPI, DCACHE_ERR_IO
 */
dcache_status_t dcache_wait(dcache_t *dc, uint64_t step, dcache_level_t level) DCACHE_MUST_CHECK;

/**
 * Ask which level `step` has by now, moving replication on a little. Collective, does not wait for the object store:
 * while that is down the level stays what it is, and dcache_wait() for DCACHE_DURABLE tells why.
 *
 * @param level  out: set on DCACHE_OK only
 * @return DCACHE_OK, DCACHE_NOT_FOUND, DCACHE_ERR_MISMATCH, DCACHE_ERR_INVALID, DCACHE_ERR_MPI, DCACHE_ERR_IO
 */
dcache_status_t dcache_test(dcache_t *dc, uint64_t step, dcache_level_t *level) DCACHE_MUST_CHECK;

/**
 * Fill the protected regions from a checkpoint. Collective; call it after the regions are protected.
 *
 * A step that was taken by another number of ranks, or whose arrays were cut another way, is restored too: blocks given
 * to dcache_protect_array() are filled from the blocks that all former ranks had of the same global array. Any other
 * region then is that of the rank with the same number, or, on another number of ranks, what all former ranks had alike
 * in it. Such a step stays in the stores as those ranks left it, until a checkpoint of this run is complete;
 * dcache_wait() and dcache_test() do not know it. For the time of the call it needs the regions' memory once more.
 *
 * Every byte is verified by its digest; what is lost or corrupt in one copy is taken from another (own copy, replica,
 * object store). The regions are written only when every rank has its whole shard, so on error they are unchanged
 * (unless a device does not give again what it has just given: DCACHE_ERR_IO).
 *
 * Afterwards each shard gets its second copy again (resync): behind the computation where a progress thread drives it,
 * else before the call returns. With the option resync = behind the call never waits for it: without a progress thread
 * the next collective call on the handle begins it, and dcache_test(), dcache_wait() and the next checkpoint go on with
 * it. The step is DCACHE_STAGED until then; dcache_wait(dc, *step, DCACHE_REPLICATED) waits.
 *
 * @param step  in: DCACHE_LATEST or the wanted step; out, on DCACHE_OK only: the step that was restored
 * @return DCACHE_OK; DCACHE_NOT_FOUND (no complete checkpoint: a first start); DCACHE_ERR_MISMATCH (the checkpoint does
 *         not have the regions that are protected: the text says how they differ); DCACHE_ERR_CORRUPT (there are steps,
 * but none can be completed from what survived); DCACHE_ERR_STORE (the object store could not be asked, and no node
 * store has the step); DCACHE_ERR_FORMAT, DCACHE_ERR_NO_SPACE, DCACHE_ERR_NO_MEMORY, DCACHE_ERR_IO, DCACHE_ERR_MPI
 */
dcache_status_t dcache_restart(dcache_t *dc, uint64_t *step) DCACHE_MUST_CHECK;

/**
 * Ask whether now is the time for a checkpoint. Collective, and cheap (one agreement): made for every step of a
 * program.
 *
 * The answer is yes, on all ranks, when
 * - the option interval has passed since the last checkpoint ended; when it is 0, the optimum of Young (1974) and Daly
 *   (2006) from what this handle's checkpoints have cost the program so far, and the option mtbf divided by the nodes;
 *   10 minutes when mtbf is not known;
 * - the end of the job's time (SLURM_JOB_END_TIME, as rank 0 sees it) is nearer than the option end_margin;
 * - with signals = yes, a rank has got SIGUSR1, SIGUSR2 or SIGTERM;
 * - with events = auto or a URL, Azure has announced that a node will be evicted, redeployed, rebooted or frozen.
 * The last three stay until a checkpoint has been taken. Signals and events are watched from the first call of this
 * function or dcache_should_stop() on.
 *
 * @param flag  out: 1 or 0; set on DCACHE_OK only
 * @return DCACHE_OK, DCACHE_ERR_INVALID, DCACHE_ERR_STATE, DCACHE_ERR_MPI
 */
dcache_status_t dcache_should_checkpoint(dcache_t *dc, int *flag) DCACHE_MUST_CHECK;

/**
 * Ask whether the program should end: its time is nearly over, it was told to stop by SIGTERM or SIGUSR2, or one of its
 * nodes goes away; and a checkpoint has been taken since that became known. Collective, as cheap as
 * dcache_should_checkpoint(). After a yes, call dcache_close() and end.
 *
 * @param flag  out: 1 or 0; set on DCACHE_OK only
 * @return as dcache_should_checkpoint()
 */
dcache_status_t dcache_should_stop(dcache_t *dc, int *flag) DCACHE_MUST_CHECK;

/**
 * Finish what is under way, wait for the drain (at most the option close_timeout) and free the handle. Collective.
 * The node stores stay, so that the next run of the job can restart from them.
 *
 * @param dc  in: the handle or a pointer to NULL (nothing happens); out: NULL, whatever the status
 * @return DCACHE_OK; DCACHE_ERR_STORE (steps are left to drain: `dcache drain` finishes them); DCACHE_ERR_MPI
 */
dcache_status_t dcache_close(dcache_t **dc) DCACHE_MUST_CHECK;

/** What this rank has moved since dcache_open(). */
typedef struct dcache_statistics {
    uint64_t checkpoints;     /**< taken with DCACHE_OK */
    uint64_t bytes_protected; /**< of the images of those checkpoints */
    uint64_t bytes_copied;    /**< from the application into own copies; less with incremental = yes */
    uint64_t bytes_put;       /**< to replicas; replication that is under way counts when it ends */

    /* Of this rank as a drain rank; zeros on others. The struct may grow at its end with each version below 1.0: build
     * programs with the header of the library they run with. */
    uint64_t drain_shards;    /**< stored */
    uint64_t drain_bytes;     /**< of those, once each */
    double drain_seconds;     /**< at work; waiting for a busy store, or held back, included */
    double drain_cpu_seconds; /**< CPU time that reading, verifying and sending took */
    uint64_t drain_requests;  /**< sent to the object store, each attempt for itself */
    uint64_t drain_retries;   /**< attempts after the first one of a request */
    uint64_t drain_throttled; /**< answers that say the store is busy */
    uint64_t drain_hedged;    /**< blocks that took long and were sent on a second connection as well */
} dcache_statistics_t;

/** Read the counters of this rank. Not collective. @return DCACHE_OK, DCACHE_ERR_INVALID */
dcache_status_t dcache_get_statistics(dcache_t *dc, dcache_statistics_t *statistics) DCACHE_MUST_CHECK;

/** The text of a status. Not collective, thread-safe; the string is constant. */
const char *dcache_strerror(dcache_status_t status);

/**
 * What went wrong in the last call on this handle that failed: one line naming the thing, the value and the remedy, and
 * for a collective call the rank where it happened; the same on every rank. Not collective.
 * @return a string owned by the handle, valid until the next call on it; "" when nothing failed yet
 */
const char *dcache_error_text(const dcache_t *dc);

#ifdef __cplusplus
}
#endif
#endif
