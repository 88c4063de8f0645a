#include "model.h"

#include <stdio.h>
#include <string.h>

#define VOCABULARY      UINT64_C(128256)
#define FP16_BYTES      2u
#define OPTIMIZER_BYTES 12u /* of each parameter: fp32 weights and two moments */
#define OPTIMIZER_EXTRA 60u /* of each element of the hidden dimension */

static const struct model models[] = {
    {"llama3-8b", 1, 1, 8, true, 32, 4096, 14336, 32, 8},
    {"llama3-70b", 8, 1, 8, true, 80, 8192, 28672, 128, 8},
    {"llama3-405b", 8, 32, 2, false, 126, 16384, 53248, 128, 8},
    {"llama3-1t", 8, 64, 2, false, 128, 25872, 98304, 192, 32},
};

const struct model *model_at(int index)
{
    return index >= 0 && index < (int)(sizeof models / sizeof models[0]) ? &models[index] : NULL;
}

const struct model *model_find(const char *name)
{
    const struct model *model;
    int index = 0;

    while ((model = model_at(index)) != NULL && strcmp(model->name, name) != 0)
        index++;
    return model;
}

int model_processes(const struct model *model)
{
    return model->tp * model->pp * model->dp;
}

static uint64_t key_value_columns(const struct model *m)
{
    return m->hidden / m->heads * m->kv_heads;
}

static uint64_t parameters(const struct model *m)
{
    uint64_t h = m->hidden;
    uint64_t layer = 2 * h + h * (h + 2 * key_value_columns(m)) + h * h + 3 * h * m->ffn;

    return 2 * VOCABULARY * h + m->layers * layer + h;
}

/* Of one tensor part of a layer. The divisions round down one after the other, as the workload's definition does. */
static uint64_t layer_bytes(const struct model *m, uint64_t layer)
{
    uint64_t h = m->hidden, tp = (uint64_t)m->tp, split = m->zero3 ? (uint64_t)m->dp : 1;
    uint64_t norm = h / split;

    if (layer == 0 || layer == m->layers + 1)
        return FP16_BYTES * (h * VOCABULARY / tp / split);
    if (layer == m->layers + 2)
        return FP16_BYTES * norm;
    uint64_t attention = h * (h + 2 * key_value_columns(m)) / tp / split + h * h / tp / split;
    uint64_t mlp = 2 * h * m->ffn / tp / split + h * m->ffn / tp / split;
    return FP16_BYTES * (norm + attention + norm + mlp);
}

/* Layers [first, end) of a pipeline stage; the embedding is the first stage's, what follows the layers the last's. */
static void stage_layers(const struct model *m, uint64_t stage, uint64_t *first, uint64_t *end)
{
    uint64_t stages = (uint64_t)m->pp, each = m->layers / stages, more = m->layers % stages;

    *first = 1 + stage * each + (stage < more ? stage : more);
    *end = *first + each + (stage < more ? 1 : 0);
    if (stage == 0)
        *first = 0;
    if (stage + 1 == stages)
        *end = m->layers + 3;
}

static void add_file(struct model_file *files, int *count, uint64_t bytes, uint64_t scale, const char *name)
{
    snprintf(files[*count].name, sizeof files[*count].name, "%s", name);
    files[*count].bytes = bytes / scale;
    (*count)++;
}

/* With ZeRO 3 all layers of a process are in one file; else each has one, and only the first replica writes them. */
static void add_model_files(const struct model *m, int process, uint64_t scale, struct model_file *files, int *count)
{
    int mp = process % (m->tp * m->pp), dp = process / (m->tp * m->pp);
    uint64_t first, end, sum = 0;
    char name[MODEL_FILE_NAME_MAX];

    stage_layers(m, (uint64_t)(process / m->tp % m->pp), &first, &end);
    for (uint64_t layer = first; layer < end; layer++) {
        sum += layer_bytes(m, layer);
        if (m->zero3 || dp != 0)
            continue;
        snprintf(name, sizeof name, "layer_%u-model_%d_model_states.pt", (unsigned)layer, mp);
        add_file(files, count, layer_bytes(m, layer), scale, name);
    }
    if (m->zero3) {
        snprintf(name, sizeof name, "zero_pp_rank_%d_mp_rank_%d_model_states.pt", dp, mp);
        add_file(files, count, sum, scale, name);
    }
}

int model_files(const struct model *m, int process, uint64_t scale, struct model_file files[MODEL_FILES_MAX])
{
    uint64_t optimizer = OPTIMIZER_BYTES * (parameters(m) / (uint64_t)model_processes(m)) + OPTIMIZER_EXTRA * m->hidden;
    char name[MODEL_FILE_NAME_MAX];
    int count = 0;

    add_model_files(m, process, scale, files, &count);
    snprintf(name, sizeof name, "zero_pp_rank_%d_mp_rank_%d_optim_states.pt", process / (m->tp * m->pp),
             process % (m->tp * m->pp));
    add_file(files, &count, optimizer, scale, name);
    return count;
}

uint64_t model_bytes(const struct model *model, int process, uint64_t scale)
{
    struct model_file files[MODEL_FILES_MAX];
    int count = model_files(model, process, scale, files);
    uint64_t sum = 0;

    for (int i = 0; i < count; i++)
        sum += files[i].bytes;
    return sum;
}

uint64_t model_total(const struct model *model, int processes, uint64_t scale)
{
    uint64_t sum = 0;

    for (int process = 0; process < processes; process++)
        sum += model_bytes(model, process, scale);
    return sum;
}

uint64_t model_scale_max(const struct model *model, int processes)
{
    struct model_file files[MODEL_FILES_MAX];
    uint64_t least = UINT64_MAX;

    for (int process = 0; process < processes; process++) {
        int count = model_files(model, process, 1, files);
        for (int i = 0; i < count; i++)
            least = files[i].bytes < least ? files[i].bytes : least;
    }
    return least;
}
