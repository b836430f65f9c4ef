"""Reads tables through the builders that the `datasets` package brings: csv, tsv, json, parquet, packed or not.

Every column is read as text: "NA", "null", "007" and "nan" stay what they are.  A script is never run, the network is
never used, and the cache is a temporary folder.
"""

from __future__ import annotations

import codecs
import json
import logging
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastprune.app.data.explain import DEEPEST, bad_json, bad_line, explained, line_finder, too_deep, unreadable
from fastprune.app.data.table import Cell, Table, line_numbers
from fastprune.app.data.text import DELIMITED, ENCODING, JSON, cells_of, is_blank, kind_of, open_text, quoting_of
from fastprune.errors import UsageError, shown


def read_table(
    path: Path, *, encoding: str | None = None, header: Sequence[str] | None = None, kind: str | None = None
) -> Table:
    """Read one file as a table of texts.

    Args:
        path: the file.
        kind: the suffix that says what is in it, if its own does not.
        encoding: encoding of a text file.  By default UTF-8, with or without a byte-order mark.
        header: names for the columns of a file without a header line.

    Raises:
        UsageError: the file is missing, empty or packed wrongly, or a line of it is malformed.
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
        with explained(path, lambda: None):
            return table_of(_load("parquet", path), str(path))
    except (OSError, UnicodeError) as error:
        raise unreadable(path, error, encoding) from error


def table_of(dataset: Any, where: str) -> Table:
    """Turn a `datasets.Dataset` into a table: numbers as text, class numbers as names, -1 and None as nothing."""
    columns, classes = {}, {}
    for name, feature in dataset.features.items():
        names = getattr(getattr(feature, "feature", feature), "names", None)
        columns[name] = [_cell(value, names) for value in dataset[name]]
        if names is not None:
            classes[name] = list(names)
    return Table(where, columns, classes)


def datasets_for(data: str) -> Any:
    """Return the `datasets` package.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import datasets
    except ImportError:
        raise UsageError(
            f"data={data!r} is read by the datasets package, which is not installed: pip install 'fastprune[demo]'."
        ) from None
    return datasets


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
    with open_text(path, encoding) as file:
        lines = cells_of(file, separator)
        filled = (cells for cells in lines if not is_blank(cells))
        names = [name.strip() for name in (next(filled, []) if header is None else header)]
        skipped = 0 if header else lines.line_num
        first = next(filled, None)
    if first is None:
        raise UsageError(f"{path}: no rows in it: give a file with at least one example.")
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise UsageError(f"{path}: two columns of the same name, {shown(twice)}: rename one.")
    if len(first) > len(names):
        option = "name each in --columns" if header else "mend it, or name the columns of a file without header"
        raise UsageError(f"{path}, line {lines.line_num}: {len(first)} columns, but {len(names)} names: {option}.")
    options = {
        "sep": separator,
        "quoting": quoting_of(separator),
        "encoding": encoding,
        "keep_default_na": False,
        "na_filter": False,
    }
    options |= {"header": None, "column_names": names, "skiprows": skipped or None, "skip_blank_lines": False}
    datasets = datasets_for(str(path))
    features = datasets.Features({name: datasets.Value("string") for name in names})
    with explained(path, lambda: bad_line(path, separator, encoding, len(names))):
        columns = table_of(_load("csv", path, features=features, **options), str(path)).columns
    kept = [i for i, cells in enumerate(zip(*columns.values(), strict=True)) if not is_blank([str(c) for c in cells])]
    columns = {name: [cells[i] for i in kept] for name, cells in columns.items()}
    return Table(str(path), columns, {}, line_finder(path, separator, encoding, header=header is None))


def _json(path: Path, encoding: str) -> Table:
    if (line := too_deep(path, encoding)) is not None:
        raise UsageError(
            f"{path}, line {line}: nested more than {DEEPEST} deep: write one flat object for each example."
        )
    with explained(path, lambda: bad_json(path, encoding)):
        found = _load("json", path, encoding=encoding)
        columns = dict(table_of(found, str(path)).columns)
        dates = [name for name, feature in found.features.items() if "timestamp" in str(feature)]
        columns |= _as_written(path, encoding, dates) if dates else {}
    by_line = kind_of(path) != ".json"
    return Table(str(path), columns, {}, line_numbers()) if by_line else Table(str(path), columns)


def _as_written(path: Path, encoding: str, names: Sequence[str]) -> dict[str, list[Cell]]:
    """Return the columns of texts that look like dates, which the builder's parser would rewrite."""
    with open_text(path, encoding) as file:
        text = file.read()
    whole = text.lstrip()[:1] == "["
    rows = json.loads(text) if whole else [json.loads(line) for line in text.split("\n") if line.strip()]
    return {name: [_cell(row.get(name), None) for row in rows] for name in names}


def _load(builder: str, path: Path, **options: Any) -> Any:
    """Load the one split that a packaged builder makes of a file, in memory."""
    datasets = datasets_for(str(path))
    datasets.disable_progress_bars()
    logging.getLogger("datasets").setLevel(logging.CRITICAL)  # our own error says in one sentence what failed
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
