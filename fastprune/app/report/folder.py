"""The run folder: files with fixed names, each complete or absent, never half-written.

``config.json``    the settings of the command; carries ``fastprune_run``, which marks the folder as ours.  Of use to a
                   report: data and model (their names), task (its kind), metrics and reported (names of quality
                   measures and splits, the deciding one first) and best (the split that chooses the epoch, or null).
``metrics.jsonl``  one evaluation a line: one an epoch and reported split.  Keys: run, method, keep_fraction, seed,
                   epoch, phase ("full", "warmup", "pruned" or "final"), kept, split, the quality measures by their
                   names in `fastprune.app.quality`, train_loss, lr; cycle (the index of the phase: 0 in the warm-up,
                   1, 2, … in the cycles, and one more in the final epochs on everything), and of the newest
                   selection churn (share of the kept that were not kept before) and threshold; and, counted from the
                   run's start, examples_seen, steps, cpu_seconds, train_seconds, score_seconds, select_seconds and
                   their sum ``seconds`` (evaluation excluded).
                   Language models also have tokens_seen, the tokens trained on since the run's start.
``scores.parquet`` run, seed, epoch (the user's epoch at whose end was scored), index, score, kept.  Methods that
                   learn from the training steps have the scores of the last epoch, too; they chose nothing, so kept is
                   false.
``data_map.parquet`` run, seed, index, confidence (mean of p(label)), variability (its deviation); of runs that
                   recorded them.
``summary.json``   see `fastprune.app.report.summary.make_summary`; a report makes it again and takes model_run from it.
``classes.json``   precision, recall, f1 and support of each class, or type of span, of the model in ``model/`` on the
                   deciding split.
``texts.json``     text and label of the examples that the page shows, by index: a report opens no other folder.
``report.png``     the picture (see `fastprune.app.report.plots`).
``report.md``      sentences, tables, picture, classes, and the most and the least useful examples.
``report.html``    the same page in one file.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastprune.app.data.files import read_text
from fastprune.app.report.columns import read_typed_columns, write_typed_columns
from fastprune.app.report.json_types import Row
from fastprune.app.report.rows import check_classes, check_config, check_evaluation
from fastprune.errors import UsageError
from fastprune.files.atomic import left_over, write_atomic
from fastprune.files.lock import LOCK

CONFIG, METRICS, SCORES = "config.json", "metrics.jsonl", "scores.parquet"
SUMMARY, PICTURE, PAGE, DATA_MAP = "summary.json", "report.png", "report.md", "data_map.parquet"
TEXTS, CLASSES, HTML = "texts.json", "classes.json", "report.html"
REPORT = (PICTURE, PAGE, HTML)
MODEL = "model"
FILES = (CONFIG, METRICS, SCORES, DATA_MAP, SUMMARY, TEXTS, CLASSES, *REPORT)
MARK = "fastprune_run"
FORMAT_VERSION = 1
SCORE_TYPES = {
    "run": "string",
    "seed": "int64",
    "epoch": "int32",
    "index": "int64",
    "score": "float32",
    "kept": "bool",
}
MAP_TYPES = {"run": "string", "seed": "int64", "index": "int64", "confidence": "float32", "variability": "float32"}


class RunFolder:
    """Readers and atomic writers of one run folder.  Make one with `create` or `open`."""

    def __init__(self, path: Path):
        self.path = path

    @classmethod
    def create(cls, path: str | Path) -> RunFolder:
        """Make a folder for a new run.

        An older run in it loses its files at once, so that no mixture of two runs can be read.

        Raises:
            UsageError: ``path`` is a file, or holds anything but a run that carries our mark.
        """
        path = Path(path)
        if path.exists() and not path.is_dir():
            raise UsageError(f"{path}: a file is in the way: choose another name for the run folder.")
        there = set(path.iterdir()) if path.is_dir() else set()
        if there.difference({path / LOCK, *left_over(path, FILES)}) and not is_ours(path):
            raise UsageError(f"{path}: not empty and not a run folder: choose a new or an empty folder.")
        path.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            (path / name).unlink(missing_ok=True)
        return cls(path)

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """Open an existing run folder.

        Raises:
            UsageError: it is none.
        """
        path = Path(path)
        if not path.is_dir():
            raise UsageError(f"{path}: no such folder: give the folder of an earlier run.")
        if not ((path / METRICS).is_file() or is_ours(path)):
            raise UsageError(f"{path}: not a run folder (no {METRICS}): give the folder of an earlier run.")
        return cls(path)

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write the settings, first of all files: they mark the folder as a run folder."""
        write_json(self.path / CONFIG, {MARK: FORMAT_VERSION, **config})

    def write_metrics(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write all rows so far.  It may be called again as they grow."""
        text = "".join(json.dumps(plain(row), ensure_ascii=False) + "\n" for row in rows)
        write_atomic(self.path / METRICS, lambda temporary: temporary.write_text(text, encoding="utf-8"))

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write what `fastprune.app.report.summary.make_summary` makes."""
        write_json(self.path / SUMMARY, summary)

    def write_classes(self, classes: Mapping[str, Mapping[str, float]]) -> None:
        """Write precision, recall, f1 and support by class."""
        write_json(self.path / CLASSES, classes)

    def write_texts(self, texts: Mapping[int, tuple[str, str]]) -> None:
        """Write (text, label) by index of the examples that a report shows."""
        write_json(self.path / TEXTS, {str(index): list(both) for index, both in texts.items()})

    def write_scores(self, columns: Mapping[str, Sequence[Any] | np.ndarray]) -> None:
        """Write one row per scoring cycle and example, in the columns of `SCORE_TYPES`, all of one length."""
        write_typed_columns(self.path / SCORES, SCORE_TYPES, columns)

    def write_data_map(self, columns: Mapping[str, Sequence[Any] | np.ndarray]) -> None:
        """Write one row per run, seed and example, in the columns of `MAP_TYPES`, all of one length."""
        write_typed_columns(self.path / DATA_MAP, MAP_TYPES, columns)

    def read_config(self) -> Row:
        """Return the settings, or {} if the file is missing."""
        path = self._there(CONFIG)
        return {} if path is None else check_config(read_json(path), str(path))

    def read_summary(self) -> Row | None:
        """Return the summary, or None while the run has not ended."""
        path = self._there(SUMMARY)
        return None if path is None else read_json(path)

    def read_classes(self) -> dict[str, Row] | None:
        """Return what `write_classes` wrote, or None before."""
        path = self._there(CLASSES)
        return None if path is None else check_classes(read_json(path), str(path))

    def read_texts(self) -> dict[int, tuple[str, str]]:
        """Return what `write_texts` wrote, or {} before."""
        path = self._there(TEXTS)
        if path is None:
            return {}
        try:
            return {int(index): (str(text), str(label)) for index, (text, label) in read_json(path).items()}
        except (TypeError, ValueError) as error:
            if isinstance(error, UsageError):
                raise
            raise UsageError(f"{path}: not texts by index: remove it.") from None

    def read_metrics(self) -> list[Row]:
        """Return the evaluations in the order they were made, or [] before the first."""
        path = self._there(METRICS)
        lines = [] if path is None else read_text(path).split("\n")
        where = [(line, f"{path}, line {number}") for number, line in enumerate(lines, start=1) if line.strip()]
        return [check_evaluation(_parse(line, here), here) for line, here in where]

    def read_scores(self) -> dict[str, np.ndarray] | None:
        """Return the columns of `SCORE_TYPES` as arrays (run: object), or None if nothing was scored."""
        path = self._there(SCORES)
        return None if path is None else read_typed_columns(path, SCORE_TYPES)

    def read_data_map(self) -> dict[str, np.ndarray] | None:
        """Return the columns of `MAP_TYPES` as arrays, or None if no run recorded it."""
        path = self._there(DATA_MAP)
        return None if path is None else read_typed_columns(path, MAP_TYPES)

    def _there(self, name: str) -> Path | None:
        """Return the file's path, or None without one.

        A folder from elsewhere may hold links to anywhere, or a pipe.
        """
        path = self.path / name
        if not os.path.lexists(path):
            return None
        if not path.is_file() or not path.resolve().is_relative_to(self.path.resolve()):
            raise UsageError(f"{path}: not a file of this folder: put the file itself there, or remove it.")
        return path


def is_ours(path: Path) -> bool:
    """Return whether a folder carries the mark of this library.  Only such a one may lose files to a new run.

    A bare config.json is not enough, as every model checkpoint has one.  Nor is metrics.jsonl, a common name.
    """
    try:
        return (path / CONFIG).is_file() and MARK in json.loads((path / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, RecursionError):
        return False


def write_json(path: Path, value: Any) -> None:
    """Write indented UTF-8 JSON, atomically."""
    text = json.dumps(plain(value), indent=2, ensure_ascii=False) + "\n"
    write_atomic(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def read_json(path: Path) -> Row:
    """Return a JSON object.

    Raises:
        UsageError: the file holds anything else.
    """
    return _parse(read_text(path), str(path))


def plain(value: Any) -> Any:
    """Return ``value`` in JSON's own types.  Scalars of NumPy and torch are unpacked, NaN and infinity become None.

    >>> plain({"a": np.float32(0.5), "b": float("nan")})
    {'a': 0.5, 'b': None}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (str, bool, int)) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item"):
        return plain(value.item())
    raise TypeError(f"a {type(value).__name__} cannot be written as JSON: convert it to plain numbers or text.")


def _parse(text: str, where: str) -> Row:
    try:
        row = json.loads(text)
        json.dumps(row, ensure_ascii=False).encode()  # halves of characters could not be written again
    except (ValueError, RecursionError) as error:
        what = "nested too deeply" if isinstance(error, RecursionError) else getattr(error, "msg", error)
        raise UsageError(f"{where}: not JSON ({what}): mend or remove it.") from None
    if not isinstance(row, dict):
        raise UsageError(f"{where}: not a JSON object: mend or remove it.")
    return row
