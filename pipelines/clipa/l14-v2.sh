#!/bin/sh
# l14-v2.sh - CLIPA-v2's ViT-L/14: on 37 image and 8 text tokens, then fine-tuned on 224 and on
# 336 pixels with masks: 79.7% and 80.3% of ImageNet zero-shot on DataComp-1B.
#
#     R=pipelines/clipa/l14-v2.sh
#     sh $R pretrain|finetune|finetune-336 --data SHARDS --vocab FILE --out DIR [OPTION]...
#     sh $R evaluate [--of pretrain|finetune] --data DATASET --out DIR [OPTION]...
#
# SHARDS are those of DataComp-1B, FILE is the vocab.txt of bert-base-uncased. README.md says
# the rest. No script of CLIPA's trains this model; the schedule is that of H/14.
model_name=ViT-L-14-CLIPA pretrain_batch=2048 finetune_batch=512 finetune_336_batch=256
# shellcheck source=pipelines/clipa/v2.sh
. "$(dirname "$0")/v2.sh"
