/* Shards that are read, verified and sent piece by piece, without a block of memory: io/object_pieces.c, and what
 * io/azure_put.c and io/drain_image.c make of it. Against a service that answers as each test's script says, and where
 * TEST_AZURE_URL leads to a Blob service, on that. */
#include "http_server.h"
#include "io/azure_auth.h"
#include "io/drain_image.h"
#include "io/object_pieces.h"
#include "object_pattern.h"
#include "store_sample.h"
#include "unit.h"

#include <sys/stat.h>

#define MIB 1048576u

static struct diag dg;

/* --- Reading in whatever amounts -----------------------------------------------------------------------------------*/

#define HEAD  4711u
#define GRAIN 16384u
#define ALL   (HEAD + 5 * GRAIN + 777)

struct pieces_source {
    struct pattern_source from;
    uint64_t filled; /* bytes, all calls together */
    unsigned broken; /* calls that nobody may make */
};

static dcache_status_t fill_pattern(void *context, struct diag *diag, uint64_t offset, void *buffer, size_t room,
                                    size_t *bytes)
{
    struct pieces_source *source = context;
    uint64_t end = offset;
    uint64_t crc;
    source->broken += offset >= ALL || (offset >= HEAD && (offset - HEAD) % GRAIN != 0);
    if (offset < HEAD)
        end = HEAD - offset < room ? HEAD : offset + room;
    while (end >= HEAD && end < ALL) {
        const uint64_t length = ALL - end < GRAIN ? ALL - end : GRAIN;
        if (end + length - offset > room)
            break;
        end += length;
    }
    *bytes = (size_t)(end - offset);
    source->filled += *bytes;
    return *bytes > 0 ? read_pattern(&source->from, diag, offset, buffer, *bytes, &crc) : DCACHE_OK;
}

/* Read from `at` of the range to its end with a buffer of `room` bytes; false when something is not as it must be. */
static bool read_on(struct object_pieces *pieces, uint64_t at, size_t room)
{
    unsigned char *buffer = malloc(room);
    bool good = buffer != NULL;
    while (good && at < pieces->bytes) {
        size_t bytes = room;
        good = object_pieces_read(pieces, &dg, at, buffer, &bytes) == DCACHE_OK && bytes > 0 && bytes <= room &&
               at + bytes <= pieces->bytes;
        for (size_t i = 0; good && i < bytes; i++)
            good = buffer[i] == pattern(pieces->offset + at + i, 3);
        at += bytes;
    }
    free(buffer);
    return good;
}

static void test_reader(void)
{
    static const size_t rooms[] = {1,         1000,         HEAD,          GRAIN - 1, GRAIN,
                                   GRAIN + 1, HEAD + GRAIN, 3 * GRAIN + 5, ALL,       1 << 20};
    static const uint64_t ranges[][2] = {
        {0, ALL}, {0, HEAD + GRAIN}, {HEAD + GRAIN, 2 * GRAIN}, {HEAD + 3 * GRAIN, 2 * GRAIN + 777}};
    for (size_t i = 0; i < UNIT_COUNT(rooms) * UNIT_COUNT(ranges); i++) {
        struct pieces_source from = {.from = good_pattern(3)};
        const struct object_source source = {
            .bytes = ALL, .context = &from, .head = HEAD, .grain = GRAIN, .fill = fill_pattern};
        const uint64_t *range = ranges[i % UNIT_COUNT(ranges)];
        const size_t room = rooms[i / UNIT_COUNT(ranges)];
        struct object_pieces pieces = {.source = &source, .offset = range[0], .bytes = range[1]};
        CU_ASSERT(read_on(&pieces, 0, room));
        CU_ASSERT(from.filled == range[1]);                   /* a piece is read once, not for every call, */
        CU_ASSERT((pieces.piece == NULL) == (room >= GRAIN)); /* and where it goes, if it fits there */
        CU_ASSERT(read_on(&pieces, 0, room));                 /* another attempt */
        CU_ASSERT(read_on(&pieces, range[1] / 3 + 1, room));
        CU_ASSERT(read_on(&pieces, range[1] - 1, room));
        CU_ASSERT_EQUAL(from.broken, 0);
        object_pieces_close(&pieces);
    }
}

