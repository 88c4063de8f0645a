/* The table of files, without MPI: what a run of any size would write. */
#include "mlperf.h"

void mlperf_print_files(FILE *out, const struct mlperf_options *options)
{
    const struct model *model = options->model;
    struct model_file files[MODEL_FILES_MAX];
    int processes = mlperf_processes(options), total = 0;
    uint64_t bytes = model_total(model, processes, (uint64_t)options->scale);

    fprintf(out, "# %s: %s, %d of %d processes, scale 1/%lld\n", NOTICE, model->name, processes, model_processes(model),
            (long long)options->scale);
    fprintf(out, "# rank bytes file\n");
    for (int rank = 0; rank < processes; rank++) {
        int count = model_files(model, rank, (uint64_t)options->scale, files);
        for (int i = 0; i < count; i++)
            fprintf(out, "%d %llu %s\n", rank, (unsigned long long)files[i].bytes, files[i].name);
        total += count;
    }
    fprintf(out, "# %d files, %llu bytes, %.2f GiB\n", total, (unsigned long long)bytes, (double)bytes / 1073741824.0);
}
