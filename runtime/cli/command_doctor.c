/* dcache doctor: would a checkpoint be safe here? */
#include "io/http.h"
#include "runtime/cli/cli.h"
#include "runtime/cli/doctor.h"
#include "runtime/values.h"

#include <curl/curl.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SKEW_WARNING_S 60.0
#define SKEW_PROBLEM_S 600.0 /* the service refuses signatures that are 15 minutes old */

/* The service's clock, from whatever it answers to a request without a signature. */
static void check_clock(struct doctor *doctor, const char *url)
{
    static const char *const wanted[] = {"Date", NULL};
    struct http_client *client = NULL;
    struct http_response response;
    const struct http_request request = {.method = "HEAD",
                                         .url = url,
                                         .wanted = wanted,
                                         .timeout_s = doctor->options->store_timeout,
                                         .stall_s = doctor->options->store_stall};

    if (http_client_open(doctor->dg, &client) != DCACHE_OK)
        return;
    dcache_status_t status = http_perform(client, doctor->dg, &request, &response);
    http_client_close(client);
    const char *date = status == DCACHE_OK ? http_headers_get(&response.headers, "Date") : "";
    time_t there = *date != '\0' ? curl_getdate(date, NULL) : -1;
    if (there <= 0)
        return;
    double skew = difftime(time(NULL), there);
    enum finding_level level = fabs(skew) > SKEW_PROBLEM_S   ? FINDING_PROBLEM
                               : fabs(skew) > SKEW_WARNING_S ? FINDING_WARNING
                                                             : FINDING_OK;
    findings_add(&doctor->findings, level, "clock", level != FINDING_OK ? "start a time service (chrony)" : NULL,
                 "%.0f s from that of the object store", skew);
}

static dcache_status_t ignore_object(void *context, const char *key, uint64_t bytes)
{
    (void)context;
    (void)key;
    (void)bytes;
    return DCACHE_OK;
}

/* List, put, read back and remove a small object beside the job's. */
static dcache_status_t try_objects(struct cli *cli, struct object_store *store, const char **doing)
{
    char key[160], *back = NULL;
    const char *job = cli->job != NULL ? cli->job_name : "doctor";
    size_t bytes = 0;

    snprintf(key, sizeof key, "%s/.doctor-%lld-%ld", job, (long long)time(NULL), (long)getpid());
    *doing = "listing";
    dcache_status_t status = store->ops->list(store, &cli->dg, key, ignore_object, NULL);
    if (status != DCACHE_OK)
        return status;
    *doing = "writing";
    status = object_store_put_bytes(store, &cli->dg, key, key, strlen(key), OBJECT_REPLACE);
    if (status != DCACHE_OK)
        return status;
    *doing = "reading";
    status = object_store_get_bytes(store, &cli->dg, key, sizeof key, &back, &bytes);
    if (status == DCACHE_OK && (bytes != strlen(key) || memcmp(back, key, bytes) != 0))
        status = diag_fail(&cli->dg, DCACHE_ERR_CORRUPT, "%s does not read as it was written", key);
    free(back);
    struct diag kept = cli->dg;
    dcache_status_t removed = store->ops->remove(store, &cli->dg, key);
    if (status != DCACHE_OK) {
        cli->dg = kept;
        return status;
    }
    *doing = "removing";
    return removed;
}

/* One of the stores. `several`: say for which one the credentials are. */
static void check_store(struct cli *cli, struct doctor *doctor, const char *url, bool several)
{
    const char *doing = "opening";
    char canonical[STRIPES_TEXT_MAX] = "", credentials[1024] = "";
    struct object_store *store = NULL;

    if (object_store_explain_auth(&cli->dg, url, (enum object_auth)cli->options.store_auth, credentials,
                                  sizeof credentials) == DCACHE_OK &&
        credentials[0] != '\0')
        findings_add(&doctor->findings, FINDING_OK, "credentials", NULL, "%s%s%s", several ? url : "",
                     several ? ": " : "", credentials);
    dcache_status_t status = cli_store_open(cli, url, canonical, &store);
    bool remote = strncmp(canonical, "http", 4) == 0;
    if (remote)
        check_clock(doctor, canonical);
    if (status == DCACHE_OK && store == NULL) {
        findings_add(&doctor->findings, FINDING_WARNING, "object store", "`dcache store create` makes it, or the job",
                     "%s is not there yet", canonical[0] != '\0' ? canonical : url);
        return;
    }
    if (status == DCACHE_OK)
        status = try_objects(cli, store, &doing);
    object_store_close(store);
    if (status == DCACHE_OK)
        findings_add(&doctor->findings, FINDING_OK, "object store", NULL, "%s can be listed, written and read",
                     canonical);
    else
        findings_add(&doctor->findings, FINDING_PROBLEM, "object store", NULL, "%s: %s failed: %s",
                     canonical[0] != '\0' ? canonical : "the option store", doing, cli->dg.text);
}

