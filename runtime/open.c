/* dcache_open() and dcache_close(). */
#include "io/run_info.h"
#include "io/threads.h"
#include "mpi/window.h"
#include "runtime/claim_open.h"
#include "runtime/levels.h"
#include "runtime/progress.h"
#include "runtime/replication.h"
#include "runtime/resync.h"
#include "runtime/resync_ahead.h"
#include "runtime/ssd_ring.h"
#include "runtime/stage.h"
#include "runtime/tiers.h"

#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#define WAIT_SLICE_S 0.05
#define LOCK_WAIT_S  3.0
/* How long a restart from the nodes waits to hear whether the object store has a newer step. */
#define QUICK_TIMEOUT_S 5.0

/* What rank 0 finds out and tells the others, so that options and credentials need be in one place only. Plain data. */
struct boot {
    struct options options;
    bool has_key;
    unsigned char key[CODEC_KEY_BYTES];
    uint64_t epoch;
    struct stripes_places stores; /* last: those that there are not are not sent */
};

void context_enter(dcache_t *dc)
{
    progress_hold(dc);
    resync_begin(dc);
}

dcache_status_t context_finish(dcache_t *dc, const char *call, dcache_status_t status)
{
    if (status == DCACHE_ERR_MPI)
        dc->broken = true;
    if (status < 0 && (dc->world.rank == 0 || status == DCACHE_ERR_MPI))
        diag_log(&dc->diag, DIAG_ERROR, "%s: %s: %s", call, dcache_strerror(status), dc->diag.text);
    progress_release(dc);
    return status;
}

static void find_program(char *name, size_t room)
{
    char path[512] = "";
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    const char *base = length > 0 ? strrchr(path, '/') : NULL;

    snprintf(name, room, "%.60s", base != NULL ? base + 1 : "an MPI program");
}

static dcache_status_t load_key(struct diag *dg, struct boot *boot)
{
    struct codec_key *key = NULL;
    dcache_status_t status =
        codec_key_load(dg, boot->options.encrypt_key_file, boot->options.encrypt_key_command, &key);

    if (status != DCACHE_OK || key == NULL)
        return status;
    memcpy(boot->key, key->bytes, sizeof boot->key);
    boot->has_key = true;
    codec_key_free(key);
    return DCACHE_OK;
}

static dcache_status_t load_boot(struct diag *dg, const char *config_file, struct boot *boot)
{
    dcache_status_t status = options_load(dg, config_file, &boot->options);

    if (status != DCACHE_OK)
        return status;
    if (strcmp(boot->options.store, "none") != 0) {
        status = stripes_resolve(dg, boot->options.store, (enum object_auth)boot->options.store_auth, &boot->stores);
        if (status == DCACHE_OK)
            status = load_key(dg, boot);
        if (status != DCACHE_OK)
            return status;
    }
    if (getrandom(&boot->epoch, sizeof boot->epoch, 0) != (ssize_t)sizeof boot->epoch)
        return diag_fail(dg, DCACHE_ERR_INTERNAL, "the system has no random numbers for the epoch");
    return DCACHE_OK;
}

static dcache_status_t broadcast(dcache_t *dc, void *data, size_t bytes)
{
    int code = MPI_Bcast(data, (int)bytes, MPI_BYTE, 0, dc->world.comm);

    return agree(&dc->world, &dc->diag, NULL, world_check(&dc->diag, code, "MPI_Bcast"));
}

/* Both in one go would be 100 KiB to each rank, nearly all of it zeros. */
static dcache_status_t broadcast_boot(dcache_t *dc, struct boot *boot)
{
    dcache_status_t status = broadcast(dc, boot, offsetof(struct boot, stores.list));

    if (status != DCACHE_OK || boot->stores.count == 0)
        return status;
    return broadcast(dc, boot->stores.list, boot->stores.count * sizeof boot->stores.list[0]);
}

