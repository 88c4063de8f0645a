#include "io/azure_blocks.h"

#include "io/threads.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE_BYTES ((size_t)2 << 20)

#define LOOK_S 0.1 /* how soon a thread that waits notices that it need not any more */

void azure_blocks_open(struct azure_blocks *blocks)
{
    memset(blocks, 0, sizeof *blocks);
    blocks->of = blocks;
    threads_init(&blocks->lock, &blocks->changed);
}

void azure_blocks_share(struct azure_blocks *blocks, struct azure_blocks *other)
{
    blocks->of = other->of;
}

static void free_idle(struct azure_blocks *blocks)
{
    while (blocks->idle_count > 0)
        free(blocks->idle[--blocks->idle_count]);
}

void azure_blocks_close(struct azure_blocks *blocks)
{
    free_idle(blocks);
    pthread_cond_destroy(&blocks->changed);
    pthread_mutex_destroy(&blocks->lock);
}

void azure_blocks_begin(struct azure_blocks *blocks, struct azure_blocks_user *user, size_t block_bytes, unsigned limit,
                        const atomic_bool *cancel)
{
    blocks = blocks->of;
    *user = (struct azure_blocks_user){.block_bytes = block_bytes, .limit = limit, .cancel = cancel};
    pthread_mutex_lock(&blocks->lock);
    struct azure_blocks_user **last = &blocks->users;
    while (*last != NULL)
        last = &(*last)->next;
    *last = user;
    pthread_mutex_unlock(&blocks->lock);
}

void azure_blocks_end(struct azure_blocks *blocks, struct azure_blocks_user *user)
{
    blocks = blocks->of;
    pthread_mutex_lock(&blocks->lock);
    struct azure_blocks_user **at = &blocks->users;
    while (*at != user)
        at = &(*at)->next;
    *at = user->next;
    pthread_mutex_unlock(&blocks->lock);
}

/* Whether a block is free and nobody who began earlier waits for it. Called with the lock held. */
static bool is_next(const struct azure_blocks *blocks, const struct azure_blocks_user *user)
{
    const struct azure_blocks_user *earlier = blocks->users;
    while (earlier != user && earlier->waiting == 0)
        earlier = earlier->next;
    return earlier == user && blocks->taken < user->limit;
}

static bool is_cancelled(const struct azure_blocks_user *user, const atomic_bool *stop)
{
    return (user->cancel != NULL && atomic_load(user->cancel)) || (stop != NULL && atomic_load(stop));
}

/* Memory of a put before this one, if there is any of that size. Called with the lock held. */
static void *take_idle(struct azure_blocks *blocks, size_t bytes)
{
    return blocks->idle_bytes == bytes && blocks->idle_count > 0 ? blocks->idle[--blocks->idle_count] : NULL;
}

static void keep_idle(struct azure_blocks *blocks, const struct azure_blocks_user *user, void *block)
{
    if (blocks->idle_bytes != user->block_bytes)
        free_idle(blocks);
    blocks->idle_bytes = user->block_bytes;
    if (blocks->idle_count < user->limit)
        blocks->idle[blocks->idle_count++] = block;
    else
        free(block);
}

/* A large one in huge pages, where the system has them for the asking: 4 faults instead of 2048, which on a virtual
 * machine can cost more than the bytes that come in. A small object gets a whole block, too, but touches little of it.
 */
static void *allocate(size_t bytes)
{
    void *memory = NULL;
    if (bytes < HUGE_BYTES || bytes > SIZE_MAX - HUGE_BYTES)
        return malloc(bytes);
    if (posix_memalign(&memory, HUGE_BYTES, bytes) != 0)
        return NULL;
    (void)madvise(memory, bytes / HUGE_BYTES * HUGE_BYTES, MADV_HUGEPAGE); /* else small pages do */
    return memory;
}

dcache_status_t azure_blocks_take(struct azure_blocks *blocks, struct diag *dg, struct azure_blocks_user *user,
                                  const atomic_bool *stop, struct azure_block *block)
{
    blocks = blocks->of;
    pthread_mutex_lock(&blocks->lock);
    user->waiting++;
    while (!is_next(blocks, user) && !is_cancelled(user, stop)) {
        const struct timespec until = threads_deadline(LOOK_S);
        pthread_cond_timedwait(&blocks->changed, &blocks->lock, &until);
    }
    user->waiting--;
    const bool cancelled = is_cancelled(user, stop);
    void *memory = cancelled || user->block_bytes == 0 ? NULL : take_idle(blocks, user->block_bytes);
    if (!cancelled)
        blocks->taken++;
    pthread_cond_broadcast(&blocks->changed); /* whoever began later may be next now */
    pthread_mutex_unlock(&blocks->lock);
    if (cancelled)
        return diag_fail(dg, DCACHE_ERR_CANCELLED, "cancelled");
    if (memory == NULL && user->block_bytes > 0)
        memory = allocate(user->block_bytes);
    if (memory != NULL || user->block_bytes == 0) {
        *block = (struct azure_block){.taken = true, .memory = memory};
        return DCACHE_OK;
    }
    pthread_mutex_lock(&blocks->lock);
    blocks->taken--;
    pthread_cond_broadcast(&blocks->changed);
    pthread_mutex_unlock(&blocks->lock);
    return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "no memory for a block of %zu bytes", user->block_bytes);
}

void azure_blocks_give_back(struct azure_blocks *blocks, const struct azure_blocks_user *user,
                            struct azure_block *block)
{
    if (!block->taken)
        return;
    blocks = blocks->of;
    pthread_mutex_lock(&blocks->lock);
    blocks->taken--;
    if (block->memory != NULL)
        keep_idle(blocks, user, block->memory);
    pthread_cond_broadcast(&blocks->changed);
    pthread_mutex_unlock(&blocks->lock);
    *block = (struct azure_block){.taken = false};
}
