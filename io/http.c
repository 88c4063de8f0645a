#include "io/http.h"

#include <curl/curl.h>
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <time.h>

#define IDLE_HANDLES_MAX    64
#define BACKOFF_FIRST_S     0.25
#define BACKOFF_LONGEST_S   15.0
#define CANCEL_POLL_S       0.05
#define UPLOAD_BUFFER_BYTES (2L << 20)
#define DOWNLOAD_BUFFER     (512L << 10)
/* What is read of the body of an answer that nobody wants, before the connection is given up. */
#define UNWANTED_BYTES_MAX (64u << 10)
#define SINK_FIRST_BYTES   (64u << 10)

struct http_client {
    pthread_mutex_t lock;
    size_t idle_count;
    char ca_bundle[1024];         /* "" = the system's */
    CURL *idle[IDLE_HANDLES_MAX]; /* each keeps the connections it used alive */
    struct http_counts counts;    /* guarded by `lock` */
};

/* One attempt, as the callbacks of libcurl see it. */
struct attempt {
    const struct http_request *request;
    struct http_response *response;
    CURL *curl;
    struct diag *dg;
    size_t body_sent;
    dcache_status_t source; /* what request->read came to */
    size_t unwanted_bytes;
    curl_off_t moved_bytes; /* up and down, when it was last looked at */
    double moved_at;
    bool stalled;
    bool too_long;
    bool no_memory;
    char error[CURL_ERROR_SIZE];
};

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static uint64_t thread_cpu_ns(void)
{
    struct timespec used = {0};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    return (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec;
}

static bool is_cancelled(const struct http_request *request)
{
    return (request->cancel != NULL && atomic_load(request->cancel)) ||
           (request->stop != NULL && atomic_load(request->stop));
}

/* --- Headers --------------------------------------------------------------------------------------------------- */

bool http_headers_add(struct http_headers *headers, const char *name, const char *value)
{
    if (headers->count == HTTP_HEADERS_MAX || strlen(name) >= HTTP_HEADER_NAME_MAX ||
        strlen(value) >= HTTP_HEADER_VALUE_MAX)
        return false;
    struct http_header *header = &headers->list[headers->count++];
    memcpy(header->name, name, strlen(name) + 1);
    memcpy(header->value, value, strlen(value) + 1);
    return true;
}

const char *http_headers_get(const struct http_headers *headers, const char *name)
{
    for (size_t i = 0; i < headers->count; i++) {
        if (strcasecmp(headers->list[i].name, name) == 0)
            return headers->list[i].value;
    }
    return "";
}

bool http_escape_append(char *url, size_t size, const char *text)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~";
    size_t length = strlen(url);
    for (; *text != '\0'; text++) {
        bool is_plain = strchr(plain, *text) != NULL;
        size_t needed = is_plain ? 1 : 3;
        if (length + needed >= size)
            return false;
        snprintf(url + length, size - length, is_plain ? "%c" : "%%%02X", (unsigned char)*text);
        length += needed;
    }
    return true;
}

/* Keep a header of the answer: printable characters only, since it may be shown. Longer ones are not for us. */
static void keep_header(struct http_headers *headers, const char *name, const char *value, size_t length)
{
    if (length >= HTTP_HEADER_VALUE_MAX || headers->count == HTTP_HEADERS_MAX)
        return;
    struct http_header *header = &headers->list[headers->count++];
    snprintf(header->name, sizeof header->name, "%s", name);
    for (size_t i = 0; i < length; i++)
        header->value[i] = value[i] >= ' ' && value[i] <= '~' ? value[i] : '?';
    header->value[length] = '\0';
}

