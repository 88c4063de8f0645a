#include "mpi/placement.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* What is worked with on the way. Nodes are looked at in cycles: each node's partner is the next one of its cycle. */
struct work {
    const struct placement_input *input;
    uint32_t *first;       /* node_count + 1: where in `ranks` the ranks of a node begin */
    uint32_t *ranks;       /* all ranks, node after node, ascending in each */
    uint64_t *sorted;      /* nodes by failure domain: domain << 32 | node */
    uint32_t *cycles;      /* all nodes, cycle after cycle */
    uint32_t cycle_length; /* the same for all cycles */
    bool *drains;          /* which nodes drain */
    uint32_t *incoming;    /* how many shards a node drains for the node before it in the cycle */
};

static uint32_t ranks_on(const struct work *work, uint32_t node)
{
    return work->first[node + 1] - work->first[node];
}

/* How many ranks of the node drain. */
static uint32_t drain_ranks_on(const struct work *work, uint32_t node)
{
    uint32_t ranks = ranks_on(work, node);
    uint32_t most = work->input->drain_ranks_per_node;
    if (!work->drains[node])
        return 0;
    return ranks < most ? ranks : most;
}

static void free_work(struct work *work)
{
    free(work->first);
    free(work->ranks);
    free(work->sorted);
    free(work->cycles);
    free(work->drains);
    free(work->incoming);
}

static bool allocate(struct work *work, struct placement *placement)
{
    size_t nodes = work->input->node_count;
    size_t ranks = work->input->rank_count;
    work->first = calloc(nodes + 1, sizeof *work->first);
    work->ranks = calloc(ranks, sizeof *work->ranks);
    work->sorted = calloc(nodes, sizeof *work->sorted);
    work->cycles = calloc(nodes, sizeof *work->cycles);
    work->drains = calloc(nodes, sizeof *work->drains);
    work->incoming = calloc(nodes, sizeof *work->incoming);
    placement->partner_of_node = calloc(nodes, sizeof *placement->partner_of_node);
    placement->host_of_rank = calloc(ranks, sizeof *placement->host_of_rank);
    placement->drainer_of_rank = calloc(ranks, sizeof *placement->drainer_of_rank);
    return work->first != NULL && work->ranks != NULL && work->sorted != NULL && work->cycles != NULL &&
           work->drains != NULL && work->incoming != NULL && placement->partner_of_node != NULL &&
           placement->host_of_rank != NULL && placement->drainer_of_rank != NULL;
}

static dcache_status_t check_counts(struct diag *dg, const struct placement_input *input)
{
    if (input->node_count == 0 || input->node_count == PLACEMENT_NONE)
        return diag_fail(dg, DCACHE_ERR_INVALID, "placement: %u nodes; there must be 1 to %u", input->node_count,
                         PLACEMENT_NONE - 1);
    if (input->rank_count < input->node_count || input->rank_count == PLACEMENT_NONE)
        return diag_fail(dg, DCACHE_ERR_INVALID,
                         "placement: %u ranks on %u nodes; each node must have one, and %u is "
                         "too many",
                         input->rank_count, input->node_count, PLACEMENT_NONE);
    if (input->drain_ranks_per_node == 0)
        return diag_fail(dg, DCACHE_ERR_INVALID, "placement: drain_ranks_per_node is 0; there must be at least 1");
    return DCACHE_OK;
}

/* Fill first[] and ranks[]. */
static dcache_status_t list_ranks(struct diag *dg, struct work *work)
{
    const struct placement_input *input = work->input;
    for (uint32_t rank = 0; rank < input->rank_count; rank++) {
        uint32_t node = input->node_of_rank[rank];
        if (node >= input->node_count)
            return diag_fail(dg, DCACHE_ERR_INVALID, "placement: rank %u is on node %u, but there are %u nodes", rank,
                             node, input->node_count);
        work->first[node]++;
    }
    uint32_t end = 0;
    for (uint32_t node = 0; node < input->node_count; node++) {
        if (work->first[node] == 0)
            return diag_fail(dg, DCACHE_ERR_INVALID, "placement: node %u has no rank", node);
        end += work->first[node];
        work->first[node] = end;
    }
    work->first[input->node_count] = end;
    for (uint32_t rank = input->rank_count; rank-- > 0;)
        work->ranks[--work->first[input->node_of_rank[rank]]] = rank;
    return DCACHE_OK;
}

