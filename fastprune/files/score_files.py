"""Scores in files: one row per example, columns ``index`` and one or more scores.

``.parquet`` needs pyarrow (the ``report`` extra).  ``.csv`` and ``.jsonl`` need nothing.
"""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fastprune.errors import UsageError, in_short
from fastprune.files.atomic import write_atomic
from fastprune.files.parquet import pyarrow_for, read_parquet
from fastprune.files.score_runs import ScoreColumns, Which, rows_of_one_run

logger = logging.getLogger(__name__)

KINDS = (".parquet", ".csv", ".jsonl")


def read_scores(path: Path, column: str = "score", which: Which = Which()) -> np.ndarray:  # noqa: B008  (frozen)
    """Return one score per example, fp32 (n,), by index: a column of `read_examples`.

    Raises:
        UsageError: see `read_examples`, or the file has no such column of numbers.
    """
    return numbers(read_examples(path, which), column, str(path))


def read_examples(path: Path, which: Which = Which()) -> ScoreColumns:  # noqa: B008  (frozen)
    """Return one row per example, by index.

    If a run has several epochs, the newest counts, and a warning says so.  If an index has several rows, the last
    counts.

    Args:
        path: the file.
        which: the run, seed and epoch that count, if the file holds several.

    Raises:
        UsageError: the file is missing or of another kind.  Or it holds several runs and ``which`` names none, or its
            indices are not 0 … n − 1.
    """
    columns, note = one_row_each(read_columns(path), str(path), which)
    if note is not None:
        logger.warning("%s", note)
    return columns


def one_row_each(columns: Mapping[str, np.ndarray], where: str, which: Which) -> tuple[ScoreColumns, str | None]:
    """Return for each example, by index, the row that counts.  Also return a note if an example has several rows.

    Raises:
        UsageError: see `rows_of_one_run` and `newest_rows`.
    """
    rows, note = rows_of_one_run(columns, where, which)
    newest = newest_rows(rows, where)
    if note is None and len(newest["index"]) < len(rows["index"]):
        note = f"{where} holds {len(rows['index'])} rows for {len(newest['index'])} examples; the last of each counts"
    return newest, note


def numbers(columns: Mapping[str, np.ndarray], column: str, where: str) -> np.ndarray:
    """Return a column as fp32 (n,).

    Raises:
        UsageError: there is none of that name, or it holds no numbers.
    """
    values = pick(columns, column, where)
    try:
        return values.astype(np.float32)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{where}: {column!r} must be numbers: {error}") from None


def whole_numbers(columns: Mapping[str, np.ndarray], column: str, where: str) -> np.ndarray:
    """Return a column as int64 (n,).

    Raises:
        UsageError: there is none of that name, or it holds something else.
    """
    try:
        return pick(columns, column, where).astype(np.int64)
    except (TypeError, ValueError, OverflowError):
        raise UsageError(f"{where}: column {column!r} must hold whole numbers; write it with score or select") from None


def pick(columns: Mapping[str, np.ndarray], column: str, where: str) -> np.ndarray:
    """Return a column.

    Raises:
        UsageError: it is not there.  The message lists those that are.
    """
    if column not in columns:
        raise UsageError(f"{where} has no column {column!r}, only {in_short(', '.join(map(repr, columns)))}")
    return columns[column]


def newest_rows(columns: Mapping[str, np.ndarray], where: str) -> ScoreColumns:
    """Return the last row of each ``index``, by index: row i of the result is example i.

    Raises:
        UsageError: there is no column ``index``, or it does not hold every number from 0 to n − 1.
    """
    given = pick(columns, "index", where)
    try:
        index = given.astype(np.int64)
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"{where}: 'index' must be numbers: {error}") from None
    if np.issubdtype(given.dtype, np.floating) and not np.array_equal(index, given):
        raise UsageError(f"{where}: the column 'index' must hold whole numbers")
    n = int(index.max()) + 1 if len(index) else 0
    if n == 0 or index.min() < 0 or len(np.unique(index)) != n:
        raise UsageError(f"{where}: the column 'index' must hold every number from 0 to n - 1, for n examples")
    last = np.empty(n, dtype=np.int64)
    last[index] = np.arange(len(index))
    return {name: index[last] if name == "index" else values[last] for name, values in columns.items()}


def read_columns(path: Path) -> ScoreColumns:
    """Return the columns of a score file.

    Raises:
        UsageError: the file is missing, of another kind, or not what its name says.
    """
    check_kind(path)
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    refusal = f"not a {path.suffix} file of scores: {{reason}}"
    table = read_parquet(path, refusal) if path.suffix == ".parquet" else None
    try:
        if table is not None:
            return {name: table[name].to_numpy() for name in table.column_names}
        with path.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets write a byte-order mark first
            rows: list[dict[str, Any]]
            lines = (line for line in file if line.strip())
            rows = list(csv.DictReader(file)) if path.suffix == ".csv" else [json.loads(line) for line in lines]
        columns = {name: np.array([row[name] for row in rows]) for name in (rows[0] if rows else {})}
    except (ValueError, KeyError, TypeError, NotImplementedError, csv.Error) as error:  # also pyarrow's and json's
        raise UsageError(f"{path}: {refusal.format(reason=in_short(error, 200))}") from None
    if not columns:
        raise UsageError(f"{path}: holds no scores")
    for name, values in columns.items():
        if values.ndim != 1:
            raise UsageError(f"{path}: {name!r} holds lists; give one value a row")
    return columns


def write_columns(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    """Write columns of one length as a file of the kind its suffix names, complete or absent.

    Numbers in ``.csv`` and ``.jsonl`` are the shortest decimals that give the same fp32 or fp64 back.

    Raises:
        UsageError: the suffix is another one, or the folder does not exist.
    """
    check_kind(path)
    if not path.parent.is_dir():
        raise UsageError(f"{path}: there is no folder {path.parent}; make it first")
    if path.suffix == ".parquet":
        pyarrow, parquet = pyarrow_for(str(path))
        table = pyarrow.table(dict(columns))
        write_atomic(path, lambda temporary: parquet.write_table(table, temporary))
        return
    rows = zip(*(_decimals(values) for values in columns.values()), strict=True)

    def write(temporary: Path) -> None:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            if path.suffix == ".csv":
                table = csv.writer(file, lineterminator="\n")
                table.writerow(columns)
                table.writerows(rows)
            else:
                file.writelines(
                    json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False) + "\n" for row in rows
                )

    write_atomic(path, write)


def check_kind(path: Path) -> None:
    """Refuse a file whose suffix names no kind of score file."""
    if path.suffix not in KINDS:
        raise UsageError(f"{path}: a score file ends in {', '.join(KINDS)}")


def _decimals(values: np.ndarray) -> list[Any]:
    """Return Python numbers.  An fp32 becomes its own shortest decimal, and not that of the equal fp64."""
    if values.dtype == np.float32:
        return [float(str(value)) for value in values]
    return list(values.tolist())
