"""Writes some rows of a user's file back, in the form of the file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastprune.app.data.explain import bad_json, explained, unreadable
from fastprune.app.data.text import DELIMITED, JSON, cells_of, is_blank, kind_of, open_text, quoting_of
from fastprune.errors import UsageError
from fastprune.files.atomic import write_atomic
from fastprune.files.parquet import pyarrow_for, read_parquet


def write_subset(
    path: Path,
    rows: Sequence[int],
    out: Path,
    *,
    header: bool = True,
    encoding: str | None = None,
    scored: int | None = None,
) -> None:
    """Write some rows of a file to another one, in their order.

    Args:
        path: the file.
        rows: which of its rows, counted from 0 as `read_table` counts them.
        out: where to write.
        header: whether the first line of a delimited file names its columns.
        encoding: encoding of the file.
        scored: how many rows it must have, where ``rows`` are places in a training split and not rows of the file.

    Raises:
        UsageError: ``out`` is of another kind.  Or ``path`` has no such row, another number of rows, or is no table.
    """
    kind = kind_of(path)
    if kind_of(out) != kind or out.suffix != (path.suffix if path.suffix.lower() == kind else kind):
        raise UsageError(f"--out {out}: the rows of {path.name} are written as {kind}: name it so.")
    if kind == ".parquet":
        _, parquet = pyarrow_for(str(out))
        table = read_parquet(path, "not readable ({reason}): give the file that was scored.")
        _check(path, rows, table.num_rows, scored)
        write_atomic(out, lambda temporary: parquet.write_table(table.take(list(rows)), temporary))
        return
    try:
        with open_text(path, encoding) as file:
            text = file.read()
    except (OSError, UnicodeError, LookupError) as error:
        raise unreadable(path, error, encoding or "") from error
    if kind in DELIMITED:
        lines = [cells for cells in cells_of(io.StringIO(text, newline=""), DELIMITED[kind]) if not is_blank(cells)]
        first, lines = (lines[:1], lines[1:]) if header else ([], lines)
        _check(path, rows, len(lines), scored)
        written = io.StringIO()
        quotes: dict[str, Any] = {"quoting": quoting_of(DELIMITED[kind])}
        quotes |= {"quotechar": None} if quotes["quoting"] == csv.QUOTE_NONE else {}
        writer = csv.writer(written, delimiter=DELIMITED[kind], lineterminator="\n", **quotes)
        writer.writerows([*first, *(lines[row] for row in rows)])
        text = written.getvalue()
    elif kind in JSON:
        text = _json(path, text, rows, encoding or "utf-8", scored)
    else:
        raise UsageError(f"{path}: its rows cannot be written back: give a csv, tsv, json, jsonl or parquet file.")
    write_atomic(out, lambda temporary: temporary.write_bytes(text.encode(encoding or "utf-8")))


def _json(path: Path, text: str, rows: Sequence[int], encoding: str, scored: int | None) -> str:
    if text.lstrip()[:1] == "[":
        with explained(path, lambda: bad_json(path, encoding)):
            objects = json.loads(text)
        _check(path, rows, len(objects), scored)
        kept = [objects[row] for row in rows]
        try:
            written = json.dumps(kept, ensure_ascii=False, indent=1)
            written.encode(encoding)
        except UnicodeEncodeError:  # an escape of what the encoding does not have
            written = json.dumps(kept, indent=1)
        return written + "\n"
    lines = [line for line in text.split("\n") if line.strip()]
    _check(path, rows, len(lines), scored)
    return "".join(lines[row].rstrip("\r") + "\n" for row in rows)


def _check(path: Path, rows: Sequence[int], n: int, scored: int | None) -> None:
    if scored not in (None, n):
        raise UsageError(
            f"{path}: it has {n} rows, and the scores are of {scored} examples that they name by place, not by row, as "
            "of a training split: take scores of `fastprune score`, or leave --data out and train with --keep."
        )
    bad = next((row for row in rows if not 0 <= row < n), None)
    if bad is not None:
        raise UsageError(f"{path}: it has {n} rows and no row {bad}: give the file that was scored.")
