"""Makes the tables, the picture and the page of run folders, from their files alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastprune.app.data.types import TextData
from fastprune.app.report.examples import Extremes, extremes, texts_of
from fastprune.app.report.folder import HTML, PAGE, PICTURE, RunFolder
from fastprune.app.report.histograms import choose_run
from fastprune.app.report.html import html_page
from fastprune.app.report.mark import COMMENT, PNG_FIELDS, refuse_foreign
from fastprune.app.report.page import markdown_page
from fastprune.app.report.plots import png_of
from fastprune.app.report.runs import Runs, folder_names, join_runs, read_runs
from fastprune.app.report.table import markdown_tables
from fastprune.errors import UsageError
from fastprune.files.atomic import write_atomic

LISTED = 10


@dataclass(frozen=True)
class Report:
    """What a report shows, and where it lies.

    Attributes:
        summary: what ``summary.json`` holds.
        markdown: its tables.
        picture, page, html: the paths of ``report.png``, ``report.md`` and ``report.html``.
        examples: the most and least useful, by name of the run folder.
    """

    summary: dict[str, Any]
    markdown: str
    picture: Path
    page: Path
    html: Path
    examples: Mapping[str, Extremes]


def write_report(*folders: str | Path, out: str | Path | None = None, data: TextData | None = None) -> Report:
    """Draw ``report.png``, write ``report.md`` and ``report.html``, and return what is in them.

    Args:
        folders: run folders.  With several, runs are named after their folder.
        out: folder for the files, made if need be.  By default the run folder, if there is only one.
        data: what the (single) run was made on.  Its examples' texts are then kept in the folder.  By default those
            kept there before are shown, and nothing outside the folders is opened.

    Raises:
        UsageError: there is nothing to report, a file is damaged, or other people's files are in the way.
    """
    opened = [RunFolder.open(folder) for folder in dict.fromkeys(Path(folder) for folder in folders)]
    if not opened:
        raise UsageError("no run folder is given: give one or more.")
    if out is None and len(opened) > 1:
        raise UsageError("several run folders are given: say with --out where their common report goes.")
    target = opened[0].path if out is None else Path(out)
    refuse_foreign(target)
    names = folder_names([folder.path for folder in opened])
    by_name = {name: read_runs(folder) for name, folder in zip(names, opened, strict=True)}
    runs = join_runs(by_name)
    found: dict[str, Extremes] = {}
    classes: dict[str, dict[str, Any]] = {}
    for folder, (name, mine) in zip(opened, by_name.items(), strict=True):
        ends, of_model = _extremes(folder, mine, data), folder.read_classes()
        found |= {} if ends is None else {name: ends}
        classes |= {name: of_model} if of_model else {}
    png = png_of(runs, PNG_FIELDS)
    page = markdown_page(runs.title, runs.summary, found, classes)
    html = html_page(page, runs.title or "Report", {PICTURE: png})
    # All is made before the first is written: what fails over the contents leaves the old report whole.
    files = {PICTURE: png, PAGE: f"{page}{COMMENT}".encode(), HTML: f"{html}{COMMENT}".encode()}
    target.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        _write(target / name, content)
    return Report(runs.summary, markdown_tables(runs.summary), target / PICTURE, target / PAGE, target / HTML, found)


def _write(path: Path, content: bytes) -> None:
    write_atomic(path, lambda temporary: temporary.write_bytes(content))


def _extremes(folder: RunFolder, runs: Runs, data: TextData | None) -> Extremes | None:
    chosen = None if runs.scores is None else choose_run(runs.scores, [row["run"] for row in runs.metrics])
    if chosen is None or runs.scores is None:
        return None
    if data is not None:
        folder.write_texts(texts_of(data, extremes(runs.scores, *chosen, count=LISTED)))
    return extremes(runs.scores, *chosen, count=LISTED, texts=folder.read_texts())
