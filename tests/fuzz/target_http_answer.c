/* mutations: 500
 * What a Blob service, a token service and the metadata service may answer: the input, as it is, to every request. The
 * first byte says which operation asks. */
#include "fuzz.h"

#include "io/azure_identity.h"
#include "io/instance_metadata.h"
#include "io/object_store.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define KEY         "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA=="
#define REQUEST_MAX 16384
#define ANSWER_MAX  65536

struct service {
    int listener;
    int port;
    pthread_t thread;
    pthread_mutex_t lock;
    uint8_t answer[ANSWER_MAX]; /* a copy: the last connection may still be served when the next input comes */
    size_t answer_bytes;
    struct object_store *store;
    struct azure_identity *identity; /* of the machine */
    struct http_client *http;
};

/* Read a whole request: what is left unread would make close() reset the connection before its answer is read. */
static bool read_request(int fd)
{
    char request[REQUEST_MAX] = "";
    size_t length = 0;
    size_t wanted = 1;
    while (length < wanted && length + 1 < sizeof request) {
        ssize_t got = recv(fd, request + length, sizeof request - 1 - length, 0);
        if (got <= 0)
            return false;
        length += (size_t)got;
        request[length] = '\0';
        const char *end = strstr(request, "\r\n\r\n");
        const char *body = strcasestr(request, "\nContent-Length:");
        wanted = length + 1;
        if (end != NULL)
            wanted = (size_t)(end + 4 - request) + (body != NULL ? strtoul(body + 16, NULL, 10) : 0);
    }
    return true;
}

static void answer(struct service *service, int fd)
{
    if (!read_request(fd))
        return;
    pthread_mutex_lock(&service->lock);
    ssize_t sent = send(fd, service->answer, service->answer_bytes, MSG_NOSIGNAL);
    (void)sent;
    pthread_mutex_unlock(&service->lock);
}

static void *serve(void *context)
{
    struct service *service = context;
    for (;;) {
        int fd = accept(service->listener, NULL, NULL);
        if (fd < 0)
            return NULL;
        answer(service, fd);
        close(fd);
    }
}

static void open_store(struct service *service)
{
    const struct object_policy policy = {.timeout_s = 0.1, .stall_s = 5, .connections = 1};
    struct object_credentials credentials = {.auth = OBJECT_AUTH_KEY, .account = "account", .key = KEY};
    char url[128];
    snprintf(url, sizeof url, "http://127.0.0.1:%d/account/container", service->port);
    snprintf(credentials.endpoint, sizeof credentials.endpoint, "http://127.0.0.1:%d/account", service->port);
    snprintf(credentials.metadata, sizeof credentials.metadata, "http://127.0.0.1:%d", service->port);
    struct diag *dg = fuzz_diag();
    dcache_status_t status = object_store_open(dg, url, &credentials, &policy, &service->store);
    fuzz_require(status == DCACHE_OK, "a store");
    credentials.auth = OBJECT_AUTH_MANAGED_IDENTITY;
    status = azure_identity_open(dg, service->http, &credentials, &policy, &service->identity);
    fuzz_require(status == DCACHE_OK, "an identity");
}

static struct service *start(void)
{
    static struct service service;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    if (service.store != NULL)
        return &service;
    pthread_mutex_init(&service.lock, NULL);
    service.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool good = service.listener >= 0 && bind(service.listener, (struct sockaddr *)&address, length) == 0 &&
                listen(service.listener, 16) == 0 &&
                getsockname(service.listener, (struct sockaddr *)&address, &length) == 0;
    service.port = ntohs(address.sin_port);
    fuzz_require(good && pthread_create(&service.thread, NULL, serve, &service) == 0, "a service");
    dcache_status_t status = http_client_open(fuzz_diag(), &service.http);
    fuzz_require(status == DCACHE_OK, "a client");
    open_store(&service);
    return &service;
}

static dcache_status_t visit(void *context, const char *key, uint64_t bytes)
{
    size_t *count = context;
    (void)bytes;
    fuzz_require(object_key_valid(key), "a listing shows valid keys only");
    /* A service that gives the same page again and again would do so for ever. */
    return ++*count < 100 ? DCACHE_OK : DCACHE_ERR_CANCELLED;
}

static dcache_status_t ask_store(struct diag *dg, struct object_store *store, uint8_t operation)
{
    char small[32];
    char *data = NULL;
    size_t bytes = 0;
    struct object_info info;
    dcache_status_t status = DCACHE_OK;
    switch (operation) {
    case 'l':
        return store->ops->list(store, dg, "job/", visit, &bytes);
    case 'h':
        return store->ops->head(store, dg, "job/1/manifest.json", &info);
    case 'g':
        return store->ops->get(store, dg, "job/1/manifest.json", "\"etag\"", 0, small, sizeof small);
    case 'b':
        status = object_store_get_bytes(store, dg, "job/1/manifest.json", 4096, &data, &bytes);
        if (status == DCACHE_OK)
            fuzz_require(bytes <= 4096 && data[bytes] == '\0', "no more than was asked for");
        free(data);
        return status;
    case 'p':
        return object_store_put_bytes(store, dg, "job/1/manifest.json", "{}", 2, OBJECT_IF_ABSENT);
    case 'c':
        return store->ops->create(store, dg);
    default:
        return store->ops->remove(store, dg, "job/1/manifest.json");
    }
}

/* libcurl before 8.0 appends a first header line that begins with a blank to the last header of the answer before,
 * which it has freed (docs/security.md): found by this target, and not ours to mend. */
static bool meets_defect_of_libcurl(const uint8_t *answer, size_t size)
{
    static const char status_line[] = {'H', 'T', 'T', 'P', '/'};

    if (curl_version_info(CURLVERSION_NOW)->version_num >= 0x080000)
        return false;
    const uint8_t *at = answer;
    const uint8_t *end = answer + size;
    while ((at = memmem(at, (size_t)(end - at), status_line, sizeof status_line)) != NULL) {
        at = memchr(at, '\n', (size_t)(end - at));
        if (at == NULL)
            return false;
        if (++at < end && (*at == ' ' || *at == '\t'))
            return true;
    }
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || size > ANSWER_MAX || meets_defect_of_libcurl(data + 1, size - 1))
        return -1;
    struct service *service = start();
    struct diag *dg = fuzz_diag();
    dcache_status_t status = DCACHE_OK;
    pthread_mutex_lock(&service->lock);
    memcpy(service->answer, data + 1, size - 1);
    service->answer_bytes = size - 1;
    pthread_mutex_unlock(&service->lock);
    if (data[0] == 'm') {
        struct instance_place place;
        const struct instance_patience patience = {.timeout_s = 0.1};
        char url[64];
        snprintf(url, sizeof url, "http://127.0.0.1:%d", service->port);
        status = instance_metadata_place(dg, service->http, url, &patience, &place);
    } else if (data[0] == 't') {
        char token[HTTP_BEARER_MAX];
        azure_identity_forget(service->identity);
        status = azure_identity_token(service->identity, dg, NULL, NULL, token);
        for (const char *c = token; status == DCACHE_OK && *c != '\0'; c++)
            fuzz_require(*c > ' ' && *c <= '~', "a token is what a header can carry");
    } else {
        status = ask_store(dg, service->store, data[0]);
    }
    fuzz_require_text(dg, status);
    return 0;
}
