#include "runtime/cli/overview.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* --- Node stores ---------------------------------------------------------------------------------------------------*/

static int64_t modified_at(const struct node_store *store, const struct catalog_entry *entry)
{
    char name[48];
    struct stat status;
    slot_name(entry->kind, entry->rank, entry->slot, name);
    if (fstatat(store->dir_fd, name, &status, AT_SYMLINK_NOFOLLOW) != 0)
        return 0;
    return (int64_t)status.st_mtime;
}

static dcache_status_t add_copies(struct overview *overview, uint32_t store, const struct catalog_entry *entries,
                                  size_t count)
{
    struct overview_copy *larger = realloc(overview->copies, (overview->copy_count + count + 1) * sizeof *larger);
    if (larger == NULL)
        return diag_fail(&overview->cli->dg, DCACHE_ERR_NO_MEMORY, "out of memory for a list of %zu copies", count);
    overview->copies = larger;
    for (size_t i = 0; i < count; i++) {
        struct overview_copy *copy = &overview->copies[overview->copy_count++];
        copy->entry = entries[i];
        copy->entry.store = store;
        copy->modified = modified_at(&overview->stores[store], &entries[i]);
    }
    return DCACHE_OK;
}

static dcache_status_t read_plan(struct overview *overview, uint32_t store)
{
    struct diag *dg = &overview->cli->dg;
    struct drain_plan *plan = &overview->plans[store];
    dcache_status_t status = drain_plan_read(dg, &overview->stores[store], plan);
    if (status == DCACHE_ERR_CORRUPT || status == DCACHE_ERR_FORMAT)
        diag_log(dg, DIAG_WARNING, "%s", dg->text);
    else if (status != DCACHE_OK && status != DCACHE_NOT_FOUND)
        return status;
    if (status == DCACHE_OK && overview->plan == NULL)
        overview->plan = plan;
    return DCACHE_OK;
}

/* The run that opened its store last is the one to tell of. */
static void read_run_info(struct overview *overview, const struct node_store *store)
{
    struct run_info info;
    dcache_status_t status = run_info_read(&overview->cli->dg, store, &info);
    if (status != DCACHE_OK && status != DCACHE_NOT_FOUND)
        diag_log(&overview->cli->dg, DIAG_WARNING, "%s", overview->cli->dg.text);
    if (status != DCACHE_OK || (overview->has_info && overview->info.started >= info.started))
        return;
    overview->info = info;
    overview->has_info = true;
}

/* Where stores may be: both tiers are looked at, whatever the option tier says. */
struct root {
    const char *path;
    bool is_ssd;
};

static dcache_status_t open_store(struct overview *overview, const struct root *root, unsigned index, bool lock)
{
    struct cli *cli = overview->cli;
    struct catalog_entry *entries = NULL;
    size_t count = 0;
    struct node_store *store = &overview->stores[overview->store_count];
    dcache_status_t status = node_store_open(&cli->dg, root->path, overview->job, index, false, store);
    if (status != DCACHE_OK)
        return status == DCACHE_NOT_FOUND ? DCACHE_OK : status;
    uint32_t number = (uint32_t)overview->store_count;
    overview->on_ssd[number] = root->is_ssd;
    overview->indexes[overview->store_count++] = index;
    if (lock)
        status = node_store_lock(&cli->dg, store, "dcache drain");
    if (status == DCACHE_OK)
        status = node_store_catalog(&cli->dg, store, &entries, &count);
    if (status != DCACHE_OK)
        return status;
    read_run_info(overview, store);
    status = read_plan(overview, number);
    if (status == DCACHE_OK)
        status = add_copies(overview, number, entries, count);
    free(entries);
    return status;
}

static void *grow(void *array, size_t old_count, size_t more, size_t size)
{
    char *larger = realloc(array, (old_count + more + 1) * size);
    if (larger != NULL)
        memset(larger + old_count * size, 0, (more + 1) * size);
    return larger;
}

