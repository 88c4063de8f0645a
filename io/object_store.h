/**
 * An object store: a flat set of named objects below one prefix. Two backends, `file://` (io/object_file.c) and Azure
 * Blob (io/object_azure.c), behind one table of functions; tests/unit runs one conformance suite on each.
 *
 * Keys are relative to the store's prefix, '/'-separated, of the characters A-Z a-z 0-9 _ . - only, with no segment
 * "." or ".." or empty; anything else is DCACHE_ERR_INVALID (so a hostile manifest cannot lead out of the prefix).
 *
 * A store may be used by several threads at once, each with its own struct diag.
 */
#ifndef DCACHE_IO_OBJECT_STORE_H
#define DCACHE_IO_OBJECT_STORE_H

#include "io/diag.h"

#include <stdatomic.h>
#include <stdbool.h>

#define OBJECT_KEY_MAX  512
#define OBJECT_URL_MAX  1024
#define OBJECT_SWAP_MAX (1u << 20) /**< bytes of an object that can be swapped */

#define OBJECT_CONNECTIONS     8u /**< where the policy says nothing */
#define OBJECT_CONNECTIONS_MAX 64u

struct object_store;

/** Ways to say who we are to Azure Blob. */
enum object_auth {
    OBJECT_AUTH_AUTO, /**< the first one below that the environment has; the managed identity if it has none */
    OBJECT_AUTH_KEY,
    OBJECT_AUTH_SAS,
    OBJECT_AUTH_SERVICE_PRINCIPAL,
    OBJECT_AUTH_WORKLOAD_IDENTITY,
    OBJECT_AUTH_TOKEN_FILE,    /**< a bearer token that others keep fresh in a file */
    OBJECT_AUTH_TOKEN_COMMAND, /**< a bearer token that a command prints */
    OBJECT_AUTH_MANAGED_IDENTITY,
    OBJECT_AUTHS
};

/** Secrets and endpoint that go with a store's URL. Plain data, so that rank 0 can find it and tell the drain ranks.
 * Texts are "" when there is none. */
struct object_credentials {
    enum object_auth auth; /**< the way that is taken; AUTO: as if KEY were meant */
    char endpoint[512];    /**< "" = from the URL */
    char account[128];
    char key[256];             /**< Shared Key, base64 */
    char sas[1536];            /**< shared access signature (account, service or user delegation), without the '?' */
    char tenant[128];          /**< of a service principal or workload identity */
    char client[128];          /**< application; of a managed identity: the user-assigned one */
    char secret[256];          /**< of a service principal */
    char token_file[512];      /**< of a workload identity: a file that is read anew for each token */
    char bearer_file[512];     /**< of TOKEN_FILE: the file that has the token itself */
    char bearer_command[1024]; /**< of TOKEN_COMMAND: for /bin/sh -c */
    char authority[256];       /**< https://host that gives tokens */
    char metadata[256];        /**< http://host of the instance metadata service */
};

/** How to put: retries and their end. Plain data. */
struct object_policy {
    double timeout_s; /**< total for one request of the store's protocol (a block, a page, a piece of at most 8 MiB),
                         retries included; so a large object may take longer, but a dead store is noticed in time */
    double stall_s;   /**< a request that moves nothing for so long is given up and tried again */
    uint64_t block_bytes; /**< size of one uploaded block; 0 = the backend's choice */
    unsigned connections; /**< of one put or get of a large object: so many blocks are in flight, and so many in memory;
                             1..OBJECT_CONNECTIONS_MAX, 0 = OBJECT_CONNECTIONS */
};

struct object_info {
    uint64_t bytes;
    char etag[128]; /**< "" when the backend has none */
};

/**
 * Where an object's bytes come from. `read` fills `buffer` with exactly `bytes` bytes at `offset` and gives their
 * CRC-64/NVME, computed from digests that were verified against the data; it may be called again for the same range (a
 * retry), and by several threads, one at a time; of a put in ascending order of offsets but for such retries.
 *
 * Where the size is known at the end only, `size` tells it: UINT64_MAX until `read` has met the end. `bytes` is then
 * the most there can be. `read` fills as much of a range as there is, and its CRC is that of those bytes; it is not
 * asked for the same range again, but may be asked for all from offset 0 on, and may then give others.
 *
 * A source whose size is known may have pieces as well (`grain` is not 0): `head` bytes, then pieces of `grain` bytes,
 * the last one shorter. Then a range that begins and ends where a piece does can be sent without memory for all of it.
 * `announce` waits until it may be sent and gives its CRC, without reading; it is called as `read` is. `fill` reads on
 * from `offset`, where a piece begins or anywhere in the head, as many whole pieces (and bytes of the head) as there is
 * room for, each verified where it lies, and says how many bytes that are: 0, when not even one fits. It may be called
 * by several threads at once, and for the same bytes again.
 */
