"""The place of each way among the others, over data sets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from benchmarks.evidence.paired import Way, by_data

Line = Mapping[str, Any]


def mean_ranks(lines: Iterable[Line], ways: Sequence[Way], figure: str = "figure") -> dict[Way, float]:
    """The mean place of each way, 1 for the best, over the data sets that all ways have.

    On a data set the ways are ordered by their mean over the seeds that all of them have.  Equal means share a place.
    It is empty if no data set has them all.
    """
    lines = list(lines)
    of_way = {way: by_data(lines, way) for way in ways}
    common = sorted(set.intersection(*(set(found) for found in of_way.values()))) if ways else []
    places: dict[Way, list[float]] = {way: [] for way in ways}
    for data in common:
        of_group = [{line["group"]: line[figure] for line in of_way[way][data] if figure in line} for way in ways]
        groups = sorted(set.intersection(*(set(one) for one in of_group)))
        if groups:
            means = [fmean(one[group] for group in groups) for one in of_group]
            for way, place in zip(ways, _places(means), strict=True):
                places[way].append(place)
    return {way: fmean(found) for way, found in places.items() if found}


def _places(values: Sequence[float]) -> list[float]:
    """1 for the largest.  Equal values share the mean of their places."""
    value = np.asarray(values)
    larger = (value[None, :] > value[:, None]).sum(axis=1)
    equal = (value[None, :] == value[:, None]).sum(axis=1)
    return [float(place) for place in larger + (equal + 1) / 2]


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's: the correlation of the places.  NaN if one of them has equal values only, or fewer than three.

    Example:
        >>> rank_correlation([1, 2, 3], [10, 20, 25])
        1.0
    """
    x, y = (np.array(_places(values)) for values in (a, b))
    x, y = x - x.mean(), y - y.mean()
    norm = float(np.sqrt((x @ x) * (y @ y)))
    return round(float(x @ y) / norm, 12) if norm and len(x) > 2 else float("nan")
