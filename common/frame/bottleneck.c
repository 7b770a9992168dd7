#include "frame/bottleneck.h"

#include <jansson.h>
#include <string.h>

struct stage_times {
    const char *stage;
    double samples, seconds, input, work, output;
};

static enum status read_line(const json_t *line, struct stage_times *times)
{
    json_error_t json_error;
    return json_unpack_ex((json_t *)line, &json_error, 0, "{s:s, s:F, s:F, s:F, s:F, s:F}",
                          "stage", &times->stage, "samples", &times->samples, "seconds",
                          &times->seconds, "input", &times->input, "work", &times->work,
                          "output", &times->output) == 0
               ? STATUS_OK
               : STATUS_DATA;
}

static void print_times(const struct stage_times *t, FILE *out)
{
    double rate = t->seconds > 0 ? t->samples / t->seconds : 0;
    fprintf(out, "%-16s %12.0f %10.0f %8.2f %8.1f%% %8.1f%% %8.1f%%\n", t->stage, t->samples,
            rate, t->seconds, 100 * t->input, 100 * t->work, 100 * t->output);
}

enum status bottleneck_print(const char *path, FILE *out, struct error *error)
{
    FILE *in = fopen(path, "r");
    if (in == NULL)
        return error_set_errno(error, STATUS_NO_INPUT, "cannot open %s", path);
    fprintf(out, "%-16s %12s %10s %8s %9s %9s %9s\n", "stage", "samples", "samples/s", "seconds",
            "input", "work", "output");

    struct stage_times slowest = {.work = -1};
    json_t *slowest_line = NULL;
    enum status status = STATUS_OK;
    size_t lines = 0;
    for (;;) {
        json_error_t json_error;
        json_t *line = json_loadf(in, JSON_DISABLE_EOF_CHECK | JSON_REJECT_DUPLICATES,
                                  &json_error);
        if (line == NULL) {
            if (!feof(in))
                status = error_set(error, STATUS_DATA, "%s: line %zu: %s", path, lines + 1,
                                   json_error.text);
            break;
        }
        lines++;
        struct stage_times times;
        status = read_line(line, &times);
        if (status != STATUS_OK) {
            error_set(error, status, "%s: line %zu is not a stage's statistics", path, lines);
            json_decref(line);
            break;
        }
        print_times(&times, out);
        if (times.work > slowest.work) {
            json_decref(slowest_line);
            slowest = times;
            slowest_line = line;
        } else {
            json_decref(line);
        }
    }
    fclose(in);
    if (status == STATUS_OK && lines == 0)
        status = error_set(error, STATUS_DATA, "%s: no statistics", path);
    if (status == STATUS_OK)
        fprintf(out, "bottleneck: %s, %.0f%% of its time at work\n", slowest.stage,
                100 * slowest.work);
    json_decref(slowest_line);
    return status;
}
