"""What the rows of metrics.jsonl and of summary.json must hold, so that nothing after the reading fails over them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastprune.errors import UsageError
from fastprune.report.summary import QUALITY, SECONDS

Row = dict[str, Any]

_OTHERS = (
    "seconds",
    "train_loss",
    "kept",
    "keep_fraction",
    "cycle",
    "churn",
    "threshold",
    "examples_seen",
    "steps",
    "lr",
)
_NUMBERS = frozenset((*SECONDS, *QUALITY, *_OTHERS))
_SUMMARY_NUMBERS = frozenset((*_NUMBERS, "n_seeds", "time_saved", "cpu_saved")) | {
    f"{name}_std" for name in (*QUALITY, "train_loss", "total_seconds")
}


def check_evaluation(row: Row, where: str) -> Row:
    """A line of metrics.jsonl; `UsageError` unless run, seed, epoch and seconds are there, and numbers are numbers."""
    _check(row, where, _NUMBERS, {"run": str, "seed": int, "epoch": int})
    if row.get("seconds") is None and row.get("total_seconds") is None:
        raise UsageError(f"{where}: no seconds; mend or remove it.")
    return row


def check_summary(summary: Row, where: str) -> Row:
    """summary.json; `UsageError` unless it has rows, each with a run and with numbers for numbers."""
    rows = summary.get("rows")
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise UsageError(f"{where}: 'rows' must be a list of objects; remove the file.")
    for number, row in enumerate(rows, start=1):
        _check(row, f"{where}, row {number}", _SUMMARY_NUMBERS, {"run": str})
    return summary


def _check(row: Mapping[str, Any], where: str, numbers: frozenset[str], kinds: dict[str, type]) -> None:
    for name, kind in kinds.items():
        if not isinstance(row.get(name), kind) or isinstance(row.get(name), bool):
            what = "a text" if kind is str else "a whole number"
            raise UsageError(f"{where}: {name!r} must be {what}, got {_shown(row.get(name))}; mend or remove it.")
    for name in numbers & row.keys():
        value = row[name]
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise UsageError(f"{where}: {name!r} must be a number, got {_shown(value)}; mend or remove it.")
        if isinstance(value, int) and abs(value) >= 2**63:
            raise UsageError(f"{where}: {name!r} does not fit 64 bits; mend or remove it.")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"
