/* Nodes die between two runs, and the next run has its ranks elsewhere: every rank gets its bytes back as long as some
 * store has them, and afterwards everything is in two places again.
 *
 * ranks: 2 3 4 5 8
 * timeout: 300 */
#include "mpi_fields.h"
#include "mpi_stores.h"
#include "mpi_support.h"
#include "mpi_world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define JOB "test"

/* A run: a handle with its regions. */
struct run {
    dcache_t *dc;
    struct fields fields;
    int rank;
};

static void run_start(struct run *run, MPI_Comm comm)
{
    MPI_Comm_rank(comm, &run->rank);
    fields_init(&run->fields, run->rank);
    fields_add_some(&run->fields, 1500);
    CHECK_STATUS(NULL, dcache_open(comm, NULL, &run->dc), DCACHE_OK);
    fields_protect(run->dc, &run->fields);
    fields_scribble(&run->fields);
}

static void run_end(struct run *run)
{
    support_close(&run->dc);
    fields_free(&run->fields);
}

static void take(struct run *run, uint64_t step)
{
    fields_fill(&run->fields, step);
    CHECK_STATUS(run->dc, dcache_checkpoint(run->dc, step), DCACHE_OK);
}

static void restore(struct run *run, uint64_t wanted, uint64_t expected)
{
    uint64_t step = wanted;

    fields_scribble(&run->fields);
    CHECK_STATUS(run->dc, dcache_restart(run->dc, &step), DCACHE_OK);
    CHECK(step == expected && fields_hold(&run->fields, expected));
}

static void fail_to_restore(struct run *run, uint64_t wanted, dcache_status_t expected)
{
    uint64_t step = wanted;

    fields_scribble(&run->fields);
    dcache_status_t status = dcache_restart(run->dc, &step);
    CHECK_STATUS(run->dc, status, expected);
    CHECK_SAME(status, dcache_error_text(run->dc));
    CHECK(step == wanted && fields_scribbled(&run->fields));
}

/* A first run that takes steps 1 and 2. */
static void first_run(dcache_level_t level)
{
    struct run run;

    stores_lose_all(JOB);
    run_start(&run, MPI_COMM_WORLD);
    take(&run, 1);
    take(&run, 2);
    if (level == DCACHE_DURABLE) {
        CHECK_STATUS(run.dc, dcache_wait(run.dc, 1, level), DCACHE_OK);
        CHECK_STATUS(run.dc, dcache_wait(run.dc, 2, level), DCACHE_OK);
    }
    run_end(&run);
}

static unsigned count_nodes(int node_size)
{
    return (unsigned)((support_size + node_size - 1) / node_size);
}

static void use(const char *transport, int node_size)
{
    support_option("TRANSPORT", transport);
    support_option_number("NODE_SIZE", node_size);
}

/* Each node in turn; then, in a third run, another one: what the second run restored must be redundant by then. */
static void test_each_node(const char *transport, int node_size)
{
    unsigned nodes = count_nodes(node_size);
    struct run run;

    use(transport, node_size);
    for (unsigned lost = 0; lost < nodes; lost++) {
        support_trying("%s, nodes of %d, node %u is lost", transport, node_size, lost);
        first_run(DCACHE_REPLICATED);
        stores_lose_node(JOB, lost);
        run_start(&run, MPI_COMM_WORLD);
        restore(&run, DCACHE_LATEST, 2);
        CHECK(stores_redundant(JOB, 2, (uint32_t)support_size));
        run_end(&run);
        stores_lose_node(JOB, (lost + 1) % nodes);
        run_start(&run, MPI_COMM_WORLD);
        restore(&run, DCACHE_LATEST, 2);
        CHECK(stores_redundant(JOB, 2, (uint32_t)support_size));
        run_end(&run);
    }
}

static uint32_t partner_of(int node_size, uint32_t node)
{
    struct test_world tw;

    test_world_open(&tw, node_size);
    uint32_t partner = tw.placement.partner_of_node[node];
    test_world_close(&tw);
    return partner;
}

static void lose_pair(int node_size, uint32_t node)
{
    uint32_t partner = partner_of(node_size, node);

    stores_lose_node(JOB, node);
    stores_lose_node(JOB, partner);
}

