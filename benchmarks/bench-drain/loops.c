/* Bare libcurl: the shards' files, mapped, sent as blocks with nothing read, digested or tried again. What a drain is
 * compared with. */
#include "bench.h"
#include "io/azure_auth.h"
#include "io/workers.h"

#include <curl/curl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

struct block {
    const char *data;
    size_t bytes;
    size_t sent;
    uint32_t shard;
    uint32_t index;
    struct curl_slist *headers;
};

/* All blocks of all shards, in order. */
struct work {
    const struct bench_options *options;
    const struct bench_target *target;
    const char *prefix;
    struct azure_key key;
    struct slot *slots;
    void **maps;
    struct block *blocks;
    size_t count;
    CURL *handles[OBJECT_CONNECTIONS_MAX];
};

static size_t on_read(char *buffer, size_t size, size_t count, void *context)
{
    struct block *block = context;
    size_t left = block->bytes - block->sent;
    size_t bytes = size * count < left ? size * count : left;
    memcpy(buffer, block->data + block->sent, bytes);
    block->sent += bytes;
    return bytes;
}

static size_t on_write(char *data, size_t size, size_t count, void *context)
{
    (void)data;
    (void)context;
    return size * count;
}

/* Sign as the library does, or a real service would not take it. */
static bool add_headers(const struct work *work, struct block *block, const char *path, const char *id)
{
    struct http_headers headers = {.count = 0};
    const struct azure_query query[] = {{"blockid", id}, {"comp", "block"}};
    char date[64];
    char authorization[HTTP_HEADER_VALUE_MAX];
    time_t now = time(NULL);
    struct tm tm;
    struct diag dg;
    diag_init(&dg, "bench", -1, DIAG_ERROR);
    gmtime_r(&now, &tm);
    strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    struct azure_signed covered = {.method = "PUT",
                                   .account = work->target->credentials.account,
                                   .path = path,
                                   .query = query,
                                   .query_count = 2,
                                   .content_length = block->bytes,
                                   .headers = &headers};
    if (!http_headers_add(&headers, "x-ms-date", date) || !http_headers_add(&headers, "x-ms-version", "2021-12-02") ||
        azure_auth_sign(&dg, &work->key, &covered, authorization) != DCACHE_OK ||
        !http_headers_add(&headers, "Authorization", authorization))
        return false;
    block->headers = curl_slist_append(block->headers, "Expect:");
    for (size_t i = 0; i < headers.count; i++) {
        char line[HTTP_HEADER_NAME_MAX + HTTP_HEADER_VALUE_MAX + 4];
        snprintf(line, sizeof line, "%s: %s", headers.list[i].name, headers.list[i].value);
        block->headers = curl_slist_append(block->headers, line);
    }
    return block->headers != NULL;
}

static bool set_up(const struct work *work, CURL *curl, struct block *block)
{
    char plain[32];
    char id[64];
    char url[2 * OBJECT_URL_MAX];
    snprintf(plain, sizeof plain, "bench-%06u", block->index);
    EVP_EncodeBlock((unsigned char *)id, (const unsigned char *)plain, (int)strlen(plain));
    int length = snprintf(url, sizeof url, "%s/%s-%u", work->target->url, work->prefix, block->shard);
    const char *path = strchr(strstr(work->target->url, "://") + 3, '/');
    char signed_path[OBJECT_URL_MAX + 64];
    snprintf(signed_path, sizeof signed_path, "%s/%s-%u", path, work->prefix, block->shard);
    snprintf(url + length, sizeof url - (size_t)length, "?blockid=%s&comp=block", id);
    block->sent = 0;
    curl_easy_reset(curl);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    if (work->target->certificate[0] != '\0')
        curl_easy_setopt(curl, CURLOPT_CAINFO, work->target->certificate);
    curl_easy_setopt(curl, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(curl, CURLOPT_UPLOAD_BUFFERSIZE, 2L << 20);
    curl_easy_setopt(curl, CURLOPT_INFILESIZE_LARGE, (curl_off_t)block->bytes);
    curl_easy_setopt(curl, CURLOPT_READFUNCTION, on_read);
    curl_easy_setopt(curl, CURLOPT_READDATA, block);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_write);
    curl_easy_setopt(curl, CURLOPT_PRIVATE, block);
    if (!add_headers(work, block, signed_path, id))
        return false;
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, block->headers);
    return true;
}

static bool finish(CURL *curl, CURLcode code, struct block *block)
{
    long status = 0;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_slist_free_all(block->headers);
    block->headers = NULL;
    if (code != CURLE_OK || status != 201)
        fprintf(stderr, "bench-drain: the bare loop's block was answered %ld (%s)\n", status, curl_easy_strerror(code));
    return code == CURLE_OK && status == 201;
}

