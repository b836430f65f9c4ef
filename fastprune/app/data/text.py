"""Text files as lines and cells: unpacked, decoded, with or without quotes."""

from __future__ import annotations

import csv
import lzma
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

ENCODING = "utf-8-sig"
"""UTF-8, with or without a byte-order mark."""
DELIMITED = {".csv": ",", ".tsv": "\t"}
JSON = (".json", ".jsonl", ".ndjson")
SUFFIXES = (*DELIMITED, *JSON, ".parquet")
PACKED = (".gz", ".zip", ".bz2", ".xz")


def kind_of(path: Path) -> str:
    """Return the suffix of a file's content, without that of its packing: ".csv" for "a.csv.gz".

    >>> kind_of(Path("a.CSV.gz")), kind_of(Path("b.zip"))
    ('.csv', '')
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in PACKED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


@contextmanager
def open_text(path: Path, encoding: str | None = None) -> Iterator[TextIO]:
    """Open the file as text, unpacked by its suffix.  Line ends stay as they are.

    Raises:
        OSError: it cannot be read or unpacked, or it is an archive of several files.
    """
    import fsspec

    try:
        if path.suffix.lower() == ".zip":
            _check_archive(path)
        with fsspec.open(path, "rt", compression="infer", encoding=encoding or ENCODING, newline="") as file:
            yield file
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError) as error:
        raise OSError(str(error).splitlines()[0]) from error


def quoting_of(separator: str) -> int:
    """Return how cells are quoted.  Tab-separated files such as GLUE's hold bare quotes that mean nothing."""
    return csv.QUOTE_NONE if separator == "\t" else csv.QUOTE_MINIMAL


def cells_of(lines: Iterable[str], separator: str, *, strict: bool = False) -> Any:
    """Return a `csv.reader` of the lines.  Cells may be of any length."""
    csv.field_size_limit(2**31 - 1)
    return csv.reader(lines, delimiter=separator, quoting=quoting_of(separator), strict=strict)  # type: ignore[arg-type]


def is_blank(cells: Sequence[str]) -> bool:
    """Return whether a record holds nothing.  Such records are no rows, and are not counted."""
    return not any(cell.strip() for cell in cells)


def _check_archive(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        files = archive.infolist()
    if len(files) != 1:
        raise OSError(f"an archive of {len(files)} files, and one is wanted")
    if files[0].flag_bits & 1:
        raise OSError("its archive asks for a password")
