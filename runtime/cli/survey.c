#include "runtime/cli/survey.h"

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

static dcache_status_t add_copies(struct survey *survey, uint32_t store, const struct catalog_entry *entries,
                                  size_t count)
{
    struct survey_copy *larger = realloc(survey->copies, (survey->copy_count + count + 1) * sizeof *larger);
    if (larger == NULL)
        return diag_fail(&survey->cli->dg, DCACHE_ERR_NO_MEMORY, "out of memory for a list of %zu copies", count);
    survey->copies = larger;
    for (size_t i = 0; i < count; i++) {
        struct survey_copy *copy = &survey->copies[survey->copy_count++];
        copy->entry = entries[i];
        copy->entry.store = store;
        copy->modified = modified_at(&survey->stores[store], &entries[i]);
    }
    return DCACHE_OK;
}

static dcache_status_t read_plan(struct survey *survey, uint32_t store)
{
    struct diag *dg = &survey->cli->dg;
    struct drain_plan *plan = &survey->plans[store];
    dcache_status_t status = drain_plan_read(dg, &survey->stores[store], plan);
    if (status == DCACHE_ERR_CORRUPT || status == DCACHE_ERR_FORMAT)
        diag_log(dg, DIAG_WARNING, "%s", dg->text);
    else if (status != DCACHE_OK && status != DCACHE_NOT_FOUND)
        return status;
    if (status == DCACHE_OK && survey->plan == NULL)
        survey->plan = plan;
    return DCACHE_OK;
}

/* The run that opened its store last is the one to tell of. */
static void read_run_info(struct survey *survey, const struct node_store *store)
{
    struct run_info info;
    dcache_status_t status = run_info_read(&survey->cli->dg, store, &info);
    if (status != DCACHE_OK && status != DCACHE_NOT_FOUND)
        diag_log(&survey->cli->dg, DIAG_WARNING, "%s", survey->cli->dg.text);
    if (status != DCACHE_OK || (survey->has_info && survey->info.started >= info.started))
        return;
    survey->info = info;
    survey->has_info = true;
}

static dcache_status_t open_store(struct survey *survey, unsigned index, bool lock)
{
    struct cli *cli = survey->cli;
    struct catalog_entry *entries = NULL;
    size_t count = 0;
    struct node_store *store = &survey->stores[survey->store_count];
    dcache_status_t status = node_store_open(&cli->dg, cli->options.memory_store, survey->job, index, false, store);
    if (status != DCACHE_OK)
        return status == DCACHE_NOT_FOUND ? DCACHE_OK : status;
    uint32_t number = (uint32_t)survey->store_count;
    survey->indexes[survey->store_count++] = index;
    if (lock)
        status = node_store_lock(&cli->dg, store, "dcache drain");
    if (status == DCACHE_OK)
        status = node_store_catalog(&cli->dg, store, &entries, &count);
    if (status != DCACHE_OK)
        return status;
    read_run_info(survey, store);
    status = read_plan(survey, number);
    if (status == DCACHE_OK)
        status = add_copies(survey, number, entries, count);
    free(entries);
    return status;
}

static dcache_status_t open_stores(struct survey *survey, bool lock)
{
    unsigned *indexes = NULL;
    size_t count = 0;
    struct cli *cli = survey->cli;
    dcache_status_t status = node_store_list(&cli->dg, cli->options.memory_store, survey->job, &indexes, &count);
    if (status != DCACHE_OK)
        return status == DCACHE_NOT_FOUND ? DCACHE_OK : status;
    survey->stores = calloc(count + 1, sizeof *survey->stores);
    survey->indexes = calloc(count + 1, sizeof *survey->indexes);
    survey->plans = calloc(count + 1, sizeof *survey->plans);
    if (survey->stores == NULL || survey->indexes == NULL || survey->plans == NULL)
        status = diag_fail(&cli->dg, DCACHE_ERR_NO_MEMORY, "out of memory for %zu node stores", count);
    for (size_t i = 0; status == DCACHE_OK && i < count; i++)
        status = open_store(survey, indexes[i], lock);
    free(indexes);
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
    const struct catalog_entry *a = &((const struct survey_copy *)left)->entry;
    const struct catalog_entry *b = &((const struct survey_copy *)right)->entry;
    int result = compare_sets(&a->set, &b->set);
    if (result == 0)
        result = order(a->rank, b->rank);
    if (result == 0)
        result = order(a->store, b->store);
    if (result == 0)
        result = order(a->kind, b->kind);
    return result != 0 ? result : order(a->slot, b->slot);
}

