/* io/claim.c and its keeper: of several that want a job's name exactly one has it, the living are left alone, the dead
 * are taken over from, and who has lost it stores nothing more. On a directory, and where TEST_AZURE_URL leads to a
 * Blob service, on that. */
#include "io/claim.h"

#include "io/machine.h"
#include "io/threads.h"
#include "runtime/claim_keeper.h"
#include "unit.h"

#include <sys/wait.h>

#define JOB     "job"
#define RACERS  6
#define FOREVER CLAIM_LEASE_MAX_S /* a test that waits for such a lease is killed: so none does */

static struct diag dg;
static struct object_store *store;

/* ---- Compare and swap, which all of it relies on ---- */

static dcache_status_t swap(const char *key, const char *etag, const char *text)
{
    return store->ops->swap(store, &dg, key, etag, text, strlen(text), NULL);
}

static void check_swap(void)
{
    struct object_info first, second;
    char *text = NULL;
    size_t bytes = 0;
    CU_ASSERT(swap("swap/x", "\"0x1234\"", "nothing to swap") == DCACHE_ERR_EXISTS);
    CU_ASSERT(store->ops->head(store, &dg, "swap/x", &first) == DCACHE_NOT_FOUND);
    CU_ASSERT(swap("swap/x", "", "one") == DCACHE_OK);
    CU_ASSERT(swap("swap/x", "", "again") == DCACHE_ERR_EXISTS);
    CU_ASSERT_FATAL(store->ops->head(store, &dg, "swap/x", &first) == DCACHE_OK);
    CU_ASSERT(swap("swap/x", first.etag, "three") == DCACHE_OK);
    CU_ASSERT_FATAL(store->ops->head(store, &dg, "swap/x", &second) == DCACHE_OK);
    CU_ASSERT(strcmp(first.etag, second.etag) != 0);
    CU_ASSERT(swap("swap/x", first.etag, "late") == DCACHE_ERR_EXISTS);
    CU_ASSERT(strstr(dg.text, "swap/x") != NULL);
    CU_ASSERT_FATAL(object_store_get_bytes(store, &dg, "swap/x", 100, &text, &bytes) == DCACHE_OK);
    CU_ASSERT_STRING_EQUAL(text, "three");
    free(text);
    CU_ASSERT(swap("swap/../x", "", "one") == DCACHE_ERR_INVALID);
}

struct swapper {
    pthread_t thread;
    pthread_barrier_t *start;
    const char *etag;
    dcache_status_t status;
    struct diag diag;
};

static void *swap_one(void *context)
{
    struct swapper *swapper = context;
    pthread_barrier_wait(swapper->start);
    swapper->status = store->ops->swap(store, &swapper->diag, "swap/race", swapper->etag, "new", 3, NULL);
    return NULL;
}

/* Of several that saw the same object, or none, at most one wins; and one does, when nothing is in its way. */
static void race_of_swappers(const char *etag)
{
    struct swapper swappers[RACERS];
    pthread_barrier_t start;
    int won = 0;
    pthread_barrier_init(&start, NULL, RACERS);
    for (unsigned i = 0; i < RACERS; i++) {
        swappers[i] = (struct swapper){.start = &start, .etag = etag};
        diag_init(&swappers[i].diag, "unit", -1, DIAG_ERROR);
        CU_ASSERT_FATAL(pthread_create(&swappers[i].thread, NULL, swap_one, &swappers[i]) == 0);
    }
    for (unsigned i = 0; i < RACERS; i++) {
        pthread_join(swappers[i].thread, NULL);
        won += swappers[i].status == DCACHE_OK;
        CU_ASSERT(swappers[i].status == DCACHE_OK || swappers[i].status == DCACHE_ERR_EXISTS);
    }
    pthread_barrier_destroy(&start);
    CU_ASSERT_EQUAL(won, 1);
}

