/* The map of failure domains, and what Slurm says of its topology: the first line is an address, the second a pattern,
 * the rest the map. */
#include "fuzz.h"

#include "runtime/domains.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char domain[DOMAINS_NAME_MAX];
    struct diag *dg = fuzz_diag();
    char *text = fuzz_text(data, size);
    char *rest = text;
    const char *address = strsep(&rest, "\n");
    const char *pattern = rest != NULL ? strsep(&rest, "\n") : NULL;
    const char *map = rest != NULL ? rest : "";
    if (domains_parse_slurm(address, pattern, domain))
        fuzz_require(strncmp(address, domain, strlen(domain)) == 0, "a domain is the beginning of the address");
    dcache_status_t status = domains_check_map(dg, "/etc/racks", map);
    fuzz_require_text(dg, status);
    if (domains_look_up(map, "n1.cluster.example/0", domain))
        fuzz_require(domain[0] != '\0' && strstr(map, domain) != NULL, "a domain is a word of the map");
    if (status == DCACHE_OK && domains_look_up(map, address, domain))
        fuzz_require(strstr(map, domain) != NULL, "a domain is a word of the map");
    free(text);
    return 0;
}
