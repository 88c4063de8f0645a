/* io/stripes.c, and what drains, readers and retention make of several stores: directories, some of them missing. */
#include "io/claim.h"
#include "io/crc64.h"
#include "io/drain.h"
#include "io/shard_object.h"
#include "io/step_objects.h"
#include "tests/unit/store_sample.h"
#include "tests/unit/unit.h"

#include <dirent.h>
#include <inttypes.h>
#include <sys/stat.h>

#define RANKS 12
#define STEP  100

static struct diag dg;

/* One node that holds all ranks, and directories "a", "b", ... of which some are the job's stores. */
struct world {
    char root[600];
    struct node_store node;
    struct object_store *store; /* the home */
    struct object_store_ops ops;
    struct shard_set set;
    struct codec_settings codec;
    struct drain_control control;
    bool durable;
};

/* --- Helpers -------------------------------------------------------------------------------------------------------*/

/* "a c" becomes "file://ROOT/a file://ROOT/c". */
static void urls_of(const struct world *world, const char *names, char text[STRIPES_TEXT_MAX])
{
    size_t length = 0;
    for (const char *c = names; *c != '\0'; c++) {
        if (*c != ' ')
            length += (size_t)snprintf(text + length, STRIPES_TEXT_MAX - length, "%sfile://%s/%c",
                                       length > 0 ? " " : "", world->root, *c);
    }
}

static void open_stores(struct world *world, const char *names)
{
    const struct object_policy policy = {.timeout_s = 5, .stall_s = 5, .connections = 4};
    char text[STRIPES_TEXT_MAX] = "";
    static struct stripes_places places;
    object_store_close(world->store);
    world->store = NULL;
    urls_of(world, names, text);
    CU_ASSERT_EQUAL_FATAL(stripes_resolve(&dg, text, OBJECT_AUTH_AUTO, &places), DCACHE_OK);
    CU_ASSERT_EQUAL_FATAL(stripes_open(&dg, &places, &policy, &world->store), DCACHE_OK);
}

static void setup(struct world *world, const char *name, const char *stores)
{
    memset(world, 0, sizeof *world);
    diag_init(&dg, "job", -1, DIAG_ERROR);
    snprintf(world->root, sizeof world->root, "%s/%s", unit_scratch(), name);
    CU_ASSERT_EQUAL_FATAL(mkdir(world->root, 0700), 0);
    CU_ASSERT_EQUAL_FATAL(node_store_open(&dg, world->root, "job", 0, true, &world->node), DCACHE_OK);
    world->set = (struct shard_set){.step = STEP, .sequence = 4, .epoch = 77, .world_size = RANKS};
    for (uint32_t rank = 0; rank < RANKS; rank++) {
        const struct store_sample sample = {.job = "job",
                                            .set = world->set,
                                            .rank = rank,
                                            .kind = SLOT_OWN,
                                            .bytes = 5000 + 8 * rank,
                                            .state = SHARD_COMPLETE};
        CU_ASSERT_FATAL(store_sample_write(&world->node, &sample));
    }
    open_stores(world, stores);
}

static void teardown(struct world *world)
{
    object_store_close(world->store);
    node_store_close(&world->node);
}

static dcache_status_t drain_ranks(struct world *world, const char *drainer, uint32_t first, uint32_t count)
{
    struct drain_item items[RANKS];
    const struct drain_request request = {.job = "job",
                                          .set = world->set,
                                          .drainer = drainer,
                                          .stores = &world->node,
                                          .items = items,
                                          .item_count = count,
                                          .codec = &world->codec};
    for (uint32_t i = 0; i < count; i++)
        items[i] = (struct drain_item){.kind = SLOT_OWN, .rank = first + i};
    atomic_store(&world->control.shards_stored, 0);
    world->durable = false;
    return drain_step(&dg, world->store, &request, &world->control, &world->durable);
}

static void path_of(const struct world *world, char store, const char *key, char path[1200])
{
    snprintf(path, 1200, "%s/%c/%s", world->root, store, key);
}

static bool exists(const struct world *world, char store, const char *key)
{
    char path[1200];
    path_of(world, store, key, path);
    return access(path, F_OK) == 0;
}

/* Objects of the step in that directory whose names begin so. */
static unsigned count_objects(const struct world *world, char store, const char *start)
{
    char path[1200];
    unsigned count = 0;
    path_of(world, store, "job/100", path);
    DIR *directory = opendir(path);
    for (const struct dirent *entry; directory != NULL && (entry = readdir(directory)) != NULL;)
        count += entry->d_name[0] != '.' && strncmp(entry->d_name, start, strlen(start)) == 0;
    if (directory != NULL)
        closedir(directory);
    return count;
}

