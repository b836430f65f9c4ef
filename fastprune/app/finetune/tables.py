"""Predictions as the columns of a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastprune.app.data.types import Label, Split
from fastprune.app.finetune.evaluate import Predicted
from fastprune.files.atomic import write_atomic
from fastprune.files.score_files import write_columns


def label_text(label: Label) -> str:
    """Return a class, a number, or several classes joined by commas."""
    if isinstance(label, tuple):
        return ",".join(label)
    return label if isinstance(label, str) else repr(label)


def identity_columns(split: Split) -> dict[str, np.ndarray]:
    """Return ``row`` in the file, from 0, and ``id`` if there is one."""
    columns: dict[str, np.ndarray] = {"row": np.array(split.row_numbers, dtype=np.int64)}
    return columns if split.ids is None else {**columns, "id": np.array(split.ids, dtype=object)}


def label_column(labels: Sequence[Label] | None, tags: Sequence[Sequence[str]] | None) -> np.ndarray:
    """Return labels as texts, and numbers as numbers.  Of tags alone it is those of a text joined by blanks."""
    if labels is None:
        return np.array([" ".join(row) for row in tags or ()], dtype=object)
    if labels and isinstance(labels[0], float):
        return np.array(labels, dtype=np.float64)
    return np.array([label_text(label) for label in labels], dtype=object)


def prediction_columns(split: Split, predicted: Predicted) -> dict[str, np.ndarray]:
    """Return row, id if there is one, ``prediction``, and its ``probability`` where there is one.

    Joint models also have ``tags``.
    """
    columns = {**identity_columns(split), "prediction": label_column(predicted.labels, predicted.tags)}
    if predicted.probabilities is not None:
        columns["probability"] = np.array(predicted.probabilities, dtype=np.float32)
    if predicted.labels is not None and predicted.tags is not None:
        columns["tags"] = label_column(None, predicted.tags)
    return columns


def write_table(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    """Write a table as `write_columns` does, and also as ``.tsv``."""
    if path.suffix != ".tsv":
        write_columns(path, columns)
        return
    rows = zip(*(_plain(values) for values in columns.values()), strict=True)

    def write(temporary: Path) -> None:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            # Without quotes, as tab-separated files are read: what would end a cell becomes a blank.
            for row in ([*columns], *rows):
                file.write("\t".join(" ".join(str(cell).split()) for cell in row) + "\n")

    write_atomic(path, write)


def _plain(values: np.ndarray) -> list[Any]:
    return [float(str(v)) for v in values] if values.dtype == np.float32 else list(values.tolist())
