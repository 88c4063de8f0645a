/* What goes in comes out: regions of all types and shapes, both transports, nodes of 1, 2 and 3 ranks (not always the
 * same number on each), a ring used many times, regions that change between steps.
 *
 * ranks: 1 2 3 5 8
 * timeout: 300 */
#include "mpi_fields.h"
#include "mpi_stores.h"
#include "mpi_support.h"

#include <stdio.h>
#include <stdlib.h>

#define MIB (UINT64_C(1) << 20)

static void add_all_types(struct fields *fields)
{
    for (int type = DCACHE_INT8; type <= DCACHE_FLOAT64; type++) {
        char name[32];
        snprintf(name, sizeof name, "types/%d", type);
        fields_add(fields, name, (dcache_type_t)type, 17u + (uint64_t)type * 13u + (uint64_t)fields->owner);
    }
}

/* Around the size of a chunk, where off-by-one mistakes live. */
static void add_sizes(struct fields *fields)
{
    static const uint64_t sizes[] = {1, MIB - 1, MIB, MIB + 1, 3 * MIB + 7};

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        char name[32];
        if (fields->owner > 3 || (fields->owner % 2 == 1 && sizes[i] > MIB))
            continue; /* ranks may protect different regions */
        snprintf(name, sizeof name, "sizes.%llu", (unsigned long long)sizes[i]);
        fields_add(fields, name, DCACHE_BYTE, sizes[i]);
    }
    fields_add(fields, "nothing", DCACHE_FLOAT64, 0);
}

static void add_many(struct fields *fields, int many)
{
    for (int i = 0; i < many; i++) {
        char name[48];
        snprintf(name, sizeof name, "many/group-%d/%d", i % 7, i);
        fields_add(fields, name, i % 2 ? DCACHE_FLOAT32 : DCACHE_INT16, (uint64_t)(i * i) % 61);
    }
}

/* Rows of a matrix and a block of a cube, as a domain decomposition has them; the last rank may have none. */
static void add_blocks(struct fields *fields)
{
    uint64_t n = (uint64_t)support_size, me = (uint64_t)fields->owner;
    uint64_t rows = 5 * n - 3, mine = me + 1 < n ? 5 : 2;

    fields_add_block(fields, "matrix", DCACHE_FLOAT64, 2, (uint64_t[]){rows, 33}, (uint64_t[]){5 * me, 0},
                     (uint64_t[]){mine, 33});
    fields_add_block(fields, "cube", DCACHE_FLOAT16, 3, (uint64_t[]){4, n, 9}, (uint64_t[]){1, me, 2},
                     (uint64_t[]){3, 1, 7});
    fields_add_block(fields, "outside", DCACHE_UINT8, 1, (uint64_t[]){10}, (uint64_t[]){10}, (uint64_t[]){0});
}

static void take(dcache_t *dc, struct fields *fields, uint64_t step)
{
    fields_fill(fields, step);
    CHECK_STATUS(dc, dcache_checkpoint(dc, step), DCACHE_OK);
    CHECK(fields_hold(fields, step));
    fields_scribble(fields);
}

static void restore(dcache_t *dc, struct fields *fields, uint64_t wanted, uint64_t expected)
{
    uint64_t step = wanted;

    fields_scribble(fields);
    CHECK_STATUS(dc, dcache_restart(dc, &step), DCACHE_OK);
    CHECK(step == expected);
    CHECK(fields_hold(fields, expected));
}

static void lack(dcache_t *dc, struct fields *fields, uint64_t wanted)
{
    uint64_t step = wanted;

    fields_scribble(fields);
    CHECK_STATUS(dc, dcache_restart(dc, &step), DCACHE_NOT_FOUND);
    CHECK(step == wanted);
    CHECK(fields_scribbled(fields));
}

/* Newest, older, roll back and go on, and all of it again by a handle that knows nothing of the first. */
static void test_shapes(struct fields *fields)
{
    dcache_t *dc = support_open();

    fields_protect(dc, fields);
    lack(dc, fields, DCACHE_LATEST);
    take(dc, fields, 10);
    restore(dc, fields, DCACHE_LATEST, 10);
    take(dc, fields, 20);
    restore(dc, fields, DCACHE_LATEST, 20);
    restore(dc, fields, 10, 10);
    take(dc, fields, 15); /* after the roll-back 15 is the newest */
    restore(dc, fields, DCACHE_LATEST, 15);
    lack(dc, fields, 12);
    support_close(&dc);

    dc = support_open();
    fields_protect(dc, fields);
    restore(dc, fields, 10, 10);
    restore(dc, fields, DCACHE_LATEST, 15);
    support_close(&dc);
    stores_lose_all("test");
}