static void write_object(struct world *world, char store, const char *key, size_t bytes)
{
    char path[1200];
    path_of(world, store, key, path);
    for (char *slash = path + strlen(world->root) + 1; (slash = strchr(slash, '/')) != NULL; *slash++ = '/') {
        *slash = '\0';
        (void)mkdir(path, 0700);
    }
    FILE *file = fopen(path, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    for (size_t i = 0; i < bytes; i++)
        putc('x', file);
    fclose(file);
}

static void load(struct world *world, struct manifest *manifest)
{
    CU_ASSERT_EQUAL_FATAL(manifest_load(&dg, world->store, "job", STEP, manifest), DCACHE_OK);
}

/* The shard as a restart reads it: DCACHE_OK when it is there and has the digest of the manifest. */
static dcache_status_t read_shard(struct world *world, const struct manifest *manifest, uint32_t rank)
{
    const struct shard_object_place place = {
        .job = "job", .set = manifest->set, .shard = *manifest_find(manifest, rank)};
    struct shard_object object;
    dcache_status_t status = shard_object_open(&dg, world->store, &place, NULL, &object);
    char *image = malloc(place.shard.bytes);
    CU_ASSERT_PTR_NOT_NULL_FATAL(image);
    if (status == DCACHE_OK)
        status = shard_object_read(&dg, &object, 0, image, place.shard.bytes);
    if (status == DCACHE_OK && crc64_update(0, image, place.shard.bytes) != place.shard.crc)
        status = DCACHE_ERR_CORRUPT;
    free(image);
    shard_object_close(&object);
    return status;
}

static void check_readable(struct world *world)
{
    struct manifest manifest;
    load(world, &manifest);
    CU_ASSERT_EQUAL(manifest_check_stores(&dg, &manifest), DCACHE_OK);
    for (uint32_t rank = 0; rank < RANKS; rank++)
        CU_ASSERT_EQUAL(read_shard(world, &manifest, rank), DCACHE_OK);
    manifest_free(&manifest);
}

static void drain_all(struct world *world)
{
    CU_ASSERT_EQUAL_FATAL(drain_ranks(world, "r0", 0, RANKS), DCACHE_OK);
    CU_ASSERT_TRUE_FATAL(world->durable);
}

/* Its text; the caller's. */
static char *manifest_text(struct world *world)
{
    char *text = NULL;
    size_t bytes = 0;
    CU_ASSERT_EQUAL_FATAL(
        object_store_get_bytes(world->store, &dg, "job/100/manifest.json", MANIFEST_BYTES_MAX, &text, &bytes),
        DCACHE_OK);
    return text;
}

/* --- URLs ----------------------------------------------------------------------------------------------------------*/

static void test_urls(void)
{
    static const struct {
        const char *text;
        const char *canonical; /* NULL: refused */
        const char *why;
        uint32_t count;
    } cases[] = {
        {"file:///a", "file:///a", NULL, 1},
        {"  file:///a \tfile:///b/  file:///c ", "file:///a file:///b file:///c", NULL, 3},
        {"file:///my dir/x", "file:///my dir/x", NULL, 1}, /* as ever */
        {"file:///my dir/x file:///an other  one", "file:///my dir/x file:///an other  one", NULL, 2},
        {"file:///a //", NULL, "ends in a blank", 0},
        {"", NULL, "are allowed", 0},
        {"   ", NULL, "are allowed", 0},
        {"file:///a file:///b file:///a/", NULL, "file:///a is named twice", 0},
        {"file:///a https://acc1.blob.core.windows.net/con", NULL, "either over directories", 0},
        {"https://acc1.blob.core.windows.net/con file:///a", NULL, "either over directories", 0},
        {"file:///a ftp://host/b", NULL, "ftp://host/b", 0},
    };
    static struct stripes_places places, again;
    unsetenv("AZURE_STORAGE_CONNECTION_STRING");
    for (size_t i = 0; i < UNIT_COUNT(cases); i++) {
        char text[STRIPES_TEXT_MAX];
        dcache_status_t status = stripes_resolve(&dg, cases[i].text, OBJECT_AUTH_AUTO, &places);
        CU_ASSERT_EQUAL(status, cases[i].canonical != NULL ? DCACHE_OK : DCACHE_ERR_OPTION);
        if (cases[i].canonical == NULL) {
            CU_ASSERT_PTR_NOT_NULL(strstr(dg.text, cases[i].why));
            CU_ASSERT_EQUAL(places.count, 0);
            continue;
        }
        CU_ASSERT_EQUAL(places.count, cases[i].count);
        stripes_text(&places, text);
        CU_ASSERT_STRING_EQUAL(text, cases[i].canonical);
        CU_ASSERT_EQUAL(stripes_resolve(&dg, text, OBJECT_AUTH_AUTO, &again), DCACHE_OK);
        CU_ASSERT_EQUAL(memcmp(&places, &again, sizeof places), 0);
    }
}

static void test_too_many(void)
{
    static struct stripes_places places;
    char text[2 * STRIPES_TEXT_MAX] = "";
    size_t length = 0;
    for (int i = 0; i < STRIPES_MAX; i++)
        length += (size_t)snprintf(text + length, sizeof text - length, "file:///s%d ", i);
    CU_ASSERT_EQUAL(stripes_resolve(&dg, text, OBJECT_AUTH_AUTO, &places), DCACHE_OK);
    CU_ASSERT_EQUAL(places.count, STRIPES_MAX);
    snprintf(text + length, sizeof text - length, "file:///more");
    CU_ASSERT_EQUAL(stripes_resolve(&dg, text, OBJECT_AUTH_AUTO, &places), DCACHE_ERR_OPTION);
    CU_ASSERT_PTR_NOT_NULL(strstr(dg.text, "more than 16"));
    length = 0; /* each may be so long, but not all of them */
    for (int i = 0; i < 5; i++)
        length += (size_t)snprintf(text + length, sizeof text - length, "file:///%0900d ", i);
    CU_ASSERT_EQUAL(stripes_resolve(&dg, text, OBJECT_AUTH_AUTO, &places), DCACHE_ERR_OPTION);
    CU_ASSERT_PTR_NOT_NULL(strstr(dg.text, "4095 characters"));
}

static void test_documents(void)
{
    char text[STRIPES_TEXT_MAX];
    json_t *object = json_object();
    CU_ASSERT_EQUAL(stripes_encode(object, "file:///my home file:///b file:///c"), 0);
    CU_ASSERT_STRING_EQUAL(json_string_value(json_object_get(object, "store_url")), "file:///my home");
    CU_ASSERT_EQUAL(stripes_decode(&dg, "x", object, text), DCACHE_OK);
    CU_ASSERT_STRING_EQUAL(text, "file:///my home file:///b file:///c");
    json_object_set_new(object, "other_stores", json_integer(1));
    CU_ASSERT_EQUAL(stripes_decode(&dg, "x", object, text), DCACHE_ERR_CORRUPT);
    json_object_clear(object);
    CU_ASSERT_EQUAL(stripes_encode(object, "file:///a"), 0);
    CU_ASSERT_PTR_NULL(json_object_get(object, "other_stores"));
    CU_ASSERT_EQUAL(stripes_decode(&dg, "x", object, text), DCACHE_OK);
    CU_ASSERT_STRING_EQUAL(text, "file:///a");
    json_object_clear(object);
    CU_ASSERT_EQUAL(stripes_encode(object, ""), 0);
    CU_ASSERT_EQUAL(stripes_decode(&dg, "x", object, text), DCACHE_OK);
    CU_ASSERT_STRING_EQUAL(text, "");
    json_decref(object);
}

/* --- Which one -----------------------------------------------------------------------------------------------------*/

/* Any `count` ranks in a row from a multiple on are in different stores; and the first ranks of nodes, which their
 * drainers begin with, are not all in one, however many ranks a node has. */
static void test_which(void)
{
    struct object_store *others[STRIPES_MAX] = {NULL};
    struct object_store home = {.others = others};
    for (uint32_t count = 1; count <= STRIPES_MAX; count++) {
        home.other_count = count - 1;
        CU_ASSERT_EQUAL(stripes_count(&home), count);
        for (uint32_t first = 0; first < 100 * count; first += count) {
            uint32_t seen = 0;
            for (uint32_t rank = first; rank < first + count; rank++)
                seen |= 1u << stripes_of_rank(&home, rank);
            CU_ASSERT_EQUAL(seen, (1u << count) - 1);
        }
        for (uint32_t width = 1; width <= 256; width++) {
            uint32_t found[STRIPES_MAX] = {0};
            const uint32_t nodes = 64 * count;
            for (uint32_t node = 0; node < nodes; node++)
                found[stripes_of_rank(&home, node * width)]++;
            for (uint32_t i = 0; i < count; i++)
                CU_ASSERT(found[i] <= nodes / count * 2);
        }
    }
    home.other_count = 2;
    for (size_t pack = 0; pack < 9; pack++)
        CU_ASSERT_EQUAL(stripes_of_pack(&home, UINT64_MAX, pack), pack % 3); /* 2^64 - 1 is a multiple of 3 */
}

/* --- Drains --------------------------------------------------------------------------------------------------------*/

static void test_even(void)
{
    struct world world;
    setup(&world, "even", "a b c");
    CU_ASSERT_EQUAL(drain_ranks(&world, "r0", 0, 5), DCACHE_OK);
    CU_ASSERT_FALSE(world.durable);
    CU_ASSERT_EQUAL(drain_ranks(&world, "r5", 5, RANKS - 5), DCACHE_OK);
    CU_ASSERT_TRUE(world.durable);
    for (char store = 'a'; store <= 'c'; store++) {
        CU_ASSERT_EQUAL(count_objects(&world, store, "shard-"), RANKS / 3);
        CU_ASSERT_EQUAL(count_objects(&world, store, ""), RANKS / 3 + (store == 'a' ? 3 : 0));
    }
    check_readable(&world);
    char *text = manifest_text(&world);
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "\"version\": 4"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "\"stores\""));
    free(text);
    teardown(&world);
}

