/* Rotten copies: a restart never hands out a wrong byte, finds every good chunk wherever it is, and falls back to the
 * step before, on all ranks, when a chunk is nowhere.
 *
 * ranks: 2 3 4
 * timeout: 300 */
#include "io/shard.h"
#include "mpi_fields.h"
#include "mpi_stores.h"
#include "mpi_support.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define JOB    "test"
#define KIB    2700 /* of regions: four chunks and a bit */
#define COPIES 3    /* own, replica, object */

/* ---- runs ---- */

static void take(dcache_t *dc, struct fields *fields, uint64_t step, uint64_t content)
{
    fields_fill(fields, content);
    CHECK_STATUS(dc, dcache_checkpoint(dc, step), DCACHE_OK);
}

/* Steps 1 and 2, into fresh stores. */
static void first_run(bool durable)
{
    struct fields fields;

    stores_lose_all(JOB);
    support_use_objects(durable);
    dcache_t *dc = fields_open(&fields, KIB);
    take(dc, &fields, 1, 1);
    take(dc, &fields, 2, 2);
    if (durable)
        CHECK_STATUS(dc, dcache_wait(dc, 2, DCACHE_DURABLE), DCACHE_OK);
    support_close(&dc);
    fields_free(&fields);
}

/* A later run restarts: the step, and that its bytes are those of `content`. Returns the open handle. */
static dcache_t *restart_into(struct fields *fields, uint64_t expected, uint64_t content)
{
    uint64_t step = DCACHE_LATEST;
    dcache_t *dc = fields_open(fields, KIB);

    fields_scribble(fields);
    CHECK_STATUS(dc, dcache_restart(dc, &step), DCACHE_OK);
    CHECK(step == expected && fields_hold(fields, content));
    CHECK(stores_redundant(JOB, expected, (uint32_t)support_size));
    return dc;
}

static void restart(uint64_t expected, uint64_t content)
{
    struct fields fields;
    dcache_t *dc = restart_into(&fields, expected, content);

    support_close(&dc);
    fields_free(&fields);
}

static void restart_fails(dcache_status_t expected)
{
    struct fields fields;
    uint64_t step = DCACHE_LATEST;
    dcache_t *dc = fields_open(&fields, KIB);

    fields_scribble(&fields);
    dcache_status_t status = dcache_restart(dc, &step);
    CHECK_STATUS(dc, status, expected);
    CHECK_SAME(status, dcache_error_text(dc));
    CHECK(step == DCACHE_LATEST && fields_scribbled(&fields));
    take(dc, &fields, 3, 3); /* and the job can go on */
    step = DCACHE_LATEST;
    CHECK_STATUS(dc, dcache_restart(dc, &step), DCACHE_OK);
    CHECK(step == 3 && fields_hold(&fields, 3));
    support_close(&dc);
    fields_free(&fields);
}

/* ---- damage, all by rank 0 ---- */

/* The copies of one rank's shard of one step, as paths, and its layout. */
struct shard_copies {
    char path[COPIES][640];
    int count;
    uint64_t header_bytes, file_bytes;
    uint32_t chunks;
};

static void find_copies(uint32_t rank, uint64_t step, bool objects, struct shard_copies *copies)
{
    size_t count = 0;
    struct stored *list = stores_list(JOB, &count);
    const struct stored *own = stores_find(list, count, SLOT_OWN, rank, step);
    const struct stored *replica = stores_find(list, count, SLOT_REPLICA, rank, step);

    CHECK(own != NULL && replica != NULL);
    stores_path(JOB, own, copies->path[0], sizeof copies->path[0]);
    stores_path(JOB, replica, copies->path[1], sizeof copies->path[1]);
    snprintf(copies->path[2], sizeof copies->path[2], "%s/" JOB "/%" PRIu64 "/shard-%u-%" PRIu64 ".h5",
             support_objects(), step, rank, own->entry.set.sequence);
    CHECK(!objects || access(copies->path[2], R_OK) == 0);
    copies->count = objects ? 3 : 2;
    copies->header_bytes = own->entry.header_bytes;
    copies->file_bytes = own->entry.file_bytes;
    copies->chunks =
        (uint32_t)((copies->file_bytes - copies->header_bytes + SHARD_CHUNK_BYTES - 1) / SHARD_CHUNK_BYTES);
    CHECK(copies->chunks >= 3);
    free(list);
}

static void write_at(const char *path, uint64_t offset, const void *data, size_t bytes)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);

    CHECK(fd >= 0 && pwrite(fd, data, bytes, (off_t)offset) == (ssize_t)bytes);
    close(fd);
}

