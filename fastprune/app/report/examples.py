"""Finds the examples that a run found most and least useful, with their texts where they are at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fastprune.app.data.types import Label, Split, TextData, Turn

LONGEST = 300
"""So many characters of a language model's question, and of its answer, are shown."""


@dataclass(frozen=True)
class Example:
    """An example and its score.

    Attributes:
        kept: in how many of the run's ``cycles`` it was kept.
        text, label: None where they are not at hand.
    """

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
    scores: Mapping[str, np.ndarray],
    run: str,
    seed: int,
    *,
    count: int,
    texts: Mapping[int, tuple[str, str]] | None = None,
) -> Extremes:
    """Return the most and least useful examples of a run.

    A higher score means more left to learn.  Equal scores go by index.  Scores that are not finite are left out.

    Args:
        scores: the columns of scores.parquet.
        run: its name.
        seed: its seed.
        texts: (text, label) by index of those that are at hand.
        count: how many of each.
    """
    mine = (scores["run"] == run) & (scores["seed"] == seed)
    epoch = int(scores["epoch"][mine].max())
    # The scores at the end of a run chose nothing: no cycle began with them.
    cycles = len(np.unique(scores["epoch"][mine & scores["kept"].astype(bool)]))
    kept = np.bincount(scores["index"][mine], weights=scores["kept"][mine]).astype(int)
    last = mine & (scores["epoch"] == epoch) & np.isfinite(scores["score"])
    index, score = scores["index"][last], scores["score"][last]

    def of(order: np.ndarray) -> list[Example]:
        return [
            Example(int(index[i]), float(score[i]), int(kept[index[i]]), cycles, *(texts or {}).get(int(index[i]), ()))
            for i in order[:count]
        ]

    most, least = np.lexsort((index, -score)), np.lexsort((index, score))
    count = min(count, len(score) // 2)
    return Extremes(run, seed, epoch, of(most), of(least))


def texts_of(data: TextData, found: Extremes) -> dict[int, tuple[str, str]]:
    """Return (text, label) of the examples by index.

    The texts of a pair are one.  Of a language model they are the question and the answer, cut where they are long.
    """
    split = data.train
    shown = [example.index for example in (*found.most, *found.least) if example.index < len(split)]
    return {i: _labelled(split, i) if split.turns is None else _turns(split.texts[i], split.turns[i]) for i in shown}


def _labelled(split: Split, i: int) -> tuple[str, str]:
    text = split.texts[i] if split.pairs is None else f"{split.texts[i]} / {split.pairs[i]}"
    return text, "" if split.labels is None else _spelled(split.labels[i])


def _turns(question: str, turns: Sequence[Turn]) -> tuple[str, str]:
    return _beginning(question), _beginning(turns[-1].text) if len(turns) > 1 else ""


def _beginning(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _spelled(label: Label) -> str:
    return ", ".join(label) if isinstance(label, tuple) else f"{label:g}" if isinstance(label, float) else label
