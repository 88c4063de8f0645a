#include "io/stripes.h"

#include "io/claim.h"
#include "io/json_field.h"
#include "io/workers.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- URLs ----------------------------------------------------------------------------------------------------------*/

/* How long the URL at the head of the text is: up to white space behind which another URL begins. */
static size_t url_length(const char *text)
{
    size_t length = strcspn(text, " \t");
    for (;;) {
        const char *next = text + length + strspn(text + length, " \t");
        size_t next_length = strcspn(next, " \t");
        if (next_length == 0 || memmem(next, next_length, "://", 3) != NULL)
            return length;
        length = (size_t)(next - text) + next_length;
    }
}

static bool is_directory(const char *url)
{
    return strncmp(url, "file:", 5) == 0;
}

/* One more that is resolved, against those before it. */
static dcache_status_t check_place(struct diag *dg, const struct stripes_places *places)
{
    const char *url = places->list[places->count].url;
    const size_t length = strlen(url);
    size_t together = length + 1;
    if (url_length(url) != length || url[length - 1] == ' ') /* it would be another one when it is read again */
        return diag_fail(dg, DCACHE_ERR_OPTION,
                         "store %.800s: its name ends in a blank, or has a blank and \"://\" behind it", url);
    for (uint32_t i = 0; i < places->count; i++) {
        const char *other = places->list[i].url;
        if (strcmp(other, url) == 0)
            return diag_fail(dg, DCACHE_ERR_OPTION, "store %.800s is named twice: leave one out", url);
        if (is_directory(other) != is_directory(url))
            return diag_fail(dg, DCACHE_ERR_OPTION,
                             "stores %.400s and %.400s: a job is spread either over directories or over containers",
                             other, url);
        together += strlen(other) + 1;
    }
    if (together > STRIPES_TEXT_MAX)
        return diag_fail(dg, DCACHE_ERR_OPTION, "the URLs of the stores have more than %d characters together",
                         STRIPES_TEXT_MAX - 1);
    return DCACHE_OK;
}

dcache_status_t stripes_resolve(struct diag *dg, const char *text, enum object_auth auth, struct stripes_places *places)
{
    char url[STRIPES_TEXT_MAX];
    dcache_status_t status = DCACHE_OK;
    memset(places, 0, sizeof *places);
    if (strlen(text) >= sizeof url)
        return diag_fail(dg, DCACHE_ERR_OPTION, "the URLs of the stores have more than %d characters together",
                         STRIPES_TEXT_MAX - 1);
    for (const char *at = text + strspn(text, " \t"); status == DCACHE_OK && *at != '\0';) {
        struct stripes_place *place = &places->list[places->count];
        const size_t length = url_length(at);
        snprintf(url, sizeof url, "%.*s", (int)length, at);
        if (places->count == STRIPES_MAX)
            status = diag_fail(dg, DCACHE_ERR_OPTION, "there are more than %d stores", STRIPES_MAX);
        else
            status = object_store_resolve_as(dg, url, auth, place->url, &place->credentials);
        if (status == DCACHE_OK)
            status = check_place(dg, places);
        places->count += status == DCACHE_OK;
        at += length;
        at += strspn(at, " \t");
    }
    if (status == DCACHE_OK && places->count == 0) /* what there is to say of an empty URL */
        status = object_store_resolve_as(dg, "", auth, places->list[0].url, &places->list[0].credentials);
    if (status != DCACHE_OK)
        OPENSSL_cleanse(places, sizeof *places);
    return status;
}

void stripes_text(const struct stripes_places *places, char *text)
{
    size_t length = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < places->count; i++)
        length +=
            (size_t)snprintf(text + length, STRIPES_TEXT_MAX - length, "%s%s", i > 0 ? " " : "", places->list[i].url);
}

int stripes_encode(json_t *object, const char *text)
{
    const size_t first = url_length(text);
    const char *others = text + first + strspn(text + first, " ");
    int failed = json_object_set_new(object, "store_url", json_stringn(text, first));
    if (failed == 0 && *others != '\0')
        failed = json_object_set_new(object, "other_stores", json_string(others));
    return failed;
}

