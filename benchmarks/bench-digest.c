/* One way of copying and digesting, over and over: for a clock, or for a tool that counts instructions
 * (benchmarks/instructions.sh). */
#include "io/crc64.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const struct crc64_implementation *find(const char *name)
{
    size_t count = 0;
    const struct crc64_implementation *all = crc64_implementations(&count);

    for (size_t i = 0; i < count; i++) {
        if (strcmp(all[i].name, name) == 0 && all[i].usable())
            return &all[i];
    }
    return NULL;
}

static uint64_t pass(const struct crc64_implementation *by, const char *what, char *target, const char *source,
                     size_t bytes)
{
    if (strcmp(what, "update") == 0)
        return by->update(0, source, bytes);
    return strcmp(what, "copy") == 0 ? by->copy(0, target, source, bytes) : by->copy_stream(0, target, source, bytes);
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int run(const struct crc64_implementation *by, const char *what, size_t bytes, unsigned long passes)
{
    char *source = malloc(bytes), *target = malloc(bytes);
    uint64_t crc = 0;

    if (source == NULL || target == NULL) {
        fprintf(stderr, "bench-digest: out of memory for 2 x %zu bytes\n", bytes);
        free(source);
        free(target);
        return 1;
    }
    memset(source, 0x5a, bytes);
    memset(target, 0, bytes);
    double start = now();
    for (unsigned long i = 0; i < passes; i++)
        crc ^= pass(by, what, target, source, bytes);
    double seconds = now() - start;
    printf("%s %s: %zu bytes %lu times, %.2f GB/s, digest %016" PRIx64 "\n", by->name, what, bytes, passes,
           (double)bytes * (double)passes / seconds * 1e-9, crc);
    free(source);
    free(target);
    return 0;
}

int main(int argc, char **argv)
{
    const struct crc64_implementation *by = argc == 5 ? find(argv[1]) : NULL;
    const char *what = argc == 5 ? argv[2] : "";
    size_t bytes = argc == 5 ? strtoul(argv[3], NULL, 10) : 0;

    if (argc != 5 || bytes == 0 ||
        (strcmp(what, "update") != 0 && strcmp(what, "copy") != 0 && strcmp(what, "stream") != 0)) {
        fputs("usage: bench-digest table|pclmulqdq|vpclmulqdq update|copy|stream BYTES PASSES\n", stderr);
        return 2;
    }
    if (by == NULL) {
        fprintf(stderr, "bench-digest: this CPU has no %s\n", argv[1]);
        return 3;
    }
    return run(by, what, bytes, strtoul(argv[4], NULL, 10));
}