/* Room for so many more stores. What was there stays the overview's, also on failure. */
static dcache_status_t make_room(struct overview *overview, size_t more)
{
    size_t count = overview->store_count;
    struct node_store *stores = grow(overview->stores, count, more, sizeof *stores);
    overview->stores = stores != NULL ? stores : overview->stores;
    unsigned *indexes = grow(overview->indexes, count, more, sizeof *indexes);
    overview->indexes = indexes != NULL ? indexes : overview->indexes;
    bool *on_ssd = grow(overview->on_ssd, count, more, sizeof *on_ssd);
    overview->on_ssd = on_ssd != NULL ? on_ssd : overview->on_ssd;
    size_t first = overview->plan != NULL ? (size_t)(overview->plan - overview->plans) : 0;
    struct drain_plan *plans = grow(overview->plans, count, more, sizeof *plans);
    if (plans != NULL) {
        overview->plans = plans;
        overview->plan = overview->plan != NULL ? &plans[first] : NULL;
    }
    if (stores == NULL || indexes == NULL || on_ssd == NULL || plans == NULL)
        return diag_fail(&overview->cli->dg, DCACHE_ERR_NO_MEMORY, "out of memory for %zu node stores", more);
    return DCACHE_OK;
}

static dcache_status_t open_below(struct overview *overview, const struct root *root, bool lock)
{
    unsigned *indexes = NULL;
    size_t count = 0;
    dcache_status_t status = node_store_list(&overview->cli->dg, root->path, overview->job, &indexes, &count);
    if (status != DCACHE_OK)
        return status == DCACHE_NOT_FOUND ? DCACHE_OK : status;
    status = make_room(overview, count);
    for (size_t i = 0; status == DCACHE_OK && i < count; i++)
        status = open_store(overview, root, indexes[i], lock);
    free(indexes);
    return status;
}

static dcache_status_t open_stores(struct overview *overview, bool lock)
{
    const struct options *options = &overview->cli->options;
    const struct root memory = {options->memory_store, false}, ssd = {options->ssd_store, true};
    dcache_status_t status = open_below(overview, &memory, lock);
    if (status == DCACHE_OK && ssd.path[0] != '\0' && strcmp(ssd.path, memory.path) != 0)
        status = open_below(overview, &ssd, lock);
    return status;
}

/* --- By step -------------------------------------------------------------------------------------------------------*/

static int order(uint64_t a, uint64_t b)
{
    return (a > b) - (a < b);
}

/* Newest first: the sequence grows with every attempt. */
static int compare_sets(const struct shard_set *a, const struct shard_set *b)
{
    int result = order(b->sequence, a->sequence);
    if (result == 0)
        result = order(b->step, a->step);
    if (result == 0)
        result = order(a->epoch, b->epoch);
    return result != 0 ? result : order(a->world_size, b->world_size);
}

static int compare_copies(const void *left, const void *right)
{
    const struct catalog_entry *a = &((const struct overview_copy *)left)->entry;
    const struct catalog_entry *b = &((const struct overview_copy *)right)->entry;
    int result = compare_sets(&a->set, &b->set);
    if (result == 0)
        result = order(a->rank, b->rank);
    if (result == 0)
        result = order(a->store, b->store);
    if (result == 0)
        result = order(a->kind, b->kind);
    return result != 0 ? result : order(a->slot, b->slot);
}

static int compare_overview_steps(const void *left, const void *right)
{
    return compare_sets(&((const struct overview_step *)left)->set, &((const struct overview_step *)right)->set);
}

/* Count one rank's complete copies, which are neighbours. Returns how many entries these are. */
static size_t count_rank(const struct overview *overview, struct overview_step *step, size_t first)
{
    const struct catalog_entry *start = &step->copies[first].entry;
    const struct catalog_entry *held = NULL;
    bool twice = false;
    size_t i = first;
    for (; i < step->copy_count && step->copies[i].entry.rank == start->rank; i++) {
        const struct catalog_entry *entry = &step->copies[i].entry;
        if (step->copies[i].modified > step->modified)
            step->modified = step->copies[i].modified;
        if (entry->state != SHARD_COMPLETE)
            continue;
        step->own += entry->kind == SLOT_OWN;
        step->replica += entry->kind == SLOT_REPLICA;
        if (held == NULL)
            held = entry;
        twice = twice || overview->indexes[held->store] != overview->indexes[entry->store];
    }
    step->held += held != NULL;
    step->held_twice += twice;
    step->bytes += held != NULL ? held->file_bytes : 0;
    return i - first;
}

