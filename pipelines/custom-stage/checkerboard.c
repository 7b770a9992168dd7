/* checkerboard - a token reduction of one's own: keeps every other patch, as the white fields of
 * a chessboard.
 *
 * In:   `image` U8 [B,H,W,3]
 * Out:  `patches` U8 [B,K,P*P*3], `patches.position` I32 [B,K]; everything else unchanged
 *
 *     cc checkerboard.c $(pkg-config --cflags --libs clipipe) -o checkerboard */
#include "base/buffer.h"
#include "formats/reduce_image.h"
#include "frame/stage.h"

static int64_t side = 16;
static struct option_spec option_table[] = {
    {.name = "patch", .argument = "P", .help = "side in pixels", OPTION_INTEGER(&side, 1, 1024)},
};
static const struct program program = {
    .name = "checkerboard",
    .purpose = "Keeps every other patch of each image.",
    .operands = "[FILE]",
    .example = "... | checkerboard --patch 16 | token-reduce --text truncate:16 | ...",
    .streams = STAGE_READS | STAGE_WRITES, .options = option_table, .option_count = 1,
};

static enum status reduce(struct record *record, struct buffer *out, struct error *error)
{
    const struct tensor *image;
    struct patch_grid grid;
    if (record_require(record, "image", DTYPE_U8, 4, &image, error) != STATUS_OK ||
        patch_grid_init(&grid, image->shape[1], image->shape[2], (size_t)side, error) != STATUS_OK)
        return error->status;
    const size_t all = grid.rows * grid.columns, batch = image->shape[0], keep = (all + 1) / 2;
    const size_t bytes = grid.patch * grid.patch * 3, kept_bytes = keep * bytes;
    if (buffer_reserve(out, batch * keep * (4 + bytes), error) != STATUS_OK)
        return error->status;
    int32_t *position = (int32_t *)(void *)out->data;
    uint8_t *patches = out->data + batch * keep * 4;
    for (size_t i = 0; i < batch; i++) {
        int32_t *kept = position + i * keep;
        for (size_t p = 0, k = 0; p < all; p++)
            if ((p / grid.columns + p % grid.columns) % 2 == 0)
                kept[k++] = (int32_t)p;
        image_copy_patches(&grid, (const uint8_t *)image->data + i * all * bytes, kept, keep,
                           patches + i * kept_bytes);
    }
    struct tensor tensor;
    record_remove(record, "image");
    tensor_init(&tensor, "patches", DTYPE_U8, 3, (size_t[]){batch, keep, bytes}, patches);
    if (record_put(record, &tensor, error) != STATUS_OK)
        return error->status;
    tensor_init(&tensor, "patches.position", DTYPE_I32, 2, (size_t[]){batch, keep}, position);
    return record_put(record, &tensor, error);
}

int main(int argc, char **argv)
{
    struct stage stage;
    struct record record;
    struct error error;
    struct buffer out = {0};
    stage_begin(&stage, &program, argc, argv);
    stage_open_input(&stage);
    stage_open_output(&stage);
    while (stage_read(&stage, &record)) {
        stage_check(&stage, reduce(&record, &out, &error), &error);
        stage_write(&stage, &record);
    }
    buffer_free(&out);
    return stage_finish(&stage);
}
