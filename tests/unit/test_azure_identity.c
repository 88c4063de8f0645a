/* Access tokens, from a token endpoint that is strict: each request's method, path, headers and body are compared with
 * what Azure documents. What is written to standard error meanwhile is searched for the secrets. */
#include "http_server.h"
#include "io/azure_identity.h"
#include "unit.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>

#define TOKEN(t, s) "HTTP/1.1 200 OK\r\n\r\n{\"token_type\":\"Bearer\",\"expires_in\":" s ",\"access_token\":\"" t "\"}"
#define REFUSED                                                                                                        \
    "HTTP/1.1 400 Bad\r\nContent-Length: 50\r\n\r\n{\"error\":\"invalid_client\",\"error_description\":\"TOPS\"}"
#define SECRET "TOPSECRET"

static struct diag dg;
static char token[HTTP_BEARER_MAX];

/* An identity and the endpoint that it asks. */
struct scene {
    struct http_server *server;
    struct http_client *http;
    struct azure_identity *identity;
    struct object_credentials who;
};

static struct scene begin(const struct reply *script, size_t count, enum object_auth auth)
{
    struct scene scene = {.server = http_server_start(script, count)};
    const struct object_policy policy = {.timeout_s = 10, .stall_s = 5};
    struct object_credentials *who = &scene.who;
    who->auth = auth;
    snprintf(who->tenant, sizeof who->tenant, "tenant-1");
    snprintf(who->client, sizeof who->client, auth == OBJECT_AUTH_MANAGED_IDENTITY ? "" : "client-1");
    snprintf(who->secret, sizeof who->secret, "%s", SECRET "~&=1");
    snprintf(who->token_file, sizeof who->token_file, "%s/federated", unit_scratch());
    memcpy(who->bearer_file, who->token_file, sizeof who->bearer_file);
    snprintf(who->bearer_command, sizeof who->bearer_command, "cat '%s'", who->token_file);
    snprintf(who->authority, sizeof who->authority, "http://127.0.0.1:%d", http_server_port(scene.server));
    memcpy(who->metadata, who->authority, sizeof who->metadata);
    CU_ASSERT_FATAL(http_client_open(&dg, &scene.http) == DCACHE_OK);
    CU_ASSERT_FATAL(azure_identity_open(&dg, scene.http, who, &policy, &scene.identity) == DCACHE_OK);
    memset(token, 0, sizeof token);
    return scene;
}

/* Ends the scene; the number of requests the endpoint has seen. */
static unsigned end(struct scene *scene)
{
    azure_identity_close(scene->identity);
    http_client_close(scene->http);
    unsigned requests = http_server_requests(scene->server);
    http_server_stop(scene->server);
    return requests;
}

static dcache_status_t ask(struct scene *scene)
{
    return azure_identity_token(scene->identity, &dg, NULL, NULL, token);
}

static bool head_has(struct scene *scene, unsigned index, const char *part)
{
    return strcasestr(http_server_head(scene->server, index), part) != NULL;
}

static void write_federated(const char *text)
{
    char path[600];
    snprintf(path, sizeof path, "%s/federated", unit_scratch());
    FILE *file = fopen(path, "w");
    CU_ASSERT_FATAL(file != NULL && fputs(text, file) >= 0 && fclose(file) == 0);
}

static void test_system_assigned(void)
{
    static const struct reply script[] = {{REPLY_SEND, "HTTP/1.1 404 Not yet\r\nContent-Length: 0\r\n\r\n"},
                                          {REPLY_SEND, TOKEN(SECRET "-a", "\"86399\"")},
                                          {REPLY_SEND, TOKEN(SECRET "-b", "\"86399\"")}};
    static const char line[] = "GET /metadata/identity/oauth2/token?api-version=2018-02-01&resource="
                               "https%3A%2F%2Fstorage.azure.com%2F HTTP/1.1\r\n";
    struct scene scene = begin(script, 3, OBJECT_AUTH_MANAGED_IDENTITY);
    CU_ASSERT(ask(&scene) == DCACHE_OK);
    CU_ASSERT_STRING_EQUAL(token, SECRET "-a");
    CU_ASSERT(ask(&scene) == DCACHE_OK); /* kept */
    CU_ASSERT_STRING_EQUAL(token, SECRET "-a");
    CU_ASSERT(strncmp(http_server_head(scene.server, 1), line, strlen(line)) == 0);
    CU_ASSERT(head_has(&scene, 1, "\r\nMetadata: true\r\n") && !head_has(&scene, 1, "Authorization"));
    azure_identity_forget(scene.identity);
    CU_ASSERT(ask(&scene) == DCACHE_OK);
    CU_ASSERT_STRING_EQUAL(token, SECRET "-b");
    CU_ASSERT(end(&scene) == 3);
}

