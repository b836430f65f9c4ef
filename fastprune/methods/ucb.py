"""The method ``ucb``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from fastprune.methods.ranking import keep_hardest
from fastprune.methods.unscored import unscored_first
from fastprune.pruning.history import History
from fastprune.pruning.method import Method, register
from fastprune.pruning.statistics import EMA, State, Statistic
from fastprune.selection import Selection

Bonus = Literal["visits", "variance"]


@dataclass(frozen=True)
class MeanAndVariance:
    """Moving mean plus ``c`` times the moving variance around it.  Both begin at 0."""

    alpha: float
    c: float
    oriented = True

    @property
    def bytes_per_example(self) -> int:
        """A mean and a variance."""
        return 8

    def new_state(self, n: int) -> State:
        """Zeros."""
        return {name: torch.zeros(n, dtype=torch.float32) for name in ("mean", "variance")}

    def update(self, state: State, index: Tensor, values: Tensor, visits: Tensor) -> None:
        """Move the variance by the distance from the mean before, and then the mean."""
        old, mean = 1.0 - self.alpha, state["mean"][index]
        state["variance"][index] = old * state["variance"][index] + self.alpha * (values - mean) ** 2
        state["mean"][index] = old * mean + self.alpha * values

    def value(self, state: State, visits: Tensor) -> Tensor:
        """The mean plus ``c`` times the variance."""
        return state["mean"] + self.c * state["variance"]


@register("ucb")
@dataclass(frozen=True, kw_only=True)
class UCB(Method):
    """UCB: the smoothed loss plus a bonus for examples not trained on for long, or for losses that move.

    Source: Raju, Daruwalla & Lipasti 2021 (arXiv 2111.12621), whose abstract does not spell the bonus out.
    ``bonus="visits"`` is the form of UCB1 (Auer et al. 2002, Machine Learning 47).  ``bonus="variance"`` is the form of
    public code for the method, a pruner on timm's training script, which was read for its rule.
    Rule: keep the k largest upper bounds of the loss L.
    ``visits``: EMA(L) + c · sqrt(ln t / n_i), with t epochs so far and n_i visits of example i.  The EMA begins with
    the first loss.
    ``variance``: m + c · v, with v ← (1 − α) v + α (L − m)² and then m ← (1 − α) m + α L.  Both begin at 0.
    Settings: ``bonus``, visits.  ``c``, 1.  ``alpha``, 0.8, the weight of the newest loss.  c and α are fastprune's
    choice, because the public code leaves them to the user.  ``UCB(bonus="variance", c=1.0, alpha=0.8)`` is the public
    form.  Advice: set ``c`` to about the spread of the losses.  At 0 only the smoothed loss counts.  A larger ``c``
    comes back sooner to examples that were not trained on for long.
    Reads: ``loss`` from ``observe``.
    Cost: nothing beyond the training step.
    Memory: 12 bytes an example, 16 with ``variance``.
    When: a hard focus that still comes back to every example in time (``visits``), without a scoring pass.
    When not: losses are far from 1 in size (scale ``c``), or labels are noisy.
    """

    c: float = 1.0
    bonus: Bonus = "visits"
    alpha: float = 0.8
    name = "ucb"
    observes = True

    def __post_init__(self) -> None:
        if not 0.0 <= self.c < math.inf:
            raise ValueError(f"c must be finite and >= 0, got {self.c!r}")
        if self.bonus not in get_args(Bonus):
            raise ValueError(f"bonus must be 'visits' or 'variance', got {self.bonus!r}")
        if not 0.0 < self.alpha <= 1.0:
            raise ValueError(f"alpha weighs the newest loss and must be in (0, 1], got {self.alpha!r}")

    @property
    def statistics(self) -> Mapping[str, Statistic]:  # type: ignore[override]
        """The loss, smoothed."""
        smoothed = EMA(self.alpha, deviation=0.0) if self.bonus == "visits" else MeanAndVariance(self.alpha, self.c)
        return {"loss": smoothed}

    def select(self, history: History, k: int, *, cycle: int, epoch: int, seed: int) -> Selection:
        """The k largest upper bounds."""
        bound = history.value("loss")
        if self.bonus == "visits":
            bound += self.c * (math.log(max(epoch, 1)) / history.visits.clamp_min(1).float()).sqrt()
        return unscored_first(
            history, k, lambda scored, count: keep_hardest(self.name, bound[scored], count), cycle=cycle, seed=seed
        )
