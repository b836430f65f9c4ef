"""The method ``seta``."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from fastprune.methods.kmeans import kmeans_groups
from fastprune.methods.unscored import finite_value, unscored_first
from fastprune.pruning.history import History
from fastprune.pruning.method import Method, register
from fastprune.pruning.statistics import Latest
from fastprune.selection import Selection, random


@register("seta")
@dataclass(frozen=True, kw_only=True)
class SeTa(Method):
    """SeTa: a window over groups of equal difficulty that slides from easy to hard, again and again.

    Source: Zhou, Gao & Wang (CVPR 2025), the rule from their code.
    Rule: group the last losses by 1-D k-means into ``groups``, easy to hard.  The first cycle takes all groups.  Cycle
    c = 1, 2, … takes the round(groups · ``width``) groups that start at c mod (number of positions).  If the window has
    more than k examples, k of them are drawn at random.  If it has fewer, all of them are kept.  The next harder group
    then gives the rest at random, then the one after it.  After the hardest group the next easier one follows.
    Published: a random share first, the window after it, and what is in it is kept, however many.  Here k is fixed.
    Most losses are small, so the hard windows hold few examples.  At a large k they are the smaller part of it.  The
    final epochs, the last eighth, are on all examples here (published: on a random 1 − r of them).
    Settings: ``groups``, 10 here, and ``width``, 0.5 here.  Published: r = 0.1, 5 groups, width 0.9 (CIFAR), and r = 0,
    5 groups, width 0.6 (ImageNet): ``SeTa(groups=5, width=0.9)``.  Advice: the window has groups − round(groups ·
    width) + 1 positions, which is 6 by default, and moves once a cycle.  If the run has fewer cycles, lower ``groups``
    or raise ``width``.
    Reads: ``loss`` from ``observe``.
    Cost: nothing beyond the training step, and a sort of N losses a cycle.
    Memory: 12 bytes an example.
    When: a curriculum is wanted.
    When not: cycles are few, and the window never gets through its positions.
    """

    groups: int = 10
    width: float = 0.5
    name = "seta"
    rule_version = 2
    observes = True
    final_share = 0.125
    statistics = MappingProxyType({"loss": Latest()})

    def __post_init__(self) -> None:
        if self.groups < 1 or not 0.0 < self.width <= 1.0:
            raise ValueError(f"groups must be >= 1 and width in (0, 1], got {self.groups!r} and {self.width!r}")

    def select(self, history: History, k: int, *, cycle: int, epoch: int, seed: int) -> Selection:
        """k examples of the window, or the window and its neighbours, drawn from (seed, cycle)."""
        loss = finite_value(history, "loss").cpu()

        def choose(scored: Tensor, count: int) -> Selection:
            group = kmeans_groups(loss[scored.cpu()], self.groups)
            return Selection(_drawn_in_turn(self._turns(group, cycle - 1), count, seed=seed, cycle=cycle))

        return unscored_first(history, k, choose, cycle=cycle, seed=seed)

    def _turns(self, group: Tensor, number: int) -> list[Tensor]:
        """Members of window ``number``, then those of each group outside it, in the order in which they are asked."""
        width = max(1, round(self.groups * self.width))
        start = number % (self.groups - width + 1)
        stop = start + width
        if number == 0:
            start, stop = 0, self.groups
        window = ((group >= start) & (group < stop)).nonzero().flatten()
        harder, easier = range(stop, self.groups), range(start - 1, -1, -1)
        return [window, *((group == g).nonzero().flatten() for g in (*harder, *easier))]


def _drawn_in_turn(turns: list[Tensor], k: int, *, seed: int, cycle: int) -> Tensor:
    """k positions, ascending.

    Each turn gives all its members, until one has more than are wanted.  That one draws.
    """
    kept: list[Tensor] = []
    for members in turns:
        drawn = random(len(members), min(k, len(members)), seed=seed, round=cycle).indices
        kept.append(members[drawn])
        k -= len(drawn)
        if k == 0:
            break
    return torch.cat(kept).sort().values
