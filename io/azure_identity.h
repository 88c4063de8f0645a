/**
 * Access tokens for Azure Blob: of a service principal, a workload identity or a managed identity, or from a file or a
 * command. Kept until shortly before they expire, renewed ahead of that, and by any thread. No text has a token or a
 * secret in it.
 */
#ifndef DCACHE_IO_AZURE_IDENTITY_H
#define DCACHE_IO_AZURE_IDENTITY_H

#include "io/http.h"
#include "io/object_store.h"

struct azure_identity;

/** Touches neither the network nor the token file. `http` is kept and has to outlive it; the credentials are copied.
 * @return DCACHE_OK, DCACHE_ERR_NO_MEMORY */
dcache_status_t azure_identity_open(struct diag *dg, struct http_client *http,
                                    const struct object_credentials *credentials, const struct object_policy *policy,
                                    struct azure_identity **identity) DCACHE_MUST_CHECK;

/** Wipe and free it; NULL is allowed. */
void azure_identity_close(struct azure_identity *identity);

/**
 * A token that is good for now. While one is being fetched, other threads wait for it. When the renewal fails, the
 * present token is used as long as it lasts.
 * @return DCACHE_OK; DCACHE_ERR_PERMISSION (there is none for us: the text says who refused it, and the remedy);
 *         DCACHE_ERR_STORE, DCACHE_ERR_CANCELLED, DCACHE_ERR_NO_MEMORY
 */
dcache_status_t azure_identity_token(struct azure_identity *identity, struct diag *dg, const atomic_bool *cancel,
                                     const atomic_bool *stop, char token[HTTP_BEARER_MAX]) DCACHE_MUST_CHECK;

/** The store did not take the token: fetch another one the next time. */
void azure_identity_forget(struct azure_identity *identity);

#endif