static dcache_status_t group_copies(struct overview *overview)
{
    if (overview->copy_count > 0)
        qsort(overview->copies, overview->copy_count, sizeof *overview->copies, compare_copies);
    overview->steps = calloc(overview->copy_count + 1, sizeof *overview->steps);
    if (overview->steps == NULL)
        return diag_fail(&overview->cli->dg, DCACHE_ERR_NO_MEMORY, "out of memory for a list of steps");
    for (size_t i = 0; i < overview->copy_count; i++) {
        const struct overview_copy *copy = &overview->copies[i];
        if (i == 0 || compare_sets(&copy[-1].entry.set, &copy->entry.set) != 0) {
            struct overview_step *step = &overview->steps[overview->step_count++];
            step->set = copy->entry.set;
            step->copies = copy;
        }
        overview->steps[overview->step_count - 1].copy_count++;
    }
    for (size_t i = 0; i < overview->step_count; i++) {
        struct overview_step *step = &overview->steps[i];
        for (size_t first = 0; first < step->copy_count;)
            first += count_rank(overview, step, first);
    }
    return DCACHE_OK;
}

/* --- Object store --------------------------------------------------------------------------------------------------*/

/* Takes the manifest. There is room: attach_manifests() counted. */
static void add_manifest(struct overview *overview, struct manifest *manifest)
{
    struct overview_step *step = NULL;
    for (size_t i = 0; i < overview->step_count && step == NULL; i++) {
        if (shard_same_set(&overview->steps[i].set, &manifest->set))
            step = &overview->steps[i];
    }
    if (step == NULL) {
        step = &overview->steps[overview->step_count++];
        step->set = manifest->set;
    }
    step->durable = true;
    step->manifest = *manifest;
    step->bytes = 0;
    for (size_t i = 0; i < manifest->shard_count; i++)
        step->bytes += manifest->shards[i].bytes;
}

/* One bad manifest must not hide the others. */
static dcache_status_t load_manifest(struct overview *overview, uint64_t number)
{
    struct diag *dg = &overview->cli->dg;
    struct manifest manifest;
    dcache_status_t status = manifest_load(dg, overview->remote, overview->job, number, &manifest);
    if (status == DCACHE_OK) {
        if (manifest_check_stores(dg, &manifest) != DCACHE_OK)
            diag_log(dg, DIAG_WARNING, "%s", dg->text);
        add_manifest(overview, &manifest);
    } else if (status == DCACHE_ERR_CORRUPT || status == DCACHE_ERR_FORMAT) {
        struct overview_fault *fault = &overview->faults[overview->fault_count++];
        fault->step = number;
        snprintf(fault->text, sizeof fault->text, "%s", dg->text);
    } else if (status != DCACHE_NOT_FOUND) {
        return status;
    }
    return DCACHE_OK;
}

static dcache_status_t attach_manifests(struct overview *overview)
{
    uint64_t *numbers = NULL;
    size_t count = 0;
    dcache_status_t status = manifest_list_steps(&overview->cli->dg, overview->remote, overview->job, &numbers, &count);
    if (status != DCACHE_OK)
        return status == DCACHE_NOT_FOUND ? DCACHE_OK : status;
    struct overview_step *larger = realloc(overview->steps, (overview->step_count + count + 1) * sizeof *larger);
    overview->faults = calloc(count + 1, sizeof *overview->faults);
    if (larger == NULL || overview->faults == NULL) {
        overview->steps = larger != NULL ? larger : overview->steps;
        free(numbers);
        return diag_fail(&overview->cli->dg, DCACHE_ERR_NO_MEMORY, "out of memory for a list of %zu steps", count);
    }
    overview->steps = larger;
    memset(overview->steps + overview->step_count, 0, (count + 1) * sizeof *overview->steps);
    for (size_t i = 0; status == DCACHE_OK && i < count; i++)
        status = load_manifest(overview, numbers[i]);
    free(numbers);
    if (overview->step_count > 0)
        qsort(overview->steps, overview->step_count, sizeof *overview->steps, compare_overview_steps);
    return status;
}