/* A node and the one with its replicas: only the object store has their shards. Then everything: only it has any. */
static void test_pair_with_objects(const char *transport, int node_size)
{
    struct run run;

    use(transport, node_size);
    for (unsigned lost = 0; lost < count_nodes(node_size); lost += 2) {
        support_trying("%s, nodes of %d, node %u and its partner are lost, with objects", transport, node_size, lost);
        support_use_objects(true);
        first_run(DCACHE_DURABLE);
        lose_pair(node_size, lost);
        run_start(&run, MPI_COMM_WORLD);
        restore(&run, DCACHE_LATEST, 2);
        CHECK(stores_redundant(JOB, 2, (uint32_t)support_size));
        restore(&run, 1, 1);
        run_end(&run);
    }
    stores_lose_all(JOB);
    run_start(&run, MPI_COMM_WORLD);
    restore(&run, DCACHE_LATEST, 2);
    CHECK(stores_redundant(JOB, 2, (uint32_t)support_size));
    take(&run, 3);
    CHECK_STATUS(run.dc, dcache_wait(run.dc, 3, DCACHE_DURABLE), DCACHE_OK);
    run_end(&run);
    support_use_objects(false);
}

/* Nothing is left of some shards: an error that says so, memory as it was, and the job goes on if it wants to. */
static void test_pair_without_objects(const char *transport, int node_size)
{
    struct run run;

    support_trying("%s, nodes of %d, a node and its partner are lost for good", transport, node_size);
    use(transport, node_size);
    first_run(DCACHE_REPLICATED);
    lose_pair(node_size, 0);
    run_start(&run, MPI_COMM_WORLD);
    if (count_nodes(node_size) > 2) {
        fail_to_restore(&run, DCACHE_LATEST, DCACHE_ERR_CORRUPT);
        CHECK(strstr(dcache_error_text(run.dc), "step 2") != NULL);
        fail_to_restore(&run, 2, DCACHE_ERR_CORRUPT);
        CHECK(strstr(dcache_error_text(run.dc), "step 2") != NULL);
    } else {
        fail_to_restore(&run, DCACHE_LATEST, DCACHE_NOT_FOUND); /* those two were all */
    }
    fail_to_restore(&run, 7, DCACHE_NOT_FOUND);
    take(&run, 3);
    restore(&run, DCACHE_LATEST, 3);
    run_end(&run);
}

/* One shard of the newest step is lost: all ranks get the step before. */
static void test_older_step(const char *transport)
{
    struct run run;

    support_trying("%s, a shard of the newest step is lost", transport);
    use(transport, 1);
    for (uint32_t lost = 0; lost < (uint32_t)support_size; lost += (uint32_t)support_size - 1) {
        first_run(DCACHE_REPLICATED);
        stores_lose_shard(JOB, lost, 2);
        run_start(&run, MPI_COMM_WORLD);
        restore(&run, DCACHE_LATEST, 1);
        fail_to_restore(&run, 2, DCACHE_ERR_CORRUPT);
        take(&run, 2); /* again */
        restore(&run, DCACHE_LATEST, 2);
        run_end(&run);
    }
}

/* The stores come back as they were some steps ago, as on nodes that were out for a while: the object store knows
 * better. */
static void test_stale_stores(const char *transport)
{
    struct run run;

    support_trying("%s, node stores are older than the object store", transport);
    use(transport, 1);
    support_use_objects(true);
    first_run(DCACHE_DURABLE);
    stores_keep(JOB);
    run_start(&run, MPI_COMM_WORLD);
    restore(&run, DCACHE_LATEST, 2);
    take(&run, 3);
    take(&run, 4);
    CHECK_STATUS(run.dc, dcache_wait(run.dc, 4, DCACHE_DURABLE), DCACHE_OK);
    run_end(&run);
    stores_bring_back(JOB);
    run_start(&run, MPI_COMM_WORLD);
    restore(&run, DCACHE_LATEST, 4);
    CHECK(stores_redundant(JOB, 4, (uint32_t)support_size));
    run_end(&run);
    support_use_objects(false);
}

