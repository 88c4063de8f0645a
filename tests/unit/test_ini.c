/* runtime/ini.c: what is read, and that whatever else a file may hold is refused with a clear text. */
#include "runtime/ini.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/stat.h>

/* What was visited, one "line:key=value;" after the other. */
struct record {
    char text[4096];
    dcache_status_t answer;
};

static dcache_status_t visit(void *context, struct diag *dg, const struct ini_entry *entry)
{
    struct record *record = context;
    size_t length = strlen(record->text);
    snprintf(record->text + length, sizeof record->text - length, "%d:%s=%s;", entry->line, entry->key, entry->value);
    return record->answer == DCACHE_OK ? DCACHE_OK : diag_fail(dg, record->answer, "%s: refused", entry->where);
}

static const char *write_file(const void *bytes, size_t length)
{
    static char path[600];
    snprintf(path, sizeof path, "%s/test.ini", unit_scratch());
    FILE *file = fopen(path, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    CU_ASSERT_EQUAL(fwrite(bytes, 1, length, file), length);
    CU_ASSERT_EQUAL(fclose(file), 0);
    return path;
}

static dcache_status_t read_bytes(const void *bytes, size_t length, struct diag *dg, struct record *record)
{
    memset(record, 0, sizeof *record);
    diag_init(dg, "", -1, DIAG_ERROR);
    return ini_read(dg, write_file(bytes, length), "dcache", visit, record);
}

static void test_good_files(void)
{
    static const struct {
        const char *text;
        const char *want;
    } samples[] = {
        {"", ""},
        {"\n\n", ""},
        {"a = 1\n", "1:a=1;"},
        {"a=1", "1:a=1;"},
        {"\t a \t=\t 1 2 \t\n", "1:a=1 2;"},
        {"a = 1\r\n\r\nb = 2\r\n", "1:a=1;3:b=2;"},
        {"\xef\xbb\xbf"
         "a = 1\n",
         "1:a=1;"},
        {"\xef\xbb\xbf", ""},
        {"# c\n ; c\na = 1 # c\nb = 2\t; c\n", "3:a=1;4:b=2;"},
        {"a = x#y;z\n", "1:a=x#y;z;"},
        {"a =\nb = # nothing\n", "1:a=;2:b=;"},
        {"a = \"\"\nb = \" x # ; = \" # c\n", "1:a=;2:b= x # ; = ;"},
        {"a = \"say \\\"x\\\\y\\\"\"", "1:a=say \"x\\y\";"},
        {"a = x \"y\"", "1:a=x \"y\";"},
        {"a = b = c", "1:a=b = c;"},
        {"a = gr\xc3\xbcn\n", "1:a=gr\xc3\xbcn;"},
        {"a = 1\n[dcache]\nb = 2\n [ dcache ] # c\na = 3\n", "1:a=1;3:b=2;5:a=3;"},
    };
    for (size_t i = 0; i < UNIT_COUNT(samples); i++) {
        struct diag dg;
        struct record record;
        CU_ASSERT_EQUAL(read_bytes(samples[i].text, strlen(samples[i].text), &dg, &record), DCACHE_OK);
        CU_ASSERT_STRING_EQUAL(record.text, samples[i].want);
        CU_ASSERT_STRING_EQUAL(dg.text, "");
    }
}

/* The status is DCACHE_ERR_OPTION, and the text names the file, the line and `part`. */
static void check_refused(const char *bytes, size_t length, int line, const char *part)
{
    struct diag dg;
    struct record record;
    char where[32];
    snprintf(where, sizeof where, "/test.ini:%d: ", line);
    CU_ASSERT_EQUAL(read_bytes(bytes, length, &dg, &record), DCACHE_ERR_OPTION);
    if (strstr(dg.text, where) == NULL || strstr(dg.text, part) == NULL) {
        fprintf(stderr, "\"%s\" has no \"%s\" and \"%s\"\n", dg.text, where, part);
        CU_FAIL("the text misses a part");
    }
}

static void test_bad_lines(void)
{
    static const struct {
        const char *text;
        int line;
        const char *part;
    } samples[] = {
        {"a = 1\nslots 3\n", 2, "\"slots 3\" is not of the form key = value"},
        {"= 3\n", 1, "\"= 3\" is not of the form key = value"},
        {"a = \"x\n", 1, "value of a: the closing quote is missing"},
        {"a = \"x\\\"\n", 1, "value of a: the closing quote is missing"},
        {"a = \"x\\n\"\n", 1, "value of a: in quotes, a \\ must stand before"},
        {"a = \"x\\", 1, "value of a: in quotes, a \\ must stand before"},
        {"a = \"x\" y\n", 1, "value of a: \"y\" stands behind the closing quote"},
        {"\n[scr]\n", 2, "unknown section [scr]; the only one is [dcache]"},
        {"[DCACHE]\n", 1, "unknown section [DCACHE]"},
        {"[]\n", 1, "unknown section []"},
        {"[dcache\n", 1, "\"[dcache\" is no section header; the only one is [dcache]"},
        {"[dcache] a = 1\n", 1, "is no section header"},
        {"a = 1\rb = 2\n", 1, "byte 6 of the line is 0x0d"},
        {"a = \033[1m\n", 1, "byte 5 of the line is 0x1b"},
        {"a = 1\n# \x7f\n", 2, "byte 3 of the line is 0x7f"},
    };
    for (size_t i = 0; i < UNIT_COUNT(samples); i++)
        check_refused(samples[i].text, strlen(samples[i].text), samples[i].line, samples[i].part);
    check_refused("a = 1\nb = \0\n", 12, 2, "byte 5 of the line is 0x00");
    check_refused("\xff\xfe"
                  "a\0 \0=\0",
                  8, 1, "is this the right file?"); /* UTF-16 */
}

static void test_stops_at_first_error(void)
{
    struct diag dg;
    struct record record = {.answer = DCACHE_ERR_MISMATCH};
    diag_init(&dg, "", -1, DIAG_ERROR);
    const char *path = write_file("a = 1\nb = 2\n", 12);
    CU_ASSERT_EQUAL(ini_read(&dg, path, "dcache", visit, &record), DCACHE_ERR_MISMATCH);
    CU_ASSERT_STRING_EQUAL(record.text, "1:a=1;");
    CU_ASSERT_PTR_NOT_NULL(strstr(dg.text, "/test.ini:1: refused"));
}

static void test_limits(void)
{
    size_t size = INI_FILE_MAX + 1;
    char *bytes = malloc(size);
    struct diag dg;
    struct record record;
    CU_ASSERT_PTR_NOT_NULL_FATAL(bytes);
    memset(bytes, '\n', size);
    CU_ASSERT_EQUAL(read_bytes(bytes, size - 1, &dg, &record), DCACHE_OK);
    CU_ASSERT_EQUAL(read_bytes(bytes, size, &dg, &record), DCACHE_ERR_OPTION);
    CU_ASSERT_PTR_NOT_NULL(strstr(dg.text, "larger than 1048576 bytes"));

    memset(bytes, '#', INI_LINE_MAX); /* a comment of just the longest length, and a longer one */
    CU_ASSERT_EQUAL(read_bytes(bytes, INI_LINE_MAX + 1, &dg, &record), DCACHE_OK);
    memset(bytes, '#', INI_LINE_MAX + 1);
    check_refused(bytes, INI_LINE_MAX + 1, 1, "the line is longer than 4096 bytes");

    memset(bytes, 'x', 3000);
    check_refused(bytes, 3000, 1, "is not of the form key = value");
    free(bytes);
}

/* Any bytes: read or refused with a text, never a crash. A fixed sequence of pseudo-random numbers. */
static void test_garbage(void)
{
    static const char letters[] = "ab=\"\\[]#; \t\r\n\x01\x80";
    uint32_t state = 12345;
    for (int round = 0; round < 2000; round++) {
        char bytes[64];
        struct diag dg;
        struct record record;
        for (size_t i = 0; i < sizeof bytes; i++) {
            state = state * 1664525 + 1013904223;
            bytes[i] = round % 2 == 0 ? (char)(state >> 24) : letters[(state >> 16) % (sizeof letters - 1)];
        }
        dcache_status_t status = read_bytes(bytes, (size_t)round % sizeof bytes, &dg, &record);
        CU_ASSERT(status == DCACHE_OK || status == DCACHE_ERR_OPTION);
        CU_ASSERT_EQUAL(status == DCACHE_OK, dg.text[0] == '\0');
    }
}

static void test_not_a_file(void)
{
    struct diag dg;
    struct record record = {.answer = DCACHE_OK};
    char path[600];
    diag_init(&dg, "", -1, DIAG_ERROR);
    CU_ASSERT_EQUAL(ini_read(&dg, unit_scratch(), "dcache", visit, &record), DCACHE_ERR_IO);
    CU_ASSERT_PTR_NOT_NULL(strstr(dg.text, "is a directory"));
    CU_ASSERT_PTR_NOT_NULL(strstr(dg.text, unit_scratch()));

    snprintf(path, sizeof path, "%s/missing.ini", unit_scratch());
    CU_ASSERT_EQUAL(ini_read(&dg, path, "dcache", visit, &record), DCACHE_ERR_IO);
    CU_ASSERT_PTR_NOT_NULL(strstr(dg.text, path));
    CU_ASSERT_PTR_NOT_NULL(strstr(dg.text, "No such file or directory"));

    snprintf(path, sizeof path, "%s/fifo", unit_scratch()); /* nobody writes into it: opening it must not wait */
    CU_ASSERT_EQUAL(mkfifo(path, 0600), 0);
    CU_ASSERT_EQUAL(ini_read(&dg, path, "dcache", visit, &record), DCACHE_ERR_IO);
    CU_ASSERT_PTR_NOT_NULL(strstr(dg.text, "is not a regular file"));
}

static void test_unreadable_file(void)
{
    struct diag dg;
    struct record record = {.answer = DCACHE_OK};
    diag_init(&dg, "", -1, DIAG_ERROR);
    const char *path = write_file("a = 1\n", 6);
    CU_ASSERT_EQUAL(chmod(path, 0), 0);
    /* Root reads everything; without the right to, as somebody else. */
    uid_t user = geteuid();
    if (user == 0) {
        CU_ASSERT_EQUAL(chmod(unit_scratch(), 0755), 0);
        CU_ASSERT_EQUAL_FATAL(seteuid(65534), 0);
    }
    dcache_status_t status = ini_read(&dg, path, "dcache", visit, &record);
    if (user == 0)
        CU_ASSERT_EQUAL_FATAL(seteuid(0), 0);
    CU_ASSERT_EQUAL(status, DCACHE_ERR_PERMISSION);
    CU_ASSERT_PTR_NOT_NULL(strstr(dg.text, "Permission denied"));
    CU_ASSERT_EQUAL(chmod(path, 0600), 0);
}

static void test_where_of_long_path(void)
{
    char path[1000];
    char where[INI_WHERE_MAX];
    memset(path, 'd', sizeof path);
    strcpy(path + sizeof path - 10, "/heat.ini");
    ini_format_where(path, 1048576, where);
    CU_ASSERT_EQUAL(strncmp(where, "...ddd", 6), 0);
    CU_ASSERT_STRING_EQUAL(where + strlen(where) - 17, "/heat.ini:1048576");
    ini_format_where("heat.ini", 3, where);
    CU_ASSERT_STRING_EQUAL(where, "heat.ini:3");
}

int main(void)
{
    static const struct unit_case cases[] = {
        {"good files", test_good_files},
        {"bad lines", test_bad_lines},
        {"the visitor stops the reading", test_stops_at_first_error},
        {"limits of file and line", test_limits},
        {"garbage", test_garbage},
        {"not a file", test_not_a_file},
        {"unreadable file", test_unreadable_file},
        {"a long path in messages", test_where_of_long_path},
    };
    return unit_main("ini", cases, UNIT_COUNT(cases));
}
