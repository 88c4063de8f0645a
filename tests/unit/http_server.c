#include "http_server.h"

#include "io/crc64.h"

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEAD_MAX 8192

struct http_server {
    const struct reply *script;
    size_t script_count;
    int listener;
    int port;
    pthread_t thread;
    atomic_bool stop;
    atomic_uint requests;
    pthread_mutex_t lock; /* of heads and bodies */
    char heads[HTTP_SERVER_REQUESTS_MAX][HEAD_MAX];
    char bodies[HTTP_SERVER_REQUESTS_MAX][HEAD_MAX];
    uint64_t body_bytes[HTTP_SERVER_REQUESTS_MAX];
    uint64_t body_crcs[HTTP_SERVER_REQUESTS_MAX];
    char identity[128];
    int held[16]; /* connections that get no answer, closed in the end */
    unsigned held_count;
};

static void die(const char *what)
{
    perror(what);
    exit(99);
}

/* False when the client has gone. */
static bool give(int fd, const char *data, size_t bytes)
{
    while (bytes > 0) {
        ssize_t sent = send(fd, data, bytes, MSG_NOSIGNAL);
        if (sent <= 0)
            return false;
        data += sent;
        bytes -= (size_t)sent;
    }
    return true;
}

/* The value of a header in a request's head, "" when it is not there. */
static void header_of(const char *head, const char *name, char *value, size_t size)
{
    const char *line = strcasestr(head, name);
    const char *start = line != NULL ? line + strlen(name) : "";
    start += strspn(start, ": ");
    snprintf(value, size, "%.*s", (int)strcspn(start, "\r\n"), start);
}

/* Read a request's head and, when `body` is set, its body. False when there was none. */
static bool read_request(struct http_server *server, int fd, bool body)
{
    char head[HEAD_MAX] = "";
    char value[128];
    size_t length = 0;
    while (strstr(head, "\r\n\r\n") == NULL) { /* byte by byte, so that the body is not touched */
        if (length + 1 == sizeof head || recv(fd, head + length, 1, 0) != 1)
            return false;
        head[++length] = '\0';
    }
    header_of(head, "\nContent-Length", value, sizeof value);
    size_t left = body ? strtoull(value, NULL, 10) : 0;
    pthread_mutex_lock(&server->lock);
    unsigned index = atomic_load(&server->requests);
    if (index < HTTP_SERVER_REQUESTS_MAX)
        memcpy(server->heads[index], head, length + 1);
    header_of(head, "\nx-ms-meta-dcacheput", value, sizeof value);
    if (value[0] != '\0')
        memcpy(server->identity, value, sizeof value);
    pthread_mutex_unlock(&server->lock);
    atomic_fetch_add(&server->requests, 1);
    char waste[65536];
    for (size_t kept = 0; left > 0;) {
        ssize_t got = recv(fd, waste, left < sizeof waste ? left : sizeof waste, 0);
        if (got <= 0)
            break;
        left -= (size_t)got;
        size_t more = index < HTTP_SERVER_REQUESTS_MAX ? HEAD_MAX - 1 - kept : 0;
        more = more < (size_t)got ? more : (size_t)got;
        pthread_mutex_lock(&server->lock);
        if (more > 0)
            memcpy(server->bodies[index] + kept, waste, more);
        if (index < HTTP_SERVER_REQUESTS_MAX) {
            server->body_bytes[index] += (uint64_t)got;
            server->body_crcs[index] = crc64_update(server->body_crcs[index], waste, (size_t)got);
        }
        pthread_mutex_unlock(&server->lock);
        kept += more;
    }
    return true;
}

static bool give_text(struct http_server *server, int fd, const char *text)
{
    const char *mark = strstr(text, "@ID@");
    if (mark == NULL)
        return give(fd, text, strlen(text));
    return give(fd, text, (size_t)(mark - text)) && give(fd, server->identity, strlen(server->identity)) &&
           give(fd, mark + 4, strlen(mark + 4));
}

/* Wait until the client closes the connection or the test is over. */
static void wait_for_end(struct http_server *server, int fd)
{
    struct pollfd poller = {.fd = fd, .events = POLLIN};
    while (!atomic_load(&server->stop)) {
        char byte;
        if (poll(&poller, 1, 20) > 0 && recv(fd, &byte, 1, 0) <= 0)
            return;
    }
}

