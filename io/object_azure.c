/* The Azure Blob object store: Shared Key over REST (io/azure_auth.c), requests and their retries in io/http.c.
 *
 * A put of one block is a Put Blob, a larger one Put Blocks and a Put Block List, which makes the object appear at once
 * and whole. Each put has a random identity. It is part of its block ids, so that two writers of one key do not mix
 * their blocks, and becomes metadata of the object, so that a writer who never saw the answer to its commit can tell
 * its own object from another's. */
#include "io/azure_auth.h"
#include "io/azure_list.h"
#include "io/crc64.h"
#include "io/http.h"
#include "io/object_backend.h"

#include <inttypes.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <time.h>

#define API_VERSION       "2021-12-02"
#define BLOCKS_MAX        50000u
#define BLOCK_BYTES_MAX   (4000ull << 20)
#define BLOCK_GRAIN_BYTES (1ull << 20)
#define GET_BYTES_MAX     (32u << 20)
#define LIST_PAGE         "1000"
#define LIST_BYTES_MAX    (16u << 20)
#define EMPTY_PAGES_MAX   1000
#define PUT_ROUNDS        3
#define IDENTITY_HEADER   "x-ms-meta-dcacheput"
#define IDENTITY_CHARS    32 /* hexadecimal */
#define BLOCK_ID_BYTES    30 /* 24 characters of the identity and 6 digits: a multiple of 3, so base64 has no '=' */
#define BLOCK_ID_CHARS    40
#define PATH_MAX_BYTES    2048
#define URL_MAX_BYTES     16384

struct azure_store {
    struct object_store base;
    struct object_azure_place place;
    struct azure_key key;
    struct http_client *http;
    const char *endpoint_path; /* of place.endpoint: "" or "/account" */
    size_t origin_length;      /* of place.endpoint without that path */
};

/* One request: what to send. */
struct call {
    const struct azure_store *store;
    const char *method;
    const char *verb; /* for texts: "store", "read" */
    const char *key;  /* of the object; NULL: the container itself */
    char path[PATH_MAX_BYTES];
    struct azure_query query[AZURE_QUERY_MAX]; /* ascending by name */
    size_t query_count;
    struct http_headers headers; /* without those that every attempt adds */
    const void *body;
    size_t body_bytes;
    bool has_crc;
    uint64_t crc; /* of the body, from the source's digests */
    struct http_sink *sink;
    const atomic_bool *cancel;
};

static const struct azure_store *azure_store_of(struct object_store *store)
{
    return (const struct azure_store *)store;
}

/* --- Requests -------------------------------------------------------------------------------------------------- */

static void random_hex(char text[IDENTITY_CHARS + 1])
{
    unsigned char bytes[IDENTITY_CHARS / 2] = {0};
    size_t got = 0;
    while (got < sizeof bytes) { /* so few bytes are never refused once the kernel has booted */
        ssize_t more = getrandom(bytes + got, sizeof bytes - got, 0);
        got += more > 0 ? (size_t)more : 0;
    }
    for (size_t i = 0; i < sizeof bytes; i++)
        snprintf(text + 2 * i, 3, "%02x", bytes[i]);
}

static void add_header(struct call *call, const char *name, const char *value)
{
    if (!http_headers_add(&call->headers, name, value))
        call->headers.count = HTTP_HEADERS_MAX; /* prepare() then has no room either, and says so */
}

static void add_query(struct call *call, const char *name, const char *value)
{
    call->query[call->query_count++] = (struct azure_query){.name = name, .value = value};
}