struct object_source {
    uint64_t bytes;
    void *context;
    uint64_t (*size)(void *context); /**< NULL: it is `bytes` */
    dcache_status_t (*read)(void *context, struct diag *dg, uint64_t offset, void *buffer, size_t bytes, uint64_t *crc);
    uint64_t head;
    size_t grain; /**< 0: there are no pieces */
    dcache_status_t (*announce)(void *context, struct diag *dg, uint64_t offset, uint64_t bytes, uint64_t *crc);
    dcache_status_t (*fill)(void *context, struct diag *dg, uint64_t offset, void *buffer, size_t room, size_t *bytes);
};

enum object_condition {
    OBJECT_REPLACE,  /**< whatever is there is replaced, at once: readers see the old or the new object */
    OBJECT_IF_ABSENT /**< DCACHE_ERR_EXISTS, and nothing changed, when the key is taken; exactly one of several wins */
};

/** Called for each object, in ascending order of keys. Not DCACHE_OK stops the listing, which then returns it. */
typedef dcache_status_t (*object_visitor)(void *context, const char *key, uint64_t bytes);

/** What the use of a store has taken on the network since it was opened, over all threads. */
struct object_traffic {
    uint64_t requests;  /**< each attempt is one */
    uint64_t retries;   /**< attempts after the first one of a request */
    uint64_t throttled; /**< answers that say the service is busy: 429, 503 */
    uint64_t hedged;    /**< blocks that took long and were sent on a second connection as well */
    uint64_t sent;      /**< bytes of bodies, with those that were sent again */
    uint64_t cpu_ns;    /**< CPU time of the threads that sent them */
};

/** What a backend does. Every slot blocks, may be called from any thread, and never keeps a pointer it was given. */
struct object_store_ops {
    const char *scheme;
    bool by_request; /**< each request costs time and money of its own: small objects are better put together */
    /** Make the container or directory if it is missing; DCACHE_OK also when it was there. Nothing else ever makes a
     * container: where data goes, and who pays for it, is the user's decision. */
    dcache_status_t (*create)(struct object_store *store, struct diag *dg);
    /** Store an object. All or nothing: after any failure or kill the key is absent or has its former content; only
     * when the answer to the last request was lost for good it may have the whole new content instead.
     * `cancel` may be NULL; when it becomes true the call returns DCACHE_ERR_CANCELLED within a second or so.
     * DCACHE_ERR_CORRUPT: the source's data do not match the source's CRC. */
    dcache_status_t (*put)(struct object_store *store, struct diag *dg, const char *key,
                           const struct object_source *source, enum object_condition condition,
                           const atomic_bool *cancel);
    /** Replace a small object (OBJECT_SWAP_MAX bytes) by another one if it still is the one with this etag; with "", if
     * there is none: compare and swap, by which writers agree. Of several that saw the same exactly one wins.
     * DCACHE_ERR_EXISTS: another one did, or is about to, and nothing was changed. An answer that was lost is asked
     * for. (Directories on file systems without locks: two at the same instant may both believe that they won.) */
    dcache_status_t (*swap)(struct object_store *store, struct diag *dg, const char *key, const char *etag,
                            const void *data, size_t bytes, const atomic_bool *cancel);
    /** Read `bytes` bytes at `offset`; all of them or a failure. `etag` NULL or "" = any; else a changed object is
     * DCACHE_ERR_CORRUPT. A missing object is DCACHE_NOT_FOUND, without a text. */
    dcache_status_t (*get)(struct object_store *store, struct diag *dg, const char *key, const char *etag,
                           uint64_t offset, void *buffer, size_t bytes);
    /** Size and etag, or DCACHE_NOT_FOUND. */
    dcache_status_t (*head)(struct object_store *store, struct diag *dg, const char *key, struct object_info *info);
    /** Visit all objects whose key starts with `prefix` ("" = all), across pages. Objects with foreign names are left
     * out. The visitor may use the store, also to remove what it is shown. */
    dcache_status_t (*list)(struct object_store *store, struct diag *dg, const char *prefix, object_visitor visit,
                            void *context);
    /** Remove an object; DCACHE_OK also when it was not there. */
    dcache_status_t (*remove)(struct object_store *store, struct diag *dg, const char *key);
    /** Any thread may ask at any time. NULL: it uses no network. */
    struct object_traffic (*traffic)(struct object_store *store);
    /** From now on this store and `other`, of the same backend, have policy.connections together and not each. Before
     * the first use; `other` is closed after this one. NULL: there is nothing to share. */
    void (*share)(struct object_store *store, struct object_store *other);
    /** Free everything. No call may be under way. */
    void (*close)(struct object_store *store);
};

