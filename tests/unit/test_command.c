/* io/command.c: commands that print a secret, or fail, hang, print too much or nothing, and what is said of them. */
#include "io/command.h"

#include "io/threads.h"
#include "unit.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <time.h>

#define SECRET "TOPSECRETtopsecret0123456789abcdef"
#define ROOM   64
#define LONG_S 600 /* a test that takes so long is killed */

static struct diag dg;
static char text[ROOM];

static dcache_status_t run_for(const char *line, double seconds)
{
    const struct command command = {.name = "the_option", .line = line, .seconds = seconds};
    size_t length = 12345;
    memset(text, 'x', sizeof text);
    diag_init(&dg, "unit", -1, DIAG_ERROR);
    dcache_status_t status = command_run(&dg, &command, text, sizeof text, &length);
    if (status == DCACHE_OK)
        CU_ASSERT(length < ROOM && length == strlen(text));
    return status;
}

static dcache_status_t run(const char *line)
{
    return run_for(line, LONG_S);
}

static void check_good(void)
{
    CU_ASSERT_EQUAL(run("echo " SECRET), DCACHE_OK);
    CU_ASSERT_STRING_EQUAL(text, SECRET);
    CU_ASSERT_EQUAL(run("printf '  a b \\r\\n\\n'; echo not this >&2"), DCACHE_OK);
    CU_ASSERT_STRING_EQUAL(text, "  a b");
    CU_ASSERT_EQUAL(run("cat; printf '%s' 'its input is empty'"), DCACHE_OK);
    CU_ASSERT_STRING_EQUAL(text, "its input is empty");
    CU_ASSERT_EQUAL(run("for i in 1 2 3; do printf $i; sleep 0.05; done"), DCACHE_OK); /* in pieces */
    CU_ASSERT_STRING_EQUAL(text, "123");
}

static void check_failures(void)
{
    CU_ASSERT_EQUAL(run("echo " SECRET "; echo first >&2; echo 'not logged in' >&2; exit 3"), DCACHE_ERR_OPTION);
    CU_ASSERT(strstr(dg.text, "the_option failed (exit status 3); it said: not logged in") != NULL);
    CU_ASSERT(strstr(dg.text, SECRET) == NULL && strstr(text, SECRET) == NULL);
    CU_ASSERT_EQUAL(run("echo 'cannot use " SECRET " here' >&2; exit 1"), DCACHE_ERR_OPTION);
    CU_ASSERT(strstr(dg.text, "cannot use [...] here") != NULL && strstr(dg.text, "TOPSECRET") == NULL);
    CU_ASSERT_EQUAL(run("printf '\\033[31mred\\001\\n' >&2; exit 1"), DCACHE_ERR_OPTION);
    for (const char *at = dg.text; *at != '\0'; at++)
        CU_ASSERT(*at >= ' ' && *at <= '~');
    CU_ASSERT_EQUAL(run("kill -9 $$"), DCACHE_ERR_OPTION);
    CU_ASSERT_EQUAL(run("no-such-program-anywhere"), DCACHE_ERR_OPTION);
    CU_ASSERT(strstr(dg.text, "exit status 127") != NULL);
    CU_ASSERT_EQUAL(run("head -c 100000 /dev/zero | tr '\\0' 'e' >&2; exit 4"), DCACHE_ERR_OPTION);
    CU_ASSERT(strstr(dg.text, "exit status 4") != NULL && strstr(dg.text, "eeee") == NULL);
}

static void check_outputs(void)
{
    CU_ASSERT_EQUAL(run("true"), DCACHE_ERR_OPTION);
    CU_ASSERT(strstr(dg.text, "prints nothing") != NULL);
    CU_ASSERT_EQUAL(run("echo; echo ' '"), DCACHE_ERR_OPTION);
    CU_ASSERT(strstr(dg.text, "prints nothing") != NULL);
    CU_ASSERT_EQUAL(run("yes " SECRET), DCACHE_ERR_OPTION); /* never ends by itself */
    CU_ASSERT(strstr(dg.text, "prints 64 bytes or more") != NULL && strstr(dg.text, SECRET) == NULL);
    CU_ASSERT(strstr(text, "TOPSECRET") == NULL);
}

static pid_t read_pid(const char *path)
{
    long pid = 0;
    FILE *file = fopen(path, "r");
    if (file == NULL || fscanf(file, "%ld", &pid) != 1)
        pid = 0;
    if (file != NULL)
        fclose(file);
    return (pid_t)pid;
}

/* It and what it started are killed when its time is over. */
static void check_hangs(void)
{
    char path[600], line[900];
    const struct timespec nap = {.tv_nsec = 20000000};
    snprintf(path, sizeof path, "%s/pid", unit_scratch());
    snprintf(line, sizeof line, "sleep 1000 & echo $! >'%s'; echo waiting >&2; wait", path);
    CU_ASSERT_EQUAL(run_for(line, 2), DCACHE_ERR_OPTION);
    CU_ASSERT(strstr(dg.text, "did not end within 2 s") != NULL);
    pid_t child = read_pid(path);
    while (child > 0 && kill(child, 0) == 0) { /* whoever reaps it does so in a moment; the test's timeout ends it */
        char name[64], stat[256] = "";
        snprintf(name, sizeof name, "/proc/%ld/stat", (long)child);
        FILE *file = fopen(name, "r");
        if (file != NULL) {
            CU_ASSERT(fgets(stat, sizeof stat, file) != NULL);
            fclose(file);
        }
        if (strstr(stat, ") Z ") != NULL)
            break;
        (void)nanosleep(&nap, NULL);
    }
    CU_ASSERT_EQUAL(run_for("exec >&-; sleep 1000", 1), DCACHE_ERR_OPTION); /* has said all, and does not end */
}

static atomic_bool cancel;

static void *cancel_soon(void *nothing)
{
    const struct timespec nap = {.tv_nsec = 100000000};
    (void)nanosleep(&nap, NULL);
    atomic_store(&cancel, true);
    return nothing;
}

static void check_cancel(void)
{
    const struct command command = {.name = "it", .line = "sleep 1000", .seconds = LONG_S, .stop = &cancel};
    size_t length = 0;
    pthread_t thread;
    CU_ASSERT_FATAL(pthread_create(&thread, NULL, cancel_soon, NULL) == 0);
    CU_ASSERT_EQUAL(command_run(&dg, &command, text, sizeof text, &length), DCACHE_ERR_CANCELLED);
    pthread_join(thread, NULL);
}

static void *run_kill(void *result)
{
    *(dcache_status_t *)result = run("kill -TERM $$; echo survived");
    return NULL;
}

/* Our threads block all signals, and programs do with SIGCHLD what they like. */
static void check_signals(void)
{
    pthread_t thread;
    dcache_status_t status = DCACHE_OK;
    CU_ASSERT_FATAL(threads_start(&thread, run_kill, &status) == 0);
    pthread_join(thread, NULL);
    CU_ASSERT_EQUAL(status, DCACHE_ERR_OPTION);
    signal(SIGCHLD, SIG_IGN);
    CU_ASSERT_EQUAL(run("echo fine"), DCACHE_OK);
    CU_ASSERT_STRING_EQUAL(text, "fine");
    signal(SIGCHLD, SIG_DFL);
}

int main(void)
{
    static const struct unit_case cases[] = {
        {"what is printed", check_good}, {"failures", check_failures}, {"nothing, and too much", check_outputs},
        {"one that hangs", check_hangs}, {"cancelled", check_cancel},  {"signals", check_signals}};
    return unit_main("command", cases, UNIT_COUNT(cases));
}
