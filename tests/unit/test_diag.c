/* io/diag.c and runtime/status.c. Built with and without DCACHE_FAILPOINTS, as the library is. */
#include "io/diag.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/wait.h>

static void test_strerror(void)
{
    CU_ASSERT_STRING_EQUAL(dcache_strerror(DCACHE_OK), "success");
    CU_ASSERT_STRING_EQUAL(dcache_strerror(DCACHE_NOT_FOUND), "no such checkpoint");
    CU_ASSERT_STRING_EQUAL(dcache_strerror(DCACHE_ERR_INTERNAL), "internal error: please report it");
    CU_ASSERT_STRING_EQUAL(dcache_strerror((dcache_status_t)-19), "unknown status");
    CU_ASSERT_STRING_EQUAL(dcache_strerror((dcache_status_t)3), "unknown status");
}

static void test_strerror_texts_differ(void)
{
    for (int a = -18; a <= 2; a++) {
        const char *text = dcache_strerror((dcache_status_t)a);
        CU_ASSERT_STRING_NOT_EQUAL(text, "unknown status");
        for (int b = a + 1; b <= 2; b++)
            CU_ASSERT_STRING_NOT_EQUAL(text, dcache_strerror((dcache_status_t)b));
    }
}

static void test_init(void)
{
    struct diag dg;
    memset(&dg, 0xff, sizeof dg);
    diag_init(&dg, "heat", 7, DIAG_INFO);
    CU_ASSERT_STRING_EQUAL(dg.job, "heat");
    CU_ASSERT_STRING_EQUAL(dg.text, "");
    CU_ASSERT_EQUAL(dg.rank, 7);
    CU_ASSERT_EQUAL(dg.threshold, DIAG_INFO);
    for (size_t i = 0; i < UNIT_COUNT(dg.failpoint_hits); i++)
        CU_ASSERT_EQUAL(dg.failpoint_hits[i], 0);

    char long_job[200];
    memset(long_job, 'j', sizeof long_job - 1);
    long_job[sizeof long_job - 1] = '\0';
    diag_init(&dg, long_job, 0, DIAG_INFO);
    CU_ASSERT_EQUAL(strlen(dg.job), 63);
    diag_init(&dg, NULL, -1, DIAG_INFO);
    CU_ASSERT_STRING_EQUAL(dg.job, "");
}

static void test_fail(void)
{
    struct diag dg;
    diag_init(&dg, "", -1, DIAG_ERROR);
    CU_ASSERT_EQUAL(diag_fail(&dg, DCACHE_ERR_FORMAT, "version %d of %s", 9, "x.h5"), DCACHE_ERR_FORMAT);
    CU_ASSERT_STRING_EQUAL(dg.text, "version 9 of x.h5");

    /* A caller may put something before what is there already. */
    CU_ASSERT_EQUAL(diag_fail(&dg, DCACHE_ERR_IO, "shard 3: %s", dg.text), DCACHE_ERR_IO);
    CU_ASSERT_STRING_EQUAL(dg.text, "shard 3: version 9 of x.h5");
}

static void fill(char *text, size_t size)
{
    memset(text, 'x', size - 1);
    text[size - 1] = '\0';
}

static void test_fail_long_text(void)
{
    struct diag dg;
    char text[3 * DIAG_TEXT_MAX];
    fill(text, sizeof text);
    diag_init(&dg, "", -1, DIAG_ERROR);
    CU_ASSERT_EQUAL(diag_fail(&dg, DCACHE_ERR_IO, "%s", text), DCACHE_ERR_IO);
    CU_ASSERT_EQUAL(strlen(dg.text), DIAG_TEXT_MAX - 1);
    CU_ASSERT_STRING_EQUAL(dg.text + DIAG_TEXT_MAX - 5, "x...");

    fill(text, DIAG_TEXT_MAX); /* just fits: nothing is cut */
    CU_ASSERT_EQUAL(diag_fail(&dg, DCACHE_ERR_IO, "%s", text), DCACHE_ERR_IO);
    CU_ASSERT_STRING_EQUAL(dg.text, text);
}

