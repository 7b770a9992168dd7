# recipe.sh - what CLIPA's recipes share. A recipe sets `stages`, the names of its trainings in
# order, and reads this file, which takes the recipe's arguments apart:
#
#     stage        one of the trainings, or "evaluate"
#     of           the training whose result is evaluated [the last]
#     data, vocab, out, dry_run    the options of these names
#     "$@"         all other arguments, for train-step or eval-zeroshot
#
# shellcheck shell=sh disable=SC2154 # what recipes set
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=pipelines/library.sh
. "$root/pipelines/library.sh"

usage() {
    echo "$(basename "$0"): $*" >&2
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" >&2
    exit 64
}

# is_training NAME
is_training() { case " $stages " in *" $1 "*) return 0 ;; *) return 1 ;; esac; }

stage=${1:-} of=${stages##* } data='' vocab='' out='' dry_run=''
from='' masked='' crop='' # the recipe's
is_training "$stage" || [ "$stage" = evaluate ] || usage "'$stage' is not $stages or evaluate"
shift
left=$#
while [ "$left" -gt 0 ]; do
    taken=1
    case $1 in
    --dry-run) dry_run=yes ;;
    --data | --vocab | --out | --of)
        [ "$left" -ge 2 ] || usage "$1 has no value"
        eval "${1#--}=\$2"
        taken=2
        ;;
    *) set -- "$@" "$1" ;; # once around
    esac
    shift $taken
    left=$((left - taken))
done
is_training "$of" || usage "--of '$of' is not one of $stages"
if [ -n "$dry_run" ]; then
    data=${data:-SHARDS} vocab=${vocab:-VOCABULARY} out=${out:-DIR}
elif [ -z "$data" ] || [ -z "$out" ]; then
    usage "--data and --out are required"
elif [ "$stage" != evaluate ] && [ -z "$vocab" ]; then
    usage "--vocab is required"
fi
command -v train-step >/dev/null || {
    make -s -C "$root" -j"$(nproc)"
    PATH=$root/build/bin:$PATH
}

# ---- stages of the pipeline ----

# show PROGRAM ARGUMENT...: a command as one types it, without an end of line.
show() {
    separator=
    for word in "$@"; do
        case $word in
        *[!A-Za-z0-9_.,:/+=@%-]* | '') word="'$(printf %s "$word" | sed "s/'/'\\\\''/g")'" ;;
        esac
        printf '%s%s' "$separator" "$word"
        separator=' '
    done
}

# run PROGRAM ARGUMENT...: a stage. In a dry run command lines go down the pipe in place of
# records, each behind those of the stages before it.
run() {
    if [ -z "$dry_run" ]; then
        "$@"
    else
        cat
        show "$@"
        echo ' |'
    fi
}

# run_last PROGRAM ARGUMENT...: the last stage.
run_last() { if [ -z "$dry_run" ]; then "$@"; else run "$@" | sed '$s/ |$//'; fi; }

# plan SAMPLES BATCH ACCUM: the length of a training, and how many batches make one step. The
# variables SAMPLES, BATCH and ACCUM come first; BATCH alone leaves the step as large as it is.
plan() {
    for variable in BATCH ACCUM SAMPLES; do
        eval "value=\${$variable:-1}"
        case $value in
        *[!0-9]* | 0*) usage "$variable is '$value', expected a whole number from 1" ;;
        esac
    done
    batch=${BATCH:-$2}
    accum=${ACCUM:-$(($2 * $3 / batch))}
    step=$((batch * accum))
    steps=$((${SAMPLES:-$1} / step))
    [ $steps -ge 1 ] || usage "SAMPLES is $SAMPLES, less than a step of $step"
    [ $step -eq $(($2 * $3)) ] ||
        echo "$stage: a step of $step samples, --lr and --warmup are for $(($2 * $3))" >&2
    if [ -n "$dry_run" ]; then
        show mkdir -p "$out"
        echo
    elif [ -e "$out/$stage/$(printf step-%08d $steps)" ]; then
        echo "$stage: all $steps steps are done" >&2
        exit 0
    else
        mkdir -p "$out"
    fi
}

# The samples of this training, from where its last checkpoint ends.
read_samples() {
    run shard-reader "$data" --shuffle --epochs 0 --limit $((steps * step)) \
        --start "$out/$stage" </dev/null
}

# The colours that all but the smallest of CLIPA's models see: --aug-cfg in its PyTorch code,
# simclr_jitter_gray of strength 0.4 in JAX.
decode_jittered() { # OPTION...
    run image-decode "$@" --color-jitter 0.32,0.32,0.32,0.08 --color-jitter-prob 0.8 \
        --gray-scale-prob 0.2
}

# train MODEL OPTION...: the last stage. `from` is the training whose weights it starts from.
# First comes what all recipes share: the scripts' --beta1 --beta2 --wd --precision --seed
# --grad-checkpointing, and open_clip's defaults of --eps and --lr-scheduler. Weight decay is
# that of open_clip 2 and 3, on which CLIPA's code rests: of all matrices, embeddings too.
train() {
    model=${MODEL:-$root/pipelines/models/$1.json}
    shift
    set -- --model "$model" --batch-size "$batch" --accum-freq "$accum" --steps "$steps" \
        --beta1 0.9 --beta2 0.95 --eps 1e-6 --wd 0.2 --wd-policy open_clip-3 \
        --lr-scheduler cosine --precision "${PRECISION:-amp_bf16}" --grad-checkpointing \
        --seed 0 --device "${DEVICE:-auto}" "$@" --out "$out/$stage" --resume
    run_last train-step ${from:+--init "$out/$from"} "$@"
    [ -z "$dry_run" ] || predict "$@"
}

# predict OPTION...: what the training takes, by train-step, which has to be told the share of
# patches that is `masked` where it would see it in the stream; then all of the recipe's
# trainings together, the others as the recipe has them.
predict() {
    figures=$(train-step --dry-run "$@" ${masked:+--force-patch-dropout "$masked"})
    printf '\n%s\n' "$figures"
    [ -z "${ONE_TRAINING:-}" ] || return 0
    for training in $stages; do
        if [ "$training" = "$stage" ]; then
            echo "$figures"
        else
            ONE_TRAINING=yes sh "$0" "$training" --dry-run 2>/dev/null
        fi | sed -n "s/^run.compute:/recipe.compute.$training:/p"
    done | awk '
        { printf "%-36s%s %s\n", $1, $2, $3; sum += $2 }
        END { printf "%-36s%.4g EFLOP\n", "recipe.compute:", sum }'
}

# evaluate OPTION...: classifies the test split of $data, a data set in CLIP_benchmark's layout,
# with the class names and templates that it brings, its images prepared as the checkpoint says
# but for the recipe's `crop`, its prompts reduced like the captions of the training.
evaluate() {
    suffix=tar
    [ ! -e "$data/test/0.tar.zst" ] || suffix=tar.zst
    if [ -n "$dry_run" ]; then
        split="$data/test/{0..N}.$suffix"
    else
        split=$(shards "$data/test" $suffix)
    fi
    run shard-reader "$split" --text-key none --on-error fail </dev/null |
        run image-decode --like "$out/$of" ${crop:+--crop "$crop"} --on-error fail |
        run_last eval-zeroshot --model "$out/$of" --dataset "$data" \
            --device "${DEVICE:-auto}" "$@"
}
