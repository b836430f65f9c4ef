"""How many points one way to train is ahead of another, with intervals from a paired bootstrap: pure functions.

With two or three seeds an interval holds the truth less often than it says: three seeds are few to learn a spread from.

Both ways share the seed, the data and the test texts. A resample draws seeds and texts anew with replacement, the same
for both ways. So what both have in common cancels, as the difficulty of a text does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from benchmarks.evidence.measures import unpacked

Line = Mapping[str, Any]
RESAMPLES = 2000
FULL = "full"
SHORT = "short full"


class Way(NamedTuple):
    """A way to train, as tables name it: a label and the budget, which is None for `full`."""

    label: str
    budget: float | None = None


@dataclass(frozen=True)
class Lead:
    """How far one way is ahead of another, in points of 100.

    Attributes:
        points: The mean over seeds, or over data sets.
        draws: The same of each resample, (`RESAMPLES`,).
        seeds: How many pairs there are, of the data set that has the fewest.
    """

    points: float
    draws: np.ndarray
    seeds: int

    def interval(self, share: float = 0.95) -> tuple[float, float]:
        """The middle ``share`` of the resamples."""
        low, high = np.quantile(self.draws, [(1 - share) / 2, (1 + share) / 2])
        return float(low), float(high)

    def below(self, points: float, share: float = 0.95) -> bool:
        """Whether the whole interval lies below ``points``. One seed without answers has none, and says nothing."""
        low, high = self.interval(share)
        return low < high < points

    def __str__(self) -> str:
        low, high = self.interval()
        interval = f" ({low:+.2f} to {high:+.2f})" if low < high else ""
        return f"{self.points:+.2f}{interval}"


def lead(ours: Sequence[Line], theirs: Sequence[Line], figure: str = "figure") -> Lead | None:
    """How far the first runs are ahead of the second on one data set. None if no seed is in both.

    Args:
        ours: One line for each seed.
        theirs: The same of the other way.
        figure: "figure" is that of the test split. Texts are resampled where both lines have `answers`. "validation" is
            that of the validation split, of which only the seeds are resampled.
    """
    others = {line["group"]: line for line in theirs if figure in line}
    pairs = [(line, others[line["group"]]) for line in ours if figure in line and line["group"] in others]
    if not pairs:
        return None
    # Each data set has draws of its own, because its seeds have nothing to do with those of another.
    rng = np.random.default_rng(list(pairs[0][0]["arguments"]["data"].encode()))
    drawn = rng.integers(len(pairs), size=(RESAMPLES, len(pairs)))
    points = np.array([100 * (a[figure] - b[figure]) for a, b in pairs])
    if figure == "figure" and all("answers" in line for pair in pairs for line in pair):
        texts = pairs[0][0]["answers"]["texts"]
        weights = rng.multinomial(texts, np.full(texts, 1 / texts), size=RESAMPLES)
        of_seed = np.stack([100 * (resampled(a, weights) - resampled(b, weights)) for a, b in pairs], axis=1)
    else:
        of_seed = np.broadcast_to(points, drawn.shape)
    return Lead(float(points.mean()), _of_drawn_seeds(of_seed, drawn), len(pairs))


def _of_drawn_seeds(of_seed: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """The mean over drawn seeds, (R,), of values (R, S).

    A resample of S seeds varies less than S new seeds, by the factor (S - 1) / S of variances. That is put right.
    """
    seeds = of_seed.shape[1]
    mean = of_seed.mean(axis=1)
    deviation = np.take_along_axis(of_seed, drawn, axis=1).mean(axis=1) - mean
    return mean + deviation * (seeds / max(seeds - 1, 1)) ** 0.5


def mean_lead(leads: Iterable[Lead]) -> Lead:
    """The mean over data sets, each of which counts alike. The data sets are not resampled."""
    found = list(leads)
    draws = np.mean([one.draws for one in found], axis=0)
    return Lead(fmean(one.points for one in found), draws, min(one.seeds for one in found))


def resampled(line: Line, weights: np.ndarray) -> np.ndarray:
    """The line's figure in each resample of the texts, (R,).

    Args:
        line: With `answers`.
        weights: (R, texts), how often each text was drawn.
    """
    found = line["answers"]
    right = unpacked(found["right"], found["texts"])
    if line["metric"] in ("exact_match", "accuracy"):
        return weights @ right / found["texts"]
    positive = unpacked(found["positive"], found["texts"])
    tp, tn = weights @ (right & positive), weights @ (right & ~positive)
    fn, fp = weights @ (~right & positive), weights @ (~right & ~positive)
    if line["metric"] == "f1":
        return np.where(tp > 0, 2 * tp / np.maximum(2 * tp + fp + fn, 1), 0.0)
    assert line["metric"] == "matthews", line["metric"]
    product = np.prod([(tp + fp), (tp + fn), (tn + fp), (tn + fn)], axis=0, dtype=float)
    return np.where(product > 0, (tp * tn - fp * fn) / np.sqrt(np.maximum(product, 1.0)), 0.0)


def by_data(lines: Iterable[Line], way: Way) -> dict[str, list[Line]]:
    """The lines of a way by data set. The lines must be of one setting apart from the data set."""
    found: dict[str, list[Line]] = {}
    for line in lines:
        if (line["label"], line["arguments"]["budget"]) == way:
            found.setdefault(line["arguments"]["data"], []).append(line)
    return found


def leads(lines: Iterable[Line], ours: Way, theirs: Way, figure: str = "figure") -> dict[str, Lead]:
    """How far ``ours`` is ahead of ``theirs`` on each data set that has both."""
    lines = list(lines)
    a, b = by_data(lines, ours), by_data(lines, theirs)
    found = {data: lead(a[data], b[data], figure) for data in sorted(set(a) & set(b))}
    return {data: one for data, one in found.items() if one is not None}
