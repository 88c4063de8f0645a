/* io/instance_metadata.c and runtime/notices.c: what Azure's events mean, against a server that answers well, says
 * nonsense, stalls, and never ends. */
#include "http_server.h"
#include "io/instance_metadata.h"
#include "runtime/notices.h"
#include "tests/unit/unit.h"

#include <time.h>

#define EVENT(id, type, resources, when)                                                                               \
    "{\"EventId\": \"" id "\", \"EventType\": \"" type "\", \"ResourceType\": \"VirtualMachine\", \"Resources\": "     \
    "[" resources "], \"EventStatus\": \"Scheduled\", \"NotBefore\": \"" when "\"}"
#define EVENTS(list) "{\"DocumentIncarnation\": 1, \"Events\": [" list "]}"

static struct diag dg;

static size_t parse(const char *text, const char *name, struct scheduled_events *events)
{
    events->count = 99;
    CU_ASSERT_EQUAL(instance_metadata_parse_events(&dg, text, strlen(text), name, events), DCACHE_OK);
    return events->count;
}

static void test_kinds(void)
{
    struct scheduled_events events;
    const char *when = "Mon, 19 Sep 2016 18:29:47 GMT";

    CU_ASSERT_EQUAL(parse(EVENTS(""), "vm_1", &events), 0);
    CU_ASSERT_EQUAL(
        parse(
            EVENTS(EVENT("A", "Freeze", "\"vm_1\"", "") ", " EVENT(
                "B", "Reboot", "\"vm_0\", \"VM_1\"",
                "Mon, 19 Sep 2016 18:29:47 GMT") ", " EVENT("C", "Redeploy", "\"vm_1\"",
                                                            "nonsense") ", " EVENT("D", "Preempt", "\"vm_1\"",
                                                                                   "") ", " EVENT("E", "Terminate",
                                                                                                  "\"vm_1\"",
                                                                                                  "") ", " EVENT("F",
                                                                                                                 "Picni"
                                                                                                                 "c",
                                                                                                                 "\"vm_"
                                                                                                                 "1\"",
                                                                                                                 "")),
            "vm_1", &events),
        5);
    static const enum scheduled_kind kinds[] = {SCHEDULED_FREEZE, SCHEDULED_REBOOT, SCHEDULED_REDEPLOY, SCHEDULED_LEAVE,
                                                SCHEDULED_LEAVE};
    for (size_t i = 0; i < UNIT_COUNT(kinds); i++)
        CU_ASSERT_EQUAL(events.list[i].kind, kinds[i]);
    struct tm broken_down = {0};
    CU_ASSERT_PTR_NOT_NULL(strptime(when, "%a, %d %b %Y %H:%M:%S", &broken_down));
    CU_ASSERT_EQUAL(events.list[1].not_before, (int64_t)timegm(&broken_down));
    CU_ASSERT_EQUAL(events.list[0].not_before, 0);
    CU_ASSERT_EQUAL(events.list[2].not_before, 0);
    CU_ASSERT_NOT_EQUAL(events.list[0].id, events.list[1].id);
}

static void test_whose(void)
{
    struct scheduled_events events;
    const char *text = EVENTS(EVENT("A", "Preempt", "\"vm_2\", \"vm_3\"", ""));

    CU_ASSERT_EQUAL(parse(text, "vm_1", &events), 0);
    CU_ASSERT_EQUAL(parse(text, "vm_3", &events), 1);
    CU_ASSERT_EQUAL(parse(text, "", &events), 1); /* whoever does not know its name had better listen */
    CU_ASSERT_EQUAL(parse(EVENTS(EVENT("A", "Preempt", "", "")), "vm_1", &events), 1);
}

static void test_nonsense(void)
{
    static const char *const bad[] = {"",      "null", "[]", "{", "{\"Events\": 5}", "{\"DocumentIncarnation\": 1}",
                                      "<html>"};
    static const char *const odd[] = {
        EVENTS("5, null, [], {}, {\"EventId\": 4, \"EventType\": \"Preempt\"}"),
        EVENTS("{\"EventId\": \"x\", \"EventType\": 7, \"Resources\": \"all\"}"),
        EVENTS("{\"EventId\": \"x\", \"EventType\": \"Freeze\", \"Resources\": [1, null]}")};
    struct scheduled_events events = {.count = 7};

    for (size_t i = 0; i < UNIT_COUNT(bad); i++)
        CU_ASSERT_EQUAL(instance_metadata_parse_events(&dg, bad[i], strlen(bad[i]), "vm", &events), DCACHE_ERR_STORE);
    CU_ASSERT_EQUAL(events.count, 7);
    for (size_t i = 0; i < UNIT_COUNT(odd); i++)
        CU_ASSERT_EQUAL(parse(odd[i], "vm", &events), 0);

    static char many[200000] = "{\"Events\": [";
    for (int i = 0; i < 1000; i++)
        sprintf(many + strlen(many), "%s" EVENT("%d", "Freeze", "\"vm\"", ""), i > 0 ? "," : "", i);
    strcat(many, "]}");
    CU_ASSERT_EQUAL(parse(many, "vm", &events), SCHEDULED_EVENTS_MAX);
}

#define GOOD(body) "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" body
#define PLACE      GOOD("{\"name\": \"vm_1\", \"zone\": \"2\", \"platformFaultDomain\": \"3\"}")

