/**
 * program_values: checkpoints of values that anybody can compute, for the shell tests of this folder.
 *
 *   program_values [--kib N] [--durable] [--restart] STEP|@FILE...
 *
 * Protects a region of each type (types/int8 ... ), an empty one, a block of a global array, and `bulk` of N KiB per
 * rank. Element i of a region on rank r is (7 r + 3 step + i) % 100, in numbers of its type. With --restart it first
 * restarts and says what it has got; then it takes each STEP, waits until it is durable if asked to, and each rank
 * says what came of it: "rank 0 step 7 status 0"; at an @FILE it waits until there is that file. Nothing stops it but
 * MPI.
 */
#include <dcache.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ELEMENTS = 17, ROWS = 3, COLUMNS = 5, TYPES = DCACHE_FLOAT64 + 1 };

static const char *const names[TYPES] = {
    [DCACHE_INT8] = "types/int8",         [DCACHE_UINT8] = "types/uint8",     [DCACHE_INT16] = "types/int16",
    [DCACHE_UINT16] = "types/uint16",     [DCACHE_INT32] = "types/int32",     [DCACHE_UINT32] = "types/uint32",
    [DCACHE_INT64] = "types/int64",       [DCACHE_UINT64] = "types/uint64",   [DCACHE_FLOAT16] = "types/float16",
    [DCACHE_BFLOAT16] = "types/bfloat16", [DCACHE_FLOAT32] = "types/float32", [DCACHE_FLOAT64] = "types/float64",
};
static const size_t sizes[TYPES] = {0, 1, 1, 2, 2, 4, 4, 8, 8, 2, 2, 4, 8};

struct memory {
    uint64_t typed[TYPES][ELEMENTS]; /* room and alignment for any type */
    double block[ROWS * COLUMNS];
    uint64_t *bulk;
    uint64_t bulk_count;
    int rank;
    int size;
};

static unsigned number_at(const struct memory *memory, uint64_t step, uint64_t i)
{
    return (unsigned)((7 * (uint64_t)memory->rank + 3 * step + i) % 100);
}

/* The IEEE binary16 of a whole number below 2048. */
static uint16_t half_of(unsigned number)
{
    unsigned exponent = 0;

    if (number == 0)
        return 0;
    while (number >> (exponent + 1) != 0)
        exponent++;
    return (uint16_t)((exponent + 15) << 10 | (number - (1u << exponent)) << (10 - exponent));
}

static void put_number(int type, void *element, unsigned number)
{
    float single = (float)number;
    uint32_t bits = 0;
    uint16_t half = half_of(number);
    uint64_t integer = number;

    memcpy(&bits, &single, sizeof bits);
    if (type == DCACHE_FLOAT16)
        memcpy(element, &half, sizeof half);
    else if (type == DCACHE_BFLOAT16)
        memcpy(element, (const char *)&bits + 2, 2); /* the upper half: this machine is little-endian */
    else if (type == DCACHE_FLOAT32)
        memcpy(element, &single, sizeof single);
    else if (type == DCACHE_FLOAT64)
        memcpy(element, &(double){number}, sizeof(double));
    else
        memcpy(element, &integer, sizes[type]);
}

static void fill(struct memory *memory, uint64_t step)
{
    for (int type = 1; type < TYPES; type++) {
        for (uint64_t i = 0; i < ELEMENTS; i++)
            put_number(type, (char *)memory->typed[type] + i * sizes[type], number_at(memory, step, i));
    }
    for (uint64_t i = 0; i < ROWS * COLUMNS; i++)
        memory->block[i] = number_at(memory, step, i);
    for (uint64_t i = 0; i < memory->bulk_count; i++)
        memory->bulk[i] = number_at(memory, step, i);
}

