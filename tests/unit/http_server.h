/**
 * An HTTP server that answers as a script says, for tests of what a broken service does to us. One connection at a
 * time, on the loopback address; it closes each connection after its answer without saying so before, as services do
 * that give up idle connections.
 */
#ifndef DCACHE_TESTS_UNIT_HTTP_SERVER_H
#define DCACHE_TESTS_UNIT_HTTP_SERVER_H

#include <stddef.h>
#include <stdint.h>

#define HTTP_SERVER_REQUESTS_MAX 64

enum reply_action {
    REPLY_SEND,    /**< read the whole request, answer */
    REPLY_EARLY,   /**< answer after the request's headers, read no body */
    REPLY_STALL,   /**< read the request, answer nothing, keep the connection */
    REPLY_HOLD,    /**< as REPLY_STALL, but other connections are served meanwhile */
    REPLY_RESET,   /**< read the request, reset the connection */
    REPLY_DRIP,    /**< read the request, send the text again and again, slowly, without end */
    REPLY_ENDLESS, /**< read the request, send the text, then the same byte without end, as fast as it goes */
};

struct reply {
    enum reply_action action;
    const char *text; /**< "@ID@" in it becomes the identity (x-ms-meta-dcacheput) of the last request that had one */
};

struct http_server;

/** Start one that gives these replies, one for each request, the last one for all further ones. Kept, not copied. */
struct http_server *http_server_start(const struct reply *script, size_t count);

int http_server_port(const struct http_server *server);

/** How many requests have come so far. */
unsigned http_server_requests(const struct http_server *server);

/** The head of request `index`, as it was sent, "" when there was none. Valid until http_server_stop(). */
const char *http_server_head(struct http_server *server, unsigned index);

/** The beginning of the body of request `index`, "" when there was none. Valid until http_server_stop(). */
const char *http_server_body(struct http_server *server, unsigned index);

/** CRC-64/NVME of what was read of the body of request `index`, and its length. */
uint64_t http_server_body_crc(struct http_server *server, unsigned index, uint64_t *bytes);

/** Stop it and free it. */
void http_server_stop(struct http_server *server);

#endif
