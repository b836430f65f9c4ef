#!/usr/bin/env bash
# Evidence from a lent machine, inside the folder that `python -m benchmarks.evidence pack` makes.
#   bash runs/evidence-pack/lent.sh SECONDS [cuda|cpu [options of run]]
# The result lines come back in $OUT; `python -m benchmarks.evidence merge FILE` adds them here.
set -euo pipefail
started=$SECONDS
seconds="${1:?how many seconds may it take?}"
device="${2:-cuda}"
more=("${@:3}")
cd "$(dirname "$0")"
out="${OUT:-$PWD/out}"
python="${PYTHON:-python3}"
export PYTHONPATH="$PWD:$PWD/site" PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1
mkdir -p "$out"
# The core was not built for this Python: building it takes about a minute.
"$python" -c 'import fastprune' 2>/dev/null || "$python" setup.py -q build_ext --inplace
# Three seconds are kept for the end.
"$python" -m benchmarks.evidence run --device "$device" --workers "${WORKERS:-auto}" --plan plan.toml \
    --model model --cache cache --known known --results "$out" --deadline "$((seconds - (SECONDS - started) - 3))" "${more[@]}"
