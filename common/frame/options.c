#include "frame/options.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/number.h"

enum { OPTIONS_MAX = 64, LONG_ONLY = 256 };

static enum status out_of_range(const struct option_spec *spec, const char *text,
                                struct error *error)
{
    const char *format = spec->kind == OPTION_KIND_INTEGER
                             ? "--%s: %s is not in the range %.0f to %.0f"
                             : "--%s: %s is not in the range %g to %g";
    return error_set(error, STATUS_USAGE, format, spec->name, text, spec->low, spec->high);
}

static enum status set_choice(const struct option_spec *spec, const char *text,
                              struct error *error)
{
    char list[200] = "";
    for (int i = 0; spec->choices[i] != NULL; i++) {
        if (strcmp(text, spec->choices[i]) == 0) {
            *(int *)spec->value = i;
            return STATUS_OK;
        }
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%s", i > 0 ? ", " : "", spec->choices[i]);
    }
    return error_set(error, STATUS_USAGE, "--%s: '%.60s' is not one of %s", spec->name, text,
                     list);
}

static enum status set_value(const struct option_spec *spec, const char *text,
                             struct error *error)
{
    int64_t integer;
    double real, pair[2];
    switch (spec->kind) {
    case OPTION_KIND_FLAG:
        *(bool *)spec->value = true;
        return STATUS_OK;
    case OPTION_KIND_INTEGER:
        if (!number_parse_integer(text, &integer))
            return error_set(error, STATUS_USAGE, "--%s: '%.60s' is not a whole number",
                             spec->name, text);
        if ((double)integer < spec->low || (double)integer > spec->high)
            return out_of_range(spec, text, error);
        *(int64_t *)spec->value = integer;
        return STATUS_OK;
    case OPTION_KIND_REAL:
        if (!number_parse_real(text, &real))
            return error_set(error, STATUS_USAGE, "--%s: '%.60s' is not a number", spec->name,
                             text);
        if (real < spec->low || real > spec->high)
            return out_of_range(spec, text, error);
        *(double *)spec->value = real;
        return STATUS_OK;
    case OPTION_KIND_PAIR:
        if (!number_parse_list(text, pair, 2) || pair[0] > pair[1])
            return error_set(error, STATUS_USAGE,
                             "--%s: '%.60s' is not two ascending numbers A,B", spec->name, text);
        if (pair[0] < spec->low || pair[1] > spec->high)
            return out_of_range(spec, text, error);
        memcpy(spec->value, pair, sizeof pair);
        return STATUS_OK;
    case OPTION_KIND_TEXT:
        *(const char **)spec->value = text;
        return STATUS_OK;
    case OPTION_KIND_CHOICE:
        return set_choice(spec, text, error);
    }
    return error_set(error, STATUS_BUG, "--%s has no kind", spec->name);
}

/* getopt's tables from ours; by[] maps what getopt_long returns to the option. */
static size_t fill_getopt(const struct option_part *parts, size_t part_count,
                          struct option *longs, char *shorts, struct option_spec **by)
{
    size_t count = 0;
    *shorts++ = ':';
    for (size_t p = 0; p < part_count; p++)
        for (size_t i = 0; i < parts[p].count && count < OPTIONS_MAX; i++) {
            struct option_spec *spec = &parts[p].specs[i];
            int argument = spec->kind == OPTION_KIND_FLAG ? no_argument : required_argument;
            int code = spec->letter != 0 ? spec->letter : LONG_ONLY + (int)count;
            longs[count++] = (struct option){spec->name, argument, NULL, code};
            by[code] = spec;
            if (spec->letter != 0) {
                *shorts++ = spec->letter;
                if (argument == required_argument)
                    *shorts++ = ':';
            }
        }
    longs[count] = (struct option){NULL, 0, NULL, 0};
    *shorts = '\0';
    return count;
}

enum status options_parse(const struct option_part *parts, size_t part_count, int argc,
                          char **argv, int *first_operand, struct error *error)
{
    struct option longs[OPTIONS_MAX + 1];
    char shorts[2 * OPTIONS_MAX + 2];
    struct option_spec *by[LONG_ONLY + OPTIONS_MAX] = {NULL};
    fill_getopt(parts, part_count, longs, shorts, by);

    opterr = 0;
    optind = 0; /* glibc: begin anew */
    for (;;) {
        int code = getopt_long(argc, argv, shorts, longs, NULL);
        if (code == -1)
            break;
        if (code == '?' && optopt > 0 && optopt < LONG_ONLY && by[optopt] == NULL)
            return error_set(error, STATUS_USAGE, "unknown option '-%c'", optopt);
        if (code == '?')
            return error_set(error, STATUS_USAGE, optopt == 0 ? "unknown option '%.60s'"
                                                              : "'%.60s': no argument expected",
                             argv[optind - 1]);
        if (code == ':')
            return error_set(error, STATUS_USAGE, "option '%.60s' needs an argument",
                             argv[optind - 1]);
        enum status status = set_value(by[code], optarg, error);
        if (status != STATUS_OK)
            return status;
        by[code]->given = true;
    }
    *first_operand = optind;
    return STATUS_OK;
}

void option_format(const struct option_spec *spec, char *text, size_t size)
{
    const double *pair = spec->value;
    const char *const *string = spec->value;
    switch (spec->kind) {
    case OPTION_KIND_FLAG:
        snprintf(text, size, "%s", *(bool *)spec->value ? "yes" : "no");
        break;
    case OPTION_KIND_INTEGER:
        snprintf(text, size, "%" PRId64, *(int64_t *)spec->value);
        break;
    case OPTION_KIND_REAL:
        snprintf(text, size, "%.10g", *(double *)spec->value);
        break;
    case OPTION_KIND_PAIR:
        snprintf(text, size, "%.10g,%.10g", pair[0], pair[1]);
        break;
    case OPTION_KIND_TEXT:
        snprintf(text, size, "%s", *string == NULL ? "" : *string);
        break;
    case OPTION_KIND_CHOICE:
        snprintf(text, size, "%s", spec->choices[*(int *)spec->value]);
        break;
    }
}

static void print_option(const struct option_spec *spec)
{
    char left[64], value[256];
    snprintf(left, sizeof left, "%c%c%c --%s%s%s", spec->letter != 0 ? '-' : ' ',
             spec->letter != 0 ? spec->letter : ' ', spec->letter != 0 ? ',' : ' ', spec->name,
             spec->argument != NULL ? " " : "", spec->argument != NULL ? spec->argument : "");
    printf("  %-28s%s%s", left, strlen(left) >= 28 ? "  " : "", spec->help);
    for (int i = 0; spec->kind == OPTION_KIND_CHOICE && spec->choices[i] != NULL; i++)
        printf("%s%s", i == 0 ? ": " : ", ", spec->choices[i]);
    option_format(spec, value, sizeof value);
    if (spec->required)
        printf(" (required)");
    else if (spec->kind != OPTION_KIND_FLAG && value[0] != '\0')
        printf(" [%s]", value);
    putchar('\n');
}

void options_print_help(const struct option_part *parts, size_t part_count)
{
    for (size_t p = 0; p < part_count; p++) {
        for (size_t i = 0; i < parts[p].count; i++)
            print_option(&parts[p].specs[i]);
        putchar('\n');
    }
}
