/* Any bytes as a model's configuration. What is accepted means the same after writing. */
#include "model/config.h"
#include "tests/fuzz/fuzz.h"

bool fuzz_accepted;

static void check_again(const struct clip_config *config)
{
    struct clip_config copy = {0};
    struct buffer text = {0};
    struct error error;
    MUST(clip_config_format(config, &text, &error) == STATUS_OK);
    MUST(clip_config_parse(&copy, (const char *)text.data, text.size, NULL, &error) ==
         STATUS_OK);
    MUST(memcmp(&copy.vision, &config->vision, sizeof copy.vision) == 0);
    MUST(memcmp(&copy.text, &config->text, sizeof copy.text) == 0);
    MUST(copy.embed_dim == config->embed_dim);
    clip_config_free(&copy);
    buffer_free(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct clip_overrides overrides = {
        .image_size = 64, .context_length = 16, .quick_gelu = true};
    struct clip_config config = {0};
    struct error error;
    enum status status = clip_config_parse(&config, (const char *)data, size, NULL, &error);
    fuzz_check_status(status, &error);
    fuzz_accepted = status == STATUS_OK;
    if (fuzz_accepted) {
        const struct transformer_config *t = &config.vision.transformer;
        MUST(t->layers > 0 && t->heads > 0 && t->width % t->heads == 0 && t->hidden > 0);
        MUST(config.vision.grid > 0 && config.embed_dim > 0 && config.text.vocab_size > 0);
        MUST(clip_config_image_parameters(&config) < (size_t)1 << 56);
        MUST(clip_config_text_parameters(&config) < (size_t)1 << 56);
        MUST(clip_config_image_flops(&config, clip_config_patches(&config)) > 0);
        MUST(clip_config_text_flops(&config) > 0);
        check_again(&config);
    } else {
        MUST(config.model_json == NULL);
    }
    clip_config_free(&config);
    fuzz_check_status(
        clip_config_parse(&config, (const char *)data, size, &overrides, &error), &error);
    clip_config_free(&config);
    return 0;
}

bool fuzz_seed(int number, struct buffer *out)
{
    static const char *const seeds[] = {
        "{\"embed_dim\": 64, \"vision_cfg\": {\"image_size\": 32, \"layers\": 2, \"width\": 64,"
        " \"patch_size\": 8, \"head_width\": 32}, \"text_cfg\": {\"context_length\": 16,"
        " \"vocab_size\": 600, \"width\": 64, \"heads\": 2, \"layers\": 2}}",
        "{\"model_cfg\": {\"embed_dim\": 512, \"quick_gelu\": true, \"vision_cfg\":"
        " {\"image_size\": 224, \"layers\": 12, \"width\": 768, \"patch_size\": 16,"
        " \"no_ln_pre\": true, \"pool_type\": \"avg\", \"final_ln_after_pool\": true,"
        " \"mlp_ratio\": 4.5, \"norm_kwargs\": {\"eps\": 1e-6}, \"ls_init_value\": null},"
        " \"text_cfg\": {\"context_length\": 32, \"vocab_size\": 32000, \"width\": 512,"
        " \"heads\": 8, \"layers\": 12, \"pool_type\": \"last\", \"no_causal_mask\": true,"
        " \"hf_tokenizer_name\": \"bert-base-uncased\"}},"
        " \"preprocess_cfg\": {\"mean\": [0.5, 0.4, 0.3], \"std\": [0.2, 0.2, 0.2],"
        " \"interpolation\": \"bilinear\", \"resize_mode\": \"squash\"}}",
    };
    out->size = 0;
    if (number >= (int)(sizeof seeds / sizeof seeds[0]))
        return false;
    fuzz_append(out, seeds[number], strlen(seeds[number]));
    return true;
}
