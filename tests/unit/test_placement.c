/* mpi/placement.c: rules that hold for any input, optima found by trying everything, and a few placements by hand. */
#include "mpi/placement.h"
#include "tests/unit/unit.h"

#include <inttypes.h>
#include <stdbool.h>

#define NODES_MAX 64
#define RANKS_MAX 1024

/* An input with room for its tables. */
struct sample {
    uint32_t node_of_rank[RANKS_MAX];
    uint32_t domain_of_node[NODES_MAX];
    struct placement_input input;
};

static uint32_t random_state = 1;

/* A fixed sequence of pseudo-random numbers, 0 to n - 1. */
static uint32_t draw(uint32_t n)
{
    random_state = random_state * 1664525 + 1013904223;
    return (uint32_t)((uint64_t)random_state * n >> 32);
}

static void shuffle(uint32_t *values, uint32_t n)
{
    for (uint32_t i = n; i > 1; i--) {
        uint32_t other = draw(i);
        uint32_t value = values[other];
        values[other] = values[i - 1];
        values[i - 1] = value;
    }
}

/* `nodes` nodes, each with `ranks` consecutive ranks, every node its own domain. */
static void make_even(struct sample *sample, uint32_t nodes, uint32_t ranks, uint32_t drain_ranks, uint32_t drain_nodes)
{
    for (uint32_t rank = 0; rank < nodes * ranks; rank++)
        sample->node_of_rank[rank] = rank / ranks;
    sample->input = (struct placement_input){.node_count = nodes,
                                             .rank_count = nodes * ranks,
                                             .node_of_rank = sample->node_of_rank,
                                             .drain_ranks_per_node = drain_ranks,
                                             .drain_nodes = drain_nodes};
}

static void make_random(struct sample *sample)
{
    uint32_t nodes = 1 + draw(50);
    uint32_t most = 1 + draw(16);
    uint32_t domains = 1 + draw(nodes);
    uint32_t ranks = 0;
    for (uint32_t node = 0; node < nodes; node++) {
        for (uint32_t i = draw(most) + 1; i > 0; i--)
            sample->node_of_rank[ranks++] = node;
        /* Half of the time, the first domain is a large one. */
        sample->domain_of_node[node] = draw(2) == 0 ? 7 : UINT32_MAX - draw(domains);
    }
    if (draw(2) == 0)
        shuffle(sample->node_of_rank, ranks);
    sample->input = (struct placement_input){.node_count = nodes,
                                             .rank_count = ranks,
                                             .node_of_rank = sample->node_of_rank,
                                             .domain_of_node = draw(4) == 0 ? NULL : sample->domain_of_node,
                                             .drain_ranks_per_node = 1 + draw(5),
                                             .drain_nodes = draw(nodes + 2)};
}

static struct placement compute(const struct placement_input *input)
{
    struct diag dg;
    struct placement placement;
    memset(&placement, 0xff, sizeof placement);
    diag_init(&dg, "", -1, DIAG_ERROR);
    CU_ASSERT_EQUAL_FATAL(placement_compute(&dg, input, &placement), DCACHE_OK);
    return placement;
}

static uint32_t domain_of(const struct placement_input *input, uint32_t node)
{
    return input->domain_of_node != NULL ? input->domain_of_node[node] : node;
}

static uint32_t size_of_domain(const struct placement_input *input, uint32_t domain)
{
    uint32_t size = 0;
    for (uint32_t node = 0; node < input->node_count; node++)
        size += domain_of(input, node) == domain;
    return size;
}

/* How many ranks there are on the node, and how many of these are below `rank`. */
static uint32_t count_ranks(const struct placement_input *input, uint32_t node, uint32_t below)
{
    uint32_t count = 0;
    for (uint32_t rank = 0; rank < below; rank++)
        count += input->node_of_rank[rank] == node;
    return count;
}

