/* Agreement: whatever the ranks bring, all leave with the worst status, the words of the lowest rank that has it, and,
 * when all is well, the largest of each value. Also how ranks are put on nodes, which all agreement rests on. */
#include "mpi/agree.h"
#include "mpi_support.h"
#include "mpi_world.h"

#include <stdio.h>
#include <string.h>

static const dcache_status_t statuses[] = {
#define STATUS(name, number, text) DCACHE_##name,
    DCACHE_STATUS_MAP(STATUS)
#undef STATUS
};
#define STATUSES (sizeof statuses / sizeof statuses[0])

/* Errors are worse than answers, answers than success; of two of a kind the larger number is the worse. */
static bool worse(dcache_status_t a, dcache_status_t b)
{
    if ((a < 0) != (b < 0))
        return a < 0;
    return a < 0 ? a < b : a > b;
}

/* What each rank brings follows from the seed, so that each rank can tell what must come out. */
static void test_random_statuses(struct test_world *tw, uint64_t seed)
{
    for (int round = 0; round < 300; round++) {
        dcache_status_t worst = DCACHE_OK, mine = DCACHE_OK;
        int worst_rank = 0;
        char expected[128];
        for (int r = 0; r < support_size; r++) {
            dcache_status_t status = DCACHE_OK;
            if (support_random_below(&seed, 3) == 0)
                status = statuses[support_random_below(&seed, STATUSES)];
            if (worse(status, worst)) {
                worst = status;
                worst_rank = r;
            }
            if (r == support_rank)
                mine = status;
        }
        snprintf(tw->dg.text, sizeof tw->dg.text, "text %d of round %d", support_rank, round);
        snprintf(expected, sizeof expected, "rank %d: text %d of round %d", worst_rank, worst_rank, round);
        CHECK(agree(&tw->world, &tw->dg, NULL, mine) == worst);
        if (worst < 0)
            CHECK(strcmp(tw->dg.text, expected) == 0);
    }
}

static void test_values(struct test_world *tw, uint64_t seed)
{
    int64_t values[AGREE_VALUES_MAX] = {0}, largest[AGREE_VALUES_MAX] = {0};

    for (int count = 0; count <= AGREE_VALUES_MAX; count += 16) {
        for (int i = 0; i < count; i++) {
            largest[i] = INT64_MIN;
            for (int r = 0; r < support_size; r++) {
                int64_t value = (int64_t)support_random(&seed);
                largest[i] = value > largest[i] ? value : largest[i];
                if (r == support_rank)
                    values[i] = value;
            }
        }
        CHECK(agree_values(&tw->world, &tw->dg, NULL, DCACHE_OK, values, count) == DCACHE_OK);
        CHECK(memcmp(values, largest, (size_t)count * sizeof values[0]) == 0);
    }
}

/* Outputs are set on success only. */
static void test_values_and_failure(struct test_world *tw)
{
    int64_t value = 5 + support_rank;
    bool last = support_rank == support_size - 1;
    dcache_status_t mine = last ? diag_fail(&tw->dg, DCACHE_ERR_NO_SPACE, "the tier is full") : DCACHE_OK;

    CHECK(agree_values(&tw->world, &tw->dg, NULL, mine, &value, 1) == DCACHE_ERR_NO_SPACE);
    CHECK(value == 5 + support_rank);
    CHECK(strstr(tw->dg.text, "the tier is full") != NULL);
    CHECK_SAME(DCACHE_ERR_NO_SPACE, tw->dg.text);
}

/* A text that went through an agreement once keeps the number of the rank where it happened. */
static void test_agreed_twice(struct test_world *tw)
{
    bool last = support_rank == support_size - 1;
    dcache_status_t mine = last ? diag_fail(&tw->dg, DCACHE_ERR_IO, "cannot read") : DCACHE_OK;
    char expected[64];

    snprintf(expected, sizeof expected, "rank %d: cannot read", support_size - 1);
    dcache_status_t status = agree(&tw->world, &tw->dg, NULL, mine);
    CHECK(status == DCACHE_ERR_IO && strcmp(tw->dg.text, expected) == 0);
    CHECK(agree(&tw->world, &tw->dg, NULL, status) == DCACHE_ERR_IO && strcmp(tw->dg.text, expected) == 0);
}

