"""Tables through the builders that the `datasets` package brings: csv, tsv, json, parquet, packed or not.

Every column is read as text: "NA", "null", "007" and "nan" stay what they are.  A script is never run, the network is
never used, and the cache is a temporary folder.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import json
import logging
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fastprune.data.table import Cell, Table, line_numbers
from fastprune.errors import UsageError

_STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"')
DELIMITED = {".csv": ",", ".tsv": "\t"}
JSON = (".json", ".jsonl", ".ndjson")
SUFFIXES = (*DELIMITED, *JSON, ".parquet")
PACKED = (".gz", ".zip", ".bz2", ".xz")
ENCODING = "utf-8-sig"


def kind_of(path: Path) -> str:
    """The suffix that says what is in a file, without that of its packing: ".csv" of "a.csv.gz".

    >>> kind_of(Path("a.CSV.gz")), kind_of(Path("b.zip"))
    ('.csv', '')
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in PACKED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def read_table(
    path: Path, *, encoding: str | None = None, header: Sequence[str] | None = None, kind: str | None = None
) -> Table:
    """One file as a table of texts.

    Args:
        kind: the suffix that says what is in it, if its own does not.
        encoding: of a text file; by default UTF-8, with or without a byte-order mark.
        header: names for the columns of a file without a header line.

    Raises:
        UsageError: the file is missing, empty, packed wrongly, or a line of it is malformed.
    """
    kind, encoding = kind or kind_of(path), encoding or ENCODING
    if not path.is_file():
        raise UsageError(f"{path}: no such file: check the path or add the file.")
    try:
        codecs.lookup(encoding)
    except LookupError:
        raise UsageError(
            f"--encoding {encoding} is unknown: choose one that Python knows, such as utf-8 or latin-1."
        ) from None
    try:
        if kind in DELIMITED:
            return _delimited(path, DELIMITED[kind], encoding, header)
        if kind in JSON:
            return _json(path, encoding)
        with _explained(path, lambda: None):
            return table_of(_load("parquet", path), str(path))
    except (OSError, UnicodeError, EOFError) as error:
        raise _unreadable(path, error, encoding) from error


def table_of(dataset: Any, where: str) -> Table:
    """A `datasets.Dataset` as a table: numbers as text, class numbers as class names, -1 and None as nothing."""
    columns, classes = {}, {}
    for name, feature in dataset.features.items():
        names = getattr(getattr(feature, "feature", feature), "names", None)
        columns[name] = [_cell(value, names) for value in dataset[name]]
        if names is not None:
            classes[name] = list(names)
    return Table(where, columns, classes)


def open_text(path: Path, encoding: str | None = None) -> Any:
    """The file as text, unpacked by its suffix; line ends stay as they are."""
    import fsspec

    return fsspec.open(path, "rt", compression="infer", encoding=encoding or ENCODING, newline="")


def _cell(value: Any, names: Sequence[str] | None) -> Cell:
    if value is None:
        return None
    if isinstance(value, (list, tuple)):
        return [text for item in value if isinstance(text := _cell(item, names), str)]
    if names is not None and isinstance(value, int):
        return names[value] if 0 <= value < len(names) else None
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


def _delimited(path: Path, separator: str, encoding: str, header: Sequence[str] | None) -> Table:
    from datasets import Features, Value

    # Tab-separated files such as GLUE's hold bare quotes that mean nothing.
    quoting = csv.QUOTE_NONE if separator == "\t" else csv.QUOTE_MINIMAL
    csv.field_size_limit(2**31 - 1)
    with open_text(path, encoding) as file:
        lines = csv.reader(file, delimiter=separator, quoting=quoting)
        names = [name.strip() for name in (next(lines, []) if header is None else header)]
        first = next(lines, None)
    if first is None:
        raise UsageError(f"{path}: no rows in it: give a file with at least one example.")
    if len(set(names)) < len(names):
        raise UsageError(f"{path}: two columns of the same name in {names}: rename one.")
    if len(first) > len(names):
        option = "name each in --columns" if header else "mend it, or name the columns of a file without header"
        raise UsageError(f"{path}, line {lines.line_num}: {len(first)} columns, but {len(names)} names: {option}.")
    options = {"sep": separator, "quoting": quoting, "encoding": encoding, "keep_default_na": False, "na_filter": False}
    options |= {"header": None if header else 0, "column_names": names, "skip_blank_lines": True}
    features = Features({name: Value("string") for name in names})
    with _explained(path, lambda: _bad_line(path, separator, quoting, encoding, len(names))):
        table = table_of(_load("csv", path, features=features, **options), str(path))
    return Table(table.where, table.columns, {}, _lines_of(path, separator, quoting, encoding, header is None))


DEEPEST = 64
"""JSON nested more deeply is refused before the builder sees it, whose parser it would crash."""


