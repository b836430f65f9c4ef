#!/usr/bin/env bash
# Everything that can be seen only on a GPU, in one call from which nothing is lost.
#
# The rule. One session that is lent a GPU makes one long call.
#   As long as benchmarks/results/gpu.md has no figures for the present kernels, it is this one:
#       bash benchmarks/gpu_check.sh --deadline 450
#   From then on the evidence pack gets the long call, and this script runs its first four steps only:
#       bash benchmarks/gpu_check.sh --deadline 120
#   `bash benchmarks/gpu_check.sh --which` says which it is. `make gpu-carry` beforehand, and carry the folder .gpu.
#
# It needs Python with PyTorch, Triton, transformers, NumPy and pytest, and no network. Steps, limits and seconds are in
# benchmarks/gpu/plan.py. Results go to $OUT (runs/gpu without one): results.jsonl and log.txt, written at once.
# Afterwards, here: copy results.jsonl to benchmarks/results/gpu-NAME.jsonl, then `make gpu-report`.
#       bash benchmarks/gpu_check.sh --device cpu     rehearses every step on toy sizes, in Triton's interpreter
set -uo pipefail
cd "$(dirname "$0")/.."
PYTHON="${PYTHON:-python3}"
SCRATCH="$(mktemp -d)"
trap 'rm -rf "$SCRATCH"' EXIT

export TRITON_CACHE_DIR="$SCRATCH/triton" TORCHINDUCTOR_CACHE_DIR="$SCRATCH/inductor" TMPDIR="$SCRATCH"
export PYTHONPATH="$PWD:$PWD/benchmarks:$PWD/tests:$PWD/tests/scores${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
case " $* " in *" --device cpu "*) export TRITON_INTERPRET=1 CUDA_VISIBLE_DEVICES= ;; esac

if [ "${1:-}" = --which ]; then "$PYTHON" -m gpu.report --which; exit; fi
if ls .gpu/wheels/*.whl >/dev/null 2>&1; then
    "$PYTHON" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --target "$SCRATCH/site" .gpu/wheels/*.whl &&
        export PYTHONPATH="$PYTHONPATH:$SCRATCH/site"
fi
"$PYTHON" -m gpu.call "$@"
