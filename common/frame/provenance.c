#include "frame/provenance.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "frame/version.h"

enum { OPERANDS_SHOWN = 8, VALUE_SIZE = 1024 };

char *provenance_format(const char *program, const struct option_spec *options,
                        size_t option_count, char *const *operands, int operand_count)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (out == NULL)
        return NULL;
    fprintf(out, "%s %s", program, version_number());
    for (size_t i = 0; i < option_count; i++) {
        char value[VALUE_SIZE];
        option_format(&options[i], value, sizeof value);
        if (!options[i].neutral && value[0] != '\0')
            fprintf(out, " --%s=%s", options[i].name, value);
    }
    for (int i = 0; i < operand_count && i < OPERANDS_SHOWN; i++)
        fprintf(out, " %.*s", VALUE_SIZE, operands[i]);
    if (operand_count > OPERANDS_SHOWN)
        fprintf(out, " and %d more", operand_count - OPERANDS_SHOWN);
    if (fclose(out) == 0)
        return text;
    free(text);
    return NULL;
}

enum status provenance_append(struct metadata *map, const char *line, struct error *error)
{
    char key[16] = "pg.1";
    for (int n = 2; metadata_get(map, key) != NULL; n++)
        snprintf(key, sizeof key, "pg.%d", n);
    return metadata_set(map, key, line, error);
}

enum status provenance_settings(struct metadata *map, const struct option_spec *options,
                                size_t option_count, struct error *error)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < option_count; i++) {
        char value[VALUE_SIZE];
        option_format(&options[i], value, sizeof value);
        if (!options[i].neutral)
            status = metadata_set(map, options[i].name, value, error);
    }
    return status;
}

enum status provenance_compare(const struct metadata *now, const struct metadata *before,
                               struct error *error)
{
    for (size_t i = 0; i < now->count; i++) {
        const char *old = metadata_get(before, now->entries[i].key);
        if (old != NULL && strcmp(old, now->entries[i].value) != 0)
            return error_set(error, STATUS_USAGE, "--%s is %s, the checkpoint was made with %s",
                             now->entries[i].key,
                             now->entries[i].value[0] == '\0' ? "not given" : now->entries[i].value,
                             old[0] == '\0' ? "none" : old);
    }
    return STATUS_OK;
}
