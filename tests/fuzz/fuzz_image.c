/* Any bytes as an image: in whole, by a decoder with a past, and in a region. */
#include "formats/image.h"
#include "tests/fuzz/fuzz.h"

enum { PIXELS_MAX = 1 << 16 };

bool fuzz_accepted;

static enum status decode(struct image_decoder *decoder, const uint8_t *data, size_t size,
                          const struct image_region *region, const uint8_t **rgb)
{
    struct image_info info;
    struct error error;
    MUST(image_decoder_begin(decoder, data, size, PIXELS_MAX, &info, &error) == STATUS_OK);
    enum status status = image_decoder_region(decoder, region, rgb, &error);
    fuzz_check_status(status, &error);
    return status;
}

/* Has decoded something else: what nobody wrote, or what was left over, would differ. */
static void give_past(struct image_decoder *decoder)
{
    static struct buffer past;
    static const struct image_region region = {3, 3, 20, 15};
    const uint8_t *rgb;
    if (past.size == 0)
        MUST(fuzz_seed(0, &past));
    MUST(decode(decoder, past.data, past.size, &region, &rgb) == STATUS_OK);
}

static void compare(const uint8_t *whole, size_t width, const struct image_region *region,
                    const uint8_t *rgb)
{
    for (size_t y = 0; y < region->height; y++)
        MUST(memcmp(rgb + y * region->width * 3,
                    whole + ((region->y + y) * width + region->x) * 3, region->width * 3) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct image_decoder *decoder, *second;
    struct image_info info;
    struct error error;
    fuzz_accepted = false;
    MUST(image_decoder_open(&decoder, &error) == STATUS_OK);
    MUST(image_decoder_open(&second, &error) == STATUS_OK);
    give_past(second);
    enum status status =
        image_decoder_begin(decoder, data, size, PIXELS_MAX, &info, &error);
    fuzz_check_status(status, &error);
    if (status == STATUS_OK) {
        MUST(info.width * info.height > 0 && info.width * info.height <= PIXELS_MAX);
        const struct image_region all = {0, 0, info.width, info.height};
        struct image_region part = {info.width / 3, info.height / 2, 0, 0};
        const uint8_t *whole, *again, *rgb;
        part.width = (info.width - part.x + 1) / 2;
        part.height = (info.height - part.y + 1) / 2;
        if (decode(decoder, data, size, &all, &whole) == STATUS_OK) {
            fuzz_accepted = true;
            MUST(decode(second, data, size, &all, &again) == STATUS_OK);
            compare(whole, info.width, &all, again);
            MUST(decode(second, data, size, &part, &rgb) == STATUS_OK);
            compare(whole, info.width, &part, rgb);
        } else {
            MUST(decode(second, data, size, &all, &again) != STATUS_OK);
            decode(second, data, size, &part, &rgb); /* may well be undamaged */
        }
    }
    image_decoder_close(second);
    image_decoder_close(decoder);
    return 0;
}

bool fuzz_seed(int number, struct buffer *out)
{
    enum { W = 29, H = 21 };
    uint8_t rgb[W * H * 3];
    struct error error;
    enum status status;
    for (size_t i = 0; i < sizeof rgb; i++)
        rgb[i] = (uint8_t)(i * (size_t)(number + 3) / 5 ^ i / (W * 3) * 9);
    switch (number) {
    case 0:
    case 1:
        status = image_encode_jpeg(rgb, W, H, 30 + 60 * number, out, &error);
        break;
    case 2:
    case 3:
        status = image_encode_webp(rgb, W, H, number == 2 ? 50 : 101, out, &error);
        break;
    case 4:
        status = image_encode_png(rgb, W, H, out, &error);
        break;
    case 5:
        status = image_encode_jpeg(rgb, 1, 1, 80, out, &error);
        break;
    default:
        return false;
    }
    MUST(status == STATUS_OK);
    return true;
}
