/* The Azure Blob object store: Shared Key over REST (io/azure_auth.c), requests and what their answers mean in
 * io/azure_call.c, their retries in io/http.c, putting an object in io/azure_put.c. */
#include "io/azure_call.h"
#include "io/azure_list.h"
#include "io/azure_method.h"
#include "io/azure_put.h"
#include "io/workers.h"

#include <inttypes.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GET_PIECE_BYTES (8u << 20)
#define LIST_PAGE       "1000"
#define LIST_BYTES_MAX  (16u << 20)
#define EMPTY_PAGES_MAX 1000

static const struct azure_store *azure_store_of(struct object_store *store)
{
    return (const struct azure_store *)store;
}

/* --- Head, get, remove, create --------------------------------------------------------------------------------- */

static dcache_status_t azure_head(struct object_store *base, struct diag *dg, const char *key, struct object_info *info)
{
    struct http_response response;
    if (!object_key_valid(key))
        return object_bad_key(dg, key);
    dcache_status_t status = azure_call_head(azure_store_of(base), dg, key, NULL, &response);
    if (status != DCACHE_OK)
        return status;
    info->bytes = (uint64_t)response.content_length;
    snprintf(info->etag, sizeof info->etag, "%.*s", (int)sizeof info->etag - 1,
             http_headers_get(&response.headers, "ETag"));
    return DCACHE_OK;
}

