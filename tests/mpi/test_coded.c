/* Shards that are compressed and encrypted on their way to the object store: a restart with all node stores lost gets
 * every byte back with the key, and without it fails with a word about the key, on all ranks, instead of going back.
 *
 * ranks: 3
 * timeout: 300 */
#include "mpi_fields.h"
#include "mpi_stores.h"
#include "mpi_support.h"

#include <glob.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define JOB "test"
#define KIB 2700
#define KEY "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

static void take(struct fields *fields, dcache_t *dc, uint64_t step)
{
    fields_fill(fields, step);
    CHECK_STATUS(dc, dcache_checkpoint(dc, step), DCACHE_OK);
    CHECK_STATUS(dc, dcache_wait(dc, step, DCACHE_DURABLE), DCACHE_OK);
}

static bool is_stored(uint64_t step, const char *suffix)
{
    char pattern[1200];
    glob_t found;

    snprintf(pattern, sizeof pattern, "%s/" JOB "/%d/shard-%d-*.h5%s", support_objects(), (int)step, support_rank,
             suffix);
    bool there = glob(pattern, 0, NULL, &found) == 0;
    globfree(&found);
    return there;
}

static void restart(dcache_status_t wanted, uint64_t expected, const char *word)
{
    struct fields fields;

    stores_lose_all(JOB);
    dcache_t *dc = fields_open(&fields, KIB);
    fields_restart(dc, &fields, wanted, expected, word);
    support_close(&dc);
    fields_free(&fields);
}

int main(int argc, char **argv)
{
    struct fields fields;

    support_start(&argc, &argv, MPI_THREAD_MULTIPLE);
    support_use_objects(true);
    stores_lose_all(JOB);
    support_option("COMPRESS", "always");
    support_option("COMPRESS_THREADS", "2");
    dcache_t *dc = fields_open(&fields, KIB);
    take(&fields, dc, 1);
    CHECK(is_stored(1, ".zst"));
    support_close(&dc);
    fields_free(&fields);
    restart(DCACHE_OK, 1, "");

    support_option("ENCRYPT_KEY_COMMAND", "echo " KEY);
    dc = fields_open(&fields, KIB);
    take(&fields, dc, 2);
    CHECK(is_stored(2, ".zst.aes"));
    support_option("COMPRESS", NULL);
    support_close(&dc);
    fields_free(&fields);
    restart(DCACHE_OK, 2, "");
    support_option("ENCRYPT_KEY_COMMAND", NULL);
    restart(DCACHE_ERR_OPTION, 0, "no key is given");
    support_option("ENCRYPT_KEY_COMMAND", "echo " KEY " | tr 0 f");
    restart(DCACHE_ERR_OPTION, 0, "but the key given is");
    support_option("ENCRYPT_KEY_COMMAND", "echo " KEY);
    restart(DCACHE_OK, 2, "");
    return support_finish();
}
