"""Classification tables: .csv, .tsv and .jsonl, one example a row.

A folder holds ``train.*``, ``test.*`` and optionally one of ``validation.*``, ``valid.*``, ``dev.*``.
Without a test file, a tenth of the train rows is held out: per class, chosen by the seed.
"""

from __future__ import annotations

import csv
import io
import json
import random
import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastprune.data.columns import Columns, Wanted
from fastprune.data.files import read_text
from fastprune.data.types import Split, TextData, build, check_tags, clean_text
from fastprune.errors import UsageError

SUFFIXES = (".csv", ".tsv", ".jsonl")
VALIDATION_NAMES = ("validation", "valid", "dev")
HOLD_OUT = 0.1

Row = dict[str, Any]


def load_table_file(path: Path, wanted: Wanted, seed: int = 0) -> TextData:
    """One file; a tenth of it becomes the test split."""
    train, test = hold_out(read_table(path, wanted), seed, str(path))
    return build(path.stem, train, None, test)


def load_table_folder(folder: Path, wanted: Wanted, seed: int = 0) -> TextData:
    """A folder of split files; raises `UsageError` when train is missing or a split has two files."""
    train_path = find_split(folder, ("train",))
    if train_path is None:
        raise UsageError(
            f"{folder}: neither train/ with seq.in, seq.out and label nor train.csv, train.tsv or "
            "train.jsonl in it: point data at a folder that has one of them."
        )
    train = read_table(train_path, wanted)
    validation_path = find_split(folder, VALIDATION_NAMES)
    validation = None if validation_path is None else read_table(validation_path, wanted)
    test_path = find_split(folder, ("test",))
    if test_path is None:
        train, test = hold_out(train, seed, str(train_path))
    else:
        test = read_table(test_path, wanted)
    return build(folder.name, train, validation, test)


def table_files(folder: Path) -> list[Path]:
    """Every file that such a folder may have."""
    return [folder / (stem + suffix) for stem in ("train", "test", *VALIDATION_NAMES) for suffix in SUFFIXES]


def find_split(folder: Path, stems: tuple[str, ...]) -> Path | None:
    """The one table in ``folder`` named after one of ``stems``, or None."""
    found = [folder / (stem + suffix) for stem in stems for suffix in SUFFIXES]
    found = [path for path in found if path.is_file()]
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise UsageError(f"{folder}: holds {names}: keep one file per split.")
    return found[0] if found else None


def hold_out(split: Split, seed: int, where: str) -> tuple[Split, Split]:
    """(train, test): about a tenth of each class goes to test; classes of one example stay in train.

    Both keep the file's order.  Warns once, because a self-made test split is easy to overlook.
    """
    by_class: dict[str, list[int]] = defaultdict(list)
    for i, label in enumerate(split.intents):
        by_class[label].append(i)
    rng = random.Random(seed)
    # Every class in turn, each shuffled, dealt into one line and cut at every tenth: classes smaller
    # than ten still reach the test split in proportion to what they add up to.
    line = []
    for label in sorted(by_class):
        indices = by_class[label]
        rng.shuffle(indices)
        line += indices[:-1]
    step = round(1 / HOLD_OUT)
    test = set(line[rng.randrange(min(step, max(len(line), 1))) :: step])
    if not test:
        raise UsageError(f"{where}: too few rows to hold out a test split: give a test file as well.")
    warnings.warn(
        f"{where}: no test split beside it: held out {len(test)} of {len(split)} rows for one (seed {seed}).",
        stacklevel=2,
    )
    train_indices = [i for i in range(len(split)) if i not in test]
    return split.select(train_indices), split.select(sorted(test))


def read_table(path: Path, wanted: Wanted) -> Split:
    """One file as a Split; raises `UsageError` naming the file and line of the first bad row."""
    columns: Columns | None = None
    texts: list[str] = []
    intents: list[str] = []
    pairs: list[str] = []
    slots: list[list[str]] = []
    for line, row in _rows(path):
        if columns is None:
            columns = wanted.resolve(list(row), str(path))
        where = f"{path}, line {line}"
        text = _cell(row, columns.text, where)
        intents.append(_cell(row, columns.label, where))
        if columns.pair is not None:
            pairs.append(_cell(row, columns.pair, where))
        if columns.slots is not None:
            text = clean_text(text)
            tags = row.get(columns.slots)
            slots.append(tags if isinstance(tags, list) else _cell(row, columns.slots, where).split())
            check_tags(text, slots[-1], where)
        texts.append(text)
    if columns is None:
        raise UsageError(f"{path}: no rows in it: give a file with at least one example.")
    return Split(
        texts,
        intents,
        slots if columns.slots is not None else None,
        pairs if columns.pair is not None else None,
    )


def _cell(row: Row, column: str, where: str) -> str:
    value = row.get(column)
    # Labels are often numbers in JSON; a list or an object is the wrong column.
    if isinstance(value, (list, dict)):
        raise UsageError(f"{where}: column {column!r} holds a {type(value).__name__}: choose a column of text.")
    text = "" if value is None else str(value).strip()
    if not text:
        raise UsageError(f"{where}: column {column!r} is empty: fill it in or remove the row.")
    return text


def _rows(path: Path) -> Iterator[tuple[int, Row]]:
    text = read_text(path)
    return _json_rows(path, text) if path.suffix.lower() == ".jsonl" else _delimited_rows(path, text)


def _json_rows(path: Path, text: str) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise UsageError(f"{path}, line {number}: not JSON ({error.msg}): write one object a line.") from None
        if not isinstance(row, dict):
            raise UsageError(f"{path}, line {number}: not a JSON object: write {{column: value}} a line.")
        yield number, row


def _delimited_rows(path: Path, text: str) -> Iterator[tuple[int, Row]]:
    if path.suffix.lower() == ".tsv":
        # Tab-separated files such as GLUE's hold bare quotes that mean nothing.
        reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t", quoting=csv.QUOTE_NONE)
    else:
        # Strict: a forgotten closing quote would otherwise swallow the rest of the file in silence.
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    try:
        for cells in reader:
            if not cells:
                continue
            if header is None:
                header = [name.strip() for name in cells]
                if len(set(header)) < len(header):
                    raise UsageError(f"{path}: two columns of the same name in {header}: rename one.")
                continue
            if len(cells) != len(header):
                raise UsageError(
                    f"{path}, line {reader.line_num}: {len(cells)} columns, but the header has "
                    f"{len(header)}: quote or remove the extra separator, or fill the row up."
                )
            yield reader.line_num, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise UsageError(f"{path}, line {reader.line_num}: {error}: mend the quotes of that row.") from None