static int compare_survey_steps(const void *left, const void *right)
{
    return compare_sets(&((const struct survey_step *)left)->set, &((const struct survey_step *)right)->set);
}

/* Count one rank's complete copies, which are neighbours. Returns how many entries these are. */
static size_t count_rank(struct survey_step *step, size_t first)
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
        twice = twice || held->store != entry->store;
    }
    step->held += held != NULL;
    step->held_twice += twice;
    step->bytes += held != NULL ? held->file_bytes : 0;
    return i - first;
}

static dcache_status_t group_copies(struct survey *survey)
{
    if (survey->copy_count > 0)
        qsort(survey->copies, survey->copy_count, sizeof *survey->copies, compare_copies);
    survey->steps = calloc(survey->copy_count + 1, sizeof *survey->steps);
    if (survey->steps == NULL)
        return diag_fail(&survey->cli->dg, DCACHE_ERR_NO_MEMORY, "out of memory for a list of steps");
    for (size_t i = 0; i < survey->copy_count; i++) {
        const struct survey_copy *copy = &survey->copies[i];
        if (i == 0 || compare_sets(&copy[-1].entry.set, &copy->entry.set) != 0) {
            struct survey_step *step = &survey->steps[survey->step_count++];
            step->set = copy->entry.set;
            step->copies = copy;
        }
        survey->steps[survey->step_count - 1].copy_count++;
    }
    for (size_t i = 0; i < survey->step_count; i++) {
        struct survey_step *step = &survey->steps[i];
        for (size_t first = 0; first < step->copy_count;)
            first += count_rank(step, first);
    }
    return DCACHE_OK;
}

/* --- Object store --------------------------------------------------------------------------------------------------*/

/* Takes the manifest. There is room: attach_manifests() counted. */
static void add_manifest(struct survey *survey, struct manifest *manifest)
{
    struct survey_step *step = NULL;
    for (size_t i = 0; i < survey->step_count && step == NULL; i++) {
        if (shard_same_set(&survey->steps[i].set, &manifest->set))
            step = &survey->steps[i];
    }
    if (step == NULL) {
        step = &survey->steps[survey->step_count++];
        step->set = manifest->set;
    }
    step->durable = true;
    step->manifest = *manifest;
    step->bytes = 0;
    for (size_t i = 0; i < manifest->shard_count; i++)
        step->bytes += manifest->shards[i].bytes;
}

/* One bad manifest must not hide the others. */
static dcache_status_t load_manifest(struct survey *survey, uint64_t number)
{
    struct diag *dg = &survey->cli->dg;
    struct manifest manifest;
    dcache_status_t status = manifest_load(dg, survey->remote, survey->job, number, &manifest);
    if (status == DCACHE_OK) {
        add_manifest(survey, &manifest);
    } else if (status == DCACHE_ERR_CORRUPT || status == DCACHE_ERR_FORMAT) {
        struct survey_fault *fault = &survey->faults[survey->fault_count++];
        fault->step = number;
        snprintf(fault->text, sizeof fault->text, "%s", dg->text);
    } else if (status != DCACHE_NOT_FOUND) {
        return status;
    }
    return DCACHE_OK;
}