def _json(path: Path, encoding: str) -> Table:
    if (line := _too_deep(path, encoding)) is not None:
        raise UsageError(f"{path}, line {line}: nested more than {DEEPEST} deep: write one flat object for each example.")
    with _explained(path, lambda: _bad_json(path, encoding)):
        table = table_of(_load("json", path, encoding=encoding), str(path))
    return Table(table.where, table.columns, table.classes, line_numbers() if kind_of(path) != ".json" else table.line_of)


def _load(builder: str, path: Path, **options: Any) -> Any:
    """The one split that a packaged builder makes of a file, in memory."""
    import datasets

    datasets.disable_progress_bars()
    logging.getLogger("datasets").setLevel(logging.CRITICAL)  # what fails is said in one sentence, by us
    with tempfile.TemporaryDirectory(prefix="fastprune-") as cache:
        return datasets.load_dataset(
            builder,
            data_files={"train": str(path.resolve())},
            split="train",
            cache_dir=cache,
            download_config=datasets.DownloadConfig(cache_dir=cache, local_files_only=True),
            keep_in_memory=True,
            **options,
        )


@contextlib.contextmanager
def _explained(path: Path, find: Any) -> Iterator[None]:
    """Say file and line of what a builder could not read; ``find`` looks for it."""
    try:
        yield
    except UsageError:
        raise
    except Exception as error:  # the builders' own errors, of many classes
        cause = error.__cause__ or error
        empty = "corresponds to no data" in str(error) or isinstance(cause, IndexError | StopIteration)
        if isinstance(cause, OSError | UnicodeError) or empty:
            raise _unreadable(path, ValueError() if empty else cause, "") from error
        reason = find() or str(cause).splitlines()[0].rstrip(".")
        raise UsageError(f"{path}{reason if reason.startswith(',') else f': {reason}'}: mend or remove it.") from error


def _too_deep(path: Path, encoding: str) -> int | None:
    """The line at which more than `DEEPEST` brackets are open; None if there is none.

    Brackets in texts count, until a file has that many; then texts are taken out.
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


def _bad_line(path: Path, separator: str, quoting: int, encoding: str, width: int) -> str | None:
    with open_text(path, encoding) as file:
        lines = csv.reader(file, delimiter=separator, quoting=quoting, strict=True)
        try:
            for cells in lines:
                if len(cells) > width:
                    return f", line {lines.line_num}: {len(cells)} columns where the header has {width}"
        except csv.Error as error:
            return f", line {lines.line_num}: {error}"
    return None


def _bad_json(path: Path, encoding: str) -> str | None:
    with open_text(path, encoding) as file:
        text = file.read()
    try:
        if isinstance(found := json.loads(text), list):
            bad = next((number for number, row in enumerate(found, start=1) if not isinstance(row, dict)), None)
            return f": element {bad} of the list is not a JSON object; write {{column: value}} each"
        return None
    except (ValueError, RecursionError) as error:
        if kind_of(path) == ".json" and text.lstrip()[:1] == "[":
            return f", line {getattr(error, 'lineno', 1)}: not JSON ({getattr(error, 'msg', 'nested too deeply')})"
    for number, line in enumerate(text.split("\n"), start=1):
        try:
            if line.strip() and not isinstance(json.loads(line), dict):
                return f", line {number}: not a JSON object; write {{column: value}} a line"
            line.encode()
            json.dumps(json.loads(line) if line.strip() else {}, ensure_ascii=False).encode()
        except (ValueError, RecursionError) as error:
            return f", line {number}: not JSON ({getattr(error, 'msg', None) or error.args[-1]})"
    return None


def _lines_of(path: Path, separator: str, quoting: int, encoding: str, header: bool) -> Any:
    """The line of each row, counted when it is asked for: a quoted cell may hold several lines."""

    def line_of(row: int) -> str:
        with open_text(path, encoding) as file:
            lines = csv.reader(file, delimiter=separator, quoting=quoting)
            rows = (lines.line_num for cells in lines if cells)
            number = next((line for count, line in enumerate(rows) if count == row + header), None)
        return f"row {row + 1}" if number is None else f"line {number}"

    return line_of


def _unreadable(path: Path, error: BaseException, encoding: str) -> UsageError:
    if isinstance(error, UnicodeError):
        named = "UTF-8" if encoding in ("", ENCODING) else encoding
        return UsageError(f"{path}: not {named} text: save it as UTF-8, or say its --encoding, such as latin-1.")
    if isinstance(error, ValueError) or not str(error):
        return UsageError(f"{path}: no rows in it: give a file with at least one example.")
    reason = getattr(error, "strerror", None) or str(error).splitlines()[0].rstrip(".")
    return UsageError(f"{path}: cannot be read ({reason}): check the path, its rights and its packing.")
