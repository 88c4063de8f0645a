#include "io/azure_put.h"

#include "io/crc64.h"
#include "io/object_pieces.h"
#include "io/stragglers.h"
#include "io/workers.h"

#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCKS_MAX        50000u
#define BLOCK_BYTES_MAX   (4000ull << 20)
#define BLOCK_GRAIN_BYTES (1ull << 20)
#define PUT_ROUNDS        3
#define BLOCK_ID_BYTES    30 /* 24 characters of the identity and 6 digits: a multiple of 3, so base64 has no '=' */
#define BLOCK_ID_CHARS    40

/* One put, from its first block to its commit. */
struct put {
    struct azure_store *store;
    const char *key;
    const struct object_source *source;
    enum object_condition condition;
    const atomic_bool *cancel;
    struct azure_blocks_user user;
    bool in_pieces; /* blocks are not read into memory, but sent piece by piece */
    uint64_t head;  /* bytes that the first block has more than others */
    size_t block_bytes;
    uint32_t block_count; /* where the source does not know its size: the most there can be, until its end was met */
    char identity[AZURE_IDENTITY_CHARS + 1]; /* of this round */
    pthread_mutex_t reading;                 /* of the source and of `next` */
    uint32_t next;                           /* block to be read */
    uint64_t throttled;                      /* answers of a busy service when the put began */
    struct stragglers stragglers;            /* blocks that are under way */
};

/* One block under way. */
struct block {
    struct azure_block right; /* to send it, and memory for it unless it is sent in pieces */
    size_t bytes;
    uint64_t offset;
    uint32_t index;
    uint64_t crc;
    const atomic_bool *stop; /* or NULL */
};

/* How a commit ended that did not simply succeed or fail. */
enum outcome { OUTCOME_OURS, OUTCOME_THEIRS, OUTCOME_NEITHER };

/* Whose object is there? Asked when a commit was refused: it may be a repetition of one whose answer was lost. */
static dcache_status_t ask_whose(const struct put *put, struct diag *dg, enum outcome *outcome)
{
    struct http_response response;
    dcache_status_t status = azure_call_head(put->store, dg, put->key, put->cancel, &response);
    if (status != DCACHE_OK && status != DCACHE_NOT_FOUND)
        return status;
    if (status == DCACHE_NOT_FOUND)
        *outcome = OUTCOME_NEITHER;
    else if (strcmp(http_headers_get(&response.headers, AZURE_IDENTITY_HEADER), put->identity) == 0 &&
             (uint64_t)response.content_length == object_source_bytes(put->source))
        *outcome = OUTCOME_OURS;
    else
        *outcome = OUTCOME_THEIRS;
    return DCACHE_OK;
}

static void add_commit_headers(const struct put *put, struct azure_call *call)
{
    azure_call_add_header(call, AZURE_IDENTITY_HEADER, put->identity);
    if (put->condition == OBJECT_IF_ABSENT)
        azure_call_add_header(call, "If-None-Match", "*");
}

/* Judge the answer to Put Blob or Put Block List. `once_more`: the blocks are gone, or the object of another writer
 * that was in the way is; the round has to be made again. */
static dcache_status_t settle(const struct put *put, struct diag *dg, const struct azure_call *call,
                              const struct http_response *response, bool *once_more)
{
    *once_more = false;
    if (response->status == 201)
        return azure_call_check_stored(call, dg, response);
    if (azure_call_is_digest_error(response))
        return azure_call_body_matches(call) ? azure_call_fail(call, dg, response) : object_bad_source(dg, put->key, 0);
    bool taken = put->condition == OBJECT_IF_ABSENT && azure_call_is_taken(response);
    /* Another writer's commit drops the blocks of all others; so does our own, if only its answer was lost. */
    bool blocks_gone = response->status == 400 && strcmp(azure_call_error_code(response), "InvalidBlockList") == 0;
    if (!taken && !blocks_gone)
        return azure_call_fail(call, dg, response);
    enum outcome outcome = OUTCOME_NEITHER;
    dcache_status_t status = ask_whose(put, dg, &outcome);
    if (status != DCACHE_OK || outcome == OUTCOME_OURS)
        return status;
    if (outcome == OUTCOME_THEIRS && put->condition == OBJECT_IF_ABSENT)
        return object_exists(dg, put->store->place.url, put->key);
    *once_more = true;
    return azure_call_fail(call, dg, response);
}

static bool is_cancelled(const struct put *put, const struct block *block)
{
    return (put->cancel != NULL && atomic_load(put->cancel)) || (block->stop != NULL && atomic_load(block->stop));
}

static uint64_t block_offset(const struct put *put, uint32_t index)
{
    return index == 0 ? 0 : put->head + (uint64_t)index * put->block_bytes;
}

