/* The plain loop that a copy past the caches can be, with no digest and no tricks: a floor, not a library. */
#include "bench.h"

#include <string.h>

#ifdef __x86_64__

#include <immintrin.h>

enum { WIDE = 32, TURN = 4 * WIDE };

__attribute__((target("avx2"))) static void stream(unsigned char *to, const unsigned char *from, size_t turns)
{
    for (; turns > 0; turns--, to += TURN, from += TURN) {
        __m256i a = _mm256_loadu_si256((const __m256i *)(const void *)from);
        __m256i b = _mm256_loadu_si256((const __m256i *)(const void *)(from + WIDE));
        __m256i c = _mm256_loadu_si256((const __m256i *)(const void *)(from + 2 * WIDE));
        __m256i d = _mm256_loadu_si256((const __m256i *)(const void *)(from + 3 * WIDE));
        _mm256_stream_si256((__m256i *)(void *)to, a);
        _mm256_stream_si256((__m256i *)(void *)(to + WIDE), b);
        _mm256_stream_si256((__m256i *)(void *)(to + 2 * WIDE), c);
        _mm256_stream_si256((__m256i *)(void *)(to + 3 * WIDE), d);
    }
    _mm_sfence();
}

bool nontemporal_copy(void *target, const void *source, size_t bytes)
{
    unsigned char *to = target;
    const unsigned char *from = source;
    size_t turns = bytes / TURN;

    if (!__builtin_cpu_supports("avx2") || (uintptr_t)to % WIDE != 0)
        return false;
    stream(to, from, turns);
    memcpy(to + turns * TURN, from + turns * TURN, bytes - turns * TURN);
    return true;
}

#else

bool nontemporal_copy(void *target, const void *source, size_t bytes)
{
    (void)target;
    (void)source;
    (void)bytes;
    return false;
}

#endif
