/* Shared Key signatures, connection strings, the environment, and the URLs that go with them. That Azurite accepts the
 * signatures is tested by test_object_store. */
#include "io/azure_auth.h"

#include "io/crc64.h"
#include "unit.h"

#define EMULATOR_KEY "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
#define OTHER_KEY    "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0" /* "secret-secret-secret-secret" */
#define FAR          "AccountName=acc1;AccountKey=" OTHER_KEY

static struct diag dg;

static void add(struct http_headers *headers, const char *name, const char *value)
{
    CU_ASSERT(http_headers_add(headers, name, value));
}

/* The example of "Authorize with Shared Key" in the documentation of the Blob service: a listing of a container. */
static void test_string_to_sign_list(void)
{
    struct http_headers headers = {.count = 0};
    char text[AZURE_STRING_TO_SIGN_MAX];
    const struct azure_query query[] = {{"comp", "metadata"}, {"restype", "container"}, {"timeout", "20"}};
    struct azure_signed request = {.method = "GET",
                                   .account = "myaccount",
                                   .path = "/mycontainer",
                                   .query = query,
                                   .query_count = 3,
                                   .headers = &headers};
    add(&headers, "x-ms-version", "2015-02-21");
    add(&headers, "x-ms-date", "Fri, 26 Jun 2015 23:39:12 GMT");
    CU_ASSERT(azure_auth_string_to_sign(&request, text));
    CU_ASSERT_STRING_EQUAL(text, "GET\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:Fri, 26 Jun 2015 23:39:12 GMT\n"
                                 "x-ms-version:2015-02-21\n/myaccount/mycontainer\ncomp:metadata\nrestype:container\n"
                                 "timeout:20");
}

/* Path style, a body, conditions, a range; names of which one begins with the other; headers that are not signed. */
static void test_string_to_sign_all_fields(void)
{
    struct http_headers headers = {.count = 0};
    char text[AZURE_STRING_TO_SIGN_MAX];
    struct azure_signed request = {.method = "PUT",
                                   .account = "devstoreaccount1",
                                   .path = "/devstoreaccount1/c/a/b.h5",
                                   .content_length = 4194304,
                                   .headers = &headers};
    add(&headers, "x-ms-meta-ab", "2");
    add(&headers, "x-ms-meta-a", "1");
    add(&headers, "x-ms-meta-a-c", "3");
    add(&headers, "If-None-Match", "*");
    add(&headers, "If-Match", "\"0x1\"");
    add(&headers, "Range", "bytes=0-9");
    add(&headers, "Expect", "");
    CU_ASSERT(azure_auth_string_to_sign(&request, text));
    CU_ASSERT_STRING_EQUAL(text, "PUT\n\n\n4194304\n\n\n\n\n\"0x1\"\n*\n\nbytes=0-9\n"
                                 "x-ms-meta-a:1\nx-ms-meta-a-c:3\nx-ms-meta-ab:2\n"
                                 "/devstoreaccount1/devstoreaccount1/c/a/b.h5");
}

/* The value was computed with openssl: printf TEXT | openssl dgst -sha256 -mac HMAC -macopt hexkey:KEY -binary | base64
 */
static void test_signature(void)
{
    struct http_headers headers = {.count = 0};
    char authorization[HTTP_HEADER_VALUE_MAX];
    struct azure_key key;
    struct azure_signed request = {.method = "GET", .account = "acc1", .path = "/c/k", .headers = &headers};
    add(&headers, "x-ms-date", "Fri, 26 Jun 2015 23:39:12 GMT");
    CU_ASSERT_FATAL(azure_auth_decode_key(OTHER_KEY, &key));
    CU_ASSERT(azure_auth_sign(&dg, &key, &request, authorization) == DCACHE_OK);
    CU_ASSERT_STRING_EQUAL(authorization, "SharedKey acc1:hkF8fwIUvWvf9SLB/w2k+xManFZu+RgAKdio1Ep/ymg=");
}

static void test_too_long_to_sign(void)
{
    struct http_headers headers = {.count = 0};
    char text[AZURE_STRING_TO_SIGN_MAX];
    char *path = calloc(1, AZURE_STRING_TO_SIGN_MAX + 1);
    CU_ASSERT_FATAL(path != NULL);
    memset(path, 'x', AZURE_STRING_TO_SIGN_MAX);
    struct azure_signed request = {.method = "GET", .account = "a", .path = path, .headers = &headers};
    CU_ASSERT(!azure_auth_string_to_sign(&request, text));
    free(path);
}