static dcache_status_t share_boot(dcache_t *dc, const char *config_file, struct boot *boot)
{
    dcache_status_t status = DCACHE_OK;

    memset(boot, 0, sizeof *boot);
    if (dc->world.rank == 0)
        status = load_boot(&dc->diag, config_file, boot);
    status = agree(&dc->world, &dc->diag, NULL, status);
    if (status == DCACHE_OK)
        status = broadcast_boot(dc, boot);
    if (status != DCACHE_OK)
        return status;
    dc->options = boot->options;
    dc->epoch = boot->epoch;
    dc->slots = (uint32_t)boot->options.slots;
    stripes_text(&boot->stores, dc->store_url);
    options_job_name(&dc->options, dc->job);
    diag_init(&dc->diag, dc->job, dc->world.rank, (enum diag_level)dc->options.log);
    return DCACHE_OK;
}

/* On rank 0: say where a step will survive less than one may think. */
static void judge_placement(dcache_t *dc)
{
    if (dc->domains.reason[0] != '\0')
        diag_log(&dc->diag, DIAG_WARNING,
                 "not every failure domain is known, and each such node counts as one of its own: %s",
                 dc->domains.reason);
    if (dc->world.node_count == 1)
        diag_log(
            &dc->diag, DIAG_WARNING,
            "all %d ranks are on one node: checkpoints survive the processes, not the node; run on two nodes or more",
            dc->world.size);
    if (dc->placement.same_domain_nodes > 0)
        diag_log(&dc->diag, DIAG_WARNING,
                 "%u of %u nodes have their partner in their own failure domain, because one domain has more than half "
                 "of the nodes: if it fails, steps are lost that are not DURABLE; use nodes of other domains",
                 dc->placement.same_domain_nodes, dc->world.node_count);
}

static dcache_status_t place(dcache_t *dc)
{
    dcache_status_t status =
        agree(&dc->world, &dc->diag, NULL, world_find_nodes(&dc->diag, &dc->world, dc->options.node_size));
    if (status == DCACHE_OK)
        status = domains_find(&dc->diag, &dc->world, &dc->options, &dc->domains);
    if (status != DCACHE_OK)
        return status;
    const struct placement_input input = {
        .node_count = dc->world.node_count,
        .rank_count = (uint32_t)dc->world.size,
        .node_of_rank = dc->world.node_of_rank,
        .domain_of_node = dc->domains.of_node,
        .drain_ranks_per_node = (uint32_t)dc->options.drain_ranks_per_node,
        .drain_nodes = (uint32_t)dc->options.drain_nodes,
    };
    status = agree(&dc->world, &dc->diag, NULL, placement_compute(&dc->diag, &input, &dc->placement));
    if (status == DCACHE_OK && dc->world.rank == 0)
        judge_placement(dc);
    return status;
}

/* Take the store's lock. Ranks of a killed run can outlive its mpirun by a second or two: a relaunch waits for them. */
static dcache_status_t lock_store(dcache_t *dc, struct node_store *store)
{
    double until = threads_now() + LOCK_WAIT_S;
    dcache_status_t status;

    for (;;) {
        status = node_store_lock(&dc->diag, store, dc->program);
        if (status != DCACHE_ERR_BUSY || threads_now() > until)
            return status;
        drain_thread_wait(NULL, WAIT_SLICE_S);
    }
}

/* The first rank of a node makes and locks a store, then the others open it. */
static dcache_status_t open_store(dcache_t *dc, const char *root, bool on_device, struct node_store *opened)
{
    struct node_store store = {.dir_fd = -1, .lock_fd = -1};
    dcache_status_t status = DCACHE_OK;

    if (dc->world.node_rank == 0) {
        status = node_store_open(&dc->diag, root, dc->job, dc->world.virtual_index, true, &store);
        if (status == DCACHE_OK)
            status = lock_store(dc, &store);
        if (status == DCACHE_OK && on_device)
            status = node_store_sync(&dc->diag, &store, true);
        *opened = store;
    }
    status = agree(&dc->world, &dc->diag, NULL, status);
    if (status != DCACHE_OK)
        return status;
    if (dc->world.node_rank != 0) {
        status = node_store_open(&dc->diag, root, dc->job, dc->world.virtual_index, false, &store);
        *opened = store;
    }
    return agree(&dc->world, &dc->diag, NULL, status);
}

