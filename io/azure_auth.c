#include "io/azure_auth.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define CONNECTION_STRING "AZURE_STORAGE_CONNECTION_STRING"
#define PUBLIC_SUFFIX     "core.windows.net"

/* The account that every Azure emulator has, as Microsoft publishes it: no secret. */
#define EMULATOR_ACCOUNT  "devstoreaccount1"
#define EMULATOR_KEY      "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
#define EMULATOR_ENDPOINT "http://127.0.0.1:10000/" EMULATOR_ACCOUNT

/* --- Credentials ---------------------------------------------------------------------------------------------------
 */

bool azure_auth_decode_key(const char *base64, struct azure_key *key)
{
    size_t length = strlen(base64);
    size_t padding = 0;
    unsigned char decoded[AZURE_KEY_MAX + 3];
    if (length == 0 || length % 4 != 0 || length / 4 * 3 > AZURE_KEY_MAX)
        return false;
    while (padding < 2 && base64[length - 1 - padding] == '=')
        padding++;
    for (size_t i = 0; i < length - padding; i++) { /* EVP_DecodeBlock() lets white space and '=' through */
        if (strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", base64[i]) == NULL)
            return false;
    }
    int bytes = EVP_DecodeBlock(decoded, (const unsigned char *)base64, (int)length);
    if (bytes < 0 || (size_t)bytes <= padding)
        return false;
    key->bytes = (size_t)bytes - padding;
    memcpy(key->data, decoded, key->bytes);
    OPENSSL_cleanse(decoded, sizeof decoded);
    return true;
}

static bool is_account(const char *name)
{
    size_t length = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-");
    return length > 0 && name[length] == '\0' && length < sizeof((struct object_credentials *)0)->account;
}

static bool is_key(const char *text)
{
    struct azure_key key;
    bool good = strlen(text) < sizeof((struct object_credentials *)0)->key && azure_auth_decode_key(text, &key);
    OPENSSL_cleanse(&key, sizeof key);
    return good;
}

/* http[s]://host[:port][/path], nothing that could hide a secret or end the URL early. */
static bool is_endpoint(const char *text)
{
    const char *rest = NULL;
    if (strncmp(text, "https://", 8) == 0)
        rest = text + 8;
    else if (strncmp(text, "http://", 7) == 0)
        rest = text + 7;
    if (rest == NULL || strlen(text) >= sizeof((struct object_credentials *)0)->endpoint)
        return false;
    size_t length = strspn(rest, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:[]/");
    return length > 0 && rest[length] == '\0' && rest[0] != '/' && strstr(rest, "//") == NULL;
}

/* A shared access signature: a query with a signature in it, and nothing that would change what is asked for. */
static bool is_sas(const char *text)
{
    static const char *const ours[] = {"comp", "restype", "blockid", "marker", "maxresults", "prefix"};
    bool has_signature = false;
    text += *text == '?';
    if (strlen(text) >= sizeof((struct object_credentials *)0)->sas ||
        text[strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~%=&:/+,")] != '\0')
        return false;
    for (const char *name = text; *name != '\0'; name += name[strcspn(name, "&")] == '&') {
        size_t length = strcspn(name, "=&");
        for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++) {
            if (length == strlen(ours[i]) && strncmp(name, ours[i], length) == 0)
                return false;
        }
        has_signature |= strncmp(name, "sig=", 4) == 0 && name[4] != '\0' && name[4] != '&';
        name += strcspn(name, "&");
    }
    return has_signature;
}

static void set_sas(struct object_credentials *credentials, const char *text)
{
    snprintf(credentials->sas, sizeof credentials->sas, "%s", text + (*text == '?'));
}

/* The endpoint without the slashes at its end. */
static void set_endpoint(struct object_credentials *credentials, const char *text)
{
    size_t length = strlen(text);
    while (length > 0 && text[length - 1] == '/')
        length--;
    snprintf(credentials->endpoint, sizeof credentials->endpoint, "%.*s", (int)length, text);
}

/* The parts of a connection string that we know. */
enum part { PART_ACCOUNT, PART_KEY, PART_ENDPOINT, PART_SUFFIX, PART_PROTOCOL, PART_SAS, PART_EMULATOR, PARTS };

static const char *const part_names[PARTS] = {
    "AccountName",           "AccountKey",           "BlobEndpoint", "EndpointSuffix", "DefaultEndpointsProtocol",
    "SharedAccessSignature", "UseDevelopmentStorage"};

static bool part_value_valid(enum part part, const char *value)
{
    switch (part) {
    case PART_ACCOUNT:
        return is_account(value);
    case PART_KEY:
        return is_key(value);
    case PART_ENDPOINT:
        return is_endpoint(value);
    case PART_SUFFIX:
        return *value != '\0' && strlen(value) < 128 &&
               value[strspn(value, "abcdefghijklmnopqrstuvwxyz0123456789-.:")] == '\0';
    case PART_PROTOCOL:
        return strcmp(value, "https") == 0 || strcmp(value, "http") == 0;
    case PART_SAS:
        return is_sas(value);
    case PART_EMULATOR:
        return strcasecmp(value, "true") == 0;
    default:
        return false;
    }
}

static enum part part_of(const char *name)
{
    enum part part = PART_ACCOUNT;
    while (part < PARTS && strcasecmp(name, part_names[part]) != 0)
        part++;
    return part;
}

/* Parts for services and copies that are not used here. */
static bool is_passed_over(const char *name)
{
    static const char *const names[] = {
        "QueueEndpoint",         "TableEndpoint",          "FileEndpoint",           "DfsEndpoint",
        "BlobSecondaryEndpoint", "QueueSecondaryEndpoint", "TableSecondaryEndpoint", "FileSecondaryEndpoint"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcasecmp(name, names[i]) == 0)
            return true;
    }
    return false;
}

/* Split "name=value;name=value" in place. An unknown part is named by its number: a ';' inside a broken key makes a
 * piece of the key look like a name. */
static dcache_status_t split_parts(struct diag *dg, char *text, const char *values[PARTS])
{
    char *rest = text;
    unsigned number = 0;
    for (char *piece = strsep(&rest, ";"); piece != NULL; piece = strsep(&rest, ";")) {
        number++;
        if (*piece == '\0')
            continue;
        char *equals = strchr(piece, '=');
        if (equals != NULL)
            *equals = '\0';
        if (equals != NULL && is_passed_over(piece))
            continue;
        enum part part = equals != NULL ? part_of(piece) : PARTS;
        if (part == PARTS)
            return diag_fail(dg, DCACHE_ERR_OPTION,
                             "part %u of " CONNECTION_STRING " is not known: AccountName, AccountKey, "
                             "SharedAccessSignature, BlobEndpoint, EndpointSuffix, DefaultEndpointsProtocol and "
                             "UseDevelopmentStorage are",
                             number);
        if (values[part] != NULL)
            return diag_fail(dg, DCACHE_ERR_OPTION, "%s is in " CONNECTION_STRING " twice", part_names[part]);
        if (!part_value_valid(part, equals + 1))
            return diag_fail(dg, DCACHE_ERR_OPTION, "%s in " CONNECTION_STRING " has no valid value", part_names[part]);
        values[part] = equals + 1;
    }
    return DCACHE_OK;
}

/* The account that an endpoint belongs to: path style, or the host's first label. */
static bool account_of_endpoint(struct object_credentials *credentials)
{
    const char *host = strstr(credentials->endpoint, "://") + 3;
    const char *path = strchr(host, '/');
    const char *name = path != NULL ? path + 1 : host;
    size_t length = path != NULL ? strlen(name) : strcspn(name, ".");
    if (length == 0 || length >= sizeof credentials->account)
        return false;
    memcpy(credentials->account, name, length);
    credentials->account[length] = '\0';
    return is_account(credentials->account);
}

static dcache_status_t credentials_of(struct diag *dg, const char *const values[PARTS],
                                      struct object_credentials *credentials)
{
    if (values[PART_EMULATOR] != NULL) {
        for (enum part part = PART_ACCOUNT; part < PART_EMULATOR; part++) {
            if (values[part] != NULL)
                return diag_fail(dg, DCACHE_ERR_OPTION,
                                 "%s in " CONNECTION_STRING " does not go with UseDevelopmentStorage: leave one out",
                                 part_names[part]);
        }
        snprintf(credentials->account, sizeof credentials->account, "%s", EMULATOR_ACCOUNT);
        snprintf(credentials->key, sizeof credentials->key, "%s", EMULATOR_KEY);
        set_endpoint(credentials, EMULATOR_ENDPOINT);
        return DCACHE_OK;
    }
    if (values[PART_ACCOUNT] == NULL && (values[PART_SAS] == NULL || values[PART_ENDPOINT] == NULL))
        return diag_fail(dg, DCACHE_ERR_OPTION, "AccountName is missing in " CONNECTION_STRING);
    if (values[PART_KEY] == NULL && values[PART_SAS] == NULL)
        return diag_fail(dg, DCACHE_ERR_OPTION,
                         "AccountKey is missing in " CONNECTION_STRING " (or SharedAccessSignature)");
    if (values[PART_KEY] != NULL)
        snprintf(credentials->key, sizeof credentials->key, "%s", values[PART_KEY]);
    if (values[PART_SAS] != NULL)
        set_sas(credentials, values[PART_SAS]);
    if (values[PART_ENDPOINT] != NULL)
        set_endpoint(credentials, values[PART_ENDPOINT]);
    else
        snprintf(credentials->endpoint, sizeof credentials->endpoint, "%s://%s.blob.%s",
                 values[PART_PROTOCOL] != NULL ? values[PART_PROTOCOL] : "https", values[PART_ACCOUNT],
                 values[PART_SUFFIX] != NULL ? values[PART_SUFFIX] : PUBLIC_SUFFIX);
    if (values[PART_ACCOUNT] != NULL)
        snprintf(credentials->account, sizeof credentials->account, "%s", values[PART_ACCOUNT]);
    else if (!account_of_endpoint(credentials))
        return diag_fail(dg, DCACHE_ERR_OPTION,
                         "AccountName is missing in " CONNECTION_STRING ", and its BlobEndpoint does not tell it");
    return DCACHE_OK;
}

dcache_status_t azure_auth_parse(struct diag *dg, const char *text, struct object_credentials *credentials)
{
    size_t length = strlen(text);
    char *copy = strdup(text);
    if (copy == NULL)
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "no memory to read " CONNECTION_STRING);
    struct object_credentials found = {.endpoint = ""};
    const char *values[PARTS] = {NULL};
    dcache_status_t status = split_parts(dg, copy, values);
    if (status == DCACHE_OK)
        status = credentials_of(dg, values, &found);
    if (status == DCACHE_OK)
        *credentials = found;
    OPENSSL_cleanse(&found, sizeof found);
    OPENSSL_cleanse(copy, length);
    free(copy);
    return status;
}

/* A variable that is set and not empty, or NULL. */
static const char *variable(const char *name)
{
    const char *value = getenv(name);
    return value != NULL && *value != '\0' ? value : NULL;
}

static dcache_status_t bad_variable(struct diag *dg, const char *name, const char *rule)
{
    return diag_fail(dg, DCACHE_ERR_OPTION, "the environment variable %s is not valid: it has to be %s", name, rule);
}

/* A URL of a host that tokens come from: plain http only within the machine, or to the address that only the machine's
 * own host answers. */
static bool is_token_host(const char *text)
{
    static const char *const plain[] = {"http://127.0.0.1:", "http://localhost:", "http://169.254.169.254"};
    bool good = strncmp(text, "https://", 8) == 0;
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++) {
        size_t length = strlen(plain[i]);
        bool whole = plain[i][length - 1] == ':' || strchr(":/", text[strnlen(text, length)]) != NULL; /* or '\0' */
        good |= strncmp(text, plain[i], length) == 0 && whole;
    }
    return good && is_endpoint(text);
}

