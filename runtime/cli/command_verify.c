/* dcache verify [STEP]: every byte of every copy in the node stores and of every object is compared with its digest. */
#include "runtime/cli/image.h"
#include "runtime/cli/overview.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct verify {
    struct cli *cli;
    struct overview *overview;
    const uint64_t *only; /* this step, or NULL for all */
    struct cli_progress progress;
    uint64_t done;
    uint64_t copies; /* looked at */
    uint64_t objects;
    uint64_t skipped; /* used again while they were looked at */
    uint64_t bad;
    json_t *findings; /* with --json */
};

static bool in_scope(const struct verify *verify, uint64_t step)
{
    return verify->only == NULL || *verify->only == step;
}

/* One bad copy or object, or manifest; `step`, `rank` and `chunks` may be NULL when they are not known. */
static void report_bad(struct verify *verify, const char *name, const uint64_t *step, const uint32_t *rank,
                       struct number_list *chunks, const char *text)
{
    uint64_t count = chunks != NULL ? chunks->count : 0;
    const char *numbers = chunks != NULL ? number_list_text(chunks) : "";
    verify->bad++;
    cli_progress_clear(&verify->progress);
    if (verify->findings != NULL) {
        json_array_append_new(verify->findings,
                              json_pack("{s:s, s:o, s:o, s:I, s:s, s:s}", "name", name, "step",
                                        step != NULL ? json_integer((json_int_t)*step) : json_null(), "rank",
                                        rank != NULL ? json_integer((json_int_t)*rank) : json_null(), "bad_chunks",
                                        (json_int_t)count, "chunks", numbers, "text", text));
        return;
    }
    printf("BAD %s", name);
    if (step != NULL && rank != NULL)
        printf(" (step %" PRIu64 ", rank %" PRIu32 ")", *step, *rank);
    if (count > 0)
        printf(": chunk%s %s do%s not match", count > 1 ? "s" : "", numbers, count > 1 ? "" : "es");
    if (*text != '\0')
        printf(": %s", text);
    putchar('\n');
    fflush(stdout);
}

/* Verify the body of an opened image; its header is good. Returns errors of the object store, which say nothing about
 * the object and end the command; whatever goes wrong with a file is a finding. */
static dcache_status_t verify_body(struct verify *verify, struct image *image, const char *name)
{
    struct diag *dg = &verify->cli->dg;
    struct number_list chunks = {.count = 0};
    dcache_status_t status = image_verify(dg, image, &verify->progress, &verify->done, &chunks);
    const struct shard_set *set = &image->header.set;
    const uint32_t rank = image->header.rank;
    if (status != DCACHE_OK && status != DCACHE_ERR_CORRUPT && image->object.store != NULL)
        return status;
    if (status == DCACHE_OK && chunks.count == 0)
        return DCACHE_OK;
    if (image_used_again(image, set))
        verify->skipped++;
    else if (status != DCACHE_OK)
        report_bad(verify, name, &set->step, &rank, NULL, dg->text);
    else
        report_bad(verify, name, &set->step, &rank, &chunks, "");
    return DCACHE_OK;
}

/* --- Node stores ---------------------------------------------------------------------------------------------------*/

static dcache_status_t verify_copy(struct verify *verify, const struct overview_copy *copy)
{
    const struct catalog_entry *entry = &copy->entry;
    const struct node_store *store = &verify->overview->stores[entry->store];
    char path[640];
    struct image image;
    overview_copy_path(verify->overview, copy, path, sizeof path);
    dcache_status_t status = diag_failpoint(&verify->cli->dg, "tool.verify");
    if (status != DCACHE_OK)
        return status;
    status = image_open_copy(&verify->cli->dg, store, entry, &image);
    verify->copies++;
    if (status == DCACHE_NOT_FOUND || image_used_again(&image, &entry->set)) {
        verify->skipped++;
        status = DCACHE_OK;
    } else if (status != DCACHE_OK) {
        report_bad(verify, path, &entry->set.step, &entry->rank, NULL, verify->cli->dg.text);
        status = DCACHE_OK;
    } else {
        status = verify_body(verify, &image, path);
    }
    image_close(&image);
    return status;
}

/* A slot's file by its name; only names that slot_name() makes. */
static bool parse_slot_name(const char *name, struct catalog_entry *entry)
{
    char again[48];
    char *end = NULL;
    bool own = strncmp(name, "own-", 4) == 0;
    if (!own && strncmp(name, "replica-", 8) != 0)
        return false;
    entry->kind = own ? SLOT_OWN : SLOT_REPLICA;
    entry->rank = (uint32_t)strtoul(name + (own ? 4 : 8), &end, 10);
    if (*end != '-')
        return false;
    entry->slot = (uint32_t)strtoul(end + 1, NULL, 10);
    slot_name(entry->kind, entry->rank, entry->slot, again);
    return strcmp(name, again) == 0;
}

