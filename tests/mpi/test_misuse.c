/* Wrong arguments, wrong order, wrong options: each is refused, on all ranks alike, with a text that helps, and leaves
 * the handle as it was. And what looks like misuse and is none: several handles at a time.
 *
 * ranks: 1 2 3 5 */
#include "mpi_fields.h"
#include "mpi_stores.h"
#include "mpi_support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_last(void)
{
    return support_rank == support_size - 1;
}

/* All ranks get `wanted`, with the same words, in which `word` occurs. */
static void check_refused(const dcache_t *dc, dcache_status_t status, dcache_status_t wanted, const char *word)
{
    CHECK_STATUS(dc, status, wanted);
    CHECK_SAME(status, dcache_error_text(dc));
    CHECK(strstr(dcache_error_text(dc), word) != NULL);
}

static void check_works(dcache_t *dc, struct fields *fields, uint64_t step)
{
    uint64_t latest = DCACHE_LATEST;

    fields_fill(fields, step);
    CHECK_STATUS(dc, dcache_checkpoint(dc, step), DCACHE_OK);
    fields_scribble(fields);
    CHECK_STATUS(dc, dcache_restart(dc, &latest), DCACHE_OK);
    CHECK(latest == step && fields_hold(fields, step));
}

static void test_without_handle(void)
{
    dcache_t *dc = NULL;
    dcache_level_t level = DCACHE_LEVEL_NONE;
    dcache_statistics_t statistics;
    uint64_t step = 1;
    int word = 0;

    support_trying("calls without a handle");
    CHECK(dcache_protect(NULL, "x", &word, 1, DCACHE_INT32) == DCACHE_ERR_INVALID);
    CHECK(dcache_protect_array(NULL, "x", &word, DCACHE_INT32, 1, &step, &step, &step) == DCACHE_ERR_INVALID);
    CHECK(dcache_unprotect(NULL, "x") == DCACHE_ERR_INVALID);
    CHECK(dcache_checkpoint(NULL, 1) == DCACHE_ERR_INVALID);
    CHECK(dcache_checkpoint_begin(NULL, 1) == DCACHE_ERR_INVALID);
    CHECK(dcache_wait(NULL, 1, DCACHE_STAGED) == DCACHE_ERR_INVALID);
    CHECK(dcache_test(NULL, 1, &level) == DCACHE_ERR_INVALID);
    CHECK(dcache_restart(NULL, &step) == DCACHE_ERR_INVALID);
    CHECK(dcache_get_statistics(NULL, &statistics) == DCACHE_ERR_INVALID);
    CHECK(strcmp(dcache_error_text(NULL), "") == 0);
    CHECK(dcache_close(NULL) == DCACHE_OK);
    CHECK(dcache_close(&dc) == DCACHE_OK);
    CHECK(dcache_open(MPI_COMM_WORLD, NULL, NULL) == DCACHE_ERR_INVALID);
    CHECK(dcache_open(MPI_COMM_NULL, NULL, &dc) == DCACHE_ERR_INVALID && dc == NULL);
}

static void test_intercommunicator(void)
{
    dcache_t *dc = NULL;
    MPI_Comm half, inter;

    if (support_size < 2)
        return;
    support_trying("an intercommunicator");
    int odd = support_rank % 2;
    MPI_Comm_split(MPI_COMM_WORLD, odd, support_rank, &half);
    MPI_Intercomm_create(half, 0, MPI_COMM_WORLD, 1 - odd, 3, &inter);
    CHECK(dcache_open(inter, NULL, &dc) == DCACHE_ERR_INVALID && dc == NULL);
    MPI_Comm_free(&inter);
    MPI_Comm_free(&half);
}

static void test_strerror(void)
{
    static const int numbers[] = {
#define NUMBER(name, number, text) number,
        DCACHE_STATUS_MAP(NUMBER)
#undef NUMBER
    };
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        const char *text = dcache_strerror((dcache_status_t)numbers[i]);
        CHECK(text != NULL && text[0] != '\0' && text == dcache_strerror((dcache_status_t)numbers[i]));
    }
    CHECK(dcache_strerror((dcache_status_t)-99) != NULL);
}

