/* dcache doctor, this node: node stores, limits, pages, Slurm. */
#include "runtime/cli/doctor.h"

#include "io/instance_metadata.h"
#include "io/node_store.h"
#include "runtime/cli/table.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

/* Bytes that the slots of all ranks of a node take on one tier; 0 = not known. */
static uint64_t needed(const struct doctor *doctor, int64_t slots, unsigned copies)
{
    return (uint64_t)doctor->bytes_per_rank * (uint64_t)doctor->ranks_per_node * (uint64_t)slots * copies;
}

/* Make a store as a job does, and take it away again: the checks of owner and mode are those of the library. The root
 * stays until its space was seen: `made` says that it was not there before. */
static bool try_store(struct doctor *doctor, const char *what, const char *root, bool *made)
{
    struct node_store store;
    char job[64], path[1200];

    *made = access(root, F_OK) != 0;
    snprintf(job, sizeof job, "doctor-%ld", (long)getpid());
    dcache_status_t status = node_store_open(doctor->dg, root, job, 0, true, &store);
    if (status != DCACHE_OK) {
        findings_add(&doctor->findings, FINDING_PROBLEM, what, NULL, "%s", doctor->dg->text);
        return false;
    }
    findings_add(&doctor->findings, FINDING_OK, what, NULL, "%s can be written%s", root,
                 *made ? ", and will be made" : "");
    (void)rmdir(store.path);
    node_store_close(&store);
    snprintf(path, sizeof path, "%s/%s", root, job);
    (void)rmdir(path);
    return true;
}

static uint64_t memory_available(void)
{
    FILE *file = fopen("/proc/meminfo", "re");
    char line[256];
    unsigned long long kib = 0;

    while (file != NULL && fgets(line, sizeof line, file) != NULL && sscanf(line, "MemAvailable: %llu kB", &kib) != 1)
        continue;
    if (file != NULL)
        fclose(file);
    return kib * 1024;
}

static void check_space(struct doctor *doctor, const char *what, const char *root, uint64_t need)
{
    struct statvfs info;
    struct statfs kind;
    char free_text[16], need_text[16];

    if (statvfs(root, &info) != 0 || statfs(root, &kind) != 0) {
        findings_add(&doctor->findings, FINDING_PROBLEM, what, NULL, "%s: %s", root, strerror(errno));
        return;
    }
    uint64_t room = (uint64_t)info.f_bavail * info.f_frsize, available = memory_available();
    bool in_memory = (unsigned long)kind.f_type == TMPFS_MAGIC;
    if (in_memory && available > 0 && available < room) /* a size limit is no memory */
        room = available;
    text_size(room, free_text);
    text_size(need, need_text);
    if (need == 0)
        findings_add(&doctor->findings, FINDING_OK, what,
                     "give --bytes-per-rank and --ranks-per-node to know whether it is enough", "%s free", free_text);
    else if (need > room)
        findings_add(&doctor->findings, FINDING_PROBLEM, what,
                     "fewer slots, more nodes, another tier, or a larger file system: mount -o remount,size=... for "
                     "/dev/shm",
                     "%s free, %s needed for own shards and replicas in all slots", free_text, need_text);
    else
        findings_add(&doctor->findings, FINDING_OK, what, NULL, "%s free, %s needed", free_text, need_text);
}

static void check_memory_kind(struct doctor *doctor, const char *root)
{
    struct statfs kind;

    if (statfs(root, &kind) != 0 || (unsigned long)kind.f_type == TMPFS_MAGIC)
        return;
    findings_add(&doctor->findings, FINDING_WARNING, "memory store", "set memory_store to a directory in /dev/shm",
                 "%s is not on a memory file system: checkpoints take as long as the device does", root);
}

static void check_stores(struct doctor *doctor)
{
    const struct options *options = doctor->options;
    bool made = false;

    if (options->tier != TIER_SSD && try_store(doctor, "memory store", options->memory_store, &made)) {
        check_memory_kind(doctor, options->memory_store);
        check_space(doctor, "memory store", options->memory_store, needed(doctor, options->slots, 2));
        if (made)
            (void)rmdir(options->memory_store);
    }
    if (options->tier != TIER_MEMORY && try_store(doctor, "SSD store", options->ssd_store, &made)) {
        bool both = options->tier == TIER_BOTH;
        uint64_t need = both ? needed(doctor, options->ssd_slots, 1) : needed(doctor, options->slots, 2);
        check_space(doctor, "SSD store", options->ssd_store, need);
        if (made)
            (void)rmdir(options->ssd_store);
    }
}