static size_t on_header(char *line, size_t size, size_t count, void *context)
{
    struct attempt *attempt = context;
    size_t bytes = size * count;
    if (bytes >= 5 && memcmp(line, "HTTP/", 5) == 0) /* a new answer, after an interim one */
        attempt->response->headers.count = 0;
    const char *colon = memchr(line, ':', bytes);
    if (colon == NULL || attempt->request->wanted == NULL)
        return bytes;
    size_t name_length = (size_t)(colon - line);
    const char *value = colon + 1;
    const char *end = line + bytes;
    while (value < end && (*value == ' ' || *value == '\t'))
        value++;
    while (end > value && (end[-1] == '\r' || end[-1] == '\n' || end[-1] == ' '))
        end--;
    for (const char *const *name = attempt->request->wanted; *name != NULL; name++) {
        if (strlen(*name) == name_length && strncasecmp(*name, line, name_length) == 0)
            keep_header(&attempt->response->headers, *name, value, (size_t)(end - value));
    }
    return bytes;
}

/* --- Bodies ---------------------------------------------------------------------------------------------------- */

static size_t on_read(char *buffer, size_t size, size_t count, void *context)
{
    struct attempt *attempt = context;
    size_t left = attempt->request->body_bytes - attempt->body_sent;
    size_t bytes = size * count < left ? size * count : left;
    if (bytes > 0 && attempt->request->read != NULL)
        attempt->source =
            attempt->request->read(attempt->request->context, attempt->dg, attempt->body_sent, buffer, &bytes);
    else if (bytes > 0)
        memcpy(buffer, (const char *)attempt->request->body + attempt->body_sent, bytes);
    if (attempt->source != DCACHE_OK)
        return CURL_READFUNC_ABORT;
    attempt->body_sent += bytes;
    return bytes;
}

/* A kept connection that turns out to be dead makes libcurl start the body again on a new one. */
static int on_seek(void *context, curl_off_t offset, int origin)
{
    struct attempt *attempt = context;
    if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > attempt->request->body_bytes)
        return CURL_SEEKFUNC_FAIL;
    attempt->body_sent = (size_t)offset;
    return CURL_SEEKFUNC_OK;
}

/* Make room for `bytes` more, of which is known that they keep the limit; false when there is no memory. */
static bool grow_sink(struct http_sink *sink, size_t bytes)
{
    size_t needed = sink->bytes + bytes;
    if (needed <= sink->room)
        return true;
    size_t room = sink->room > SINK_FIRST_BYTES ? sink->room : SINK_FIRST_BYTES;
    while (room < needed)
        room *= 2;
    if (room > sink->limit)
        room = sink->limit;
    char *grown = realloc(sink->data, room);
    if (grown == NULL)
        return false;
    sink->data = grown;
    sink->room = room;
    return true;
}

static size_t on_write(char *data, size_t size, size_t count, void *context)
{
    struct attempt *attempt = context;
    struct http_sink *sink = attempt->request->sink;
    size_t bytes = size * count;
    long status = 0;
    curl_easy_getinfo(attempt->curl, CURLINFO_RESPONSE_CODE, &status);
    if (sink == NULL || status < 200 || status > 299) {
        attempt->unwanted_bytes += bytes;
        return attempt->unwanted_bytes > UNWANTED_BYTES_MAX ? 0 : bytes;
    }
    if (bytes > sink->limit - sink->bytes) {
        attempt->too_long = true;
        return 0;
    }
    if (!grow_sink(sink, bytes)) {
        attempt->no_memory = true;
        return 0;
    }
    memcpy(sink->data + sink->bytes, data, bytes);
    sink->bytes += bytes;
    return bytes;
}

/* Called whenever something moved, and about once a second when nothing does. */
static int on_progress(void *context, curl_off_t down_total, curl_off_t down, curl_off_t up_total, curl_off_t up)
{
    (void)down_total;
    (void)up_total;
    struct attempt *attempt = context;
    double now = now_s();
    if (down + up != attempt->moved_bytes) {
        attempt->moved_bytes = down + up;
        attempt->moved_at = now;
    }
    attempt->stalled = now - attempt->moved_at > attempt->request->stall_s;
    return attempt->stalled || is_cancelled(attempt->request);
}

