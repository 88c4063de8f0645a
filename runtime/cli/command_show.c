/* dcache show STEP: who holds which shard, and what is in one. */
#include "runtime/cli/image.h"
#include "runtime/cli/overview.h"

#include <inttypes.h>
#include <string.h>

static const char *state_name(enum shard_state state)
{
    return state == SHARD_COMPLETE ? "complete" : state == SHARD_WRITING ? "unfinished" : "empty";
}

static const char *kind_name(enum slot_kind kind)
{
    return kind == SLOT_OWN ? "own" : "replica";
}

/* The header of any shard of the step: of the first copy that can be read, else from the object store. */
static dcache_status_t open_any(struct overview *overview, const struct overview_step *step, struct image *image)
{
    struct diag *dg = &overview->cli->dg;
    for (size_t i = 0; i < step->copy_count; i++) {
        const struct catalog_entry *entry = &step->copies[i].entry;
        if (entry->state != SHARD_COMPLETE)
            continue;
        if (image_open_copy(dg, &overview->stores[entry->store], entry, image) == DCACHE_OK &&
            shard_same_set(&image->header.set, &step->set))
            return DCACHE_OK;
        image_close(image);
    }
    if (!step->durable)
        return DCACHE_NOT_FOUND;
    dcache_status_t status =
        image_open_object(overview->cli, overview->remote, &step->manifest, &step->manifest.shards[0], image);
    if (status != DCACHE_OK)
        image_close(image);
    return status;
}

/* --- For people ----------------------------------------------------------------------------------------------------*/

/* Which store a shard is in. */
static const char *store_of(const struct overview *overview, const struct overview_step *step,
                            const struct manifest_shard *stored)
{
    return stored->store == STRIPES_UNKNOWN ? step->manifest.unknown : stripes_url(overview->remote, stored->store);
}

static void stored_cell(struct table *table, const struct overview *overview, const struct overview_step *step,
                        const struct manifest_shard *stored)
{
    if (stored == NULL) {
        table_cell(table, "%s", overview->remote == NULL || overview->remote_failed ? "?" : "no");
        return;
    }
    const bool is_home = stored->store == STRIPES_HOME;
    const char *in = is_home ? "" : " in ";
    const char *store = is_home ? "" : store_of(overview, step, stored);
    if (manifest_in_pack(stored))
        table_cell(table, "%s at %" PRIu64 "%s%s", stored->object, stored->offset, in, store);
    else
        table_cell(table, "yes%s%s", in, store);
}

static void shard_row(struct table *table, const struct overview *overview, const struct overview_step *step,
                      uint32_t rank, const struct overview_copy *copy)
{
    const struct manifest_shard *stored = step->durable ? manifest_find(&step->manifest, rank) : NULL;
    char size[16];
    char node[24];
    table_cell(table, "%" PRIu32, rank);
    if (copy != NULL) {
        table_cell(table, "%s", overview_node(overview, copy, node));
        table_cell(table, "%s", kind_name(copy->entry.kind));
        table_cell(table, "%s", state_name(copy->entry.state));
        table_cell(table, "%s", text_size(copy->entry.file_bytes, size));
    } else {
        table_cell(table, "-");
        table_cell(table, "-");
        table_cell(table, "-");
        table_cell(table, "%s", stored != NULL ? text_size(stored->bytes, size) : "-");
    }
    stored_cell(table, overview, step, stored);
}

/* Copies and, where there are none, the ranks of the manifest; both ascend. Ranks in neither are left to the line that
 * print_unseen() prints: a header may claim any number of ranks. */
static bool print_shards(const struct overview *overview, const struct overview_step *step)
{
    static const char *const titles[] = {"RANK", "NODE", "COPY", "STATE", "SIZE", "STORED"};
    struct table table;
    size_t copy = 0;
    table_begin(&table, "rrllrl", titles);
    for (size_t i = 0; i < step->manifest.shard_count; i++) {
        uint32_t rank = step->manifest.shards[i].rank;
        size_t first = copy;
        for (; copy < step->copy_count && step->copies[copy].entry.rank <= rank; copy++)
            shard_row(&table, overview, step, step->copies[copy].entry.rank, &step->copies[copy]);
        if (first == copy)
            shard_row(&table, overview, step, rank, NULL);
    }
    for (; copy < step->copy_count; copy++)
        shard_row(&table, overview, step, step->copies[copy].entry.rank, &step->copies[copy]);
    return table_print(&table, stdout);
}

