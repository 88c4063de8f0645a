/**
 * Who we are to Azure Blob Storage: account, key and endpoint from the environment, and Shared Key signatures. Nothing
 * here puts a secret into a text.
 */
#ifndef DCACHE_IO_AZURE_AUTH_H
#define DCACHE_IO_AZURE_AUTH_H

#include "io/http.h"
#include "io/object_store.h"

#define AZURE_KEY_MAX            192
#define AZURE_QUERY_MAX          6
#define AZURE_VARIABLE_MAX       192 /* name of an environment variable */
#define AZURE_STRING_TO_SIGN_MAX 12288

/** A decoded account key. */
struct azure_key {
    unsigned char data[AZURE_KEY_MAX];
    size_t bytes;
};

/** One name=value of a URL's query, not percent-encoded. */
struct azure_query {
    const char *name;
    const char *value;
};

/** What a signature covers. */
struct azure_signed {
    const char *method;
    const char *account;
    const char *path;                /**< as sent, so for path-style endpoints it starts with the account too */
    const struct azure_query *query; /**< in ascending order of names, which are lower-case */
    size_t query_count;
    uint64_t content_length;
    const struct http_headers *headers; /**< all that are sent and start with x-ms-; If-Match, If-None-Match, Range */
};

/**
 * Take a connection string apart: AccountName, AccountKey, SharedAccessSignature, BlobEndpoint, EndpointSuffix,
 * DefaultEndpointsProtocol, UseDevelopmentStorage=true (the emulator's published account). Endpoints of other services
 * are passed over.
 * @return DCACHE_OK; DCACHE_ERR_OPTION (the text names the part, never its value)
 */
dcache_status_t azure_auth_parse(struct diag *dg, const char *text,
                                 struct object_credentials *credentials) DCACHE_MUST_CHECK;

/**
 * What the environment says (the variables are listed at object_store_resolve()); fields of which it says nothing are
 * "". The key is checked, the endpoint is complete when there is an account.
 * @return DCACHE_OK; DCACHE_ERR_OPTION
 */
dcache_status_t azure_auth_environment(struct diag *dg, struct object_credentials *credentials) DCACHE_MUST_CHECK;

/**
 * Of what the environment says, keep what can be used with this account: its own connection string, where there is one
 * (AZURE_STORAGE_CONNECTION_STRING_ and the account's name in capitals), in place of a key or signature of another
 * account. Identities are of no account, and stay.
 * @param others  out: there was a key or signature, and it was another account's
 * @return DCACHE_OK; DCACHE_ERR_OPTION (its connection string is bad, or another account's)
 */
dcache_status_t azure_auth_narrow(struct diag *dg, const char *account, struct object_credentials *credentials,
                                  bool *others) DCACHE_MUST_CHECK;

/** The variable for an account's own connection string; `name` has AZURE_VARIABLE_MAX bytes. */
void azure_auth_variable(const char *account, char name[AZURE_VARIABLE_MAX]);

/** Decode base64; false when it is none, is empty or is longer than AZURE_KEY_MAX. */
bool azure_auth_decode_key(const char *base64, struct azure_key *key) DCACHE_MUST_CHECK;

/** What is signed; false when it is too long. For azure_auth_sign() and for the test that knows the answer. */
bool azure_auth_string_to_sign(const struct azure_signed *request,
                               char text[AZURE_STRING_TO_SIGN_MAX]) DCACHE_MUST_CHECK;

/** The value of the header Authorization. @return DCACHE_OK, DCACHE_ERR_INTERNAL (too long, or no HMAC to be had) */
dcache_status_t azure_auth_sign(struct diag *dg, const struct azure_key *key, const struct azure_signed *request,
                                char authorization[HTTP_HEADER_VALUE_MAX]) DCACHE_MUST_CHECK;

/** A CRC-64 as in x-ms-content-crc64: 8 bytes little-endian, base64. */
void azure_auth_crc_text(uint64_t crc, char text[16]);

#endif
