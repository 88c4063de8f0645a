/* io/azure_blocks.c: who gets a block, and when. */
#include "io/azure_blocks.h"
#include "io/threads.h"
#include "tests/unit/unit.h"

#include <sched.h>
#include <stdint.h>

#define BLOCK_BYTES 4096u

/* The sanitizers' allocators end the process where others say that there is no memory. */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define TAKES_ANY_SIZE
#endif

static struct diag dg;

/* One put with a thread that takes a block and keeps it until it is told. */
struct taker {
    struct azure_blocks *blocks;
    struct azure_blocks_user user;
    pthread_t thread;
    struct diag dg;
    atomic_bool cancel;
    atomic_bool stop;
    atomic_int status; /* NOT_YET: waits */
    struct azure_block block;
};

#define NOT_YET (-1000)

static void begin(struct azure_blocks *blocks, struct taker *taker, unsigned limit)
{
    *taker = (struct taker){.blocks = blocks, .status = NOT_YET};
    diag_init(&taker->dg, "job", -1, DIAG_ERROR);
    azure_blocks_begin(blocks, &taker->user, BLOCK_BYTES, limit, &taker->cancel);
}

static void *take(void *argument)
{
    struct taker *taker = argument;
    atomic_store(&taker->status,
                 azure_blocks_take(taker->blocks, &taker->dg, &taker->user, &taker->stop, &taker->block));
    return NULL;
}

static unsigned waiting(struct taker *taker)
{
    pthread_mutex_lock(&taker->blocks->lock);
    unsigned count = taker->user.waiting;
    pthread_mutex_unlock(&taker->blocks->lock);
    return count;
}

/* Its thread takes a block, or waits for one. */
static void start(struct taker *taker)
{
    CU_ASSERT_EQUAL_FATAL(pthread_create(&taker->thread, NULL, take, taker), 0);
    while (atomic_load(&taker->status) == NOT_YET && waiting(taker) == 0)
        sched_yield();
}

static void finish(struct taker *taker, dcache_status_t expected)
{
    CU_ASSERT_EQUAL_FATAL(pthread_join(taker->thread, NULL), 0);
    CU_ASSERT_EQUAL(atomic_load(&taker->status), (int)expected);
}

static void give_back(struct taker *taker)
{
    azure_blocks_give_back(taker->blocks, &taker->user, &taker->block);
    CU_ASSERT_FALSE(taker->block.taken);
}

/* The two that wait are served in the order in which their puts began, not in that in which they asked. */
static void test_first_come(void)
{
    struct azure_blocks blocks;
    struct taker first, second, third;
    azure_blocks_open(&blocks);
    begin(&blocks, &first, 1);
    begin(&blocks, &second, 1);
    begin(&blocks, &third, 1);
    start(&first);
    finish(&first, DCACHE_OK);
    start(&third);
    start(&second);
    CU_ASSERT_EQUAL(atomic_load(&third.status), NOT_YET);
    give_back(&first);
    finish(&second, DCACHE_OK);
    CU_ASSERT_EQUAL(atomic_load(&third.status), NOT_YET);
    give_back(&second);
    finish(&third, DCACHE_OK);
    give_back(&third);
    azure_blocks_end(&blocks, &second.user); /* in any order */
    azure_blocks_end(&blocks, &first.user);
    azure_blocks_end(&blocks, &third.user);
    CU_ASSERT_EQUAL(blocks.taken, 0);
    CU_ASSERT_PTR_NULL(blocks.users);
    azure_blocks_close(&blocks);
}

/* What an earlier put does not want is there for a later one. */
static void test_left_over(void)
{
    struct azure_blocks blocks;
    struct taker first, second;
    azure_blocks_open(&blocks);
    begin(&blocks, &first, 2);
    begin(&blocks, &second, 2);
    start(&first);
    finish(&first, DCACHE_OK);
    start(&second);
    finish(&second, DCACHE_OK);
    CU_ASSERT_EQUAL(blocks.taken, 2);
    CU_ASSERT_PTR_NOT_EQUAL(first.block.memory, second.block.memory);
    void *memory = first.block.memory;
    give_back(&first);
    start(&first);
    finish(&first, DCACHE_OK);
    CU_ASSERT_PTR_EQUAL(first.block.memory, memory); /* not allocated anew */
    give_back(&first);
    give_back(&second);
    azure_blocks_end(&blocks, &first.user);
    azure_blocks_end(&blocks, &second.user);
    azure_blocks_close(&blocks);
}

static void test_not_any_more(void)
{
    for (int how = 0; how < 2; how++) {
        struct azure_blocks blocks;
        struct taker first, second;
        azure_blocks_open(&blocks);
        begin(&blocks, &first, 1);
        begin(&blocks, &second, 1);
        start(&first);
        finish(&first, DCACHE_OK);
        start(&second);
        atomic_store(how == 0 ? &second.cancel : &second.stop, true);
        finish(&second, DCACHE_ERR_CANCELLED);
        CU_ASSERT(!second.block.taken && second.block.memory == NULL);
        CU_ASSERT_EQUAL(blocks.taken, 1);
        give_back(&first);
        give_back(&second); /* nothing was taken */
        CU_ASSERT_EQUAL(blocks.taken, 0);
        azure_blocks_end(&blocks, &first.user);
        azure_blocks_end(&blocks, &second.user);
        azure_blocks_close(&blocks);
    }
}

#ifdef TAKES_ANY_SIZE
static void test_no_memory(void)
{
    struct azure_blocks blocks;
    struct azure_blocks_user user;
    struct azure_block block = {.taken = false};
    azure_blocks_open(&blocks);
    azure_blocks_begin(&blocks, &user, SIZE_MAX / 4, 1, NULL);
    CU_ASSERT_EQUAL(azure_blocks_take(&blocks, &dg, &user, NULL, &block), DCACHE_ERR_NO_MEMORY);
    CU_ASSERT_EQUAL(blocks.taken, 0);
    azure_blocks_end(&blocks, &user);
    azure_blocks_close(&blocks);
}
#endif

/* Stores of one job: what one has taken the other has not. */
static void test_shared(void)
{
    struct azure_blocks home, other;
    struct taker first, second;
    azure_blocks_open(&home);
    azure_blocks_open(&other);
    azure_blocks_share(&other, &home);
    begin(&home, &first, 1);
    begin(&other, &second, 1);
    start(&first);
    finish(&first, DCACHE_OK);
    CU_ASSERT_EQUAL_FATAL(pthread_create(&second.thread, NULL, take, &second), 0);
    for (unsigned count = 0; count == 0; sched_yield()) {
        pthread_mutex_lock(&home.lock);
        count = second.user.waiting;
        pthread_mutex_unlock(&home.lock);
        CU_ASSERT_EQUAL_FATAL(atomic_load(&second.status), NOT_YET);
    }
    give_back(&first);
    finish(&second, DCACHE_OK);
    give_back(&second);
    CU_ASSERT_EQUAL(home.taken, 0);
    azure_blocks_end(&other, &second.user);
    azure_blocks_end(&home, &first.user);
    azure_blocks_close(&other);
    azure_blocks_close(&home);
}

int main(void)
{
    static const struct unit_case cases[] = {
        {"first come, first served", test_first_come},
        {"what is left over", test_left_over},
        {"not wanted any more", test_not_any_more},
        {"shared by several stores", test_shared},
#ifdef TAKES_ANY_SIZE
        {"no memory", test_no_memory},
#endif
    };
    diag_init(&dg, "job", -1, DIAG_ERROR);
    return unit_main("azure blocks", cases, UNIT_COUNT(cases));
}
