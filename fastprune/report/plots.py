"""``report.png``: quality against time, churn and data map on the left, what was kept and dropped on the right.

Drawn with Figure objects alone: no pyplot, so nothing global is touched and no display is needed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from fastprune.errors import UsageError
from fastprune.report.cycles import (
    DROPPED_COLOUR,
    KEPT_COLOUR,
    churn_curves,
    data_map,
    draw_churn,
    draw_data_map,
)
from fastprune.report.summary import BASELINE

# Okabe and Ito's palette, which stays distinct for colour-blind readers; black is the baseline's.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
BASELINE_COLOUR = "#000000"
MARKERS = "osD^vPX*"
LINE_STYLES = ("-", "--", ":", "-.")
MAX_PANELS = 6
BINS = 40
QUALITY_NAMES = {"exact_match": "exact match", "intent_accuracy": "accuracy"}

Curve = list[tuple[float, float]]


def draw(
    metrics: Sequence[Mapping[str, Any]],
    scores: Mapping[str, np.ndarray] | None = None,
    title: str = "",
    recorded: Mapping[str, np.ndarray] | None = None,
    baselines: Collection[str] = (BASELINE,),
) -> Any:
    """The picture as a ``matplotlib.figure.Figure``: panels for which there is nothing to show are left out.

    metrics: rows of ``metrics.jsonl``.  scores, recorded: columns of ``scores.parquet`` and ``data_map.parquet``.
    baselines: the runs on all data, drawn in black.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UsageError("report.png needs the matplotlib package: pip install 'fastprune[demo]'.") from None
    chosen = None if scores is None else choose_run(scores, [row["run"] for row in metrics])
    shown = data_map(scores, recorded, chosen)
    lower = [bool(churn_curves(metrics)), shown is not None]
    figure = Figure(figsize=(8 if chosen is None else 16, 10 if any(lower) else 6), layout="constrained")
    if title:
        figure.suptitle(title, fontsize=14, fontweight="bold")
    left, right = _divided(figure, chosen is not None, nrows=1, ncols=2, wspace=0.03)
    upper, below = _divided(left, any(lower), nrows=2, ncols=1, hspace=0.03, height_ratios=(1.35, 1))
    style = line_styles([row["run"] for row in metrics], baselines)
    _draw_curves(upper.add_subplot(), metrics, style)
    if right is not None and scores is not None and chosen is not None:
        _draw_histograms(right, scores, *chosen)
    if below is not None:
        places = iter(below.subplots(1, sum(lower), squeeze=False).flat)
        if lower[0]:
            draw_churn(next(places), metrics, style)
        if shown is not None:
            draw_data_map(next(places), shown)
    return figure


def _divided(figure: Any, wanted: bool, **grid: Any) -> tuple[Any, Any]:
    """Two parts of the figure, or all of it and None."""
    return tuple(figure.subfigures(**grid)) if wanted else (figure, None)


def line_styles(runs: Sequence[str], baselines: Collection[str] = (BASELINE,)) -> dict[str, dict[str, Any]]:
    """Colour, line and marker of each run, the same in every panel."""
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


def quality_key(metrics: Sequence[Mapping[str, Any]]) -> str:
    """What the left panel shows: exact match for joint data, otherwise accuracy (the same number)."""
    return "exact_match" if any(row.get("slot_f1") is not None for row in metrics) else "intent_accuracy"


def curves(metrics: Sequence[Mapping[str, Any]], key: str, split: str = "test") -> dict[str, Curve]:
    """Per run, (seconds, quality) at each epoch: means over the seeds, epochs some seed lacks left out."""
    points: dict[str, dict[int, dict[int, tuple[float, float]]]] = defaultdict(lambda: defaultdict(dict))
    seeds: dict[str, set[int]] = defaultdict(set)
    for row in metrics:
        if row.get("split") == split and row.get(key) is not None:
            points[row["run"]][row["epoch"]][row["seed"]] = (row["seconds"], row[key])
            seeds[row["run"]].add(row["seed"])
    result = {}
    for run, epochs in points.items():
        complete = [epochs[epoch] for epoch in sorted(epochs) if len(epochs[epoch]) == len(seeds[run])]
        result[run] = [(fmean(x for x, _ in seen.values()), fmean(y for _, y in seen.values())) for seen in complete]
    return result


def choose_run(scores: Mapping[str, np.ndarray], order: Sequence[str]) -> tuple[str, int] | None:
    """The (run, seed) to show: the most scoring cycles that dropped something, then the earliest run
    in ``order``, then the smallest seed; None if no run dropped anything."""
    dropped = ~scores["kept"].astype(bool) & np.isfinite(scores["score"])
    cycles: dict[tuple[str, int], set[int]] = defaultdict(set)
    keys = zip(scores["run"][dropped], scores["seed"][dropped], scores["epoch"][dropped], strict=True)
    for run, seed, epoch in keys:
        cycles[str(run), int(seed)].add(int(epoch))
    places = {run: place for place, run in reversed(list(enumerate(order)))}
    ranked = sorted(cycles, key=lambda pair: (-len(cycles[pair]), places.get(pair[0], len(places)), pair[0], pair[1]))
    return ranked[0] if ranked else None


