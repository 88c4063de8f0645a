/* What /proc says of this process. Resident memory has three parts: anonymous (heap, stacks, malloc), of files
 * (programs and libraries), and shared (mappings of files on a memory file system: shards, but MPI's own, too). */
#include "bench.h"

#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SAMPLE_NS 200000L

/* A "Key:  123 kB" of /proc/self/status in MiB; 0 when there is none. */
static double status_MiB(const char *key)
{
    char line[256];
    double value = 0;
    FILE *file = fopen("/proc/self/status", "re");

    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, key, strlen(key)) == 0 && line[strlen(key)] == ':')
            value = strtod(line + strlen(key) + 1, NULL) / 1024;
    }
    if (file != NULL)
        (void)fclose(file);
    return value;
}

/* What is resident of mapped files below `root`. */
static double mapped_MiB(const char *root)
{
    char line[1024];
    double total = 0;
    bool inside = false;
    FILE *file = fopen("/proc/self/smaps", "re");

    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        char *path = strchr(line, '/');
        bool header = strchr("0123456789abcdef", line[0]) != NULL; /* all other lines start with a capital */
        if (header)
            inside = path != NULL && strncmp(path, root, strlen(root)) == 0;
        else if (inside && strncmp(line, "Rss:", 4) == 0)
            total += strtod(line + 4, NULL) / 1024;
    }
    if (file != NULL)
        (void)fclose(file);
    return total;
}

void memory_reset(struct memory_mark *mark)
{
    FILE *file = fopen("/proc/self/clear_refs", "we");
    bool done = file != NULL && fputs("5", file) >= 0;

    if (file != NULL)
        done = fclose(file) == 0 && done;
    mark->exact = mark->exact && done;
}

static struct memory_parts parts_now(void)
{
    return (struct memory_parts){status_MiB("RssAnon"), status_MiB("RssFile"), status_MiB("RssShmem")};
}

struct memory_parts memory_parts_over_mark(const struct memory_mark *mark, const char *root)
{
    struct memory_parts now = parts_now(), before = mark->parts_MiB;

    return (struct memory_parts){now.anonymous - before.anonymous, now.files - before.files,
                                 now.shared - before.shared - mapped_MiB(root)};
}

void memory_mark(struct memory_mark *mark)
{
    mark->exact = true;
    mark->parts_MiB = parts_now();
    memory_reset(mark);
    mark->before_MiB = status_MiB(mark->exact ? "VmRSS" : "VmHWM");
}

double memory_over_mark(const struct memory_mark *mark, const char *root)
{
    return status_MiB("VmHWM") - mark->before_MiB - mapped_MiB(root);
}

struct memory_sampler {
    pthread_t thread;
    atomic_bool stop;
    double before, most; /* the thread's until it is joined */
};

static void *sample(void *context)
{
    struct memory_sampler *self = context;
    struct timespec pause = {0, SAMPLE_NS};

    while (!atomic_load(&self->stop)) {
        double now = status_MiB("RssAnon");
        self->most = now > self->most ? now : self->most;
        nanosleep(&pause, NULL);
    }
    return NULL;
}

struct memory_sampler *memory_sampler_start(void)
{
    struct memory_sampler *self = calloc(1, sizeof *self);

    if (self == NULL)
        return NULL;
    (void)malloc_trim(0); /* or memory that was freed before would be used again unseen */
    self->before = self->most = status_MiB("RssAnon");
    if (pthread_create(&self->thread, NULL, sample, self) != 0) {
        free(self);
        return NULL;
    }
    return self;
}

double memory_sampler_stop(struct memory_sampler *self)
{
    if (self == NULL)
        return 0;
    atomic_store(&self->stop, true);
    pthread_join(self->thread, NULL);
    double over = self->most - self->before;
    free(self);
    return over;
}
