#!/bin/sh
# CLIPA's recipes: what their dry runs say against what is published and derived of these runs,
# and each of them for real with a tiny model: pre-training, fine-tuning from it, evaluation.
name=clipa
. tests/library.sh

# figure NAME: a number of the dry run in $work/dry.
figure() { sed -n "s/^$1: *\([0-9.e+-]*\)\( .*\)\{0,1\}$/\1/p" "$work/dry"; }

# rounds WHAT GOT WANT: GOT is WANT, as far as WANT has digits; "-" is any.
rounds() {
    [ "$3" = - ] || check "$1 is $2, expected $3" awk -v got="$2" -v want="$3" 'BEGIN {
        unit = 10 ^ -length(substr(want, index(want ".", ".") + 1))
        difference = got > want ? got - want : want - got
        exit !(got ~ /^[0-9.]+$/ && difference <= 0.51 * unit) }'
}

# ---- dry runs ----

# Parameters in millions; multiply-adds forward in billions; operations in training in billions;
# steps. Then what the scripts have: the step's samples, learning rate, warm-up, positions.
# Sources: the papers' FLOPs, open_clip's table of models, and closed forms for sequences that
# neither has.
while read -r recipe training parameters macs flops steps batch lr warmup positions; do
    sh "pipelines/clipa/$recipe.sh" "$training" --dry-run >"$work/dry" 2>"$work/dry.err"
    check "$recipe $training --dry-run: $(tail -n 1 "$work/dry.err")" [ $? -eq 0 ]
    forward=$(figure flops.forward | awk '{ print $1 / 2 }')
    rounds "$recipe $training: parameters" "$(figure parameters.total)" "$parameters"
    rounds "$recipe $training: multiply-adds" "$forward" "$macs"
    rounds "$recipe $training: operations" "$(figure flops.training)" "$flops"
    found="$(figure run.steps) $(figure run.batch) $(figure option.lr) $(figure option.warmup)"
    check "$recipe $training: steps, batch, lr, warm-up are $found" \
        [ "$found" = "$steps $batch $lr $warmup" ]
    for line in beta1:0.9 beta2:0.95 eps:1e-06 wd:0.2 wd-policy:open_clip-3 \
        grad-checkpointing:yes seed:0 lr-scheduler:cosine; do
        check "$recipe $training: $line" grep -q "^option.${line%:*}: *${line#*:}$" "$work/dry"
    done
    check "$recipe $training: positions are $positions" grep -q \
        "^model.image.positions: *$positions$" "$work/dry"
    check "$recipe $training: samples are shuffled" grep -q '^shard-reader .* --shuffle' "$work/dry"
    jittered=1
    [ "$recipe" != b16-i50-t16 ] || jittered=0
    decoding=$(grep '^image-decode .* --scale 0.4,1 ' "$work/dry")
    check "$recipe $training: the crop's area" [ -n "$decoding" ]
    check "$recipe $training: the colours in '$decoding'" [ "$(echo "$decoding" | grep -c -e \
        '--color-jitter 0.32,0.32,0.32,0.08 --color-jitter-prob 0.8 --gray-scale-prob 0.2 ')" \
        -eq $jittered ]
done <<'TABLE'
b16-i50-t16 pretrain     -      4.93  29.6   36621 65536 0.002048 782  fixed
b16-i50-t16 finetune     149.59 18.17 109.0  16000  8192 2.56e-05 3072 learned
l16-i17-t16 pretrain     -      6.53  39.2   73242 32768 0.001024 1563 fixed
l16-i17-t16 finetune     -      62.92 377.5  18285  7168 2.24e-05 3571 learned
l16-i37-t8  pretrain     -      11.95 71.7   73242 32768 0.001024 1563 fixed
l16-i37-t8  finetune     427.70 64.29 385.8  18285  7168 2.24e-05 3571 learned
l14-v2      pretrain     -      11.94 -     195490 65536 0.002048 3200 learned
l14-v2      finetune     414.21 -     -      16000 32768 5.12e-05 800  learned
l14-v2      finetune-336 414.54 -     -       8000 16384 6.4e-06  1600 learned
h14-v2      pretrain     -      25.84 -     195490 65536 0.002048 3200 learned
h14-v2      finetune     968.24 125.8 -      16000 32768 5.12e-05 800  learned
h14-v2      finetune-336 968.64 -     -       8000 16384 6.4e-06  1600 learned
TABLE
# 237.6 has all patches embedded, and then 40% of them dropped.
masked=$(figure flops.forward | awk '{ print $1 / 2 + (576 - 345) * 3 * 14 * 14 * 1280e-9 }')
rounds "h14-v2 finetune-336: multiply-adds" "$masked" 237.6

