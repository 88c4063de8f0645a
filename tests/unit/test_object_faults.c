/* The Azure backend against a service that is busy, slow, silent, lying or not one at all: the right status, no hang,
 * nothing accepted that is wrong. The service is http_server.c, which answers as each test's script says. */
#include "http_server.h"
#include "io/azure_list.h"
#include "io/crc64.h"
#include "io/object_store.h"
#include "unit.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define BLOCK 65536u
#define KEY   "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0"

#define AZURE   "x-ms-request-id: request-17\r\n"
#define NO_BODY "Content-Length: 0\r\n\r\n"
#define OK_201  "HTTP/1.1 201 Created\r\n" AZURE NO_BODY
/* Where requests are counted: none may go to where nobody listens any more. */
#define AND_CLOSE   "Connection: close\r\n"
#define LAST_201    "HTTP/1.1 201 Created\r\n" AND_CLOSE AZURE NO_BODY
#define OK_202      "HTTP/1.1 202 Accepted\r\n" AZURE NO_BODY
#define BUSY        "HTTP/1.1 503 Server busy\r\nx-ms-error-code: ServerBusy\r\n" AZURE NO_BODY
#define LAST_BUSY   "HTTP/1.1 503 Server busy\r\nx-ms-error-code: ServerBusy\r\n" AND_CLOSE AZURE NO_BODY
#define MISSING     "HTTP/1.1 404 Not found\r\nx-ms-error-code: BlobNotFound\r\n" AZURE NO_BODY
#define TAKEN       "HTTP/1.1 409 Conflict\r\nx-ms-error-code: BlobAlreadyExists\r\n" AZURE NO_BODY
#define BLOCKS_GONE "HTTP/1.1 400 Bad\r\nx-ms-error-code: InvalidBlockList\r\n" AZURE NO_BODY
#define BAD_CRC     "HTTP/1.1 400 Bad\r\nx-ms-error-code: Crc64Mismatch\r\n" AZURE NO_BODY
#define TEN_BYTES   "HTTP/1.1 206 Partial\r\n" AZURE "ETag: \"e1\"\r\nContent-Range: bytes 0-9/10\r\n"
#define TEN_GOOD    TEN_BYTES "Content-Length: 10\r\n\r\n0123456789"
#define PAGE        "HTTP/1.1 200 OK\r\n" AZURE "\r\n" /* up to the end of the connection */
#define XML         "<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults><Blobs>"
#define XML_END(m)  "</Blobs><NextMarker>" m "</NextMarker></EnumerationResults>"
#define BLOB(n, b)  "<Blob><Name>" n "</Name><Properties><Content-Length>" b "</Content-Length></Properties></Blob>"

static struct diag dg;

/* A service with its script and a store on it. */
struct scene {
    struct http_server *server;
    struct object_store *store;
};

static struct object_store *open_store(int port, const char *scheme, double timeout_s, double stall_s)
{
    char url[OBJECT_URL_MAX];
    struct object_credentials credentials = {.account = "acc1", .key = KEY};
    struct object_policy policy = {.timeout_s = timeout_s, .stall_s = stall_s, .block_bytes = BLOCK, .connections = 1};
    struct object_store *store = NULL;
    snprintf(url, sizeof url, "%s://127.0.0.1:%d/acc1/con", scheme, port);
    if (object_store_open(&dg, url, &credentials, &policy, &store) != DCACHE_OK) {
        fprintf(stderr, "%s\n", dg.text);
        exit(99);
    }
    dg.text[0] = '\0';
    return store;
}

static struct scene begin(const struct reply *script, size_t count, double timeout_s, double stall_s)
{
    struct scene scene = {.server = http_server_start(script, count)};
    scene.store = open_store(http_server_port(scene.server), "http", timeout_s, stall_s);
    return scene;
}

/* Ends the scene; the number of requests the service has seen. */
static unsigned end(struct scene *scene)
{
    object_store_close(scene->store);
    unsigned requests = http_server_requests(scene->server);
    http_server_stop(scene->server);
    return requests;
}

static dcache_status_t read_zeros(void *context, struct diag *diag, uint64_t offset, void *buffer, size_t bytes,
                                  uint64_t *crc)
{
    (void)context;
    (void)diag;
    (void)offset;
    memset(buffer, 0, bytes);
    *crc = crc64_update(0, buffer, bytes);
    return DCACHE_OK;
}

static dcache_status_t put(struct scene *scene, uint64_t bytes, enum object_condition condition)
{
    struct object_source source = {.bytes = bytes, .read = read_zeros};
    return scene->store->ops->put(scene->store, &dg, "a/key", &source, condition, NULL);
}

static bool text_has(const char *part)
{
    return strstr(dg.text, part) != NULL;
}

/* --- Retries -------------------------------------------------------------------------------------------------------
 */

