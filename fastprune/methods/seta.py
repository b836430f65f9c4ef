"""SeTa: a window over groups of equal difficulty that slides from easy to hard, again and again.

Source: Zhou, Gao & Wang (CVPR 2025), the rule from their code.
Rule: group the last losses by 1-D k-means into ``groups``, easy to hard; cycle c = 0, 1, … takes the
round(groups · ``width``) groups that start at c mod (number of positions), the first cycle all of them; and of these
examples k at random.
Published: a random share first, the window after it, and what is in it is kept.  Here k is fixed, so the random
share comes last; a window with fewer than k examples grows by the next harder group, at the end by the next easier.
Its final epochs are on all examples here (published: on a random 1 − r of them), the last eighth.
Reads: ``loss`` from ``observe``.  Cost: nothing beyond the training step; a sort of N losses a cycle.
Memory: 12 bytes an example.
When: a curriculum is wanted.  When not: cycles are few, and the window never gets through its positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from fastprune.methods.unscored import finite_value, unscored_first
from fastprune.pruning.history import History
from fastprune.pruning.method import Method, register
from fastprune.pruning.statistics import Latest
from fastprune.selection import Selection, random

ROUNDS = 100


@dataclass(frozen=True, kw_only=True)
class SeTa(Method):
    """A sliding window of loss groups; ``width`` is its share of the groups."""

    groups: int = 10
    width: float = 0.5
    name = "seta"
    observes = True
    final_share = 0.125
    statistics = MappingProxyType({"loss": Latest()})

    def __post_init__(self) -> None:
        if self.groups < 1 or not 0.0 < self.width <= 1.0:
            raise ValueError(f"groups must be >= 1 and width in (0, 1], got {self.groups!r} and {self.width!r}")

    def select(self, history: History, k: int, *, cycle: int, epoch: int, seed: int) -> Selection:
        """k of the window's examples, drawn from (seed, cycle)."""
        loss = finite_value(history, "loss").cpu()

        def choose(scored: Tensor, count: int) -> Selection:
            group = kmeans_groups(loss[scored.cpu()], self.groups)
            inside = self._window(torch.bincount(group, minlength=self.groups), count, cycle - 1)
            pool = ((group >= inside.start) & (group < inside.stop)).nonzero().flatten()
            return Selection(pool[random(len(pool), count, seed=seed, round=cycle).indices])

        return unscored_first(history, k, choose, cycle=cycle, seed=seed)

    def _window(self, sizes: Tensor, k: int, number: int) -> range:
        """Which groups window ``number`` takes, at least k examples of them."""
        width = max(1, round(self.groups * self.width))
        start = number % (self.groups - width + 1)
        stop = start + width
        if number == 0:
            start, stop = 0, self.groups
        while int(sizes[start:stop].sum()) < k and stop < self.groups:
            stop += 1
        while int(sizes[start:stop].sum()) < k:
            start -= 1
        return range(start, stop)


def kmeans_groups(values: Tensor, groups: int) -> Tensor:
    """Number of each value's group, int64, 0 for the smallest values; Lloyd's algorithm on the sorted line.

    Begins with the quantiles, so the result depends on the values alone; an empty group keeps its centre.  O(n log n).
    """
    # NumPy's sort is vectorised, and 14 times as fast as PyTorch's here.
    ordered = torch.from_numpy(np.sort(values.double().numpy()))
    n = len(ordered)
    sums = torch.cat([ordered.new_zeros(1), ordered.cumsum(0)])
    centres = ordered[(2 * torch.arange(groups) + 1) * n // (2 * groups)]
    borders = (centres[1:] + centres[:-1]) / 2
    for _ in range(ROUNDS):
        inner = torch.searchsorted(ordered, borders)
        cuts = torch.cat([inner.new_tensor([0]), inner, inner.new_tensor([n])])
        counts = cuts.diff()
        centres = torch.where(counts > 0, sums[cuts].diff() / counts.clamp_min(1), centres)
        moved = (centres[1:] + centres[:-1]) / 2
        if torch.equal(moved, borders):
            break
        borders = moved
    return torch.searchsorted(borders, values.double(), right=True)


register("seta", SeTa)