static bool is_known(const struct overview *overview, const struct catalog_entry *entry)
{
    for (size_t i = 0; i < overview->copy_count; i++) {
        const struct catalog_entry *known = &overview->copies[i].entry;
        if (known->store == entry->store && known->kind == entry->kind && known->rank == entry->rank &&
            known->slot == entry->slot)
            return true;
    }
    return false;
}

/* A slot that the catalog left out: never written, or its header is bad. */
static void verify_unknown(struct verify *verify, const struct catalog_entry *entry, const char *name)
{
    const struct node_store *store = &verify->overview->stores[entry->store];
    char path[sizeof store->path + 64];
    struct image image;
    dcache_status_t status = image_open_copy(&verify->cli->dg, store, entry, &image);
    image_close(&image);
    if (status == DCACHE_NOT_FOUND || image.bytes == 0)
        return;
    verify->copies++;
    snprintf(path, sizeof path, "%s/%.48s", store->path, name);
    if (status == DCACHE_OK)
        report_bad(verify, path, NULL, NULL, NULL, "it holds a shard of another job or rank");
    else
        report_bad(verify, path, NULL, NULL, NULL, verify->cli->dg.text);
}

static dcache_status_t verify_unknown_slots(struct verify *verify, uint32_t number)
{
    const struct node_store *store = &verify->overview->stores[number];
    int fd = openat(store->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = fd >= 0 ? fdopendir(fd) : NULL;
    const struct dirent *item;
    if (directory == NULL) {
        int error_number = errno;
        if (fd >= 0)
            (void)close(fd);
        return diag_fail_errno(&verify->cli->dg, error_number, "cannot list %s", store->path);
    }
    while ((item = readdir(directory)) != NULL) {
        struct catalog_entry entry = {.store = number};
        if (parse_slot_name(item->d_name, &entry) && !is_known(verify->overview, &entry))
            verify_unknown(verify, &entry, item->d_name);
    }
    (void)closedir(directory);
    return DCACHE_OK;
}

static dcache_status_t verify_node_stores(struct verify *verify)
{
    const struct overview *overview = verify->overview;
    dcache_status_t status = DCACHE_OK;
    for (size_t i = 0; status == DCACHE_OK && i < overview->copy_count; i++) {
        const struct overview_copy *copy = &overview->copies[i];
        if (copy->entry.state == SHARD_COMPLETE && in_scope(verify, copy->entry.set.step))
            status = verify_copy(verify, copy);
    }
    for (size_t i = 0; status == DCACHE_OK && verify->only == NULL && i < overview->store_count; i++)
        status = verify_unknown_slots(verify, (uint32_t)i);
    return status;
}

/* --- Object store --------------------------------------------------------------------------------------------------*/

static const char *compare_with_manifest(const struct verify *verify, const struct overview_step *step,
                                         const struct manifest_shard *shard, const struct image *image)
{
    const struct shard_header *header = &image->header;
    if (header->rank != shard->rank || !shard_same_set(&header->set, &step->set) ||
        strcmp(header->job, verify->overview->job) != 0)
        return "it is another shard than the manifest says";
    if (header->file_bytes != shard->bytes || shard_image_crc(header, image->encoded) != shard->crc)
        return "size or digest is not what the manifest says";
    return NULL;
}

/* Errors of the store itself end the command: they say nothing about the object. */
static dcache_status_t verify_object(struct verify *verify, const struct overview_step *step,
                                     const struct manifest_shard *shard)
{
    struct diag *dg = &verify->cli->dg;
    char key[OBJECT_KEY_MAX];
    struct image image;
    char name[OBJECT_URL_MAX + sizeof key + 1];
    manifest_object_key(key, verify->overview->job, &step->set, shard);
    if (shard->store == STRIPES_HOME)
        memcpy(name, key, sizeof key);
    else
        snprintf(name, sizeof name, "%s/%s", stripes_url(verify->overview->remote, shard->store), key);
    dcache_status_t status = image_open_object(verify->cli, verify->overview->remote, &step->manifest, shard, &image);
    bool bad = status == DCACHE_ERR_CORRUPT || status == DCACHE_ERR_FORMAT;
    verify->objects++;
    if (status == DCACHE_NOT_FOUND) {
        report_bad(verify, name, &step->set.step, &shard->rank, NULL,
                   image.bytes == 0 ? "it is missing" : "its header is empty");
    } else if (bad) {
        report_bad(verify, name, &step->set.step, &shard->rank, NULL, dg->text);
    } else if (status == DCACHE_OK) {
        const char *text = compare_with_manifest(verify, step, shard, &image);
        if (text != NULL)
            report_bad(verify, name, &step->set.step, &shard->rank, NULL, text);
        else
            status = verify_body(verify, &image, name);
    }
    image_close(&image);
    return bad || status == DCACHE_NOT_FOUND ? DCACHE_OK : status;
}

static dcache_status_t verify_object_store(struct verify *verify)
{
    const struct overview *overview = verify->overview;
    dcache_status_t status = DCACHE_OK;
    char key[OBJECT_KEY_MAX];
    for (size_t i = 0; i < overview->fault_count; i++) {
        const struct overview_fault *fault = &overview->faults[i];
        manifest_key(key, overview->job, fault->step);
        if (!in_scope(verify, fault->step))
            continue;
        verify->objects++;
        report_bad(verify, key, &fault->step, NULL, NULL, fault->text);
    }
    for (size_t i = 0; i < overview->step_count; i++) {
        const struct overview_step *step = &overview->steps[i];
        for (size_t s = 0; status == DCACHE_OK && in_scope(verify, step->set.step) && s < step->manifest.shard_count;
             s++)
            status = verify_object(verify, step, &step->manifest.shards[s]);
    }
    return status;
}

/* --- The command ---------------------------------------------------------------------------------------------------*/

static uint64_t bytes_in_scope(const struct verify *verify)
{
    const struct overview *overview = verify->overview;
    uint64_t total = 0;
    for (size_t i = 0; i < overview->copy_count; i++) {
        const struct catalog_entry *entry = &overview->copies[i].entry;
        if (entry->state == SHARD_COMPLETE && in_scope(verify, entry->set.step))
            total += entry->file_bytes;
    }
    for (size_t i = 0; i < overview->step_count; i++) {
        if (overview->steps[i].durable && in_scope(verify, overview->steps[i].set.step))
            total += overview->steps[i].bytes;
    }
    return total;
}

static int print_result(const struct verify *verify)
{
    struct cli *cli = verify->cli;
    char size[16];
    if (cli->json)
        return cli_print_json(cli, json_pack("{s:s, s:I, s:I, s:I, s:I, s:b, s:O}", "job", verify->overview->job,
                                             "copies", (json_int_t)verify->copies, "objects",
                                             (json_int_t)verify->objects, "bytes", (json_int_t)verify->done, "in_use",
                                             (json_int_t)verify->skipped, "object_store_failed",
                                             verify->overview->remote_failed, "bad", verify->findings));
    printf("job %s: %" PRIu64 " copies in node stores and %" PRIu64 " objects verified, %s: ", verify->overview->job,
           verify->copies, verify->objects, text_size(verify->done, size));
    if (verify->bad > 0)
        printf("%" PRIu64 " bad\n", verify->bad);
    else
        printf("all good\n");
    if (verify->skipped > 0)
        printf("%" PRIu64 " of the copies were used again meanwhile by the running job, and are not judged\n",
               verify->skipped);
    return CLI_OK;
}

static int verify_all(struct verify *verify)
{
    struct cli *cli = verify->cli;
    verify->progress = (struct cli_progress){.what = "verifying", .total = bytes_in_scope(verify)};
    dcache_status_t status = verify_node_stores(verify);
    if (status == DCACHE_OK && verify->overview->remote != NULL)
        status = verify_object_store(verify);
    cli_progress_clear(&verify->progress);
    if (status != DCACHE_OK)
        return cli_failed(cli, status);
    if (verify->copies + verify->objects == 0 && !verify->overview->remote_failed)
        return cli_failed(cli, diag_fail(&cli->dg, DCACHE_NOT_FOUND, "job %s: nothing to verify here%s",
                                         verify->overview->job, verify->only != NULL ? " of that step" : ""));
    if (print_result(verify) != CLI_OK)
        return CLI_BAD;
    return verify->bad > 0 || verify->overview->remote_failed ? CLI_BAD : CLI_OK;
}

int command_verify(struct cli *cli)
{
    uint64_t only = 0;
    char job[64];
    struct overview overview;
    struct verify verify = {.cli = cli, .overview = &overview};
    if (cli->argument_count > 1 || (cli->argument_count == 1 && !cli_parse_step(cli->arguments[0], &only)))
        return cli_misused(cli, "verify takes the number of a step, or nothing");
    if (cli->argument_count == 1)
        verify.only = &only;
    int code = cli_one_job(cli, job);
    if (code != CLI_OK)
        return code;
    dcache_status_t status = overview_open(cli, job, false, &overview);
    if (status != DCACHE_OK)
        return cli_failed(cli, status);
    verify.findings = cli->json ? json_array() : NULL;
    code = verify_all(&verify);
    json_decref(verify.findings);
    overview_close(&overview);
    return code;
}
