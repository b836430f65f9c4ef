#!/usr/bin/env bash
# Everything that can only be seen on a GPU, in one script of under 8 minutes.
# For a bare CUDA machine: PyTorch, Triton, transformers, pybind11 and pytest; no registry, no datasets.
#   bash benchmarks/gpu_check.sh            results in benchmarks/results/
#   OUT=/somewhere bash benchmarks/gpu_check.sh
set -uo pipefail
cd "$(dirname "$0")/.."
OUT="${OUT:-benchmarks/results}"
PYTHON="${PYTHON:-python3}"
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
mkdir -p "$OUT"
failed=0

step() {  # step NAME SECONDS COMMAND...: run it with a bound, keep its log, go on when it fails
    local name="$1" bound="$2"
    shift 2
    echo "== $name"
    if timeout "$bound" "$@" 2>&1 | tee "$OUT/gpu_$name.log"; then echo "== $name: ok"; else echo "== $name: FAILED"; failed=1; fi
}

step machine 15 "$PYTHON" -c '
import torch, triton, transformers, platform
print("python", platform.python_version(), "torch", torch.__version__, "triton", triton.__version__,
      "transformers", transformers.__version__)
print(torch.cuda.get_device_name(), "capability", torch.cuda.get_device_capability(), "CUDA", torch.version.cuda)'
step build 80 "$PYTHON" setup.py build_ext --inplace
step tests 150 "$PYTHON" -m pytest -q -m gpu -p no:cacheprovider \
    tests/scores/test_scores_triton.py tests/selection/test_select_topk_gpu.py tests/pruning/test_pruner_gpu.py
step scores 120 "$PYTHON" benchmarks/scores.py --device cuda --quick --out "$OUT"
step selection 40 "$PYTHON" benchmarks/selection.py --device cuda --rounds 5 --out "$OUT"
step engine 24 "$PYTHON" benchmarks/engine.py --device cuda --quick --out "$OUT"
step end_to_end 70 "$PYTHON" benchmarks/end_to_end.py --device cuda --examples 16000 --out "$OUT"
exit "$failed"
