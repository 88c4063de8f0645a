/**
 * Which of the ways to say who we are is taken: the one that was asked for, or the first that the environment has.
 */
#ifndef DCACHE_IO_AZURE_METHOD_H
#define DCACHE_IO_AZURE_METHOD_H

#include "io/object_store.h"

/**
 * Decide, and say so in credentials->auth.
 * @return NULL, or what is missing and how to give it
 */
const char *azure_method_pick(enum object_auth asked, bool is_https,
                              struct object_credentials *credentials) DCACHE_MUST_CHECK;

/** "key", "managed-identity" and so on. */
const char *azure_method_name(enum object_auth auth);

/** Why a way cannot be taken, or NULL: it can, as far as can be told without the network. */
const char *azure_method_missing(enum object_auth auth, bool is_https,
                                 const struct object_credentials *credentials) DCACHE_MUST_CHECK;

/** "taken: sas; not key: there is no key ...; not managed-identity: not asked for", for all ways. */
void azure_method_explain(enum object_auth asked, bool is_https, const struct object_credentials *credentials,
                          char *text, size_t size);

#endif
