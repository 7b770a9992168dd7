/* The strict reader of safetensors headers: what it takes, and all that it must refuse. */
#include <stdlib.h>

#include "check.h"
#include "stream/header.h"

static enum status parse(struct header *header, const char *json, struct error *error)
{
    /* A copy without the NUL, so that a read past the end is seen by the sanitizer. */
    size_t size = strlen(json);
    char *copy = malloc(size == 0 ? 1 : size);
    memcpy(copy, json, size);
    enum status status = header_parse(header, copy, size, error);
    free(copy);
    return status;
}

static void test_accepted(void)
{
    struct header header = {0};
    struct error error;
    CHECK(parse(&header,
                "{ \"b\" : {\"shape\":[2, 3],\"data_offsets\":[8,32],\"dtype\":\"F32\"},\n"
                "\"__metadata__\":{\"k\":\"v\\n\\u00e9\\ud83d\\ude00\"},"
                "\"a\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[0,8]}}   ",
                &error) == STATUS_OK,
          "%s", error.text);
    CHECK(header.count == 2 && strcmp(header.tensors[0].name, "a") == 0 &&
              header.offsets[1] == 8 && header.data_size == 32,
          "tensors in the order of their data");
    CHECK(header.tensors[1].rank == 2 && header.tensors[1].shape[1] == 3, "shape");
    const char *value = metadata_get(&header.metadata, "k");
    CHECK(value != NULL && strcmp(value, "v\n\xc3\xa9\xf0\x9f\x98\x80") == 0, "escapes");
    CHECK(parse(&header, "{}", &error) == STATUS_OK && header.count == 0 &&
              header.metadata.count == 0,
          "an earlier header leaves nothing behind");
    CHECK(parse(&header,
                "{\"e\":{\"dtype\":\"F32\",\"shape\":[0,7],\"data_offsets\":[4,4]},"
                "\"f\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
                "\"g\":{\"dtype\":\"F16\",\"shape\":[0],\"data_offsets\":[0,0]}}",
                &error) == STATUS_OK,
          "tensors without elements: %s", error.text);
    header_free(&header);
}

#define T(fields) "{\"x\":{" fields "}}"

static void test_refused(void)
{
    static const char *const bad[] = {
        "", " {}", "[]", "{", "{}x", "{}\n", "{}\t", "{\"a\"}", "{\"a\":1}", "{\"a\":{}}", "{,}",
        T("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],"),
        T("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]") " null",
        T("\"dtype\":\"F33\",\"shape\":[1],\"data_offsets\":[0,4]"),
        T("\"dtype\":\"f32\",\"shape\":[1],\"data_offsets\":[0,4]"),
        T("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,8]"),
        T("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]"),
        T("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]"),
        T("\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]"),
        T("\"dtype\":\"F32\",\"shape\":[1.0],\"data_offsets\":[0,4]"),
        T("\"dtype\":\"F32\",\"shape\":[01],\"data_offsets\":[0,4]"),
        T("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]"),
        T("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,4]"),
        T("\"dtype\":\"F32\",\"shape\":[1]"),
        T("\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]"),
        T("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"extra\":[]"),
        T("\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]"),
        T("\"dtype\":\"U8\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]"),
        T("\"dtype\":\"U8\",\"shape\":[99999999999999999999],\"data_offsets\":[0,0]"),
        "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
        "\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,8]}}", /* same name */
        "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
        "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[2,6]}}", /* overlap */
        "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
        "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[5,9]}}", /* hole */
        "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
        "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[1,5]}}", /* not aligned */
        "{\"__metadata__\":{\"a\":1}}", "{\"__metadata__\":{\"a\":\"b\",\"a\":\"b\"}}",
        "{\"__metadata__\":{},\"__metadata__\":{}}", "{\"__metadata__\":{\"a\":\"\\u0000\"}}",
        "{\"__metadata__\":{\"a\":\"\\ud800\"}}", "{\"__metadata__\":{\"a\":\"\\udc00\"}}",
        "{\"__metadata__\":{\"a\":\"\\x\"}}", "{\"__metadata__\":{\"a\":\"\n\"}}",
        "{\"__metadata__\":{\"a\":\"b}}",
    };
    struct header header = {0};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct error error = {.text = ""};
        enum status status = parse(&header, bad[i], &error);
        CHECK(status == STATUS_DATA && error.text[0] != '\0', "case %zu: %s gave %d", i, bad[i],
              status);
    }
    header_free(&header);
}

static void test_format(void)
{
    float values[6];
    uint8_t bytes[3];
    const size_t shape_2[] = {2, 3}, shape_1[] = {3};
    struct tensor tensors[2];
    struct metadata metadata = {0};
    struct buffer out = {0};
    struct header header = {0};
    struct error error;
    tensor_init(&tensors[0], "bytes", DTYPE_U8, 1, shape_1, bytes);
    tensor_init(&tensors[1], "values", DTYPE_F32, 2, shape_2, values);
    metadata_set(&metadata, "quote\"", "back\\slash\nline", &error);
    header_sort_tensors(tensors, 2);
    CHECK(strcmp(tensors[0].name, "values") == 0, "wide elements first");
    CHECK(header_format(&out, tensors, 2, &metadata, &error) == STATUS_OK, "%s", error.text);
    CHECK(out.size % HEADER_ALIGNMENT == 0, "%zu bytes", out.size);
    CHECK(header_load_length(out.data) == out.size - HEADER_LENGTH_SIZE, "length");
    CHECK(header_parse(&header, (const char *)out.data + 8, out.size - 8, &error) == STATUS_OK,
          "%s", error.text);
    CHECK(metadata_equal(&metadata, &header.metadata) && header.count == 2 &&
              header.offsets[1] == sizeof values,
          "what was written is read back");
    header_free(&header);
    buffer_free(&out);
    metadata_free(&metadata);
}

int main(void)
{
    test_accepted();
    test_refused();
    test_format();
    return check_report("header");
}