/* Killed in the middle of the very first checkpoint: there never was a step, so this is a first start and no loss. */
static void test_unfinished_first_step(const char *transport)
{
    struct run run;
    size_t count = 0;

    support_trying("%s, killed in the first checkpoint", transport);
    use(transport, 1);
    stores_lose_all(JOB);
    run_start(&run, MPI_COMM_WORLD);
    take(&run, 1);
    run_end(&run);
    struct stored *list = stores_list(JOB, &count);
    if (support_rank == 0) {
        stores_mark_writing(JOB, stores_find(list, count, SLOT_OWN, 1, 1));
        stores_mark_writing(JOB, stores_find(list, count, SLOT_REPLICA, 1, 1));
    }
    free(list);
    MPI_Barrier(MPI_COMM_WORLD);
    run_start(&run, MPI_COMM_WORLD);
    fail_to_restore(&run, DCACHE_LATEST, DCACHE_NOT_FOUND);
    take(&run, 1);
    restore(&run, DCACHE_LATEST, 1);
    run_end(&run);
}

/* The ranks in another order, or all moved by one. */
static MPI_Comm permuted(bool reverse)
{
    int key = reverse ? support_size - support_rank : (support_rank + 1) % support_size;
    MPI_Comm comm;

    MPI_Comm_split(MPI_COMM_WORLD, 0, key, &comm);
    return comm;
}

/* Other ranks on each node, other nodes: copies are fetched from where they are, made redundant where they belong now,
 * and the former ones are removed once a newer step is safe. */
static void test_other_placement(const char *transport, int before, int after, bool reverse, bool background)
{
    struct run run;
    MPI_Comm comm = permuted(reverse);
    size_t copies = count_nodes(after) > 1 ? 2 : 1, files = 2 * copies * (size_t)support_size;

    support_trying("%s, nodes of %d, then of %d, ranks %s", transport, before, after, reverse ? "reversed" : "rotated");
    use(transport, before);
    first_run(DCACHE_REPLICATED);
    use(transport, after);
    run_start(&run, comm);
    restore(&run, DCACHE_LATEST, 2);
    if (copies == 2)
        CHECK(stores_redundant(JOB, 2, (uint32_t)support_size));
    restore(&run, 1, 1); /* nothing was taken yet, so nothing is removed yet */
    restore(&run, 2, 2);
    fields_fill(&run.fields, 3);
    if (background) {
        CHECK_STATUS(run.dc, dcache_checkpoint_begin(run.dc, 3), DCACHE_OK);
        CHECK_STATUS(run.dc, dcache_wait(run.dc, 3, copies == 2 ? DCACHE_REPLICATED : DCACHE_STAGED), DCACHE_OK);
    } else {
        take(&run, 3);
    }
    CHECK(stores_count_files(JOB) == files);
    restore(&run, 2, 2);
    restore(&run, 3, 3);
    run_end(&run);
    MPI_Comm_free(&comm);
    use(transport, before); /* and back */
    run_start(&run, MPI_COMM_WORLD);
    restore(&run, DCACHE_LATEST, 3);
    run_end(&run);
}

/* A lost node and a new placement at the same time. */
static void test_lost_and_moved(const char *transport)
{
    struct run run;
    MPI_Comm comm = permuted(true);

    support_trying("%s, a node lost and the ranks reversed", transport);
    use(transport, 1);
    first_run(DCACHE_REPLICATED);
    stores_lose_node(JOB, (unsigned)support_size - 1);
    use(transport, support_size > 2 ? 2 : 1);
    run_start(&run, comm);
    restore(&run, DCACHE_LATEST, 2);
    CHECK(stores_redundant(JOB, 2, (uint32_t)support_size));
    run_end(&run);
    MPI_Comm_free(&comm);
}

static void test_all(const char *transport, bool reverse)
{
    int all = support_size;

    test_each_node(transport, support_size > 4 ? 2 : 1);
    if (support_size > 2)
        test_each_node(transport, support_size - 1);
    test_pair_with_objects(transport, 1);
    test_pair_without_objects(transport, 1);
    test_older_step(transport);
    test_stale_stores(transport);
    test_unfinished_first_step(transport);
    test_other_placement(transport, 1, 1, reverse, true);
    test_other_placement(transport, 1, all, reverse, false);
    test_other_placement(transport, all, 1, reverse, true);
    if (support_size > 2) {
        test_other_placement(transport, 1, 2, !reverse, false);
        test_other_placement(transport, 2, 1, !reverse, true);
    }
    test_lost_and_moved(transport);
}

int main(int argc, char **argv)
{
    support_start(&argc, &argv, MPI_THREAD_SINGLE);
    test_all("two-sided", true);
    test_all("one-sided", false);
    return support_finish();
}