/* Where the job's last run stored, if it ran here; the tool's own idea of a relative default is worth less. */
static const char *remote_of(const struct overview *overview)
{
    if (!overview->cli->store_given && overview->plan != NULL)
        return overview->plan->store_url;
    if (!overview->cli->store_given && overview->has_info)
        return overview->info.store_url;
    return overview->cli->options.store;
}

static dcache_status_t ask_object_store(struct overview *overview)
{
    struct cli *cli = overview->cli;
    dcache_status_t status = cli_store_open(cli, remote_of(overview), overview->remote_url, &overview->remote);
    if (status == DCACHE_OK && overview->remote != NULL)
        status = stripes_check_home(&cli->dg, overview->remote, overview->job);
    if (status == DCACHE_OK && overview->remote != NULL)
        status = attach_manifests(overview);
    if (status == DCACHE_OK || status == DCACHE_ERR_NO_MEMORY)
        return status;
    diag_log(&cli->dg, DIAG_WARNING, "the object store cannot be asked: %s", cli->dg.text);
    overview->remote_failed = true;
    return DCACHE_OK;
}

dcache_status_t overview_open(struct cli *cli, const char *job, bool lock, struct overview *overview)
{
    memset(overview, 0, sizeof *overview);
    overview->cli = cli;
    snprintf(overview->job, sizeof overview->job, "%s", job);
    dcache_status_t status = open_stores(overview, lock);
    if (status == DCACHE_OK)
        status = group_copies(overview);
    if (status == DCACHE_OK)
        status = ask_object_store(overview);
    if (status != DCACHE_OK)
        overview_close(overview);
    return status;
}

void overview_close(struct overview *overview)
{
    for (size_t i = 0; i < overview->step_count; i++)
        manifest_free(&overview->steps[i].manifest);
    for (size_t i = 0; i < overview->store_count; i++) {
        node_store_close(&overview->stores[i]);
        drain_plan_free(&overview->plans[i]);
    }
    object_store_close(overview->remote);
    free(overview->stores);
    free(overview->indexes);
    free(overview->on_ssd);
    free(overview->plans);
    free(overview->copies);
    free(overview->steps);
    free(overview->faults);
    memset(overview, 0, sizeof *overview);
}

const struct overview_step *overview_find(const struct overview *overview, uint64_t step)
{
    for (size_t i = 0; i < overview->step_count; i++) {
        if (overview->steps[i].set.step == step)
            return &overview->steps[i];
    }
    return NULL;
}

const char *overview_level(const struct overview_step *step, char text[40])
{
    if (step->durable)
        snprintf(text, 40, "DURABLE");
    else if (step->held_twice == step->set.world_size)
        snprintf(text, 40, "REPLICATED");
    else if (step->held == step->set.world_size)
        snprintf(text, 40, "STAGED");
    else
        snprintf(text, 40, "partial %" PRIu32 "/%" PRIu32, step->held, step->set.world_size);
    return text;
}

const char *overview_node(const struct overview *overview, const struct overview_copy *copy, char text[24])
{
    uint32_t store = copy->entry.store;
    snprintf(text, 24, "%u%s", overview->indexes[store], overview->on_ssd[store] ? " ssd" : "");
    return text;
}

void overview_copy_path(const struct overview *overview, const struct overview_copy *copy, char *path, size_t size)
{
    char name[48];
    slot_name(copy->entry.kind, copy->entry.rank, copy->entry.slot, name);
    snprintf(path, size, "%s/%s", overview->stores[copy->entry.store].path, name);
}