static void check_race_of_swappers(void)
{
    struct object_info info;
    for (int round = 0; round < 10; round++) {
        CU_ASSERT_FATAL(store->ops->remove(store, &dg, "swap/race") == DCACHE_OK);
        race_of_swappers("");
        CU_ASSERT_FATAL(store->ops->head(store, &dg, "swap/race", &info) == DCACHE_OK);
        race_of_swappers(info.etag);
    }
}

/* ---- Claims ---- */

static void clear(void)
{
    CU_ASSERT_FATAL(store->ops->remove(store, &dg, JOB "/claim.json") == DCACHE_OK);
}

/* A run on another machine. */
static struct claim stranger(uint64_t run, uint32_t lease_s)
{
    struct claim claim = claim_self(CLAIM_RUN, run, lease_s);
    claim.process = 0;
    snprintf(claim.host, sizeof claim.host, "far-away");
    snprintf(claim.slurm, sizeof claim.slurm, "4711");
    return claim;
}

static dcache_status_t try_once(struct claim *me, uint64_t ended)
{
    struct claim_watch watch;
    memset(&watch, 0, sizeof watch);
    return claim_try(&dg, store, JOB, me, ended, &watch, NULL);
}

static struct claim read_back(void)
{
    struct claim claim = {.run = 0};
    CU_ASSERT_EQUAL(claim_read(&dg, store, JOB, &claim), DCACHE_OK);
    return claim;
}

static void check_document(void)
{
    struct claim claim = stranger(0xfedcba9876543210u, 7), again = {.run = 0};
    char *text = NULL, *bad;
    size_t bytes = 0;
    claim.generation = 3;
    claim.renewals = 9;
    claim.written = 1700000000;
    claim.machine = UINT64_MAX;
    claim.boot = 5;
    claim.slurm_restarts = 2;
    snprintf(claim.slurm_cluster, sizeof claim.slurm_cluster, "a cluster");
    CU_ASSERT_EQUAL_FATAL(claim_encode(&dg, JOB, &claim, &text, &bytes), DCACHE_OK);
    CU_ASSERT_EQUAL(claim_decode(&dg, "it", text, bytes, &again), DCACHE_OK);
    CU_ASSERT(again.run == claim.run && again.generation == 3 && again.renewals == 9 && again.held &&
              again.owner == CLAIM_RUN && again.lease_s == 7 && again.written == 1700000000 && again.pid == claim.pid);
    CU_ASSERT_STRING_EQUAL(again.host, "far-away");
    CU_ASSERT_STRING_EQUAL(again.slurm, "4711");
    CU_ASSERT_STRING_EQUAL(again.slurm_cluster, "a cluster");
    CU_ASSERT(again.machine == UINT64_MAX && again.boot == 5 && again.slurm_restarts == 2);
    bad = strstr(text, "\"held\"");
    CU_ASSERT_PTR_NOT_NULL_FATAL(bad);
    memcpy(bad, "\"hell\"", 6);
    CU_ASSERT_EQUAL(claim_decode(&dg, "it", text, bytes, &again), DCACHE_ERR_CORRUPT);
    memcpy(bad, "\"held\"", 6);
    CU_ASSERT_EQUAL(claim_decode(&dg, "it", text, bytes / 2, &again), DCACHE_ERR_CORRUPT);
    bad = strstr(text, "\"generation\": 3");
    CU_ASSERT_PTR_NOT_NULL_FATAL(bad);
    bad[14] = '2'; /* another number: fine but for the digest */
    CU_ASSERT_EQUAL(claim_decode(&dg, "it", text, bytes, &again), DCACHE_ERR_CORRUPT);
    CU_ASSERT(strstr(dg.text, "digest") != NULL);
    bad[14] = '3';
    CU_ASSERT_EQUAL(claim_decode(&dg, "it", text, bytes, &again), DCACHE_OK);
    bad = strstr(text, "\"slurm_restarts\": 2");
    CU_ASSERT_PTR_NOT_NULL_FATAL(bad);
    bad[18] = '3'; /* the same with what declares it dead */
    CU_ASSERT_EQUAL(claim_decode(&dg, "it", text, bytes, &again), DCACHE_ERR_CORRUPT);
    bad[18] = '2';
    bad = strstr(text, "\"origin_digest\"");
    CU_ASSERT_PTR_NOT_NULL_FATAL(bad);
    bad[1] = 'O'; /* as earlier versions wrote it: nothing is known of that */
    again = (struct claim){.run = 0};
    CU_ASSERT_EQUAL(claim_decode(&dg, "it", text, bytes, &again), DCACHE_OK);
    CU_ASSERT(again.run == claim.run && again.machine == 0 && again.boot == 0 && again.slurm_cluster[0] == '\0' &&
              again.slurm_restarts == 0);
    bad[1] = 'o';
    bad = strstr(text, "\"version\": 1");
    CU_ASSERT_PTR_NOT_NULL_FATAL(bad);
    bad[11] = '2';
    CU_ASSERT_EQUAL(claim_decode(&dg, "it", text, bytes, &again), DCACHE_ERR_FORMAT);
    free(text);
}