static void test_crc_text(void)
{
    char text[16];
    azure_auth_crc_text(crc64_update(0, "hello", 5), text);
    CU_ASSERT_STRING_EQUAL(text, "V0JSBnCFdzM="); /* as the documentation of Put Blob has it */
}

static void test_decode_key(void)
{
    static const char *const bad[] = {
        "", "a", "abc", "ab=c", "a===", "====", "abc!", "ab d", "YWJj\n", "YWJjZA=", "YQ==YQ=="};
    struct azure_key key;
    for (size_t i = 0; i < UNIT_COUNT(bad); i++)
        CU_ASSERT(!azure_auth_decode_key(bad[i], &key));
    CU_ASSERT(azure_auth_decode_key("YWJjZA==", &key) && key.bytes == 4 && memcmp(key.data, "abcd", 4) == 0);
    CU_ASSERT(azure_auth_decode_key("YWJjZGU=", &key) && key.bytes == 5 && memcmp(key.data, "abcde", 5) == 0);
    CU_ASSERT(azure_auth_decode_key("YWJjZGVm", &key) && key.bytes == 6 && memcmp(key.data, "abcdef", 6) == 0);
    CU_ASSERT(azure_auth_decode_key(EMULATOR_KEY, &key) && key.bytes == 64);
    char *longest = calloc(1, 4 * AZURE_KEY_MAX);
    CU_ASSERT_FATAL(longest != NULL);
    memset(longest, 'A', AZURE_KEY_MAX / 3 * 4);
    CU_ASSERT(azure_auth_decode_key(longest, &key) && key.bytes == AZURE_KEY_MAX);
    memset(longest, 'A', AZURE_KEY_MAX / 3 * 4 + 4);
    CU_ASSERT(!azure_auth_decode_key(longest, &key));
    free(longest);
}

static void test_connection_strings(void)
{
    static const struct {
        const char *text;
        const char *account;
        const char *endpoint;
    } good[] = {
        {FAR, "acc1", "https://acc1.blob.core.windows.net"},
        {"DefaultEndpointsProtocol=https;" FAR ";EndpointSuffix=core.usgovcloudapi.net", "acc1",
         "https://acc1.blob.core.usgovcloudapi.net"},
        {"defaultendpointsprotocol=http;" FAR ";", "acc1", "http://acc1.blob.core.windows.net"},
        {FAR ";BlobEndpoint=http://azurite:10000/acc1/;QueueEndpoint=http://azurite:10001/acc1", "acc1",
         "http://azurite:10000/acc1"},
        {"UseDevelopmentStorage=true", "devstoreaccount1", "http://127.0.0.1:10000/devstoreaccount1"},
    };
    for (size_t i = 0; i < UNIT_COUNT(good); i++) {
        struct object_credentials found;
        CU_ASSERT(azure_auth_parse(&dg, good[i].text, &found) == DCACHE_OK);
        CU_ASSERT_STRING_EQUAL(found.account, good[i].account);
        CU_ASSERT_STRING_EQUAL(found.endpoint, good[i].endpoint);
        CU_ASSERT_STRING_EQUAL(found.key, i == UNIT_COUNT(good) - 1 ? EMULATOR_KEY : OTHER_KEY);
    }
}

