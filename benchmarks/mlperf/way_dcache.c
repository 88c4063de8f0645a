/* Through dcache: each file is a region of the rank's shard, under its name. A save is timed to every level; a load
 * begins in a new handle, as in a process that was launched again. */
#include "mlperf.h"

#include "io/stripes.h"

#include <errno.h>
#include <ftw.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LOAD_OPEN, LOAD_DONE, LOAD_REPLICATED };

struct dcache_way {
    dcache_t *dc; /**< NULL: not open */
};

static dcache_t **handle_of(struct mlperf *m)
{
    return &((struct dcache_way *)m->state)->dc;
}

static dcache_status_t checked(struct mlperf *m, const char *call, dcache_status_t status)
{
    const char *text = m->state != NULL && *handle_of(m) != NULL ? dcache_error_text(*handle_of(m)) : "";

    if (status == DCACHE_OK)
        return DCACHE_OK;
    return diag_fail(&m->diag, status, "%s: %s%s%.900s", call, dcache_strerror(status), text[0] != '\0' ? ": " : "",
                     text);
}

static bool has_store(const struct mlperf *m)
{
    return strcmp(m->library.store, "none") != 0;
}

static dcache_status_t check_options(struct mlperf *m)
{
    const struct mlperf_options *options = &m->options;

    for (int i = 0; i < options->source_count; i++) {
        if (options->sources[i] == SOURCE_BLOB && !has_store(m))
            return diag_fail(&m->diag, DCACHE_ERR_OPTION, "--read blob needs an object store: set DCACHE_STORE");
    }
    if (options->level == DCACHE_DURABLE && !has_store(m))
        return diag_fail(&m->diag, DCACHE_ERR_OPTION, "--level durable needs an object store: set DCACHE_STORE");
    if (has_store(m) && m->library.drain_every != 1)
        return diag_fail(&m->diag, DCACHE_ERR_OPTION,
                         "DCACHE_DRAIN_EVERY is %lld: with an object store every checkpoint has to get there, so 1 is "
                         "needed",
                         (long long)m->library.drain_every);
    return DCACHE_OK;
}

static dcache_status_t open_and_protect(struct mlperf *m)
{
    dcache_t **dc = handle_of(m);
    dcache_status_t status = checked(m, "dcache_open", dcache_open(m->world.comm, NULL, dc));

    if (status != DCACHE_OK)
        return status;
    for (int i = 0; i < m->file_count && status == DCACHE_OK; i++)
        status = checked(
            m, "dcache_protect",
            dcache_protect(*dc, m->files[i].name, m->data + mlperf_file_offset(m, i), m->files[i].bytes, DCACHE_BYTE));
    return mlperf_agree(m, status);
}

static dcache_status_t check_nodes(struct mlperf *m)
{
    bool replicas = m->options.level == DCACHE_REPLICATED && m->options.job == NULL;

    for (int i = 0; i < m->options.source_count; i++)
        replicas |= m->options.sources[i] == SOURCE_REPLICA;
    if (replicas && m->world.node_count < 2)
        return diag_fail(&m->diag, DCACHE_ERR_OPTION,
                         "all ranks are on one node, which has no replicas: use two nodes, DCACHE_NODE_SIZE, or "
                         "--level staged and --read own");
    return DCACHE_OK;
}

dcache_status_t dcache_way_open(struct mlperf *m)
{
    static struct dcache_way way; /* one run, one handle */

    m->state = &way;
    snprintf(m->caches, sizeof m->caches,
             "own copies and replicas are in memory that survives the process (%s); the "
             "memory that is read into is overwritten before each read",
             m->library.tier == TIER_MEMORY ? "tier memory" : "and on SSDs, whose page cache is not dropped");
    dcache_status_t status = mlperf_agree(m, check_nodes(m));
    return status == DCACHE_OK ? open_and_protect(m) : status;
}

static dcache_status_t save(struct mlperf *m, int64_t step, double start, struct times *times)
{
    dcache_t *dc = *handle_of(m);
    dcache_status_t status = checked(m, "dcache_checkpoint_begin", dcache_checkpoint_begin(dc, (uint64_t)step));

    for (dcache_level_t level = DCACHE_STAGED; level <= DCACHE_DURABLE && status == DCACHE_OK; level++) {
        if ((level == DCACHE_REPLICATED && m->world.node_count < 2) || (level == DCACHE_DURABLE && !has_store(m)))
            continue;
        if (level > DCACHE_STAGED)
            status = checked(m, "dcache_wait", dcache_wait(dc, (uint64_t)step, level));
        mlperf_mark(times, (int)(level - DCACHE_STAGED), start);
    }
    return status;
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *where)
{
    (void)info;
    (void)kind;
    (void)where;
    return remove(path);
}

static dcache_status_t remove_below(struct mlperf *m, const char *root)
{
    char job[64], path[OPTIONS_TEXT_MAX + 128];

    options_job_name(&m->library, job);
    snprintf(path, sizeof path, "%s/%s/node-%u", root, job, m->world.virtual_index);
    if (root[0] != '\0' && nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) != 0 && errno != ENOENT)
        return diag_fail_errno(&m->diag, errno, "cannot remove %s", path);
    return DCACHE_OK;
}

