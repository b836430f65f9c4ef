"""Run folders read together: one set of rows, scores and data maps, each run under a name of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastprune.errors import UsageError
from fastprune.report.folder import METRICS, SUMMARY, RunFolder
from fastprune.report.rows import check_evaluation, check_summary
from fastprune.report.summary import BASELINE, last_epoch_rows, summarise

Row = dict[str, Any]
Table = dict[str, np.ndarray]


@dataclass(frozen=True)
class Runs:
    """metrics: rows of ``metrics.jsonl``; summary: as ``summary.json``; scores, data_map: columns, None without any;
    baselines: the names of the runs on all data."""

    metrics: list[Row]
    summary: Row
    scores: Table | None
    data_map: Table | None
    baselines: frozenset[str] = frozenset((BASELINE,))

    @property
    def title(self) -> str:
        """Data and model."""
        return ", ".join(str(self.summary[key]) for key in ("data", "model") if self.summary.get(key))


def read_runs(folder: RunFolder) -> Runs:
    """One folder; its summary, while there is none, is made of the evaluations so far.

    Raises:
        UsageError: there is no evaluation yet, or a file is damaged.
    """
    metrics = folder.read_metrics()
    if not metrics:
        raise UsageError(f"{folder.path}: {METRICS} holds no evaluation: run again and let it reach one.")
    for number, row in enumerate(metrics, start=1):
        check_evaluation(row, f"{folder.path / METRICS}, row {number}")
    summary = folder.read_summary()
    if summary is not None:
        check_summary(summary, str(folder.path / SUMMARY))
    else:
        config = folder.read_config()
        summary = {key: config.get(key) for key in ("data", "model")}
        summary["rows"] = summarise(last_epoch_rows(metrics))
    return Runs(metrics, summary, folder.read_scores(), folder.read_data_map())


def join_runs(runs: Mapping[str, Runs]) -> Runs:
    """Several folders by name; a run is called ``folder: run`` then."""
    if len(runs) == 1:
        return next(iter(runs.values()))

    def named(folder: str, rows: Sequence[Row]) -> list[Row]:
        return [{**row, "run": f"{folder}: {row['run']}"} for row in rows]

    summary: Row = {
        key: ", ".join(dict.fromkeys(str(r.summary[key]) for r in runs.values() if r.summary.get(key)))
        for key in ("data", "model")
    }
    summary["rows"] = [row for name, r in runs.items() for row in named(name, r.summary["rows"])]
    return Runs(
        [row for name, r in runs.items() for row in named(name, r.metrics)],
        summary,
        _join_tables({name: r.scores for name, r in runs.items()}),
        _join_tables({name: r.data_map for name, r in runs.items()}),
        frozenset(f"{name}: {run}" for name, r in runs.items() for run in r.baselines),
    )


def folder_names(paths: Sequence[Path]) -> list[str]:
    """What to call each folder: its own name, or its path where two share one."""
    names = [path.resolve().name for path in paths]
    return [name if names.count(name) == 1 else str(path) for name, path in zip(names, paths, strict=True)]


def _join_tables(tables: Mapping[str, Table | None]) -> Table | None:
    parts = [
        {**table, "run": np.array([f"{name}: {run}" for run in table["run"]], dtype=object)}
        for name, table in tables.items()
        if table is not None
    ]
    return {column: np.concatenate([part[column] for part in parts]) for column in parts[0]} if parts else None
