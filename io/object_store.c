#include "io/object_store.h"

#include "io/azure_auth.h"
#include "io/azure_method.h"
#include "io/crc64.h"
#include "io/object_backend.h"

#include <arpa/inet.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ALLOWED                                                                                                        \
    "file:///DIRECTORY, file://RELATIVE/DIRECTORY, https://ACCOUNT.blob.core.windows.net/CONTAINER[/PREFIX], "         \
    "http://127.0.0.1:PORT/ACCOUNT/CONTAINER[/PREFIX] and azure://CONTAINER[/PREFIX] are allowed"

#define DIGITS        "0123456789"
#define LOWER         "abcdefghijklmnopqrstuvwxyz"
#define UPPER         "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define KEY_LETTERS   UPPER LOWER DIGITS "_.-"
#define CONTAINER_MAX 63

/* --- Keys ----------------------------------------------------------------------------------------------------------
 */

static bool segment_valid(const char *segment, size_t length)
{
    return length > 0 && !(length == 1 && segment[0] == '.') &&
           !(length == 2 && segment[0] == '.' && segment[1] == '.') && strspn(segment, KEY_LETTERS) >= length;
}

bool object_key_valid(const char *key)
{
    if (key == NULL || strnlen(key, OBJECT_KEY_MAX + 1) > OBJECT_KEY_MAX)
        return false;
    for (;;) {
        size_t length = strcspn(key, "/");
        if (!segment_valid(key, length))
            return false;
        if (key[length] == '\0')
            return true;
        key += length + 1;
    }
}

dcache_status_t object_bad_key(struct diag *dg, const char *key)
{
    char shown[64];
    snprintf(shown, sizeof shown, "%s", key != NULL ? key : "(null)");
    for (char *c = shown; *c != '\0'; c++) {
        if (*c < ' ' || *c > '~')
            *c = '?';
    }
    return diag_fail(dg, DCACHE_ERR_INVALID,
                     "'%s' cannot be an object's key: 1 to %d characters of A-Z a-z 0-9 _ . - and '/', and no empty, "
                     "\".\" or \"..\" segment",
                     shown, OBJECT_KEY_MAX);
}

dcache_status_t object_exists(struct diag *dg, const char *store_url, const char *key)
{
    return diag_fail(dg, DCACHE_ERR_EXISTS, "%s exists already in %s", key, store_url);
}

dcache_status_t object_changed(struct diag *dg, const char *store_url, const char *key)
{
    return diag_fail(dg, DCACHE_ERR_CORRUPT, "object %s in %s was changed while it was being read", key, store_url);
}

dcache_status_t object_lost_swap(struct diag *dg, const char *store_url, const char *key)
{
    return diag_fail(dg, DCACHE_ERR_EXISTS, "another writer has changed object %s in %s", key, store_url);
}

dcache_status_t object_too_short(struct diag *dg, const char *store_url, const char *key, uint64_t wanted)
{
    return diag_fail(dg, DCACHE_ERR_CORRUPT, "object %s in %s is shorter than %llu bytes", key, store_url,
                     (unsigned long long)wanted);
}

dcache_status_t object_bad_source(struct diag *dg, const char *key, uint64_t offset)
{
    return diag_fail(dg, DCACHE_ERR_CORRUPT, "the bytes for object %s from offset %llu on do not match their digest",
                     key, (unsigned long long)offset);
}

uint64_t object_source_bytes(const struct object_source *source)
{
    uint64_t size = source->size != NULL ? source->size(source->context) : source->bytes;
    return size < source->bytes ? size : source->bytes;
}

dcache_status_t object_source_read(const struct object_source *source, struct diag *dg, uint64_t offset, void *buffer,
                                   size_t *bytes, uint64_t *crc)
{
    dcache_status_t status = source->read(source->context, dg, offset, buffer, *bytes, crc);
    uint64_t size = object_source_bytes(source);
    uint64_t left = size > offset ? size - offset : 0;
    if (left < *bytes)
        *bytes = (size_t)left;
    return status;
}

/* --- URLs ----------------------------------------------------------------------------------------------------------
 */

