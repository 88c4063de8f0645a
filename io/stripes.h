/**
 * A job's data over several stores: accounts, containers, prefixes or directories. The first one, the home, has all
 * that a job agrees by (claim, parts, manifests), so a commit stays one compare-and-swap at one place; shards and packs
 * are spread over all of them. Whoever is handed a job's store is handed the home, which owns the others and closes
 * them; only those who put or look for a shard ask here which one it is in.
 *
 * A store is known by its number here and by its canonical URL in documents, which may be of a time when there were
 * others, or in another order. Documents never lead to a store that is not among those that were opened.
 */
#ifndef DCACHE_IO_STRIPES_H
#define DCACHE_IO_STRIPES_H

#include "io/object_store.h"

#include <jansson.h>

#define STRIPES_MAX      16
#define STRIPES_TEXT_MAX 4096 /**< of their URLs, separated by spaces */
#define STRIPES_HOME     0u
#define STRIPES_UNKNOWN  UINT32_MAX /**< none of those that are configured */

/** Where the stores are, and who we are there. Plain data: rank 0 finds it and tells the others. */
struct stripes_places {
    uint32_t count;
    struct stripes_place {
        char url[OBJECT_URL_MAX]; /**< canonical */
        struct object_credentials credentials;
    } list[STRIPES_MAX];
};

/**
 * Take a text of one or several URLs apart, separated by white space (a space before something that is no URL belongs
 * to the directory before it), and resolve each for itself, as object_store_resolve_as() does.
 * @return DCACHE_OK; DCACHE_ERR_OPTION (one cannot be resolved, two are the same, too many, some are directories and
 *         some are not)
 */
dcache_status_t stripes_resolve(struct diag *dg, const char *text, enum object_auth auth,
                                struct stripes_places *places) DCACHE_MUST_CHECK;

/** The canonical URLs, separated by spaces; `text` has STRIPES_TEXT_MAX bytes, and can be resolved again. */
void stripes_text(const struct stripes_places *places, char *text);

/** Such a text in a document of the node store: "store_url" is the home, as it is without others, and "other_stores"
 * the rest, so that a dcache that knows of no others stores all at home. @return 0, or -1: out of memory */
int stripes_encode(json_t *object, const char *text);
/** @return DCACHE_OK, DCACHE_ERR_CORRUPT */
dcache_status_t stripes_decode(struct diag *dg, const char *name, const json_t *object, char *text) DCACHE_MUST_CHECK;

/** Open them all. What `policy` says of connections holds for all of them together. Close with object_store_close(). */
dcache_status_t stripes_open(struct diag *dg, const struct stripes_places *places, const struct object_policy *policy,
                             struct object_store **home) DCACHE_MUST_CHECK;

/** How many there are, the home included. */
uint32_t stripes_count(const struct object_store *home);

/** One of them; NULL for STRIPES_UNKNOWN. */
struct object_store *stripes_store(struct object_store *home, uint32_t number);

/** Its canonical URL; "" when it is not known. */
const char *stripes_url(const struct object_store *home, uint32_t number);

/** The one with this canonical URL, or STRIPES_UNKNOWN. */
uint32_t stripes_find(const struct object_store *home, const char *url);

/** Where a rank's shard goes. The same for all who have the same stores; equal numbers of any ranks k*n to k*n+n-1, n
 * being the count, and no pattern that a row of every m-th rank could fall in step with. */
uint32_t stripes_of_rank(const struct object_store *home, uint32_t rank);

/** Where a drainer's pack goes: they take turns, from a place that its process drew by chance. */
uint32_t stripes_of_pack(const struct object_store *home, uint64_t writer, size_t pack);

/**
 * Look whether this home has shards of this job for another home (stripes_mark()), or one of the others has ever been
 * its home: then the stores were put in another order, or the first was left out. What is durable would not be found,
 * and what is put and removed here would be another home's. Behind a store that does not answer it does not look.
 * @return DCACHE_OK; DCACHE_ERR_OPTION
 */
dcache_status_t stripes_check_home(struct diag *dg, struct object_store *home, const char *job) DCACHE_MUST_CHECK;

/** Leave in each of the others a mark that it is not the home of this job: <job>/home.json. Before the first shard is
 * put there. */
dcache_status_t stripes_mark(struct diag *dg, struct object_store *home, const char *job) DCACHE_MUST_CHECK;

#endif
