/* io/shard_hdf5.c: the body, as HDF5 itself sees it. */
#include "io/shard_hdf5.h"
#include "shard_image_file.h"
#include "shard_sample.h"
#include "unit.h"

#include <fcntl.h>
#include <hdf5.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

static void start_diag(struct diag *dg)
{
    diag_init(dg, "test", -1, DIAG_ERROR);
}

static const char *path_of(const char *name)
{
    static char path[600];
    snprintf(path, sizeof path, "%s/%s", unit_scratch(), name);
    return path;
}

static unsigned char *map_file(const char *path, size_t *bytes)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    struct stat status;
    CU_ASSERT_TRUE_FATAL(fd >= 0 && fstat(fd, &status) == 0 && status.st_size > 0);
    *bytes = (size_t)status.st_size;
    void *base = mmap(NULL, *bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    CU_ASSERT_TRUE_FATAL(base != MAP_FAILED);
    return base;
}

static void check_places(const struct shard_header *header)
{
    for (uint32_t i = 0; i < header->region_count; i++) {
        const struct shard_region *a = &header->regions[i];
        if (a->bytes == 0) {
            CU_ASSERT_EQUAL(a->offset, 0);
            continue;
        }
        CU_ASSERT_TRUE(a->offset >= header->header_bytes && a->offset + a->bytes <= header->file_bytes);
        CU_ASSERT_TRUE(a->bytes < 4096 || a->offset % 4096 == 0);
        CU_ASSERT_TRUE(header->step_offset + 8 <= a->offset || header->step_offset >= a->offset + a->bytes);
        for (uint32_t j = 0; j < i; j++) {
            const struct shard_region *b = &header->regions[j];
            CU_ASSERT_TRUE(a->offset + a->bytes <= b->offset || b->offset + b->bytes <= a->offset);
        }
    }
}

static void test_create(void)
{
    struct diag dg;
    struct shard_header header;
    size_t bytes;
    start_diag(&dg);
    sample_header(&header, 3, 8);
    CU_ASSERT_EQUAL_FATAL(shard_image_file(&dg, path_of("create.h5"), &header), DCACHE_OK);
    unsigned char *image = map_file(path_of("create.h5"), &bytes);
    CU_ASSERT_EQUAL(bytes, header.file_bytes);
    CU_ASSERT_TRUE(header.header_bytes >= 4096 && (header.header_bytes & (header.header_bytes - 1)) == 0);
    CU_ASSERT_EQUAL(header.chunk_count, (bytes - header.header_bytes + SHARD_CHUNK_BYTES - 1) / SHARD_CHUNK_BYTES);
    check_places(&header);
    size_t dirty = 0;
    for (size_t i = 0; i < header.header_bytes; i++)
        dirty += image[i] != 0;
    CU_ASSERT_EQUAL(dirty, 0); /* EMPTY until the runtime writes it */
    for (uint32_t i = 0; i < header.chunk_count; i++)
        CU_ASSERT_EQUAL(header.chunk_crc[i], 0);
    munmap(image, bytes);
    shard_header_free(&header);
}

static void check_numbers(hid_t object, const char *name, const uint64_t *expected, size_t count)
{
    uint64_t found[DCACHE_DIMS_MAX] = {0};
    hid_t attribute = H5Aopen(object, name, H5P_DEFAULT);
    CU_ASSERT_TRUE_FATAL(attribute >= 0);
    CU_ASSERT_TRUE(H5Aread(attribute, H5T_NATIVE_UINT64, found) >= 0);
    CU_ASSERT_EQUAL(memcmp(found, expected, count * sizeof *expected), 0);
    H5Aclose(attribute);
}

