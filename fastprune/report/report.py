"""Make the table, the picture and the page of run folders, from their files alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastprune.atomic import write_atomic
from fastprune.data import TextData
from fastprune.errors import UsageError
from fastprune.report.examples import Extremes, extremes, texts_of
from fastprune.report.folder import PAGE, RunFolder, write_picture
from fastprune.report.page import markdown_page
from fastprune.report.plots import choose_run, draw
from fastprune.report.runs import Runs, folder_names, join_runs, read_runs
from fastprune.report.table import markdown_table

LISTED = 10


@dataclass(frozen=True)
class Report:
    """summary: as in ``summary.json``; markdown: its table; picture, page: the paths of ``report.png`` and
    ``report.md``; examples: the most and least useful by name of the run folder."""

    summary: dict[str, Any]
    markdown: str
    picture: Path
    page: Path
    examples: Mapping[str, Extremes]


def write_report(*folders: str | Path, out: str | Path | None = None, data: TextData | None = None) -> Report:
    """Draw ``report.png`` and write ``report.md``, and return what is in them.

    Args:
        folders: run folders; of several, runs are named after their folder.
        out: folder for both files, made if need be; by default the run folder, if there is one only.
        data: what the (single) run was made on: its examples' texts are kept in the folder then. By default those
            kept there before are shown; nothing outside the folders is opened.

    A run that was cut short has no ``summary.json``; its summary is then made from the evaluations so
    far (and not written).  Raises `UsageError` when there is nothing to report, or no place for it.
    """
    opened = [RunFolder.open(folder) for folder in dict.fromkeys(Path(folder) for folder in folders)]
    if not opened:
        raise UsageError("no run folder is given: give one or more.")
    if out is None and len(opened) > 1:
        raise UsageError("several run folders are given: say with --out where their common report goes.")
    target = opened[0].path if out is None else Path(out)
    names = folder_names([folder.path for folder in opened])
    by_name = {name: read_runs(folder) for name, folder in zip(names, opened, strict=True)}
    runs = join_runs(by_name)
    found = {
        name: ends
        for folder, (name, mine) in zip(opened, by_name.items(), strict=True)
        if (ends := _extremes(folder, mine, data)) is not None
    }
    table = markdown_table(runs.summary["rows"])
    target.mkdir(parents=True, exist_ok=True)
    picture = write_picture(target, draw(runs.metrics, runs.scores, runs.title, runs.data_map, runs.baselines))
    page = target / PAGE
    text = markdown_page(runs.title, table, found)
    write_atomic(page, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return Report(runs.summary, table, picture, page, found)


def _extremes(folder: RunFolder, runs: Runs, data: TextData | None) -> Extremes | None:
    chosen = None if runs.scores is None else choose_run(runs.scores, [row["run"] for row in runs.metrics])
    if chosen is None or runs.scores is None:
        return None
    if data is not None:
        folder.write_texts(texts_of(data, extremes(runs.scores, *chosen, count=LISTED)))
    return extremes(runs.scores, *chosen, count=LISTED, texts=folder.read_texts())
