#include "io/azure_method.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define PLAIN_HTTP "a token is never sent over plain http: use https://"

const char *azure_method_name(enum object_auth auth)
{
    static const char *const names[OBJECT_AUTHS] = {"auto",
                                                    "key",
                                                    "sas",
                                                    "service-principal",
                                                    "workload-identity",
                                                    "token-file",
                                                    "token-command",
                                                    "managed-identity"};
    return auth < OBJECT_AUTHS ? names[auth] : "?";
}

static bool has(const char *text)
{
    return text[0] != '\0';
}

const char *azure_method_missing(enum object_auth auth, bool is_https, const struct object_credentials *credentials)
{
    switch (auth) {
    case OBJECT_AUTH_KEY:
        return has(credentials->key) ? NULL
                                     : "there is no key for it: set AZURE_STORAGE_CONNECTION_STRING, or "
                                       "AZURE_STORAGE_KEY (or AZURE_STORAGE_ACCESS_KEY)";
    case OBJECT_AUTH_SAS:
        return has(credentials->sas) ? NULL
                                     : "there is no shared access signature: set AZURE_STORAGE_SAS_TOKEN, or "
                                       "SharedAccessSignature in AZURE_STORAGE_CONNECTION_STRING";
    case OBJECT_AUTH_SERVICE_PRINCIPAL:
        if (!has(credentials->tenant) || !has(credentials->client) || !has(credentials->secret))
            return "a service principal needs AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET";
        return is_https ? NULL : PLAIN_HTTP;
    case OBJECT_AUTH_WORKLOAD_IDENTITY:
        if (!has(credentials->tenant) || !has(credentials->client) || !has(credentials->token_file))
            return "a workload identity needs AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_FEDERATED_TOKEN_FILE";
        return is_https ? NULL : PLAIN_HTTP;
    case OBJECT_AUTH_TOKEN_FILE:
        if (!has(credentials->bearer_file))
            return "there is no token file: set AZURE_STORAGE_AUTH_TOKEN_FILE";
        return is_https ? NULL : PLAIN_HTTP;
    case OBJECT_AUTH_TOKEN_COMMAND:
        if (!has(credentials->bearer_command))
            return "there is no command for a token: set AZURE_STORAGE_AUTH_TOKEN_COMMAND";
        return is_https ? NULL : PLAIN_HTTP;
    case OBJECT_AUTH_MANAGED_IDENTITY:
        return is_https ? NULL : PLAIN_HTTP;
    default:
        return "this way to authenticate is not known";
    }
}

const char *azure_method_pick(enum object_auth asked, bool is_https, struct object_credentials *credentials)
{
    const char *missing = NULL;
    enum object_auth first = asked == OBJECT_AUTH_AUTO ? OBJECT_AUTH_KEY : asked;
    enum object_auth last = asked == OBJECT_AUTH_AUTO ? OBJECT_AUTH_MANAGED_IDENTITY : asked;
    for (enum object_auth auth = first; auth <= last; auth++) {
        missing = azure_method_missing(auth, is_https, credentials);
        if (missing == NULL) {
            credentials->auth = auth;
            return NULL;
        }
    }
    if (asked == OBJECT_AUTH_AUTO)
        return "there are no credentials for it: set AZURE_STORAGE_CONNECTION_STRING, AZURE_STORAGE_KEY (or "
               "AZURE_STORAGE_ACCESS_KEY) or AZURE_STORAGE_SAS_TOKEN";
    return missing;
}

static void append(char *text, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void append(char *text, size_t size, const char *format, ...)
{
    size_t length = strlen(text);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text + length, size - length, format, arguments);
    va_end(arguments);
}

void azure_method_explain(enum object_auth asked, bool is_https, const struct object_credentials *credentials,
                          char *text, size_t size)
{
    struct object_credentials picked = *credentials;
    const char *none = azure_method_pick(asked, is_https, &picked);
    text[0] = '\0';
    append(text, size, "taken: %s", none == NULL ? azure_method_name(picked.auth) : "none");
    for (enum object_auth auth = OBJECT_AUTH_KEY; auth < OBJECT_AUTHS; auth++) {
        const char *missing = azure_method_missing(auth, is_https, credentials);
        if (none == NULL && auth == picked.auth)
            continue;
        if (missing != NULL)
            append(text, size, "; not %s: %s", azure_method_name(auth), missing);
        else
            append(text, size, "; not %s: %s", azure_method_name(auth),
                   asked == OBJECT_AUTH_AUTO ? "it comes after the one taken" : "store_auth asks for another");
    }
    explicit_bzero(&picked, sizeof picked);
}
