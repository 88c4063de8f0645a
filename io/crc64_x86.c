/**
 * CRC-64/NVME by carry-less multiplication, 128 bits (PCLMULQDQ) and 256 bits (VPCLMULQDQ with AVX2) wide, alone or
 * fused with a copy. Each function is compiled for its own instructions, so one library runs on every x86-64.
 *
 * How it works: the message is a polynomial, and a 128-bit piece of it N bits ahead of another one can be replaced by
 * an equivalent (modulo the CRC's polynomial) that lies upon the other: its upper half times x^(N + 64), plus its
 * lower half times x^N, both powers reduced to 64 bits beforehand. "Folding" does that to 8 accumulators at once, so
 * that the multiplications overlap, then to the 8 among themselves, then over the last few 16 bytes; at the end 128
 * bits are left, which a Barrett reduction turns into the CRC. The data is reflected: the first byte, bit 0, is the
 * highest power, and a carry-less product of two reflected numbers is short by one power of x, so the constants are
 * the powers N + 63 and N - 1. All constants follow from the polynomial; the tests compare with a bitwise loop.
 */
#ifdef __x86_64__

#include <immintrin.h>

#include "io/crc64.h"
#include "io/crc64_internal.h"

#define PCLMUL         __attribute__((target("pclmul")))
#define VPCLMUL        __attribute__((target("avx2,pclmul,vpclmulqdq")))
#define PCLMUL_INLINE  static inline PCLMUL __attribute__((always_inline))
#define VPCLMUL_INLINE static inline VPCLMUL __attribute__((always_inline))

enum { ACCUMULATORS = 8, LINE = 64 };

/** What happens to the bytes on the way; a constant in every call, so that each use gets its own loop. */
enum store { STORE_NOTHING, STORE_CACHED, STORE_STREAM };

/** A streamed copy below this size stays in the caches: its start and end would cost more than it can win. */
enum { STREAM_MIN = 4096 };

/**
 * The streaming loops load one byte of the target this far ahead, once per page: a store past the caches has nothing
 * to hide a TLB miss behind, and this takes the miss early (measured: 8 to 20 % on Zen 4 with 4 KiB pages).
 * Prefetching the source measured slower at all distances: the hardware does that itself.
 */
enum { PAGE = 4096, TOUCH_AHEAD = 2 * PAGE };

/**
 * A long streamed copy goes along several lanes at once, a few lines of each in turn, so that more pages are open in
 * the memory and more of them are prefetched: as glibc's memcpy does with large copies. Measured beside one lane on a
 * Sapphire Rapids with all cores busy: two lanes 1.28 times, four 1.37, eight 1.30; how long the lanes are, from 16 KiB
 * on, and how many bytes a turn takes, up to 512, makes no difference.
 */
enum { LANES = 4, LANE_BYTES = 65536, LANE_TURN = 512, BLOCK_BYTES = LANES * LANE_BYTES };

/* Powers of x modulo the polynomial, reflected: x^(N + 63) for the upper half, x^(N - 1) for the lower half. */
struct fold_by {
    uint64_t upper;
    uint64_t lower;
};
static const struct fold_by by_128 = {UINT64_C(0xeadc41fd2ba3d420), UINT64_C(0x21e9761e252621ac)};
static const struct fold_by by_256 = {UINT64_C(0xb0bc2e589204f500), UINT64_C(0xe1e0bb9d45d7a44c)};
static const struct fold_by by_1024 = {UINT64_C(0xa1ca681e733f9c40), UINT64_C(0x5f852fb61e8d92dc)};
static const struct fold_by by_2048 = {UINT64_C(0x37ccd3e14069cabc), UINT64_C(0xa043808c0f782663)};
static const struct fold_by by_lane = {UINT64_C(0x8815283c57f27cf3), UINT64_C(0x46002f9207f104c1)}; /* 8 x LANE_BYTES */

/* For the Barrett reduction, 65 bits reflected without the lowest power: x^128 / polynomial, and the polynomial. */
static const uint64_t quotient_65 = UINT64_C(0x27ecfa329aef9f77);
static const uint64_t polynomial_65 = UINT64_C(0x34d926535897936b);

