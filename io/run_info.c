#include "io/run_info.h"

#include "io/json_field.h"

#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>

static const char file_name[] = "run.json";
static const char format_name[] = "dcache-run";

#define RUN_FORMAT_VERSION 1

/* Reasons come from MPI and from hosts' names: whatever is in them, the document can be written and shown. */
static void make_printable(char *text)
{
    for (; *text != '\0'; text++) {
        if (*text < ' ' || *text > '~')
            *text = '?';
    }
}

static dcache_status_t encode(struct diag *dg, const struct run_info *given, char **text, size_t *bytes)
{
    struct run_info info = *given;
    char run[17];
    snprintf(run, sizeof run, "%016" PRIx64, info.run);
    make_printable(info.job);
    make_printable(info.node_name);
    make_printable(info.transport);
    make_printable(info.transport_reason);
    make_printable(info.store_url);
    json_t *root =
        json_pack("{s:s, s:i, s:s, s:I, s:I, s:I, s:s, s:I, s:s, s:s, s:I, s:s}", "format", format_name, "version",
                  RUN_FORMAT_VERSION, "job", info.job, "world_size", (json_int_t)info.world_size, "node_count",
                  (json_int_t)info.node_count, "node", (json_int_t)info.node, "node_name", info.node_name, "pid",
                  (json_int_t)info.pid, "transport", info.transport, "transport_reason", info.transport_reason,
                  "started", (json_int_t)info.started, "run", run);
    if (root != NULL && stripes_encode(root, info.store_url) != 0) {
        json_decref(root);
        root = NULL;
    }
    return json_field_print(dg, file_name, root, text, bytes);
}

dcache_status_t run_info_write(struct diag *dg, const struct node_store *store, const struct run_info *info)
{
    char *text = NULL;
    size_t bytes = 0;
    dcache_status_t status = encode(dg, info, &text, &bytes);
    if (status != DCACHE_OK)
        return status;
    status = node_store_write_text(dg, store, file_name, text, bytes);
    free(text);
    return status;
}

static dcache_status_t decode_texts(struct diag *dg, const char *name, const json_t *root, struct run_info *info)
{
    dcache_status_t status = json_field_word(dg, name, root, "job", info->job, sizeof info->job);
    if (status == DCACHE_OK)
        status = json_field_text(dg, name, root, "node_name", info->node_name, sizeof info->node_name);
    if (status == DCACHE_OK)
        status = json_field_text(dg, name, root, "transport", info->transport, sizeof info->transport);
    if (status == DCACHE_OK)
        status =
            json_field_text(dg, name, root, "transport_reason", info->transport_reason, sizeof info->transport_reason);
    if (status == DCACHE_OK)
        status = stripes_decode(dg, name, root, info->store_url);
    return status;
}

static dcache_status_t decode_numbers(struct diag *dg, const char *name, const json_t *root, struct run_info *info)
{
    uint64_t world_size = 0;
    uint64_t node_count = 0;
    uint64_t node = 0;
    uint64_t pid = 0;
    uint64_t started = 0;
    dcache_status_t status = json_field_number(dg, name, root, "world_size", 1, INT_MAX, &world_size);
    if (status == DCACHE_OK)
        status = json_field_number(dg, name, root, "node_count", 1, INT_MAX, &node_count);
    if (status == DCACHE_OK)
        status = json_field_number(dg, name, root, "node", 0, node_count - 1, &node);
    if (status == DCACHE_OK)
        status = json_field_number(dg, name, root, "pid", 0, INT_MAX, &pid);
    if (status == DCACHE_OK)
        status = json_field_number(dg, name, root, "started", 0, INT64_MAX, &started);
    info->world_size = (uint32_t)world_size;
    info->node_count = (uint32_t)node_count;
    info->node = (uint32_t)node;
    info->pid = (long)pid;
    info->started = (int64_t)started;
    return status;
}

dcache_status_t run_info_read(struct diag *dg, const struct node_store *store, struct run_info *info)
{
    char name[sizeof store->path + sizeof file_name + 1];
    char *text = NULL;
    size_t bytes = 0;
    json_t *root = NULL;
    struct run_info found = {.pid = 0};
    dcache_status_t status = node_store_read_text(dg, store, file_name, &text, &bytes);
    if (status != DCACHE_OK)
        return status;
    snprintf(name, sizeof name, "%s/%s", store->path, file_name);
    status = json_field_parse(dg, name, text, bytes, format_name, RUN_FORMAT_VERSION, &root);
    free(text);
    if (status != DCACHE_OK)
        return status;
    status = decode_texts(dg, name, root, &found);
    if (status == DCACHE_OK)
        status = decode_numbers(dg, name, root, &found);
    if (status == DCACHE_OK && json_object_get(root, "run") != NULL) /* older versions wrote none */
        status = json_field_hex(dg, name, root, "run", &found.run);
    json_decref(root);
    if (status != DCACHE_OK)
        return status;
    make_printable(found.node_name);
    make_printable(found.transport);
    make_printable(found.transport_reason);
    make_printable(found.store_url);
    *info = found;
    return DCACHE_OK;
}

bool run_info_left_by(struct diag *dg, const struct node_store *store, uint64_t run)
{
    struct run_info info;
    struct diag quiet = *dg;
    return run != 0 && run_info_read(&quiet, store, &info) == DCACHE_OK && info.run == run;
}