static void test_all_shapes(const char *transport, int node_size)
{
    struct fields fields;

    support_trying("all shapes, %s, nodes of %d ranks", transport, node_size);
    support_option("TRANSPORT", transport);
    support_option_number("NODE_SIZE", node_size);
    fields_init(&fields, support_rank);
    add_all_types(&fields);
    add_sizes(&fields);
    add_many(&fields, 300);
    add_blocks(&fields);
    test_shapes(&fields);
    fields_free(&fields);
}

/* A rank without any region has a shard, too. */
static void test_no_regions(const char *transport)
{
    struct fields fields;

    support_trying("ranks without regions, %s", transport);
    support_option("TRANSPORT", transport);
    support_option_number("NODE_SIZE", 1);
    fields_init(&fields, support_rank);
    if (support_rank % 2 == 1)
        fields_add(&fields, "x", DCACHE_INT8, 5);
    test_shapes(&fields);
    fields_free(&fields);
}

/* Each slot is used several times: what is there is the last steps, whole; what is not is not found. */
static void test_ring(const char *transport, unsigned slots)
{
    const uint64_t steps = 3 * slots + 1;
    struct fields fields;

    support_trying("a ring of %u slots, %s", slots, transport);
    support_option("TRANSPORT", transport);
    support_option_number("NODE_SIZE", 1);
    support_option_number("SLOTS", slots);
    fields_init(&fields, support_rank);
    fields_add_some(&fields, 40);
    dcache_t *dc = support_open();
    fields_protect(dc, &fields);
    for (uint64_t step = 1; step <= steps; step++)
        take(dc, &fields, step);
    for (uint64_t step = 1; step + slots <= steps; step++)
        lack(dc, &fields, step);
    for (uint64_t step = steps - slots + 1; step <= steps; step++)
        restore(dc, &fields, step, step);
    if (support_size > 1)
        CHECK(stores_redundant("test", steps, (uint32_t)support_size));
    support_close(&dc);
    support_option("SLOTS", NULL);
    stores_lose_all("test");
    fields_free(&fields);
}

/* The image of a slot follows the regions: larger, smaller, gone, new, elsewhere in memory. */
static void test_changing_regions(const char *transport)
{
    struct fields fields;

    support_trying("regions change between steps, %s", transport);
    support_option("TRANSPORT", transport);
    support_option_number("NODE_SIZE", 2);
    fields_init(&fields, support_rank);
    fields_add_some(&fields, 100);
    fields_add(&fields, "history", DCACHE_INT64, 10);
    dcache_t *dc = support_open();
    fields_protect(dc, &fields);
    for (uint64_t step = 1; step <= 6; step++) {
        /* Only some ranks' regions change: the others' images have to be made anew with them. */
        if (support_rank % 2 == 0)
            fields_resize(&fields, "history", step % 3 == 0 ? 0 : step * 40000);
        fields_protect(dc, &fields);
        take(dc, &fields, step);
        restore(dc, &fields, DCACHE_LATEST, step);
    }
    CHECK_STATUS(dc, dcache_unprotect(dc, "history"), DCACHE_OK);
    fields_drop(&fields, "history");
    fields_add(&fields, "later", DCACHE_UINT16, 77);
    fields_protect(dc, &fields);
    take(dc, &fields, 7);
    support_close(&dc);

    dc = support_open();
    fields_protect(dc, &fields);
    restore(dc, &fields, DCACHE_LATEST, 7);
    uint64_t step = 6; /* which has no region "later", on any rank */
    fields_scribble(&fields);
    CHECK_STATUS(dc, dcache_restart(dc, &step), DCACHE_ERR_MISMATCH);
    CHECK_SAME(DCACHE_ERR_MISMATCH, dcache_error_text(dc));
    CHECK(step == 6 && fields_scribbled(&fields));
    take(dc, &fields, 8);
    restore(dc, &fields, DCACHE_LATEST, 8);
    support_close(&dc);
    stores_lose_all("test");
    fields_free(&fields);
}

