/* runtime/options.c: every option by file and by environment, what wins, what is refused and with which words. */
#include "runtime/options.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>

/* One option, its default and another value: as text, and what the field must then hold. */
struct sample {
    const char *key;
    const char *variable;
    size_t offset;
    enum { TEXT, INTEGER, SECONDS } type;
    const char *preset_text; /* TEXT; NULL: tested apart */
    double preset;
    const char *value;
    double number;
};

#define FIELD(name) offsetof(struct options, name)

static const struct sample samples[] = {
    {"job", "DCACHE_JOB", FIELD(job), TEXT, NULL, 0, "Heat_2.d-x", 0},
    {"component", "DCACHE_COMPONENT", FIELD(component), TEXT, "", 0, "ocean", 0},
    {"memory_store", "DCACHE_MEMORY_STORE", FIELD(memory_store), TEXT, NULL, 0, "/mnt/a b#c", 0},
    {"tier", "DCACHE_TIER", FIELD(tier), INTEGER, NULL, TIER_MEMORY, "both", TIER_BOTH},
    {"ssd_store", "DCACHE_SSD_STORE", FIELD(ssd_store), TEXT, "", 0, "/mnt/nvme", 0},
    {"ssd_slots", "DCACHE_SSD_SLOTS", FIELD(ssd_slots), INTEGER, NULL, 2, "64", 64},
    {"node_size", "DCACHE_NODE_SIZE", FIELD(node_size), INTEGER, NULL, 0, "1000000", 1000000},
    {"slots", "DCACHE_SLOTS", FIELD(slots), INTEGER, NULL, 2, "16", 16},
    {"reserve", "DCACHE_RESERVE", FIELD(reserve), INTEGER, NULL, 0, "3GiB", 3221225472},
    {"transport", "DCACHE_TRANSPORT", FIELD(transport), INTEGER, NULL, TRANSPORT_AUTO, "two-sided",
     TRANSPORT_TWO_SIDED},
    {"progress", "DCACHE_PROGRESS", FIELD(progress), INTEGER, NULL, PROGRESS_AUTO, "calls", PROGRESS_CALLS},
    {"resync", "DCACHE_RESYNC", FIELD(resync), INTEGER, NULL, RESYNC_AUTO, "behind", RESYNC_BEHIND},
    {"incremental", "DCACHE_INCREMENTAL", FIELD(incremental), INTEGER, NULL, 0, "yes", 1},
    {"copy_threads", "DCACHE_COPY_THREADS", FIELD(copy_threads), INTEGER, NULL, 1, "64", 64},
    {"store", "DCACHE_STORE", FIELD(store), TEXT, "file://dcache-store", 0, "azure://container/pre;fix", 0},
    {"drain_every", "DCACHE_DRAIN_EVERY", FIELD(drain_every), INTEGER, NULL, 1, "0", 0},
    {"drain_ranks_per_node", "DCACHE_DRAIN_RANKS_PER_NODE", FIELD(drain_ranks_per_node), INTEGER, NULL, 1, "4", 4},
    {"drain_nodes", "DCACHE_DRAIN_NODES", FIELD(drain_nodes), INTEGER, NULL, 0, "7", 7},
    {"drain_bandwidth", "DCACHE_DRAIN_BANDWIDTH", FIELD(drain_bandwidth), INTEGER, NULL, 0, "2G", 2000000000},
    {"drain_slowdown", "DCACHE_DRAIN_SLOWDOWN", FIELD(drain_slowdown), INTEGER, NULL, 0, "5", 5},
    {"when_full", "DCACHE_WHEN_FULL", FIELD(when_full), INTEGER, NULL, WHEN_FULL_BLOCK, "replace", WHEN_FULL_REPLACE},
    {"store_keep_last", "DCACHE_STORE_KEEP_LAST", FIELD(store_keep_last), INTEGER, NULL, 0, "3", 3},
    {"store_keep_every", "DCACHE_STORE_KEEP_EVERY", FIELD(store_keep_every), INTEGER, NULL, 0, "1000", 1000},
    {"claim_lease", "DCACHE_CLAIM_LEASE", FIELD(claim_lease), SECONDS, NULL, 20, "1m", 60},
    {"store_auth", "DCACHE_STORE_AUTH", FIELD(store_auth), INTEGER, NULL, 0, "managed-identity", 7},
    {"store_timeout", "DCACHE_STORE_TIMEOUT", FIELD(store_timeout), SECONDS, NULL, 60, "2.5m", 150},
    {"store_stall", "DCACHE_STORE_STALL", FIELD(store_stall), SECONDS, NULL, 15, "250ms", 0.25},
    {"store_connections", "DCACHE_STORE_CONNECTIONS", FIELD(store_connections), INTEGER, NULL, 8, "64", 64},
    {"pack_below", "DCACHE_PACK_BELOW", FIELD(pack_below), INTEGER, NULL, 1 << 20, "256KiB", 262144},
    {"compress", "DCACHE_COMPRESS", FIELD(compress), INTEGER, NULL, COMPRESS_NONE, "auto", COMPRESS_AUTO},
    {"compress_level", "DCACHE_COMPRESS_LEVEL", FIELD(compress_level), INTEGER, NULL, 1, "19", 19},
    {"compress_threads", "DCACHE_COMPRESS_THREADS", FIELD(compress_threads), INTEGER, NULL, 1, "64", 64},
    {"encrypt_key_file", "DCACHE_ENCRYPT_KEY_FILE", FIELD(encrypt_key_file), TEXT, "", 0, "/etc/key", 0},
    {"encrypt_key_command", "DCACHE_ENCRYPT_KEY_COMMAND", FIELD(encrypt_key_command), TEXT, "", 0, "", 0},
    {"close_timeout", "DCACHE_CLOSE_TIMEOUT", FIELD(close_timeout), SECONDS, NULL, 600, "0", 0},
    {"interval", "DCACHE_INTERVAL", FIELD(interval), SECONDS, NULL, 0, "15m", 900},
    {"mtbf", "DCACHE_MTBF", FIELD(mtbf), SECONDS, NULL, 0, "1000000h", 3600000000},
    {"end_margin", "DCACHE_END_MARGIN", FIELD(end_margin), SECONDS, NULL, 0, "90s", 90},
    {"signals", "DCACHE_SIGNALS", FIELD(signals), INTEGER, NULL, 0, "yes", 1},
    {"events", "DCACHE_EVENTS", FIELD(events), TEXT, "none", 0, "http://169.254.169.254", 0},
    {"domains", "DCACHE_DOMAINS", FIELD(domains), TEXT, "none", 0, "/etc/racks", 0},
    {"log", "DCACHE_LOG", FIELD(log), INTEGER, NULL, DIAG_WARNING, "debug", DIAG_DEBUG},
};

