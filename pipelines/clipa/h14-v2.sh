#!/bin/sh
# h14-v2.sh - CLIPA-v2's ViT-H/14: on 37 image and 8 text tokens, then fine-tuned on 224 and on
# 336 pixels with masks: 81.5% and 81.8% of ImageNet zero-shot on DataComp-1B, 78.6% and 79.1%
# on LAION-2B.
#
#     R=pipelines/clipa/h14-v2.sh
#     sh $R pretrain|finetune|finetune-336 --data SHARDS --vocab FILE --out DIR [OPTION]...
#     sh $R evaluate [--of pretrain|finetune] --data DATASET --out DIR [OPTION]...
#
# SHARDS are those of DataComp-1B or LAION-2B, FILE is the vocab.txt of bert-base-uncased.
# README.md says the rest.
model_name=ViT-H-14-CLIPA pretrain_batch=1024 finetune_batch=256 finetune_336_batch=128
# shellcheck source=pipelines/clipa/v2.sh
. "$(dirname "$0")/v2.sh"