static void test_retried_statuses(void)
{
    static const struct reply script[] = {
        {REPLY_SEND, "HTTP/1.1 503 Busy\r\nRetry-After: 1\r\n" NO_BODY},
        {REPLY_SEND, "HTTP/1.1 500 Timed out\r\nx-ms-error-code: OperationTimedOut\r\n" NO_BODY},
        {REPLY_SEND, "HTTP/1.1 429 Slow down\r\nRetry-After: Thu, 01 Jan 1970 00:00:00 GMT\r\n" NO_BODY},
        {REPLY_SEND, "HTTP/1.1 408 Timeout\r\nRetry-After: nonsense\r\n" NO_BODY},
        {REPLY_SEND, OK_201}};
    struct scene scene = begin(script, UNIT_COUNT(script), 60, 20);
    CU_ASSERT(put(&scene, 100, OBJECT_REPLACE) == DCACHE_OK);
    CU_ASSERT(end(&scene) == 5);
    static const struct reply gateway[] = {{REPLY_SEND, "HTTP/1.1 502 Bad gateway\r\n" NO_BODY},
                                           {REPLY_SEND, "HTTP/1.1 504 Gateway timeout\r\n" NO_BODY},
                                           {REPLY_SEND, OK_201}};
    scene = begin(gateway, UNIT_COUNT(gateway), 60, 20);
    CU_ASSERT(put(&scene, 100, OBJECT_REPLACE) == DCACHE_OK);
    CU_ASSERT(end(&scene) == 3);
}

static void test_always_busy(void)
{
    static const struct reply script[] = {{REPLY_SEND, BUSY}};
    struct scene scene = begin(script, 1, 1.5, 1);
    CU_ASSERT(put(&scene, 100, OBJECT_REPLACE) == DCACHE_ERR_STORE);
    CU_ASSERT(text_has("HTTP 503 ServerBusy") && text_has("request-17") && text_has("a/key"));
    CU_ASSERT(text_has("127.0.0.1") && text_has("store_timeout") && !text_has(KEY));
    CU_ASSERT(end(&scene) >= 2);
}

/* No time for what Retry-After asks for: an answer now, not after the deadline. */
static void test_retry_after_too_long(void)
{
    static const struct reply script[] = {
        {REPLY_SEND, "HTTP/1.1 503 Busy\r\nx-ms-error-code: ServerBusy\r\nRetry-After: 100000\r\n" NO_BODY}};
    struct scene scene = begin(script, 1, 3600, 3600);
    CU_ASSERT(put(&scene, 100, OBJECT_REPLACE) == DCACHE_ERR_STORE);
    CU_ASSERT(end(&scene) == 1);
}

static void test_no_retry(void)
{
    static const struct {
        const char *reply;
        dcache_status_t status;
        const char *text;
    } cases[] = {
        {"HTTP/1.1 403 No\r\nx-ms-error-code: AuthorizationPermissionMismatch\r\n" AZURE NO_BODY, DCACHE_ERR_PERMISSION,
         "AuthorizationPermissionMismatch"},
        {"HTTP/1.1 400 No\r\nx-ms-error-code: InvalidAuthenticationInfo\r\n" AZURE NO_BODY, DCACHE_ERR_PERMISSION,
         "account's name and key"},
        {"HTTP/1.1 401 No\r\n" NO_BODY, DCACHE_ERR_PERMISSION, "HTTP 401"},
        {"HTTP/1.1 404 No\r\nx-ms-error-code: ContainerNotFound\r\n" AZURE NO_BODY, DCACHE_ERR_STORE,
         "az storage container create --name con --account-name acc1"},
        {"HTTP/1.1 409 No\r\nx-ms-error-code: BlobImmutableDueToPolicy\r\n" AZURE NO_BODY, DCACHE_ERR_STORE,
         "BlobImmutableDueToPolicy"},
        {"HTTP/1.1 412 No\r\nx-ms-error-code: LeaseIdMissing\r\n" AZURE NO_BODY, DCACHE_ERR_STORE, "LeaseIdMissing"},
        {"HTTP/1.1 302 There\r\nLocation: http://127.0.0.1:1/\r\n" NO_BODY, DCACHE_ERR_STORE, "HTTP 302"},
        {"HTTP/1.1 200 OK\r\n" NO_BODY, DCACHE_ERR_STORE, "does not come from Azure"},
        {"HTTP/1.1 201 Created\r\n" NO_BODY, DCACHE_ERR_STORE, "does not come from Azure"},
        {"HTTP/1.1 404 No\r\n" NO_BODY, DCACHE_ERR_STORE, "does not come from Azure"},
    };
    for (size_t i = 0; i < UNIT_COUNT(cases); i++) {
        struct reply script = {REPLY_SEND, cases[i].reply};
        struct scene scene = begin(&script, 1, 60, 20);
        CU_ASSERT(put(&scene, 100, OBJECT_IF_ABSENT) == cases[i].status);
        CU_ASSERT(text_has(cases[i].text));
        CU_ASSERT(end(&scene) == 1);
    }
}

static void test_transport_recovers(void)
{
    static const struct reply script[] = {
        {REPLY_STALL, ""}, {REPLY_RESET, ""}, {REPLY_SEND, ""}, {REPLY_SEND, "HTTP/1.1 201 Cre"}, {REPLY_SEND, OK_201}};
    struct scene scene = begin(script, UNIT_COUNT(script), 60, 1);
    CU_ASSERT(put(&scene, 100, OBJECT_REPLACE) == DCACHE_OK);
    CU_ASSERT(end(&scene) >= 5); /* libcurl may have repeated the request on its own */
}

