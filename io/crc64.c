/** CRC-64/NVME: the table implementation, the choice of an implementation, and combining. */
#include "io/crc64.h"

#include <endian.h>
#include <string.h>

#include "io/crc64_internal.h"

/** The polynomial without x^64, reflected: bit 63 is the coefficient of x^0, bit 0 that of x^63. */
#define POLYNOMIAL UINT64_C(0x9A6C9329AC4BC9B5)

/*
 * Slicing-by-8: slice[k][byte] is what `byte` contributes to the CRC when k bytes follow it. The CRC is linear, so
 * the 256 entries of a slice are sums of the 8 entries of the single bits. Those are x^(64 + 8k + 7 - i) modulo the
 * polynomial, for bit i, and stand below in the order i = 0..7; the preprocessor adds them up, so the table is
 * constant data without 2048 numbers in the source.
 */
#define BIT(byte, i, value) ((((byte) >> (i)) & 1) ? UINT64_C(value) : 0)
#define ENTRY(byte, b0, b1, b2, b3, b4, b5, b6, b7)                                                                    \
    (BIT(byte, 0, b0) ^ BIT(byte, 1, b1) ^ BIT(byte, 2, b2) ^ BIT(byte, 3, b3) ^ BIT(byte, 4, b4) ^ BIT(byte, 5, b5) ^ \
     BIT(byte, 6, b6) ^ BIT(byte, 7, b7))
#define ENTRIES_4(byte, ...)                                                                                           \
    ENTRY(byte, __VA_ARGS__), ENTRY((byte) + 1, __VA_ARGS__), ENTRY((byte) + 2, __VA_ARGS__),                          \
        ENTRY((byte) + 3, __VA_ARGS__)
#define ENTRIES_16(byte, ...)                                                                                          \
    ENTRIES_4(byte, __VA_ARGS__), ENTRIES_4((byte) + 4, __VA_ARGS__), ENTRIES_4((byte) + 8, __VA_ARGS__),              \
        ENTRIES_4((byte) + 12, __VA_ARGS__)
#define ENTRIES_64(byte, ...)                                                                                          \
    ENTRIES_16(byte, __VA_ARGS__), ENTRIES_16((byte) + 16, __VA_ARGS__), ENTRIES_16((byte) + 32, __VA_ARGS__),         \
        ENTRIES_16((byte) + 48, __VA_ARGS__)
#define SLICE(...)                                                                                                     \
    {                                                                                                                  \
        ENTRIES_64(0, __VA_ARGS__), ENTRIES_64(64, __VA_ARGS__), ENTRIES_64(128, __VA_ARGS__),                         \
            ENTRIES_64(192, __VA_ARGS__)                                                                               \
    }

static const uint64_t slice[8][256] = {
    SLICE(0x7f6ef0c830358979, 0xfedde190606b12f2, 0xc962e5739841b68f, 0xa61cecb46814fe75, 0x78e0ff3b88be6f81,
          0xf1c1fe77117cdf02, 0xd75adabd7a6e2d6f, 0x9a6c9329ac4bc9b5),
    SLICE(0x8776a97d73bddf69, 0x3a3474a9bfec2db9, 0x7468e9537fd85b72, 0xe8d1d2a6ffb0b6e4, 0xe57a831ea7f6fea3,
          0xfe2c206e177a6e2d, 0xc881668f76634f31, 0xa5dbeb4db4510d09),
    SLICE(0xff6e4e1f4e4038be, 0xca05ba6dc417e217, 0xa0d25288d0b85745, 0x757d8342f9e73de1, 0xeafb0685f3ce7bc2,
          0xe12f2b58bf0b64ef, 0xf68770e226815ab5, 0xd9d7c79715952601),
    SLICE(0x8211147cbaf96306, 0x30fb0eaa2d655567, 0x61f61d545acaaace, 0xc3ec3aa8b595559c, 0xb301530233bd3853,
          0x52db80573fede3cd, 0xa5b700ae7fdbc79a, 0x7fb7270fa7201c5f),
    SLICE(0x373d15f784905d1e, 0x6e7a2bef0920ba3c, 0xdcf457de12417478, 0x8d3189ef7c157b9b, 0x2eba358da0bd645d,
          0x5d746b1b417ac8ba, 0xbae8d63682f59174, 0x41088a3e5d7cb183),
    SLICE(0xe9742a79ef04a5d4, 0xe63172a0869ed8c3, 0xf8bbc31255aa22ed, 0xc5aea077f3c3d6b1, 0xbf8466bcbf103e09,
          0x4bd1eb2a26b7ef79, 0x97a3d6544d6fdef2, 0x1b9e8afbc2482e8f),
    SLICE(0xfc5d27f6bf353971, 0xcc6369be26fde189, 0xac1ff52f156c5079, 0x6ce6cc0d724f3399, 0xd9cd981ae49e6732,
          0x8742166691ab5d0f, 0x3a5d0a9e7bc12975, 0x74ba153cf78252ea),
    SLICE(0x21e9761e252621ac, 0x43d2ec3c4a4c4358, 0x87a5d878949886b0, 0x3b9296a271a69e0b, 0x77252d44e34d3c16,
          0xee4a5a89c69a782c, 0xe84d9340d5a36333, 0xe44200d2f3d1550d),
};

