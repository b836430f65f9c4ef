"""Which rows of a score file count: those of one run in its newest epoch.

The ``scores.parquet`` of a run folder holds every run of a comparison, in the columns ``run``, ``seed`` and ``epoch``.
Scores of different runs are never mixed.  A file of several runs is refused until one is named.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fastprune.errors import UsageError

ScoreColumns = dict[str, np.ndarray]
MOST_SHOWN = 6


@dataclass(frozen=True)
class Which:
    """The run, seed and epoch that are wanted.

    None takes the only run and the only seed of the file, and the newest epoch.
    """

    run: str | None = None
    seed: int | None = None
    epoch: int | None = None


def rows_of_one_run(columns: Mapping[str, np.ndarray], where: str, which: Which) -> tuple[ScoreColumns, str | None]:
    """Return the rows of one run, the oldest epoch first.  Also return a note if it has several epochs.

    Args:
        columns: the columns of a score file, all of one length.  ``run``, ``seed`` and ``epoch`` may be missing.
        where: the file, for messages.
        which: what is wanted.

    Raises:
        UsageError: rows of several runs or seeds are left, or none.  Or a column that is needed is missing.
    """
    found = {name: np.asarray(values) for name, values in columns.items()}
    for name, wanted in (("run", which.run), ("seed", which.seed), ("epoch", which.epoch)):
        if wanted is not None:
            found = _only(found, name, wanted, where)
    runs = _pairs(found)
    if len(runs) > 1:
        raise UsageError(f"{where} holds scores of several runs ({_listed(runs)}); name one by its run and seed")
    if "epoch" not in found or len(epochs := np.unique(_numbers(found, "epoch", where))) < 2:
        return found, None
    order = np.argsort(_numbers(found, "epoch", where), kind="stable")
    note = f"{where} holds scores of {len(epochs)} epochs; of each example the newest counts (up to epoch {epochs[-1]})"
    return {name: values[order] for name, values in found.items()}, note


def _only(columns: ScoreColumns, name: str, wanted: str | int, where: str) -> ScoreColumns:
    if name not in columns:
        raise UsageError(f"{where} has no column {name!r}, so none of its rows is that of {name} {wanted!r}")
    values = columns[name].astype(str) if name == "run" else _numbers(columns, name, where)
    here = values == wanted
    if not here.any():
        there = _shorten([repr(value) for value in np.unique(values).tolist()])
        raise UsageError(f"{where} holds no rows of {name} {wanted!r}, only of {there}")
    return {key: column[here] for key, column in columns.items()}


def _pairs(columns: ScoreColumns) -> list[tuple[str, ...]]:
    """Return each different (run, seed) in the order of its first row.  A missing column is left out of the pairs."""
    named = [columns[name].astype(str).tolist() for name in ("run", "seed") if name in columns]
    return list(dict.fromkeys(zip(*named, strict=True)))


def _listed(runs: list[tuple[str, ...]]) -> str:
    return _shorten([", seed ".join(run) for run in runs], "; ")


def _shorten(names: list[str], separator: str = ", ") -> str:
    more = len(names) - MOST_SHOWN
    return separator.join(names[:MOST_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _numbers(columns: ScoreColumns, name: str, where: str) -> np.ndarray:
    try:
        return columns[name].astype(np.int64)
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"{where}: {name!r} must be whole numbers: {error}") from None
