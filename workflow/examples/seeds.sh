#!/bin/bash
# Three seeds on the GPUs of one machine, one a GPU: DATA=face.h5 RUNS=runs GPUS=2 bash seeds.sh
#
# First, once, the test cases that all of them share: python workflow/split.py face face.h5 split.json
set -euo pipefail

export DATA RUNS GPUS
one() {
    seed=$1 gpu=$2
    CUDA_VISIBLE_DEVICES=$gpu tfsono train face --data "$DATA" --run_dir "$RUNS/ig_rpn_$seed" --seed "$seed" \
        --split split.json
}
export -f one
# Each GPU takes every GPUS-th seed, one after the other.
seq 0 $((GPUS - 1)) | xargs -P "$GPUS" -n 1 bash -euc \
    'for seed in 0 1 2; do if [ $((seed % GPUS)) = "$0" ]; then one "$seed" "$0"; fi; done'