/* Each failure names the part and never shows a value. */
static void test_bad_connection_strings(void)
{
    static const struct {
        const char *text;
        const char *named;
    } bad[] = {
        {"", "AccountName is missing"},
        {"AccountName=acc1", "AccountKey is missing"},
        {"AccountKey=" OTHER_KEY, "AccountName is missing"},
        {"AccountName=acc1;AccountKey=SECRET!", "AccountKey in"},
        {"AccountName=acc1;AccountKey=", "AccountKey in"},
        {"AccountName=acc1;AccountKey=SEC;RET=", "AccountKey in"},
        {"AccountName=acc1;AccountKey=" OTHER_KEY ";SECRET==", "part 3"},
        {"AccountName=SECRET/x;AccountKey=" OTHER_KEY, "AccountName in"},
        {FAR ";BlobEndpoint=ftp://SECRET", "BlobEndpoint in"},
        {FAR ";BlobEndpoint=https://SECRET@host", "BlobEndpoint in"},
        {FAR ";BlobEndpoint=https://host/?sig=SECRET", "BlobEndpoint in"},
        {FAR ";EndpointSuffix=SECRET/x", "EndpointSuffix in"},
        {FAR ";DefaultEndpointsProtocol=SECRET", "DefaultEndpointsProtocol in"},
        {FAR ";AccountName=SECRET", "AccountName is in"},
        {"UseDevelopmentStorage=SECRET", "UseDevelopmentStorage in"},
        {"UseDevelopmentStorage=true;AccountName=acc1", "AccountName in"},
        {"BlobEndpoint=https://a.blob.core.windows.net;SharedAccessSignature=SECRET", "SharedAccessSignature"},
        {"AccountName=a;SharedAccessSignature=sv=1&sig=SECRET HTTP/1.1", "SharedAccessSignature"},
        {"AccountName=a;SharedAccessSignature=comp=SECRET&sig=SECRET", "SharedAccessSignature"},
        {"AccountName=a;SharedAccessSignature=sv=SECRET&sig=", "SharedAccessSignature"},
        {"BlobEndpoint=https:///;SharedAccessSignature=sig=SECRET", "BlobEndpoint in"},
        {"SharedAccessSignature=sig=SECRET", "AccountName is missing"},
    };
    for (size_t i = 0; i < UNIT_COUNT(bad); i++) {
        struct object_credentials found = {.account = "untouched"};
        CU_ASSERT(azure_auth_parse(&dg, bad[i].text, &found) == DCACHE_ERR_OPTION);
        CU_ASSERT(strstr(dg.text, bad[i].named) != NULL);
        CU_ASSERT(strstr(dg.text, "SECRET") == NULL && strstr(dg.text, OTHER_KEY) == NULL);
        CU_ASSERT_STRING_EQUAL(found.account, "untouched");
    }
}

static const char *const variables[] = {
    "AZURE_STORAGE_CONNECTION_STRING", "AZURE_STORAGE_ACCOUNT",       "AZURE_STORAGE_KEY",
    "AZURE_STORAGE_ACCESS_KEY",        "AZURE_STORAGE_BLOB_ENDPOINT", "AZURE_STORAGE_SAS_TOKEN"};

static void clear_environment(void)
{
    for (size_t i = 0; i < UNIT_COUNT(variables); i++)
        unsetenv(variables[i]);
}

static void test_environment(void)
{
    struct object_credentials found;
    clear_environment();
    CU_ASSERT(azure_auth_environment(&dg, &found) == DCACHE_OK);
    CU_ASSERT(found.account[0] == '\0' && found.key[0] == '\0' && found.endpoint[0] == '\0');
    setenv("AZURE_STORAGE_ACCOUNT", "acc2", 1);
    setenv("AZURE_STORAGE_ACCESS_KEY", OTHER_KEY, 1);
    CU_ASSERT(azure_auth_environment(&dg, &found) == DCACHE_OK);
    CU_ASSERT_STRING_EQUAL(found.endpoint, "https://acc2.blob.core.windows.net");
    CU_ASSERT_STRING_EQUAL(found.key, OTHER_KEY);
    setenv("AZURE_STORAGE_KEY", EMULATOR_KEY, 1);
    setenv("AZURE_STORAGE_BLOB_ENDPOINT", "http://azurite:10000/acc2/", 1);
    CU_ASSERT(azure_auth_environment(&dg, &found) == DCACHE_OK);
    CU_ASSERT_STRING_EQUAL(found.endpoint, "http://azurite:10000/acc2");
    CU_ASSERT_STRING_EQUAL(found.key, EMULATOR_KEY);
    setenv("AZURE_STORAGE_KEY", "SECRET!", 1);
    CU_ASSERT(azure_auth_environment(&dg, &found) == DCACHE_ERR_OPTION);
    CU_ASSERT(strstr(dg.text, "AZURE_STORAGE_KEY") != NULL && strstr(dg.text, "SECRET") == NULL);
    unsetenv("AZURE_STORAGE_KEY");
    setenv("AZURE_STORAGE_SAS_TOKEN", "?sv=2021-12-02&sig=a%2Fb%3D", 1);
    CU_ASSERT(azure_auth_environment(&dg, &found) == DCACHE_OK);
    CU_ASSERT_STRING_EQUAL(found.sas, "sv=2021-12-02&sig=a%2Fb%3D");
    setenv("AZURE_STORAGE_SAS_TOKEN", "SECRET", 1);
    CU_ASSERT(azure_auth_environment(&dg, &found) == DCACHE_ERR_OPTION);
    CU_ASSERT(strstr(dg.text, "AZURE_STORAGE_SAS_TOKEN") != NULL && strstr(dg.text, "SECRET") == NULL);
    setenv("AZURE_STORAGE_CONNECTION_STRING", FAR, 1);
    CU_ASSERT(azure_auth_environment(&dg, &found) == DCACHE_OK);
    CU_ASSERT_STRING_EQUAL(found.account, "acc1");
    clear_environment();
}