static struct call make_call(const struct azure_store *store, const char *method, const char *verb, const char *key)
{
    struct call call = {.store = store, .method = method, .verb = verb, .key = key};
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
    const struct call *call = context;
    char date[48];
    char id[IDENTITY_CHARS + 1];
    char crc[16];
    char authorization[HTTP_HEADER_VALUE_MAX];
    *headers = call->headers;
    http_date(date);
    random_hex(id);
    azure_auth_crc_text(call->crc, crc);
    if (!http_headers_add(headers, "x-ms-date", date) || !http_headers_add(headers, "x-ms-version", API_VERSION) ||
        !http_headers_add(headers, "x-ms-client-request-id", id) ||
        (call->has_crc && !http_headers_add(headers, "x-ms-content-crc64", crc)))
        return diag_fail(dg, DCACHE_ERR_INTERNAL, "too many headers to %s", call->verb);
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

static const char *error_code(const struct http_response *response)
{
    return http_headers_get(&response->headers, "x-ms-error-code");
}

static bool is_digest_error(const struct http_response *response)
{
    return response->status == 400 &&
           (strcmp(error_code(response), "Crc64Mismatch") == 0 || strcmp(error_code(response), "Md5Mismatch") == 0);
}

static bool body_matches(const struct call *call)
{
    return !call->has_crc || crc64_update(0, call->body, call->body_bytes) == call->crc;
}

/* The server saw other bytes than the digest says: spoilt on the way, and sent again, unless they are wrong here. */
static bool again(void *context, const struct http_response *response)
{
    return is_digest_error(response) && body_matches(context);
}

static dcache_status_t make_url(const struct call *call, struct diag *dg, char url[URL_MAX_BYTES])
{
    const struct azure_store *store = call->store;
    snprintf(url, URL_MAX_BYTES, "%.*s%s", (int)store->origin_length, store->place.endpoint, call->path);
    bool good = true;
    for (size_t i = 0; good && i < call->query_count; i++) {
        size_t length = strlen(url);
        snprintf(url + length, URL_MAX_BYTES - length, "%c%s=", i == 0 ? '?' : '&', call->query[i].name);
        good = http_escape_append(url, URL_MAX_BYTES, call->query[i].value);
    }
    return good ? DCACHE_OK
                : diag_fail(dg, DCACHE_ERR_STORE, "store %s: a URL to %s is too long", store->place.url, call->verb);
}

static dcache_status_t fail_response(const struct call *call, struct diag *dg, const struct http_response *response);

/* Send the request. DCACHE_OK: there is an answer, of any status that is not retried. */
static dcache_status_t send_call(struct call *call, struct diag *dg, struct http_response *response)
{
    static const char *const wanted[] = {
        "ETag", "Content-Range", "x-ms-error-code", "x-ms-request-id", "x-ms-content-crc64", IDENTITY_HEADER, NULL};
    const struct object_policy *policy = &call->store->base.policy;
    char url[URL_MAX_BYTES];
    dcache_status_t status = make_url(call, dg, url);
    if (status != DCACHE_OK)
        return status;
    struct http_request request = {.method = call->method,
                                   .url = url,
                                   .body = call->body,
                                   .body_bytes = call->body_bytes,
                                   .sink = call->sink,
                                   .wanted = wanted,
                                   .prepare = prepare,
                                   .again = again,
                                   .context = call,
                                   .timeout_s = policy->timeout_s,
                                   .stall_s = policy->stall_s,
                                   .cancel = call->cancel};
    status = http_perform(call->store->http, dg, &request, response);
    return status == DCACHE_ERR_STORE ? fail_response(call, dg, response) : status;
}

/* --- What an answer means -------------------------------------------------------------------------------------- */

/* Only Azure Blob answers with this header; a proxy's or another server's 404 says nothing about an object. */
static bool is_azure_answer(const struct http_response *response)
{
    return http_headers_get(&response->headers, "x-ms-request-id")[0] != '\0';
}

static bool is_missing(const struct http_response *response)
{
    return response->status == 404 && is_azure_answer(response) &&
           strcmp(error_code(response), "ContainerNotFound") != 0 &&
           strcmp(error_code(response), "ResourceNotFound") != 0;
}

/* Answers to a conditional put when the key is taken. */
static bool is_taken(const struct http_response *response)
{
    return (response->status == 409 && strcmp(error_code(response), "BlobAlreadyExists") == 0) ||
           (response->status == 412 &&
            (strcmp(error_code(response), "ConditionNotMet") == 0 || error_code(response)[0] == '\0'));
}

static const char *remedy_of(const struct http_response *response)
{
    const char *code = error_code(response);
    if (response->status == 0)
        return "check that the endpoint's name, port and http or https are right and that it can be reached from here";
    if (response->status == 401 || response->status == 403)
        return "check the account's name and key, that Shared Key access and this network are allowed for the account, "
               "and this machine's clock";
    if (strcmp(code, "ServerBusy") == 0 || response->status == 429)
        return "the account is at its limit: drain with fewer ranks, use several accounts, or raise store_timeout";
    if (!is_azure_answer(response))
        return "the answer does not come from Azure Blob: check the endpoint, and the proxy if there is one";
    if (response->status >= 500)
        return "the service has a problem: try again later or raise store_timeout";
    return "see the Blob service's error code";
}

/* Word the failure that an answer, or the lack of one, is. */
static dcache_status_t fail_response(const struct call *call, struct diag *dg, const struct http_response *response)
{
    const struct object_azure_place *place = &call->store->place;
    const char *code = error_code(response);
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
    bool denied = response->status == 401 || response->status == 403;
    return diag_fail(dg, denied ? DCACHE_ERR_PERMISSION : DCACHE_ERR_STORE,
                     "store %s: cannot %s %s: %s (%u attempt%s in %.1f s); %s", place->url, call->verb,
                     call->key != NULL ? call->key : "the container", what, response->attempts,
                     response->attempts == 1 ? "" : "s", response->seconds, remedy_of(response));
}

/* An upload was answered with 201: is it of the bytes that were meant? Azure tells their CRC without being asked. */
static dcache_status_t check_stored(const struct call *call, struct diag *dg, const struct http_response *response)
{
    char ours[16];
    const char *theirs = http_headers_get(&response->headers, "x-ms-content-crc64");
    azure_auth_crc_text(call->crc, ours);
    if (!is_azure_answer(response))
        return fail_response(call, dg, response);
    if (theirs[0] != '\0' && strcmp(theirs, ours) != 0)
        return diag_fail(dg, DCACHE_ERR_STORE,
                         "store %s: %s was stored with the CRC64 %s and not %s (request %s): the store damages data",
                         call->store->place.url, call->key, theirs, ours,
                         http_headers_get(&response->headers, "x-ms-request-id"));
    return DCACHE_OK;
}

/* --- Head, get, remove, create --------------------------------------------------------------------------------- */

/* Ask for an object's headers. DCACHE_NOT_FOUND without a text. */
static dcache_status_t ask_head(const struct azure_store *store, struct diag *dg, const char *key,
                                const atomic_bool *cancel, struct http_response *response)
{
    struct call call = make_call(store, "HEAD", "ask for", key);
    call.cancel = cancel;
    dcache_status_t status = send_call(&call, dg, response);
    if (status != DCACHE_OK)
        return status;
    if (is_missing(response))
        return DCACHE_NOT_FOUND;
    if (response->status != 200 || response->content_length < 0 || !is_azure_answer(response))
        return fail_response(&call, dg, response);
    return DCACHE_OK;
}

static dcache_status_t azure_head(struct object_store *base, struct diag *dg, const char *key, struct object_info *info)
{
    struct http_response response;
    if (!object_key_valid(key))
        return object_bad_key(dg, key);
    dcache_status_t status = ask_head(azure_store_of(base), dg, key, NULL, &response);
    if (status != DCACHE_OK)
        return status;
    info->bytes = (uint64_t)response.content_length;
    snprintf(info->etag, sizeof info->etag, "%.*s", (int)sizeof info->etag - 1,
             http_headers_get(&response.headers, "ETag"));
    return DCACHE_OK;
}

/* Read one piece of an object. `etag` is what it has to have, or "": then it becomes what it has. */
static dcache_status_t get_piece(const struct azure_store *store, struct diag *dg, const char *key,
                                 char etag[HTTP_HEADER_VALUE_MAX], uint64_t offset, void *buffer, size_t bytes)
{
    struct http_sink sink = {.data = buffer, .room = bytes, .limit = bytes};
    struct http_response response;
    struct call call = make_call(store, "GET", "read", key);
    char range[64];
    call.sink = &sink;
    snprintf(range, sizeof range, "bytes=%" PRIu64 "-%" PRIu64, offset, offset + bytes - 1);
    add_header(&call, "Range", range);
    if (etag[0] != '\0')
        add_header(&call, "If-Match", etag);
    dcache_status_t status = send_call(&call, dg, &response);
    if (status != DCACHE_OK)
        return status;
    if (is_missing(&response))
        return DCACHE_NOT_FOUND;
    if (response.status == 412)
        return object_changed(dg, store->place.url, key);
    if (response.status == 416)
        return object_too_short(dg, store->place.url, key, offset + bytes);
    snprintf(range, sizeof range, "bytes %" PRIu64 "-", offset);
    if (response.status != 206 || !is_azure_answer(&response) ||
        strncmp(http_headers_get(&response.headers, "Content-Range"), range, strlen(range)) != 0)
        return fail_response(&call, dg, &response);
    if (sink.bytes != bytes)
        return object_too_short(dg, store->place.url, key, offset + bytes);
    const char *found = http_headers_get(&response.headers, "ETag");
    if (etag[0] != '\0' && found[0] != '\0' && strcmp(etag, found) != 0) /* If-Match was not looked at */
        return object_changed(dg, store->place.url, key);
    snprintf(etag, HTTP_HEADER_VALUE_MAX, "%s", found);
    return DCACHE_OK;
}

/* It comes from a document that anybody may have written, and goes into a header. */
static bool etag_valid(const char *etag)
{
    size_t length = strlen(etag);
    for (size_t i = 0; i < length; i++) {
        if (etag[i] <= ' ' || etag[i] > '~')
            return false;
    }
    return length < sizeof((struct object_info *)0)->etag;
}

static dcache_status_t azure_get(struct object_store *base, struct diag *dg, const char *key, const char *etag,
                                 uint64_t offset, void *buffer, size_t bytes)
{
    const struct azure_store *store = azure_store_of(base);
    char pinned[HTTP_HEADER_VALUE_MAX] = "";
    if (!object_key_valid(key))
        return object_bad_key(dg, key);
    if (etag != NULL && !etag_valid(etag))
        return object_changed(dg, store->place.url, key);
    snprintf(pinned, sizeof pinned, "%s", etag != NULL ? etag : "");
    if (bytes == 0) { /* a range cannot be empty */
        struct object_info info;
        dcache_status_t status = azure_head(base, dg, key, &info);
        if (status == DCACHE_OK && pinned[0] != '\0' && strcmp(pinned, info.etag) != 0)
            status = object_changed(dg, store->place.url, key);
        else if (status == DCACHE_OK && offset > info.bytes)
            status = object_too_short(dg, store->place.url, key, offset);
        return status;
    }
    for (size_t done = 0; done < bytes;) {
        size_t piece = bytes - done < GET_BYTES_MAX ? bytes - done : GET_BYTES_MAX;
        dcache_status_t status = get_piece(store, dg, key, pinned, offset + done, (char *)buffer + done, piece);
        if (status != DCACHE_OK)
            return status;
        done += piece;
    }
    return DCACHE_OK;
}

/* Remove an object, or only the one with that etag. */
static dcache_status_t remove_object(const struct azure_store *store, struct diag *dg, const char *key,
                                     const char *etag)
{
    struct http_response response;
    struct call call = make_call(store, "DELETE", "remove", key);
    add_header(&call, "x-ms-delete-snapshots", "include");
    if (etag[0] != '\0')
        add_header(&call, "If-Match", etag);
    dcache_status_t status = send_call(&call, dg, &response);
    if (status != DCACHE_OK || is_missing(&response))
        return status;
    return response.status == 202 ? DCACHE_OK : fail_response(&call, dg, &response);
}

static dcache_status_t azure_remove(struct object_store *base, struct diag *dg, const char *key)
{
    return object_key_valid(key) ? remove_object(azure_store_of(base), dg, key, "") : object_bad_key(dg, key);
}

static dcache_status_t azure_create(struct object_store *base, struct diag *dg)
{
    struct http_response response;
    struct call call = make_call(azure_store_of(base), "PUT", "make", NULL);
    add_query(&call, "restype", "container");
    dcache_status_t status = send_call(&call, dg, &response);
    if (status != DCACHE_OK)
        return status;
    bool there = response.status == 409 && strcmp(error_code(&response), "ContainerAlreadyExists") == 0;
    return response.status == 201 || there ? DCACHE_OK : fail_response(&call, dg, &response);
}

/* --- Put ------------------------------------------------------------------------------------------------------- */

/* One put, from its first block to its commit. */
struct put {
    const struct azure_store *store;
    const char *key;
    const struct object_source *source;
    enum object_condition condition;
    const atomic_bool *cancel;
    char *buffer; /* one block */
    size_t block_bytes;
    uint32_t block_count;
    char identity[IDENTITY_CHARS + 1]; /* of this round */
};

/* How a commit ended that did not simply succeed or fail. */
enum outcome { OUTCOME_OURS, OUTCOME_THEIRS, OUTCOME_NEITHER };

/* Whose object is there? Asked when a commit was refused: it may be a repetition of one whose answer was lost. */
static dcache_status_t ask_whose(const struct put *put, struct diag *dg, enum outcome *outcome)
{
    struct http_response response;
    dcache_status_t status = ask_head(put->store, dg, put->key, put->cancel, &response);
    if (status != DCACHE_OK && status != DCACHE_NOT_FOUND)
        return status;
    if (status == DCACHE_NOT_FOUND)
        *outcome = OUTCOME_NEITHER;
    else if (strcmp(http_headers_get(&response.headers, IDENTITY_HEADER), put->identity) == 0 &&
             (uint64_t)response.content_length == put->source->bytes)
        *outcome = OUTCOME_OURS;
    else
        *outcome = OUTCOME_THEIRS;
    return DCACHE_OK;
}

static void add_commit_headers(const struct put *put, struct call *call)
{
    add_header(call, IDENTITY_HEADER, put->identity);
    if (put->condition == OBJECT_IF_ABSENT)
        add_header(call, "If-None-Match", "*");
}

/* Judge the answer to Put Blob or Put Block List. `once_more`: the blocks are gone, or the object of another writer
 * that was in the way is; the round has to be made again. */
static dcache_status_t settle(const struct put *put, struct diag *dg, const struct call *call,
                              const struct http_response *response, bool *once_more)
{
    *once_more = false;
    if (response->status == 201)
        return check_stored(call, dg, response);
    if (is_digest_error(response))
        return body_matches(call) ? fail_response(call, dg, response) : object_bad_source(dg, put->key, 0);
    bool taken = put->condition == OBJECT_IF_ABSENT && is_taken(response);
    /* Another writer's commit drops the blocks of all others; so does our own, if only its answer was lost. */
    bool blocks_gone = response->status == 400 && strcmp(error_code(response), "InvalidBlockList") == 0;
    if (!taken && !blocks_gone)
        return fail_response(call, dg, response);
    enum outcome outcome = OUTCOME_NEITHER;
    dcache_status_t status = ask_whose(put, dg, &outcome);
    if (status != DCACHE_OK || outcome == OUTCOME_OURS)
        return status;
    if (outcome == OUTCOME_THEIRS && put->condition == OBJECT_IF_ABSENT)
        return object_exists(dg, put->store->place.url, put->key);
    *once_more = true;
    return fail_response(call, dg, response);
}

static dcache_status_t read_block(const struct put *put, struct diag *dg, uint32_t index, size_t *bytes, uint64_t *crc)
{
    uint64_t offset = (uint64_t)index * put->block_bytes;
    uint64_t left = put->source->bytes - offset;
    *bytes = (size_t)(left < put->block_bytes ? left : put->block_bytes);
    *crc = 0;
    if (put->cancel != NULL && atomic_load(put->cancel))
        return diag_fail(dg, DCACHE_ERR_CANCELLED, "cancelled");
    if (*bytes == 0)
        return DCACHE_OK;
    return put->source->read(put->source->context, dg, offset, put->buffer, *bytes, crc);
}

static dcache_status_t put_whole(const struct put *put, struct diag *dg, bool *once_more)
{
    struct http_response response;
    struct call call = make_call(put->store, "PUT", "store", put->key);
    dcache_status_t status = read_block(put, dg, 0, &call.body_bytes, &call.crc);
    if (status != DCACHE_OK)
        return status;
    call.body = put->buffer;
    call.has_crc = true;
    call.cancel = put->cancel;
    add_header(&call, "x-ms-blob-type", "BlockBlob");
    add_commit_headers(put, &call);
    status = send_call(&call, dg, &response);
    if (status != DCACHE_OK)
        return status;
    status = settle(put, dg, &call, &response, once_more);
    const char *etag = http_headers_get(&response.headers, "ETag");
    if (status != DCACHE_OK && response.status == 201 && etag[0] != '\0') { /* it is there, and wrong */
        struct diag quiet = *dg;
        dcache_status_t removed = remove_object(put->store, &quiet, put->key, etag);
        if (removed != DCACHE_OK)
            diag_log(dg, DIAG_WARNING, "a damaged object was left behind: %s", quiet.text);
    }
    return status;
}

static void make_block_id(const struct put *put, uint32_t index, char id[BLOCK_ID_CHARS + 1])
{
    char plain[BLOCK_ID_BYTES + 1];
    snprintf(plain, sizeof plain, "%.24s%06u", put->identity, index % 1000000u);
    EVP_EncodeBlock((unsigned char *)id, (const unsigned char *)plain, BLOCK_ID_BYTES);
}

static dcache_status_t put_block(const struct put *put, struct diag *dg, uint32_t index)
{
    char id[BLOCK_ID_CHARS + 1];
    struct http_response response;
    struct call call = make_call(put->store, "PUT", "store a block of", put->key);
    dcache_status_t status = read_block(put, dg, index, &call.body_bytes, &call.crc);
    if (status != DCACHE_OK)
        return status;
    make_block_id(put, index, id);
    add_query(&call, "blockid", id);
    add_query(&call, "comp", "block");
    call.body = put->buffer;
    call.has_crc = true;
    call.cancel = put->cancel;
    status = send_call(&call, dg, &response);
    if (status != DCACHE_OK)
        return status;
    if (response.status == 201)
        return check_stored(&call, dg, &response);
    if (is_digest_error(&response) && !body_matches(&call))
        return object_bad_source(dg, put->key, (uint64_t)index * put->block_bytes);
    return fail_response(&call, dg, &response);
}

/* The body of Put Block List, malloc'ed. <Latest> and not <Uncommitted>: a repeated commit then finds the same blocks
 * committed already, and the identity in the ids keeps others' out. */
static char *make_block_list(const struct put *put, size_t *bytes)
{
    static const char head[] = "<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>";
    static const char tail[] = "</BlockList>";
    size_t size = sizeof head + sizeof tail + (size_t)put->block_count * (BLOCK_ID_CHARS + sizeof "<Latest></Latest>");
    char *text = malloc(size);
    if (text == NULL)
        return NULL;
    size_t length = (size_t)snprintf(text, size, "%s", head);
    for (uint32_t i = 0; i < put->block_count; i++) {
        char id[BLOCK_ID_CHARS + 1];
        make_block_id(put, i, id);
        length += (size_t)snprintf(text + length, size - length, "<Latest>%s</Latest>", id);
    }
    *bytes = length + (size_t)snprintf(text + length, size - length, "%s", tail);
    return text;
}

static dcache_status_t put_blocks(const struct put *put, struct diag *dg, bool *once_more)
{
    for (uint32_t i = 0; i < put->block_count; i++) {
        dcache_status_t status = put_block(put, dg, i);
        if (status != DCACHE_OK)
            return status;
    }
    dcache_status_t status = diag_failpoint(dg, "object_azure_commit");
    if (status != DCACHE_OK)
        return status;
    struct http_response response;
    struct call call = make_call(put->store, "PUT", "commit", put->key);
    char *list = make_block_list(put, &call.body_bytes);
    if (list == NULL)
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "no memory for the list of %u blocks", put->block_count);
    call.body = list;
    call.has_crc = true;
    call.crc = crc64_update(0, list, call.body_bytes);
    call.cancel = put->cancel;
    add_query(&call, "comp", "blocklist");
    add_commit_headers(put, &call);
    status = send_call(&call, dg, &response);
    if (status == DCACHE_OK)
        status = settle(put, dg, &call, &response, once_more);
    free(list);
    return status;
}

