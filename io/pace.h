/**
 * Holds a drain to what it may take of the machine: bytes per second of the network, and CPU time. Times are
 * nanoseconds of one clock, which the caller reads; nothing here waits.
 */
#ifndef DCACHE_IO_PACE_H
#define DCACHE_IO_PACE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/** Zeroed, it holds nothing back. Any thread may read and set the two limits at any time. */
struct pace {
    _Atomic uint64_t bytes_per_s;  /**< 0 = as fast as it goes */
    _Atomic uint64_t cpu_ns_per_s; /**< CPU time that may be used in a second; 0 = as much as it takes */
    _Atomic uint64_t free_at;      /**< when what was reserved so far has gone at that rate */
};

/** Reserve the time that `bytes` take at the rate, from `now` or from the end of what was reserved before.
 * @return when they may go: at once for the first ones. What was not used in the past is lost, so there are no bursts
 */
uint64_t pace_reserve(struct pace *pace, uint64_t bytes, uint64_t now);

/** Whether `used` of CPU time in `elapsed` is more than may be used. */
bool pace_over_budget(const struct pace *pace, uint64_t used, uint64_t elapsed);

/** No limits from now on. */
void pace_lift(struct pace *pace);

#endif
