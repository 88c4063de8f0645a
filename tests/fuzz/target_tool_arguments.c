/* mutations: 2000
 * The command line of the tool: an argument a line. It may read what it is told to, and writes nothing outside of the
 * scratch directory: where the stores are is said last. */
#include "fuzz.h"

#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ARGUMENTS_MAX 24

int dcache_tool_main(int argc, char **argv); /* main() of runtime/cli/main.c, renamed by the build */

/* Not what ends the options (the last ones would count no more), makes a store, or becomes another program. */
static bool is_allowed(const char *argument)
{
    return strcmp(argument, "--") != 0 && strcmp(argument, "create") != 0 && strncmp(argument, "--mp", 4) != 0;
}

static void run_quietly(int argc, char **argv)
{
    fflush(NULL);
    int out = dup(STDOUT_FILENO);
    int error = dup(STDERR_FILENO);
    int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    fuzz_require(out >= 0 && error >= 0 && nowhere >= 0, "descriptors");
    dup2(nowhere, STDOUT_FILENO);
    dup2(nowhere, STDERR_FILENO);
    optind = 0; /* glibc: start anew */
    int code = dcache_tool_main(argc, argv);
    fflush(NULL);
    dup2(out, STDOUT_FILENO);
    dup2(error, STDERR_FILENO);
    close(out);
    close(error);
    close(nowhere);
    fuzz_require(code >= 0 && code <= 4, "an exit code that is documented");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char name[] = "dcache";
    static char last[3][700] = {"--no-store", "--store=none"};
    char *arguments[ARGUMENTS_MAX + 5] = {name};
    int count = 1;
    snprintf(last[2], sizeof last[2], "--memory-store=%s/root", fuzz_scratch());
    setenv("DCACHE_STORE", "none", 1);
    char *text = fuzz_text(data, size);
    char *rest = text;
    for (char *line = strsep(&rest, "\n"); line != NULL && count < ARGUMENTS_MAX; line = strsep(&rest, "\n")) {
        if (is_allowed(line))
            arguments[count++] = line;
    }
    for (size_t i = 0; i < 3; i++)
        arguments[count++] = last[i];
    arguments[count] = NULL;
    run_quietly(count, arguments);
    free(text);
    return 0;
}
