"""Scores in files: one row per example and score, columns ``index`` and one or more scores.

``.parquet`` needs pyarrow (the ``report`` extra); ``.csv`` and ``.jsonl`` need nothing.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

from fastprune.errors import UsageError

KINDS = (".parquet", ".csv", ".jsonl")
Columns = dict[str, np.ndarray]


def read_scores(path: Path, column: str = "score") -> np.ndarray:
    """One score per example, fp32 (n,), by index.

    Of several rows of an index the last counts, as in a run's ``scores.parquet``, which goes on in time.

    Raises:
        UsageError: the file is missing or of another kind, lacks a column, or its indices are not 0 … n − 1.
    """
    columns = read_columns(path)
    for name in ("index", column):
        if name not in columns:
            raise UsageError(f"{path} has no column {name!r}, only {', '.join(map(repr, columns))}")
    try:
        index, values = columns["index"].astype(np.int64), columns[column].astype(np.float32)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{path}: 'index' and {column!r} must be numbers: {error}") from None
    n = int(index.max()) + 1 if len(index) else 0
    if n == 0 or index.min() < 0 or len(np.unique(index)) != n:
        raise UsageError(f"{path}: the column 'index' must hold every number from 0 to n - 1, for n examples")
    scores = np.empty(n, dtype=np.float32)
    scores[index] = values
    return scores


def read_columns(path: Path) -> Columns:
    """The columns of a score file.

    Raises:
        UsageError: the file is missing, of another kind, or not what its name says.
    """
    if path.suffix not in KINDS:
        raise UsageError(f"{path}: a score file ends in {', '.join(KINDS)}")
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    try:
        if path.suffix == ".parquet":
            table = _parquet().read_table(path)
            return {name: table[name].to_numpy() for name in table.column_names}
        with path.open(newline="", encoding="utf-8") as file:
            rows: list[dict[str, Any]]
            rows = list(csv.DictReader(file)) if path.suffix == ".csv" else [json.loads(line) for line in file]
        return {name: np.array([row[name] for row in rows]) for name in (rows[0] if rows else {})}
    except (ValueError, KeyError, TypeError) as error:  # pyarrow's and json's errors are ValueErrors
        raise UsageError(f"{path}: not a {path.suffix} file of scores: {error}") from None


def _parquet() -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        raise UsageError("a .parquet file needs the pyarrow package: pip install 'fastprune[report]'") from None
    return pyarrow.parquet
