/* One rank fails at one place: no rank hangs, all return the same status and the text of that rank, the step before is
 * as it was, and the next checkpoint works. For every place in mpi/ and runtime/ where a failure can be injected: the
 * test reads their names from the sources, and fails when there is one that it does not know.
 *
 * ranks: 3
 * timeout: 400 */
#include "mpi_fields.h"
#include "mpi_stores.h"
#include "mpi_support.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define JOB "test"

enum call { OPEN = 1, CHECKPOINT = 2, BEGIN = 4, RESTART = 8, RESTART_OBJECTS = 16, RESYNC = 32 };

#define CALLS 6u

/* Sanitizers see the same in each rank; the other build has all combinations. */
#ifdef __SANITIZE_ADDRESS__
#define EVERY_RANK false
#else
#define EVERY_RANK true
#endif

#define SAVING     (CHECKPOINT | BEGIN)
#define RESTARTING (RESTART | RESTART_OBJECTS)

enum transports { ONE_SIDED = 1, TWO_SIDED = 2, BOTH = 3 };

/* A place where a failure is injected, and the calls that must fail by it. In others named by `may` they may succeed:
 * what fails there is not needed, or found to be missing. */
struct place {
    const char *name;
    enum transports transports;
    unsigned must, may;
};

static const struct place places[] = {
    {"store.open", BOTH, OPEN, RESTART},
    {"store.lock", BOTH, OPEN, 0},
    {"slot.open", BOTH, SAVING | RESTARTING | RESYNC, 0},
    {"slot.allocate", BOTH, SAVING | RESTART | RESYNC, 0},
    {"slot.create", BOTH, SAVING, 0},
    {"checkpoint.begin", BOTH, SAVING, 0},
    {"checkpoint.stage", BOTH, SAVING, 0},
    {"checkpoint.header", BOTH, SAVING, 0},
    {"restart.survey", BOTH, RESTART, 0},
    {"restart.assemble", BOTH, RESTARTING, 0},
    {"restart.header", BOTH, RESTARTING, 0},
    {"restart.adopt", BOTH, RESTARTING, 0},
    {"resync.start", BOTH, RESYNC, RESTARTING},
    {"fanin.read", BOTH, 0, RESTART},
    {"replicate.put", BOTH, SAVING, RESTART | RESYNC},
    {"replicate.flush", BOTH, SAVING, RESTART | RESYNC},
    {"transport.attach", TWO_SIDED, SAVING | RESYNC, RESTART},
    {"MPI_Allgather", BOTH, OPEN | RESTART, 0},
    {"MPI_Allgatherv", BOTH, RESTART, 0},
    {"MPI_Allreduce", BOTH, SAVING, 0},
    {"MPI_Bcast", BOTH, OPEN | RESTARTING, 0},
    {"MPI_Scatter", BOTH, RESTART_OBJECTS, 0},
    {"MPI_Waitall", BOTH, SAVING | RESTART | RESYNC, 0},
    {"MPI_Win_create", ONE_SIDED, OPEN | SAVING | RESTART | RESYNC, 0},
    {"MPI_Win_lock_all", ONE_SIDED, OPEN | SAVING | RESTART | RESYNC, 0},
    {"MPI_Put", ONE_SIDED, SAVING, RESYNC},
    {"MPI_Win_flush", ONE_SIDED, SAVING, RESYNC},
    {"MPI_Isend", TWO_SIDED, SAVING, RESYNC},
    {"MPI_Irecv", TWO_SIDED, SAVING, RESYNC},
};

/* Reported only when MPI itself has failed: then no agreement is possible, and none can be tested. And places where
 * nothing can fail, but a process can die. */
static const char *const unreachable[] = {"MPI_Comm_dup",      "MPI_Comm_split_type", "MPI_Iallreduce",
                                          "checkpoint.agreed", "checkpoint.copy",     "checkpoint.data"};

/* Passed only by a restart on another number of ranks: tests/mpi/test_reshape.c has one rank fail there. And where
 * nothing fails but something is late: tests/mpi/test_background.c. */
static const char *const elsewhere[] = {"reshape.look", "reshape.plan", "reshape.fetch", "transport.receive"};

/* ---- the list of places against the sources ---- */

static bool is_in(const char *name, const char *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(list[i], name) == 0)
            return true;
    }
    return false;
}

