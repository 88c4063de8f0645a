/* The options as help, as documentation and as a file. */
#include "runtime/options_table.h"
#include "runtime/values.h"

#include <inttypes.h>
#include <string.h>

static const char *preset_of(const struct option *option)
{
    const char *preset = option->preset != NULL ? option->preset : option->preset_help;
    return preset[0] != '\0' ? preset : "empty";
}

static void print_markdown(FILE *out)
{
    fputs("# Options\n\n"
          "<!-- Written by options_print_help() from the table in runtime/options.c; a test compares them. -->\n\n"
          "Options come from an INI file, the one given to `dcache_open()` or else named by the environment variable\n"
          "`DCACHE_CONFIG`, as lines `key = value` in the section `[dcache]`; and from environment variables, which\n"
          "win. Rank 0 reads both and tells the other ranks. A text may stand in double quotes, `#` and `;` start\n"
          "comments. Whatever is unknown, misspelt, given twice or out of range is an error.\n\n"
          "| key | environment | default | unit | allowed |\n"
          "| --- | --- | --- | --- | --- |\n",
          out);
    for (size_t i = 0; options_table[i].key != NULL; i++) {
        char variable[OPTIONS_KEY_MAX + sizeof OPTIONS_PREFIX];
        char allowed[OPTIONS_ALLOWED_MAX];
        options_format_variable(&options_table[i], variable);
        options_format_allowed(&options_table[i], allowed);
        fprintf(out, "| `%s` | `%s` | %s | %s | %s |\n", options_table[i].key, variable, preset_of(&options_table[i]),
                options_table[i].unit != NULL ? options_table[i].unit : "", allowed);
    }
    for (size_t i = 0; options_table[i].key != NULL; i++)
        fprintf(out, "\n## %s\n\n%s\n", options_table[i].key, options_table[i].help);
}

/* Print words in columns `indent` to 100; the first line stands at `indent` already. */
static void print_wrapped(FILE *out, int indent, const char *text)
{
    int column = indent;
    while (*text != '\0') {
        int length = (int)strcspn(text, " ");
        if (column > indent && column + 1 + length > 100) {
            fprintf(out, "\n%*s", indent, "");
            column = indent;
        }
        column += fprintf(out, "%s%.*s", column > indent ? " " : "", length, text);
        text += length;
        text += strspn(text, " ");
    }
    fputc('\n', out);
}

static void print_plain(FILE *out)
{
    const int indent = 24;
    fputs("Options, as `key = value` in the INI file given to dcache_open() or named by DCACHE_CONFIG, or as\n"
          "environment variables DCACHE_KEY, which win.\n",
          out);
    for (size_t i = 0; options_table[i].key != NULL; i++) {
        char allowed[OPTIONS_ALLOWED_MAX];
        char facts[OPTIONS_ALLOWED_MAX + 128];
        options_format_allowed(&options_table[i], allowed);
        snprintf(facts, sizeof facts, "Default: %s%s%s. Allowed: %s.", preset_of(&options_table[i]),
                 options_table[i].unit != NULL ? " " : "", options_table[i].unit != NULL ? options_table[i].unit : "",
                 allowed);
        fprintf(out, "\n%-*s", indent, options_table[i].key);
        print_wrapped(out, indent, options_table[i].help);
        fprintf(out, "%*s", indent, "");
        print_wrapped(out, indent, facts);
    }
}

void options_print_help(FILE *out, bool markdown)
{
    if (markdown)
        print_markdown(out);
    else
        print_plain(out);
}

static void print_quoted(FILE *out, const char *text)
{
    fputc('"', out);
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            fputc('\\', out);
        fputc(*text, out);
    }
    fputc('"', out);
}

static void print_value(FILE *out, const struct option *option, const struct options *options)
{
    const char *field = (const char *)options + option->offset;
    int64_t integer;
    double seconds;
    char duration[32];
    switch (option->type) {
    case OPTION_NAME:
    case OPTION_PATH:
    case OPTION_TEXT:
        print_quoted(out, field);
        break;
    case OPTION_INTEGER:
    case OPTION_SIZE:
        memcpy(&integer, field, sizeof integer);
        fprintf(out, "%" PRId64, integer);
        break;
    case OPTION_DURATION:
        memcpy(&seconds, field, sizeof seconds);
        values_format_duration((int64_t)(seconds * 1e6 + 0.5), duration);
        fputs(duration, out);
        break;
    case OPTION_CHOICE:
        memcpy(&integer, field, sizeof integer);
        fputs(option->choices[integer], out);
        break;
    }
}

void options_print_values(FILE *out, const struct options *options)
{
    for (size_t i = 0; options_table[i].key != NULL; i++) {
        fprintf(out, "%s = ", options_table[i].key);
        print_value(out, &options_table[i], options);
        fputc('\n', out);
    }
}
