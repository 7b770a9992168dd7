/* test_checkpoint_weights.c - one model in every form that a file may have gives the same
 * block; what does not fit is refused by its name; no header does harm. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buffer.h"
#include "model/checkpoint_weights.h"
#include "model/positional.h"
#include "tests/unit/check.h"

/* Together they have every tensor that a model can have. */
static const char *const config_jsons[] = {
    "{\"embed_dim\": 4,"
    " \"vision_cfg\": {\"image_size\": 4, \"patch_size\": 2, \"layers\": 2, \"width\": 4,"
    "   \"head_width\": 2},"
    " \"text_cfg\": {\"context_length\": 3, \"vocab_size\": 5, \"width\": 4, \"heads\": 2,"
    "   \"layers\": 2}}",
    "{\"embed_dim\": 3, \"init_logit_bias\": -10, \"nonscalar_logit_scale\": true,"
    " \"vision_cfg\": {\"image_size\": 6, \"patch_size\": 2, \"layers\": 1, \"width\": 4,"
    "   \"head_width\": 2, \"no_ln_pre\": true, \"ls_init_value\": 0.1,"
    "   \"pos_embed_type\": \"sin_cos_2d\"},"
    " \"text_cfg\": {\"context_length\": 3, \"vocab_size\": 5, \"width\": 6, \"heads\": 2,"
    "   \"layers\": 1, \"proj_bias\": true, \"ls_init_value\": 0.1}}",
    "{\"embed_dim\": 6, \"init_logit_bias\": -10,"
    " \"vision_cfg\": {\"image_size\": 4, \"patch_size\": 4, \"layers\": 1, \"width\": 4,"
    "   \"head_width\": 2},"
    " \"text_cfg\": {\"context_length\": 2, \"vocab_size\": 5, \"width\": 6, \"heads\": 2,"
    "   \"layers\": 1, \"proj_type\": \"none\"}}",
};
enum { CONFIGS = sizeof config_jsons / sizeof config_jsons[0], TENSORS_MAX = 200 };

static char root[256], weights_path[300];

static void must(enum status status, const struct error *error)
{
    CHECK(status == STATUS_OK, "%s", error->text);
    if (status != STATUS_OK)
        exit(check_report("test_checkpoint_weights"));
}

/* ---- a model whose every number says which it is ---- */

/* Element i of a tensor: eighths from -127/8 to 127/8, which F16 and BF16 hold exactly. */
static float value_of(const char *name, size_t i)
{
    uint32_t hash = 2166136261u;
    for (; *name != '\0'; name++)
        hash = (hash ^ (uint8_t)*name) * 16777619u;
    hash = (hash ^ (uint32_t)i) * 2654435761u;
    return ((float)((hash >> 16) % 255) - 127) / 8;
}

/* A file that is to be written: its tensors in their order. */
struct form {
    size_t count;
    struct entry {
        char name[160];
        const struct parameter *parameter; /* gives the values; NULL: zeros */
        enum dtype dtype;
        int rank;
        size_t shape[4];
    } list[TENSORS_MAX];
};

static struct form form; /* of the test that runs */

static bool is_text(const char *name)
{
    return strncmp(name, "visual.", 7) != 0 && strncmp(name, "logit_", 6) != 0;
}

static void fill_form(const struct parameters *table, const char *text_prefix,
                      enum dtype dtype)
{
    form.count = table->count;
    for (size_t i = 0; i < table->count; i++) {
        const struct parameter *p = &table->list[i];
        struct entry *e = &form.list[i];
        *e = (struct entry){.parameter = p, .dtype = dtype, .rank = p->rank};
        snprintf(e->name, sizeof e->name, "%s%s", is_text(p->name) ? text_prefix : "", p->name);
        memcpy(e->shape, p->shape, sizeof p->shape);
    }
}

static struct entry *entry_of(const char *name)
{
    for (size_t i = 0; i < form.count; i++)
        if (strcmp(form.list[i].name, name) == 0)
            return &form.list[i];
    CHECK(false, "the model has no %s", name);
    exit(check_report("test_checkpoint_weights"));
}

static void add_entry(const char *name, enum dtype dtype, int rank, size_t first, size_t second)
{
    struct entry *e = &form.list[form.count++];
    *e = (struct entry){.dtype = dtype, .rank = rank, .shape = {first, second}};
    snprintf(e->name, sizeof e->name, "%s", name);
}