/* Turn over one bit of a random byte in [offset, offset + bytes). */
static void flip(const char *path, uint64_t offset, uint64_t bytes, uint64_t *seed)
{
    uint64_t at = offset + support_random_below(seed, bytes);
    unsigned char byte = 0;
    int fd = open(path, O_RDWR | O_CLOEXEC);

    CHECK(fd >= 0 && pread(fd, &byte, 1, (off_t)at) == 1);
    byte ^= (unsigned char)(1u << support_random_below(seed, 8));
    CHECK(pwrite(fd, &byte, 1, (off_t)at) == 1);
    close(fd);
}

static void flip_chunk(const struct shard_copies *copies, int copy, uint32_t chunk, uint64_t *seed)
{
    uint64_t offset = copies->header_bytes + (uint64_t)chunk * SHARD_CHUNK_BYTES, left = copies->file_bytes - offset;

    flip(copies->path[copy], offset, left < SHARD_CHUNK_BYTES ? left : SHARD_CHUNK_BYTES, seed);
}

/* In the region table. (A copy whose first bytes are wrong cannot even be recognised: test_broken_files().) */
static void flip_header(const struct shard_copies *copies, int copy, uint64_t *seed)
{
    flip(copies->path[copy], SHARD_FIXED_BYTES, 256, seed);
}

/* A random choice of copies to damage that leaves at least one. */
static unsigned some_copies(int count, uint64_t *seed)
{
    return (unsigned)support_random_below(seed, (1u << count) - 1u);
}

/* Damage headers and chunks of a rank's copies so that of each one good copy is left, not always in the same place. */
static void damage_some(uint32_t rank, bool objects, uint64_t *seed)
{
    struct shard_copies copies = {.count = 0};

    find_copies(rank, 2, objects, &copies);
    unsigned headers = some_copies(copies.count, seed);
    for (int c = 0; support_rank == 0 && c < copies.count; c++) {
        if (headers >> c & 1u)
            flip_header(&copies, c, seed);
    }
    for (uint32_t k = 0; support_rank == 0 && k < copies.chunks; k++) {
        unsigned chosen = some_copies(copies.count, seed);
        for (int c = 0; c < copies.count; c++) {
            if (chosen >> c & 1u)
                flip_chunk(&copies, c, k, seed);
        }
    }
}

/* ---- tests ---- */

static void use(const char *transport, int node_size)
{
    support_option("TRANSPORT", transport);
    support_option_number("NODE_SIZE", node_size);
}

static void test_one_good_copy_each(bool objects, int rounds, uint64_t seed)
{
    for (int round = 0; round < rounds; round++) {
        support_trying("one good copy of everything, objects %d, round %d", objects, round);
        use(round % 2 == 0 ? "two-sided" : "one-sided", round % 3 == 2 && support_size > 2 ? 2 : 1);
        first_run(objects);
        for (uint32_t rank = 0; rank < (uint32_t)support_size; rank++)
            damage_some(rank, objects, &seed);
        MPI_Barrier(MPI_COMM_WORLD);
        restart(2, 2);
    }
}

/* Chunk by chunk, all of a rank's copies: step 1 it is. Then step 1, too: an error. */
static void test_no_good_copy(bool objects, uint64_t seed)
{
    struct shard_copies copies = {.count = 0};
    uint32_t victim = (uint32_t)support_size - 1;

    for (uint32_t step = 2; step > 0; step--) {
        support_trying("no good copy of a chunk of step %u, objects %d", step, objects);
        use("two-sided", 1);
        first_run(objects);
        for (uint64_t bad = 2; bad >= step; bad--) {
            find_copies(victim, bad, objects && bad == 2, &copies);
            for (int c = 0; support_rank == 0 && c < copies.count; c++)
                flip_chunk(&copies, c, (uint32_t)bad, &seed);
        }
        MPI_Barrier(MPI_COMM_WORLD);
        if (step == 2) {
            restart(1, 1);
        } else if (!objects) {
            restart_fails(DCACHE_ERR_CORRUPT);
        }
    }
}

static void damage_header(int kind, const char *path, const struct shard_copies *copies, uint64_t *seed)
{
    unsigned char noise[SHARD_FIXED_BYTES];

    for (size_t i = 0; i < sizeof noise; i++)
        noise[i] = (unsigned char)support_random(seed);
    switch (kind) {
    case 0: /* torn: the first half is old (here: nothing), the second new */
        memset(noise, 0, sizeof noise);
        write_at(path, 0, noise, sizeof noise / 2);
        break;
    case 1: /* never written */
        memset(noise, 0, sizeof noise);
        write_at(path, 0, noise, sizeof noise);
        break;
    case 2:
        write_at(path, 0, noise, sizeof noise);
        break;
    case 3: /* cut off somewhere, also in the header, also to nothing */
        CHECK(truncate(path, (off_t)support_random_below(seed, copies->file_bytes)) == 0);
        break;
    case 4:
        CHECK(truncate(path, 0) == 0);
        break;
    case 5: /* longer than it says */
        CHECK(truncate(path, (off_t)copies->file_bytes + 4096) == 0);
        break;
    default:
        CHECK(unlink(path) == 0);
        break;
    }
}

