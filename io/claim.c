#include "io/claim.h"

#include "io/crc64.h"
#include "io/json_field.h"
#include "io/machine.h"
#include "io/threads.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define FORMAT_NAME    "dcache-claim"
#define FORMAT_VERSION 1
#define BYTES_MAX      (16u << 10)
#define READ_TRIES     20
#define SWAP_TRIES     5    /* of a change that others came before */
#define POLL_S         0.25 /* between two looks at a claim that is watched */
#define REMEDY                                                                                                         \
    "give this run a name of its own (option job), end the other one, or, if it has ended, try again in %" PRIu32 " s"

/* ---- Holders ---- */

static void make_printable(char *text)
{
    for (; *text != '\0'; text++) {
        if (*text < ' ' || *text > '~')
            *text = '?';
    }
}

struct claim claim_self(enum claim_owner owner, uint64_t run, uint32_t lease_s)
{
    struct claim me = {.run = run, .owner = owner, .held = true, .pid = (long)getpid(), .lease_s = lease_s};
    const char *slurm = getenv("SLURM_JOB_ID"), *cluster = getenv("SLURM_CLUSTER_NAME");
    const char *restarts = getenv("SLURM_RESTART_COUNT");
    if (gethostname(me.host, sizeof me.host - 1) != 0)
        me.host[0] = '\0';
    snprintf(me.slurm, sizeof me.slurm, "%s", slurm != NULL ? slurm : "");
    snprintf(me.slurm_cluster, sizeof me.slurm_cluster, "%s", cluster != NULL ? cluster : "");
    me.slurm_restarts = restarts != NULL ? (uint32_t)(strtoul(restarts, NULL, 10) & INT32_MAX) : 0;
    make_printable(me.host);
    make_printable(me.slurm);
    make_printable(me.slurm_cluster);
    me.process = machine_process(me.pid);
    me.machine = machine_identity("");
    me.boot = machine_boot();
    return me;
}

/* A machine has one boot at a time; Slurm starts a job again when it has ended, or is counted as dead. Two programs of
 * one Slurm job have the same count. */
bool claim_is_former_life(const struct claim *there, const struct claim *me)
{
    if (there->machine != 0 && there->machine == me->machine && there->boot != 0 && me->boot != 0 &&
        there->boot != me->boot)
        return true;
    return there->slurm[0] != '\0' && strcmp(there->slurm, me->slurm) == 0 && there->slurm_cluster[0] != '\0' &&
           strcmp(there->slurm_cluster, me->slurm_cluster) == 0 && there->slurm_restarts < me->slurm_restarts;
}

static bool has_ended(const struct claim *there, const struct claim *me)
{
    return machine_process_ended(there->process, there->pid) || claim_is_former_life(there, me);
}

bool claim_holder_ended(const struct claim *claim)
{
    const struct claim me = claim_self(CLAIM_TOOL, 0, 1);
    return has_ended(claim, &me);
}

const char *claim_holder_text(const struct claim *claim, char text[CLAIM_HOLDER_MAX])
{
    int length = snprintf(text, CLAIM_HOLDER_MAX, "%s on host %s (process %ld",
                          claim->owner == CLAIM_RUN ? "a run" : "`dcache drain`",
                          claim->host[0] != '\0' ? claim->host : "?", claim->pid);
    snprintf(text + length, CLAIM_HOLDER_MAX - (size_t)length, "%s%s)", claim->slurm[0] != '\0' ? ", Slurm job " : "",
             claim->slurm);
    return text;
}

/* ---- The document ---- */

static const char *owner_name(const struct claim *claim)
{
    return claim->owner == CLAIM_RUN ? "run" : "tool";
}

static const char *state_name(const struct claim *claim)
{
    return claim->held ? "held" : "released";
}

static void claim_key(char key[OBJECT_KEY_MAX], const char *job)
{
    snprintf(key, OBJECT_KEY_MAX, "%s/claim.json", job);
}

/* Of all that it says: a bit that was flipped must not make another holder of it. */
static uint64_t digest_of(const struct claim *claim)
{
    char text[512];
    int length = snprintf(text, sizeof text,
                          "%016" PRIx64 "\n%" PRIu64 "\n%" PRIu64 "\n%s\n%s\n%s\n%s\n%ld\n%016" PRIx64 "\n%" PRId64
                          "\n%" PRIu32 "\n",
                          claim->run, claim->generation, claim->renewals, owner_name(claim), state_name(claim),
                          claim->host, claim->slurm, claim->pid, claim->process, claim->written, claim->lease_s);
    return crc64_update(0, text, (size_t)length);
}