/* ---- the file, byte by byte ---- */

static void append(struct buffer *out, const void *data, size_t size)
{
    struct error error = {0};
    must(buffer_append(out, data, size, &error), &error);
}

static void append_value(struct buffer *out, enum dtype dtype, float value)
{
    uint32_t bits;
    const uint8_t zeros[8] = {0};
    memcpy(&bits, &value, sizeof bits);
    uint16_t bfloat = (uint16_t)(bits >> 16);
    uint16_t half = value == 0 ? 0
                               : (uint16_t)((bits >> 16 & 0x8000) |
                                            (((bits >> 23 & 0xff) - 127 + 15) << 10) |
                                            (bits >> 13 & 0x3ff));
    double wide = value;
    if (dtype == DTYPE_F32)
        append(out, &value, 4);
    else if (dtype == DTYPE_F64)
        append(out, &wide, 8);
    else if (dtype == DTYPE_F16)
        append(out, &half, 2);
    else if (dtype == DTYPE_BF16)
        append(out, &bfloat, 2);
    else
        append(out, zeros, dtype_size(dtype));
}

/* Where an entry's data stand. */
static size_t from[TENSORS_MAX], to[TENSORS_MAX];

/* Wider elements first, so that all are aligned. */
static void append_data(struct buffer *out)
{
    for (size_t width = 8; width > 0; width /= 2)
        for (size_t i = 0; i < form.count; i++) {
            const struct entry *e = &form.list[i];
            size_t count = 1;
            if (dtype_size(e->dtype) != width)
                continue;
            for (int d = 0; d < e->rank; d++)
                count *= e->shape[d];
            from[i] = out->size;
            for (size_t j = 0; j < count; j++)
                append_value(out, e->dtype,
                             e->parameter == NULL ? 0 : value_of(e->parameter->name, j));
            to[i] = out->size;
        }
}