static void print_unseen(const struct overview_step *step)
{
    struct number_list unseen = {.count = 0};
    uint32_t next = 0;
    if (step->durable)
        return;
    for (size_t i = 0; i < step->copy_count; i++) {
        uint32_t rank = step->copies[i].entry.rank;
        if (rank > next)
            number_list_add_run(&unseen, next, rank - 1);
        next = rank >= next ? rank + 1 : next;
    }
    if (next < step->set.world_size)
        number_list_add_run(&unseen, next, step->set.world_size - 1);
    if (unseen.count > 0)
        printf("no copy on this host: rank%s %s\n", unseen.count > 1 ? "s" : "", number_list_text(&unseen));
}

/* "64x128" or "0,64", in a buffer that holds DCACHE_DIMS_MAX numbers. */
#define DIMS_TEXT (DCACHE_DIMS_MAX * 21)

static const char *dims_text(const uint64_t *numbers, uint32_t count, const char *separator, char text[DIMS_TEXT])
{
    size_t length = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < count; i++)
        length += (size_t)snprintf(text + length, DIMS_TEXT - length, "%s%" PRIu64, i > 0 ? separator : "", numbers[i]);
    return text;
}

static bool print_regions(const struct shard_header *header)
{
    static const char *const titles[] = {"REGION", "TYPE", "COUNT", "OF", "AT", "SIZE"};
    struct table table;
    char text[DIMS_TEXT];
    char size[16];
    printf("\nregions of rank %" PRIu32 ":\n", header->rank);
    table_begin(&table, "llrrrr", titles);
    for (uint32_t i = 0; i < header->region_count; i++) {
        const struct shard_region *region = &header->regions[i];
        table_cell(&table, "%s", region->name);
        table_cell(&table, "%s", shard_type_name(region->type));
        table_cell(&table, "%s", dims_text(region->count, region->ndims, "x", text));
        table_cell(&table, "%s", region->is_block ? dims_text(region->global, region->ndims, "x", text) : "-");
        table_cell(&table, "%s", region->is_block ? dims_text(region->start, region->ndims, ",", text) : "-");
        table_cell(&table, "%s", text_size(region->bytes, size));
    }
    return table_print(&table, stdout);
}

static void print_heading(const struct overview *overview, const struct overview_step *step)
{
    char level[40];
    char size[16];
    printf("job %s, step %" PRIu64 ": %s, %" PRIu32 " ranks, %s, sequence %" PRIu64 "\n", overview->job, step->set.step,
           overview_level(step, level), step->set.world_size, text_size(step->bytes, size), step->set.sequence);
    for (size_t i = 0; i < overview->step_count; i++) {
        const struct overview_step *other = &overview->steps[i];
        if (other != step && other->set.step == step->set.step)
            printf("there is also an older attempt at this step: %s, sequence %" PRIu64 "\n",
                   overview_level(other, level), other->set.sequence);
    }
}

/* --- For programs --------------------------------------------------------------------------------------------------*/

static json_t *copies_json(const struct overview *overview, const struct overview_step *step)
{
    json_t *list = json_array();
    for (size_t i = 0; i < step->copy_count; i++) {
        const struct catalog_entry *entry = &step->copies[i].entry;
        json_array_append_new(list, json_pack("{s:I, s:I, s:s, s:s, s:I, s:s, s:I}", "rank", (json_int_t)entry->rank,
                                              "node", (json_int_t)overview->indexes[entry->store], "tier",
                                              overview->on_ssd[entry->store] ? "ssd" : "memory", "copy",
                                              kind_name(entry->kind), "slot", (json_int_t)entry->slot, "state",
                                              state_name(entry->state), "bytes", (json_int_t)entry->file_bytes));
    }
    return list;
}