static void test_stall(void)
{
    static const struct reply script[] = {{REPLY_STALL, ""}};
    struct scene scene = begin(script, 1, 4, 1);
    CU_ASSERT(put(&scene, 3 * BLOCK, OBJECT_REPLACE) == DCACHE_ERR_STORE);
    CU_ASSERT(text_has("nothing moved for 1 s") || text_has("timed out"));
    CU_ASSERT(end(&scene) >= 1);
}

/* It never stalls, and never ends: the deadline does. */
static void test_drip(void)
{
    static const struct reply script[] = {{REPLY_DRIP, "HTTP/1.1 200 OK\r\nX-Drip: drip\r\nX-Drip: drop\r\n"}};
    struct scene scene = begin(script, 1, 2, 1);
    CU_ASSERT(put(&scene, 10, OBJECT_REPLACE) == DCACHE_ERR_STORE);
    CU_ASSERT(end(&scene) >= 1);
}

static int unused_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    CU_ASSERT_FATAL(fd >= 0 && bind(fd, (struct sockaddr *)&address, length) == 0);
    CU_ASSERT_FATAL(getsockname(fd, (struct sockaddr *)&address, &length) == 0);
    close(fd);
    return ntohs(address.sin_port);
}

static void test_nobody_there(void)
{
    struct scene scene = {.store = open_store(unused_port(), "http", 1, 1)};
    CU_ASSERT(put(&scene, 10, OBJECT_REPLACE) == DCACHE_ERR_STORE);
    CU_ASSERT(text_has("check that the endpoint's name"));
    object_store_close(scene.store);
}

/* The answer comes before the body was read. */
static void test_early_answer(void)
{
    static const struct reply script[] = {{REPLY_EARLY, BUSY}, {REPLY_SEND, OK_201}};
    struct scene scene = begin(script, 2, 60, 20);
    scene.store->policy.block_bytes = 16u << 20;
    CU_ASSERT(put(&scene, 16u << 20, OBJECT_REPLACE) == DCACHE_OK);
    CU_ASSERT(end(&scene) == 2);
}

/* --- Commits -------------------------------------------------------------------------------------------------------
 */

#define HEAD_OURS   "HTTP/1.1 200 OK\r\n" AZURE "x-ms-meta-dcacheput: @ID@\r\nContent-Length: 100\r\n\r\n"
#define HEAD_THEIRS "HTTP/1.1 200 OK\r\n" AZURE "x-ms-meta-dcacheput: someone\r\nContent-Length: 100\r\n\r\n"

static void test_lost_answer_is_ours(void)
{
    static const struct reply script[] = {{REPLY_RESET, ""}, {REPLY_SEND, TAKEN}, {REPLY_SEND, HEAD_OURS}};
    struct scene scene = begin(script, 3, 60, 20);
    CU_ASSERT(put(&scene, 100, OBJECT_IF_ABSENT) == DCACHE_OK);
    CU_ASSERT(end(&scene) == 3);
}

static void test_lost_answer_is_theirs(void)
{
    static const struct reply script[] = {{REPLY_RESET, ""}, {REPLY_SEND, TAKEN}, {REPLY_SEND, HEAD_THEIRS}};
    struct scene scene = begin(script, 3, 60, 20);
    CU_ASSERT(put(&scene, 100, OBJECT_IF_ABSENT) == DCACHE_ERR_EXISTS);
    CU_ASSERT(end(&scene) == 3);
}

/* A swap whose answer is lost is ours or another's, as its identity says. */
static void test_lost_answer_of_swap(void)
{
    static const char refused[] =
        "HTTP/1.1 412 Precondition Failed\r\n" AZURE "x-ms-error-code: ConditionNotMet\r\nContent-Length: 0\r\n\r\n";
    const struct reply ours[] = {{REPLY_RESET, ""}, {REPLY_SEND, refused}, {REPLY_SEND, HEAD_OURS}};
    const struct reply theirs[] = {{REPLY_RESET, ""}, {REPLY_SEND, refused}, {REPLY_SEND, HEAD_THEIRS}};
    const struct reply gone[] = {{REPLY_SEND, refused}, {REPLY_SEND, MISSING}};
    struct scene scene = begin(ours, 3, 60, 20);
    CU_ASSERT(scene.store->ops->swap(scene.store, &dg, "a/key", "\"0x8\"", "text", 4, NULL) == DCACHE_OK);
    CU_ASSERT(strcasestr(http_server_head(scene.server, 0), "\r\nIf-Match: \"0x8\"\r\n") != NULL);
    CU_ASSERT(end(&scene) == 3);
    scene = begin(theirs, 3, 60, 20);
    CU_ASSERT(scene.store->ops->swap(scene.store, &dg, "a/key", "", "text", 4, NULL) == DCACHE_ERR_EXISTS);
    CU_ASSERT(strcasestr(http_server_head(scene.server, 0), "\r\nIf-None-Match: *\r\n") != NULL);
    CU_ASSERT(end(&scene) == 3);
    scene = begin(gone, 2, 60, 20);
    CU_ASSERT(scene.store->ops->swap(scene.store, &dg, "a/key", "\"0x8\"", "text", 4, NULL) == DCACHE_ERR_EXISTS);
    CU_ASSERT(end(&scene) == 2);
}