/* --- One attempt ------------------------------------------------------------------------------------------------- */

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;

/* Before libcurl 7.84 the first curl_global_init() is not thread-safe, and drain threads of several handles may come
 * here at once: hence pthread_once. libcurl counts the calls, so an application's own use of it is not disturbed, and
 * there is no curl_global_cleanup(), which nobody could place safely. A failure shows in curl_easy_init(). */
static void initialise_curl(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

dcache_status_t http_client_open(struct diag *dg, struct http_client **client)
{
    if (pthread_once(&curl_once, initialise_curl) != 0)
        return diag_fail(dg, DCACHE_ERR_STORE, "libcurl cannot be initialised");
    struct http_client *made = calloc(1, sizeof *made);
    if (made == NULL)
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "no memory for an HTTP client");
    const char *bundle = getenv("CURL_CA_BUNDLE");
    if (bundle == NULL || *bundle == '\0')
        bundle = getenv("SSL_CERT_FILE");
    if (bundle != NULL && strlen(bundle) >= sizeof made->ca_bundle) {
        free(made);
        return diag_fail(dg, DCACHE_ERR_OPTION, "the name in CURL_CA_BUNDLE or SSL_CERT_FILE is too long");
    }
    snprintf(made->ca_bundle, sizeof made->ca_bundle, "%s", bundle != NULL ? bundle : "");
    pthread_mutex_init(&made->lock, NULL);
    *client = made;
    return DCACHE_OK;
}

void http_client_close(struct http_client *client)
{
    if (client == NULL)
        return;
    for (size_t i = 0; i < client->idle_count; i++)
        curl_easy_cleanup(client->idle[i]);
    pthread_mutex_destroy(&client->lock);
    free(client);
}

/* A handle for one attempt: one that is idle, whose connection may still be alive, or a new one. NULL: no memory. */
static CURL *take_handle(struct http_client *client)
{
    CURL *curl = NULL;
    pthread_mutex_lock(&client->lock);
    if (client->idle_count > 0)
        curl = client->idle[--client->idle_count];
    pthread_mutex_unlock(&client->lock);
    return curl != NULL ? curl : curl_easy_init();
}

static void give_handle_back(struct http_client *client, CURL *curl)
{
    curl_easy_reset(curl); /* keeps the connections */
    pthread_mutex_lock(&client->lock);
    if (client->idle_count < IDLE_HANDLES_MAX) {
        client->idle[client->idle_count++] = curl;
        curl = NULL;
    }
    pthread_mutex_unlock(&client->lock);
    if (curl != NULL)
        curl_easy_cleanup(curl);
}

/* An attempt has ended, as `response` says. */
static void count_attempt(struct http_client *client, const struct http_response *response, CURL *curl, uint64_t cpu_ns)
{
    curl_off_t sent = 0;
    curl_easy_getinfo(curl, CURLINFO_SIZE_UPLOAD_T, &sent);
    pthread_mutex_lock(&client->lock);
    client->counts.requests++;
    client->counts.retries += response->attempts > 1;
    client->counts.throttled += response->status == 429 || response->status == 503;
    client->counts.sent += sent > 0 ? (uint64_t)sent : 0;
    client->counts.cpu_ns += cpu_ns;
    pthread_mutex_unlock(&client->lock);
}

struct http_counts http_client_counts(struct http_client *client)
{
    pthread_mutex_lock(&client->lock);
    struct http_counts counts = client->counts;
    pthread_mutex_unlock(&client->lock);
    return counts;
}

/* A store on this machine is never behind the proxy that the environment may name, nor is a virtual machine's metadata
 * service at its link-local address. */
static bool is_loopback(const char *url)
{
    static const char *const hosts[] = {"://127.", "://localhost:", "://localhost/", "://[::1]", "://169.254."};
    for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++) {
        if (strstr(url, hosts[i]) != NULL)
            return true;
    }
    return false;
}