static void check_life(void)
{
    struct claim first = stranger(1, FOREVER), second = stranger(2, FOREVER);
    clear();
    CU_ASSERT_EQUAL(try_once(&first, 0), DCACHE_OK);
    CU_ASSERT(read_back().run == 1 && read_back().generation == 1 && read_back().held);
    CU_ASSERT_EQUAL(try_once(&first, 0), DCACHE_OK); /* its own */
    CU_ASSERT_EQUAL(try_once(&second, 0), DCACHE_ERR_BUSY);
    CU_ASSERT(strstr(dg.text, "far-away") != NULL && strstr(dg.text, "4711") != NULL &&
              strstr(dg.text, "option job") != NULL);
    const uint64_t renewals = read_back().renewals;
    CU_ASSERT_EQUAL(claim_renew(&dg, store, JOB, &first, NULL), DCACHE_OK);
    CU_ASSERT_EQUAL(read_back().renewals, renewals + 1);
    CU_ASSERT_EQUAL(claim_release(&dg, store, JOB, &second), DCACHE_OK); /* nothing of its own */
    CU_ASSERT(read_back().held);
    CU_ASSERT_EQUAL(claim_release(&dg, store, JOB, &first), DCACHE_OK);
    CU_ASSERT(!read_back().held);
    const uint64_t generation = read_back().generation;
    CU_ASSERT_EQUAL(try_once(&second, 0), DCACHE_OK);
    CU_ASSERT(read_back().run == 2 && read_back().generation == generation + 1);
    CU_ASSERT_EQUAL(claim_renew(&dg, store, JOB, &first, NULL), DCACHE_ERR_BUSY);
    CU_ASSERT(strstr(dg.text, "taken over") != NULL);
    CU_ASSERT(read_back().run == 2);
    clear(); /* by whatever: who holds it writes it anew */
    CU_ASSERT_EQUAL(claim_renew(&dg, store, JOB, &second, NULL), DCACHE_OK);
    CU_ASSERT(read_back().run == 2 && read_back().held);
}

struct holder {
    pthread_t thread;
    struct claim me;
    struct diag diag;
    atomic_bool stop;
    atomic_bool failed;
};

static void *renew_all_the_time(void *context)
{
    struct holder *holder = context;
    const struct timespec nap = {.tv_nsec = 20000000};
    while (!atomic_load(&holder->stop)) {
        if (claim_renew(&holder->diag, store, JOB, &holder->me, NULL) != DCACHE_OK)
            atomic_store(&holder->failed, true);
        (void)nanosleep(&nap, NULL);
    }
    return NULL;
}

/* Its lease is never waited for, because it is seen to be renewed. */
static void check_the_living(void)
{
    struct holder holder = {.me = stranger(1, FOREVER), .diag = dg};
    struct claim second = stranger(2, FOREVER);
    clear();
    CU_ASSERT_EQUAL_FATAL(try_once(&holder.me, 0), DCACHE_OK);
    CU_ASSERT_FATAL(pthread_create(&holder.thread, NULL, renew_all_the_time, &holder) == 0);
    CU_ASSERT_EQUAL(claim_take(&dg, store, JOB, &second, 0), DCACHE_ERR_BUSY);
    CU_ASSERT(strstr(dg.text, "far-away") != NULL);
    atomic_store(&holder.stop, true);
    pthread_join(holder.thread, NULL);
    CU_ASSERT(!atomic_load(&holder.failed));
    CU_ASSERT(read_back().run == 1 && read_back().held);
}

