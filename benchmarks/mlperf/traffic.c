/* Bytes over the interfaces of each host: Ethernet and loopback from /proc/net/dev (this network namespace's, as
 * /sys/class/net is the whole machine's), InfiniBand from /sys/class/infiniband. What other programs send counts, too.
 */
#include "mlperf.h"

#include <glob.h>
#include <stdlib.h>
#include <string.h>

#define INTERFACES_MAX 64
#define INFINIBAND     "/sys/class/infiniband/"
#define WORD_BYTES     4u /* InfiniBand counts words */

struct counter {
    char name[64];
    uint64_t received, sent;
};

struct traffic {
    struct counter list[INTERFACES_MAX];
    int count;
};

static void add(struct traffic *traffic, const char *name, uint64_t received, uint64_t sent)
{
    if (traffic->count == INTERFACES_MAX)
        return;
    struct counter *counter = &traffic->list[traffic->count++];
    snprintf(counter->name, sizeof counter->name, "%s", name);
    counter->received = received;
    counter->sent = sent;
}

/* Lines "name: received packets errs drop fifo frame compressed multicast sent ...". */
static void read_ethernet(struct traffic *traffic)
{
    char line[512], name[64];
    unsigned long long received, sent;
    FILE *file = fopen("/proc/net/dev", "re");

    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, " %63[^:]: %llu %*u %*u %*u %*u %*u %*u %*u %llu", name, &received, &sent) == 3)
            add(traffic, name, received, sent);
    }
    if (file != NULL)
        (void)fclose(file);
}

static uint64_t read_number(const char *directory, const char *name)
{
    char path[512], line[64];
    uint64_t value = 0;

    snprintf(path, sizeof path, "%s/counters/%s", directory, name);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return 0;
    if (fgets(line, sizeof line, file) != NULL)
        value = strtoull(line, NULL, 10);
    (void)fclose(file);
    return value;
}

static void read_infiniband(struct traffic *traffic)
{
    glob_t ports;

    if (glob(INFINIBAND "*/ports/*", 0, NULL, &ports) == 0) {
        for (size_t i = 0; i < ports.gl_pathc; i++)
            add(traffic, ports.gl_pathv[i] + strlen(INFINIBAND),
                read_number(ports.gl_pathv[i], "port_rcv_data") * WORD_BYTES,
                read_number(ports.gl_pathv[i], "port_xmit_data") * WORD_BYTES);
    }
    globfree(&ports);
}

static void read_all(struct traffic *traffic)
{
    traffic->count = 0;
    read_ethernet(traffic);
    read_infiniband(traffic);
}

dcache_status_t traffic_begin(struct mlperf *m)
{
    dcache_status_t status = DCACHE_OK;

    if (m->traffic == NULL)
        m->traffic = calloc(1, sizeof *m->traffic);
    if (m->traffic == NULL)
        status = diag_fail(&m->diag, DCACHE_ERR_NO_MEMORY, "out of memory for the counters of interfaces");
    else
        read_all(m->traffic);
    return mlperf_agree(m, status);
}

/* What came since the phase began; an interface that is new since then is left out. */
static json_t *difference(const struct traffic *before, const struct traffic *after)
{
    json_t *interfaces = json_object();

    for (int i = 0; i < after->count; i++) {
        const struct counter *now = &after->list[i];
        for (int k = 0; k < before->count; k++) {
            const struct counter *then = &before->list[k];
            if (strcmp(now->name, then->name) == 0)
                json_object_set_new(interfaces, now->name,
                                    json_pack("{s:I, s:I}", "received", (json_int_t)(now->received - then->received),
                                              "sent", (json_int_t)(now->sent - then->sent)));
        }
    }
    return interfaces;
}

/* The document of this host as text; "" on all ranks but the host's first, or when there is no memory. */
static char *describe_host(struct mlperf *m)
{
    char host[MPI_MAX_PROCESSOR_NAME] = "";
    struct traffic *now = m->host_rank == 0 ? calloc(1, sizeof *now) : NULL;
    int length = 0;
    char *text = NULL;

    if (now != NULL) {
        read_all(now);
        MPI_Get_processor_name(host, &length);
        json_t *document = json_pack("{s:s, s:o}", "host", host, "interfaces", difference(m->traffic, now));
        text = json_dumps(document, JSON_COMPACT);
        json_decref(document);
    }
    free(now);
    return text;
}

/* Rank 0: texts of several hosts, each ended by a newline, as a list. */
static json_t *parse_hosts(char *texts)
{
    json_t *hosts = json_array();
    char *rest = NULL;

    for (char *line = strtok_r(texts, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest))
        json_array_append_new(hosts, json_loads(line, 0, NULL));
    return hosts;
}

/* Where each rank's text goes, and how long all are together. */
static int place_texts(const int *lengths, int *places, int ranks)
{
    int total = 0;

    for (int rank = 0; rank < ranks; rank++) {
        places[rank] = total;
        total += lengths[rank];
    }
    return total;
}

dcache_status_t traffic_end(struct mlperf *m, const char *phase)
{
    char line[16384] = "";
    char *text = describe_host(m), *all = NULL;
    size_t ranks = (size_t)m->world.size;
    int *lengths = calloc(2 * ranks, sizeof *lengths);
    dcache_status_t status = DCACHE_OK;

    if (text != NULL && strlen(text) < sizeof line - 2)
        snprintf(line, sizeof line, "%.*s\n", (int)sizeof line - 2, text);
    free(text);
    if (lengths == NULL)
        status = diag_fail(&m->diag, DCACHE_ERR_NO_MEMORY, "out of memory for the counters of interfaces");
    status = mlperf_agree(m, status);
    if (status == DCACHE_OK) {
        int length = (int)strlen(line);
        MPI_Gather(&length, 1, MPI_INT, lengths, 1, MPI_INT, 0, m->world.comm);
        if (m->world.rank == 0) {
            all = calloc(1, (size_t)place_texts(lengths, lengths + ranks, m->world.size) + 1);
            status = all != NULL ? status : diag_fail(&m->diag, DCACHE_ERR_NO_MEMORY, "out of memory for counters");
        }
        status = mlperf_agree(m, status);
        if (status == DCACHE_OK)
            MPI_Gatherv(line, length, MPI_CHAR, all, lengths, lengths + ranks, MPI_CHAR, 0, m->world.comm);
    }
    if (status == DCACHE_OK && m->world.rank == 0)
        json_object_set_new(m->traffic_phases, phase, parse_hosts(all));
    free(all);
    free(lengths);
    return status;
}

void traffic_free(struct mlperf *m)
{
    free(m->traffic);
    m->traffic = NULL;
    json_decref(m->traffic_phases);
    m->traffic_phases = NULL;
}
