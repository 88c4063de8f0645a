/* A job spread over three directories: drains, and restarts with all node stores lost; in another order, with one more,
 * without one, with one that holds nothing any more, and with the wrong one first.
 *
 * ranks: 4
 * timeout: 300 */
#include "mpi_fields.h"
#include "mpi_stores.h"
#include "mpi_support.h"

#include <glob.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define JOB "test"
#define KIB 1100

/* "abc": the directories a, b and c below the one that is made for this test. */
static void use_stores(const char *names)
{
    char text[1024] = "";

    for (const char *c = names; *c != '\0'; c++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%sfile://%s/%c", text[0] != '\0' ? " " : "",
                 support_objects(), *c);
    support_option("STORE", text);
}

static void take(const char *names, uint64_t step)
{
    struct fields fields;

    use_stores(names);
    dcache_t *dc = fields_open(&fields, KIB);
    fields_fill(&fields, step);
    CHECK_STATUS(dc, dcache_checkpoint(dc, step), DCACHE_OK);
    CHECK_STATUS(dc, dcache_wait(dc, step, DCACHE_DURABLE), DCACHE_OK);
    support_close(&dc);
    fields_free(&fields);
}

static size_t count(char store, uint64_t step, const char *pattern)
{
    char path[1200];
    glob_t found;

    snprintf(path, sizeof path, "%s/%c/" JOB "/%d/%s", support_objects(), store, (int)step, pattern);
    size_t matches = glob(path, 0, NULL, &found) == 0 ? found.gl_pathc : 0;
    globfree(&found);
    return matches;
}

static void restart(const char *names, dcache_status_t wanted, uint64_t expected, const char *word)
{
    struct fields fields;

    stores_lose_all(JOB);
    use_stores(names);
    dcache_t *dc = fields_open(&fields, KIB);
    fields_restart(dc, &fields, wanted, expected, word);
    support_close(&dc);
    fields_free(&fields);
}

/* The store that was first once is not to be one of the others: its steps would not be found. */
static void refuse_order(const char *names)
{
    dcache_t *dc = NULL;

    use_stores(names);
    dcache_status_t status = dcache_open(MPI_COMM_WORLD, NULL, &dc);
    CHECK(status == DCACHE_ERR_OPTION && dc == NULL);
}

static void remove_shards(char store, uint64_t step)
{
    char pattern[1200];
    glob_t found;

    MPI_Barrier(MPI_COMM_WORLD);
    snprintf(pattern, sizeof pattern, "%s/%c/" JOB "/%d/shard-*", support_objects(), store, (int)step);
    CHECK(support_rank != 0 || glob(pattern, 0, NULL, &found) == 0);
    for (size_t i = 0; support_rank == 0 && i < found.gl_pathc; i++)
        CHECK(unlink(found.gl_pathv[i]) == 0);
    if (support_rank == 0)
        globfree(&found);
    MPI_Barrier(MPI_COMM_WORLD);
}

int main(int argc, char **argv)
{
    support_start(&argc, &argv, MPI_THREAD_MULTIPLE);
    support_use_objects(true);
    stores_lose_all(JOB);
    take("abc", 1);
    CHECK(count('a', 1, "manifest.json") == 1 && count('b', 1, "manifest.json") == 0);
    CHECK(count('a', 1, "shard-*") >= 1 && count('b', 1, "shard-*") >= 1 && count('c', 1, "shard-*") >= 1);
    CHECK(count('a', 1, "shard-*") + count('b', 1, "shard-*") + count('c', 1, "shard-*") == (size_t)support_size);
    restart("abc", DCACHE_OK, 1, "");
    restart("acb", DCACHE_OK, 1, "");
    restart("acbd", DCACHE_OK, 1, "");
    restart("ab", DCACHE_ERR_OPTION, 0, "option store");
    refuse_order("bac");
    refuse_order("b");
    support_option("CLAIM_LEASE", "0");
    refuse_order("cb");
    support_option("CLAIM_LEASE", NULL);
    take("ad", 2); /* an account less, and another one: newer steps need only what they are in */
    CHECK(count('b', 2, "*") == 0 && count('d', 2, "shard-*") >= 1);
    restart("ad", DCACHE_OK, 2, "");
    remove_shards('d', 2);
    restart("abcd", DCACHE_OK, 1, "");
    remove_shards('c', 1);
    restart("abcd", DCACHE_ERR_CORRUPT, 0, "step");
    return support_finish();
}
