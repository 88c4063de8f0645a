/* Ways to say who we are: shared access signatures and tokens. Against scripted services here, and against Azurite
 * where TEST_AZURE_URL and AZURE_STORAGE_CONNECTION_STRING lead to it (tests/azurite/with-azurite.sh). Whatever is
 * written to standard error meanwhile is searched for the secrets. */
#include "http_server.h"
#include "io/azure_auth.h"
#include "object_pattern.h"
#include "unit.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <sys/stat.h>
#include <time.h>

#define BLOCK  (64u << 10)
#define AZURE  "x-ms-request-id: request-17\r\n"
#define OK_201 "HTTP/1.1 201 Created\r\n" AZURE "Content-Length: 0\r\n\r\n"
#define DENIED "HTTP/1.1 403 No\r\nx-ms-error-code: AuthenticationFailed\r\n" AZURE "Content-Length: 0\r\n\r\n"
#define SAS    "sv=2021-12-02&sp=rwdl&sig=TOPSECRETSIGNATURE%3D"
#define SECRET "TOPSECRET"

static struct diag dg;

static dcache_status_t put(struct object_store *store, const char *key, uint64_t bytes)
{
    struct pattern_source from = good_pattern(3);
    struct object_source source = {.bytes = bytes, .context = &from, .read = read_pattern};
    return store->ops->put(store, &dg, key, &source, OBJECT_REPLACE, NULL);
}

static void clear_environment(void)
{
    static const char *const names[] = {"AZURE_STORAGE_CONNECTION_STRING",
                                        "AZURE_STORAGE_ACCOUNT",
                                        "AZURE_STORAGE_KEY",
                                        "AZURE_STORAGE_ACCESS_KEY",
                                        "AZURE_STORAGE_SAS_TOKEN",
                                        "AZURE_STORAGE_BLOB_ENDPOINT",
                                        "AZURE_TENANT_ID",
                                        "AZURE_CLIENT_ID",
                                        "AZURE_CLIENT_SECRET",
                                        "AZURE_FEDERATED_TOKEN_FILE",
                                        "AZURE_STORAGE_AUTH_TOKEN_FILE",
                                        "AZURE_STORAGE_AUTH_TOKEN_COMMAND",
                                        "AZURE_AUTHORITY_HOST",
                                        "AZURE_POD_IDENTITY_AUTHORITY_HOST"};
    for (size_t i = 0; i < UNIT_COUNT(names); i++)
        unsetenv(names[i]);
}

/* Open a store with what the environment says; NULL when it cannot be. */
static struct object_store *open_as(const char *url, enum object_auth auth)
{
    char canonical[OBJECT_URL_MAX];
    struct object_credentials credentials;
    struct object_policy policy = {.timeout_s = 20, .stall_s = 10, .block_bytes = BLOCK, .connections = 2};
    struct object_store *store = NULL;
    if (object_store_resolve_as(&dg, url, auth, canonical, &credentials) != DCACHE_OK)
        return NULL;
    CU_ASSERT(strstr(canonical, SECRET) == NULL && strchr(canonical, '?') == NULL);
    CU_ASSERT(object_store_open(&dg, canonical, &credentials, &policy, &store) == DCACHE_OK);
    return store;
}

/* --- Against a script -------------------------------------------------------------------------------------------- */

