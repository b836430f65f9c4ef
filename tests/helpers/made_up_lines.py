"""Result lines as a run would write them, without the run."""

from __future__ import annotations

from typing import Any

from benchmarks.evidence.loop import LOOP_VERSION
from benchmarks.evidence.spec import Run, method_of


def line_of(
    run: Run, figure: float = 0.5, kind: str = "some-cpu", threads: int = 1, scale: float = 1.0
) -> dict[str, Any]:
    """A line of 10 batches of width 8 and 5 of width 16, all of 32 examples, times ``scale``."""
    widths = {"8": [round(10 * scale), round(320 * scale)], "16": [round(5 * scale), round(160 * scale)]}
    counts = {"examples": round(480 * scale), "tokens": 4000, "padded_tokens": round(5120 * scale)}
    work = {"batches": 15, **counts, "widths": widths}
    none = {"batches": 0, "examples": 0, "tokens": 0, "padded_tokens": 0, "widths": {}}
    return {
        "key": run.key,
        "group": run.group,
        "label": run.label,
        "arguments": run.arguments,
        "method_settings": "",
        "rule_version": method_of(run).rule_version,
        "loop_version": LOOP_VERSION,
        "metric": "exact_match",
        "figure": figure,
        "epochs": [{"epoch": 1, "exact_match": figure, "kept": 1.0, "churn": 0.0, "threshold": None}],
        "counts": {"train": work, "score": none, "cpu_seconds": {"train": 3.0 * scale, "score": 0.0, "select": 0.1}},
        "machine": {"kind": kind, "device": kind, "threads": threads, "precision": run.precision},
        "versions": {"torch": "2.13.0"},
        "commits": ["0123456789ab"],
        "finished": "2026-11-26T14:00:00+00:00",
    }
