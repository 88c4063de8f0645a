/* Restart on another number of ranks, and with global arrays cut another way: from all nodes, with one lost, from the
 * object store alone, with rotten copies; and what cannot be restored so is refused with the reason.
 *
 * ranks: 5 3 */
#include "mpi_stores.h"
#include "mpi_support.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define JOB "test"

enum { PLATE_ROWS = 37, PLATE_COLUMNS = 23, SERIES = 700001, DIMS = 3 };

/* The state of a program on `ranks` ranks: a plate cut by rows or by columns, a long series, a cube that only the last
 * rank has, and the time, the same everywhere. */
struct program {
    MPI_Comm comm;
    int rank, ranks;
    dcache_t *dc;
    uint64_t global[DIMS], start[DIMS], count[DIMS];
    double *plate;
    uint64_t first, length;
    int32_t *series;
    uint16_t cube[4][3][2];
    uint64_t time[2];
};

static double plate_value(uint64_t step, uint64_t row, uint64_t column)
{
    return (double)step * 1e6 + (double)(row * 1000 + column);
}

static int32_t series_value(uint64_t step, uint64_t at)
{
    return (int32_t)((at * 2654435761u + step) & 0x7fffffff);
}

/* Consecutive shares; the first ranks have one more. */
static void share(uint64_t all, int rank, int ranks, uint64_t *start, uint64_t *count)
{
    uint64_t r = (uint64_t)rank, n = (uint64_t)ranks;

    *count = all / n + (r < all % n);
    *start = r * (all / n) + (r < all % n ? r : all % n);
}

static void protect(struct program *p)
{
    static const uint64_t cube[DIMS] = {4, 3, 2}, zero[DIMS] = {0, 0, 0};
    const uint64_t all = SERIES;

    CHECK_STATUS(p->dc,
                 dcache_protect_array(p->dc, "plate", p->plate, DCACHE_FLOAT64, 2, p->global, p->start, p->count),
                 DCACHE_OK);
    CHECK_STATUS(p->dc, dcache_protect_array(p->dc, "series", p->series, DCACHE_INT32, 1, &all, &p->first, &p->length),
                 DCACHE_OK);
    CHECK_STATUS(p->dc,
                 dcache_protect_array(p->dc, "cube", p->cube, DCACHE_UINT16, DIMS, cube, zero,
                                      p->rank == p->ranks - 1 ? cube : zero),
                 DCACHE_OK);
    CHECK_STATUS(p->dc, dcache_protect(p->dc, "time", p->time, 2, DCACHE_UINT64), DCACHE_OK);
}

/* Not all ranks of the test: those that are left out have p->ranks 0. */
static void begin(struct program *p, int ranks, bool by_columns)
{
    memset(p, 0, sizeof *p);
    MPI_Comm_split(MPI_COMM_WORLD, support_rank < ranks ? 0 : MPI_UNDEFINED, support_rank, &p->comm);
    if (p->comm == MPI_COMM_NULL)
        return;
    p->rank = support_rank;
    p->ranks = ranks;
    p->global[0] = p->count[0] = PLATE_ROWS;
    p->global[1] = p->count[1] = PLATE_COLUMNS;
    share(by_columns ? PLATE_COLUMNS : PLATE_ROWS, p->rank, ranks, &p->start[by_columns], &p->count[by_columns]);
    share(SERIES, p->rank, ranks, &p->first, &p->length);
    p->plate = calloc(p->count[0] * p->count[1] + 1, sizeof *p->plate);
    p->series = calloc(p->length + 1, sizeof *p->series);
    CHECK(p->plate != NULL && p->series != NULL);
    CHECK_STATUS(NULL, dcache_open(p->comm, NULL, &p->dc), DCACHE_OK);
    protect(p);
}

static void end(struct program *p)
{
    if (p->ranks > 0) {
        CHECK_STATUS(p->dc, dcache_close(&p->dc), DCACHE_OK);
        free(p->plate);
        free(p->series);
        MPI_Comm_free(&p->comm);
    }
    MPI_Barrier(MPI_COMM_WORLD);
}

static void fill(struct program *p, uint64_t step)
{
    for (uint64_t i = 0; i < p->count[0] * p->count[1]; i++)
        p->plate[i] = plate_value(step, p->start[0] + i / p->count[1], p->start[1] + i % p->count[1]);
    for (uint64_t i = 0; i < p->length; i++)
        p->series[i] = series_value(step, p->first + i);
    memset(p->cube, (int)(step % 251), sizeof p->cube);
    p->time[0] = step;
    p->time[1] = ~step;
}

