#include "io/drain.h"
#include "io/json_field.h"

#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

static const char file_name[] = "plan.json";
static const char format_name[] = "dcache-plan";

#define PLAN_FORMAT_VERSION 1

void drain_plan_free(struct drain_plan *plan)
{
    free(plan->ranks);
    memset(plan, 0, sizeof *plan);
}

static json_t *encode_ranks(const struct drain_plan *plan)
{
    json_t *array = json_array();
    for (size_t i = 0; array != NULL && i < plan->rank_count; i++) {
        if (json_array_append_new(array, json_integer((json_int_t)plan->ranks[i])) != 0) {
            json_decref(array);
            array = NULL;
        }
    }
    return array;
}

dcache_status_t drain_plan_write(struct diag *dg, const struct node_store *store, const struct drain_plan *plan)
{
    char *text = NULL;
    size_t bytes = 0;
    json_t *root =
        json_pack("{s:s, s:i, s:I, s:I, s:I, s:I, s:o}", "format", format_name, "version", PLAN_FORMAT_VERSION,
                  "world_size", (json_int_t)plan->world_size, "drain_every", (json_int_t)plan->drain_every, "keep_last",
                  (json_int_t)plan->keep.last, "keep_every", (json_int_t)plan->keep.every, "ranks", encode_ranks(plan));
    if (root != NULL && stripes_encode(root, plan->store_url) != 0) {
        json_decref(root);
        root = NULL;
    }
    dcache_status_t status = json_field_print(dg, file_name, root, &text, &bytes);
    if (status != DCACHE_OK)
        return status;
    status = node_store_write_text(dg, store, file_name, text, bytes);
    free(text);
    return status;
}

static dcache_status_t decode_ranks(struct diag *dg, const char *name, const json_t *root, struct drain_plan *plan)
{
    const json_t *array = json_object_get(root, "ranks");
    size_t count = json_array_size(array);
    plan->ranks = calloc(count > 0 ? count : 1, sizeof *plan->ranks);
    if (plan->ranks == NULL)
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "out of memory for the %zu ranks of %s", count, name);
    bool good = json_is_array(array);
    for (size_t i = 0; good && i < count; i++) {
        const json_t *entry = json_array_get(array, i);
        json_int_t rank = json_integer_value(entry);
        good = json_is_integer(entry) && rank >= 0 && rank < (json_int_t)plan->world_size;
        if (good) {
            plan->ranks[i] = (uint32_t)rank;
            good = i == 0 || plan->ranks[i - 1] < plan->ranks[i];
        }
    }
    plan->rank_count = count;
    if (!good)
        return diag_fail(dg, DCACHE_ERR_CORRUPT,
                         "%s: \"ranks\" is missing or no array of ascending ranks below %" PRIu32, name,
                         plan->world_size);
    return DCACHE_OK;
}

/* Plans of earlier versions have no such keys: all is kept. */
static dcache_status_t decode_keep(struct diag *dg, const char *name, const json_t *root, struct retention_rule *keep)
{
    dcache_status_t status = DCACHE_OK;
    if (json_object_get(root, "keep_last") != NULL)
        status = json_field_number(dg, name, root, "keep_last", 0, INT64_MAX, &keep->last);
    if (status == DCACHE_OK && json_object_get(root, "keep_every") != NULL)
        status = json_field_number(dg, name, root, "keep_every", 0, INT64_MAX, &keep->every);
    return status;
}

static dcache_status_t decode_plan(struct diag *dg, const char *name, const json_t *root, struct drain_plan *plan)
{
    uint64_t world_size = 0;
    uint64_t drain_every = 0;
    dcache_status_t status = stripes_decode(dg, name, root, plan->store_url);
    if (status == DCACHE_OK)
        status = json_field_number(dg, name, root, "world_size", 1, INT_MAX, &world_size);
    if (status == DCACHE_OK)
        status = json_field_number(dg, name, root, "drain_every", 0, UINT32_MAX, &drain_every);
    plan->world_size = (uint32_t)world_size;
    plan->drain_every = (uint32_t)drain_every;
    if (status == DCACHE_OK)
        status = decode_keep(dg, name, root, &plan->keep);
    if (status == DCACHE_OK)
        status = decode_ranks(dg, name, root, plan);
    return status;
}

dcache_status_t drain_plan_read(struct diag *dg, const struct node_store *store, struct drain_plan *plan)
{
    char name[sizeof store->path + sizeof file_name + 1];
    char *text = NULL;
    size_t bytes = 0;
    json_t *root = NULL;
    struct drain_plan found = {.ranks = NULL};
    dcache_status_t status = node_store_read_text(dg, store, file_name, &text, &bytes);
    if (status != DCACHE_OK)
        return status;
    snprintf(name, sizeof name, "%s/%s", store->path, file_name);
    status = json_field_parse(dg, name, text, bytes, format_name, PLAN_FORMAT_VERSION, &root);
    free(text);
    if (status != DCACHE_OK)
        return status;
    status = decode_plan(dg, name, root, &found);
    json_decref(root);
    if (status != DCACHE_OK) {
        drain_plan_free(&found);
        return status;
    }
    *plan = found;
    return DCACHE_OK;
}
