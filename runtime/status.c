#include "dcache.h"

const char *dcache_strerror(dcache_status_t status)
{
    switch (status) {
#define STATUS_CASE(name, number, text)                                                                                \
    case DCACHE_##name:                                                                                                \
        return text;
        DCACHE_STATUS_MAP(STATUS_CASE)
#undef STATUS_CASE
    }
    return "unknown status"; /* a number from a newer library or a corrupt file */
}
