/**
 * The checkpoint workloads of MLPerf Storage: which files of how many bytes each process of a training job writes.
 * Pure arithmetic: no MPI, no files, so that it answers for 1024 processes as well as for 8.
 */
#ifndef MLPERF_MODEL_H
#define MLPERF_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#define MODEL_FILE_NAME_MAX 64 /**< with its zero; short enough for the name of a region */
#define MODEL_FILES_MAX     16 /**< of one process */

/** Process r holds tensor part r % tp, of pipeline stage (r / tp) % pp, of replica r / (tp * pp). */
struct model {
    const char *name;
    int tp, pp, dp;
    bool zero3; /**< the model is split over the replicas, too (ZeRO 3); else only the optimizer is (ZeRO 1) */
    uint64_t layers, hidden, ffn, heads, kv_heads;
};

struct model_file {
    char name[MODEL_FILE_NAME_MAX];
    uint64_t bytes;
};

/** The model of that name; NULL: there is none. */
const struct model *model_find(const char *name);

/** The index-th model, NULL behind the last. */
const struct model *model_at(int index);

int model_processes(const struct model *model);

/** The files of one process, each divided by `scale` (rounded down): model files first, the optimizer's last. Returns
 * how many. */
int model_files(const struct model *model, int process, uint64_t scale, struct model_file files[MODEL_FILES_MAX]);

/** The sum of a process's files. */
uint64_t model_bytes(const struct model *model, int process, uint64_t scale);

/** The sum of the files of the first `processes` processes. */
uint64_t model_total(const struct model *model, int processes, uint64_t scale);

/** The largest scale that leaves each file of the first `processes` processes a byte. */
uint64_t model_scale_max(const struct model *model, int processes);

#endif