/* What a URL becomes, with a connection string of account acc1 or none. */
struct url_case {
    const char *connection_string;
    const char *url;
    const char *canonical; /* NULL: DCACHE_ERR_OPTION */
    const char *text;      /* of the failure */
};

static void check_url(const struct url_case *c)
{
    char canonical[OBJECT_URL_MAX];
    struct object_credentials found;
    clear_environment();
    if (c->connection_string != NULL)
        setenv("AZURE_STORAGE_CONNECTION_STRING", c->connection_string, 1);
    dcache_status_t status = object_store_resolve(&dg, c->url, canonical, &found);
    CU_ASSERT(status == (c->canonical != NULL ? DCACHE_OK : DCACHE_ERR_OPTION));
    if (status == DCACHE_OK && c->canonical != NULL) {
        CU_ASSERT_STRING_EQUAL(canonical, c->canonical);
        CU_ASSERT(object_store_resolve(&dg, c->canonical, canonical, &found) == DCACHE_OK);
        CU_ASSERT_STRING_EQUAL(canonical, c->canonical);
    } else {
        CU_ASSERT(c->text != NULL && strstr(dg.text, c->text) != NULL);
        CU_ASSERT(strstr(dg.text, "SECRET") == NULL);
    }
    clear_environment();
}

/* One connection string for each account; with it, the one for all may be another account's. */
static void test_accounts(void)
{
    static const char own[] = "AZURE_STORAGE_CONNECTION_STRING_ACC2";
    static const char url[] = "https://acc2.blob.core.windows.net/con";
    char canonical[OBJECT_URL_MAX], text[1024], name[AZURE_VARIABLE_MAX];
    struct object_credentials found;
    clear_environment();
    azure_auth_variable("a-2z", name);
    CU_ASSERT_STRING_EQUAL(name, "AZURE_STORAGE_CONNECTION_STRING_A_2Z");
    setenv("AZURE_STORAGE_CONNECTION_STRING", FAR, 1);
    CU_ASSERT_EQUAL(object_store_resolve(&dg, url, canonical, &found), DCACHE_ERR_OPTION);
    CU_ASSERT(strstr(dg.text, "acc1, which is another one") != NULL && strstr(dg.text, own) != NULL);

    setenv(own, "AccountName=acc2;AccountKey=" EMULATOR_KEY, 1);
    CU_ASSERT_EQUAL_FATAL(object_store_resolve(&dg, url, canonical, &found), DCACHE_OK);
    CU_ASSERT_STRING_EQUAL(found.account, "acc2");
    CU_ASSERT_STRING_EQUAL(found.key, EMULATOR_KEY);
    CU_ASSERT_EQUAL(found.auth, OBJECT_AUTH_KEY);
    CU_ASSERT_EQUAL_FATAL(object_store_resolve(&dg, "azure://con", canonical, &found), DCACHE_OK);
    CU_ASSERT_STRING_EQUAL(canonical, "https://acc1.blob.core.windows.net/con");
    CU_ASSERT(strcmp(found.key, EMULATOR_KEY) != 0);

    setenv(own, "AccountName=acc2;SharedAccessSignature=sig=SECRET", 1);
    CU_ASSERT_EQUAL(object_store_resolve(&dg, url, canonical, &found), DCACHE_OK);
    CU_ASSERT(found.auth == OBJECT_AUTH_SAS && found.key[0] == '\0');
    CU_ASSERT_EQUAL(object_store_explain_auth(&dg, url, OBJECT_AUTH_AUTO, text, sizeof text), DCACHE_OK);
    CU_ASSERT(strstr(text, "taken: sas") != NULL && strstr(text, "sig=SECRET") == NULL);

    setenv(own, "AccountName=acc3;AccountKey=" OTHER_KEY, 1);
    CU_ASSERT_EQUAL(object_store_resolve(&dg, url, canonical, &found), DCACHE_ERR_OPTION);
    CU_ASSERT(strstr(dg.text, own) != NULL && strstr(dg.text, "acc3") != NULL && strstr(dg.text, OTHER_KEY) == NULL);
    setenv(own, "AccountKey=SECRET", 1);
    CU_ASSERT_EQUAL(object_store_resolve(&dg, url, canonical, &found), DCACHE_ERR_OPTION);
    CU_ASSERT(strstr(dg.text, own) != NULL && strstr(dg.text, "SECRET") == NULL);
    unsetenv(own);
    clear_environment();
}