/* The same of what documents had not from the beginning. */
static uint64_t origin_digest_of(const struct claim *claim)
{
    char text[256];
    int length = snprintf(text, sizeof text, "%016" PRIx64 "\n%016" PRIx64 "\n%016" PRIx64 "\n%s\n%" PRIu32 "\n",
                          claim->run, claim->machine, claim->boot, claim->slurm_cluster, claim->slurm_restarts);
    return crc64_update(0, text, (size_t)length);
}

static int add_hex(json_t *root, const char *key, uint64_t value)
{
    char text[17];
    snprintf(text, sizeof text, "%016" PRIx64, value);
    return json_object_set_new(root, key, json_string(text));
}

static int add_origin(json_t *root, const struct claim *claim)
{
    return add_hex(root, "machine", claim->machine) | add_hex(root, "boot", claim->boot) |
           json_object_set_new(root, "slurm_cluster", json_string(claim->slurm_cluster)) |
           json_object_set_new(root, "slurm_restarts", json_integer((json_int_t)claim->slurm_restarts)) |
           add_hex(root, "origin_digest", origin_digest_of(claim));
}

dcache_status_t claim_encode(struct diag *dg, const char *job, const struct claim *claim, char **text, size_t *bytes)
{
    char run[17], process[17], digest[17];
    snprintf(run, sizeof run, "%016" PRIx64, claim->run);
    snprintf(process, sizeof process, "%016" PRIx64, claim->process);
    snprintf(digest, sizeof digest, "%016" PRIx64, digest_of(claim));
    json_t *root =
        json_pack("{s:s, s:i, s:s, s:s, s:I, s:I, s:s, s:s, s:s, s:s, s:I, s:s, s:I, s:I, s:s}", "format", FORMAT_NAME,
                  "version", FORMAT_VERSION, "job", job, "run", run, "generation", (json_int_t)claim->generation,
                  "renewals", (json_int_t)claim->renewals, "owner", owner_name(claim), "state", state_name(claim),
                  "host", claim->host, "slurm_job", claim->slurm, "pid", (json_int_t)claim->pid, "process", process,
                  "written", (json_int_t)claim->written, "lease_seconds", (json_int_t)claim->lease_s, "digest", digest);
    if (root != NULL && add_origin(root, claim) != 0) {
        json_decref(root);
        root = NULL;
    }
    return json_field_print(dg, "claim.json", root, text, bytes);
}

static dcache_status_t decode_texts(struct diag *dg, const char *name, const json_t *root, struct claim *claim)
{
    char owner[8], state[16];
    dcache_status_t status = json_field_hex(dg, name, root, "run", &claim->run);
    if (status == DCACHE_OK)
        status = json_field_hex(dg, name, root, "process", &claim->process);
    if (status == DCACHE_OK)
        status = json_field_text(dg, name, root, "host", claim->host, sizeof claim->host);
    if (status == DCACHE_OK)
        status = json_field_text(dg, name, root, "slurm_job", claim->slurm, sizeof claim->slurm);
    if (status == DCACHE_OK)
        status = json_field_word(dg, name, root, "owner", owner, sizeof owner);
    if (status == DCACHE_OK)
        status = json_field_word(dg, name, root, "state", state, sizeof state);
    if (status != DCACHE_OK)
        return status;
    const bool run = strcmp(owner, "run") == 0, held = strcmp(state, "held") == 0;
    if ((!run && strcmp(owner, "tool") != 0) || (!held && strcmp(state, "released") != 0))
        return diag_fail(dg, DCACHE_ERR_CORRUPT, "%s: owner or state is none that there is", name);
    claim->owner = run ? CLAIM_RUN : CLAIM_TOOL;
    claim->held = held;
    return DCACHE_OK;
}