static void test_fail_errno(void)
{
    const struct {
        int error_number;
        dcache_status_t status;
    } cases[] = {
        {ENOSPC, DCACHE_ERR_NO_SPACE},  {EDQUOT, DCACHE_ERR_NO_SPACE},  {EACCES, DCACHE_ERR_PERMISSION},
        {EPERM, DCACHE_ERR_PERMISSION}, {EROFS, DCACHE_ERR_PERMISSION}, {ENOMEM, DCACHE_ERR_NO_MEMORY},
        {EEXIST, DCACHE_ERR_EXISTS},    {EIO, DCACHE_ERR_IO},           {ENOENT, DCACHE_ERR_IO},
    };
    for (size_t i = 0; i < UNIT_COUNT(cases); i++) {
        struct diag dg;
        char want[256];
        diag_init(&dg, "", -1, DIAG_ERROR);
        CU_ASSERT_EQUAL(diag_fail_errno(&dg, cases[i].error_number, "cannot open %s", "a/b"), cases[i].status);
        snprintf(want, sizeof want, "cannot open a/b: %s", strerror(cases[i].error_number));
        CU_ASSERT_STRING_EQUAL(dg.text, want);
    }
}

static void test_fail_errno_long_text(void)
{
    struct diag dg;
    char text[2 * DIAG_TEXT_MAX];
    fill(text, sizeof text);
    diag_init(&dg, "", -1, DIAG_ERROR);
    CU_ASSERT_EQUAL(diag_fail_errno(&dg, ENOSPC, "%s", text), DCACHE_ERR_NO_SPACE);
    CU_ASSERT_EQUAL(strlen(dg.text), DIAG_TEXT_MAX - 1);
    CU_ASSERT_PTR_NOT_NULL(strstr(dg.text, "x...: No space left on device"));
}

/* Standard error as a pipe that keeps the borders between writes: one read(2) gets the bytes of one write(2). */
struct capture {
    int saved;
    int reader;
};

static struct capture capture_begin(void)
{
    int ends[2];
    struct capture capture = {.saved = dup(STDERR_FILENO)};
    CU_ASSERT_EQUAL_FATAL(pipe2(ends, O_DIRECT | O_NONBLOCK), 0);
    CU_ASSERT_FATAL(dup2(ends[1], STDERR_FILENO) >= 0);
    close(ends[1]);
    capture.reader = ends[0];
    return capture;
}

/* The next write(2) as a string; "" when there was none. */
static void capture_next(const struct capture *capture, char *text, size_t size)
{
    ssize_t n = read(capture->reader, text, size - 1);
    text[n > 0 ? n : 0] = '\0';
}

static void capture_end(struct capture *capture)
{
    dup2(capture->saved, STDERR_FILENO);
    close(capture->saved);
    close(capture->reader);
}

static void test_log_prefix(void)
{
    char with_rank[512];
    char with_job[512];
    char bare[512];
    struct diag dg;
    struct capture capture = capture_begin();
    diag_init(&dg, "heat", 12, DIAG_DEBUG);
    diag_log(&dg, DIAG_WARNING, "step %d is late", 3);
    capture_next(&capture, with_rank, sizeof with_rank);
    diag_init(&dg, "heat", -1, DIAG_DEBUG);
    diag_log(&dg, DIAG_ERROR, "100%%");
    capture_next(&capture, with_job, sizeof with_job);
    diag_init(&dg, "", -1, DIAG_DEBUG);
    diag_log(&dg, DIAG_DEBUG, "a\nb\033[1mc");
    capture_next(&capture, bare, sizeof bare);
    capture_end(&capture);
    CU_ASSERT_STRING_EQUAL(with_rank, "dcache: [heat:12] warning: step 3 is late\n");
    CU_ASSERT_STRING_EQUAL(with_job, "dcache: [heat] error: 100%\n");
    CU_ASSERT_STRING_EQUAL(bare, "dcache: debug: a b [1mc\n"); /* one line, whatever is in it */
}