static void test_names(dcache_t *dc)
{
    static const char *const bad[] = {"",    "a b",         "/a",  "a/",    "a//b",        "dcache", "dcache/x",
                                      "a\n", "caf\xc3\xa9", "a:b", "group", "taken/below", "x/./y",  "x/../y"};
    char longest[DCACHE_NAME_MAX + 2];
    int word = 0;

    support_trying("names of regions");
    CHECK_STATUS(dc, dcache_protect(dc, "group/member", &word, 1, DCACHE_INT32), DCACHE_OK);
    CHECK_STATUS(dc, dcache_protect(dc, "taken", &word, 1, DCACHE_INT32), DCACHE_OK);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        support_trying("region name '%s'", bad[i]);
        CHECK_STATUS(dc, dcache_protect(dc, bad[i], &word, 1, DCACHE_INT32), DCACHE_ERR_INVALID);
        CHECK(dcache_error_text(dc)[0] != '\0');
    }
    CHECK_STATUS(dc, dcache_protect(dc, NULL, &word, 1, DCACHE_INT32), DCACHE_ERR_INVALID);
    memset(longest, 'n', sizeof longest);
    longest[sizeof longest - 1] = '\0';
    CHECK_STATUS(dc, dcache_protect(dc, longest, &word, 1, DCACHE_INT32), DCACHE_ERR_INVALID);
    longest[DCACHE_NAME_MAX] = '\0';
    CHECK_STATUS(dc, dcache_protect(dc, longest, &word, 1, DCACHE_INT32), DCACHE_OK);
    CHECK_STATUS(dc, dcache_unprotect(dc, longest), DCACHE_OK);
    CHECK_STATUS(dc, dcache_unprotect(dc, longest), DCACHE_ERR_INVALID);
    CHECK_STATUS(dc, dcache_unprotect(dc, NULL), DCACHE_ERR_INVALID);
    CHECK_STATUS(dc, dcache_unprotect(dc, "group"), DCACHE_ERR_INVALID);
    CHECK_STATUS(dc, dcache_unprotect(dc, "group/member"), DCACHE_OK);
    CHECK_STATUS(dc, dcache_unprotect(dc, "taken"), DCACHE_OK);
}

static void test_shapes(dcache_t *dc)
{
    const uint64_t ten[] = {10, 10, 10, 10, 10, 10, 10, 10, 10}, one[] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
    const uint64_t zero[9] = {0}, huge[] = {UINT64_MAX, UINT64_MAX}, half[] = {UINT64_C(1) << 40, UINT64_C(1) << 40};
    int word = 0;

    support_trying("shapes and types of regions");
    for (int type = -1; type <= 13; type++) {
        bool known = type >= DCACHE_INT8 && type <= DCACHE_FLOAT64;
        CHECK_STATUS(dc, dcache_protect(dc, "x", &word, 0, (dcache_type_t)type),
                     known ? DCACHE_OK : DCACHE_ERR_INVALID);
    }
    CHECK_STATUS(dc, dcache_protect(dc, "x", NULL, 1, DCACHE_INT32), DCACHE_ERR_INVALID);
    CHECK_STATUS(dc, dcache_protect(dc, "x", NULL, 0, DCACHE_INT32), DCACHE_OK);
    CHECK_STATUS(dc, dcache_protect(dc, "x", &word, UINT64_MAX, DCACHE_INT8), DCACHE_ERR_INVALID);
    CHECK_STATUS(dc, dcache_protect(dc, "x", &word, UINT64_MAX / 4 + 2, DCACHE_INT32), DCACHE_ERR_INVALID);
    for (int ndims = -1; ndims <= 9; ndims++)
        CHECK_STATUS(dc, dcache_protect_array(dc, "y", &word, DCACHE_INT32, ndims, ten, one, one),
                     ndims >= 1 && ndims <= DCACHE_DIMS_MAX ? DCACHE_OK : DCACHE_ERR_INVALID);
    CHECK_STATUS(dc, dcache_protect_array(dc, "y", &word, DCACHE_INT8, 2, NULL, one, one), DCACHE_ERR_INVALID);
    CHECK_STATUS(dc, dcache_protect_array(dc, "y", &word, DCACHE_INT8, 2, ten, NULL, one), DCACHE_ERR_INVALID);
    CHECK_STATUS(dc, dcache_protect_array(dc, "y", &word, DCACHE_INT8, 2, ten, one, NULL), DCACHE_ERR_INVALID);
    CHECK_STATUS(dc, dcache_protect_array(dc, "y", &word, DCACHE_INT8, 2, ten, one, ten), DCACHE_ERR_INVALID);
    CHECK_STATUS(dc, dcache_protect_array(dc, "y", &word, DCACHE_INT8, 1, ten, huge, one), DCACHE_ERR_INVALID);
    CHECK_STATUS(dc, dcache_protect_array(dc, "y", &word, DCACHE_INT8, 2, half, zero, half), DCACHE_ERR_INVALID);
    CHECK_STATUS(dc, dcache_protect_array(dc, "y", NULL, DCACHE_INT8, 2, ten, ten, zero), DCACHE_OK);
    CHECK_STATUS(dc, dcache_unprotect(dc, "x"), DCACHE_OK);
    CHECK_STATUS(dc, dcache_unprotect(dc, "y"), DCACHE_OK);
}