PCLMUL_INLINE __m128i load_128(struct fold_by by)
{
    return _mm_set_epi64x((long long)by.lower, (long long)by.upper);
}

PCLMUL_INLINE __m128i fold_128(__m128i ahead, __m128i by, __m128i onto)
{
    const __m128i upper = _mm_clmulepi64_si128(ahead, by, 0x00);
    const __m128i lower = _mm_clmulepi64_si128(ahead, by, 0x11);
    return _mm_xor_si128(_mm_xor_si128(upper, lower), onto);
}

/** Take 16 bytes of the source at `at`, putting them into the target on the way. */
PCLMUL_INLINE __m128i take_128(uint8_t *target, const uint8_t *source, size_t at, enum store store)
{
    const __m128i data = _mm_loadu_si128((const __m128i *)(source + at));
    if (store == STORE_CACHED)
        _mm_storeu_si128((__m128i *)(target + at), data);
    else if (store == STORE_STREAM)
        _mm_stream_si128((__m128i *)(target + at), data);
    return data;
}

PCLMUL_INLINE uint64_t upper_64(__m128i value)
{
    return (uint64_t)_mm_cvtsi128_si64(_mm_unpackhi_epi64(value, value));
}

/** The last 128 bits times x^64, modulo the polynomial: what is left of the message as a CRC. */
PCLMUL_INLINE uint64_t reduce_128(__m128i rest)
{
    const __m128i by = load_128(by_128);
    const __m128i barrett = _mm_set_epi64x((long long)polynomial_65, (long long)quotient_65);
    const __m128i shifted = _mm_xor_si128(_mm_clmulepi64_si128(rest, by, 0x10), _mm_srli_si128(rest, 8));
    const __m128i quotient = _mm_clmulepi64_si128(shifted, barrett, 0x00);
    const __m128i multiple = _mm_clmulepi64_si128(quotient, barrett, 0x10);
    return upper_64(shifted) ^ upper_64(multiple) ^ (uint64_t)_mm_cvtsi128_si64(quotient);
}

/** Fold what lies from `at` to the end onto `rest`, the equivalent of all before it; the finished CRC. */
PCLMUL_INLINE uint64_t finish(__m128i rest, uint8_t *target, const uint8_t *source, size_t at, size_t bytes,
                              enum store store)
{
    const __m128i by = load_128(by_128);
    for (; bytes - at >= 16; at += 16)
        rest = fold_128(rest, by, take_128(target, source, at, store));
    const uint64_t crc = ~reduce_128(rest);
    if (at == bytes)
        return crc;
    if (store == STORE_NOTHING)
        return crc64_table_update(crc, source + at, bytes - at);
    return crc64_table_copy(crc, target + at, source + at, bytes - at);
}

/** Less than one turn of the wide loops. */
PCLMUL_INLINE uint64_t run_short(uint64_t crc, uint8_t *target, const uint8_t *source, size_t bytes, enum store store)
{
    if (bytes < 16)
        return store == STORE_NOTHING ? crc64_table_update(crc, source, bytes)
                                      : crc64_table_copy(crc, target, source, bytes);
    const __m128i start = _mm_cvtsi64_si128((long long)~crc);
    return finish(_mm_xor_si128(take_128(target, source, 0, store), start), target, source, 16, bytes, store);
}

/** Take the line's translation into the TLB; an address past the target's end does no harm. */
PCLMUL_INLINE void touch_ahead(const uint8_t *target, size_t at)
{
    if (at % PAGE == 0)
        _mm_prefetch((const char *)((uintptr_t)target + at + TOUCH_AHEAD), _MM_HINT_T0);
}

/** How many bytes lie before the target's next cache line. */
static size_t head_bytes(const uint8_t *target)
{
    return -(uintptr_t)target % LINE;
}

/* 128 bits wide */

