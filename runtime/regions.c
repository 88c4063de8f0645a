/* The table of protected regions. */
#include "runtime/regions.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct region *find(dcache_t *dc, const char *name)
{
    for (uint32_t i = 0; i < dc->region_count; i++) {
        if (strcmp(dc->regions[i].shape.name, name) == 0)
            return &dc->regions[i];
    }
    return NULL;
}

/* "a" cannot be a dataset and the group of "a/b" in one file. */
static bool is_group_of(const char *group, const char *name)
{
    size_t length = strlen(group);

    return strncmp(group, name, length) == 0 && name[length] == '/';
}

static dcache_status_t check_name(dcache_t *dc, const char *name)
{
    if (name == NULL || !shard_name_valid(name))
        return diag_fail(&dc->diag, DCACHE_ERR_INVALID,
                         "region name '%.80s' is not valid: 1 to %d of A-Z a-z 0-9 _ . - and '/' between parts, not "
                         "'dcache' or below it",
                         name == NULL ? "(null)" : name, DCACHE_NAME_MAX);
    for (uint32_t i = 0; i < dc->region_count; i++) {
        const char *other = dc->regions[i].shape.name;
        if (is_group_of(other, name) || is_group_of(name, other))
            return diag_fail(&dc->diag, DCACHE_ERR_INVALID,
                             "region '%s' cannot be kept beside region '%s': one name is the group of the other", name,
                             other);
    }
    return DCACHE_OK;
}

static dcache_status_t check_shape(dcache_t *dc, struct shard_region *shape)
{
    uint64_t bytes = shard_type_bytes(shape->type);

    if (bytes == 0)
        return diag_fail(&dc->diag, DCACHE_ERR_INVALID, "region '%s' has the unknown element type %d", shape->name,
                         (int)shape->type);
    for (uint32_t d = 0; d < shape->ndims; d++) {
        if (shape->start[d] > shape->global[d] || shape->count[d] > shape->global[d] - shape->start[d])
            return diag_fail(&dc->diag, DCACHE_ERR_INVALID,
                             "region '%s', dimension %u: start %llu + count %llu exceeds the global extent %llu",
                             shape->name, d, (unsigned long long)shape->start[d], (unsigned long long)shape->count[d],
                             (unsigned long long)shape->global[d]);
        if (__builtin_mul_overflow(bytes, shape->count[d], &bytes) || bytes > SHARD_FILE_MAX)
            return diag_fail(&dc->diag, DCACHE_ERR_INVALID, "region '%s' is larger than %llu bytes", shape->name,
                             (unsigned long long)SHARD_FILE_MAX);
    }
    shape->bytes = bytes;
    return DCACHE_OK;
}

static dcache_status_t make_room(dcache_t *dc)
{
    if (dc->region_count < dc->region_room)
        return DCACHE_OK;
    if (dc->region_count >= SHARD_REGIONS_MAX)
        return diag_fail(&dc->diag, DCACHE_ERR_INVALID, "more than %u regions on one rank", SHARD_REGIONS_MAX);
    uint32_t room = dc->region_room == 0 ? 16 : dc->region_room * 2;
    struct region *regions = realloc(dc->regions, room * sizeof *regions);
    if (regions == NULL)
        return diag_fail(&dc->diag, DCACHE_ERR_NO_MEMORY, "out of memory for %u regions", room);
    dc->regions = regions;
    dc->region_room = room;
    return DCACHE_OK;
}

static dcache_status_t protect(dcache_t *dc, void *memory, struct shard_region *shape)
{
    dcache_status_t status = check_shape(dc, shape);

    if (status == DCACHE_OK && memory == NULL && shape->bytes > 0)
        status = diag_fail(&dc->diag, DCACHE_ERR_INVALID, "region '%s' has %llu bytes at a NULL pointer", shape->name,
                           (unsigned long long)shape->bytes);
    if (status != DCACHE_OK)
        return status;
    struct region *region = find(dc, shape->name);
    if (region != NULL && memcmp(&region->shape, shape, sizeof *shape) == 0) {
        region->memory = memory; /* the same shape: images made for it stay good */
        return DCACHE_OK;
    }
    if (region == NULL) {
        status = make_room(dc);
        if (status != DCACHE_OK)
            return status;
        region = &dc->regions[dc->region_count++];
    }
    region->shape = *shape;
    region->memory = memory;
    dc->layout++;
    return DCACHE_OK;
}

