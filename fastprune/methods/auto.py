"""The method ``auto``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from fastprune.methods.ranking import keep_hardest
from fastprune.methods.rs2 import RS2
from fastprune.methods.unscored import finite_value, refuse_negative, unscored_first
from fastprune.pruning.history import History
from fastprune.pruning.method import Method, register
from fastprune.pruning.statistics import Latest
from fastprune.selection import Selection, probabilistic


@register("auto")
@dataclass(frozen=True, kw_only=True)
class Auto(Method):
    """Draw by score, and once the model has learned, among the hardest examples alone.

    Source: fastprune's own.  It was designed on the validation splits of six data sets
    (`benchmarks/results/evidence/design.md`).
    Rule: each cycle draws k examples without replacement, in proportion to their EL2N when last trained on.  Examples
    that were never trained on come first, at random.  The mean EL2N of the run's first steps is compared with the
    lowest mean since.  Once it has fallen by the share ``learned_at``, the draw is among the hardest ``pool`` of the
    examples, or the hardest k if those are more.  Before that it is among all: where little was learned, the hardest
    examples are a class that the model never predicts, or wrong labels.  The log has ``prune/fallen``, ``prune/pool``
    and ``prune/seen``, the share of examples that were trained on.  The warm-up is left out where it would take more
    than two thirds of a `Budget`.
    Settings: ``learned_at``, 0.5, and ``pool``, 0.4.  Advice: leave them.  ``pool=1`` draws among all in every cycle.
    A very small one is the plain cut of ``el2n-free``.
    Reads: ``el2n`` from ``observe``.
    Cost: nothing beyond the training step.
    Memory: 12 bytes an example.
    When: it is not known which examples matter.  With half of the examples of 5 epochs it was 0.4 points below
    ``full``, 0.7 above a shorter run on everything, 0.6 above ``rs2`` and 0.7 above ``el2n-free``.  That is the mean of
    ten data sets on their test splits, six with three seeds and four with two.  With 0.3 of the examples it was 5
    points below ``full``, level with ``rs2`` and the shorter run, and 10 above ``el2n-free``.  With a fifth of the
    labels wrong it stayed level with ``full`` (two data sets, one seed).
    When not: the model is nearly done after one epoch, because a shorter run is then as good.  Also where one class has
    more than 85 % of the examples of two classes, or 75 % of many.  Learning that share alone halves the mean EL2N, and
    the draw is then cut too early.
    """

    learned_at: float = 0.5
    pool: float = 0.4
    name = "auto"
    drops_warmup = True
    observes = True
    follows = ("el2n",)
    statistics = MappingProxyType({"el2n": Latest()})
    without_evidence = RS2()

    def __post_init__(self) -> None:
        for name, value in (("learned_at", self.learned_at), ("pool", self.pool)):
            if not 0.0 < value <= 1.0:
                raise ValueError(f"{name} is a share and must be in (0, 1], got {value!r}")

    def check_scores(self, index: Tensor, scores: Mapping[str, Tensor]) -> None:
        """They must not be below 0."""
        refuse_negative(self.name, "el2n", index, scores["el2n"])

    def select(self, history: History, k: int, *, cycle: int, epoch: int, seed: int) -> Selection:
        """A draw of (seed, cycle), in O(n)."""
        score = finite_value(history, "el2n").cpu()
        scored = (history.visits.cpu() > 0).nonzero().flatten()
        refuse_negative(self.name, "el2n", scored, score[scored])
        return draw_from_hardest(self.name, history, score, k, share=self._pool(history), cycle=cycle, seed=seed)

    def facts(self, history: History) -> Mapping[str, float]:
        """``seen``, the share of examples that were trained on, ``fallen``, and the ``pool`` that follows from it."""
        seen = float((history.visits.cpu() > 0).double().mean())
        return {"seen": seen, "fallen": history.courses["el2n"].fallen, "pool": self._pool(history)}

    def _pool(self, history: History) -> float:
        return self.pool if history.courses["el2n"].fallen >= self.learned_at else 1.0


def draw_from_hardest(
    name: str,
    history: History,
    score: Tensor,
    k: int,
    *,
    share: float = 1.0,
    power: float = 1.0,
    cycle: int,
    seed: int,
) -> Selection:
    """Draw k examples: those without a score first, and the others in proportion to ``score ** power``.

    It logs a warning if more than 1 % of the scores are equal at the border of the pool.

    Args:
        name: the method's, for the warning.
        history: says which examples have a score.
        score: fp32 (n,) on the CPU, >= 0 where there is one.
        k: how many to keep.
        share: of the examples with a score, only this share with the largest ones is drawn from, or as many as are
            drawn if those are more.
        power: see `probabilistic`.
        cycle: number of the cycle, which gives each cycle a draw of its own.
        seed: of the draw.
    """

    def draw(scored: Tensor, count: int) -> Selection:
        own = score[scored.cpu()]
        size = max(count, round(share * len(own)))
        pool = keep_hardest(name, own, size).indices if size < len(own) else torch.arange(size)
        return Selection(pool[probabilistic(own[pool], count, seed=seed, round=cycle, power=power).indices])

    return unscored_first(history, k, draw, cycle=cycle, seed=seed)
