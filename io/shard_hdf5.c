#include "io/shard_hdf5.h"

#include "io/shard_layout.h"
#include "io/store_file.h"

#include <errno.h>
#include <hdf5.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Regions are stored as the machine has them, under little-endian types. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "big-endian machines would need their own HDF5 types");

#define ALIGNMENT 4096u
/* More metadata than HDF5 makes for one region, its attributes and as many groups as a name can have; and for the rest
 * of the file. Only the size of the header depends on it. */
#define METADATA_PER_REGION 16384u
#define METADATA_PER_FILE   (1u << 20)
#define CACHE_BYTES         (128u << 10) /* of metadata that HDF5 keeps in memory while it makes an image */

/* What one creation holds; every id is H5I_INVALID_HID until it is made. */
struct body {
    struct diag *dg;
    hid_t fapl;
    hid_t fcpl;
    hid_t group_plist;
    hid_t dataset_plist;
    hid_t file;
};

/* The innermost entry of HDF5's error stack is the reason, the outer ones repeat which calls led there. */
static herr_t take_reason(unsigned depth, const H5E_error2_t *error, void *context)
{
    char *reason = context;
    if (depth == 0 && error->desc != NULL)
        snprintf(reason, 256, "%s", error->desc);
    return 0;
}

/* To be called before any other HDF5 call, which would clear the error stack. */
static dcache_status_t hdf5_failed(struct diag *dg, const char *what, const char *name)
{
    char reason[256] = "no reason given";
    (void)H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, take_reason, reason);
    return diag_fail(dg, DCACHE_ERR_HDF5, "HDF5 cannot make %s %s: %s", what, name, reason);
}

/* A type of its own for each call, to be closed. */
static hid_t make_small_float(size_t sign_bit, size_t exponent_bits, size_t mantissa_bits, size_t bias)
{
    hid_t type = H5Tcopy(H5T_IEEE_F32LE);
    if (type < 0)
        return type;
    if (H5Tset_fields(type, sign_bit, mantissa_bits, exponent_bits, 0, mantissa_bits) >= 0 &&
        H5Tset_size(type, 2) >= 0 && H5Tset_ebias(type, bias) >= 0)
        return type;
    (void)H5Tclose(type);
    return H5I_INVALID_HID;
}

static hid_t make_type(dcache_type_t type)
{
    switch (type) {
    case DCACHE_INT8:
        return H5Tcopy(H5T_STD_I8LE);
    case DCACHE_UINT8:
        return H5Tcopy(H5T_STD_U8LE);
    case DCACHE_INT16:
        return H5Tcopy(H5T_STD_I16LE);
    case DCACHE_UINT16:
        return H5Tcopy(H5T_STD_U16LE);
    case DCACHE_INT32:
        return H5Tcopy(H5T_STD_I32LE);
    case DCACHE_UINT32:
        return H5Tcopy(H5T_STD_U32LE);
    case DCACHE_INT64:
        return H5Tcopy(H5T_STD_I64LE);
    case DCACHE_UINT64:
        return H5Tcopy(H5T_STD_U64LE);
    case DCACHE_FLOAT16:
        return make_small_float(15, 5, 10, 15);
    case DCACHE_BFLOAT16:
        return make_small_float(15, 8, 7, 127);
    case DCACHE_FLOAT32:
        return H5Tcopy(H5T_IEEE_F32LE);
    case DCACHE_FLOAT64:
        return H5Tcopy(H5T_IEEE_F64LE);
    }
    return H5I_INVALID_HID;
}

/* A contiguous dataset, allocated at once; where its first byte lies in the file, 0 for an empty one. */
static bool make_dataset(const struct body *body, const char *name, hid_t type, hid_t space, hid_t *dataset,
                         uint64_t *offset)
{
    hid_t made = H5Dcreate2(body->file, name, type, space, H5P_DEFAULT, body->dataset_plist, H5P_DEFAULT);
    if (made < 0)
        return false;
    haddr_t address = H5Dget_offset(made);
    hssize_t elements = H5Sget_simple_extent_npoints(space);
    *dataset = made;
    *offset = elements > 0 ? address : 0; /* that of an empty one is HADDR_UNDEF, plus the user block */
    return elements <= 0 || address != HADDR_UNDEF;
}

/* An attribute of `count` uint64 numbers; a scalar for count 0. */
static bool put_numbers(hid_t object, const char *name, const uint64_t *numbers, hsize_t count)
{
    hid_t space = count > 0 ? H5Screate_simple(1, &count, NULL) : H5Screate(H5S_SCALAR);
    if (space < 0)
        return false;
    hid_t attribute = H5Acreate2(object, name, H5T_STD_U64LE, space, H5P_DEFAULT, H5P_DEFAULT);
    bool good = attribute >= 0 && H5Awrite(attribute, H5T_NATIVE_UINT64, numbers) >= 0;
    if (attribute >= 0)
        good = H5Aclose(attribute) >= 0 && good;
    (void)H5Sclose(space);
    return good;
}