static void check_partners(const struct placement_input *input, const struct placement *placement)
{
    uint32_t n = input->node_count;
    bool taken[NODES_MAX] = {false};
    uint32_t same = 0;
    uint32_t largest = 0;
    for (uint32_t node = 0; node < n; node++) {
        uint32_t partner = placement->partner_of_node[node];
        uint32_t size = size_of_domain(input, domain_of(input, node));
        largest = size > largest ? size : largest;
        if (n == 1) {
            CU_ASSERT_EQUAL(partner, PLACEMENT_NONE);
            continue;
        }
        CU_ASSERT_FATAL(partner < n && partner != node);
        CU_ASSERT_FALSE(taken[partner]);
        taken[partner] = true;
        same += domain_of(input, node) == domain_of(input, partner);
    }
    CU_ASSERT_EQUAL(placement->same_domain_nodes, same);
    CU_ASSERT_EQUAL(same, n > 1 && 2 * largest > n ? 2 * largest - n : 0);
}

/* Loads of the ranks on each node among the first `ranks_per_node` differ by at most one, the others have none. */
static void check_even_on_nodes(const struct placement_input *input, const uint32_t *load, uint32_t ranks_per_node)
{
    uint32_t low[NODES_MAX];
    uint32_t high[NODES_MAX] = {0};
    uint32_t seen[NODES_MAX] = {0};
    memset(low, 0xff, sizeof low);
    for (uint32_t rank = 0; rank < input->rank_count; rank++) {
        uint32_t node = input->node_of_rank[rank];
        if (seen[node]++ >= ranks_per_node) {
            CU_ASSERT_EQUAL(load[rank], 0);
            continue;
        }
        low[node] = load[rank] < low[node] ? load[rank] : low[node];
        high[node] = load[rank] > high[node] ? load[rank] : high[node];
    }
    for (uint32_t node = 0; node < input->node_count; node++)
        CU_ASSERT(high[node] - low[node] <= 1);
}

static void check_hosts(const struct placement_input *input, const struct placement *placement)
{
    uint32_t load[RANKS_MAX] = {0};
    for (uint32_t rank = 0; rank < input->rank_count; rank++) {
        uint32_t partner = placement->partner_of_node[input->node_of_rank[rank]];
        uint32_t host = placement->host_of_rank[rank];
        if (partner == PLACEMENT_NONE) {
            CU_ASSERT_EQUAL(host, PLACEMENT_NONE);
            continue;
        }
        CU_ASSERT_FATAL(host < input->rank_count);
        CU_ASSERT_EQUAL(input->node_of_rank[host], partner);
        uint32_t place = count_ranks(input, input->node_of_rank[rank], rank);
        uint32_t ranks = count_ranks(input, partner, input->rank_count);
        CU_ASSERT_EQUAL(count_ranks(input, partner, host), place % ranks);
        load[host]++;
    }
    check_even_on_nodes(input, load, UINT32_MAX);
}

/* The fewest nodes that reach every shard: half of each cycle of partners, rounded up. */
static uint32_t smallest_cover(const struct placement_input *input, const struct placement *placement)
{
    bool seen[NODES_MAX] = {false};
    uint32_t cover = 0;
    if (input->node_count == 1)
        return 1;
    for (uint32_t start = 0; start < input->node_count; start++) {
        uint32_t length = 0;
        for (uint32_t node = start; !seen[node]; node = placement->partner_of_node[node]) {
            seen[node] = true;
            length++;
        }
        cover += (length + 1) / 2;
    }
    return cover;
}

/* Count the shards of each drain rank into `load`. Returns how many nodes drain. */
static uint32_t count_drain_loads(const struct placement_input *input, const struct placement *placement,
                                  uint32_t load[RANKS_MAX])
{
    bool drains[NODES_MAX] = {false};
    uint32_t nodes = 0;
    memset(load, 0, RANKS_MAX * sizeof *load);
    for (uint32_t rank = 0; rank < input->rank_count; rank++) {
        uint32_t drainer = placement->drainer_of_rank[rank];
        CU_ASSERT_FATAL(drainer < input->rank_count);
        uint32_t node = input->node_of_rank[drainer];
        CU_ASSERT(node == input->node_of_rank[rank] || node == placement->partner_of_node[input->node_of_rank[rank]]);
        load[drainer]++;
        nodes += !drains[node];
        drains[node] = true;
    }
    return nodes;
}

