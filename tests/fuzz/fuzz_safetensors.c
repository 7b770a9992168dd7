/* Any bytes as a safetensors file. What is accepted is the same after writing and reading. */
#include "base/crc32c.h"
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
        write_again(&file);
    }
    MUST(fuzz_accepted || (file.map == NULL && file.copy == NULL && file.header.count == 0));
    safetensors_close(&file);
    return 0;
}

/* A length and a header as given, and `size` bytes of data: alignment is the input's. */
static void add_raw(struct buffer *out, const char *header, size_t size)
{
    uint64_t length = strlen(header);
    uint8_t prefix[8], zeros[64] = {0};
    for (int i = 0; i < 8; i++)
        prefix[i] = (uint8_t)(length >> 8 * i);
    fuzz_append(out, prefix, sizeof prefix);
    fuzz_append(out, header, length);
    fuzz_append(out, zeros, size);
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
    }
    return false;
}
