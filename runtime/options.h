/**
 * The options: declared once, in the table of options.c (name, type, default, unit, help). INI file, DCACHE_*
 * environment, `dcache help options` and docs/options.md all come from that table. Knows no MPI: rank 0 reads them and
 * broadcasts the struct, which is plain data.
 */
#ifndef DCACHE_RUNTIME_OPTIONS_H
#define DCACHE_RUNTIME_OPTIONS_H

#include "io/coded_source.h"

#include <stdbool.h>
#include <stdio.h>

#define OPTIONS_TEXT_MAX 1024

enum tier_choice { TIER_MEMORY, TIER_SSD, TIER_BOTH };
enum transport_choice { TRANSPORT_AUTO, TRANSPORT_ONE_SIDED, TRANSPORT_TWO_SIDED };
enum progress_choice { PROGRESS_AUTO, PROGRESS_THREAD, PROGRESS_CALLS };
enum resync_choice { RESYNC_AUTO, RESYNC_WAIT, RESYNC_BEHIND };
enum when_full { WHEN_FULL_BLOCK, WHEN_FULL_SKIP, WHEN_FULL_REPLACE };

struct options {
    char job[64];       /**< A-Z a-z 0-9 _ . - ; default: the program's name */
    char component[64]; /**< "" or appended to the job's name as job.component: coupled codes, one per communicator */
    char memory_store[OPTIONS_TEXT_MAX]; /**< root of the node stores; default /dev/shm/dcache-<uid> */
    int64_t tier;                        /**< enum tier_choice: memory | ssd | both */
    char ssd_store[OPTIONS_TEXT_MAX];    /**< root of the node stores on the SSD tier; "" = there is none */
    int64_t ssd_slots;                   /**< tier = both: steps per rank kept there, 2..64; default 2 */
    int64_t node_size;                   /**< ranks per virtual node; 0 = real hosts */
    int64_t slots;                       /**< ring of steps per rank, 2..16; default 2 */
    int64_t reserve;                     /**< bytes per rank and slot to allocate when opened; default 0 */
    int64_t transport;                   /**< enum transport_choice: auto | one-sided | two-sided */
    int64_t progress;                    /**< enum progress_choice: auto | thread | calls */
    int64_t resync;                      /**< enum resync_choice: auto | wait | behind */
    int64_t incremental;                 /**< 0 = no, 1 = yes: chunks that did not change are not moved */
    int64_t copy_threads;                /**< threads that copy and digest, per rank; default 1 */
    char store[OPTIONS_TEXT_MAX];        /**< object store URL, or "none"; default file://dcache-store */
    int64_t drain_every;                 /**< drain every n-th checkpoint; default 1; 0 = never */
    int64_t drain_ranks_per_node;        /**< default 1 */
    int64_t drain_nodes;                 /**< at most so many nodes drain (0 = all) */
    int64_t drain_bandwidth;             /**< bytes per second and node (0 = no cap) */
    int64_t drain_slowdown;              /**< percent of the node's CPU time (0 = no budget) */
    int64_t store_keep_last;             /**< durable steps; 0 = all */
    int64_t store_keep_every;            /**< and multiples of this; 0 = no others */
    double claim_lease;                  /**< seconds, whole; 0 = no claim */
    int64_t when_full;                   /**< enum when_full: block | skip | replace; default block */
    int64_t store_auth;                  /**< enum object_auth: auto | key | sas | ...; default auto */
    double store_timeout;                /**< seconds for one store operation with its retries; default 60 */
    double store_stall;                  /**< seconds without a byte after which a request is tried again; default 15 */
    int64_t store_connections;           /**< blocks of one shard in flight, 1..64; default 8 */
    int64_t pack_below;                  /**< bytes; 0 = no packs; default 1 MiB */
    int64_t compress;                    /**< enum codec_compress: none | auto | always; default none */
    int64_t compress_level;              /**< of zstd, 1..19; default 1 */
    int64_t compress_threads;            /**< that compress and encrypt one shard, 1..64; default 1 */
    char encrypt_key_file[OPTIONS_TEXT_MAX];    /**< "" = none */
    char encrypt_key_command[OPTIONS_TEXT_MAX]; /**< "" = none */
    double close_timeout;                       /**< seconds dcache_close waits for the drain; default 600 */
    double interval;                            /**< seconds between checkpoints; 0 = automatic */
    double mtbf;                                /**< of one node, seconds; 0 = not known */
    double end_margin;                          /**< seconds; 0 = automatic */
    int64_t signals;                            /**< 0 = no, 1 = yes: SIGUSR1, SIGUSR2 and SIGTERM are notices */
    char events[OPTIONS_TEXT_MAX];              /**< none | auto | URL of the instance metadata service */
    char domains[OPTIONS_TEXT_MAX];             /**< none | slurm | azure | URL of that service | path of a map file */
    int64_t log;                                /**< enum diag_level: error | warning | info | debug; default warning */
};

/**
 * Defaults, then the file (NULL: the one DCACHE_CONFIG names, if any), then the environment. An unknown key or DCACHE_*
 * variable, a key given twice or a bad value is DCACHE_ERR_OPTION; the text names file and line (or variable), key,
 * value, what is allowed, and the nearest known key for a misspelt one.
 *
 * Sizes take suffixes (k M G T, KiB MiB ...), durations s m h ms; text may be quoted; # and ; start comments; the only
 * section is [dcache], which may be left out. DCACHE_CONFIG and DCACHE_FAILPOINTS are no options and are let through.
 *
 * @return DCACHE_OK, DCACHE_ERR_OPTION, DCACHE_ERR_PERMISSION or DCACHE_ERR_IO (the file cannot be read),
 * DCACHE_ERR_NO_MEMORY
 */
dcache_status_t options_load(struct diag *dg, const char *config_file, struct options *options) DCACHE_MUST_CHECK;

/** What they say of how shards are stored; `key` is borrowed and may be NULL. */
struct codec_settings options_codec(const struct options *options, const struct codec_key *key);

/** The name under which checkpoints are kept: job or job.component; `name` has 64 bytes. */
void options_job_name(const struct options *options, char name[64]);

/** Print the table, for `dcache help options` (plain, aligned) or docs/options.md (Markdown). */
void options_print_help(FILE *out, bool markdown);

/** Print the options as they are set, one `key = value` a line, readable by options_load(). */
void options_print_values(FILE *out, const struct options *options);

#endif