static void test_log_threshold(void)
{
    for (int threshold = DIAG_ERROR; threshold <= DIAG_DEBUG; threshold++) {
        struct diag dg;
        diag_init(&dg, "j", 0, (enum diag_level)threshold);
        for (int level = DIAG_ERROR; level <= DIAG_DEBUG; level++) {
            char line[128];
            struct capture capture = capture_begin();
            diag_log(&dg, (enum diag_level)level, "x");
            capture_next(&capture, line, sizeof line);
            capture_end(&capture);
            CU_ASSERT_EQUAL(line[0] != '\0', level <= threshold);
        }
    }
}

static void test_log_long_line(void)
{
    char text[4 * DIAG_TEXT_MAX];
    char line[8 * DIAG_TEXT_MAX];
    char rest[128];
    struct diag dg;
    fill(text, sizeof text);
    diag_init(&dg, "j", 0, DIAG_ERROR);
    struct capture capture = capture_begin();
    errno = EINTR;
    diag_log(&dg, DIAG_ERROR, "%s", text);
    int errno_after = errno;
    capture_next(&capture, line, sizeof line);
    capture_next(&capture, rest, sizeof rest);
    capture_end(&capture);
    CU_ASSERT_EQUAL(errno_after, EINTR);
    CU_ASSERT_STRING_EQUAL(rest, "");
    CU_ASSERT(strlen(line) > DIAG_TEXT_MAX);
    CU_ASSERT_STRING_EQUAL(line + strlen(line) - 5, "x...\n");
}

static void test_log_without_stderr(void)
{
    struct diag dg;
    diag_init(&dg, "j", 0, DIAG_ERROR);
    int saved = dup(STDERR_FILENO);
    close(STDERR_FILENO);
    errno = ENOENT;
    diag_log(&dg, DIAG_ERROR, "nobody reads this");
    int errno_after = errno;
    dup2(saved, STDERR_FILENO);
    close(saved);
    CU_ASSERT_EQUAL(errno_after, ENOENT); /* and not write(2)'s EBADF */
    CU_ASSERT_STRING_EQUAL(dg.text, "");
}

#ifdef DCACHE_FAILPOINTS

static dcache_status_t hit(struct diag *dg, const char *points, const char *name)
{
    setenv("DCACHE_FAILPOINTS", points, 1);
    dcache_status_t status = diag_failpoint(dg, name);
    unsetenv("DCACHE_FAILPOINTS");
    return status;
}

static dcache_status_t hit_once(int rank, const char *points, const char *name)
{
    struct diag dg;
    diag_init(&dg, "j", rank, DIAG_ERROR);
    return hit(&dg, points, name);
}

static void test_failpoint_actions(void)
{
    struct diag dg;
    diag_init(&dg, "j", 0, DIAG_ERROR);
    CU_ASSERT_EQUAL(diag_failpoint(&dg, "slot.open"), DCACHE_OK);
    CU_ASSERT_EQUAL(hit(&dg, "", "slot.open"), DCACHE_OK);
    CU_ASSERT_EQUAL(hit(&dg, "slot.open=error", "slot.ope"), DCACHE_OK);
    CU_ASSERT_EQUAL(hit(&dg, "slot.open=error", "slot.open2"), DCACHE_OK);
    CU_ASSERT_STRING_EQUAL(dg.text, "");
    CU_ASSERT_EQUAL(hit(&dg, "slot.open=error", "slot.open"), DCACHE_ERR_IO);
    CU_ASSERT_PTR_NOT_NULL(strstr(dg.text, "failpoint slot.open "));
    CU_ASSERT_EQUAL(hit_once(0, "store.open=error,slot.open=enospc", "slot.open"), DCACHE_ERR_NO_SPACE);
    CU_ASSERT_EQUAL(hit_once(0, "slot.open=delay:1", "slot.open"), DCACHE_OK);
    CU_ASSERT_EQUAL(hit_once(0, "slot.open=delay:1,slot.open=error", "slot.open"), DCACHE_ERR_IO);
}