static bool put_text(hid_t object, const char *name, const char *text)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t attribute = H5I_INVALID_HID;
    if (type >= 0 && space >= 0 && H5Tset_size(type, strlen(text) + 1) >= 0)
        attribute = H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    bool good = attribute >= 0 && H5Awrite(attribute, type, text) >= 0;
    if (attribute >= 0)
        good = H5Aclose(attribute) >= 0 && good;
    if (space >= 0)
        (void)H5Sclose(space);
    if (type >= 0)
        (void)H5Tclose(type);
    return good;
}

/* The groups above `name`. Made one by one, because those that HDF5 makes by itself carry time stamps. */
static bool make_groups(const struct body *body, const char *name)
{
    char path[DCACHE_NAME_MAX + 1];
    for (const char *slash = strchr(name, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        snprintf(path, sizeof path, "%.*s", (int)(slash - name), name);
        htri_t there = H5Lexists(body->file, path, H5P_DEFAULT);
        if (there > 0)
            continue;
        hid_t group = H5I_INVALID_HID;
        if (there == 0)
            group = H5Gcreate2(body->file, path, H5P_DEFAULT, body->group_plist, H5P_DEFAULT);
        if (group < 0)
            return false;
        (void)H5Gclose(group);
    }
    return true;
}

/* The group /dcache: whose shard this is, and the step, which the runtime writes in place. */
static dcache_status_t make_description(const struct body *body, struct shard_header *header)
{
    const uint64_t rank = header->rank;
    const uint64_t world_size = header->set.world_size;
    const uint64_t format = SHARD_FORMAT_VERSION;
    hid_t step = H5I_INVALID_HID;
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t group = H5Gcreate2(body->file, "dcache", H5P_DEFAULT, body->group_plist, H5P_DEFAULT);
    bool good = space >= 0 && group >= 0 && put_text(group, "job", header->job) &&
                put_numbers(group, "rank", &rank, 0) && put_numbers(group, "world_size", &world_size, 0) &&
                put_numbers(group, "format", &format, 0) &&
                make_dataset(body, "dcache/step", H5T_STD_U64LE, space, &step, &header->step_offset);
    dcache_status_t status = good ? DCACHE_OK : hdf5_failed(body->dg, "the group", "dcache");
    if (step >= 0)
        (void)H5Dclose(step);
    if (group >= 0)
        (void)H5Gclose(group);
    if (space >= 0)
        (void)H5Sclose(space);
    return status;
}

static dcache_status_t make_region(const struct body *body, struct shard_region *region)
{
    hsize_t dims[DCACHE_DIMS_MAX];
    for (uint32_t i = 0; i < region->ndims; i++)
        dims[i] = region->count[i];
    hid_t dataset = H5I_INVALID_HID;
    hid_t type = make_type(region->type);
    hid_t space = H5Screate_simple((int)region->ndims, dims, NULL);
    bool good = type >= 0 && space >= 0 && make_groups(body, region->name) &&
                make_dataset(body, region->name, type, space, &dataset, &region->offset);
    if (good && region->is_block)
        good = put_numbers(dataset, "dcache_global", region->global, region->ndims) &&
               put_numbers(dataset, "dcache_start", region->start, region->ndims);
    dcache_status_t status = good ? DCACHE_OK : hdf5_failed(body->dg, "the dataset", region->name);
    if (dataset >= 0)
        (void)H5Dclose(dataset);
    if (space >= 0)
        (void)H5Sclose(space);
    if (type >= 0)
        (void)H5Tclose(type);
    return status;
}

/* Left alone, HDF5 would keep the metadata of every region in memory until the file is closed. */
static bool limit_cache(hid_t fapl)
{
    H5AC_cache_config_t config = {.version = H5AC__CURR_CACHE_CONFIG_VERSION};
    if (H5Pget_mdc_config(fapl, &config) < 0)
        return false;
    config.set_initial_size = true;
    config.initial_size = CACHE_BYTES;
    config.min_size = CACHE_BYTES;
    config.max_size = CACHE_BYTES;
    config.incr_mode = H5C_incr__off;
    config.flash_incr_mode = H5C_flash_incr__off;
    config.decr_mode = H5C_decr__off;
    return H5Pset_mdc_config(fapl, &config) >= 0;
}

static bool make_plists(struct body *body, uint64_t header_bytes)
{
    body->fapl = H5Pcreate(H5P_FILE_ACCESS);
    body->fcpl = H5Pcreate(H5P_FILE_CREATE);
    body->group_plist = H5Pcreate(H5P_GROUP_CREATE);
    body->dataset_plist = H5Pcreate(H5P_DATASET_CREATE);
    if (body->fapl < 0 || body->fcpl < 0 || body->group_plist < 0 || body->dataset_plist < 0)
        return false;
    return H5Pset_fapl_stdio(body->fapl) >= 0 && H5Pset_alignment(body->fapl, ALIGNMENT, ALIGNMENT) >= 0 &&
           H5Pset_libver_bounds(body->fapl, H5F_LIBVER_V18, H5F_LIBVER_V18) >= 0 &&
           H5Pset_fclose_degree(body->fapl, H5F_CLOSE_STRONG) >= 0 && limit_cache(body->fapl) &&
           H5Pset_file_locking(body->fapl, false, true) >= 0 && H5Pset_userblock(body->fcpl, header_bytes) >= 0 &&
           H5Pset_obj_track_times(body->fcpl, false) >= 0 && H5Pset_obj_track_times(body->group_plist, false) >= 0 &&
           H5Pset_obj_track_times(body->dataset_plist, false) >= 0 &&
           H5Pset_layout(body->dataset_plist, H5D_CONTIGUOUS) >= 0 &&
           H5Pset_alloc_time(body->dataset_plist, H5D_ALLOC_TIME_EARLY) >= 0 &&
           H5Pset_fill_time(body->dataset_plist, H5D_FILL_TIME_NEVER) >= 0;
}

static void close_plists(const struct body *body)
{
    const hid_t ids[] = {body->fapl, body->fcpl, body->group_plist, body->dataset_plist};
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        if (ids[i] >= 0)
            (void)H5Pclose(ids[i]);
    }
}

