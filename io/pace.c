#include "io/pace.h"

#define NS_PER_S    1e9
#define RESERVE_MAX 1e18 /* thirty years: a sum of two of them fits */

uint64_t pace_reserve(struct pace *pace, uint64_t bytes, uint64_t now)
{
    const uint64_t rate = atomic_load(&pace->bytes_per_s);
    if (rate == 0)
        return now;
    const double wanted = (double)bytes * NS_PER_S / (double)rate;
    const uint64_t length = wanted < RESERVE_MAX ? (uint64_t)wanted : (uint64_t)RESERVE_MAX;
    uint64_t free_at = atomic_load(&pace->free_at);
    uint64_t turn;
    do
        turn = free_at > now ? free_at : now;
    while (!atomic_compare_exchange_weak(&pace->free_at, &free_at,
                                         turn < UINT64_MAX - length ? turn + length : UINT64_MAX));
    return turn;
}

bool pace_over_budget(const struct pace *pace, uint64_t used, uint64_t elapsed)
{
    const uint64_t budget = atomic_load(&pace->cpu_ns_per_s);
    return budget != 0 && (double)used * NS_PER_S > (double)budget * (double)elapsed;
}

void pace_lift(struct pace *pace)
{
    atomic_store(&pace->bytes_per_s, 0);
    atomic_store(&pace->cpu_ns_per_s, 0);
}