/* The size of a block: what was asked for, or more, so that there are not too many of them. */
static uint64_t block_bytes_for(uint64_t wanted, uint64_t object_bytes)
{
    uint64_t least = object_bytes / BLOCKS_MAX + 1;
    if (wanted == 0)
        wanted = OBJECT_BLOCK_BYTES;
    if (wanted < least)
        wanted = (least + BLOCK_GRAIN_BYTES - 1) / BLOCK_GRAIN_BYTES * BLOCK_GRAIN_BYTES;
    return wanted < BLOCK_BYTES_MAX ? wanted : BLOCK_BYTES_MAX;
}

static dcache_status_t put_rounds(struct put *put, struct diag *dg)
{
    dcache_status_t status = DCACHE_OK;
    bool once_more = true;
    for (int round = 0; once_more && round < PUT_ROUNDS; round++) {
        once_more = false;
        random_hex(put->identity);
        status =
            put->source->bytes <= put->block_bytes ? put_whole(put, dg, &once_more) : put_blocks(put, dg, &once_more);
    }
    return status;
}

static dcache_status_t azure_put(struct object_store *base, struct diag *dg, const char *key,
                                 const struct object_source *source, enum object_condition condition,
                                 const atomic_bool *cancel)
{
    const struct azure_store *store = azure_store_of(base);
    uint64_t block = block_bytes_for(base->policy.block_bytes, source->bytes);
    if (!object_key_valid(key))
        return object_bad_key(dg, key);
    if (source->bytes / BLOCKS_MAX >= BLOCK_BYTES_MAX)
        return diag_fail(dg, DCACHE_ERR_INVALID, "object %s of %" PRIu64 " bytes is larger than a blob can be", key,
                         source->bytes);
    struct put put = {.store = store, .key = key, .source = source, .condition = condition, .cancel = cancel};
    put.block_bytes = (size_t)block;
    put.block_count = (uint32_t)((source->bytes + block - 1) / block);
    if (put.block_count > 1 && condition == OBJECT_IF_ABSENT) { /* saves sending it in vain; the commit decides */
        struct http_response response;
        dcache_status_t status = ask_head(store, dg, key, cancel, &response);
        if (status != DCACHE_NOT_FOUND)
            return status == DCACHE_OK ? object_exists(dg, store->place.url, key) : status;
    }
    size_t buffer_bytes = (size_t)(source->bytes < block ? source->bytes : block);
    put.buffer = malloc(buffer_bytes > 0 ? buffer_bytes : 1);
    if (put.buffer == NULL)
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "no memory for a block of %zu bytes", buffer_bytes);
    dcache_status_t status = put_rounds(&put, dg);
    free(put.buffer);
    return status;
}

