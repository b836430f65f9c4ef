"""Which column of a table holds the text and which the label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastprune.errors import UsageError

TEXT_NAMES = ("text", "sentence", "question", "utterance")
LABEL_NAMES = ("label", "category", "intent", "class")


@dataclass(frozen=True)
class Wanted:
    """Column names the user gave; None means: try the usual names (text, label) or do without."""

    text: str | None = None
    label: str | None = None
    pair: str | None = None
    slots: str | None = None

    def resolve(self, columns: Sequence[str], where: str) -> Columns:
        """Names that exist in ``columns``; `UsageError` lists the columns when one is unknown or unclear."""
        return Columns(
            text=_pick(columns, self.text, TEXT_NAMES, "text_column", where),
            label=_pick(columns, self.label, LABEL_NAMES, "label_column", where),
            pair=None if self.pair is None else _pick(columns, self.pair, (), "pair_column", where),
            slots=None if self.slots is None else _pick(columns, self.slots, (), "slots_column", where),
        )


@dataclass(frozen=True)
class Columns:
    """Column names known to exist."""

    text: str
    label: str
    pair: str | None
    slots: str | None


def _pick(columns: Sequence[str], given: str | None, usual: Sequence[str], argument: str, where: str) -> str:
    listing = ", ".join(repr(column) for column in columns)
    if given is not None:
        if given not in columns:
            raise UsageError(f"{where}: no column {argument}={given!r}: choose one of {listing}.")
        return given
    found = [column for column in columns if column.lower() in usual]
    if len(found) != 1:
        what = "no column" if not found else "more than one column"
        raise UsageError(f"{where}: {what} named {' or '.join(usual)}: set {argument} to one of {listing}.")
    return found[0]
