/**
 * A command of the user's that prints a secret: a key, a token. Run by /bin/sh -c, in a process group of its own, with
 * nothing on its standard input; neither the command nor what it prints gets into any text. Blocks; any thread may call
 * it.
 */
#ifndef DCACHE_IO_COMMAND_H
#define DCACHE_IO_COMMAND_H

#include "io/diag.h"

#include <stdatomic.h>
#include <stddef.h>

struct command {
    const char *name; /**< of the option or variable that has it, for texts */
    const char *line;
    double seconds;            /**< it has; then it and what it started are killed */
    const atomic_bool *cancel; /**< NULL, or when it becomes true the call ends within a moment */
    const atomic_bool *stop;   /**< the same, for another reason */
};

/**
 * Run it. Its standard output, less spaces at its end, goes to `text`, with a zero byte; the caller wipes it.
 * @return DCACHE_OK; DCACHE_ERR_OPTION: it cannot be run, failed, printed nothing or `room` bytes or more, or did not
 *         end in time; the text has the last line of its standard error, without what may be a secret;
 *         DCACHE_ERR_CANCELLED
 */
dcache_status_t command_run(struct diag *dg, const struct command *command, char *text, size_t room,
                            size_t *length) DCACHE_MUST_CHECK;

#endif