/* Nothing of it is seen in what a job with one store writes. */
static void test_one_store(void)
{
    struct world world;
    setup(&world, "one", "a");
    drain_all(&world);
    char *text = manifest_text(&world);
    CU_ASSERT_PTR_NULL(strstr(text, "\"store\""));
    CU_ASSERT_PTR_NULL(strstr(text, "\"stores\""));
    CU_ASSERT_PTR_NULL(strstr(text, "\"version\": 4"));
    free(text);
    open_stores(&world, "a b c"); /* more accounts now: what is there stays readable, and durable */
    check_readable(&world);
    CU_ASSERT_EQUAL(drain_ranks(&world, "r0", 0, RANKS), DCACHE_OK);
    CU_ASSERT(world.durable && world.control.shards_stored == 0);
    teardown(&world);
}

/* The manifest says which store, by URL: neither the order of stores, nor a namesake elsewhere, changes what is read.
 */
static void test_names_decide(void)
{
    static const char *const orders[] = {"a b c", "a c b", "a d c b", "a b c d e"};
    struct world world;
    struct manifest manifest;
    char key[OBJECT_KEY_MAX];
    setup(&world, "names", "a b c");
    drain_all(&world);
    load(&world, &manifest);
    for (uint32_t rank = 0; rank < RANKS; rank++) {
        const struct manifest_shard *shard = manifest_find(&manifest, rank);
        manifest_object_key(key, "job", &world.set, shard);
        for (uint32_t i = 0; i < 3; i++) {
            if (i != shard->store)
                write_object(&world, (char)('a' + (int)i), key, shard->bytes);
        }
    }
    manifest_free(&manifest);
    for (size_t i = 0; i < UNIT_COUNT(orders); i++) {
        open_stores(&world, orders[i]);
        check_readable(&world);
    }
    teardown(&world);
}

