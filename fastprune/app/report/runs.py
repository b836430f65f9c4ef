"""Reads run folders together: one set of rows, scores and data maps, each run under a name of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastprune.app.report.folder import METRICS, SUMMARY, RunFolder
from fastprune.app.report.json_types import Row
from fastprune.app.report.rows import check_model_run
from fastprune.app.report.summary import BASELINE, make_summary
from fastprune.errors import UsageError

RunColumns = dict[str, np.ndarray]


@dataclass(frozen=True)
class Runs:
    """The runs of one or several folders.

    Attributes:
        metrics: rows of ``metrics.jsonl``.
        summary: as ``summary.json``.  Of several folders it holds their own by name as ``folders``.
        scores, data_map: columns, None without any.
        baselines: the names of the runs on all data.
    """

    metrics: list[Row]
    summary: Row
    scores: RunColumns | None = None
    data_map: RunColumns | None = None
    baselines: frozenset[str] = frozenset((BASELINE,))

    @property
    def title(self) -> str:
        """Data and model."""
        return ", ".join(str(self.summary[key]) for key in ("data", "model") if self.summary.get(key))

    @property
    def judged(self) -> list[Row]:
        """The evaluations that decide, of every run on its folder's deciding split.

        The quality measure that decides is in their ``decides``.
        """
        folders = self.summary.get("folders")
        judged = []
        for row in self.metrics:
            summary = folders[row["folder"]] if folders else self.summary
            if row["split"] == summary["split"]:
                judged.append({**row, "decides": row.get(summary["deciding"])})
        return judged


def read_runs(folder: RunFolder) -> Runs:
    """Read one folder.

    Its summary is made of its evaluations.  While the run goes on there is no summary file, and an earlier version's
    says less.

    Raises:
        UsageError: there is no evaluation yet, or a file is damaged.
    """
    metrics, config = folder.read_metrics(), folder.read_config()
    if not metrics:
        raise UsageError(f"{folder.path}: {METRICS} holds no evaluation: run again and let it reach one.")
    held = check_model_run((folder.read_summary() or {}).get("model_run"), str(folder.path / SUMMARY))
    summary = make_summary(metrics, config, held)
    if not summary["rows"]:
        what = f"{METRICS} holds no evaluation on {summary['split']!r}, which decides"
        raise UsageError(f"{folder.path}: {what}: mend config.json or run again.")
    # A curve is a mean over seeds: the seeds that have ended draw it, and one under way only where none has ended.
    ended = {row["run"] for row in summary["rows"]}
    under_way = {(run["run"], run["seed"]) for run in summary["unfinished"]} if summary["left_out"] else set()
    drawn = [row for row in metrics if row["run"] not in ended or (row["run"], row["seed"]) not in under_way]
    return Runs(drawn, summary, folder.read_scores(), folder.read_data_map())


def join_runs(runs: Mapping[str, Runs]) -> Runs:
    """Join several folders by name.  A run is called ``folder: run`` then."""
    if len(runs) == 1:
        return next(iter(runs.values()))

    def named(folder: str, rows: Sequence[Row]) -> list[Row]:
        return [{**row, "run": f"{folder}: {row['run']}", "folder": folder} for row in rows]

    folders = {name: r.summary for name, r in runs.items()}
    summary: Row = {
        key: ", ".join(dict.fromkeys(str(folder[key]) for folder in folders.values() if folder.get(key)))
        for key in ("data", "model")
    }
    summary["folders"] = folders
    summary["metrics"] = list(dict.fromkeys(metric for folder in folders.values() for metric in folder["metrics"]))
    summary["rows"] = [row for name, folder in folders.items() for row in named(name, folder["rows"])]
    summary["others"] = {}
    for name, folder in folders.items():
        for split, rows in folder["others"].items():
            summary["others"].setdefault(split, []).extend(named(name, rows))
    return Runs(
        [row for name, r in runs.items() for row in named(name, r.metrics)],
        summary,
        _join_tables({name: r.scores for name, r in runs.items()}),
        _join_tables({name: r.data_map for name, r in runs.items()}),
        frozenset(f"{name}: {run}" for name, r in runs.items() for run in r.baselines),
    )


def folder_names(paths: Sequence[Path]) -> list[str]:
    """Return what to call each folder: its own name, or its path where two share one."""
    names = [path.resolve().name for path in paths]
    return [name if names.count(name) == 1 else str(path) for name, path in zip(names, paths, strict=True)]


def _join_tables(tables: Mapping[str, RunColumns | None]) -> RunColumns | None:
    parts = [
        {**table, "run": np.array([f"{name}: {run}" for run in table["run"]], dtype=object)}
        for name, table in tables.items()
        if table is not None
    ]
    return {column: np.concatenate([part[column] for part in parts]) for column in parts[0]} if parts else None