/** What each backend's own struct begins with. */
struct object_store {
    const struct object_store_ops *ops;
    struct object_policy policy;
    char *url;                    /**< canonical, for texts and comparisons; owned */
    struct object_store **others; /**< stores that belong to this one (io/stripes.h); owned */
    size_t other_count;
};

/**
 * Check a store's URL without touching the network, and find what goes with it in the environment:
 * AZURE_STORAGE_CONNECTION_STRING (with AccountKey or SharedAccessSignature), else AZURE_STORAGE_ACCOUNT,
 * AZURE_STORAGE_BLOB_ENDPOINT and AZURE_STORAGE_KEY, AZURE_STORAGE_ACCESS_KEY or AZURE_STORAGE_SAS_TOKEN;
 * AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_CLIENT_SECRET, AZURE_FEDERATED_TOKEN_FILE, AZURE_STORAGE_AUTH_TOKEN_FILE,
 * AZURE_STORAGE_AUTH_TOKEN_COMMAND, AZURE_AUTHORITY_HOST and AZURE_POD_IDENTITY_AUTHORITY_HOST. For an account that has
 * one, AZURE_STORAGE_CONNECTION_STRING_ACCOUNT (the name in capitals) comes before all keys and signatures.
 *
 * URLs: `file:///absolute/dir`, `file://relative/dir` (to the working directory),
 * `https://ACCOUNT.blob.core.windows.net/CONTAINER[/PREFIX]`, `http://127.0.0.1:PORT/ACCOUNT/CONTAINER[/PREFIX]` (path
 * style: host is an address or localhost), `azure://CONTAINER[/PREFIX]` (account and endpoint from the environment).
 * A URL that starts with the environment's blob endpoint (any host, path style or not) is taken apart behind it.
 * http:// is used only where a URL or the environment says so in words, and never with a token.
 *
 * @param auth       the way to take, or OBJECT_AUTH_AUTO
 * @param canonical  out, OBJECT_URL_MAX: the URL with relative directories made absolute and azure:// made https://;
 *                   holds no secret, and can be resolved again
 * @return DCACHE_OK; DCACHE_ERR_OPTION (the text names the URL and what is allowed, or the missing variable; never a
 * secret)
 */
dcache_status_t object_store_resolve_as(struct diag *dg, const char *url, enum object_auth auth,
                                        char canonical[OBJECT_URL_MAX],
                                        struct object_credentials *credentials) DCACHE_MUST_CHECK;

/** The same with OBJECT_AUTH_AUTO. */
dcache_status_t object_store_resolve(struct diag *dg, const char *url, char canonical[OBJECT_URL_MAX],
                                     struct object_credentials *credentials) DCACHE_MUST_CHECK;

/** Say which way to authenticate would be taken for this URL, and why each of the others would not: one line, without
 * secrets. @return as object_store_resolve_as(), but DCACHE_OK also when there is no way; "" for file:// */
dcache_status_t object_store_explain_auth(struct diag *dg, const char *url, enum object_auth auth, char *text,
                                          size_t size) DCACHE_MUST_CHECK;

/** Open a store on a canonical URL. Touches the network only when used (the file backend makes its directory). */
dcache_status_t object_store_open(struct diag *dg, const char *canonical, const struct object_credentials *credentials,
                                  const struct object_policy *policy, struct object_store **store) DCACHE_MUST_CHECK;

/** With that of the stores that belong to it. All zeros for a NULL store and where there is no network. */
struct object_traffic object_store_traffic(struct object_store *store);

/** Close and free, with the stores that belong to it; NULL is allowed. */
void object_store_close(struct object_store *store);

/** Check a key against the rules above. */
bool object_key_valid(const char *key);

/** Put a small object from memory. */
dcache_status_t object_store_put_bytes(struct object_store *store, struct diag *dg, const char *key, const void *data,
                                       size_t bytes, enum object_condition condition) DCACHE_MUST_CHECK;

/** Get a whole object of at most `limit` bytes (more is DCACHE_ERR_CORRUPT); `data` is malloc'ed with a zero byte
 * behind it, the caller's. */
dcache_status_t object_store_get_bytes(struct object_store *store, struct diag *dg, const char *key, size_t limit,
                                       char **data, size_t *bytes) DCACHE_MUST_CHECK;

#endif