/* How many blocks so many bytes are. */
static uint32_t blocks_of(const struct put *put, uint64_t bytes)
{
    const uint64_t behind = bytes > put->head ? bytes - put->head : 1;
    return (uint32_t)((behind + put->block_bytes - 1) / put->block_bytes);
}

/* Read the next block, or have it announced when it is read while it is sent. The source is asked by one thread at a
 * time, and in ascending order: so it can read ahead. */
static dcache_status_t read_block(struct put *put, struct diag *dg, struct block *block)
{
    const struct object_source *source = put->source;
    dcache_status_t status = DCACHE_OK;
    pthread_mutex_lock(&put->reading);
    block->index = put->next++;
    block->offset = block_offset(put, block->index);
    const uint64_t next = block_offset(put, block->index + 1);
    uint64_t end = block->index == 0 ? source->bytes : object_source_bytes(source);
    end = end < next ? end : next;
    block->bytes = end > block->offset ? (size_t)(end - block->offset) : 0;
    if (is_cancelled(put, block))
        status = diag_fail(dg, DCACHE_ERR_CANCELLED, "cancelled");
    else if (block->bytes > 0 && put->in_pieces)
        status = source->announce(source->context, dg, block->offset, block->bytes, &block->crc);
    else if (block->bytes > 0)
        status = object_source_read(source, dg, block->offset, block->right.memory, &block->bytes, &block->crc);
    pthread_mutex_unlock(&put->reading);
    return status;
}

static dcache_status_t take_right(struct put *put, struct diag *dg, struct block *block)
{
    return azure_blocks_take(&put->store->blocks, dg, &put->user, block->stop, &block->right);
}

static void give_right_back(const struct put *put, struct block *block)
{
    azure_blocks_give_back(&put->store->blocks, &put->user, &block->right);
}

/* The body of one request, while it is sent. */
struct body {
    bool whole; /* it is all of the object */
    struct object_pieces pieces;
};

static dcache_status_t at_failpoint(struct diag *dg, bool whole, void *data, size_t *bytes)
{
    return whole ? diag_failpoint_data(dg, "object_azure_whole", data, bytes)
                 : diag_failpoint_data(dg, "object_azure_block", data, bytes);
}

static dcache_status_t read_pieces(void *context, struct diag *dg, uint64_t offset, void *buffer, size_t *bytes)
{
    struct body *body = context;
    dcache_status_t status = object_pieces_read(&body->pieces, dg, offset, buffer, bytes);
    if (status == DCACHE_OK && offset == 0)
        status = at_failpoint(dg, body->whole, buffer, bytes);
    return status;
}

/* Send a call with the block as its body. `body` has no pieces yet, and is the caller's only because the call points to
 * it. */
static dcache_status_t send_with_body(const struct put *put, struct diag *dg, const struct block *block,
                                      struct azure_call *call, struct body *body, struct http_response *response)
{
    call->body = block->right.memory;
    call->body_bytes = block->bytes;
    call->has_crc = true;
    call->crc = block->crc;
    call->cancel = put->cancel;
    if (put->in_pieces) {
        body->pieces = (struct object_pieces){.source = put->source, .offset = block->offset, .bytes = block->bytes};
        call->read = read_pieces;
        call->read_context = body;
    }
    dcache_status_t status = azure_call_send(call, dg, response);
    object_pieces_close(&body->pieces);
    return status;
}

static dcache_status_t send_whole(struct put *put, struct diag *dg, struct block *block, bool *once_more)
{
    struct http_response response;
    struct azure_call call = azure_call_make(put->store, "PUT", "store", put->key);
    struct body body = {.whole = true};
    dcache_status_t status = read_block(put, dg, block);
    if (status == DCACHE_OK && !put->in_pieces)
        status = at_failpoint(dg, true, block->right.memory, &block->bytes);
    if (status != DCACHE_OK)
        return status;
    azure_call_add_header(&call, "x-ms-blob-type", "BlockBlob");
    add_commit_headers(put, &call);
    status = send_with_body(put, dg, block, &call, &body, &response);
    if (status != DCACHE_OK)
        return status;
    status = settle(put, dg, &call, &response, once_more);
    const char *etag = http_headers_get(&response.headers, "ETag");
    if (status != DCACHE_OK && response.status == 201 && etag[0] != '\0') { /* it is there, and wrong */
        struct diag quiet = *dg;
        dcache_status_t removed = azure_call_remove(put->store, &quiet, put->key, etag);
        if (removed != DCACHE_OK)
            diag_log(dg, DIAG_WARNING, "a damaged object was left behind: %s", quiet.text);
    }
    return status;
}

static dcache_status_t put_whole(struct put *put, struct diag *dg, bool *once_more)
{
    struct block block = {.index = 0};
    put->next = 0;
    dcache_status_t status = take_right(put, dg, &block);
    if (status == DCACHE_OK)
        status = send_whole(put, dg, &block, once_more);
    give_right_back(put, &block);
    return status;
}