/* A namesake in the home is no substitute for what is gone. */
static void test_gone(void)
{
    struct world world;
    struct manifest manifest;
    char key[OBJECT_KEY_MAX], path[1200];
    setup(&world, "gone", "a b c");
    drain_all(&world);
    load(&world, &manifest);
    for (uint32_t rank = 0; rank < RANKS; rank++) {
        const struct manifest_shard *shard = manifest_find(&manifest, rank);
        if (shard->store != 1)
            continue;
        manifest_object_key(key, "job", &world.set, shard);
        path_of(&world, 'b', key, path);
        CU_ASSERT_EQUAL(unlink(path), 0);
        write_object(&world, 'a', key, shard->bytes);
        CU_ASSERT_EQUAL(read_shard(&world, &manifest, rank), DCACHE_NOT_FOUND);
        CU_ASSERT_PTR_NOT_NULL(strstr(dg.text, stripes_url(world.store, 1)));
    }
    manifest_free(&manifest);
    teardown(&world);
}

static void test_not_configured(void)
{
    struct world world;
    struct manifest manifest;
    unsigned unreadable = 0;
    char url[700];
    setup(&world, "not-configured", "a b c");
    drain_all(&world);
    snprintf(url, sizeof url, "file://%s/c", world.root);
    open_stores(&world, "a b d");
    load(&world, &manifest);
    CU_ASSERT_EQUAL(manifest_check_stores(&dg, &manifest), DCACHE_ERR_OPTION);
    CU_ASSERT(strstr(dg.text, url) != NULL && strstr(dg.text, "step 100") != NULL);
    CU_ASSERT_PTR_NOT_NULL(strstr(dg.text, "option store"));
    for (uint32_t rank = 0; rank < RANKS; rank++) {
        dcache_status_t status = read_shard(&world, &manifest, rank);
        CU_ASSERT(status == DCACHE_OK || status == DCACHE_ERR_OPTION);
        unreadable += status == DCACHE_ERR_OPTION;
    }
    CU_ASSERT_EQUAL(unreadable, RANKS / 3);
    manifest_free(&manifest);
    teardown(&world);
}

