/* Fill a node store for shell tests of the tool, without MPI:
 *
 *   program_fill_store ROOT JOB NODE WORLD_SIZE STEP SEQUENCE BYTES COPY...
 *
 * COPY is own-RANK, replica-RANK, or writing-RANK (an own copy that was never finished). The slot is SEQUENCE modulo 2.
 */
#include "tests/unit/store_sample.h"

static bool write_copy(const struct node_store *store, struct store_sample *sample, const char *copy)
{
    const char *rank = strchr(copy, '-');
    if (rank == NULL)
        return false;
    sample->rank = (uint32_t)strtoul(rank + 1, NULL, 10);
    sample->kind = copy[0] == 'r' ? SLOT_REPLICA : SLOT_OWN;
    sample->state = copy[0] == 'w' ? SHARD_WRITING : SHARD_COMPLETE;
    return store_sample_write(store, sample);
}

int main(int argc, char **argv)
{
    struct diag dg;
    struct node_store store;
    if (argc < 9) {
        fputs("usage: program_fill_store ROOT JOB NODE WORLD_SIZE STEP SEQUENCE BYTES COPY...\n", stderr);
        return 2;
    }
    struct store_sample sample = {.job = argv[2],
                                  .set = {.world_size = (uint32_t)strtoul(argv[4], NULL, 10),
                                          .step = strtoull(argv[5], NULL, 10),
                                          .sequence = strtoull(argv[6], NULL, 10),
                                          .epoch = 77},
                                  .slot = (uint32_t)(strtoull(argv[6], NULL, 10) % 2),
                                  .bytes = strtoull(argv[7], NULL, 10)};
    diag_init(&dg, sample.job, -1, DIAG_WARNING);
    if (node_store_open(&dg, argv[1], sample.job, (unsigned)strtoul(argv[3], NULL, 10), true, &store) != DCACHE_OK) {
        fprintf(stderr, "%s\n", dg.text);
        return 1;
    }
    bool good = true;
    for (int i = 8; good && i < argc; i++)
        good = write_copy(&store, &sample, argv[i]);
    node_store_close(&store);
    return good ? 0 : 1;
}