/* The header's own order is `first`, first + 1, ... around the list. */
static void append_header(struct buffer *out, size_t first)
{
    char text[600];
    append(out, "{\"__metadata__\":{\"format\":\"pt\"}", 31);
    for (size_t n = 0; n < form.count; n++) {
        size_t i = (first + n) % form.count;
        const struct entry *e = &form.list[i];
        int used = snprintf(text, sizeof text, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[", e->name,
                            dtype_name(e->dtype));
        for (int d = 0; d < e->rank; d++)
            used += snprintf(text + used, sizeof text - (size_t)used, "%s%zu", d > 0 ? "," : "",
                             e->shape[d]);
        used += snprintf(text + used, sizeof text - (size_t)used,
                         "],\"data_offsets\":[%zu,%zu]}", from[i], to[i]);
        append(out, text, (size_t)used);
    }
    append(out, "}       ", 8 - out->size % 8);
}

static struct buffer make_file(size_t first)
{
    struct buffer header = {0}, data = {0}, out = {0};
    append_data(&data);
    append_header(&header, first);
    uint64_t length = header.size;
    append(&out, &length, sizeof length);
    append(&out, header.data, header.size);
    if (data.size > 0)
        append(&out, data.data, data.size);
    buffer_free(&header);
    buffer_free(&data);
    return out;
}

static void put_file(const char *path, const void *data, size_t size)
{
    FILE *file = fopen(path, "wb");
    CHECK(file != NULL && fwrite(data, 1, size, file) == size && fclose(file) == 0, "%s: %s",
          path, strerror(errno));
}

static enum status read_bytes(const struct buffer *bytes, const struct parameters *table,
                              bool resize, float *block, struct error *error)
{
    struct safetensors file;
    put_file(weights_path, bytes->data, bytes->size);
    enum status status = safetensors_open(&file, weights_path, error);
    if (status == STATUS_OK)
        status = checkpoint_weights_read(&file, table, resize, block, error);
    safetensors_close(&file);
    return status;
}

static enum status read_form(const struct parameters *table, bool resize, float *block,
                             struct error *error)
{
    struct buffer bytes = make_file(0);
    enum status status = read_bytes(&bytes, table, resize, block, error);
    buffer_free(&bytes);
    return status;
}

/* ---- what is read ---- */

struct model {
    struct clip_config config;
    struct parameters table;
    float *block;
};

static const float untouched = -1e30f; /* nothing in a file is this */

static void model_open(struct model *m, const char *json)
{
    struct error error = {0};
    must(clip_config_parse(&m->config, json, strlen(json), NULL, &error), &error);
    must(parameters_init(&m->table, &m->config, &error), &error);
    m->block = malloc(m->table.floats * sizeof *m->block);
    for (size_t i = 0; i < m->table.floats; i++)
        m->block[i] = untouched;
}

static void model_close(struct model *m)
{
    free(m->block);
    parameters_free(&m->table);
    clip_config_free(&m->config);
}

/* Every parameter has its values, and nothing else was written. */
static void check_block(struct model *m, const char *what)
{
    size_t written = 0;
    for (size_t i = 0; i < m->table.count; i++) {
        const struct parameter *p = &m->table.list[i];
        size_t wrong = 0;
        for (size_t j = 0; j < p->count; j++)
            wrong += !(m->block[p->offset + j] == value_of(p->name, j));
        CHECK(wrong == 0, "%s: %zu of %zu values of %s", what, wrong, p->count, p->name);
    }
    for (size_t i = 0; i < m->table.floats; i++) {
        written += m->block[i] != untouched;
        m->block[i] = untouched;
    }
    CHECK(written == m->table.total, "%s: %zu floats were written, expected %zu", what, written,
          m->table.total);
}

static void check_good(struct model *m, const char *what)
{
    struct error error = {0};
    enum status status = read_form(&m->table, false, m->block, &error);
    CHECK(status == STATUS_OK, "%s: %s", what, error.text);
    check_block(m, what);
}

static void check_refused(struct model *m, const char *message)
{
    struct error error = {0};
    enum status status = read_form(&m->table, false, m->block, &error);
    CHECK(status == STATUS_DATA && strcmp(error.text, message) == 0, "'%s', expected '%s'",
          error.text, message);
}

/* ---- tests ---- */

static void test_forms(void)
{
    static const char *const prefixes[] = {"", "text."};
    static const enum dtype dtypes[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    for (size_t c = 0; c < CONFIGS; c++)
        for (size_t n = 0; n < 2; n++)
            for (size_t d = 0; d < 3; d++) {
                struct model m;
                struct error error = {0};
                model_open(&m, config_jsons[c]);
                fill_form(&m.table, prefixes[n], dtypes[d]);
                for (size_t first = 0; first < form.count; first += 7) {
                    char what[100];
                    snprintf(what, sizeof what, "configuration %zu '%s' %s from %zu", c,
                             prefixes[n], dtype_name(dtypes[d]), first);
                    struct buffer bytes = make_file(first);
                    enum status status = read_bytes(&bytes, &m.table, false, m.block, &error);
                    CHECK(status == STATUS_OK, "%s: %s", what, error.text);
                    check_block(&m, what);
                    buffer_free(&bytes);
                }
                model_close(&m);
            }
}

/* Half precision as open_clip keeps it: matrices are halves, the rest is not. */
static void test_mixed_types(void)
{
    struct model m;
    model_open(&m, config_jsons[0]);
    fill_form(&m.table, "", DTYPE_F32);
    for (size_t i = 0; i < form.count; i++)
        form.list[i].dtype = form.list[i].rank < 2 ? DTYPE_F32 : DTYPE_F16;
    check_good(&m, "matrices in F16");
    form.list[0].dtype = DTYPE_BF16;
    check_good(&m, "three types");
    model_close(&m);
}

/* 1, -2, the largest, the smallest normal and subnormal, -0, infinity. */
static void test_halves(void)
{
    static const uint16_t halves[] = {0x3c00, 0xc000, 0x7bff, 0x0400, 0x0001, 0x8000, 0x7c00};
    static const float values[] = {1, -2, 65504, 0x1p-14f, 0x1p-24f, -0.0f, 1.0f / 0.0f};
    struct model m;
    struct error error = {0};
    model_open(&m, config_jsons[0]);
    fill_form(&m.table, "", DTYPE_F16);
    struct buffer bytes = make_file(0); /* positional_embedding is the first */
    uint64_t header;
    memcpy(&header, bytes.data, sizeof header);
    memcpy(bytes.data + 8 + header, halves, sizeof halves);
    must(read_bytes(&bytes, &m.table, false, m.block, &error), &error);
    const float *first = m.block + m.table.text.positional_embedding;
    for (size_t i = 0; i < sizeof halves / sizeof halves[0]; i++)
        CHECK(memcmp(&first[i], &values[i], sizeof *first) == 0, "half %04x is %g", halves[i],
              (double)first[i]);
    buffer_free(&bytes);
    model_close(&m);
}

static void test_logit_shapes(void)
{
    for (size_t c = 0; c < CONFIGS; c++)
        for (int rank = 0; rank < 2; rank++) {
            struct model m;
            model_open(&m, config_jsons[c]);
            fill_form(&m.table, "", DTYPE_F32);
            for (size_t i = 0; i < form.count; i++)
                if (strncmp(form.list[i].name, "logit_", 6) == 0) {
                    form.list[i].rank = rank;
                    form.list[i].shape[0] = 1;
                }
            check_good(&m, rank == 0 ? "logit scale []" : "logit scale [1]");
            model_close(&m);
        }
    struct model m;
    model_open(&m, config_jsons[0]);
    fill_form(&m.table, "", DTYPE_F32);
    struct entry *scale = entry_of("logit_scale");
    scale->rank = 1;
    scale->shape[0] = 2;
    check_refused(&m, "tensor logit_scale is F32 [2], expected F32 []");
    scale->rank = 2;
    scale->shape[0] = scale->shape[1] = 1;
    check_refused(&m, "tensor logit_scale is F32 [1,1], expected F32 []");
    model_close(&m);
}

static void test_buffers(void)
{
    static const char *const ignored[] = {
        "attn_mask", "text.attn_mask", "transformer.embeddings.position_ids",
        "text.transformer.embeddings.position_ids", "visual.bn1.num_batches_tracked",
        "visual.layer1.0.bn2.num_batches_tracked", "input_resolution", "context_length",
        "vocab_size"};
    static const char *const refused[] = {
        "attn_mas", "attn_mask2", "text.attn_mask.x", "xtext.attn_mask", "visual.attn_mask",
        "num_batches_tracked", "text.x.num_batches_tracked", "visual.num_batches_trackedx",
        "text.context_length", "text.input_resolution", "position_ids", "", "text.",
        "text.logit_scale", "text.visual.proj", "text.text.positional_embedding",
        "text.positional_embedding2", "visual.text_projection", "text.text_projectio",
        "visual.positional_embedding.", "logit_bias", "text_projection.weight"};
    struct model m;
    char message[200];
    model_open(&m, config_jsons[0]);
    fill_form(&m.table, "", DTYPE_F32);
    for (size_t i = 0; i < sizeof ignored / sizeof ignored[0]; i++) {
        add_entry(ignored[i], i % 2 == 0 ? DTYPE_I64 : DTYPE_F32, 2, i, 3);
        check_good(&m, ignored[i]);
        form.count--;
    }
    for (size_t i = 0; i < sizeof ignored / sizeof ignored[0]; i++)
        add_entry(ignored[i], DTYPE_F64, 0, 0, 0);
    check_good(&m, "all buffers");
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        add_entry(refused[i], DTYPE_F32, 0, 0, 0);
        snprintf(message, sizeof message, "tensor %s is not one of the model's", refused[i]);
        check_refused(&m, message);
        form.count--;
    }
    model_close(&m);
}

static void test_foreign_hints(void)
{
    static const char *const names[][2] = {
        {"module.logit_scale", "convert-checkpoint.py"},
        {"text_model.embeddings.token_embedding.weight", "transformers"},
        {"vision_model.embeddings.class_embedding", "transformers"},
        {"visual.trunk.pos_embed", "timm"}};
    struct model m;
    struct error error;
    model_open(&m, config_jsons[0]);
    for (size_t i = 0; i < 4; i++) {
        fill_form(&m.table, "", DTYPE_F32);
        snprintf(form.list[0].name, sizeof form.list[0].name, "%s", names[i][0]);
        error = (struct error){0};
        CHECK(read_form(&m.table, false, m.block, &error) == STATUS_DATA, "%s", names[i][0]);
        CHECK(strstr(error.hint, names[i][1]) != NULL, "%s: '%s'", names[i][0], error.hint);
    }
    model_close(&m);
}

/* Refused because entry i, as it stands in the form, is not what the model has. */
static void check_wrong(struct model *m, size_t i)
{
    char found[256], wanted[256], message[700];
    const struct entry *e = &form.list[i];
    const struct parameter *p = &m->table.list[i];
    struct tensor tensor;
    tensor_init(&tensor, "", e->dtype, e->rank, e->shape, NULL);
    tensor_describe(&tensor, found, sizeof found);
    tensor_init(&tensor, "", DTYPE_F32, p->rank, p->shape, NULL);
    tensor_describe(&tensor, wanted, sizeof wanted);
    snprintf(message, sizeof message, "tensor %s is %s, expected %s", e->name, found, wanted);
    check_refused(m, message);
}

/* Each tensor in turn is missing, in either naming, or has another type or shape. */
static void check_each_tensor(struct model *m, const char *text_prefix)
{
    char message[200];
    for (size_t i = 0; i < m->table.count; i++) {
        const struct parameter *p = &m->table.list[i];
        fill_form(&m->table, text_prefix, DTYPE_F32);
        form.list[i] = form.list[--form.count];
        snprintf(message, sizeof message, "tensor %s is missing", p->name);
        check_refused(m, message);

        fill_form(&m->table, text_prefix, DTYPE_F32);
        form.list[i].dtype = DTYPE_I32;
        check_wrong(m, i);
        form.list[i].dtype = DTYPE_F32;
        form.list[i].rank = p->rank == 4 ? 3 : p->rank + 1;
        form.list[i].shape[form.list[i].rank - 1] = 2;
        check_wrong(m, i);
        fill_form(&m->table, text_prefix, DTYPE_F32);
        for (int d = 0; d < p->rank; d++) {
            form.list[i].shape[d] = p->shape[d] + 1;
            check_wrong(m, i);
            form.list[i].shape[d] = p->shape[d] - 1;
            check_wrong(m, i);
            form.list[i].shape[d] = p->shape[d];
        }
    }
}

static void test_each_tensor(void)
{
    for (size_t c = 0; c < CONFIGS; c++) {
        struct model m;
        model_open(&m, config_jsons[c]);
        check_each_tensor(&m, "");
        check_each_tensor(&m, "text.");
        model_close(&m);
    }
}

static void test_shapes(void)
{
    struct model m;
    struct error error = {0};
    model_open(&m, config_jsons[1]);
    fill_form(&m.table, "text.", DTYPE_F32);
    struct entry *e = entry_of("text.text_projection.weight");
    e->shape[0] = 6; /* [6,3] for [3,6], as the matrix form would have it */
    e->shape[1] = 3;
    check_refused(&m, "tensor text.text_projection.weight is F32 [6,3], expected F32 [3,6]");
    fill_form(&m.table, "text.", DTYPE_F32);
    entry_of("text.text_projection.weight")->dtype = DTYPE_F64;
    check_refused(&m, "tensor text.text_projection.weight is F64 [3,6], expected F32 [3,6]");
    CHECK(read_form(&m.table, false, m.block, &error) == STATUS_DATA &&
              strstr(error.hint, "convert-checkpoint.py") != NULL,
          "'%s'", error.hint);
    fill_form(&m.table, "text.", DTYPE_F32);
    add_entry("token_embedding.weight", DTYPE_F32, 2, 5, 6);
    check_refused(&m, "tensors token_embedding.weight and text.token_embedding.weight are the "
                      "same");
    model_close(&m);
}

static void check_unfit(struct model *m, const char *what)
{
    struct error error = {0};
    CHECK(read_form(&m->table, true, m->block, &error) == STATUS_DATA, "%s", what);
}

/* A file of config 0 into a model of a larger image and longer texts. */
static void test_resize(void)
{
    static const char larger[] =
        "{\"embed_dim\": 4,"
        " \"vision_cfg\": {\"image_size\": 6, \"patch_size\": 2, \"layers\": 2, \"width\": 4,"
        "   \"head_width\": 2},"
        " \"text_cfg\": {\"context_length\": 7, \"vocab_size\": 5, \"width\": 4, \"heads\": 2,"
        "   \"layers\": 2}}";
    static const char *const prefixes[] = {"", "text."};
    struct model small, large;
    struct error error = {0};
    float old[5 * 4], resized[10 * 4];
    model_open(&small, config_jsons[0]);
    model_open(&large, larger);
    for (size_t n = 0; n < 2; n++) {
        fill_form(&small.table, prefixes[n], DTYPE_F16);
        CHECK(read_form(&large.table, false, large.block, &error) == STATUS_DATA,
              "'%s': not unasked", prefixes[n]);
        must(read_form(&large.table, true, large.block, &error), &error);
        for (size_t i = 0; i < 5 * 4; i++)
            old[i] = value_of("visual.positional_embedding", i);
        must(positional_resize_image(resized, 3, old, 2, 4, &error), &error);
        CHECK(memcmp(large.block + large.table.vision.positional_embedding, resized,
                     10 * 4 * sizeof *resized) == 0,
              "'%s': image positions", prefixes[n]);
        for (size_t i = 0; i < 3 * 4; i++)
            old[i] = value_of("positional_embedding", i);
        positional_resize_text(resized, 7, old, 3, 4);
        CHECK(memcmp(large.block + large.table.text.positional_embedding, resized,
                     7 * 4 * sizeof *resized) == 0,
              "'%s': text positions", prefixes[n]);
        CHECK(large.block[large.table.text.token_embedding] ==
                  value_of("token_embedding.weight", 0),
              "'%s': the rest is copied", prefixes[n]);
    }
    struct entry *image = entry_of("visual.positional_embedding");
    struct entry *text = entry_of("text.positional_embedding");
    image->shape[0] = 6;
    check_unfit(&large, "five patches are no square");
    image->shape[0] = 1;
    check_unfit(&large, "no patch");
    image->shape[0] = 0;
    check_unfit(&large, "no class token");
    image->shape[0] = 5;
    text->shape[0] = 0;
    check_unfit(&large, "no text positions");
    text->shape[0] = 3;
    text->shape[1] = 3;
    check_unfit(&large, "positions of another width");
    text->shape[1] = 4;
    entry_of("text.ln_final.weight")->shape[0] = 3;
    check_unfit(&large, "other tensors are not resized");
    model_close(&small);
    model_close(&large);
}

static void test_suffixed(void)
{
    struct model m;
    struct safetensors file;
    struct error error = {0};
    model_open(&m, config_jsons[0]);
    fill_form(&m.table, "", DTYPE_F32);
    for (size_t i = 0; i < form.count; i++)
        strcat(form.list[i].name, ".exp_avg");
    add_entry("step", DTYPE_I64, 1, 1, 0);
    struct buffer bytes = make_file(0);
    put_file(weights_path, bytes.data, bytes.size);
    buffer_free(&bytes);
    must(safetensors_open(&file, weights_path, &error), &error);
    must(checkpoint_weights_read_suffixed(&file, &m.table, ".exp_avg", m.block, &error),
         &error);
    check_block(&m, "moments");
    CHECK(checkpoint_weights_read_suffixed(&file, &m.table, ".exp_avg_sq", m.block, &error) ==
                  STATUS_DATA &&
              strcmp(error.text, "tensor positional_embedding.exp_avg_sq is missing") == 0,
          "%s", error.text);
    safetensors_close(&file);
    model_close(&m);
}

/* Every bit of the header flipped, and the file cut anywhere: an error, or other weights, and
 * never harm. A file that is cut is never accepted. */
static void test_hostile(void)
{
    struct model m;
    struct error error = {0};
    size_t refused = 0, accepted = 0;
    model_open(&m, config_jsons[2]);
    fill_form(&m.table, "text.", DTYPE_BF16);
    struct buffer bytes = make_file(5);
    uint64_t header;
    memcpy(&header, bytes.data, sizeof header);
    for (size_t at = 0; at < 8 + header; at++) {
        int bit = (int)(at % 8);
        bytes.data[at] ^= (uint8_t)(1 << bit);
        enum status status = read_bytes(&bytes, &m.table, at % 2 == 0, m.block, &error);
        CHECK(status == STATUS_OK || status == STATUS_DATA, "bit %d of byte %zu: status %d",
              bit, at, status);
        *(status == STATUS_OK ? &accepted : &refused) += 1;
        bytes.data[at] ^= (uint8_t)(1 << bit);
    }
    CHECK(refused > 9 * accepted, "%zu refused, %zu accepted", refused, accepted);
    const size_t whole = bytes.size;
    for (bytes.size = 0; bytes.size < whole; bytes.size += 1 + whole / 300)
        CHECK(read_bytes(&bytes, &m.table, false, m.block, &error) == STATUS_DATA,
              "cut to %zu of %zu", bytes.size, whole);
    bytes.size = whole;
    must(read_bytes(&bytes, &m.table, false, m.block, &error), &error);
    buffer_free(&bytes);

    fill_form(&m.table, "", DTYPE_F32);
    form.count = 0;
    check_refused(&m, "tensor positional_embedding is missing"); /* an empty file */
    model_close(&m);
}

/* ---- directories ---- */

static void check_found(const char *directory, const char *wanted)
{
    const char *name = "";
    struct error error = {0};
    enum status status = checkpoint_weights_find(directory, &name, &error);
    CHECK(status == STATUS_OK && strcmp(name, wanted) == 0, "'%s', expected %s: %s", name,
          wanted, error.text);
}

static void check_lacking(const char *directory, enum status wanted, const char *text,
                          const char *hint)
{
    const char *name;
    struct error error = {0};
    enum status status = checkpoint_weights_find(directory, &name, &error);
    CHECK(status == wanted && strstr(error.text, text) != NULL &&
              strstr(error.hint, hint) != NULL,
          "status %d, '%s', '%s'; expected %d, '%s', '%s'", status, error.text, error.hint,
          wanted, text, hint);
}

static void put_empty(const char *directory, const char *name)
{
    char path[400];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    put_file(path, "", 0);
}

/* From what cannot be read to what is read first. */
static void test_find(void)
{
    static const char *const names[] = {"model.safetensors",
                                        "open_clip_pytorch_model.safetensors",
                                        "open_clip_model.safetensors"};
    char directory[300];
    snprintf(directory, sizeof directory, "%s/find", root);
    CHECK(mkdir(directory, 0777) == 0, "%s", strerror(errno));
    check_lacking(directory, STATUS_NO_INPUT, "has no open_clip_model.safetensors", "");
    put_empty(directory, "other.safetensors");
    check_lacking(directory, STATUS_NO_INPUT, "has no open_clip_model.safetensors", "");
    put_empty(directory, "pytorch_model.bin");
    check_lacking(directory, STATUS_DATA, "pytorch_model.bin: not supported", "convert-");
    put_empty(directory, "open_clip_pytorch_model.bin");
    check_lacking(directory, STATUS_DATA, "open_clip_pytorch_model.bin: not", "convert-");
    put_empty(directory, "model.safetensors.index.json");
    check_lacking(directory, STATUS_DATA, "in pieces, which model.safetensors.index.json",
                  "puts them together");
    put_empty(directory, "open_clip_model.safetensors.index.json");
    check_lacking(directory, STATUS_DATA, "which open_clip_model.safetensors.index.json", "");
    for (size_t i = 0; i < 3; i++) {
        put_empty(directory, names[i]);
        check_found(directory, names[i]);
    }
    char *endless = calloc(1, 20000);
    memset(endless, 'x', 19999);
    check_lacking(endless, STATUS_NO_INPUT, "xxx", "");
    free(endless);
}

static int remove_everything(void)
{
    char command[400];
    snprintf(command, sizeof command, "rm -rf -- '%s'", root);
    return system(command);
}

int main(void)
{
    const char *parent = getenv("TMPDIR");
    snprintf(root, sizeof root, "%.200s/test-weights-XXXXXX", parent == NULL ? "/tmp" : parent);
    if (mkdtemp(root) == NULL) {
        perror(root);
        return 1;
    }
    snprintf(weights_path, sizeof weights_path, "%s/model.safetensors", root);
    test_forms();
    test_mixed_types();
    test_halves();
    test_logit_shapes();
    test_buffers();
    test_foreign_hints();
    test_each_tensor();
    test_shapes();
    test_resize();
    test_suffixed();
    test_hostile();
    test_find();
    CHECK(remove_everything() == 0, "%s stays", root);
    return check_report("test_checkpoint_weights");
}
