/* Any bytes as a safetensors file. What is accepted is the same after writing and reading. As
 * the weights of a small model it is taken whole or refused by a name. */
#include "base/crc32c.h"
#include "model/checkpoint_weights.h"
#include "stream/safetensors.h"
#include "tests/fuzz/fuzz.h"

bool fuzz_accepted;

/* Of all tensors, whatever their order. */
static uint64_t digest_file(const struct safetensors *file)
{
    uint64_t sum = file->header.metadata.count;
    for (size_t i = 0; i < file->header.count; i++) {
        const struct tensor *tensor = &file->header.tensors[i];
        uint64_t digest = fuzz_digest(tensor->dtype, tensor->name, strlen(tensor->name));
        MUST(safetensors_find(file, tensor->name) == tensor);
        MUST((uintptr_t)tensor->data % dtype_size(tensor->dtype) == 0);
        digest = fuzz_digest(digest, tensor->shape,
                             (size_t)tensor->rank * sizeof tensor->shape[0]);
        sum += fuzz_digest(digest, tensor->data, tensor->size);
    }
    return sum;
}

static void write_again(struct safetensors *file)
{
    static int fd;
    char path[FUZZ_PATH_SIZE];
    struct safetensors copy;
    struct buffer bytes = {0};
    struct error error;
    uint64_t digest = digest_file(file);
    uint32_t crc;
    fuzz_file(&fd, path, NULL, 0);
    MUST(safetensors_write(path, file->header.tensors, file->header.count,
                           &file->header.metadata, &crc, &error) == STATUS_OK);
    MUST(safetensors_open(&copy, path, &error) == STATUS_OK);
    MUST(digest_file(&copy) == digest);
    MUST(metadata_equal(&copy.header.metadata, &file->header.metadata));
    safetensors_close(&copy);
    fuzz_append_file(fd, &bytes);
    MUST(crc32c(0, bytes.data, bytes.size) == crc);
    buffer_free(&bytes);
}

static const char model[] =
    "{\"embed_dim\": 2, \"vision_cfg\": {\"image_size\": 4, \"patch_size\": 2, \"layers\": 1,"
    " \"width\": 2, \"head_width\": 2, \"mlp_ratio\": 1, \"no_ln_pre\": true},"
    " \"text_cfg\": {\"context_length\": 2, \"vocab_size\": 2, \"width\": 2, \"heads\": 1,"
    " \"layers\": 1, \"mlp_ratio\": 1}}";

static const struct parameters *model_table(void)
{
    static struct parameters table;
    struct clip_config config = {0};
    struct error error;
    if (table.count == 0) {
        MUST(clip_config_parse(&config, model, sizeof model - 1, NULL, &error) == STATUS_OK);
        MUST(parameters_init(&table, &config, &error) == STATUS_OK);
        clip_config_free(&config);
    }
    return &table;
}

/* What stands between the parameters is never written. */
static void read_weights(const struct safetensors *file, bool resize)
{
    const struct parameters *table = model_table();
    const float untouched = -0x1.23456p-78f;
    struct error error;
    size_t written = 0;
    float *block = malloc(table->floats * sizeof *block);
    MUST(block != NULL);
    for (size_t i = 0; i < table->floats; i++)
        block[i] = untouched;
    enum status status = checkpoint_weights_read(file, table, resize, block, &error);
    fuzz_check_status(status, &error);
    MUST(status != STATUS_OK || file->header.count >= table->count);
    for (size_t i = 0; i < table->floats; i++)
        written += block[i] != untouched;
    MUST(written <= table->total);
    free(block);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int fd;
    char path[FUZZ_PATH_SIZE];
    struct safetensors file;
    struct error error;
    fuzz_file(&fd, path, data, size);
    enum status status = safetensors_open(&file, path, &error);
    fuzz_check_status(status, &error);
    fuzz_accepted = status == STATUS_OK;
    if (fuzz_accepted) {
        MUST(size == HEADER_LENGTH_SIZE + header_load_length(data) + file.header.data_size);
        read_weights(&file, false);
        read_weights(&file, true);
        write_again(&file);
    }
    MUST(fuzz_accepted || (file.map == NULL && file.copy == NULL && file.header.count == 0));
    safetensors_close(&file);
    return 0;
}

/* A length and a header as given, and `size` bytes of zeros: alignment is the input's. */
static void add_raw(struct buffer *out, const char *header, size_t size)
{
    uint64_t length = strlen(header);
    uint8_t prefix[8];
    for (int i = 0; i < 8; i++)
        prefix[i] = (uint8_t)(length >> 8 * i);
    fuzz_append(out, prefix, sizeof prefix);
    fuzz_append(out, header, length);
    for (size_t i = 0; i < size; i++)
        fuzz_append(out, "", 1);
}

/* The model's weights, in either naming, with a buffer that is passed over. */
static void add_model(struct buffer *out, const char *text_prefix, enum dtype dtype)
{
    const struct parameters *table = model_table();
    char header[8192], name[TENSOR_NAME_MAX + 1];
    struct tensor tensor;
    size_t end = 0;
    int used = snprintf(header, sizeof header,
                        "{\"attn_mask\":{\"dtype\":\"F32\",\"shape\":[0],"
                        "\"data_offsets\":[0,0]}");
    for (size_t i = 0; i < table->count; i++) {
        const struct parameter *p = &table->list[i];
        bool text = strncmp(p->name, "visual.", 7) != 0 && strncmp(p->name, "logit_", 6) != 0;
        snprintf(name, sizeof name, "%s%s", text ? text_prefix : "", p->name);
        tensor_init(&tensor, name, dtype, p->rank, p->shape, NULL);
        used += snprintf(header + used, sizeof header - (size_t)used,
                         ",\"%s\":{\"dtype\":\"%s\",\"shape\":[", name, dtype_name(dtype));
        for (int d = 0; d < p->rank; d++)
            used += snprintf(header + used, sizeof header - (size_t)used, "%s%zu",
                             d > 0 ? "," : "", p->shape[d]);
        used += snprintf(header + used, sizeof header - (size_t)used,
                         "],\"data_offsets\":[%zu,%zu]}", end, end + tensor.size);
        end += tensor.size;
    }
    snprintf(header + used, sizeof header - (size_t)used, "}");
    add_raw(out, header, end);
}

bool fuzz_seed(int number, struct buffer *out)
{
    out->size = 0;
    switch (number) {
    case 0:
        add_raw(out, "{}", 0);
        return true;
    case 1:
        add_raw(out, "{\"w\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
                     "\"step\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[24,32]}}", 32);
        return true;
    case 2: /* aligned to nothing, in another order than their data's, with metadata */
        add_raw(out, "{\"__metadata__\":{\"format\":\"pt\"},"
                     "\"z\":{\"dtype\":\"BF16\",\"shape\":[2,1,2],\"data_offsets\":[8,16]},"
                     "\"a\":{\"dtype\":\"F64\",\"shape\":[1],\"data_offsets\":[0,8]},"
                     "\"none\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[16,16]}}", 16);
        return true;
    case 3:
        add_model(out, "", DTYPE_F32);
        return true;
    case 4:
        add_model(out, "text.", DTYPE_F16);
        return true;
    }
    return false;
}
