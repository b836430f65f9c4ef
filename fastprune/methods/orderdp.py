"""The method ``orderdp``."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from torch import Tensor

from fastprune.methods.ranking import keep_hardest
from fastprune.methods.unscored import unscored_first
from fastprune.pruning.history import History
from fastprune.pruning.method import Method, register
from fastprune.pruning.statistics import Latest
from fastprune.selection import Selection, random


@register("orderdp")
@dataclass(frozen=True, kw_only=True)
class OrderDP(Method):
    """OrderDP: the hardest of a fresh random pool.

    Source: OrderDP (ICLR 2026), from a summary and its code's rule.
    Rule: each cycle draw a pool of k / ``ratio`` examples uniformly and keep the k with the largest last loss.  As
    published there is a new subset every epoch and no warm-up (``warmup_epochs`` 0, ``cycle_epochs`` 1).  The first
    subset is random.  Examples that were never trained on come first in the next ones.  The expected loss of the kept
    is that of an order statistic of all examples, so nothing is weighted.  From keep_fraction = ``ratio`` on the pool
    is everything.  Then the rule is the plain top k of the losses, without any chance.
    Settings: ``ratio``, 0.6.  Published: pools of half the examples, of which 0.6 are kept (keep_fraction 0.3).  With
    ``OrderDP(ratio=r)`` a run that keeps the share s draws pools of the share s / r.  Advice: a smaller ratio puts more
    weight on hard examples.  At 1 the choice is random.  At keep_fraction it is the plain top k.
    Reads: ``loss`` from ``observe``.
    Cost: nothing beyond the training step.
    Memory: 12 bytes an example.
    When: an exact ratio and a hard focus with some chance for all (published ahead of ``infobatch``, CIFAR and
    ImageNet).
    When not: labels are noisy, because the top of any pool is then theirs.
    """

    ratio: float = 0.6
    name = "orderdp"
    warmup_epochs = 0
    observes = True
    statistics = MappingProxyType({"loss": Latest()})

    def __post_init__(self) -> None:
        if not 0.0 < self.ratio <= 1.0:
            raise ValueError(f"ratio must be in (0, 1], got {self.ratio!r}")

    def select(self, history: History, k: int, *, cycle: int, epoch: int, seed: int) -> Selection:
        """The k hardest of a pool drawn from (seed, cycle)."""
        loss = history.value("loss")

        def choose(scored: Tensor, count: int) -> Selection:
            size = min(len(scored), round(count / self.ratio))
            pool = random(len(scored), size, seed=seed, round=cycle).indices.to(scored.device)
            return Selection(pool[keep_hardest(self.name, loss[scored[pool]], count).indices])

        return unscored_first(history, k, choose, cycle=cycle, seed=seed)