static void check_drainers(const struct placement_input *input, const struct placement *placement)
{
    uint32_t load[RANKS_MAX];
    uint32_t nodes = count_drain_loads(input, placement, load);
    uint32_t cover = smallest_cover(input, placement);
    uint32_t limit = input->drain_nodes == 0 ? input->node_count : input->drain_nodes;
    CU_ASSERT(nodes <= (limit > cover ? limit : cover));
    if (limit <= cover)
        CU_ASSERT_EQUAL(nodes, cover);
    check_even_on_nodes(input, load, input->drain_ranks_per_node);
}

static void test_random_inputs(void)
{
    static struct sample sample;
    random_state = 1;
    for (int round = 0; round < 3000; round++) {
        make_random(&sample);
        struct placement placement = compute(&sample.input);
        check_partners(&sample.input, &placement);
        check_hosts(&sample.input, &placement);
        check_drainers(&sample.input, &placement);
        placement_free(&placement);
    }
}

static void test_same_answer_twice(void)
{
    static struct sample sample;
    random_state = 2;
    for (int round = 0; round < 50; round++) {
        make_random(&sample);
        struct placement a = compute(&sample.input);
        struct placement b = compute(&sample.input);
        size_t nodes = sample.input.node_count * sizeof(uint32_t);
        size_t ranks = sample.input.rank_count * sizeof(uint32_t);
        CU_ASSERT_EQUAL(memcmp(a.partner_of_node, b.partner_of_node, nodes), 0);
        CU_ASSERT_EQUAL(memcmp(a.host_of_rank, b.host_of_rank, ranks), 0);
        CU_ASSERT_EQUAL(memcmp(a.drainer_of_rank, b.drainer_of_rank, ranks), 0);
        placement_free(&a);
        placement_free(&b);
    }
}

/* The fewest nodes with a partner in their own domain, over all permutations without fixed points from `node` on. */
static uint32_t fewest_same(const struct placement_input *input, uint32_t node, uint32_t taken)
{
    uint32_t fewest = UINT32_MAX - 1;
    if (node == input->node_count)
        return 0;
    for (uint32_t partner = 0; partner < input->node_count; partner++) {
        if (partner == node || (taken >> partner & 1) != 0)
            continue;
        uint32_t here = domain_of(input, node) == domain_of(input, partner);
        uint32_t rest = fewest_same(input, node + 1, taken | 1U << partner);
        fewest = here + rest < fewest ? here + rest : fewest;
    }
    return fewest;
}

/* Try every way to divide up to 7 nodes into domains, each domain being called after its first node. */
static void check_domains_from(struct sample *sample, uint32_t node)
{
    if (node == sample->input.node_count) {
        struct placement placement = compute(&sample->input);
        check_partners(&sample->input, &placement);
        CU_ASSERT_EQUAL(placement.same_domain_nodes, fewest_same(&sample->input, 0, 0));
        placement_free(&placement);
        return;
    }
    for (uint32_t domain = 0; domain <= node; domain++) {
        if (domain < node && sample->domain_of_node[domain] != domain)
            continue;
        sample->domain_of_node[node] = domain;
        check_domains_from(sample, node + 1);
    }
}

static void test_partners_are_optimal(void)
{
    static struct sample sample;
    for (uint32_t nodes = 2; nodes <= 7; nodes++) {
        make_even(&sample, nodes, 1, 1, 0);
        sample.input.domain_of_node = sample.domain_of_node;
        check_domains_from(&sample, 0);
    }
}

/* How many shards the busiest of the node's drain ranks has when the node has `shards`. */
static uint32_t load_of_each(const struct placement_input *input, uint32_t node, bool drains, uint32_t shards)
{
    uint32_t ranks = count_ranks(input, node, input->rank_count);
    uint32_t drain_ranks = ranks < input->drain_ranks_per_node ? ranks : input->drain_ranks_per_node;
    if (!drains)
        return shards == 0 ? 0 : UINT32_MAX;
    return (shards + drain_ranks - 1) / drain_ranks;
}

