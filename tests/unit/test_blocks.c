/* runtime/blocks.c against the plainest of models: an array in which every element is looked at by itself. */
#include "runtime/blocks.h"
#include "tests/unit/unit.h"

#define EXTENT 6
#define ROUNDS 3000

static uint64_t state = 20261125;

static uint64_t below(uint64_t limit)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (state >> 33) % limit;
}

static struct block random_block(uint32_t ndims)
{
    struct block block = {{0}, {0}};

    for (uint32_t d = 0; d < ndims; d++) {
        block.start[d] = below(EXTENT);
        block.count[d] = below(EXTENT - block.start[d] + 1);
    }
    return block;
}

/* The element's index in each dimension. */
static void place_of(uint32_t ndims, uint64_t element, uint64_t *at)
{
    for (uint32_t d = ndims; d-- > 0; element /= EXTENT)
        at[d] = element % EXTENT;
}

static bool inside(uint32_t ndims, const struct block *block, const uint64_t *at)
{
    for (uint32_t d = 0; d < ndims; d++) {
        if (at[d] < block->start[d] || at[d] >= block->start[d] + block->count[d])
            return false;
    }
    return true;
}

static int times_in(uint32_t ndims, const struct block_list *list, const uint64_t *at)
{
    int times = 0;

    for (size_t i = 0; i < list->count; i++)
        times += inside(ndims, &list->blocks[i], at);
    return times;
}

static uint64_t elements(uint32_t ndims)
{
    uint64_t count = 1;

    for (uint32_t d = 0; d < ndims; d++)
        count *= EXTENT;
    return count;
}

/* Each element of the whole is once in what is taken when some block had it, else once in what is wanted. */
static void check_partition(uint32_t ndims, const struct block *whole, const struct block *has, size_t has_count,
                            const struct block_list *wanted, const struct block_list *taken)
{
    for (uint64_t e = 0; e < elements(ndims); e++) {
        uint64_t at[DCACHE_DIMS_MAX];
        bool had = false;
        place_of(ndims, e, at);
        for (size_t i = 0; i < has_count; i++)
            had = had || inside(ndims, &has[i], at);
        bool is_in = inside(ndims, whole, at);
        CU_ASSERT_EQUAL(times_in(ndims, taken, at), is_in && had);
        CU_ASSERT_EQUAL(times_in(ndims, wanted, at), is_in && !had);
    }
}

static void test_take(void)
{
    struct diag dg;

    diag_init(&dg, "test", 0, DIAG_ERROR);
    for (int round = 0; round < ROUNDS; round++) {
        uint32_t ndims = 1 + (uint32_t)below(3);
        struct block whole = random_block(ndims), has[4];
        struct block_list wanted = {NULL, 0, 0}, taken = {NULL, 0, 0};
        if (!block_is_empty(ndims, &whole))
            CU_ASSERT_EQUAL(block_list_add(&dg, &wanted, &whole), DCACHE_OK);
        for (size_t i = 0; i < UNIT_COUNT(has); i++) {
            has[i] = random_block(ndims);
            CU_ASSERT_EQUAL(block_list_take(&dg, ndims, &wanted, &has[i], &taken), DCACHE_OK);
        }
        check_partition(ndims, &whole, has, UNIT_COUNT(has), &wanted, &taken);
        block_list_free(&wanted);
        block_list_free(&taken);
    }
}

static uint64_t index_in(uint32_t ndims, const struct block *block, const uint64_t *at)
{
    uint64_t index = 0;

    for (uint32_t d = 0; d < ndims; d++)
        index = index * block->count[d] + (at[d] - block->start[d]);
    return index;
}

/* A block whose elements are the numbers of the elements in the whole array. */
static void fill(uint32_t ndims, const struct block *block, uint32_t *memory)
{
    for (uint64_t e = 0; e < elements(ndims); e++) {
        uint64_t at[DCACHE_DIMS_MAX];
        place_of(ndims, e, at);
        if (inside(ndims, block, at))
            memory[index_in(ndims, block, at)] = (uint32_t)e + 1;
    }
}

static void test_rows(void)
{
    struct diag dg;

    diag_init(&dg, "test", 0, DIAG_ERROR);
    for (int round = 0; round < ROUNDS; round++) {
        static uint32_t source[EXTENT * EXTENT * EXTENT], target[EXTENT * EXTENT * EXTENT];
        uint32_t ndims = 1 + (uint32_t)below(3);
        struct block from = random_block(ndims), to = random_block(ndims);
        struct block_list wanted = {NULL, 0, 0}, taken = {NULL, 0, 0};
        CU_ASSERT_EQUAL(block_list_add(&dg, &wanted, &to), DCACHE_OK);
        CU_ASSERT_EQUAL(block_list_take(&dg, ndims, &wanted, &from, &taken), DCACHE_OK);
        memset(target, 0, sizeof target);
        fill(ndims, &from, source);
        for (size_t i = 0; i < taken.count; i++) {
            struct block_rows rows;
            uint64_t at_from, at_to;
            block_rows_start(&rows, ndims, sizeof *source, &taken.blocks[i], &from, &to);
            while (block_rows_next(&rows, &at_from, &at_to))
                memcpy((char *)target + at_to, (char *)source + at_from, rows.bytes);
        }
        for (uint64_t e = 0; e < elements(ndims); e++) {
            uint64_t at[DCACHE_DIMS_MAX];
            place_of(ndims, e, at);
            if (inside(ndims, &to, at))
                CU_ASSERT_EQUAL(target[index_in(ndims, &to, at)], inside(ndims, &from, at) ? e + 1 : 0);
        }
        block_list_free(&wanted);
        block_list_free(&taken);
    }
}

/* What is whole in both blocks goes in one piece. */
static void test_long_rows(void)
{
    const struct block from = {{0, 0, 0}, {9, 4, 5}}, to = {{3, 0, 0}, {4, 4, 5}}, part = {{3, 0, 0}, {4, 4, 5}};
    struct block_rows rows;
    uint64_t at_from, at_to;

    block_rows_start(&rows, 3, 8, &part, &from, &to);
    CU_ASSERT_TRUE(block_rows_next(&rows, &at_from, &at_to));
    CU_ASSERT_EQUAL(at_from, 3 * 4 * 5 * 8);
    CU_ASSERT_EQUAL(at_to, 0);
    CU_ASSERT_EQUAL(rows.bytes, 4 * 4 * 5 * 8);
    CU_ASSERT_FALSE(block_rows_next(&rows, &at_from, &at_to));
}

int main(void)
{
    static const struct unit_case cases[] = {
        {"what is taken and what is left", test_take},
        {"rows from one block to another", test_rows},
        {"long rows", test_long_rows},
    };
    return unit_main("blocks", cases, UNIT_COUNT(cases));
}
