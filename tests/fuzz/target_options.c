/* An INI file. What is accepted can be printed, and read again it is the same. */
#include "fuzz.h"

#include "runtime/options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check_printed(const struct options *options)
{
    char *text = NULL;
    size_t bytes = 0;
    struct options again;
    FILE *out = open_memstream(&text, &bytes);
    fuzz_require(out != NULL, "memory");
    options_print_values(out, options);
    fclose(out);
    struct diag *dg = fuzz_diag();
    dcache_status_t status = options_load(dg, fuzz_file(text, bytes), &again);
    fuzz_require(status == DCACHE_OK, "options that are printed can be read");
    fuzz_require(memcmp(options, &again, sizeof again) == 0, "options that are printed are the same when read");
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct diag *dg = fuzz_diag();
    struct options options;
    memset(&options, 0, sizeof options);
    dcache_status_t status = options_load(dg, fuzz_file(data, size), &options);
    fuzz_require_text(dg, status);
    if (status == DCACHE_OK)
        check_printed(&options);
    return 0;
}
