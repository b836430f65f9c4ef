"""Draws how runs went: the deciding quality measure against time and by epoch, and the loss."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from statistics import fmean
from typing import Any

from fastprune.app.report.summary import BASELINE

# Okabe and Ito's palette, which stays distinct for colour-blind readers.  Black is the baseline's.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
BASELINE_COLOUR = "#000000"
MARKERS = "osD^vPX*"
LINE_STYLES = ("-", "--", ":", "-.")
LOG_FROM = 20
"""Losses get a logarithmic scale if the largest is more than this many times the smallest."""

Curve = list[tuple[float, float]]
Style = Mapping[str, Mapping[str, Any]]


def line_styles(runs: Sequence[str], baselines: Collection[str] = (BASELINE,)) -> dict[str, dict[str, Any]]:
    """Return the colour, line and marker of each run, which are the same in every panel."""
    names = list(dict.fromkeys(runs))
    others = [run for run in names if run not in baselines]
    style = {}
    for run in names:
        place = others.index(run) if run in others else -1
        line = max(place, 0) // len(COLOURS) if run in others else [r for r in names if r in baselines].index(run)
        style[run] = {
            "color": COLOURS[place % len(COLOURS)] if run in others else BASELINE_COLOUR,
            "linestyle": LINE_STYLES[line % len(LINE_STYLES)],
            "marker": MARKERS[(place + 1) % len(MARKERS)],
            "markersize": 5,
            "linewidth": 2,
        }
    return style


def curves(rows: Sequence[Mapping[str, Any]], x: str, y: str, scale: float = 1.0) -> dict[str, Curve]:
    """Return for each run (x, scale · y) at each epoch.

    The values are means over the seeds.  An epoch is left out if a seed lacks it.
    """
    points: dict[str, dict[int, dict[int, tuple[float, float]]]] = defaultdict(lambda: defaultdict(dict))
    seeds: dict[str, set[int]] = defaultdict(set)
    for row in rows:
        if row.get(x) is not None and row.get(y) is not None:
            points[row["run"]][row["epoch"]][row["seed"]] = (row[x], scale * row[y])
            seeds[row["run"]].add(row["seed"])
    result = {}
    for run, epochs in points.items():
        complete = [epochs[epoch] for epoch in sorted(epochs) if len(epochs[epoch]) == len(seeds[run])]
        means = [(fmean(x for x, _ in seen.values()), fmean(y for _, y in seen.values())) for seen in complete]
        if means:
            result[run] = means
    return result


def draw_time(axes: Any, rows: Sequence[Mapping[str, Any]], style: Style, label: str, scale: float = 100) -> None:
    """The deciding quality measure, times ``scale``, against what training costs."""
    _draw(axes, curves(rows, "seconds", "decides", scale), style, "training, scoring and selecting (s)", label)
    axes.set_title("Quality against time", fontsize=12)
    axes.set_xlim(left=0)


def draw_quality(axes: Any, rows: Sequence[Mapping[str, Any]], style: Style, label: str, scale: float = 100) -> None:
    """The deciding quality measure, times ``scale``, by epoch."""
    _draw(axes, curves(rows, "epoch", "decides", scale), style, "epoch", label)
    axes.set_title("Quality by epoch", fontsize=12)
    axes.xaxis.get_major_locator().set_params(integer=True)


def draw_loss(axes: Any, rows: Sequence[Mapping[str, Any]], style: Style) -> None:
    """Draw the mean loss of the examples that each epoch trained on."""
    lines = curves(rows, "epoch", "train_loss")
    _draw(axes, lines, style, "epoch", "mean loss of the trained examples")
    axes.set_title("Training loss by epoch", fontsize=12)
    axes.xaxis.get_major_locator().set_params(integer=True)
    values = [y for line in lines.values() for _, y in line]
    if values and 0 < LOG_FROM * min(values) < max(values):
        axes.set_yscale("log")


def _draw(axes: Any, lines: Mapping[str, Curve], style: Style, x_label: str, y_label: str) -> None:
    for run, curve in lines.items():
        axes.plot(*zip(*curve, strict=True), **style[run])
    if not lines:
        axes.text(0.5, 0.5, "not recorded", ha="center", transform=axes.transAxes)
    axes.set_xlabel(x_label, fontsize=11)
    axes.set_ylabel(y_label, fontsize=11)
    axes.tick_params(labelsize=10)
    axes.grid(alpha=0.3)