/* Put Block List: its answer is lost, the repetition refused, and the object is there: ours. */
static void test_lost_block_list(void)
{
    static const struct reply script[] = {
        {REPLY_SEND, MISSING},
        {REPLY_SEND, OK_201},
        {REPLY_SEND, OK_201},
        {REPLY_RESET, ""},
        {REPLY_SEND, TAKEN},
        {REPLY_SEND, "HTTP/1.1 200 OK\r\n" AZURE "x-ms-meta-dcacheput: @ID@\r\nContent-Length: 131072\r\n\r\n"}};
    struct scene scene = begin(script, UNIT_COUNT(script), 60, 20);
    CU_ASSERT(put(&scene, 2 * BLOCK, OBJECT_IF_ABSENT) == DCACHE_OK);
    CU_ASSERT(strncmp(http_server_head(scene.server, 3), "PUT /acc1/con/a/key?comp=blocklist ", 35) == 0);
    CU_ASSERT(strcasestr(http_server_head(scene.server, 3), "\r\nIf-None-Match: *\r\n") != NULL);
    CU_ASSERT(strncmp(http_server_head(scene.server, 5), "HEAD ", 5) == 0);
    CU_ASSERT(end(&scene) == 6);
}

/* A list of blocks that was spoilt on the way is sent again; one that is never read is not for ever. */
static void test_spoilt_block_list(void)
{
    static const char no_xml[] = "HTTP/1.1 400 Bad\r\nx-ms-error-code: InvalidXmlDocument\r\n" AZURE NO_BODY;
    static const char no_word[] = "HTTP/1.1 400 Bad\r\n" NO_BODY;
    const struct reply once[] = {
        {REPLY_SEND, OK_201}, {REPLY_SEND, OK_201}, {REPLY_SEND, no_xml}, {REPLY_SEND, no_word}, {REPLY_SEND, OK_201}};
    const struct reply always[] = {{REPLY_SEND, OK_201}, {REPLY_SEND, OK_201}, {REPLY_SEND, no_xml}};
    struct scene scene = begin(once, UNIT_COUNT(once), 60, 20);
    CU_ASSERT(put(&scene, 2 * BLOCK, OBJECT_REPLACE) == DCACHE_OK);
    CU_ASSERT(end(&scene) == 5);
    scene = begin(always, UNIT_COUNT(always), 60, 20);
    CU_ASSERT(put(&scene, 2 * BLOCK, OBJECT_REPLACE) == DCACHE_ERR_STORE);
    CU_ASSERT(text_has("InvalidXmlDocument"));
    CU_ASSERT(end(&scene) == 6);
}

/* Another writer's commit dropped our blocks: they are sent again under other names. */
static void test_blocks_gone(void)
{
    static const struct reply script[] = {{REPLY_SEND, OK_201},  {REPLY_SEND, OK_201}, {REPLY_SEND, BLOCKS_GONE},
                                          {REPLY_SEND, MISSING}, {REPLY_SEND, OK_201}, {REPLY_SEND, OK_201},
                                          {REPLY_SEND, OK_201}};
    struct scene scene = begin(script, UNIT_COUNT(script), 60, 20);
    CU_ASSERT(put(&scene, 2 * BLOCK, OBJECT_REPLACE) == DCACHE_OK);
    const char *first = strstr(http_server_head(scene.server, 0), "blockid=");
    const char *again = strstr(http_server_head(scene.server, 4), "blockid=");
    CU_ASSERT_FATAL(first != NULL && again != NULL);
    CU_ASSERT(strcspn(first, "& ") == strcspn(again, "& ") && strncmp(first, again, 40) != 0);
    CU_ASSERT(end(&scene) == 7);
    static const struct reply always[] = {{REPLY_SEND, OK_201},
                                          {REPLY_SEND, OK_201},
                                          {REPLY_SEND, BLOCKS_GONE},
                                          {REPLY_SEND, MISSING},
                                          {REPLY_SEND, BLOCKS_GONE}};
    scene = begin(always, UNIT_COUNT(always), 60, 20);
    CU_ASSERT(put(&scene, 2 * BLOCK, OBJECT_REPLACE) == DCACHE_ERR_STORE);
    CU_ASSERT(text_has("InvalidBlockList"));
    CU_ASSERT(end(&scene) == 5);
}

/* --- Digests -------------------------------------------------------------------------------------------------------
 */

/* Spoilt on the way: sent again. */
static void test_crc_spoilt_on_the_way(void)
{
    static const struct reply script[] = {{REPLY_SEND, BAD_CRC}, {REPLY_SEND, OK_201}};
    struct scene scene = begin(script, 2, 60, 20);
    CU_ASSERT(put(&scene, 100, OBJECT_REPLACE) == DCACHE_OK);
    CU_ASSERT(strcasestr(http_server_head(scene.server, 0), "\r\nx-ms-content-crc64: ") != NULL);
    CU_ASSERT(end(&scene) == 2);
}

