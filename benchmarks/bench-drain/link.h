/* A connection of the sink, plain or TLS. */
#ifndef DCACHE_BENCH_DRAIN_LINK_H
#define DCACHE_BENCH_DRAIN_LINK_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <sys/types.h>

struct link {
    int fd;
    SSL *ssl; /* NULL: plain */
};

/* Make a key and a certificate for 127.0.0.1, and write the latter to a file, for clients to trust. NULL on failure. */
SSL_CTX *link_make_identity(const char *certificate_file);

/* False: no TLS with this client. `identity` NULL: plain. */
bool link_open(struct link *link, int fd, SSL_CTX *identity);
void link_close(struct link *link);

/* Bytes read, at most `most`; 0 or less: the client has gone. `drop`: the bytes need not be there, if that is cheaper.
 */
ssize_t link_read(struct link *link, void *data, size_t most, bool drop);
bool link_write(struct link *link, const void *data, size_t bytes);

#endif