def spread(epochs: Sequence[int], n: int = MAX_PANELS) -> list[int]:
    """At most ``n`` of the sorted ``epochs``, evenly spaced, the first and the last among them."""
    if len(epochs) <= n:
        return list(epochs)
    return [epochs[round(i * (len(epochs) - 1) / (n - 1))] for i in range(n)]


def bin_edges(score: np.ndarray) -> tuple[np.ndarray, bool]:
    """(`BINS` + 1 ascending edges, whether they are spaced logarithmically).

    Scores such as EL2N pile up close to zero over many decades, where a linear scale shows one bar; the
    smallest hundredth then goes into the first bin.  Scores of either sign get a linear scale.
    """
    low, high = float(score.min()), float(score.max())
    if low >= 0 and np.median(score) < 0.1 * high:
        low = max(float(np.quantile(score, 0.01)), 1e-6 * high)
        return np.geomspace(low, high, BINS + 1), True
    if low == high:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, BINS + 1), False


def _draw_curves(axes: Any, metrics: Sequence[Mapping[str, Any]], style: Mapping[str, Mapping[str, Any]]) -> None:
    key = quality_key(metrics)
    lines = {run: curve for run, curve in curves(metrics, key).items() if curve}
    for run, curve in lines.items():
        x, y = zip(*curve, strict=True)
        label = f"{run}: {100 * y[-1]:.1f} % after {x[-1]:,.0f} s"
        axes.plot(x, [100 * value for value in y], label=label, **style[run])
    if lines:
        size, columns = (11, 1) if len(lines) <= 6 else (8, 1) if len(lines) <= 16 else (6, 2)
        # Out of the layout: of dozens of runs it may be larger than the panel.
        axes.legend(loc="lower right", fontsize=size, ncols=columns).set_in_layout(False)
    else:
        axes.text(0.5, 0.5, "no evaluation on the test split", ha="center", transform=axes.transAxes)
    n_seeds = len({row["seed"] for row in metrics})
    seeds = f", mean of {n_seeds} seeds" if n_seeds > 1 else ""
    axes.set_title(f"Test {QUALITY_NAMES[key]} against time{seeds}", fontsize=13)
    axes.set_xlabel("training, scoring and selecting (s)", fontsize=12)
    axes.set_ylabel(f"{QUALITY_NAMES[key]} (%)", fontsize=12)
    axes.tick_params(labelsize=11)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)


def _draw_histograms(figure: Any, scores: Mapping[str, np.ndarray], run: str, seed: int) -> None:
    here = (scores["run"] == run) & (scores["seed"] == seed) & np.isfinite(scores["score"])
    # Double precision, or clipping to the outermost edges could round past them.
    score = scores["score"][here].astype(np.float64)
    epoch, kept = scores["epoch"][here], scores["kept"][here].astype(bool)
    all_epochs = sorted({int(e) for e in epoch})
    shown = spread(all_epochs)
    # One scale for all panels, so that the shift from epoch to epoch can be seen.
    edges, logarithmic = bin_edges(score)
    score = np.clip(score, edges[0], edges[-1])
    n_columns = 1 if len(shown) <= 3 else 2
    n_rows = -(-len(shown) // n_columns)
    grid = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False)
    for place, axes in enumerate(grid.flat):
        if place >= len(shown):
            axes.remove()
            # The panel above is now the lowest of its column and must carry the numbers.
            grid.flat[place - n_columns].tick_params(labelbottom=True)
            continue
        mine = epoch == shown[place]
        for part, colour, name in ((~kept, DROPPED_COLOUR, "dropped"), (kept, KEPT_COLOUR, "kept")):
            axes.hist(score[mine & part], bins=edges, color=colour, alpha=0.75, label=name)
        share = kept[mine].mean()
        axes.set_title(f"after epoch {shown[place]}: {100 * share:.0f} % kept", fontsize=11)
        if logarithmic:
            axes.set_xscale("log")
        axes.tick_params(labelsize=10)
        axes.grid(alpha=0.3)
    handles, labels = grid.flat[0].get_legend_handles_labels()
    grid.flat[0].legend(handles, labels, fontsize=10)
    part_of = f", {len(shown)} of {len(all_epochs)} cycles" if len(shown) < len(all_epochs) else ""
    figure.suptitle(f"Scores at each cycle: {run}, seed {seed}{part_of}", fontsize=13)
    figure.supxlabel(f"score (no unit{', log scale' if logarithmic else ''})", fontsize=12)
    figure.supylabel("examples", fontsize=12)