static void test_reader_fails(void)
{
    struct pieces_source from = {.from = good_pattern(3)};
    const struct object_source source = {
        .bytes = ALL, .context = &from, .head = HEAD, .grain = GRAIN, .fill = fill_pattern};
    from.from.fail_offset = HEAD + GRAIN;
    for (size_t room = 1000; room <= GRAIN; room += GRAIN - 1000) {
        struct object_pieces pieces = {.source = &source, .bytes = ALL};
        unsigned char buffer[GRAIN];
        size_t bytes = room;
        for (int again = 0; again < 2; again++) { /* what could not be read is not there the next time, either */
            CU_ASSERT_EQUAL(object_pieces_read(&pieces, &dg, HEAD + GRAIN, buffer, &bytes), DCACHE_ERR_BUSY);
            CU_ASSERT_STRING_EQUAL(dg.text, "the source says no");
            bytes = room;
        }
        CU_ASSERT_EQUAL(object_pieces_read(&pieces, &dg, 0, buffer, &bytes), DCACHE_OK);
        object_pieces_close(&pieces);
    }
}

/* --- A shard and where it goes -------------------------------------------------------------------------------------*/

#define KEY       "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0"
#define AZURE     "x-ms-request-id: request-17\r\n"
#define END       "Connection: close\r\nContent-Length: 0\r\n\r\n"
#define GOOD      "HTTP/1.1 201 Created\r\n" AZURE END
#define BUSY      "HTTP/1.1 503 Server busy\r\nx-ms-error-code: ServerBusy\r\n" AZURE END
#define OTHER_CRC "HTTP/1.1 400 Bad\r\nx-ms-error-code: Crc64Mismatch\r\n" AZURE END
#define NO_END    7200 /* s: a test that waits for it is killed */

/* One rank's shard in a node store, and an object store. */
struct scene {
    struct node_store nodes;
    struct store_sample sample;
    struct drain_control control;
    struct governor governor;
    struct drain_image *image;
    struct drain_form form;
    struct object_store *store;
    struct http_server *server; /* or NULL */
};

/* The shard has the same content each time. */
static void open_shard(struct scene *scene, uint64_t bytes)
{
    const struct shard_set set = {.step = 100, .sequence = 4, .epoch = 77, .world_size = 1};
    const struct drain_item item = {.store = 0, .kind = SLOT_OWN, .rank = 0, .slot = 0};
    const struct drain_origin origin = {.job = "job", .set = set, .stores = &scene->nodes};
    diag_init(&dg, "job", -1, DIAG_ERROR);
    CU_ASSERT_EQUAL_FATAL(node_store_open(&dg, unit_scratch(), "job", 0, true, &scene->nodes), DCACHE_OK);
    scene->sample = (struct store_sample){
        .job = "job", .set = set, .rank = 0, .kind = SLOT_OWN, .slot = 0, .bytes = bytes, .state = SHARD_COMPLETE};
    CU_ASSERT_FATAL(store_sample_write(&scene->nodes, &scene->sample));
    scene->governor = governor_make(NULL, &scene->control);
    CU_ASSERT_EQUAL_FATAL(drain_image_open(&dg, &origin, &item, &scene->governor, &scene->image), DCACHE_OK);
    CU_ASSERT_EQUAL_FATAL(drain_form_open(&dg, scene->image, NULL, true, &scene->form), DCACHE_OK);
    CU_ASSERT_FATAL(scene->form.source.grain > 0);
}

