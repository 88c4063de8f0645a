/**
 * The key that shards are encrypted with: 32 bytes that come from a file or from a command. They are kept in memory
 * that is not written to core dumps or swap where that can be had, are zeroed when they are given up, and are never
 * part of a text.
 */
#ifndef DCACHE_IO_CODEC_KEY_H
#define DCACHE_IO_CODEC_KEY_H

#include "io/codec.h"

struct codec_key {
    unsigned char bytes[CODEC_KEY_BYTES];
    uint64_t number; /**< tells keys apart; says nothing about the bytes */
};

/**
 * Read the key from `file`, or from what `command` (for /bin/sh) writes to its standard output: 64 hexadecimal digits
 * or the base64 of 32 bytes, and white space. "" in both: there is no key.
 * @param key  out: NULL when there is none; the caller's: codec_key_free()
 * @return DCACHE_OK; DCACHE_ERR_PERMISSION (others can read the file, or we cannot); DCACHE_ERR_OPTION (no key in it,
 * the command failed or took longer than 60 s); the text names the file or the option
 */
dcache_status_t codec_key_load(struct diag *dg, const char *file, const char *command,
                               struct codec_key **key) DCACHE_MUST_CHECK;

/** A copy of those bytes. */
dcache_status_t codec_key_make(struct diag *dg, const unsigned char bytes[CODEC_KEY_BYTES],
                               struct codec_key **key) DCACHE_MUST_CHECK;

/** The bytes of a key's text; false when it is none. Pure. */
bool codec_key_parse(const char *text, size_t length, unsigned char bytes[CODEC_KEY_BYTES]);

/** NULL is allowed. */
void codec_key_free(struct codec_key *key);

#endif
