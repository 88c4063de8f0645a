/* A page of List Blobs: XML. */
#include "fuzz.h"

#include "io/azure_list.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct diag *dg = fuzz_diag();
    struct azure_page page;
    dcache_status_t status = azure_list_parse(dg, (const char *)data, size, &page);
    fuzz_require_text(dg, status);
    if (status != DCACHE_OK)
        return 0;
    for (size_t i = 0; i < page.count; i++)
        fuzz_require(strlen(page.blobs[i].name) <= AZURE_LIST_NAME_MAX, "names are as long as Azure allows");
    azure_list_free(&page);
    return 0;
}
