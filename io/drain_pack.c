#include "io/drain_pack.h"

#include "io/crc64.h"
#include "io/object_backend.h"
#include "io/pack_name.h"

#include <stdlib.h>
#include <string.h>

static void name_pack(struct drain_pack *pack)
{
    const struct drain_pack_maker *maker = pack->maker;
    const struct shard_set *set = &maker->origin->set;
    const uint64_t about[] = {maker->writer, set->step, set->sequence, set->epoch, set->world_size};
    struct pack_name name = {.id = crc64_update(0, about, sizeof about), .count = (uint32_t)pack->count};
    for (size_t i = 0; i < pack->count; i++)
        name.id = crc64_update(name.id, &pack->copies[i]->rank, sizeof pack->copies[i]->rank);
    name.first = pack->copies[0]->rank;
    name.last = pack->copies[pack->count - 1]->rank;
    pack_name_text(&name, pack->name);
}

dcache_status_t drain_pack_open(struct diag *dg, const struct drain_pack_maker *maker, const struct drain_task *task,
                                const size_t *next, struct drain_pack *pack)
{
    *pack = (struct drain_pack){.maker = maker, .size = UINT64_MAX};
    pack->copies = calloc(task->member_count, sizeof *pack->copies);
    pack->shards = calloc(task->member_count, sizeof *pack->shards);
    if (pack->copies == NULL || pack->shards == NULL) {
        drain_pack_close(pack);
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "out of memory for a pack of %zu shards", task->member_count);
    }
    for (size_t i = 0; i < task->member_count; i++) {
        if (next[i] < task->members[i].copy_count)
            pack->copies[pack->count++] = &task->members[i].copies[next[i]];
    }
    pack->bad = pack->count;
    if (pack->count > 0)
        name_pack(pack);
    return DCACHE_OK;
}

void drain_pack_close(struct drain_pack *pack)
{
    free(pack->copies);
    free(pack->shards);
    memset(pack, 0, sizeof *pack);
}

/* One image, from its first byte to its last in one range. */
static dcache_status_t read_image(struct diag *dg, struct drain_image *image, const struct codec_settings *settings,
                                  unsigned char *target, uint64_t room, struct manifest_shard *shard, uint64_t *crc)
{
    struct drain_form form;
    *shard = drain_image_shard(image);
    dcache_status_t status = diag_failpoint(dg, "drain.shard");
    if (status != DCACHE_OK)
        return status;
    status = drain_form_open(dg, image, settings, false, &form);
    if (status == DCACHE_OK && form.source.bytes > room)
        status = diag_fail(dg, DCACHE_ERR_INTERNAL, "%s does not fit into its pack", drain_image_name(image));
    if (status == DCACHE_OK)
        status = form.source.read(form.source.context, dg, 0, target, (size_t)form.source.bytes, crc);
    if (status == DCACHE_OK) {
        shard->codec = form.codec;
        shard->stored_bytes = object_source_bytes(&form.source);
    }
    drain_form_close(&form);
    return status;
}

/* The next shard. A bad copy is told by pack->bad. */
static dcache_status_t append(struct diag *dg, struct drain_pack *pack, size_t index, unsigned char *target,
                              uint64_t room, uint64_t *crc)
{
    const struct drain_pack_maker *maker = pack->maker;
    struct drain_image *image = NULL;
    dcache_status_t status = drain_image_open(dg, maker->origin, pack->copies[index], maker->governor, &image);
    if (status != DCACHE_OK) {
        pack->bad = index;
        return status;
    }
    status = read_image(dg, image, maker->settings, target, room, &pack->shards[index], crc);
    if (status != DCACHE_OK && drain_image_is_bad(image))
        pack->bad = index;
    drain_image_close(image);
    return status;
}

/* Once for each attempt to put it: there is one range, all of it. */
static dcache_status_t read_pack(void *context, struct diag *dg, uint64_t offset, void *buffer, size_t bytes,
                                 uint64_t *crc)
{
    struct drain_pack *pack = context;
    uint64_t at = 0;
    *crc = 0;
    pack->size = UINT64_MAX;
    pack->bad = pack->count;
    if (offset != 0)
        return diag_fail(dg, DCACHE_ERR_INTERNAL, "a pack was not read in one go");
    for (size_t i = 0; i < pack->count; i++) {
        struct manifest_shard *shard = &pack->shards[i];
        uint64_t digest = 0;
        dcache_status_t status = append(dg, pack, i, (unsigned char *)buffer + at, bytes - at, &digest);
        if (status != DCACHE_OK)
            return status;
        memcpy(shard->object, pack->name, sizeof shard->object);
        shard->offset = at;
        shard->store = pack->store;
        *crc = crc64_combine(*crc, digest, shard->stored_bytes);
        at += shard->stored_bytes;
    }
    pack->size = at;
    return DCACHE_OK;
}

static uint64_t pack_size(void *context)
{
    const struct drain_pack *pack = context;
    return pack->size;
}

struct object_source drain_pack_source(struct drain_pack *pack)
{
    return (struct object_source){.bytes = pack->maker->room, .context = pack, .size = pack_size, .read = read_pack};
}