static void reset(int fd)
{
    struct linger linger = {.l_onoff = 1, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
}

static void drip(struct http_server *server, int fd, const char *text)
{
    while (!atomic_load(&server->stop) && give(fd, text, strlen(text)))
        usleep(50000);
}

static void give_endless(struct http_server *server, int fd, const char *text)
{
    char many[65536];
    memset(many, 'x', sizeof many);
    bool going = give(fd, text, strlen(text));
    while (going && !atomic_load(&server->stop))
        going = give(fd, many, sizeof many);
}

/* True when the connection is done with. */
static bool serve(struct http_server *server, int fd)
{
    size_t index = atomic_load(&server->requests);
    const struct reply *reply = &server->script[index < server->script_count ? index : server->script_count - 1];
    if (!read_request(server, fd, reply->action != REPLY_EARLY))
        return true;
    switch (reply->action) {
    case REPLY_SEND:
        give_text(server, fd, reply->text);
        break;
    case REPLY_EARLY: /* closing with unread data would reset the connection before the answer arrives */
        give_text(server, fd, reply->text);
        shutdown(fd, SHUT_WR);
        for (char waste[65536]; recv(fd, waste, sizeof waste, 0) > 0;)
            continue;
        break;
    case REPLY_STALL:
        wait_for_end(server, fd);
        break;
    case REPLY_HOLD:
        if (server->held_count < sizeof server->held / sizeof server->held[0]) {
            server->held[server->held_count++] = fd;
            return false;
        }
        break;
    case REPLY_RESET:
        reset(fd);
        break;
    case REPLY_DRIP:
        drip(server, fd, reply->text);
        break;
    case REPLY_ENDLESS:
        give_endless(server, fd, reply->text);
        break;
    }
    return true;
}

static void *run(void *context)
{
    struct http_server *server = context;
    while (!atomic_load(&server->stop)) {
        int fd = accept(server->listener, NULL, NULL);
        if (fd < 0)
            break;
        if (serve(server, fd))
            close(fd);
    }
    return NULL;
}

struct http_server *http_server_start(const struct reply *script, size_t count)
{
    struct http_server *server = calloc(1, sizeof *server);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    if (server == NULL)
        die("http_server");
    server->script = script;
    server->script_count = count;
    pthread_mutex_init(&server->lock, NULL);
    server->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (server->listener < 0 || bind(server->listener, (struct sockaddr *)&address, length) != 0 ||
        listen(server->listener, 16) != 0 || getsockname(server->listener, (struct sockaddr *)&address, &length) != 0)
        die("http_server");
    server->port = ntohs(address.sin_port);
    if (pthread_create(&server->thread, NULL, run, server) != 0)
        die("http_server");
    return server;
}

int http_server_port(const struct http_server *server)
{
    return server->port;
}

unsigned http_server_requests(const struct http_server *server)
{
    return atomic_load(&server->requests);
}

const char *http_server_head(struct http_server *server, unsigned index)
{
    pthread_mutex_lock(&server->lock); /* it was written before the count of requests went past it */
    const char *head = index < HTTP_SERVER_REQUESTS_MAX ? server->heads[index] : "";
    pthread_mutex_unlock(&server->lock);
    return head;
}

const char *http_server_body(struct http_server *server, unsigned index)
{
    pthread_mutex_lock(&server->lock);
    const char *body = index < HTTP_SERVER_REQUESTS_MAX ? server->bodies[index] : "";
    pthread_mutex_unlock(&server->lock);
    return body;
}

uint64_t http_server_body_crc(struct http_server *server, unsigned index, uint64_t *bytes)
{
    uint64_t crc = 0;
    *bytes = 0;
    pthread_mutex_lock(&server->lock);
    if (index < HTTP_SERVER_REQUESTS_MAX) {
        crc = server->body_crcs[index];
        *bytes = server->body_bytes[index];
    }
    pthread_mutex_unlock(&server->lock);
    return crc;
}

void http_server_stop(struct http_server *server)
{
    atomic_store(&server->stop, true);
    shutdown(server->listener, SHUT_RDWR);
    pthread_join(server->thread, NULL);
    for (unsigned i = 0; i < server->held_count; i++)
        close(server->held[i]);
    close(server->listener);
    pthread_mutex_destroy(&server->lock);
    free(server);
}