static void check_field(const struct options *options, const struct sample *sample, const char *text, double number)
{
    const char *field = (const char *)options + sample->offset;
    int64_t integer;
    double seconds;
    switch (sample->type) {
    case TEXT:
        CU_ASSERT_STRING_EQUAL(field, text);
        break;
    case INTEGER:
        memcpy(&integer, field, sizeof integer);
        CU_ASSERT_EQUAL(integer, (int64_t)number);
        break;
    case SECONDS:
        memcpy(&seconds, field, sizeof seconds);
        CU_ASSERT_DOUBLE_EQUAL(seconds, number, 0);
        break;
    }
}

static void clear_environment(void)
{
    bool again = true;
    while (again) {
        again = false;
        for (char **entry = environ; *entry != NULL && !again; entry++) {
            char name[256];
            snprintf(name, sizeof name, "%.*s", (int)strcspn(*entry, "="), *entry);
            again = strncmp(name, "DCACHE_", 7) == 0 && unsetenv(name) == 0;
        }
    }
}

static const char *write_config(const char *text)
{
    static char path[600];
    snprintf(path, sizeof path, "%s/heat.ini", unit_scratch());
    FILE *file = fopen(path, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    CU_ASSERT(fputs(text, file) >= 0);
    CU_ASSERT_EQUAL(fclose(file), 0);
    return path;
}

/* Load `text` as the options file; NULL: no file. */
static dcache_status_t load(const char *text, struct diag *dg, struct options *options)
{
    diag_init(dg, "", -1, DIAG_ERROR);
    return options_load(dg, text != NULL ? write_config(text) : NULL, options);
}

static struct options load_good(const char *text)
{
    struct diag dg;
    struct options options;
    memset(&options, 0xff, sizeof options);
    dcache_status_t status = load(text, &dg, &options);
    if (status != DCACHE_OK)
        fprintf(stderr, "%s\n", dg.text);
    CU_ASSERT_EQUAL_FATAL(status, DCACHE_OK);
    return options;
}

/* Loading fails, leaves the output alone, and the text has each of the parts, which end with NULL. */
static void check_refused(const char *text, const char *const parts[])
{
    struct diag dg;
    struct options options;
    struct options before;
    memset(&options, 0x5a, sizeof options);
    memset(&before, 0x5a, sizeof before);
    CU_ASSERT_EQUAL(load(text, &dg, &options), DCACHE_ERR_OPTION);
    CU_ASSERT_EQUAL(memcmp(&options, &before, sizeof options), 0);
    for (size_t i = 0; parts[i] != NULL; i++) {
        if (strstr(dg.text, parts[i]) == NULL) {
            fprintf(stderr, "\"%s\" lacks \"%s\"\n", dg.text, parts[i]);
            CU_FAIL("the text misses a part");
        }
    }
}

#define PARTS(...)                                                                                                     \
    (const char *const[])                                                                                              \
    {                                                                                                                  \
        __VA_ARGS__, NULL                                                                                              \
    }

static void check_variable_refused(const char *variable, const char *value, const char *const parts[])
{
    setenv(variable, value, 1);
    check_refused(NULL, parts);
    unsetenv(variable);
}

static void test_defaults(void)
{
    struct options options = load_good(NULL);
    for (size_t i = 0; i < UNIT_COUNT(samples); i++) {
        if (samples[i].type != TEXT || samples[i].preset_text != NULL)
            check_field(&options, &samples[i], samples[i].preset_text, samples[i].preset);
    }
    char want[OPTIONS_TEXT_MAX];
    snprintf(want, sizeof want, "/dev/shm/dcache-%lu", (unsigned long)geteuid());
    CU_ASSERT_STRING_EQUAL(options.memory_store, want);
    CU_ASSERT_STRING_EQUAL(options.job, "test_options"); /* what this program is called */
}

static void test_every_option_in_file(void)
{
    for (size_t i = 0; i < UNIT_COUNT(samples); i++) {
        char text[300];
        const char *quote = samples[i].type == TEXT ? "\"" : "";
        const char *needed = samples[i].offset == FIELD(tier) ? "ssd_store = /mnt/ssd\n" : "";
        snprintf(text, sizeof text, "[dcache]\n%s%s = %s%s%s\n", needed, samples[i].key, quote, samples[i].value,
                 quote);
        struct options options = load_good(text);
        check_field(&options, &samples[i], samples[i].value, samples[i].number);

        /* And nothing else is changed by it. */
        struct options others = load_good(needed);
        size_t field = samples[i].type != TEXT ? 8 : samples[i].offset < FIELD(memory_store) ? 64 : OPTIONS_TEXT_MAX;
        memcpy((char *)&others + samples[i].offset, (char *)&options + samples[i].offset, field);
        CU_ASSERT_EQUAL(memcmp(&options, &others, sizeof options), 0);
    }
}

static void test_every_option_in_environment(void)
{
    for (size_t i = 0; i < UNIT_COUNT(samples); i++) {
        setenv(samples[i].variable, samples[i].value, 1);
        struct options options = load_good(samples[i].offset == FIELD(tier) ? "ssd_store = /mnt/ssd\n" : NULL);
        unsetenv(samples[i].variable);
        check_field(&options, &samples[i], samples[i].value, samples[i].number);
    }
}

/* The table in the test is the whole table: the help names as many keys. */
static void test_no_option_untested(void)
{
    struct options options = load_good(NULL);
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    CU_ASSERT_PTR_NOT_NULL_FATAL(out);
    options_print_values(out, &options);
    fclose(out);
    size_t lines = 0;
    for (size_t i = 0; i < size; i++)
        lines += text[i] == '\n';
    CU_ASSERT_EQUAL(lines, UNIT_COUNT(samples));
    free(text);
}

static void test_precedence(void)
{
    char path[600];
    snprintf(path, sizeof path, "%s/other.ini", unit_scratch());
    FILE *file = fopen(path, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    fputs("slots = 5\ndrain_every = 5\n", file);
    fclose(file);

    setenv("DCACHE_CONFIG", path, 1);
    struct options from_variable = load_good(NULL);
    CU_ASSERT_EQUAL(from_variable.slots, 5);
    struct options from_argument = load_good("slots = 7\n"); /* the other file is not read then */
    CU_ASSERT_EQUAL(from_argument.slots, 7);
    CU_ASSERT_EQUAL(from_argument.drain_every, 1);
    setenv("DCACHE_SLOTS", "9", 1);
    CU_ASSERT_EQUAL(load_good("slots = 7\n").slots, 9);
    CU_ASSERT_EQUAL(load_good(NULL).slots, 9);
    CU_ASSERT_EQUAL(load_good(NULL).drain_every, 5);

    setenv("DCACHE_CONFIG", "", 1);
    CU_ASSERT_EQUAL(load_good(NULL).drain_every, 1);
    clear_environment();
}

/* The struct is broadcast: nothing of a value that did not win stays in it. */
static void test_nothing_left_of_former_values(void)
{
    setenv("DCACHE_STORE", "none", 1);
    struct options without_file = load_good(NULL);
    struct options with_file = load_good("store = azure://a-long-name/that-did-not-win\n");
    CU_ASSERT_EQUAL(memcmp(&without_file, &with_file, sizeof with_file), 0);
    clear_environment();
}

static void test_missing_file(void)
{
    struct diag dg;
    struct options options;
    diag_init(&dg, "", -1, DIAG_ERROR);
    CU_ASSERT_EQUAL(options_load(&dg, "/nowhere/heat.ini", &options), DCACHE_ERR_IO);
    CU_ASSERT_PTR_NOT_NULL(strstr(dg.text, "/nowhere/heat.ini: No such file or directory"));
    setenv("DCACHE_CONFIG", "/nowhere/else.ini", 1);
    CU_ASSERT_EQUAL(options_load(&dg, NULL, &options), DCACHE_ERR_IO);
    CU_ASSERT_PTR_NOT_NULL(strstr(dg.text, "/nowhere/else.ini"));
    unsetenv("DCACHE_CONFIG");
    CU_ASSERT_EQUAL(options_load(&dg, "", &options), DCACHE_ERR_IO);
}

static void test_bad_values_in_file(void)
{
    check_refused("\nslots = 40\n", PARTS("/heat.ini:2: slots = \"40\"", "a whole number from 2 to 16"));
    check_refused("slots = 1\n", PARTS(":1: slots = \"1\"", "from 2 to 16"));
    check_refused("slots = 17\n", PARTS(":1: slots = \"17\"", "from 2 to 16"));
    check_refused("slots = 2.0\n", PARTS("slots = \"2.0\"", "a whole number"));
    check_refused("slots = 99999999999999999999\n", PARTS("slots = \"99999999999999999999\"", "from 2 to 16"));
    check_refused("slots =\n", PARTS("slots = \"\"", "from 2 to 16"));
    check_refused("node_size = -1\n", PARTS("node_size = \"-1\"", "from 0 to 1000000"));
    check_refused("drain_ranks_per_node = 0\n", PARTS("drain_ranks_per_node = \"0\"", "from 1 to 1024"));
    check_refused("drain_nodes = 4294967296\n", PARTS("drain_nodes = \"4294967296\"", "from 0 to 1000000"));
    check_refused("transport = rma\n", PARTS(":1: transport = \"rma\"", "auto, one-sided or two-sided"));
    check_refused("when_full = Block\n", PARTS("when_full = \"Block\"", "block, skip or replace"));
    check_refused("log = verbose\n", PARTS("log = \"verbose\"", "error, warning, info or debug"));
    check_refused("store_timeout = 1d\n", PARTS("store_timeout = \"1d\"", "100ms to 86400s", "ms, s, m or h"));
    check_refused("store_timeout = 99ms\n", PARTS("store_timeout = \"99ms\"", "100ms to 86400s"));
    check_refused("store_stall = 1,5\n", PARTS("store_stall = \"1,5\"", "100ms to 3600s"));
    check_refused("close_timeout = -1\n", PARTS("close_timeout = \"-1\"", "0s to 604800s"));
    check_refused("memory_store = shm/x\n", PARTS("memory_store = \"shm/x\"", "an absolute path"));
    check_refused("store = \"\"\n", PARTS("store = \"\"", "a text of 1 to 1023 bytes"));
    check_refused("slots = \"two\nlog = debug\n", PARTS(":1: value of slots: the closing quote is missing"));
    check_refused("slots 3\n", PARTS(":1: \"slots 3\" is not of the form key = value"));
    check_refused("[scr]\nslots = 3\n", PARTS(":1: unknown section [scr]", "[dcache]"));
}

static void test_tier_needs_a_directory(void)
{
    check_refused("\ntier = ssd\n", PARTS("/heat.ini:2: tier = ssd", "ssd_store"));
    check_refused("tier = both\nssd_store = \"\"\n", PARTS("/heat.ini:1: tier = both", "ssd_store"));
    check_refused("tier = both\nssd_store = /m/x/\nmemory_store = /m/x\n", PARTS("two directories", "/m/x"));
    check_refused("tier = nvme\n", PARTS("tier = \"nvme\"", "memory, ssd or both"));
    check_refused("ssd_store = nvme/x\n", PARTS("ssd_store = \"nvme/x\"", "an absolute path"));
    check_refused("ssd_slots = 1\n", PARTS("ssd_slots = \"1\"", "from 2 to 64"));
    check_refused("ssd_slots = 65\n", PARTS("ssd_slots = \"65\"", "from 2 to 64"));
    check_variable_refused("DCACHE_TIER", "both", PARTS("DCACHE_TIER: tier = both", "ssd_store"));
    CU_ASSERT_EQUAL(load_good("tier = ssd\nssd_store = /m/x\nmemory_store = /m/x\n").tier, TIER_SSD);
    CU_ASSERT_EQUAL(load_good("tier = both\nssd_store = /m/xy\nmemory_store = /m/x\n").tier, TIER_BOTH);
    CU_ASSERT_STRING_EQUAL(load_good("ssd_store = /m/x\n").ssd_store, "/m/x"); /* for restarts, whatever the tier */
}

static void test_sources(void)
{
    check_refused("\nevents = yes\n", PARTS("/heat.ini:2: events = \"yes\"", "none, auto or a URL"));
    check_refused("events = ftp://x\n", PARTS(":1: events = \"ftp://x\""));
    check_refused("domains = racks.txt\n", PARTS(":1: domains = \"racks.txt\"", "none, slurm, azure", "absolute"));
    check_variable_refused("DCACHE_DOMAINS", "Azure", PARTS("DCACHE_DOMAINS: domains = \"Azure\""));
    CU_ASSERT_STRING_EQUAL(load_good("domains = https://127.0.0.1:1/x\n").domains, "https://127.0.0.1:1/x");
    CU_ASSERT_STRING_EQUAL(load_good("events = auto\ndomains = slurm\n").domains, "slurm");
}

static void test_bad_values_in_environment(void)
{
    for (size_t i = 0; i < UNIT_COUNT(samples); i++) {
        char key[64];
        snprintf(key, sizeof key, "%s: %s = \"a\tb\"", samples[i].variable, samples[i].key);
        check_variable_refused(samples[i].variable, "a\tb", PARTS(key, "allowed: "));
    }
    check_variable_refused("DCACHE_SLOTS", "", PARTS("DCACHE_SLOTS: slots = \"\"", "from 2 to 16"));
    check_variable_refused("DCACHE_SLOTS", " 3", PARTS("DCACHE_SLOTS: slots = \" 3\"", "from 2 to 16"));
}

static void test_unknown_keys(void)
{
    check_refused("\nslotz = 3\n", PARTS("/heat.ini:2: unknown option slotz", "did you mean slots?"));
    check_refused("Slots = 3\n", PARTS("unknown option Slots", "did you mean slots?"));
    check_refused("drain-every = 3\n", PARTS("did you mean drain_every?"));
    check_refused("drain_ranks = 3\n", PARTS("unknown option drain_ranks", "did you mean "));
    check_refused("memorystore = /x\n", PARTS("did you mean memory_store?"));
    check_refused("DCACHE_SLOTS = 3\n", PARTS("unknown option DCACHE_SLOTS", "`dcache help options`"));
    check_refused("photosynthesis = 3\n", PARTS("unknown option photosynthesis; `dcache help options`"));
    check_variable_refused("DCACHE_SLOTZ", "3",
                           PARTS("environment: unknown option DCACHE_SLOTZ", "did you mean DCACHE_SLOTS?"));
    check_variable_refused("DCACHE_slots", "3", PARTS("did you mean DCACHE_SLOTS?"));
    check_variable_refused("DCACHE_", "3", PARTS("unknown option DCACHE_; `dcache help options`"));

    char text[4000];
    memset(text, 'k', sizeof text);
    strcpy(text + 3900, " = 3\n");
    check_refused(text, PARTS("/heat.ini:1: unknown option kkkk", "`dcache help options`"));
}

static void test_other_variables(void)
{
    setenv("DCACHE_FAILPOINTS", "put=error", 1);
    setenv("DCACHER", "x", 1);
    setenv("XDCACHE_SLOTS", "x", 1);
    CU_ASSERT_EQUAL(load_good(NULL).slots, 2);
    unsetenv("DCACHE_FAILPOINTS");
    unsetenv("DCACHER");
    unsetenv("XDCACHE_SLOTS");
}

static void test_duplicates(void)
{
    check_refused("slots = 3\n\nslots = 3\n", PARTS("/heat.ini:3: slots = \"3\"", "given twice", "line 1"));
    check_refused("[dcache]\njob = a\n[dcache]\njob = b\n", PARTS(":4: job = \"b\"", "given twice", "line 2"));
}

/* A shared access signature that somebody put into the URL must not reach the log. */
static void test_no_secret_in_messages(void)
{
    char text[1400];
    struct diag dg;
    struct options options;
    snprintf(text, sizeof text, "store = https://a/b?sig=SECRET%01100d\n", 0);
    CU_ASSERT_EQUAL(load(text, &dg, &options), DCACHE_ERR_OPTION);
    CU_ASSERT_PTR_NOT_NULL(strstr(dg.text, "store = \"https://a/b...\""));
    CU_ASSERT_PTR_NULL(strstr(dg.text, "SECRET"));
    CU_ASSERT_EQUAL(load("store = x\nstore = https://a/b?sig=SECRET\n", &dg, &options), DCACHE_ERR_OPTION);
    CU_ASSERT_PTR_NULL(strstr(dg.text, "SECRET"));
    CU_ASSERT_EQUAL(load("stores = https://a/b?sig=SECRET\n", &dg, &options), DCACHE_ERR_OPTION);
    CU_ASSERT_PTR_NULL(strstr(dg.text, "SECRET"));
}

static void test_text_lengths(void)
{
    char text[1200];
    struct options options;
    snprintf(text, sizeof text, "memory_store = /%01022d\n", 0);
    options = load_good(text);
    CU_ASSERT_EQUAL(strlen(options.memory_store), 1023);
    snprintf(text, sizeof text, "memory_store = /%01023d\n", 0);
    check_refused(text, PARTS(":1: memory_store = \"/000", "0...\"", "at most 1023 bytes"));
    snprintf(text, sizeof text, "job = %063d\n", 0);
    options = load_good(text);
    CU_ASSERT_EQUAL(strlen(options.job), 63);
    snprintf(text, sizeof text, "job = %064d\n", 0);
    check_refused(text, PARTS("job = \"0", "1 to 63 of the characters A-Z a-z 0-9 _ . -"));
}

static void test_job_names(void)
{
    static const char *const bad[] = {"",    ".",           "..",   "a/b", "../x", "a b",
                                      "a:b", "gr\xc3\xbcn", "a\\b", "*",   "~",    "$HOME"};
    for (size_t i = 0; i < UNIT_COUNT(bad); i++) {
        check_variable_refused("DCACHE_JOB", bad[i], PARTS("DCACHE_JOB: job = \"", "A-Z a-z 0-9 _ . -"));
        if (bad[i][0] != '\0')
            check_variable_refused("DCACHE_COMPONENT", bad[i], PARTS("DCACHE_COMPONENT: component = \""));
    }
    char name[64];
    struct options options = load_good("job = ...\n");
    options_job_name(&options, name);
    CU_ASSERT_STRING_EQUAL(name, "...");
    options = load_good("job = cesm\ncomponent = ocean\n");
    options_job_name(&options, name);
    CU_ASSERT_STRING_EQUAL(name, "cesm.ocean");
}

static void test_job_and_component_length(void)
{
    char text[300];
    char name[64];
    snprintf(text, sizeof text, "job = %040d\ncomponent = %022d\n", 0, 0);
    struct options options = load_good(text);
    options_job_name(&options, name);
    CU_ASSERT_EQUAL(strlen(name), 63);

    snprintf(text, sizeof text, "job = %040d\n\ncomponent = %023d\n", 0, 0);
    check_refused(text, PARTS("/heat.ini:3: component = \"0", "/heat.ini:1", "has 64 characters, at most 63"));
    setenv("DCACHE_COMPONENT", "abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrst", 1);
    check_refused(NULL, PARTS("DCACHE_COMPONENT: component = \"abc", "job = \"test_options\" (default)"));
    unsetenv("DCACHE_COMPONENT");
}

/* Print, read back: the same bytes. */
static void check_round_trip(const struct options *options)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    CU_ASSERT_PTR_NOT_NULL_FATAL(out);
    options_print_values(out, options);
    CU_ASSERT_EQUAL_FATAL(fclose(out), 0);
    struct options back = load_good(text);
    CU_ASSERT_EQUAL(memcmp(options, &back, sizeof back), 0);
    free(text);
}

static void test_values_read_back(void)
{
    struct options options = load_good(NULL);
    check_round_trip(&options);
    options = load_good("job = a-b\ncomponent = c\nmemory_store = \"/a \\\"b\\\" \\\\ #;\"\nnode_size = 3\nslots = 4\n"
                        "transport = one-sided\nstore = \" x = y # z \"\ndrain_every = 12\ndrain_ranks_per_node = 2\n"
                        "drain_nodes = 5\nwhen_full = skip\nstore_timeout = 0.123456h\n");
    CU_ASSERT_STRING_EQUAL(options.memory_store, "/a \"b\" \\ #;");
    check_round_trip(&options);
    options = load_good("store_timeout = 0.1h\nstore_stall = 1.000001s\nclose_timeout = 7.007ms\nlog = error\n");
    check_round_trip(&options);

    char quotes[2 * OPTIONS_TEXT_MAX]; /* the longest line: each character needs a backslash */
    memset(options.store, '"', sizeof options.store - 1);
    snprintf(quotes, sizeof quotes, "%s", options.store);
    setenv("DCACHE_STORE", quotes, 1);
    options = load_good(NULL);
    unsetenv("DCACHE_STORE");
    check_round_trip(&options);
}

static void test_help(void)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    CU_ASSERT_PTR_NOT_NULL_FATAL(out);
    options_print_help(out, false);
    CU_ASSERT_EQUAL_FATAL(fclose(out), 0);
    for (size_t i = 0; i < UNIT_COUNT(samples); i++) {
        char start[64];
        snprintf(start, sizeof start, "\n%s ", samples[i].key);
        CU_ASSERT_PTR_NOT_NULL(strstr(text, start));
    }
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "Default: block. Allowed: block, skip or replace."));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "Default: 2 steps. Allowed: a whole number from 2 to 16."));
    size_t longest = 0;
    for (const char *line = text; *line != '\0'; line += strcspn(line, "\n") + 1) {
        size_t length = strcspn(line, "\n");
        CU_ASSERT(length == 0 || line[length - 1] != ' ');
        longest = length > longest ? length : longest;
    }
    CU_ASSERT(longest <= 100);
    free(text);
}

