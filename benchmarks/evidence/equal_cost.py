"""How far a way is ahead of a shorter full run that costs as much, where the cost is padded tokens or computed time.

`short full` was run at a few budgets only.  Between them, and up to `full`, its figure is taken as linear in the cost.
Equal examples need no such guess: the runs of one budget have them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import Any

import numpy as np

from benchmarks.evidence.compare import Pair, pair
from benchmarks.evidence.paired import FULL, SHORT, Way, by_data

Line = Mapping[str, Any]
COSTS = ("padded", "seconds")
"""Fields of `Pair` that are a share of full's cost."""

REACH = 0.03
"""How far outside of the known costs a figure is still taken, as a share of full's cost: that of the nearest run."""


def leads_at_equal_cost(
    lines: Iterable[Line], way: Way, calibrations: Mapping[str, Mapping[str, Any]], cost: str
) -> dict[str, float]:
    """By data set, the mean lead over short full in points, over the seeds that have full and short full.

    Args:
        lines: Of one regime.
        way: What is compared.
        calibrations: By machine kind, for the computed time.
        cost: One of `COSTS`.
    """
    lines = list(lines)
    bases = {line["group"]: line for line in lines if line["label"] == FULL}
    shorter: dict[str, list[Pair]] = {}
    for line in lines:
        if line["label"] == SHORT and line["group"] in bases:
            shorter.setdefault(line["group"], []).append(pair(bases[line["group"]], line, calibrations))
    found = {}
    for data, own in by_data(lines, way).items():
        known = {line["group"]: line for line in own if line["group"] in bases}
        pairs = {group: pair(bases[group], line, calibrations) for group, line in known.items()}
        points = [_over(one, shorter.get(group, ()), cost) for group, one in pairs.items()]
        told = [one for one in points if one is not None]
        if told:
            found[data] = fmean(told)
    return found


def _over(one: Pair, shorter: Iterable[Pair], cost: str) -> float | None:
    """Points over the line through the short runs and full.  None if the cost lies outside of them."""
    runs = [(getattr(short, cost), short.points) for short in shorter]
    at = getattr(one, cost)
    if not runs or at is None or any(share is None for share, _ in runs):
        return None
    known = sorted([*runs, (1.0, 0.0)])
    if not known[0][0] - REACH <= at <= known[-1][0] + REACH:
        return None
    return one.points - float(np.interp(at, *zip(*known, strict=True)))
