/**
 * program_script: does what a script says, on every rank, and writes down what came of it: for the tests of this folder
 * that judge from outside whether a step was lost, or bytes are wrong.
 *
 *   program_script SCRIPT LOG
 *
 * Each rank appends to LOG.RANK, one write for a line, so that a killed rank has said what it had done. Commands, one a
 * line:
 *
 *   open | close                     the handle, and its regions
 *   take STEP TAG | begin STEP TAG   dcache_checkpoint(), dcache_checkpoint_begin() of values made from rank, STEP, TAG
 *   wait STEP LEVEL | test STEP      LEVEL as a number; STEP `last`: what was saved or restored last
 *   restart [STEP]                   the values that come back are compared with what rank, STEP and TAG of them say
 *   words N                          size of the region from now on, before open
 *   env NAME [VALUE]                 before open, but DCACHE_FAILPOINTS at any time; takes words, not blanks
 *   sleep MS [RANK] | kill RANK      on all ranks or one
 *   sh COMMAND...                    rank 0 runs it, all wait
 *   say TEXT                         into the log
 *   repeat SECONDS                   from here to the end again and again for so long; {} is the number of the round
 *   measure                          a line "process" now
 *   limit files|memory N RANK        so many descriptors, KiB of addresses more than now; N < 0: no limit any more
 *   stop MS RANK                     SIGSTOP to it, all its threads, for so long
 *
 * Lines of the log: "> COMMAND" before it is begun, "< STATUS COMMAND" after it; after a restart
 * "restored STEP TAG good|BAD", after a test "level N"; "process FDS THREADS KIB" after each close.
 */
#include <dcache.h>

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { LINES = 4096, LINE = 512 };

struct program {
    char *lines[LINES];
    int line_count, rank, log;
    uint64_t *words;
    uint64_t word_count, room;
    uint64_t last; /* the step that was saved or restored last */
    dcache_t *dc;
};

/* Changed in place: other threads of the library may be reading the environment. */
static char failpoints[LINE + 32] = "DCACHE_FAILPOINTS=";

static void note(const struct program *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void note(const struct program *p, const char *format, ...)
{
    char text[LINE + 1200];
    va_list arguments;

    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text - 1, format, arguments);
    va_end(arguments);
    length = length < (int)sizeof text - 2 ? length : (int)sizeof text - 2;
    text[length++] = '\n';
    if (write(p->log, text, (size_t)length) != length)
        MPI_Abort(MPI_COMM_WORLD, 3);
}

static uint64_t word_at(int rank, uint64_t step, uint64_t tag, uint64_t i)
{
    uint64_t x = (uint64_t)rank * 0x9e3779b97f4a7c15u ^ step * 0xc2b2ae3d27d4eb4fu ^ tag * 0x165667b19e3779f9u;

    return (x + i) * 0xff51afd7ed558ccdu;
}

static void fill(struct program *p, uint64_t step, uint64_t tag)
{
    p->words[0] = step;
    p->words[1] = tag;
    for (uint64_t i = 2; i < p->word_count; i++)
        p->words[i] = word_at(p->rank, step, tag, i);
}

static int is_good(const struct program *p)
{
    for (uint64_t i = 2; i < p->word_count; i++) {
        if (p->words[i] != word_at(p->rank, p->words[0], p->words[1], i))
            return 0;
    }
    return 1;
}

static int count_entries(const char *path)
{
    int count = 0;
    DIR *directory = opendir(path);

    while (directory != NULL && readdir(directory) != NULL)
        count++;
    if (directory != NULL)
        closedir(directory);
    return count;
}

/* KiB of addresses, and of them resident ones. */
static void memory_kib(long *all, long *resident)
{
    FILE *file = fopen("/proc/self/statm", "r");

    *all = *resident = 0;
    if (file != NULL && fscanf(file, "%ld %ld", all, resident) == 2) {
        *all *= sysconf(_SC_PAGESIZE) / 1024;
        *resident *= sysconf(_SC_PAGESIZE) / 1024;
    }
    if (file != NULL)
        fclose(file);
}

static dcache_status_t measure(const struct program *p)
{
    long all, resident;

    memory_kib(&all, &resident);
    note(p, "process %d %d %ld", count_entries("/proc/self/fd"), count_entries("/proc/self/task"), resident);
    return DCACHE_OK;
}

static dcache_status_t open_handle(struct program *p)
{
    dcache_status_t status = dcache_open(MPI_COMM_WORLD, NULL, &p->dc);

    memset(p->words, 0, p->word_count * sizeof *p->words);
    return status == DCACHE_OK ? dcache_protect(p->dc, "words", p->words, p->word_count, DCACHE_UINT64) : status;
}