static dcache_status_t protect(dcache_t *dc, struct memory *memory)
{
    const uint64_t rows = ROWS, rank = (uint64_t)memory->rank;
    const uint64_t global[2] = {rows * (uint64_t)memory->size, COLUMNS}, start[2] = {rows * rank, 0};
    const uint64_t count[2] = {rows, COLUMNS};

    dcache_status_t status = dcache_protect(dc, "empty", NULL, 0, DCACHE_FLOAT64);
    for (int type = 1; status == DCACHE_OK && type < TYPES; type++)
        status = dcache_protect(dc, names[type], memory->typed[type], ELEMENTS, (dcache_type_t)type);
    if (status == DCACHE_OK)
        status = dcache_protect_array(dc, "block", memory->block, DCACHE_FLOAT64, 2, global, start, count);
    if (status == DCACHE_OK)
        status = dcache_protect(dc, "bulk", memory->bulk, memory->bulk_count, DCACHE_UINT64);
    return status;
}

/* Restart, and compare with what should be in the memory then. */
static void restart(dcache_t *dc, struct memory *memory)
{
    struct memory expected = *memory;
    uint64_t step = DCACHE_LATEST;

    dcache_status_t status = dcache_restart(dc, &step);
    if (status != DCACHE_OK) {
        printf("rank %d restart status %d: %s\n", memory->rank, (int)status, dcache_error_text(dc));
        return;
    }
    memset(expected.typed, 0, sizeof expected.typed);
    expected.bulk = malloc(memory->bulk_count * sizeof *expected.bulk + 1);
    if (expected.bulk == NULL)
        return;
    fill(&expected, step);
    int equal = memcmp(expected.typed, memory->typed, sizeof expected.typed) == 0 &&
                memcmp(expected.block, memory->block, sizeof expected.block) == 0 &&
                memcmp(expected.bulk, memory->bulk, memory->bulk_count * sizeof *expected.bulk) == 0;
    printf("rank %d restarted from step %" PRIu64 ", %s\n", memory->rank, step, equal ? "good" : "BAD");
    free(expected.bulk);
}

static void wait_for(const char *path)
{
    while (access(path, F_OK) != 0)
        usleep(10000);
}

static void take(dcache_t *dc, struct memory *memory, uint64_t step, int durable)
{
    fill(memory, step);
    dcache_status_t status = dcache_checkpoint(dc, step);
    if (status == DCACHE_OK && durable)
        status = dcache_wait(dc, step, DCACHE_DURABLE);
    printf("rank %d step %" PRIu64 " status %d: %s\n", memory->rank, step, (int)status,
           status < 0 ? dcache_error_text(dc) : dcache_strerror(status));
    fflush(stdout);
}

int main(int argc, char **argv)
{
    static struct memory memory;
    dcache_t *dc = NULL;
    int durable = 0, wants_restart = 0, at = 1;

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &memory.rank);
    MPI_Comm_size(MPI_COMM_WORLD, &memory.size);
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (; at < argc && argv[at][0] == '-'; at++) {
        durable = durable || strcmp(argv[at], "--durable") == 0;
        wants_restart = wants_restart || strcmp(argv[at], "--restart") == 0;
        if (strcmp(argv[at], "--kib") == 0 && at + 1 < argc)
            memory.bulk_count = strtoull(argv[++at], NULL, 10) * 1024 / sizeof *memory.bulk;
    }
    memory.bulk = calloc(memory.bulk_count + 1, sizeof *memory.bulk);
    dcache_status_t status = dcache_open(MPI_COMM_WORLD, NULL, &dc);
    printf("rank %d open status %d\n", memory.rank, (int)status);
    if (memory.bulk != NULL && status == DCACHE_OK && protect(dc, &memory) == DCACHE_OK) {
        if (wants_restart)
            restart(dc, &memory);
        for (; at < argc; at++) {
            if (argv[at][0] == '@')
                wait_for(argv[at] + 1);
            else
                take(dc, &memory, strtoull(argv[at], NULL, 10), durable);
        }
        status = dcache_close(&dc);
        printf("rank %d close status %d\n", memory.rank, (int)status);
    }
    free(memory.bulk);
    MPI_Finalize();
    return EXIT_SUCCESS;
}
