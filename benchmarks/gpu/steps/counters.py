"""Step 11: what the hardware counted while el2n ran, read by ncu. Where it cannot read them, one line says so."""

from __future__ import annotations

import csv
import io
import shutil
import subprocess
import sys
from typing import Any

from gpu.step import Context

METRICS = (
    "gpu__time_duration.sum",
    "dram__bytes_read.sum",
    "dram__throughput.avg.pct_of_peak_sustained_elapsed",
    "lts__t_bytes.sum",
    "smsp__inst_executed.sum",
    "smsp__issue_active.avg.pct_of_peak_sustained_active",
    "sm__warps_active.avg.pct_of_peak_sustained_active",
    "launch__registers_per_thread",
)
# Where one of these names is unknown, ncu reads none of them; the plainest ones are tried then.
PLAIN = METRICS[:2]
PROGRAM = """
import torch, fastprune
logits = torch.empty(8192, 128256, dtype=torch.bfloat16, device="cuda").normal_(0, 3)
labels = torch.randint(128256, (8192,), device="cuda")
for _ in range(3):
    fastprune.el2n(logits, labels)
torch.cuda.synchronize()
"""


def parse(text: str) -> dict[str, Any]:
    """Metric -> value with its unit, from ncu's CSV, which comes after the program's own lines."""
    lines = text.splitlines()
    start = next((i for i, line in enumerate(lines) if line.startswith('"ID"')), None)
    if start is None:
        return {}
    rows = csv.DictReader(io.StringIO("\n".join(lines[start:])))
    return {row["Metric Name"]: f"{row['Metric Value']} {row['Metric Unit']}".strip() for row in rows}


def read(ncu: str, metrics: tuple[str, ...]) -> tuple[dict[str, Any], str]:
    """(what ncu read of the third launch, its last words); the first two launches load the kernel."""
    # The card's clocks are left alone.
    command = [ncu, "--clock-control", "none", "--csv", "--metrics", ",".join(metrics)]
    command += ["--kernel-name", "regex:long_rows_kernel", "--launch-skip", "2", "--launch-count", "1"]
    run = subprocess.run([*command, sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    print(run.stdout, run.stderr)
    lines = (run.stdout + run.stderr).strip().splitlines() or ["nothing"]
    return parse(run.stdout), lines[-1]


def run(context: Context) -> None:
    ncu = shutil.which("ncu")
    if ncu is None:
        context.record("counters", skipped="ncu is not here")
        return
    for metrics in (METRICS, PLAIN):
        found, why = read(ncu, metrics)
        if found:
            context.record("counters", kernel="long_rows_kernel", size="8,192 x 128,256 bf16", metrics=found)
            return
    context.record("counters", skipped=f"ncu read no counters: {why[:160]}")
