#include "io/coded_source.h"

#include "io/codec_index.h"
#include "io/crc64.h"
#include "io/workers.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zstd.h>

#define SAMPLES       8u
#define WORTH_PERCENT 90u /* what compression has to bring the samples down to */

/* --- Turns ---------------------------------------------------------------------------------------------------------*/

static uint64_t thread_cpu_ns(void)
{
    struct timespec now = {0};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Wait until this thread may use a CPU. Returns what end_turn() wants. */
static uint64_t begin_turn(struct coded_turns *turns)
{
    if (turns == NULL)
        return 0;
    while (sem_wait(&turns->free) != 0) /* a signal came */
        ;
    return thread_cpu_ns();
}

static void end_turn(struct coded_turns *turns, uint64_t begun)
{
    if (turns == NULL)
        return;
    atomic_fetch_add(turns->cpu_ns, thread_cpu_ns() - begun);
    (void)sem_post(&turns->free);
}

/* --- Is it worth it? -----------------------------------------------------------------------------------------------*/

static dcache_status_t sample(struct diag *dg, const struct codec_settings *settings, const struct object_source *plain,
                              uint64_t header_bytes, unsigned char *chunk, unsigned char *packed, bool *worth)
{
    const uint64_t body = plain->bytes - header_bytes;
    const uint64_t chunks = (body + SHARD_CHUNK_BYTES - 1) / SHARD_CHUNK_BYTES;
    const uint64_t samples = chunks < SAMPLES ? chunks : SAMPLES;
    uint64_t before = 0;
    uint64_t after = 0;
    for (uint64_t i = 0; i < samples; i++) {
        uint64_t offset = chunks * i / samples * SHARD_CHUNK_BYTES;
        size_t bytes = (size_t)(body - offset < SHARD_CHUNK_BYTES ? body - offset : SHARD_CHUNK_BYTES);
        uint64_t crc = 0;
        dcache_status_t status = plain->read(plain->context, dg, header_bytes + offset, chunk, bytes, &crc);
        if (status != DCACHE_OK)
            return status;
        const uint64_t begun = begin_turn(settings->turns);
        size_t length = ZSTD_compress(packed, ZSTD_compressBound(SHARD_CHUNK_BYTES), chunk, bytes, settings->level);
        end_turn(settings->turns, begun);
        before += bytes;
        after += ZSTD_isError(length) ? bytes : length;
    }
    *worth = after <= before * WORTH_PERCENT / 100;
    return DCACHE_OK;
}

dcache_status_t coded_source_choose(struct diag *dg, const struct codec_settings *settings,
                                    const struct object_source *plain, uint64_t header_bytes, enum codec *codec)
{
    bool compress = settings->compress == COMPRESS_ALWAYS;
    dcache_status_t status = DCACHE_OK;
    if (settings->compress == COMPRESS_AUTO) {
        unsigned char *room = malloc(SHARD_CHUNK_BYTES + ZSTD_compressBound(SHARD_CHUNK_BYTES));
        if (room == NULL)
            return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "out of memory for a sample of a shard");
        status = sample(dg, settings, plain, header_bytes, room, room + SHARD_CHUNK_BYTES, &compress);
        free(room);
    }
    *codec = (enum codec)((compress ? CODEC_ZSTD : 0) | (settings->key != NULL ? CODEC_AES : 0));
    return status;
}

/* --- The source ----------------------------------------------------------------------------------------------------*/

/* One frame that is being made, or made and not yet handed out. */
struct made {
    struct codec_worker *worker;
    unsigned char *plain;
    unsigned char *stored;
    size_t stored_bytes;
    uint64_t digest;
};

struct coded_source {
    const struct object_source *plain;
    const struct codec_key *key;
    struct coded_turns *turns;
    struct codec_object object;
    struct codec_index index;
    unsigned threads;
    int level;
    size_t frame_room;
    pthread_mutex_t reading; /* of the image, and of next_read */
    struct made *batch;      /* threads of them */
    unsigned in_batch;       /* frames of this batch */
    uint32_t batch_first;    /* index of its first frame */
    unsigned current;        /* frame of the batch that is being handed out */
    size_t inside;           /* what of it is out already */
    uint32_t next_frame;     /* to be made */
    unsigned char *tail;     /* the index, once all frames are out */
    uint64_t tail_bytes;
    uint64_t position; /* bytes handed out */
    uint64_t size;     /* of the object; UINT64_MAX: not known yet */
};