dcache_status_t dcache_protect(dcache_t *dc, const char *name, void *ptr, uint64_t count, dcache_type_t type)
{
    struct shard_region shape;

    if (dc == NULL)
        return DCACHE_ERR_INVALID;
    dcache_status_t status = check_name(dc, name);
    if (status != DCACHE_OK)
        return status;
    memset(&shape, 0, sizeof shape); /* padding too: shapes are compared as bytes */
    memcpy(shape.name, name, strlen(name));
    shape.type = type;
    shape.ndims = 1;
    shape.count[0] = shape.global[0] = count;
    return protect(dc, ptr, &shape);
}

dcache_status_t dcache_protect_array(dcache_t *dc, const char *name, void *ptr, dcache_type_t type, int ndims,
                                     const uint64_t global[], const uint64_t start[], const uint64_t count[])
{
    struct shard_region shape;

    if (dc == NULL)
        return DCACHE_ERR_INVALID;
    dcache_status_t status = check_name(dc, name);
    if (status != DCACHE_OK)
        return status;
    if (ndims < 1 || ndims > DCACHE_DIMS_MAX || global == NULL || start == NULL || count == NULL)
        return diag_fail(&dc->diag, DCACHE_ERR_INVALID,
                         "region '%s': ndims is %d (allowed: 1 to %d) or one of global, start and count is NULL", name,
                         ndims, DCACHE_DIMS_MAX);
    memset(&shape, 0, sizeof shape);
    memcpy(shape.name, name, strlen(name));
    shape.type = type;
    shape.ndims = (uint32_t)ndims;
    shape.is_block = true;
    for (int d = 0; d < ndims; d++) {
        shape.global[d] = global[d];
        shape.start[d] = start[d];
        shape.count[d] = count[d];
    }
    return protect(dc, ptr, &shape);
}

dcache_status_t dcache_unprotect(dcache_t *dc, const char *name)
{
    if (dc == NULL)
        return DCACHE_ERR_INVALID;
    struct region *region = name == NULL ? NULL : find(dc, name);
    if (region == NULL)
        return diag_fail(&dc->diag, DCACHE_ERR_INVALID, "no region '%.80s' is protected",
                         name == NULL ? "(null)" : name);
    size_t behind = (size_t)(&dc->regions[dc->region_count] - (region + 1));
    memmove(region, region + 1, behind * sizeof *region);
    dc->region_count--;
    dc->layout++;
    return DCACHE_OK;
}

static bool same_shape(const struct shard_region *a, const struct shard_region *b)
{
    if (a->type != b->type || a->ndims != b->ndims || a->is_block != b->is_block)
        return false;
    for (uint32_t d = 0; d < a->ndims; d++) {
        if (a->count[d] != b->count[d] || a->global[d] != b->global[d] || a->start[d] != b->start[d])
            return false;
    }
    return true;
}

static void describe(const struct shard_region *region, char *text, size_t room)
{
    int used = snprintf(text, room, "%s", shard_type_name(region->type));

    for (uint32_t d = 0; d < region->ndims && used > 0 && (size_t)used < room; d++)
        used +=
            snprintf(text + used, room - (size_t)used, "[%llu of %llu at %llu]", (unsigned long long)region->count[d],
                     (unsigned long long)region->global[d], (unsigned long long)region->start[d]);
}

const struct shard_region *regions_stored(const struct shard_header *header, const char *name)
{
    for (uint32_t i = 0; i < header->region_count; i++) {
        if (strcmp(header->regions[i].name, name) == 0)
            return &header->regions[i];
    }
    return NULL;
}

dcache_status_t regions_match(dcache_t *dc, const struct shard_header *header)
{
    for (uint32_t i = 0; i < dc->region_count; i++) {
        const struct shard_region *mine = &dc->regions[i].shape;
        const struct shard_region *stored = regions_stored(header, mine->name);
        char has[256], wants[256];
        if (stored == NULL)
            return diag_fail(&dc->diag, DCACHE_ERR_MISMATCH,
                             "step %llu has no region '%s': unprotect it before dcache_restart() and protect it again "
                             "afterwards, if that is meant",
                             (unsigned long long)header->set.step, mine->name);
        if (same_shape(mine, stored))
            continue;
        describe(stored, has, sizeof has);
        describe(mine, wants, sizeof wants);
        return diag_fail(&dc->diag, DCACHE_ERR_MISMATCH,
                         "region '%s' is %s in step %llu, but protected as %s: protect it as it was saved", mine->name,
                         has, (unsigned long long)header->set.step, wants);
    }
    return DCACHE_OK;
}

bool regions_equal(const dcache_t *dc, const struct shard_header *header)
{
    if (dc->region_count != header->region_count)
        return false;
    for (uint32_t i = 0; i < dc->region_count; i++) {
        const struct shard_region *mine = &dc->regions[i].shape, *stored = &header->regions[i];
        if (strcmp(mine->name, stored->name) != 0 || !same_shape(mine, stored))
            return false;
    }
    return true;
}
