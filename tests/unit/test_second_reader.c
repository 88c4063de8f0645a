/* Images made through the library, read by others: tests/tools/read_shard.py, which shares no code with it and was
 * written from docs/formats.md, and h5dump (package hdf5-tools), which has never heard of it. */
#include "io/node_store.h"
#include "shard_sample.h"
#include "store_fixture.h"
#include "unit.h"

#include <jansson.h>
#include <sys/wait.h>

#define STEP 9007199254740993u /* 2^53 + 1: no double can hold it */

/* What a command prints, malloc'ed, in *output; its exit status. */
static int run(const char *command, char **output)
{
    size_t length = 0;
    size_t room = 1 << 16;
    char *text = malloc(room);
    fflush(NULL);
    FILE *pipe = popen(command, "r");
    CU_ASSERT_PTR_NOT_NULL_FATAL(pipe);
    for (size_t n = 1; n > 0; length += n) {
        if (room - length < 2) {
            room *= 2;
            char *grown = realloc(text, room);
            CU_ASSERT_PTR_NOT_NULL_FATAL(grown);
            text = grown;
        }
        n = fread(text + length, 1, room - length - 1, pipe);
    }
    text[length] = '\0';
    *output = text;
    int status = pclose(pipe);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* A complete shard in a node store; its path. */
static void make_image(struct shard_header *header, struct node_store *store, struct slot *slot, char path[700])
{
    fixture_open(store);
    sample_header(header, 3, 8);
    CU_ASSERT_EQUAL_FATAL(slot_create_image(fixture_diag(), store, 3, 1, header, slot), DCACHE_OK);
    sample_complete(header, slot->base, STEP, 42);
    snprintf(path, 700, "%s/own-3-1.h5", store->path);
}

static void free_image(struct shard_header *header, struct node_store *store, struct slot *slot)
{
    slot_close(slot);
    node_store_close(store);
    shard_header_free(header);
}

static int read_with_python(const char *path, char **output)
{
    char command[2000];
    char folder[600];
    snprintf(folder, sizeof folder, "%s", __FILE__); /* where this test is, there the reader is too */
    char *slash = strrchr(folder, '/');
    if (slash != NULL)
        *slash = '\0';
    const char *source = getenv("TEST_SOURCE_DIR");
    snprintf(command, sizeof command, "python3 '%s%s/tools/read_shard.py' '%s' 2>&1", source != NULL ? source : folder,
             source != NULL ? "/tests" : "/..", path);
    return run(command, output);
}

static void check_number(const json_t *object, const char *key, uint64_t expected)
{
    const json_t *value = json_object_get(object, key);
    CU_ASSERT_TRUE(json_is_integer(value));
    CU_ASSERT_EQUAL((uint64_t)json_integer_value(value), expected);
}

static void check_text(const json_t *object, const char *key, const char *expected)
{
    const char *value = json_string_value(json_object_get(object, key));
    CU_ASSERT_PTR_NOT_NULL_FATAL(value);
    CU_ASSERT_STRING_EQUAL(value, expected);
}

static void check_dims(const json_t *object, const char *key, const uint64_t *expected, uint32_t ndims)
{
    const json_t *dims = json_object_get(object, key);
    CU_ASSERT_EQUAL(json_array_size(dims), ndims);
    for (uint32_t i = 0; i < ndims; i++)
        CU_ASSERT_EQUAL((uint64_t)json_integer_value(json_array_get(dims, i)), expected[i]);
}

static void check_regions(const json_t *shown, const struct shard_header *header)
{
    const json_t *regions = json_object_get(shown, "regions");
    CU_ASSERT_EQUAL_FATAL(json_array_size(regions), header->region_count);
    for (uint32_t i = 0; i < header->region_count; i++) {
        const json_t *found = json_array_get(regions, i);
        const struct shard_region *region = &header->regions[i];
        check_text(found, "name", region->name);
        check_text(found, "type", shard_type_name(region->type));
        check_number(found, "bytes", region->bytes);
        check_number(found, "offset", region->offset);
        CU_ASSERT_EQUAL(json_is_true(json_object_get(found, "block")), region->is_block);
        check_dims(found, "global", region->global, region->ndims);
        check_dims(found, "start", region->start, region->ndims);
        check_dims(found, "count", region->count, region->ndims);
    }
}

static void test_python_agrees(void)
{
    struct shard_header header;
    struct node_store store;
    struct slot slot;
    char path[700];
    char *output = NULL;
    make_image(&header, &store, &slot, path);
    int status = read_with_python(path, &output);
    CU_ASSERT_EQUAL(status, 0);
    if (status != 0)
        fprintf(stderr, "  %s\n", output);
    json_t *shown = json_loads(output, 0, NULL);
    CU_ASSERT_PTR_NOT_NULL_FATAL(shown);
    check_text(shown, "job", "sample");
    check_text(shown, "state", "COMPLETE");
    check_number(shown, "step", STEP);
    check_number(shown, "sequence", 42);
    check_number(shown, "epoch", header.set.epoch);
    check_number(shown, "world_size", 8);
    check_number(shown, "rank", 3);
    check_number(shown, "header_bytes", header.header_bytes);
    check_number(shown, "file_bytes", header.file_bytes);
    check_number(shown, "chunk_count", header.chunk_count);
    check_number(shown, "step_offset", header.step_offset);
    check_regions(shown, &header);
    json_decref(shown);
    free(output);

    header.state = SHARD_WRITING;
    shard_encode_fixed(&header, slot.base);
    CU_ASSERT_EQUAL(read_with_python(path, &output), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(output, "\"WRITING\""));
    free(output);
    free_image(&header, &store, &slot);
}

/* One wrong bit in each part of the image, and the second reader says which digest it spoils. */
static void test_python_notices(void)
{
    struct shard_header header;
    struct node_store store;
    struct slot slot;
    char path[700];
    char *output = NULL;
    make_image(&header, &store, &slot, path);
    const struct {
        uint64_t at;
        const char *word;
    } places[] = {
        {0, "magic"},
        {33, "fixed part"},
        {255, "fixed part"},
        {256, "tables"},
        {header.header_bytes - 1, "tables"},
        {header.header_bytes, "chunk 0"},
        {header.header_bytes + SHARD_CHUNK_BYTES, "chunk 1"},
        {header.file_bytes - 1, "chunk 2"},
    };
    for (size_t i = 0; i < UNIT_COUNT(places); i++) {
        unsigned char *byte = (unsigned char *)slot.base + places[i].at;
        *byte ^= 4;
        CU_ASSERT_EQUAL(read_with_python(path, &output), 1);
        CU_ASSERT_PTR_NOT_NULL(strstr(output, places[i].word));
        free(output);
        *byte ^= 4;
    }
    free_image(&header, &store, &slot);
}

/* The next number at *at, which is stepped over it; -1 when there is none. Taken out of the text first: strict string
 * checks of AddressSanitizer look at all that follows, each time. */
static double next_number(const char **at)
{
    char number[64];
    size_t length = 0;
    while (**at == ',' || **at == ' ' || **at == '\n')
        ++*at;
    for (; length < sizeof number - 1 && strchr("0123456789.e+-", **at) != NULL && **at != '\0'; ++*at)
        number[length++] = **at;
    number[length] = '\0';
    return length > 0 ? strtod(number, NULL) : -1;
}

/* Compare a region with the numbers between the braces of DATA { } in h5dump's text. */
static void check_dumped(const char *text, const struct shard_region *region)
{
    const char *at = strstr(text, "DATA {");
    CU_ASSERT_PTR_NOT_NULL_FATAL(at);
    at += strlen("DATA {");
    uint64_t elements = region->bytes / shard_type_bytes(region->type);
    uint64_t wrong = 0;
    for (uint64_t i = 0; i < elements; i++)
        wrong += next_number(&at) != sample_value(region, i);
    CU_ASSERT_EQUAL(wrong, 0);
    CU_ASSERT_EQUAL(next_number(&at), -1); /* and no more than these */
    CU_ASSERT_EQUAL(*at, '}');
}

static void test_h5dump_agrees(void)
{
    struct shard_header header;
    struct node_store store;
    struct slot slot;
    char path[700];
    char command[2000];
    char *output = NULL;
    make_image(&header, &store, &slot, path);
    for (uint32_t i = 0; i < header.region_count; i++) {
        snprintf(command, sizeof command, "h5dump -y -m %%.9g -d '/%s' '%s' 2>&1", header.regions[i].name, path);
        int status = run(command, &output);
        CU_ASSERT_EQUAL(status, 0);
        if (status != 0)
            fprintf(stderr, "  %s: %s\n", command, output);
        else
            check_dumped(output, &header.regions[i]);
        free(output);
    }
    snprintf(command, sizeof command, "h5dump -y -d /dcache/step '%s'", path);
    CU_ASSERT_EQUAL(run(command, &output), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(output, "9007199254740993"));
    free(output);
    snprintf(command, sizeof command, "h5dump -A -g /dcache '%s'", path);
    CU_ASSERT_EQUAL(run(command, &output), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(output, "\"sample\""));
    free(output);
    free_image(&header, &store, &slot);
}

int main(void)
{
    static const struct unit_case cases[] = {
        {"read_shard.py agrees", test_python_agrees},
        {"read_shard.py notices one wrong bit", test_python_notices},
        {"h5dump agrees", test_h5dump_agrees},
    };
    return unit_main("second_reader", cases, UNIT_COUNT(cases));
}