static dcache_status_t open_stores(dcache_t *dc)
{
    dcache_status_t status = open_store(dc, tiers_root(dc), dc->options.tier == TIER_SSD, &dc->store);

    if (status == DCACHE_OK && dc->options.tier == TIER_BOTH)
        status = open_store(dc, dc->options.ssd_store, true, &dc->ssd);
    return status;
}

/* What former runs left in this rank's slots: sequence numbers go on from there, and the newest step is not overwritten
 * first, also when the application does not ask for a restart. */
static void look_at_slots(dcache_t *dc)
{
    struct catalog_entry *entries = NULL;
    struct diag quiet = dc->diag;
    size_t count = 0;

    if (node_store_catalog(&quiet, &dc->store, &entries, &count) != DCACHE_OK)
        return; /* then there is nothing to keep */
    for (size_t i = 0; i < count; i++) {
        const struct catalog_entry *entry = &entries[i];
        uint64_t sequence = entry->set.sequence;
        if (sequence > INT64_MAX)
            continue;
        if (sequence > dc->last_sequence)
            dc->last_sequence = sequence;
        if (entry->kind == SLOT_OWN && entry->rank == (uint32_t)dc->world.rank && entry->state == SHARD_COMPLETE &&
            entry->slot < dc->slots)
            dc->ring[entry->slot].worth = sequence;
    }
    free(entries);
}

/* Rank 0 leaves a mark in a store, all look for it. Collective. `missing` is agreed. */
static dcache_status_t look_for_mark(dcache_t *dc, struct object_store *store, int64_t *missing)
{
    char key[OBJECT_KEY_MAX];
    struct object_info info;
    struct diag quiet = dc->diag;
    dcache_status_t status = DCACHE_OK;

    *missing = 0;
    snprintf(key, sizeof key, "%s/shared-%016llx", dc->job, (unsigned long long)dc->epoch);
    if (dc->world.rank == 0)
        status = object_store_put_bytes(store, &dc->diag, key, "", 0, OBJECT_REPLACE);
    status = agree(&dc->world, &dc->diag, NULL, status);
    if (status == DCACHE_OK) {
        *missing = store->ops->head(store, &quiet, key, &info) != DCACHE_OK;
        status = agree_values(&dc->world, &dc->diag, NULL, DCACHE_OK, missing, 1);
    }
    if (dc->world.rank == 0 && store->ops->remove(store, &quiet, key) != DCACHE_OK)
        diag_log(&dc->diag, DIAG_DEBUG, "%s", quiet.text);
    return status;
}

/* A directory that is not the same on all hosts could never get a complete step. */
static dcache_status_t check_shared(dcache_t *dc)
{
    int64_t missing = 0;
    uint32_t number = 0;
    dcache_status_t status = DCACHE_OK;
    bool suspect = dc->world.host_count > 1 && strncmp(dc->store_url, "file:", 5) == 0;

    if (!suspect)
        return DCACHE_OK;
    for (uint32_t i = 0; status == DCACHE_OK && missing == 0 && i < stripes_count(dc->objects); i++) {
        number = i;
        status = look_for_mark(dc, stripes_store(dc->objects, i), &missing);
    }
    if (status != DCACHE_OK || !missing)
        return status;
    if (dc->world.rank == 0)
        diag_log(&dc->diag, DIAG_WARNING,
                 "%s is not the same directory on all hosts: nothing is drained; set store to a shared directory, to "
                 "Azure Blob, or to none",
                 stripes_url(dc->objects, number));
    object_store_close(dc->objects);
    object_store_close(dc->objects_quick);
    dc->objects = dc->objects_quick = NULL;
    dc->store_url[0] = '\0';
    return DCACHE_OK;
}