static void test_failpoint_rank_and_hit(void)
{
    CU_ASSERT_EQUAL(hit_once(2, "slot.open=error@2", "slot.open"), DCACHE_ERR_IO);
    CU_ASSERT_EQUAL(hit_once(1, "slot.open=error@2", "slot.open"), DCACHE_OK);
    CU_ASSERT_EQUAL(hit_once(-1, "slot.open=error@0", "slot.open"), DCACHE_OK);

    struct diag dg;
    diag_init(&dg, "j", 1, DIAG_ERROR);
    const char *points = "slot.open=error#2,slot.sync=enospc@1#3";
    CU_ASSERT_EQUAL(hit(&dg, points, "slot.open"), DCACHE_OK);
    CU_ASSERT_EQUAL(hit(&dg, points, "slot.sync"), DCACHE_OK);
    CU_ASSERT_EQUAL(hit(&dg, points, "slot.open"), DCACHE_ERR_IO);
    CU_ASSERT_EQUAL(hit(&dg, points, "slot.open"), DCACHE_OK);
    CU_ASSERT_EQUAL(hit(&dg, points, "slot.sync"), DCACHE_OK);
    CU_ASSERT_EQUAL(hit(&dg, points, "slot.sync"), DCACHE_ERR_NO_SPACE);
    CU_ASSERT_EQUAL(hit(&dg, points, "slot.sync"), DCACHE_OK);
}

static void test_failpoint_data(void)
{
    struct diag dg;
    unsigned char bytes[8] = {0}, same[8] = {0};
    size_t count = sizeof bytes;
    diag_init(&dg, "j", 0, DIAG_ERROR);
    setenv("DCACHE_FAILPOINTS", "http.body=corrupt#1,http.body=short#2", 1);
    CU_ASSERT_EQUAL(diag_failpoint_data(&dg, "http.body", bytes, &count), DCACHE_OK);
    CU_ASSERT_EQUAL(count, sizeof bytes);
    CU_ASSERT_NOT_EQUAL(memcmp(bytes, same, sizeof bytes), 0);
    memcpy(bytes, same, sizeof bytes);
    CU_ASSERT_EQUAL(diag_failpoint_data(&dg, "http.body", bytes, &count), DCACHE_OK);
    CU_ASSERT_EQUAL(count, sizeof bytes / 2);
    CU_ASSERT_EQUAL(memcmp(bytes, same, sizeof bytes), 0);
    CU_ASSERT_EQUAL(diag_failpoint_data(&dg, "http.body", bytes, &count), DCACHE_OK);
    CU_ASSERT_EQUAL(count, sizeof bytes / 2);
    unsetenv("DCACHE_FAILPOINTS");
}

/* What was done is on record. */
static void test_failpoint_log(void)
{
    char line[64] = "";
    remove("failpoints.log");
    setenv("DCACHE_FAILPOINTS_LOG", "failpoints.log", 1);
    CU_ASSERT_EQUAL(hit_once(3, "slot.open=enospc@3,slot.sync=error", "slot.open"), DCACHE_ERR_NO_SPACE);
    unsetenv("DCACHE_FAILPOINTS_LOG");
    FILE *file = fopen("failpoints.log", "r");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    CU_ASSERT_PTR_NOT_NULL(fgets(line, sizeof line, file));
    CU_ASSERT_STRING_EQUAL(line, "slot.open enospc 3\n");
    CU_ASSERT_PTR_NULL(fgets(line, sizeof line, file));
    fclose(file);
}

