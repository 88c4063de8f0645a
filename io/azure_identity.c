#include "io/azure_identity.h"

#include "io/azure_method.h"
#include "io/command.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PUBLIC_AUTHORITY  "https://login.microsoftonline.com"
#define METADATA_SERVICE  "http://169.254.169.254"
#define METADATA_VERSION  "2018-02-01"
#define RESOURCE          "https://storage.azure.com/"
#define ASSERTION_TYPE    "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
#define ANSWER_BYTES_MAX  (64u << 10)
#define ASSERTION_MAX     16384u
#define FORM_MAX          (4u * ASSERTION_MAX)
#define TIMEOUT_LONGEST_S 30.0  /* the token service is near, or is not there */
#define RENEW_AHEAD_S     300.0 /* at most half of a token's life */
#define RENEW_AGAIN_S     30.0  /* after a renewal that failed */
#define FILE_AGAIN_S      30.0  /* whoever writes the file knows when its token expires: we only look often */
#define FILE_LASTS_S      300.0 /* while the file cannot be read */

#define PRINTED_AGAIN_S 300.0 /* of a command that prints a token and does not say how long it lasts */
#define PRINTED_LASTS_S 900.0

struct azure_identity {
    struct http_client *http;
    struct object_credentials who;
    double timeout_s;
    double stall_s;
    pthread_mutex_t lock; /* of the rest */
    char token[HTTP_BEARER_MAX];
    double renew_at; /* monotonic seconds */
    double expires_at;
};

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

dcache_status_t azure_identity_open(struct diag *dg, struct http_client *http,
                                    const struct object_credentials *credentials, const struct object_policy *policy,
                                    struct azure_identity **identity)
{
    struct azure_identity *made = calloc(1, sizeof *made);
    if (made == NULL)
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "no memory for an identity");
    made->http = http;
    made->who = *credentials;
    if (made->who.authority[0] == '\0')
        snprintf(made->who.authority, sizeof made->who.authority, PUBLIC_AUTHORITY);
    if (made->who.metadata[0] == '\0')
        snprintf(made->who.metadata, sizeof made->who.metadata, METADATA_SERVICE);
    made->timeout_s = fmin(policy->timeout_s, TIMEOUT_LONGEST_S);
    made->stall_s = fmin(policy->stall_s, TIMEOUT_LONGEST_S / 3);
    pthread_mutex_init(&made->lock, NULL);
    *identity = made;
    return DCACHE_OK;
}

void azure_identity_close(struct azure_identity *identity)
{
    if (identity == NULL)
        return;
    pthread_mutex_destroy(&identity->lock);
    OPENSSL_cleanse(identity, sizeof *identity);
    free(identity);
}

void azure_identity_forget(struct azure_identity *identity)
{
    pthread_mutex_lock(&identity->lock);
    identity->expires_at = identity->renew_at = 0;
    pthread_mutex_unlock(&identity->lock);
}

/* --- Asking --------------------------------------------------------------------------------------------------------
 */

static dcache_status_t metadata_headers(void *context, struct diag *dg, struct http_headers *headers)
{
    (void)context;
    return http_headers_add(headers, "Metadata", "true")
               ? DCACHE_OK
               : diag_fail(dg, DCACHE_ERR_INTERNAL, "too many headers to ask for a token");
}

static dcache_status_t form_headers(void *context, struct diag *dg, struct http_headers *headers)
{
    (void)context;
    return http_headers_add(headers, "Content-Type", "application/x-www-form-urlencoded")
               ? DCACHE_OK
               : diag_fail(dg, DCACHE_ERR_INTERNAL, "too many headers to ask for a token");
}

/* The metadata service has not everything at hand right after a start. */
static bool metadata_again(void *context, const struct http_response *response)
{
    (void)context;
    return response->status == 404 || response->status == 410;
}