/* Fewer regions than the step has are fine: a tool may want one of them. The others' memory is left alone. */
static void test_some_of_the_regions(void)
{
    struct fields all, some;

    support_trying("restart of some regions");
    support_option_number("NODE_SIZE", 1);
    fields_init(&all, support_rank);
    fields_add_some(&all, 20);
    fields_init(&some, support_rank);
    fields_add(&some, "mesh/flags", DCACHE_BYTE, 1 + 3 * (uint64_t)support_rank);
    dcache_t *dc = support_open();
    fields_protect(dc, &all);
    take(dc, &all, 3);
    support_close(&dc);
    dc = support_open();
    fields_protect(dc, &some);
    restore(dc, &some, DCACHE_LATEST, 3);
    take(dc, &some, 4);
    restore(dc, &some, DCACHE_LATEST, 4);
    support_close(&dc);
    stores_lose_all("test");
    fields_free(&all);
    fields_free(&some);
}

/* After going back on purpose, what is computed from there is the newest, whatever larger steps the object store has:
 * with the nodes' copies, and without them. */
static void test_going_back(void)
{
    static const uint64_t first[] = {10, 20, 30};
    struct fields fields;

    support_trying("going back to an older step");
    support_use_objects(true);
    fields_init(&fields, support_rank);
    fields_add_some(&fields, 20);
    dcache_t *dc = support_open();
    fields_protect(dc, &fields);
    for (size_t i = 0; i < sizeof first / sizeof first[0]; i++) {
        take(dc, &fields, first[i]);
        CHECK_STATUS(dc, dcache_wait(dc, first[i], DCACHE_DURABLE), DCACHE_OK);
    }
    restore(dc, &fields, 20, 20);
    take(dc, &fields, 25);
    CHECK_STATUS(dc, dcache_wait(dc, 25, DCACHE_DURABLE), DCACHE_OK);
    for (int lost = 0; lost < 2; lost++) {
        support_close(&dc);
        if (lost)
            stores_lose_all("test");
        dc = support_open();
        fields_protect(dc, &fields);
        restore(dc, &fields, DCACHE_LATEST, 25);
    }
    restore(dc, &fields, 30, 30); /* it is not gone either */
    support_close(&dc);
    support_use_objects(false);
    stores_lose_all("test");
    fields_free(&fields);
}

/* Chunks that did not change are left where they are, here and in the replica: what comes back must not show it, from
 * either copy. */
static void test_incremental(const char *transport, long copy_threads)
{
    struct fields fields;

    support_trying("incremental, %s, %ld copy threads", transport, copy_threads);
    support_option("TRANSPORT", transport);
    support_option("INCREMENTAL", "yes");
    support_option_number("COPY_THREADS", copy_threads);
    support_option_number("NODE_SIZE", 1);
    fields_init(&fields, support_rank);
    fields_add(&fields, "big", DCACHE_BYTE, 5 * MIB + 11);
    fields_add(&fields, "small", DCACHE_INT32, 100);
    dcache_t *dc = support_open();
    fields_protect(dc, &fields);
    fields_fill(&fields, 1);
    for (uint64_t step = 1; step <= 7; step++) {
        fields.items[0].memory[step * 700000] ^= 0x5A;
        CHECK_STATUS(dc, dcache_checkpoint(dc, step), DCACHE_OK);
    }
    for (uint64_t node = 0; node < (uint64_t)support_size; node++) { /* each rank once from its replica */
        support_close(&dc);
        if (support_size > 1)
            stores_lose_node("test", (unsigned)node);
        dc = support_open();
        fields_scribble(&fields);
        fields_protect(dc, &fields);
        uint64_t latest = DCACHE_LATEST;
        CHECK_STATUS(dc, dcache_restart(dc, &latest), DCACHE_OK);
        for (uint64_t step = 1; step <= 7; step++)
            fields.items[0].memory[step * 700000] ^= 0x5A;
        CHECK(latest == 7 && fields_hold(&fields, 1));
    }
    support_close(&dc);
    support_option("INCREMENTAL", NULL);
    support_option("COPY_THREADS", NULL);
    stores_lose_all("test");
    fields_free(&fields);
}

int main(int argc, char **argv)
{
    static const char *const transports[] = {"one-sided", "two-sided"};

    support_start(&argc, &argv, MPI_THREAD_SINGLE);
    for (int t = 0; t < 2; t++) {
        for (int node_size = 1; node_size <= 3 && node_size <= support_size; node_size++)
            test_all_shapes(transports[t], node_size);
        test_no_regions(transports[t]);
        test_ring(transports[t], 2);
        test_ring(transports[t], 5);
        test_changing_regions(transports[t]);
        test_incremental(transports[t], t == 0 ? 1 : 3);
    }
    test_some_of_the_regions();
    test_going_back();
    return support_finish();
}