/* The service is `script`; blocks of `block` bytes on so many connections. */
static void begin(struct scene *scene, const struct reply *script, size_t count, uint64_t bytes, uint64_t block,
                  unsigned connections)
{
    char url[OBJECT_URL_MAX];
    struct object_credentials credentials = {.account = "acc1", .key = KEY};
    const struct object_policy policy = {
        .timeout_s = NO_END, .stall_s = NO_END, .block_bytes = block, .connections = connections};
    memset(scene, 0, sizeof *scene);
    open_shard(scene, bytes);
    scene->server = http_server_start(script, count);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/acc1/con", http_server_port(scene->server));
    CU_ASSERT_EQUAL_FATAL(object_store_open(&dg, url, &credentials, &policy, &scene->store), DCACHE_OK);
}

/* How many requests the service has seen, 0 without a script. */
static unsigned end(struct scene *scene)
{
    unsigned requests = 0;
    object_store_close(scene->store);
    drain_form_close(&scene->form);
    drain_image_close(scene->image);
    node_store_close(&scene->nodes);
    if (scene->server != NULL) {
        requests = http_server_requests(scene->server);
        http_server_stop(scene->server);
    }
    return requests;
}

static dcache_status_t put(struct scene *scene)
{
    return scene->store->ops->put(scene->store, &dg, "a/key", &scene->form.source, OBJECT_REPLACE,
                                  &scene->control.cancel);
}

static bool text_has(const char *part)
{
    return strstr(dg.text, part) != NULL;
}

/* The request's digest is that of what came, which are so many bytes; it is returned. */
static uint64_t check_body(struct scene *scene, unsigned request, uint64_t bytes)
{
    char header[64];
    char text[16];
    uint64_t length = 0;
    const uint64_t crc = http_server_body_crc(scene->server, request, &length);
    azure_auth_crc_text(crc, text);
    snprintf(header, sizeof header, "\r\nx-ms-content-crc64: %s\r\n", text);
    CU_ASSERT_EQUAL(length, bytes);
    CU_ASSERT_PTR_NOT_NULL(strcasestr(http_server_head(scene->server, request), header));
    return crc;
}

static bool is_commit(struct scene *scene, unsigned request)
{
    return strstr(http_server_head(scene->server, request), "comp=blocklist") != NULL;
}

static bool any_commit(struct scene *scene)
{
    bool any = false;
    for (unsigned i = 0; i < HTTP_SERVER_REQUESTS_MAX; i++)
        any = any || is_commit(scene, i);
    return any;
}

/* --- All is well ---------------------------------------------------------------------------------------------------*/

/* The blocks are the header and chunks, or chunks, and together the shard. One that is asked for in no whole number of
 * chunks is larger. */
static void test_blocks(void)
{
    static const struct reply script[] = {{REPLY_SEND, GOOD}};
    static const uint64_t asked[] = {MIB, 2 * MIB, MIB + 4096, 3 * MIB};
    static const uint64_t made[] = {MIB, 2 * MIB, 2 * MIB, 3 * MIB};
    for (size_t i = 0; i < UNIT_COUNT(asked); i++) {
        struct scene scene;
        begin(&scene, script, 1, 5 * MIB + 12345, asked[i], 1);
        const struct manifest_shard shard = drain_image_shard(scene.image);
        const uint64_t head = scene.form.source.head;
        CU_ASSERT_EQUAL_FATAL(put(&scene), DCACHE_OK);
        uint64_t crc = 0, offset = 0;
        unsigned request = 0;
        while (offset < shard.bytes) {
            uint64_t length = made[i] + (offset == 0 ? head : 0);
            length = shard.bytes - offset < length ? shard.bytes - offset : length;
            crc = crc64_combine(crc, check_body(&scene, request++, length), length);
            offset += length;
        }
        CU_ASSERT_EQUAL(crc, shard.crc);
        CU_ASSERT(is_commit(&scene, request));
        CU_ASSERT_EQUAL(scene.control.bytes_stored, shard.bytes);
        CU_ASSERT_EQUAL(end(&scene), request + 1);
    }
}

