/**
 * The forms in which a shard's image can be stored in an object: as it is, compressed, encrypted, or both. What they
 * are called in documents and in objects' names.
 */
#ifndef DCACHE_IO_CODEC_H
#define DCACHE_IO_CODEC_H

#include "io/diag.h"

#include <stdbool.h>

/** Two bits. */
enum codec { CODEC_PLAIN = 0, CODEC_ZSTD = 1, CODEC_AES = 2, CODEC_ZSTD_AES = 3 };
#define CODECS 4

/** "plain", "zstd", "aes-256-gcm" or "zstd+aes-256-gcm". */
const char *codec_name(enum codec codec);

/** The codec of that name; false when there is none. */
bool codec_parse(const char *name, enum codec *codec);

/** What follows "shard-<rank>.h5" in the name of an object: "", ".zst", ".aes" or ".zst.aes". */
const char *codec_suffix(enum codec codec);

#endif