static void test_user_assigned(void)
{
    static const struct reply script[] = {{REPLY_SEND, TOKEN(SECRET, "3600")}};
    struct scene scene = begin(script, 1, OBJECT_AUTH_MANAGED_IDENTITY);
    const struct object_policy policy = {.timeout_s = 10, .stall_s = 5};
    azure_identity_close(scene.identity);
    snprintf(scene.who.client, sizeof scene.who.client, "client-2");
    CU_ASSERT_FATAL(azure_identity_open(&dg, scene.http, &scene.who, &policy, &scene.identity) == DCACHE_OK);
    CU_ASSERT(ask(&scene) == DCACHE_OK);
    CU_ASSERT(head_has(&scene, 0, "resource=https%3A%2F%2Fstorage.azure.com%2F&client_id=client-2 HTTP/1.1\r\n"));
    CU_ASSERT(end(&scene) == 1);
}

static void test_service_principal(void)
{
    static const struct reply script[] = {{REPLY_SEND, "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"},
                                          {REPLY_SEND, TOKEN(SECRET, "3599")}};
    static const char line[] = "POST /tenant-1/oauth2/v2.0/token HTTP/1.1\r\n";
    struct scene scene = begin(script, 2, OBJECT_AUTH_SERVICE_PRINCIPAL);
    CU_ASSERT(ask(&scene) == DCACHE_OK);
    for (unsigned i = 0; i < 2; i++) {
        CU_ASSERT(strncmp(http_server_head(scene.server, i), line, strlen(line)) == 0);
        CU_ASSERT(head_has(&scene, i, "\r\nContent-Type: application/x-www-form-urlencoded\r\n"));
        CU_ASSERT(!head_has(&scene, i, SECRET) && !head_has(&scene, i, "Metadata:"));
        CU_ASSERT_STRING_EQUAL(http_server_body(scene.server, i),
                               "client_id=client-1&scope=https%3A%2F%2Fstorage.azure.com%2F.default&grant_type="
                               "client_credentials&client_secret=" SECRET "~%26%3D1");
    }
    CU_ASSERT(end(&scene) == 2);
}

/* The file is read for each token; a token is renewed before it expires. */
static void test_workload_identity(void)
{
    static const struct reply script[] = {{REPLY_SEND, TOKEN("first", "2")}, {REPLY_SEND, TOKEN("second", "3599")}};
    static const char form[] = "client_id=client-1&scope=https%3A%2F%2Fstorage.azure.com%2F.default&grant_type="
                               "client_credentials&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3A"
                               "client-assertion-type%3Ajwt-bearer&client_assertion=" SECRET;
    char expected[512];
    struct scene scene = begin(script, 2, OBJECT_AUTH_WORKLOAD_IDENTITY);
    unlink(scene.who.token_file);
    CU_ASSERT(ask(&scene) != DCACHE_OK && strstr(dg.text, "AZURE_FEDERATED_TOKEN_FILE") != NULL);
    write_federated("\n");
    CU_ASSERT(ask(&scene) == DCACHE_ERR_PERMISSION && strstr(dg.text, "AZURE_FEDERATED_TOKEN_FILE") != NULL);
    CU_ASSERT(http_server_requests(scene.server) == 0);
    write_federated(SECRET ".one\n");
    CU_ASSERT(ask(&scene) == DCACHE_OK);
    CU_ASSERT_STRING_EQUAL(token, "first");
    write_federated(SECRET ".two");
    usleep(1100000); /* half of its life is over, not all of it */
    CU_ASSERT(ask(&scene) == DCACHE_OK);
    CU_ASSERT_STRING_EQUAL(token, "second");
    snprintf(expected, sizeof expected, "%s.one", form);
    CU_ASSERT_STRING_EQUAL(http_server_body(scene.server, 0), expected);
    snprintf(expected, sizeof expected, "%s.two", form);
    CU_ASSERT_STRING_EQUAL(http_server_body(scene.server, 1), expected);
    CU_ASSERT(end(&scene) == 2);
}