static bool known(const char *name)
{
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        if (strcmp(places[i].name, name) == 0)
            return true;
    }
    return is_in(name, unreachable, sizeof unreachable / sizeof unreachable[0]) ||
           is_in(name, elsewhere, sizeof elsewhere / sizeof elsewhere[0]);
}

/* The first string among the arguments that start at `at`, if there is one. */
static bool first_string(const char *at, char *name, size_t room)
{
    int depth = 1;

    for (; *at != '\0' && *at != '"' && depth > 0; at++)
        depth += (*at == '(') - (*at == ')');
    if (*at != '"' || depth == 0)
        return false;
    size_t length = strcspn(at + 1, "\"");
    if (length >= room)
        return false;
    memcpy(name, at + 1, length);
    name[length] = '\0';
    return true;
}

static void check_source(const char *path, const char *function)
{
    static char text[1 << 17];
    char name[64];
    FILE *file = fopen(path, "r");

    CHECK(file != NULL);
    size_t bytes = fread(text, 1, sizeof text - 1, file);
    text[bytes] = '\0';
    CHECK(bytes < sizeof text - 1);
    fclose(file);
    for (const char *at = text; (at = strstr(at, function)) != NULL;) {
        at += strlen(function);
        if (first_string(at, name, sizeof name)) {
            support_trying("is %s, in %s, in the list of this test?", name, path);
            CHECK(known(name));
        }
    }
}

static void check_folder(const char *root, const char *folder)
{
    char path[1024];
    const struct dirent *item;

    snprintf(path, sizeof path, "%s/%s", root, folder);
    DIR *directory = opendir(path);
    CHECK(directory != NULL);
    while ((item = readdir(directory)) != NULL) {
        size_t length = strlen(item->d_name);
        if (length < 3 || strcmp(item->d_name + length - 2, ".c") != 0)
            continue;
        snprintf(path, sizeof path, "%s/%s/%s", root, folder, item->d_name);
        check_source(path, "diag_failpoint(");
        check_source(path, "diag_failpoint_data(");
        check_source(path, "world_check(");
    }
    closedir(directory);
}

static void check_list(void)
{
    const char *root = getenv("TEST_SOURCE_DIR");

    if (root == NULL || support_rank != 0) /* run by hand */
        return;
    check_folder(root, "mpi");
    check_folder(root, "runtime");
}

/* ---- one scenario ---- */

struct scenario {
    const struct place *place;
    enum call call;
    int rank;
    bool always; /* at every hit, not only the first */
    bool must;
    dcache_t *dc;
    struct fields fields;
    dcache_status_t status;
    uint64_t newest; /* what must be restorable afterwards */
    char text[1024];
};

static void set_failure(const struct scenario *s)
{
    char value[128];

    snprintf(value, sizeof value, "%s=error@%d%s", s->place->name, s->rank, s->always ? "" : "#1");
    support_option("FAILPOINTS", value);
}

static void open_handle(struct scenario *s)
{
    s->dc = support_open();
    fields_protect(s->dc, &s->fields);
}

static void take(struct scenario *s, uint64_t step)
{
    fields_fill(&s->fields, step);
    CHECK_STATUS(s->dc, dcache_checkpoint(s->dc, step), DCACHE_OK);
}

static void restore(struct scenario *s, uint64_t wanted, uint64_t expected)
{
    uint64_t step = wanted;

    fields_scribble(&s->fields);
    CHECK_STATUS(s->dc, dcache_restart(s->dc, &step), DCACHE_OK);
    CHECK(step == expected && fields_hold(&s->fields, expected));
}

static void remove_copy(enum slot_kind kind, uint32_t rank)
{
    size_t count = 0;
    struct stored *list = stores_list(JOB, &count);
    const struct stored *stored = stores_find(list, count, kind, rank, 1);
    char path[640];

    CHECK(stored != NULL);
    stores_path(JOB, stored, path, sizeof path);
    if (support_rank == 0)
        CHECK(remove(path) == 0);
    free(list);
    MPI_Barrier(MPI_COMM_WORLD);
}