dcache_status_t stripes_decode(struct diag *dg, const char *name, const json_t *object, char *text)
{
    dcache_status_t status = json_field_text(dg, name, object, "store_url", text, OBJECT_URL_MAX);
    if (status != DCACHE_OK || json_object_get(object, "other_stores") == NULL)
        return status;
    const size_t length = strlen(text);
    text[length] = ' ';
    text[length + 1] = '\0';
    return json_field_text(dg, name, object, "other_stores", text + length + 1, STRIPES_TEXT_MAX - length - 1);
}

/* --- Stores --------------------------------------------------------------------------------------------------------*/

static dcache_status_t add_store(struct diag *dg, const struct stripes_place *place, const struct object_policy *policy,
                                 struct object_store *home)
{
    struct object_store *added = NULL;
    dcache_status_t status = object_store_open(dg, place->url, &place->credentials, policy, &added);
    if (status != DCACHE_OK)
        return status;
    if (added->ops->share != NULL)
        added->ops->share(added, home);
    home->others[home->other_count++] = added;
    return DCACHE_OK;
}

dcache_status_t stripes_open(struct diag *dg, const struct stripes_places *places, const struct object_policy *policy,
                             struct object_store **home)
{
    struct object_store *opened = NULL;
    dcache_status_t status = object_store_open(dg, places->list[0].url, &places->list[0].credentials, policy, &opened);
    if (status != DCACHE_OK)
        return status;
    if (places->count > 1) {
        opened->others = calloc(places->count - 1, sizeof(struct object_store *));
        if (opened->others == NULL)
            status = diag_fail(dg, DCACHE_ERR_NO_MEMORY, "out of memory for %u object stores", places->count);
    }
    for (uint32_t i = 1; status == DCACHE_OK && i < places->count; i++)
        status = add_store(dg, &places->list[i], policy, opened);
    if (status != DCACHE_OK) {
        object_store_close(opened);
        return status;
    }
    *home = opened;
    return DCACHE_OK;
}

uint32_t stripes_count(const struct object_store *home)
{
    return 1 + (uint32_t)home->other_count;
}

struct object_store *stripes_store(struct object_store *home, uint32_t number)
{
    if (number == STRIPES_HOME)
        return home;
    return number <= home->other_count ? home->others[number - 1] : NULL;
}

const char *stripes_url(const struct object_store *home, uint32_t number)
{
    const char *url = number == STRIPES_HOME        ? home->url
                      : number <= home->other_count ? home->others[number - 1]->url
                                                    : NULL;
    return url != NULL ? url : "";
}

uint32_t stripes_find(const struct object_store *home, const char *url)
{
    for (uint32_t i = 0; i < stripes_count(home); i++) {
        if (*url != '\0' && strcmp(stripes_url(home, i), url) == 0)
            return i;
    }
    return STRIPES_UNKNOWN;
}

/* --- Which one -----------------------------------------------------------------------------------------------------*/

/* Each bit of the number has its say in each bit of the result; 0 is 0. (MurmurHash3's finalizer.) */
static uint32_t mix(uint32_t number)
{
    number = (number ^ number >> 16) * 0x85ebca6bu;
    number = (number ^ number >> 13) * 0xc2b2ae35u;
    return number ^ number >> 16;
}

/* One row of `count` ranks after the other, each shifted by what looks like chance. Without the shift the first ranks
 * of all nodes, which their drainers begin with, would be in one store where a node's ranks are a multiple of the
 * count; so would the second ones, and all drainers would go from account to account together. */
uint32_t stripes_of_rank(const struct object_store *home, uint32_t rank)
{
    const uint32_t count = stripes_count(home);
    return (rank % count + mix(rank / count) % count) % count;
}

uint32_t stripes_of_pack(const struct object_store *home, uint64_t writer, size_t pack)
{
    const uint64_t count = stripes_count(home);
    return (uint32_t)((writer % count + pack % count) % count);
}