/* One request for all of it. Blocks that are smaller than a chunk go the other way, by memory. */
static void test_whole_and_small_blocks(void)
{
    static const struct reply script[] = {{REPLY_SEND, GOOD}};
    struct scene scene;
    begin(&scene, script, 1, 2 * MIB + 12345, 8 * MIB, 1);
    struct manifest_shard shard = drain_image_shard(scene.image);
    CU_ASSERT_EQUAL(put(&scene), DCACHE_OK);
    CU_ASSERT_EQUAL(check_body(&scene, 0, shard.bytes), shard.crc);
    CU_ASSERT_EQUAL(end(&scene), 1);
    begin(&scene, script, 1, MIB + 12345, MIB / 2, 1);
    shard = drain_image_shard(scene.image);
    CU_ASSERT_EQUAL(put(&scene), DCACHE_OK);
    uint64_t crc = crc64_combine(check_body(&scene, 0, MIB / 2), check_body(&scene, 1, MIB / 2), MIB / 2);
    crc = crc64_combine(crc, check_body(&scene, 2, shard.bytes - MIB), shard.bytes - MIB);
    CU_ASSERT_EQUAL(crc, shard.crc);
    CU_ASSERT_EQUAL(end(&scene), 4);
}

/* --- Again ---------------------------------------------------------------------------------------------------------*/

/* Refused after all of it was sent, and before; the connection lost; spoilt on the way: each attempt sends the same,
 * and what is counted as stored is counted once. */
static void test_again(void)
{
    static const struct reply script[] = {{REPLY_SEND, BUSY},      {REPLY_RESET, ""},   {REPLY_SEND, OTHER_CRC},
                                          {REPLY_SEND, OTHER_CRC}, {REPLY_EARLY, BUSY}, {REPLY_SEND, GOOD}};
    struct scene scene;
    begin(&scene, script, UNIT_COUNT(script), 3 * MIB + 12345, 8 * MIB, 1);
    const struct manifest_shard shard = drain_image_shard(scene.image);
    CU_ASSERT_EQUAL(put(&scene), DCACHE_OK);
    for (unsigned i = 0; i < UNIT_COUNT(script); i++) {
        if (script[i].action != REPLY_EARLY)
            CU_ASSERT_EQUAL(check_body(&scene, i, shard.bytes), shard.crc);
    }
    CU_ASSERT_EQUAL(scene.control.bytes_stored, shard.bytes);
    CU_ASSERT_EQUAL(end(&scene), UNIT_COUNT(script));
}

/* The block that is not answered is read once more, by the thread that sends it again. */
static void test_straggler(void)
{
    static const struct reply script[] = {{REPLY_HOLD, ""}, {REPLY_SEND, GOOD}};
    struct scene scene;
    char held[128] = "";
    unsigned same = 0;
    begin(&scene, script, UNIT_COUNT(script), 4 * MIB - 4096, MIB, 2);
    CU_ASSERT_EQUAL(put(&scene), DCACHE_OK);
    CU_ASSERT_EQUAL(object_store_traffic(scene.store).hedged, 1);
    sscanf(http_server_head(scene.server, 0), "PUT %127s", held);
    uint64_t bytes = 0, again = 0;
    const uint64_t crc = http_server_body_crc(scene.server, 0, &bytes);
    for (unsigned i = 1; i < 6; i++) {
        if (strstr(http_server_head(scene.server, i), held) == NULL)
            continue;
        same++;
        CU_ASSERT_EQUAL(http_server_body_crc(scene.server, i, &again), crc);
        CU_ASSERT(again == bytes && bytes >= MIB - 4096);
    }
    CU_ASSERT_EQUAL(same, 1);
    CU_ASSERT_EQUAL(end(&scene), 6); /* four blocks, one of them again, and the commit */
}

/* --- What is bad in the slot ---------------------------------------------------------------------------------------*/

