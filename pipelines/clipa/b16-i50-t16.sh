#!/bin/sh
# b16-i50-t16.sh - CLIPA's ViT-B/16 on 50 image and 16 text tokens, two days on eight A100:
# 59.7% of ImageNet zero-shot, 63.2% after fine-tuning.
#
#     R=pipelines/clipa/b16-i50-t16.sh
#     sh $R pretrain|finetune --data SHARDS --vocab FILE --out DIR [OPTION]...
#     sh $R evaluate [--of pretrain] --data DATASET --out DIR [OPTION]...
#
# SHARDS are those of LAION-400M, FILE is bpe_simple_vocab_16e6.txt.gz. README.md says the rest.
stages="pretrain finetune"
# shellcheck source=pipelines/clipa/recipe.sh
. "$(dirname "$0")/recipe.sh"

# Follows CLIPA's PyTorch code throughout: CLIP's BPE, a causal text tower that pools the end of
# text, an image tower with a norm before its blocks that pools the class token, erf GELU,
# pixels normalised by OpenAI's mean. Each comment names the option of i50_t16_pretrain.sh or
# i50_t16_finetune.sh, in CLIPA's clipa_torch/scripts/exp/gpu/vit_b16, that its line has from
# there.
case $stage in
pretrain)
    plan 2400000000 8192 8  # --epochs 6 of 400 M; --batch-size 8192 on 8 GPUs: 65,536
    read_samples |
        run image-decode --size 112 --scale 0.4,1 |  # --force-image-size; --aug-cfg: no jitter
        run tokenize --vocab "$vocab" |
        run token-reduce --text truncate:16 --layout clip |  # --model: CL16
        # --pos-embed; --lr 8e-6 for every 256 of a batch; --warmup: 51.2 M samples
        train ViT-B-16-CL16 --force-image-size 112 --pos-embed sin_cos_2d --lr 2.048e-3 \
            --warmup 782 "$@"
    ;;
finetune)
    from=pretrain
    plan 131072000 1024 8  # --train-num-samples; --batch-size 1024 on 8 GPUs: 8,192
    read_samples |
        run image-decode --size 224 --scale 0.4,1 |  # the model's size; --aug-cfg
        run tokenize --vocab "$vocab" |
        run token-reduce --text truncate:16 --layout clip |  # --model: CL16
        # --pos-embed: the fixed table, resized, is trained; --lr 8e-7 per 256; --warmup: 25.2 M
        train ViT-B-16-CL16 --pos-embed learnable --lr 2.56e-5 --warmup 3072 "$@"
    ;;
evaluate) evaluate "$@" ;;  # shorter side, centre; 16 tokens, in both stages
esac