static dcache_status_t make_body(struct diag *dg, const char *path, struct shard_header *header)
{
    struct body body = {dg, H5I_INVALID_HID, H5I_INVALID_HID, H5I_INVALID_HID, H5I_INVALID_HID, H5I_INVALID_HID};
    if (make_plists(&body, header->header_bytes))
        body.file = H5Fcreate(path, H5F_ACC_TRUNC, body.fcpl, body.fapl);
    dcache_status_t status = DCACHE_OK;
    if (body.file < 0)
        status = hdf5_failed(dg, "the image of job", header->job);
    if (status == DCACHE_OK)
        status = make_description(&body, header);
    for (uint32_t i = 0; i < header->region_count && status == DCACHE_OK; i++)
        status = make_region(&body, &header->regions[i]);
    if (body.file >= 0 && H5Fclose(body.file) < 0 && status == DCACHE_OK)
        status = hdf5_failed(dg, "the image of job", header->job);
    close_plists(&body);
    return status;
}

/* Names as '/' would be the smallest character: then a group's members follow right behind its name. */
static int compare_names(const void *a, const void *b)
{
    const unsigned char *x = *(const unsigned char *const *)a;
    const unsigned char *y = *(const unsigned char *const *)b;
    while (*x != '\0' && *x == *y) {
        x++;
        y++;
    }
    int left = *x == '/' ? 1 : *x; /* no other character of a name is that small */
    int right = *y == '/' ? 1 : *y;
    return left - right;
}

static dcache_status_t check_name_pairs(struct diag *dg, const char **names, uint32_t count)
{
    qsort(names, count, sizeof *names, compare_names);
    for (uint32_t i = 0; i + 1 < count; i++) {
        size_t length = strlen(names[i]);
        if (strncmp(names[i], names[i + 1], length) != 0)
            continue;
        char behind = names[i + 1][length];
        if (behind == '\0')
            return diag_fail(dg, DCACHE_ERR_INVALID, "there are two regions named %s: rename one", names[i]);
        if (behind == '/')
            return diag_fail(dg, DCACHE_ERR_INVALID,
                             "region %s would also be the group that region %s is in: rename one of them", names[i],
                             names[i + 1]);
    }
    return DCACHE_OK;
}

static dcache_status_t check_names(struct diag *dg, const struct shard_header *header)
{
    const char **names = calloc((size_t)header->region_count + 1, sizeof *names);
    if (names == NULL)
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "no memory for the names of %" PRIu32 " regions",
                         header->region_count);
    for (uint32_t i = 0; i < header->region_count; i++)
        names[i] = header->regions[i].name;
    dcache_status_t status = check_name_pairs(dg, names, header->region_count);
    free(names);
    return status;
}

