"""Text files of one split.

They hold words and tags in columns (CoNLL), a label before each text (TREC), cells between tabs, or bare texts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from fastprune.app.data.builders import read_table
from fastprune.app.data.explain import unreadable
from fastprune.app.data.table import Cell, Table
from fastprune.app.data.text import open_text
from fastprune.errors import UsageError

_TAG = re.compile(r"O|[BIESLU]-.+")
_BIO = {"S": "B", "U": "B", "E": "I", "L": "I"}
"""How the marks of IOBES and BILOU read in BIO."""
MOST_DISTINCT = 0.2
"""The largest number of different first words that can be labels, as a share of the file's lines."""


def read_lines(path: Path, encoding: str | None = None, header: Sequence[str] | None = None) -> Table:
    """Return the table of a text file.  What its lines look like decides how it is read.

    Args:
        path: the file.
        encoding: the file's encoding.  By default UTF-8, with or without a byte-order mark.
        header: names for the columns of a file without a header line.

    Raises:
        UsageError: it cannot be read, holds nothing, or a line has no tag where the others have one.
    """
    try:
        with open_text(path, encoding) as file:
            lines = file.read().replace("\r\n", "\n").split("\n")
    except (OSError, UnicodeError, LookupError) as error:
        raise unreadable(path, error, encoding or "") from None
    filled = [line for line in lines if line.strip()]
    if not filled:
        raise UsageError(f"{path}: no rows in it: give a file with at least one example.")
    if _has_tags(lines, filled):
        return _read_tagged_words(path, lines)
    if header is not None or _has_cells(filled):
        return read_table(path, encoding=encoding, header=header, kind=".tsv")
    places = [number for number, line in enumerate(lines, start=1) if line.strip()]
    columns = {"text": filled}
    if _has_labels(filled, path.suffix.lower()):
        parts = [line.split(None, 1) for line in filled]
        columns = {"label": [label for label, _ in parts], "text": [text for _, text in parts]}
    return Table(str(path), columns, {}, lambda row: f"line {places[row]}")


def _has_tags(lines: Sequence[str], filled: Sequence[str]) -> bool:
    """Return whether it has blocks of lines, nearly all of whose last columns are tags."""
    rows = [line.split() for line in filled if not line.startswith(("-DOCSTART-", "#"))]
    tagged = sum(len(cells) > 1 and bool(_TAG.fullmatch(cells[-1])) for cells in rows)
    return len(rows) > 1 and tagged >= 0.95 * len(rows) and any(not line.strip() for line in lines[:-1])


def _read_tagged_words(path: Path, lines: Sequence[str]) -> Table:
    words: list[Cell] = []
    tags: list[Cell] = []
    places: list[int] = []
    block: list[tuple[str, str]] = []
    for number, line in enumerate([*lines, ""], start=1):
        cells = line.split()
        comment = line.startswith("#") and not block and not (cells and _TAG.fullmatch(cells[-1]))
        if cells and not comment and not line.startswith("-DOCSTART-"):
            if len(cells) < 2 or not _TAG.fullmatch(cells[-1]):
                raise UsageError(f"{path}, line {number}: no BIO tag in the last column: write the word and its tag.")
            places += [number] if not block else []
            mark, _, kind = cells[-1].partition("-")
            block.append((cells[0], f"{_BIO.get(mark, mark)}-{kind}" if kind else mark))
        elif block and not cells:
            words.append([word for word, _ in block])
            tags.append([tag for _, tag in block])
            block = []
    return Table(str(path), {"text": words, "tags": tags}, {}, lambda row: f"line {places[row]}")


def _has_cells(filled: Sequence[str]) -> bool:
    """Return whether every line has the same number of tabs, at least two."""
    tabs = {line.count("\t") for line in filled}
    return len(tabs) == 1 and tabs.pop() >= 2


def _has_labels(filled: Sequence[str], suffix: str) -> bool:
    """Return whether each line begins with a label, and not with the first word of a sentence.

    A label ends with a tab, holds a colon as TREC's, begins with fastText's mark, or is a number.  In a file with the
    suffix ".label" every first word is one.
    """
    parts = [line.split(None, 1) for line in filled]
    if any(len(cells) < 2 for cells in parts):
        return False
    first = {cells[0] for cells in parts}
    tabs = all(line.lstrip()[len(cells[0])] == "\t" for line, cells in zip(filled, parts, strict=True))
    marked = (all(map(is_label, first)) for is_label in (lambda w: ":" in w[1:-1], str.isdecimal, _of_fasttext))
    few = 2 <= len(first) <= max(2, MOST_DISTINCT * len(filled))
    return few and (suffix == ".label" or tabs or any(marked))


def _of_fasttext(word: str) -> bool:
    return word.startswith("__label__")