static bool is_file_url(const char *url)
{
    return strncmp(url, "file://", 7) == 0;
}

/* The URL as it may be shown: without a query, where a signature would be, and without "user:password@". */
static void show_url(const char *url, char shown[OBJECT_URL_MAX])
{
    size_t length = is_file_url(url) ? strlen(url) : strcspn(url, "?#");
    const char *at = is_file_url(url) ? NULL : memrchr(url, '@', length);
    const char *slashes = strstr(url, "://");
    size_t start = at != NULL ? (size_t)(at + 1 - url) : 0;
    size_t scheme = at != NULL && slashes != NULL && slashes < at ? (size_t)(slashes + 3 - url) : 0;
    snprintf(shown, OBJECT_URL_MAX, "%.*s%.*s", (int)scheme, url, (int)(length - start), url + start);
    for (char *c = shown; *c != '\0'; c++) {
        if (*c < ' ' || *c > '~')
            *c = '?';
    }
}

static dcache_status_t bad_url(struct diag *dg, const char *url, const char *why)
{
    char shown[OBJECT_URL_MAX];
    show_url(url, shown);
    shown[300] = '\0'; /* the reason and the remedy have to fit behind it */
    return diag_fail(dg, DCACHE_ERR_OPTION, "store URL %s: %s", shown, why);
}

static dcache_status_t resolve_file(struct diag *dg, const char *url, char canonical[OBJECT_URL_MAX])
{
    const char *path = url + strlen("file://");
    char directory[OBJECT_URL_MAX] = "";
    for (const char *c = path; *c != '\0'; c++) {
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            return bad_url(dg, url, "there is a control character in it");
    }
    while (strncmp(path, "./", 2) == 0)
        path += strspn(path + 1, "/") + 1;
    if (*path == '\0')
        return bad_url(dg, url, "it names no directory");
    if (path[0] != '/' && getcwd(directory, sizeof directory) == NULL)
        return bad_url(dg, url, "it is relative, and the working directory cannot be told; give an absolute one");
    if (strcmp(path, ".") == 0)
        path = "";
    char full[2 * OBJECT_URL_MAX];
    snprintf(full, sizeof full, "file://%s%s%s", directory, path[0] == '/' ? "" : "/", path);
    size_t length = strlen(full);
    while (length > strlen("file:///") && full[length - 1] == '/')
        full[--length] = '\0';
    if (length >= OBJECT_URL_MAX)
        return bad_url(dg, url, "its directory's name is too long");
    memcpy(canonical, full, length + 1);
    return DCACHE_OK;
}

static bool container_valid(const char *name, size_t length)
{
    return length >= 3 && length <= CONTAINER_MAX && strspn(name, LOWER DIGITS "-") >= length && name[0] != '-' &&
           name[length - 1] != '-';
}

/* "CONTAINER[/PREFIX]", slashes at the end allowed. */
static dcache_status_t read_container(struct diag *dg, const char *url, const char *text,
                                      struct object_azure_place *place)
{
    size_t length = strcspn(text, "/");
    if (!container_valid(text, length))
        return bad_url(dg, url,
                       "no container: its name is 3 to 63 of the characters a-z 0-9 and '-', as in "
                       "https://ACCOUNT.blob.core.windows.net/CONTAINER/PREFIX");
    memcpy(place->container, text, length);
    place->container[length] = '\0';
    const char *prefix = text + length + (text[length] == '/');
    size_t prefix_length = strlen(prefix);
    while (prefix_length > 0 && prefix[prefix_length - 1] == '/')
        prefix_length--;
    char checked[OBJECT_KEY_MAX + 1];
    snprintf(checked, sizeof checked, "%.*s", (int)prefix_length, prefix);
    if (prefix_length > 0 && (prefix_length > OBJECT_KEY_MAX || !object_key_valid(checked)))
        return bad_url(dg, url,
                       "the prefix after the container has a character other than A-Z a-z 0-9 _ . - and '/', or an "
                       "empty, \".\" or \"..\" segment, or is too long");
    snprintf(place->prefix, sizeof place->prefix, "%s%s", checked, prefix_length > 0 ? "/" : "");
    return DCACHE_OK;
}