static int compare_keys(const void *a, const void *b)
{
    uint64_t x;
    uint64_t y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

static uint64_t sort_key(const struct work *work, uint32_t node)
{
    const uint32_t *domains = work->input->domain_of_node;
    return (uint64_t)(domains != NULL ? domains[node] : node) << 32 | node;
}

/* Sort the nodes by failure domain. Returns the size of the largest domain. */
static uint32_t sort_nodes(struct work *work)
{
    uint32_t nodes = work->input->node_count;
    for (uint32_t node = 0; node < nodes; node++)
        work->sorted[node] = sort_key(work, node);
    qsort(work->sorted, nodes, sizeof *work->sorted, compare_keys);
    uint32_t largest = 0;
    uint32_t size = 0;
    for (uint32_t i = 0; i < nodes; i++) {
        bool same = i > 0 && work->sorted[i] >> 32 == work->sorted[i - 1] >> 32;
        size = same ? size + 1 : 1;
        largest = size > largest ? size : largest;
    }
    return largest;
}

static uint32_t greatest_common_divisor(uint32_t a, uint32_t b)
{
    while (b != 0) {
        uint32_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/*
 * The partner is the node so many places further on in the sorted list as the largest domain, L, has nodes. No domain
 * reaches that far, and, as long as L has no more than half of the nodes, none does around the end either. When L has
 * more, the nodes outside of L have their partners in L and are the partners of as many nodes of L; for the rest of L
 * there is nobody else outside, so no choice could be better. One domain alone makes a ring.
 */
static void choose_partners(struct work *work, struct placement *placement)
{
    uint32_t nodes = work->input->node_count;
    uint32_t largest = sort_nodes(work);
    uint64_t shift = largest < nodes ? largest : 1;
    uint32_t cycle_count = greatest_common_divisor(nodes, (uint32_t)shift);
    uint32_t *at = work->cycles;
    work->cycle_length = nodes / cycle_count;
    for (uint32_t start = 0; start < cycle_count; start++) {
        uint64_t place = start;
        for (uint32_t i = 0; i < work->cycle_length; i++) {
            uint64_t next = (place + shift) % nodes;
            uint32_t node = (uint32_t)work->sorted[place];
            bool same = work->sorted[place] >> 32 == work->sorted[next] >> 32;
            placement->partner_of_node[node] = nodes > 1 ? (uint32_t)work->sorted[next] : PLACEMENT_NONE;
            placement->same_domain_nodes += nodes > 1 && same;
            *at++ = node;
            place = next;
        }
    }
}

static void choose_hosts(const struct work *work, struct placement *placement)
{
    for (uint32_t node = 0; node < work->input->node_count; node++) {
        uint32_t partner = placement->partner_of_node[node];
        const uint32_t *ranks = work->ranks + work->first[node];
        for (uint32_t i = 0; i < ranks_on(work, node); i++) {
            uint32_t host = PLACEMENT_NONE;
            if (partner != PLACEMENT_NONE)
                host = work->ranks[work->first[partner] + i % ranks_on(work, partner)];
            placement->host_of_rank[ranks[i]] = host;
        }
    }
}

/* Every second node of each cycle drains, so that of a shard's two holders one does. Returns how many those are. */
static uint32_t choose_cover(struct work *work)
{
    uint32_t length = work->cycle_length;
    uint32_t in_cycle = length / 2 + length % 2;
    uint32_t cycle_count = work->input->node_count / length;
    for (uint32_t c = 0; c < cycle_count; c++) {
        const uint32_t *cycle = work->cycles + (size_t)c * length;
        /* Neighbouring cycles begin in the same domain: start them differently, so that each domain gets its share. */
        for (uint32_t i = 0; i < in_cycle; i++)
            work->drains[cycle[((uint64_t)c + 2 * (uint64_t)i) % length]] = true;
    }
    return cycle_count * in_cycle;
}

static void choose_drain_nodes(struct work *work)
{
    uint32_t nodes = work->input->node_count;
    uint32_t limit = work->input->drain_nodes;
    if (limit == 0 || limit >= nodes) {
        memset(work->drains, true, nodes * sizeof *work->drains);
        return;
    }
    uint32_t cover = choose_cover(work);
    uint64_t more = limit > cover ? limit - cover : 0;
    uint64_t others = nodes - cover;
    uint64_t seen = 0;
    for (uint32_t node = 0; node < nodes; node++) {
        if (work->drains[node])
            continue;
        /* Evenly spread: seen * more / others of those seen have been taken. */
        work->drains[node] = (seen + 1) * more / others > seen * more / others;
        seen++;
    }
}

/*
 * Can the drain ranks of a cycle do with at most `most` shards each? A node keeps of its own shards what it has room
 * for, besides those that come from the node before it, and leaves the rest to the node after it: less cannot be left.
 * How many come to the first node is known after one turn; if one more turn agrees, `incoming` is a solution, and if it
 * does not, the shards are more than the room. */
static bool fits(struct work *work, const uint32_t *cycle, uint64_t most)
{
    uint64_t left = 0;
    for (int turn = 0; turn < 2; turn++) {
        for (uint32_t i = 0; i < work->cycle_length; i++) {
            uint64_t room = most * drain_ranks_on(work, cycle[i]);
            uint64_t own = ranks_on(work, cycle[i]);
            if (left > room)
                return false;
            work->incoming[cycle[i]] = (uint32_t)left;
            room -= left;
            left = own > room ? own - room : 0;
        }
    }
    return left == work->incoming[cycle[0]];
}

/* Find the least load of the busiest drain rank of a cycle, and leave in `incoming` how to get there. */
static void balance_cycle(struct work *work, const uint32_t *cycle)
{
    uint64_t low = 1;
    uint64_t high = work->input->rank_count; /* always fits: one of the two holders drains */
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (fits(work, cycle, middle))
            high = middle;
        else
            low = middle + 1;
    }
    (void)fits(work, cycle, low);
}

/* The first shards of `node` stay, the last ones go to the node after it, whose drain ranks have their own first. */
static void assign_node(const struct work *work, uint32_t node, uint32_t next, uint32_t after_next,
                        struct placement *placement)
{
    const uint32_t *ranks = work->ranks + work->first[node];
    uint32_t count = ranks_on(work, node);
    uint32_t kept = count - work->incoming[next];
    uint32_t kept_next = ranks_on(work, next) - work->incoming[after_next];
    for (uint32_t i = 0; i < count; i++) {
        uint32_t drain_node = i < kept ? node : next;
        uint32_t turn = i < kept ? i : kept_next + (i - kept);
        uint32_t drainer = work->first[drain_node] + turn % drain_ranks_on(work, drain_node);
        placement->drainer_of_rank[ranks[i]] = work->ranks[drainer];
    }
}

static void choose_drainers(struct work *work, struct placement *placement)
{
    uint32_t length = work->cycle_length;
    choose_drain_nodes(work);
    for (size_t start = 0; start < work->input->node_count; start += length) {
        const uint32_t *cycle = work->cycles + start;
        balance_cycle(work, cycle);
        for (uint32_t i = 0; i < length; i++)
            assign_node(work, cycle[i], cycle[((uint64_t)i + 1) % length], cycle[((uint64_t)i + 2) % length],
                        placement);
    }
}

dcache_status_t placement_compute(struct diag *dg, const struct placement_input *input, struct placement *placement)
{
    struct work work = {.input = input};
    struct placement result = {0};
    dcache_status_t status = check_counts(dg, input);
    if (status == DCACHE_OK && !allocate(&work, &result))
        status = diag_fail(dg, DCACHE_ERR_NO_MEMORY, "no memory to place %u ranks on %u nodes", input->rank_count,
                           input->node_count);
    if (status == DCACHE_OK)
        status = list_ranks(dg, &work);
    if (status != DCACHE_OK)
        goto failed;
    choose_partners(&work, &result);
    choose_hosts(&work, &result);
    choose_drainers(&work, &result);
    free_work(&work);
    *placement = result;
    return DCACHE_OK;

failed:
    free_work(&work);
    placement_free(&result);
    return status;
}

void placement_free(struct placement *placement)
{
    free(placement->partner_of_node);
    free(placement->host_of_rank);
    free(placement->drainer_of_rank);
    memset(placement, 0, sizeof *placement);
}
