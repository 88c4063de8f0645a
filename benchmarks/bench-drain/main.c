/* Reads the command line, runs the rounds and shows what they took. */
#include "bench.h"

#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* The ways to send, in the order of each round; the last one only where it is installed. */
enum way { WAY_CURL, WAY_CURL_THREADS, WAY_DRAIN, WAY_RCLONE, WAYS };

static const char *const way_names[WAYS] = {"curl", "curl_threads", "drain", "rclone"};
static const char *const way_texts[WAYS] = {"libcurl, one multi loop", "libcurl, threads", "drain", "rclone"};

static const char usage[] =
    "usage: bench-drain [--bytes N] [--shards N] [--rounds N] [--connections N] [--block N] [--check] [--url URL]\n"
    "                   [--tier DIRECTORY] [--tls] [--latency MS] [--pack-below N] [--stripes N] [--no-rclone]\n"
    "                   [--json]\n"
    "       bench-drain --serve ADDRESS:PORT [--check] [--latency MS]\n"
    "Drains shards of a node store to an object store, beside a bare libcurl loop that sends the same bytes.\n"
    "  --bytes N        bytes of each shard (256 MiB); K, M and G are allowed behind a number\n"
    "  --shards N       how many (4)        --rounds N       how often (5)\n"
    "  --connections N  at once (8)         --block N        bytes of a block (8M)\n"
    "  --check          the sink compares the digests\n"
    "  --tls            the sink speaks TLS, with a certificate made for the run\n"
    "  --latency MS     the sink answers so much later (0), as a service that is far away\n"
    "  --pack-below N   shards of fewer bytes are drained in packs (1M); 0: never\n"
    "  --stripes N      spread the drain over so many stores (1), prefixes of the same one; the others send to one\n"
    "  --no-rclone      do not send by rclone as well, where it is installed\n"
    "  --url URL        an object store (credentials as the library finds them) instead of the sink in here, which\n"
    "                   takes all and keeps nothing; default: $TEST_AZURE_URL, if it is set\n"
    "  --serve ADDRESS:PORT  only be the sink, there: for --url http://ADDRESS:PORT/sink/bench, with any key\n"
    "  --tier DIRECTORY where the shards are made (/dev/shm)\n"
    "  --json           a document for programs instead of the table\n";

static int bad(const char *text, const char *value)
{
    fprintf(stderr, "bench-drain: %s %s; see --help\n", text, value);
    return 2;
}

/* "256M"; false when it is no number of that kind or not in the range. */
static bool read_number(const char *text, uint64_t least, uint64_t most, uint64_t *number)
{
    static const char units[] = "KMG";
    char *end = NULL;
    unsigned long long value = strtoull(text, &end, 10);
    const char *unit = *end != '\0' ? strchr(units, *end) : NULL;
    unsigned shift = unit != NULL ? 10 * (unsigned)(unit - units + 1) : 0;
    if (text[0] < '0' || text[0] > '9' || (*end != '\0' && (unit == NULL || end[1] != '\0')) || value > most >> shift)
        return false;
    *number = value << shift;
    return *number >= least;
}

static bool take_option(int letter, const char *value, struct bench_options *options)
{
    uint64_t number = 0;
    bool good = true;
    switch (letter) {
    case 'b':
        return read_number(value, 1, 1ull << 40, &options->bytes);
    case 's':
        good = read_number(value, 1, 10000, &number);
        options->shards = (uint32_t)number;
        return good;
    case 'r':
        good = read_number(value, 1, ROUNDS_MAX, &number);
        options->rounds = (unsigned)number;
        return good;
    case 'c':
        good = read_number(value, 1, OBJECT_CONNECTIONS_MAX, &number);
        options->connections = (unsigned)number;
        return good;
    case 'l':
        good = read_number(value, 0, 10000, &number);
        options->latency_ms = (unsigned)number;
        return good;
    case 'p':
        return read_number(value, 0, 1ull << 30, &options->pack_below);
    case 'P':
        good = read_number(value, 1, STRIPES_MAX, &number);
        options->stripes = (uint32_t)number;
        return good;
    case 'k':
        return read_number(value, 4096, 1u << 30, &options->block_bytes);
    case 'u':
        options->url = value;
        return true;
    case 'S':
        options->serve = value;
        return true;
    default:
        options->tier = value;
        return true;
    }
}

