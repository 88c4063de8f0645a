#include "tests/unit/counting_store.h"

#include "io/threads.h"

#include <string.h>

#define PATIENCE_S 60.0

static struct counting_store *counting_of(struct object_store *store)
{
    return (struct counting_store *)store;
}

/* Returns the store that does it. */
static struct object_store *count(struct object_store *store, unsigned *what)
{
    struct counting_store *counting = counting_of(store);
    pthread_mutex_lock(&counting->lock);
    (*what)++;
    pthread_mutex_unlock(&counting->lock);
    return counting->inner;
}

static void enter(struct counting_store *counting, struct counting_crowd *crowd)
{
    const struct timespec until = threads_deadline(PATIENCE_S);
    int code = 0;
    pthread_mutex_lock(&counting->lock);
    crowd->under_way++;
    if (crowd->under_way > crowd->most)
        crowd->most = crowd->under_way;
    pthread_cond_broadcast(&counting->changed);
    while (crowd->most < crowd->wanted && code == 0)
        code = pthread_cond_timedwait(&counting->changed, &counting->lock, &until);
    pthread_mutex_unlock(&counting->lock);
}

static void leave(struct counting_store *counting, struct counting_crowd *crowd)
{
    pthread_mutex_lock(&counting->lock);
    crowd->under_way--;
    pthread_mutex_unlock(&counting->lock);
}

static dcache_status_t counting_put(struct object_store *store, struct diag *dg, const char *key,
                                    const struct object_source *source, enum object_condition condition,
                                    const atomic_bool *cancel)
{
    struct object_store *inner = count(store, &counting_of(store)->puts);
    enter(counting_of(store), &counting_of(store)->putting);
    dcache_status_t status = inner->ops->put(inner, dg, key, source, condition, cancel);
    leave(counting_of(store), &counting_of(store)->putting);
    return status;
}

static dcache_status_t counting_get(struct object_store *store, struct diag *dg, const char *key, const char *etag,
                                    uint64_t offset, void *buffer, size_t bytes)
{
    struct object_store *inner = count(store, &counting_of(store)->gets);
    enter(counting_of(store), &counting_of(store)->getting);
    dcache_status_t status = inner->ops->get(inner, dg, key, etag, offset, buffer, bytes);
    leave(counting_of(store), &counting_of(store)->getting);
    return status;
}

static dcache_status_t counting_head(struct object_store *store, struct diag *dg, const char *key,
                                     struct object_info *info)
{
    struct object_store *inner = count(store, &counting_of(store)->heads);
    return inner->ops->head(inner, dg, key, info);
}

static dcache_status_t counting_list(struct object_store *store, struct diag *dg, const char *prefix,
                                     object_visitor visit, void *context)
{
    struct object_store *inner = count(store, &counting_of(store)->lists);
    return inner->ops->list(inner, dg, prefix, visit, context);
}

static dcache_status_t counting_remove(struct object_store *store, struct diag *dg, const char *key)
{
    struct object_store *inner = count(store, &counting_of(store)->removes);
    return inner->ops->remove(inner, dg, key);
}

static const struct object_store_ops counting_ops = {
    .scheme = "counting",
    .put = counting_put,
    .get = counting_get,
    .head = counting_head,
    .list = counting_list,
    .remove = counting_remove,
};

void counting_store_open(struct counting_store *counting, struct object_store *inner)
{
    memset(counting, 0, sizeof *counting);
    counting->base.ops = &counting_ops;
    counting->base.policy = inner->policy;
    counting->inner = inner;
    threads_init(&counting->lock, &counting->changed);
}

void counting_store_close(struct counting_store *counting)
{
    pthread_cond_destroy(&counting->changed);
    pthread_mutex_destroy(&counting->lock);
}