static void test_sas_is_sent(void)
{
    static const struct reply script[] = {{REPLY_SEND, OK_201}, {REPLY_SEND, DENIED}};
    char url[128];
    struct http_server *server = http_server_start(script, 2);
    clear_environment();
    setenv("AZURE_STORAGE_ACCOUNT", "acc1", 1);
    setenv("AZURE_STORAGE_SAS_TOKEN", "?" SAS, 1);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/acc1/con", http_server_port(server));
    CU_ASSERT(open_as(url, OBJECT_AUTH_KEY) == NULL && strstr(dg.text, "AZURE_STORAGE_KEY") != NULL);
    struct object_store *store = open_as(url, OBJECT_AUTH_AUTO);
    CU_ASSERT_FATAL(store != NULL);
    CU_ASSERT(put(store, "it", 10) == DCACHE_OK);
    static const char sent[] = "PUT /acc1/con/it?" SAS " HTTP/1.1\r\n";
    CU_ASSERT(strncmp(http_server_head(server, 0), sent, strlen(sent)) == 0);
    CU_ASSERT(strcasestr(http_server_head(server, 0), "\nAuthorization:") == NULL);
    char *listed = NULL;
    size_t bytes = 0;
    CU_ASSERT(object_store_get_bytes(store, &dg, "it", 100, &listed, &bytes) == DCACHE_ERR_PERMISSION);
    CU_ASSERT(strstr(dg.text, "shared access signature") != NULL && strstr(dg.text, SECRET) == NULL);
    diag_log(&dg, DIAG_ERROR, "%s", dg.text);
    object_store_close(store);
    http_server_stop(server);
    clear_environment();
}

static void test_key_before_sas(void)
{
    static const struct reply script[] = {{REPLY_SEND, OK_201}};
    char url[128];
    struct http_server *server = http_server_start(script, 1);
    setenv("AZURE_STORAGE_ACCOUNT", "acc1", 1);
    setenv("AZURE_STORAGE_KEY", "VE9QU0VDUkVU", 1);
    setenv("AZURE_STORAGE_SAS_TOKEN", SAS, 1);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/acc1/con", http_server_port(server));
    struct object_store *store = open_as(url, OBJECT_AUTH_AUTO);
    CU_ASSERT_FATAL(store != NULL);
    CU_ASSERT(put(store, "it", 10) == DCACHE_OK);
    CU_ASSERT(strstr(http_server_head(server, 0), SECRET) == NULL);
    CU_ASSERT(strcasestr(http_server_head(server, 0), "\nAuthorization: SharedKey acc1:") != NULL);
    object_store_close(store);
    store = open_as(url, OBJECT_AUTH_SAS);
    CU_ASSERT_FATAL(store != NULL);
    CU_ASSERT(put(store, "it", 10) == DCACHE_OK);
    CU_ASSERT(strstr(http_server_head(server, 1), "sig=" SECRET) != NULL);
    object_store_close(store);
    http_server_stop(server);
    clear_environment();
}

static void test_explain(void)
{
    static const char far[] = "https://acc1.blob.core.windows.net/con";
    char text[2048];
    clear_environment();
    CU_ASSERT(object_store_explain_auth(&dg, "file:///x", OBJECT_AUTH_AUTO, text, sizeof text) == DCACHE_OK);
    CU_ASSERT_STRING_EQUAL(text, "");
    CU_ASSERT(object_store_explain_auth(&dg, far, OBJECT_AUTH_AUTO, text, sizeof text) == DCACHE_OK);
    CU_ASSERT(strncmp(text, "taken: managed-identity; not key: ", 34) == 0);
    CU_ASSERT(object_store_explain_auth(&dg, "http://127.0.0.1:1/acc1/con", OBJECT_AUTH_AUTO, text, sizeof text) ==
              DCACHE_OK);
    CU_ASSERT(strncmp(text, "taken: none; ", 13) == 0 && strstr(text, "; not managed-identity: a token") != NULL);
    setenv("AZURE_STORAGE_SAS_TOKEN", SAS, 1);
    setenv("AZURE_TENANT_ID", "t", 1);
    setenv("AZURE_CLIENT_ID", "c", 1);
    setenv("AZURE_CLIENT_SECRET", SECRET, 1);
    CU_ASSERT(object_store_explain_auth(&dg, far, OBJECT_AUTH_AUTO, text, sizeof text) == DCACHE_OK);
    CU_ASSERT(strncmp(text, "taken: sas; not key: there is no key", 36) == 0 && strstr(text, SECRET) == NULL);
    CU_ASSERT(strstr(text, "; not service-principal: it comes after") != NULL);
    CU_ASSERT(strstr(text, "; not workload-identity: a workload identity needs") != NULL);
    CU_ASSERT(object_store_explain_auth(&dg, far, OBJECT_AUTH_SERVICE_PRINCIPAL, text, sizeof text) == DCACHE_OK);
    CU_ASSERT(strncmp(text, "taken: service-principal; ", 26) == 0);
    CU_ASSERT(strstr(text, "; not sas: store_auth asks for another") != NULL);
    setenv("AZURE_AUTHORITY_HOST", "http://far.example", 1); /* would get the secret in plain */
    CU_ASSERT(object_store_explain_auth(&dg, far, OBJECT_AUTH_AUTO, text, sizeof text) == DCACHE_ERR_OPTION);
    setenv("AZURE_AUTHORITY_HOST", "http://169.254.169.254.far.example", 1);
    CU_ASSERT(object_store_explain_auth(&dg, far, OBJECT_AUTH_AUTO, text, sizeof text) == DCACHE_ERR_OPTION);
    clear_environment();
}