/* The shard as it is, but that something happens when a byte is read for the n-th time. */
struct hooked {
    struct scene *scene;
    struct object_source inner;
    uint64_t offset;
    unsigned when;
    bool cancel; /* the put is cancelled; else the byte is spoilt in the slot just before it is read */
    unsigned seen;
};

static dcache_status_t fill_hooked(void *context, struct diag *diag, uint64_t offset, void *buffer, size_t room,
                                   size_t *bytes)
{
    struct hooked *hooked = context;
    if (offset <= hooked->offset && hooked->offset - offset < room && ++hooked->seen == hooked->when) {
        if (hooked->cancel)
            atomic_store(&hooked->scene->control.cancel, true);
        else
            CU_ASSERT(store_sample_damage(&hooked->scene->nodes, &hooked->scene->sample, (off_t)hooked->offset));
    }
    return hooked->inner.fill(hooked->inner.context, diag, offset, buffer, room, bytes);
}

static dcache_status_t announce_hooked(void *context, struct diag *diag, uint64_t offset, uint64_t bytes, uint64_t *crc)
{
    struct hooked *hooked = context;
    return hooked->inner.announce(hooked->inner.context, diag, offset, bytes, crc);
}

static dcache_status_t put_hooked(struct scene *scene, struct hooked *hooked)
{
    struct object_source source = scene->form.source;
    hooked->scene = scene;
    hooked->inner = scene->form.source;
    source.context = hooked;
    source.fill = fill_hooked;
    source.announce = announce_hooked;
    return scene->store->ops->put(scene->store, &dg, "a/key", &source, OBJECT_REPLACE, &scene->control.cancel);
}

/* A chunk has rotted: said of that copy, not tried again, and nothing is committed. */
static void test_bad_chunk(void)
{
    static const struct reply script[] = {{REPLY_SEND, GOOD}};
    static const uint64_t blocks[] = {MIB, 2 * MIB, 8 * MIB};
    for (size_t i = 0; i < UNIT_COUNT(blocks); i++) {
        struct scene scene;
        begin(&scene, script, 1, 4 * MIB + 12345, blocks[i], 1);
        CU_ASSERT_FATAL(store_sample_damage(&scene.nodes, &scene.sample, 3 * MIB + 99999));
        CU_ASSERT_EQUAL(put(&scene), DCACHE_ERR_CORRUPT);
        CU_ASSERT(text_has("own-0-0.h5: chunk ") && text_has("does not match its digest"));
        CU_ASSERT(drain_image_is_bad(scene.image));
        CU_ASSERT_FALSE(any_commit(&scene));
        CU_ASSERT(end(&scene) <= 3 * MIB / blocks[i] + 1); /* one for each block that is good, and that one */
    }
}

/* The slot is used again between two attempts to send a block: the second one ends the put. */
static void test_used_again(void)
{
    static const struct reply script[] = {{REPLY_RESET, ""}, {REPLY_SEND, GOOD}};
    for (int whole = 0; whole < 2; whole++) {
        struct scene scene;
        struct hooked hooked = {.offset = MIB + 5000, .when = 2};
        begin(&scene, script, UNIT_COUNT(script), 3 * MIB + 12345, whole ? 8 * MIB : 2 * MIB, 1);
        CU_ASSERT_EQUAL(put_hooked(&scene, &hooked), DCACHE_ERR_CORRUPT);
        CU_ASSERT_EQUAL(hooked.seen, 2);
        CU_ASSERT(drain_image_is_bad(scene.image));
        CU_ASSERT_FALSE(any_commit(&scene));
        CU_ASSERT(end(&scene) <= 2);
    }
}

static void test_truncated(void)
{
    static const struct reply script[] = {{REPLY_SEND, GOOD}};
    struct scene scene;
    begin(&scene, script, 1, 4 * MIB + 12345, 2 * MIB, 1);
    int fd = openat(scene.nodes.dir_fd, "own-0-0.h5", O_WRONLY);
    CU_ASSERT_FATAL(fd >= 0 && ftruncate(fd, 3 * MIB) == 0 && close(fd) == 0);
    CU_ASSERT_EQUAL(put(&scene), DCACHE_ERR_CORRUPT);
    CU_ASSERT(text_has("own-0-0.h5 ends at 3145728"));
    CU_ASSERT_FALSE(any_commit(&scene));
    end(&scene);
}