/* docs/options.md is what the library prints. With OPTIONS_WRITE_DOCS set, it is written anew. */
static void test_docs(void)
{
    const char *source = getenv("TEST_SOURCE_DIR");
    if (source == NULL) {
        fprintf(stderr, "skipped: TEST_SOURCE_DIR is not set ");
        return;
    }
    char path[PATH_MAX];
    char *text = NULL;
    size_t size = 0;
    snprintf(path, sizeof path, "%s/docs/options.md", source);
    FILE *out = getenv("OPTIONS_WRITE_DOCS") != NULL ? fopen(path, "w") : NULL;
    if (out != NULL) {
        options_print_help(out, true);
        fclose(out);
    }
    out = open_memstream(&text, &size);
    CU_ASSERT_PTR_NOT_NULL_FATAL(out);
    options_print_help(out, true);
    fclose(out);

    char *committed = calloc(size + 2, 1);
    FILE *file = fopen(path, "r");
    CU_ASSERT_PTR_NOT_NULL_FATAL(committed);
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    size_t length = fread(committed, 1, size + 1, file);
    fclose(file);
    CU_ASSERT_EQUAL(length, size);
    CU_ASSERT_EQUAL(memcmp(committed, text, size), 0);
    free(committed);
    free(text);
}

int main(void)
{
    static const struct unit_case cases[] = {
        {"defaults", test_defaults},
        {"every option in the file", test_every_option_in_file},
        {"every option in the environment", test_every_option_in_environment},
        {"no option is untested", test_no_option_untested},
        {"what wins", test_precedence},
        {"nothing is left of what does not win", test_nothing_left_of_former_values},
        {"missing file", test_missing_file},
        {"bad values in the file", test_bad_values_in_file},
        {"the SSD tier needs a directory", test_tier_needs_a_directory},
        {"sources of events and domains", test_sources},
        {"bad values in the environment", test_bad_values_in_environment},
        {"unknown keys", test_unknown_keys},
        {"variables that are no options", test_other_variables},
        {"duplicates", test_duplicates},
        {"no secret in messages", test_no_secret_in_messages},
        {"lengths of texts", test_text_lengths},
        {"names of jobs", test_job_names},
        {"job and component together", test_job_and_component_length},
        {"printed values read back", test_values_read_back},
        {"help", test_help},
        {"docs/options.md is up to date", test_docs},
    };
    clear_environment();
    return unit_main("options", cases, UNIT_COUNT(cases));
}