/* --- Against Azurite --------------------------------------------------------------------------------------------- */

static const char *azure_url; /* NULL: there is none */
static struct object_credentials owner;

static void sign(const char *text, char sig[256])
{
    struct azure_key key;
    unsigned char mac[EVP_MAX_MD_SIZE];
    char base64[2 * EVP_MAX_MD_SIZE];
    unsigned bytes = 0;
    CU_ASSERT_FATAL(azure_auth_decode_key(owner.key, &key));
    HMAC(EVP_sha256(), key.data, (int)key.bytes, (const unsigned char *)text, strlen(text), mac, &bytes);
    EVP_EncodeBlock((unsigned char *)base64, mac, (int)bytes);
    sig[0] = '\0';
    CU_ASSERT(http_escape_append(sig, 256, base64));
}

/* As Azure documents them: an account's signature, and a container's with rights `allowed`. */
static void set_account_sas(const char *expiry)
{
    char text[1024], sig[256], sas[1024];
    snprintf(text, sizeof text, "%s\nrwdlc\nb\nsco\n\n%s\n\n\n2021-12-02\n\n", owner.account, expiry);
    sign(text, sig);
    snprintf(sas, sizeof sas, "sv=2021-12-02&ss=b&srt=sco&sp=rwdlc&se=%s&sig=%s", expiry, sig);
    setenv("AZURE_STORAGE_SAS_TOKEN", sas, 1);
}

static void set_container_sas(const char *allowed)
{
    char text[1024], sig[256], sas[1024];
    snprintf(text, sizeof text, "%s\n\n2099-01-01T00:00:00Z\n/blob/%s/dcache-test\n\n\n\n2021-12-02\nc\n\n\n\n\n\n\n",
             allowed, owner.account);
    sign(text, sig);
    snprintf(sas, sizeof sas, "sv=2021-12-02&sr=c&sp=%s&se=2099-01-01T00:00:00Z&sig=%s", allowed, sig);
    setenv("AZURE_STORAGE_SAS_TOKEN", sas, 1);
}

static dcache_status_t count_one(void *context, const char *key, uint64_t bytes)
{
    (void)key;
    (void)bytes;
    ++*(unsigned *)context;
    return DCACHE_OK;
}

static void use_all(struct object_store *store)
{
    unsigned count = 0;
    char *data = malloc(5 * BLOCK + 1);
    CU_ASSERT_FATAL(data != NULL);
    CU_ASSERT(put(store, "sas/small", 10) == DCACHE_OK);
    CU_ASSERT(put(store, "sas/large", 5 * BLOCK + 1) == DCACHE_OK);
    CU_ASSERT(store->ops->get(store, &dg, "sas/large", NULL, 0, data, 5 * BLOCK + 1) == DCACHE_OK);
    for (size_t i = 0; i < 5 * BLOCK + 1; i += 977)
        CU_ASSERT((unsigned char)data[i] == pattern(i, 3));
    CU_ASSERT(store->ops->list(store, &dg, "sas/", count_one, &count) == DCACHE_OK && count == 2);
    CU_ASSERT(store->ops->remove(store, &dg, "sas/small") == DCACHE_OK);
    CU_ASSERT(store->ops->remove(store, &dg, "sas/large") == DCACHE_OK);
    free(data);
}

