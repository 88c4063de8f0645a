/**
 * Who may write a job's steps: one document in the object store, `<job>/claim.json`, that a run holds while it is open
 * and `dcache drain` while it works. It keeps two runs of one name, started by mistake, from writing into each other's
 * steps, and a run that was thought dead and replaced from going on as if nothing had happened.
 *
 * Holders renew it; who finds it held watches it for as long as its lease is, and takes it when nothing changes.
 * Nobody's wall clock is compared with anybody else's. Changes are compare-and-swap (object_store_ops.swap). The
 * document guards against mistakes, not against enemies: who can write to the store can write it.
 */
#ifndef DCACHE_IO_CLAIM_H
#define DCACHE_IO_CLAIM_H

#include "io/object_store.h"

#define CLAIM_LEASE_MAX_S 3600

enum claim_owner { CLAIM_RUN, CLAIM_TOOL };

/** The document. Plain data; zeroed: there is none. */
struct claim {
    uint64_t run;        /**< who holds it: the epoch of a run, or a tool's random number */
    uint64_t generation; /**< from 1 on: grows each time it changes hands */
    uint64_t renewals;
    enum claim_owner owner;
    bool held;        /**< false: given back */
    char host[64];    /**< "" = unknown, as are the following ones */
    char slurm[32];   /**< the job's number there; "" = none */
    long pid;         /**< of the process that renews it */
    uint64_t process; /**< tells that process from others of its number, and its machine from others; 0 = unknown */
    uint64_t machine; /**< over its reboots; 0 = unknown */
    uint64_t boot;    /**< since when it runs; 0 = unknown */
    char slurm_cluster[64];  /**< whose Slurm it is; "" = unknown */
    uint32_t slurm_restarts; /**< how often the Slurm job was started again */
    int64_t written;         /**< seconds since 1970 by its writer's clock: for people only */
    uint32_t lease_s;        /**< as long without a renewal, and it is nobody's */
};

/** What makes a writer: put with a drain's requests, it is asked before each commit. */
struct claim_guard {
    struct claim me; /**< owner and run count */
    bool held;       /**< it has been ours: not to hold it any more is then final */
};

/** What one has seen of a claim of others so far. Zeroed at first. */
struct claim_watch {
    char etag[sizeof((struct object_info *)0)->etag];
    double since;  /**< it has not changed; threads_now() */
    bool seen;     /**< there was one */
    bool is_alive; /**< it has been renewed while it was watched */
};

/** This process as a holder. `lease_s` from 1 to CLAIM_LEASE_MAX_S. */
struct claim claim_self(enum claim_owner owner, uint64_t run, uint32_t lease_s);

/** @return DCACHE_OK, DCACHE_NOT_FOUND, DCACHE_ERR_CORRUPT, DCACHE_ERR_FORMAT, errors of the store */
dcache_status_t claim_read(struct diag *dg, struct object_store *store, const char *job,
                           struct claim *claim) DCACHE_MUST_CHECK;

/** Text of a document and back; the text is malloc'ed, the caller's. `name` is for the texts. */
dcache_status_t claim_encode(struct diag *dg, const char *job, const struct claim *claim, char **text,
                             size_t *bytes) DCACHE_MUST_CHECK;
dcache_status_t claim_decode(struct diag *dg, const char *name, const char *text, size_t bytes,
                             struct claim *claim) DCACHE_MUST_CHECK;

/** Was `there` what `me` is now, before the machine was booted or Slurm started the job again? Then it has ended. */
bool claim_is_former_life(const struct claim *there, const struct claim *me);

/** Its holder is known to have ended: a process of this machine, of it before it was booted, or of this Slurm job
 * before it was started again. */
bool claim_holder_ended(const struct claim *claim);

/** "a run on host n1 (process 4711, Slurm job 17)"; `text` has 192 bytes. Returns it. */
#define CLAIM_HOLDER_MAX 192
const char *claim_holder_text(const struct claim *claim, char text[CLAIM_HOLDER_MAX]);

/**
 * Try once to take it. Runs take over from tools at once, and tools join each other.
 * @param ended  the run that is known to have ended, whatever its claim says; 0 = none
 * @param holder out, may be NULL: who holds it otherwise
 * @return DCACHE_OK; DCACHE_ERR_BUSY: others hold it, and call again later (watch->is_alive: it makes no sense, they
 *         live); DCACHE_ERR_FORMAT; errors of the store
 */
dcache_status_t claim_try(struct diag *dg, struct object_store *store, const char *job, const struct claim *me,
                          uint64_t ended, struct claim_watch *watch, struct claim *holder) DCACHE_MUST_CHECK;

/** Try until it is ours, or is seen to be alive, or the store fails; at most a lease of the holder's. The text of
 * DCACHE_ERR_BUSY says who holds it and what to do. */
dcache_status_t claim_take(struct diag *dg, struct object_store *store, const char *job, const struct claim *me,
                           uint64_t ended) DCACHE_MUST_CHECK;

/** Say that we live. Tools do it for each other: one writes only what nobody has since it looked last, which is kept in
 * me->renewals. @return DCACHE_OK; DCACHE_ERR_BUSY: it is another's now; errors of the store */
dcache_status_t claim_renew(struct diag *dg, struct object_store *store, const char *job, struct claim *me,
                            const atomic_bool *cancel) DCACHE_MUST_CHECK;

/** Give it back. DCACHE_OK also when it was not ours. */
dcache_status_t claim_release(struct diag *dg, struct object_store *store, const char *job,
                              const struct claim *me) DCACHE_MUST_CHECK;

/**
 * May this writer commit? NULL may. Asks the store.
 * @return DCACHE_OK; DCACHE_ERR_BUSY: it was ours and is another's, for good; DCACHE_ERR_STORE: it is not ours yet; and
 *         errors of the store
 */
dcache_status_t claim_check(struct diag *dg, struct object_store *store, const char *job,
                            struct claim_guard *guard) DCACHE_MUST_CHECK;

#endif