static dcache_status_t decode_numbers(struct diag *dg, const char *name, const json_t *root, struct claim *claim)
{
    uint64_t pid = 0, written = 0, lease = 0;
    dcache_status_t status = json_field_number(dg, name, root, "generation", 1, INT64_MAX - 1, &claim->generation);
    if (status == DCACHE_OK)
        status = json_field_number(dg, name, root, "renewals", 0, INT64_MAX - 1, &claim->renewals);
    if (status == DCACHE_OK)
        status = json_field_number(dg, name, root, "pid", 0, INT32_MAX, &pid);
    if (status == DCACHE_OK)
        status = json_field_number(dg, name, root, "written", 0, INT64_MAX, &written);
    if (status == DCACHE_OK)
        status = json_field_number(dg, name, root, "lease_seconds", 1, CLAIM_LEASE_MAX_S, &lease);
    claim->pid = (long)pid;
    claim->written = (int64_t)written;
    claim->lease_s = (uint32_t)lease;
    return status;
}

/* Documents of earlier versions have none of it. */
static dcache_status_t decode_origin(struct diag *dg, const char *name, const json_t *root, struct claim *claim)
{
    uint64_t restarts = 0, digest = 0;
    if (json_object_get(root, "origin_digest") == NULL)
        return DCACHE_OK;
    dcache_status_t status = json_field_hex(dg, name, root, "origin_digest", &digest);
    if (status == DCACHE_OK)
        status = json_field_hex(dg, name, root, "machine", &claim->machine);
    if (status == DCACHE_OK)
        status = json_field_hex(dg, name, root, "boot", &claim->boot);
    if (status == DCACHE_OK)
        status = json_field_text(dg, name, root, "slurm_cluster", claim->slurm_cluster, sizeof claim->slurm_cluster);
    if (status == DCACHE_OK)
        status = json_field_number(dg, name, root, "slurm_restarts", 0, INT32_MAX, &restarts);
    claim->slurm_restarts = (uint32_t)restarts;
    if (status == DCACHE_OK && digest != origin_digest_of(claim))
        status = diag_fail(dg, DCACHE_ERR_CORRUPT, "%s: where it comes from does not match its digest", name);
    return status;
}

dcache_status_t claim_decode(struct diag *dg, const char *name, const char *text, size_t bytes, struct claim *claim)
{
    struct claim found = {.run = 0};
    json_t *root = NULL;
    uint64_t digest = 0;
    dcache_status_t status = json_field_parse(dg, name, text, bytes, FORMAT_NAME, FORMAT_VERSION, &root);
    if (status != DCACHE_OK)
        return status;
    status = decode_texts(dg, name, root, &found);
    if (status == DCACHE_OK)
        status = decode_numbers(dg, name, root, &found);
    if (status == DCACHE_OK)
        status = json_field_hex(dg, name, root, "digest", &digest);
    if (status == DCACHE_OK)
        status = decode_origin(dg, name, root, &found);
    json_decref(root);
    if (status == DCACHE_OK && digest != digest_of(&found))
        status = diag_fail(dg, DCACHE_ERR_CORRUPT, "%s: what it says does not match its digest", name);
    if (status != DCACHE_OK)
        return status;
    make_printable(found.host);
    make_printable(found.slurm);
    make_printable(found.slurm_cluster);
    *claim = found;
    return status;
}

/* Read it and its etag, which is "" when there is none. One that is changed while it is read is read again. */
static dcache_status_t read_with_etag(struct diag *dg, struct object_store *store, const char *job, struct claim *claim,
                                      struct object_info *info)
{
    char key[OBJECT_KEY_MAX], text[BYTES_MAX + 1];
    dcache_status_t status = DCACHE_OK;
    claim_key(key, job);
    for (int i = 0; i < READ_TRIES; i++) {
        struct object_info after;
        const struct timespec nap = {.tv_nsec = i * 2000000}; /* others change it: out of step with them */
        (void)nanosleep(&nap, NULL);
        memset(info, 0, sizeof *info);
        status = store->ops->head(store, dg, key, info);
        if (status != DCACHE_OK)
            return status;
        if (info->bytes > BYTES_MAX)
            return diag_fail(dg, DCACHE_ERR_CORRUPT, "%s has %" PRIu64 " bytes, more than it can have", key,
                             info->bytes);
        status = store->ops->get(store, dg, key, info->etag, 0, text, (size_t)info->bytes);
        if (status == DCACHE_OK)
            return claim_decode(dg, key, text, (size_t)info->bytes, claim);
        if (status != DCACHE_ERR_CORRUPT && status != DCACHE_NOT_FOUND)
            return status;
        dcache_status_t again = store->ops->head(store, dg, key, &after);
        if (again == DCACHE_OK && strcmp(after.etag, info->etag) == 0)
            return status; /* not changed: it is spoilt */
    }
    return diag_fail(dg, DCACHE_ERR_STORE, "%s is changed all the time", key);
}

