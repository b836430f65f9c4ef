"""pyarrow, which only ``.parquet`` files need."""

from __future__ import annotations

from typing import Any

from fastprune.errors import UsageError


def pyarrow_for(what: str) -> tuple[Any, Any]:
    """The modules ``pyarrow`` and ``pyarrow.parquet``; `UsageError` says that ``what`` needs them."""
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise UsageError(f"{what} needs the pyarrow package: pip install 'fastprune[report]'") from None
    return pyarrow, parquet