static void check_the_dead(void)
{
    struct claim first = stranger(1, 1), second = stranger(2, FOREVER), third = stranger(3, FOREVER);
    clear();
    CU_ASSERT_EQUAL_FATAL(try_once(&first, 0), DCACHE_OK);
    const double start = threads_now();
    CU_ASSERT_EQUAL(claim_take(&dg, store, JOB, &second, 0), DCACHE_OK);
    CU_ASSERT(threads_now() - start >= 1); /* its lease was respected */
    CU_ASSERT(read_back().run == 2 && read_back().generation == 2);
    CU_ASSERT_EQUAL(claim_take(&dg, store, JOB, &third, 2), DCACHE_OK); /* known to have ended: at once */
    CU_ASSERT(read_back().run == 3);
}

static void put_file(const char *root, const char *name, const char *text)
{
    char path[700];
    snprintf(path, sizeof path, "%s/%s", root, name);
    FILE *file = fopen(path, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    CU_ASSERT(fputs(text, file) >= 0);
    CU_ASSERT_EQUAL(fclose(file), 0);
}

/* A card, with a device behind it or without one. */
static void put_card(const char *root, const char *name, const char *address, bool device)
{
    char path[700];
    snprintf(path, sizeof path, "mkdir -p '%s/sys/class/net/%s'", root, name);
    CU_ASSERT_EQUAL_FATAL(system(path), 0);
    snprintf(path, sizeof path, "sys/class/net/%s/address", name);
    put_file(root, path, address);
    snprintf(path, sizeof path, "sys/class/net/%s/type", name);
    put_file(root, path, "1\n");
    snprintf(path, sizeof path, "sys/class/net/%s/device", name);
    if (device)
        put_file(root, path, "");
}

/* Known again by all that it has, and not known when that could be another's, too. */
static void check_machine(void)
{
    char root[600], command[1300];
    snprintf(root, sizeof root, "%s/machine", unit_scratch());
    snprintf(command, sizeof command, "rm -rf '%s' && mkdir -p '%s/etc'", root, root);
    CU_ASSERT_EQUAL_FATAL(system(command), 0);
    put_card(root, "eth0", "7c:1e:52:00:00:01\n", true);
    CU_ASSERT_EQUAL(machine_identity(root), 0); /* it has no id */
    put_file(root, "etc/machine-id", "0123456789abcdef0123456789abcdef\n");
    const uint64_t mark = machine_identity(root);
    CU_ASSERT_NOT_EQUAL(mark, 0);
    put_card(root, "eth1", "7c:1e:52:00:00:01\n", true); /* the same card once more */
    put_card(root, "lo", "00:00:00:00:00:00\n", true);
    put_card(root, "docker0", "00:1e:52:00:00:02\n", false);
    put_card(root, "tap0", "02:42:ac:11:00:02\n", true);
    CU_ASSERT_EQUAL(machine_identity(root), mark);
    put_card(root, "eth2", "7c:1e:52:00:00:03\n", true);
    CU_ASSERT_NOT_EQUAL(machine_identity(root), mark);
    put_card(root, "eth2", "02:1e:52:00:00:03\n", true);
    put_file(root, "etc/machine-id", "1123456789abcdef0123456789abcdef\n");
    CU_ASSERT_NOT_EQUAL(machine_identity(root), mark);
    CU_ASSERT_NOT_EQUAL(machine_identity(root), 0);
    put_card(root, "eth0", "52:54:00:12:34:56\n", true); /* as many virtual machines have it */
    put_card(root, "eth1", "52:54:00:12:34:56\n", true);
    CU_ASSERT_EQUAL(machine_identity(root), 0);
    CU_ASSERT_NOT_EQUAL(machine_boot(), 0);
}

static struct claim life(uint64_t machine, uint64_t boot, const char *slurm, const char *cluster, uint32_t restarts)
{
    struct claim claim = {.run = 7, .machine = machine, .boot = boot, .slurm_restarts = restarts};
    snprintf(claim.slurm, sizeof claim.slurm, "%s", slurm);
    snprintf(claim.slurm_cluster, sizeof claim.slurm_cluster, "%s", cluster);
    return claim;
}

/* Of the same machine before it was booted, or the same Slurm job before it was started again; nothing less will do. */
static void check_former_lives(void)
{
    const struct claim me = life(1, 2, "17", "alps", 1);
    const struct {
        struct claim there;
        bool former;
    } lives[] = {
        {life(1, 3, "", "", 0), true},         /* booted since */
        {life(1, 2, "", "", 0), false},        /* a container or another process of this boot */
        {life(9, 3, "", "", 0), false},        /* another machine, whatever its name is */
        {life(0, 3, "", "", 0), false},        /* unknown */
        {life(1, 0, "", "", 0), false},        /* unknown */
        {life(9, 9, "17", "alps", 0), true},   /* queued again */
        {life(9, 9, "17", "alps", 1), false},  /* another step of the same job */
        {life(9, 9, "17", "alps", 2), false},  /* what comes after me */
        {life(9, 9, "18", "alps", 0), false},  /* another job */
        {life(9, 9, "17", "andes", 0), false}, /* another cluster's */
        {life(9, 9, "17", "", 0), false},      /* unknown */
        {life(9, 9, "", "alps", 0), false},    /* no job of Slurm's */
    };
    for (size_t i = 0; i < UNIT_COUNT(lives); i++)
        CU_ASSERT_EQUAL(claim_is_former_life(&lives[i].there, &me), lives[i].former);
    const struct claim unknown = life(0, 0, "", "", 0);
    CU_ASSERT_FALSE(claim_is_former_life(&unknown, &unknown));
    CU_ASSERT_FALSE(claim_is_former_life(&me, &unknown));
}

/* It is not waited for. */
static void check_queued_again(void)
{
    clear();
    (void)setenv("SLURM_JOB_ID", "17", 1);
    (void)setenv("SLURM_CLUSTER_NAME", "alps", 1);
    struct claim former = claim_self(CLAIM_RUN, 1, FOREVER);
    former.process = former.machine = 0;
    CU_ASSERT_EQUAL_FATAL(try_once(&former, 0), DCACHE_OK);
    struct claim other = claim_self(CLAIM_RUN, 2, FOREVER);
    CU_ASSERT_EQUAL(try_once(&other, 0), DCACHE_ERR_BUSY); /* beside it, in the same job */
    (void)setenv("SLURM_RESTART_COUNT", "1", 1);
    struct claim again = claim_self(CLAIM_RUN, 3, FOREVER);
    CU_ASSERT_EQUAL(claim_take(&dg, store, JOB, &again, 0), DCACHE_OK);
    CU_ASSERT(read_back().run == 3);
    (void)unsetenv("SLURM_RESTART_COUNT");
    (void)unsetenv("SLURM_CLUSTER_NAME");
    (void)unsetenv("SLURM_JOB_ID");
}

/* A process of this machine: dead, not yet waited for, its number another's, alive. */
static void check_processes(void)
{
    int ready[2];
    struct claim claim, other = claim_self(CLAIM_RUN, 9, FOREVER);
    clear();
    CU_ASSERT(other.process != 0 && !claim_holder_ended(&other));
    other.process ^= 1;
    CU_ASSERT(claim_holder_ended(&other));
    other.process ^= UINT64_C(1) << 63; /* another machine's */
    CU_ASSERT(!claim_holder_ended(&other));
    CU_ASSERT_FATAL(pipe(ready) == 0);
    pid_t child = fork();
    if (child == 0) {
        claim = claim_self(CLAIM_RUN, 5, FOREVER);
        _exit(write(ready[1], &claim, sizeof claim) == (ssize_t)sizeof claim ? 0 : 1);
    }
    CU_ASSERT_FATAL(child > 0 && read(ready[0], &claim, sizeof claim) == (ssize_t)sizeof claim);
    siginfo_t ended;
    CU_ASSERT_FATAL(waitid(P_PID, (id_t)child, &ended, WEXITED | WNOWAIT) == 0);
    CU_ASSERT(claim_holder_ended(&claim));
    CU_ASSERT_FATAL(waitpid(child, NULL, 0) == child);
    CU_ASSERT(claim_holder_ended(&claim));
    close(ready[0]);
    close(ready[1]);
    CU_ASSERT_EQUAL_FATAL(try_once(&claim, 0), DCACHE_OK);
    other = stranger(6, FOREVER);
    CU_ASSERT_EQUAL(claim_take(&dg, store, JOB, &other, 0), DCACHE_OK); /* no waiting */
    CU_ASSERT(read_back().run == 6);
}

static void check_tools(void)
{
    struct claim one = claim_self(CLAIM_TOOL, 1, FOREVER), two = claim_self(CLAIM_TOOL, 2, FOREVER);
    struct claim run = stranger(3, FOREVER);
    struct claim_guard guard = {.me = one, .held = true};
    one.process = two.process = 0;
    clear();
    CU_ASSERT_EQUAL(try_once(&one, 0), DCACHE_OK);
    CU_ASSERT_EQUAL(try_once(&two, 0), DCACHE_OK); /* drains of several nodes work together */
    CU_ASSERT_EQUAL(read_back().generation, 1);
    CU_ASSERT_EQUAL(claim_check(&dg, store, JOB, &guard), DCACHE_OK);
    CU_ASSERT_EQUAL(claim_release(&dg, store, JOB, &two), DCACHE_OK);
    CU_ASSERT_EQUAL(claim_check(&dg, store, JOB, &guard), DCACHE_OK); /* the other one goes on */
    CU_ASSERT_EQUAL(claim_renew(&dg, store, JOB, &one, NULL), DCACHE_OK);
    CU_ASSERT_EQUAL(try_once(&run, 0), DCACHE_OK); /* a run does not wait for tools */
    CU_ASSERT_EQUAL(claim_check(&dg, store, JOB, &guard), DCACHE_ERR_BUSY);
    CU_ASSERT_EQUAL(try_once(&two, 0), DCACHE_ERR_BUSY); /* but tools for it */
    CU_ASSERT_EQUAL(claim_renew(&dg, store, JOB, &one, NULL), DCACHE_ERR_BUSY);
}

static void check_fence(void)
{
    struct claim first = stranger(1, FOREVER), second = stranger(2, FOREVER);
    struct claim_guard guard = {.me = first};
    clear();
    CU_ASSERT_EQUAL(claim_check(&dg, store, JOB, NULL), DCACHE_OK);
    CU_ASSERT_EQUAL(claim_check(&dg, store, JOB, &guard), DCACHE_ERR_STORE); /* not yet */
    CU_ASSERT_EQUAL(try_once(&second, 0), DCACHE_OK);
    CU_ASSERT_EQUAL(claim_check(&dg, store, JOB, &guard), DCACHE_ERR_STORE);
    CU_ASSERT_EQUAL(try_once(&first, 2), DCACHE_OK);
    CU_ASSERT_EQUAL(claim_check(&dg, store, JOB, &guard), DCACHE_OK);
    CU_ASSERT(guard.held);
    CU_ASSERT_EQUAL(try_once(&second, 1), DCACHE_OK);
    CU_ASSERT_EQUAL(claim_check(&dg, store, JOB, &guard), DCACHE_ERR_BUSY); /* never again */
    CU_ASSERT_EQUAL(claim_release(&dg, store, JOB, &second), DCACHE_OK);
    CU_ASSERT_EQUAL(claim_check(&dg, store, JOB, &guard), DCACHE_ERR_BUSY);
}

static void check_spoilt(void)
{
    struct claim me = stranger(1, 1);
    struct claim_guard guard = {.me = me, .held = true};
    clear();
    CU_ASSERT_EQUAL(object_store_put_bytes(store, &dg, JOB "/claim.json", "{]", 2, OBJECT_REPLACE), DCACHE_OK);
    CU_ASSERT_EQUAL(claim_check(&dg, store, JOB, &guard), DCACHE_ERR_STORE);
    CU_ASSERT_EQUAL(claim_take(&dg, store, JOB, &me, 0), DCACHE_OK);
    CU_ASSERT_EQUAL(claim_check(&dg, store, JOB, &guard), DCACHE_OK);
}

struct racer {
    pthread_t thread;
    pthread_barrier_t *start;
    struct claim me;
    struct diag diag;
    dcache_status_t status;
};

static void *race_one(void *context)
{
    struct racer *racer = context;
    struct claim_watch watch;
    memset(&watch, 0, sizeof watch);
    pthread_barrier_wait(racer->start);
    racer->status = claim_try(&racer->diag, store, JOB, &racer->me, 0, &watch, NULL);
    return NULL;
}

static void check_race(void)
{
    enum { ROUNDS = 8 };
    for (int round = 0; round < ROUNDS; round++) {
        struct racer racers[RACERS];
        pthread_barrier_t start;
        uint64_t winner = 0;
        int won = 0;
        clear();
        pthread_barrier_init(&start, NULL, RACERS);
        for (unsigned i = 0; i < RACERS; i++) {
            racers[i] = (struct racer){.start = &start, .me = stranger(i + 1, FOREVER), .diag = dg};
            CU_ASSERT_FATAL(pthread_create(&racers[i].thread, NULL, race_one, &racers[i]) == 0);
        }
        for (unsigned i = 0; i < RACERS; i++) {
            pthread_join(racers[i].thread, NULL);
            won += racers[i].status == DCACHE_OK;
            winner = racers[i].status == DCACHE_OK ? racers[i].me.run : winner;
            CU_ASSERT(racers[i].status == DCACHE_OK || racers[i].status == DCACHE_ERR_BUSY);
        }
        pthread_barrier_destroy(&start);
        CU_ASSERT_EQUAL(won, 1);
        CU_ASSERT_EQUAL(read_back().run, winner);
    }
}

static void *take_and_renew(void *context)
{
    struct racer *racer = context;
    pthread_barrier_wait(racer->start);
    racer->status = claim_take(&racer->diag, store, JOB, &racer->me, 0);
    for (int i = 0; racer->status == DCACHE_OK && i < 5; i++)
        racer->status = claim_renew(&racer->diag, store, JOB, &racer->me, NULL);
    return NULL;
}

/* `dcache drain` on all nodes at once: none of them is in another's way. */
static void check_many_tools(void)
{
    enum { TOOLS = 16 };
    struct racer tools[TOOLS];
    pthread_barrier_t start;
    clear();
    pthread_barrier_init(&start, NULL, TOOLS);
    for (unsigned i = 0; i < TOOLS; i++) {
        tools[i] = (struct racer){.start = &start, .me = claim_self(CLAIM_TOOL, i + 1, FOREVER), .diag = dg};
        CU_ASSERT_FATAL(pthread_create(&tools[i].thread, NULL, take_and_renew, &tools[i]) == 0);
    }
    for (unsigned i = 0; i < TOOLS; i++) {
        pthread_join(tools[i].thread, NULL);
        CU_ASSERT_EQUAL(tools[i].status, DCACHE_OK);
    }
    pthread_barrier_destroy(&start);
    CU_ASSERT(read_back().owner == CLAIM_TOOL && read_back().held && read_back().generation == 1);
}

static void wait_for(bool (*there)(uint64_t), uint64_t value)
{
    const struct timespec nap = {.tv_nsec = 20000000};
    while (!there(value)) /* the test's timeout ends it */
        (void)nanosleep(&nap, NULL);
}

static bool held_by(uint64_t run)
{
    struct claim claim;
    return claim_read(&dg, store, JOB, &claim) == DCACHE_OK && claim.held && claim.run == run;
}

static bool renewed_since(uint64_t renewals)
{
    return read_back().renewals > renewals;
}

/* It renews what is held, gives it back, and takes what could not be had at first. */
static void check_keeper(void)
{
    struct claim me = stranger(1, 1), other = stranger(2, 1);
    struct claim_keeper *keeper = NULL;
    clear();
    CU_ASSERT_EQUAL_FATAL(try_once(&me, 0), DCACHE_OK);
    CU_ASSERT_EQUAL_FATAL(claim_keeper_start(&dg, store, JOB, &me, true, &keeper), DCACHE_OK);
    wait_for(renewed_since, read_back().renewals);
    claim_keeper_stop(keeper);
    CU_ASSERT(!read_back().held);
    CU_ASSERT_EQUAL_FATAL(try_once(&other, 0), DCACHE_OK);
    CU_ASSERT_EQUAL_FATAL(claim_keeper_start(&dg, store, JOB, &me, false, &keeper), DCACHE_OK);
    wait_for(held_by, 1); /* the other one does not renew */
    CU_ASSERT_EQUAL(try_once(&other, 1), DCACHE_OK);
    claim_keeper_stop(keeper);
    CU_ASSERT(held_by(2)); /* not its own any more, so not its own to give back */
    claim_keeper_stop(NULL);
}

static void check_failpoints(void)
{
    struct claim me = stranger(1, FOREVER);
    clear();
    setenv("DCACHE_FAILPOINTS", "claim.take=error,claim.renew=error,claim.release=error", 1);
    CU_ASSERT_EQUAL(claim_take(&dg, store, JOB, &me, 0), DCACHE_ERR_IO);
    unsetenv("DCACHE_FAILPOINTS");
    CU_ASSERT_EQUAL(claim_take(&dg, store, JOB, &me, 0), DCACHE_OK);
    setenv("DCACHE_FAILPOINTS", "claim.renew=error,claim.release=error", 1);
    CU_ASSERT_EQUAL(claim_renew(&dg, store, JOB, &me, NULL), DCACHE_ERR_IO);
    CU_ASSERT_EQUAL(claim_release(&dg, store, JOB, &me), DCACHE_ERR_IO);
    unsetenv("DCACHE_FAILPOINTS");
    CU_ASSERT(held_by(1));
}

int main(void)
{
    static const struct unit_case cases[] = {{"swap", check_swap},
                                             {"many swap at once", check_race_of_swappers},
                                             {"the document", check_document},
                                             {"taken, renewed, given back", check_life},
                                             {"a holder that lives", check_the_living},
                                             {"a holder that is dead", check_the_dead},
                                             {"processes of this machine", check_processes},
                                             {"a machine", check_machine},
                                             {"former lives", check_former_lives},
                                             {"a job that is queued again", check_queued_again},
                                             {"tools", check_tools},
                                             {"the fence", check_fence},
                                             {"a spoilt document", check_spoilt},
                                             {"many at once", check_race},
                                             {"many tools at once", check_many_tools},
                                             {"the keeper", check_keeper},
                                             {"failures", check_failpoints}};
    const struct object_policy policy = {.timeout_s = 60, .stall_s = 20};
    struct object_credentials credentials;
    char url[OBJECT_URL_MAX], canonical[OBJECT_URL_MAX];
    const char *azure = getenv("TEST_AZURE_URL");

    diag_init(&dg, JOB, -1, DIAG_ERROR);
    if (azure != NULL)
        snprintf(url, sizeof url, "%s/claims", azure);
    else
        snprintf(url, sizeof url, "file://%s/store", unit_scratch());
    if (object_store_resolve(&dg, url, canonical, &credentials) != DCACHE_OK ||
        object_store_open(&dg, canonical, &credentials, &policy, &store) != DCACHE_OK ||
        store->ops->create(store, &dg) != DCACHE_OK) {
        fprintf(stderr, "%s\n", dg.text);
        return 1;
    }
    int status = unit_main(azure != NULL ? "claim: Azure" : "claim: file", cases, UNIT_COUNT(cases));
    object_store_close(store);
    return status;
}
