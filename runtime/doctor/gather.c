#include "runtime/doctor/gather.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct node_words {
    char name[sizeof((struct world *)0)->node_name];
    char domain[DOMAINS_NAME_MAX];
};

static void tell_partners(const dcache_t *dc, const struct node_words *words, struct findings *all)
{
    const struct world *world = &dc->world;

    for (uint32_t n = 0; n < world->node_count; n++) {
        uint32_t partner = dc->placement.partner_of_node[n], first = world->first_of_node[n];
        const struct node_words *own = &words[world->rank_by_node[first]];
        const char *other =
            partner != PLACEMENT_NONE ? words[world->rank_by_node[world->first_of_node[partner]]].name : "none";
        char what[160];
        snprintf(what, sizeof what, "node %s", own->name);
        findings_add(all, FINDING_OK, what, NULL, "%u ranks, partner %s, failure domain %s",
                     world->first_of_node[n + 1] - first, other, own->domain[0] != '\0' ? own->domain : "its own");
    }
}

void gather_partners(dcache_t *dc, struct findings *all)
{
    struct node_words mine, *words = NULL;
    int good = 1;

    memset(&mine, 0, sizeof mine);
    memcpy(mine.name, dc->world.node_name, sizeof mine.name);
    memcpy(mine.domain, dc->domains.own, sizeof mine.domain);
    if (dc->world.rank == 0)
        words = calloc((size_t)dc->world.size, sizeof *words);
    if (dc->world.rank == 0 && words == NULL)
        good = 0;
    MPI_Bcast(&good, 1, MPI_INT, 0, dc->world.comm);
    if (good)
        MPI_Gather(&mine, (int)sizeof mine, MPI_BYTE, words, (int)sizeof mine, MPI_BYTE, 0, dc->world.comm);
    else
        all->failed = true;
    if (words != NULL)
        tell_partners(dc, words, all);
    free(words);
}

/* The text of one node, as JSON; its findings become rank 0's. */
static void take_text(const char *text, size_t bytes, struct findings *all)
{
    json_t *document = json_loadb(text, bytes, 0, NULL);
    const char *node = json_string_value(json_object_get(document, "node"));
    size_t i;
    json_t *one;

    json_array_foreach (json_object_get(document, "findings"), i, one) {
        const char *level = "problem", *what = "?", *value = "?", *remedy = NULL;
        char where[400];
        (void)json_unpack(one, "{s:s,s:s,s:s,s:s?}", "level", &level, "what", &what, "value", &value, "remedy",
                          &remedy);
        snprintf(where, sizeof where, "%s, %s", node != NULL ? node : "?", what);
        findings_add(all,
                     strcmp(level, "ok") == 0        ? FINDING_OK
                     : strcmp(level, "warning") == 0 ? FINDING_WARNING
                                                     : FINDING_PROBLEM,
                     where, remedy, "%s", value);
    }
    all->failed |= document == NULL;
    json_decref(document);
}

void gather_findings(dcache_t *dc, const struct findings *own, struct findings *all)
{
    int size = dc->world.size, good = 1, total = 0;
    bool told = json_array_size(own->list) > 0;
    json_t *document = told ? json_pack("{s:s,s:O}", "node", dc->world.node_name, "findings", own->list) : NULL;
    char *text = document != NULL ? json_dumps(document, JSON_COMPACT) : NULL, *texts = NULL;
    int bytes = text != NULL ? (int)strlen(text) : 0;
    int *counts = calloc((size_t)size, 2 * sizeof *counts), *starts = counts != NULL ? counts + size : NULL;

    json_decref(document);
    good = counts != NULL && (!told || text != NULL);
    MPI_Allreduce(MPI_IN_PLACE, &good, 1, MPI_INT, MPI_MIN, dc->world.comm);
    MPI_Allreduce(&bytes, &total, 1, MPI_INT, MPI_SUM, dc->world.comm);
    if (good && dc->world.rank == 0)
        texts = malloc((size_t)total + 1);
    good = good && (dc->world.rank != 0 || texts != NULL);
    MPI_Bcast(&good, 1, MPI_INT, 0, dc->world.comm);
    if (good) {
        MPI_Gather(&bytes, 1, MPI_INT, counts, 1, MPI_INT, 0, dc->world.comm);
        for (int r = 1; r < size; r++)
            starts[r] = starts[r - 1] + counts[r - 1];
        MPI_Gatherv(text, bytes, MPI_CHAR, texts, counts, starts, MPI_CHAR, 0, dc->world.comm);
        for (int r = 0; texts != NULL && r < size; r++) {
            if (counts[r] > 0)
                take_text(texts + starts[r], (size_t)counts[r], all);
        }
    }
    all->failed |= !good;
    free(counts);
    free(texts);
    free(text);
}