static void test_place(void)
{
    static const struct reply script[] = {{REPLY_SEND, PLACE},
                                          {REPLY_SEND, GOOD("{\"name\": \"a\\nb\", \"zone\": 2}")},
                                          {REPLY_SEND, GOOD("nonsense")},
                                          {REPLY_SEND, "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"}};
    struct http_server *server = http_server_start(script, UNIT_COUNT(script));
    const struct instance_patience patience = {5, NULL};
    struct instance_place place;
    struct http_client *client = NULL;
    char url[64];

    snprintf(url, sizeof url, "http://127.0.0.1:%d/", http_server_port(server));
    CU_ASSERT_EQUAL_FATAL(http_client_open(&dg, &client), DCACHE_OK);
    CU_ASSERT_EQUAL(instance_metadata_place(&dg, client, url, &patience, &place), DCACHE_OK);
    CU_ASSERT_STRING_EQUAL(place.name, "vm_1");
    CU_ASSERT_STRING_EQUAL(place.zone, "2");
    CU_ASSERT_STRING_EQUAL(place.fault_domain, "3");
    CU_ASSERT_PTR_NOT_NULL(strstr(http_server_head(server, 0), "Metadata: true"));
    CU_ASSERT_PTR_NOT_NULL(strstr(http_server_head(server, 0), "GET /metadata/instance/compute?api-version="));
    CU_ASSERT_EQUAL(instance_metadata_place(&dg, client, url, &patience, &place), DCACHE_OK);
    CU_ASSERT_STRING_EQUAL(place.name, "");
    CU_ASSERT_STRING_EQUAL(place.zone, "");
    CU_ASSERT_EQUAL(instance_metadata_place(&dg, client, url, &patience, &place), DCACHE_ERR_STORE);
    CU_ASSERT_EQUAL(instance_metadata_place(&dg, client, url, &patience, &place), DCACHE_ERR_STORE);
    CU_ASSERT_PTR_NOT_NULL(strstr(dg.text, "404"));
    http_client_close(client);
    http_server_stop(server);
}

static void wait_for(const struct http_server *server, unsigned requests)
{
    while (http_server_requests(server) < requests)
        usleep(10000);
}

/* Listen until the thread has heard so many notices of a checkpoint; the test's own time limit ends it else. */
static struct notices_heard hear(struct notices *notices, unsigned checkpoints)
{
    struct notices_heard heard = notices_read(notices);

    while (heard.checkpoint < checkpoints) {
        usleep(10000);
        heard = notices_read(notices);
    }
    return heard;
}

static struct notices *start(const struct http_server *server)
{
    struct notices *notices = NULL;
    char url[64];

    snprintf(url, sizeof url, "http://127.0.0.1:%d", http_server_port(server));
    CU_ASSERT_EQUAL_FATAL(notices_start(&dg, url, &notices), DCACHE_OK);
    return notices;
}

/* One answer after the other: the same event counts once, a new one again, and one that is gone leaves no time. */
static void test_thread(void)
{
    static const struct reply script[] = {
        {REPLY_SEND, PLACE},
        {REPLY_SEND, GOOD(EVENTS(EVENT("A", "Redeploy", "\"vm_1\"", "Mon, 19 Sep 2016 18:29:47 GMT")))},
        {REPLY_SEND, GOOD(EVENTS(EVENT("A", "Redeploy", "\"vm_1\"", "Mon, 19 Sep 2016 18:29:47 GMT")))},
        {REPLY_SEND, GOOD("nonsense")},
        {REPLY_SEND, GOOD(EVENTS(EVENT("B", "Preempt", "\"vm_1\"", "") "," EVENT("C", "Preempt", "\"vm_7\"", "")))},
    };
    struct http_server *server = http_server_start(script, UNIT_COUNT(script));
    struct notices *notices = start(server);

    struct notices_heard heard = hear(notices, 1);
    CU_ASSERT_EQUAL(heard.checkpoint, 1);
    CU_ASSERT_EQUAL(heard.stop, 0);
    CU_ASSERT_EQUAL(heard.leaves_at, 1474309787);
    heard = hear(notices, 2);
    CU_ASSERT_EQUAL(heard.checkpoint, 2);
    CU_ASSERT_EQUAL(heard.stop, 1);
    CU_ASSERT_EQUAL(heard.leaves_at, INT64_MAX);
    CU_ASSERT(http_server_requests(server) >= 5);
    notices_stop(notices);
    http_server_stop(server);
}

/* A service that is broken in these ways is stopped with all the same, and nothing was heard. */
static void test_broken_services(void)
{
    static const struct reply scripts[][2] = {
        {{REPLY_SEND, PLACE}, {REPLY_STALL, ""}},       {{REPLY_SEND, PLACE}, {REPLY_RESET, ""}},
        {{REPLY_SEND, PLACE}, {REPLY_DRIP, GOOD("{")}}, {{REPLY_SEND, PLACE}, {REPLY_ENDLESS, GOOD(" ")}},
        {{REPLY_STALL, ""}, {REPLY_STALL, ""}},
    };

    for (size_t i = 0; i < UNIT_COUNT(scripts); i++) {
        struct http_server *server = http_server_start(scripts[i], 2);
        struct notices *notices = start(server);
        wait_for(server, i + 1 < UNIT_COUNT(scripts) ? 2 : 1);
        CU_ASSERT_EQUAL(notices_read(notices).checkpoint, 0);
        notices_stop(notices);
        http_server_stop(server);
    }
}

int main(void)
{
    static const struct unit_case cases[] = {
        {"kinds and times", test_kinds}, {"whose event it is", test_whose},
        {"nonsense", test_nonsense},     {"where the machine is", test_place},
        {"the thread", test_thread},     {"broken services", test_broken_services},
    };
    diag_init(&dg, "", -1, DIAG_ERROR);
    return unit_main("notices", cases, UNIT_COUNT(cases));
}