# All trainings of a recipe in EFLOP, for the two numbers of samples that six epochs may mean.
while read -r recipe least most; do
    sh "pipelines/clipa/$recipe.sh" finetune --dry-run >"$work/dry"
    check "$recipe: $(figure recipe.compute) EFLOP, expected $least to $most" \
        awk "BEGIN { got = 0$(figure recipe.compute); exit !(got >= $least && got <= $most) }"
done <<'TABLE'
b16-i50-t16 79 86
l16-i17-t16 135 145
l16-i37-t8 208 226
TABLE
sum=$(awk '/^recipe.compute.[pf]/ { sum += $2 } END { print sum }' "$work/dry")
rounds "the sum of the trainings" "$sum" "$(figure recipe.compute)"

expect 64 "an unknown stage" sh pipelines/clipa/h14-v2.sh tune
said "'tune' is not pretrain finetune finetune-336 or evaluate"
expect 64 "no vocabulary" sh pipelines/clipa/h14-v2.sh pretrain --data a --out b
said "vocab is required"
expect 64 "an option without its value" sh pipelines/clipa/h14-v2.sh pretrain --lr 1 --data
said "data has no value"

# ---- for real ----

scene-shards -q --count 40 --test-count 8 --size 48 --seed 3 --out "$work/scenes"
shards=$work/scenes/train/0.tar.zst samples=16
shard-reader -q "$shards" | tokenize -q --learn 800 >"$work/bpe.gz" 2>/dev/null
# A test split has labels, and no captions.
mkdir -p "$work/classify/test/members"
cp "$work/scenes/classnames.txt" "$work/scenes/zeroshot_classification_templates.txt" \
    "$work/classify"
