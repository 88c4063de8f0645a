/* Two jobs of one name at the same time, which share nothing but the object store: the second is refused, on all of its
 * ranks and in words that help, and the first does not notice. When the first has ended, the name is free.
 *
 * ranks: 3 5 */
#include "mpi_fields.h"
#include "mpi_support.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The jobs' communicators: even and odd ranks. */
static MPI_Comm split(int *which)
{
    MPI_Comm half;

    *which = support_rank % 2;
    CHECK(MPI_Comm_split(MPI_COMM_WORLD, *which, support_rank, &half) == MPI_SUCCESS);
    return half;
}

/* Node stores of its own: that of the same name would be refused for its lock. */
static void use_own_stores(int which)
{
    char path[512];

    snprintf(path, sizeof path, "%s/stores-%d", support_scratch(), which);
    CHECK(mkdir(path, 0700) == 0 || access(path, W_OK) == 0);
    support_option("MEMORY_STORE", path);
}

/* A job that has the name; what it takes is durable. */
static dcache_t *begin(MPI_Comm comm, struct fields *fields, uint64_t step)
{
    dcache_t *dc = NULL;

    CHECK_STATUS(dc, dcache_open(comm, NULL, &dc), DCACHE_OK);
    fields_protect(dc, fields);
    fields_fill(fields, step);
    CHECK_STATUS(dc, dcache_checkpoint(dc, step), DCACHE_OK);
    CHECK_STATUS(dc, dcache_wait(dc, step, DCACHE_DURABLE), DCACHE_OK);
    return dc;
}

static void test_second_job(void)
{
    struct fields fields;
    char text[4096] = "";
    int which, rank;
    dcache_t *dc = NULL;
    MPI_Comm half = split(&which);

    support_use_objects(true);
    support_option("CLAIM_LEASE", "15s"); /* its holder is seen to live after a third of it */
    use_own_stores(which);
    MPI_Comm_rank(half, &rank);
    fields_init(&fields, support_rank);
    fields_add_some(&fields, 10);
    if (which == 0)
        dc = begin(half, &fields, 1);
    MPI_Barrier(MPI_COMM_WORLD);
    if (which == 1) {
        CHECK(support_open_and_listen(half, NULL, &dc, text, sizeof text) == DCACHE_ERR_BUSY);
        CHECK(dc == NULL);
        if (rank == 0) {
            CHECK(strstr(text, "the name test is in use in this object store by a run on host ") != NULL);
            CHECK(strstr(text, "give this run a name of its own (option job)") != NULL);
        }
    }
    MPI_Barrier(MPI_COMM_WORLD);
    if (which == 0) { /* undisturbed, and the name is given back */
        fields_fill(&fields, 2);
        CHECK_STATUS(dc, dcache_checkpoint(dc, 2), DCACHE_OK);
        CHECK_STATUS(dc, dcache_wait(dc, 2, DCACHE_DURABLE), DCACHE_OK);
        CHECK_STATUS(NULL, dcache_close(&dc), DCACHE_OK);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    if (which == 1) {
        dc = begin(half, &fields, 3);
        CHECK_STATUS(NULL, dcache_close(&dc), DCACHE_OK);
    }
    MPI_Comm_free(&half);
    fields_free(&fields);
    support_use_objects(false);
}

int main(int argc, char **argv)
{
    support_start(&argc, &argv, MPI_THREAD_MULTIPLE);
    test_second_job();
    return support_finish();
}
