/* The environment: a line NAME=value each. Options, credentials of the object store, and its URL (DCACHE_STORE). What
 * is a secret in it never reaches a text. */
#include "fuzz.h"

#include "io/stripes.h"
#include "runtime/options.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define VARIABLES_MAX 64
#define SECRET_MIN    12 /* shorter ones are in texts by chance */
#define SECRET_MAX    1024

/* Where a secret begins in a variable's value; it ends at ';' or '&'. */
static const struct {
    const char *variable;
    const char *mark;
} secrets[] = {{"AZURE_STORAGE_KEY", ""},
               {"AZURE_STORAGE_ACCESS_KEY", ""},
               {"AZURE_CLIENT_SECRET", ""},
               {"AZURE_STORAGE_SAS_TOKEN", "sig="},
               {"AZURE_STORAGE_CONNECTION_STRING", "sig="},
               {"AZURE_STORAGE_CONNECTION_STRING", "AccountKey="},
               {"AZURE_STORAGE_CONNECTION_STRING_SECOND", "AccountKey="}};

/* A secret that is in another variable, too, is none. */
static bool is_elsewhere(const char *secret, size_t length)
{
    size_t count = 0;
    for (char **variable = environ; *variable != NULL; variable++)
        count += memmem(*variable, strlen(*variable), secret, length) != NULL;
    return count > 1;
}

/* A secret that was in a text. By chance, if the texts have it without it being in the environment, too: the fuzzer
 * finds "sig=.windows.net/container". */
static struct {
    char secret[SECRET_MAX + 1];
    bool gone; /* from the environment; is it still in a text? */
    bool seen;
} suspect;

static void suspect_it(const char *secret, size_t length)
{
    fuzz_require(length <= SECRET_MAX, "no secret in a text");
    if (suspect.secret[0] == '\0')
        memcpy(suspect.secret, secret, length);
}

static void take_suspect_away(void)
{
    const size_t length = strlen(suspect.secret);
    for (char **variable = environ; *variable != NULL; variable++) {
        char *at = memmem(*variable, strlen(*variable), suspect.secret, length);
        if (at != NULL)
            memset(at, suspect.secret[0] == 'A' ? 'B' : 'A', length);
    }
    suspect.gone = true;
}

static void require_no_secret(const char *text)
{
    if (suspect.gone) {
        suspect.seen |= strstr(text, suspect.secret) != NULL;
        return;
    }
    for (size_t i = 0; i < sizeof secrets / sizeof secrets[0]; i++) {
        const char *value = getenv(secrets[i].variable);
        const char *start = value != NULL ? strstr(value, secrets[i].mark) : NULL;
        size_t length = start != NULL ? strcspn(start + strlen(secrets[i].mark), ";&") : 0;
        const char *secret = length > 0 ? start + strlen(secrets[i].mark) : NULL;
        if (length < SECRET_MIN || is_elsewhere(secret, length))
            continue;
        if (memmem(text, strlen(text), secret, length) != NULL)
            suspect_it(secret, length);
    }
}

static void resolve(const char *url)
{
    struct diag *dg = fuzz_diag();
    struct object_credentials credentials;
    struct object_store *store = NULL;
    const struct object_policy policy = {.timeout_s = 1, .stall_s = 1};
    char canonical[OBJECT_URL_MAX];
    char again[OBJECT_URL_MAX];
    char explained[1024] = "";
    for (int auth = OBJECT_AUTH_AUTO; auth < OBJECT_AUTHS; auth++) {
        dcache_status_t status = object_store_explain_auth(dg, url, (enum object_auth)auth, explained, 1024);
        if (status == DCACHE_OK)
            require_no_secret(explained);
        status = object_store_resolve_as(dg, url, (enum object_auth)auth, canonical, &credentials);
        require_no_secret(dg->text);
        if (status != DCACHE_OK)
            continue;
        require_no_secret(canonical);
        status = object_store_resolve_as(dg, canonical, (enum object_auth)auth, again, &credentials);
        fuzz_require(status == DCACHE_OK && strcmp(canonical, again) == 0, "a canonical URL can be resolved again");
        if (strncmp(canonical, "file:", 5) == 0) /* opening it would make the directory */
            continue;
        status = object_store_open(dg, canonical, &credentials, &policy, &store);
        require_no_secret(dg->text);
        if (status == DCACHE_OK)
            object_store_close(store);
    }
}

/* Several of them. */
static void resolve_stripes(const char *text)
{
    static struct stripes_places places, again;
    struct diag *dg = fuzz_diag();
    char canonical[STRIPES_TEXT_MAX];
    dcache_status_t status = stripes_resolve(dg, text, OBJECT_AUTH_AUTO, &places);
    fuzz_require_text(dg, status);
    require_no_secret(dg->text);
    if (status != DCACHE_OK)
        return;
    fuzz_require(places.count >= 1 && places.count <= STRIPES_MAX, "there is a store, and not too many");
    stripes_text(&places, canonical);
    require_no_secret(canonical);
    status = stripes_resolve(dg, canonical, OBJECT_AUTH_AUTO, &again);
    fuzz_require(status == DCACHE_OK && places.count == again.count, "canonical URLs can be resolved again");
    for (uint32_t i = 0; i < places.count; i++)
        fuzz_require(strcmp(places.list[i].url, again.list[i].url) == 0, "and are the same again");
}

static void use_environment(void)
{
    struct diag *dg = fuzz_diag();
    struct options options;
    dcache_status_t status = options_load(dg, NULL, &options);
    (void)status;
    require_no_secret(dg->text);
    const char *url = getenv("DCACHE_STORE");
    resolve(url != NULL ? url : "azure://container");
    resolve_stripes(url != NULL ? url : "azure://container https://second.blob.core.windows.net/container");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char directory[] = "DCACHE_MEMORY_STORE=/nowhere";
    char *variables[VARIABLES_MAX + 1] = {directory};
    size_t count = 1;
    char **saved = environ;
    char *text = fuzz_text(data, size);
    char *rest = text;
    for (char *line = strsep(&rest, "\n"); line != NULL && count < VARIABLES_MAX; line = strsep(&rest, "\n")) {
        if (strchr(line, '=') != NULL)
            variables[count++] = line;
    }
    environ = variables;
    memset(&suspect, 0, sizeof suspect);
    use_environment();
    if (suspect.secret[0] != '\0') {
        take_suspect_away();
        use_environment();
        fuzz_require(suspect.seen, "no secret in a text");
    }
    environ = saved;
    free(text);
    return 0;
}
