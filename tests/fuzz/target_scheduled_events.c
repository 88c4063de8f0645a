/* What the instance metadata service says is going to happen: JSON. */
#include "fuzz.h"

#include "io/instance_metadata.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct diag *dg = fuzz_diag();
    struct scheduled_events events;
    dcache_status_t status = instance_metadata_parse_events(dg, (const char *)data, size, "vm0", &events);
    fuzz_require_text(dg, status);
    if (status != DCACHE_OK)
        return 0;
    fuzz_require(events.count <= SCHEDULED_EVENTS_MAX, "no more events than there is room for");
    for (size_t i = 0; i < events.count; i++)
        fuzz_require(events.list[i].not_before >= 0 && events.list[i].kind <= SCHEDULED_LEAVE, "events are sensible");
    return 0;
}