/* 0: go on; else the exit status + 1. */
static int read_options(int argc, char **argv, struct bench_options *options)
{
    static const struct option known[] = {{"bytes", required_argument, NULL, 'b'},
                                          {"shards", required_argument, NULL, 's'},
                                          {"rounds", required_argument, NULL, 'r'},
                                          {"connections", required_argument, NULL, 'c'},
                                          {"block", required_argument, NULL, 'k'},
                                          {"url", required_argument, NULL, 'u'},
                                          {"tier", required_argument, NULL, 't'},
                                          {"serve", required_argument, NULL, 'S'},
                                          {"latency", required_argument, NULL, 'l'},
                                          {"pack-below", required_argument, NULL, 'p'},
                                          {"stripes", required_argument, NULL, 'P'},
                                          {"check", no_argument, NULL, 'C'},
                                          {"tls", no_argument, NULL, 'T'},
                                          {"no-rclone", no_argument, NULL, 'R'},
                                          {"json", no_argument, NULL, 'j'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    *options = (struct bench_options){.bytes = 256u << 20,
                                      .shards = 4,
                                      .rounds = 5,
                                      .connections = OBJECT_CONNECTIONS,
                                      .block_bytes = 8u << 20,
                                      .pack_below = 1u << 20,
                                      .stripes = 1,
                                      .rclone = true,
                                      .url = getenv("TEST_AZURE_URL"),
                                      .tier = "/dev/shm"};
    int letter;
    opterr = 0;
    while ((letter = getopt_long(argc, argv, "", known, NULL)) != -1) {
        if (letter == '?')
            return bad("what is", argv[optind - 1]) + 1;
        options->check |= letter == 'C';
        options->json |= letter == 'j';
        options->tls |= letter == 'T';
        options->rclone &= letter != 'R';
        if (letter == 'h') {
            fputs(usage, stdout);
            return 1;
        }
        if (optarg != NULL && !take_option(letter, optarg, options))
            return bad("this number is not allowed:", optarg) + 1;
    }
    return optind < argc ? bad("unexpected argument", argv[optind]) + 1 : 0;
}

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static double cpu_of_whom(int who)
{
    struct rusage usage_now;
    getrusage(who, &usage_now);
    return (double)(usage_now.ru_utime.tv_sec + usage_now.ru_stime.tv_sec) +
           (double)(usage_now.ru_utime.tv_usec + usage_now.ru_stime.tv_usec) * 1e-6;
}

/* Of this process and of rclone's, once they have ended; the sink lives on. */
static double cpu_s(void)
{
    return cpu_of_whom(RUSAGE_SELF) + cpu_of_whom(RUSAGE_CHILDREN);
}

static dcache_status_t open_stripes(struct diag *dg, const struct bench_options *options,
                                    const struct bench_target *target, const char *prefix, struct object_store **store)
{
    const struct object_policy policy = {.block_bytes = options->block_bytes, .connections = options->connections};
    struct stripes_places *places = calloc(1, sizeof *places);
    dcache_status_t status = DCACHE_OK;
    if (places == NULL)
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "out of memory");
    for (; status == DCACHE_OK && places->count < options->stripes; places->count++) {
        struct stripes_place *place = &places->list[places->count];
        int length = snprintf(place->url, sizeof place->url, "%s/%s-%u", target->url, prefix, places->count);
        place->credentials = target->credentials;
        if (length < 0 || (size_t)length >= sizeof place->url)
            status = diag_fail(dg, DCACHE_ERR_OPTION, "the URL is too long");
    }
    if (status == DCACHE_OK)
        status = stripes_open(dg, places, &policy, store);
    explicit_bzero(places, sizeof *places);
    free(places);
    return status;
}

/* Each round drains to a prefix of its own, so that nothing is there yet. */
static dcache_status_t drain(struct diag *dg, const struct bench_options *options, const struct bench_target *target,
                             const struct bench_shards *shards, const char *prefix)
{
    const struct codec_settings plain = {.threads = 1, .pack_below = options->pack_below};
    const struct drain_request request = {.job = "bench-drain",
                                          .set = shards->set,
                                          .drainer = "bench",
                                          .stores = &shards->store,
                                          .items = shards->items,
                                          .item_count = options->shards,
                                          .codec = &plain};
    struct drain_control control = {.cancel = false};
    struct object_store *store = NULL;
    bool durable = false;
    dcache_status_t status = open_stripes(dg, options, target, prefix, &store);
    if (status == DCACHE_OK)
        status = drain_step(dg, store, &request, &control, &durable);
    if (status == DCACHE_OK && !durable)
        status = diag_fail(dg, DCACHE_ERR_INTERNAL, "the drained step is not durable");
    object_store_close(store);
    return status;
}

static dcache_status_t send(enum way way, struct diag *dg, const struct bench_options *options,
                            const struct bench_target *target, const struct bench_shards *shards, const char *prefix)
{
    if (way == WAY_DRAIN)
        return drain(dg, options, target, shards, prefix);
    if (way == WAY_RCLONE)
        return rclone_copy(dg, options, target, shards, prefix);
    return way == WAY_CURL ? loop_multi(dg, options, target, shards, prefix)
                           : loop_threads(dg, options, target, shards, prefix);
}

static unsigned ways_of(const struct bench_options *options)
{
    return options->rclone ? WAYS : WAY_RCLONE;
}

/* Round 0 warms up and is not kept. */
static dcache_status_t run_rounds(struct diag *dg, const struct bench_options *options,
                                  const struct bench_target *target, const struct bench_shards *shards,
                                  struct bench_result results[WAYS])
{
    for (unsigned round = 0; round <= options->rounds; round++) {
        for (unsigned i = 0; i < ways_of(options); i++) {
            enum way way = (enum way)((i + round) % ways_of(options)); /* none is always the first */
            char prefix[64];
            snprintf(prefix, sizeof prefix, "bench-%ld-%u-%s", (long)getpid(), round, way_names[way]);
            double start = now_s();
            double cpu = cpu_s();
            dcache_status_t status = send(way, dg, options, target, shards, prefix);
            if (status != DCACHE_OK)
                return status;
            if (round > 0) {
                results[way].seconds[round - 1] = now_s() - start;
                results[way].cpu_s[round - 1] = cpu_s() - cpu;
            }
        }
    }
    return DCACHE_OK;
}

static dcache_status_t find_target(struct diag *dg, const struct bench_options *options, const struct sink *sink,
                                   struct bench_target *target)
{
    char url[OBJECT_URL_MAX];
    if (options->url == NULL) {
        snprintf(target->url, sizeof target->url, "%s://127.0.0.1:%d/sink/bench", options->tls ? "https" : "http",
                 sink->port);
        snprintf(target->credentials.endpoint, sizeof target->credentials.endpoint, "%s://127.0.0.1:%d/sink",
                 options->tls ? "https" : "http", sink->port);
        snprintf(target->credentials.account, sizeof target->credentials.account, "sink");
        snprintf(target->credentials.key, sizeof target->credentials.key, "bm8gc2VjcmV0IGF0IGFsbA==");
        return DCACHE_OK;
    }
    struct object_store *store = NULL;
    const struct object_policy policy = {.connections = 1};
    dcache_status_t status = object_store_resolve(dg, options->url, url, &target->credentials);
    memcpy(target->url, url, sizeof url);
    if (status == DCACHE_OK)
        status = object_store_open(dg, url, &target->credentials, &policy, &store);
    if (status == DCACHE_OK && strncmp(url, "file:", 5) == 0)
        status = diag_fail(dg, DCACHE_ERR_OPTION, "--url has to be of a Blob service, not %s", url);
    if (status == DCACHE_OK)
        status = store->ops->create(store, dg);
    object_store_close(store);
    return status;
}

/* --- Results --- */

static int ascending(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

/* Least, median and largest of what the rounds gave. */
struct spread {
    double least;
    double median;
    double most;
};

static struct spread spread_of(const double *values, unsigned count)
{
    double sorted[ROUNDS_MAX];
    memcpy(sorted, values, count * sizeof *values);
    qsort(sorted, count, sizeof *sorted, ascending);
    const double median = count % 2 == 1 ? sorted[count / 2] : (sorted[count / 2 - 1] + sorted[count / 2]) / 2;
    return (struct spread){.least = sorted[0], .median = median, .most = sorted[count - 1]};
}

/* Of each round by itself, since what else the machine does changes from round to round. */
static struct spread ratio_of(const double *numerators, const double *denominators, unsigned count)
{
    double ratios[ROUNDS_MAX] = {0};
    for (unsigned i = 0; i < count; i++)
        ratios[i] = denominators[i] > 0 ? numerators[i] / denominators[i] : 0;
    return spread_of(ratios, count);
}

static double rate_of(const struct bench_options *options, const struct bench_shards *shards,
                      const struct bench_result *result)
{
    return (double)shards->bytes / 1e9 / spread_of(result->seconds, options->rounds).median;
}

static double cpu_of(const struct bench_options *options, const struct bench_shards *shards,
                     const struct bench_result *result)
{
    return spread_of(result->cpu_s, options->rounds).median / ((double)shards->bytes / 1e9);
}

static void show_table(const struct bench_options *options, const struct bench_shards *shards,
                       const struct bench_target *target, const struct bench_result results[WAYS])
{
    const struct bench_result *curl = &results[WAY_CURL];
    printf("%u shards, %.3f GB in all, blocks of %.3f MB, %u connections, %u rounds, to %s%s\n", options->shards,
           (double)shards->bytes / 1e9, (double)options->block_bytes / 1e6, options->connections, options->rounds,
           options->url == NULL ? "the sink in here" : target->url, options->tls ? " over TLS" : "");
    printf("%-26s %8s   %-22s %9s %8s\n", "", "GB/s", "of curl (least, most)", "CPU s/GB", "of curl");
    for (unsigned way = 0; way < ways_of(options); way++) {
        const struct spread rate = ratio_of(curl->seconds, results[way].seconds, options->rounds);
        const struct spread cpu = ratio_of(results[way].cpu_s, curl->cpu_s, options->rounds);
        printf("%-26s %8.3f   %5.2f (%5.2f, %5.2f)   %9.3f %8.2f\n", way_texts[way],
               rate_of(options, shards, &results[way]), rate.median, rate.least, rate.most,
               cpu_of(options, shards, &results[way]), cpu.median);
    }
}

static void add_spread(json_t *root, const char *way, const char *what, struct spread spread)
{
    char key[64];
    snprintf(key, sizeof key, "%s_%s", way, what);
    json_object_set_new(
        root, key, json_pack("{s:f, s:f, s:f}", "least", spread.least, "median", spread.median, "most", spread.most));
}

static void add_way(json_t *root, const struct bench_options *options, const struct bench_shards *shards,
                    const struct bench_result results[WAYS], enum way way)
{
    const struct bench_result *curl = &results[WAY_CURL];
    char key[64];
    json_t *seconds = json_array();
    snprintf(key, sizeof key, "%s_GBps", way_names[way]);
    json_object_set_new(root, key, json_real(rate_of(options, shards, &results[way])));
    snprintf(key, sizeof key, "%s_cpu_s_per_GB", way_names[way]);
    json_object_set_new(root, key, json_real(cpu_of(options, shards, &results[way])));
    add_spread(root, way_names[way], "of_curl", ratio_of(curl->seconds, results[way].seconds, options->rounds));
    add_spread(root, way_names[way], "cpu_of_curl", ratio_of(results[way].cpu_s, curl->cpu_s, options->rounds));
    for (unsigned i = 0; i < options->rounds; i++)
        json_array_append_new(seconds, json_real(results[way].seconds[i]));
    snprintf(key, sizeof key, "%s_s", way_names[way]);
    json_object_set_new(root, key, seconds);
}

static int show_json(const struct bench_options *options, const struct bench_shards *shards,
                     const struct bench_target *target, const struct bench_result results[WAYS])
{
    json_t *root = json_pack("{s:s, s:i, s:s, s:i, s:I, s:I, s:i, s:i, s:s, s:b, s:b, s:i, s:I, s:I}", "format",
                             "bench-drain", "version", 1, "dcache", DCACHE_VERSION, "shards", (int)options->shards,
                             "bytes", (json_int_t)shards->bytes, "block_bytes", (json_int_t)options->block_bytes,
                             "connections", (int)options->connections, "rounds", (int)options->rounds, "store",
                             options->url == NULL ? "sink" : target->url, "check", options->check, "tls", options->tls,
                             "latency_ms", (int)options->latency_ms, "pack_below", (json_int_t)options->pack_below,
                             "stripes", (json_int_t)options->stripes);
    for (unsigned way = 0; way < ways_of(options); way++)
        add_way(root, options, shards, results, (enum way)way);
    int status = json_dumpf(root, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
    putchar('\n');
    json_decref(root);
    return status == 0 ? 0 : 1;
}

/* The shards' directory has room for the certificate, too, and is removed with all in it. */
static dcache_status_t prepare(struct diag *dg, struct bench_options *options, struct bench_shards *shards,
                               struct sink *sink, struct bench_target *target)
{
    dcache_status_t status = shards_make(dg, options, shards);
    if (status != DCACHE_OK)
        return status;
    if (options->tls) {
        snprintf(target->certificate, sizeof target->certificate, "%s/certificate.pem", shards->root);
        setenv("CURL_CA_BUNDLE", target->certificate, 1); /* for the library */
    }
    if (options->url == NULL && !sink_start(sink, options, target->certificate))
        return diag_fail(dg, DCACHE_ERR_IO, "the sink cannot be started");
    options->rclone = options->rclone && rclone_is_there();
    return find_target(dg, options, sink, target);
}

int main(int argc, char **argv)
{
    static struct bench_result results[WAYS];
    struct bench_options options;
    struct bench_shards shards = {.bytes = 0};
    struct bench_target target = {.url = ""};
    struct sink sink = {.pid = 0};
    struct diag dg;
    int status = read_options(argc, argv, &options);
    if (status != 0)
        return status - 1;
    if (options.tls && options.serve != NULL)
        return bad("--tls is for the sink in here, and there is none with", "--serve");
    if (options.serve != NULL)
        return sink_serve(&options);
    diag_init(&dg, "bench-drain", -1, DIAG_WARNING);
    if (options.tls && options.url != NULL)
        return bad("--tls is the sink's, a --url says itself what it speaks", "");
    bool good = prepare(&dg, &options, &shards, &sink, &target) == DCACHE_OK &&
                run_rounds(&dg, &options, &target, &shards, results) == DCACHE_OK;
    if (!good)
        fprintf(stderr, "bench-drain: %s\n", dg.text);
    else if (options.json)
        status = show_json(&options, &shards, &target, results);
    else
        show_table(&options, &shards, &target, results);
    shards_remove(&shards);
    sink_stop(&sink);
    return good ? status : 1;
}