static void check_objects(struct cli *cli, struct doctor *doctor)
{
    struct stripes_places places;
    const char *url = cli->options.store;

    if (cli->no_store)
        return;
    if (strcmp(url, "none") == 0) {
        findings_add(&doctor->findings, FINDING_WARNING, "object store", "set the option store",
                     "none: no step survives the loss of the cluster");
        return;
    }
    dcache_status_t status = stripes_resolve(&cli->dg, url, (enum object_auth)cli->options.store_auth, &places);
    if (status != DCACHE_OK) { /* one of them: this one's check says which, and what it lacks */
        check_store(cli, doctor, url, false);
        return;
    }
    for (uint32_t i = 0; i < places.count; i++)
        check_store(cli, doctor, places.list[i].url, places.count > 1);
    explicit_bzero(&places, sizeof places);
}

/* The tool runs where there is no MPI: a program beside it takes this process over. What the command line says becomes
 * the environment, which that program's options come from. */
static int become_mpi_program(struct cli *cli)
{
    char path[1024] = "";
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 32);
    char *slash = length > 0 ? strrchr(path, '/') : NULL;
    char *arguments[5] = {"dcache-doctor"};
    int count = 1;

    if (slash == NULL)
        return cli_failed(cli, diag_fail(&cli->dg, DCACHE_ERR_IO, "cannot find out where this program is"));
    strcpy(slash + 1, "dcache-doctor");
    if (cli->json)
        arguments[count++] = "--json";
    if (cli->bytes_per_rank != NULL) {
        arguments[count++] = "--bytes-per-rank";
        arguments[count++] = (char *)cli->bytes_per_rank;
    }
    if (cli->config != NULL)
        setenv("DCACHE_CONFIG", cli->config, 1);
    setenv("DCACHE_MEMORY_STORE", cli->options.memory_store, 1);
    execv(path, arguments);
    return cli_failed(cli, diag_fail_errno(&cli->dg, errno, "cannot start %s", path));
}

/* A launcher has started it many times: without --mpi each of them looks at its own node, and none at what is between.
 */
static void check_launcher(struct doctor *doctor)
{
    const char *count = getenv("SLURM_STEP_NUM_TASKS"); /* not in a batch script */
    char host[256] = "";

    if (count == NULL)
        count = getenv("OMPI_COMM_WORLD_SIZE");
    if (count == NULL || strtol(count, NULL, 10) < 2 || gethostname(host, sizeof host - 1) != 0)
        return;
    findings_add(&doctor->findings, FINDING_WARNING, "processes",
                 "dcache doctor --mpi looks at all nodes together, and at what is between them",
                 "this is one of %.20s, and it looks at its own node only: %s", count, host);
}

int command_doctor(struct cli *cli)
{
    struct doctor doctor = {.dg = &cli->dg, .options = &cli->options, .bytes_per_rank = cli->options.reserve};

    if (cli->argument_count != 0)
        return cli_misused(cli, "doctor takes no argument");
    if (cli->bytes_per_rank != NULL && !values_parse_size(cli->bytes_per_rank, &doctor.bytes_per_rank))
        return cli_misused(cli, "--bytes-per-rank: " VALUES_SIZE_FORM);
    if (cli->ranks_per_node != NULL && !values_parse_integer(cli->ranks_per_node, &doctor.ranks_per_node))
        return cli_misused(cli, "--ranks-per-node: a whole number");
    if (doctor.bytes_per_rank < 0 || doctor.ranks_per_node < 0 || doctor.bytes_per_rank > INT64_C(1) << 50 ||
        doctor.ranks_per_node > 1000000)
        return cli_misused(cli, "--bytes-per-rank and --ranks-per-node: 0 to 1 PiB and 0 to 1000000");
    if (cli->mpi)
        return become_mpi_program(cli);
    findings_begin(&doctor.findings);
    check_launcher(&doctor);
    doctor_check_node(&doctor);
    check_objects(cli, &doctor);
    return findings_end(&doctor.findings, cli->json) ? CLI_OK : CLI_BAD;
}