/* Identities are of no account. */
static void test_identity_of_many(void)
{
    static const char url[] = "https://acc2.blob.core.windows.net/con";
    char canonical[OBJECT_URL_MAX];
    struct object_credentials found;
    clear_environment();
    setenv("AZURE_STORAGE_CONNECTION_STRING", FAR, 1);
    CU_ASSERT_EQUAL(object_store_resolve_as(&dg, url, OBJECT_AUTH_KEY, canonical, &found), DCACHE_ERR_OPTION);
    CU_ASSERT_EQUAL(object_store_resolve_as(&dg, url, OBJECT_AUTH_MANAGED_IDENTITY, canonical, &found), DCACHE_OK);
    CU_ASSERT(found.key[0] == '\0' && found.sas[0] == '\0');
    setenv("AZURE_STORAGE_AUTH_TOKEN_FILE", "/a/file", 1);
    CU_ASSERT_EQUAL(object_store_resolve(&dg, url, canonical, &found), DCACHE_OK);
    CU_ASSERT(found.auth == OBJECT_AUTH_TOKEN_FILE && found.key[0] == '\0');
    CU_ASSERT_STRING_EQUAL(found.account, "acc2");
    unsetenv("AZURE_STORAGE_AUTH_TOKEN_FILE");
    clear_environment();
    setenv("AZURE_STORAGE_ACCOUNT", "acc1", 1); /* a name alone is no secret that could be meant */
    CU_ASSERT_EQUAL(object_store_resolve(&dg, url, canonical, &found), DCACHE_OK);
    CU_ASSERT(found.auth == OBJECT_AUTH_MANAGED_IDENTITY);
    CU_ASSERT_STRING_EQUAL(canonical, url);
    clear_environment();
}

