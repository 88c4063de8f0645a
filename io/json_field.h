/**
 * Fields of JSON documents that nobody vouches for: each is there, of its type and within its bounds, or the document
 * is DCACHE_ERR_CORRUPT. `name` is the document's name for the texts, which never repeat what is in it.
 */
#ifndef DCACHE_IO_JSON_FIELD_H
#define DCACHE_IO_JSON_FIELD_H

#include "io/diag.h"

#include <jansson.h>
#include <stdbool.h>

/**
 * Parse a document and check its "format" (must equal `format`) and "version" (1 to `version`).
 * @param root  out: the object, to be given to json_decref()
 * @return DCACHE_OK, DCACHE_ERR_CORRUPT, DCACHE_ERR_FORMAT (a newer version: the text says what to do)
 */
dcache_status_t json_field_parse(struct diag *dg, const char *name, const char *text, size_t bytes, const char *format,
                                 uint64_t version, json_t **root) DCACHE_MUST_CHECK;

/** A whole number from `minimum` to `maximum` (which is at most INT64_MAX). */
dcache_status_t json_field_number(struct diag *dg, const char *name, const json_t *object, const char *key,
                                  uint64_t minimum, uint64_t maximum, uint64_t *value) DCACHE_MUST_CHECK;

/** A string of 16 hexadecimal digits: numbers of 64 bits, which JSON readers do not know. */
dcache_status_t json_field_hex(struct diag *dg, const char *name, const json_t *object, const char *key,
                               uint64_t *value) DCACHE_MUST_CHECK;

/** A string of at most `size` - 1 bytes without control characters. */
dcache_status_t json_field_text(struct diag *dg, const char *name, const json_t *object, const char *key, char *value,
                                size_t size) DCACHE_MUST_CHECK;

/** As json_field_text(), and of the characters A-Z a-z 0-9 _ . - only, at least one: a job or a drainer. */
dcache_status_t json_field_word(struct diag *dg, const char *name, const json_t *object, const char *key, char *value,
                                size_t size) DCACHE_MUST_CHECK;

/** True for a word as above, other than "." and "..". */
bool json_field_is_word(const char *text);

/** The text of a document, indented, with a newline; steals `root` (NULL: out of memory). malloc'ed, the caller's. */
dcache_status_t json_field_print(struct diag *dg, const char *name, json_t *root, char **text,
                                 size_t *bytes) DCACHE_MUST_CHECK;

#endif
