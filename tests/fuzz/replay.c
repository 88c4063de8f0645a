/* Runs a target without a fuzzer: all files of the corpora that are named, then seeded mutations of them.
 *
 *   fuzz_NAME [-n MUTATIONS] [-s SEED] FILE_OR_DIRECTORY...
 *
 * Without a path it takes one input from standard input. The input that is running is in the file current-input of the
 * working directory, so that it is there after a crash. */
#include "fuzz.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define INPUT_MAX  (64u << 10)
#define INPUTS_MAX 4096

struct input {
    uint8_t *data;
    size_t size;
};

struct replay {
    struct input inputs[INPUTS_MAX];
    size_t count;
    int current; /* descriptor of current-input */
    uint64_t random;
};

static void die(const char *what)
{
    perror(what);
    exit(99);
}

static void run(struct replay *replay, const uint8_t *data, size_t size)
{
    if (ftruncate(replay->current, 0) != 0 || pwrite(replay->current, data, size, 0) != (ssize_t)size)
        die("current-input");
    uint8_t *exact = malloc(size > 0 ? size : 1); /* a sanitizer sees what reads behind its end */
    if (exact == NULL)
        die("memory");
    memcpy(exact, data, size);
    (void)LLVMFuzzerTestOneInput(exact, size);
    free(exact);
}

static void add_stream(struct replay *replay, FILE *file, const char *path)
{
    uint8_t *data = malloc(INPUT_MAX);
    if (data == NULL || replay->count == INPUTS_MAX)
        die(path);
    size_t size = fread(data, 1, INPUT_MAX, file);
    replay->inputs[replay->count++] = (struct input){.data = data, .size = size};
}

static void add_path(struct replay *replay, const char *path)
{
    struct stat status;
    if (stat(path, &status) != 0)
        die(path);
    if (!S_ISDIR(status.st_mode)) {
        FILE *file = fopen(path, "re");
        if (file == NULL)
            die(path);
        add_stream(replay, file, path);
        fclose(file);
        return;
    }
    struct dirent **entries = NULL;
    int count = scandir(path, &entries, NULL, alphasort);
    if (count < 0)
        die(path);
    for (int i = 0; i < count; i++) {
        char inside[4096];
        snprintf(inside, sizeof inside, "%s/%s", path, entries[i]->d_name);
        if (entries[i]->d_name[0] != '.')
            add_path(replay, inside);
        free(entries[i]);
    }
    free(entries);
}

/* --- Mutations -----------------------------------------------------------------------------------------------------*/

/* xorshift64*: the same seed gives the same inputs everywhere. Below `bound`, which is not 0. */
static size_t draw(struct replay *replay, size_t bound)
{
    replay->random ^= replay->random >> 12;
    replay->random ^= replay->random << 25;
    replay->random ^= replay->random >> 27;
    return (size_t)((replay->random * 0x2545F4914F6CDD1Du) >> 16) % bound;
}

/* Numbers at which counts and sizes break. */
static void put_number(struct replay *replay, uint8_t *data, size_t size)
{
    static const uint64_t numbers[] = {0,     1,     2,         127,        255,       256,        4095,      4096,
                                       65535, 65536, INT32_MAX, UINT32_MAX, INT64_MAX, UINT64_MAX, 1ull << 50};
    uint64_t number = numbers[draw(replay, sizeof numbers / sizeof numbers[0])] + draw(replay, 3) - 1;
    size_t width = (size_t)1 << draw(replay, 4);
    if (width <= size)
        memcpy(data + draw(replay, size - width + 1), &number, width);
}

/* A piece of one of the corpus's inputs, copied over what is there or put between. */
static size_t insert_piece(struct replay *replay, uint8_t *data, size_t size)
{
    const struct input *other = &replay->inputs[draw(replay, replay->count)];
    if (other->size == 0)
        return size;
    size_t from = draw(replay, other->size);
    size_t length = 1 + draw(replay, other->size - from);
    size_t to = draw(replay, size + 1);
    if (draw(replay, 2) == 0) { /* between */
        if (size + length > INPUT_MAX)
            return size;
        memmove(data + to + length, data + to, size - to);
        size += length;
    } else if (length > size - to) {
        length = size - to;
    }
    memcpy(data + to, other->data + from, length);
    return size;
}

static size_t erase(struct replay *replay, uint8_t *data, size_t size)
{
    size_t from = draw(replay, size);
    size_t length = 1 + draw(replay, size - from);
    if (draw(replay, 4) != 0 && length > 8)
        length = 1 + length % 8;
    memmove(data + from, data + from + length, size - from - length);
    return size - length;
}

static size_t mutate(struct replay *replay, uint8_t *data, size_t size)
{
    static const char special[] = {'\0', '\n', '"', '\\', '/', '.', '-', '<', '>', '&', '{', '[', '=', ' ', '%', '9'};
    for (size_t changes = 1 + draw(replay, 4); changes > 0; changes--) {
        size_t kind = size == 0 ? 4 : draw(replay, 6);
        if (kind == 0)
            data[draw(replay, size)] ^= (uint8_t)(1u << draw(replay, 8));
        else if (kind == 1)
            data[draw(replay, size)] = (uint8_t)special[draw(replay, sizeof special)];
        else if (kind == 2)
            put_number(replay, data, size);
        else if (kind == 3)
            size = erase(replay, data, size);
        else
            size = insert_piece(replay, data, size);
    }
    return size;
}

static void run_mutations(struct replay *replay, unsigned long mutations)
{
    uint8_t *data = malloc(INPUT_MAX);
    if (data == NULL)
        die("memory");
    for (unsigned long i = 0; i < mutations; i++) {
        const struct input *from = &replay->inputs[draw(replay, replay->count)];
        memcpy(data, from->data, from->size);
        run(replay, data, mutate(replay, data, from->size));
    }
    free(data);
}

int main(int argc, char **argv)
{
    static struct replay replay = {.random = 1};
    unsigned long mutations = 0;
    int option;
    while ((option = getopt(argc, argv, "n:s:")) != -1) {
        if (option == 'n')
            mutations = strtoul(optarg, NULL, 10);
        else if (option == 's')
            replay.random = strtoul(optarg, NULL, 10) | 1;
        else
            return 2;
    }
    replay.current = open("current-input", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (replay.current < 0)
        die("current-input");
    if (optind == argc)
        add_stream(&replay, stdin, "standard input");
    for (int i = optind; i < argc; i++)
        add_path(&replay, argv[i]);
    for (size_t i = 0; i < replay.count; i++)
        run(&replay, replay.inputs[i].data, replay.inputs[i].size);
    if (replay.count > 0)
        run_mutations(&replay, mutations);
    printf("%zu inputs, %lu mutations of them\n", replay.count, mutations);
    for (size_t i = 0; i < replay.count; i++)
        free(replay.inputs[i].data);
    close(replay.current);
    unlink("current-input");
    return replay.count > 0 ? 0 : 1;
}