static dcache_status_t open_objects(dcache_t *dc, const struct boot *boot)
{
    const struct object_policy policy = {.timeout_s = dc->options.store_timeout,
                                         .stall_s = dc->options.store_stall,
                                         .connections = (unsigned)dc->options.store_connections};

    if (dc->store_url[0] == '\0')
        return DCACHE_OK;
    struct object_policy quick = policy;
    quick.timeout_s = policy.timeout_s < QUICK_TIMEOUT_S ? policy.timeout_s : QUICK_TIMEOUT_S;
    dcache_status_t status = boot->has_key ? codec_key_make(&dc->diag, boot->key, &dc->key) : DCACHE_OK;
    if (status == DCACHE_OK)
        status = stripes_open(&dc->diag, &boot->stores, &policy, &dc->objects);
    if (status == DCACHE_OK && dc->world.rank == 0)
        status = stripes_open(&dc->diag, &boot->stores, &quick, &dc->objects_quick);
    status = agree(&dc->world, &dc->diag, NULL, status);
    if (status == DCACHE_OK)
        status = check_shared(dc);
    return status;
}

/* This rank's duties as a drain rank, and, on the first rank of a node, the node's: the plan. */
static size_t find_duties(const dcache_t *dc, struct drain_duty *duties, uint32_t *node_ranks, size_t *node_count)
{
    size_t count = 0;

    *node_count = 0;
    for (uint32_t r = 0; r < (uint32_t)dc->world.size; r++) {
        uint32_t drainer = dc->placement.drainer_of_rank[r];
        if (dc->world.node_of_rank[drainer] == dc->world.node)
            node_ranks[(*node_count)++] = r;
        if (drainer == (uint32_t)dc->world.rank)
            duties[count++] =
                (struct drain_duty){r, dc->world.node_of_rank[r] == dc->world.node ? SLOT_OWN : SLOT_REPLICA};
    }
    return count;
}

static struct retention_rule retention_wanted(const dcache_t *dc)
{
    return (struct retention_rule){(uint64_t)dc->options.store_keep_last, (uint64_t)dc->options.store_keep_every};
}

static dcache_status_t write_documents(dcache_t *dc, uint32_t *plan_ranks, size_t plan_count)
{
    struct run_info info = {.world_size = (uint32_t)dc->world.size,
                            .node_count = dc->world.node_count,
                            .node = dc->world.node,
                            .pid = (long)getpid(),
                            .started = (int64_t)time(NULL),
                            .run = dc->epoch};
    struct drain_plan plan = {.world_size = (uint32_t)dc->world.size,
                              .drain_every = (uint32_t)dc->options.drain_every,
                              .keep = retention_wanted(dc),
                              .rank_count = plan_count,
                              .ranks = plan_ranks};

    snprintf(info.job, sizeof info.job, "%s", dc->job);
    snprintf(info.node_name, sizeof info.node_name, "%s", dc->world.node_name);
    snprintf(info.transport, sizeof info.transport, "%s", dc->replicator.transport_name);
    snprintf(info.transport_reason, sizeof info.transport_reason, "%s", dc->replicator.reason);
    memcpy(info.store_url, dc->store_url, sizeof info.store_url);
    memcpy(plan.store_url, dc->store_url, sizeof plan.store_url);
    dcache_status_t status = run_info_write(&dc->diag, &dc->store, &info);
    return status == DCACHE_OK ? drain_plan_write(&dc->diag, &dc->store, &plan) : status;
}

/* What the options allow a node is shared by its drain ranks; the CPU time is of the cores that this rank may run on,
 * which are all of the node's when ranks are not bound. */