/* The token itself is in a file, which is read again when the store refuses the token. Nobody else is asked. */
static void test_token_file(void)
{
    static const char *const bad[] = {"\n", SECRET " two", SECRET "\r\nInjected: yes"};
    static const struct reply script[] = {{REPLY_STALL, ""}};
    struct scene scene = begin(script, 1, OBJECT_AUTH_TOKEN_FILE);
    unlink(scene.who.bearer_file);
    CU_ASSERT(ask(&scene) != DCACHE_OK && strstr(dg.text, "AZURE_STORAGE_AUTH_TOKEN_FILE") != NULL);
    for (size_t i = 0; i < UNIT_COUNT(bad); i++) {
        write_federated(bad[i]);
        CU_ASSERT(ask(&scene) == DCACHE_ERR_PERMISSION && token[0] == '\0' && strstr(dg.text, SECRET) == NULL);
    }
    write_federated(SECRET ".one\n");
    CU_ASSERT(ask(&scene) == DCACHE_OK);
    CU_ASSERT_STRING_EQUAL(token, SECRET ".one");
    write_federated(SECRET ".two");
    CU_ASSERT(ask(&scene) == DCACHE_OK); /* kept for a while */
    CU_ASSERT_STRING_EQUAL(token, SECRET ".one");
    azure_identity_forget(scene.identity);
    CU_ASSERT(ask(&scene) == DCACHE_OK);
    CU_ASSERT_STRING_EQUAL(token, SECRET ".two");
    unlink(scene.who.bearer_file);
    azure_identity_forget(scene.identity);
    CU_ASSERT(ask(&scene) != DCACHE_OK);
    CU_ASSERT(end(&scene) == 0);
}

/* A command prints the token, or JSON that says how long it lasts. */
static void test_token_command(void)
{
    static const struct reply script[] = {{REPLY_STALL, ""}};
    static const char *const bad[] = {SECRET " two",
                                      "{\"accessToken\": \"" SECRET "\"}",
                                      "{\"accessToken\": \"" SECRET "\", \"expires_on\": 1000}",
                                      "{\"accessToken\": \"" SECRET "\", \"expiresOn\": 1000}",
                                      "{\"accessToken\": \"" SECRET "\", \"expires_on\": 1000, \"expiresOn\": \"\"}",
                                      "{\"accessToken\": \"" SECRET "\\n\", \"expires_in\": 100}"};
    static const char *const good[] = {"{\"accessToken\": \"" SECRET ".a\", \"expires_on\": %ld}\n",
                                       "{\"accessToken\": \"" SECRET ".a\", \"expires_on\": \"%ld\"}",
                                       "{\"access_token\": \"" SECRET ".a\", \"expires_in\": 3600, \"x\": %ld}",
                                       "{\"accessToken\": \"" SECRET
                                       ".a\", \"expiresOn\": \"2001-01-01 00:00:00.000000\", "
                                       "\"tokenType\": \"Bearer\"}", /* az 2.45: some clock's time, not looked at */
                                       SECRET ".a\n"};
    char printed[300];
    struct scene scene = begin(script, 1, OBJECT_AUTH_TOKEN_COMMAND);
    unlink(scene.who.token_file);
    CU_ASSERT(ask(&scene) == DCACHE_ERR_PERMISSION);
    CU_ASSERT(strstr(dg.text, "AZURE_STORAGE_AUTH_TOKEN_COMMAND failed (exit status 1); it said: cat: ") != NULL);
    for (size_t i = 0; i < UNIT_COUNT(bad); i++) {
        write_federated(bad[i]);
        CU_ASSERT(ask(&scene) == DCACHE_ERR_PERMISSION && token[0] == '\0' && strstr(dg.text, SECRET) == NULL);
    }
    for (size_t i = 0; i < UNIT_COUNT(good); i++) {
        snprintf(printed, sizeof printed, good[i], (long)time(NULL) + 3600);
        write_federated(printed);
        azure_identity_forget(scene.identity);
        CU_ASSERT(ask(&scene) == DCACHE_OK);
        CU_ASSERT_STRING_EQUAL(token, SECRET ".a");
    }
    write_federated("other");
    CU_ASSERT(ask(&scene) == DCACHE_OK); /* not asked for before it is due */
    CU_ASSERT_STRING_EQUAL(token, SECRET ".a");
    CU_ASSERT(end(&scene) == 0);
}

