"""The method ``infobatch``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from fastprune.methods.unscored import finite_value, unscored_first
from fastprune.pruning.history import History
from fastprune.pruning.method import Method, register
from fastprune.pruning.statistics import Latest
from fastprune.selection import Selection, select_topk
from fastprune.selection.by_chance import mean_in_order
from fastprune.selection.draws import uniforms


@register("infobatch")
@dataclass(frozen=True, kw_only=True)
class InfoBatch(Method):
    """InfoBatch: drop some of the well-learned examples at random, and let the others of their kind count for more.

    Source: Qin et al. 2024 (arXiv 2303.04947, ICLR), its code for the rule.
    Rule: examples whose last loss is below the mean of all are well learned.  A share r of them is dropped at random.
    Those that stay weigh 1 / (1 − r), so the expected sum of gradients is that of all examples.
    Published: r is fixed (0.5), and how many are kept follows, usually far more than half.  Here k is fixed, and r
    follows.  At the k that a published r gives, both drop among the same examples.  The weights are then equal, if the
    share 1 − r of the well-learned is a whole number.  If it is not, the published weights are slightly biased.  If k
    asks for an r above ``max_drop`` (0.75), more examples count as well learned: the limit rises above the mean until r
    fits.  So above r ≈ 0.75 other examples are kept than published.  The last eighth of the epochs is on all examples
    (δ = 0.875).
    Settings: ``max_drop``, 0.75 here.  ``InfoBatch(max_drop=0.9)`` follows the published rule up to r = 0.9.  Advice:
    no weight exceeds 1 / (1 − ``max_drop``), which is 4 at 0.75.  Lower it if training becomes unstable.
    Reads: ``loss`` from ``observe``.
    Cost: nothing beyond the training step.
    Memory: 12 bytes an example and 4 for the weights.
    When: the gradient should stay unbiased, and losses keep their meaning.
    When not: little is kept, when weights grow to N / k, and steps with them.  With weights and final epochs a random
    choice did nearly as well in the authors' table.
    """

    max_drop: float = 0.75
    name = "infobatch"
    observes = True
    weighted = True
    final_share = 0.125
    statistics = MappingProxyType({"loss": Latest()})

    def __post_init__(self) -> None:
        if not 0.0 < self.max_drop < 1.0:
            raise ValueError(f"max_drop must be in (0, 1), got {self.max_drop!r}")

    def select(self, history: History, k: int, *, cycle: int, epoch: int, seed: int) -> Selection:
        """k examples with weights, drawn from (seed, cycle)."""
        loss = finite_value(history, "loss").cpu()

        def drop(scored: Tensor, count: int) -> Selection:
            easy = _well_learned(loss[scored], len(scored) - count, self.max_drop)
            return drop_at_random(easy, len(scored) - count, seed=seed, cycle=cycle)

        return unscored_first(history, k, lambda scored, count: drop(scored.cpu(), count), cycle=cycle, seed=seed)


def drop_at_random(candidates: Tensor, dropped: int, *, seed: int, cycle: int) -> Selection:
    """All examples but ``dropped`` of the ``candidates``, which are a mask.

    Candidates that stay weigh 1 / (1 − share dropped).
    """
    draws = uniforms(len(candidates), seed, cycle).masked_fill_(~candidates, 2.0)
    keep = torch.ones_like(candidates)
    keep[select_topk(draws, dropped, largest=False)] = False
    kept = keep.nonzero().flatten()
    m = int(candidates.sum())
    weight = m / (m - dropped) if m > dropped else 1.0
    return Selection(kept, torch.ones(len(kept), dtype=torch.float32).masked_fill_(candidates[kept], weight))


def _well_learned(loss: Tensor, dropped: int, max_drop: float) -> Tensor:
    """Which examples may be dropped: those below the mean, or as many of the smallest as ``max_drop`` asks for."""
    values = loss.double()
    below = values < mean_in_order(values)
    least = min(len(loss), math.ceil(round(dropped / max_drop, 6)))
    if int(below.sum()) >= least:
        return below
    easiest = torch.zeros_like(below)
    easiest[select_topk(loss, least, largest=False)] = True
    return easiest
