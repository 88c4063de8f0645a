/**
 * One request to Azure Blob Storage: what is sent, and what an answer means. Between io/http.c, which knows nothing of
 * Azure, and the operations in io/object_azure.c and io/azure_put.c.
 */
#ifndef DCACHE_IO_AZURE_CALL_H
#define DCACHE_IO_AZURE_CALL_H

#include "io/azure_auth.h"
#include "io/azure_blocks.h"
#include "io/azure_identity.h"
#include "io/http.h"
#include "io/object_backend.h"

#define AZURE_IDENTITY_HEADER "x-ms-meta-dcacheput"
#define AZURE_IDENTITY_CHARS  32 /**< hexadecimal */
#define AZURE_PATH_MAX        2048

struct azure_store {
    struct object_store base;
    struct object_azure_place place;
    enum object_auth auth; /**< any but AUTO */
    struct azure_key key;  /**< of OBJECT_AUTH_KEY */
    char sas[sizeof((struct object_credentials *)0)->sas];
    struct azure_identity *identity; /**< NULL: no tokens */
    struct http_client *http;
    const char *endpoint_path; /**< of place.endpoint: "" or "/account" */
    size_t origin_length;      /**< of place.endpoint without that path */
    _Atomic uint64_t hedged;   /**< blocks that were sent twice because they took long */
    struct azure_blocks blocks;
};

/** One request: what to send. */
struct azure_call {
    const struct azure_store *store;
    const char *method;
    const char *verb; /**< for texts: "store", "read" */
    const char *key;  /**< of the object; NULL: the container itself */
    char path[AZURE_PATH_MAX];
    struct azure_query query[AZURE_QUERY_MAX]; /**< ascending by name */
    size_t query_count;
    struct http_headers headers; /**< without those that every attempt adds */
    const void *body;
    size_t body_bytes;
    /** Of a body that is not in memory (or NULL): as struct http_request has it, with this context. */
    dcache_status_t (*read)(void *context, struct diag *dg, uint64_t offset, void *buffer, size_t *bytes);
    void *read_context;
    bool suspect;        /**< the service got other bytes than were meant: what `read` gives is digested from now on, */
    uint64_t sent_bytes; /**< so much of it, */
    uint64_t sent_crc;   /**< and this is its CRC */
    bool has_crc;
    bool renewed;        /**< the service did not take a token, and there was another one since */
    unsigned unreadable; /**< how often the service could not read what was sent */
    uint64_t crc;        /**< of the body, from the source's digests */
    struct http_sink *sink;
    const atomic_bool *cancel; /**< or NULL */
    const atomic_bool *stop;   /**< or NULL; as cancel, for another reason */
};

/** A random number in hexadecimal. */
void azure_call_random(char text[AZURE_IDENTITY_CHARS + 1]);

struct azure_call azure_call_make(const struct azure_store *store, const char *method, const char *verb,
                                  const char *key);
/** One too many, or one too long, makes azure_call_send() fail. */
void azure_call_add_header(struct azure_call *call, const char *name, const char *value);
/** `value` is kept, not copied. In ascending order of names. */
void azure_call_add_query(struct azure_call *call, const char *name, const char *value);

/** Send it. DCACHE_OK: there is an answer, of any status that is not retried. */
dcache_status_t azure_call_send(struct azure_call *call, struct diag *dg,
                                struct http_response *response) DCACHE_MUST_CHECK;

/** Word the failure that an answer, or the lack of one, is. */
dcache_status_t azure_call_fail(const struct azure_call *call, struct diag *dg, const struct http_response *response);

const char *azure_call_error_code(const struct http_response *response);
/** Only Azure Blob answers so; a proxy's or another server's 404 says nothing about an object. */
bool azure_call_is_answer(const struct http_response *response);
bool azure_call_is_missing(const struct http_response *response);
/** An answer to a conditional put when the key is taken. */
bool azure_call_is_taken(const struct http_response *response);
/** The service got other bytes than their digest says. */
bool azure_call_is_digest_error(const struct http_response *response);
/** The digest is right here, so the bytes were spoilt on the way. Of a body that is not in memory that is known from
 * the second time on; until then it counts as right. */
bool azure_call_body_matches(const struct azure_call *call);

/** An upload was answered with 201: is it of the bytes that were meant? Azure tells their CRC without being asked. */
dcache_status_t azure_call_check_stored(const struct azure_call *call, struct diag *dg,
                                        const struct http_response *response) DCACHE_MUST_CHECK;

/** Ask for an object's headers. DCACHE_NOT_FOUND without a text. */
dcache_status_t azure_call_head(const struct azure_store *store, struct diag *dg, const char *key,
                                const atomic_bool *cancel, struct http_response *response) DCACHE_MUST_CHECK;

/** Remove an object, or only the one with that etag ("" = any). */
dcache_status_t azure_call_remove(const struct azure_store *store, struct diag *dg, const char *key,
                                  const char *etag) DCACHE_MUST_CHECK;

#endif