/* --- The home ------------------------------------------------------------------------------------------------------*/

#define MARK_BYTES_MAX 8192u

static const char mark_format[] = "dcache-home";

static void mark_key(const char *job, char key[OBJECT_KEY_MAX])
{
    snprintf(key, OBJECT_KEY_MAX, "%s/home.json", job);
}

/* Which store a mark says is the home; "" when it cannot be read: a mark it is all the same.
 * @return DCACHE_NOT_FOUND: there is none */
static dcache_status_t read_mark(struct diag *dg, struct object_store *store, const char *job,
                                 char home[OBJECT_URL_MAX])
{
    char key[OBJECT_KEY_MAX];
    char *text = NULL;
    size_t bytes = 0;
    json_t *root = NULL;
    home[0] = '\0';
    mark_key(job, key);
    dcache_status_t status = object_store_get_bytes(store, dg, key, MARK_BYTES_MAX, &text, &bytes);
    if (status != DCACHE_OK)
        return status == DCACHE_ERR_CORRUPT ? DCACHE_OK : status;
    status = json_field_parse(dg, key, text, bytes, mark_format, 1, &root);
    free(text);
    if (status == DCACHE_OK && json_field_text(dg, key, root, "home", home, OBJECT_URL_MAX) != DCACHE_OK)
        home[0] = '\0';
    json_decref(root);
    return DCACHE_OK;
}

dcache_status_t stripes_check_home(struct diag *dg, struct object_store *home, const char *job)
{
    struct diag quiet = *dg;
    char first[OBJECT_URL_MAX];
    if (read_mark(&quiet, home, job, first) == DCACHE_OK)
        return diag_fail(dg, DCACHE_ERR_OPTION,
                         "store %.300s has shards of job %s for another one, %.300s: name that one first in option "
                         "store, and this one behind it; or use another job name",
                         stripes_url(home, STRIPES_HOME), job,
                         first[0] != '\0' ? first : "which its home.json does not tell");
    for (uint32_t i = 1; i < stripes_count(home); i++) {
        struct claim there;
        dcache_status_t status = claim_read(&quiet, stripes_store(home, i), job, &there);
        if (status == DCACHE_OK || status == DCACHE_ERR_CORRUPT || status == DCACHE_ERR_FORMAT)
            return diag_fail(dg, DCACHE_ERR_OPTION,
                             "store %.400s was the first one of job %s once, and has its manifests: name it first, or, "
                             "if what is durable there is to be forgotten, remove %s/claim.json from it",
                             stripes_url(home, i), job, job);
        if (status != DCACHE_NOT_FOUND)
            break;
    }
    return DCACHE_OK;
}

struct marking {
    struct object_store *home;
    const char *job;
    char *text;
    size_t bytes;
};

/* One that is there stays: the home may have moved since, and its URL be another one. */
static dcache_status_t mark_one(void *context, const struct workers_turn *turn)
{
    const struct marking *marking = context;
    char key[OBJECT_KEY_MAX];
    mark_key(marking->job, key);
    dcache_status_t status = object_store_put_bytes(stripes_store(marking->home, (uint32_t)turn->task + 1), turn->dg,
                                                    key, marking->text, marking->bytes, OBJECT_IF_ABSENT);
    return status == DCACHE_ERR_EXISTS ? DCACHE_OK : status;
}

dcache_status_t stripes_mark(struct diag *dg, struct object_store *home, const char *job)
{
    struct marking marking = {.home = home, .job = job};
    const uint32_t others = stripes_count(home) - 1;
    if (others == 0)
        return DCACHE_OK;
    json_t *root =
        json_pack("{s:s, s:i, s:s}", "format", mark_format, "version", 1, "home", stripes_url(home, STRIPES_HOME));
    dcache_status_t status = json_field_print(dg, "home.json", root, &marking.text, &marking.bytes);
    if (status != DCACHE_OK)
        return status;
    status = workers_run(dg, others, others, mark_one, &marking);
    free(marking.text);
    return status;
}
