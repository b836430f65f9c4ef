"""The run folder: files with fixed names, each complete or absent, never half-written.

``config.json``    the settings of the command; carries ``fastprune_run``, which marks the folder as ours.
``metrics.jsonl``  one evaluation a line.  Keys: run, seed, epoch, phase ("full", "warmup", "pruned" or "final"),
                   kept, split, intent_accuracy, slot_f1 (joint only), exact_match, train_loss; cycle (0 before the
                   first), and of its selection churn (share of the kept that were not kept before) and threshold;
                   and, counted from the run's start, examples_seen, steps, train_seconds, score_seconds,
                   select_seconds and their sum ``seconds`` (evaluation excluded).
``scores.parquet`` run, seed, epoch (the user's epoch at whose end was scored), index, score, kept.  Methods that
                   learn from the training steps have the scores of the last epoch, too; they chose nothing, so kept is
                   false.
``data_map.parquet`` run, seed, index, confidence (mean of p(label)), variability (its deviation); of runs that
                   recorded them.
``summary.json``   data, model and one row per run (see `fastprune.report.summary`).
``texts.json``     text and label of the examples that the page shows, by index: a report opens no other folder.
``report.png``     the picture (see `fastprune.report.plots`).
``report.md``      table, picture, and the most and the least useful examples.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastprune.atomic import left_over, write_atomic
from fastprune.data.files import read_text
from fastprune.errors import UsageError
from fastprune.lock import LOCK
from fastprune.parquet import pyarrow_for

CONFIG, METRICS, SCORES = "config.json", "metrics.jsonl", "scores.parquet"
SUMMARY, PICTURE, PAGE, DATA_MAP = "summary.json", "report.png", "report.md", "data_map.parquet"
TEXTS = "texts.json"
FILES = (CONFIG, METRICS, SCORES, DATA_MAP, SUMMARY, TEXTS, PICTURE, PAGE)
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

Row = dict[str, Any]


class RunFolder:
    """Readers and atomic writers of one run folder; make one with `create` or `open`."""

    def __init__(self, path: Path):
        self.path = path

    @classmethod
    def create(cls, path: str | Path) -> RunFolder:
        """A folder for a new run.

        An older run in it loses its files at once, so that no mixture of two runs can be read.  Raises
        `UsageError` if ``path`` is a file or holds anything but a run that carries our mark.
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
        """An existing run folder; `UsageError` if it is none."""
        path = Path(path)
        if not path.is_dir():
            raise UsageError(f"{path}: no such folder: give the folder of an earlier run.")
        if not ((path / METRICS).is_file() or is_ours(path)):
            raise UsageError(f"{path}: not a run folder (no {METRICS}): give the folder of an earlier run.")
        return cls(path)

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write it first: it marks the folder as a run folder."""
        write_json(self.path / CONFIG, {MARK: FORMAT_VERSION, **config})

    def write_metrics(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """All rows so far; call it again as they grow."""
        text = "".join(json.dumps(plain(row), ensure_ascii=False) + "\n" for row in rows)
        write_atomic(self.path / METRICS, lambda temporary: temporary.write_text(text, encoding="utf-8"))

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """``{"data": ..., "model": ..., "rows": [...]}``."""
        write_json(self.path / SUMMARY, summary)

    def write_texts(self, texts: Mapping[int, tuple[str, str]]) -> None:
        """(text, label) by index of the examples that a report shows."""
        write_json(self.path / TEXTS, {str(index): list(both) for index, both in texts.items()})

    def read_texts(self) -> dict[int, tuple[str, str]]:
        """What `write_texts` wrote; {} before."""
        if not (self.path / TEXTS).exists():
            return {}
        found = read_json(self.path / TEXTS)
        try:
            return {int(index): (str(text), str(label)) for index, (text, label) in found.items()}
        except (TypeError, ValueError):
            raise UsageError(f"{self.path / TEXTS}: not texts by index: remove it.") from None

    def write_scores(self, columns: Mapping[str, Sequence[Any] | np.ndarray]) -> None:
        """One row per scoring cycle and example; columns as in `SCORE_TYPES`, all of one length."""
        self._write_table(SCORES, SCORE_TYPES, columns)

    def write_data_map(self, columns: Mapping[str, Sequence[Any] | np.ndarray]) -> None:
        """One row per run, seed and example; columns as in `MAP_TYPES`, all of one length."""
        self._write_table(DATA_MAP, MAP_TYPES, columns)

    def read_config(self) -> Row:
        """The settings, or {} if the file is missing."""
        return read_json(self.path / CONFIG) if (self.path / CONFIG).exists() else {}

    def read_summary(self) -> Row | None:
        """The summary, or None while the run has not ended."""
        path = self.path / SUMMARY
        return read_json(path) if path.exists() else None

    def read_metrics(self) -> list[Row]:
        """The evaluations in the order they were made; [] before the first."""
        path = self.path / METRICS
        if not path.exists():
            return []
        rows = []
        for number, line in enumerate(read_text(path).split("\n"), start=1):
            if line.strip():
                rows.append(_parse(line, f"{path}, line {number}"))
        return rows

    def read_scores(self) -> dict[str, np.ndarray] | None:
        """The columns of `SCORE_TYPES` as arrays (run: object), or None if nothing was scored."""
        return self._read_table(SCORES, SCORE_TYPES)

    def read_data_map(self) -> dict[str, np.ndarray] | None:
        """The columns of `MAP_TYPES` as arrays, or None if no run recorded it."""
        return self._read_table(DATA_MAP, MAP_TYPES)

    def _write_table(
        self, name: str, types: Mapping[str, str], columns: Mapping[str, Sequence[Any] | np.ndarray]
    ) -> None:
        pa, parquet = pyarrow_for(name)
        if set(columns) != set(types):
            raise ValueError(f"columns are {sorted(columns)}: give exactly {sorted(types)}.")
        schema = pa.schema([(column, getattr(pa, _factory(kind))()) for column, kind in types.items()])
        table = pa.table({column: columns[column] for column in types}, schema=schema)
        write_atomic(self.path / name, lambda temporary: parquet.write_table(table, temporary))

    def _read_table(self, name: str, types: Mapping[str, str]) -> dict[str, np.ndarray] | None:
        path = self.path / name
        if not path.exists():
            return None
        pa, parquet = pyarrow_for(name)
        try:
            table = parquet.read_table(path.resolve())  # a relative path may look like a URI
        except (pa.ArrowException, OSError) as error:
            reason = str(error).splitlines()[0]
            raise UsageError(f"{path}: not readable ({reason}): remove it or run again.") from None
        missing = [column for column in types if column not in table.column_names]
        if missing:
            raise UsageError(f"{path}: no column {missing[0]!r}: remove the file or run again.")
        return {column: table[column].to_numpy() for column in types}


def is_ours(path: Path) -> bool:
    """True for a folder that carries the mark of this library: only such a one may lose files to a new run.

    A bare config.json is not enough, every model checkpoint has one; nor is metrics.jsonl, a common name.
    """
    try:
        return MARK in json.loads((path / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, RecursionError):
        return False


def write_picture(folder: Path, figure: Any, dpi: int = 150) -> Path:
    """Save a matplotlib figure as ``report.png`` in ``folder``."""
    path = folder / PICTURE
    write_atomic(path, lambda temporary: figure.savefig(temporary, dpi=dpi, format="png"))
    return path


def write_json(path: Path, value: Any) -> None:
    """Indented UTF-8 JSON, written atomically."""
    text = json.dumps(plain(value), indent=2, ensure_ascii=False) + "\n"
    write_atomic(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def read_json(path: Path) -> Row:
    """A JSON object; `UsageError` if the file holds anything else."""
    return _parse(read_text(path), str(path))


def plain(value: Any) -> Any:
    """``value`` in JSON's own types: scalars of numpy and torch unpacked, NaN and infinity as None."""
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


def _factory(kind: str) -> str:
    return "bool_" if kind == "bool" else kind