/* "host[:port]" is an address or localhost, so the account is in the path. */
static bool host_is_address(const char *host, size_t length)
{
    char name[64];
    struct in_addr address;
    if (length > 0 && host[0] == '[')
        return true;
    size_t name_length = strcspn(host, ":") < length ? strcspn(host, ":") : length;
    if (name_length >= sizeof name)
        return false;
    memcpy(name, host, name_length);
    name[name_length] = '\0';
    return strcmp(name, "localhost") == 0 || inet_pton(AF_INET, name, &address) == 1;
}

/* Find account and endpoint in http[s]://... itself; `rest` is what comes after the endpoint and a slash. */
static dcache_status_t read_endpoint(struct diag *dg, const char *url, struct object_azure_place *place,
                                     const char **rest)
{
    const char *host = strstr(url, "://") + 3;
    size_t host_length = strcspn(host, "/");
    const char *account = host;
    size_t account_length = strcspn(host, ".");
    const char *end = host + host_length;
    if (host_is_address(host, host_length)) {
        account = end + (*end == '/');
        account_length = strcspn(account, "/");
        end = account + account_length;
    } else if (strncmp(host + account_length, ".blob.", 6) != 0) {
        return bad_url(dg, url,
                       "its host is neither ACCOUNT.blob.SUFFIX nor an address; for any other host set "
                       "AZURE_STORAGE_BLOB_ENDPOINT to what comes before the container");
    }
    if (account_length == 0 || account_length >= sizeof place->account ||
        (size_t)(end - url) >= sizeof place->endpoint || strspn(account, LOWER UPPER DIGITS "-") < account_length)
        return bad_url(dg, url, "it names no storage account; " ALLOWED);
    memcpy(place->account, account, account_length);
    memcpy(place->endpoint, url, (size_t)(end - url));
    *rest = end + (*end == '/');
    return DCACHE_OK;
}

/* Take an Azure URL apart, with what the environment (or another rank's) says. `place` is zeroed. */
static dcache_status_t read_azure(struct diag *dg, const char *url, const struct object_credentials *known,
                                  struct object_azure_place *place)
{
    const char *rest = NULL;
    size_t known_length = strlen(known->endpoint);
    bool by_account = strncmp(url, "azure://", 8) == 0;
    if (url[strspn(url, KEY_LETTERS ":/[]")] != '\0' || strlen(url) >= OBJECT_URL_MAX)
        return bad_url(dg, url, "no query, signature, user name or percent-encoding may be in it; " ALLOWED);
    if (by_account && known->account[0] == '\0')
        return bad_url(
            dg, url, "the storage account is not known: set AZURE_STORAGE_CONNECTION_STRING or AZURE_STORAGE_ACCOUNT");
    if (by_account || (known_length > 0 && known->account[0] != '\0' &&
                       strncmp(url, known->endpoint, known_length) == 0 && url[known_length] == '/')) {
        snprintf(place->endpoint, sizeof place->endpoint, "%s", known->endpoint);
        snprintf(place->account, sizeof place->account, "%s", known->account);
        rest = by_account ? url + strlen("azure://") : url + known_length + 1;
    } else {
        dcache_status_t status = read_endpoint(dg, url, place, &rest);
        if (status != DCACHE_OK)
            return status;
    }
    dcache_status_t status = read_container(dg, url, rest, place);
    if (status != DCACHE_OK)
        return status;
    size_t prefix_length = strlen(place->prefix); /* shown without its slash at the end */
    int length = snprintf(place->url, sizeof place->url, "%s/%s%s%.*s", place->endpoint, place->container,
                          prefix_length > 0 ? "/" : "", prefix_length > 0 ? (int)prefix_length - 1 : 0, place->prefix);
    if (length < 0 || (size_t)length >= sizeof place->url)
        return bad_url(dg, url, "it is too long");
    return DCACHE_OK;
}

static bool is_azure_url(const char *url)
{
    return strncmp(url, "https://", 8) == 0 || strncmp(url, "http://", 7) == 0 || strncmp(url, "azure://", 8) == 0;
}

