"""Texts and labels in two files with the same number of lines, as in TweetEval.

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

TEXTS_END, LABELS_END, CLASSES_FILE = "_text.txt", "_labels.txt", "mapping.txt"


def matches(path: Path) -> bool:
    """A folder with a file of texts and its labels."""
    return path.is_dir() and any(_labels(text).is_file() for text in path.glob(f"*{TEXTS_END}"))


def read(path: Path) -> Mapping[str, Table]:
    """Splits by name; a file of texts without labels is an unlabelled one."""
    names = dict(line.split("\t", 1) for line in lines_of(path / CLASSES_FILE) if "\t" in line) if _named(path) else {}
    splits = {}
    for file in sorted(path.glob(f"*{TEXTS_END}")):
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
    return text.with_name(text.name.removesuffix(TEXTS_END) + LABELS_END)


def _named(path: Path) -> bool:
    return (path / CLASSES_FILE).is_file()