/* From the beginning, with a new key: what is made anew need not come out the same. */
static dcache_status_t begin(struct coded_source *coded, struct diag *dg)
{
    struct codec_index *index = &coded->index;
    coded->in_batch = coded->current = 0;
    coded->batch_first = coded->next_frame = 0;
    coded->inside = 0;
    coded->position = 0;
    coded->size = UINT64_MAX;
    free(coded->tail);
    coded->tail = NULL;
    coded->tail_bytes = 0;
    if (coded->key == NULL)
        return DCACHE_OK;
    if (RAND_bytes(index->salt, sizeof index->salt) != 1)
        return diag_fail(dg, DCACHE_ERR_INTERNAL, "no random numbers for an encrypted object");
    index->key_number = coded->key->number;
    return codec_derive_key(dg, coded->key->bytes, index->salt, coded->object.key);
}

/* One frame on one of the threads. Which frame is decided when the image is free, so that it is read in ascending
 * order; each frame has its place in the batch. */
static dcache_status_t make_frame(void *context, const struct workers_turn *turn)
{
    struct coded_source *coded = context;
    const struct codec_layout *layout = &coded->object.layout;
    uint64_t crc = 0;
    pthread_mutex_lock(&coded->reading);
    uint32_t frame = coded->next_frame++;
    struct made *made = &coded->batch[frame - coded->batch_first];
    dcache_status_t status = coded->plain->read(coded->plain->context, turn->dg, codec_frame_offset(layout, frame),
                                                made->plain, codec_frame_length(layout, frame), &crc);
    pthread_mutex_unlock(&coded->reading);
    if (status != DCACHE_OK)
        return status;
    const uint64_t begun = begin_turn(coded->turns);
    /* Once it is coded nobody can tell any more: its digests will be those of what was coded. */
    if (crc64_update(0, made->plain, codec_frame_length(layout, frame)) != crc)
        status =
            diag_fail(turn->dg, DCACHE_ERR_CORRUPT,
                      "frame %u has changed between reading and coding: is the memory of this node faulty?", frame);
    else
        status = codec_encode_frame(turn->dg, made->worker, &coded->object, frame, made->plain, made->stored,
                                    coded->frame_room, &made->stored_bytes);
    if (status == DCACHE_OK)
        made->digest = crc64_update(0, made->stored, made->stored_bytes);
    end_turn(coded->turns, begun);
    return status;
}

static dcache_status_t make_batch(struct coded_source *coded, struct diag *dg)
{
    struct codec_index *index = &coded->index;
    uint32_t left = index->count - coded->next_frame;
    coded->batch_first = coded->next_frame;
    coded->in_batch = coded->current = 0;
    coded->inside = 0;
    unsigned count = left < coded->threads ? left : coded->threads;
    dcache_status_t status = workers_run(dg, count, count, make_frame, coded);
    if (status != DCACHE_OK)
        return status;
    for (unsigned i = 0; i < count; i++) {
        uint32_t frame = coded->batch_first + i;
        index->starts[frame + 1] = index->starts[frame] + coded->batch[i].stored_bytes;
        index->digests[frame] = coded->batch[i].digest;
    }
    coded->in_batch = count;
    return DCACHE_OK;
}

static dcache_status_t make_tail(struct coded_source *coded, struct diag *dg)
{
    struct codec_index *index = &coded->index;
    index->frames_bytes = index->starts[index->count];
    coded->tail_bytes = codec_index_bytes(&index->layout);
    coded->tail = malloc(coded->tail_bytes);
    if (coded->tail == NULL)
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "out of memory for an index of %u frames", index->count);
    codec_index_encode(index, coded->tail);
    coded->inside = 0;
    coded->size = index->frames_bytes + coded->tail_bytes;
    return DCACHE_OK;
}

/* The bytes that come next, without a copy; 0 at the end. */
static dcache_status_t next_bytes(struct coded_source *coded, struct diag *dg, const unsigned char **bytes,
                                  size_t *count)
{
    dcache_status_t status = DCACHE_OK;
    if (coded->tail == NULL && coded->current == coded->in_batch)
        status = coded->next_frame < coded->index.count ? make_batch(coded, dg) : make_tail(coded, dg);
    if (status != DCACHE_OK)
        return status;
    const struct made *made = &coded->batch[coded->current];
    *bytes = (coded->tail != NULL ? coded->tail : made->stored) + coded->inside;
    *count = (coded->tail != NULL ? (size_t)coded->tail_bytes : made->stored_bytes) - coded->inside;
    return DCACHE_OK;
}

