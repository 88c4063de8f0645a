/** The digest: every implementation against a bitwise loop written from the definition alone. */
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>

#include "io/crc64.h"
#include "tests/unit/unit.h"

enum { KIB = 1024, MIB = 1024 * KIB, GUARD = 128, PAD = 64 };

/* Deterministic pseudo-random numbers (splitmix64), so that a failure can be repeated. */
static uint64_t next_random(uint64_t *seed)
{
    uint64_t value = *seed += UINT64_C(0x9e3779b97f4a7c15);
    value = (value ^ value >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    value = (value ^ value >> 27) * UINT64_C(0x94d049bb133111eb);
    return value ^ value >> 31;
}

static size_t random_below(uint64_t *seed, size_t limit)
{
    return (size_t)(next_random(seed) % limit);
}

static uint64_t reference(uint64_t crc, const uint8_t *data, size_t bytes)
{
    uint64_t state = ~crc;
    for (size_t i = 0; i < bytes; i++) {
        state ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            state = state >> 1 ^ ((state & 1) != 0 ? UINT64_C(0x9A6C9329AC4BC9B5) : 0);
    }
    return ~state;
}

/* A source, a target with room for guards around any copy, and what each of them has to look like afterwards. */
struct arena {
    size_t bytes; /* the longest copy */
    uint8_t *source;
    uint8_t *source_before;
    uint8_t *target;
};

static uint8_t *allocate_aligned(size_t bytes)
{
    void *memory = NULL;
    if (posix_memalign(&memory, PAD, (bytes + PAD - 1) / PAD * PAD) != 0)
        abort();
    return memory;
}

static struct arena open_arena(size_t bytes, uint64_t seed)
{
    struct arena arena = {bytes, allocate_aligned(bytes + PAD), allocate_aligned(bytes + PAD),
                          allocate_aligned(bytes + PAD + 2 * (size_t)GUARD)};
    for (size_t i = 0; i < bytes + PAD; i++)
        arena.source[i] = (uint8_t)next_random(&seed);
    memcpy(arena.source_before, arena.source, bytes + PAD);
    return arena;
}

/** Also the check that no call so far has changed the source. */
static void close_arena(struct arena *arena)
{
    CU_ASSERT(memcmp(arena->source, arena->source_before, arena->bytes + PAD) == 0);
    free(arena->source);
    free(arena->source_before);
    free(arena->target);
}

static bool all_equal(const uint8_t *data, size_t bytes, uint8_t value)
{
    for (size_t i = 0; i < bytes; i++)
        if (data[i] != value)
            return false;
    return true;
}

/** One copy to `target_at` bytes past an alignment of 64; the target's guards on both sides have to survive. */
static bool copy_is_right(struct arena *arena, uint64_t (*copy)(uint64_t, void *, const void *, size_t), uint64_t crc,
                          uint64_t expected, size_t source_at, size_t target_at, size_t bytes)
{
    uint8_t *before = arena->target + target_at;
    uint8_t *target = before + GUARD;
    memset(before, 0xA5, bytes + 2 * (size_t)GUARD);
    return copy(crc, target, arena->source + source_at, bytes) == expected &&
           memcmp(target, arena->source_before + source_at, bytes) == 0 && all_equal(before, GUARD, 0xA5) &&
           all_equal(target + bytes, GUARD, 0xA5);
}

/** All functions of all usable implementations, and the public ones, on one piece. */
static void check_piece(struct arena *arena, uint64_t crc, size_t source_at, size_t target_at, size_t bytes)
{
    size_t count = 0;
    const struct crc64_implementation *all = crc64_implementations(&count);
    const struct crc64_implementation public = {"public", NULL, crc64_update, crc64_copy, crc64_copy_stream};
    const uint64_t expected = reference(crc, arena->source_before + source_at, bytes);
    for (size_t i = 0; i <= count; i++) {
        const struct crc64_implementation *tried = i < count ? &all[i] : &public;
        if (i < count && !tried->usable())
            continue;
        bool good = tried->update(crc, arena->source + source_at, bytes) == expected &&
                    copy_is_right(arena, tried->copy, crc, expected, source_at, target_at, bytes) &&
                    copy_is_right(arena, tried->copy_stream, crc, expected, source_at, target_at, bytes);
        if (!good)
            fprintf(stderr, "\n%s is wrong: %zu bytes, source at %zu, target at %zu, after %016llx\n", tried->name,
                    bytes, source_at, target_at, (unsigned long long)crc);
        CU_ASSERT(good);
    }
}

static void test_published_values(void)
{
    size_t count = 0;
    const struct crc64_implementation *all = crc64_implementations(&count);
    /* Azure documents the CRC64 of "hello" as V0JSBnCFdzM=, which is base64 of these 8 bytes, lowest first. */
    static const uint8_t hello[8] = {0x57, 0x42, 0x52, 0x06, 0x70, 0x85, 0x77, 0x33};
    for (size_t i = 0; i < count; i++) {
        if (!all[i].usable())
            continue;
        CU_ASSERT_EQUAL(all[i].update(0, "123456789", 9), UINT64_C(0xAE8B14860A799888));
        const uint64_t crc = all[i].update(0, "hello", 5);
        for (int byte = 0; byte < 8; byte++)
            CU_ASSERT_EQUAL((uint8_t)(crc >> 8 * byte), hello[byte]);
        CU_ASSERT_EQUAL(all[i].update(0, "", 0), 0);
    }
    CU_ASSERT_EQUAL(crc64_update(0, "123456789", 9), UINT64_C(0xAE8B14860A799888));
    CU_ASSERT_EQUAL(reference(0, (const uint8_t *)"123456789", 9), UINT64_C(0xAE8B14860A799888));
}

static void test_nothing_changes_nothing(void)
{
    size_t count = 0;
    const struct crc64_implementation *all = crc64_implementations(&count);
    for (size_t i = 0; i < count; i++) {
        if (!all[i].usable())
            continue;
        CU_ASSERT_EQUAL(all[i].update(42, NULL, 0), 42);
        CU_ASSERT_EQUAL(all[i].copy(42, NULL, NULL, 0), 42);
        CU_ASSERT_EQUAL(all[i].copy_stream(42, NULL, NULL, 0), 42);
    }
}

static void test_implementations_listed(void)
{
    size_t count = 0;
    const struct crc64_implementation *all = crc64_implementations(&count);
    CU_ASSERT_FATAL(count >= 1);
    CU_ASSERT_STRING_EQUAL(all[count - 1].name, "table");
    CU_ASSERT(all[count - 1].usable());
#ifdef __x86_64__
    CU_ASSERT_FATAL(count == 3);
    CU_ASSERT_STRING_EQUAL(all[0].name, "vpclmulqdq");
    CU_ASSERT_STRING_EQUAL(all[1].name, "pclmulqdq");
#endif
    printf("usable here:");
    for (size_t i = 0; i < count; i++)
        printf("%s%s", all[i].usable() ? " " : " not ", all[i].name);
    printf(" ");
}

static void test_every_length(void)
{
    uint64_t seed = 1;
    struct arena arena = open_arena(4 * KIB, seed);
    for (size_t bytes = 0; bytes <= arena.bytes; bytes++)
        check_piece(&arena, next_random(&seed), random_below(&seed, PAD), random_below(&seed, PAD), bytes);
    close_arena(&arena);
}

/** Lengths on both sides of where streaming starts, at every pair of alignments. */
static void test_every_alignment(void)
{
    uint64_t seed = 2;
    struct arena arena = open_arena(6 * KIB, seed);
    for (size_t source_at = 0; source_at < PAD; source_at++) {
        for (size_t target_at = 0; target_at < PAD; target_at++) {
            check_piece(&arena, 0, source_at, target_at, random_below(&seed, 600));
            check_piece(&arena, next_random(&seed), source_at, target_at, 4 * KIB + random_below(&seed, 2 * KIB));
        }
    }
    close_arena(&arena);
}

static void test_large_pieces(void)
{
    uint64_t seed = 3;
    struct arena arena = open_arena(4 * MIB, seed);
    check_piece(&arena, 0, 0, 0, MIB);
    check_piece(&arena, 0, 0, 0, 4 * MIB);
    for (size_t blocks = 1; blocks <= 3; blocks++) { /* of the streamed copy along several lanes: 256 KiB each */
        for (size_t extra = 0; extra <= 130; extra += 65)
            check_piece(&arena, next_random(&seed), 0, random_below(&seed, 3), blocks * 256 * KIB + extra - 65);
    }
    for (int round = 0; round < 8; round++)
        check_piece(&arena, next_random(&seed), random_below(&seed, PAD), random_below(&seed, PAD),
                    random_below(&seed, arena.bytes));
    close_arena(&arena);
}

/** A message in random pieces, each one digested by any implementation's any function, is one message. */
static void test_split_updates(void)
{
    uint64_t seed = 4;
    size_t count = 0;
    const struct crc64_implementation *all = crc64_implementations(&count);
    struct arena arena = open_arena(256 * KIB, seed);
    const uint64_t expected = reference(0, arena.source_before, arena.bytes);
    for (int round = 0; round < 50; round++) {
        uint64_t crc = 0;
        size_t piece = 0;
        memset(arena.target, 0, arena.bytes);
        for (size_t at = 0; at < arena.bytes; at += piece) {
            const struct crc64_implementation *one = &all[random_below(&seed, count)];
            if (!one->usable())
                one = &all[count - 1];
            piece = random_below(&seed, (size_t)1 << random_below(&seed, 17));
            piece = piece < arena.bytes - at ? piece : arena.bytes - at;
            if (next_random(&seed) & 1)
                crc = one->copy_stream(crc, arena.target + at, arena.source + at, piece);
            else
                crc = one->copy(crc, arena.target + at, arena.source + at, piece);
        }
        CU_ASSERT_EQUAL(crc, expected);
        CU_ASSERT(memcmp(arena.target, arena.source_before, arena.bytes) == 0);
    }
    close_arena(&arena);
}

/** A page in the middle of two that cannot be touched: `bytes` at its start and at its end fault on any excess. */
static void check_in_page(uint8_t *source_page, uint8_t *target_page, size_t page, size_t bytes)
{
    size_t count = 0;
    const struct crc64_implementation *all = crc64_implementations(&count);
    for (size_t i = 0; i < count; i++) {
        if (!all[i].usable())
            continue;
        for (int end = 0; end < 2; end++) {
            const uint8_t *source = end ? source_page + page - bytes : source_page;
            uint8_t *target = end ? target_page + page - bytes : target_page;
            const uint64_t expected = reference(0, source, bytes);
            CU_ASSERT_EQUAL(all[i].update(0, source, bytes), expected);
            CU_ASSERT_EQUAL(all[i].copy(0, target, source, bytes), expected);
            CU_ASSERT_EQUAL(all[i].copy_stream(0, target, source, bytes), expected);
        }
    }
}

static void test_no_byte_outside(void)
{
    uint64_t seed = 5;
    const size_t page = 64 * KIB; /* a multiple of every page size that we meet */
    uint8_t *memory = mmap(NULL, 5 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CU_ASSERT_FATAL(memory != MAP_FAILED);
    uint8_t *source = memory + page;
    uint8_t *target = memory + 3 * page;
    CU_ASSERT_FATAL(mprotect(source, page, PROT_READ | PROT_WRITE) == 0);
    CU_ASSERT_FATAL(mprotect(target, page, PROT_READ | PROT_WRITE) == 0);
    for (size_t i = 0; i < page; i++)
        source[i] = (uint8_t)next_random(&seed);
    CU_ASSERT_FATAL(mprotect(source, page, PROT_READ) == 0);
    for (size_t bytes = 0; bytes <= 600; bytes++)
        check_in_page(source, target, page, bytes);
    check_in_page(source, target, page, 5000);
    check_in_page(source, target, page, page);
    CU_ASSERT(munmap(memory, 5 * page) == 0);
}

static void test_combine_splits(void)
{
    uint64_t seed = 6;
    struct arena arena = open_arena(64 * KIB, seed);
    for (int round = 0; round < 2000; round++) {
        const size_t bytes = random_below(&seed, round < 1000 ? 100 : arena.bytes);
        const size_t first = round % 10 == 0 ? 0 : round % 10 == 1 ? bytes : random_below(&seed, bytes + 1);
        const uint64_t whole = crc64_update(0, arena.source, bytes);
        const uint64_t a = crc64_update(0, arena.source, first);
        const uint64_t b = crc64_update(0, arena.source + first, bytes - first);
        CU_ASSERT_EQUAL(crc64_combine(a, b, bytes - first), whole);
    }
    CU_ASSERT_EQUAL(crc64_combine(42, 0, 0), 42);
    CU_ASSERT_EQUAL(crc64_combine(0, 42, UINT64_C(1) << 40), 42);
    close_arena(&arena);
}

/** Lengths that no test can read: (A B) C has to be A (B C), whatever the numbers. */
static void test_combine_is_associative(void)
{
    uint64_t seed = 7;
    for (int round = 0; round < 500; round++) {
        const uint64_t a = next_random(&seed), b = next_random(&seed), c = next_random(&seed);
        const uint64_t bytes_b = next_random(&seed) >> (1 + random_below(&seed, 60));
        const uint64_t bytes_c = next_random(&seed) >> (1 + random_below(&seed, 60));
        CU_ASSERT_EQUAL(crc64_combine(crc64_combine(a, b, bytes_b), c, bytes_c),
                        crc64_combine(a, crc64_combine(b, c, bytes_c), bytes_b + bytes_c));
    }
}

/** More than 4 GiB of zeros, made by appending one MiB at a time, which is checked against reading them. */
static void test_combine_beyond_4_gib(void)
{
    enum { BLOCKS = 5000 };
    uint8_t *zeros = calloc(1, MIB);
    CU_ASSERT_FATAL(zeros != NULL);
    const uint64_t start = crc64_update(0, "dcache", 6);
    const uint64_t block = crc64_update(0, zeros, MIB);
    uint64_t appended = start, blocks = 0;
    for (int i = 0; i < BLOCKS; i++) {
        const uint64_t next = crc64_combine(appended, block, MIB);
        if (i < 16)
            CU_ASSERT_EQUAL(next, crc64_update(appended, zeros, MIB));
        appended = next;
        blocks = crc64_combine(blocks, block, MIB);
    }
    CU_ASSERT_EQUAL(crc64_combine(start, blocks, (uint64_t)BLOCKS * MIB), appended);
    free(zeros);
}

int main(void)
{
    static const struct unit_case cases[] = {
        {"published values", test_published_values},
        {"nothing changes nothing", test_nothing_changes_nothing},
        {"implementations are listed", test_implementations_listed},
        {"every length up to 4 KiB", test_every_length},
        {"every pair of alignments", test_every_alignment},
        {"large pieces", test_large_pieces},
        {"split updates", test_split_updates},
        {"no byte outside is touched", test_no_byte_outside},
        {"combine: random splits", test_combine_splits},
        {"combine: associative", test_combine_is_associative},
        {"combine: beyond 4 GiB", test_combine_beyond_4_gib},
    };
    return unit_main("crc64", cases, UNIT_COUNT(cases));
}
