"""A pytest plugin: a line a test as soon as it has ended, so that a run that is killed has told what it found.

pytest -p gpu.lines_of_tests      writes OUTCOME<tab>TEST<tab>FIRST LINE OF THE ERROR to $GPU_TEST_LINES
"""

from __future__ import annotations

import os
from typing import Any


def pytest_runtest_logreport(report: Any) -> None:
    """Called for each part of a test; with pytest-xdist in the workers too, which keep silent."""
    path = os.environ.get("GPU_TEST_LINES")
    if path is None or "PYTEST_XDIST_WORKER" in os.environ:
        return
    if report.when == "call" or report.outcome != "passed":
        crash = getattr(report.longrepr, "reprcrash", None)
        why = str(getattr(crash, "message", "")).split("\n")[0] if report.outcome == "failed" else ""
        with open(path, "a") as file:
            file.write(f"{report.outcome}\t{report.nodeid}\t{why}\n")


def counts(text: str) -> dict[str, Any]:
    """How many tests passed, failed and were skipped, and the first of those that failed."""
    found: dict[str, Any] = {"passed": 0, "failed": 0, "skipped": 0, "failures": []}
    for line in text.splitlines():
        outcome, _, rest = line.partition("\t")
        if outcome in found:
            found[outcome] += 1
        if outcome == "failed" and len(found["failures"]) < 20:
            name, _, why = rest.partition("\t")
            found["failures"].append(f"{name.split('::')[-1]}: {why[:160]}")
    return found
