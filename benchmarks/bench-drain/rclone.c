/* The shards' files by rclone, where it is installed: with as many connections and blocks of the same size, and with
 * its own defaults else. */
#include "bench.h"

#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define ARGUMENTS_MAX 24
#define VARIABLES_MAX 7
#define VARIABLE_MAX  1200

bool rclone_is_there(void)
{
    return system("rclone version >/dev/null 2>&1") == 0;
}

/* rclone's remote "bench" is the target's service. */
struct settings {
    char variables[VARIABLES_MAX][VARIABLE_MAX];
    char container[OBJECT_URL_MAX + 128];
    char transfers[16];
    char concurrency[16];
    char block[32];
};

/* What comes before the container in the target's URL. */
static bool split_url(const struct bench_target *target, char endpoint[VARIABLE_MAX / 2], const char **container)
{
    const size_t known = strlen(target->credentials.endpoint);
    const char *at = NULL;
    if (known > 0 && strncmp(target->url, target->credentials.endpoint, known) == 0)
        at = target->url + known;
    if (at == NULL || *at != '/' || target->credentials.key[0] == '\0')
        return false;
    snprintf(endpoint, VARIABLE_MAX / 2, "%.*s", (int)known, target->url);
    *container = at + 1;
    return true;
}

static bool make_settings(const struct bench_options *options, const struct bench_target *target, const char *prefix,
                          struct settings *settings)
{
    char endpoint[VARIABLE_MAX / 2];
    const char *container = NULL;
    const unsigned files = options->shards < options->connections ? options->shards : options->connections;
    if (!split_url(target, endpoint, &container))
        return false;
    snprintf(settings->variables[0], VARIABLE_MAX, "RCLONE_CONFIG_BENCH_TYPE=azureblob");
    snprintf(settings->variables[1], VARIABLE_MAX, "RCLONE_CONFIG_BENCH_ACCOUNT=%s", target->credentials.account);
    snprintf(settings->variables[2], VARIABLE_MAX, "RCLONE_CONFIG_BENCH_KEY=%s", target->credentials.key);
    snprintf(settings->variables[3], VARIABLE_MAX, "RCLONE_CONFIG_BENCH_ENDPOINT=%s", endpoint);
    /* An endpoint with the account in its path is that of an emulator, for rclone. */
    snprintf(settings->variables[6], VARIABLE_MAX, "RCLONE_CONFIG_BENCH_USE_EMULATOR=%s",
             strstr(endpoint, "://127.") != NULL ? "true" : "false");
    snprintf(settings->variables[4], VARIABLE_MAX, "PATH=%s", getenv("PATH") != NULL ? getenv("PATH") : "/usr/bin");
    snprintf(settings->variables[5], VARIABLE_MAX, "HOME=/nonexistent");
    snprintf(settings->container, sizeof settings->container, "bench:%s/%s", container, prefix);
    snprintf(settings->transfers, sizeof settings->transfers, "%u", files);
    snprintf(settings->concurrency, sizeof settings->concurrency, "%u", options->connections / files);
    snprintf(settings->block, sizeof settings->block, "%lluB", (unsigned long long)options->block_bytes);
    return true;
}

static int run(char *const *arguments, char *const *environment)
{
    pid_t pid;
    int status = -1;
    if (posix_spawnp(&pid, "rclone", NULL, NULL, arguments, environment) != 0 || waitpid(pid, &status, 0) != pid)
        return -1;
    return status;
}

dcache_status_t rclone_copy(struct diag *dg, const struct bench_options *options, const struct bench_target *target,
                            const struct bench_shards *shards, const char *prefix)
{
    struct settings settings;
    char *environment[VARIABLES_MAX + 1] = {NULL};
    if (!make_settings(options, target, prefix, &settings))
        return diag_fail(dg, DCACHE_ERR_OPTION, "rclone needs a storage key and a known endpoint: use --no-rclone");
    char *arguments[ARGUMENTS_MAX] = {"rclone",
                                      "copy",
                                      (char *)(uintptr_t)shards->store.path,
                                      settings.container,
                                      "--config",
                                      "/dev/null",
                                      "--include",
                                      "own-*",
                                      "--no-check-dest",
                                      "--retries",
                                      "1",
                                      "--log-level",
                                      "ERROR",
                                      "--transfers",
                                      settings.transfers,
                                      "--azureblob-upload-concurrency",
                                      settings.concurrency,
                                      "--azureblob-chunk-size",
                                      settings.block,
                                      target->certificate[0] != '\0' ? "--ca-cert" : NULL,
                                      (char *)(uintptr_t)target->certificate,
                                      NULL};
    for (unsigned i = 0; i < VARIABLES_MAX; i++)
        environment[i] = settings.variables[i];
    const int status = run(arguments, environment);
    if (status != 0)
        return diag_fail(dg, DCACHE_ERR_STORE, "rclone failed (status %d): use --no-rclone", status);
    return DCACHE_OK;
}