/* The least load that the busiest drain rank can have: try how many shards each node leaves to its partner. */
static uint32_t least_load(const struct placement_input *input, const struct placement *placement, const bool *drains,
                           uint32_t node, uint32_t load[NODES_MAX])
{
    uint32_t busiest = 0;
    if (node == input->node_count) {
        for (uint32_t i = 0; i < input->node_count; i++) {
            uint32_t each = load_of_each(input, i, drains[i], load[i]);
            busiest = each > busiest ? each : busiest;
        }
        return busiest;
    }
    uint32_t least = UINT32_MAX;
    uint32_t shards = count_ranks(input, node, input->rank_count);
    uint32_t partner = placement->partner_of_node[node];
    for (uint32_t left = 0; left <= shards; left++) {
        load[node] += shards - left;
        load[partner] += left;
        busiest = least_load(input, placement, drains, node + 1, load);
        least = busiest < least ? busiest : least;
        load[node] -= shards - left;
        load[partner] -= left;
    }
    return least;
}

static uint32_t busiest_drain_rank(const struct placement_input *input, const struct placement *placement)
{
    uint32_t load[RANKS_MAX];
    uint32_t busiest = 0;
    (void)count_drain_loads(input, placement, load);
    for (uint32_t rank = 0; rank < input->rank_count; rank++)
        busiest = load[rank] > busiest ? load[rank] : busiest;
    return busiest;
}

/* With the nodes that were chosen to drain, no other way to share the shards is better. */
static void test_drain_loads_are_optimal(void)
{
    static struct sample sample;
    const struct placement_input *input = &sample.input;
    random_state = 3;
    for (int round = 0; round < 400; round++) {
        uint32_t load[NODES_MAX] = {0};
        bool drains[NODES_MAX] = {false};
        do {
            make_random(&sample);
        } while (input->node_count < 2 || input->node_count > 5 || input->rank_count > 25);
        struct placement placement = compute(input);
        for (uint32_t rank = 0; rank < input->rank_count; rank++)
            drains[input->node_of_rank[placement.drainer_of_rank[rank]]] = true;
        CU_ASSERT_EQUAL(busiest_drain_rank(input, &placement), least_load(input, &placement, drains, 0, load));
        placement_free(&placement);
    }
}

/* Equal nodes that all drain: every drain rank has the same load, but for one shard. */
static void test_equal_nodes_are_balanced(void)
{
    static struct sample sample;
    for (uint32_t nodes = 1; nodes <= 12; nodes++) {
        for (uint32_t ranks = 1; ranks <= 9; ranks++) {
            for (uint32_t drain_ranks = 1; drain_ranks <= 10; drain_ranks++) {
                uint32_t load[RANKS_MAX];
                make_even(&sample, nodes, ranks, drain_ranks, 0);
                struct placement placement = compute(&sample.input);
                uint32_t width = drain_ranks < ranks ? drain_ranks : ranks;
                CU_ASSERT_EQUAL(count_drain_loads(&sample.input, &placement, load), nodes);
                for (uint32_t rank = 0; rank < nodes * ranks; rank++) {
                    if (rank % ranks < width)
                        CU_ASSERT(load[rank] == ranks / width || load[rank] == ranks / width + 1);
                }
                placement_free(&placement);
            }
        }
    }
}

/* Equal nodes of which some drain: as many as wanted, none with more than the shards of two nodes. */
static void test_drain_nodes_limit(void)
{
    static struct sample sample;
    for (uint32_t nodes = 2; nodes <= 20; nodes++) {
        for (uint32_t limit = 1; limit <= nodes + 1; limit++) {
            uint32_t load[RANKS_MAX];
            make_even(&sample, nodes, 6, 4, limit);
            struct placement placement = compute(&sample.input);
            uint32_t cover = smallest_cover(&sample.input, &placement);
            uint32_t want = limit < cover ? cover : limit > nodes ? nodes : limit;
            CU_ASSERT_EQUAL(count_drain_loads(&sample.input, &placement, load), want);
            CU_ASSERT(busiest_drain_rank(&sample.input, &placement) <= 3);
            if (limit < cover && nodes % 2 == 0) {
                for (uint32_t rank = 0; rank < sample.input.rank_count; rank++)
                    CU_ASSERT(load[rank] == 0 || load[rank] == 3); /* 12 shards for 4 drain ranks */
            }
            placement_free(&placement);
        }
    }
}