static void test_azure_urls(void)
{
    static const char docker[] = FAR ";BlobEndpoint=http://azurite:10000/acc1";
    static const struct url_case cases[] = {
        {FAR, "https://acc1.blob.core.windows.net/con", "https://acc1.blob.core.windows.net/con", NULL},
        {FAR, "https://acc1.blob.core.windows.net/con/a/b/", "https://acc1.blob.core.windows.net/con/a/b", NULL},
        {FAR, "http://127.0.0.1:10000/acc1/con/p", "http://127.0.0.1:10000/acc1/con/p", NULL},
        {FAR, "http://localhost:10000/acc1/con", "http://localhost:10000/acc1/con", NULL},
        {FAR, "http://[::1]:10000/acc1/con", "http://[::1]:10000/acc1/con", NULL},
        {FAR, "azure://con/p", "https://acc1.blob.core.windows.net/con/p", NULL},
        {docker, "azure://con", "http://azurite:10000/acc1/con", NULL},
        {docker, "http://azurite:10000/acc1/con/p", "http://azurite:10000/acc1/con/p", NULL},
        {FAR, "http://azurite:10000/acc1/con", NULL, "AZURE_STORAGE_BLOB_ENDPOINT"},
        {FAR, "https://acc1.dfs.core.windows.net/con", NULL, "AZURE_STORAGE_BLOB_ENDPOINT"},
        {"BlobEndpoint=https://acc1.blob.core.windows.net;SharedAccessSignature=sv=2021&sig=SECRET", "azure://con",
         "https://acc1.blob.core.windows.net/con", NULL},
        {"BlobEndpoint=http://127.0.0.1:1/acc1;SharedAccessSignature=?sv=2021&sig=SECRET", "azure://con",
         "http://127.0.0.1:1/acc1/con", NULL},
        {"AccountName=acc1;SharedAccessSignature=sig=SECRET", "https://acc2.blob.core.windows.net/con", NULL,
         "acc1, which is another one"},
        {NULL, "azure://con", NULL, "AZURE_STORAGE_ACCOUNT"},
        {NULL, "https://acc1.blob.core.windows.net/con", "https://acc1.blob.core.windows.net/con", NULL},
        {NULL, "http://acc1.blob.core.windows.net/con", NULL, "AZURE_STORAGE_KEY"},
        {FAR, "https://acc2.blob.core.windows.net/con", NULL, "acc1, which is another one"},
        {FAR, "https://acc1.blob.core.windows.net/", NULL, "no container"},
        {FAR, "https://acc1.blob.core.windows.net", NULL, "no container"},
        {FAR, "https://acc1.blob.core.windows.net/Con", NULL, "no container"},
        {FAR, "https://acc1.blob.core.windows.net/co", NULL, "no container"},
        {FAR, "https://acc1.blob.core.windows.net/con/../x", NULL, "prefix"},
        {FAR, "https://acc1.blob.core.windows.net/con//x", NULL, "prefix"},
        {FAR, "https://acc1.blob.core.windows.net/con?sig=SECRET", NULL, "no query"},
        {FAR, "https://me:SECRET@acc1.blob.core.windows.net/con", NULL, "no query"},
        {FAR, "http://127.0.0.1:10000", NULL, "no storage account"},
        {FAR, "ftp://host/x", NULL, "are allowed"},
        {FAR, "", NULL, "are allowed"},
        {FAR, "none", NULL, "are allowed"},
        {"AccountName=acc1", "azure://con", NULL, "AccountKey is missing"},
    };
    for (size_t i = 0; i < UNIT_COUNT(cases); i++)
        check_url(&cases[i]);
}

static void test_file_urls(void)
{
    char directory[512];
    char relative[600];
    CU_ASSERT_FATAL(getcwd(directory, sizeof directory) != NULL);
    snprintf(relative, sizeof relative, "file://%s/some/store", directory);
    const struct url_case cases[] = {
        {NULL, "file:///var/tmp/x", "file:///var/tmp/x", NULL},
        {NULL, "file:///var/tmp/x///", "file:///var/tmp/x", NULL},
        {NULL, "file:///a@b?c#d", "file:///a@b?c#d", NULL},
        {NULL, "file://some/store", relative, NULL},
        {NULL, "file://./some/store/", relative, NULL},
        {"broken, but not asked for", "file:///x", "file:///x", NULL},
        {NULL, "file://", NULL, "names no directory"},
        {NULL, "file:///a\nb", NULL, "control character"},
        {NULL, "/var/tmp/x", NULL, "are allowed"},
    };
    for (size_t i = 0; i < UNIT_COUNT(cases); i++)
        check_url(&cases[i]);
    char too_long[OBJECT_URL_MAX + 64] = "file:///";
    memset(too_long + 8, 'x', OBJECT_URL_MAX);
    check_url(&(struct url_case){NULL, too_long, NULL, "too long"});
}

int main(void)
{
    static const struct unit_case cases[] = {
        {"string to sign: a listing", test_string_to_sign_list},
        {"string to sign: all fields", test_string_to_sign_all_fields},
        {"string to sign: too long", test_too_long_to_sign},
        {"signature", test_signature},
        {"CRC64 as Azure writes it", test_crc_text},
        {"keys", test_decode_key},
        {"connection strings", test_connection_strings},
        {"bad connection strings", test_bad_connection_strings},
        {"environment", test_environment},
        {"Azure URLs", test_azure_urls},
        {"a key for each account", test_accounts},
        {"an identity for many accounts", test_identity_of_many},
        {"file URLs", test_file_urls},
    };
    diag_init(&dg, "unit", -1, DIAG_ERROR);
    return unit_main("azure_auth", cases, UNIT_COUNT(cases));
}
