"""Make a run folder's table and picture again, from its files alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastprune.errors import UsageError
from fastprune.report.folder import METRICS, RunFolder
from fastprune.report.plots import draw
from fastprune.report.summary import last_epoch_rows, summarise
from fastprune.report.table import markdown_table


@dataclass(frozen=True)
class Report:
    """summary: as in ``summary.json``; markdown: its table; picture: the path of ``report.png``."""

    summary: dict[str, Any]
    markdown: str
    picture: Path


def write_report(folder: str | Path) -> Report:
    """Redraw ``report.png`` and return the table.

    A run that was cut short has no ``summary.json``; its summary is then made from the evaluations so
    far (and not written).  Raises `UsageError` when there is nothing to report.
    """
    run_folder = RunFolder.open(folder)
    metrics = run_folder.read_metrics()
    if not metrics:
        raise UsageError(f"{run_folder.path}: {METRICS} holds no evaluation: run again and let it reach one.")
    summary = run_folder.read_summary()
    if summary is None:
        config = run_folder.read_config()
        summary = {key: config.get(key) for key in ("data", "model")}
        summary["rows"] = summarise(last_epoch_rows(metrics))
    title = ", ".join(str(summary[key]) for key in ("data", "model") if summary.get(key))
    picture = run_folder.write_picture(draw(metrics, run_folder.read_scores(), title))
    return Report(summary, markdown_table(summary["rows"]), picture)
