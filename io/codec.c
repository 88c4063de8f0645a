#include "io/codec.h"

#include <string.h>

static const char *const names[CODECS] = {"plain", "zstd", "aes-256-gcm", "zstd+aes-256-gcm"};
static const char *const suffixes[CODECS] = {"", ".zst", ".aes", ".zst.aes"};

const char *codec_name(enum codec codec)
{
    return names[(unsigned)codec % CODECS];
}

bool codec_parse(const char *name, enum codec *codec)
{
    for (unsigned i = 0; i < CODECS; i++) {
        if (strcmp(name, names[i]) == 0) {
            *codec = (enum codec)i;
            return true;
        }
    }
    return false;
}

const char *codec_suffix(enum codec codec)
{
    return suffixes[(unsigned)codec % CODECS];
}
