#!/bin/sh
# l16-i17-t16.sh - CLIPA's ViT-L/16 on 17 image and 16 text tokens, three days on eight A100:
# 60.3% of ImageNet zero-shot, 67.8% after fine-tuning.
#
#     R=pipelines/clipa/l16-i17-t16.sh
#     sh $R pretrain|finetune --data SHARDS --vocab FILE --out DIR [OPTION]...
#     sh $R evaluate [--of pretrain] --data DATASET --out DIR [OPTION]...
#
# SHARDS are those of LAION-400M, FILE is bpe_simple_vocab_16e6.txt.gz. README.md says the rest.
stages="pretrain finetune"
# shellcheck source=pipelines/clipa/recipe.sh
. "$(dirname "$0")/recipe.sh"

# Follows CLIPA's PyTorch code throughout: CLIP's BPE, a causal text tower that pools the end of
# text, an image tower with a norm before its blocks that pools the mean of all tokens, erf
# GELU, pixels normalised by OpenAI's mean. Each comment names the option of i17_t16_pretrain.sh
# or i17_t16_finetune.sh, in CLIPA's clipa_torch/scripts/exp/gpu/vit_l16, that its line has
# from there.
case $stage in
pretrain)
    plan 2400000000 4096 8  # --epochs 6 of 400 M; --batch-size 4096 on 8 GPUs: 32,768
    read_samples |
        decode_jittered --size 64 --scale 0.4,1 |  # --force-image-size; --aug-cfg
        run tokenize --vocab "$vocab" | run pos-tag |
        # --model: CL16-Syntax; open_clip's copy of the script has CL16, that is truncate:16
        run token-reduce --text syntax:16 --syntax words --layout clip |
        # --pos-embed; --lr 8e-6 for every 256 of a batch; --warmup: 51.2 M samples
        train ViT-L-16-CL16-Syntax-GAP --force-image-size 64 --pos-embed sin_cos_2d \
            --lr 1.024e-3 --warmup 1563 "$@"
    ;;
finetune)
    from=pretrain
    plan 131072000 896 8  # --train-num-samples; --batch-size 896 on 8 GPUs: 7,168
    read_samples |
        decode_jittered --size 224 --scale 0.4,1 |  # the model's size; --aug-cfg
        run tokenize --vocab "$vocab" |
        run token-reduce --text truncate:16 --layout clip |  # --model: CL16, without syntax
        # --pos-embed: the fixed table, resized, is trained; --lr 8e-7 per 256; --warmup: 25.6 M
        train ViT-L-16-CL16-GAP --pos-embed learnable --lr 2.24e-5 --warmup 3571 "$@"
    ;;
evaluate) evaluate "$@" ;;
esac
