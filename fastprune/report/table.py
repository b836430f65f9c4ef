"""The summary as a table: for the terminal (rich) and for a page (markdown).

Both show the same cells: shares in per cent, times in seconds, "mean ± deviation" over several seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastprune.errors import UsageError
from fastprune.printable import printable

# key, heading, kind; a column without any value in the summary is left out.
COLUMNS = (
    ("run", "Run", "text"),
    ("method", "Method", "text"),
    ("keep_fraction", "Kept %", "share"),
    ("intent_accuracy", "Intent %", "percent"),
    ("slot_f1", "Slot F1 %", "percent"),
    ("exact_match", "Exact %", "percent"),
    ("train_seconds", "Train s", "seconds"),
    ("score_seconds", "Score s", "seconds"),
    ("select_seconds", "Select s", "seconds"),
    ("total_seconds", "Total s", "seconds"),
    ("cpu_seconds", "CPU s", "seconds"),
    ("time_saved", "Saved %", "saved"),
    ("cpu_saved", "CPU saved %", "saved"),
    ("examples_seen", "Examples", "count"),
    ("n_seeds", "Seeds", "count"),
)
TIME_COLUMNS = (
    "train_seconds",
    "score_seconds",
    "select_seconds",
    "total_seconds",
    "cpu_seconds",
    "time_saved",
    "cpu_saved",
    "examples_seen",
)
NOTHING = "–"


def cells(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """(headings, one list of cells per summary row).

    The seeds column appears only when some run has several.
    """
    several = any(row.get("n_seeds", 1) > 1 for row in rows)
    shown = [
        column
        for column in COLUMNS
        if any(row.get(column[0]) is not None for row in rows) and (column[0] != "n_seeds" or several)
    ]
    headings = [heading for _, heading, _ in shown]
    return headings, [[_cell(row, key, kind) for key, _, kind in shown] for row in rows]


def markdown_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A GitHub-flavoured table ending in a newline; numbers are right-aligned."""
    headings, body = cells(rows)
    numeric = [index >= _n_text(headings) for index in range(len(headings))]
    lines = [headings, ["---:" if right else "---" for right in numeric], *body]
    return "".join(f"| {' | '.join(in_a_cell(cell) for cell in line)} |\n" for line in lines)


def rich_table(summary: Mapping[str, Any]) -> Any:
    """What to print of ``summary.json`` with ``rich.console.Console``.

    Two tables, quality above time, because one of that many columns does not fit a terminal of 80.
    """
    try:
        from rich.console import Group
        from rich.text import Text
    except ImportError:
        raise UsageError("the table needs the rich package: pip install 'fastprune[demo]'.") from None
    # The deviation of the total and the method, which the run's name says, would push other columns off the screen.
    rows = [{key: value for key, value in row.items() if key != "total_seconds_std"} for row in summary["rows"]]
    headings, body = cells(rows)
    names = ", ".join(printable(summary[key]) for key in ("data", "model") if summary.get(key))
    time_headings = {heading for key, heading, _ in COLUMNS if key in TIME_COLUMNS}
    run, *others = range(len(headings))
    elsewhere = time_headings | {"Method"}
    quality = [run, *(index for index in others if headings[index] not in elsewhere)]
    time = [run, *(index for index in others if headings[index] in time_headings)]
    parts = [_rich_part(headings, body, indices) for indices in (quality, time)]
    return Group(*([Text(names, style="bold")] if names else []), *parts)


def _rich_part(headings: Sequence[str], body: Sequence[Sequence[str]], indices: Sequence[int]) -> Any:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    n_text = _n_text(headings)
    for index in indices:
        # A word a line keeps narrow numbers in narrow columns.
        heading = headings[index].replace(" ", "\n")
        # A long name is folded before numbers are cut.
        table.add_column(
            heading, justify="left" if index < n_text else "right", no_wrap=index >= n_text, overflow="fold"
        )
    for line in body:
        table.add_row(*(escape(printable(line[index])) for index in indices))
    return table


def _n_text(headings: Sequence[str]) -> int:
    text_headings = {heading for _, heading, kind in COLUMNS if kind == "text"}
    return sum(heading in text_headings for heading in headings)


def _cell(row: Mapping[str, Any], key: str, kind: str) -> str:
    value = row.get(key)
    if value is None:
        return NOTHING
    if kind == "text":
        return str(value)
    if kind == "count":
        return f"{value:,.0f}"
    if kind == "share":
        return f"{100 * value:.4g}"
    if kind == "saved":
        return f"{100 * value:.1f}"
    scale, digits = (100, 2) if kind == "percent" else (1, 1)
    text = f"{scale * value:.{digits}f}"
    deviation = row.get(f"{key}_std")
    if row.get("n_seeds", 1) > 1 and deviation is not None:
        text += f" ± {scale * deviation:.{digits}f}"
    return text


def in_a_cell(text: str) -> str:
    """Text as itself in a Markdown table: no cell ends with it, and no link, image or tag begins."""
    for mark in "\\|[]`*_":
        text = text.replace(mark, "\\" + mark)
    return printable(text.replace("<", "&lt;"))
