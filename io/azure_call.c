#include "io/azure_call.h"

#include "io/crc64.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#define UNREADABLE_MAX 3 /* times that a list is sent again because nobody could read it */
#define API_VERSION    "2021-12-02"
#define URL_MAX_BYTES  16384

/* --- Requests -------------------------------------------------------------------------------------------------- */

void azure_call_random(char text[AZURE_IDENTITY_CHARS + 1])
{
    unsigned char bytes[AZURE_IDENTITY_CHARS / 2] = {0};
    size_t got = 0;
    while (got < sizeof bytes) { /* so few bytes are never refused once the kernel has booted */
        ssize_t more = getrandom(bytes + got, sizeof bytes - got, 0);
        got += more > 0 ? (size_t)more : 0;
    }
    for (size_t i = 0; i < sizeof bytes; i++)
        snprintf(text + 2 * i, 3, "%02x", bytes[i]);
}

void azure_call_add_header(struct azure_call *call, const char *name, const char *value)
{
    if (!http_headers_add(&call->headers, name, value))
        call->headers.count = HTTP_HEADERS_MAX; /* prepare() then has no room either, and says so */
}

void azure_call_add_query(struct azure_call *call, const char *name, const char *value)
{
    call->query[call->query_count++] = (struct azure_query){.name = name, .value = value};
}

struct azure_call azure_call_make(const struct azure_store *store, const char *method, const char *verb,
                                  const char *key)
{
    struct azure_call call = {.store = store, .method = method, .verb = verb, .key = key};
    snprintf(call.path, sizeof call.path, "%s/%s%s%s%s", store->endpoint_path, store->place.container,
             key != NULL ? "/" : "", key != NULL ? store->place.prefix : "", key != NULL ? key : "");
    return call;
}

