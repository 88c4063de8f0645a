#include "bench.h"

#include "io/crc64.h"

#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

/* What follows "key" and a colon in a file of such lines; false when there is none. */
static bool find_line(const char *path, const char *key, char *value, size_t room)
{
    char line[512];
    bool found = false;
    FILE *file = fopen(path, "re");

    while (file != NULL && !found && fgets(line, sizeof line, file) != NULL) {
        char *colon = strchr(line, ':');
        if (colon == NULL || strncmp(line, key, strlen(key)) != 0)
            continue;
        colon += 1 + strspn(colon + 1, " \t");
        colon[strcspn(colon, "\n")] = '\0';
        snprintf(value, room, "%.*s", (int)room - 1, colon);
        found = true;
    }
    if (file != NULL)
        (void)fclose(file);
    return found;
}

/* The choice in brackets: "always [advise] never". */
static void describe_huge_pages(char *text, size_t room)
{
    char line[256] = "";
    FILE *file = fopen("/sys/kernel/mm/transparent_hugepage/shmem_enabled", "re");

    snprintf(text, room, "unknown");
    if (file == NULL)
        return;
    char *start = fgets(line, sizeof line, file) != NULL ? strchr(line, '[') : NULL;
    if (start != NULL && strchr(start, ']') != NULL)
        snprintf(text, room, "%.*s", (int)strcspn(start + 1, "]"), start + 1);
    (void)fclose(file);
}

static const char *find_digest(void)
{
    size_t count = 0;
    const struct crc64_implementation *all = crc64_implementations(&count);

    while (!all->usable())
        all++;
    return all->name;
}

static void describe_mpi(char *text, size_t room)
{
    char version[MPI_MAX_LIBRARY_VERSION_STRING] = "";
    int length = 0;

    MPI_Get_library_version(version, &length);
    snprintf(text, room, "%.*s", (int)strcspn(version, ",\n"), version);
}

void machine_describe(struct machine *machine)
{
    struct utsname system;
    struct tm utc;
    time_t now = time(NULL);

    memset(machine, 0, sizeof *machine);
    snprintf(machine->cpu, sizeof machine->cpu, "unknown");
    (void)find_line("/proc/cpuinfo", "model name", machine->cpu, sizeof machine->cpu);
    if (uname(&system) == 0)
        snprintf(machine->kernel, sizeof machine->kernel, "%.40s %.60s", system.sysname, system.release);
    describe_mpi(machine->mpi, sizeof machine->mpi);
    describe_huge_pages(machine->huge_pages, sizeof machine->huge_pages);
    strftime(machine->date, sizeof machine->date, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    machine->digest = find_digest();
    machine->cores = sysconf(_SC_NPROCESSORS_ONLN);
    machine->memory_GiB = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE) / 1073741824.0;
    if (getloadavg(&machine->load, 1) != 1)
        machine->load = -1;
}

uint64_t machine_memory_available(void)
{
    char text[64];

    if (!find_line("/proc/meminfo", "MemAvailable", text, sizeof text))
        return 0;
    return strtoull(text, NULL, 10) * 1024;
}