/* Read one piece of an object. `etag` is what it has to have, or "": then it becomes what it has. */
static dcache_status_t get_piece(const struct azure_store *store, struct diag *dg, const char *key,
                                 char etag[HTTP_HEADER_VALUE_MAX], uint64_t offset, void *buffer, size_t bytes,
                                 const atomic_bool *stop)
{
    struct http_sink sink = {.data = buffer, .room = bytes, .limit = bytes};
    struct http_response response;
    struct azure_call call = azure_call_make(store, "GET", "read", key);
    char range[64];
    call.sink = &sink;
    call.stop = stop;
    snprintf(range, sizeof range, "bytes=%" PRIu64 "-%" PRIu64, offset, offset + bytes - 1);
    azure_call_add_header(&call, "Range", range);
    if (etag[0] != '\0')
        azure_call_add_header(&call, "If-Match", etag);
    dcache_status_t status = azure_call_send(&call, dg, &response);
    if (status != DCACHE_OK)
        return status;
    if (azure_call_is_missing(&response))
        return DCACHE_NOT_FOUND;
    if (response.status == 412)
        return object_changed(dg, store->place.url, key);
    if (response.status == 416)
        return object_too_short(dg, store->place.url, key, offset + bytes);
    snprintf(range, sizeof range, "bytes %" PRIu64 "-", offset);
    if (response.status != 206 || !azure_call_is_answer(&response) ||
        strncmp(http_headers_get(&response.headers, "Content-Range"), range, strlen(range)) != 0)
        return azure_call_fail(&call, dg, &response);
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

/* What is still to be read of a range, in pieces. */
struct ranges {
    const struct azure_store *store;
    const char *key;
    char etag[HTTP_HEADER_VALUE_MAX];
    uint64_t offset;
    char *buffer;
    size_t bytes;
    size_t done;
};

static dcache_status_t get_range(void *context, const struct workers_turn *turn)
{
    const struct ranges *ranges = context;
    size_t at = ranges->done + turn->task * GET_PIECE_BYTES;
    size_t left = ranges->bytes - at;
    char etag[HTTP_HEADER_VALUE_MAX];
    memcpy(etag, ranges->etag, sizeof etag);
    return get_piece(ranges->store, turn->dg, ranges->key, etag, ranges->offset + at, ranges->buffer + at,
                     left < GET_PIECE_BYTES ? left : GET_PIECE_BYTES, turn->stop);
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
    struct ranges ranges = {.store = store, .key = key, .offset = offset, .buffer = buffer, .bytes = bytes};
    memcpy(ranges.etag, pinned, sizeof pinned);
    if (pinned[0] == '\0') { /* the first piece tells which object all the others have to be of */
        size_t piece = bytes < GET_PIECE_BYTES ? bytes : GET_PIECE_BYTES;
        dcache_status_t status = get_piece(store, dg, key, ranges.etag, offset, buffer, piece, NULL);
        if (status != DCACHE_OK)
            return status;
        ranges.done = piece;
    }
    size_t pieces = (bytes - ranges.done + GET_PIECE_BYTES - 1) / GET_PIECE_BYTES;
    return workers_run(dg, store->base.policy.connections, pieces, get_range, &ranges);
}

static dcache_status_t azure_remove(struct object_store *base, struct diag *dg, const char *key)
{
    return object_key_valid(key) ? azure_call_remove(azure_store_of(base), dg, key, "") : object_bad_key(dg, key);
}

static dcache_status_t azure_create(struct object_store *base, struct diag *dg)
{
    struct http_response response;
    struct azure_call call = azure_call_make(azure_store_of(base), "PUT", "make", NULL);
    azure_call_add_query(&call, "restype", "container");
    dcache_status_t status = azure_call_send(&call, dg, &response);
    if (status != DCACHE_OK)
        return status;
    bool there = response.status == 409 && strcmp(azure_call_error_code(&response), "ContainerAlreadyExists") == 0;
    return response.status == 201 || there ? DCACHE_OK : azure_call_fail(&call, dg, &response);
}

/* --- List ------------------------------------------------------------------------------------------------------ */

static dcache_status_t fetch_page(const struct azure_store *store, struct diag *dg, const char *prefix,
                                  const char *marker, struct azure_page *page)
{
    struct http_sink sink = {.limit = LIST_BYTES_MAX};
    struct http_response response;
    struct azure_call call = azure_call_make(store, "GET", "list", NULL);
    azure_call_add_query(&call, "comp", "list");
    if (marker[0] != '\0')
        azure_call_add_query(&call, "marker", marker);
    azure_call_add_query(&call, "maxresults", LIST_PAGE);
    if (prefix[0] != '\0')
        azure_call_add_query(&call, "prefix", prefix);
    azure_call_add_query(&call, "restype", "container");
    call.sink = &sink;
    dcache_status_t status = azure_call_send(&call, dg, &response);
    if (status == DCACHE_OK && response.status != 200)
        status = azure_call_fail(&call, dg, &response);
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
    azure_identity_close(store->identity);
    http_client_close(store->http);
    azure_blocks_close(&store->blocks);
    OPENSSL_cleanse(&store->key, sizeof store->key);
    OPENSSL_cleanse(store->sas, sizeof store->sas);
    free(store);
}

static struct object_traffic azure_traffic(struct object_store *base)
{
    struct azure_store *store = (struct azure_store *)base;
    const struct http_counts counts = http_client_counts(store->http);
    return (struct object_traffic){.requests = counts.requests,
                                   .retries = counts.retries,
                                   .throttled = counts.throttled,
                                   .hedged = atomic_load(&store->hedged),
                                   .sent = counts.sent,
                                   .cpu_ns = counts.cpu_ns};
}

static void azure_share(struct object_store *base, struct object_store *other)
{
    azure_blocks_share(&((struct azure_store *)base)->blocks, &((struct azure_store *)other)->blocks);
}

static const struct object_store_ops azure_ops = {
    .scheme = "azure",
    .by_request = true,
    .create = azure_create,
    .put = azure_put_object,
    .swap = azure_put_swap,
    .get = azure_get,
    .head = azure_head,
    .list = azure_list,
    .remove = azure_remove,
    .traffic = azure_traffic,
    .share = azure_share,
    .close = azure_close,
};

dcache_status_t object_azure_open(struct diag *dg, const struct object_azure_place *place,
                                  const struct object_credentials *credentials, const struct object_policy *policy,
                                  struct object_store **store)
{
    struct azure_store *made = calloc(1, sizeof *made);
    if (made == NULL)
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "no memory for an object store");
    made->base.ops = &azure_ops;
    made->base.policy = *policy;
    made->place = *place;
    made->auth = credentials->auth == OBJECT_AUTH_AUTO ? OBJECT_AUTH_KEY : credentials->auth;
    const char *host = strstr(made->place.endpoint, "://") + strlen("://");
    made->endpoint_path = host + strcspn(host, "/");
    made->origin_length = (size_t)(made->endpoint_path - made->place.endpoint);
    azure_blocks_open(&made->blocks);
    const char *missing = azure_method_missing(made->auth, strncmp(place->endpoint, "https://", 8) == 0, credentials);
    dcache_status_t status = DCACHE_OK;
    if (made->auth == OBJECT_AUTH_KEY && !azure_auth_decode_key(credentials->key, &made->key))
        status = diag_fail(dg, DCACHE_ERR_OPTION, "the key of the storage account %s is no account key in base64",
                           place->account);
    else if (missing != NULL)
        status = diag_fail(dg, DCACHE_ERR_OPTION, "store %s: %s", place->url, missing);
    else if (made->auth == OBJECT_AUTH_SAS)
        snprintf(made->sas, sizeof made->sas, "%s", credentials->sas);
    if (status == DCACHE_OK)
        status = http_client_open(dg, &made->http);
    if (status == DCACHE_OK && made->auth != OBJECT_AUTH_KEY && made->auth != OBJECT_AUTH_SAS)
        status = azure_identity_open(dg, made->http, credentials, policy, &made->identity);
    if (status != DCACHE_OK) {
        azure_close(&made->base);
        return status;
    }
    *store = &made->base;
    return DCACHE_OK;
}