/* Renewed ahead of its end, here at half of its life; what fails then is tried again, and the token goes on. */
static void test_token_command_renewal(void)
{
    static const struct reply script[] = {{REPLY_STALL, ""}};
    struct scene scene = begin(script, 1, OBJECT_AUTH_TOKEN_COMMAND);
    write_federated("{\"access_token\": \"lasting\", \"expires_in\": 60}");
    CU_ASSERT(ask(&scene) == DCACHE_OK);
    write_federated("{\"access_token\": \"brief\", \"expires_in\": 1}");
    azure_identity_forget(scene.identity);
    CU_ASSERT(ask(&scene) == DCACHE_OK);
    CU_ASSERT_STRING_EQUAL(token, "brief");
    write_federated("{\"access_token\": \"new\", \"expires_in\": 3600}");
    do { /* until it is due; the test's timeout ends it */
        usleep(20000);
        CU_ASSERT(ask(&scene) == DCACHE_OK);
    } while (strcmp(token, "brief") == 0);
    CU_ASSERT_STRING_EQUAL(token, "new");
    CU_ASSERT(end(&scene) == 0);
}

/* A token that cannot be renewed yet is used as long as it lasts. */
static void test_renewal_fails(void)
{
    static const struct reply script[] = {{REPLY_SEND, TOKEN("lasting", "4")}, {REPLY_SEND, REFUSED}};
    struct scene scene = begin(script, 2, OBJECT_AUTH_SERVICE_PRINCIPAL);
    CU_ASSERT(ask(&scene) == DCACHE_OK);
    usleep(2100000);
    CU_ASSERT(ask(&scene) == DCACHE_OK);
    CU_ASSERT_STRING_EQUAL(token, "lasting");
    azure_identity_forget(scene.identity);
    CU_ASSERT(ask(&scene) == DCACHE_ERR_PERMISSION);
    CU_ASSERT(strstr(dg.text, "AZURE_CLIENT_SECRET") != NULL && strstr(dg.text, "HTTP 400") != NULL);
    CU_ASSERT(end(&scene) == 3);
}

static void test_bad_answers(void)
{
    static const char *const replies[] = {
        "HTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\n<html>" SECRET "</html>",
        "HTTP/1.1 200 OK\r\n\r\n[]",
        "HTTP/1.1 200 OK\r\n\r\n{\"access_token\": 5, \"expires_in\": 5}",
        "HTTP/1.1 200 OK\r\n\r\n{\"access_token\": \"" SECRET "\"}",
        TOKEN(SECRET, "0"),
        TOKEN(SECRET, "-5"),
        TOKEN(SECRET, "1e300"),
        TOKEN(SECRET, "\"soon\""),
        TOKEN("", "3600"),
        TOKEN(SECRET " b", "3600"),
        TOKEN(SECRET "\\r\\nInjected: yes", "3600"),
        "HTTP/1.1 204 OK\r\n\r\n",
        "HTTP/1.1 302 There\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
    };
    for (size_t i = 0; i < UNIT_COUNT(replies); i++) {
        struct reply script = {REPLY_SEND, replies[i]};
        struct scene scene = begin(&script, 1, OBJECT_AUTH_SERVICE_PRINCIPAL);
        CU_ASSERT(ask(&scene) == DCACHE_ERR_STORE && token[0] == '\0');
        CU_ASSERT(dg.text[0] != '\0' && strstr(dg.text, SECRET) == NULL);
        diag_log(&dg, DIAG_ERROR, "%s", dg.text);
        CU_ASSERT(end(&scene) == 1);
    }
    struct reply endless = {REPLY_ENDLESS, "HTTP/1.1 200 OK\r\n\r\n"};
    struct scene scene = begin(&endless, 1, OBJECT_AUTH_SERVICE_PRINCIPAL);
    CU_ASSERT(ask(&scene) == DCACHE_ERR_STORE);
    end(&scene);
}