static dcache_status_t attach_manifests(struct survey *survey)
{
    uint64_t *numbers = NULL;
    size_t count = 0;
    dcache_status_t status = manifest_list_steps(&survey->cli->dg, survey->remote, survey->job, &numbers, &count);
    if (status != DCACHE_OK)
        return status == DCACHE_NOT_FOUND ? DCACHE_OK : status;
    struct survey_step *larger = realloc(survey->steps, (survey->step_count + count + 1) * sizeof *larger);
    survey->faults = calloc(count + 1, sizeof *survey->faults);
    if (larger == NULL || survey->faults == NULL) {
        survey->steps = larger != NULL ? larger : survey->steps;
        free(numbers);
        return diag_fail(&survey->cli->dg, DCACHE_ERR_NO_MEMORY, "out of memory for a list of %zu steps", count);
    }
    survey->steps = larger;
    memset(survey->steps + survey->step_count, 0, (count + 1) * sizeof *survey->steps);
    for (size_t i = 0; status == DCACHE_OK && i < count; i++)
        status = load_manifest(survey, numbers[i]);
    free(numbers);
    if (survey->step_count > 0)
        qsort(survey->steps, survey->step_count, sizeof *survey->steps, compare_survey_steps);
    return status;
}

/* Where the job's last run stored, if it ran here; the tool's own idea of a relative default is worth less. */
static const char *remote_of(const struct survey *survey)
{
    if (!survey->cli->store_given && survey->plan != NULL)
        return survey->plan->store_url;
    if (!survey->cli->store_given && survey->has_info)
        return survey->info.store_url;
    return survey->cli->options.store;
}

static dcache_status_t ask_object_store(struct survey *survey)
{
    struct cli *cli = survey->cli;
    dcache_status_t status = cli_store_open(cli, remote_of(survey), survey->remote_url, &survey->remote);
    if (status == DCACHE_OK && survey->remote != NULL)
        status = attach_manifests(survey);
    if (status == DCACHE_OK || status == DCACHE_ERR_NO_MEMORY)
        return status;
    diag_log(&cli->dg, DIAG_WARNING, "the object store cannot be asked: %s", cli->dg.text);
    survey->remote_failed = true;
    return DCACHE_OK;
}

dcache_status_t survey_open(struct cli *cli, const char *job, bool lock, struct survey *survey)
{
    memset(survey, 0, sizeof *survey);
    survey->cli = cli;
    snprintf(survey->job, sizeof survey->job, "%s", job);
    dcache_status_t status = open_stores(survey, lock);
    if (status == DCACHE_OK)
        status = group_copies(survey);
    if (status == DCACHE_OK)
        status = ask_object_store(survey);
    if (status != DCACHE_OK)
        survey_close(survey);
    return status;
}

void survey_close(struct survey *survey)
{
    for (size_t i = 0; i < survey->step_count; i++)
        manifest_free(&survey->steps[i].manifest);
    for (size_t i = 0; i < survey->store_count; i++) {
        node_store_close(&survey->stores[i]);
        drain_plan_free(&survey->plans[i]);
    }
    object_store_close(survey->remote);
    free(survey->stores);
    free(survey->indexes);
    free(survey->plans);
    free(survey->copies);
    free(survey->steps);
    free(survey->faults);
    memset(survey, 0, sizeof *survey);
}

const struct survey_step *survey_find(const struct survey *survey, uint64_t step)
{
    for (size_t i = 0; i < survey->step_count; i++) {
        if (survey->steps[i].set.step == step)
            return &survey->steps[i];
    }
    return NULL;
}

const char *survey_level(const struct survey_step *step, char text[40])
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

void survey_copy_path(const struct survey *survey, const struct survey_copy *copy, char *path, size_t size)
{
    char name[48];
    slot_name(copy->entry.kind, copy->entry.rank, copy->entry.slot, name);
    snprintf(path, size, "%s/%s", survey->stores[copy->entry.store].path, name);
}