/* Check what the image is to hold, and find a bound for the size of its body. */
static dcache_status_t check_regions(struct diag *dg, const struct shard_header *header, uint64_t *body_bound)
{
    if (header->region_count > SHARD_REGIONS_MAX)
        return diag_fail(dg, DCACHE_ERR_INVALID, "%" PRIu32 " regions are more than the %u that a shard can have",
                         header->region_count, SHARD_REGIONS_MAX);
    if (!shard_job_valid(header->job))
        return diag_fail(dg, DCACHE_ERR_INVALID, "\"%s\" is no name for a job: use up to %d of A-Z a-z 0-9 _ . -",
                         header->job, SHARD_JOB_MAX);
    uint64_t bound = METADATA_PER_FILE;
    for (uint32_t i = 0; i < header->region_count; i++) {
        const struct shard_region *region = &header->regions[i];
        if (!shard_name_valid(region->name))
            return diag_fail(dg, DCACHE_ERR_INVALID, "\"%s\" is no name for a region", region->name);
        if (!shard_extents_valid(region))
            return diag_fail(dg, DCACHE_ERR_INVALID, "the type and extents of region %s do not fit each other",
                             region->name);
        bound += ALIGNMENT + METADATA_PER_REGION;
        if (region->bytes > SHARD_FILE_MAX || bound + region->bytes > SHARD_FILE_MAX)
            return diag_fail(dg, DCACHE_ERR_INVALID,
                             "with region %s the shard has more than %llu bytes: use more ranks", region->name,
                             SHARD_FILE_MAX);
        bound += region->bytes;
    }
    *body_bound = bound;
    return check_names(dg, header);
}

/* What is known once the body is made. */
static dcache_status_t finish_header(struct diag *dg, int fd, struct shard_header *header)
{
    struct stat status;
    if (fstat(fd, &status) != 0)
        return diag_fail_errno(dg, errno, "cannot get the length of the empty shard image");
    header->file_bytes = (uint64_t)status.st_size;
    uint64_t chunks = shard_chunks_in(header->file_bytes - header->header_bytes);
    if (header->file_bytes <= header->header_bytes ||
        shard_tables_end(header->region_count, chunks) > header->header_bytes)
        return diag_fail(dg, DCACHE_ERR_INTERNAL,
                         "the shard's body has %" PRIu64 " bytes, too many for a header of %" PRIu64,
                         header->file_bytes, header->header_bytes);
    header->chunk_count = (uint32_t)chunks;
    header->chunk_crc = calloc(chunks, sizeof *header->chunk_crc);
    if (header->chunk_crc == NULL)
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "no memory for the digests of %" PRIu64 " chunks", chunks);
    return DCACHE_OK;
}

/*
 * HDF5 makes the image in memory (its metadata only, the rest are holes), and not where it is kept: an HDF5 that
 * meets a full disk in H5Fclose() keeps the file open, tries again at exit, and crashes the program there. Its stdio
 * driver takes the path of a memfd, which the default driver tries, in vain, to resolve to a name on a disk.
 */
static dcache_status_t create_in_memory(struct diag *dg, struct shard_header *header, int *image_fd)
{
    int fd = memfd_create("dcache-image", MFD_CLOEXEC);
    if (fd < 0)
        return diag_fail_errno(dg, errno, "cannot make a file in memory");
    char memory_path[32];
    snprintf(memory_path, sizeof memory_path, "/proc/self/fd/%d", fd);
    dcache_status_t status;
    H5E_BEGIN_TRY /* saves the application's error settings, turns printing off, and puts them back */
    {
        status = make_body(dg, memory_path, header);
        (void)H5garbage_collect(); /* HDF5 would keep some KiB per dataset for files to come */
#ifdef __GLIBC__
        (void)malloc_trim(0); /* and the C library what HDF5 gave back in small pieces */
#endif
    }
    H5E_END_TRY
    if (status == DCACHE_OK)
        status = finish_header(dg, fd, header);
    if (status == DCACHE_OK)
        *image_fd = fd;
    else
        (void)close(fd);
    return status;
}

dcache_status_t shard_hdf5_create(struct diag *dg, struct shard_header *header, int *image_fd)
{
    uint64_t body_bound = 0;
    dcache_status_t status = check_regions(dg, header, &body_bound);
    if (status != DCACHE_OK)
        return status;
    struct shard_header made = *header;
    made.chunk_crc = NULL;
    made.header_bytes = shard_header_bytes(header->region_count, body_bound);
    if (made.header_bytes > SHARD_HEADER_MAX)
        return diag_fail(dg, DCACHE_ERR_INVALID,
                         "a shard of about %" PRIu64 " bytes has more chunks than a header can list: use more ranks",
                         body_bound);
    status = store_file_limit(dg, made.header_bytes + body_bound);
    if (status == DCACHE_OK)
        status = create_in_memory(dg, &made, image_fd);
    if (status != DCACHE_OK) {
        free(made.chunk_crc);
        return status;
    }
    free(header->chunk_crc); /* of an image made before */
    *header = made;
    return DCACHE_OK;
}
