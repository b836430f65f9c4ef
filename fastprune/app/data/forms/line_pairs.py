"""Texts and labels in two files of as many lines, as TweetEval has them.

``train_text.txt`` and ``train_labels.txt`` lie beside each other, and the same for ``val_`` and ``test_``.
``mapping.txt`` may name the numbers ("0<tab>negative").
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fastprune.app.data.files import lines_of
from fastprune.app.data.splits import role_of
from fastprune.app.data.table import Table, line_numbers
from fastprune.errors import UsageError

TEXTS, LABELS, NAMES = "_text.txt", "_labels.txt", "mapping.txt"


def matches(path: Path) -> bool:
    """Return whether it is a folder with a file of texts and its labels."""
    return path.is_dir() and any(_labels(text).is_file() for text in path.glob(f"*{TEXTS}"))


def read(path: Path) -> Mapping[str, Table]:
    """Return the splits by name.  A file of texts without labels is an unlabelled one."""
    names = dict(line.split("\t", 1) for line in lines_of(path / NAMES) if "\t" in line) if _named(path) else {}
    splits = {}
    for file in sorted(path.glob(f"*{TEXTS}")):
        texts = lines_of(file)
        columns: dict[str, list[str]] = {"text": texts}
        if _labels(file).is_file():
            labels = [names.get(label.strip(), label.strip()) for label in lines_of(_labels(file))]
            if len(labels) != len(texts):
                raise UsageError(
                    f"{_labels(file)}: {len(labels)} lines, but {file} has {len(texts)}: give one per text."
                )
            columns["label"] = labels
        splits[role_of(file.name) or file.name] = Table(str(file), columns, {}, line_numbers())
    return splits


def _labels(text: Path) -> Path:
    return text.with_name(text.name.removesuffix(TEXTS) + LABELS)


def _named(path: Path) -> bool:
    return (path / NAMES).is_file()
