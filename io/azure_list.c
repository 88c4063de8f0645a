#include "io/azure_list.h"

#include <errno.h>
#include <expat.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 16

/* EnumerationResults / Blobs / Blob / Name, Properties / Content-Length; EnumerationResults / NextMarker. */
enum element { OTHER, RESULTS, BLOBS, BLOB, NAME, PROPERTIES, LENGTH, MARKER };

static const struct {
    enum element parent;
    const char *name;
    enum element element;
} grammar[] = {
    {OTHER, "EnumerationResults", RESULTS},
    {RESULTS, "Blobs", BLOBS},
    {BLOBS, "Blob", BLOB},
    {BLOB, "Name", NAME},
    {BLOB, "Properties", PROPERTIES},
    {PROPERTIES, "Content-Length", LENGTH},
    {RESULTS, "NextMarker", MARKER},
};

struct reader {
    XML_Parser parser;
    struct azure_page *page;
    size_t room;
    size_t depth;
    enum element path[DEPTH_MAX]; /* of the element we are in, outermost first */
    char text[AZURE_LIST_MARKER_MAX + 1];
    size_t text_length;
    bool text_too_long;
    char name[AZURE_LIST_NAME_MAX + 1];
    bool has_name;
    uint64_t bytes;
    bool has_bytes;
    bool has_results;
    bool no_memory;
    bool bad;
};

static void stop(struct reader *reader, bool *why)
{
    *why = true;
    XML_StopParser(reader->parser, XML_FALSE);
}

static void on_start(void *context, const XML_Char *name, const XML_Char **attributes)
{
    struct reader *reader = context;
    if (reader->depth == DEPTH_MAX) {
        stop(reader, &reader->bad);
        return;
    }
    enum element parent = reader->depth > 0 ? reader->path[reader->depth - 1] : OTHER;
    enum element element = OTHER;
    for (size_t i = 0; i < sizeof grammar / sizeof grammar[0]; i++) {
        bool fits = grammar[i].parent == parent && (parent != OTHER || reader->depth == 0);
        if (fits && strcmp(grammar[i].name, name) == 0)
            element = grammar[i].element;
    }
    reader->path[reader->depth++] = element;
    reader->text_length = 0;
    /* A name that XML cannot have is percent-encoded and marked so: none of ours. */
    reader->text_too_long = element == NAME && attributes[0] != NULL;
    reader->has_results |= element == RESULTS;
    if (element == BLOB)
        reader->has_name = reader->has_bytes = false;
}

static void on_text(void *context, const XML_Char *text, int length)
{
    struct reader *reader = context;
    if (reader->depth == 0 || reader->path[reader->depth - 1] < NAME || reader->path[reader->depth - 1] == PROPERTIES)
        return;
    if ((size_t)length > AZURE_LIST_MARKER_MAX - reader->text_length) {
        reader->text_too_long = true;
        return;
    }
    memcpy(reader->text + reader->text_length, text, (size_t)length);
    reader->text_length += (size_t)length;
}

static bool read_number(const char *text, uint64_t *number)
{
    char *end = NULL;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0)
        return false;
    *number = value;
    return true;
}

static void add_blob(struct reader *reader)
{
    struct azure_page *page = reader->page;
    if (!reader->has_name)
        return;
    if (!reader->has_bytes) {
        stop(reader, &reader->bad);
        return;
    }
    if (page->count == reader->room) {
        size_t room = reader->room > 0 ? 2 * reader->room : 64;
        struct azure_blob *grown = realloc(page->blobs, room * sizeof *grown);
        if (grown == NULL) {
            stop(reader, &reader->no_memory);
            return;
        }
        page->blobs = grown;
        reader->room = room;
    }
    char *name = strdup(reader->name);
    if (name == NULL) {
        stop(reader, &reader->no_memory);
        return;
    }
    page->blobs[page->count++] = (struct azure_blob){.name = name, .bytes = reader->bytes};
}

static void on_end(void *context, const XML_Char *name)
{
    (void)name;
    struct reader *reader = context;
    enum element element = reader->path[--reader->depth];
    reader->text[reader->text_length] = '\0';
    if (element == BLOB) {
        add_blob(reader);
    } else if (element == NAME && !reader->text_too_long && reader->text_length <= AZURE_LIST_NAME_MAX) {
        memcpy(reader->name, reader->text, reader->text_length + 1);
        reader->has_name = true;
    } else if (element == LENGTH && !reader->text_too_long) {
        reader->has_bytes = read_number(reader->text, &reader->bytes);
    } else if (element == MARKER) {
        if (reader->text_too_long)
            stop(reader, &reader->bad);
        else
            memcpy(reader->page->next, reader->text, reader->text_length + 1);
    }
}

/* Azure sends no document type, and entities can be made to grow without end. */
static void on_doctype(void *context, const XML_Char *name, const XML_Char *system, const XML_Char *public,
                       int internal)
{
    (void)name;
    (void)system;
    (void)public;
    (void)internal;
    struct reader *reader = context;
    stop(reader, &reader->bad);
}

dcache_status_t azure_list_parse(struct diag *dg, const char *xml, size_t bytes, struct azure_page *page)
{
    struct azure_page found = {.count = 0};
    struct reader *reader = calloc(1, sizeof *reader);
    XML_Parser parser = XML_ParserCreate(NULL);
    if (reader == NULL || parser == NULL || bytes > INT32_MAX) {
        free(reader);
        if (parser != NULL)
            XML_ParserFree(parser);
        return diag_fail(dg, DCACHE_ERR_NO_MEMORY, "no memory to read a page of a listing");
    }
    reader->parser = parser;
    reader->page = &found;
    XML_SetUserData(parser, reader);
    XML_SetElementHandler(parser, on_start, on_end);
    XML_SetCharacterDataHandler(parser, on_text);
    XML_SetStartDoctypeDeclHandler(parser, on_doctype);
    bool good = XML_Parse(parser, xml, (int)bytes, 1) == XML_STATUS_OK && reader->has_results;
    dcache_status_t status = DCACHE_OK;
    if (reader->no_memory || XML_GetErrorCode(parser) == XML_ERROR_NO_MEMORY)
        status = diag_fail(dg, DCACHE_ERR_NO_MEMORY, "no memory to read a page of a listing");
    else if (!good || reader->bad)
        status = diag_fail(dg, DCACHE_ERR_STORE, "a page of the listing is not what Azure Blob sends (line %lu: %s)",
                           (unsigned long)XML_GetCurrentLineNumber(parser),
                           reader->bad || good ? "an element that cannot be there"
                                               : XML_ErrorString(XML_GetErrorCode(parser)));
    XML_ParserFree(parser);
    free(reader);
    if (status == DCACHE_OK)
        *page = found;
    else
        azure_list_free(&found);
    return status;
}

void azure_list_free(struct azure_page *page)
{
    for (size_t i = 0; i < page->count; i++)
        free(page->blobs[i].name);
    free(page->blobs);
    memset(page, 0, sizeof *page);
}