static json_t *stored_json(const struct overview *overview, const struct overview_step *step)
{
    json_t *list = json_array();
    char crc[17];
    char name[MANIFEST_OBJECT_MAX + 1];
    for (size_t i = 0; i < step->manifest.shard_count; i++) {
        const struct manifest_shard *shard = &step->manifest.shards[i];
        snprintf(crc, sizeof crc, "%016" PRIx64, shard->crc);
        manifest_object_name(&step->set, shard, name);
        json_array_append_new(
            list, json_pack("{s:I, s:I, s:s, s:s, s:I, s:I, s:s, s:s}", "rank", (json_int_t)shard->rank, "bytes",
                            (json_int_t)shard->bytes, "crc64", crc, "object", name, "offset", (json_int_t)shard->offset,
                            "stored_bytes", (json_int_t)manifest_stored_bytes(shard), "codec",
                            codec_name((enum codec)shard->codec), "store", store_of(overview, step, shard)));
    }
    return list;
}

static json_t *dims_json(const uint64_t *numbers, uint32_t count)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < count; i++)
        json_array_append_new(list, json_integer((json_int_t)numbers[i]));
    return list;
}

static json_t *regions_json(const struct shard_header *header)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < header->region_count; i++) {
        const struct shard_region *region = &header->regions[i];
        json_array_append_new(list,
                              json_pack("{s:s, s:s, s:o, s:o, s:o, s:b, s:I, s:I}", "name", region->name, "type",
                                        shard_type_name(region->type), "count", dims_json(region->count, region->ndims),
                                        "global", dims_json(region->global, region->ndims), "start",
                                        dims_json(region->start, region->ndims), "block", region->is_block, "bytes",
                                        (json_int_t)region->bytes, "offset", (json_int_t)region->offset));
    }
    return json_pack("{s:I, s:o}", "rank", (json_int_t)header->rank, "list", list);
}

static json_t *show_json(const struct overview *overview, const struct overview_step *step,
                         const struct shard_header *header)
{
    char level[40];
    char epoch[17];
    snprintf(epoch, sizeof epoch, "%016" PRIx64, step->set.epoch);
    overview_level(step, level);
    level[strcspn(level, " ")] = '\0';
    return json_pack("{s:s, s:I, s:I, s:s, s:s, s:I, s:I, s:o, s:o, s:o}", "job", overview->job, "step",
                     (json_int_t)step->set.step, "sequence", (json_int_t)step->set.sequence, "epoch", epoch, "level",
                     level, "ranks", (json_int_t)step->set.world_size, "bytes", (json_int_t)step->bytes, "copies",
                     copies_json(overview, step), "stored", stored_json(overview, step), "regions",
                     header != NULL ? regions_json(header) : json_null());
}

/* --- The command ---------------------------------------------------------------------------------------------------*/

static int show_step(struct overview *overview, const struct overview_step *step)
{
    struct cli *cli = overview->cli;
    struct image image;
    dcache_status_t status = open_any(overview, step, &image);
    const struct shard_header *header = status == DCACHE_OK ? &image.header : NULL;
    bool good = true;
    if (cli->json) {
        good = cli_print_json(cli, show_json(overview, step, header)) == CLI_OK;
    } else {
        print_heading(overview, step);
        good = print_shards(overview, step);
        print_unseen(step);
        if (header != NULL)
            good = print_regions(header) && good;
    }
    if (header != NULL)
        image_close(&image);
    else if (status != DCACHE_NOT_FOUND)
        diag_log(&cli->dg, DIAG_WARNING, "no shard's header can be read: %s", cli->dg.text);
    return good && !overview->remote_failed && (header != NULL || status == DCACHE_NOT_FOUND) ? CLI_OK : CLI_BAD;
}

int command_show(struct cli *cli)
{
    uint64_t number = 0;
    char job[64];
    struct overview overview;
    if (cli->argument_count != 1 || !cli_parse_step(cli->arguments[0], &number))
        return cli_misused(cli, "show takes one argument, the number of a step");
    int code = cli_one_job(cli, job);
    if (code != CLI_OK)
        return code;
    dcache_status_t status = overview_open(cli, job, false, &overview);
    if (status != DCACHE_OK)
        return cli_failed(cli, status);
    const struct overview_step *step = overview_find(&overview, number);
    if (step != NULL)
        code = show_step(&overview, step);
    else
        code = cli_failed(cli, diag_fail(&cli->dg, DCACHE_NOT_FOUND,
                                         "job %s has no step %" PRIu64 " here: `dcache ls` shows what there is", job,
                                         number));
    overview_close(&overview);
    return code;
}