static void limit_drain(dcache_t *dc)
{
    const int64_t most = dc->options.drain_ranks_per_node;
    const double share = 1.0 / (double)(dc->world.node_ranks < most ? dc->world.node_ranks : most);
    cpu_set_t cores;
    const int bound = sched_getaffinity(0, sizeof cores, &cores) == 0 ? CPU_COUNT(&cores) : 1;
    const double mine = fmin((double)bound, fmax((double)sysconf(_SC_NPROCESSORS_ONLN) * share, 1e-3));
    const double rate = ceil((double)dc->options.drain_bandwidth * share);
    drain_thread_limit(dc->drain, (uint64_t)rate, (double)dc->options.drain_slowdown / 100.0 * mine);
}

static dcache_status_t start_drain(dcache_t *dc)
{
    size_t size = (size_t)dc->world.size, plan_count = 0, duty_count;
    struct drain_duty *duties = malloc(size * sizeof *duties);
    uint32_t *plan_ranks = malloc(size * sizeof *plan_ranks);
    const struct retention_rule keep = retention_wanted(dc);
    dcache_status_t status = DCACHE_OK;
    char name[64];

    if (duties == NULL || plan_ranks == NULL) {
        status = diag_fail(&dc->diag, DCACHE_ERR_NO_MEMORY, "out of memory for the drain's plan");
        goto done;
    }
    duty_count = find_duties(dc, duties, plan_ranks, &plan_count);
    if (dc->world.node_rank == 0)
        status = write_documents(dc, plan_ranks, plan_count);
    if (status == DCACHE_ERR_NO_SPACE) { /* what is in the store can be restarted from, and drained without a plan */
        diag_log(&dc->diag, DIAG_WARNING, "the tool will not know of this run: %s", dc->diag.text);
        status = DCACHE_OK;
    }
    snprintf(name, sizeof name, "r%d", dc->world.rank);
    const struct codec_settings codec = options_codec(&dc->options, dc->key);
    if (status == DCACHE_OK && duty_count > 0 && dc->objects != NULL)
        status = drain_thread_start(&dc->diag, dc->job, name, dc->objects, &dc->store, &codec, &keep,
                                    dc->guarded ? &dc->guard : NULL, duties, duty_count, &dc->drain);
done:
    if (status == DCACHE_OK && dc->drain != NULL)
        limit_drain(dc);
    free(duties);
    free(plan_ranks);
    return status;
}

/* Room in every slot, own and hosted, before the application computes: getting and clearing pages takes its time. */
static dcache_status_t reserve_slots(dcache_t *dc)
{
    uint64_t bytes = (uint64_t)dc->options.reserve;
    dcache_status_t status = DCACHE_OK;

    for (uint32_t k = 0; bytes > 0 && status == DCACHE_OK && k < dc->slots; k++) {
        status = slot_reserve(&dc->diag, &dc->store, SLOT_OWN, (uint32_t)dc->world.rank, k, bytes);
        for (uint32_t g = 0; status == DCACHE_OK && g < dc->replicator.guest_count; g++)
            status = slot_reserve(&dc->diag, &dc->store, SLOT_REPLICA, dc->replicator.guests[g], k, bytes);
    }
    return status;
}

static dcache_status_t start_helpers(dcache_t *dc)
{
    dcache_status_t status = DCACHE_OK;

    if (dc->options.copy_threads > 1)
        status = copy_threads_start(&dc->diag, (unsigned)dc->options.copy_threads - 1, &dc->copying);
    return status == DCACHE_OK ? progress_start(dc) : status;
}

static dcache_status_t open_all(dcache_t *dc, const char *config_file)
{
    struct boot boot;

    dcache_status_t status = share_boot(dc, config_file, &boot);
    if (status == DCACHE_OK)
        status = place(dc);
    if (status == DCACHE_OK)
        status = open_stores(dc);
    if (status == DCACHE_OK) {
        look_at_slots(dc);
        window_take_turns(&dc->world, tiers_root(dc));
        status = replicate_open(&dc->diag, &dc->world, &dc->placement, &dc->store,
                                (enum replicate_choice)dc->options.transport, &dc->replicator);
    }
    if (status == DCACHE_OK)
        status = ssd_ring_open(dc);
    if (status == DCACHE_OK && dc->options.reserve > 0)
        status = tiers_check_room(dc, (uint64_t)dc->options.reserve);
    if (status == DCACHE_OK)
        status = agree(&dc->world, &dc->diag, NULL, reserve_slots(dc));
    if (status == DCACHE_OK)
        status = open_objects(dc, &boot);
    if (status == DCACHE_OK) /* before this run's own documents take the place of those of the run before */
        status = claim_open(dc);
    if (status == DCACHE_OK)
        status = agree(&dc->world, &dc->diag, NULL, start_drain(dc));
    if (status == DCACHE_OK)
        status = agree(&dc->world, &dc->diag, NULL, start_helpers(dc));
    explicit_bzero(&boot, sizeof boot); /* secrets stay in one place only */
    return status;
}