static void test_azurite_sas(void)
{
    if (azure_url == NULL) {
        printf("(not tested: no TEST_AZURE_URL) ");
        return;
    }
    setenv("AZURE_STORAGE_ACCOUNT", owner.account, 1);
    set_account_sas("2099-01-01T00:00:00Z");
    struct object_store *store = open_as(azure_url, OBJECT_AUTH_AUTO);
    CU_ASSERT_FATAL(store != NULL);
    CU_ASSERT_FATAL(store->ops->create(store, &dg) == DCACHE_OK);
    use_all(store);
    object_store_close(store);
    set_container_sas("rwdl");
    store = open_as(azure_url, OBJECT_AUTH_SAS);
    CU_ASSERT_FATAL(store != NULL);
    use_all(store);
    object_store_close(store);
    set_container_sas("r");
    store = open_as(azure_url, OBJECT_AUTH_SAS);
    CU_ASSERT_FATAL(store != NULL);
    CU_ASSERT(put(store, "sas/it", 10) == DCACHE_ERR_PERMISSION && strstr(dg.text, "sig=") == NULL);
    object_store_close(store);
    set_account_sas("2020-01-01T00:00:00Z");
    store = open_as(azure_url, OBJECT_AUTH_SAS);
    CU_ASSERT_FATAL(store != NULL);
    CU_ASSERT(put(store, "sas/it", 10) == DCACHE_ERR_PERMISSION && strstr(dg.text, "expired") != NULL);
    object_store_close(store);
    clear_environment();
}

/* A token as Azure's look; Azurite checks all of it but the signature. */
static void make_token(char token[1024], const char *audience)
{
    char claims[512];
    long now = (long)time(NULL);
    snprintf(claims, sizeof claims,
             "{\"aud\":\"%s\",\"iss\":\"https://sts.windows.net/%s/\",\"iat\":%ld,\"nbf\":%ld,\"exp\":%ld}", audience,
             SECRET, now - 60, now - 60, now + 3600);
    static const char head[] = "{\"alg\":\"RS256\",\"typ\":\"JWT\"}";
    const char *const parts[] = {head, claims, "signature"};
    token[0] = '\0';
    for (size_t i = 0; i < UNIT_COUNT(parts); i++) {
        unsigned char base64[768];
        EVP_EncodeBlock(base64, (const unsigned char *)parts[i], (int)strlen(parts[i]));
        for (char *c = (char *)base64; *c != '\0'; c++)
            *c = *c == '+' ? '-' : *c == '/' ? '_' : *c == '=' ? '\0' : *c;
        snprintf(token + strlen(token), 1024 - strlen(token), "%s%s", i > 0 ? "." : "", (char *)base64);
    }
}

static struct http_server *start_tokens(struct reply *reply, char text[2048], const char *audience)
{
    char token[1024];
    char host[64];
    make_token(token, audience);
    snprintf(text, 2048, "HTTP/1.1 200 OK\r\n\r\n{\"expires_in\": 3600, \"access_token\": \"%s\"}", token);
    *reply = (struct reply){REPLY_SEND, text};
    struct http_server *server = http_server_start(reply, 1);
    snprintf(host, sizeof host, "http://127.0.0.1:%d/", http_server_port(server));
    setenv("AZURE_AUTHORITY_HOST", host, 1);
    setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", host, 1);
    setenv("AZURE_STORAGE_ACCOUNT", owner.account, 1);
    setenv("AZURE_TENANT_ID", "tenant-1", 1);
    setenv("AZURE_CLIENT_ID", "client-1", 1);
    setenv("AZURE_CLIENT_SECRET", SECRET, 1);
    return server;
}