static long milliseconds(double seconds)
{
    return (long)ceil(fmin(fmax(seconds, 0.001), 1e6) * 1e3);
}

static void set_method(struct attempt *attempt)
{
    const struct http_request *request = attempt->request;
    if (strcmp(request->method, "HEAD") == 0) {
        curl_easy_setopt(attempt->curl, CURLOPT_NOBODY, 1L);
    } else if (strcmp(request->method, "PUT") == 0 || strcmp(request->method, "POST") == 0) {
        curl_easy_setopt(attempt->curl, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(attempt->curl, CURLOPT_CUSTOMREQUEST, request->method);
        curl_easy_setopt(attempt->curl, CURLOPT_INFILESIZE_LARGE, (curl_off_t)request->body_bytes);
        curl_easy_setopt(attempt->curl, CURLOPT_UPLOAD_BUFFERSIZE, UPLOAD_BUFFER_BYTES);
        curl_easy_setopt(attempt->curl, CURLOPT_READFUNCTION, on_read);
        curl_easy_setopt(attempt->curl, CURLOPT_READDATA, attempt);
        curl_easy_setopt(attempt->curl, CURLOPT_SEEKFUNCTION, on_seek);
        curl_easy_setopt(attempt->curl, CURLOPT_SEEKDATA, attempt);
    } else {
        curl_easy_setopt(attempt->curl, CURLOPT_CUSTOMREQUEST, request->method);
        curl_easy_setopt(attempt->curl, CURLOPT_BUFFERSIZE, DOWNLOAD_BUFFER);
    }
}

/* The rest of the handle's settings. Stalls are watched by on_progress() and not by CURLOPT_LOW_SPEED_TIME, which looks
 * at an average over seconds and not at the time spent connecting. Certificates are verified: libcurl's default. */
static void set_options(struct attempt *attempt, struct curl_slist *headers, double left_s)
{
    CURL *curl = attempt->curl;
    const struct http_request *request = attempt->request;
    curl_easy_setopt(curl, CURLOPT_URL, request->url);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_TCP_KEEPALIVE, 1L);
    if (is_loopback(request->url))
        curl_easy_setopt(curl, CURLOPT_PROXY, "");
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, milliseconds(left_s));
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, milliseconds(fmin(left_s, request->stall_s)));
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, attempt->error);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, attempt);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_write);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, attempt);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, attempt);
    set_method(attempt);
}

static bool append_line(struct curl_slist **list, const char *line)
{
    struct curl_slist *longer = curl_slist_append(*list, line);
    if (longer == NULL)
        return false;
    *list = longer;
    return true;
}

/* A token does not stay in freed memory: it is in the first line. */
static void free_headers(const struct http_request *request, struct curl_slist *list)
{
    if (request->bearer != NULL && list != NULL)
        explicit_bzero(list->data, strlen(list->data));
    curl_slist_free_all(list);
}

static const char no_memory_for_headers[] = "no memory for the headers of an HTTP request";

static dcache_status_t add_bearer(struct diag *dg, const struct http_request *request, struct curl_slist **list)
{
    static const char name[] = "Authorization: Bearer ";
    char line[sizeof name + HTTP_BEARER_MAX];
    memcpy(line, name, sizeof name);
    dcache_status_t status = request->bearer(request->context, dg, line + strlen(name));
    if (status == DCACHE_OK && !append_line(list, line))
        status = diag_fail(dg, DCACHE_ERR_NO_MEMORY, "%s", no_memory_for_headers);
    explicit_bzero(line, sizeof line);
    return status;
}

