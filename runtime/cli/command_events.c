/* dcache events: is this machine going to be taken away? Asks the service that tells a running program, so the answer
 * is that of now: an event that was cancelled is none, and nothing that a job left behind has to be believed. */
#include "runtime/cli/cli.h"

#include "io/instance_metadata.h"
#include "runtime/cli/table.h"

#define PATIENCE_S                                                                                                     \
    10.0 /* whoever waits is about to launch a job; the first answer of all takes longer, see notices.c */

static dcache_status_t ask(struct cli *cli, const char *url, struct instance_place *place,
                           struct scheduled_events *events)
{
    const struct instance_patience patience = {PATIENCE_S, NULL};
    struct http_client *client = NULL;

    dcache_status_t status = http_client_open(&cli->dg, &client);
    if (status == DCACHE_OK)
        status = instance_metadata_place(&cli->dg, client, url, &patience, place);
    if (status == DCACHE_OK && place->name[0] == '\0') /* the list has the events of other machines, too */
        status = diag_fail(&cli->dg, DCACHE_ERR_STORE, "%s does not say what this machine is called", url);
    if (status == DCACHE_OK)
        status = instance_metadata_events(&cli->dg, client, url, &patience, place->name, events);
    http_client_close(client);
    return status;
}

static void print_event(const char *name, const struct scheduled_event *event)
{
    char when[32];

    if (event->not_before == 0)
        printf("%s will %s now\n", name, scheduled_kind_text(event->kind));
    else
        printf("%s will %s, not before %s\n", name, scheduled_kind_text(event->kind),
               text_time(event->not_before, when));
}

static json_t *describe(const struct instance_place *place, const struct scheduled_events *events)
{
    json_t *list = json_array();

    for (size_t i = 0; i < events->count; i++)
        json_array_append_new(list, json_pack("{s:s, s:I}", "will", scheduled_kind_text(events->list[i].kind),
                                              "not_before", (json_int_t)events->list[i].not_before));
    return json_pack("{s:s, s:o}", "machine", place->name, "events", list);
}

/* A freeze is none of these: the machine is there afterwards, with all it had. */
static void keep_departures(struct scheduled_events *events)
{
    size_t kept = 0;

    for (size_t i = 0; i < events->count; i++) {
        if (events->list[i].kind != SCHEDULED_FREEZE)
            events->list[kept++] = events->list[i];
    }
    events->count = kept;
}

int command_events(struct cli *cli)
{
    struct instance_place place = {.name = ""};
    struct scheduled_events events = {.count = 0};
    const char *url = instance_metadata_events_url(cli->options.events);

    if (cli->argument_count != 0)
        return cli_misused(cli, "events takes no argument");
    dcache_status_t status = url != NULL ? ask(cli, url, &place, &events) : DCACHE_OK;
    if (status != DCACHE_OK)
        return cli_failed(cli, status);
    keep_departures(&events);
    int code = CLI_OK;
    if (cli->json)
        code = cli_print_json(cli, describe(&place, &events));
    for (size_t i = 0; !cli->json && i < events.count; i++)
        print_event(place.name, &events.list[i]);
    return code == CLI_OK && events.count == 0 ? CLI_NOTHING : code;
}
