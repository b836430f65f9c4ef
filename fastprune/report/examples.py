"""The examples a run found most and least useful, with their texts where the data can be loaded again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastprune.data import TextData, identity_of, load_source
from fastprune.errors import UsageError

SOURCE = "data_source"


@dataclass(frozen=True)
class Example:
    """``kept``: in how many of the run's ``cycles``; text and label are None where the data is not at hand."""

    index: int
    score: float
    kept: int
    cycles: int
    text: str | None = None
    label: str | None = None


@dataclass(frozen=True)
class Extremes:
    """The highest and the lowest of the newest scores of one run, most extreme first."""

    run: str
    seed: int
    epoch: int
    most: list[Example]
    least: list[Example]


def extremes(
    scores: Mapping[str, np.ndarray], run: str, seed: int, *, count: int, data: TextData | None = None
) -> Extremes:
    """The ``count`` most and least useful examples of a run; scores that are not finite are left out.

    A higher score means more left to learn.  Equal scores go by index.
    """
    mine = (scores["run"] == run) & (scores["seed"] == seed)
    epoch = int(scores["epoch"][mine].max())
    # The scores at the end of a run chose nothing: no cycle began with them.
    cycles = len(np.unique(scores["epoch"][mine & scores["kept"].astype(bool)]))
    kept = np.bincount(scores["index"][mine], weights=scores["kept"][mine]).astype(int)
    last = mine & (scores["epoch"] == epoch) & np.isfinite(scores["score"])
    index, score = scores["index"][last], scores["score"][last]

    def of(order: np.ndarray) -> list[Example]:
        return [_example(int(index[i]), float(score[i]), int(kept[index[i]]), cycles, data) for i in order[:count]]

    most, least = np.lexsort((index, -score)), np.lexsort((index, score))
    count = min(count, len(score) // 2)
    return Extremes(run, seed, epoch, of(most), of(least))


def data_of(config: Mapping[str, Any]) -> TextData | None:
    """The data a run was made on, loaded as it was then; None if it cannot be found or has changed."""
    source = config.get(SOURCE)
    if not isinstance(source, dict):
        return None
    try:
        data = load_source(source)
    except (UsageError, TypeError):
        return None
    return data if identity_of(data) == config.get("fingerprint") else None


def _example(index: int, score: float, kept: int, cycles: int, data: TextData | None) -> Example:
    if data is None or index >= len(data.train):
        return Example(index, score, kept, cycles)
    split = data.train
    text = split.texts[index] if split.pairs is None else f"{split.texts[index]} / {split.pairs[index]}"
    return Example(index, score, kept, cycles, text, split.intents[index])