/* --- List ------------------------------------------------------------------------------------------------------ */

static dcache_status_t fetch_page(const struct azure_store *store, struct diag *dg, const char *prefix,
                                  const char *marker, struct azure_page *page)
{
    struct http_sink sink = {.limit = LIST_BYTES_MAX};
    struct http_response response;
    struct call call = make_call(store, "GET", "list", NULL);
    add_query(&call, "comp", "list");
    if (marker[0] != '\0')
        add_query(&call, "marker", marker);
    add_query(&call, "maxresults", LIST_PAGE);
    if (prefix[0] != '\0')
        add_query(&call, "prefix", prefix);
    add_query(&call, "restype", "container");
    call.sink = &sink;
    dcache_status_t status = send_call(&call, dg, &response);
    if (status == DCACHE_OK && response.status != 200)
        status = fail_response(&call, dg, &response);
    if (status == DCACHE_OK)
        status = azure_list_parse(dg, sink.data != NULL ? sink.data : "", sink.bytes, page);
    free(sink.data);
    return status;
}

/* Show a page's objects to the visitor. Keys have to ascend: who sees all of them relies on it, and a listing that
 * goes in circles is noticed. */
static dcache_status_t visit_page(const struct azure_store *store, struct diag *dg, const struct azure_page *page,
                                  char last[AZURE_LIST_NAME_MAX + 1], object_visitor visit, void *context)
{
    size_t prefix_length = strlen(store->place.prefix);
    for (size_t i = 0; i < page->count; i++) {
        const struct azure_blob *blob = &page->blobs[i];
        if (strncmp(blob->name, store->place.prefix, prefix_length) != 0 ||
            !object_key_valid(blob->name + prefix_length))
            continue;
        if (strcmp(blob->name, last) <= 0)
            return diag_fail(dg, DCACHE_ERR_STORE, "store %s: the listing is not in ascending order at %s",
                             store->place.url, blob->name);
        snprintf(last, AZURE_LIST_NAME_MAX + 1, "%s", blob->name);
        dcache_status_t status = visit(context, blob->name + prefix_length, blob->bytes);
        if (status != DCACHE_OK)
            return status;
    }
    return DCACHE_OK;
}

