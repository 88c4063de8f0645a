#include "runtime/domains.h"

#include "io/crc64.h"
#include "io/instance_metadata.h"
#include "mpi/agree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MAP_MAX    (16u << 20)
#define PATIENCE_S 5.0

/* ---- the map file ---- */

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

/* One word of a line: where it starts and how long it is; 0 = there is none. */
static size_t next_word(const char **at)
{
    while (is_blank(**at))
        (*at)++;
    return strcspn(*at, " \t\r\n#");
}

struct map_line {
    const char *node, *domain;
    size_t node_length, domain_length, rest;
};

/* Take the line at `*at` apart and go to the next one. False: there are no more. */
static bool next_line(const char **at, struct map_line *line)
{
    if (**at == '\0')
        return false;
    const char *here = *at;
    line->node_length = next_word(&here);
    line->node = here;
    here += line->node_length;
    line->domain_length = next_word(&here);
    line->domain = here;
    here += line->domain_length;
    line->rest = next_word(&here);
    *at += strcspn(*at, "\n");
    *at += **at == '\n';
    return true;
}

dcache_status_t domains_check_map(struct diag *dg, const char *path, const char *map)
{
    struct map_line line;
    int number = 0;

    while (next_line(&map, &line)) {
        number++;
        if (line.node_length > 0 &&
            (line.domain_length == 0 || line.domain_length >= DOMAINS_NAME_MAX || line.rest > 0))
            return diag_fail(dg, DCACHE_ERR_OPTION,
                             "%s:%d: a line names a node and its failure domain, two words (option domains)", path,
                             number);
    }
    return DCACHE_OK;
}

static bool is_node(const struct map_line *line, const char *node, size_t length)
{
    return line->node_length == length && memcmp(line->node, node, length) == 0;
}

/* "host.cluster.example/1" without ".cluster.example". */
static void shorten(const char *node, char *shorter, size_t room)
{
    const char *slash = strchr(node, '/');

    snprintf(shorter, room, "%.*s%s", (int)strcspn(node, "./"), node, slash != NULL ? slash : "");
}

bool domains_look_up(const char *map, const char *node, char domain[DOMAINS_NAME_MAX])
{
    struct map_line line;
    char shorter[256];

    shorten(node, shorter, sizeof shorter);
    while (next_line(&map, &line)) {
        if (line.domain_length == 0 || line.domain_length >= DOMAINS_NAME_MAX)
            continue;
        if (!is_node(&line, node, strlen(node)) && !is_node(&line, shorter, strlen(shorter)))
            continue;
        snprintf(domain, DOMAINS_NAME_MAX, "%.*s", (int)line.domain_length, line.domain);
        return true;
    }
    return false;
}

/* `map` is malloc'ed, the caller's. */
static dcache_status_t read_map(struct diag *dg, const char *path, char **map)
{
    FILE *file = fopen(path, "re");
    char *text = malloc(MAP_MAX + 1);
    dcache_status_t status = DCACHE_OK;
    size_t bytes = 0;

    if (file == NULL)
        status = diag_fail(dg, DCACHE_ERR_OPTION, "the map of failure domains %s (option domains): %s", path,
                           strerror(errno));
    else if (text == NULL)
        status = diag_fail(dg, DCACHE_ERR_NO_MEMORY, "out of memory for the map of failure domains");
    else
        bytes = fread(text, 1, MAP_MAX + 1, file);
    if (status == DCACHE_OK && (ferror(file) || bytes > MAP_MAX || memchr(text, '\0', bytes) != NULL))
        status = diag_fail(dg, DCACHE_ERR_OPTION,
                           "the map of failure domains %s (option domains) is no text of at "
                           "most %u bytes that can be read",
                           path, MAP_MAX);
    if (file != NULL)
        fclose(file);
    if (status == DCACHE_OK) {
        text[bytes] = '\0';
        status = domains_check_map(dg, path, text);
    }
    if (status != DCACHE_OK) {
        free(text);
        return status;
    }
    *map = text;
    return DCACHE_OK;
}

