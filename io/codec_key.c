#include "io/codec_key.h"

#include "io/command.h"
#include "io/threads.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define TEXT_MAX   256u
#define COMMAND_S  60.0
#define PAGE_BYTES 4096u
#define HEX_CHARS  64u
#define B64_CHARS  44u

#define FORM "64 hexadecimal digits or the base64 of 32 bytes"

/* --- The memory ----------------------------------------------------------------------------------------------------*/

dcache_status_t codec_key_make(struct diag *dg, const unsigned char bytes[CODEC_KEY_BYTES], struct codec_key **key)
{
    struct codec_key *made = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (made == MAP_FAILED)
        return diag_fail_errno(dg, errno, "no memory for a key");
    (void)mlock(made, PAGE_BYTES); /* as far as the limits allow */
    (void)madvise(made, PAGE_BYTES, MADV_DONTDUMP);
    memcpy(made->bytes, bytes, sizeof made->bytes);
    dcache_status_t status = codec_key_number(dg, made->bytes, &made->number);
    if (status != DCACHE_OK) {
        codec_key_free(made);
        return status;
    }
    *key = made;
    return DCACHE_OK;
}

void codec_key_free(struct codec_key *key)
{
    if (key == NULL)
        return;
    OPENSSL_cleanse(key, sizeof *key);
    (void)munmap(key, PAGE_BYTES);
}

/* --- The text ------------------------------------------------------------------------------------------------------*/

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool parse_hex(const char *text, unsigned char bytes[CODEC_KEY_BYTES])
{
    for (unsigned i = 0; i < CODEC_KEY_BYTES; i++) {
        int high = hex_value(text[2 * i]);
        int low = hex_value(text[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        bytes[i] = (unsigned char)(high * 16 + low);
    }
    return true;
}

/* 32 bytes in base64 are 43 characters and one '='. */
static bool parse_base64(const char *text, unsigned char bytes[CODEC_KEY_BYTES])
{
    unsigned char plain[B64_CHARS / 4 * 3];
    bool good = text[B64_CHARS - 1] == '=' && text[B64_CHARS - 2] != '=' &&
                EVP_DecodeBlock(plain, (const unsigned char *)text, B64_CHARS) == (int)sizeof plain;
    if (good)
        memcpy(bytes, plain, CODEC_KEY_BYTES);
    OPENSSL_cleanse(plain, sizeof plain);
    return good;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

bool codec_key_parse(const char *text, size_t length, unsigned char bytes[CODEC_KEY_BYTES])
{
    while (length > 0 && is_space(text[0])) {
        text++;
        length--;
    }
    while (length > 0 && is_space(text[length - 1]))
        length--;
    if (length == HEX_CHARS)
        return parse_hex(text, bytes);
    return length == B64_CHARS && parse_base64(text, bytes);
}

/* --- Where it comes from -------------------------------------------------------------------------------------------*/

/* What can be read until the end, or `room` bytes, or the deadline. -1 and errno on failure. */
static ssize_t read_until_end(int fd, char *text, size_t room, double deadline)
{
    size_t length = 0;
    while (length < room) {
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        double left = deadline - threads_now();
        int count = left > 0 ? poll(&ready, 1, (int)(left * 1000) + 1) : 0;
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0) {
            errno = count == 0 ? ETIMEDOUT : errno;
            return -1;
        }
        ssize_t got = read(fd, text + length, room - length);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0 ? -1 : (ssize_t)length;
        length += (size_t)got;
    }
    return (ssize_t)length;
}

static dcache_status_t read_key_file(struct diag *dg, const char *path, char text[TEXT_MAX], size_t *length)
{
    struct stat about;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return diag_fail_errno(dg, errno, "cannot open the key file %s (encrypt_key_file)", path);
    dcache_status_t status = DCACHE_OK;
    if (fstat(fd, &about) != 0 || !S_ISREG(about.st_mode))
        status = diag_fail(dg, DCACHE_ERR_OPTION, "the key file %s (encrypt_key_file) is no regular file", path);
    else if ((about.st_uid != geteuid() && about.st_uid != 0) || (about.st_mode & 077) != 0)
        status = diag_fail(dg, DCACHE_ERR_PERMISSION,
                           "the key file %s (encrypt_key_file) has mode %04o and owner %lu: it must be yours or root's "
                           "and closed to all others; chmod 600 it",
                           path, (unsigned)(about.st_mode & 07777), (unsigned long)about.st_uid);
    ssize_t got = status == DCACHE_OK ? read_until_end(fd, text, TEXT_MAX, threads_now() + COMMAND_S) : 0;
    if (got < 0)
        status = diag_fail_errno(dg, errno, "cannot read the key file %s (encrypt_key_file)", path);
    *length = got > 0 ? (size_t)got : 0;
    (void)close(fd);
    return status;
}

static dcache_status_t read_key_command(struct diag *dg, const char *line, char text[TEXT_MAX], size_t *length)
{
    const struct command command = {.name = "encrypt_key_command", .line = line, .seconds = COMMAND_S};
    return command_run(dg, &command, text, TEXT_MAX, length);
}

dcache_status_t codec_key_load(struct diag *dg, const char *file, const char *command, struct codec_key **key)
{
    char text[TEXT_MAX] = "";
    unsigned char bytes[CODEC_KEY_BYTES];
    size_t length = 0;
    *key = NULL;
    if (file[0] == '\0' && command[0] == '\0')
        return DCACHE_OK;
    dcache_status_t status =
        file[0] != '\0' ? read_key_file(dg, file, text, &length) : read_key_command(dg, command, text, &length);
    if (status == DCACHE_OK && !codec_key_parse(text, length, bytes))
        status = diag_fail(dg, DCACHE_ERR_OPTION, "%s%s gives no key: " FORM " are one",
                           file[0] != '\0' ? "the key file " : "encrypt_key_command", file[0] != '\0' ? file : "");
    if (status == DCACHE_OK)
        status = codec_key_make(dg, bytes, key);
    OPENSSL_cleanse(text, sizeof text);
    OPENSSL_cleanse(bytes, sizeof bytes);
    return status;
}