/* A file that others keep up to date, so read for each token; `variable` is what names it. */
static dcache_status_t read_token_file(struct diag *dg, const char *variable, const char *path,
                                       char text[ASSERTION_MAX])
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return diag_fail_errno(dg, errno, "cannot read %s %s", variable, path);
    size_t length = 0;
    ssize_t got = 0;
    do {
        got = read(fd, text + length, ASSERTION_MAX - length);
        length += got > 0 ? (size_t)got : 0;
    } while (got > 0 && length < ASSERTION_MAX);
    close(fd);
    while (length > 0 && length < ASSERTION_MAX && (unsigned char)text[length - 1] <= ' ')
        length--;
    if (got < 0 || length == 0 || length == ASSERTION_MAX)
        return diag_fail(dg, DCACHE_ERR_PERMISSION, "%s %s has no token in it", variable, path);
    text[length] = '\0';
    return DCACHE_OK;
}

static bool add_field(char *form, const char *name, const char *value)
{
    size_t length = strlen(form);
    int more = snprintf(form + length, FORM_MAX - length, "%s%s=", length > 0 ? "&" : "", name);
    return more > 0 && (size_t)more < FORM_MAX - length && http_escape_append(form, FORM_MAX, value);
}

static dcache_status_t make_form(const struct azure_identity *identity, struct diag *dg, char form[FORM_MAX])
{
    const struct object_credentials *who = &identity->who;
    char assertion[ASSERTION_MAX] = "";
    dcache_status_t status = DCACHE_OK;
    form[0] = '\0';
    bool good = add_field(form, "client_id", who->client) && add_field(form, "scope", RESOURCE ".default") &&
                add_field(form, "grant_type", "client_credentials");
    if (who->auth == OBJECT_AUTH_SERVICE_PRINCIPAL) {
        good = good && add_field(form, "client_secret", who->secret);
    } else {
        status = read_token_file(dg, "AZURE_FEDERATED_TOKEN_FILE", who->token_file, assertion);
        good = good && add_field(form, "client_assertion_type", ASSERTION_TYPE) &&
               add_field(form, "client_assertion", assertion);
        OPENSSL_cleanse(assertion, sizeof assertion);
    }
    if (status == DCACHE_OK && !good)
        status = diag_fail(dg, DCACHE_ERR_OPTION, "what names us to %s is too long", who->authority);
    return status;
}

/* Send the request for a token. What came back is in `sink` and `response`. */
static dcache_status_t ask(const struct azure_identity *identity, struct diag *dg, struct http_request *request,
                           struct http_response *response)
{
    const struct object_credentials *who = &identity->who;
    char url[1024];
    if (who->auth == OBJECT_AUTH_MANAGED_IDENTITY) {
        snprintf(url, sizeof url,
                 "%s/metadata/identity/oauth2/token?api-version=" METADATA_VERSION "&resource=", who->metadata);
        bool fits = http_escape_append(url, sizeof url, RESOURCE);
        size_t length = strlen(url);
        if (fits && who->client[0] != '\0')
            snprintf(url + length, sizeof url - length, "&client_id=%s", who->client);
        request->method = "GET";
        request->url = url;
        request->prepare = metadata_headers;
        request->again = metadata_again;
        return http_perform(identity->http, dg, request, response);
    }
    char *form = malloc(FORM_MAX);
    if (form == NULL)
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "no memory to ask for a token");
    snprintf(url, sizeof url, "%s/%s/oauth2/v2.0/token", who->authority, who->tenant);
    dcache_status_t status = make_form(identity, dg, form);
    request->method = "POST";
    request->url = url;
    request->prepare = form_headers;
    request->body = form;
    request->body_bytes = strlen(form);
    if (status == DCACHE_OK)
        status = http_perform(identity->http, dg, request, response);
    OPENSSL_cleanse(form, FORM_MAX);
    free(form);
    return status;
}

/* --- Understanding the answer --------------------------------------------------------------------------------------
 */

/* What a header can carry. */
static bool is_token(const char *text)
{
    size_t length = 0;
    for (; text[length] > ' ' && text[length] <= '~'; length++)
        continue;
    return length > 0 && text[length] == '\0' && length < HTTP_BEARER_MAX;
}

/* Seconds, as a number or, from the metadata service, in a string. */
static double lifetime_of(const json_t *answer)
{
    const json_t *field = json_object_get(answer, "expires_in");
    double seconds = json_is_string(field) ? strtod(json_string_value(field), NULL) : json_number_value(field);
    return seconds > 0 && seconds < 1e7 ? seconds : 0;
}

