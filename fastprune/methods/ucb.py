"""UCB: the smoothed loss plus a bonus for examples not looked at for long.

Source: Raju, Daruwalla & Lipasti 2021 (arXiv 2111.12621); the form of the bonus is that of UCB1 (Auer et al. 2002),
which the abstract does not spell out.
Rule: keep the k largest of EMA(loss) + c · sqrt(ln t / n_i), with t epochs so far and n_i visits of example i.
Reads: ``loss`` from ``observe``.  Cost: nothing beyond the training step.  Memory: 12 bytes an example.
When: a hard focus that still comes back to every example in time, without a scoring pass.
When not: losses are far from 1 in size (scale ``c``), or labels are noisy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MappingProxyType

from fastprune.methods.ranking import keep_hardest
from fastprune.methods.unscored import unscored_first
from fastprune.pruning.history import History
from fastprune.pruning.method import Method, register
from fastprune.pruning.statistics import EMA
from fastprune.selection import Selection


@dataclass(frozen=True, kw_only=True)
class UCB(Method):
    """Upper confidence bounds of the loss; ``c`` scales the bonus."""

    c: float = 1.0
    name = "ucb"
    observes = True
    statistics = MappingProxyType({"loss": EMA(alpha=0.8, deviation=0.0)})

    def __post_init__(self) -> None:
        if not 0.0 <= self.c < math.inf:
            raise ValueError(f"c must be finite and >= 0, got {self.c!r}")

    def select(self, history: History, k: int, *, cycle: int, epoch: int, seed: int) -> Selection:
        """The k largest upper bounds."""
        bonus = self.c * (math.log(max(epoch, 1)) / history.visits.clamp_min(1).float()).sqrt()
        bound = history.value("loss") + bonus
        return unscored_first(
            history, k, lambda scored, count: keep_hardest(self.name, bound[scored], count), cycle=cycle, seed=seed
        )


register("ucb", UCB)
