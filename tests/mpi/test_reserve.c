/* The option reserve: slots have their memory when the handle is open, what is in them already stays, and more than
 * there is is refused before anything is made. Then what the counters of dcache_get_statistics() say of a known
 * history.
 *
 * ranks: 1 3 */
#include "mpi_fields.h"
#include "mpi_stores.h"
#include "mpi_support.h"

#include <ftw.h>
#include <mpi.h>
#include <stdio.h>
#include <string.h>

#define JOB     "test"
#define SLOTS   3
#define RESERVE (3 << 20)

/* Slot files below the directory that nftw() walks, and how many of them have all the room. nftw() takes no context. */
static unsigned files, roomy;

static int count_room(const char *path, const struct stat *info, int type, struct FTW *where)
{
    if (type == FTW_F && strstr(path + where->base, ".h5") != NULL) {
        files++;
        roomy += info->st_blocks * 512 >= RESERVE;
    }
    return 0;
}

/* All ranks see the same: rank 0's count. */
static void look(void)
{
    unsigned counts[2];

    files = roomy = 0;
    if (support_rank == 0)
        (void)nftw(support_stores(), count_room, 16, FTW_PHYS);
    counts[0] = files;
    counts[1] = roomy;
    CHECK(MPI_Bcast(counts, 2, MPI_UNSIGNED, 0, MPI_COMM_WORLD) == MPI_SUCCESS);
    files = counts[0];
    roomy = counts[1];
}

static unsigned expected_files(void)
{
    return (unsigned)(support_size * SLOTS * (support_size > 1 ? 2 : 1));
}

static void save(dcache_t *dc, struct fields *fields, uint64_t step)
{
    fields_fill(fields, step);
    CHECK_STATUS(dc, dcache_checkpoint(dc, step), DCACHE_OK);
}

static void test_reserved(void)
{
    struct fields fields;

    support_trying("room when the handle is opened");
    stores_lose_all(JOB);
    support_option_number("RESERVE", RESERVE);
    fields_init(&fields, support_rank);
    fields_add_some(&fields, 1000);
    dcache_t *dc = support_open();
    look();
    CHECK(files == expected_files() && roomy == files);
    fields_protect(dc, &fields);
    save(dc, &fields, 1);
    save(dc, &fields, 2);
    look();
    CHECK(files == expected_files());
    support_close(&dc);

    support_trying("room beside what is there");
    dc = support_open();
    look();
    CHECK(files == expected_files());
    fields_protect(dc, &fields);
    fields_restart(dc, &fields, DCACHE_OK, 2, "");
    save(dc, &fields, 3);
    save(dc, &fields, 4);
    fields_restart(dc, &fields, DCACHE_OK, 4, "");
    support_close(&dc);
    fields_free(&fields);
    support_option("RESERVE", NULL);
}

static void test_too_much(void)
{
    dcache_t *dc = NULL;

    support_trying("more than there is");
    stores_lose_all(JOB);
    support_option("RESERVE", "1000T");
    dcache_status_t status = dcache_open(MPI_COMM_WORLD, NULL, &dc);
    CHECK_STATUS(dc, status, DCACHE_ERR_NO_SPACE);
    CHECK_SAME(status, "");
    CHECK(dc == NULL);
    look();
    CHECK(files == 0);
    support_option("RESERVE", NULL);
}

/* Three checkpoints, the second and third durable: drained by ranks of our choice, so the sum counts. */
static void test_statistics(void)
{
    struct fields fields;
    dcache_statistics_t mine;
    uint64_t sums[4] = {0, 0, 0, 0};

    support_trying("counters");
    stores_lose_all(JOB);
    support_use_objects(true);
    fields_init(&fields, support_rank);
    fields_add_some(&fields, 200);
    dcache_t *dc = support_open();
    CHECK_STATUS(dc, dcache_get_statistics(dc, &mine), DCACHE_OK);
    CHECK(mine.checkpoints == 0 && mine.bytes_protected == 0 && mine.bytes_put == 0 && mine.drain_shards == 0);
    fields_protect(dc, &fields);
    for (uint64_t step = 1; step <= 3; step++) {
        save(dc, &fields, step);
        CHECK_STATUS(dc, dcache_wait(dc, step, DCACHE_DURABLE), DCACHE_OK);
    }
    CHECK_STATUS(dc, dcache_get_statistics(dc, &mine), DCACHE_OK);
    CHECK(mine.checkpoints == 3 && mine.bytes_copied > 0 && mine.bytes_copied <= mine.bytes_protected);
    CHECK(support_size == 1 ? mine.bytes_put == 0 : mine.bytes_put == mine.bytes_copied);
    CHECK(mine.drain_requests == 0 && mine.drain_retries == 0); /* a directory: no network */
    const uint64_t counted[] = {mine.bytes_protected, mine.drain_bytes, mine.drain_shards, mine.drain_seconds > 0};
    CHECK(MPI_Allreduce(counted, sums, 4, MPI_UINT64_T, MPI_SUM, MPI_COMM_WORLD) == MPI_SUCCESS);
    CHECK(sums[0] == sums[1] && sums[2] == 3 * (uint64_t)support_size && sums[3] > 0);
    support_close(&dc);
    support_use_objects(false);
    fields_free(&fields);
}

int main(int argc, char **argv)
{
    support_start(&argc, &argv, MPI_THREAD_SINGLE);
    support_option_number("NODE_SIZE", 1);
    support_option_number("SLOTS", SLOTS);
    test_reserved();
    test_too_much();
    test_statistics();
    return support_finish();
}
