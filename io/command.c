#include "io/command.h"

#include "io/threads.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define POLL_MS     100
#define STDERR_KEPT 256u
#define WORD_SHOWN  24u /* a longer word in an error message may be a secret */

struct running {
    const struct command *command;
    pid_t process;
    int out; /* ends of pipes that we read; -1 when it has closed its own */
    int err;
    double deadline;
    char *text;
    size_t room, length;
    bool too_long;
    char said[STDERR_KEPT + 1]; /* the end of its standard error */
    size_t said_length;
};

/* ---- Starting it ---- */

/* Its signals are as in a new process: our threads block all of them. */
static int prepare(posix_spawnattr_t *attributes)
{
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    int code =
        posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    if (code == 0)
        code = posix_spawnattr_setpgroup(attributes, 0);
    if (code == 0)
        code = posix_spawnattr_setsigmask(attributes, &none);
    return code == 0 ? posix_spawnattr_setsigdefault(attributes, &all) : code;
}

static int spawn(const char *line, int out, int err, pid_t *process)
{
    char shell[] = "sh", flag[] = "-c";
    char *copy = strdup(line);
    char *arguments[] = {shell, flag, copy, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    if (copy == NULL)
        return ENOMEM;
    int code = posix_spawn_file_actions_init(&actions);
    if (code == 0)
        code = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (code == 0)
        code = posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
    if (code == 0)
        code = posix_spawn_file_actions_adddup2(&actions, err, STDERR_FILENO);
    if (code == 0)
        code = posix_spawnattr_init(&attributes);
    if (code == 0) {
        code = prepare(&attributes);
        if (code == 0)
            code = posix_spawn(process, "/bin/sh", &actions, &attributes, arguments, environ);
        (void)posix_spawnattr_destroy(&attributes);
    }
    (void)posix_spawn_file_actions_destroy(&actions);
    free(copy);
    return code;
}

static void close_end(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
}

static dcache_status_t start(struct diag *dg, struct running *run)
{
    int out[2] = {-1, -1}, err[2] = {-1, -1};
    int code = pipe2(out, O_CLOEXEC) == 0 && pipe2(err, O_CLOEXEC) == 0 ? 0 : errno;
    if (code == 0)
        code = spawn(run->command->line, out[1], err[1], &run->process);
    close_end(&out[1]);
    close_end(&err[1]);
    if (code != 0) {
        close_end(&out[0]);
        close_end(&err[0]);
        return diag_fail(dg, DCACHE_ERR_OPTION, "cannot start %s: %s", run->command->name, strerror(code));
    }
    run->out = out[0];
    run->err = err[0];
    return DCACHE_OK;
}

/* ---- Listening to it ---- */

static void read_output(struct running *run)
{
    ssize_t got = read(run->out, run->text + run->length, run->room - run->length);
    if (got > 0)
        run->length += (size_t)got;
    else if (got == 0 || errno != EINTR)
        close_end(&run->out);
    run->too_long = run->length == run->room;
}

static void read_error(struct running *run)
{
    char more[STDERR_KEPT];
    ssize_t got = read(run->err, more, sizeof more);
    if (got > 0) {
        size_t new = (size_t)got, kept = run->said_length;
        if (kept + new > STDERR_KEPT) {
            size_t drop = kept + new - STDERR_KEPT;
            memmove(run->said, run->said + drop, kept - drop);
            kept -= drop;
        }
        memcpy(run->said + kept, more, new);
        run->said_length = kept + new;
    } else if (got == 0 || errno != EINTR) {
        close_end(&run->err);
    }
    OPENSSL_cleanse(more, sizeof more);
}

static bool is_set(const atomic_bool *flag)
{
    return flag != NULL && atomic_load(flag);
}

static bool is_cancelled(const struct running *run)
{
    return is_set(run->command->cancel) || is_set(run->command->stop);
}

/* Until it has closed its output, or prints too much, or its time is over. What it started may keep its standard error
 * open for as long as it likes. */
static void listen_to(struct running *run)
{
    while (run->out >= 0 && !run->too_long && !is_cancelled(run) && threads_now() < run->deadline) {
        struct pollfd ready[2] = {{.fd = run->out, .events = POLLIN}, {.fd = run->err, .events = POLLIN}};
        if (poll(ready, 2, POLL_MS) <= 0)
            continue;
        if (ready[0].revents != 0)
            read_output(run);
        if (run->err >= 0 && ready[1].revents != 0)
            read_error(run);
    }
}

/* What it has said on its standard error by now. */
static void listen_to_the_rest(struct running *run)
{
    for (int i = 0; run->err >= 0 && i < 64; i++) {
        struct pollfd ready = {.fd = run->err, .events = POLLIN};
        if (poll(&ready, 1, 0) <= 0)
            return;
        read_error(run);
    }
}

/* Its exit status, or -1. One that goes on when it has said all, or hangs, is killed with all that it started. Whose
 * program has its children reaped by another, or by nobody, never hears of it: then what it printed decides. */
static int end(const struct running *run, bool at_once)
{
    const struct timespec nap = {.tv_nsec = 5000000};
    int outcome = 0;
    bool killed = at_once;
    if (killed)
        (void)kill(-run->process, SIGKILL);
    for (;;) {
        pid_t ended = waitpid(run->process, &outcome, killed ? 0 : WNOHANG);
        if (ended == run->process)
            return WIFEXITED(outcome) ? WEXITSTATUS(outcome) : -1;
        if (ended < 0 && errno != EINTR)
            return errno == ECHILD && !killed ? 0 : -1;
        if (!killed && (threads_now() >= run->deadline || is_cancelled(run))) {
            (void)kill(-run->process, SIGKILL);
            killed = true;
        }
        if (!killed)
            (void)nanosleep(&nap, NULL);
    }
}

/* ---- What came of it ---- */

/* The last line, of printable characters, with words that are so long that they may be secrets left out. */
static void tell_error(const struct running *run, char line[STDERR_KEPT + 8])
{
    const char *text = run->said, *end = text + run->said_length;
    size_t length = 0;
    while (end > text && isspace((unsigned char)end[-1]))
        end--;
    const char *start = end;
    while (start > text && start[-1] != '\n')
        start--;
    for (const char *at = start; at < end;) {
        size_t word = 0;
        while (at + word < end && at[word] > ' ' && at[word] <= '~')
            word++;
        int printed = word > WORD_SHOWN ? snprintf(line + length, STDERR_KEPT - length, "[...]")
                                        : snprintf(line + length, STDERR_KEPT - length, "%.*s", (int)word, at);
        length += (size_t)printed;
        at += word;
        if (at < end && length + 8 < STDERR_KEPT)
            line[length++] = ' ';
        at += at < end;
        if (length + WORD_SHOWN + 8 > STDERR_KEPT)
            break;
    }
    line[length] = '\0';
}

static dcache_status_t judge(struct diag *dg, const struct running *run, int status)
{
    const char *name = run->command->name;
    char said[STDERR_KEPT + 8];
    tell_error(run, said);
    const char *before = said[0] != '\0' ? "; it said: " : "";
    if (is_cancelled(run))
        return diag_fail(dg, DCACHE_ERR_CANCELLED, "cancelled");
    if (run->too_long)
        return diag_fail(dg, DCACHE_ERR_OPTION, "%s prints %zu bytes or more: it is to print what is wanted only", name,
                         run->room);
    if (run->out >= 0 || status < 0)
        return diag_fail(dg, DCACHE_ERR_OPTION, "%s did not end within %.0f s, or was killed%s%s", name,
                         run->command->seconds, before, said);
    if (status != 0)
        return diag_fail(dg, DCACHE_ERR_OPTION, "%s failed (exit status %d)%s%s", name, status, before, said);
    if (run->length == 0)
        return diag_fail(dg, DCACHE_ERR_OPTION, "%s prints nothing%s%s", name, before, said);
    return DCACHE_OK;
}

dcache_status_t command_run(struct diag *dg, const struct command *command, char *text, size_t room, size_t *length)
{
    struct running run = {.command = command, .out = -1, .err = -1, .text = text, .room = room};
    run.deadline = threads_now() + command->seconds;
    dcache_status_t status = start(dg, &run);
    if (status != DCACHE_OK)
        return status;
    listen_to(&run);
    int code = end(&run, run.out >= 0);
    listen_to_the_rest(&run);
    while (run.length > 0 && !run.too_long && isspace((unsigned char)text[run.length - 1]))
        run.length--;
    status = judge(dg, &run, code);
    close_end(&run.out);
    close_end(&run.err);
    OPENSSL_cleanse(run.said, sizeof run.said);
    if (status != DCACHE_OK) {
        OPENSSL_cleanse(text, room);
        return status;
    }
    text[run.length] = '\0';
    *length = run.length;
    return DCACHE_OK;
}