/* Letters that need no escaping in a URL's path: names of tenants and applications. */
static bool is_name(const char *text)
{
    return text[strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")] == '\0';
}

static bool is_secret(const char *text)
{
    for (; *text > ' ' && *text <= '~'; text++)
        continue;
    return *text == '\0';
}

static bool is_any(const char *text)
{
    (void)text;
    return true;
}

/* What goes with tokens. */
static dcache_status_t add_identity(struct diag *dg, struct object_credentials *credentials)
{
    const struct {
        const char *name;
        char *field;
        size_t size;
        bool (*is_valid)(const char *text);
        const char *rule;
    } fields[] = {
        {"AZURE_TENANT_ID", credentials->tenant, sizeof credentials->tenant, is_name, "a tenant's id"},
        {"AZURE_CLIENT_ID", credentials->client, sizeof credentials->client, is_name, "an application's id"},
        {"AZURE_CLIENT_SECRET", credentials->secret, sizeof credentials->secret, is_secret,
         "printable, without blanks"},
        {"AZURE_FEDERATED_TOKEN_FILE", credentials->token_file, sizeof credentials->token_file, is_any, "a file"},
        {"AZURE_STORAGE_AUTH_TOKEN_FILE", credentials->bearer_file, sizeof credentials->bearer_file, is_any, "a file"},
        {"AZURE_STORAGE_AUTH_TOKEN_COMMAND", credentials->bearer_command, sizeof credentials->bearer_command, is_any,
         "a command"},
        {"AZURE_AUTHORITY_HOST", credentials->authority, sizeof credentials->authority, is_token_host,
         "https:// and a host"},
        {"AZURE_POD_IDENTITY_AUTHORITY_HOST", credentials->metadata, sizeof credentials->metadata, is_token_host,
         "https:// and a host, or http:// and an address of this machine"},
    };
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        const char *value = variable(fields[i].name);
        size_t length = value != NULL ? strlen(value) : 0;
        if (length >= fields[i].size || (length > 0 && !fields[i].is_valid(value)))
            return bad_variable(dg, fields[i].name, fields[i].rule);
        while (fields[i].is_valid == is_token_host && length > 0 && value[length - 1] == '/')
            length--;
        snprintf(fields[i].field, fields[i].size, "%.*s", (int)length, length > 0 ? value : "");
    }
    return DCACHE_OK;
}

