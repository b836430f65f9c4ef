"""k-means in one dimension, which gives `seta` its groups.

In one dimension every best group is a stretch of the sorted values, so dynamic programming finds the groups.  If there
are many values, it groups about a thousand short stretches instead of single values.  Lloyd's algorithm on all values
then refines the borders.
"""

from __future__ import annotations

import heapq

import numpy as np
import torch
from torch import Tensor

STRETCHES = 1024
ROUNDS = 100


def kmeans_groups(values: Tensor, groups: int) -> Tensor:
    """The number of each value's group, int64.  Group 0 holds the smallest values.

    The result depends on the values alone.  The tests compare its squared error with the exact optimum, and it is at
    most a thousandth larger.  If there are fewer different values than groups, the last groups are empty.

    Args:
        values: (n,) finite.
        groups: the largest number of groups, at least 1.

    Cost: a sort of n numbers, and groups · 1024² additions.
    """
    # NumPy's sort is vectorised, and 14 times as fast as PyTorch's here.
    plain = values.detach().cpu().double().numpy()
    ordered = np.sort(plain)
    if len(ordered) == 0:
        return torch.zeros(0, dtype=torch.int64, device="cpu")
    line = _Line(ordered)
    cuts = _best_cuts(line, _stretches(line, max(STRETCHES, 16 * groups)), groups)
    borders = _settle(line, cuts)
    return torch.from_numpy(np.searchsorted(borders, plain, side="right").astype(np.int64, copy=False))


class _Line:
    """Sorted values, and the sums that give the mean and the error of any stretch of them."""

    def __init__(self, ordered: np.ndarray) -> None:
        self.ordered = ordered
        shifted = ordered - ordered[0]  # so that squares of close values do not cancel
        self.sums = np.concatenate([[0.0], np.cumsum(shifted)])
        self.squares = np.concatenate([[0.0], np.cumsum(shifted * shifted)])

    def error(self, start: np.ndarray | int, stop: np.ndarray | int) -> np.ndarray:
        """The sum of squared distances between the values ``ordered[start:stop]`` and their mean."""
        count = np.maximum(np.subtract(stop, start), 1)
        total = self.sums[stop] - self.sums[start]
        return np.maximum(self.squares[stop] - self.squares[start] - total * total / count, 0.0)

    def mean(self, start: np.ndarray | int, stop: np.ndarray | int) -> np.ndarray:
        """The mean of ``ordered[start:stop]``."""
        return self.ordered[0] + (self.sums[stop] - self.sums[start]) / np.subtract(stop, start)


def _stretches(line: _Line, most: int) -> np.ndarray:
    """Divide the sorted values into at most ``most`` stretches of close values.

    The stretch with the largest error is divided at its mean until there are enough.

    Returns:
        Where each stretch begins, and n at the end.
    """
    n = len(line.ordered)
    cuts = [0, n]
    worst = [(-float(line.error(0, n)), 0, n)]
    while worst and len(cuts) <= most:
        _, start, stop = heapq.heappop(worst)
        if line.ordered[start] == line.ordered[stop - 1]:
            continue
        inside = line.ordered[start:stop]
        at = start + int(inside.searchsorted(line.mean(start, stop)))
        if at == start or at == stop:  # rounding put the mean outside the values
            at = start + int(inside.searchsorted(inside[-1]))
        cuts.append(at)
        for part in ((start, at), (at, stop)):
            heapq.heappush(worst, (-float(line.error(*part)), *part))
    return np.array(sorted(cuts))


def _best_cuts(line: _Line, at: np.ndarray, groups: int) -> np.ndarray:
    """The borders with the least squared error, first and last end included, chosen among the places ``at``."""
    m = len(at) - 1
    error = np.full((m + 1, m + 1), np.inf)
    starts, stops = np.triu_indices(m + 1, 1)
    error[starts, stops] = line.error(at[starts], at[stops])
    least = error[0].copy()
    came_from = []
    total = np.empty_like(error)
    for _ in range(min(groups, m) - 1):
        np.add(least[:, None], error, out=total)
        before = total.argmin(axis=0)
        came_from.append(before)
        least = total[before, np.arange(m + 1)]
    cuts = [m]
    for before in reversed(came_from):
        cuts.append(int(before[cuts[-1]]))
    return at[[0, *reversed(cuts)]]


def _settle(line: _Line, cuts: np.ndarray) -> np.ndarray:
    """The values at the borders after Lloyd's algorithm.  Each is halfway between the means of its two groups."""
    borders = line.ordered[cuts[1:-1]]
    for _ in range(ROUNDS):
        means = line.mean(cuts[:-1], cuts[1:])
        moved = (means[1:] + means[:-1]) / 2
        inner = line.ordered.searchsorted(moved)
        following = np.concatenate([[0], inner, [len(line.ordered)]])
        if np.array_equal(moved, borders) or (np.diff(following) == 0).any():
            break
        borders, cuts = moved, following
    return borders