static void take(struct coded_source *coded, size_t bytes)
{
    coded->inside += bytes;
    coded->position += bytes;
    if (coded->tail == NULL && coded->inside == coded->batch[coded->current].stored_bytes) {
        coded->current++;
        coded->inside = 0;
    }
}

static dcache_status_t read_coded(void *context, struct diag *dg, uint64_t offset, void *buffer, size_t bytes,
                                  uint64_t *crc)
{
    struct coded_source *coded = context;
    unsigned char *target = buffer;
    dcache_status_t status = offset == 0 ? begin(coded, dg) : DCACHE_OK;
    uint64_t digest = 0;
    if (status == DCACHE_OK && offset != coded->position)
        status = diag_fail(dg, DCACHE_ERR_INTERNAL, "a coded shard was not read in ascending order");
    while (status == DCACHE_OK && bytes > 0) {
        const unsigned char *from = NULL;
        size_t count = 0;
        status = next_bytes(coded, dg, &from, &count);
        if (status != DCACHE_OK || count == 0)
            break;
        count = count < bytes ? count : bytes;
        digest = crc64_copy(digest, target, from, count);
        take(coded, count);
        target += count;
        bytes -= count;
    }
    *crc = digest;
    return status;
}

static uint64_t coded_size(void *context)
{
    const struct coded_source *coded = context;
    return coded->size;
}

static uint64_t most_bytes(const struct codec_object *object)
{
    const uint64_t frames = codec_frame_count(&object->layout);
    const uint64_t more = codec_frame_bound(object->codec, object->layout.frame_bytes) - object->layout.frame_bytes;
    /* a short frame may grow by more than its share */
    return object->layout.bytes + frames * (more + 512) + codec_index_bytes(&object->layout);
}

static dcache_status_t allocate(struct coded_source *coded, struct diag *dg)
{
    dcache_status_t status = codec_index_allocate(dg, &coded->index);
    coded->batch = calloc(coded->threads, sizeof *coded->batch);
    if (status == DCACHE_OK && coded->batch == NULL)
        status = diag_fail(dg, DCACHE_ERR_NO_MEMORY, "out of memory for coding");
    for (unsigned i = 0; status == DCACHE_OK && i < coded->threads; i++) {
        struct made *made = &coded->batch[i];
        made->plain = malloc(coded->object.layout.frame_bytes);
        made->stored = malloc(coded->frame_room);
        if (made->plain == NULL || made->stored == NULL)
            status = diag_fail(dg, DCACHE_ERR_NO_MEMORY, "out of memory for %u frames", coded->threads);
        else
            status = codec_worker_open(dg, coded->level, &made->worker);
    }
    return status;
}

dcache_status_t coded_source_open(struct diag *dg, const struct codec_settings *settings,
                                  const struct codec_object *about, const struct object_source *plain,
                                  struct coded_source **coded, struct object_source *source)
{
    struct coded_source *made = calloc(1, sizeof *made);
    if (made == NULL)
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "out of memory for coding");
    pthread_mutex_init(&made->reading, NULL);
    made->plain = plain;
    made->key = (about->codec & CODEC_AES) != 0 ? settings->key : NULL;
    made->turns = settings->turns;
    made->object = *about;
    made->index = (struct codec_index){.codec = about->codec, .layout = about->layout};
    made->threads = settings->threads > 0 ? settings->threads : 1;
    made->level = settings->level;
    made->frame_room = codec_frame_bound(about->codec, about->layout.frame_bytes);
    dcache_status_t status = allocate(made, dg);
    if (status != DCACHE_OK) {
        coded_source_close(made);
        return status;
    }
    *coded = made;
    *source =
        (struct object_source){.bytes = most_bytes(about), .context = made, .read = read_coded, .size = coded_size};
    return DCACHE_OK;
}

void coded_source_close(struct coded_source *coded)
{
    if (coded == NULL)
        return;
    for (unsigned i = 0; coded->batch != NULL && i < coded->threads; i++) {
        codec_worker_close(coded->batch[i].worker);
        free(coded->batch[i].plain);
        free(coded->batch[i].stored);
    }
    free(coded->batch);
    free(coded->tail);
    codec_index_free(&coded->index);
    OPENSSL_cleanse(&coded->object, sizeof coded->object);
    pthread_mutex_destroy(&coded->reading);
    free(coded);
}
