"""Points lost against time saved, one picture for each length of training, beside the two points of the paper."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import Any

from benchmarks.evidence.compare import shows_test
from benchmarks.evidence.grid import grid
from benchmarks.evidence.paired import FULL, Way, leads, mean_lead
from benchmarks.evidence.summary import Calibrations, regimes, seconds_shares, ways_by_budget
from fastprune.app.report.curves import COLOURS, MARKERS

PAPER = ((41.0, 0.0), (66.0, -1.0))
"""(time saved %, points) that arXiv 2306.03208 states for RoBERTa-base, as the best of its data sets."""

Point = tuple[float, float, float, float]
"""Time saved in % of full's, the mean lead over full in points, and the ends of its 95 % interval."""


def points_of(lines: Iterable[Mapping[str, Any]], calibrations: Calibrations) -> dict[str, dict[str, list[Point]]]:
    """By the title of a regime and the label of a way, its points, one for each budget.

    A point is the mean over the data sets that every way of the regime has at that budget.
    """
    found: dict[str, dict[str, list[Point]]] = {}
    for regime, own in regimes(line for line in lines if shows_test(line)).items():
        of_regime = found.setdefault(regime.title, {})
        for ways in ways_by_budget(own).values():
            over = {way: leads(own, way, Way(FULL)) for way in ways}
            common = sorted(set.intersection(*(set(one) for one in over.values())))
            for way, of_data in over.items():
                times = seconds_shares(own, way, calibrations)
                shares = [times[data] for data in common if times.get(data) is not None]
                if not common or len(shares) < len(common):
                    continue
                lead = mean_lead(of_data[data] for data in common)
                saved = 100 * (1 - fmean(share for share in shares if share is not None))
                of_regime.setdefault(way.label, []).append((saved, lead.points, *lead.interval()))
    return {title: ways for title, ways in found.items() if ways}


def draw_frontier(points: Mapping[str, Mapping[str, list[Point]]]) -> Any:
    """The pictures, two in a row. Up is better, and right is cheaper."""
    figure, axes = grid(len(points), 2, (6.4, 4.6))
    names = list(dict.fromkeys(label for ways in points.values() for label in ways))
    for axis, (title, ways) in zip(axes, points.items(), strict=True):
        for label, found in ways.items():
            i = names.index(label)
            saved, lead, low, high = zip(*sorted(found), strict=True)
            below = [max(a - b, 0.0) for a, b in zip(lead, low, strict=True)]
            above = [max(b - a, 0.0) for a, b in zip(lead, high, strict=True)]
            style = {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)], "capsize": 3}
            axis.errorbar(saved, lead, yerr=[below, above], label=label, **style)
        axis.plot(*zip(*PAPER, strict=True), "k*", markersize=11, label="the paper, RoBERTa-base")
        axis.axhline(0.0, color="black", linewidth=0.8)
        axis.set_title(title, fontsize=8)
        axis.set_xlabel("time saved, % of full's")
        axis.set_ylabel("points over full, mean over data sets")
        axis.legend(fontsize=8)
    return figure
