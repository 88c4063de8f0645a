/* A server that speaks as much of Azure Blob as a drain needs, in a process of its own, so that its CPU time is not the
 * client's. It keeps objects of one small Put Blob, of others the size, and looks at no signature. Large bodies are
 * dropped in the kernel (MSG_TRUNC), unless their digests are to be checked. */
#include "bench.h"
#include "io/azure_auth.h"
#include "io/crc64.h"
#include "link.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define HEAD_MAX    16384
#define SMALL_BYTES (1u << 20)
#define PIECE_BYTES (1u << 20)
#define ANSWER      "x-ms-request-id: sink\r\nETag: \"sink\"\r\n"

struct object {
    char *path; /* "container/name" */
    uint64_t bytes;
    char *data;      /* of a small one, else NULL */
    uint64_t blocks; /* bytes of blocks that are not committed */
    bool is_there;   /* committed */
};

static struct {
    pthread_mutex_t lock;
    struct object *list; /* ascending by path */
    size_t count;
    bool check;
    unsigned latency_ms; /* before each answer */
    SSL_CTX *identity;   /* NULL: plain */
} objects = {.lock = PTHREAD_MUTEX_INITIALIZER};

struct request {
    char head[HEAD_MAX];
    size_t head_bytes; /* read, perhaps with the beginning of the body */
    char method[8];
    char path[2048];
    char query[4096];
    uint64_t length; /* of the body */
    char *data;      /* the body, when it is small */
    bool matches;    /* its digest does, or was not looked at */
};

