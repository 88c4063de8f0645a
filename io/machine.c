#include "io/machine.h"

#include "io/crc64.h"

#include <errno.h>
#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATH_BYTES 512

static size_t read_small(const char *path, char *text, size_t size)
{
    FILE *file = fopen(path, "re");
    size_t bytes = file != NULL ? fread(text, 1, size - 1, file) : 0;
    text[bytes] = '\0';
    if (file != NULL)
        (void)fclose(file); /* read only */
    return bytes;
}

/* ---- The machine ---- */

/* "7c:1e:52:..." of a card that has a device behind it. The second bit says that its maker did not give it. */
static bool has_makers_address(const char *card, char address[32])
{
    char path[PATH_BYTES];
    char *end = NULL;
    snprintf(path, sizeof path, "%s/device", card);
    if (access(path, F_OK) != 0)
        return false;
    snprintf(path, sizeof path, "%s/type", card);
    if (read_small(path, address, 32) == 0 || strcmp(address, "1\n") != 0) /* Ethernet */
        return false;
    snprintf(path, sizeof path, "%s/address", card);
    if (read_small(path, address, 32) != 18 || strcmp(address, "00:00:00:00:00:00\n") == 0)
        return false;
    const unsigned long first = strtoul(address, &end, 16);
    return end == address + 2 && (first & 3) == 0; /* nor a group's */
}

/* The sum: two that are one card (Azure has each twice) count once, in any order. 0: there is none. */
static uint64_t cards_mark(const char *root)
{
    char pattern[PATH_BYTES];
    glob_t cards;
    uint64_t seen[32];
    size_t count = 0;
    uint64_t sum = 0;
    snprintf(pattern, sizeof pattern, "%s/sys/class/net/*", root);
    if (glob(pattern, 0, NULL, &cards) != 0) {
        globfree(&cards);
        return 0;
    }
    for (size_t i = 0; i < cards.gl_pathc && count < sizeof seen / sizeof seen[0]; i++) {
        char address[32];
        if (!has_makers_address(cards.gl_pathv[i], address))
            continue;
        const uint64_t mark = crc64_update(0, address, strlen(address));
        bool known = false;
        for (size_t s = 0; s < count; s++)
            known |= seen[s] == mark;
        if (!known) {
            seen[count++] = mark;
            sum += mark;
        }
    }
    globfree(&cards);
    return sum;
}

uint64_t machine_identity(const char *root)
{
    char path[PATH_BYTES], id[64], name[256] = "";
    snprintf(path, sizeof path, "%s/etc/machine-id", root);
    const size_t length = read_small(path, id, sizeof id);
    const uint64_t cards = cards_mark(root);
    if (length < 32 || cards == 0 || gethostname(name, sizeof name - 1) != 0)
        return 0;
    uint64_t mark = crc64_update(0, id, length);
    mark = crc64_update(mark, &cards, sizeof cards);
    return crc64_update(mark, name, strlen(name));
}

uint64_t machine_boot(void)
{
    char boot[64];
    const size_t length = read_small("/proc/sys/kernel/random/boot_id", boot, sizeof boot);
    return length > 0 ? crc64_update(0, boot, length) : 0;
}

/* ---- Its processes ---- */

/* When a process began, in ticks since the machine did: field 22 of its stat. 0: cannot be told. 1 is none's: what is
 * left of a process that has ended. */
static uint64_t process_start(long pid)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    if (read_small(path, text, sizeof text) == 0)
        return 0;
    const char *at = strrchr(text, ')'); /* its name may have anything in it */
    if (at == NULL || at[1] != ' ')
        return 0;
    if (at[2] == 'Z' || at[2] == 'X')
        return 1;
    for (int field = 2; at != NULL && field < 22; field++)
        at = strchr(at + 1, ' ');
    return at != NULL ? strtoull(at + 1, NULL, 10) : 0;
}

/* This machine since it began, and in it the numbers that processes have here; 0: cannot be told. */
static uint64_t processes_mark(void)
{
    char boot[64], space[64] = "";
    size_t length = read_small("/proc/sys/kernel/random/boot_id", boot, sizeof boot);
    ssize_t space_length = readlink("/proc/self/ns/pid", space, sizeof space - 1);
    if (length == 0 || space_length <= 0)
        return 0;
    return crc64_update(crc64_update(0, boot, length), space, (size_t)space_length);
}

uint64_t machine_process(long pid)
{
    const uint64_t machine = processes_mark(), start = process_start(pid);
    return machine == 0 || start == 0 ? 0 : (machine & 0xffffffff00000000u) | (start & 0xffffffffu);
}

bool machine_process_ended(uint64_t process, long pid)
{
    const uint64_t machine = processes_mark();
    if (process == 0 || pid <= 0 || machine == 0 || ((process ^ machine) & 0xffffffff00000000u) != 0)
        return false;
    if (kill((pid_t)pid, 0) != 0 && errno == ESRCH)
        return true;
    const uint64_t mark = machine_process(pid); /* 0: another user's, whom /proc hides */
    return mark != 0 && mark != process;
}