/* The service says it stored other bytes than were sent: the object must not stay. */
static void test_crc_stored_wrong(void)
{
    static const struct reply script[] = {
        {REPLY_SEND, "HTTP/1.1 201 Created\r\nETag: \"bad1\"\r\nx-ms-content-crc64: AAAAAAAAAAA=\r\n" AZURE NO_BODY},
        {REPLY_SEND, OK_202}};
    struct scene scene = begin(script, 2, 60, 20);
    CU_ASSERT(put(&scene, 100, OBJECT_REPLACE) == DCACHE_ERR_STORE);
    CU_ASSERT(text_has("damages data"));
    CU_ASSERT(strncmp(http_server_head(scene.server, 1), "DELETE /acc1/con/a/key ", 23) == 0);
    CU_ASSERT(strcasestr(http_server_head(scene.server, 1), "\r\nIf-Match: \"bad1\"\r\n") != NULL);
    CU_ASSERT(end(&scene) == 2);
    scene = begin(script, 1, 60, 20);
    CU_ASSERT(put(&scene, 3 * BLOCK, OBJECT_REPLACE) == DCACHE_ERR_STORE); /* a block: nothing is committed */
    CU_ASSERT(end(&scene) == 1);
}

/* --- Gets ----------------------------------------------------------------------------------------------------------
 */

static dcache_status_t get(struct scene *scene, const char *etag, char buffer[11])
{
    memset(buffer, 0, 11);
    return scene->store->ops->get(scene->store, &dg, "a/key", etag, 0, buffer, 10);
}

static void test_get_truncated(void)
{
    static const struct reply script[] = {{REPLY_SEND, TEN_BYTES "Content-Length: 10\r\n\r\n01234"},
                                          {REPLY_SEND, TEN_GOOD}};
    char buffer[11];
    struct scene scene = begin(script, 2, 60, 20);
    CU_ASSERT(get(&scene, "\"e1\"", buffer) == DCACHE_OK);
    CU_ASSERT_STRING_EQUAL(buffer, "0123456789");
    CU_ASSERT(strcasestr(http_server_head(scene.server, 0), "\r\nRange: bytes=0-9\r\n") != NULL);
    CU_ASSERT(strcasestr(http_server_head(scene.server, 0), "\r\nIf-Match: \"e1\"\r\n") != NULL);
    CU_ASSERT(end(&scene) == 2);
}

static void test_get_lies(void)
{
    static const struct {
        enum reply_action action;
        const char *reply;
        dcache_status_t status;
    } cases[] = {
        {REPLY_SEND, TEN_BYTES "Content-Length: 5\r\n\r\n01234", DCACHE_ERR_CORRUPT},
        {REPLY_SEND, TEN_BYTES "Content-Length: 11\r\n\r\n0123456789x", DCACHE_ERR_STORE},
        {REPLY_SEND, TEN_BYTES "\r\n0123456789x", DCACHE_ERR_STORE},
        {REPLY_ENDLESS, TEN_BYTES "\r\n", DCACHE_ERR_STORE},
        {REPLY_SEND, "HTTP/1.1 200 OK\r\n" AZURE "Content-Length: 10\r\n\r\n0123456789", DCACHE_ERR_STORE},
        {REPLY_SEND,
         "HTTP/1.1 206 Partial\r\n" AZURE "Content-Range: bytes 1-10/11\r\nContent-Length: 10\r\n\r\n0123456789",
         DCACHE_ERR_STORE},
        {REPLY_SEND,
         "HTTP/1.1 206 Partial\r\n" AZURE "ETag: \"e2\"\r\nContent-Range: bytes 0-9/10\r\nContent-Length: 10\r\n\r\n"
         "0123456789",
         DCACHE_ERR_CORRUPT},
        {REPLY_SEND, "HTTP/1.1 412 No\r\nx-ms-error-code: ConditionNotMet\r\n" AZURE NO_BODY, DCACHE_ERR_CORRUPT},
        {REPLY_SEND, "HTTP/1.1 416 No\r\nx-ms-error-code: InvalidRange\r\n" AZURE NO_BODY, DCACHE_ERR_CORRUPT},
        {REPLY_SEND, "HTTP/1.1 404 No\r\nx-ms-error-code: BlobNotFound\r\n" AZURE NO_BODY, DCACHE_NOT_FOUND},
        {REPLY_ENDLESS, "HTTP/1.1 404 No\r\nx-ms-error-code: BlobNotFound\r\n" AZURE "\r\n", DCACHE_NOT_FOUND},
        {REPLY_SEND, "HTTP/1.1 404 No\r\n" NO_BODY, DCACHE_ERR_STORE},
    };
    for (size_t i = 0; i < UNIT_COUNT(cases); i++) {
        struct reply script = {cases[i].action, cases[i].reply};
        char buffer[11];
        struct scene scene = begin(&script, 1, 60, 20);
        CU_ASSERT(get(&scene, "\"e1\"", buffer) == cases[i].status);
        CU_ASSERT(end(&scene) == 1);
    }
}

