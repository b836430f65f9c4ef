"""Step 9: the tests marked gpu, on several processes if pytest-xdist is there."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from gpu.lines_of_tests import counts
from gpu.sources import ROOT
from gpu.step import Context

FILES = (
    "tests/scores/test_scores_triton.py",
    "tests/selection/test_select_topk_gpu.py",
    "tests/pruning/test_pruner_gpu.py",
)
PROCESSES = 8


def run(context: Context) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "-p", "gpu.lines_of_tests"]
    if find_spec("xdist") and not context.rehearsal:
        command += ["-n", str(PROCESSES)]
    status: int | str = "killed"
    with tempfile.TemporaryDirectory() as folder:
        lines = Path(folder) / "lines"
        lines.touch()
        env = os.environ | {"GPU_TEST_LINES": str(lines)}
        try:
            # Ended here before the step is, so that its counts are recorded.
            status = subprocess.run([*command, *FILES], cwd=ROOT, env=env, timeout=max(context.left - 8, 1)).returncode
        except subprocess.TimeoutExpired:
            pass
        context.record("tests", status=status, **counts(lines.read_text()))
    if status not in (0, 5):
        raise SystemExit(f"pytest: {status}")