static bool holds(const struct program *p, uint64_t step)
{
    unsigned char cube[sizeof p->cube];
    bool good = p->time[0] == step && p->time[1] == ~step;

    for (uint64_t i = 0; i < p->count[0] * p->count[1]; i++)
        good = good && p->plate[i] == plate_value(step, p->start[0] + i / p->count[1], p->start[1] + i % p->count[1]);
    for (uint64_t i = 0; i < p->length; i++)
        good = good && p->series[i] == series_value(step, p->first + i);
    memset(cube, (int)(step % 251), sizeof cube);
    return good && (p->rank != p->ranks - 1 || memcmp(p->cube, cube, sizeof cube) == 0);
}

static void take(struct program *p, uint64_t step, bool durable)
{
    if (p->ranks == 0)
        return;
    fill(p, step);
    CHECK_STATUS(p->dc, dcache_checkpoint(p->dc, step), DCACHE_OK);
    if (durable)
        CHECK_STATUS(p->dc, dcache_wait(p->dc, step, DCACHE_DURABLE), DCACHE_OK);
}

static void restore(struct program *p, uint64_t expected)
{
    uint64_t step = DCACHE_LATEST;

    if (p->ranks == 0)
        return;
    fill(p, 9999);
    CHECK_STATUS(p->dc, dcache_restart(p->dc, &step), DCACHE_OK);
    CHECK(step == expected && holds(p, expected));
}

/* Restarts that fail do so on all ranks, with the same words, and leave the memory alone. */
static void restore_fails(struct program *p, dcache_status_t wanted, const char *word)
{
    uint64_t step = DCACHE_LATEST;

    if (p->ranks == 0)
        return;
    fill(p, 9999);
    CHECK_STATUS(p->dc, dcache_restart(p->dc, &step), wanted);
    CHECK(strstr(dcache_error_text(p->dc), word) != NULL);
    CHECK(step == DCACHE_LATEST && holds(p, 9999));
}

static void first_run(int ranks, bool durable)
{
    struct program p;

    stores_lose_all(JOB);
    support_use_objects(durable);
    begin(&p, ranks, false);
    take(&p, 1, durable);
    take(&p, 2, durable);
    end(&p);
}

/* On other ranks, cut the other way, on with it, and back. */
static void go_on(int ranks, int back)
{
    struct program p;

    begin(&p, ranks, true);
    restore(&p, 2);
    take(&p, 3, false);
    restore(&p, 3);
    take(&p, 4, false);
    end(&p);
    begin(&p, back, false);
    restore(&p, 4);
    take(&p, 5, false);
    take(&p, 6, false);
    restore(&p, 6);
    end(&p);
}

static void test_numbers(void)
{
    const int pairs[][2] = {{1, support_size},
                            {support_size, 1},
                            {support_size - 1, support_size},
                            {2, support_size - 1},
                            {support_size, support_size}};

    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        support_trying("from %d ranks to %d", pairs[i][0], pairs[i][1]);
        first_run(pairs[i][0], false);
        go_on(pairs[i][1], pairs[i][0]);
    }
}

static void test_lost_node(void)
{
    support_trying("one node lost");
    for (unsigned node = 0; node < 2; node++) {
        first_run(support_size, false);
        stores_lose_node(JOB, node);
        go_on(support_size - 1, support_size);
    }
}

static void test_objects_alone(void)
{
    support_trying("from the object store alone");
    first_run(support_size, true);
    stores_lose_all(JOB);
    go_on(support_size - 1, support_size - 2);
}

/* What the ranks before left is kept until a checkpoint of the new run is whole, and given up then. */
static void test_old_step_stays(void)
{
    struct program p;
    uint64_t step = DCACHE_LATEST;

    support_trying("the old step stays until there is a new one");
    first_run(support_size, false);
    begin(&p, support_size - 1, true);
    restore(&p, 2);
    if (p.ranks > 0) {
        fill(&p, 3);
        support_option("FAILPOINTS", "checkpoint.header=error@0");
        CHECK(dcache_checkpoint(p.dc, 3) < 0);
        support_option("FAILPOINTS", NULL);
    }
    restore(&p, 2);
    end(&p);
    begin(&p, support_size, false);
    if (p.ranks > 0) {
        fill(&p, 9999);
        CHECK_STATUS(p.dc, dcache_restart(p.dc, &step), DCACHE_OK);
        CHECK(step == 2 && holds(&p, 2));
    }
    end(&p);
    go_on(support_size - 1, support_size);
    CHECK(stores_count_files(JOB) <= 4 * (size_t)support_size);
}

