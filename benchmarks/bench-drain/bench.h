/* bench-drain: shards of a node store drained to an object store, beside a bare libcurl loop that sends the same bytes
 * to the same place in the same run. */
#ifndef DCACHE_BENCH_DRAIN_H
#define DCACHE_BENCH_DRAIN_H

#include "io/drain.h"
#include "io/node_store.h"

#include <stdatomic.h>
#include <sys/types.h>

#define ROUNDS_MAX 64

struct bench_options {
    uint64_t bytes; /* of a shard's region */
    uint32_t shards;
    unsigned rounds;
    unsigned connections;
    uint64_t block_bytes;
    bool json;
    bool check;          /* the sink compares digests */
    bool tls;            /* ... and speaks TLS */
    bool rclone;         /* send by rclone, too */
    unsigned latency_ms; /* of the sink's answers */
    uint64_t pack_below; /* as the library's option */
    uint32_t stripes;    /* so many stores the drain is spread over: prefixes of the one */
    const char *url;     /* of the store; NULL: the sink in here */
    const char *serve;   /* ADDRESS:PORT: be the sink there and nothing else; or NULL */
    const char *tier;    /* where the shards are made */
};

/* Shards in a node store of their own. */
struct bench_shards {
    char root[512];
    struct node_store store;
    struct drain_item *items;
    struct shard_set set;
    uint64_t bytes; /* of all images */
};

/* What one way of sending took. */
struct bench_result {
    double seconds[ROUNDS_MAX];
    double cpu_s[ROUNDS_MAX];
};

dcache_status_t shards_make(struct diag *dg, const struct bench_options *options, struct bench_shards *shards);
void shards_remove(struct bench_shards *shards);

/* A process that takes what is put, keeps small objects and forgets large ones; its port, or -1. */
struct sink {
    pid_t pid;
    int port;
};
bool sink_start(struct sink *sink, const struct bench_options *options, const char *certificate_file);
void sink_stop(struct sink *sink);

/* Be the sink at options->serve, for programs on other hosts, until killed. Returns on failure only, which is said. */
int sink_serve(const struct bench_options *options);

/* Where to send, and as whom. */
struct bench_target {
    char url[OBJECT_URL_MAX];
    struct object_credentials credentials;
    char certificate[600]; /* file with what to trust beside the usual; "" = nothing */
};

/* Send the shards' files as blocks of the objects PREFIX-0, PREFIX-1 ... below the target. One loop over libcurl's
 * multi interface, or a thread for each connection. */
dcache_status_t loop_multi(struct diag *dg, const struct bench_options *options, const struct bench_target *target,
                           const struct bench_shards *shards, const char *prefix);
dcache_status_t loop_threads(struct diag *dg, const struct bench_options *options, const struct bench_target *target,
                             const struct bench_shards *shards, const char *prefix);

/* The same files by rclone, a process of its own: how people copy a directory to Blob today. */
bool rclone_is_there(void);
dcache_status_t rclone_copy(struct diag *dg, const struct bench_options *options, const struct bench_target *target,
                            const struct bench_shards *shards, const char *prefix);

#endif