static void test_steps(dcache_t *dc, struct fields *fields)
{
    static const uint64_t large[] = {DCACHE_STEP_MAX + 1, DCACHE_LATEST - 1, DCACHE_LATEST};
    dcache_level_t level = DCACHE_LEVEL_NONE;
    uint64_t step;

    support_trying("steps that are too large");
    for (size_t i = 0; i < sizeof large / sizeof large[0]; i++) {
        check_refused(dc, dcache_checkpoint(dc, large[i]), DCACHE_ERR_INVALID, "step");
        check_refused(dc, dcache_checkpoint_begin(dc, large[i]), DCACHE_ERR_INVALID, "step");
        check_refused(dc, dcache_checkpoint(dc, is_last() ? large[i] : 3), DCACHE_ERR_INVALID, "step");
        check_refused(dc, dcache_wait(dc, large[i], DCACHE_STAGED), DCACHE_ERR_INVALID, "step");
        check_refused(dc, dcache_test(dc, large[i], &level), DCACHE_ERR_INVALID, "step");
        step = large[i];
        if (step != DCACHE_LATEST)
            check_refused(dc, dcache_restart(dc, &step), DCACHE_ERR_INVALID, "step");
    }
    check_refused(dc, dcache_restart(dc, is_last() ? NULL : &step), DCACHE_ERR_INVALID, "NULL");
    check_refused(dc, dcache_test(dc, 1, is_last() ? NULL : &level), DCACHE_ERR_INVALID, "NULL");
    CHECK(level == DCACHE_LEVEL_NONE);
    check_works(dc, fields, DCACHE_STEP_MAX);
    check_works(dc, fields, 0);
}

static void test_different_steps(dcache_t *dc, struct fields *fields)
{
    dcache_level_t level = DCACHE_LEVEL_NONE;
    uint64_t mine = is_last() ? 6 : 5, step = mine;

    if (support_size < 2)
        return;
    support_trying("different steps on the ranks");
    check_works(dc, fields, 5);
    check_works(dc, fields, 6);
    check_refused(dc, dcache_checkpoint(dc, mine), DCACHE_ERR_MISMATCH, "different steps");
    check_refused(dc, dcache_checkpoint_begin(dc, mine), DCACHE_ERR_MISMATCH, "different steps");
    check_refused(dc, dcache_wait(dc, mine, DCACHE_STAGED), DCACHE_ERR_MISMATCH, "different steps");
    check_refused(dc, dcache_wait(dc, 5, is_last() ? DCACHE_STAGED : DCACHE_DURABLE), DCACHE_ERR_MISMATCH, "levels");
    check_refused(dc, dcache_test(dc, mine, &level), DCACHE_ERR_MISMATCH, "different steps");
    check_refused(dc, dcache_restart(dc, &step), DCACHE_ERR_MISMATCH, "different steps");
    CHECK(step == mine && level == DCACHE_LEVEL_NONE && fields_hold(fields, 6));
    step = is_last() ? DCACHE_LATEST : 6;
    check_refused(dc, dcache_restart(dc, &step), DCACHE_ERR_MISMATCH, "different steps");
    check_works(dc, fields, 7);
}