/* Free everything. Collective. */
static void release(dcache_t *dc)
{
    schedule_close(dc);
    progress_stop(dc);
    resync_ahead_drop(dc);
    copy_threads_stop(dc->copying);
    drain_thread_stop(dc->drain);
    ssd_thread_stop(dc->ssd_thread);
    object_store_close(dc->objects);
    codec_key_free(dc->key);
    replicate_close(&dc->replicator);
    claim_keeper_stop(dc->claim_keeper); /* by now all ranks have stopped their drains */
    object_store_close(dc->objects_quick);
    for (uint32_t k = 0; k < TRANSPORT_SLOTS_MAX; k++)
        stage_release(&dc->ring[k]);
    node_store_close(&dc->store);
    node_store_close(&dc->ssd);
    placement_free(&dc->placement);
    domains_free(&dc->domains);
    world_close(&dc->world);
    free(dc->regions);
    free(dc);
}

static dcache_t *new_context(void)
{
    dcache_t *dc = calloc(1, sizeof *dc);

    if (dc == NULL)
        return NULL;
    diag_init(&dc->diag, "", -1, DIAG_WARNING);
    dc->world.comm = MPI_COMM_NULL;
    dc->world.node_comm = MPI_COMM_NULL;
    dc->world.turn_fd = -1;
    dc->store.dir_fd = -1;
    dc->store.lock_fd = -1;
    dc->ssd.dir_fd = -1;
    dc->ssd.lock_fd = -1;
    for (uint32_t k = 0; k < TRANSPORT_SLOTS_MAX; k++)
        dc->ring[k].own.fd = -1;
    dc->layout = 1; /* 0 means: no image yet */
    find_program(dc->program, sizeof dc->program);
    return dc;
}

static bool mpi_usable(MPI_Comm comm)
{
    int initialized = 0, finalized = 0, inter = 0;

    MPI_Initialized(&initialized);
    MPI_Finalized(&finalized);
    if (!initialized || finalized || comm == MPI_COMM_NULL)
        return false;
    return MPI_Comm_test_inter(comm, &inter) == MPI_SUCCESS && !inter;
}

dcache_status_t dcache_open(MPI_Comm comm, const char *config_file, dcache_t **dc)
{
    if (dc == NULL)
        return DCACHE_ERR_INVALID;
    *dc = NULL;
    if (!mpi_usable(comm)) {
        struct diag dg;
        diag_init(&dg, "", -1, DIAG_WARNING);
        diag_log(&dg, DIAG_ERROR,
                 "dcache_open: MPI is not initialised, or the communicator is null or an "
                 "intercommunicator");
        return DCACHE_ERR_INVALID;
    }
    dcache_t *self = new_context();
    if (self == NULL) /* the peers hang in MPI_Comm_dup; a process that cannot get 40 KiB will not live to see it */
        return DCACHE_ERR_NO_MEMORY;
    dcache_status_t status = world_open(&self->diag, comm, &self->world);
    self->diag.rank = self->world.rank;
    if (status == DCACHE_OK)
        status = open_all(self, config_file);
    if (status != DCACHE_OK) {
        context_enter(self);
        (void)context_finish(self, "dcache_open", status);
        release(self);
        return status;
    }
    diag_log(&self->diag, self->world.rank == 0 ? DIAG_INFO : DIAG_DEBUG, "%d ranks on %u nodes, transport %s: %s",
             self->world.size, self->world.node_count, self->replicator.transport_name, self->replicator.reason);
    schedule_open(self);
    *dc = self;
    return DCACHE_OK;
}

