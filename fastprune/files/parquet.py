"""Imports pyarrow, which only ``.parquet`` files need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastprune.errors import UsageError


def pyarrow_for(what: str) -> tuple[Any, Any]:
    """Return the modules ``pyarrow`` and ``pyarrow.parquet``.

    Raises:
        UsageError: they are not installed.  The message says that ``what`` needs them.
    """
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise UsageError(f"{what} needs the pyarrow package: pip install 'fastprune[report]'") from None
    return pyarrow, parquet


def read_parquet(path: Path, refusal: str) -> Any:
    """Return the file's pyarrow table.

    Args:
        path: the file.
        refusal: the message about a damaged file, with ``{reason}`` in it.

    Raises:
        UsageError: it is damaged, or cannot be read.
    """
    pyarrow, parquet = pyarrow_for(str(path))
    try:
        return parquet.read_table(path.resolve())  # a relative path may look like a URI
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UsageError(f"{path}: {refusal.format(reason=reason)}") from None
