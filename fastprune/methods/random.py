"""The method ``random``."""

from __future__ import annotations

from dataclasses import dataclass

from fastprune.pruning.history import History
from fastprune.pruning.method import Method, register
from fastprune.selection import Selection
from fastprune.selection import random as random_subset


@register("random")
@dataclass(frozen=True)
class Random(Method):
    """A fresh random subset every cycle: the baseline every score must beat.

    Source: the ``random`` mode of the authors' code for arXiv 2306.03208.  Raju et al. 2021 (arXiv 2111.12621) find it
    ahead of static scores where much is pruned.
    Rule: k of N uniformly, a new draw each cycle from (seed, cycle) alone.  An example may be drawn again.  The
    warm-up is left out where it would take more than two thirds of a `Budget`.
    Reads: nothing.
    Cost: nothing.
    Memory: 8 bytes an example.
    When: at small keep fractions, where published evidence puts it above most scores.
    When not: to see every example equally often, where ``rs2`` is better.
    """

    name = "random"
    blind = True
    drops_warmup = True

    def select(self, history: History, k: int, *, cycle: int, epoch: int, seed: int) -> Selection:
        """k of ``history.n`` drawn from (seed, cycle)."""
        return random_subset(history.n, k, seed=seed, round=cycle)
