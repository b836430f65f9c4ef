"""Draws what changes from cycle to cycle: churn, and the data map."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from fastprune.app.report.words import drawn

MOST_POINTS = 20_000
KEPT_COLOUR, DROPPED_COLOUR = "#0072B2", "#E69F00"


@dataclass(frozen=True)
class DataMap:
    """One point for each example.

    Attributes:
        recorded: the axes are confidence and variability of p(label).  Otherwise they are mean and deviation of the
            score over ``cycles`` cycles.
        kept: whether each example was kept in the last cycle, (n,).  None if that is unknown.
    """

    run: str
    seed: int
    middle: np.ndarray
    spread: np.ndarray
    kept: np.ndarray | None
    recorded: bool
    cycles: int = 0


def churn_curves(metrics: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    """Return for each run (first epoch of the cycle, churn) from the second cycle on, as means over the seeds."""
    first: dict[tuple[str, int, int], tuple[int, float]] = {}
    for row in metrics:
        if row.get("phase") == "pruned" and (row.get("cycle") or 0) > 1 and row.get("churn") is not None:
            first.setdefault((row["run"], row["seed"], row["cycle"]), (row["epoch"], row["churn"]))
    curves: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for (run, _, _), (epoch, churn) in first.items():
        curves[run][epoch].append(churn)
    return {run: [(epoch, fmean(values)) for epoch, values in sorted(c.items())] for run, c in curves.items()}


def data_map(
    scores: Mapping[str, np.ndarray] | None,
    recorded: Mapping[str, np.ndarray] | None,
    chosen: tuple[str, int] | None,
) -> DataMap | None:
    """Return the map of the chosen run: what it recorded, else its scores over the cycles.

    Where the chosen run recorded nothing, another that did is shown.  None if there is none, nor two cycles of scores.
    """
    if recorded is not None and len(recorded["index"]):
        pairs = dict.fromkeys(zip(recorded["run"].tolist(), recorded["seed"].tolist(), strict=True))
        return _recorded_map(scores, recorded, *(chosen if chosen in pairs else next(iter(pairs))))
    if scores is None or chosen is None or _cycles(scores, *chosen) < 2:
        return None
    return _score_map(scores, *chosen)


def draw_churn(axes: Any, metrics: Sequence[Mapping[str, Any]], style: Mapping[str, Mapping[str, Any]]) -> None:
    """Draw the share of each kept set that the one before did not hold."""
    for run, curve in churn_curves(metrics).items():
        x, y = zip(*curve, strict=True)
        axes.plot(x, [100 * value for value in y], **style[run])
    axes.set_title("Churn: newly kept at each selection", fontsize=12)
    axes.set_xlabel("epoch that starts the cycle", fontsize=11)
    axes.set_ylabel("share of the kept (%)", fontsize=11)
    axes.set_ylim(bottom=0)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.tick_params(labelsize=10)
    axes.grid(alpha=0.3)


def draw_data_map(axes: Any, shown: DataMap) -> None:
    """Draw one dot for each example, or for a random part of many."""
    finite = np.isfinite(shown.middle) & np.isfinite(shown.spread)
    order = np.random.default_rng(0).permutation(np.flatnonzero(finite))[:MOST_POINTS]
    size = float(np.clip(4e4 / max(1, len(order)), 2, 24))
    parts: list[tuple[np.ndarray, str, str | None]] = [(order, "#555555", None)]
    if shown.kept is not None:
        kept = shown.kept[order]
        parts = [(order[~kept], DROPPED_COLOUR, "dropped last"), (order[kept], KEPT_COLOUR, "kept last")]
    for part, colour, label in parts:
        axes.scatter(shown.spread[part], shown.middle[part], s=size, c=colour, alpha=0.45, linewidths=0, label=label)
    if shown.kept is not None:
        axes.legend(fontsize=9, markerscale=1.5)
    where = f"{drawn(shown.run)}, seed {shown.seed}"
    if shown.recorded:
        axes.set_title(f"Data map: {where}", fontsize=12)
        axes.set_xlabel("variability: deviation of p(label)", fontsize=11)
        axes.set_ylabel("confidence: mean p(label)", fontsize=11)
    else:
        axes.set_title(f"Scores over {shown.cycles} cycles: {where}", fontsize=12)
        axes.set_xlabel("deviation of the score (not of p(label))", fontsize=11)
        axes.set_ylabel("mean score", fontsize=11)
        if _skewed(shown.middle[finite]) and _skewed(shown.spread[finite]):
            axes.set_xscale("log")
            axes.set_yscale("log")
    axes.tick_params(labelsize=10)
    axes.grid(alpha=0.3)


def _skewed(values: np.ndarray) -> bool:
    """Return whether a linear scale would show one heap at its lower end."""
    return len(values) > 0 and values.min() > 0 and np.median(values) < 0.1 * values.max()


def _recorded_map(
    scores: Mapping[str, np.ndarray] | None, recorded: Mapping[str, np.ndarray], run: str, seed: int
) -> DataMap:
    here = (recorded["run"] == run) & (recorded["seed"] == seed)
    index, middle, spread = (recorded[name][here] for name in ("index", "confidence", "variability"))
    kept = _last_kept(scores, run, seed)
    if kept is None or not len(index) or index.max() >= len(kept):
        kept = None
    return DataMap(run, seed, middle, spread, None if kept is None else kept[index], recorded=True)


def _score_map(scores: Mapping[str, np.ndarray], run: str, seed: int) -> DataMap:
    mine = _of_cycles(scores, run, seed)
    index, score = scores["index"][mine], scores["score"][mine].astype(np.float64)
    finite = np.isfinite(score)
    n = int(index.max()) + 1
    count = np.bincount(index[finite], minlength=n)
    safe = np.maximum(count, 1)
    middle = np.bincount(index[finite], weights=score[finite], minlength=n) / safe
    squares = np.bincount(index[finite], weights=(score[finite] - middle[index[finite]]) ** 2, minlength=n) / safe
    seen = count > 0
    kept = _last_kept(scores, run, seed)
    return DataMap(
        run,
        seed,
        middle[seen],
        np.sqrt(squares[seen]),
        None if kept is None else kept[seen],
        recorded=False,
        cycles=_cycles(scores, run, seed),
    )


def _last_kept(scores: Mapping[str, np.ndarray] | None, run: str, seed: int) -> np.ndarray | None:
    """Return whether each example was kept in the last cycle, by index."""
    if scores is None:
        return None
    mine = _of_cycles(scores, run, seed)
    if not mine.any():
        return None
    last = mine & (scores["epoch"] == scores["epoch"][mine].max())
    kept = np.zeros(int(scores["index"][last].max()) + 1, dtype=bool)
    kept[scores["index"][last]] = scores["kept"][last].astype(bool)
    return kept


def _cycles(scores: Mapping[str, np.ndarray], run: str, seed: int) -> int:
    return len(np.unique(scores["epoch"][_of_cycles(scores, run, seed)]))


def _of_cycles(scores: Mapping[str, np.ndarray], run: str, seed: int) -> np.ndarray:
    """Return which rows are a run's, (m,) bool, without the scores at its end, which chose nothing."""
    mine = (scores["run"] == run) & (scores["seed"] == seed)
    chosen = np.unique(scores["epoch"][mine & scores["kept"].astype(bool)])
    return mine & np.isin(scores["epoch"], chosen)