/* Where the object is, or would be; the lock is held. */
static size_t place_of(const char *path, bool *found)
{
    size_t low = 0;
    size_t high = objects.count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (strcmp(objects.list[middle].path, path) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *found = low < objects.count && strcmp(objects.list[low].path, path) == 0;
    return low;
}

static struct object *find_or_add(const char *path)
{
    bool found;
    size_t at = place_of(path, &found);
    if (found)
        return &objects.list[at];
    struct object *grown = realloc(objects.list, (objects.count + 1) * sizeof *grown);
    char *name = strdup(path);
    if (grown == NULL || name == NULL)
        abort(); /* the child of a benchmark */
    objects.list = grown;
    memmove(&grown[at + 1], &grown[at], (objects.count++ - at) * sizeof *grown);
    grown[at] = (struct object){.path = name};
    return &grown[at];
}

static const char *header_of(const struct request *request, const char *name, char *value, size_t size)
{
    const char *line = strcasestr(request->head, name);
    const char *start = line != NULL ? line + strlen(name) : "";
    start += strspn(start, ": ");
    snprintf(value, size, "%.*s", (int)strcspn(start, "\r\n"), start);
    return value;
}

/* Read what comes before the body. False: the client has gone. */
static bool read_head(struct link *link, struct request *request)
{
    char value[64];
    char target[6144];
    request->head_bytes = 0;
    request->head[0] = '\0';
    while (strstr(request->head, "\r\n\r\n") == NULL) {
        size_t room = sizeof request->head - 1 - request->head_bytes;
        ssize_t got = room > 0 ? link_read(link, request->head + request->head_bytes, room, false) : 0;
        if (got <= 0)
            return false;
        request->head_bytes += (size_t)got;
        request->head[request->head_bytes] = '\0';
    }
    if (sscanf(request->head, "%7s %6143s", request->method, target) != 2)
        return false;
    size_t length = strcspn(target, "?");
    snprintf(request->path, sizeof request->path, "%.*s", (int)length, target);
    snprintf(request->query, sizeof request->query, "%s", target + length);
    request->length = strtoull(header_of(request, "\nContent-Length", value, sizeof value), NULL, 10);
    return true;
}

/* Take the body: into memory when it is small, past the CPU when nobody looks at it. */
static bool read_body(struct link *link, struct request *request, char *piece)
{
    size_t skip = (size_t)(strstr(request->head, "\r\n\r\n") + 4 - request->head);
    const char *early = request->head + skip;
    uint64_t have = request->head_bytes - skip;
    uint64_t crc = crc64_update(0, early, have);
    char expected[64];
    char ours[16];
    if (request->length <= SMALL_BYTES)
        request->data = calloc(1, request->length + 1);
    if (request->data != NULL && have <= request->length)
        memcpy(request->data, early, have);
    for (uint64_t left = request->length - have; left > 0;) {
        bool drop = request->data == NULL && !objects.check;
        char *target = request->data != NULL ? request->data + (request->length - left) : piece;
        size_t most = request->data != NULL || left < PIECE_BYTES ? (size_t)left : PIECE_BYTES;
        ssize_t got = link_read(link, target, most, drop);
        if (got <= 0)
            return false;
        if (objects.check)
            crc = crc64_update(crc, target, (size_t)got);
        left -= (uint64_t)got;
    }
    azure_auth_crc_text(crc, ours);
    header_of(request, "\nx-ms-content-crc64", expected, sizeof expected);
    request->matches = !objects.check || expected[0] == '\0' || strcmp(expected, ours) == 0;
    return true;
}

static bool answer(struct link *link, const char *status, const char *headers, const char *body, size_t bytes)
{
    char head[512];
    int length =
        snprintf(head, sizeof head, "HTTP/1.1 %s\r\n" ANSWER "%sContent-Length: %zu\r\n\r\n", status, headers, bytes);
    return link_write(link, head, (size_t)length) && link_write(link, body, bytes);
}

static bool is_block(const char *query)
{
    const char *comp = strstr(query, "comp=block");
    return comp != NULL && (comp[10] == '\0' || comp[10] == '&');
}

static bool answer_put(struct link *link, struct request *request)
{
    if (!request->matches)
        return answer(link, "400 Bad", "x-ms-error-code: Crc64Mismatch\r\n", "", 0);
    bool is_list = strstr(request->query, "comp=blocklist") != NULL;
    pthread_mutex_lock(&objects.lock);
    struct object *object = strstr(request->query, "restype=container") == NULL ? find_or_add(request->path) : NULL;
    if (object != NULL && is_block(request->query)) {
        object->blocks += request->length;
    } else if (object != NULL) {
        free(object->data);
        object->data = is_list ? NULL : request->data;
        object->bytes = is_list ? object->blocks : request->length;
        object->blocks = 0;
        object->is_there = true;
        if (!is_list)
            request->data = NULL;
    }
    pthread_mutex_unlock(&objects.lock);
    return answer(link, "201 Created", "", "", 0);
}

static bool answer_get(struct link *link, const struct request *request)
{
    bool found;
    bool good = false;
    pthread_mutex_lock(&objects.lock);
    size_t at = place_of(request->path, &found);
    found = found && objects.list[at].is_there;
    char range[64];
    char headers[128];
    unsigned long long first = 0, last = 0;
    if (!found) {
        good = answer(link, "404 No", "x-ms-error-code: BlobNotFound\r\n", "", 0);
    } else if (strcmp(request->method, "HEAD") == 0) {
        snprintf(headers, sizeof headers, "HTTP/1.1 200 OK\r\n" ANSWER "Content-Length: %llu\r\n\r\n",
                 (unsigned long long)objects.list[at].bytes);
        good = link_write(link, headers, strlen(headers));
    } else if (sscanf(header_of(request, "\nRange", range, sizeof range), "bytes=%llu-%llu", &first, &last) == 2 &&
               objects.list[at].data != NULL && first <= last && last < objects.list[at].bytes) {
        snprintf(headers, sizeof headers, "Content-Range: bytes %llu-%llu/%llu\r\n", first, last,
                 (unsigned long long)objects.list[at].bytes);
        good = answer(link, "206 Partial", headers, objects.list[at].data + first, last - first + 1);
    } else {
        good = answer(link, "416 No", "x-ms-error-code: InvalidRange\r\n", "", 0);
    }
    pthread_mutex_unlock(&objects.lock);
    return good;
}

static bool answer_list(struct link *link, const struct request *request)
{
    char prefix[2048] = "";
    const char *from = strstr(request->query, "prefix=");
    size_t length = 0;
    for (from = from != NULL ? from + 7 : ""; *from != '\0' && *from != '&' && length + 1 < sizeof prefix; from++) {
        unsigned letter = (unsigned char)*from;
        if (letter == '%' && sscanf(from + 1, "%2x", &letter) == 1)
            from += 2;
        prefix[length++] = (char)letter;
    }
    prefix[length] = '\0';
    char *body = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&body, &bytes);
    if (out == NULL)
        return false;
    fputs("<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults><Blobs>", out);
    pthread_mutex_lock(&objects.lock);
    size_t container = strlen(request->path);
    for (size_t i = 0; i < objects.count; i++) {
        const struct object *object = &objects.list[i];
        if (object->is_there && strncmp(object->path, request->path, container) == 0 &&
            object->path[container] == '/' && strncmp(object->path + container + 1, prefix, length) == 0)
            fprintf(out, "<Blob><Name>%s</Name><Properties><Content-Length>%llu</Content-Length></Properties></Blob>",
                    object->path + container + 1, (unsigned long long)object->bytes);
    }
    pthread_mutex_unlock(&objects.lock);
    fputs("</Blobs><NextMarker/></EnumerationResults>", out);
    fclose(out);
    bool good = answer(link, "200 OK", "", body, bytes);
    free(body);
    return good;
}