/* Rank 0 reads the file for all. Collective, agreed. */
static dcache_status_t share_map(struct diag *dg, const struct world *world, const char *path, char **map)
{
    char *text = NULL;
    dcache_status_t status = world->rank == 0 ? read_map(dg, path, &text) : DCACHE_OK;
    int64_t bytes = text != NULL ? (int64_t)strlen(text) + 1 : 0;

    status = agree_values(world, dg, NULL, status, &bytes, 1);
    if (status == DCACHE_OK && world->rank != 0) {
        text = malloc((size_t)bytes);
        if (text == NULL)
            status = diag_fail(dg, DCACHE_ERR_NO_MEMORY, "out of memory for the map of failure domains");
    }
    status = agree(world, dg, NULL, status);
    if (status == DCACHE_OK)
        status = world_check(dg, MPI_Bcast(text, (int)bytes, MPI_CHAR, 0, world->comm), "MPI_Bcast");
    if (status != DCACHE_OK) {
        free(text);
        return status;
    }
    *map = text;
    return DCACHE_OK;
}

/* ---- Slurm and Azure ---- */

bool domains_parse_slurm(const char *address, const char *pattern, char domain[DOMAINS_NAME_MAX])
{
    size_t length = 0, last = 0;

    if (pattern == NULL || *pattern == '\0') { /* the last part is the node */
        const char *dot = strrchr(address, '.');
        length = dot != NULL ? (size_t)(dot - address) : 0;
    } else {
        for (const char *at = pattern; strncmp(at, "node", 4) != 0;) { /* as many parts as stand before "node" */
            const char *dot = strchr(at, '.');
            size_t part = strcspn(address + last, ".");
            if (dot == NULL || address[last + part] != '.')
                return false;
            length = last + part;
            last = length + 1;
            at = dot + 1;
        }
    }
    if (length == 0 || length >= DOMAINS_NAME_MAX)
        return false;
    snprintf(domain, DOMAINS_NAME_MAX, "%.*s", (int)length, address);
    return true;
}

static dcache_status_t ask_slurm(struct diag *dg, const char *node, char domain[DOMAINS_NAME_MAX])
{
    const char *address = getenv("SLURM_TOPOLOGY_ADDR");

    if (address == NULL || *address == '\0')
        return diag_fail(dg, DCACHE_ERR_OPTION, "node %s has no SLURM_TOPOLOGY_ADDR: start the ranks with srun", node);
    if (!domains_parse_slurm(address, getenv("SLURM_TOPOLOGY_ADDR_PATTERN"), domain))
        return diag_fail(dg, DCACHE_ERR_OPTION,
                         "SLURM_TOPOLOGY_ADDR of node %s is \"%.80s\" and names no switch: configure Slurm's topology "
                         "plugin",
                         node, address);
    return DCACHE_OK;
}

/* Fault domains are counted anew in each zone. */
static dcache_status_t ask_azure(struct diag *dg, const char *url, char domain[DOMAINS_NAME_MAX])
{
    const struct instance_patience patience = {PATIENCE_S, NULL};
    struct http_client *client = NULL;
    struct instance_place place;

    dcache_status_t status = http_client_open(dg, &client);
    if (status == DCACHE_OK)
        status = instance_metadata_place(dg, client, url, &patience, &place);
    http_client_close(client);
    if (status != DCACHE_OK)
        return status;
    if (place.fault_domain[0] == '\0' && place.zone[0] == '\0')
        return diag_fail(dg, DCACHE_ERR_OPTION, "the instance metadata service at %s gives no fault domain and no zone",
                         url);
    snprintf(domain, DOMAINS_NAME_MAX, "zone %s, fault domain %s", place.zone[0] != '\0' ? place.zone : "-",
             place.fault_domain[0] != '\0' ? place.fault_domain : "-");
    return DCACHE_OK;
}