dcache_status_t azure_auth_environment(struct diag *dg, struct object_credentials *credentials)
{
    const char *connection_string = variable(CONNECTION_STRING);
    if (connection_string != NULL) {
        dcache_status_t status = azure_auth_parse(dg, connection_string, credentials);
        return status == DCACHE_OK ? add_identity(dg, credentials) : status;
    }

    const char *key_name = variable("AZURE_STORAGE_KEY") != NULL ? "AZURE_STORAGE_KEY" : "AZURE_STORAGE_ACCESS_KEY";
    const char *account = variable("AZURE_STORAGE_ACCOUNT");
    const char *key = variable(key_name);
    const char *sas = variable("AZURE_STORAGE_SAS_TOKEN");
    const char *endpoint = variable("AZURE_STORAGE_BLOB_ENDPOINT");
    if (account != NULL && !is_account(account))
        return bad_variable(dg, "AZURE_STORAGE_ACCOUNT", "the name of a storage account");
    if (key != NULL && !is_key(key))
        return bad_variable(dg, key_name, "an account key in base64");
    if (sas != NULL && !is_sas(sas))
        return bad_variable(dg, "AZURE_STORAGE_SAS_TOKEN", "the query of a shared access signature, with its sig=");
    if (endpoint != NULL && !is_endpoint(endpoint))
        return bad_variable(dg, "AZURE_STORAGE_BLOB_ENDPOINT", "a URL such as https://ACCOUNT.blob." PUBLIC_SUFFIX);

    memset(credentials, 0, sizeof *credentials);
    snprintf(credentials->account, sizeof credentials->account, "%s", account != NULL ? account : "");
    snprintf(credentials->key, sizeof credentials->key, "%s", key != NULL ? key : "");
    if (sas != NULL)
        set_sas(credentials, sas);
    if (endpoint != NULL)
        set_endpoint(credentials, endpoint);
    else if (account != NULL)
        snprintf(credentials->endpoint, sizeof credentials->endpoint, "https://%s.blob." PUBLIC_SUFFIX, account);
    return add_identity(dg, credentials);
}