/* Step 1 is there; for restarts with holes, so that all of it is at work: reading from others, putting again. */
static void prepare(struct scenario *s)
{
    stores_lose_all(JOB);
    support_use_objects(s->call == RESTART_OBJECTS);
    support_option("RESYNC", s->call == RESYNC ? "behind" : NULL);
    fields_init(&s->fields, support_rank);
    fields_add_some(&s->fields, 1100);
    open_handle(s);
    take(s, 1);
    s->newest = 1;
    if (s->call == RESTART_OBJECTS)
        CHECK_STATUS(s->dc, dcache_wait(s->dc, 1, DCACHE_DURABLE), DCACHE_OK);
    if (s->call & (CHECKPOINT | BEGIN))
        return;
    support_close(&s->dc);
    if (s->call == RESTART_OBJECTS) {
        stores_lose_all(JOB);
    } else if (s->call & (RESTART | RESYNC)) {
        remove_copy(SLOT_OWN, 0);
        remove_copy(SLOT_OWN, (uint32_t)support_size - 1);
        remove_copy(SLOT_REPLICA, 1);
    }
    if (s->call != OPEN)
        open_handle(s);
    if (s->call == RESYNC) /* there is no progress thread here: nothing happens behind it */
        restore(s, DCACHE_LATEST, 1);
}

static dcache_status_t call_it(struct scenario *s)
{
    uint64_t step = DCACHE_LATEST;
    dcache_status_t status;

    switch (s->call) {
    case OPEN:
        return dcache_open(MPI_COMM_WORLD, NULL, &s->dc);
    case CHECKPOINT:
        return dcache_checkpoint(s->dc, 2);
    case BEGIN:
        status = dcache_checkpoint_begin(s->dc, 2);
        if (status != DCACHE_OK)
            return status;
        s->newest = 2; /* on this node it is safe already */
        return dcache_wait(s->dc, 2, DCACHE_REPLICATED);
    case RESYNC:
        return dcache_wait(s->dc, 1, DCACHE_REPLICATED);
    case RESTART:
    case RESTART_OBJECTS:
    default:
        status = dcache_restart(s->dc, &step);
        CHECK(step == (status == DCACHE_OK ? 1 : DCACHE_LATEST));
        return status;
    }
}

/* Regions have changed since step 1, so that everything is made anew, and room is looked for. */
static void add_region(struct scenario *s)
{
    fields_add(&s->fields, "new", DCACHE_INT32, 1000);
    fields_protect(s->dc, &s->fields);
}

static void remove_region(struct scenario *s)
{
    fields_drop(&s->fields, "new");
    CHECK_STATUS(s->dc, dcache_unprotect(s->dc, "new"), DCACHE_OK);
}

static void strike(struct scenario *s)
{
    if (s->call & SAVING)
        add_region(s);
    if (s->call != RESYNC)
        fields_fill(&s->fields, 2);
    if (s->call & RESTARTING)
        fields_scribble(&s->fields);
    set_failure(s);
    s->status = call_it(s);
    support_option("FAILPOINTS", "");
    snprintf(s->text, sizeof s->text, "%s", s->status < 0 ? dcache_error_text(s->dc) : "");
    CHECK_SAME(s->status, s->text);
}

static void check_memory(const struct scenario *s)
{
    if (s->call & SAVING || s->call == OPEN)
        CHECK(fields_hold(&s->fields, 2));
    else if (s->call == RESYNC || s->status == DCACHE_OK)
        CHECK(fields_hold(&s->fields, 1));
    else
        CHECK(fields_scribbled(&s->fields));
}

static void check_outcome(const struct scenario *s)
{
    char name[32];

    CHECK(s->status <= 0);
    if (s->must)
        CHECK(s->status != DCACHE_OK);
    check_memory(s);
    if (s->status == DCACHE_OK)
        return;
    CHECK(s->call == OPEN ? s->dc == NULL : s->dc != NULL);
    if (s->call & (OPEN | RESYNC)) /* what went wrong with a resync is in the log */
        return;
    snprintf(name, sizeof name, "rank %d", s->rank);
    CHECK(strstr(s->text, name) != NULL);
}

/* After a failure of MPI nothing but closing is left, and closing says so. */
static void check_broken(struct scenario *s)
{
    dcache_level_t level = DCACHE_LEVEL_NONE;
    uint64_t step = 1;

    CHECK_STATUS(s->dc, dcache_checkpoint(s->dc, 4), DCACHE_ERR_STATE);
    CHECK_STATUS(s->dc, dcache_wait(s->dc, 1, DCACHE_STAGED), DCACHE_ERR_STATE);
    CHECK_STATUS(s->dc, dcache_test(s->dc, 1, &level), DCACHE_ERR_STATE);
    CHECK_STATUS(s->dc, dcache_restart(s->dc, &step), DCACHE_ERR_STATE);
    CHECK_STATUS(NULL, dcache_close(&s->dc), DCACHE_ERR_MPI);
    CHECK(s->dc == NULL);
}