/* While a body is read; nothing else would end it. */
static void test_cancel(void)
{
    static const struct reply script[] = {{REPLY_STALL, ""}};
    struct scene scene;
    struct hooked hooked = {.offset = MIB + 5000, .when = 1, .cancel = true};
    begin(&scene, script, 1, 3 * MIB + 12345, 8 * MIB, 1);
    CU_ASSERT_EQUAL(put_hooked(&scene, &hooked), DCACHE_ERR_CANCELLED);
    CU_ASSERT_FALSE(drain_image_is_bad(scene.image));
    CU_ASSERT(end(&scene) <= 1);
}

/* --- What is spoilt behind the verification
 * --------------------------------------------------------------------------*/

#ifdef DCACHE_FAILPOINTS
/* The service tells that it got other bytes. Once may be the network; when what is given to libcurl is wrong, too, no
 * further attempt helps. */
static void test_spoilt_here(void)
{
    static const struct reply script[] = {{REPLY_SEND, OTHER_CRC}};
    static const char *const points[] = {"object_azure_block=corrupt", "drain.read=corrupt",
                                         "object_azure_whole=corrupt"};
    for (size_t i = 0; i < UNIT_COUNT(points); i++) {
        struct scene scene;
        begin(&scene, script, 1, 3 * MIB + 12345, i < 2 ? 2 * MIB : 8 * MIB, 1);
        (void)setenv("DCACHE_FAILPOINTS", points[i], 1);
        CU_ASSERT_EQUAL(put(&scene), DCACHE_ERR_CORRUPT);
        (void)unsetenv("DCACHE_FAILPOINTS");
        CU_ASSERT(text_has("a/key") && text_has("do not match their digest"));
        CU_ASSERT_EQUAL(end(&scene), 2);
    }
}

/* A bit that flipped once is read again, and right then. */
static void test_spoilt_once(void)
{
    static const struct reply script[] = {{REPLY_SEND, OTHER_CRC}, {REPLY_SEND, GOOD}};
    struct scene scene;
    begin(&scene, script, UNIT_COUNT(script), 3 * MIB + 12345, 8 * MIB, 1);
    const struct manifest_shard shard = drain_image_shard(scene.image);
    (void)setenv("DCACHE_FAILPOINTS", "object_azure_whole=corrupt#1", 1);
    CU_ASSERT_EQUAL(put(&scene), DCACHE_OK);
    (void)unsetenv("DCACHE_FAILPOINTS");
    uint64_t bytes;
    CU_ASSERT_NOT_EQUAL(http_server_body_crc(scene.server, 0, &bytes), shard.crc);
    CU_ASSERT_EQUAL(check_body(&scene, 1, shard.bytes), shard.crc);
    CU_ASSERT_EQUAL(end(&scene), 2);
}

static void test_failpoint_error(void)
{
    static const struct reply script[] = {{REPLY_SEND, GOOD}};
    static const char *const points[] = {"object_azure_block=error", "drain.read=error#2", "object_azure_whole=error"};
    for (size_t i = 0; i < UNIT_COUNT(points); i++) {
        struct scene scene;
        begin(&scene, script, 1, 3 * MIB + 12345, i < 2 ? 2 * MIB : 8 * MIB, 1);
        (void)setenv("DCACHE_FAILPOINTS", points[i], 1);
        CU_ASSERT_EQUAL(put(&scene), DCACHE_ERR_IO);
        (void)unsetenv("DCACHE_FAILPOINTS");
        CU_ASSERT(text_has("was set to fail here"));
        CU_ASSERT_EQUAL(drain_image_is_bad(scene.image), i == 1);
        CU_ASSERT_FALSE(any_commit(&scene));
        end(&scene);
    }
}
#endif