/* What the environment says that is of use with this URL, and where that leads. */
static dcache_status_t find_credentials(struct diag *dg, const char *url, struct object_credentials *known,
                                        struct object_azure_place *place, char others[128])
{
    bool has_others = false;
    others[0] = '\0';
    dcache_status_t status = azure_auth_environment(dg, known);
    if (status == DCACHE_OK)
        status = read_azure(dg, url, known, place);
    if (status != DCACHE_OK)
        return status;
    char account[sizeof known->account];
    memcpy(account, known->account, sizeof account);
    status = azure_auth_narrow(dg, place->account, known, &has_others);
    if (has_others)
        snprintf(others, sizeof account, "%s", account);
    return status;
}

/* A key or signature of another account would be passed over in silence, for an identity that nobody spoke of. */
static dcache_status_t refuse_others(struct diag *dg, const char *url, const char *account, const char *others)
{
    char name[AZURE_VARIABLE_MAX];
    char why[sizeof name + 384];
    azure_auth_variable(account, name);
    snprintf(why, sizeof why,
             "the environment has credentials of the storage account %s, which is another one: set %s, or use an "
             "identity for both (option store_auth)",
             others, name);
    return bad_url(dg, url, why);
}

static dcache_status_t resolve_azure(struct diag *dg, const char *url, enum object_auth auth,
                                     char canonical[OBJECT_URL_MAX], struct object_credentials *credentials)
{
    struct object_credentials known = {.endpoint = ""};
    struct object_azure_place place = {.url = ""};
    char others[sizeof known.account];
    dcache_status_t status = find_credentials(dg, url, &known, &place, others);
    bool is_https = strncmp(place.endpoint, "https://", 8) == 0;
    const char *missing = status == DCACHE_OK ? azure_method_pick(auth, is_https, &known) : NULL;
    const bool guessed = auth == OBJECT_AUTH_AUTO && known.auth == OBJECT_AUTH_MANAGED_IDENTITY;
    if (status == DCACHE_OK && others[0] != '\0' && (missing != NULL || guessed))
        status = refuse_others(dg, url, place.account, others);
    else if (missing != NULL)
        status = bad_url(dg, url, missing);
    if (status == DCACHE_OK) {
        memcpy(canonical, place.url, sizeof place.url);
        *credentials = known;
        memcpy(credentials->endpoint, place.endpoint, sizeof place.endpoint);
        memcpy(credentials->account, place.account, sizeof place.account);
    }
    OPENSSL_cleanse(&known, sizeof known);
    return status;
}

dcache_status_t object_store_explain_auth(struct diag *dg, const char *url, enum object_auth auth, char *text,
                                          size_t size)
{
    struct object_credentials known = {.endpoint = ""};
    struct object_azure_place place = {.url = ""};
    text[0] = '\0';
    if (!is_azure_url(url))
        return DCACHE_OK;
    char others[sizeof known.account];
    dcache_status_t status = find_credentials(dg, url, &known, &place, others);
    if (status == DCACHE_OK)
        azure_method_explain(auth, strncmp(place.endpoint, "https://", 8) == 0, &known, text, size);
    OPENSSL_cleanse(&known, sizeof known);
    return status;
}

dcache_status_t object_store_resolve(struct diag *dg, const char *url, char canonical[OBJECT_URL_MAX],
                                     struct object_credentials *credentials)
{
    return object_store_resolve_as(dg, url, OBJECT_AUTH_AUTO, canonical, credentials);
}

dcache_status_t object_store_resolve_as(struct diag *dg, const char *url, enum object_auth auth,
                                        char canonical[OBJECT_URL_MAX], struct object_credentials *credentials)
{
    if (is_azure_url(url))
        return resolve_azure(dg, url, auth, canonical, credentials);
    if (!is_file_url(url))
        return bad_url(dg, url, ALLOWED);
    dcache_status_t status = resolve_file(dg, url, canonical);
    if (status == DCACHE_OK)
        memset(credentials, 0, sizeof *credentials);
    return status;
}

/* --- Open and close ------------------------------------------------------------------------------------------------
 */