static void test_azurite_token(void)
{
    static const char *const audiences[] = {"https://storage.azure.com", "https://storage.azure.com",
                                            "https://elsewhere.example"};
    static const enum object_auth ways[] = {OBJECT_AUTH_AUTO, OBJECT_AUTH_MANAGED_IDENTITY, OBJECT_AUTH_AUTO};
    if (azure_url == NULL || strncmp(azure_url, "https://", 8) != 0) {
        printf("(not tested: no https:// TEST_AZURE_URL) ");
        return;
    }
    for (size_t i = 0; i < UNIT_COUNT(ways); i++) {
        struct reply reply;
        char text[2048];
        struct http_server *server = start_tokens(&reply, text, audiences[i]);
        struct object_store *store = open_as(azure_url, ways[i]);
        CU_ASSERT_FATAL(store != NULL);
        if (i < 2) {
            CU_ASSERT(store->ops->create(store, &dg) == DCACHE_OK);
            use_all(store);
            CU_ASSERT(http_server_requests(server) == 1);
        } else { /* not for this service */
            CU_ASSERT(put(store, "token/it", 10) == DCACHE_ERR_PERMISSION);
            CU_ASSERT(strstr(dg.text, "Storage Blob Data Contributor") != NULL && strstr(dg.text, SECRET) == NULL);
            diag_log(&dg, DIAG_ERROR, "%s", dg.text);
        }
        CU_ASSERT(strncmp(http_server_head(server, 0), i == 1 ? "GET /metadata" : "POST /tenant-1", 13) == 0);
        object_store_close(store);
        http_server_stop(server);
        clear_environment();
    }
}