PCLMUL_INLINE uint64_t run_128(uint64_t crc, uint8_t *target, const uint8_t *source, size_t bytes, enum store store)
{
    const size_t turn = (size_t)ACCUMULATORS * 16;
    if (bytes < turn)
        return run_short(crc, target, source, bytes, store == STORE_STREAM ? STORE_CACHED : store);

    __m128i sum[ACCUMULATORS];
#pragma GCC unroll 8
    for (size_t i = 0; i < ACCUMULATORS; i++)
        sum[i] = take_128(target, source, 16 * i, store);
    sum[0] = _mm_xor_si128(sum[0], _mm_cvtsi64_si128((long long)~crc));

    const __m128i by_turn = load_128(by_1024);
    size_t at = turn;
    for (; bytes - at >= turn; at += turn) {
        if (store == STORE_STREAM)
            touch_ahead(target, at);
#pragma GCC unroll 8
        for (size_t i = 0; i < ACCUMULATORS; i++)
            sum[i] = fold_128(sum[i], by_turn, take_128(target, source, at + 16 * i, store));
    }

    const __m128i by_one = load_128(by_128);
#pragma GCC unroll 8
    for (size_t i = 1; i < ACCUMULATORS; i++)
        sum[i] = fold_128(sum[i - 1], by_one, sum[i]);
    return finish(sum[ACCUMULATORS - 1], target, source, at, bytes, store == STORE_STREAM ? STORE_CACHED : store);
}

bool crc64_pclmulqdq_usable(void)
{
    return __builtin_cpu_supports("pclmul") != 0;
}

PCLMUL uint64_t crc64_pclmulqdq_update(uint64_t crc, const void *data, size_t bytes)
{
    return run_128(crc, NULL, data, bytes, STORE_NOTHING);
}

PCLMUL uint64_t crc64_pclmulqdq_copy(uint64_t crc, void *target, const void *source, size_t bytes)
{
    return run_128(crc, target, source, bytes, STORE_CACHED);
}

PCLMUL uint64_t crc64_pclmulqdq_copy_stream(uint64_t crc, void *target, const void *source, size_t bytes)
{
    if (bytes < STREAM_MIN)
        return crc64_pclmulqdq_copy(crc, target, source, bytes);
    const size_t head = head_bytes(target);
    crc = run_short(crc, target, source, head, STORE_CACHED);
    crc = run_128(crc, (uint8_t *)target + head, (const uint8_t *)source + head, bytes - head, STORE_STREAM);
    _mm_sfence();
    return crc;
}

/* 256 bits wide: two 128-bit accumulators side by side in each register */

VPCLMUL_INLINE __m256i load_256(struct fold_by by)
{
    return _mm256_broadcastsi128_si256(load_128(by));
}

VPCLMUL_INLINE __m256i fold_256(__m256i ahead, __m256i by, __m256i onto)
{
    const __m256i upper = _mm256_clmulepi64_epi128(ahead, by, 0x00);
    const __m256i lower = _mm256_clmulepi64_epi128(ahead, by, 0x11);
    return _mm256_xor_si256(_mm256_xor_si256(upper, lower), onto);
}

VPCLMUL_INLINE __m256i take_256(uint8_t *target, const uint8_t *source, size_t at, enum store store)
{
    const __m256i data = _mm256_loadu_si256((const __m256i *)(source + at));
    if (store == STORE_CACHED)
        _mm256_storeu_si256((__m256i *)(target + at), data);
    else if (store == STORE_STREAM)
        _mm256_stream_si256((__m256i *)(target + at), data);
    return data;
}

/** The first 256 bytes of a message that begins at `at`. */
VPCLMUL_INLINE void start_256(__m256i sum[ACCUMULATORS], uint8_t *target, const uint8_t *source, size_t at,
                              enum store store)
{
#pragma GCC unroll 8
    for (size_t i = 0; i < ACCUMULATORS; i++)
        sum[i] = take_256(target, source, at + 32 * i, store);
}

/** Fold the next 256 bytes onto all before them. */
VPCLMUL_INLINE void turn_256(__m256i sum[ACCUMULATORS], uint8_t *target, const uint8_t *source, size_t at,
                             enum store store)
{
    const __m256i by_turn = load_256(by_2048);

    if (store == STORE_STREAM)
        touch_ahead(target, at);
#pragma GCC unroll 8
    for (size_t i = 0; i < ACCUMULATORS; i++)
        sum[i] = fold_256(sum[i], by_turn, take_256(target, source, at + 32 * i, store));
}