static dcache_status_t azure_list(struct object_store *base, struct diag *dg, const char *prefix, object_visitor visit,
                                  void *context)
{
    const struct azure_store *store = azure_store_of(base);
    char full_prefix[sizeof store->place.prefix + OBJECT_KEY_MAX + 1];
    char last[AZURE_LIST_NAME_MAX + 1] = "";
    char marker[AZURE_LIST_MARKER_MAX + 1] = "";
    unsigned empty_pages = 0;
    if (strlen(prefix) > OBJECT_KEY_MAX)
        return DCACHE_OK; /* no key is so long */
    snprintf(full_prefix, sizeof full_prefix, "%s%s", store->place.prefix, prefix);
    for (;;) {
        struct azure_page page = {.count = 0};
        dcache_status_t status = fetch_page(store, dg, full_prefix, marker, &page);
        if (status == DCACHE_OK)
            status = visit_page(store, dg, &page, last, visit, context);
        empty_pages = page.count == 0 ? empty_pages + 1 : 0;
        bool circles = strcmp(marker, page.next) == 0 || empty_pages > EMPTY_PAGES_MAX;
        bool done = page.next[0] == '\0';
        memcpy(marker, page.next, sizeof marker);
        azure_list_free(&page);
        if (status != DCACHE_OK || done)
            return status;
        if (circles)
            return diag_fail(dg, DCACHE_ERR_STORE, "store %s: the listing never ends", store->place.url);
    }
}