static void make_block_id(const struct put *put, uint32_t index, char id[BLOCK_ID_CHARS + 1])
{
    char plain[BLOCK_ID_BYTES + 1];
    snprintf(plain, sizeof plain, "%.24s%06u", put->identity, index % 1000000u);
    EVP_EncodeBlock((unsigned char *)id, (const unsigned char *)plain, BLOCK_ID_BYTES);
}

/* Send a block that was read. `over` becomes true when it need not be sent any more. */
static dcache_status_t send_block(const struct put *put, struct diag *dg, const struct block *block,
                                  const atomic_bool *over)
{
    char id[BLOCK_ID_CHARS + 1];
    struct http_response response;
    struct azure_call call = azure_call_make(put->store, "PUT", "store a block of", put->key);
    struct body body = {.whole = false};
    make_block_id(put, block->index, id);
    azure_call_add_query(&call, "blockid", id);
    azure_call_add_query(&call, "comp", "block");
    call.stop = over;
    dcache_status_t status = send_with_body(put, dg, block, &call, &body, &response);
    if (status != DCACHE_OK)
        return status;
    if (response.status == 201)
        return azure_call_check_stored(&call, dg, &response);
    if (azure_call_is_digest_error(&response) && !azure_call_body_matches(&call))
        return object_bad_source(dg, put->key, block->offset);
    return azure_call_fail(&call, dg, &response);
}

static dcache_status_t send_watched(struct put *put, struct diag *dg, unsigned worker, const struct block *block)
{
    struct straggler *flight = stragglers_begin(&put->stragglers, worker, block);
    dcache_status_t status = send_block(put, dg, block, &flight->over);
    return stragglers_end(&put->stragglers, flight, status == DCACHE_OK) ? DCACHE_OK : status;
}

/* One block, on one of the threads: which one of them is decided when the source is free. */
static dcache_status_t put_block(struct put *put, const struct workers_turn *turn)
{
    struct block block = {.stop = turn->stop};
    dcache_status_t status = take_right(put, turn->dg, &block);
    if (status == DCACHE_OK)
        status = read_block(put, turn->dg, &block);
    const bool ended = block.bytes == 0; /* the source has no such block */
    if (status == DCACHE_OK && !ended && !put->in_pieces)
        status = at_failpoint(turn->dg, false, block.right.memory, &block.bytes);
    if (status == DCACHE_OK && !ended)
        status = send_watched(put, turn->dg, turn->worker, &block);
    give_right_back(put, &block);
    if (status == DCACHE_OK)
        stragglers_count(&put->stragglers);
    else
        stragglers_abandon(&put->stragglers);
    return status;
}

/* No block is left to begin: send those again that take much longer than the others, on this thread's connection. The
 * same block under the same id cannot do harm, and the first answer counts. A busy service is not asked for more. */
static dcache_status_t help_stragglers(struct put *put, const struct workers_turn *turn)
{
    struct straggler *flight;
    while ((flight = stragglers_take(&put->stragglers, put->cancel)) != NULL) {
        struct diag quiet = *turn->dg;
        bool busy = http_client_counts(put->store->http).throttled != put->throttled;
        if (!busy)
            atomic_fetch_add(&put->store->hedged, 1);
        dcache_status_t status = busy ? DCACHE_ERR_STORE : send_block(put, &quiet, flight->what, &flight->over);
        stragglers_helped(&put->stragglers, flight, status == DCACHE_OK);
    }
    return DCACHE_OK;
}

static dcache_status_t put_or_help(void *context, const struct workers_turn *turn)
{
    struct put *put = context;
    return turn->task < put->block_count ? put_block(put, turn) : help_stragglers(put, turn);
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

static dcache_status_t commit_blocks(const struct put *put, struct diag *dg, bool *once_more)
{
    struct http_response response;
    struct azure_call call = azure_call_make(put->store, "PUT", "commit", put->key);
    char *list = make_block_list(put, &call.body_bytes);
    if (list == NULL)
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "no memory for the list of %u blocks", put->block_count);
    call.body = list;
    call.has_crc = true;
    call.crc = crc64_update(0, list, call.body_bytes);
    call.cancel = put->cancel;
    azure_call_add_query(&call, "comp", "blocklist");
    add_commit_headers(put, &call);
    dcache_status_t status = azure_call_send(&call, dg, &response);
    if (status == DCACHE_OK)
        status = settle(put, dg, &call, &response, once_more);
    free(list);
    return status;
}