/* "Sun, 06 Nov 1994 08:49:37 GMT", whatever the locale is. */
static void http_date(char text[48])
{
    static const char days[] = "SunMonTueWedThuFriSat";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    struct tm tm;
    time_t now = time(NULL);
    gmtime_r(&now, &tm);
    snprintf(text, 48, "%.3s, %02d %.3s %04d %02d:%02d:%02d GMT", days + 3 * tm.tm_wday, tm.tm_mday,
             months + 3 * tm.tm_mon, tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
}

/* The headers of one attempt. */
static dcache_status_t prepare(void *context, struct diag *dg, struct http_headers *headers)
{
    const struct azure_call *call = context;
    char date[48];
    char id[AZURE_IDENTITY_CHARS + 1];
    char crc[16];
    char authorization[HTTP_HEADER_VALUE_MAX];
    *headers = call->headers;
    http_date(date);
    azure_call_random(id);
    azure_auth_crc_text(call->crc, crc);
    if (!http_headers_add(headers, "x-ms-date", date) || !http_headers_add(headers, "x-ms-version", API_VERSION) ||
        !http_headers_add(headers, "x-ms-client-request-id", id) ||
        (call->has_crc && !http_headers_add(headers, "x-ms-content-crc64", crc)))
        return diag_fail(dg, DCACHE_ERR_INTERNAL, "too many headers to %s", call->verb);
    if (call->store->auth != OBJECT_AUTH_KEY)
        return DCACHE_OK; /* the signature is in the URL, or there is a token */
    struct azure_signed covered = {.method = call->method,
                                   .account = call->store->place.account,
                                   .path = call->path,
                                   .query = call->query,
                                   .query_count = call->query_count,
                                   .content_length = call->body_bytes,
                                   .headers = headers};
    dcache_status_t status = azure_auth_sign(dg, &call->store->key, &covered, authorization);
    if (status == DCACHE_OK && !http_headers_add(headers, "Authorization", authorization))
        status = diag_fail(dg, DCACHE_ERR_INTERNAL, "too many headers to %s", call->verb);
    return status;
}

const char *azure_call_error_code(const struct http_response *response)
{
    return http_headers_get(&response->headers, "x-ms-error-code");
}

bool azure_call_is_digest_error(const struct http_response *response)
{
    return response->status == 400 && (strcmp(azure_call_error_code(response), "Crc64Mismatch") == 0 ||
                                       strcmp(azure_call_error_code(response), "Md5Mismatch") == 0);
}

bool azure_call_body_matches(const struct azure_call *call)
{
    if (call->read != NULL)
        return !call->suspect || call->sent_bytes != call->body_bytes || call->sent_crc == call->crc;
    return !call->has_crc || crc64_update(0, call->body, call->body_bytes) == call->crc;
}

/* A list of blocks that was spoilt on the way may be no XML any more, and be refused before its digest is looked at.
 * The emulator then gives no reason at all. */
static bool is_unreadable_list(const struct azure_call *call, const struct http_response *response)
{
    const char *code = azure_call_error_code(response);
    bool is_list = call->query_count > 0 && strcmp(call->query[0].value, "blocklist") == 0;
    return is_list && response->status == 400 && (code[0] == '\0' || strncmp(code, "InvalidXml", 10) == 0);
}

/* The server saw other bytes than the digest says: spoilt on the way, and sent again, unless they are wrong here. A
 * token that was revoked or that a service's clock takes for expired: another one, once. */
static bool again(void *context, const struct http_response *response)
{
    struct azure_call *call = context;
    if (response->status == 401 && call->store->identity != NULL && !call->renewed) {
        call->renewed = true;
        azure_identity_forget(call->store->identity);
        return true;
    }
    if (is_unreadable_list(call, response) && call->unreadable < UNREADABLE_MAX && azure_call_body_matches(call)) {
        call->unreadable++;
        return true;
    }
    if (!azure_call_is_digest_error(response) || !azure_call_body_matches(call))
        return false;
    call->suspect = true;
    return true;
}

/* What is given is verified by whoever gives it. What happens to it afterwards shows when the service's digest differs:
 * then a digest of our own, of what is given to libcurl in the next attempt, tells on which side it was. */
static dcache_status_t read_body(void *context, struct diag *dg, uint64_t offset, void *buffer, size_t *bytes)
{
    struct azure_call *call = context;
    dcache_status_t status = call->read(call->read_context, dg, offset, buffer, bytes);
    if (status == DCACHE_OK && call->suspect) {
        call->sent_crc = crc64_update(offset == 0 ? 0 : call->sent_crc, buffer, *bytes);
        call->sent_bytes = offset + *bytes;
    }
    return status;
}

static dcache_status_t bearer(void *context, struct diag *dg, char token[HTTP_BEARER_MAX])
{
    const struct azure_call *call = context;
    return azure_identity_token(call->store->identity, dg, call->cancel, call->stop, token);
}

static dcache_status_t make_url(const struct azure_call *call, struct diag *dg, char url[URL_MAX_BYTES])
{
    const struct azure_store *store = call->store;
    snprintf(url, URL_MAX_BYTES, "%.*s%s", (int)store->origin_length, store->place.endpoint, call->path);
    bool good = true;
    for (size_t i = 0; good && i < call->query_count; i++) {
        size_t length = strlen(url);
        snprintf(url + length, URL_MAX_BYTES - length, "%c%s=", i == 0 ? '?' : '&', call->query[i].name);
        good = http_escape_append(url, URL_MAX_BYTES, call->query[i].value);
    }
    if (good && store->auth == OBJECT_AUTH_SAS) {
        size_t length = strlen(url);
        int more =
            snprintf(url + length, URL_MAX_BYTES - length, "%c%s", call->query_count > 0 ? '&' : '?', store->sas);
        good = more > 0 && (size_t)more < URL_MAX_BYTES - length;
    }
    return good ? DCACHE_OK
                : diag_fail(dg, DCACHE_ERR_STORE, "store %s: a URL to %s is too long", store->place.url, call->verb);
}

dcache_status_t azure_call_send(struct azure_call *call, struct diag *dg, struct http_response *response)
{
    static const char *const wanted[] = {
        "ETag", "Content-Range", "x-ms-error-code", "x-ms-request-id", "x-ms-content-crc64", AZURE_IDENTITY_HEADER,
        NULL};
    const struct object_policy *policy = &call->store->base.policy;
    char url[URL_MAX_BYTES];
    dcache_status_t status = make_url(call, dg, url);
    if (status != DCACHE_OK)
        return status;
    struct http_request request = {.method = call->method,
                                   .url = url,
                                   .body = call->body,
                                   .body_bytes = call->body_bytes,
                                   .read = call->read != NULL ? read_body : NULL,
                                   .sink = call->sink,
                                   .wanted = wanted,
                                   .prepare = prepare,
                                   .again = again,
                                   .bearer = call->store->identity != NULL ? bearer : NULL,
                                   .context = call,
                                   .timeout_s = policy->timeout_s,
                                   .stall_s = policy->stall_s,
                                   .cancel = call->cancel,
                                   .stop = call->stop};
    status = http_perform(call->store->http, dg, &request, response);
    bool no_answer = status == DCACHE_ERR_STORE && (response->status != 0 || response->failure[0] != '\0');
    return no_answer ? azure_call_fail(call, dg, response) : status;
}

/* --- What an answer means -------------------------------------------------------------------------------------- */

bool azure_call_is_answer(const struct http_response *response)
{
    return http_headers_get(&response->headers, "x-ms-request-id")[0] != '\0';
}

bool azure_call_is_missing(const struct http_response *response)
{
    return response->status == 404 && azure_call_is_answer(response) &&
           strcmp(azure_call_error_code(response), "ContainerNotFound") != 0 &&
           strcmp(azure_call_error_code(response), "ResourceNotFound") != 0;
}

bool azure_call_is_taken(const struct http_response *response)
{
    return (response->status == 409 && strcmp(azure_call_error_code(response), "BlobAlreadyExists") == 0) ||
           (response->status == 412 && (strcmp(azure_call_error_code(response), "ConditionNotMet") == 0 ||
                                        azure_call_error_code(response)[0] == '\0'));
}

/* 400 is what a service says that also takes tokens, when it finds no way to take what was sent. */
static bool is_denied(const struct http_response *response)
{
    return response->status == 401 || response->status == 403 ||
           (response->status == 400 && strcmp(azure_call_error_code(response), "InvalidAuthenticationInfo") == 0);
}

static const char *remedy_of(const struct azure_store *store, const struct http_response *response)
{
    const char *code = azure_call_error_code(response);
    if (response->status == 0)
        return "check that the endpoint's name, port and http or https are right and that it can be reached from here";
    bool denied = is_denied(response);
    if (denied && store->auth == OBJECT_AUTH_SAS)
        return "check that the shared access signature has not expired, that it allows reading, writing, deleting and "
               "listing in this container from here, and this machine's clock";
    if (denied && store->identity != NULL)
        return "check that the identity has the role Storage Blob Data Contributor for this account or container, and "
               "that this network is allowed";
    if (denied)
        return "check the account's name and key, that Shared Key access and this network are allowed for the account, "
               "and this machine's clock";
    if (strcmp(code, "ServerBusy") == 0 || response->status == 429)
        return "the account is at its limit: drain with fewer ranks, use several accounts, or raise store_timeout";
    if (!azure_call_is_answer(response))
        return "the answer does not come from Azure Blob: check the endpoint, and the proxy if there is one";
    if (response->status >= 500)
        return "the service has a problem: try again later or raise store_timeout";
    return "see the Blob service's error code";
}

dcache_status_t azure_call_fail(const struct azure_call *call, struct diag *dg, const struct http_response *response)
{
    const struct object_azure_place *place = &call->store->place;
    const char *code = azure_call_error_code(response);
    const char *request_id = http_headers_get(&response->headers, "x-ms-request-id");
    char what[HTTP_FAILURE_MAX + 160];
    if (response->status == 404 && strcmp(code, "ContainerNotFound") == 0)
        return diag_fail(
            dg, DCACHE_ERR_STORE,
            "store %s: there is no container %s in the account %s (HTTP 404 %s, request %s): make it with "
            "`dcache store create --store %s` or `az storage container create --name %s --account-name %s`",
            place->url, place->container, place->account, code, request_id, place->url, place->container,
            place->account);
    if (response->failure[0] != '\0')
        snprintf(what, sizeof what, "%s", response->failure);
    else
        snprintf(what, sizeof what, "HTTP %ld %.80s, request %.60s", response->status, code[0] != '\0' ? code : "-",
                 request_id[0] != '\0' ? request_id : "-");
    return diag_fail(dg, is_denied(response) ? DCACHE_ERR_PERMISSION : DCACHE_ERR_STORE,
                     "store %s: cannot %s %s: %s (%u attempt%s in %.1f s); %s", place->url, call->verb,
                     call->key != NULL ? call->key : "the container", what, response->attempts,
                     response->attempts == 1 ? "" : "s", response->seconds, remedy_of(call->store, response));
}

dcache_status_t azure_call_check_stored(const struct azure_call *call, struct diag *dg,
                                        const struct http_response *response)
{
    char ours[16];
    const char *theirs = http_headers_get(&response->headers, "x-ms-content-crc64");
    azure_auth_crc_text(call->crc, ours);
    if (!azure_call_is_answer(response))
        return azure_call_fail(call, dg, response);
    if (theirs[0] != '\0' && strcmp(theirs, ours) != 0)
        return diag_fail(dg, DCACHE_ERR_STORE,
                         "store %s: %s was stored with the CRC64 %s and not %s (request %s): the store damages data",
                         call->store->place.url, call->key, theirs, ours,
                         http_headers_get(&response->headers, "x-ms-request-id"));
    return DCACHE_OK;
}

/* --- Two that more than one operation needs --- */

dcache_status_t azure_call_head(const struct azure_store *store, struct diag *dg, const char *key,
                                const atomic_bool *cancel, struct http_response *response)
{
    struct azure_call call = azure_call_make(store, "HEAD", "ask for", key);
    call.cancel = cancel;
    dcache_status_t status = azure_call_send(&call, dg, response);
    if (status != DCACHE_OK)
        return status;
    if (azure_call_is_missing(response))
        return DCACHE_NOT_FOUND;
    if (response->status != 200 || response->content_length < 0 || !azure_call_is_answer(response))
        return azure_call_fail(&call, dg, response);
    return DCACHE_OK;
}

dcache_status_t azure_call_remove(const struct azure_store *store, struct diag *dg, const char *key, const char *etag)
{
    struct http_response response;
    struct azure_call call = azure_call_make(store, "DELETE", "remove", key);
    azure_call_add_header(&call, "x-ms-delete-snapshots", "include");
    if (etag[0] != '\0')
        azure_call_add_header(&call, "If-Match", etag);
    dcache_status_t status = azure_call_send(&call, dg, &response);
    if (status != DCACHE_OK || azure_call_is_missing(&response))
        return status;
    return response.status == 202 ? DCACHE_OK : azure_call_fail(&call, dg, &response);
}