static void test_failpoint_kill(void)
{
    fflush(NULL);
    pid_t child = fork();
    CU_ASSERT_FATAL(child >= 0);
    if (child == 0)
        _exit((int)hit_once(0, "slot.open=kill", "slot.open") + 1);
    int status = 0;
    CU_ASSERT_EQUAL(waitpid(child, &status, 0), child);
    CU_ASSERT(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void test_failpoint_bad_entries(void)
{
    static const char *const bad[] = {"slot.open",
                                      "slot.open=",
                                      "=error",
                                      "slot.open=explode",
                                      "slot.open=error@",
                                      "slot.open=error@x",
                                      "slot.open=error#0",
                                      "slot.open=error#",
                                      "slot.open=delay",
                                      "slot.open=delay:",
                                      "slot.open=errors",
                                      "slot.opne=error",   /* no such place */
                                      "slot.open=corrupt", /* no bytes go by there */
                                      "slot.open=error#1@2",
                                      "slot.open=error@99999999999999999999"};
    for (size_t i = 0; i < UNIT_COUNT(bad); i++) {
        struct diag dg;
        diag_init(&dg, "j", 0, DIAG_ERROR);
        CU_ASSERT_EQUAL(hit(&dg, bad[i], "slot.open"), DCACHE_ERR_OPTION);
        CU_ASSERT_PTR_NOT_NULL(strstr(dg.text, bad[i]));
        CU_ASSERT_PTR_NOT_NULL(strstr(dg.text, "DCACHE_FAILPOINTS"));
    }
}

static void test_failpoint_many(void)
{
    char points[600] = "";
    for (int i = 0; i < 16; i++)
        snprintf(points + strlen(points), sizeof points - strlen(points), "%sslot.open=error@%d", i > 0 ? "," : "", i);
    CU_ASSERT_EQUAL(hit_once(15, points, "slot.open"), DCACHE_ERR_IO);
    CU_ASSERT_EQUAL(hit_once(16, points, "slot.open"), DCACHE_OK);
    strcat(points, ",slot.open=error@16");
    CU_ASSERT_EQUAL(hit_once(16, points, "slot.open"), DCACHE_ERR_OPTION);
}

#else

static void test_failpoint_absent(void)
{
    struct diag dg;
    diag_init(&dg, "j", 0, DIAG_ERROR);
    setenv("DCACHE_FAILPOINTS", "slot.open=error", 1);
    CU_ASSERT_EQUAL(diag_failpoint(&dg, "slot.open"), DCACHE_OK);
    unsetenv("DCACHE_FAILPOINTS");
}

#endif

int main(void)
{
    static const struct unit_case cases[] = {
        {"strerror", test_strerror},
        {"strerror: every status has a text of its own", test_strerror_texts_differ},
        {"init", test_init},
        {"fail", test_fail},
        {"fail: long text", test_fail_long_text},
        {"fail_errno", test_fail_errno},
        {"fail_errno: long text keeps the reason", test_fail_errno_long_text},
        {"log: what stands before the text", test_log_prefix},
        {"log: threshold", test_log_threshold},
        {"log: a long line is one write", test_log_long_line},
        {"log: standard error is closed", test_log_without_stderr},
#ifdef DCACHE_FAILPOINTS
        {"failpoint: actions", test_failpoint_actions},
        {"failpoint: rank and hit", test_failpoint_rank_and_hit},
        {"failpoint: bytes that go by", test_failpoint_data},
        {"failpoint: what was done is on record", test_failpoint_log},
        {"failpoint: kill", test_failpoint_kill},
        {"failpoint: bad entries", test_failpoint_bad_entries},
        {"failpoint: sixteen and no more", test_failpoint_many},
#else
        {"failpoint: nothing in a normal build", test_failpoint_absent},
#endif
    };
    return unit_main("diag", cases, UNIT_COUNT(cases));
}
