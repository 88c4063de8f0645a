#include "io/pack_name.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void pack_name_text(const struct pack_name *name, char text[MANIFEST_OBJECT_MAX + 1])
{
    snprintf(text, MANIFEST_OBJECT_MAX + 1, "pack-%016" PRIx64 "-%" PRIu32 "-%" PRIu32 "-%" PRIu32, name->id,
             name->first, name->last, name->count);
}

bool pack_name_parse(const char *text, struct pack_name *name)
{
    char again[MANIFEST_OBJECT_MAX + 1];
    struct pack_name found;
    if (!manifest_is_pack_name(text) || sscanf(text, "pack-%16" SCNx64 "-%10" SCNu32 "-%10" SCNu32 "-%10" SCNu32,
                                               &found.id, &found.first, &found.last, &found.count) != 4)
        return false;
    pack_name_text(&found, again);
    if (strcmp(text, again) != 0 || found.last < found.first || found.count == 0 ||
        found.count - 1 > found.last - found.first)
        return false;
    *name = found;
    return true;
}