/* `token` is one (is_token()), so it fits. */
static void take_token(struct azure_identity *identity, const char *token, double lifetime)
{
    memcpy(identity->token, token, strlen(token) + 1);
    identity->expires_at = now_s() + lifetime;
    identity->renew_at = identity->expires_at - fmin(RENEW_AHEAD_S, lifetime / 2);
}

static dcache_status_t take_answer(struct azure_identity *identity, struct diag *dg, const struct http_sink *sink,
                                   const char *from)
{
    json_t *answer = json_loadb(sink->data != NULL ? sink->data : "", sink->bytes, 0, NULL);
    const char *token = json_string_value(json_object_get(answer, "access_token"));
    double lifetime = lifetime_of(answer);
    bool good = token != NULL && is_token(token) && lifetime > 0;
    if (good)
        take_token(identity, token, lifetime);
    json_decref(answer);
    return good ? DCACHE_OK : diag_fail(dg, DCACHE_ERR_STORE, "%s answers with no token", from);
}

static const char *remedy_of(const struct azure_identity *identity)
{
    switch (identity->who.auth) {
    case OBJECT_AUTH_MANAGED_IDENTITY:
        return "has this machine a managed identity (AZURE_CLIENT_ID names a user-assigned one)? Without one, set a "
               "key or another of the AZURE_* credentials";
    case OBJECT_AUTH_WORKLOAD_IDENTITY:
        return "check AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_FEDERATED_TOKEN_FILE and the federated credential";
    default:
        return "check AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET";
    }
}

/* The file has the token itself. The lock is held. */
static dcache_status_t fetch_from_file(struct azure_identity *identity, struct diag *dg)
{
    static const char variable[] = "AZURE_STORAGE_AUTH_TOKEN_FILE";
    char text[ASSERTION_MAX];
    dcache_status_t status = read_token_file(dg, variable, identity->who.bearer_file, text);
    if (status == DCACHE_OK && !is_token(text))
        status = diag_fail(dg, DCACHE_ERR_PERMISSION, "%s %s has no token in it that can be sent", variable,
                           identity->who.bearer_file);
    if (status == DCACHE_OK) {
        memcpy(identity->token, text, strlen(text) + 1);
        identity->renew_at = now_s() + FILE_AGAIN_S;
        identity->expires_at = now_s() + FILE_LASTS_S;
    }
    OPENSSL_cleanse(text, sizeof text);
    return status;
}

/* Seconds that are left of what a command has printed: "expires_in", or "expires_on", a date in seconds since 1970. */
static double printed_lifetime_of(const json_t *answer)
{
    const json_t *field = json_object_get(answer, "expires_on");
    double date = json_is_string(field) ? strtod(json_string_value(field), NULL) : json_number_value(field);
    if (field == NULL)
        return lifetime_of(answer);
    double seconds = date - (double)time(NULL);
    return seconds > 0 && seconds < 1e7 ? seconds : 0;
}

/* Nobody knows how long it lasts. */
static void take_undated(struct azure_identity *identity, const char *token)
{
    take_token(identity, token, PRINTED_LASTS_S);
    identity->renew_at = now_s() + PRINTED_AGAIN_S;
}

/* The Azure CLI before 2.54 told the end in its local time only. */
static bool is_undated(const json_t *answer)
{
    return json_object_get(answer, "expires_on") == NULL && json_object_get(answer, "expires_in") == NULL &&
           json_is_string(json_object_get(answer, "expiresOn"));
}

/* A token and nothing else, or an object as `az account get-access-token` and token services print it. */
static bool take_printed(struct azure_identity *identity, const char *text, size_t length)
{
    if (is_token(text) && text[0] != '{') {
        take_undated(identity, text);
        return true;
    }
    json_t *answer = json_loadb(text, length, 0, NULL);
    const char *token = json_string_value(json_object_get(answer, "accessToken"));
    if (token == NULL)
        token = json_string_value(json_object_get(answer, "access_token"));
    const bool undated = is_undated(answer);
    double lifetime = undated ? 0 : printed_lifetime_of(answer);
    bool good = token != NULL && is_token(token) && (undated || lifetime > 0);
    if (good && undated)
        take_undated(identity, token);
    else if (good)
        take_token(identity, token, lifetime);
    json_decref(answer);
    return good;
}

