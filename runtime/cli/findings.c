#include "runtime/cli/findings.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define VALUE_MAX 1400

static const char *const levels[] = {"ok", "warning", "problem"};

void findings_begin(struct findings *findings)
{
    memset(findings, 0, sizeof *findings);
    findings->list = json_array();
    findings->failed = findings->list == NULL;
}

void findings_add(struct findings *findings, enum finding_level level, const char *what, const char *remedy,
                  const char *format, ...)
{
    char value[VALUE_MAX];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(value, sizeof value, format, arguments);
    va_end(arguments);
    for (char *c = value; *c != '\0'; c++) {
        if (*c < ' ' || *c > '~')
            *c = '?';
    }
    findings->count[level]++;
    json_t *one =
        json_pack("{s:s,s:s,s:s,s:s?}", "level", levels[level], "what", what, "value", value, "remedy", remedy);
    if (one == NULL || json_array_append_new(findings->list, one) != 0)
        findings->failed = true;
}

static void print_lines(const struct findings *findings)
{
    size_t i;
    json_t *one;

    json_array_foreach (findings->list, i, one) {
        const char *remedy = json_string_value(json_object_get(one, "remedy"));
        printf("%-8s %s: %s%s%s\n", json_string_value(json_object_get(one, "level")),
               json_string_value(json_object_get(one, "what")), json_string_value(json_object_get(one, "value")),
               remedy != NULL ? " -- " : "", remedy != NULL ? remedy : "");
    }
    printf("%u problem%s, %u warning%s%s\n", findings->count[FINDING_PROBLEM],
           findings->count[FINDING_PROBLEM] == 1 ? "" : "s", findings->count[FINDING_WARNING],
           findings->count[FINDING_WARNING] == 1 ? "" : "s",
           findings->failed ? "; out of memory, some are missing" : "");
}

bool findings_end(struct findings *findings, bool json)
{
    bool safe = findings->count[FINDING_PROBLEM] == 0 && !findings->failed;

    if (json) {
        json_t *document = json_pack("{s:b,s:O?}", "safe", safe, "findings", findings->list);
        safe &= document != NULL && json_dumpf(document, stdout, JSON_INDENT(2)) == 0 && putchar('\n') != EOF;
        json_decref(document);
    } else {
        print_lines(findings);
    }
    json_decref(findings->list);
    return safe;
}
