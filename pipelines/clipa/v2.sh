# v2.sh - CLIPA-v2; l14-v2.sh and h14-v2.sh read it with `model_name` and the batches that
# pass through it at once.
#
# CLIPA trained these models in JAX, and open_clip has them, with scripts of its own. Model and
# optimiser are open_clip's here: BERT's WordPiece, no causal mask, the text's last place
# pooled, an image tower without a norm before its blocks that pools the mean of the patches,
# erf GELU, norms' eps 1e-5, learned positions, decay of all matrices, Adam's eps 1e-6, a logit
# scale of at most 100. (In JAX: tanh GELU, 1e-6, a fixed table of sines, decay of kernels
# alone, 1e-8, no limit.) The rest is JAX's: each comment names the setting of
# 84_8_pre_training.py, unmask_tuning_224_scheduleX4.py or unmask_tuning_336_scheduleX1.py, in
# CLIPA's clipa_jax/configs/model_h, that its line has from there.
#
# shellcheck shell=sh disable=SC2154 # what the recipe sets
stages="pretrain finetune finetune-336"
# shellcheck source=pipelines/clipa/recipe.sh
. "$(dirname "$0")/recipe.sh"

# The pixels of the released models: bilinear, antialiased, ImageNet's mean and deviation.
# pp: inception_crop of 40% of the area or more; simclr_jitter_gray.
decode() { # SIZE
    decode_jittered --size "$1" --scale 0.4,1 --interpolation bilinear |
        run tokenize --vocab "$vocab"
}
train_v2() {
    train "$model_name" --image-mean 0.485,0.456,0.406 --image-std 0.229,0.224,0.225 "$@"
}

# A mask leaves the floor of its share of the patches, drawn anew for each sample. CLIPA's
# models drop the others behind the patch embedding, which does not mix patches: before the pipe
# it is the same and costs less, and grid:179 or block:179 is one word away.
case $stage in
pretrain)
    # total_seen_samples: 10000 x 1,281,167; batchsize 65,536: 195,490 steps
    plan 12811670000 "$pretrain_batch" $((65536 / pretrain_batch))
    read_samples | decode 84 |  # res
        # token_len, noun_tokenize: entries of the vocabulary are ranked. open_clip's layout has
        # room for six of them, JAX's (clipa-jax) for seven
        run token-reduce --text syntax:8 --syntax pieces --layout bert |
        # lr: 8e-6 for every 256 of a batch; warmup_steps: with fewer it collapses
        train_v2 --force-image-size 84 --force-context-length 8 --lr 2.048e-3 --warmup 3200 "$@"
    ;;
finetune)
    from=pretrain
    # total_steps: 4 x 131,072,000 samples; batchsize 32,768: 16,000 steps
    plan 524288000 "$finetune_batch" $((32768 / finetune_batch))
    masked=0.3  # mask_ratio: 179 of 16 x 16 patches stay; token_len 32
    read_samples | decode 224 |  # res
        run token-reduce --image random:179 --patch 14 --text truncate:32 --layout bert |
        # lr: 4e-7 for every 256; warmup_steps: 26,214,400 samples
        train_v2 --lr 5.12e-5 --warmup 800 "$@"
    ;;
finetune-336)
    from=finetune
    # total_steps: 131,072,000 samples; batchsize 16,384: 8,000 steps
    plan 131072000 "$finetune_336_batch" $((16384 / finetune_336_batch))
    masked=0.4  # mask_ratio: 345 of 24 x 24 patches stay; token_len 32
    read_samples | decode 336 |  # res
        run token-reduce --image random:345 --patch 14 --text truncate:32 --layout bert |
        # lr: 1e-7 for every 256; warmup_steps: 26,214,400 samples
        train_v2 --force-image-size 336 --lr 6.4e-6 --warmup 1600 "$@"
    ;;
evaluate)
    # resize_small and central_crop after the pre-training, "directly resize" after fine-tuning
    crop=squash
    [ "$of" != pretrain ] || crop=center
    evaluate "$@"
    ;;
esac