static bool has_infiniband(void)
{
    DIR *dir = opendir("/sys/class/infiniband");
    struct dirent *entry;
    bool found = false;

    while (dir != NULL && !found && (entry = readdir(dir)) != NULL)
        found = entry->d_name[0] != '.';
    if (dir != NULL)
        closedir(dir);
    return found;
}

static void check_limits(struct doctor *doctor)
{
    struct rlimit limit;
    char text[16];

    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) {
        bool small = doctor->bytes_per_rank > 0 && limit.rlim_cur < (rlim_t)doctor->bytes_per_rank;
        findings_add(&doctor->findings, small ? FINDING_PROBLEM : FINDING_WARNING, "file size limit",
                     "ulimit -f unlimited", "a shard may have %s", text_size(limit.rlim_cur, text));
    } else {
        findings_add(&doctor->findings, FINDING_OK, "file size limit", NULL, "none");
    }
    if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
        findings_add(&doctor->findings, FINDING_OK, "locked memory limit", NULL, "none");
    else if (has_infiniband())
        findings_add(&doctor->findings, FINDING_WARNING, "locked memory limit",
                     "ulimit -l unlimited (limits.conf; LimitMEMLOCK of slurmd), or RDMA cannot register the stores",
                     "%s, and there is InfiniBand", text_size(limit.rlim_cur, text));
    else
        findings_add(&doctor->findings, FINDING_OK, "locked memory limit", NULL, "%s, and there is no InfiniBand",
                     text_size(limit.rlim_cur, text));
}

static void check_pages(struct doctor *doctor)
{
    static const char path[] = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
    char text[128] = "", chosen[32] = "";
    FILE *file = fopen(path, "re");

    if (file != NULL && fgets(text, sizeof text, file) != NULL) {
        const char *open = strchr(text, '[');
        snprintf(chosen, sizeof chosen, "%.*s", open != NULL ? (int)strcspn(open + 1, "]") : 0,
                 open != NULL ? open + 1 : "");
    }
    if (file != NULL)
        fclose(file);
    if (chosen[0] == '\0')
        findings_add(&doctor->findings, FINDING_OK, "huge pages", NULL, "this kernel has none for shared memory");
    else if (strcmp(chosen, "never") == 0 || strcmp(chosen, "deny") == 0)
        findings_add(&doctor->findings, FINDING_WARNING, "huge pages",
                     "echo advise > /sys/kernel/mm/transparent_hugepage/shmem_enabled",
                     "%s: the first step in each slot takes longer", chosen);
    else
        findings_add(&doctor->findings, FINDING_OK, "huge pages", NULL, "%s", chosen);
}

static void check_slurm(struct doctor *doctor)
{
    const char *job = getenv("SLURM_JOB_ID"), *end = getenv("SLURM_JOB_END_TIME"),
               *nodes = getenv("SLURM_JOB_NUM_NODES");

    if (job == NULL)
        return;
    findings_add(&doctor->findings, FINDING_OK, "Slurm job",
                 "sbatch --no-kill, or the loss of a node ends the allocation; it cannot be seen from here", "%s", job);
    if (nodes != NULL && strcmp(nodes, "1") == 0)
        findings_add(&doctor->findings, FINDING_WARNING, "Slurm nodes", "ask for two nodes or more",
                     "1: checkpoints do not survive the node");
    char *rest = NULL;
    long long seconds = end != NULL ? strtoll(end, &rest, 10) : 0;
    if (end == NULL || *end == '\0' || *rest != '\0' || seconds <= 0)
        findings_add(
            &doctor->findings, FINDING_WARNING, "Slurm end of time",
            "a job without a time limit has none; else export SLURM_JOB_END_TIME (seconds since 1970) where Slurm does "
            "not, as dcache-run does",
            "not known: no last checkpoint will be asked for");
    else
        findings_add(&doctor->findings, FINDING_OK, "Slurm end of time", NULL, "%lld s are left",
                     seconds - (long long)time(NULL));
}

static void check_azure(struct doctor *doctor)
{
    if (instance_metadata_on_azure() && strcmp(doctor->options->events, "none") == 0)
        findings_add(&doctor->findings, FINDING_WARNING, "scheduled events", "set the option events to auto",
                     "not watched, and this is an Azure virtual machine");
}

void doctor_check_node(struct doctor *doctor)
{
    check_stores(doctor);
    check_limits(doctor);
    check_pages(doctor);
    check_slurm(doctor);
    check_azure(doctor);
}