/* What was there before is there still, and life goes on. */
static void check_afterwards(struct scenario *s)
{
    if (s->call == CHECKPOINT && s->status == DCACHE_OK)
        s->newest = 2;
    bool broken = s->status == DCACHE_ERR_MPI || (s->call == RESYNC && s->status == DCACHE_ERR_STATE);
    if (broken && s->call != OPEN)
        check_broken(s);
    if (s->dc == NULL)
        open_handle(s);
    else
        fields_protect(s->dc, &s->fields);
    restore(s, DCACHE_LATEST, s->newest);
    restore(s, 1, 1);
    take(s, 3);
    CHECK(stores_redundant(JOB, 3, (uint32_t)support_size));
    restore(s, DCACHE_LATEST, 3);
    support_close(&s->dc);
    fields_free(&s->fields);
}

static void try_place(const struct place *place, enum call call, int rank, bool always, bool must)
{
    static struct scenario s;

    memset(&s, 0, sizeof s);
    s.place = place;
    s.call = call;
    s.rank = rank;
    s.always = always;
    s.must = must;
    prepare(&s);
    strike(&s);
    check_outcome(&s);
    if (call & SAVING)
        remove_region(&s);
    check_afterwards(&s);
}

/* A step that stayed on its nodes is no base for the replica of a later one in its slot, however little changed. */
static void test_incremental(const char *transport)
{
    static struct scenario s;

    support_trying("%s, incremental after a replication that failed", transport);
    support_option("TRANSPORT", transport);
    support_option("INCREMENTAL", "yes");
    memset(&s, 0, sizeof s);
    s.call = CHECKPOINT;
    prepare(&s);
    take(&s, 2);
    fields_fill(&s.fields, 77);
    CHECK_STATUS(s.dc, dcache_checkpoint_begin(s.dc, 3), DCACHE_OK); /* where step 1 was */
    support_option("FAILPOINTS", "replicate.put=error@1");
    CHECK_STATUS(s.dc, dcache_wait(s.dc, 3, DCACHE_REPLICATED), DCACHE_ERR_IO);
    support_option("FAILPOINTS", "");
    take(&s, 4);
    fields_fill(&s.fields, 77);
    CHECK_STATUS(s.dc, dcache_checkpoint(s.dc, 5), DCACHE_OK); /* where step 3 is, and the same bytes */
    CHECK(stores_redundant(JOB, 4, (uint32_t)support_size));
    CHECK(stores_redundant(JOB, 5, (uint32_t)support_size));
    support_close(&s.dc);
    support_option("INCREMENTAL", NULL);
    fields_free(&s.fields);
}

static void test_transport(enum transports transport)
{
    static const char *const call_names[] = {"open",    "checkpoint",           "begin + wait",
                                             "restart", "restart from objects", "resync"};
    const char *name = transport == ONE_SIDED ? "one-sided" : "two-sided";
    int other = support_size > 3 ? support_size - 2 : support_size - 1; /* the first rank of the last node */

    support_option("TRANSPORT", name);
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        for (unsigned c = 0; c < CALLS; c++) {
            const struct place *place = &places[i];
            bool must = (place->must & 1u << c) != 0, may = (place->may & 1u << c) != 0;
            if (!(place->transports & transport) || !(must || may))
                continue;
            support_trying("%s, %s fails in %s on rank 0, every time", name, place->name, call_names[c]);
            if (support_size == 3 && EVERY_RANK) /* once is enough */
                try_place(place, (enum call)(1u << c), 0, true, must);
            support_trying("%s, %s fails in %s on rank %d, once", name, place->name, call_names[c], other);
            try_place(place, (enum call)(1u << c), other, false, must);
        }
    }
}

int main(int argc, char **argv)
{
#ifndef DCACHE_FAILPOINTS
    (void)argc;
    (void)argv;
    return 77; /* skipped: nothing can be injected in this build */
#endif
    support_start(&argc, &argv, MPI_THREAD_SINGLE);
    support_option("FAILPOINTS", ""); /* set once and for all: later changes do not move the environment */
    check_list();
    support_option_number("NODE_SIZE", support_size > 3 ? 2 : 1);
    test_incremental("one-sided");
    test_incremental("two-sided");
    test_transport(ONE_SIDED);
    test_transport(TWO_SIDED);
    return support_finish();
}