static void test_garbage(void)
{
    static const char *const replies[] = {
        "BOOM\r\n\r\n",
        "HTTP/1.1 abc OK\r\n\r\n",
        "HTTP/1.1 206\r\n\x01\x02\xff: \xfe\r\nETag\r\n: :\r\n\r\n",
        "HTTP/1.1 206 OK\r\nContent-Length: -5\r\n\r\n0123456789",
        "HTTP/1.1 206 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n0123456789",
        "HTTP/1.1 206 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n0123456789",
        "\r\n\r\n\r\n",
    };
    for (size_t i = 0; i < UNIT_COUNT(replies); i++) {
        struct reply script = {REPLY_SEND, replies[i]};
        char buffer[11];
        struct scene scene = begin(&script, 1, 1, 1);
        CU_ASSERT(get(&scene, NULL, buffer) == DCACHE_ERR_STORE);
        for (const char *c = dg.text; *c != '\0'; c++)
            CU_ASSERT(*c >= ' ' && *c <= '~');
        end(&scene);
    }
}

/* Thousands of headers, some of them ours and far too long. */
static void test_header_flood(void)
{
    const size_t size = 4u << 20;
    char *text = malloc(size);
    CU_ASSERT_FATAL(text != NULL);
    size_t length = (size_t)snprintf(text, size, "HTTP/1.1 503 Busy\r\nx-ms-error-code: ");
    memset(text + length, 'e', 60000);
    length += 60000;
    while (length + 200 < size)
        length += (size_t)snprintf(text + length, size - length, "\r\nx-ms-request-id: %0100d", (int)length);
    snprintf(text + length, size - length, "\r\n" NO_BODY);
    struct reply script = {REPLY_SEND, text};
    char buffer[11];
    struct scene scene = begin(&script, 1, 1, 1);
    CU_ASSERT(get(&scene, NULL, buffer) == DCACHE_ERR_STORE);
    end(&scene);
    free(text);
}

static void test_head_lies(void)
{
    static const char *const replies[] = {"HTTP/1.1 200 OK\r\n" AZURE "\r\n",
                                          "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
                                          "HTTP/1.1 206 OK\r\n" AZURE "Content-Length: 5\r\n\r\n"};
    for (size_t i = 0; i < UNIT_COUNT(replies); i++) {
        struct reply script = {REPLY_SEND, replies[i]};
        struct object_info info = {.bytes = 77};
        struct scene scene = begin(&script, 1, 1, 1);
        CU_ASSERT(scene.store->ops->head(scene.store, &dg, "a/key", &info) == DCACHE_ERR_STORE && info.bytes == 77);
        end(&scene);
    }
}

/* --- Lists ---------------------------------------------------------------------------------------------------------
 */

static dcache_status_t join(void *context, const char *key, uint64_t bytes)
{
    char *joined = context;
    size_t length = strlen(joined);
    snprintf(joined + length, 256 - length, "%s=%llu ", key, (unsigned long long)bytes);
    return DCACHE_OK;
}

static dcache_status_t list(struct scene *scene, char joined[256])
{
    joined[0] = '\0';
    return scene->store->ops->list(scene->store, &dg, "p", join, joined);
}

static void test_list_pages(void)
{
    static const struct reply script[] = {{REPLY_SEND, PAGE XML BLOB("pa", "1") BLOB("p b", "2") XML_END("m 1&amp;2/")},
                                          {REPLY_SEND, PAGE XML XML_END("m3")},
                                          {REPLY_SEND, PAGE XML BLOB("pc", "18446744073709551615")
                                                           BLOB("pd~", "4") "<BlobPrefix><Name>pe</Name>"
                                                                            "</BlobPrefix>" XML_END("")}};
    char joined[256];
    struct scene scene = begin(script, 3, 60, 20);
    CU_ASSERT(list(&scene, joined) == DCACHE_OK);
    CU_ASSERT_STRING_EQUAL(joined, "pa=1 pc=18446744073709551615 ");
    CU_ASSERT(strncmp(http_server_head(scene.server, 1),
                      "GET /acc1/con?comp=list&marker=m%201%262%2F&maxresults=1000&prefix=p&restype=container ",
                      86) == 0);
    CU_ASSERT(end(&scene) == 3);
}

