"""Checks what the files of a run folder hold, so that nothing after the reading fails over it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fastprune.app.measures import MEASURES
from fastprune.app.report.json_types import Row
from fastprune.app.report.summary import SECONDS
from fastprune.errors import UsageError

_OTHERS = (
    "seconds",
    "train_loss",
    "kept",
    "keep_fraction",
    "cycle",
    "churn",
    "threshold",
    "examples_seen",
    "tokens_seen",
    "steps",
    "lr",
)
LARGEST = 1e100
"""Sums and squares of larger numbers overflow."""
_NUMBERS = {name: LARGEST for name in (*SECONDS, *_OTHERS)} | {
    name: 1.0 + 1e-9 if measure.percent else LARGEST for name, measure in MEASURES.items()
}
_RATES = {"precision": 1.0, "recall": 1.0, "f1": 1.0, "support": LARGEST}


def check_evaluation(row: Row, where: str) -> Row:
    """Return a line of metrics.jsonl with its split, ``test`` by default.

    Raises:
        UsageError: run, seed, epoch or seconds are missing, or a number is none.
    """
    row = {"split": "test", **row}
    _check(row, where, _NUMBERS, {"run": str, "seed": int, "epoch": int, "split": str})
    if not isinstance(row.get("method", ""), str):
        raise UsageError(f"{where}: 'method' must be a text, got {_shown(row['method'])}; mend or remove it.")
    if row.get("seconds") is None and row.get("total_seconds") is None:
        raise UsageError(f"{where}: no seconds; mend or remove it.")
    return row


def check_config(config: Row, where: str) -> Row:
    """config.json, if its quality measures, reported splits and choosing split are what they should be.

    Raises:
        UsageError: they are not.
    """
    for name, known in (("metrics", MEASURES), ("reported", None)):
        names = config.get(name) or []
        if not isinstance(names, list) or not all(isinstance(item, str) for item in names):
            raise UsageError(f"{where}: {name!r} must be a list of names, got {_shown(names)}; mend it.")
        unknown = [item for item in names if known is not None and item not in known]
        if unknown:
            raise UsageError(f"{where}: {_shown(unknown[0])} is no quality measure; choose from {', '.join(MEASURES)}.")
    if not isinstance(config.get("best") or "", str):
        raise UsageError(f"{where}: 'best' must be the name of a split, got {_shown(config['best'])}; mend it.")
    return config


def check_model_run(held: Any, where: str) -> Row | None:
    """Return ``model_run`` of summary.json: run, seed and epoch, or None."""
    if held is not None and not isinstance(held, dict):
        raise UsageError(f"{where}: 'model_run' must be an object, got {_shown(held)}; remove the file.")
    if held:
        _check(held, f"{where}, model_run", {}, {"run": str, "seed": int, "epoch": int})
    return held or None


def check_classes(classes: Row, where: str) -> dict[str, Row]:
    """Return classes.json.

    Raises:
        UsageError: a class lacks precision, recall, f1 or support.
    """
    for name, row in classes.items():
        here = f"{where}, {_shown(name)}"
        if not isinstance(row, dict) or any(row.get(rate) is None for rate in _RATES):
            raise UsageError(f"{here}: must have {', '.join(_RATES)}; remove the file.")
        _check(row, here, _RATES, {})
    return classes


def _check(row: Mapping[str, Any], where: str, numbers: Mapping[str, float], kinds: Mapping[str, type]) -> None:
    for name, kind in kinds.items():
        if not isinstance(row.get(name), kind) or isinstance(row.get(name), bool):
            what = "a text" if kind is str else "a whole number"
            raise UsageError(f"{where}: {name!r} must be {what}, got {_shown(row.get(name))}; mend or remove it.")
    for name, value in row.items():
        largest = numbers.get(name, LARGEST if name in kinds else None)
        if largest is None or value is None or isinstance(value, str) and name in kinds:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not _finite(value):
            raise UsageError(f"{where}: {name!r} must be a number, got {_shown(value)}; mend or remove it.")
        if isinstance(value, int) and abs(value) >= 2**63:
            raise UsageError(f"{where}: {name!r} does not fit 64 bits; mend or remove it.")
        if abs(value) > largest:
            raise UsageError(f"{where}: {name!r} must lie in ±{largest:g}, got {_shown(value)}; mend or remove it.")


def _finite(value: float) -> bool:
    return isinstance(value, int) or math.isfinite(value)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"
