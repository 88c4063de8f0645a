/* Conformance of both transports: what is put is where it was put, after the flush, whoever else puts at the same time;
 * nothing else is touched. And the probe: the same answer on all ranks, also when a window cannot be had.
 *
 * ranks: 2 3 4
 * timeout: 240 */
#include "mpi/agree.h"
#include "mpi/transport.h"
#include "mpi_support.h"
#include "mpi_world.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define MIB          (UINT64_C(1) << 20)
#define STRIPE_BYTES (12 * MIB) /* of each rank in what another exposes */
#define PUT_MAX      (9 * MIB)
#define SLOTS        2u
#define UNTOUCHED    0x11

struct fixture {
    struct test_world tw;
    struct transport *transport;
    unsigned char *exposed[SLOTS];
    unsigned char *source;
    uint64_t bytes;
};

static void open_transport(struct fixture *f, bool one_sided)
{
    uint32_t others[64], count = 0;
    dcache_status_t status;

    for (int r = 0; r < support_size; r++) {
        if (r != support_rank)
            others[count++] = (uint32_t)r;
    }
    if (one_sided)
        status = transport_one_sided_create(&f->tw.dg, &f->tw.world, &f->transport);
    else
        status = transport_two_sided_create(&f->tw.dg, &f->tw.world, others, count, &f->transport);
    CHECK(status == DCACHE_OK);
    CHECK(strcmp(f->transport->ops->name, one_sided ? "one-sided" : "two-sided") == 0);
}

static void start(struct fixture *f, bool one_sided)
{
    support_trying(one_sided ? "one-sided" : "two-sided");
    test_world_open(&f->tw, 1);
    open_transport(f, one_sided);
    f->bytes = STRIPE_BYTES * (uint64_t)support_size;
    f->source = malloc(STRIPE_BYTES);
    CHECK(f->source != NULL);
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        f->exposed[slot] = mmap(NULL, f->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        CHECK(f->exposed[slot] != MAP_FAILED);
        CHECK(f->transport->ops->attach(f->transport, &f->tw.dg, slot, f->exposed[slot], f->bytes) == DCACHE_OK);
    }
}

static void finish(struct fixture *f)
{
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        f->transport->ops->detach(f->transport, slot);
        munmap(f->exposed[slot], f->bytes);
    }
    f->transport->ops->close(f->transport);
    free(f->source);
    test_world_close(&f->tw);
}

static const struct agree_idle *idle_of(struct fixture *f, struct agree_idle *idle)
{
    *idle = (struct agree_idle){(void (*)(void *))f->transport->ops->progress, f->transport};
    return idle;
}

/* Everybody is here, serving meanwhile. */
static void meet(struct fixture *f)
{
    struct agree_idle idle;

    CHECK(agree(&f->tw.world, &f->tw.dg, idle_of(f, &idle), DCACHE_OK) == DCACHE_OK);
}

static void flush(struct fixture *f, uint32_t slot, uint32_t target, bool wait)
{
    bool done = false;

    do {
        CHECK_STATUS(NULL, f->transport->ops->flush(f->transport, &f->tw.dg, slot, target, wait, &done), DCACHE_OK);
        sched_yield();
    } while (!done && !wait);
    CHECK(done);
}

/* A rank's puts of one round into one target: random sizes at random places in its stripe, none over another. Who puts
 * and who checks go through the same sequence. */
struct plan {
    uint64_t state, at, bytes;
    bool left;
};

static void plan_next(struct plan *plan)
{
    uint64_t kind = support_random_below(&plan->state, 4), largest = kind == 0 ? PUT_MAX : kind == 1 ? MIB : 5000;

    plan->at += plan->bytes + support_random_below(&plan->state, 100000);
    plan->bytes = support_random_below(&plan->state, largest + 1);
    plan->left = plan->at <= STRIPE_BYTES && plan->bytes <= STRIPE_BYTES - plan->at;
}

static struct plan plan_start(uint64_t seed, int from, int to, uint32_t slot, int round)
{
    struct plan plan = {.state = seed + (uint64_t)(((from * 64 + to) * 64 + (int)slot) * 64 + round)};

    plan_next(&plan);
    return plan;
}

static unsigned char byte_of(int from, int to, int round, uint64_t at)
{
    return (unsigned char)(at * 131u + (at >> 8) * 7u + (uint64_t)(from * 17 + to * 5 + round * 3) + 0x80u);
}

static void put_round(struct fixture *f, uint64_t seed, int target, uint32_t slot, int round)
{
    uint64_t stripe = STRIPE_BYTES * (uint64_t)support_rank;

    for (uint64_t at = 0; at < STRIPE_BYTES; at++)
        f->source[at] = byte_of(support_rank, target, round, at);
    for (struct plan p = plan_start(seed, support_rank, target, slot, round); p.left; plan_next(&p))
        CHECK_STATUS(NULL,
                     f->transport->ops->put(f->transport, &f->tw.dg, slot, (uint32_t)target, stripe + p.at,
                                            f->source + p.at, p.bytes),
                     DCACHE_OK);
    flush(f, slot, (uint32_t)target, round % 2 == 0);
}

/* The whole stripe: what was put is there, and between the puts nothing is. */
static bool stripe_right(const struct fixture *f, uint64_t seed, int from, uint32_t slot, int round)
{
    const unsigned char *stripe = f->exposed[slot] + STRIPE_BYTES * (uint64_t)from;
    uint64_t at = 0;

    for (struct plan p = plan_start(seed, from, support_rank, slot, round);; plan_next(&p)) {
        uint64_t end = p.left ? p.at : STRIPE_BYTES;
        for (; at < end; at++) {
            if (stripe[at] != UNTOUCHED)
                return false;
        }
        if (!p.left)
            return true;
        for (end = p.at + p.bytes; at < end; at++) {
            if (stripe[at] != byte_of(from, support_rank, round, at))
                return false;
        }
    }
}