static void *ask_in_thread(void *context)
{
    struct diag own;
    char *mine = calloc(1, HTTP_BEARER_MAX);
    diag_init(&own, "unit", -1, DIAG_ERROR);
    dcache_status_t status = azure_identity_token(context, &own, NULL, NULL, mine);
    bool good = status == DCACHE_OK && strcmp(mine, SECRET) == 0;
    free(mine);
    return good ? context : NULL;
}

static void test_threads_share_one(void)
{
    static const struct reply script[] = {{REPLY_SEND, TOKEN(SECRET, "3600")}};
    struct scene scene = begin(script, 1, OBJECT_AUTH_SERVICE_PRINCIPAL);
    pthread_t threads[8];
    for (unsigned i = 0; i < 8; i++)
        CU_ASSERT_FATAL(pthread_create(&threads[i], NULL, ask_in_thread, scene.identity) == 0);
    for (unsigned i = 0; i < 8; i++) {
        void *good = NULL;
        pthread_join(threads[i], &good);
        CU_ASSERT(good != NULL);
    }
    CU_ASSERT(end(&scene) == 1);
}

static void test_cancel(void)
{
    static const struct reply script[] = {{REPLY_STALL, ""}};
    atomic_bool cancel = true;
    struct scene scene = begin(script, 1, OBJECT_AUTH_SERVICE_PRINCIPAL);
    CU_ASSERT(azure_identity_token(scene.identity, &dg, &cancel, NULL, token) == DCACHE_ERR_CANCELLED);
    end(&scene);
}

/* A token never goes over plain http, whoever says so. */
static void test_only_https(void)
{
    struct object_credentials who = {
        .auth = OBJECT_AUTH_SERVICE_PRINCIPAL, .tenant = "t", .client = "c", .secret = "s"};
    struct object_policy policy = {.timeout_s = 10, .stall_s = 5};
    struct object_store *store = NULL;
    for (; who.auth <= OBJECT_AUTH_MANAGED_IDENTITY; who.auth++) {
        snprintf(who.token_file, sizeof who.token_file, "/f");
        snprintf(who.bearer_file, sizeof who.bearer_file, "/f");
        snprintf(who.bearer_command, sizeof who.bearer_command, "false");
        CU_ASSERT(object_store_open(&dg, "http://127.0.0.1:1/acc1/con", &who, &policy, &store) == DCACHE_ERR_OPTION);
        CU_ASSERT(store == NULL && strstr(dg.text, "https://") != NULL);
        CU_ASSERT(object_store_open(&dg, "https://127.0.0.1:1/acc1/con", &who, &policy, &store) == DCACHE_OK);
        object_store_close(store);
        store = NULL;
    }
}

static int written = -1;

static void test_nothing_secret_was_written(void)
{
    struct stat info;
    CU_ASSERT_FATAL(fstat(written, &info) == 0);
    char *text = calloc(1, (size_t)info.st_size + 1);
    CU_ASSERT_FATAL(text != NULL && pread(written, text, (size_t)info.st_size, 0) == info.st_size);
    CU_ASSERT(strstr(text, "answers with no token") != NULL && strstr(text, "not renewed yet") != NULL);
    CU_ASSERT(strstr(text, SECRET) == NULL && strstr(text, "lasting") == NULL);
    free(text);
}

int main(void)
{
    static const struct unit_case cases[] = {
        {"managed identity, system-assigned", test_system_assigned},
        {"managed identity, user-assigned", test_user_assigned},
        {"service principal", test_service_principal},
        {"workload identity", test_workload_identity},
        {"a token in a file", test_token_file},
        {"a token from a command", test_token_command},
        {"a token from a command is renewed", test_token_command_renewal},
        {"a renewal fails", test_renewal_fails},
        {"bad answers", test_bad_answers},
        {"threads share one token", test_threads_share_one},
        {"cancel", test_cancel},
        {"only over https", test_only_https},
        {"nothing secret was written", test_nothing_secret_was_written},
    };
    char path[600];
    diag_init(&dg, "unit", -1, DIAG_DEBUG);
    snprintf(path, sizeof path, "%s/written", unit_scratch());
    written = open(path, O_RDWR | O_CREAT | O_APPEND, 0600);
    if (written < 0 || dup2(written, 2) < 0)
        return 99;
    return unit_main("azure identity", cases, UNIT_COUNT(cases));
}
