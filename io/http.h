/**
 * One HTTP request with its retries, over libcurl: backoff with jitter, Retry-After, a total deadline, stall detection,
 * cancellation. Knows nothing of Azure; io/object_azure.c says what to send and what an answer means.
 *
 * A client keeps connections alive between requests and may be used by several threads at once.
 */
#ifndef DCACHE_IO_HTTP_H
#define DCACHE_IO_HTTP_H

#include "io/diag.h"

#include <stdatomic.h>
#include <stdbool.h>

#define HTTP_HEADERS_MAX      16
#define HTTP_HEADER_NAME_MAX  40
#define HTTP_HEADER_VALUE_MAX 320
#define HTTP_FAILURE_MAX      256
#define HTTP_BEARER_MAX       8192

struct http_client;

/** A few headers of a request or of its answer. */
struct http_headers {
    size_t count;
    struct http_header {
        char name[HTTP_HEADER_NAME_MAX];
        char value[HTTP_HEADER_VALUE_MAX];
    } list[HTTP_HEADERS_MAX];
};

/** Append a header; false, and nothing appended, when there are too many or it is too long. */
bool http_headers_add(struct http_headers *headers, const char *name, const char *value) DCACHE_MUST_CHECK;

/** The value of a header, "" when it is not there. Names are compared without regard to case. */
const char *http_headers_get(const struct http_headers *headers, const char *name);

/** Where the body of a good (2xx) answer goes. Other bodies are not kept. */
struct http_sink {
    char *data;   /**< the caller's, or NULL at first; what is allocated becomes the caller's, also on failure */
    size_t room;  /**< bytes at `data`; while it is less than `limit` they are reallocated as the body grows */
    size_t limit; /**< a longer body is a failure */
    size_t bytes; /**< out: length of the body */
};

struct http_response {
    long status;                    /**< of the last answer; 0 = there was none */
    unsigned attempts;              /**< how many requests were sent */
    double seconds;                 /**< how long all of it took */
    int64_t content_length;         /**< as the answer's header says; -1 = not said */
    struct http_headers headers;    /**< those that the request asked for */
    char failure[HTTP_FAILURE_MAX]; /**< what went wrong below HTTP in the last attempt; "" = nothing */
};

struct http_request {
    const char *method; /**< GET, HEAD, PUT, POST or DELETE */
    const char *url;
    const void *body; /**< of a PUT or POST; may be NULL when body_bytes is 0 */
    size_t body_bytes;
    /** Of a body that is not in memory (or NULL): gives up to `*bytes` bytes of it, at least one, from `offset` on, and
     * says how many. Asked for the same bytes again by another attempt, or when a connection was lost. Not DCACHE_OK
     * ends the request with that status and text. Must not block for long: nothing is sent meanwhile. */
    dcache_status_t (*read)(void *context, struct diag *dg, uint64_t offset, void *buffer, size_t *bytes);
    struct http_sink *sink;    /**< NULL: the answer's body is thrown away */
    const char *const *wanted; /**< names of the answer's headers to keep, ended by NULL; or NULL */
    /** Called before each attempt, to give its headers (dates and signatures must be fresh). */
    dcache_status_t (*prepare)(void *context, struct diag *dg, struct http_headers *headers);
    /** Called before each attempt, for the token of an Authorization: Bearer header; or NULL. */
    dcache_status_t (*bearer)(void *context, struct diag *dg, char token[HTTP_BEARER_MAX]);
    /** May ask for another attempt after an answer that is not retried anyway (408, 429, 500, 502, 503, 504); or NULL.
     */
    bool (*again)(void *context, const struct http_response *response);
    void *context; /**< of read, prepare, bearer and again */
    double timeout_s;
    double stall_s;
    const atomic_bool *cancel; /**< or NULL */
    const atomic_bool *stop;   /**< or NULL; as `cancel`, for another reason */
};

/** What a client has sent since it was opened, over all threads. */
struct http_counts {
    uint64_t requests;  /**< each attempt is one */
    uint64_t retries;   /**< attempts after the first one of a request */
    uint64_t throttled; /**< answers that say the service is busy: 429, 503 */
    uint64_t sent;      /**< bytes of bodies, with those that were sent again */
    uint64_t cpu_ns;    /**< CPU time of the threads that sent them */
};

/** Make a client. Certificates are verified against the bundle that CURL_CA_BUNDLE or SSL_CERT_FILE names, as curl
 * does, or else the system's. @return DCACHE_OK, DCACHE_ERR_NO_MEMORY, DCACHE_ERR_STORE (libcurl cannot be used) */
dcache_status_t http_client_open(struct diag *dg, struct http_client **client) DCACHE_MUST_CHECK;

/** Close its connections and free it; NULL is allowed. No request may be under way. */
void http_client_close(struct http_client *client);

/**
 * Send a request until it is answered for good or the time is over. Redirects are not followed; TLS is 1.2 or newer and
 * verified.
 *
 * @param response  out: always set
 * @return DCACHE_OK: there is a complete answer, whose status is not one that asks for a retry. DCACHE_ERR_STORE: there
 *         is none; `response` says why, and the caller, who knows the names of things, words the text.
 *         DCACHE_ERR_CANCELLED, DCACHE_ERR_NO_MEMORY, and what `prepare` or `read` returns, with a text.
 */
dcache_status_t http_perform(struct http_client *client, struct diag *dg, const struct http_request *request,
                             struct http_response *response) DCACHE_MUST_CHECK;

/** Any thread may ask at any time. */
struct http_counts http_client_counts(struct http_client *client);

/** Append `text` to the string in `url`, percent-encoded but for A-Z a-z 0-9 - _ . ~ ; false when it does not fit. */
bool http_escape_append(char *url, size_t size, const char *text) DCACHE_MUST_CHECK;

#endif