void azure_auth_variable(const char *account, char name[AZURE_VARIABLE_MAX])
{
    snprintf(name, AZURE_VARIABLE_MAX, CONNECTION_STRING "_%s", account);
    for (char *c = name; *c != '\0'; c++) {
        if (*c >= 'a' && *c <= 'z')
            *c = (char)(*c - 'a' + 'A');
        else if (*c == '-')
            *c = '_';
    }
}

/* What an account's own connection string says. */
static dcache_status_t use_own_string(struct diag *dg, const char *account, const char *name, const char *text,
                                      struct object_credentials *credentials)
{
    struct object_credentials own = {.endpoint = ""};
    char why[DIAG_TEXT_MAX];
    dcache_status_t status = azure_auth_parse(dg, text, &own);
    if (status == DCACHE_OK && strcmp(own.account, account) != 0)
        status = diag_fail(dg, DCACHE_ERR_OPTION, "it is of the storage account %s", own.account);
    if (status == DCACHE_OK) {
        memcpy(credentials->account, own.account, sizeof own.account);
        memcpy(credentials->endpoint, own.endpoint, sizeof own.endpoint);
        memcpy(credentials->key, own.key, sizeof own.key);
        memcpy(credentials->sas, own.sas, sizeof own.sas);
    } else {
        snprintf(why, sizeof why, "%.700s", dg->text);
        status = diag_fail(dg, status, "the environment variable %s is not valid: %s", name, why);
    }
    OPENSSL_cleanse(&own, sizeof own);
    return status;
}

