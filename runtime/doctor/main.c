/* dcache-doctor: what `dcache doctor --mpi` starts on every rank. Opens a context as the program will, under a job name
 * of its own; says where ranks, partners and failure domains are and how bytes travel between nodes; takes a checkpoint
 * and restores it; and looks at each node as `dcache doctor` does. Rank 0 prints.
 *
 * Exit status: 0 well, 1 there is a problem, 2 wrong usage. */
#include "runtime/cli/doctor.h"
#include "runtime/context.h"
#include "runtime/doctor/gather.h"
#include "runtime/tiers.h"
#include "runtime/values.h"

#include <ftw.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TRIAL_BYTES (4u << 20)

enum { EXIT_PROBLEM = 1, EXIT_USAGE = 2 };

struct session {
    struct findings findings; /* rank 0's are printed */
    int rank;
    int thread_level;
    bool json;
    int64_t bytes_per_rank;
};

static bool parse(int argc, char **argv, struct session *session)
{
    static const struct option known[] = {
        {"json", no_argument, NULL, 'j'}, {"bytes-per-rank", required_argument, NULL, 'b'}, {NULL, 0, NULL, 0}};
    int found;

    opterr = session->rank == 0;
    while ((found = getopt_long(argc, argv, "", known, NULL)) != -1) {
        if (found == 'j')
            session->json = true;
        else if (found != 'b' || !values_parse_size(optarg, &session->bytes_per_rank) || session->bytes_per_rank < 0)
            return false;
    }
    return optind == argc;
}

/* A job of its own, which disturbs none that runs, and no object store: `dcache doctor` alone tries that. Options are
 * read on rank 0. */
static void set_options(const char *transport)
{
    char job[64];

    snprintf(job, sizeof job, "doctor-%lld-%ld", (long long)time(NULL), (long)getpid());
    setenv("DCACHE_JOB", job, 1);
    setenv("DCACHE_COMPONENT", "", 1);
    setenv("DCACHE_STORE", "none", 1);
    setenv("DCACHE_RESERVE", "0", 1);
    setenv("DCACHE_LOG", "error", 1);
    if (transport != NULL)
        setenv("DCACHE_TRANSPORT", transport, 1);
}

/* ---- a checkpoint and back ---- */

static void fill(unsigned char *data, int rank, unsigned char salt)
{
    for (uint32_t i = 0; i < TRIAL_BYTES; i++)
        data[i] = (unsigned char)((unsigned)rank * 7u + i + i / 251u + salt);
}

static bool holds(const unsigned char *data, int rank)
{
    for (uint32_t i = 0; i < TRIAL_BYTES; i++) {
        if (data[i] != (unsigned char)((unsigned)rank * 7u + i + i / 251u))
            return false;
    }
    return true;
}

static dcache_status_t try_data(dcache_t *dc, unsigned char *data, double *seconds)
{
    uint64_t step = DCACHE_LATEST;
    int good, all_good = 0;

    dcache_status_t status = dcache_protect(dc, "trial", data, TRIAL_BYTES, DCACHE_BYTE);
    fill(data, dc->world.rank, 0);
    *seconds = MPI_Wtime();
    if (status == DCACHE_OK)
        status = dcache_checkpoint(dc, 1);
    *seconds = MPI_Wtime() - *seconds;
    fill(data, dc->world.rank, 1);
    if (status == DCACHE_OK)
        status = dcache_restart(dc, &step);
    if (status != DCACHE_OK)
        return status;
    good = holds(data, dc->world.rank);
    status =
        world_check(&dc->diag, MPI_Allreduce(&good, &all_good, 1, MPI_INT, MPI_MIN, dc->world.comm), "MPI_Allreduce");
    if (status == DCACHE_OK && !all_good)
        status = diag_fail(&dc->diag, DCACHE_ERR_CORRUPT, "what was restored is not what was saved");
    return status;
}

static void try_checkpoint(struct session *session, dcache_t *dc)
{
    unsigned char *data = malloc(TRIAL_BYTES);
    int have = data != NULL, all_have = 0;
    double seconds = 0;

    MPI_Allreduce(&have, &all_have, 1, MPI_INT, MPI_MIN, dc->world.comm);
    dcache_status_t status = all_have ? try_data(dc, data, &seconds) : DCACHE_ERR_NO_MEMORY;
    if (status == DCACHE_OK)
        findings_add(&session->findings, FINDING_OK, "checkpoint and restart", NULL,
                     "4 MiB of each rank saved%s in %.3f s by %s, and restored",
                     dc->world.node_count > 1 ? " on two nodes" : "", seconds, dc->replicator.transport_name);
    else
        findings_add(&session->findings, FINDING_PROBLEM, "checkpoint and restart", NULL, "by %s: %s: %s",
                     dc->replicator.transport_name, dcache_strerror(status), dcache_error_text(dc));
    if (all_have && status == DCACHE_OK) /* before its memory goes */
        (void)!dcache_unprotect(dc, "trial");
    free(data);
}

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *place)
{
    (void)info;
    (void)type;
    (void)place;
    return remove(path);
}

