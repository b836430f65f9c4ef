"""Makes a split of one task from a table and its columns."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial

from fastprune.app.data.columns import Columns, listing
from fastprune.app.data.labels import (
    UNLABELLED,
    Guess,
    guess_kind,
    is_withheld,
    minus_one_is_nothing,
    number_of,
    one_spelling,
    read_label,
)
from fastprune.app.data.table import Cell, Table
from fastprune.app.data.types import Kind, Label, Split
from fastprune.app.data.words import check_tags, clean_text, is_bio
from fastprune.errors import UsageError, shown

NO_BREAK = "\u00a0"


@dataclass(frozen=True)
class Read:
    """A split, and the number of rows that were left out of it, by the reason ("text", "label")."""

    split: Split
    left_out: Counter[str]

    def note(self, where: str) -> str | None:
        """Say in one sentence what was left out.  None if nothing was."""
        if not self.left_out:
            return None
        counts = " and ".join(f"{count} without {what}" for what, count in sorted(self.left_out.items()))
        return f"{where}: {counts} of {self.left_out.total() + len(self.split)} rows are left out"


def kind_in(table: Table, columns: Columns) -> Guess:
    """Guess what the training table is for.

    Raises:
        UsageError: it has no label, or the labels leave the task open.
    """
    if columns.tags is not None:
        if columns.label is None:
            return Guess("tokens", "each word has a tag and the text no label")
        return Guess("joint", "each word has a tag and the text a label")
    if columns.label is None:
        raise UsageError(
            f"{table.where}: no column has a usual name of a label: set --label-column, or --tags-column, to one of "
            f"{listing(table.columns)}."
        )
    cells = table.columns[columns.label]
    nothing = minus_one_is_nothing(cells)
    given = [cell for cell in cells if not (is_withheld(cell) if nothing else cell is None) and cell != ""]
    if not given:
        what = f"column {shown(columns.label)} has no label in any row"
        raise UsageError(f"{table.where}: {what}: choose another column.")
    return guess_kind(given, declared=columns.label in table.classes, where=table.where)


@dataclass(frozen=True)
class Reading:
    """How labels are read, which the training table decides for every split.

    Attributes:
        minus_one: whether -1 stands for no label.
        numbers: whether every class is a number, so that "1.0" and "1" are one.
    """

    minus_one: bool
    numbers: bool


def reading_of(table: Table, columns: Columns, kind: Kind) -> Reading:
    """Return how the labels of this table, and so of every split, are read."""
    cells = [] if columns.label is None or kind == "tokens" else table.columns[columns.label]
    texts = [cell.strip() for cell in cells if isinstance(cell, str) and cell.strip()]
    return Reading(minus_one_is_nothing(cells), all(number_of(text) is not None for text in texts))


def read_split(table: Table, columns: Columns, kind: Kind, reading: Reading, *, labels_needed: bool = False) -> Read:
    """Read the examples of a table that have what the task needs.

    A table all of whose labels are withheld, or that has no such column, becomes an unlabelled split.

    Args:
        table: the rows.
        columns: which of its columns hold what.
        kind: the task.
        reading: how labels are read.
        labels_needed: refuse such a table instead.

    Raises:
        UsageError: a cell is of the wrong form, or no example is left.
    """
    label = None if kind == "tokens" else columns.label
    tags = columns.tags if kind in ("tokens", "joint") else None
    label_cells = [None] * len(table) if label is None else list(table.columns[label])
    tag_cells = [None] * len(table) if tags is None else list(table.columns[tags])
    label_cells = [None if reading.minus_one and is_withheld(cell) else cell for cell in label_cells]
    labelled = any(cell not in (None, "") for cell in (label_cells if kind != "tokens" else tag_cells))
    if labels_needed and not labelled:
        option, what = ("--tags-column", "tags") if kind == "tokens" else ("--label-column", "a label")
        raise UsageError(f"{table.where}: no row has {what}: set {option} to one of {listing(table.columns)}.")

    left_out: Counter[str] = Counter()
    rows: list[int] = []
    found: dict[str, list] = {"texts": [], "labels": [], "tags": [], "pairs": [], "ids": []}
    for i, cell in enumerate(table.columns[columns.text]):
        text = _text(cell, table, i, columns.text)
        pair = "-" if columns.pair is None else _text(table.columns[columns.pair][i], table, i, columns.pair)
        if not text or not pair:
            left_out["text"] += 1
            continue
        example_label: Label | None = None
        example_tags: list[str] = []
        if labelled:
            example_label = read_label(label_cells[i], kind, partial(table.place, i))
            if (label is not None and example_label is None) or (tags is not None and not tag_cells[i]):
                withheld = label is not None and table.columns[label][i] is not None and label_cells[i] is None
                left_out[f"label ({UNLABELLED})" if withheld else "label"] += 1
                continue
            if tags is not None:
                text, example_tags = clean_text(text), _tags(tag_cells[i])
                # The line, which takes a read of the file, is looked for where it is needed alone.
                if len(text.split(" ")) != len(example_tags) or not all(map(is_bio, example_tags)):
                    check_tags(text, example_tags, table.place(i))
        rows.append(i if table.origin is None else table.origin[i])
        for column, value in (("texts", text), ("labels", example_label), ("tags", example_tags), ("pairs", pair)):
            found[column].append(value)
        found["ids"].append("" if columns.id is None else _as_text(table.columns[columns.id][i]))
    if not rows:
        raise UsageError(f"{table.where}: no row has all that it needs: choose other columns.")
    if kind in ("classification", "joint") and reading.numbers:
        found["labels"] = [one_spelling(label) for label in found["labels"]]
    return Read(
        Split(
            texts=found["texts"],
            labels=found["labels"] if labelled and label is not None else None,
            tags=found["tags"] if labelled and tags is not None else None,
            pairs=None if columns.pair is None else found["pairs"],
            rows=rows,
            ids=None if columns.id is None else found["ids"],
        ),
        left_out,
    )


def _tags(cell: Cell) -> list[str]:
    return [] if cell is None else list(cell) if isinstance(cell, list) else cell.split()


def _text(cell: Cell, table: Table, row: int, column: str) -> str:
    if isinstance(cell, list):
        # A word with a blank inside stays one word.
        return " ".join(word.strip().replace(" ", NO_BREAK) for word in cell if word.strip())
    if isinstance(cell, str) and cell.startswith("{") and column not in ("text", "sentence"):
        raise UsageError(f"{table.place(row)}: column {column!r} holds an object: choose a column of text.")
    return "" if cell is None else cell.strip()


def _as_text(cell: Cell) -> str:
    return "" if cell is None else cell if isinstance(cell, str) else " ".join(cell)
