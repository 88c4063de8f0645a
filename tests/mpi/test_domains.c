/* Failure domains: replicas are in another domain than the shard itself, so that a whole domain can be lost; without
 * the map it could not. Virtual nodes of one rank each; the first half of them is one domain, the second half another.
 * ranks: 4 6 */
#include "mpi_fields.h"
#include "mpi_stores.h"
#include "mpi_support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char map_path[300];

static bool in_first(unsigned node)
{
    return node < (unsigned)support_size / 2;
}

/* `left_out`: a node that the map does not have; -1: none. */
static void write_map(int left_out, const char *more)
{
    char host[96] = "";

    MPI_Barrier(MPI_COMM_WORLD);
    snprintf(map_path, sizeof map_path, "%s/racks", support_scratch());
    FILE *file = support_rank == 0 ? fopen(map_path, "w") : NULL;
    CHECK(support_rank != 0 || file != NULL);
    CHECK(gethostname(host, sizeof host - 1) == 0);
    for (int n = 0; file != NULL && n < support_size; n++) {
        if (n != left_out)
            fprintf(file, "%.*s/%d\t%s # of %d\n", (int)strcspn(host, "."), host, n,
                    in_first((unsigned)n) ? "rack-a" : "rack-b", support_size);
    }
    if (file != NULL)
        CHECK(fputs(more, file) >= 0 && fclose(file) == 0);
    MPI_Barrier(MPI_COMM_WORLD);
    support_option("DOMAINS", map_path);
}

static void save(struct fields *fields, uint64_t step)
{
    dcache_t *dc = support_open();

    fields_protect(dc, fields);
    fields_fill(fields, step);
    CHECK_STATUS(dc, dcache_checkpoint(dc, step), DCACHE_OK);
    support_close(&dc);
}

/* How many ranks have own copy and replica in the same domain. */
static unsigned count_together(uint64_t step)
{
    size_t count = 0;
    unsigned together = 0;
    struct stored *list = stores_list("test", &count);

    for (uint32_t r = 0; r < (uint32_t)support_size; r++) {
        const struct stored *own = stores_find(list, count, SLOT_OWN, r, step);
        const struct stored *replica = stores_find(list, count, SLOT_REPLICA, r, step);
        CHECK(own != NULL && replica != NULL && own->node != replica->node);
        together += in_first(own->node) == in_first(replica->node);
    }
    free(list);
    return together;
}

static void lose_first_domain(void)
{
    for (unsigned n = 0; in_first(n); n++)
        stores_lose_node("test", n);
}

static dcache_status_t restart(struct fields *fields, uint64_t *step)
{
    dcache_t *dc = support_open();

    fields_protect(dc, fields);
    fields_scribble(fields);
    dcache_status_t status = dcache_restart(dc, step);
    support_close(&dc);
    return status;
}

static void lose_and_restart(struct fields *fields, uint64_t step)
{
    uint64_t found = DCACHE_LATEST;

    lose_first_domain();
    CHECK(restart(fields, &found) == DCACHE_OK);
    CHECK(found == step && fields_hold(fields, step));
    CHECK(count_together(step) == 0);
    stores_lose_all("test");
}

static void test_map(struct fields *fields)
{
    support_trying("a map file");
    write_map(-1, "# nobody\n\nelsewhere rack-a\n");
    save(fields, 5);
    CHECK(count_together(5) == 0);
    lose_and_restart(fields, 5);
}

/* Or the test would prove nothing. */
static void test_without(struct fields *fields)
{
    uint64_t found = DCACHE_LATEST;

    support_trying("no domains");
    support_option("DOMAINS", "none");
    save(fields, 6);
    CHECK(count_together(6) > 0);
    lose_first_domain();
    CHECK(restart(fields, &found) == DCACHE_ERR_CORRUPT);
    stores_lose_all("test");
}

/* Each rank has the environment of its node. */
static void test_slurm(struct fields *fields)
{
    char address[64];

    support_trying("Slurm's topology");
    snprintf(address, sizeof address, "s0.%s.node%d", in_first((unsigned)support_rank) ? "s1" : "s2", support_rank);
    setenv("SLURM_TOPOLOGY_ADDR", address, 1);
    setenv("SLURM_TOPOLOGY_ADDR_PATTERN", "switch.switch.node", 1);
    support_option("DOMAINS", "slurm");
    save(fields, 7);
    CHECK(count_together(7) == 0);
    lose_and_restart(fields, 7);

    support_trying("Slurm's topology is not known");
    if (support_rank == support_size - 1)
        unsetenv("SLURM_TOPOLOGY_ADDR");
    save(fields, 8);
    CHECK(count_together(8) <= 1); /* that node may be anybody's partner */
    stores_lose_all("test");
    unsetenv("SLURM_TOPOLOGY_ADDR");
}

static void test_refused(void)
{
    static const char *const lines[] = {"lonely\n", "a b c\n", "host\n#x\n"};
    dcache_t *dc = NULL;

    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        support_trying("a map with the line %s", lines[i]);
        write_map(1, lines[i]);
        CHECK(dcache_open(MPI_COMM_WORLD, NULL, &dc) == DCACHE_ERR_OPTION && dc == NULL);
    }
    support_trying("no map");
    support_option("DOMAINS", "/nowhere/racks");
    CHECK(dcache_open(MPI_COMM_WORLD, NULL, &dc) == DCACHE_ERR_OPTION && dc == NULL);
}

int main(int argc, char **argv)
{
    struct fields fields;

    support_start(&argc, &argv, MPI_THREAD_SINGLE);
    support_option_number("NODE_SIZE", 1);
    fields_init(&fields, support_rank);
    fields_add(&fields, "data", DCACHE_BYTE, 3000000);
    test_map(&fields);
    test_without(&fields);
    test_slurm(&fields);
    test_refused();
    fields_free(&fields);
    return support_finish();
}