static dcache_status_t open_backend(struct diag *dg, const char *canonical,
                                    const struct object_credentials *credentials, const struct object_policy *policy,
                                    struct object_store **store)
{
    struct object_azure_place place = {.url = ""};
    if (is_file_url(canonical))
        return object_file_open(dg, canonical + strlen("file://"), policy, store);
    if (!is_azure_url(canonical))
        return bad_url(dg, canonical, ALLOWED);
    dcache_status_t status = read_azure(dg, canonical, credentials, &place);
    return status == DCACHE_OK ? object_azure_open(dg, &place, credentials, policy, store) : status;
}

dcache_status_t object_store_open(struct diag *dg, const char *canonical, const struct object_credentials *credentials,
                                  const struct object_policy *policy, struct object_store **store)
{
    struct object_policy checked = *policy;
    if (!(checked.timeout_s > 0))
        checked.timeout_s = 60;
    if (!(checked.stall_s > 0))
        checked.stall_s = 15;
    if (checked.connections == 0)
        checked.connections = OBJECT_CONNECTIONS;
    if (checked.connections > OBJECT_CONNECTIONS_MAX)
        checked.connections = OBJECT_CONNECTIONS_MAX;
    struct object_store *opened = NULL;
    dcache_status_t status = open_backend(dg, canonical, credentials, &checked, &opened);
    if (status != DCACHE_OK)
        return status;
    opened->url = strdup(canonical);
    if (opened->url == NULL) {
        object_store_close(opened);
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "no memory for an object store");
    }
    *store = opened;
    return DCACHE_OK;
}

static void add_traffic(struct object_traffic *sum, const struct object_traffic *more)
{
    sum->requests += more->requests;
    sum->retries += more->retries;
    sum->throttled += more->throttled;
    sum->hedged += more->hedged;
    sum->sent += more->sent;
    sum->cpu_ns += more->cpu_ns;
}

struct object_traffic object_store_traffic(struct object_store *store)
{
    struct object_traffic sum = {.requests = 0};
    if (store != NULL && store->ops->traffic != NULL)
        sum = store->ops->traffic(store);
    for (size_t i = 0; store != NULL && i < store->other_count; i++) {
        const struct object_traffic more = object_store_traffic(store->others[i]);
        add_traffic(&sum, &more);
    }
    return sum;
}

void object_store_close(struct object_store *store)
{
    if (store == NULL)
        return;
    char *url = store->url;
    for (size_t i = 0; i < store->other_count; i++)
        object_store_close(store->others[i]);
    free(store->others);
    store->ops->close(store);
    free(url);
}

/* --- Small objects -------------------------------------------------------------------------------------------------
 */

static dcache_status_t read_memory(void *context, struct diag *dg, uint64_t offset, void *buffer, size_t bytes,
                                   uint64_t *crc)
{
    (void)dg;
    *crc = crc64_copy(0, buffer, (const char *)context + offset, bytes);
    return DCACHE_OK;
}

dcache_status_t object_store_put_bytes(struct object_store *store, struct diag *dg, const char *key, const void *data,
                                       size_t bytes, enum object_condition condition)
{
    struct object_source source = {.bytes = bytes, .context = (void *)(uintptr_t)data, .read = read_memory};
    return store->ops->put(store, dg, key, &source, condition, NULL);
}

dcache_status_t object_store_get_bytes(struct object_store *store, struct diag *dg, const char *key, size_t limit,
                                       char **data, size_t *bytes)
{
    struct object_info info;
    dcache_status_t status = store->ops->head(store, dg, key, &info);
    if (status != DCACHE_OK)
        return status;
    if (info.bytes > limit)
        return diag_fail(dg, DCACHE_ERR_CORRUPT, "object %s has %llu bytes, more than the %zu that it can have", key,
                         (unsigned long long)info.bytes, limit);
    size_t length = (size_t)info.bytes;
    char *read = malloc(length + 1);
    if (read == NULL)
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "no memory for the %zu bytes of object %s", length, key);
    status = store->ops->get(store, dg, key, info.etag, 0, read, length);
    if (status != DCACHE_OK) {
        free(read);
        return status;
    }
    read[length] = '\0';
    *data = read;
    *bytes = length;
    return DCACHE_OK;
}
