/**
 * An object store that counts what another one is asked for, and can hold puts or gets until enough of them are under
 * way.
 */
#ifndef DCACHE_TESTS_UNIT_COUNTING_STORE_H
#define DCACHE_TESTS_UNIT_COUNTING_STORE_H

#include "io/object_store.h"

#include <pthread.h>

struct counting_store {
    struct object_store base; /**< to be used */
    struct object_store *inner;
    pthread_mutex_t lock; /**< of all that follows */
    pthread_cond_t changed;
    unsigned puts;
    unsigned gets;
    unsigned heads;
    unsigned lists;
    unsigned removes;
    struct counting_crowd {
        unsigned under_way;
        unsigned most;   /**< at a time, so far */
        unsigned wanted; /**< none goes on before so many have been under way at a time (or a minute is over) */
    } putting, getting;
};

/** `inner` is borrowed. */
void counting_store_open(struct counting_store *counting, struct object_store *inner);
void counting_store_close(struct counting_store *counting);

#endif