dcache_status_t claim_read(struct diag *dg, struct object_store *store, const char *job, struct claim *claim)
{
    struct object_info info;
    return read_with_etag(dg, store, job, claim, &info);
}

static dcache_status_t write_claim(struct diag *dg, struct object_store *store, const char *job, struct claim claim,
                                   const char *etag, const atomic_bool *cancel)
{
    char key[OBJECT_KEY_MAX], *text = NULL;
    size_t bytes = 0;
    claim_key(key, job);
    claim.written = (int64_t)time(NULL);
    dcache_status_t status = claim_encode(dg, job, &claim, &text, &bytes);
    if (status == DCACHE_OK)
        status = store->ops->swap(store, dg, key, etag, text, bytes, cancel);
    free(text);
    return status;
}

/* ---- Taking it ---- */

static bool is_ours(const struct claim *claim, const struct claim *me)
{
    return claim->owner == me->owner && (me->owner == CLAIM_TOOL || claim->run == me->run);
}

/* Note what is there now. True: it is nobody's, for nothing has changed for as long as its lease is. */
static bool watch_expired(struct claim_watch *watch, const char *etag, uint32_t lease_s)
{
    const double now = threads_now();
    if (!watch->seen || strcmp(watch->etag, etag) != 0) {
        watch->is_alive = watch->seen;
        watch->seen = true;
        watch->since = now;
        snprintf(watch->etag, sizeof watch->etag, "%s", etag);
    }
    return now - watch->since > (double)lease_s;
}

/* May `me` take what is there, without waiting for anything? */
static bool is_free(const struct claim *there, const struct claim *me, uint64_t ended)
{
    if (!there->held || is_ours(there, me) || (ended != 0 && there->run == ended))
        return true;
    return (there->owner == CLAIM_TOOL && me->owner == CLAIM_RUN) || has_ended(there, me);
}

static dcache_status_t say_busy(struct diag *dg, const char *job, const struct claim *there)
{
    char holder[CLAIM_HOLDER_MAX];
    return diag_fail(dg, DCACHE_ERR_BUSY, "the name %s is in use in this object store by %s: " REMEDY, job,
                     claim_holder_text(there, holder), there->lease_s);
}

dcache_status_t claim_try(struct diag *dg, struct object_store *store, const char *job, const struct claim *me,
                          uint64_t ended, struct claim_watch *watch, struct claim *holder)
{
    struct claim there = {.run = 0}, mine = *me;
    struct object_info info;
    dcache_status_t status = read_with_etag(dg, store, job, &there, &info);
    if (status == DCACHE_ERR_CORRUPT && info.etag[0] != '\0') { /* a holder that is not known: it would renew it */
        diag_log(dg, DIAG_WARNING, "the job's claim cannot be read and will be replaced: %s", dg->text);
        there = (struct claim){.held = true, .lease_s = me->lease_s};
    } else if (status == DCACHE_NOT_FOUND) {
        info.etag[0] = '\0';
    } else if (status != DCACHE_OK) {
        return status;
    }
    if (me->owner == CLAIM_TOOL && there.held && is_ours(&there, me)) /* joined, by a thousand nodes at once */
        return DCACHE_OK;
    if (there.held && !is_free(&there, me, ended) && !watch_expired(watch, info.etag, there.lease_s)) {
        if (holder != NULL)
            *holder = there;
        return say_busy(dg, job, &there);
    }
    mine.generation = there.generation + 1;
    mine.renewals = 0;
    status = diag_failpoint(dg, "claim.take");
    if (status == DCACHE_OK)
        status = write_claim(dg, store, job, mine, info.etag, NULL);
    if (status != DCACHE_ERR_EXISTS)
        return status;
    if (holder != NULL)
        *holder = there;
    return diag_fail(dg, DCACHE_ERR_BUSY, "the name %s is being taken by another process", job);
}