static void check_region(hid_t file, const struct shard_region *region)
{
    hid_t dataset = H5Dopen2(file, region->name, H5P_DEFAULT);
    CU_ASSERT_TRUE_FATAL(dataset >= 0);
    hid_t space = H5Dget_space(dataset);
    hsize_t dims[DCACHE_DIMS_MAX] = {0};
    CU_ASSERT_EQUAL(H5Sget_simple_extent_dims(space, dims, NULL), (int)region->ndims);
    CU_ASSERT_EQUAL(memcmp(dims, region->count, region->ndims * sizeof *dims), 0);
    uint64_t elements = region->bytes / shard_type_bytes(region->type);
    double *values = calloc(elements + 1, sizeof *values);
    CU_ASSERT_TRUE(H5Dread(dataset, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0);
    uint64_t wrong = 0;
    for (uint64_t i = 0; i < elements; i++)
        wrong += (unsigned)values[i] != sample_value(region, i);
    CU_ASSERT_EQUAL(wrong, 0);
    CU_ASSERT_EQUAL(H5Aexists(dataset, "dcache_global") > 0, region->is_block);
    if (region->is_block) {
        check_numbers(dataset, "dcache_global", region->global, region->ndims);
        check_numbers(dataset, "dcache_start", region->start, region->ndims);
    }
    free(values);
    H5Sclose(space);
    H5Dclose(dataset);
}

static void check_description(hid_t file, uint64_t step)
{
    static const uint64_t rank = 3, world_size = 8, format = 1;
    char job[8] = "";
    uint64_t found = 0;
    hid_t group = H5Gopen2(file, "dcache", H5P_DEFAULT);
    CU_ASSERT_TRUE_FATAL(group >= 0);
    check_numbers(group, "rank", &rank, 1);
    check_numbers(group, "world_size", &world_size, 1);
    check_numbers(group, "format", &format, 1);
    hid_t attribute = H5Aopen(group, "job", H5P_DEFAULT);
    hid_t type = H5Aget_type(attribute);
    CU_ASSERT_EQUAL(H5Tget_size(type), 7);
    CU_ASSERT_TRUE(H5Aread(attribute, type, job) >= 0);
    CU_ASSERT_STRING_EQUAL(job, "sample");
    hid_t dataset = H5Dopen2(group, "step", H5P_DEFAULT);
    CU_ASSERT_TRUE(H5Dread(dataset, H5T_NATIVE_UINT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, &found) >= 0);
    CU_ASSERT_EQUAL(found, step);
    H5Dclose(dataset);
    H5Tclose(type);
    H5Aclose(attribute);
    H5Gclose(group);
}

static void test_hdf5_reads_it(void)
{
    struct diag dg;
    struct shard_header header;
    size_t bytes;
    start_diag(&dg);
    sample_header(&header, 3, 8);
    CU_ASSERT_EQUAL_FATAL(shard_image_file(&dg, path_of("values.h5"), &header), DCACHE_OK);
    unsigned char *image = map_file(path_of("values.h5"), &bytes);
    sample_complete(&header, image, 1234567, 1);
    hid_t file = H5Fopen(path_of("values.h5"), H5F_ACC_RDONLY, H5P_DEFAULT);
    CU_ASSERT_TRUE_FATAL(file >= 0);
    check_description(file, 1234567);
    for (uint32_t i = 0; i < header.region_count; i++)
        check_region(file, &header.regions[i]);
    hid_t half = H5Dopen2(file, "types/float16", H5P_DEFAULT);
    hid_t type = H5Dget_type(half);
    CU_ASSERT_EQUAL(H5Tget_size(type), 2);
    CU_ASSERT_EQUAL(H5Tget_class(type), H5T_FLOAT);
    H5Tclose(type);
    H5Dclose(half);
    H5Fclose(file);
    munmap(image, bytes);
    shard_header_free(&header);
}

static bool same_files(const char *a, const char *b)
{
    size_t a_bytes;
    size_t b_bytes;
    char a_path[600];
    snprintf(a_path, sizeof a_path, "%s", path_of(a));
    unsigned char *x = map_file(a_path, &a_bytes);
    unsigned char *y = map_file(path_of(b), &b_bytes);
    bool same = a_bytes == b_bytes && memcmp(x, y, a_bytes) == 0;
    munmap(x, a_bytes);
    munmap(y, b_bytes);
    return same;
}

/* A second later, over an older file, with the same header again: the same bytes. */
static void test_deterministic(void)
{
    struct diag dg;
    struct shard_header header;
    start_diag(&dg);
    sample_header(&header, 3, 8);
    for (int i = 0; i < 40; i++) { /* enough for HDF5 to store the links in a heap */
        char name[32];
        snprintf(name, sizeof name, "many/r%d", i);
        sample_add(&header, name, DCACHE_INT32, 2000);
    }
    CU_ASSERT_EQUAL_FATAL(shard_image_file(&dg, path_of("a.h5"), &header), DCACHE_OK);
    int fd = open(path_of("b.h5"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    CU_ASSERT_EQUAL(write(fd, "something longer was here", 25), 25);
    CU_ASSERT_EQUAL(ftruncate(fd, 64 << 20), 0);
    close(fd);
    sleep(1);
    CU_ASSERT_EQUAL_FATAL(shard_image_file(&dg, path_of("b.h5"), &header), DCACHE_OK);
    CU_ASSERT_TRUE(same_files("a.h5", "b.h5"));
    header.rank = 4;
    CU_ASSERT_EQUAL_FATAL(shard_image_file(&dg, path_of("b.h5"), &header), DCACHE_OK);
    CU_ASSERT_FALSE(same_files("a.h5", "b.h5"));
    shard_header_free(&header);
}

static void test_no_regions(void)
{
    struct diag dg;
    struct shard_header header = {.job = "j", .set.world_size = 1};
    start_diag(&dg);
    CU_ASSERT_EQUAL_FATAL(shard_image_file(&dg, path_of("none.h5"), &header), DCACHE_OK);
    CU_ASSERT_EQUAL(header.header_bytes, 4096);
    CU_ASSERT_EQUAL(header.chunk_count, 1);
    shard_header_free(&header);
}

static void test_many_regions(void)
{
    struct diag dg;
    struct shard_header header = {.job = "j", .set.world_size = 1};
    start_diag(&dg);
    for (int i = 0; i < 3000; i++) {
        char name[DCACHE_NAME_MAX + 1];
        snprintf(name, sizeof name, "layer%d/a/b/c/d/e/f/g/h/i/j/k/l/m/n/weights_%d", i % 100, i);
        sample_add(&header, name, DCACHE_FLOAT32, (uint64_t)i);
    }
    CU_ASSERT_EQUAL_FATAL(shard_image_file(&dg, path_of("many.h5"), &header), DCACHE_OK);
    hid_t file = H5Fopen(path_of("many.h5"), H5F_ACC_RDONLY, H5P_DEFAULT);
    CU_ASSERT_TRUE_FATAL(file >= 0);
    for (uint32_t i = 0; i < header.region_count; i += 97) {
        hid_t dataset = H5Dopen2(file, header.regions[i].name, H5P_DEFAULT);
        CU_ASSERT_TRUE(dataset >= 0);
        if (i > 0)
            CU_ASSERT_EQUAL(H5Dget_offset(dataset), header.regions[i].offset);
        H5Dclose(dataset);
    }
    H5Fclose(file);
    shard_header_free(&header);
}

/* A large region costs nothing before its data is there, neither here nor in memory. */
static void test_sparse(void)
{
    struct diag dg;
    struct shard_header header = {.job = "j", .set.world_size = 1};
    struct stat status;
    start_diag(&dg);
    sample_add(&header, "huge", DCACHE_FLOAT64, 1ull << 37); /* 1 TiB */
    CU_ASSERT_EQUAL_FATAL(shard_image_file(&dg, path_of("huge.h5"), &header), DCACHE_OK);
    CU_ASSERT_EQUAL(stat(path_of("huge.h5"), &status), 0);
    CU_ASSERT_TRUE((uint64_t)status.st_size > 1ull << 40);
    CU_ASSERT_TRUE(status.st_blocks < 2048);
    CU_ASSERT_TRUE(header.header_bytes >= 256 + 320 + 8ull * (1 << 20));
    shard_header_free(&header);
    unlink(path_of("huge.h5"));
}

static void check_refused(struct shard_header *header, dcache_status_t expected, const char *word)
{
    struct diag dg;
    start_diag(&dg);
    struct shard_header before = *header;
    CU_ASSERT_EQUAL(shard_image_file(&dg, path_of("refused.h5"), header), expected);
    if (strstr(dg.text, word) == NULL) {
        fprintf(stderr, "no \"%s\" in: %s\n", word, dg.text);
        CU_FAIL("text");
    }
    CU_ASSERT_EQUAL(memcmp(&before, header, sizeof before), 0);
    CU_ASSERT_EQUAL(access(path_of("refused.h5"), F_OK), -1);
    CU_ASSERT_EQUAL(H5Fget_obj_count((hid_t)H5F_OBJ_ALL, H5F_OBJ_ALL), 0);
    shard_header_free(header);
}

static void check_names_refused(const char *first, const char *second, const char *word)
{
    struct shard_header header = {.job = "j", .set.world_size = 1};
    sample_add(&header, "another", DCACHE_INT8, 1);
    sample_add(&header, first, DCACHE_INT8, 1);
    sample_add(&header, "x-y", DCACHE_INT8, 1);
    sample_add(&header, second, DCACHE_INT8, 1);
    check_refused(&header, DCACHE_ERR_INVALID, word);
}

static void test_refused(void)
{
    check_names_refused("a", "a", "two regions named a");
    check_names_refused("x", "x/y", "group");
    check_names_refused("x/y/z/deep", "x/y", "group");
    check_names_refused("ok", "dcache/step", "dcache/step");
    check_names_refused("ok", "../up", "../up");

    struct shard_header header = {.job = "../j", .set.world_size = 1};
    check_refused(&header, DCACHE_ERR_INVALID, "../j");
    header = (struct shard_header){.job = "j", .set.world_size = 1};
    sample_add(&header, "r", (dcache_type_t)99, 1);
    check_refused(&header, DCACHE_ERR_INVALID, "region r");
    snprintf(header.job, sizeof header.job, "j");
    sample_add(&header, "r", DCACHE_INT64, UINT64_MAX);
    check_refused(&header, DCACHE_ERR_INVALID, "region r");
    snprintf(header.job, sizeof header.job, "j");
    sample_add(&header, "r", DCACHE_INT64, 5);
    header.regions[0].bytes = 39;
    check_refused(&header, DCACHE_ERR_INVALID, "region r");
    snprintf(header.job, sizeof header.job, "j");
    sample_add(&header, "r", DCACHE_INT8, 1ull << 49);
    check_refused(&header, DCACHE_ERR_INVALID, "more ranks");
    snprintf(header.job, sizeof header.job, "j");
    sample_add(&header, "r", DCACHE_INT8, 1ull << 49);
    sample_add(&header, "s", DCACHE_INT8, 1ull << 49);
    check_refused(&header, DCACHE_ERR_INVALID, "region s");
}

static herr_t count_errors(hid_t stack, void *context)
{
    (void)stack;
    ++*(int *)context;
    return 0;
}

static herr_t count_errors_v1(void *context)
{
    return count_errors(0, context);
}

/* Let HDF5 itself fail: one more file can be opened, and that is the one in memory. */
static dcache_status_t create_without_descriptors(struct diag *dg, struct shard_header *header)
{
    struct rlimit before;
    struct rlimit tight;
    int next = dup(STDERR_FILENO);
    CU_ASSERT_TRUE_FATAL(next >= 0 && getrlimit(RLIMIT_NOFILE, &before) == 0);
    close(next);
    tight = before;
    tight.rlim_cur = (rlim_t)next + 1;
    CU_ASSERT_EQUAL(setrlimit(RLIMIT_NOFILE, &tight), 0);
    dcache_status_t status = shard_image_file(dg, path_of("settings.h5"), header);
    CU_ASSERT_EQUAL(setrlimit(RLIMIT_NOFILE, &before), 0);
    return status;
}

/* The application's way to hear of HDF5 errors stays what it was, in both of HDF5's interfaces. */
static void test_error_settings(void)
{
    struct diag dg;
    int errors = 0;
    H5E_auto2_t saved = NULL;
    void *saved_context = NULL;
    H5E_auto2_t function = NULL;
    void *context = NULL;
    start_diag(&dg);
    struct shard_header header;
    sample_header(&header, 0, 1);
    H5Eget_auto2(H5E_DEFAULT, &saved, &saved_context);
    H5Eset_auto2(H5E_DEFAULT, count_errors, &errors);
    CU_ASSERT_EQUAL(shard_image_file(&dg, path_of("settings.h5"), &header), DCACHE_OK);
    CU_ASSERT_EQUAL(shard_image_file(&dg, path_of("no/such/directory.h5"), &header), DCACHE_ERR_IO);
    CU_ASSERT_EQUAL(create_without_descriptors(&dg, &header), DCACHE_ERR_HDF5);
    CU_ASSERT_PTR_NOT_NULL(strstr(dg.text, "sample: ")); /* and HDF5's reason behind it */
    CU_ASSERT_EQUAL(errors, 0);
    H5Eget_auto2(H5E_DEFAULT, &function, &context);
    CU_ASSERT_TRUE(function == count_errors && context == &errors);
    H5Eset_auto1(count_errors_v1, &errors);
    CU_ASSERT_EQUAL(shard_image_file(&dg, path_of("settings.h5"), &header), DCACHE_OK);
    CU_ASSERT_EQUAL(create_without_descriptors(&dg, &header), DCACHE_ERR_HDF5);
    CU_ASSERT_EQUAL(errors, 0);
    CU_ASSERT_TRUE(H5Gopen2(-1, "none", H5P_DEFAULT) < 0);
    CU_ASSERT_EQUAL(errors, 1);
    H5Eset_auto2(H5E_DEFAULT, saved, saved_context);
    shard_header_free(&header);
}

/* Run `work` in a process of its own; its exit status, or 1000 + the signal that ended it. */
static int in_child(int (*work)(void))
{
    fflush(NULL);
    pid_t child = fork();
    if (child == 0)
        _exit(work());
    int status = 0;
    CU_ASSERT_EQUAL_FATAL(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static int create_with_limit(void)
{
    struct diag dg;
    struct shard_header header;
    const struct rlimit limit = {1 << 20, 1 << 20};
    start_diag(&dg);
    sample_header(&header, 0, 1);
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0)
        return 2;
    dcache_status_t status = shard_image_file(&dg, path_of("limit.h5"), &header);
    shard_header_free(&header);
    return status == DCACHE_ERR_NO_SPACE && strstr(dg.text, "ulimit") != NULL ? 0 : 1;
}

/* SIGXFSZ would end the program. */
static void test_file_size_limit(void)
{
    CU_ASSERT_EQUAL(in_child(create_with_limit), 0);
}

int main(void)
{
    static const struct unit_case cases[] = {
        {"create", test_create},
        {"HDF5 reads it", test_hdf5_reads_it},
        {"the same regions, the same bytes", test_deterministic},
        {"no regions", test_no_regions},
        {"thousands of regions in deep groups", test_many_regions},
        {"a large image is sparse", test_sparse},
        {"refused", test_refused},
        {"the application's error settings", test_error_settings},
        {"limit of a file's size", test_file_size_limit},
    };
    return unit_main("shard_hdf5", cases, UNIT_COUNT(cases));
}