/* A bit flips in a chunk of every own copy: the replica's is taken. Then the same chunk in both: nothing is. */
static void flip(enum slot_kind kind, uint64_t step)
{
    size_t count = 0;
    struct stored *list = stores_list(JOB, &count);

    for (uint32_t rank = 0; support_rank == 0 && rank < (uint32_t)support_size; rank++) {
        const struct stored *stored = stores_find(list, count, kind, rank, step);
        char path[640], byte = 0;
        CHECK(stored != NULL);
        stores_path(JOB, stored, path, sizeof path);
        int fd = open(path, O_RDWR);
        off_t at = (off_t)(stored->entry.header_bytes + (stored->entry.file_bytes - stored->entry.header_bytes) / 2);
        CHECK(fd >= 0 && pread(fd, &byte, 1, at) == 1);
        byte ^= 0x10;
        CHECK(pwrite(fd, &byte, 1, at) == 1);
        close(fd);
    }
    free(list);
    MPI_Barrier(MPI_COMM_WORLD);
}

static void test_rotten_copies(void)
{
    struct program p;

    support_trying("rotten copies");
    first_run(support_size, false);
    flip(SLOT_OWN, 2);
    begin(&p, support_size - 1, true);
    restore(&p, 2);
    end(&p);
    flip(SLOT_REPLICA, 2);
    begin(&p, support_size - 1, true);
    restore(&p, 1);
    end(&p);
}

static void test_refusals(void)
{
    struct program p;
    uint64_t extent = SERIES + 1, zero = 0, two = 2;

    support_trying("what cannot be restored on another number of ranks");
    first_run(support_size, false);
    begin(&p, support_size - 1, true);
    if (p.ranks > 0) { /* the array has become longer */
        CHECK_STATUS(p.dc,
                     dcache_protect_array(p.dc, "series", p.series, DCACHE_INT32, 1, &extent, &p.first, &p.length),
                     DCACHE_OK);
        restore_fails(&p, DCACHE_ERR_MISMATCH, "'series'");
        CHECK_STATUS(p.dc, dcache_unprotect(p.dc, "series"), DCACHE_OK);
        CHECK_STATUS(p.dc, dcache_protect_array(p.dc, "new", p.time, DCACHE_UINT64, 1, &two, &zero, &two), DCACHE_OK);
        restore_fails(&p, DCACHE_ERR_MISMATCH, "'new'");
        CHECK_STATUS(p.dc, dcache_unprotect(p.dc, "new"), DCACHE_OK);
        CHECK_STATUS(p.dc, dcache_protect(p.dc, "new", p.time, 2, DCACHE_UINT64), DCACHE_OK);
        restore_fails(&p, DCACHE_ERR_MISMATCH, "'new'");
    }
    end(&p);
    begin(&p, support_size, false);
    if (p.ranks > 0) { /* what differs between ranks and is no block */
        fill(&p, 7);
        p.time[1] = (uint64_t)p.rank;
        CHECK_STATUS(p.dc, dcache_checkpoint(p.dc, 7), DCACHE_OK);
    }
    end(&p);
    begin(&p, support_size - 1, false);
    restore_fails(&p, DCACHE_ERR_MISMATCH, "'time'");
    if (p.ranks > 0) {
        uint64_t step = DCACHE_LATEST;
        CHECK_STATUS(p.dc, dcache_unprotect(p.dc, "time"), DCACHE_OK);
        CHECK_STATUS(p.dc, dcache_restart(p.dc, &step), DCACHE_OK);
        fill(&p, 7);
        CHECK(step == 7 && holds(&p, 7));
    }
    end(&p);
}

/* One rank fails at each place between two agreements: all get the same, nobody waits, and then it works. */
static void test_one_rank_fails(void)
{
    static const char *const places[] = {"reshape.look=error@1", "reshape.plan=error@0", "reshape.fetch=error@1"};
    struct program p;

    support_trying("one rank fails");
    first_run(support_size, false);
    begin(&p, support_size - 1, true);
    for (size_t i = 0; p.ranks > 0 && i < sizeof places / sizeof places[0]; i++) {
        support_option("FAILPOINTS", places[i]);
        uint64_t step = DCACHE_LATEST;
        fill(&p, 9999);
        dcache_status_t status = dcache_restart(p.dc, &step);
        support_option("FAILPOINTS", NULL);
        CHECK(status < 0 && holds(&p, 9999));
    }
    restore(&p, 2);
    end(&p);
}

int main(int argc, char **argv)
{
    support_start(&argc, &argv, MPI_THREAD_SINGLE);
    support_option_number("NODE_SIZE", 1);
    test_numbers();
    test_lost_node();
    test_objects_alone();
    test_old_step_stays();
    test_rotten_copies();
    test_refusals();
    test_one_rank_fails();
    return support_finish();
}