static void test_random_puts(struct fixture *f, uint64_t seed)
{
    for (int round = 0; round < 4; round++) {
        uint32_t slot = (uint32_t)round % SLOTS;
        memset(f->exposed[slot], UNTOUCHED, f->bytes);
        meet(f);
        for (int i = 1; i < support_size; i++)
            put_round(f, seed, (support_rank + i) % support_size, slot, round);
        meet(f);
        for (int from = 0; from < support_size; from++) {
            if (from != support_rank)
                CHECK(stripe_right(f, seed, from, slot, round));
        }
        meet(f);
    }
}

/* A put that does not fit is the sender's mistake: received and thrown away, told by the flush, and then forgotten. */
static void test_outside(struct fixture *f)
{
    uint32_t target = (uint32_t)((support_rank + 1) % support_size);
    const uint64_t wrong[] = {f->bytes, f->bytes - 1, UINT64_MAX - 5 * MIB};
    bool done = false;

    memset(f->source, 0x77, STRIPE_BYTES);
    memset(f->exposed[0], UNTOUCHED, f->bytes);
    meet(f);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        CHECK_STATUS(NULL, f->transport->ops->put(f->transport, &f->tw.dg, 0, target, wrong[i], f->source, 5 * MIB),
                     DCACHE_OK);
        CHECK_STATUS(NULL, f->transport->ops->flush(f->transport, &f->tw.dg, 0, target, true, &done),
                     DCACHE_ERR_INTERNAL);
        CHECK(done);
    }
    meet(f);
    for (uint64_t at = 0; at < f->bytes; at++)
        CHECK(f->exposed[0][at] == UNTOUCHED);
    meet(f);
    CHECK_STATUS(NULL, f->transport->ops->put(f->transport, &f->tw.dg, 0, target, f->bytes - 2, f->source, 2),
                 DCACHE_OK);
    flush(f, 0, target, true);
    meet(f);
    CHECK(f->exposed[0][f->bytes - 3] == UNTOUCHED);
    CHECK(f->exposed[0][f->bytes - 2] == 0x77 && f->exposed[0][f->bytes - 1] == 0x77);
}

/* Other memory in the same slot, of another size on each rank; on the last rank none. */
static void test_attach_again(struct fixture *f)
{
    uint64_t bytes = support_rank == support_size - 1 ? 0 : 4096u * (uint64_t)(support_rank + 1);
    uint32_t target = (uint32_t)((support_rank + 1) % support_size);
    unsigned char *area = calloc(1, bytes + 1);

    CHECK(area != NULL);
    meet(f);
    f->transport->ops->detach(f->transport, 1);
    CHECK_STATUS(NULL, f->transport->ops->attach(f->transport, &f->tw.dg, 1, area, bytes), DCACHE_OK);
    memset(f->source, 0x42, 4096);
    if (target != (uint32_t)support_size - 1)
        CHECK_STATUS(NULL, f->transport->ops->put(f->transport, &f->tw.dg, 1, target, 96, f->source, 4000), DCACHE_OK);
    flush(f, 1, target, true);
    meet(f);
    for (uint64_t at = 0; at < bytes; at++)
        CHECK(area[at] == (at >= 96 && at < 4096 ? 0x42 : 0));
    meet(f);
    f->transport->ops->detach(f->transport, 1);
    CHECK_STATUS(NULL, f->transport->ops->attach(f->transport, &f->tw.dg, 1, f->exposed[1], f->bytes), DCACHE_OK);
    free(area);
}

static void test_transport(bool one_sided, uint64_t seed)
{
    struct fixture f;

    start(&f, one_sided);
    test_random_puts(&f, seed);
    if (!one_sided) /* MPI may do anything with a put outside of its window */
        test_outside(&f);
    test_attach_again(&f);
    finish(&f);
}

static struct transport_probe probe(struct test_world *tw)
{
    struct transport_probe found = {.window = false};
    void *scratch = malloc(TRANSPORT_PROBE_BYTES);

    CHECK(scratch != NULL);
    CHECK_STATUS(NULL, transport_probe(&tw->dg, &tw->world, &tw->placement, scratch, &found), DCACHE_OK);
    free(scratch);
    CHECK(!found.arrives || found.window);
    CHECK(!found.passive || found.arrives);
    CHECK(found.reason[0] != '\0' && strchr(found.reason, '\n') == NULL);
    CHECK_SAME((dcache_status_t)(found.window + 2 * found.arrives + 4 * found.passive), found.reason);
    return found;
}

static void test_probe(int node_size)
{
    struct test_world tw;

    support_trying("probe, nodes of %d ranks", node_size);
    test_world_open(&tw, node_size);
    struct transport_probe found = probe(&tw);
    CHECK(found.window && found.arrives); /* all ranks are on this host */
    if (support_rank == 0)
        printf("nodes of %d ranks: %s\n", node_size, found.reason);
    support_option("FAILPOINTS", "MPI_Win_lock_all=error@1");
    found = probe(&tw);
    CHECK(!found.window && strstr(found.reason, "rank 1") != NULL);
    support_option("FAILPOINTS", NULL);
    CHECK(probe(&tw).arrives);
    test_world_close(&tw);
}

int main(int argc, char **argv)
{
    support_start(&argc, &argv, MPI_THREAD_SINGLE);
    uint64_t seed = support_seed();
    for (int node_size = 1; node_size < support_size; node_size++)
        test_probe(node_size);
    test_transport(false, seed);
    test_transport(true, seed);
    return support_finish();
}
