"""Shows the summary as tables: for the terminal (rich) and for a page (Markdown).

Both show the same cells: shares in per cent, times in seconds, "mean ± deviation" over several seeds.  The heading of
the deciding quality measure is marked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastprune.app.measures import MEASURES
from fastprune.app.printable import printable
from fastprune.app.report.headline import headline, notes
from fastprune.errors import UsageError


@dataclass(frozen=True)
class Column:
    """``key`` of the summary's rows; ``kind``: text, share, quality, number, seconds, saved or count."""

    key: str
    heading: str
    kind: str
    decides: bool = False


NAME_COLUMNS = (Column("run", "Run", "text"), Column("method", "Method", "text"))
KEPT_COLUMN = Column("keep_fraction", "Kept %", "share")
TIME = (
    Column("total_seconds", "Total s", "seconds"),
    Column("time_saved", "Saved %", "saved"),
    Column("cpu_seconds", "CPU s", "seconds"),
    Column("cpu_saved", "CPU saved %", "saved"),
    Column("train_seconds", "Train s", "seconds"),
    Column("score_seconds", "Score s", "seconds"),
    Column("select_seconds", "Select s", "seconds"),
    Column("examples_seen", "Examples", "count"),
    Column("tokens_per_second", "Tokens/s", "count"),
)
SEEDS = Column("n_seeds", "Seeds", "count")
NOTHING = "–"
RUN_WIDTH, GAP = 24, 2


def quality_columns(summary: Mapping[str, Any]) -> list[Column]:
    """One a quality measure, the deciding one first."""
    folders = (summary.get("folders") or {"": summary}).values()
    deciding = {folder["deciding"] for folder in folders}
    kinds = {name: "quality" if MEASURES[name].percent else "number" for name in summary["metrics"]}
    return [Column(name, MEASURES[name].heading, kinds[name], name in deciding) for name in summary["metrics"]]


def filled(columns: Iterable[Column], rows: Sequence[Mapping[str, Any]]) -> list[Column]:
    """Return the columns in which some row has a value.  That of the seeds is shown only if the runs differ in it."""
    differ = len({row.get("n_seeds") for row in rows}) > 1
    return [c for c in columns if any(row.get(c.key) is not None for row in rows) and (c is not SEEDS or differ)]


def markdown_tables(summary: Mapping[str, Any]) -> str:
    """GitHub-flavoured tables, one a reported split, each followed by what must be known to read it."""
    measures, rows = quality_columns(summary), summary["rows"]
    parts = [_markdown([*NAME_COLUMNS, KEPT_COLUMN, *measures, *TIME, SEEDS], rows)]
    parts += [f"{as_text(note)}\n" for note in notes(summary)]
    for split, others in summary["others"].items():
        parts += [f"On {as_text(split)}:\n", _markdown([NAME_COLUMNS[0], *measures, SEEDS], others)]
    return "\n".join(parts)


def _markdown(columns: Iterable[Column], rows: Sequence[Mapping[str, Any]]) -> str:
    shown = filled(columns, rows)
    body = [[as_text(cell(row, column)) for column in shown] for row in rows]
    headings = [f"**{column.heading}**" if column.decides else column.heading for column in shown]
    return markdown_lines(headings, [column.kind != "text" for column in shown], body)


def markdown_lines(headings: Sequence[str], numeric: Sequence[bool], body: Sequence[Sequence[str]]) -> str:
    """Return a table ending in a newline, with numbers aligned to the right."""
    lines = [headings, ["---:" if right else "---" for right in numeric], *body]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def rich_table(summary: Mapping[str, Any]) -> Any:
    """Return what to print with ``rich.console.Console``: the headline, and tables of the console's width.

    Quality stands above time.  Columns that do not fit go into a further table.
    """
    try:
        from rich.console import Group
        from rich.text import Text
    except ImportError:
        raise UsageError("the table needs the rich package: pip install 'fastprune[demo]'.") from None
    names = ", ".join(printable(summary[key]) for key in ("data", "model") if summary.get(key))
    measures, rows = quality_columns(summary), summary["rows"]
    # The method, which the run's name says, and the total's deviation would push other columns off the screen.
    without = [{key: value for key, value in row.items() if key != "total_seconds_std"} for row in rows]
    return Group(
        *([Text(names, style="bold")] if names else []),
        *(Text(printable(sentence)) for sentence in headline(summary)),
        _Tables([KEPT_COLUMN, *measures, SEEDS], rows),
        *(
            part
            for split, others in summary["others"].items()
            for part in (Text(f"On {printable(split)}:"), _Tables(measures, others))
        ),
        _Tables(TIME, without),
        *(Text(printable(f"* {note}" if note.startswith("Decides") else note)) for note in notes(summary)),
    )


@dataclass(frozen=True)
class _Tables:
    """As many tables as it takes to show the columns in the width there is.  Each begins with the run's name."""

    columns: Sequence[Column]
    rows: Sequence[Mapping[str, Any]]

    def __rich_console__(self, console: Any, options: Any) -> Any:
        shown = filled(self.columns, self.rows)
        widths = [max(map(len, (*_heading(c).split("\n"), *(cell(row, c) for row in self.rows)))) + GAP for c in shown]
        run = min(RUN_WIDTH, max(len(printable(row["run"])) for row in self.rows)) + GAP
        for start, stop in packed(widths, options.max_width - run) if shown else ():
            yield self._table(shown[start:stop])

    def _table(self, columns: Sequence[Column]) -> Any:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        # A long name is folded before numbers are cut.
        table.add_column("Run", overflow="fold", max_width=RUN_WIDTH)
        for column in columns:
            table.add_column(_heading(column), justify="right", no_wrap=True)
        for row in self.rows:
            cells = [printable(cell(row, column)) for column in (NAME_COLUMNS[0], *columns)]
            table.add_row(*map(Text, cells))
        return table


def packed(widths: Sequence[int], room: int) -> list[tuple[int, int]]:
    """Return where to cut a row of columns, so that each part fits into the room.

    A part has at least one column.

    >>> packed([4, 4, 4, 9], 8)
    [(0, 2), (2, 3), (3, 4)]
    """
    cuts, used = [0], 0
    for place, width in enumerate(widths):
        if used + width > room and place > cuts[-1]:
            cuts.append(place)
            used = 0
        used += width
    return list(zip(cuts, [*cuts[1:], len(widths)], strict=True))


def _heading(column: Column) -> str:
    # A word a line keeps narrow numbers in narrow columns.
    return column.heading.replace(" ", "\n") + ("*" if column.decides else "")


def cell(row: Mapping[str, Any], column: Column) -> str:
    """Return a row's value as it is shown."""
    value = row.get(column.key)
    if value is None:
        return NOTHING
    if column.kind == "text":
        return str(value)
    if column.kind == "count":
        return f"{value:,.0f}"
    if column.kind == "share":
        return f"{100 * value:.4g}"
    if column.kind == "saved":
        return f"{100 * value:.1f}"
    scale, digits = {"quality": (100, 2), "number": (1, 4)}.get(column.kind, (1, 1))
    text = f"{scale * value:.{digits}f}"
    deviation = row.get(f"{column.key}_std")
    if row.get("n_seeds", 1) > 1 and deviation is not None:
        text += f" ± {scale * deviation:.{digits}f}"
    return text


def as_text(text: object) -> str:
    """Return text that means itself in Markdown, in a table or not.

    No cell ends with it, and no link, image or tag begins.
    """
    text = str(text)
    for mark in "\\|[]`*_":
        text = text.replace(mark, "\\" + mark)
    return printable(text.replace("&", "&amp;").replace("<", "&lt;"))