/* The longest text arrives whole but for its end, and ends. */
static void test_long_text(struct test_world *tw)
{
    memset(tw->dg.text, 'x', sizeof tw->dg.text - 1);
    tw->dg.text[sizeof tw->dg.text - 1] = '\0';
    CHECK(agree(&tw->world, &tw->dg, NULL, DCACHE_ERR_INTERNAL) == DCACHE_ERR_INTERNAL);
    CHECK(strncmp(tw->dg.text, "rank 0: xxx", 11) == 0 && strlen(tw->dg.text) > 900);
    CHECK_SAME(DCACHE_ERR_INTERNAL, tw->dg.text);
}

/* While rank 0 is late the others' progress is called: the last rank comes only when a message from it came. */
struct late {
    int done;
    MPI_Request request;
};

static void look(void *context)
{
    struct late *late = context;

    if (!late->done)
        MPI_Test(&late->request, &late->done, MPI_STATUS_IGNORE);
}

static void test_idle(struct test_world *tw)
{
    struct late late = {0, MPI_REQUEST_NULL};
    const struct agree_idle idle = {look, &late};
    int last = support_size - 1, token = 0;

    if (support_rank == 0)
        MPI_Irecv(&token, 1, MPI_INT, last, 7, MPI_COMM_WORLD, &late.request);
    if (support_rank == last && last > 0) {
        token = 42;
        MPI_Ssend(&token, 1, MPI_INT, 0, 7, MPI_COMM_WORLD); /* returns when rank 0, in its agreement, has received */
    }
    CHECK(agree(&tw->world, &tw->dg, &idle, DCACHE_OK) == DCACHE_OK);
    if (support_rank == 0 && last > 0) {
        MPI_Wait(&late.request, MPI_STATUS_IGNORE);
        CHECK(token == 42);
    }
}

/* Every rank's view of the nodes: the same on all, each rank listed once on its node. */
static void test_nodes(int node_size)
{
    struct test_world tw;
    uint32_t nodes = (uint32_t)((support_size + node_size - 1) / node_size);

    test_world_open(&tw, node_size);
    const struct world *w = &tw.world;
    CHECK(w->node_count == nodes && w->host_count == 1 && w->virtual_count == nodes);
    CHECK(w->node == (uint32_t)(support_rank / node_size) && w->virtual_index == w->node);
    CHECK(w->node_rank == support_rank % node_size);
    for (uint32_t n = 0; n < nodes; n++) {
        uint32_t first = w->first_of_node[n], end = w->first_of_node[n + 1];
        CHECK(first == n * (uint32_t)node_size && end > first && end <= (uint32_t)support_size);
        for (uint32_t i = first; i < end; i++)
            CHECK(w->rank_by_node[i] == i && w->node_of_rank[i] == n);
    }
    for (uint32_t r = 0; nodes > 1 && r < (uint32_t)support_size; r++)
        CHECK(w->node_of_rank[tw.placement.host_of_rank[r]] != w->node_of_rank[r]);
    test_world_close(&tw);
}

int main(int argc, char **argv)
{
    struct test_world tw;

    support_start(&argc, &argv, MPI_THREAD_SINGLE);
    uint64_t seed = support_seed();
    test_world_open(&tw, 1);
    test_random_statuses(&tw, seed);
    test_values(&tw, seed + 1);
    test_values_and_failure(&tw);
    test_agreed_twice(&tw);
    test_long_text(&tw);
    test_idle(&tw);
    test_world_close(&tw);
    for (int node_size = 1; node_size <= support_size; node_size++)
        test_nodes(node_size);
    return support_finish();
}
