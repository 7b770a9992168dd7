#include "frame/run_facts.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/number.h"
#include "frame/provenance.h"
#include "model/vocabulary.h"

/* ---- preprocessing ---- */

enum { TRIPLE_SIZE = 80 };

static const char *format_triple(char text[TRIPLE_SIZE], const double value[3])
{
    snprintf(text, TRIPLE_SIZE, "%.10g,%.10g,%.10g", value[0], value[1], value[2]);
    return text;
}

struct run_facts_colors run_facts_color_sources(const struct preprocess_config *preprocess)
{
    static const double mean[3] = {0.48145466, 0.4578275, 0.40821073}; /* OpenAI's */
    static const double std[3] = {0.26862954, 0.26130258, 0.27577711};
    bool same_mean = memcmp(preprocess->mean, mean, sizeof mean) == 0;
    bool same_std = memcmp(preprocess->std, std, sizeof std) == 0;
    return (struct run_facts_colors){same_mean ? COLOR_DEFAULT : COLOR_CONFIG,
                                     same_std ? COLOR_DEFAULT : COLOR_CONFIG};
}

/* `name` is "mean" or "std". */
static enum status take_color(const struct metadata *facts, const char *name,
                              enum color_source source, double value[3], struct error *error)
{
    char key[32], ours[TRIPLE_SIZE], theirs[TRIPLE_SIZE];
    double found[3];
    snprintf(key, sizeof key, "image.%s", name);
    const char *text = metadata_get(facts, key);
    if (text == NULL)
        return STATUS_OK;
    if (!number_parse_list(text, found, 3))
        return error_set(error, STATUS_DATA, "the stream's %s is '%.60s', expected R,G,B", key,
                         text);
    if (source == COLOR_DEFAULT) {
        memcpy(value, found, sizeof found);
        return STATUS_OK;
    }
    if (memcmp(value, found, sizeof found) == 0)
        return STATUS_OK;
    format_triple(ours, value);
    format_triple(theirs, found);
    if (source == COLOR_OPTION) {
        error_set(error, STATUS_DATA, "--image-%s is %s, the stream's %s is %s", name, ours,
                  key, theirs);
        return error_hint(error, "leave out --image-%s, or give image-decode the same", name);
    }
    error_set(error, STATUS_DATA, "the model's image %s is %s, the stream's %s is %s", name,
              ours, key, theirs);
    return error_hint(error, "give image-decode the model's, or train-step --image-%s %s", name,
                      theirs);
}

static enum status take_preprocess(const struct metadata *facts,
                                   const struct run_facts_colors *colors,
                                   struct preprocess_config *to, struct error *error)
{
    const char *interpolation = metadata_get(facts, "image.interpolation");
    if (interpolation != NULL)
        snprintf(to->interpolation, sizeof to->interpolation, "%s", interpolation);
    enum status status = take_color(facts, "mean", colors->mean, to->mean, error);
    if (status == STATUS_OK)
        status = take_color(facts, "std", colors->std, to->std, error);
    return status;
}

/* ---- the vocabulary ---- */

static enum status check_vocabulary(const struct metadata *facts,
                                    const struct clip_config *config, struct error *error)
{
    int64_t ids;
    const char *size = metadata_get(facts, "tokenizer.size");
    if (size != NULL && number_parse_integer(size, &ids) &&
        ids > (int64_t)config->text.vocab_size)
        return error_set(error, STATUS_DATA, "vocabulary of %" PRId64 " ids, the model has %zu",
                         ids, config->text.vocab_size);
    return STATUS_OK;
}

static enum status load_vocabulary(const struct metadata *facts, const char *path,
                                   struct buffer *out, struct error *error)
{
    char crc[VOCABULARY_CRC_SIZE];
    if (path == NULL)
        path = metadata_get(facts, "tokenizer.path");
    if (path == NULL)
        return STATUS_OK;
    return vocabulary_load(path, metadata_get(facts, "tokenizer.crc32c"), out, crc, error);
}

enum status run_facts_collect(const struct metadata *facts, const char *provenance,
                              const char *vocabulary_path,
                              const struct run_facts_colors *colors, struct clip_config *config,
                              struct metadata *about, struct buffer *vocabulary,
                              struct error *error)
{
    enum status status = metadata_copy(about, facts, error);
    if (status == STATUS_OK)
        status = provenance_append(about, provenance, error);
    if (status == STATUS_OK)
        status = check_vocabulary(facts, config, error);
    if (status == STATUS_OK)
        status = take_preprocess(facts, colors, &config->preprocess, error);
    if (status == STATUS_OK)
        status = load_vocabulary(facts, vocabulary_path, vocabulary, error);
    return status;
}

/* ---- resuming ---- */

static enum status compare_start(const struct metadata *facts, const int64_t at[3],
                                 struct error *error)
{
    const char *start = metadata_get(facts, "start");
    char expected[80];
    snprintf(expected, sizeof expected, "%" PRId64 ",%" PRId64 ",%" PRId64, at[0], at[1],
             at[2]);
    if (start != NULL && strcmp(start, expected) == 0)
        return STATUS_OK;
    return error_set(error, STATUS_DATA,
                     "the stream starts %s%s, the checkpoint ends at position %s",
                     start == NULL ? "at the beginning" : "after ", start == NULL ? "" : start,
                     expected);
}

static enum status compare_color(const char *name, const double now[3],
                                 const double before[3], struct error *error)
{
    char ours[TRIPLE_SIZE], theirs[TRIPLE_SIZE];
    if (memcmp(now, before, 3 * sizeof *now) == 0)
        return STATUS_OK;
    return error_set(error, STATUS_DATA, "the image %s is %s, the checkpoint was made with %s",
                     name, format_triple(ours, now), format_triple(theirs, before));
}

enum status run_facts_compare(const struct checkpoint *checkpoint,
                              const struct metadata *settings, const struct metadata *about,
                              const struct preprocess_config *preprocess, bool has_position,
                              const char *out, struct error *error)
{
    const struct preprocess_config *before = &checkpoint->config.preprocess;
    if (provenance_compare(settings, &checkpoint->state.header.metadata, error) != STATUS_OK)
        return error_hint(error, "give the same options, or --resume-changed");
    if (compare_color("mean", preprocess->mean, before->mean, error) != STATUS_OK ||
        compare_color("std", preprocess->std, before->std, error) != STATUS_OK)
        return error_hint(error, "give image-decode the same --mean and --std, or train-step "
                                 "--resume-changed");
    if (has_position &&
        compare_start(about, checkpoint->progress.position, error) != STATUS_OK)
        return error_hint(error, "give shard-reader --start %s, or train-step --resume-changed",
                          out);
    return STATUS_OK;
}
