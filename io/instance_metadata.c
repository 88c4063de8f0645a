#include "io/instance_metadata.h"

#include "io/crc64.h"

#include <curl/curl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define PLACE_PATH  "/metadata/instance/compute?api-version=2021-02-01"
#define EVENTS_PATH "/metadata/scheduledevents?api-version=2020-07-01"
#define ANSWER_MAX  (256u << 10) /* a machine in a large scale set is told of all the others, too */
#define AZURE_TAG   "7783-7084-3265-9085-8269-3286-77"

bool instance_metadata_on_azure(void)
{
    char tag[sizeof AZURE_TAG] = "";
    FILE *file = fopen("/sys/class/dmi/id/chassis_asset_tag", "re");

    if (file == NULL)
        return false;
    bool found = fgets(tag, sizeof tag, file) != NULL && strcmp(tag, AZURE_TAG) == 0;
    fclose(file);
    return found;
}

/* The service refuses requests without it: a page in a browser cannot make one that has it. */
static dcache_status_t prepare(void *context, struct diag *dg, struct http_headers *headers)
{
    (void)context;
    if (http_headers_add(headers, "Metadata", "true"))
        return DCACHE_OK;
    return diag_fail(dg, DCACHE_ERR_INTERNAL, "no room for a header of the request for instance metadata");
}

/* GET base/path; `sink` has the answer, to be freed by the caller whatever is returned. */
static dcache_status_t fetch(struct diag *dg, struct http_client *client, const char *base, const char *path,
                             const struct instance_patience *patience, struct http_sink *sink)
{
    char url[1280];
    struct http_response response;
    size_t length = strlen(base);

    while (length > 0 && base[length - 1] == '/')
        length--;
    snprintf(url, sizeof url, "%.*s%s", (int)length, base, path);
    const struct http_request request = {.method = "GET",
                                         .url = url,
                                         .sink = sink,
                                         .prepare = prepare,
                                         .timeout_s = patience->timeout_s,
                                         .stall_s = patience->timeout_s,
                                         .cancel = patience->cancel};
    dcache_status_t status = http_perform(client, dg, &request, &response);
    if (status != DCACHE_OK && status != DCACHE_ERR_STORE)
        return status;
    if (status == DCACHE_OK && response.status == 200)
        return DCACHE_OK;
    if (response.failure[0] != '\0')
        return diag_fail(dg, DCACHE_ERR_STORE, "%s does not answer: %s", url, response.failure);
    return diag_fail(dg, DCACHE_ERR_STORE, "%s answers with HTTP status %ld, not 200", url, response.status);
}

const char *instance_metadata_events_url(const char *option)
{
    if (strcmp(option, "auto") == 0)
        return instance_metadata_on_azure() ? INSTANCE_METADATA_URL : NULL;
    return strcmp(option, "none") == 0 ? NULL : option;
}

const char *scheduled_kind_text(enum scheduled_kind kind)
{
    static const char *const texts[] = {"stand still", "be rebooted", "be redeployed", "be taken away"};

    return texts[kind];
}

static json_t *parse_object(struct diag *dg, const char *what, const char *text, size_t bytes)
{
    json_error_t error;
    json_t *document = bytes > 0 ? json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error) : NULL;

    if (json_is_object(document))
        return document;
    json_decref(document);
    (void)diag_fail(dg, DCACHE_ERR_STORE, "the instance metadata service does not send %s but something else", what);
    return NULL;
}

/* Such a text becomes part of messages and names: no control characters, no more than there is room for. */
static void copy_word(const json_t *object, const char *key, char word[INSTANCE_METADATA_NAME_MAX])
{
    const char *text = json_string_value(json_object_get(object, key));

    word[0] = '\0';
    if (text == NULL || strlen(text) >= INSTANCE_METADATA_NAME_MAX)
        return;
    for (const char *c = text; *c != '\0'; c++) {
        if (*c <= ' ' || *c > '~')
            return;
    }
    strcpy(word, text);
}

