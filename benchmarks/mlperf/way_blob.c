/* Straight to an object store, one object for each of the workload's files, through the store that dcache drains to:
 * what the network and the service take, without a copy on the nodes. */
#include "mlperf.h"

#include "io/crc64.h"
#include "io/object_store.h"

#include <string.h>

struct blob_way {
    struct object_store *store;
};

static struct object_store *store_of(const struct mlperf *m)
{
    return ((const struct blob_way *)m->state)->store;
}

/* A key below the URL: mlperf/llama3-8b/20250131_120000/global_epoch1_step1/NAME. */
static void key_of(const struct mlperf *m, int64_t step, int index, char key[TEXT_MAX])
{
    char directory[256];

    snprintf(directory, sizeof directory, "mlperf/%s/%s", m->options.model->name, m->stamp);
    mlperf_file_path(key, directory, step, m->files[index].name);
}

/* Rank 0 finds the credentials for all. */
struct target {
    char url[OBJECT_URL_MAX];
    struct object_credentials credentials;
};

static dcache_status_t find_target(struct mlperf *m, struct target *target)
{
    memset(target, 0, sizeof *target);
    return object_store_resolve_as(&m->diag, m->options.url, (enum object_auth)m->library.store_auth, target->url,
                                   &target->credentials);
}

static dcache_status_t open_way(struct mlperf *m)
{
    static struct blob_way way; /* one run, one store */
    const struct object_policy policy = {.timeout_s = m->library.store_timeout,
                                         .stall_s = m->library.store_stall,
                                         .connections = (unsigned)m->library.store_connections};
    struct target target;

    m->state = &way;
    snprintf(m->caches, sizeof m->caches, "the store's own caches are as they are");
    dcache_status_t status = mlperf_agree(m, m->world.rank == 0 ? find_target(m, &target) : DCACHE_OK);
    if (status != DCACHE_OK)
        return status;
    status = world_check(&m->diag, MPI_Bcast(&target, (int)sizeof target, MPI_BYTE, 0, m->world.comm), "MPI_Bcast");
    if (status == DCACHE_OK)
        status = object_store_open(&m->diag, target.url, &target.credentials, &policy, &way.store);
    return mlperf_agree(m, status);
}

static dcache_status_t read_data(void *context, struct diag *dg, uint64_t offset, void *buffer, size_t bytes,
                                 uint64_t *crc)
{
    (void)dg;
    *crc = crc64_copy(0, buffer, (const unsigned char *)context + offset, bytes);
    return DCACHE_OK;
}

static dcache_status_t remove_step(struct mlperf *m, int64_t step)
{
    dcache_status_t status = DCACHE_OK;
    char key[TEXT_MAX];

    for (int i = 0; i < m->file_count && status == DCACHE_OK; i++) {
        key_of(m, step, i, key);
        status = store_of(m)->ops->remove(store_of(m), &m->diag, key);
    }
    return status;
}

static dcache_status_t save(struct mlperf *m, int64_t step, double start, struct times *times)
{
    dcache_status_t status = DCACHE_OK;
    char key[TEXT_MAX];

    for (int i = 0; i < m->file_count && status == DCACHE_OK; i++) {
        const struct object_source source = {
            .bytes = m->files[i].bytes, .context = m->data + mlperf_file_offset(m, i), .read = read_data};
        key_of(m, step, i, key);
        status = store_of(m)->ops->put(store_of(m), &m->diag, key, &source, OBJECT_REPLACE, NULL);
    }
    mlperf_mark(times, 0, start);
    if (status == DCACHE_OK && m->options.keep != 0 && step > m->options.keep)
        status = remove_step(m, step - m->options.keep);
    return mlperf_agree(m, status);
}

static dcache_status_t prepare_load(struct mlperf *m, struct operation *load)
{
    while (m->options.keep != 0 && load->step <= m->options.writes - m->options.keep)
        load->step += m->options.keep;
    return DCACHE_OK;
}

static dcache_status_t load(struct mlperf *m, const struct operation *load, double start, struct times *times)
{
    dcache_status_t status = DCACHE_OK;
    char key[TEXT_MAX];

    for (int i = 0; i < m->file_count && status == DCACHE_OK; i++) {
        key_of(m, load->step, i, key);
        status = store_of(m)->ops->get(store_of(m), &m->diag, key, NULL, 0, m->data + mlperf_file_offset(m, i),
                                       m->files[i].bytes);
        if (status == DCACHE_NOT_FOUND)
            status = diag_fail(&m->diag, DCACHE_ERR_STORE, "%s was stored, and is not there", key);
    }
    mlperf_mark(times, 0, start);
    return mlperf_agree(m, status);
}

static dcache_status_t close_way(struct mlperf *m, dcache_status_t status)
{
    dcache_status_t removed = DCACHE_OK;

    if (m->state == NULL)
        return status;
    for (int64_t step = 1; step <= m->options.writes && store_of(m) != NULL && !m->options.keep_data; step++) {
        dcache_status_t one = remove_step(m, step);
        removed = removed == DCACHE_OK ? one : removed;
    }
    object_store_close(store_of(m));
    removed = mlperf_agree(m, removed);
    return status == DCACHE_OK ? removed : status;
}

const struct way way_blob = {.name = "blob",
                             .save_marks = {"stored"},
                             .load_marks = {"loaded"},
                             .open = open_way,
                             .save = save,
                             .prepare_load = prepare_load,
                             .load = load,
                             .close = close_way};
