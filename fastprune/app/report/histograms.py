"""Draws what was kept and dropped: the scores of one run, cycle by cycle."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastprune.app.report.cycles import DROPPED_COLOUR, KEPT_COLOUR
from fastprune.app.report.words import drawn

MAX_PANELS = 6
BINS = 40


def choose_run(scores: Mapping[str, np.ndarray], order: Sequence[str]) -> tuple[str, int] | None:
    """Return the (run, seed) to show, or None if no run dropped anything.

    It has the most scoring cycles that dropped something.  Of equals it is the earliest in ``order``, then the smallest
    seed.
    """
    dropped = ~scores["kept"].astype(bool) & np.isfinite(scores["score"])
    cycles: dict[tuple[str, int], set[int]] = defaultdict(set)
    keys = zip(scores["run"][dropped], scores["seed"][dropped], scores["epoch"][dropped], strict=True)
    for run, seed, epoch in keys:
        cycles[str(run), int(seed)].add(int(epoch))
    places = {run: place for place, run in reversed(list(enumerate(order)))}
    ranked = sorted(cycles, key=lambda pair: (-len(cycles[pair]), places.get(pair[0], len(places)), pair[0], pair[1]))
    return ranked[0] if ranked else None


def evenly_chosen(epochs: Sequence[int], n: int = MAX_PANELS) -> list[int]:
    """Return at most ``n`` of the sorted ``epochs``, evenly spaced, the first and the last among them.

    >>> evenly_chosen(range(1, 10), 3)
    [1, 5, 9]
    """
    if len(epochs) <= n:
        return list(epochs)
    return [epochs[round(i * (len(epochs) - 1) / (n - 1))] for i in range(n)]


def bin_edges(score: np.ndarray) -> tuple[np.ndarray, bool]:
    """Return `BINS` + 1 ascending edges, and whether they are spaced logarithmically.

    Scores such as EL2N pile up close to zero over many decades, where a linear scale shows one bar.  The smallest
    hundredth then goes into the first bin.  Scores of either sign get a linear scale.
    """
    low, high = float(score.min()), float(score.max())
    if low >= 0 and np.median(score) < 0.1 * high:
        low = max(float(np.quantile(score, 0.01)), 1e-6 * high)
        return np.geomspace(low, high, BINS + 1), True
    if low == high:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, BINS + 1), False


def draw_histograms(figure: Any, scores: Mapping[str, np.ndarray], run: str, seed: int) -> None:
    """Draw at most `MAX_PANELS` cycles, on one scale."""
    here = (scores["run"] == run) & (scores["seed"] == seed) & np.isfinite(scores["score"])
    # Double precision, or clipping to the outermost edges could round past them.
    score = scores["score"][here].astype(np.float64)
    epoch, kept = scores["epoch"][here], scores["kept"][here].astype(bool)
    all_epochs = sorted({int(e) for e in epoch})
    shown = evenly_chosen(all_epochs)
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
        # Scores of the last epoch chose nothing: no example of them is kept.
        chosen = f"{100 * kept[mine].mean():.0f} % kept" if kept[mine].any() else "no selection"
        axes.set_title(f"after epoch {shown[place]}: {chosen}", fontsize=11)
        if logarithmic:
            axes.set_xscale("log")
        axes.tick_params(labelsize=10)
        axes.grid(alpha=0.3)
    handles, labels = grid.flat[0].get_legend_handles_labels()
    grid.flat[0].legend(handles, labels, fontsize=10)
    part_of = f", {len(shown)} of {len(all_epochs)} cycles" if len(shown) < len(all_epochs) else ""
    figure.suptitle(f"Scores at each cycle: {drawn(run)}, seed {seed}{part_of}", fontsize=13)
    figure.supxlabel(f"score (no unit{', log scale' if logarithmic else ''})", fontsize=12)
    figure.supylabel("examples", fontsize=12)