/* --- Open and close -------------------------------------------------------------------------------------------- */

static void azure_close(struct object_store *base)
{
    struct azure_store *store = (struct azure_store *)base;
    http_client_close(store->http);
    OPENSSL_cleanse(&store->key, sizeof store->key);
    free(store);
}

static const struct object_store_ops azure_ops = {
    .scheme = "azure",
    .create = azure_create,
    .put = azure_put,
    .get = azure_get,
    .head = azure_head,
    .list = azure_list,
    .remove = azure_remove,
    .close = azure_close,
};

dcache_status_t object_azure_open(struct diag *dg, const struct object_azure_place *place, const char *key,
                                  const struct object_policy *policy, struct object_store **store)
{
    struct azure_store *made = calloc(1, sizeof *made);
    if (made == NULL)
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "no memory for an object store");
    dcache_status_t status = DCACHE_OK;
    if (!azure_auth_decode_key(key, &made->key))
        status = diag_fail(dg, DCACHE_ERR_OPTION, "the key of the storage account %s is no account key in base64",
                           place->account);
    if (status == DCACHE_OK)
        status = http_client_open(dg, &made->http);
    if (status != DCACHE_OK) {
        free(made);
        return status;
    }
    made->base.ops = &azure_ops;
    made->base.policy = *policy;
    made->place = *place;
    const char *host = strstr(made->place.endpoint, "://") + strlen("://");
    made->endpoint_path = host + strcspn(host, "/");
    made->origin_length = (size_t)(made->endpoint_path - made->place.endpoint);
    *store = &made->base;
    return DCACHE_OK;
}