/* The request's headers as libcurl wants them. An empty Expect: saves a wait of up to a second per upload. */
static dcache_status_t make_header_list(struct diag *dg, const struct http_request *request, struct curl_slist **list)
{
    struct http_headers headers = {.count = 0};
    dcache_status_t status = request->prepare != NULL ? request->prepare(request->context, dg, &headers) : DCACHE_OK;
    struct curl_slist *made = NULL;
    if (status == DCACHE_OK && request->bearer != NULL)
        status = add_bearer(dg, request, &made);
    if (status != DCACHE_OK)
        return status;
    bool good = append_line(&made, "Expect:") && append_line(&made, "User-Agent: dcache/" DCACHE_VERSION);
    for (size_t i = 0; good && i < headers.count; i++) {
        char line[HTTP_HEADER_NAME_MAX + HTTP_HEADER_VALUE_MAX + 4];
        snprintf(line, sizeof line, "%s: %s", headers.list[i].name, headers.list[i].value);
        good = append_line(&made, line);
    }
    if (!good) {
        curl_slist_free_all(made);
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "%s", no_memory_for_headers);
    }
    *list = made;
    return DCACHE_OK;
}

/* Say in the response what libcurl came to. An answer that was not wanted and is cut short still is an answer. */
static void describe(struct attempt *attempt, CURLcode code)
{
    struct http_response *response = attempt->response;
    long status = 0;
    curl_off_t length = -1;
    curl_easy_getinfo(attempt->curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(attempt->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    response->status = status;
    response->content_length = length;
    if (code == CURLE_OK || (attempt->unwanted_bytes > UNWANTED_BYTES_MAX && status > 299))
        return;
    if (attempt->stalled)
        snprintf(response->failure, sizeof response->failure, "nothing moved for %g s", attempt->request->stall_s);
    else if (attempt->too_long)
        snprintf(response->failure, sizeof response->failure, "the answer is longer than the %zu bytes asked for",
                 attempt->request->sink->limit);
    else
        snprintf(response->failure, sizeof response->failure, "%s",
                 attempt->error[0] != '\0' ? attempt->error : curl_easy_strerror(code));
    response->status = 0; /* the answer is not whole */
}

/* Whether it makes sense to try again what failed below HTTP. */
static bool transport_may_recover(const struct attempt *attempt, CURLcode code)
{
    switch (code) {
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_URL_MALFORMAT:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_NOT_BUILT_IN:
        return false;
    default:
        return !attempt->too_long;
    }
}

static bool status_may_recover(long status)
{
    return status == 408 || status == 429 || status == 500 || status == 502 || status == 503 || status == 504;
}

static CURLcode perform(struct attempt *attempt, struct diag *dg)
{
    struct http_sink *sink = attempt->request->sink;
    if (diag_failpoint(dg, "http.request") != DCACHE_OK)
        return CURLE_SEND_ERROR;
    CURLcode code = curl_easy_perform(attempt->curl);
    if (code != CURLE_OK || sink == NULL || sink->bytes == 0)
        return code;
    return diag_failpoint_data(dg, "http.body", sink->data, &sink->bytes) == DCACHE_OK ? code : CURLE_RECV_ERROR;
}

/* Send the request once. DCACHE_OK: `response` has an answer or a failure, and `again` and `wait_s` (what Retry-After
 * asks for, 0 = nothing) say whether another attempt makes sense. */
static dcache_status_t try_once(struct http_client *client, struct diag *dg, const struct http_request *request,
                                double left_s, struct http_response *response, bool *again, double *wait_s)
{
    struct attempt attempt = {.request = request, .response = response, .dg = dg, .moved_at = now_s()};
    response->failure[0] = '\0';
    response->status = 0;
    response->headers.count = 0;
    if (request->sink != NULL)
        request->sink->bytes = 0;
    struct curl_slist *headers = NULL;
    dcache_status_t status = make_header_list(dg, request, &headers);
    if (status != DCACHE_OK)
        return status;
    attempt.curl = take_handle(client);
    if (attempt.curl == NULL) {
        curl_slist_free_all(headers);
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "no memory for an HTTP request");
    }
    set_options(&attempt, headers, left_s);
    if (client->ca_bundle[0] != '\0')
        curl_easy_setopt(attempt.curl, CURLOPT_CAINFO, client->ca_bundle);
    const uint64_t cpu_before = thread_cpu_ns();
    CURLcode code = perform(&attempt, dg);
    describe(&attempt, code);
    count_attempt(client, response, attempt.curl, thread_cpu_ns() - cpu_before);
    curl_off_t retry_after = 0;
    curl_easy_getinfo(attempt.curl, CURLINFO_RETRY_AFTER, &retry_after);
    give_handle_back(client, attempt.curl);
    free_headers(request, headers);
    if (attempt.source != DCACHE_OK)
        return attempt.source;
    if (attempt.no_memory || code == CURLE_OUT_OF_MEMORY)
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "no memory for the answer to an HTTP request");
    *wait_s = fmin((double)retry_after, 1e6);
    if (response->failure[0] != '\0')
        *again = transport_may_recover(&attempt, code);
    else
        *again = status_may_recover(response->status) ||
                 (request->again != NULL && request->again(request->context, response));
    return DCACHE_OK;
}

