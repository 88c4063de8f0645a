#include "io/json_field.h"

#include <stdlib.h>
#include <string.h>

static const char word_characters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";

dcache_status_t json_field_parse(struct diag *dg, const char *name, const char *text, size_t bytes, const char *format,
                                 uint64_t version, json_t **root)
{
    json_error_t error;
    char found[64];
    uint64_t number = 0;
    json_t *parsed = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
    if (parsed == NULL && json_error_code(&error) == json_error_out_of_memory)
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "out of memory while reading %s (%zu bytes)", name, bytes);
    if (parsed == NULL) /* error.text would repeat what is in the document */
        return diag_fail(dg, DCACHE_ERR_CORRUPT, "%s is no valid JSON (line %d, column %d)", name, error.line,
                         error.column);
    dcache_status_t status = json_field_text(dg, name, parsed, "format", found, sizeof found);
    if (status == DCACHE_OK && strcmp(found, format) != 0)
        status = diag_fail(dg, DCACHE_ERR_CORRUPT, "%s is not of the format \"%s\"", name, format);
    if (status == DCACHE_OK)
        status = json_field_number(dg, name, parsed, "version", 1, INT64_MAX, &number);
    if (status == DCACHE_OK && number > version)
        status =
            diag_fail(dg, DCACHE_ERR_FORMAT,
                      "%s has format version %llu, this dcache reads up to %llu: use the dcache that wrote it or a "
                      "newer one",
                      name, (unsigned long long)number, (unsigned long long)version);
    if (status != DCACHE_OK) {
        json_decref(parsed);
        return status;
    }
    *root = parsed;
    return DCACHE_OK;
}

dcache_status_t json_field_number(struct diag *dg, const char *name, const json_t *object, const char *key,
                                  uint64_t minimum, uint64_t maximum, uint64_t *value)
{
    const json_t *field = json_object_get(object, key);
    json_int_t number = json_integer_value(field);
    if (!json_is_integer(field) || number < 0 || (uint64_t)number < minimum || (uint64_t)number > maximum)
        return diag_fail(dg, DCACHE_ERR_CORRUPT, "%s: \"%s\" is missing or no whole number from %llu to %llu", name,
                         key, (unsigned long long)minimum, (unsigned long long)maximum);
    *value = (uint64_t)number;
    return DCACHE_OK;
}

dcache_status_t json_field_hex(struct diag *dg, const char *name, const json_t *object, const char *key,
                               uint64_t *value)
{
    const json_t *field = json_object_get(object, key);
    const char *text = json_string_value(field);
    if (text == NULL || json_string_length(field) != 16 || strspn(text, "0123456789abcdefABCDEF") != 16)
        return diag_fail(dg, DCACHE_ERR_CORRUPT, "%s: \"%s\" is missing or no string of 16 hexadecimal digits", name,
                         key);
    *value = strtoull(text, NULL, 16);
    return DCACHE_OK;
}

static bool has_control_characters(const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
            return true;
    }
    return false;
}

dcache_status_t json_field_text(struct diag *dg, const char *name, const json_t *object, const char *key, char *value,
                                size_t size)
{
    const json_t *field = json_object_get(object, key);
    const char *text = json_string_value(field);
    size_t length = json_string_length(field);
    if (text == NULL || length >= size || has_control_characters(text, length))
        return diag_fail(dg, DCACHE_ERR_CORRUPT, "%s: \"%s\" is missing or no plain string of at most %zu bytes", name,
                         key, size - 1);
    memcpy(value, text, length + 1);
    return DCACHE_OK;
}

bool json_field_is_word(const char *text)
{
    return *text != '\0' && text[strspn(text, word_characters)] == '\0' && strcmp(text, ".") != 0 &&
           strcmp(text, "..") != 0;
}

dcache_status_t json_field_word(struct diag *dg, const char *name, const json_t *object, const char *key, char *value,
                                size_t size)
{
    const char *text = json_string_value(json_object_get(object, key));
    if (text != NULL && !json_field_is_word(text))
        return diag_fail(dg, DCACHE_ERR_CORRUPT, "%s: \"%s\" has other characters than A-Z a-z 0-9 _ . -", name, key);
    return json_field_text(dg, name, object, key, value, size);
}

dcache_status_t json_field_print(struct diag *dg, const char *name, json_t *root, char **text, size_t *bytes)
{
    char *printed = json_dumps(root, JSON_INDENT(1));
    size_t length = printed != NULL ? strlen(printed) : 0;
    char *line = printed != NULL ? realloc(printed, length + 2) : NULL;
    json_decref(root);
    if (line == NULL) {
        free(printed);
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "out of memory while writing %s", name);
    }
    memcpy(line + length, "\n", 2);
    *text = line;
    *bytes = length + 1;
    return DCACHE_OK;
}