static bool serve(struct link *link, struct request *request)
{
    if (strcmp(request->method, "PUT") == 0)
        return answer_put(link, request);
    if (strcmp(request->method, "DELETE") == 0)
        return answer(link, "202 Accepted", "", "", 0);
    if (strstr(request->query, "comp=list") != NULL)
        return answer_list(link, request);
    return answer_get(link, request);
}

static void nap(unsigned ms)
{
    const struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    if (ms > 0)
        (void)nanosleep(&time, NULL);
}

static void *connection(void *context)
{
    struct link link;
    char *piece = malloc(PIECE_BYTES);
    struct request *request = calloc(1, sizeof *request);
    bool going = link_open(&link, (int)(intptr_t)context, objects.identity) && piece != NULL && request != NULL;
    while (going && read_head(&link, request)) {
        going = read_body(&link, request, piece);
        nap(objects.latency_ms);
        going = going && serve(&link, request);
        free(request->data);
        request->data = NULL;
    }
    link_close(&link);
    free(request);
    free(piece);
    return NULL;
}

static void run(int listener)
{
    for (;;) {
        pthread_t thread;
        int fd = accept(listener, NULL, NULL);
        int on = 1;
        if (fd < 0)
            _exit(1);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (pthread_create(&thread, NULL, connection, (void *)(intptr_t)fd) != 0)
            _exit(1);
        pthread_detach(thread);
    }
}

/* A socket that listens there; -1 on failure. */
static int listen_at(struct sockaddr_in address)
{
    const int on = 1;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0)
        return -1;
    (void)setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) == 0 && listen(listener, 128) == 0)
        return listener;
    close(listener);
    return -1;
}

static void serve_all(int listener, const struct bench_options *options)
{
    signal(SIGPIPE, SIG_IGN); /* OpenSSL's writes */
    objects.check = options->check;
    objects.latency_ms = options->latency_ms;
    run(listener);
}

int sink_serve(const struct bench_options *options)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    char host[64];
    unsigned port = 0;
    if (sscanf(options->serve, "%63[0-9.]:%5u", host, &port) != 2 || inet_pton(AF_INET, host, &address.sin_addr) != 1) {
        fprintf(stderr, "bench-drain: --serve %s is no ADDRESS:PORT, such as 10.0.0.1:8080\n", options->serve);
        return 2;
    }
    address.sin_port = htons((uint16_t)port);
    int listener = listen_at(address);
    if (listener < 0) {
        fprintf(stderr, "bench-drain: cannot listen at %s\n", options->serve);
        return 1;
    }
    serve_all(listener, options);
    return 1;
}

bool sink_start(struct sink *sink, const struct bench_options *options, const char *certificate_file)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = listen_at(address);
    if (listener < 0)
        return false;
    if (getsockname(listener, (struct sockaddr *)&address, &length) != 0 ||
        (options->tls && (objects.identity = link_make_identity(certificate_file)) == NULL)) {
        close(listener);
        return false;
    }
    sink->port = ntohs(address.sin_port);
    sink->pid = fork();
    if (sink->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        serve_all(listener, options);
    }
    close(listener);
    SSL_CTX_free(objects.identity);
    objects.identity = NULL;
    return sink->pid > 0;
}

void sink_stop(struct sink *sink)
{
    if (sink->pid <= 0)
        return;
    kill(sink->pid, SIGKILL);
    waitpid(sink->pid, NULL, 0);
    sink->pid = 0;
}