/* Four racks of four nodes, half of which drain: two in each rack; and with twelve, three in each. */
static void test_drain_nodes_are_spread(void)
{
    static struct sample sample;
    for (uint32_t limit = 8; limit <= 12; limit += 4) {
        uint32_t load[RANKS_MAX];
        uint32_t in_rack[4] = {0};
        make_even(&sample, 16, 2, 1, limit);
        for (uint32_t node = 0; node < 16; node++)
            sample.domain_of_node[node] = node / 4;
        sample.input.domain_of_node = sample.domain_of_node;
        struct placement placement = compute(&sample.input);
        (void)count_drain_loads(&sample.input, &placement, load);
        for (uint32_t rank = 0; rank < 32; rank++)
            in_rack[rank / 2 / 4] += load[rank] > 0;
        for (uint32_t rack = 0; rack < 4; rack++)
            CU_ASSERT_EQUAL(in_rack[rack], limit / 4);
        placement_free(&placement);
    }
}

static void test_one_node(void)
{
    static struct sample sample;
    static const uint32_t want[] = {0, 1, 2, 0, 1};
    make_even(&sample, 1, 5, 3, 1);
    struct placement placement = compute(&sample.input);
    CU_ASSERT_EQUAL(placement.partner_of_node[0], PLACEMENT_NONE);
    CU_ASSERT_EQUAL(placement.same_domain_nodes, 0);
    for (uint32_t rank = 0; rank < 5; rank++) {
        CU_ASSERT_EQUAL(placement.host_of_rank[rank], PLACEMENT_NONE);
        CU_ASSERT_EQUAL(placement.drainer_of_rank[rank], want[rank]);
    }
    placement_free(&placement);
}

/* Two racks of two nodes, ranks dealt out in turn: worked out by hand. */
static void test_by_hand(void)
{
    static const uint32_t node_of_rank[] = {0, 1, 2, 3, 0, 1, 2, 3, 0};
    static const uint32_t domain_of_node[] = {9, 4, 9, 4};
    const struct placement_input input = {.node_count = 4,
                                          .rank_count = 9,
                                          .node_of_rank = node_of_rank,
                                          .domain_of_node = domain_of_node,
                                          .drain_ranks_per_node = 1};
    struct placement placement = compute(&input);
    /* Sorted by rack 1 3 0 2; two places on stands 0 2 1 3. */
    static const uint32_t partner_in_other_rack[] = {1, 0, 3, 2};
    static const uint32_t host[] = {1, 0, 3, 2, 5, 4, 7, 6, 1};
    CU_ASSERT_EQUAL(memcmp(placement.partner_of_node, partner_in_other_rack, sizeof partner_in_other_rack), 0);
    CU_ASSERT_EQUAL(memcmp(placement.host_of_rank, host, sizeof host), 0);
    CU_ASSERT_EQUAL(placement.same_domain_nodes, 0);
    for (uint32_t rank = 0; rank < 9; rank++)
        CU_ASSERT_EQUAL(placement.drainer_of_rank[rank], node_of_rank[rank]);
    placement_free(&placement);

    static const uint32_t partner_in_ring[] = {1, 2, 3, 0};
    struct placement_input no_racks = input;
    no_racks.domain_of_node = NULL;
    placement = compute(&no_racks);
    CU_ASSERT_EQUAL(memcmp(placement.partner_of_node, partner_in_ring, sizeof partner_in_ring), 0);
    placement_free(&placement);
}

static void check_refused(const struct placement_input *input, const char *part)
{
    struct diag dg;
    struct placement placement;
    struct placement before;
    memset(&placement, 0x5a, sizeof placement);
    memset(&before, 0x5a, sizeof before);
    diag_init(&dg, "", -1, DIAG_ERROR);
    CU_ASSERT_EQUAL(placement_compute(&dg, input, &placement), DCACHE_ERR_INVALID);
    CU_ASSERT_PTR_NOT_NULL(strstr(dg.text, part));
    CU_ASSERT_EQUAL(memcmp(&placement, &before, sizeof placement), 0);
}

