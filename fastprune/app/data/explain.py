"""Finds what is wrong with a file, and at which line, after its builder could not read it."""

from __future__ import annotations

import contextlib
import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastprune.app.data.text import ENCODING, cells_of, is_blank, kind_of, open_text
from fastprune.errors import UsageError

_STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_NO_ROWS = ("corresponds to no data", "at least one example when writing data")
"""What newer and older versions of datasets say of a file without rows."""
DEEPEST = 64
"""JSON nested more deeply is refused before the builder sees it, whose parser it would crash."""


@contextlib.contextmanager
def explained(path: Path, find: Any) -> Iterator[None]:
    """Say file and line of what a builder could not read.  ``find`` looks for the line."""
    try:
        yield
    except UsageError:
        raise
    except Exception as error:  # the builders' own errors, of many classes
        cause = error.__cause__ or error
        said = f"{error} {cause}"
        empty = any(part in said for part in _NO_ROWS) or isinstance(cause, IndexError | StopIteration)
        if isinstance(cause, OSError | UnicodeError) or empty:
            raise unreadable(path, ValueError() if empty else cause, "") from error
        reason = find() or str(cause).splitlines()[0].rstrip(".")
        raise UsageError(f"{path}{reason if reason.startswith(',') else f': {reason}'}: mend or remove it.") from error


def too_deep(path: Path, encoding: str) -> int | None:
    """Find the line at which more than `DEEPEST` brackets are open.  None if there is none.

    Brackets in texts count at first.  Only where a file has that many are the texts taken out.
    """
    import numpy as np

    with open_text(path, encoding) as file:
        text = file.read()
    for exact in (False, True):
        letters = np.frombuffer((_STRING.sub('""', text) if exact else text).encode("utf-8", "replace"), np.uint8)
        opened = np.isin(letters, (ord("["), ord("{"))).astype(np.int64) - np.isin(letters, (ord("]"), ord("}")))
        deep = np.flatnonzero(opened.cumsum() > DEEPEST)
        if not len(deep):
            return None
    return int((letters[: deep[0]] == ord("\n")).sum()) + 1


def bad_line(path: Path, separator: str, encoding: str, width: int) -> str | None:
    """Find where a delimited file has more cells than ``width``, or an open quote.

    Returns ", line N: …", or None if there is no such line.
    """
    with open_text(path, encoding) as file:
        lines = cells_of(file, separator, strict=True)
        try:
            for cells in lines:
                if len(cells) > width:
                    return f", line {lines.line_num}: {len(cells)} columns where the header has {width}"
        except csv.Error as error:
            return f", line {lines.line_num}: {error}"
    return None


def bad_json(path: Path, encoding: str) -> str | None:
    """Find where a JSON file, or a file of JSON lines, is malformed.

    Returns ", line N: …", or None if there is no such line.
    """
    with open_text(path, encoding) as file:
        text = file.read()
    try:
        if isinstance(found := json.loads(text), list):
            bad = next((number for number, row in enumerate(found, start=1) if not isinstance(row, dict)), None)
            return f": element {bad} of the list is not a JSON object; write {{column: value}} each"
        return None
    except (ValueError, RecursionError) as error:
        if kind_of(path) == ".json" and text.lstrip()[:1] == "[":
            what = "nested too deeply" if isinstance(error, RecursionError) else getattr(error, "msg", error)
            return f", line {getattr(error, 'lineno', 1)}: not JSON ({what})"
    for number, line in enumerate(text.split("\n"), start=1):
        try:
            if line.strip() and not isinstance(json.loads(line), dict):
                return f", line {number}: not a JSON object; write {{column: value}} a line"
            line.encode()
            json.dumps(json.loads(line) if line.strip() else {}, ensure_ascii=False).encode()
        except (ValueError, RecursionError) as error:
            return f", line {number}: not JSON ({getattr(error, 'msg', None) or error.args[-1]})"
    return None


def line_finder(path: Path, separator: str, encoding: str, *, header: bool) -> Any:
    """Return a function from a row to its line.

    It reads the file when it is asked, as a quoted cell may hold several lines.
    """

    def line_of(row: int) -> str:
        with open_text(path, encoding) as file:
            lines = cells_of(file, separator)
            rows = (lines.line_num for cells in lines if not is_blank(cells))
            number = next((line for count, line in enumerate(rows) if count == row + header), None)
        return f"row {row + 1}" if number is None else f"line {number}"

    return line_of


def unreadable(path: Path, error: BaseException, encoding: str) -> UsageError:
    """Make the error for a file that cannot be opened, unpacked or decoded, or that holds no row."""
    if isinstance(error, UnicodeError):
        named = "UTF-8" if encoding in ("", ENCODING) else encoding
        return UsageError(f"{path}: not {named} text: save it as UTF-8, or say its --encoding, such as latin-1.")
    if isinstance(error, ValueError) or not str(error):
        return UsageError(f"{path}: no rows in it: give a file with at least one example.")
    reason = getattr(error, "strerror", None) or str(error).splitlines()[0].rstrip(".")
    return UsageError(f"{path}: cannot be read ({reason}): check the path, its rights and its packing.")