/* --- Retries -------------------------------------------------------------------------------------------------------
 */

/* 0 up to but not including 1. Many drain ranks that were told "busy" at the same time must not come back together. */
static double random_fraction(void)
{
    uint32_t bits = 0;
    if (getrandom(&bits, sizeof bits, GRND_NONBLOCK) != (ssize_t)sizeof bits)
        bits = (uint32_t)(now_s() * 1e9);
    return (double)bits / 4294967296.0;
}

static double backoff_s(unsigned attempts, double asked_s)
{
    double longest = fmin(BACKOFF_FIRST_S * pow(2.0, (double)(attempts - 1)), BACKOFF_LONGEST_S);
    double wait = longest * (0.5 + 0.5 * random_fraction());
    return asked_s > 0 ? asked_s + wait : wait;
}

/* False when it was cancelled. */
static bool pause_s(double seconds, const struct http_request *request)
{
    double until = now_s() + seconds;
    for (double left = seconds; left > 0 && !is_cancelled(request); left = until - now_s()) {
        double nap = fmin(left, CANCEL_POLL_S);
        struct timespec time = {.tv_sec = 0, .tv_nsec = (long)(nap * 1e9)};
        nanosleep(&time, NULL);
    }
    return !is_cancelled(request);
}

/* Attempt and pause until there is an answer for good or no time for another attempt. */
static dcache_status_t perform_until(struct http_client *client, struct diag *dg, const struct http_request *request,
                                     double deadline, struct http_response *response)
{
    for (;;) {
        bool again = false;
        double wait = 0;
        response->attempts++;
        dcache_status_t status = try_once(client, dg, request, deadline - now_s(), response, &again, &wait);
        if (status != DCACHE_OK)
            return status;
        if (!again && response->failure[0] == '\0')
            return DCACHE_OK;
        if (is_cancelled(request))
            break;
        if (!again)
            return DCACHE_ERR_STORE;
        wait = backoff_s(response->attempts, wait);
        if (now_s() + wait >= deadline)
            return DCACHE_ERR_STORE;
        if (!pause_s(wait, request))
            break;
    }
    return diag_fail(dg, DCACHE_ERR_CANCELLED, "cancelled");
}

dcache_status_t http_perform(struct http_client *client, struct diag *dg, const struct http_request *request,
                             struct http_response *response)
{
    memset(response, 0, sizeof *response);
    response->content_length = -1;
    double start = now_s();
    dcache_status_t status = DCACHE_OK;
    if (is_cancelled(request))
        status = diag_fail(dg, DCACHE_ERR_CANCELLED, "cancelled");
    else
        status = perform_until(client, dg, request, start + request->timeout_s, response);
    response->seconds = now_s() - start;
    return status;
}
