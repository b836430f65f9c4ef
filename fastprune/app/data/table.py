"""A table as a reader found it: columns of cells, before anything is said about what they mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from fastprune.errors import UsageError

Cell = str | list[str] | None
"""A text, a list of texts (words, tags, several classes), or nothing."""


@dataclass(frozen=True)
class Table:
    """One split, or one file that holds several.

    Attributes:
        where: the file, for messages.
        columns: cells by column name, all of one length.
        classes: of columns whose class names are declared (the hub's ClassLabel), the names in their order.
        origin: the row of each row in the file, from 0.  None means its own number.
        line_of: names the place of a row in the file, for messages.  By default "row N", counted from 1.
    """

    where: str
    columns: Mapping[str, Sequence[Cell]]
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    line_of: Callable[[int], str] = lambda row: f"row {row + 1}"
    origin: Sequence[int] | None = None

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def place(self, row: int) -> str:
        """Return file and line of a row."""
        return f"{self.where}, {self.line_of(row)}"

    def rows(self, chosen: Sequence[int]) -> Table:
        """Return the rows at ``chosen``, in that order."""
        columns = {name: [cells[i] for i in chosen] for name, cells in self.columns.items()}
        origin = chosen if self.origin is None else [self.origin[i] for i in chosen]
        return Table(self.where, columns, self.classes, lambda row: self.line_of(chosen[row]), origin)


def line_numbers(first: int = 1) -> Callable[[int], str]:
    """Return a `line_of` for a file in which each row is one line, and the first row is line ``first``."""
    return lambda row: f"line {row + first}"


def appended(tables: Sequence[Table], where: str) -> Table:
    """Join parts of one split into one table, whose rows count over all of them.  A lone part stays as it is.

    Raises:
        UsageError: the parts have different columns.
    """
    first = tables[0]
    if len(tables) == 1:
        return first
    for other in tables[1:]:
        if set(other.columns) != set(first.columns):
            raise UsageError(f"{other.where}: its columns are not those of {first.where}: give parts of one table.")
    columns = {name: [cell for table in tables for cell in table.columns[name]] for name in first.columns}
    return Table(where, columns, first.classes)