/** The accumulators as one equivalent of 128 bits. */
VPCLMUL_INLINE __m128i join_256(__m256i sum[ACCUMULATORS])
{
    const __m256i by_one = load_256(by_256);

#pragma GCC unroll 8
    for (size_t i = 1; i < ACCUMULATORS; i++)
        sum[i] = fold_256(sum[i - 1], by_one, sum[i]);
    const __m256i last = sum[ACCUMULATORS - 1];
    return fold_128(_mm256_castsi256_si128(last), load_128(by_128), _mm256_extracti128_si256(last, 1));
}

enum { TURN_256 = ACCUMULATORS * 32 };

VPCLMUL_INLINE uint64_t run_256(uint64_t crc, uint8_t *target, const uint8_t *source, size_t bytes, enum store store)
{
    if (bytes < TURN_256)
        return run_short(crc, target, source, bytes, store == STORE_STREAM ? STORE_CACHED : store);

    __m256i sum[ACCUMULATORS];
    start_256(sum, target, source, 0, store);
    sum[0] = _mm256_xor_si256(sum[0], _mm256_set_epi64x(0, 0, 0, (long long)~crc));
    size_t at = TURN_256;
    for (; bytes - at >= TURN_256; at += TURN_256)
        turn_256(sum, target, source, at, store);
    return finish(join_256(sum), target, source, at, bytes, store == STORE_STREAM ? STORE_CACHED : store);
}

/** BLOCK_BYTES past the caches along all lanes. Each lane is a message of its own; folded by a lane's length, one after
 * the other, they are the block. */
VPCLMUL_INLINE uint64_t stream_block(uint64_t crc, uint8_t *target, const uint8_t *source)
{
    __m256i sum[LANES][ACCUMULATORS];

    for (size_t lane = 0; lane < LANES; lane++) {
        start_256(sum[lane], target, source, lane * LANE_BYTES, STORE_STREAM);
        if (lane == 0)
            sum[0][0] = _mm256_xor_si256(sum[0][0], _mm256_set_epi64x(0, 0, 0, (long long)~crc));
        for (size_t turn = TURN_256; turn < LANE_TURN; turn += TURN_256)
            turn_256(sum[lane], target, source, lane * LANE_BYTES + turn, STORE_STREAM);
    }
    for (size_t at = LANE_TURN; at < LANE_BYTES; at += LANE_TURN) {
        for (size_t lane = 0; lane < LANES; lane++) {
            for (size_t turn = 0; turn < LANE_TURN; turn += TURN_256)
                turn_256(sum[lane], target, source, lane * LANE_BYTES + at + turn, STORE_STREAM);
        }
    }
    __m128i rest = join_256(sum[0]);
    for (size_t lane = 1; lane < LANES; lane++)
        rest = fold_128(rest, load_128(by_lane), join_256(sum[lane]));
    return ~reduce_128(rest);
}

/** The compiler's runtime reports AVX2 only where the operating system saves the wide registers as well. */
bool crc64_vpclmulqdq_usable(void)
{
    return __builtin_cpu_supports("vpclmulqdq") && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("pclmul");
}

VPCLMUL uint64_t crc64_vpclmulqdq_update(uint64_t crc, const void *data, size_t bytes)
{
    return run_256(crc, NULL, data, bytes, STORE_NOTHING);
}

VPCLMUL uint64_t crc64_vpclmulqdq_copy(uint64_t crc, void *target, const void *source, size_t bytes)
{
    return run_256(crc, target, source, bytes, STORE_CACHED);
}

VPCLMUL uint64_t crc64_vpclmulqdq_copy_stream(uint64_t crc, void *target, const void *source, size_t bytes)
{
    if (bytes < STREAM_MIN)
        return crc64_vpclmulqdq_copy(crc, target, source, bytes);
    const size_t head = head_bytes(target);
    size_t at = head;
    crc = run_short(crc, target, source, head, STORE_CACHED);
    for (; bytes - at >= BLOCK_BYTES; at += BLOCK_BYTES)
        crc = stream_block(crc, (uint8_t *)target + at, (const uint8_t *)source + at);
    crc = run_256(crc, (uint8_t *)target + at, (const uint8_t *)source + at, bytes - at, STORE_STREAM);
    _mm_sfence();
    return crc;
}

#else

/* Elsewhere this file is empty, which C does not allow. */
typedef int crc64_x86_unused;

#endif