/* What parts say is there is not stored again, wherever it is; what is where nobody can look is. */
static void test_relaunch(void)
{
    struct world world;
    setup(&world, "relaunch", "a b c");
    CU_ASSERT_EQUAL(drain_ranks(&world, "r0", 0, 6), DCACHE_OK);
    open_stores(&world, "a c d");
    CU_ASSERT_EQUAL(drain_ranks(&world, "tool", 0, RANKS), DCACHE_OK);
    CU_ASSERT_TRUE(world.durable);
    CU_ASSERT_EQUAL(world.control.shards_stored, 6 + 2); /* b's two of the first six, and the rest */
    check_readable(&world);
    CU_ASSERT_EQUAL(count_objects(&world, 'b', "shard-"), 2);
    teardown(&world);

    setup(&world, "relaunch-more", "a b c");
    CU_ASSERT_EQUAL(drain_ranks(&world, "r0", 0, 6), DCACHE_OK);
    open_stores(&world, "a d c b");
    CU_ASSERT_EQUAL(drain_ranks(&world, "tool", 0, RANKS), DCACHE_OK);
    CU_ASSERT_TRUE(world.durable);
    CU_ASSERT_EQUAL(world.control.shards_stored, 6);
    check_readable(&world);
    teardown(&world);
}

/* A drainer was killed between its shards and its part, and its stores were others: what it left goes when the step is
 * whole, and nothing else does. */
static void test_leftovers(void)
{
    struct world world;
    char key[OBJECT_KEY_MAX], home_key[OBJECT_KEY_MAX];
    const struct manifest_shard wanted = {.rank = 1};
    setup(&world, "leftovers", "a b c");
    manifest_object_key(key, "job", &world.set, &wanted);
    CU_ASSERT_EQUAL_FATAL(stripes_of_rank(world.store, 1), 1);
    write_object(&world, 'c', key, 5000);
    write_object(&world, 'c', "job/100/pack-left-behind", 100);
    write_object(&world, 'c', "job/101/pack-of-another-step", 100);
    write_object(&world, 'b', "job/100/not-ours", 100);
    drain_all(&world);
    CU_ASSERT_FALSE(exists(&world, 'c', key));
    CU_ASSERT_FALSE(exists(&world, 'c', "job/100/pack-left-behind"));
    CU_ASSERT_TRUE(exists(&world, 'c', "job/101/pack-of-another-step"));
    CU_ASSERT_TRUE(exists(&world, 'b', "job/100/not-ours"));
    check_readable(&world);
    manifest_key(home_key, "job", STEP);
    CU_ASSERT_TRUE(exists(&world, 'a', home_key));
    teardown(&world);
}

static void test_packs(void)
{
    struct world world;
    struct manifest manifest;
    setup(&world, "packs", "a b c");
    world.ops = *world.store->ops;
    world.ops.by_request = true;
    world.store->ops = &world.ops;
    world.store->policy.block_bytes = 32u << 10; /* so that there are several */
    world.codec = (struct codec_settings){.level = 1, .threads = 1, .pack_below = 1u << 20};
    CU_ASSERT_EQUAL(drain_ranks(&world, "r0", 0, 7), DCACHE_OK);
    CU_ASSERT_EQUAL(drain_ranks(&world, "r7", 7, RANKS - 7), DCACHE_OK);
    CU_ASSERT_TRUE(world.durable);
    for (char store = 'a'; store <= 'c'; store++)
        CU_ASSERT(count_objects(&world, store, "pack-") >= 1);
    load(&world, &manifest);
    unsigned packed = 0;
    for (uint32_t rank = 0; rank < RANKS; rank++)
        packed += manifest_in_pack(manifest_find(&manifest, rank));
    CU_ASSERT(packed >= 8); /* one that is left over alone is no pack */
    manifest_free(&manifest);
    check_readable(&world);
    open_stores(&world, "a c b");
    check_readable(&world);
    teardown(&world);
}

static dcache_status_t fail_to_put(struct object_store *store, struct diag *diag, const char *key,
                                   const struct object_source *source, enum object_condition condition,
                                   const atomic_bool *cancel)
{
    (void)source, (void)condition, (void)cancel;
    return diag_fail(diag, DCACHE_ERR_STORE, "store %s: cannot put %s", store->url, key);
}

static dcache_status_t fail_to_head(struct object_store *store, struct diag *diag, const char *key,
                                    struct object_info *info)
{
    (void)info;
    return diag_fail(diag, DCACHE_ERR_STORE, "store %s: cannot look for %s", store->url, key);
}

