"""Parquet tables of fixed columns, which are written as they should be, and read only if they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastprune.errors import UsageError
from fastprune.files.atomic import write_atomic
from fastprune.files.parquet import pyarrow_for, read_parquet

LARGEST_INDEX = 10**8
"""Arrays are made as long as the largest index of an example.  A wrong index would ask for all memory."""


def write_typed_columns(
    path: Path, types: Mapping[str, str], columns: Mapping[str, Sequence[Any] | np.ndarray]
) -> None:
    """Write all columns of ``types`` and no other, of one length, with one row for each item."""
    pa, parquet = pyarrow_for(path.name)
    if set(columns) != set(types):
        raise ValueError(f"columns are {sorted(columns)}: give exactly {sorted(types)}.")
    schema = pa.schema([(column, _arrow(pa, kind)) for column, kind in types.items()])
    table = pa.table({column: columns[column] for column in types}, schema=schema)
    write_atomic(path, lambda temporary: parquet.write_table(table, temporary))


def read_typed_columns(path: Path, types: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Return the columns of ``types`` as arrays (text: object).

    Raises:
        UsageError: it is no Parquet, a column is missing or of another type or has gaps, or an index is out of range.
    """
    pa, _ = pyarrow_for(path.name)
    table = read_parquet(path, "not readable ({reason}): remove it or run again.")
    columns = {}
    for name, kind in types.items():
        if table.column_names.count(name) != 1:
            raise UsageError(f"{path}: no column {name!r}: remove the file or run again.")
        try:
            column = table[name].cast(_arrow(pa, kind))
            columns[name] = column.to_numpy()
        except (pa.ArrowException, ValueError) as error:
            raise UsageError(f"{path}: {name!r} is not {kind} ({_first_line(error)}): remove the file.") from None
        if column.null_count:
            raise UsageError(f"{path}: {name!r} has {column.null_count} empty cells: remove the file or run again.")
    index = columns["index"]
    if len(index) and not 0 <= int(index.min()) <= int(index.max()) < LARGEST_INDEX:
        raise UsageError(f"{path}: 'index' must lie in 0 … {LARGEST_INDEX - 1}: remove the file or run again.")
    return columns


def _arrow(pa: Any, kind: str) -> Any:
    return pa.bool_() if kind == "bool" else getattr(pa, kind)()


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
