/* The table of options: names, defaults, limits and help. */
#include "runtime/options_table.h"

#define FIELD(name) offsetof(struct options, name)

static const char *const tier_choices[] = {"memory", "ssd", "both", NULL};
static const char *const transport_choices[] = {"auto", "one-sided", "two-sided", NULL};
static const char *const progress_choices[] = {"auto", "thread", "calls", NULL};
static const char *const resync_choices[] = {"auto", "wait", "behind", NULL};
static const char *const yes_choices[] = {"no", "yes", NULL};
static const char *const when_full_choices[] = {"block", "skip", "replace", NULL};
static const char *const compress_choices[] = {"none", "auto", "always", NULL};
static const char *const auth_choices[] = {
    "auto", "key", "sas", "service-principal", "workload-identity", "token-file", "token-command", "managed-identity",
    NULL};
static const char *const log_choices[] = {"error", "warning", "info", "debug", NULL};

const struct option options_table[] = {
    {.key = "job",
     .type = OPTION_NAME,
     .preset_help = "the program's name",
     .minimum = 1,
     .maximum = 63,
     .offset = FIELD(job),
     .help = "Name under which checkpoints are kept. A relaunch finds them by it, so give each run that must not "
             "continue another one a name of its own."},
    {.key = "component",
     .type = OPTION_NAME,
     .preset = "",
     .maximum = 63,
     .offset = FIELD(component),
     .help = "Part of a coupled program, one per communicator: its checkpoints are kept under job.component, which may "
             "have 63 characters."},
    {.key = "memory_store",
     .type = OPTION_PATH,
     .preset_help = "/dev/shm/dcache-UID",
     .minimum = 1,
     .maximum = OPTIONS_TEXT_MAX - 1,
     .offset = FIELD(memory_store),
     .help = "Directory on each node, on a memory file system, that holds the node stores. It is made with mode 0700 "
             "if it is missing."},
    {.key = "tier",
     .type = OPTION_CHOICE,
     .preset = "memory",
     .choices = tier_choices,
     .offset = FIELD(tier),
     .help = "Where the node stores are: in memory (memory_store); on an SSD (ssd_store), which survives a reboot of "
             "the node, and where a step has its level only when it is on the device; or both: in memory, and each "
             "rank's shards are copied to the SSD behind the computation."},
    {.key = "ssd_store",
     .type = OPTION_PATH,
     .preset = "",
     .maximum = OPTIONS_TEXT_MAX - 1,
     .offset = FIELD(ssd_store),
     .help = "Directory on a local file system of each node for tier = ssd or both. It is made with mode 0700 if it is "
             "missing. A restart looks there whatever the tier is."},
    {.key = "ssd_slots",
     .type = OPTION_INTEGER,
     .preset = "2",
     .unit = "steps",
     .minimum = 2,
     .maximum = 64,
     .offset = FIELD(ssd_slots),
     .help = "With tier = both: how many steps the SSDs keep. Each takes the size of the protected regions there."},
    {.key = "node_size",
     .type = OPTION_INTEGER,
     .preset = "0",
     .unit = "ranks",
     .maximum = 1000000,
     .offset = FIELD(node_size),
     .help = "Treat every so many consecutive ranks of a host as a node of their own, to try a cluster on one machine. "
             "0: the real hosts."},
    {.key = "slots",
     .type = OPTION_INTEGER,
     .preset = "2",
     .unit = "steps",
     .minimum = 2,
     .maximum = 16,
     .offset = FIELD(slots),
     .help = "How many steps the node stores keep. Each takes the size of the protected regions here and once more on "
             "the partner node."},
    {.key = "reserve",
     .type = OPTION_SIZE,
     .preset = "0",
     .unit = "bytes",
     .maximum = INT64_C(1) << 50,
     .offset = FIELD(reserve),
     .help =
         "Size of a rank's protected regions, if you know it: the slots get their memory when the context is opened "
         "instead of during the first checkpoints. 0: then."},
    {.key = "transport",
     .type = OPTION_CHOICE,
     .preset = "auto",
     .choices = transport_choices,
     .offset = FIELD(transport),
     .help = "How shards travel to the partner node: MPI_Put into its store, or messages to a helper thread. auto: a "
             "probe decides when the context is opened."},
    {.key = "progress",
     .type = OPTION_CHOICE,
     .preset = "auto",
     .choices = progress_choices,
     .offset = FIELD(progress),
     .help =
         "Who drives replication after dcache_checkpoint_begin(): a thread of each rank, which needs "
         "MPI_THREAD_MULTIPLE and takes time on a core while it copies, or only dcache_test(), dcache_wait() and the "
         "next checkpoint. auto: a thread where MPI allows it."},
    {.key = "resync",
     .type = OPTION_CHOICE,
     .preset = "auto",
     .choices = resync_choices,
     .offset = FIELD(resync),
     .help = "When the shards of a restored step get their second copies again. wait: before dcache_restart() returns. "
             "behind: it returns as soon as every rank has its bytes, and the progress thread or the next collective "
             "call begins. auto: behind where there is a progress thread, else wait, for nobody might call for long."},
    {.key = "incremental",
     .type = OPTION_CHOICE,
     .preset = "no",
     .choices = yes_choices,
     .offset = FIELD(incremental),
     .help = "Neither copy nor send chunks that are what the slot holds already, as their digests tell. Costs one more "
             "pass over the chunks that did change."},
    {.key = "copy_threads",
     .type = OPTION_INTEGER,
     .preset = "1",
     .unit = "threads",
     .minimum = 1,
     .maximum = 64,
     .offset = FIELD(copy_threads),
     .help = "How many threads of each rank copy and digest during a checkpoint: for few ranks on many cores."},
    {.key = "store",
     .type = OPTION_TEXT,
     .preset = "file://dcache-store",
     .minimum = 1,
     .maximum = OPTIONS_TEXT_MAX - 1,
     .offset = FIELD(store),
     .help =
         "Object store that makes steps durable: file://DIRECTORY, https://ACCOUNT.blob.core.windows.net/CONTAINER, "
         "azure://CONTAINER, or none. Credentials come from the AZURE_STORAGE_* variables, never from here. Several, "
         "with spaces between, at most 16: shards are spread over all of them; the first, which has to stay the first, "
         "has all the rest (docs/operations.md, Several accounts)."},
    {.key = "drain_every",
     .type = OPTION_INTEGER,
     .preset = "1",
     .unit = "checkpoints",
     .maximum = 1000000000,
     .offset = FIELD(drain_every),
     .help = "Drain every n-th checkpoint to the object store. 0: none."},
    {.key = "drain_ranks_per_node",
     .type = OPTION_INTEGER,
     .preset = "1",
     .unit = "ranks",
     .minimum = 1,
     .maximum = 1024,
     .offset = FIELD(drain_ranks_per_node),
     .help = "How many ranks of a node drain at the same time."},
    {.key = "drain_nodes",
     .type = OPTION_INTEGER,
     .preset = "0",
     .unit = "nodes",
     .maximum = 1000000,
     .offset = FIELD(drain_nodes),
     .help = "At most so many nodes drain, for an object store that takes no more; raised to what reaches every shard. "
             "0: all nodes."},
    {.key = "drain_bandwidth",
     .type = OPTION_SIZE,
     .preset = "0",
     .unit = "bytes per second",
     .maximum = INT64_C(1) << 50,
     .offset = FIELD(drain_bandwidth),
     .help =
         "How many bytes per second a node drains at most, shared evenly by its drain ranks. dcache_close() lifts it, "
         "and `dcache drain` does not keep it: then nobody computes. 0: as fast as it goes."},
    {.key = "drain_slowdown",
     .type = OPTION_INTEGER,
     .preset = "0",
     .unit = "percent",
     .maximum = 100,
     .offset = FIELD(drain_slowdown),
     .help =
         "How much of the node's CPU time the drain takes at most, averaged over a step: an application that uses all "
         "cores is slowed down by no more than that. Of a rank that is bound to fewer cores than its share, of those. "
         "The CPU time is measured, and the drain waits between blocks to keep to it; dcache_close() lifts it. 0: as "
         "much as it takes."},
    {.key = "when_full",
     .type = OPTION_CHOICE,
     .preset = "block",
     .choices = when_full_choices,
     .offset = FIELD(when_full),
     .help = "What a checkpoint does when every slot holds a step that is still being drained: block until one is "
             "durable, skip the checkpoint, or replace the oldest step, which then never becomes durable."},
    {.key = "store_keep_last",
     .type = OPTION_INTEGER,
     .preset = "0",
     .unit = "steps",
     .maximum = 1000000000,
     .offset = FIELD(store_keep_last),
     .help = "How many durable steps the object store keeps, the newest ones: older ones are removed when one more is "
             "durable. 0: all. `dcache prune` does the same by hand."},
    {.key = "store_keep_every",
     .type = OPTION_INTEGER,
     .preset = "0",
     .maximum = INT64_MAX,
     .offset = FIELD(store_keep_every),
     .help = "With store_keep_last: keep also the steps whose number is a multiple of this. 0: no others."},
    {.key = "claim_lease",
     .type = OPTION_DURATION,
     .preset = "20s",
     .maximum = 3600000,
     .offset = FIELD(claim_lease),
     .help =
         "While it is open, a run holds a claim on its job's name in the object store, so that a second run of that "
         "name is refused, and renews it three times in this time. One whose claim was not renewed for so long "
         "counts as dead: a relaunch waits for that, at most, when it cannot tell otherwise. At least 1 s; 0: no "
         "claim is made or heeded, and nothing keeps two runs of one name apart."},
    {.key = "store_auth",
     .type = OPTION_CHOICE,
     .preset = "auto",
     .choices = auth_choices,
     .offset = FIELD(store_auth),
     .help = "How to authenticate to Azure Blob; auto: the first of these for which the environment has what it needs "
             "(docs/operations.md). What is not a key or a shared access signature is used over https only."},
    {.key = "store_timeout",
     .type = OPTION_DURATION,
     .preset = "60s",
     .minimum = 100,
     .maximum = 86400000,
     .offset = FIELD(store_timeout),
     .help = "How long one operation of the object store may take with all its retries."},
    {.key = "store_stall",
     .type = OPTION_DURATION,
     .preset = "15s",
     .minimum = 100,
     .maximum = 3600000,
     .offset = FIELD(store_stall),
     .help = "A request to the object store that moves no byte for so long is given up and tried again."},
    {.key = "store_connections",
     .type = OPTION_INTEGER,
     .preset = "8",
     .unit = "connections",
     .minimum = 1,
     .maximum = 64,
     .offset = FIELD(store_connections),
     .help =
         "How many blocks of shards are on their way to the object store, or back, at the same time: so many "
         "connections each drain rank has, over all of its stores. Each takes 2 MiB of memory, and a block of 8 MiB "
         "more where shards are compressed, encrypted or put together."},
    {.key = "pack_below",
     .type = OPTION_SIZE,
     .preset = "1MiB",
     .unit = "bytes",
     .maximum = INT64_C(1) << 30,
     .offset = FIELD(pack_below),
     .help = "Shards smaller than this that a drain rank has at the same step go to Azure Blob together, in objects of "
             "at most 8 MiB (packs): else each of many small ones costs a request. In a directory each shard has a "
             "file of its own. 0: an object of its own everywhere."},
    {.key = "compress",
     .type = OPTION_CHOICE,
     .preset = "none",
     .choices = compress_choices,
     .offset = FIELD(compress),
     .help = "Compress shards with zstd on their way to the object store: `zstd -d` of such an object gives the HDF5 "
             "file. auto: a shard of which samples shrink by a tenth."},
    {.key = "compress_level",
     .type = OPTION_INTEGER,
     .preset = "1",
     .minimum = 1,
     .maximum = 19,
     .offset = FIELD(compress_level),
     .help = "Level of zstd: higher ones take more time on the drain ranks and make smaller objects."},
    {.key = "compress_threads",
     .type = OPTION_INTEGER,
     .preset = "1",
     .unit = "threads",
     .minimum = 1,
     .maximum = 64,
     .offset = FIELD(compress_threads),
     .help = "How many threads of a drain rank compress and encrypt, beside those that send. Each takes 2 MiB."},
    {.key = "encrypt_key_file",
     .type = OPTION_PATH,
     .preset = "",
     .maximum = OPTIONS_TEXT_MAX - 1,
     .offset = FIELD(encrypt_key_file),
     .help = "File with the key (64 hexadecimal digits, or the base64 of 32 bytes) with which shards in the object "
             "store are encrypted and decrypted: AES-256-GCM. It must be closed to others. Only rank 0 reads it. "
             "Without the key nobody can read the shards again."},
    {.key = "encrypt_key_command",
     .type = OPTION_TEXT,
     .preset = "",
     .maximum = OPTIONS_TEXT_MAX - 1,
     .offset = FIELD(encrypt_key_command),
     .help = "Command that writes the key to its standard output, run once by /bin/sh on the host of rank 0, instead "
             "of encrypt_key_file."},
    {.key = "close_timeout",
     .type = OPTION_DURATION,
     .preset = "600s",
     .maximum = 604800000,
     .offset = FIELD(close_timeout),
     .help = "How long dcache_close() waits for the drain. What is left then is finished by `dcache drain`."},
    {.key = "interval",
     .type = OPTION_DURATION,
     .preset = "0",
     .maximum = 604800000,
     .offset = FIELD(interval),
     .help =
         "Time from the end of one checkpoint until dcache_should_checkpoint() asks for the next. 0: the optimum of "
         "Young and Daly, from what checkpoints have cost so far and the option mtbf; 10 minutes where mtbf is not "
         "known."},
    {.key = "mtbf",
     .type = OPTION_DURATION,
     .preset = "0",
     .maximum = INT64_C(3600000000000),
     .offset = FIELD(mtbf),
     .help = "Mean time between failures of one node, such as 8760h; that of the job is this divided by its nodes. 0: "
             "not known."},
    {.key = "end_margin",
     .type = OPTION_DURATION,
     .preset = "0",
     .maximum = 86400000,
     .offset = FIELD(end_margin),
     .help = "How long before the job's end of time (SLURM_JOB_END_TIME), or before its node goes away, the last "
             "checkpoint is asked for. 0: twice what a checkpoint has cost and 60 seconds."},
    {.key = "signals",
     .type = OPTION_CHOICE,
     .preset = "no",
     .choices = yes_choices,
     .offset = FIELD(signals),
     .help = "From the first dcache_should_checkpoint() or dcache_should_stop() on, SIGUSR1 asks for a checkpoint, "
             "SIGUSR2 and SIGTERM for a checkpoint and then the end. The program's own handlers are called as well."},
    {.key = "events",
     .type = OPTION_TEXT,
     .preset = "none",
     .minimum = 1,
     .maximum = OPTIONS_TEXT_MAX - 1,
     .offset = FIELD(events),
     .help = "Azure Scheduled Events, which announce that a node is evicted, redeployed or rebooted: none; auto: watch "
             "them if the node is an Azure virtual machine; or the URL of the instance metadata service to ask, such "
             "as http://169.254.169.254."},
    {.key = "domains",
     .type = OPTION_TEXT,
     .preset = "none",
     .minimum = 1,
     .maximum = OPTIONS_TEXT_MAX - 1,
     .offset = FIELD(domains),
     .help = "Failure domains, so that a node's partner is in another one: none; slurm (the switch in "
             "SLURM_TOPOLOGY_ADDR); azure (zone and fault domain from the instance metadata service), or the service's "
             "URL; or the absolute path of a file with a line `node domain` for each node."},
    {.key = "log",
     .type = OPTION_CHOICE,
     .preset = "warning",
     .choices = log_choices,
     .offset = FIELD(log),
     .help = "Which lines are written to standard error: those of this level and of the graver ones."},
    {.key = NULL},
};