/* What is in the others can be read; what is not says where it is. */
static void read_without(struct world *world, struct object_store *down)
{
    struct manifest manifest;
    load(world, &manifest);
    for (uint32_t rank = 0; rank < RANKS; rank++) {
        const bool is_down = stripes_store(world->store, manifest.shards[rank].store) == down;
        CU_ASSERT_EQUAL(read_shard(world, &manifest, rank), is_down ? DCACHE_ERR_STORE : DCACHE_OK);
        CU_ASSERT(!is_down || strstr(dg.text, down->url) != NULL);
    }
    manifest_free(&manifest);
}

/* One of the stores is away: the attempt fails and says which, readers do without it, and the next attempt stores the
 * rest. */
static void test_down(void)
{
    struct world world;
    setup(&world, "down", "a b c");
    CU_ASSERT_EQUAL(drain_ranks(&world, "r0", 0, 3), DCACHE_OK);
    struct object_store *down = stripes_store(world.store, 2);
    const struct object_store_ops *ops = down->ops;
    world.ops = *ops;
    world.ops.put = fail_to_put;
    down->ops = &world.ops;
    CU_ASSERT_EQUAL(drain_ranks(&world, "r3", 3, RANKS - 3), DCACHE_ERR_STORE);
    CU_ASSERT_FALSE(world.durable);
    CU_ASSERT_PTR_NOT_NULL(strstr(dg.text, down->url));
    down->ops = ops;
    CU_ASSERT_EQUAL(drain_ranks(&world, "r3", 3, RANKS - 3), DCACHE_OK);
    CU_ASSERT_TRUE(world.durable);
    check_readable(&world);
    world.ops.head = fail_to_head;
    down->ops = &world.ops;
    read_without(&world, down);
    down->ops = ops;
    teardown(&world);
}

/* --- Homes ---------------------------------------------------------------------------------------------------------*/

/* Two jobs of one name, one at home where the other has a stripe: neither stores nor removes anything of the other. */
static void test_other_home(void)
{
    struct world world;
    uint64_t removed = 0;
    setup(&world, "other-home", "b");
    drain_all(&world);
    open_stores(&world, "a b");
    CU_ASSERT_EQUAL(drain_ranks(&world, "r0", 0, RANKS), DCACHE_ERR_EXISTS);
    CU_ASSERT_PTR_NOT_NULL(strstr(dg.text, stripes_url(world.store, 1)));
    CU_ASSERT_EQUAL(retention_remove(&dg, world.store, "job", STEP, NULL, &removed), DCACHE_OK);
    CU_ASSERT_EQUAL(removed, 0);
    CU_ASSERT_EQUAL(stripes_check_home(&dg, world.store, "job"), DCACHE_OK); /* no claim: it cannot be told */
    write_object(&world, 'b', "job/claim.json", 10);
    CU_ASSERT_EQUAL(stripes_check_home(&dg, world.store, "job"), DCACHE_ERR_OPTION);
    CU_ASSERT_PTR_NOT_NULL(strstr(dg.text, stripes_url(world.store, 1)));
    CU_ASSERT_EQUAL(stripes_check_home(&dg, world.store, "job2"), DCACHE_OK);
    open_stores(&world, "b a");
    CU_ASSERT_EQUAL(stripes_check_home(&dg, world.store, "job"), DCACHE_OK);
    check_readable(&world);
    teardown(&world);
}

/* A store that has shards for another home is none, alone or first of several; claims or not. */
static void test_marks(void)
{
    struct world world;
    char url[700];
    setup(&world, "marks", "a b c");
    drain_all(&world);
    snprintf(url, sizeof url, "file://%s/a", world.root);
    CU_ASSERT_FALSE(exists(&world, 'a', "job/home.json"));
    CU_ASSERT(exists(&world, 'b', "job/home.json") && exists(&world, 'c', "job/home.json"));
    CU_ASSERT_EQUAL(stripes_check_home(&dg, world.store, "job"), DCACHE_OK);
    static const char *const wrong[] = {"b", "b a", "c b a"};
    for (size_t i = 0; i < UNIT_COUNT(wrong); i++) {
        open_stores(&world, wrong[i]);
        CU_ASSERT_EQUAL(stripes_check_home(&dg, world.store, "job"), DCACHE_ERR_OPTION);
        CU_ASSERT_PTR_NOT_NULL(strstr(dg.text, url));
        CU_ASSERT_EQUAL(stripes_check_home(&dg, world.store, "job2"), DCACHE_OK);
    }
    write_object(&world, 'b', "job/home.json", 10); /* spoilt, but there */
    open_stores(&world, "b");
    CU_ASSERT_EQUAL(stripes_check_home(&dg, world.store, "job"), DCACHE_ERR_OPTION);
    open_stores(&world, "a d");
    CU_ASSERT_EQUAL(stripes_check_home(&dg, world.store, "job"), DCACHE_OK);
    teardown(&world);
}