/* What a node has is lost: of the first rank's node, so that its time is that of a rank that lost something, or of all
 * nodes. Collective. */
static dcache_status_t lose(struct mlperf *m, bool all)
{
    dcache_status_t status = DCACHE_OK;
    bool is_lost = all || m->world.node == m->world.node_of_rank[0];

    if (is_lost && m->world.node_rank == 0) {
        status = remove_below(m, m->library.memory_store);
        if (status == DCACHE_OK)
            status = remove_below(m, m->library.ssd_store);
    }
    return mlperf_agree(m, status);
}

static dcache_status_t close_handle(struct mlperf *m, dcache_status_t status)
{
    dcache_t **dc = handle_of(m);
    dcache_status_t closed = *dc != NULL ? dcache_close(dc) : DCACHE_OK;

    return status == DCACHE_OK ? checked(m, "dcache_close", closed) : status;
}

static dcache_status_t prepare_load(struct mlperf *m, struct operation *load)
{
    dcache_status_t status = close_handle(m, DCACHE_OK);

    load->step = m->options.writes; /* a restart takes the newest */
    if (status == DCACHE_OK && load->source != SOURCE_OWN)
        status = lose(m, load->source == SOURCE_BLOB);
    return status;
}

dcache_status_t dcache_way_restart(struct mlperf *m, uint64_t *step)
{
    *step = DCACHE_LATEST;
    dcache_status_t status = dcache_restart(*handle_of(m), step);
    return status == DCACHE_NOT_FOUND ? status : checked(m, "dcache_restart", status);
}

static dcache_status_t load(struct mlperf *m, const struct operation *load, double start, struct times *times)
{
    uint64_t step = 0;

    dcache_status_t status = open_and_protect(m);
    mlperf_mark(times, LOAD_OPEN, start);
    if (status == DCACHE_OK)
        status = dcache_way_restart(m, &step);
    mlperf_mark(times, LOAD_DONE, start);
    if (status == DCACHE_NOT_FOUND || (status == DCACHE_OK && step != (uint64_t)load->step))
        return diag_fail(&m->diag, DCACHE_ERR_INTERNAL, "step %lld was saved, and the restart found %s",
                         (long long)load->step, status == DCACHE_OK ? "another" : "none");
    if (status == DCACHE_OK && m->world.node_count > 1) {
        status = checked(m, "dcache_wait", dcache_wait(*handle_of(m), step, DCACHE_REPLICATED));
        mlperf_mark(times, LOAD_REPLICATED, start);
    }
    return status;
}

static dcache_status_t remove_object(void *context, const char *key, uint64_t bytes)
{
    struct mlperf *m = ((void **)context)[0];
    struct object_store *store = ((void **)context)[1];

    (void)bytes;
    return store->ops->remove(store, &m->diag, key);
}

/* Rank 0: what the job has in the object store. */
static dcache_status_t remove_objects(struct mlperf *m)
{
    struct object_policy policy = {.timeout_s = m->library.store_timeout, .stall_s = m->library.store_stall};
    struct stripes_places places;
    struct object_store *store = NULL;
    char prefix[80], job[64];

    options_job_name(&m->library, job);
    snprintf(prefix, sizeof prefix, "%s/", job);
    dcache_status_t status =
        stripes_resolve(&m->diag, m->library.store, (enum object_auth)m->library.store_auth, &places);
    if (status == DCACHE_OK)
        status = stripes_open(&m->diag, &places, &policy, &store);
    for (uint32_t i = 0; status == DCACHE_OK && i < stripes_count(store); i++) {
        void *context[] = {m, stripes_store(store, i)};
        status = stripes_store(store, i)->ops->list(context[1], &m->diag, prefix, remove_object, context);
    }
    object_store_close(store);
    return status;
}

dcache_status_t dcache_way_close(struct mlperf *m, dcache_status_t status)
{
    char job[64], path[OPTIONS_TEXT_MAX + 128];
    dcache_status_t removed = DCACHE_OK;

    if (m->state == NULL)
        return status;
    status = close_handle(m, status);
    if (m->options.keep_data || m->options.job != NULL)
        return status;
    removed = lose(m, true);
    options_job_name(&m->library, job);
    snprintf(path, sizeof path, "%s/%s", m->library.memory_store, job);
    if (m->host_rank == 0)
        (void)rmdir(path); /* empty now; if not, the node stores in it say why */
    if (removed == DCACHE_OK && m->world.rank == 0 && has_store(m))
        removed = remove_objects(m);
    removed = mlperf_agree(m, removed);
    return status == DCACHE_OK ? removed : status;
}

const struct way way_dcache = {.name = "dcache",
                               .save_marks = {"staged", "replicated", "durable"},
                               .load_marks = {"open", "loaded", "replicated_again"},
                               .load_mark = LOAD_DONE,
                               .has_levels = true,
                               .check = check_options,
                               .open = dcache_way_open,
                               .save = save,
                               .prepare_load = prepare_load,
                               .load = load,
                               .close = dcache_way_close};