static void test_levels(dcache_t *dc, struct fields *fields)
{
    dcache_level_t level = DCACHE_LEVEL_NONE;
    bool one_node = support_size == 1;

    support_trying("levels that cannot be reached");
    check_works(dc, fields, 9);
    CHECK_STATUS(dc, dcache_wait(dc, 9, DCACHE_STAGED), DCACHE_OK);
    if (one_node)
        check_refused(dc, dcache_wait(dc, 9, DCACHE_REPLICATED), DCACHE_ERR_LEVEL, "one node");
    else
        CHECK_STATUS(dc, dcache_wait(dc, 9, DCACHE_REPLICATED), DCACHE_OK);
    check_refused(dc, dcache_wait(dc, 9, DCACHE_DURABLE), DCACHE_ERR_LEVEL, "store");
    check_refused(dc, dcache_wait(dc, 9, DCACHE_LEVEL_NONE), DCACHE_ERR_INVALID, "level");
    check_refused(dc, dcache_wait(dc, 9, (dcache_level_t)4), DCACHE_ERR_INVALID, "level");
    CHECK_STATUS(dc, dcache_test(dc, 9, &level), DCACHE_OK);
    CHECK(level == (one_node ? DCACHE_STAGED : DCACHE_REPLICATED));
    CHECK_STATUS(dc, dcache_wait(dc, 1234, DCACHE_STAGED), DCACHE_NOT_FOUND);
    CHECK_STATUS(dc, dcache_test(dc, 1234, &level), DCACHE_NOT_FOUND);
    CHECK(level == (one_node ? DCACHE_STAGED : DCACHE_REPLICATED));
}

/* Regions that differ from those of the step on one rank only. */
static void test_other_regions(dcache_t *dc, struct fields *fields)
{
    uint64_t step = DCACHE_LATEST;
    double few[3] = {1, 2, 3};

    support_trying("a region of another size on one rank");
    check_works(dc, fields, 11);
    fields_scribble(fields);
    if (is_last())
        CHECK_STATUS(dc, dcache_protect(dc, "temperature", few, 3, DCACHE_FLOAT64), DCACHE_OK);
    check_refused(dc, dcache_restart(dc, &step), DCACHE_ERR_MISMATCH, "temperature");
    CHECK(step == DCACHE_LATEST && fields_scribbled(fields));
    CHECK(few[0] == 1 && few[1] == 2 && few[2] == 3);
    fields_protect(dc, fields);
    check_works(dc, fields, 12);
}

static void test_arguments(void)
{
    struct fields fields;

    support_option_number("NODE_SIZE", 1);
    fields_init(&fields, support_rank);
    fields_add_some(&fields, 10);
    dcache_t *dc = support_open();
    fields_protect(dc, &fields);
    test_names(dc);
    test_shapes(dc);
    test_steps(dc, &fields);
    test_different_steps(dc, &fields);
    test_levels(dc, &fields);
    test_other_regions(dc, &fields);
    support_close(&dc);
    fields_free(&fields);
    stores_lose_all("test");
}

/* ---- opening ---- */

static dcache_status_t open_and_listen(const char *config, char *text, size_t room)
{
    dcache_t *dc = NULL;

    dcache_status_t status = support_open_and_listen(MPI_COMM_WORLD, config, &dc, text, room);
    CHECK((status == DCACHE_OK) == (dc != NULL));
    CHECK_SAME(status, "");
    CHECK(dcache_close(&dc) == DCACHE_OK);
    return status;
}