/* --- Removing ------------------------------------------------------------------------------------------------------*/

static void test_remove(void)
{
    struct world world;
    struct retention_list list = {.count = 0};
    uint64_t *steps = NULL, removed = 0;
    size_t count = 0;
    setup(&world, "remove", "a b c");
    drain_all(&world);
    CU_ASSERT_EQUAL(retention_find(&dg, world.store, "job", &list), DCACHE_OK);
    CU_ASSERT_EQUAL(list.count, 1);
    retention_list_free(&list);
    CU_ASSERT_EQUAL(retention_remove(&dg, world.store, "job", STEP, NULL, &removed), DCACHE_OK);
    CU_ASSERT_EQUAL(removed, RANKS + 2);
    for (char store = 'a'; store <= 'c'; store++)
        CU_ASSERT_EQUAL(count_objects(&world, store, ""), 0);
    write_object(&world, 'c', "job/100/shard-2-4.h5", 10); /* the remover was killed, and only this was left */
    write_object(&world, 'b', "job/7/pack-x", 10);
    write_object(&world, 'c', "job/7/pack-y", 10);
    CU_ASSERT_EQUAL_FATAL(retention_find_unfinished(&dg, world.store, "job", &steps, &count), DCACHE_OK);
    CU_ASSERT_EQUAL_FATAL(count, 2);
    CU_ASSERT(steps[0] == 7 && steps[1] == STEP);
    free(steps);
    CU_ASSERT_EQUAL(retention_remove(&dg, world.store, "job", STEP, NULL, &removed), DCACHE_OK);
    CU_ASSERT_EQUAL(removed, 1);
    teardown(&world);
}

/* Retention leaves a step alone that it could only half remove. */
static void test_keeps_what_it_cannot_remove(void)
{
    const struct retention_rule rule = {.last = 1};
    struct world world;
    struct retention_list list = {.count = 0};
    setup(&world, "keeps", "a b c");
    drain_all(&world);
    open_stores(&world, "a b");
    dg.threshold = DIAG_ERROR;
    world.set.step = 200;
    world.set.sequence = 5;
    write_object(&world, 'a', "job/200/manifest.json", 0);
    CU_ASSERT_EQUAL(retention_find(&dg, world.store, "job", &list), DCACHE_OK);
    CU_ASSERT_EQUAL(list.count, 0);
    CU_ASSERT_EQUAL(retention_apply(&dg, world.store, "job", &rule, &list, NULL), DCACHE_OK);
    CU_ASSERT_TRUE(exists(&world, 'a', "job/100/manifest.json"));
    open_stores(&world, "a b c");
    CU_ASSERT_EQUAL(retention_find(&dg, world.store, "job", &list), DCACHE_OK);
    CU_ASSERT_EQUAL(list.count, 1);
    retention_list_free(&list);
    teardown(&world);
}

/* --- Hostile documents ---------------------------------------------------------------------------------------------*/

#define HEAD                                                                                                           \
    "{\"format\":\"dcache-manifest\",\"version\":4,\"job\":\"job\",\"step\":100,\"sequence\":4,\"epoch\":"             \
    "\"000000000000004d\",\"world_size\":1,\"drainer\":\"d\","
#define SHARD "\"shards\":[{\"rank\":0,\"bytes\":8192,\"crc64\":\"0000000000000000\",\"store\":"

/* A manifest leads nowhere but to what the user configured. */
static void test_leads_nowhere(void)
{
    struct world world;
    struct manifest manifest;
    char text[2000];
    setup(&world, "nowhere", "a b");
    write_object(&world, 'e', "job/100/shard-0-4.h5", 8192); /* it would be there for the taking */
    const char *const urls[] = {"/e", "/a/../e", "/b", "/B"};
    for (size_t i = 0; i < UNIT_COUNT(urls); i++) {
        snprintf(text, sizeof text, HEAD "\"stores\":[\"file://%s%s\"]," SHARD "0}]}", world.root, urls[i]);
        CU_ASSERT_EQUAL(
            object_store_put_bytes(world.store, &dg, "job/100/manifest.json", text, strlen(text), OBJECT_REPLACE),
            DCACHE_OK);
        load(&world, &manifest);
        const bool known = strcmp(urls[i], "/b") == 0;
        CU_ASSERT_EQUAL(manifest.shards[0].store, known ? 1 : STRIPES_UNKNOWN);
        CU_ASSERT_EQUAL(read_shard(&world, &manifest, 0), known ? DCACHE_NOT_FOUND : DCACHE_ERR_OPTION);
        CU_ASSERT_EQUAL(manifest_check_stores(&dg, &manifest), known ? DCACHE_OK : DCACHE_ERR_OPTION);
        manifest_free(&manifest);
    }
    teardown(&world);
}

