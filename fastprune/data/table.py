"""A table as a reader found it: columns of cells, before anything is said about what they mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

Cell = str | list[str] | None
"""A text, a list of texts (words, tags, several classes), or nothing."""


@dataclass(frozen=True)
class Table:
    """One split, or one file that holds several.

    Attributes:
        where: the file, for messages.
        columns: cells by column name, all of one length.
        classes: of columns whose class names are declared (the hub's ClassLabel), the names in their order.
        line_of: the place of a row in the file, for messages; by default "row N", counted from 1.
    """

    where: str
    columns: Mapping[str, Sequence[Cell]]
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    line_of: Callable[[int], str] = lambda row: f"row {row + 1}"

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def place(self, row: int) -> str:
        """File and line of a row."""
        return f"{self.where}, {self.line_of(row)}"

    def rows(self, chosen: Sequence[int]) -> Table:
        """The rows at ``chosen``, in that order."""
        columns = {name: [cells[i] for i in chosen] for name, cells in self.columns.items()}
        return Table(self.where, columns, self.classes, lambda row: self.line_of(chosen[row]))


def line_numbers(first: int = 1) -> Callable[[int], str]:
    """Where each row is one line and the first row is line ``first``."""
    return lambda row: f"line {row + first}"