static void test_bad_options(void)
{
    static const struct {
        const char *name, *value;
    } bad[] = {{"NODE_SIZE", "-1"},  {"NODE_SIZE", "two"},  {"SLOTS", "1"},           {"SLOTS", "17"},
               {"SLOTS", ""},        {"TRANSPORT", "fast"}, {"JOB", "a/b"},           {"JOB", ".."},
               {"STORE", "ftp://x"}, {"LOG", "loud"},       {"STORE_TIMEOUT", "-5s"}, {"SLOTZ", "3"}};
    char text[2048], variable[64];

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        support_trying("DCACHE_%s=%s", bad[i].name, bad[i].value);
        snprintf(variable, sizeof variable, "DCACHE_%s", bad[i].name);
        const char *former = getenv(variable);
        char *kept = former != NULL ? strdup(former) : NULL;
        support_option(bad[i].name, bad[i].value);
        CHECK(open_and_listen(NULL, text, sizeof text) == DCACHE_ERR_OPTION);
        CHECK(support_rank != 0 || strstr(text, bad[i].name) != NULL || strstr(text, bad[i].value) != NULL);
        support_option(bad[i].name, kept);
        free(kept);
    }
    support_trying("only rank 0's options count");
    if (support_rank != 0)
        support_option("SLOTS", "nonsense");
    CHECK(open_and_listen(NULL, text, sizeof text) == DCACHE_OK);
    support_option("SLOTS", NULL);
}

static void test_config_files(void)
{
    char path[512], text[2048];

    support_trying("configuration files");
    snprintf(path, sizeof path, "%s/no-such-file", support_scratch());
    dcache_status_t status = open_and_listen(path, text, sizeof text);
    CHECK(status < 0);
    CHECK(support_rank != 0 || strstr(text, "no-such-file") != NULL);
    snprintf(path, sizeof path, "%s/config", support_scratch());
    for (int good = 0; good < 2; good++) {
        if (support_rank == 0) {
            FILE *file = fopen(path, "w");
            CHECK(file != NULL);
            fprintf(file, "[dcache]\nslots = 3\n%s", good ? "" : "colour = blue\n");
            CHECK(fclose(file) == 0);
        }
        MPI_Barrier(MPI_COMM_WORLD);
        status = open_and_listen(path, text, sizeof text);
        CHECK(status == (good ? DCACHE_OK : DCACHE_ERR_OPTION));
        CHECK(good || support_rank != 0 || strstr(text, "colour") != NULL);
        MPI_Barrier(MPI_COMM_WORLD);
    }
}

/* A store that others may write to, on the last node only. */
static void test_open_directory(void)
{
    char path[512], text[2048];
    dcache_t *dc = support_open();

    support_trying("a node store that is open to others");
    support_close(&dc);
    snprintf(path, sizeof path, "%s/test/node-%d", support_stores(), support_size - 1);
    MPI_Barrier(MPI_COMM_WORLD);
    if (support_rank == 0)
        CHECK(chmod(path, 0777) == 0);
    MPI_Barrier(MPI_COMM_WORLD);
    CHECK(open_and_listen(NULL, text, sizeof text) == DCACHE_ERR_PERMISSION);
    CHECK(support_rank != 0 || strstr(text, path) != NULL);
    MPI_Barrier(MPI_COMM_WORLD);
    if (support_rank == 0)
        CHECK(chmod(path, 0700) == 0);
    MPI_Barrier(MPI_COMM_WORLD);
    CHECK(open_and_listen(NULL, text, sizeof text) == DCACHE_OK);
}