/* The lock is held. */
static dcache_status_t fetch_from_command(struct azure_identity *identity, struct diag *dg, const atomic_bool *cancel,
                                          const atomic_bool *stop)
{
    static const char variable[] = "AZURE_STORAGE_AUTH_TOKEN_COMMAND";
    const struct command command = {variable, identity->who.bearer_command, identity->timeout_s, cancel, stop};
    char text[ASSERTION_MAX];
    size_t length = 0;
    dcache_status_t status = command_run(dg, &command, text, sizeof text, &length);
    if (status == DCACHE_OK && !take_printed(identity, text, length))
        status = diag_fail(dg, DCACHE_ERR_PERMISSION,
                           "%s prints no token that can be sent and has not expired: it is to print the token, or JSON "
                           "with accessToken and expires_on, as `az account get-access-token` does",
                           variable);
    OPENSSL_cleanse(text, sizeof text);
    return status == DCACHE_ERR_OPTION ? DCACHE_ERR_PERMISSION : status;
}

/* The lock is held. */
static dcache_status_t fetch(struct azure_identity *identity, struct diag *dg, const atomic_bool *cancel,
                             const atomic_bool *stop)
{
    if (identity->who.auth == OBJECT_AUTH_TOKEN_FILE)
        return fetch_from_file(identity, dg);
    if (identity->who.auth == OBJECT_AUTH_TOKEN_COMMAND)
        return fetch_from_command(identity, dg, cancel, stop);
    const struct object_credentials *who = &identity->who;
    const char *from = who->auth == OBJECT_AUTH_MANAGED_IDENTITY ? who->metadata : who->authority;
    struct http_sink sink = {.limit = ANSWER_BYTES_MAX};
    struct http_response response = {.status = 0};
    struct http_request request = {
        .sink = &sink, .timeout_s = identity->timeout_s, .stall_s = identity->stall_s, .cancel = cancel, .stop = stop};
    dcache_status_t status = ask(identity, dg, &request, &response);
    bool answered = response.attempts > 0 && (status == DCACHE_OK || status == DCACHE_ERR_STORE);
    if (answered && response.status == 200) {
        status = take_answer(identity, dg, &sink, from);
    } else if (answered) {
        bool refused = response.status >= 400 && response.status < 500;
        char what[HTTP_FAILURE_MAX + 32];
        snprintf(what, sizeof what, "HTTP %ld", response.status);
        status = diag_fail(dg, refused ? DCACHE_ERR_PERMISSION : DCACHE_ERR_STORE,
                           "no token for the object store (%s) from %s: %s; %s", azure_method_name(who->auth), from,
                           response.failure[0] != '\0' ? response.failure : what, remedy_of(identity));
    }
    if (sink.data != NULL)
        OPENSSL_cleanse(sink.data, sink.room);
    free(sink.data);
    return status;
}

dcache_status_t azure_identity_token(struct azure_identity *identity, struct diag *dg, const atomic_bool *cancel,
                                     const atomic_bool *stop, char token[HTTP_BEARER_MAX])
{
    dcache_status_t status = DCACHE_OK;
    pthread_mutex_lock(&identity->lock);
    if (now_s() >= identity->renew_at) {
        status = fetch(identity, dg, cancel, stop);
        bool still_good = now_s() < identity->expires_at;
        if (status != DCACHE_OK && status != DCACHE_ERR_CANCELLED && still_good) {
            diag_log(dg, DIAG_WARNING, "the token is not renewed yet: %s", dg->text);
            identity->renew_at = now_s() + RENEW_AGAIN_S;
            status = DCACHE_OK;
        }
    }
    if (status == DCACHE_OK)
        memcpy(token, identity->token, sizeof identity->token);
    pthread_mutex_unlock(&identity->lock);
    return status;
}