/* On the first rank of each node: its domain's name. */
static dcache_status_t find_own(struct diag *dg, const struct world *world, const char *source, const char *map,
                                char domain[DOMAINS_NAME_MAX])
{
    if (strcmp(source, "slurm") == 0)
        return ask_slurm(dg, world->node_name, domain);
    if (map == NULL)
        return ask_azure(dg, strcmp(source, "azure") == 0 ? INSTANCE_METADATA_URL : source, domain);
    if (!domains_look_up(map, world->node_name, domain))
        return diag_fail(dg, DCACHE_ERR_OPTION, "node %s is not in the map %s", world->node_name, source);
    return DCACHE_OK;
}

/* ---- numbers ---- */

/* A digest stands for the name: two names with the same one would only make a domain larger than it is. */
static uint64_t digest(const struct world *world, const char *domain)
{
    const char *name = *domain != '\0' ? domain : world->node_name;
    uint64_t crc = crc64_update(0, *domain != '\0' ? "domain" : "node  ", 6);

    return crc64_update(crc, name, strlen(name));
}

static int compare(const void *a, const void *b)
{
    uint64_t x, y;

    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

/* Number the digests of all nodes, ascending. `digests` has an entry for each rank, `sorted` room for each node. */
static void number_domains(const struct world *world, const uint64_t *digests, uint64_t *sorted, uint32_t *of_node)
{
    uint32_t count = 0;

    for (uint32_t n = 0; n < world->node_count; n++)
        sorted[n] = digests[world->rank_by_node[world->first_of_node[n]]];
    qsort(sorted, world->node_count, sizeof *sorted, compare);
    for (uint32_t n = 0; n < world->node_count; n++) {
        if (count == 0 || sorted[n] != sorted[count - 1])
            sorted[count++] = sorted[n];
    }
    for (uint32_t n = 0; n < world->node_count; n++) {
        uint64_t own = digests[world->rank_by_node[world->first_of_node[n]]];
        const uint64_t *found = bsearch(&own, sorted, count, sizeof *sorted, compare);
        of_node[n] = (uint32_t)(found - sorted);
    }
}

static dcache_status_t share_numbers(struct diag *dg, const struct world *world, const char *own, uint32_t **of_node)
{
    uint64_t *digests = malloc((size_t)world->size * sizeof *digests);
    uint64_t *sorted = malloc(world->node_count * sizeof *sorted);
    uint32_t *numbers = malloc(world->node_count * sizeof *numbers);
    uint64_t mine = digest(world, own);
    dcache_status_t status = DCACHE_OK;

    if (digests == NULL || sorted == NULL || numbers == NULL)
        status = diag_fail(dg, DCACHE_ERR_NO_MEMORY, "out of memory for failure domains");
    status = agree(world, dg, NULL, status);
    if (status == DCACHE_OK)
        status = world_check(dg, MPI_Allgather(&mine, 1, MPI_UINT64_T, digests, 1, MPI_UINT64_T, world->comm),
                             "MPI_Allgather");
    if (status == DCACHE_OK) {
        number_domains(world, digests, sorted, numbers);
        *of_node = numbers;
        numbers = NULL;
    }
    free(digests);
    free(sorted);
    free(numbers);
    return status;
}

dcache_status_t domains_find(struct diag *dg, const struct world *world, const struct options *options,
                             struct domains *domains)
{
    const char *source = options->domains;
    struct diag found = *dg; /* that one is not known is a finding */
    char *map = NULL;

    memset(domains, 0, sizeof *domains);
    if (strcmp(source, "none") == 0)
        return DCACHE_OK;
    if (source[0] == '/') {
        dcache_status_t status = share_map(dg, world, source, &map);
        if (status != DCACHE_OK)
            return status;
    }
    dcache_status_t known = DCACHE_OK;
    if (world->node_rank == 0)
        known = find_own(&found, world, source, map, domains->own);
    free(map);
    known = agree(world, &found, NULL, known);
    if (known == DCACHE_ERR_MPI)
        return diag_fail(dg, known, "%s", found.text);
    if (known != DCACHE_OK)
        memcpy(domains->reason, found.text, sizeof domains->reason);
    return share_numbers(dg, world, domains->own, &domains->of_node);
}

void domains_free(struct domains *domains)
{
    free(domains->of_node);
    memset(domains, 0, sizeof *domains);
}
