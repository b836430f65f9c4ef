"""Which runs of a folder have not reached their end: their figures must not be averaged with those of finished ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastprune.app.report.json_types import Row


def unfinished_runs(metrics: Sequence[Mapping[str, Any]], config: Mapping[str, Any]) -> list[Row]:
    """The runs whose last evaluation is before the end that ``config.json`` names, in order of first appearance.

    A run ends after ``epochs`` epochs, or after ``max_examples`` examples where its entry of ``runs`` has that number.
    A run without an entry, as in a folder that names no runs, counts as finished.

    Returns:
        A row for each: run, seed, and the epoch of its last evaluation.

    Example:
        >>> config = {"epochs": 3, "runs": [{"name": "full", "seed": 0}, {"name": "full", "seed": 1}]}
        >>> unfinished_runs([{"run": "full", "seed": 0, "epoch": 3}, {"run": "full", "seed": 1, "epoch": 2}], config)
        [{'run': 'full', 'seed': 1, 'epoch': 2}]
    """
    entries = config.get("runs")
    ends: dict[tuple[object, object], object] = {}
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and isinstance(entry.get("name"), str) and isinstance(entry.get("seed"), int):
            ends[entry["name"], entry["seed"]] = entry.get("max_examples")
    epoch: dict[tuple[str, int], int] = {}
    examples: dict[tuple[str, int], float] = {}
    for row in metrics:
        key = row["run"], row["seed"]
        epoch[key] = max(row["epoch"], epoch.get(key, 0))
        examples[key] = max(row.get("examples_seen") or 0, examples.get(key, 0))
    found = []
    for key, last in epoch.items():
        if key not in ends:
            continue
        most, epochs = ends[key], config.get("epochs")
        short = isinstance(most, int) and examples[key] < most if most else isinstance(epochs, int) and last < epochs
        if short:
            found.append({"run": key[0], "seed": key[1], "epoch": last})
    return found
