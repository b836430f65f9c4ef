"""The method ``auto``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from torch import Tensor

from fastprune.methods.rs2 import RS2
from fastprune.methods.unscored import finite_value, unscored_first
from fastprune.pruning.history import History
from fastprune.pruning.method import Method, register
from fastprune.pruning.statistics import Latest
from fastprune.selection import Selection, probabilistic
from fastprune.selection.by_chance import mean_in_order


@register("auto")
@dataclass(frozen=True, kw_only=True)
class Auto(Method):
    """Draw the examples that the model knows well less often.  No example is sure to stay, and none to go.

    Source: fastprune's own.  It was designed on the validation splits of six data sets
    (`benchmarks/results/evidence/design.md`), and is not judged yet.
    Rule: each cycle draws k examples without replacement, in proportion to ``EL2N ** power`` when last trained on.
    Examples that were never trained on come first, at random.  There is no warm-up, and a draw before every epoch.  So
    a run begins as ``rs2``, and stays a random draw for as long as the scores are alike.  The log says how alike they
    are: ``prune/evenness`` is 1 where all examples have the same chance.
    Settings: ``power``, 1.  Advice: leave it.  At 0 all scores above 0 have the same chance.  At 2 the lead was the
    same on average, larger on ATIS and smaller on CoLA (two seeds, validation).
    Reads: ``el2n`` from ``observe``.
    Cost: nothing beyond the training step.
    Memory: 12 bytes an example.
    When: it is not known which examples matter.  With half of the examples of 5 epochs it was 1.6 points above ``rs2``,
    1.4 above a shorter run on everything, and level with ``el2n-free``.  With 0.3 of them it was 0.5 above ``rs2``, 0.4
    above the shorter run, and 2.6 above ``el2n-free`` (two seeds, validation, the mean of six data sets).
    When not: labels are noisy, because wrong labels have large scores.  On joint intents and slots ``el2n-free`` was
    better with half of the examples (ATIS by 3.8 points).
    """

    power: float = 1.0
    name = "auto"
    warmup_epochs = 0
    observes = True
    statistics = MappingProxyType({"el2n": Latest()})
    without_evidence = RS2()

    def __post_init__(self) -> None:
        if not 0.0 <= self.power < math.inf:
            raise ValueError(f"power is that of the score in the draw's chances and must be >= 0, got {self.power!r}")

    def select(self, history: History, k: int, *, cycle: int, epoch: int, seed: int) -> Selection:
        """A draw of (seed, cycle), in O(n)."""
        score = finite_value(history, "el2n").cpu()

        def draw(scored: Tensor, count: int) -> Selection:
            return probabilistic(score[scored.cpu()], count, seed=seed, round=cycle, power=self.power)

        return unscored_first(history, k, draw, cycle=cycle, seed=seed)

    def facts(self, history: History) -> Mapping[str, float]:
        """``seen``, the share of examples that were trained on, and the `evenness` of their chances."""
        seen = history.visits.cpu() > 0
        scores = history.value("el2n").cpu()[seen].double()
        # The largest is 1, so that no power overflows.
        chances = (scores / scores.max().clamp_min(1e-300)) ** self.power if len(scores) else scores
        return {"seen": len(scores) / history.n, "evenness": evenness(chances)}


def evenness(chances: Tensor) -> float:
    """(Σ c)² / (m Σ c²) of ``chances`` (m,) fp64, in (0, 1]: 1 if all are equal, near 0 if few have almost all.

    It is the effective sample size of importance sampling (Kong 1992), as a share.  Without a chance above 0 it is 1.

    Example:
        >>> import torch
        >>> evenness(torch.tensor([1.0, 1.0, 0.0, 0.0])), evenness(torch.ones(3))
        (0.5, 1.0)
    """
    squares = float(mean_in_order(chances**2)) if len(chances) else 0.0
    return float(mean_in_order(chances)) ** 2 / squares if squares > 0.0 else 1.0