static void test_list_lies(void)
{
    static const struct {
        enum reply_action action;
        const char *reply;
    } cases[] = {
        {REPLY_SEND, PAGE},
        {REPLY_SEND, PAGE "no XML at all"},
        {REPLY_SEND, PAGE "<html><body>Please log in</body></html>"},
        {REPLY_SEND, PAGE XML BLOB("pa", "1")},
        {REPLY_SEND, PAGE XML BLOB("pa", "-1") XML_END("")},
        {REPLY_SEND, PAGE XML BLOB("pa", "18446744073709551616") XML_END("")},
        {REPLY_SEND, PAGE XML BLOB("pa", "1x") XML_END("")},
        {REPLY_SEND, PAGE XML "<Blob><Name>pa</Name></Blob>" XML_END("")},
        {REPLY_SEND, PAGE XML BLOB("pb", "1") BLOB("pa", "1") XML_END("")},
        {REPLY_SEND, PAGE XML BLOB("pa", "1") BLOB("pa", "1") XML_END("")},
        {REPLY_SEND, PAGE XML BLOB("pa", "1") XML_END("again")},
        {REPLY_SEND, PAGE XML XML_END("again")},
        {REPLY_SEND, PAGE "<!DOCTYPE r [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;\">]>"
                          "<EnumerationResults><NextMarker>&b;</NextMarker></EnumerationResults>"},
        {REPLY_SEND, PAGE "<EnumerationResults><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a/></a></a></a></a></a>"
                          "</a></a></a></a></a></a></a></a></a></a></a></EnumerationResults>"},
        {REPLY_ENDLESS, PAGE XML "<Blob><Name>"},
        {REPLY_SEND, "HTTP/1.1 204 OK\r\n" AZURE "\r\n"},
    };
    for (size_t i = 0; i < UNIT_COUNT(cases); i++) {
        struct reply script = {cases[i].action, cases[i].reply};
        char joined[256];
        struct scene scene = begin(&script, 1, 60, 20);
        CU_ASSERT(list(&scene, joined) == DCACHE_ERR_STORE);
        CU_ASSERT(dg.text[0] != '\0');
        end(&scene);
    }
}

/* --- Stragglers and counts ----------------------------------------------------------------------------------------
 */

static struct scene begin_with_connections(const struct reply *script, size_t count, unsigned connections)
{
    struct scene scene = begin(script, count, 7200, 7200);
    scene.store->policy.connections = connections;
    return scene;
}

/* One block is never answered, and nothing else would end its wait: it is sent on another connection. */
static void test_straggler_is_sent_again(void)
{
    static const struct reply script[] = {{REPLY_HOLD, ""}, {REPLY_SEND, LAST_201}};
    struct scene scene = begin_with_connections(script, UNIT_COUNT(script), 2);
    CU_ASSERT(put(&scene, 4 * BLOCK, OBJECT_REPLACE) == DCACHE_OK);
    const struct object_traffic traffic = object_store_traffic(scene.store);
    CU_ASSERT(traffic.hedged == 1);
    CU_ASSERT(traffic.retries == 0);
    char held[128];
    unsigned same = 0;
    sscanf(http_server_head(scene.server, 0), "PUT %127s", held);
    for (unsigned i = 0; i < 6; i++)
        same += strstr(http_server_head(scene.server, i), held) != NULL;
    CU_ASSERT(same == 2);
    CU_ASSERT(end(&scene) == 6); /* four blocks, one of them again, and the commit */
}

/* The second connection does not answer either: then the first one's fate is the block's. */
static void test_straggler_helper_fails(void)
{
    static const struct reply script[] = {
        {REPLY_HOLD, ""}, {REPLY_SEND, LAST_201}, {REPLY_SEND, LAST_201}, {REPLY_RESET, ""}, {REPLY_SEND, LAST_201}};
    struct scene scene = begin_with_connections(script, UNIT_COUNT(script), 2);
    CU_ASSERT(put(&scene, 3 * BLOCK, OBJECT_REPLACE) == DCACHE_OK);
    CU_ASSERT(object_store_traffic(scene.store).hedged == 1);
    CU_ASSERT(object_store_traffic(scene.store).retries == 1); /* the helper tries again as everybody does */
    CU_ASSERT(end(&scene) == 6);
}

/* A busy service is not sent more than it has to get. */
static void test_straggler_of_busy_service(void)
{
    static const struct reply script[] = {{REPLY_HOLD, ""}, {REPLY_SEND, LAST_BUSY}, {REPLY_SEND, LAST_201}};
    struct scene scene = {.server = http_server_start(script, UNIT_COUNT(script))};
    scene.store = open_store(http_server_port(scene.server), "http", 7200, 4);
    scene.store->policy.connections = 2;
    CU_ASSERT(put(&scene, 3 * BLOCK, OBJECT_REPLACE) == DCACHE_OK); /* by the retry after a stall */
    const struct object_traffic traffic = object_store_traffic(scene.store);
    CU_ASSERT(traffic.hedged == 0);
    CU_ASSERT(traffic.throttled == 1);
    CU_ASSERT(traffic.retries >= 2); /* more where the machine itself stands still for as long as a stall is */
    CU_ASSERT(traffic.requests == 4 + traffic.retries);
    CU_ASSERT(traffic.sent >= 4 * BLOCK);
    CU_ASSERT(end(&scene) == traffic.requests);
}

/* --- Cancelling ----------------------------------------------------------------------------------------------------
 */

struct canceller {
    struct http_server *server;
    atomic_bool cancel;
};

static void *cancel_after_first_request(void *context)
{
    struct canceller *canceller = context;
    while (http_server_requests(canceller->server) == 0)
        usleep(1000);
    usleep(300000); /* by now the answer, if there was one, has come */
    atomic_store(&canceller->cancel, true);
    return NULL;
}

