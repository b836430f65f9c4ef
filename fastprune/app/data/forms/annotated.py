"""Joint data whose tags are written into the text or beside it: MASSIVE's ``annot_utt`` and SLURP's ``entities``.

Both come as JSON lines, and the table that the builder made of them is rewritten into text, label and tags.
"""

from __future__ import annotations

import json
import re
from typing import Any

from fastprune.app.data.table import Cell, Table
from fastprune.errors import UsageError, shown

_SPAN = re.compile(r"\[\s*([^:\[\]]+?)\s*:\s*([^\[\]]*?)\s*\]")


def rewritten(table: Table) -> Table:
    """Return the table with columns text, label and tags if it is in one of the two forms, else the table itself.

    Raises:
        UsageError: an annotation cannot be read.
    """
    if {"annot_utt", "intent"} <= set(table.columns):
        return _with(table, [_massive(cell, table.place(i)) for i, cell in enumerate(table.columns["annot_utt"])])
    if {"sentence", "tokens", "entities", "intent"} <= set(table.columns):
        columns = zip(table.columns["tokens"], table.columns["entities"], strict=True)
        return _with(table, [_slurp(*cells, table.place(i)) for i, cells in enumerate(columns)])
    return table


def _with(table: Table, rows: list[tuple[list[str], list[str]]]) -> Table:
    kept = {name: table.columns[name] for name in ("id", "slurp_id", "partition") if name in table.columns}
    words: list[Cell] = [list(words) for words, _ in rows]
    tags: list[Cell] = [list(tags) for _, tags in rows]
    columns = {"text": words, "label": table.columns["intent"], "tags": tags, **kept}
    return Table(table.where, columns, table.classes, table.line_of, table.origin)


def _massive(cell: Cell, where: str) -> tuple[list[str], list[str]]:
    """Return an annotated text such as "wake me [time : at nine]" as words and tags."""
    if not isinstance(cell, str):
        return [], []
    words: list[str] = []
    tags: list[str] = []
    end = 0
    for span in [*_SPAN.finditer(cell), None]:
        plain = cell[end : span.start() if span else None].split()
        if any(mark in word for word in plain for mark in "[]"):
            raise UsageError(f"{where}: a bracket of {shown(cell)} is not closed: write [slot : words].")
        words, tags = words + plain, tags + ["O"] * len(plain)
        if span:
            inside, name = span[2].split(), span[1]
            words, end = words + inside, span.end()
            tags += [f"{'I' if i else 'B'}-{name}" for i in range(len(inside))]
    return words, tags


def _slurp(tokens: Any, entities: Any, where: str) -> tuple[list[str], list[str]]:
    """Return the tokens' surfaces, tagged by the entities' spans of token numbers."""
    try:
        words = [_object(token)["surface"] for token in tokens or []]
        if not all(isinstance(word, str) for word in words):
            raise TypeError("a surface is no text")
        tags = ["O"] * len(words)
        for entity in map(_object, entities or []):
            for i, place in enumerate(entity["span"]):
                tags[place] = f"{'I' if i else 'B'}-{entity['type']}"
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise UsageError(f"{where}: tokens and entities are not SLURP's ({shown(error)}): mend the row.") from None
    return words, tags


def _object(cell: Any) -> Any:
    return json.loads(cell) if isinstance(cell, str) else cell