static dcache_status_t close_handle(struct program *p)
{
    dcache_status_t status = dcache_close(&p->dc);

    return measure(p) == DCACHE_OK ? status : DCACHE_ERR_INTERNAL;
}

static dcache_status_t restart(struct program *p, const char *rest)
{
    uint64_t step = *rest != '\0' ? strtoull(rest, NULL, 10) : DCACHE_LATEST;

    memset(p->words, 0, p->word_count * sizeof *p->words);
    dcache_status_t status = dcache_restart(p->dc, &step);
    if (status == DCACHE_OK)
        p->last = step;
    if (status == DCACHE_OK)
        note(p, "restored %" PRIu64 " %" PRIu64 " %s", step, p->words[1],
             p->words[0] == step && is_good(p) ? "good" : "BAD");
    else if (p->words[1] != 0)
        note(p, "restored although %d", (int)status);
    return status;
}

static void set_variable(const char *rest)
{
    char name[LINE];
    size_t length = strcspn(rest, " ");
    const char *value = rest[length] != '\0' ? rest + length + 1 : "";

    snprintf(name, sizeof name, "%.*s", (int)length, rest);
    if (strcmp(name, "DCACHE_FAILPOINTS") == 0)
        snprintf(strchr(failpoints, '=') + 1, LINE, "%s", value);
    else if (*value != '\0')
        setenv(name, value, 1);
    else
        unsetenv(name);
}

static void wait_a_while(const struct program *p, const char *rest)
{
    char *end = NULL;
    unsigned long ms = strtoul(rest, &end, 10);

    if (*end == '\0' || atoi(end) == p->rank)
        usleep((useconds_t)ms * 1000);
}

static void set_limit(const struct program *p, const char *rest)
{
    char what[16];
    long number = 0, all, resident;
    int rank = -1;

    if (sscanf(rest, "%15s %ld %d", what, &number, &rank) != 3 || rank != p->rank)
        return;
    int files = strcmp(what, "files") == 0;
    struct rlimit limit;
    (void)getrlimit(files ? RLIMIT_NOFILE : RLIMIT_AS, &limit);
    memory_kib(&all, &resident);
    long now = files ? count_entries("/proc/self/fd") - 3 : all; /* without ".", "..", and what was opened to look */
    rlim_t wanted = (rlim_t)(now + number) * (files ? 1 : 1024);
    limit.rlim_cur = number < 0 ? limit.rlim_max : wanted;
    if (setrlimit(files ? RLIMIT_NOFILE : RLIMIT_AS, &limit) != 0)
        note(p, "failed %s", rest);
}

/* Somebody else has to wake us. */
static void stop_for_a_while(const struct program *p, const char *rest)
{
    char command[128];
    long ms = 0;
    int rank = -1;

    if (sscanf(rest, "%ld %d", &ms, &rank) != 2 || rank != p->rank)
        return;
    snprintf(command, sizeof command, "(sleep %ld.%03ld; kill -CONT %d) >/dev/null 2>&1 &", ms / 1000, ms % 1000,
             (int)getpid());
    if (system(command) == 0)
        (void)kill(getpid(), SIGSTOP);
}

static dcache_status_t by_handle(struct program *p, const char *verb, const char *rest)
{
    int last = strncmp(rest, "last", 4) == 0;
    char *end = NULL;
    uint64_t step = strtoull(last ? rest + 4 : rest, &end, 10);
    uint64_t number = last ? step : strtoull(end, NULL, 10);
    dcache_level_t level = DCACHE_LEVEL_NONE;
    dcache_status_t status = DCACHE_ERR_INTERNAL;

    if (strcmp(verb, "restart") == 0)
        return restart(p, rest);
    step = last ? p->last : step;
    if (strcmp(verb, "take") == 0 || strcmp(verb, "begin") == 0) {
        fill(p, step, number);
        p->last = step;
        return *verb == 't' ? dcache_checkpoint(p->dc, step) : dcache_checkpoint_begin(p->dc, step);
    }
    if (strcmp(verb, "wait") == 0)
        return dcache_wait(p->dc, step, (dcache_level_t)number);
    if (strcmp(verb, "test") == 0) {
        status = dcache_test(p->dc, step, &level);
        if (status == DCACHE_OK)
            note(p, "level %d", (int)level);
    }
    return status;
}

static dcache_status_t resize(struct program *p, uint64_t count)
{
    p->word_count = count >= 2 && count <= p->room ? count : p->room;
    return DCACHE_OK;
}