dcache_status_t claim_take(struct diag *dg, struct object_store *store, const char *job, const struct claim *me,
                           uint64_t ended)
{
    struct claim_watch watch;
    struct claim holder = {.run = 0};
    bool told = false;
    memset(&watch, 0, sizeof watch);
    for (;;) {
        dcache_status_t status = claim_try(dg, store, job, me, ended, &watch, &holder);
        if (status != DCACHE_ERR_BUSY || watch.is_alive)
            return status;
        if (!told && holder.lease_s > 1)
            diag_log(dg, DIAG_WARNING, "%s; waiting for at most that long to see whether it lives", dg->text);
        told = true;
        const struct timespec until = threads_deadline(POLL_S);
        (void)clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
    }
}

/* ---- Keeping it, and giving it back ---- */

static dcache_status_t say_lost(struct diag *dg, const char *job, const struct claim *there)
{
    char holder[CLAIM_HOLDER_MAX];
    return diag_fail(dg, DCACHE_ERR_BUSY,
                     "the name %s was taken over by %s, so this one stores nothing any more: end it", job,
                     claim_holder_text(there, holder));
}

/* Write it as ours, held or not. DCACHE_ERR_BUSY: it is another's. */
static dcache_status_t update(struct diag *dg, struct object_store *store, const char *job, const struct claim *me,
                              bool held, uint64_t *seen, const atomic_bool *cancel)
{
    dcache_status_t status = DCACHE_ERR_EXISTS;
    for (int i = 0; status == DCACHE_ERR_EXISTS && i < SWAP_TRIES; i++) {
        struct claim there = {.run = 0}, mine = *me;
        struct object_info info;
        status = read_with_etag(dg, store, job, &there, &info);
        bool gone = status == DCACHE_NOT_FOUND;
        if (gone)
            info.etag[0] = '\0';
        else if (status != DCACHE_OK)
            return status;
        if (!gone && !is_ours(&there, me))
            return say_lost(dg, job, &there);
        if (gone && !held)
            return DCACHE_OK;
        const bool others_do = i > 0 || there.renewals != *seen;
        *seen = there.renewals;
        if (me->owner == CLAIM_TOOL && held && there.held && others_do) /* another tool renews it for all of them */
            return DCACHE_OK;
        mine.generation = gone ? 1 : there.generation;
        mine.renewals = there.renewals + 1;
        mine.held = held;
        status = write_claim(dg, store, job, mine, info.etag, cancel);
        if (status == DCACHE_OK)
            *seen = mine.renewals;
    }
    return status;
}

dcache_status_t claim_renew(struct diag *dg, struct object_store *store, const char *job, struct claim *me,
                            const atomic_bool *cancel)
{
    dcache_status_t status = diag_failpoint(dg, "claim.renew");
    return status == DCACHE_OK ? update(dg, store, job, me, true, &me->renewals, cancel) : status;
}

dcache_status_t claim_release(struct diag *dg, struct object_store *store, const char *job, const struct claim *me)
{
    uint64_t seen = 0;
    dcache_status_t status = diag_failpoint(dg, "claim.release");
    if (status == DCACHE_OK)
        status = update(dg, store, job, me, false, &seen, NULL);
    return status == DCACHE_ERR_BUSY ? DCACHE_OK : status;
}

/* ---- The fence ---- */

dcache_status_t claim_check(struct diag *dg, struct object_store *store, const char *job, struct claim_guard *guard)
{
    struct claim there = {.run = 0};
    if (guard == NULL)
        return DCACHE_OK;
    dcache_status_t status = claim_read(dg, store, job, &there);
    if (status == DCACHE_NOT_FOUND)
        return diag_fail(dg, DCACHE_ERR_STORE, "the claim of the name %s is not in the object store yet", job);
    if (status == DCACHE_ERR_CORRUPT) /* the keeper sees to it */
        return diag_fail(dg, DCACHE_ERR_STORE, "the claim of the name %s cannot be read", job);
    if (status != DCACHE_OK)
        return status;
    if (is_ours(&there, &guard->me)) {
        guard->held = true;
        return DCACHE_OK;
    }
    if (guard->held)
        return say_lost(dg, job, &there);
    (void)say_busy(dg, job, &there);
    return DCACHE_ERR_STORE;
}
