"""A fresh random subset every cycle: the baseline every score must beat.

Source: the ``random`` mode of the authors' code for arXiv 2306.03208; with ``cycle_epochs=1`` it is RS2 of
Okanovic et al. 2024 with replacement between epochs.
Rule: k of N uniformly, a new draw each cycle from (seed, cycle) alone.
Reads: nothing.  Cost: nothing.  Memory: 8 bytes an example.
When: at small keep fractions published evidence puts it above most scores.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from fastprune.pruning.history import History
from fastprune.pruning.method import Source, register
from fastprune.pruning.smoothing import Latest, Smoothing
from fastprune.selection import Selection
from fastprune.selection import random as random_subset


@dataclass(frozen=True)
class Random:
    """Uniform draws; looks at no score."""

    name: str = field(default="random", init=False)
    reads: tuple[str, ...] = field(default=(), init=False)
    source: Source = field(default="none", init=False)
    smoothing: Smoothing = field(default_factory=Latest, init=False)
    keeps_all: bool = field(default=False, init=False)

    def select(self, history: History, k: int, *, cycle: int, seed: int) -> Selection:
        """k of ``history.n`` drawn from (seed, cycle)."""
        return random_subset(history.n, k, seed=seed, round=cycle)


register("random", Random)