static void test_bad_inputs(void)
{
    static const uint32_t node_of_rank[] = {0, 0, 2, 3};
    const struct placement_input good = {
        .node_count = 3, .rank_count = 3, .node_of_rank = node_of_rank, .drain_ranks_per_node = 1};
    check_refused(&good, "node 1 has no rank");
    struct placement_input bad = good;
    bad.rank_count = 4;
    check_refused(&bad, "rank 3 is on node 3, but there are 3 nodes");
    bad = good;
    bad.node_count = 0;
    check_refused(&bad, "0 nodes");
    bad = good;
    bad.rank_count = 2;
    check_refused(&bad, "2 ranks on 3 nodes");
    bad = good;
    bad.drain_ranks_per_node = 0;
    check_refused(&bad, "drain_ranks_per_node");
    bad = good;
    bad.node_count = UINT32_MAX;
    bad.rank_count = UINT32_MAX;
    check_refused(&bad, "4294967295 nodes");
}

static void test_free_twice(void)
{
    static struct sample sample;
    make_even(&sample, 3, 2, 1, 0);
    struct placement placement = compute(&sample.input);
    placement_free(&placement);
    CU_ASSERT_PTR_NULL(placement.partner_of_node);
    placement_free(&placement);
}

/* 100,000 nodes in racks of 40, with 8 ranks each, dealt out in turn; a third of the nodes may not drain. */
static void test_large_cluster(void)
{
    const uint32_t nodes = 100000;
    const uint32_t ranks = 8 * nodes;
    uint32_t *node_of_rank = calloc(ranks, sizeof *node_of_rank);
    uint32_t *domain_of_node = calloc(nodes, sizeof *domain_of_node);
    uint32_t *load = calloc(ranks, sizeof *load);
    CU_ASSERT_FATAL(node_of_rank != NULL && domain_of_node != NULL && load != NULL);
    for (uint32_t rank = 0; rank < ranks; rank++)
        node_of_rank[rank] = rank % nodes;
    for (uint32_t node = 0; node < nodes; node++)
        domain_of_node[node] = node / 40;
    const struct placement_input input = {.node_count = nodes,
                                          .rank_count = ranks,
                                          .node_of_rank = node_of_rank,
                                          .domain_of_node = domain_of_node,
                                          .drain_ranks_per_node = 2,
                                          .drain_nodes = 66666};
    struct placement placement = compute(&input);
    uint32_t busiest = 0;
    for (uint32_t rank = 0; rank < ranks; rank++) {
        uint32_t drainer = placement.drainer_of_rank[rank];
        uint32_t node = node_of_rank[rank];
        CU_ASSERT(node_of_rank[drainer] == node || node_of_rank[drainer] == placement.partner_of_node[node]);
        load[drainer]++;
        busiest = load[drainer] > busiest ? load[drainer] : busiest;
    }
    CU_ASSERT_EQUAL(placement.same_domain_nodes, 0);
    CU_ASSERT(busiest >= 6 && busiest <= 8);
    placement_free(&placement);
    free(node_of_rank);
    free(domain_of_node);
    free(load);
}

int main(void)
{
    static const struct unit_case cases[] = {
        {"random inputs", test_random_inputs},
        {"the same answer twice", test_same_answer_twice},
        {"partners: all domains of up to 7 nodes", test_partners_are_optimal},
        {"drain loads are the least possible", test_drain_loads_are_optimal},
        {"drain loads of equal nodes", test_equal_nodes_are_balanced},
        {"drain nodes: limit", test_drain_nodes_limit},
        {"drain nodes: spread over racks", test_drain_nodes_are_spread},
        {"one node", test_one_node},
        {"by hand", test_by_hand},
        {"bad inputs", test_bad_inputs},
        {"free twice", test_free_twice},
        {"a large cluster", test_large_cluster},
    };
    return unit_main("placement", cases, UNIT_COUNT(cases));
}
