/**
 * Which machine this is, since when it runs, and which of its processes one is: as far as another process can tell
 * later, from numbers alone, that all this is over. Where it cannot be told the number is 0, which proves nothing.
 */
#ifndef DCACHE_IO_MACHINE_H
#define DCACHE_IO_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

/**
 * The machine, over reboots: of its id, its name, and the addresses of its network cards. All three, because images of
 * machines are copied with their ids, names come again in every cluster, and a card's address that is not its maker's
 * was chosen by somebody who may choose it again: without a card of a maker it is 0. So it is in containers, which have
 * no cards.
 * @param root  "" but for tests: where /etc and /sys are
 */
uint64_t machine_identity(const char *root);

/** Another one after each boot. */
uint64_t machine_boot(void);

/** A process of this machine since it was booted, also among those that had its number: 32 bits of machine and PID
 * namespace, 32 of when the process began there. */
uint64_t machine_process(long pid);

/** Was it a process of this machine, seen from here, and has it ended? */
bool machine_process_ended(uint64_t process, long pid);

#endif