static void test_bad_documents(void)
{
    static const char *const bad[] = {
        HEAD SHARD "0}]}",
        HEAD "\"stores\":[]," SHARD "0}]}",
        HEAD "\"stores\":[\"file:///x\"]," SHARD "1}]}",
        HEAD "\"stores\":[\"file:///x\"]," SHARD "-1}]}",
        HEAD "\"stores\":[\"file:///x\"]," SHARD "4294967295}]}",
        HEAD "\"stores\":[\"file:///x\"]," SHARD "\"0\"}]}",
        HEAD "\"stores\":[\"file:///x\"]," SHARD "null}]}",
        HEAD "\"stores\":\"file:///x\"," SHARD "0}]}",
        HEAD "\"stores\":{\"0\":\"file:///x\"}," SHARD "0}]}",
        HEAD "\"stores\":[\"\"]," SHARD "0}]}",
        HEAD "\"stores\":[7]," SHARD "0}]}",
        HEAD "\"stores\":[\"file:///x\\n\"]," SHARD "0}]}",
        HEAD "\"stores\":[\"file:///x\\u0000y\"]," SHARD "0}]}",
    };
    struct manifest manifest;
    for (size_t i = 0; i < UNIT_COUNT(bad); i++)
        CU_ASSERT_EQUAL(manifest_decode(&dg, "m", bad[i], strlen(bad[i]), &manifest), DCACHE_ERR_CORRUPT);
    static const char good[] = HEAD "\"stores\":[\"file:///x\",\"file:///y\"]," SHARD "1}]}";
    CU_ASSERT_EQUAL_FATAL(manifest_decode(&dg, "m", good, strlen(good), &manifest), DCACHE_OK);
    CU_ASSERT_EQUAL(manifest.shards[0].store, 2);
    CU_ASSERT_STRING_EQUAL(manifest.stores[1], "file:///y");
    char *text = NULL;
    size_t bytes = 0;
    CU_ASSERT_EQUAL_FATAL(manifest_encode(&dg, &manifest, &text, &bytes), DCACHE_OK);
    struct manifest again;
    CU_ASSERT_EQUAL_FATAL(manifest_decode(&dg, "m", text, bytes, &again), DCACHE_OK);
    CU_ASSERT_EQUAL(again.shards[0].store, 2);
    CU_ASSERT_STRING_EQUAL(again.stores[0], "file:///x");
    manifest_free(&again);
    free(text);
    manifest.shards[0].store = 3; /* which it does not name */
    CU_ASSERT_EQUAL(manifest_encode(&dg, &manifest, &text, &bytes), DCACHE_ERR_INVALID);
    manifest_free(&manifest);
}

static void test_many_stores(void)
{
    char text[40000] = HEAD "\"stores\":[";
    struct manifest manifest;
    for (int i = 0; i < 256; i++)
        snprintf(text + strlen(text), 100, "%s\"file:///%d\"", i > 0 ? "," : "", i);
    snprintf(text + strlen(text), 200, "]," SHARD "0}]}");
    CU_ASSERT_EQUAL(manifest_decode(&dg, "m", text, strlen(text), &manifest), DCACHE_ERR_CORRUPT);
}

int main(void)
{
    static const struct unit_case cases[] = {
        {"URLs", test_urls},
        {"too many", test_too_many},
        {"documents of the node store", test_documents},
        {"which one", test_which},
        {"even", test_even},
        {"one store is as ever", test_one_store},
        {"names decide", test_names_decide},
        {"what is gone is gone", test_gone},
        {"not configured", test_not_configured},
        {"relaunch with others", test_relaunch},
        {"leftovers", test_leftovers},
        {"packs", test_packs},
        {"one is down", test_down},
        {"another home", test_other_home},
        {"marks", test_marks},
        {"removing", test_remove},
        {"keeps what it cannot remove", test_keeps_what_it_cannot_remove},
        {"leads nowhere", test_leads_nowhere},
        {"bad documents", test_bad_documents},
        {"many stores", test_many_stores},
    };
    diag_init(&dg, "job", -1, DIAG_ERROR);
    return unit_main("stripes", cases, UNIT_COUNT(cases));
}