/* While a request stalls, and while it waits for the next attempt. Without the cancelling these would take hours. */
static void test_cancel(void)
{
    static const struct reply scripts[] = {{REPLY_STALL, ""},
                                           {REPLY_SEND, "HTTP/1.1 503 Busy\r\nRetry-After: 3000\r\n" NO_BODY}};
    for (size_t i = 0; i < UNIT_COUNT(scripts); i++) {
        struct scene scene = begin(&scripts[i], 1, 7200, 7200);
        struct canceller canceller = {.server = scene.server};
        struct object_source source = {.bytes = 3 * BLOCK, .read = read_zeros};
        pthread_t thread;
        CU_ASSERT_FATAL(pthread_create(&thread, NULL, cancel_after_first_request, &canceller) == 0);
        CU_ASSERT(scene.store->ops->put(scene.store, &dg, "a/key", &source, OBJECT_REPLACE, &canceller.cancel) ==
                  DCACHE_ERR_CANCELLED);
        pthread_join(thread, NULL);
        CU_ASSERT(end(&scene) == 1);
    }
}

/* --- TLS -----------------------------------------------------------------------------------------------------------
 */

static pid_t start(char *const command[])
{
    pid_t pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_RDWR);
        dup2(null, 0);
        dup2(null, 1);
        dup2(null, 2);
        execvp(command[0], command);
        _exit(127);
    }
    return pid;
}

static bool wait_for_port(int port, pid_t pid)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((uint16_t)port)};
    for (int i = 0; i < 3000 && waitpid(pid, NULL, WNOHANG) == 0; i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        bool there = connect(fd, (struct sockaddr *)&address, sizeof address) == 0;
        close(fd);
        if (there)
            return true;
        usleep(10000);
    }
    return false;
}

/* A server whose certificate nobody vouches for gets nothing to see, and is not asked again. */
static void test_tls_is_verified(void)
{
    char certificate[600];
    char key[600];
    char port_text[16];
    int port = unused_port();
    int status = -1;
    snprintf(certificate, sizeof certificate, "%s/certificate.pem", unit_scratch());
    snprintf(key, sizeof key, "%s/key.pem", unit_scratch());
    snprintf(port_text, sizeof port_text, "%d", port);
    char *const make[] = {"openssl", "req", "-x509", "-newkey",       "rsa:2048", "-nodes",
                          "-days",   "2",   "-subj", "/CN=127.0.0.1", "-addext",  "subjectAltName=IP:127.0.0.1",
                          "-keyout", key,   "-out",  certificate,     NULL};
    pid_t maker = start(make);
    CU_ASSERT_FATAL(maker > 0 && waitpid(maker, &status, 0) == maker);
    if (status != 0) {
        printf("(not tested: no openssl command) ");
        return;
    }
    char *const serve[] = {"openssl",   "s_server", "-accept", port_text, "-cert",
                           certificate, "-key",     key,       "-www",    NULL};
    pid_t server = start(serve);
    CU_ASSERT_FATAL(server > 0 && wait_for_port(port, server));
    struct scene scene = {.store = open_store(port, "https", 60, 20)};
    char buffer[11];
    CU_ASSERT(get(&scene, NULL, buffer) == DCACHE_ERR_STORE);
    CU_ASSERT(text_has("certificate") && text_has("(1 attempt "));
    object_store_close(scene.store);
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
}

int main(void)
{
    static const struct unit_case cases[] = {
        {"statuses that are tried again", test_retried_statuses},
        {"always busy", test_always_busy},
        {"Retry-After beyond the deadline", test_retry_after_too_long},
        {"statuses that are not tried again", test_no_retry},
        {"stall, reset, no answer, half an answer", test_transport_recovers},
        {"stall for ever", test_stall},
        {"drip for ever", test_drip},
        {"nobody there", test_nobody_there},
        {"early answer", test_early_answer},
        {"lost answer, ours", test_lost_answer_is_ours},
        {"lost answer, another's", test_lost_answer_is_theirs},
        {"lost answer to Put Block List", test_lost_block_list},
        {"lost answer of a swap", test_lost_answer_of_swap},
        {"a list of blocks that is spoilt on the way", test_spoilt_block_list},
        {"blocks gone", test_blocks_gone},
        {"CRC spoilt on the way", test_crc_spoilt_on_the_way},
        {"CRC stored wrong", test_crc_stored_wrong},
        {"get: truncated", test_get_truncated},
        {"get: lies", test_get_lies},
        {"head: lies", test_head_lies},
        {"garbage", test_garbage},
        {"header flood", test_header_flood},
        {"list: pages", test_list_pages},
        {"list: lies", test_list_lies},
        {"straggler is sent again", test_straggler_is_sent_again},
        {"straggler's helper fails", test_straggler_helper_fails},
        {"straggler of a busy service", test_straggler_of_busy_service},
        {"cancel", test_cancel},
        {"TLS is verified", test_tls_is_verified},
    };
    diag_init(&dg, "unit", -1, DIAG_ERROR);
    return unit_main("object faults", cases, UNIT_COUNT(cases));
}