/* --- A real service
 * --------------------------------------------------------------------------------------------------*/

static void begin_real(struct scene *scene, uint64_t bytes, uint64_t block, unsigned connections)
{
    char url[OBJECT_URL_MAX];
    struct object_credentials credentials;
    const struct object_policy policy = {
        .timeout_s = 60, .stall_s = 20, .block_bytes = block, .connections = connections};
    memset(scene, 0, sizeof *scene);
    open_shard(scene, bytes);
    CU_ASSERT_EQUAL_FATAL(object_store_resolve(&dg, getenv("TEST_AZURE_URL"), url, &credentials), DCACHE_OK);
    CU_ASSERT_EQUAL_FATAL(object_store_open(&dg, url, &credentials, &policy, &scene->store), DCACHE_OK);
    CU_ASSERT_EQUAL_FATAL(scene->store->ops->create(scene->store, &dg), DCACHE_OK);
}

static void test_real(void)
{
    static const uint64_t blocks[] = {MIB, 2 * MIB + 1, 8 * MIB};
    for (size_t i = 0; i < UNIT_COUNT(blocks); i++) {
        struct scene scene;
        begin_real(&scene, 5 * MIB + 12345, blocks[i], 3);
        const struct manifest_shard shard = drain_image_shard(scene.image);
        char *object = NULL;
        size_t bytes = 0;
        CU_ASSERT_EQUAL_FATAL(put(&scene), DCACHE_OK);
        CU_ASSERT_EQUAL_FATAL(object_store_get_bytes(scene.store, &dg, "a/key", 1u << 30, &object, &bytes), DCACHE_OK);
        CU_ASSERT(bytes == shard.bytes && crc64_update(0, object, bytes) == shard.crc);
        free(object);
        CU_ASSERT_EQUAL(scene.store->ops->remove(scene.store, &dg, "a/key"), DCACHE_OK);
        end(&scene);
    }
}

/* What is bad never becomes an object, whether it is the last chunk of the only request or one of a block. */
static void test_real_bad(void)
{
    static const uint64_t blocks[] = {MIB, 8 * MIB};
    for (size_t i = 0; i < UNIT_COUNT(blocks); i++) {
        struct scene scene;
        struct object_info info;
        begin_real(&scene, 4 * MIB + 12345, blocks[i], 3);
        CU_ASSERT_FATAL(store_sample_damage(&scene.nodes, &scene.sample, -1));
        CU_ASSERT_EQUAL(put(&scene), DCACHE_ERR_CORRUPT);
        CU_ASSERT(text_has("own-0-0.h5: chunk "));
        CU_ASSERT_EQUAL(scene.store->ops->head(scene.store, &dg, "a/key", &info), DCACHE_NOT_FOUND);
        end(&scene);
    }
}

int main(void)
{
    static const struct unit_case cases[] = {
        {"a reader with any room", test_reader},
        {"a reader whose source fails", test_reader_fails},
        {"blocks", test_blocks},
        {"whole, and blocks smaller than a piece", test_whole_and_small_blocks},
        {"sent again", test_again},
        {"straggler", test_straggler},
        {"bad chunk", test_bad_chunk},
        {"slot used again", test_used_again},
        {"truncated", test_truncated},
        {"cancel", test_cancel},
#ifdef DCACHE_FAILPOINTS
        {"spoilt here", test_spoilt_here},
        {"spoilt once", test_spoilt_once},
        {"failpoints that fail", test_failpoint_error},
#endif
    };
    static const struct unit_case real_cases[] = {{"a real service", test_real}, {"bad bytes", test_real_bad}};
    diag_init(&dg, "job", -1, DIAG_ERROR);
    if (getenv("TEST_AZURE_URL") != NULL)
        return unit_main("pieces: Azure", real_cases, UNIT_COUNT(real_cases));
    return unit_main("pieces", cases, UNIT_COUNT(cases));
}