dcache_status_t instance_metadata_place(struct diag *dg, struct http_client *client, const char *base,
                                        const struct instance_patience *patience, struct instance_place *place)
{
    struct http_sink sink = {.limit = ANSWER_MAX};
    json_t *document = NULL;

    dcache_status_t status = fetch(dg, client, base, PLACE_PATH, patience, &sink);
    if (status == DCACHE_OK) {
        document = parse_object(dg, "a description of the machine", sink.data, sink.bytes);
        status = document != NULL ? DCACHE_OK : DCACHE_ERR_STORE;
    }
    free(sink.data);
    if (status != DCACHE_OK)
        return status;
    copy_word(document, "name", place->name);
    copy_word(document, "zone", place->zone);
    copy_word(document, "platformFaultDomain", place->fault_domain);
    json_decref(document);
    return DCACHE_OK;
}

static bool concerns(const json_t *event, const char *name)
{
    json_t *resources = json_object_get(event, "Resources");
    size_t i;
    json_t *resource;

    if (*name == '\0' || json_array_size(resources) == 0)
        return true;
    json_array_foreach (resources, i, resource) {
        const char *text = json_string_value(resource);
        if (text != NULL && strcasecmp(text, name) == 0)
            return true;
    }
    return false;
}

static bool find_kind(const json_t *event, enum scheduled_kind *kind)
{
    static const struct {
        const char *text;
        enum scheduled_kind kind;
    } kinds[] = {{"Freeze", SCHEDULED_FREEZE},
                 {"Reboot", SCHEDULED_REBOOT},
                 {"Redeploy", SCHEDULED_REDEPLOY},
                 {"Preempt", SCHEDULED_LEAVE},
                 {"Terminate", SCHEDULED_LEAVE}};
    const char *text = json_string_value(json_object_get(event, "EventType"));

    for (size_t i = 0; text != NULL && i < sizeof kinds / sizeof kinds[0]; i++) {
        if (strcasecmp(text, kinds[i].text) == 0) {
            *kind = kinds[i].kind;
            return true;
        }
    }
    return false;
}

static void take_event(const json_t *event, const char *name, struct scheduled_events *events)
{
    const char *id = json_string_value(json_object_get(event, "EventId"));
    const char *not_before = json_string_value(json_object_get(event, "NotBefore"));
    struct scheduled_event *taken = &events->list[events->count];

    if (id == NULL || !concerns(event, name) || !find_kind(event, &taken->kind))
        return;
    taken->id = crc64_update(0, id, strlen(id));
    time_t when = not_before != NULL && *not_before != '\0' ? curl_getdate(not_before, NULL) : 0;
    taken->not_before = when > 0 ? (int64_t)when : 0;
    events->count++;
}

dcache_status_t instance_metadata_parse_events(struct diag *dg, const char *text, size_t bytes, const char *name,
                                               struct scheduled_events *events)
{
    json_t *document = parse_object(dg, "scheduled events", text, bytes);
    struct scheduled_events found = {.count = 0};
    size_t i;
    json_t *event;

    if (document == NULL)
        return DCACHE_ERR_STORE;
    json_t *list = json_object_get(document, "Events");
    if (!json_is_array(list)) {
        json_decref(document);
        return diag_fail(dg, DCACHE_ERR_STORE, "the instance metadata service sends no list of scheduled events");
    }
    json_array_foreach (list, i, event) {
        if (found.count < SCHEDULED_EVENTS_MAX)
            take_event(event, name, &found);
    }
    json_decref(document);
    *events = found;
    return DCACHE_OK;
}

dcache_status_t instance_metadata_events(struct diag *dg, struct http_client *client, const char *base,
                                         const struct instance_patience *patience, const char *name,
                                         struct scheduled_events *events)
{
    struct http_sink sink = {.limit = ANSWER_MAX};

    dcache_status_t status = fetch(dg, client, base, EVENTS_PATH, patience, &sink);
    if (status == DCACHE_OK)
        status = instance_metadata_parse_events(dg, sink.data, sink.bytes, name, events);
    free(sink.data);
    return status;
}