static void test_opened_twice(void)
{
    char text[2048], pid[32];
    struct fields fields;
    dcache_t *dc = support_open();

    support_trying("the same job opened twice");
    fields_init(&fields, support_rank);
    fields_add_some(&fields, 10);
    fields_protect(dc, &fields);
    CHECK(open_and_listen(NULL, text, sizeof text) == DCACHE_ERR_BUSY);
    snprintf(pid, sizeof pid, "%ld", (long)getpid());
    CHECK(support_rank != 0 || (strstr(text, pid) != NULL && strstr(text, "component") != NULL));
    check_works(dc, &fields, 1); /* the first one is as it was */
    support_close(&dc);
    CHECK(open_and_listen(NULL, text, sizeof text) == DCACHE_OK);
    fields_free(&fields);
    stores_lose_all("test");
}

/* ---- several handles ---- */

struct part {
    MPI_Comm comm;
    dcache_t *dc;
    struct fields fields;
    char job[64];
};

static void part_open(struct part *part, MPI_Comm comm, const char *component)
{
    int rank = 0;

    part->comm = comm;
    MPI_Comm_rank(comm, &rank);
    support_option("COMPONENT", component);
    fields_init(&part->fields, rank);
    fields_add_some(&part->fields, 300);
    CHECK_STATUS(NULL, dcache_open(comm, NULL, &part->dc), DCACHE_OK);
    fields_protect(part->dc, &part->fields);
    support_option("COMPONENT", NULL);
}

static void part_close(struct part *part)
{
    support_close(&part->dc);
    fields_free(&part->fields);
}

static void part_take(struct part *part, uint64_t step)
{
    fields_fill(&part->fields, step);
    CHECK_STATUS(part->dc, dcache_checkpoint(part->dc, step), DCACHE_OK);
}

static void part_begin(struct part *part, uint64_t step)
{
    fields_fill(&part->fields, step);
    CHECK_STATUS(part->dc, dcache_checkpoint_begin(part->dc, step), DCACHE_OK);
    fields_scribble(&part->fields);
}

static void part_restore(struct part *part, uint64_t expected)
{
    uint64_t step = DCACHE_LATEST;

    fields_scribble(&part->fields);
    CHECK_STATUS(part->dc, dcache_restart(part->dc, &step), DCACHE_OK);
    CHECK(step == expected && fields_hold(&part->fields, expected));
}

/* The program as a whole, a second time under another name, and each half of it, all at once and one through the
 * other. */
static void test_handles(const char *transport)
{
    static struct part all, again, half;
    MPI_Comm comm;
    bool upper = support_rank >= (support_size + 1) / 2;

    support_trying("several handles, %s", transport);
    support_option("TRANSPORT", transport);
    MPI_Comm_split(MPI_COMM_WORLD, upper, -support_rank, &comm);
    for (uint64_t run = 0; run < 2; run++) {
        part_open(&all, MPI_COMM_WORLD, "all");
        part_open(&half, comm, upper ? "upper" : "lower");
        part_open(&again, MPI_COMM_WORLD, "again");
        if (run == 1) {
            part_restore(&again, 21);
            part_restore(&half, upper ? 32 : 31);
            part_restore(&all, 12);
        }
        part_begin(&all, 11);
        part_take(&again, 21);
        part_begin(&half, upper ? 32 : 31);
        part_take(&all, 12);
        if (!upper) /* the halves need not do the same */
            part_restore(&half, 31);
        part_restore(&again, 21);
        part_close(&all);
        if (upper)
            CHECK_STATUS(half.dc, dcache_wait(half.dc, 32, DCACHE_STAGED), DCACHE_OK);
        part_close(&half);
        part_close(&again);
    }
    MPI_Comm_free(&comm);
    stores_lose_all("test.all");
    stores_lose_all("test.again");
    stores_lose_all("test.lower");
    stores_lose_all("test.upper");
}

int main(int argc, char **argv)
{
    support_start(&argc, &argv, MPI_THREAD_SINGLE);
    test_without_handle();
    test_intercommunicator();
    test_strerror();
    test_arguments();
    test_bad_options();
    test_config_files();
    test_open_directory();
    test_opened_twice();
    test_handles("two-sided");
    test_handles("one-sided");
    return support_finish();
}
