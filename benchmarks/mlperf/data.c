/* What is saved: a function of rank, step and place, so that whoever reads it back can tell whether it is right. */
#include "mlperf.h"

#include <string.h>

#define WORD     ((uint64_t)sizeof(uint64_t))
#define ONE_WORD 512u /* compressible: so many words are the same */

/* The finaliser of a good hash: neighbours look unrelated, nothing compresses. */
static inline uint64_t mix(uint64_t value)
{
    value = (value ^ (value >> 33)) * UINT64_C(0xff51afd7ed558ccd);
    value = (value ^ (value >> 33)) * UINT64_C(0xc4ceb9fe1a85ec53);
    return value ^ (value >> 33);
}

static uint64_t seed_of(int rank, int64_t step)
{
    return mix((uint64_t)step * UINT64_C(0x9e3779b97f4a7c15) + (uint64_t)rank + 1);
}

static inline uint64_t word_at(uint64_t seed, uint64_t index, bool compressible)
{
    return mix(seed + (compressible ? index / ONE_WORD : index));
}

void data_fill(unsigned char *data, uint64_t bytes, int rank, int64_t step, bool compressible)
{
    uint64_t seed = seed_of(rank, step), words = bytes / WORD;

    for (uint64_t i = 0; i < words; i++) {
        uint64_t word = word_at(seed, i, compressible);
        memcpy(data + i * WORD, &word, WORD);
    }
    uint64_t last = word_at(seed, words, compressible);
    memcpy(data + words * WORD, &last, bytes % WORD);
}

uint64_t data_first_difference(const unsigned char *data, uint64_t bytes, int rank, int64_t step, bool compressible)
{
    uint64_t seed = seed_of(rank, step);

    for (uint64_t at = 0; at < bytes; at += WORD) {
        uint64_t word = word_at(seed, at / WORD, compressible), left = bytes - at;
        if (memcmp(data + at, &word, left < WORD ? left : WORD) != 0)
            return at;
    }
    return bytes;
}