/** The register after the 8 message bytes that `word`, already added to the old register, stands for. */
static inline uint64_t step_word(uint64_t word)
{
    return slice[7][word & 0xff] ^ slice[6][word >> 8 & 0xff] ^ slice[5][word >> 16 & 0xff] ^
           slice[4][word >> 24 & 0xff] ^ slice[3][word >> 32 & 0xff] ^ slice[2][word >> 40 & 0xff] ^
           slice[1][word >> 48 & 0xff] ^ slice[0][word >> 56];
}

static inline uint64_t step_byte(uint64_t state, uint8_t byte)
{
    return state >> 8 ^ slice[0][(state ^ byte) & 0xff];
}

uint64_t crc64_table_update(uint64_t crc, const void *data, size_t bytes)
{
    const uint8_t *source = data;
    uint64_t state = ~crc;
    size_t at = 0;
    for (; bytes - at >= 8; at += 8) {
        uint64_t word;
        memcpy(&word, source + at, 8);
        state = step_word(state ^ le64toh(word));
    }
    for (; at < bytes; at++)
        state = step_byte(state, source[at]);
    return ~state;
}

uint64_t crc64_table_copy(uint64_t crc, void *target, const void *source, size_t bytes)
{
    const uint8_t *from = source;
    uint8_t *to = target;
    uint64_t state = ~crc;
    size_t at = 0;
    for (; bytes - at >= 8; at += 8) {
        uint64_t word;
        memcpy(&word, from + at, 8);
        memcpy(to + at, &word, 8);
        state = step_word(state ^ le64toh(word));
    }
    for (; at < bytes; at++) {
        to[at] = from[at];
        state = step_byte(state, to[at]);
    }
    return ~state;
}

static bool table_usable(void)
{
    return true;
}

/* The table is slower than any memory, so storing past the caches has nothing to win there. */
static const struct crc64_implementation implementations[] = {
#ifdef __x86_64__
    {"vpclmulqdq", crc64_vpclmulqdq_usable, crc64_vpclmulqdq_update, crc64_vpclmulqdq_copy,
     crc64_vpclmulqdq_copy_stream},
    {"pclmulqdq", crc64_pclmulqdq_usable, crc64_pclmulqdq_update, crc64_pclmulqdq_copy, crc64_pclmulqdq_copy_stream},
#endif
    {"table", table_usable, crc64_table_update, crc64_table_copy, crc64_table_copy},
};

const struct crc64_implementation *crc64_implementations(size_t *count)
{
    *count = sizeof implementations / sizeof implementations[0];
    return implementations;
}

/**
 * Chosen anew by each call: the compiler's runtime asked the CPU before main(), what is left is a load and a bit test
 * per implementation. That is cheaper than anything worth remembering, and there is no state of ours to race for.
 */
static const struct crc64_implementation *choose(void)
{
    const struct crc64_implementation *candidate = implementations;
    while (!candidate->usable())
        candidate++;
    return candidate;
}

uint64_t crc64_update(uint64_t crc, const void *data, size_t bytes)
{
    return choose()->update(crc, data, bytes);
}

uint64_t crc64_copy(uint64_t crc, void *target, const void *source, size_t bytes)
{
    return choose()->copy(crc, target, source, bytes);
}

uint64_t crc64_copy_stream(uint64_t crc, void *target, const void *source, size_t bytes)
{
    return choose()->copy_stream(crc, target, source, bytes);
}

/** The product of two reflected polynomials, modulo the CRC's. Masks instead of branches: the bits are random. */
static uint64_t multiply(uint64_t a, uint64_t b)
{
    uint64_t product = 0;
    for (int degree = 0; degree < 64; degree++) {
        product ^= b & -(a >> 63);
        a <<= 1;
        b = b >> 1 ^ (POLYNOMIAL & -(b & 1));
    }
    return product;
}

/**
 * Appending B moves A's polynomial up by 8 * bytes_b degrees and adds B's: crc(A) * x^(8 * bytes_b) + crc(B), where
 * the initial value and the final xor cancel out. The power comes from squaring, one bit of the length at a time.
 */
uint64_t crc64_combine(uint64_t crc_a, uint64_t crc_b, uint64_t bytes_b)
{
    uint64_t power = UINT64_C(1) << (63 - 8);
    for (uint64_t rest = bytes_b; rest != 0; rest >>= 1) {
        if (rest & 1)
            crc_a = multiply(crc_a, power);
        power = multiply(power, power);
    }
    return crc_a ^ crc_b;
}