static dcache_status_t put_blocks(struct put *put, struct diag *dg, bool *once_more)
{
    const unsigned connections = put->store->base.policy.connections;
    put->block_count = blocks_of(put, put->source->bytes);
    const unsigned threads = connections < put->block_count ? connections : put->block_count;
    put->next = 0;
    put->throttled = http_client_counts(put->store->http).throttled;
    stragglers_open(&put->stragglers, put->block_count);
    dcache_status_t status = workers_run(dg, threads, (size_t)put->block_count + threads - 1, put_or_help, put);
    stragglers_close(&put->stragglers);
    put->block_count = blocks_of(put, object_source_bytes(put->source));
    if (status == DCACHE_OK)
        status = diag_failpoint(dg, "object_azure_commit");
    return status == DCACHE_OK ? commit_blocks(put, dg, once_more) : status;
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
        azure_call_random(put->identity);
        status =
            blocks_of(put, put->source->bytes) <= 1 ? put_whole(put, dg, &once_more) : put_blocks(put, dg, &once_more);
    }
    return status;
}

/* Cut the object into blocks. In pieces, unless the blocks that are wanted are smaller than one. */
static void cut(struct put *put)
{
    const struct object_source *source = put->source;
    const uint64_t block = block_bytes_for(put->store->base.policy.block_bytes, source->bytes);
    put->block_bytes = (size_t)block;
    put->head = 0;
    put->in_pieces = source->grain > 0 && source->size == NULL && block >= source->grain &&
                     block + source->grain + source->head <= BLOCK_BYTES_MAX;
    if (put->in_pieces) {
        put->head = source->head;
        put->block_bytes = (size_t)((block + source->grain - 1) / source->grain * source->grain);
    }
    put->block_count = blocks_of(put, source->bytes);
}

dcache_status_t azure_put_object(struct object_store *base, struct diag *dg, const char *key,
                                 const struct object_source *source, enum object_condition condition,
                                 const atomic_bool *cancel)
{
    struct azure_store *store = (struct azure_store *)base;
    if (!object_key_valid(key))
        return object_bad_key(dg, key);
    if (source->bytes / BLOCKS_MAX >= BLOCK_BYTES_MAX)
        return diag_fail(dg, DCACHE_ERR_INVALID, "object %s of %" PRIu64 " bytes is larger than a blob can be", key,
                         source->bytes);
    struct put put = {.store = store, .key = key, .source = source, .condition = condition, .cancel = cancel};
    cut(&put);
    if (put.block_count > 1 && condition == OBJECT_IF_ABSENT) { /* saves sending it in vain; the commit decides */
        struct http_response response;
        dcache_status_t status = azure_call_head(store, dg, key, cancel, &response);
        if (status != DCACHE_NOT_FOUND)
            return status == DCACHE_OK ? object_exists(dg, store->place.url, key) : status;
    }
    pthread_mutex_init(&put.reading, NULL);
    azure_blocks_begin(&store->blocks, &put.user, put.in_pieces ? 0 : put.block_bytes, base->policy.connections,
                       cancel);
    dcache_status_t status = put_rounds(&put, dg);
    azure_blocks_end(&store->blocks, &put.user);
    pthread_mutex_destroy(&put.reading);
    return status;
}

/* --- Swap -------------------------------------------------------------------------------------------------------*/

dcache_status_t azure_put_swap(struct object_store *base, struct diag *dg, const char *key, const char *etag,
                               const void *data, size_t bytes, const atomic_bool *cancel)
{
    const struct azure_store *store = (const struct azure_store *)base;
    struct http_response response;
    char identity[AZURE_IDENTITY_CHARS + 1];
    if (!object_key_valid(key))
        return object_bad_key(dg, key);
    struct azure_call call = azure_call_make(store, "PUT", "swap", key);
    azure_call_random(identity);
    call.body = data;
    call.body_bytes = bytes;
    call.has_crc = true;
    call.crc = crc64_update(0, data, bytes);
    call.cancel = cancel;
    azure_call_add_header(&call, "x-ms-blob-type", "BlockBlob");
    azure_call_add_header(&call, AZURE_IDENTITY_HEADER, identity);
    azure_call_add_header(&call, etag[0] != '\0' ? "If-Match" : "If-None-Match", etag[0] != '\0' ? etag : "*");
    dcache_status_t status = azure_call_send(&call, dg, &response);
    if (status != DCACHE_OK)
        return status;
    if (response.status == 201)
        return azure_call_check_stored(&call, dg, &response);
    if (!azure_call_is_taken(&response) && !azure_call_is_missing(&response))
        return azure_call_fail(&call, dg, &response);
    status = azure_call_head(store, dg, key, cancel, &response); /* it may be ours, and only the answer was lost */
    if (status != DCACHE_OK && status != DCACHE_NOT_FOUND)
        return status;
    bool ours =
        status == DCACHE_OK && strcmp(http_headers_get(&response.headers, AZURE_IDENTITY_HEADER), identity) == 0;
    return ours ? DCACHE_OK : object_lost_swap(dg, store->place.url, key);
}
