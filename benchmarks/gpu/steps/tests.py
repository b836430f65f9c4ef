"""Step 8: the tests marked gpu, on several processes if pytest-xdist is there."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gpu.sources import ROOT
from gpu.step import Context

FILES = (
    "tests/scores/test_scores_triton.py",
    "tests/selection/test_select_topk_gpu.py",
    "tests/pruning/test_pruner_gpu.py",
)
PROCESSES = 6


def counts(report: Path) -> dict[str, Any]:
    """How many tests passed, failed and were skipped, and the names of those that failed."""
    found: dict[str, Any] = {"passed": 0, "failed": 0, "skipped": 0, "failures": []}
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        bad = [child for child in case if child.tag in ("failure", "error")]
        if bad:
            found["failed"] += 1
            found["failures"].append(f"{case.get('name')}: {(bad[0].get('message') or '')[:160]}")
        elif any(child.tag == "skipped" for child in case):
            found["skipped"] += 1
        else:
            found["passed"] += 1
    found["failures"] = found["failures"][:20]
    return found


def run(context: Context) -> None:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", f"--junitxml={report}"]
        if find_spec("xdist") and not context.rehearsal:
            command += ["-n", str(PROCESSES)]
        try:
            run = subprocess.run([*command, *FILES], cwd=ROOT, timeout=max(context.left - 3, 1), env=os.environ)
            status: int | str = run.returncode
        except subprocess.TimeoutExpired:
            status = "killed"
        context.record("tests", status=status, **(counts(report) if report.exists() else {}))
    if status not in (0, 5):
        raise SystemExit(f"pytest: {status}")