/* Wait for one slot's drain. DCACHE_ERR_STORE when it is left undone. Collective, agreed. */
static dcache_status_t await_drain(dcache_t *dc, uint32_t slot, double until)
{
    struct levels_drain drain;

    for (;;) {
        int64_t late = threads_now() > until;
        dcache_status_t status = levels_ask(dc, slot, &drain);
        if (status == DCACHE_OK && !drain.durable)
            status = agree_values(&dc->world, &dc->diag, &dc->replicator.idle, DCACHE_OK, &late, 1);
        if (status != DCACHE_OK || drain.durable)
            return status;
        if (drain.failing)
            return levels_drain_failure(dc, slot);
        if (!drain.pending) /* dropped: a newer step took its place */
            return DCACHE_OK;
        if (late)
            return diag_fail(&dc->diag, DCACHE_ERR_STORE,
                             "step %llu is still being drained after %.0f s (option close_timeout)",
                             (unsigned long long)dc->ring[slot].header.set.step, dc->options.close_timeout);
        drain_thread_wait(dc->drain, WAIT_SLICE_S);
    }
}

static dcache_status_t finish_work(dcache_t *dc)
{
    double until = threads_now() + dc->options.close_timeout;
    dcache_status_t worst = DCACHE_OK;

    if (dc->broken)
        return DCACHE_ERR_MPI;
    if (replication_finish(dc) != DCACHE_OK && dc->world.rank == 0)
        diag_log(&dc->diag, DIAG_WARNING, "the last step stays on its nodes only: %s", dc->diag.text);
    drain_thread_hurry(dc->drain);
    for (uint32_t k = 0; k < dc->slots; k++) {
        if (dc->ring[k].level == DCACHE_LEVEL_NONE || !dc->ring[k].to_drain || dc->ring[k].durable)
            continue;
        dcache_status_t status = await_drain(dc, k, until);
        if (status != DCACHE_OK && dc->world.rank == 0)
            diag_log(&dc->diag, DIAG_WARNING, "%s; `dcache drain` on each node finishes it", dc->diag.text);
        if (status != DCACHE_OK)
            worst = status == DCACHE_ERR_MPI ? status : DCACHE_ERR_STORE;
    }
    if (worst != DCACHE_ERR_MPI)
        ssd_ring_finish(dc, until);
    return worst;
}

dcache_status_t dcache_close(dcache_t **dc)
{
    if (dc == NULL || *dc == NULL)
        return DCACHE_OK;
    context_enter(*dc);
    dcache_status_t status = finish_work(*dc);
    progress_release(*dc);
    release(*dc);
    *dc = NULL;
    return status;
}

static void add_drain(const dcache_t *dc, dcache_statistics_t *statistics)
{
    const struct drain_report report = drain_thread_report(dc->drain);

    statistics->drain_shards = report.shards;
    statistics->drain_bytes = report.bytes;
    statistics->drain_seconds = report.seconds;
    statistics->drain_cpu_seconds = report.cpu_seconds;
    statistics->drain_requests = report.traffic.requests;
    statistics->drain_retries = report.traffic.retries;
    statistics->drain_throttled = report.traffic.throttled;
    statistics->drain_hedged = report.traffic.hedged;
}

dcache_status_t dcache_get_statistics(dcache_t *dc, dcache_statistics_t *statistics)
{
    if (dc == NULL || statistics == NULL)
        return DCACHE_ERR_INVALID;
    progress_hold(dc);
    *statistics = dc->statistics;
    add_drain(dc, statistics);
    progress_release(dc);
    return DCACHE_OK;
}

const char *dcache_error_text(const dcache_t *dc)
{
    return dc == NULL ? "" : dc->diag.text;
}