cp "$work/scenes/test/nshards.txt" "$work/classify/test"
zstd -dcq "$work/scenes/test/0.tar.zst" | tar -xf - -C "$work/classify/test/members"
rm "$work/classify/test/members"/*.txt
tar -cf "$work/classify/test/0.tar" --sort=name -C "$work/classify/test/members" .
{
    printf '%s\n' '[PAD]' '[UNK]' '[CLS]' '[SEP]' a photo of the large red circle square
    printf '%s\n' b c d e f g h i j k l m n o p q r s t u v w x y z | sed 'p; s/^/##/'
} | awk '!seen[$0]++' >"$work/wordpiece.txt"

# model PATCH VISION TEXT: a tiny one with further fields of its towers
model() {
    cat <<JSON
{"embed_dim": 16,
 "vision_cfg": {"image_size": 224, "layers": 1, "width": 16, "head_width": 8, $2
                "patch_size": $1},
 "text_cfg": {"context_length": 32, "vocab_size": 1000, $3
              "width": 16, "heads": 2, "layers": 1}}
JSON
}
model 16 '"pool_type": "avg_all", "final_ln_after_pool": true,' '' >"$work/v1.json"
model 14 '"no_ln_pre": true, "pool_type": "avg", "final_ln_after_pool": true,' \
    '"hf_tokenizer_name": "bert-base-uncased", "tokenizer_kwargs": {"strip_sep_token": true},
              "pool_type": "last", "no_causal_mask": true,' >"$work/v2.json"

# The recipes leave the text's length to models that have it; this one has to be told.
recipe() { # RECIPE STAGE [OPTION]...
    script=$1 word=$2
    shift 2
    length=16
    case $script.$word in
    l16-i37-t8.pretrain | *-v2.pretrain) length=8 ;;
    l16-i37-t8.finetune | *-v2.*) length=32 ;;
    esac
    MODEL=$model BATCH=4 ACCUM=2 SAMPLES=$samples sh "pipelines/clipa/$script.sh" "$word" "$@" \
        --data "$shards" --vocab "$vocab" --out "$work/$script" --warmup 1 -j 1 \
        --log-every-n-steps 1 --force-context-length $length
}

# rehearse RECIPE TOKENS...: all of it; what each training says of its tokens
rehearse() {
    script=$1 from=
    shift
    for training in pretrain finetune finetune-336; do
        [ $# -gt 0 ] || break
        recipe "$script" "$training" >"$work/metrics" 2>"$work/err"
        check "$script $training: $(grep -v working "$work/err" | tail -n 1)" [ $? -eq 0 ]
        check "$script $training takes two steps" [ "$(wc -l <"$work/metrics")" -eq 2 ]
        check "$script $training has $1" grep -q "parameters, $1, .* 2 steps of 8 on [a-z]*;" "$work/err"
        [ -z "$from" ] || check "$script $training starts from $from" grep -q \
            "starting from the weights in $work/$script/$from/step-00000002" "$work/err"
        from=$training
        shift
        expect 0 "$script $training once more" recipe "$script" "$training"
        said "$training: all 2 steps are done"
    done
    for of in pretrain "$from"; do
        sh "pipelines/clipa/$script.sh" evaluate --of "$of" --data "$work/classify" \
            --out "$work/$script" --expect 8 >"$work/result" 2>"$work/err"
        check "$script evaluate --of $of: $(tail -n 1 "$work/err")" [ $? -eq 0 ]
        check "$script evaluate --of $of: its result" grep -q \
            "^{\"dataset\": \"classify\", \"model\": \"$of\", .*\"acc1\": " "$work/result"
    done
}
model=$work/v1.json vocab=$work/bpe.gz
rehearse b16-i50-t16 "50 image tokens, 16 text tokens" "197 image tokens, 16 text tokens"
rehearse l16-i17-t16 "17 image tokens, 16 text tokens" "197 image tokens, 16 text tokens"
rehearse l16-i37-t8 "37 image tokens, 8 text tokens" "197 image tokens, 32 text tokens"
model=$work/v2.json vocab=$work/wordpiece.txt
for script in l14-v2 h14-v2; do
    rehearse $script "37 image tokens, 8 text tokens" "180 image tokens, 32 text tokens" \
        "346 image tokens, 32 text tokens"
done

# about RECIPE TRAINING PATTERN: a line of the checkpoint's files
about() {
    check "$1 $2 has $3" grep -q -e "$3" "$work/$1/$2/step-00000002/clipipe.json" \
        "$work/$1/$2/step-00000002/open_clip_config.json"
}
about b16-i50-t16 pretrain '"pos_embed_type": "sin_cos_2d"'
about b16-i50-t16 finetune '"pos_embed_type": "learnable"'
about l16-i17-t16 pretrain '"text.strategy": "syntax:16"'
about l16-i17-t16 pretrain '"text.syntax": "words"'
about l16-i37-t8 finetune '"text.layout": "clip"'
about h14-v2 pretrain '"text.syntax": "pieces"'
about h14-v2 finetune-336 '"text.layout": "bert"'
about h14-v2 finetune-336 '"image.strategy": "random:345"'
about h14-v2 finetune-336 '"interpolation": "bilinear"'
about h14-v2 finetune-336 '0.406'

# ---- the command lines of a dry run, run; and a run that is cut off and goes on ----

# typed DIR: the pipeline that a recipe for DIR says it would run
model=$work/v1.json vocab=$work/bpe.gz samples=800
typed() {
    recipe l16-i17-t16 pretrain --dry-run 2>/dev/null | sed "/^$/,\$d; s,/l16-i17-t16,/$1,g"
}
typed typed >"$work/typed.sh"
check "a dry run's pipeline runs: $(tail -n 1 "$work/typed.sh")" sh "$work/typed.sh"
typed l16-i17-t16 | sed 's/^train-step/head -c 7000000 | &/' >"$work/cut.sh"
rm -r "$work/l16-i17-t16/pretrain"
expect 76 "a pipeline that is cut off" sh "$work/cut.sh"
expect 0 "the recipe goes on" recipe l16-i17-t16 pretrain
said "resumed $work/l16-i17-t16/pretrain/step-000000[2-9]"
check "and both give the same weights" cmp \
    "$work/typed/pretrain/step-00000100/open_clip_model.safetensors" \
    "$work/l16-i17-t16/pretrain/step-00000100/open_clip_model.safetensors"
report