/* Close, and leave nothing behind. Collective. */
static void close_trial(dcache_t *dc)
{
    char path[OPTIONS_TEXT_MAX + 80], other[OPTIONS_TEXT_MAX + 80] = "";
    bool first = dc->world.node_rank == 0 && dc->world.virtual_index == 0;

    snprintf(path, sizeof path, "%s/%s", tiers_root(dc), dc->job);
    if (dc->options.tier == TIER_BOTH)
        snprintf(other, sizeof other, "%s/%s", dc->options.ssd_store, dc->job);
    (void)!dcache_close(&dc);
    MPI_Barrier(MPI_COMM_WORLD);
    if (first)
        (void)nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    if (first && other[0] != '\0')
        (void)nftw(other, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* ---- what the context knows ---- */

static void tell_threads(struct session *session)
{
    if (session->thread_level == MPI_THREAD_MULTIPLE)
        findings_add(&session->findings, FINDING_OK, "thread level", NULL, "MPI_THREAD_MULTIPLE can be had");
    else
        findings_add(&session->findings, FINDING_WARNING, "thread level", "use an MPI with MPI_THREAD_MULTIPLE",
                     "%d is all that MPI has: replication after dcache_checkpoint_begin() goes on in calls only",
                     session->thread_level);
}

static void tell_safety(struct session *session, const dcache_t *dc)
{
    if (dc->world.node_count == 1)
        findings_add(&session->findings, FINDING_WARNING, "nodes", "run on two nodes or more",
                     "1: checkpoints survive processes, not the node");
    else if (dc->options.node_size > 0)
        findings_add(&session->findings, FINDING_WARNING, "nodes", "unset node_size for real runs",
                     "%u virtual ones on %u hosts: checkpoints do not survive a host", dc->world.node_count,
                     dc->world.host_count);
    else
        findings_add(&session->findings, FINDING_OK, "nodes", NULL, "%u, with %d ranks", dc->world.node_count,
                     dc->world.size);
    if (dc->domains.reason[0] != '\0')
        findings_add(&session->findings, FINDING_WARNING, "failure domains", "see the option domains",
                     "not all are known: %s", dc->domains.reason);
    if (dc->placement.same_domain_nodes > 0)
        findings_add(&session->findings, FINDING_PROBLEM, "failure domains", "use nodes of other domains",
                     "%u nodes have their partner in their own: its loss loses steps that are not DURABLE",
                     dc->placement.same_domain_nodes);
}

/* Both ways are tried, whichever is taken. Collective. */
static void try_transports(struct session *session, dcache_t *dc)
{
    struct transport_probe probe = {.window = false};
    void *scratch = NULL;
    int have, all_have = 0;

    if (dc->world.node_count == 1)
        return;
    have = posix_memalign(&scratch, 4096, TRANSPORT_PROBE_BYTES) == 0;
    MPI_Allreduce(&have, &all_have, 1, MPI_INT, MPI_MIN, dc->world.comm);
    if (all_have && transport_probe(&dc->diag, &dc->world, &dc->placement, scratch, &probe) == DCACHE_OK)
        findings_add(&session->findings, FINDING_OK, "one-sided transport", NULL,
                     "window %s, bytes arrive %s, while the target computes %s: %s", probe.window ? "yes" : "no",
                     probe.arrives ? "yes" : "no", probe.passive ? "yes" : "no", probe.reason);
    free(scratch);
    findings_add(&session->findings, FINDING_OK, "transport", NULL, "%s is used: %s", dc->replicator.transport_name,
                 dc->replicator.reason);
}

/* What `dcache doctor` finds on each node, told by its first rank. Collective. */
static void look_at_nodes(struct session *session, dcache_t *dc)
{
    struct doctor doctor = {.dg = &dc->diag,
                            .options = &dc->options,
                            .bytes_per_rank = session->bytes_per_rank,
                            .ranks_per_node = (int64_t)dc->world.node_ranks * dc->world.virtual_count};

    findings_begin(&doctor.findings);
    if (dc->world.node_rank == 0 && dc->world.virtual_index == 0)
        doctor_check_node(&doctor);
    gather_findings(dc, &doctor.findings, &session->findings);
    json_decref(doctor.findings.list);
}

static void examine(struct session *session)
{
    dcache_t *dc = NULL;

    if (session->rank == 0)
        set_options(NULL);
    tell_threads(session);
    dcache_status_t status = dcache_open(MPI_COMM_WORLD, NULL, &dc);
    if (status != DCACHE_OK) {
        findings_add(&session->findings, FINDING_PROBLEM, "dcache_open", "the reason is on standard error", "%s",
                     dcache_strerror(status));
        return;
    }
    bool one_sided = strcmp(dc->replicator.transport_name, "one-sided") == 0;
    tell_safety(session, dc);
    gather_partners(dc, &session->findings);
    look_at_nodes(session, dc);
    try_transports(session, dc);
    try_checkpoint(session, dc);
    close_trial(dc);
    if (!one_sided) /* it was the two-sided one, or there is one node only */
        return;
    if (session->rank == 0)
        set_options("two-sided");
    if (dcache_open(MPI_COMM_WORLD, NULL, &dc) == DCACHE_OK) {
        try_checkpoint(session, dc);
        close_trial(dc);
    }
}

int main(int argc, char **argv)
{
    struct session session = {.bytes_per_rank = 0};
    int code = EXIT_USAGE;

    MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &session.thread_level);
    MPI_Comm_rank(MPI_COMM_WORLD, &session.rank);
    if (parse(argc, argv, &session)) {
        findings_begin(&session.findings);
        examine(&session);
        if (session.rank == 0)
            code = findings_end(&session.findings, session.json) ? EXIT_SUCCESS : EXIT_PROBLEM;
        else
            json_decref(session.findings.list);
    } else if (session.rank == 0) {
        fputs("usage: mpirun ... dcache doctor --mpi [--json] [--bytes-per-rank SIZE]\n", stderr);
    }
    MPI_Bcast(&code, 1, MPI_INT, 0, MPI_COMM_WORLD);
    MPI_Finalize();
    return code;
}