static void write_text(const char *path, const char *format, const char *token)
{
    FILE *file = fopen(path, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    CU_ASSERT(fprintf(file, format, token) > 0); /* NOLINT: formats are of this file */
    CU_ASSERT_EQUAL(fclose(file), 0);
}

/* A command's output, as a token alone and as the Azure CLI prints it: asked once, and shown nowhere. */
static void test_azurite_token_command(void)
{
    static const char *const forms[] = {"%s\n",
                                        "{\"accessToken\": \"%s\", \"expiresOn\": \"2099-01-31 12:00:00.000000\",\n"
                                        " \"subscription\": \"s\", \"tenant\": \"t\", \"tokenType\": \"Bearer\"}\n"};
    char file[600];
    char asked[600];
    char command[1400];
    char token[1024];
    if (azure_url == NULL || strncmp(azure_url, "https://", 8) != 0) {
        printf("(not tested: no https:// TEST_AZURE_URL) ");
        return;
    }
    snprintf(file, sizeof file, "%s/token", unit_scratch());
    snprintf(command, sizeof command, "echo asked >>'%s/asked'; cat '%s'", unit_scratch(), file);
    for (size_t i = 0; i <= UNIT_COUNT(forms); i++) {
        const bool good = i < UNIT_COUNT(forms);
        struct stat info;
        snprintf(asked, sizeof asked, "%s/asked", unit_scratch());
        (void)unlink(asked);
        make_token(token, good ? "https://storage.azure.com" : "https://elsewhere.example");
        write_text(file, forms[good ? i : 0], token);
        setenv("AZURE_STORAGE_ACCOUNT", owner.account, 1);
        setenv("AZURE_STORAGE_AUTH_TOKEN_COMMAND", command, 1);
        struct object_store *store = open_as(azure_url, i == 0 ? OBJECT_AUTH_AUTO : OBJECT_AUTH_TOKEN_COMMAND);
        CU_ASSERT_FATAL(store != NULL);
        if (good) {
            CU_ASSERT(store->ops->create(store, &dg) == DCACHE_OK);
            use_all(store);
            CU_ASSERT(stat(asked, &info) == 0 && info.st_size == (off_t)strlen("asked\n"));
        } else {
            CU_ASSERT(put(store, "token/it", 10) == DCACHE_ERR_PERMISSION);
            CU_ASSERT(strstr(dg.text, "Storage Blob Data Contributor") != NULL);
            diag_log(&dg, DIAG_ERROR, "%s", dg.text);
        }
        CU_ASSERT(strstr(dg.text, token) == NULL);
        object_store_close(store);
        clear_environment();
    }
}

/* Without the CA's certificate the service gets no token to see. */
static void test_azurite_unknown_ca(void)
{
    if (azure_url == NULL || strncmp(azure_url, "https://", 8) != 0) {
        printf("(not tested: no https:// TEST_AZURE_URL) ");
        return;
    }
    char bundle[1024];
    snprintf(bundle, sizeof bundle, "%s", getenv("CURL_CA_BUNDLE") != NULL ? getenv("CURL_CA_BUNDLE") : "");
    unsetenv("CURL_CA_BUNDLE");
    set_account_sas("2099-01-01T00:00:00Z");
    setenv("AZURE_STORAGE_ACCOUNT", owner.account, 1);
    struct object_store *store = open_as(azure_url, OBJECT_AUTH_SAS);
    CU_ASSERT_FATAL(store != NULL);
    CU_ASSERT(put(store, "ca/it", 10) == DCACHE_ERR_STORE);
    CU_ASSERT(strstr(dg.text, "certificate") != NULL && strstr(dg.text, "(1 attempt ") != NULL);
    CU_ASSERT(strstr(dg.text, "sig=") == NULL);
    diag_log(&dg, DIAG_ERROR, "%s", dg.text);
    object_store_close(store);
    setenv("CURL_CA_BUNDLE", bundle, 1);
    clear_environment();
}

/* --- What was written -------------------------------------------------------------------------------------------- */

static int written = -1;

static void test_nothing_secret_was_written(void)
{
    struct stat info;
    CU_ASSERT_FATAL(fstat(written, &info) == 0);
    char *text = calloc(1, (size_t)info.st_size + 1);
    CU_ASSERT_FATAL(text != NULL && pread(written, text, (size_t)info.st_size, 0) == info.st_size);
    CU_ASSERT(strstr(text, "shared access signature") != NULL); /* something was */
    CU_ASSERT(strstr(text, SECRET) == NULL && strstr(text, "VE9QU0VDUkVU") == NULL && strstr(text, "sig=") == NULL);
    free(text);
}

int main(void)
{
    static const struct unit_case cases[] = {
        {"a shared access signature is sent, and shown nowhere", test_sas_is_sent},
        {"the key comes before it, unless asked otherwise", test_key_before_sas},
        {"which way is taken, and why", test_explain},
        {"shared access signatures and Azurite", test_azurite_sas},
        {"tokens and Azurite", test_azurite_token},
        {"tokens of a command and Azurite", test_azurite_token_command},
        {"an unknown CA", test_azurite_unknown_ca},
        {"nothing secret was written", test_nothing_secret_was_written},
    };
    char path[600];
    char canonical[OBJECT_URL_MAX];
    diag_init(&dg, "unit", -1, DIAG_DEBUG);
    azure_url = getenv("TEST_AZURE_URL");
    if (azure_url != NULL && object_store_resolve(&dg, azure_url, canonical, &owner) != DCACHE_OK) {
        fprintf(stderr, "%s\n", dg.text);
        return 1;
    }
    clear_environment();
    snprintf(path, sizeof path, "%s/written", unit_scratch());
    written = open(path, O_RDWR | O_CREAT | O_APPEND, 0600);
    if (written < 0 || dup2(written, 2) < 0)
        return 99;
    return unit_main("object auth", cases, UNIT_COUNT(cases));
}