dcache_status_t azure_auth_narrow(struct diag *dg, const char *account, struct object_credentials *credentials,
                                  bool *others)
{
    char name[AZURE_VARIABLE_MAX];
    azure_auth_variable(account, name);
    const char *own = variable(name);
    *others = false;
    if (own != NULL)
        return use_own_string(dg, account, name, own, credentials);
    if (credentials->account[0] == '\0' || strcmp(credentials->account, account) == 0)
        return DCACHE_OK;
    *others = credentials->key[0] != '\0' || credentials->sas[0] != '\0';
    OPENSSL_cleanse(credentials->key, sizeof credentials->key);
    OPENSSL_cleanse(credentials->sas, sizeof credentials->sas);
    memset(credentials->account, 0, sizeof credentials->account);
    memset(credentials->endpoint, 0, sizeof credentials->endpoint);
    return DCACHE_OK;
}

/* --- Signatures ----------------------------------------------------------------------------------------------------
 */

struct text_buffer {
    char *text;
    size_t size;
    size_t length;
    bool overflow;
};

static void append(struct text_buffer *buffer, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void append(struct text_buffer *buffer, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int wanted = vsnprintf(buffer->text + buffer->length, buffer->size - buffer->length, format, arguments);
    va_end(arguments);
    if (wanted < 0 || (size_t)wanted >= buffer->size - buffer->length)
        buffer->overflow = true;
    else
        buffer->length += (size_t)wanted;
}

static int compare_headers(const void *a, const void *b)
{
    const struct http_header *const *left = a;
    const struct http_header *const *right = b;
    return strcasecmp((*left)->name, (*right)->name);
}

/* The x-ms- headers, sorted by name: not by the whole line, where ':' would decide between x-ms-a and x-ms-a-b. */
static void append_canonical_headers(struct text_buffer *buffer, const struct http_headers *headers)
{
    const struct http_header *sorted[HTTP_HEADERS_MAX] = {NULL};
    size_t count = 0;
    for (size_t i = 0; i < headers->count; i++) {
        if (strncasecmp(headers->list[i].name, "x-ms-", 5) == 0)
            sorted[count++] = &headers->list[i];
    }
    qsort(sorted, count, sizeof sorted[0], compare_headers);
    for (size_t i = 0; i < count; i++)
        append(buffer, "%s:%s\n", sorted[i]->name, sorted[i]->value);
}

bool azure_auth_string_to_sign(const struct azure_signed *request, char text[AZURE_STRING_TO_SIGN_MAX])
{
    struct text_buffer buffer = {.text = text, .size = AZURE_STRING_TO_SIGN_MAX};
    char length[24] = "";
    if (request->content_length != 0) /* a length of 0 is signed as the empty string */
        snprintf(length, sizeof length, "%llu", (unsigned long long)request->content_length);
    append(&buffer, "%s\n\n\n%s\n", request->method, length); /* Content-Encoding, -Language */
    append(&buffer, "\n\n\n\n");                              /* Content-MD5, Content-Type, Date, If-Modified-Since */
    append(&buffer, "%s\n", http_headers_get(request->headers, "If-Match"));
    append(&buffer, "%s\n\n", http_headers_get(request->headers, "If-None-Match")); /* If-Unmodified-Since */
    append(&buffer, "%s\n", http_headers_get(request->headers, "Range"));
    append_canonical_headers(&buffer, request->headers);
    append(&buffer, "/%s%s", request->account, request->path);
    for (size_t i = 0; i < request->query_count; i++)
        append(&buffer, "\n%s:%s", request->query[i].name, request->query[i].value);
    return !buffer.overflow;
}

dcache_status_t azure_auth_sign(struct diag *dg, const struct azure_key *key, const struct azure_signed *request,
                                char authorization[HTTP_HEADER_VALUE_MAX])
{
    char text[AZURE_STRING_TO_SIGN_MAX];
    unsigned char mac[EVP_MAX_MD_SIZE];
    unsigned char mac_text[EVP_MAX_MD_SIZE * 2];
    unsigned mac_bytes = 0;
    if (!azure_auth_string_to_sign(request, text))
        return diag_fail(dg, DCACHE_ERR_INTERNAL, "a %s request is too long to be signed", request->method);
    if (HMAC(EVP_sha256(), key->data, (int)key->bytes, (const unsigned char *)text, strlen(text), mac, &mac_bytes) ==
        NULL)
        return diag_fail(dg, DCACHE_ERR_INTERNAL, "OpenSSL cannot compute an HMAC-SHA256");
    EVP_EncodeBlock(mac_text, mac, (int)mac_bytes);
    int length = snprintf(authorization, HTTP_HEADER_VALUE_MAX, "SharedKey %s:%s", request->account, mac_text);
    if (length < 0 || length >= HTTP_HEADER_VALUE_MAX)
        return diag_fail(dg, DCACHE_ERR_INTERNAL, "the name of account %s is too long to sign with", request->account);
    return DCACHE_OK;
}

void azure_auth_crc_text(uint64_t crc, char text[16])
{
    unsigned char bytes[8];
    for (unsigned i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)(crc >> (8 * i));
    EVP_EncodeBlock((unsigned char *)text, bytes, (int)sizeof bytes);
}