static bool map_shards(struct diag *dg, struct work *work, const struct bench_shards *shards)
{
    const struct bench_options *options = work->options;
    size_t room = 0;
    for (uint32_t i = 0; i < options->shards; i++) {
        struct stat info;
        if (slot_open_read(dg, &shards->store, SLOT_OWN, i, 0, &work->slots[i]) != DCACHE_OK ||
            fstat(work->slots[i].fd, &info) != 0)
            return false;
        size_t bytes = (size_t)info.st_size;
        void *map = mmap(NULL, bytes, PROT_READ, MAP_SHARED | MAP_POPULATE, work->slots[i].fd, 0);
        if (map == MAP_FAILED)
            return false;
        work->maps[i] = map;
        room += bytes / options->block_bytes + 1;
        struct block *grown = realloc(work->blocks, room * sizeof *grown);
        if (grown == NULL)
            return false;
        work->blocks = grown;
        for (size_t at = 0, index = 0; at < bytes; at += options->block_bytes, index++) {
            size_t left = bytes - at;
            grown[work->count++] = (struct block){.data = (char *)map + at,
                                                  .bytes = left < options->block_bytes ? left : options->block_bytes,
                                                  .shard = i,
                                                  .index = (uint32_t)index};
        }
    }
    return true;
}

static void end_work(struct work *work)
{
    for (uint32_t i = 0; work->slots != NULL && work->maps != NULL && i < work->options->shards; i++) {
        struct stat info;
        if (work->maps[i] != NULL && fstat(work->slots[i].fd, &info) == 0)
            munmap(work->maps[i], (size_t)info.st_size);
        slot_close(&work->slots[i]);
    }
    for (unsigned i = 0; i < OBJECT_CONNECTIONS_MAX; i++)
        curl_easy_cleanup(work->handles[i]);
    free(work->slots);
    free(work->maps);
    free(work->blocks);
}

static dcache_status_t begin_work(struct diag *dg, struct work *work, const struct bench_shards *shards)
{
    uint32_t count = work->options->shards;
    work->slots = calloc(count, sizeof *work->slots);
    work->maps = calloc(count, sizeof *work->maps);
    for (uint32_t i = 0; work->slots != NULL && i < count; i++)
        work->slots[i].fd = -1;
    bool good = work->slots != NULL && work->maps != NULL && map_shards(dg, work, shards) &&
                azure_auth_decode_key(work->target->credentials.key, &work->key);
    for (unsigned i = 0; good && i < work->options->connections; i++)
        good = (work->handles[i] = curl_easy_init()) != NULL;
    return good ? DCACHE_OK : diag_fail(dg, DCACHE_ERR_NO_MEMORY, "cannot set the bare loop up");
}

/* --- One loop over the multi interface --- */

static bool run_multi(struct work *work, CURLM *multi)
{
    size_t next = 0;
    size_t done = 0;
    bool good = true;
    for (unsigned i = 0; good && i < work->options->connections && next < work->count; i++) {
        good = set_up(work, work->handles[i], &work->blocks[next++]);
        curl_multi_add_handle(multi, work->handles[i]);
    }
    while (good && done < work->count) {
        int running = 0;
        int left = 0;
        CURLMsg *message;
        good = curl_multi_perform(multi, &running) == CURLM_OK;
        while (good && (message = curl_multi_info_read(multi, &left)) != NULL) {
            CURL *curl = message->easy_handle;
            CURLcode code = message->data.result;
            struct block *block = NULL;
            curl_easy_getinfo(curl, CURLINFO_PRIVATE, (char **)&block);
            good = finish(curl, code, block);
            curl_multi_remove_handle(multi, curl);
            done++;
            if (good && next < work->count) {
                good = set_up(work, curl, &work->blocks[next++]);
                curl_multi_add_handle(multi, curl);
            }
        }
        if (good && done < work->count)
            curl_multi_poll(multi, NULL, 0, 100, NULL);
    }
    for (unsigned i = 0; i < work->options->connections; i++)
        curl_multi_remove_handle(multi, work->handles[i]);
    return good;
}

dcache_status_t loop_multi(struct diag *dg, const struct bench_options *options, const struct bench_target *target,
                           const struct bench_shards *shards, const char *prefix)
{
    struct work work = {.options = options, .target = target, .prefix = prefix};
    CURLM *multi = curl_multi_init();
    dcache_status_t status = begin_work(dg, &work, shards);
    if (status == DCACHE_OK && (multi == NULL || !run_multi(&work, multi)))
        status = diag_fail(dg, DCACHE_ERR_STORE, "the bare multi loop failed");
    end_work(&work);
    curl_multi_cleanup(multi);
    return status;
}

/* --- A thread for each connection --- */

static dcache_status_t send_one(void *context, const struct workers_turn *turn)
{
    struct work *work = context;
    CURL *curl = work->handles[turn->worker];
    struct block *block = &work->blocks[turn->task];
    if (set_up(work, curl, block) && finish(curl, curl_easy_perform(curl), block))
        return DCACHE_OK;
    return diag_fail(turn->dg, DCACHE_ERR_STORE, "the bare loop with threads failed");
}

dcache_status_t loop_threads(struct diag *dg, const struct bench_options *options, const struct bench_target *target,
                             const struct bench_shards *shards, const char *prefix)
{
    struct work work = {.options = options, .target = target, .prefix = prefix};
    dcache_status_t status = begin_work(dg, &work, shards);
    if (status == DCACHE_OK)
        status = workers_run(dg, options->connections, work.count, send_one, &work);
    end_work(&work);
    return status;
}