/* What happens around the library. False: it is none of that. */
static int by_hand(const struct program *p, const char *verb, const char *rest)
{
    if (strcmp(verb, "say") == 0)
        return 1;
    if (strcmp(verb, "kill") == 0) {
        if (atoi(rest) == p->rank)
            (void)kill(getpid(), SIGKILL);
    } else if (strcmp(verb, "env") == 0) {
        set_variable(rest);
    } else if (strcmp(verb, "sleep") == 0) {
        wait_a_while(p, rest);
    } else if (strcmp(verb, "limit") == 0) {
        set_limit(p, rest);
    } else if (strcmp(verb, "stop") == 0) {
        stop_for_a_while(p, rest);
    } else if (strcmp(verb, "sh") == 0) {
        if (p->rank == 0 && system(rest) != 0)
            note(p, "failed %s", rest);
        MPI_Barrier(MPI_COMM_WORLD);
    } else {
        return 0;
    }
    return 1;
}

static dcache_status_t do_command(struct program *p, const char *verb, const char *rest)
{
    if (strcmp(verb, "open") == 0)
        return open_handle(p);
    if (strcmp(verb, "close") == 0)
        return close_handle(p);
    if (strcmp(verb, "measure") == 0)
        return measure(p);
    if (strcmp(verb, "words") == 0)
        return resize(p, strtoull(rest, NULL, 10));
    if (by_hand(p, verb, rest))
        return DCACHE_OK;
    return p->dc != NULL ? by_handle(p, verb, rest) : DCACHE_ERR_STATE;
}

static void do_line(struct program *p, const char *line)
{
    char verb[16];
    size_t length = strcspn(line, " ");
    const char *rest = line[length] != '\0' ? line + length + 1 : "";

    snprintf(verb, sizeof verb, "%.*s", (int)length, line);
    note(p, "> %s", line);
    dcache_status_t status = do_command(p, verb, rest);
    note(p, "< %d %s", (int)status, line);
    if (status < 0 && p->dc != NULL)
        note(p, "text %s", dcache_error_text(p->dc));
}

static int read_script(struct program *p, const char *path)
{
    char line[LINE];
    FILE *file = fopen(path, "r");

    while (file != NULL && p->line_count < LINES && fgets(line, sizeof line, file) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (line[0] != '\0' && line[0] != '#')
            p->lines[p->line_count++] = strdup(line);
    }
    if (file != NULL)
        fclose(file);
    return file != NULL;
}

static void do_round(struct program *p, int first, long number)
{
    char line[LINE + 32];

    for (int k = first; k < p->line_count; k++) {
        const char *place = strstr(p->lines[k], "{}");
        if (place != NULL)
            snprintf(line, sizeof line, "%.*s%ld%s", (int)(place - p->lines[k]), p->lines[k], number, place + 2);
        do_line(p, place != NULL ? line : p->lines[k]);
    }
}

static void repeat(struct program *p, int first, double seconds)
{
    struct timespec begin, now;
    int go_on = 1;

    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (long number = 1; go_on; number++) {
        do_round(p, first, number);
        clock_gettime(CLOCK_MONOTONIC, &now);
        go_on = (double)(now.tv_sec - begin.tv_sec) + (double)(now.tv_nsec - begin.tv_nsec) * 1e-9 < seconds;
        MPI_Bcast(&go_on, 1, MPI_INT, 0, MPI_COMM_WORLD);
    }
}

static void run(struct program *p)
{
    for (int i = 0; i < p->line_count; i++) {
        if (strncmp(p->lines[i], "repeat ", 7) == 0) {
            repeat(p, i + 1, strtod(p->lines[i] + 7, NULL));
            return;
        }
        do_line(p, p->lines[i]);
    }
}

int main(int argc, char **argv)
{
    static struct program p;
    char path[1024];
    int threads = 0;

    MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &threads);
    MPI_Comm_rank(MPI_COMM_WORLD, &p.rank);
    putenv(failpoints);
    snprintf(path, sizeof path, "%s.%d", argc > 2 ? argv[2] : "", p.rank);
    p.log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    p.room = 1 << 21;
    p.word_count = 150000; /* two chunks, the second not whole */
    p.words = calloc(p.room, sizeof *p.words);
    if (argc != 3 || p.log < 0 || p.words == NULL || !read_script(&p, argv[1])) {
        fprintf(stderr, "usage: program_script SCRIPT LOG\n");
        MPI_Abort(MPI_COMM_WORLD, 2);
    }
    run(&p);
    if (p.dc != NULL && dcache_close(&p.dc) != DCACHE_OK)
        note(&p, "not closed");
    note(&p, "end");
    for (int i = 0; i < p.line_count; i++)
        free(p.lines[i]);
    free(p.words);
    MPI_Finalize();
    return EXIT_SUCCESS;
}