/* Every kind of broken file, as own copy of one rank and as replica of another. */
static void test_broken_files(uint64_t seed)
{
    struct shard_copies copies = {.count = 0};

    for (int kind = 0; kind <= 6; kind++) {
        support_trying("broken files of kind %d", kind);
        use(kind % 2 == 0 ? "one-sided" : "two-sided", 1);
        first_run(false);
        for (uint32_t rank = 0; rank < 2; rank++) {
            find_copies(rank, 2, false, &copies);
            if (support_rank == 0)
                damage_header(kind, copies.path[rank], &copies, &seed);
        }
        MPI_Barrier(MPI_COMM_WORLD);
        restart(2, 2);
    }
}

static void copy_file(const char *from, const char *to)
{
    char command[1400];

    snprintf(command, sizeof command, "cp '%s' '%s'", from, to);
    CHECK(system(command) == 0);
}

/* A file that says it is another rank's, another slot's or another job's: everything in it is in order, and wrong. */
static void test_wrong_owner(void)
{
    struct shard_copies zero = {.count = 0}, one = zero, older = zero;

    support_trying("files in each other's place");
    use("two-sided", 1);
    first_run(false);
    find_copies(0, 2, false, &zero);
    find_copies(1, 2, false, &one);
    find_copies(1, 1, false, &older);
    if (support_rank == 0) {
        copy_file(zero.path[0], one.path[0]);  /* rank 0's shard as rank 1's own copy */
        copy_file(one.path[1], zero.path[1]);  /* rank 1's replica as rank 0's */
        copy_file(older.path[0], one.path[1]); /* step 1 as step 2: step 2 of rank 1 is gone with this */
    }
    MPI_Barrier(MPI_COMM_WORLD);
    restart(1, 1);
}

/* Two attempts at the same step: what is left of the newer one is not filled up from the older one. */
static void test_two_attempts(void)
{
    struct fields fields;
    struct shard_copies copies = {.count = 0};

    support_trying("two attempts at one step");
    use("one-sided", 1);
    first_run(false);
    dcache_t *dc = restart_into(&fields, 2, 2);
    take(dc, &fields, 2, 2222); /* into the slot of step 1 */
    support_close(&dc);
    fields_free(&fields);
    find_copies(0, 2, false, &copies); /* the newer one */
    if (support_rank == 0) {
        CHECK(unlink(copies.path[0]) == 0);
        CHECK(unlink(copies.path[1]) == 0);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    restart(2, 2);
}

/* Many bytes anywhere in the stores: whatever comes out, it is a step or an error, never a mixture. */
static void test_random_damage(int rounds, uint64_t seed)
{
    for (int round = 0; round < rounds; round++) {
        struct fields fields;
        size_t count = 0;
        uint64_t step = DCACHE_LATEST;
        char path[640];

        support_trying("random damage, round %d", round);
        use(round % 2 == 0 ? "one-sided" : "two-sided", 1);
        first_run(false);
        struct stored *list = stores_list(JOB, &count);
        for (size_t i = 0; support_rank == 0 && i < count; i++) {
            stores_path(JOB, &list[i], path, sizeof path);
            for (uint64_t n = support_random_below(&seed, 3); n > 0; n--)
                flip(path, 0, list[i].entry.file_bytes, &seed);
        }
        free(list);
        MPI_Barrier(MPI_COMM_WORLD);
        dcache_t *dc = fields_open(&fields, KIB);
        fields_scribble(&fields);
        dcache_status_t status = dcache_restart(dc, &step);
        CHECK(status == DCACHE_OK || status == DCACHE_ERR_CORRUPT || status == DCACHE_NOT_FOUND);
        CHECK_SAME(status, dcache_error_text(dc));
        if (status == DCACHE_OK)
            CHECK((step == 1 || step == 2) && fields_hold(&fields, step));
        else
            CHECK(fields_scribbled(&fields));
        support_close(&dc);
        fields_free(&fields);
    }
}

int main(int argc, char **argv)
{
    support_start(&argc, &argv, MPI_THREAD_SINGLE);
    uint64_t seed = support_seed();
    test_one_good_copy_each(false, 6, seed);
    test_one_good_copy_each(true, 6, seed + 1);
    test_no_good_copy(false, seed + 2);
    test_no_good_copy(true, seed + 3);
    test_broken_files(seed + 4);
    test_wrong_owner();
    test_two_attempts();
    test_random_damage(6, seed + 5);
    return support_finish();
}
