"""The method ``repb``."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from fastprune.methods.infobatch import drop_at_random
from fastprune.methods.unscored import unscored_first
from fastprune.pruning.history import History
from fastprune.pruning.method import Method, register
from fastprune.pruning.statistics import State
from fastprune.selection import Selection, select_topk


@dataclass(frozen=True)
class RelativeToBatch:
    """The latest value minus the mean of the values it came with."""

    oriented = True

    @property
    def bytes_per_example(self) -> int:
        """One fp32 number."""
        return 4

    def new_state(self, n: int) -> State:
        """Zeros."""
        return {"difference": torch.zeros(n, dtype=torch.float32)}

    def update(self, state: State, index: Tensor, values: Tensor, visits: Tensor) -> None:
        """Store each value relative to the mean of all ``values``, which are those of one batch."""
        # Rounding can put the mean of equal losses above them, and then all of them would count as easy.
        mean = values.mean().clamp(values.amin(), values.amax())
        state["difference"][index] = values - mean

    def value(self, state: State, visits: Tensor) -> Tensor:
        """The latest difference."""
        return state["difference"].clone()


@register("repb")
@dataclass(frozen=True)
class RePB(Method):
    """RePB: judge a loss by the batch it was seen in, and weigh an example by how rarely it is trained on.

    Source: "Inconsistency Biases in Dynamic Data Pruning" (ICLR 2026), from a summary.  Its code was not read.
    Rule: an example is easy if its last loss was below the mean of its own batch.  So losses taken under different
    weights are never compared.  Candidates are the easy ones and those not trained on in the last epoch.  A share ρ of
    the candidates is dropped at random, and all others stay.  An example weighs E / N_i: epochs so far over the times
    it was trained on.  Published: ρ is fixed.  Here k is fixed, and ρ follows.  If there are too few candidates to
    reach k, the other examples of lowest loss relative to their batch follow.
    Reads: ``loss`` from ``observe``.
    Cost: nothing beyond the training step.
    Memory: 12 bytes an example and 4 for the weights.
    When: as ``infobatch``.  It was published ahead of it at 30 to 70 % pruned (CIFAR).
    When not: batches are of one class or length, so that their mean says little.
    """

    name = "repb"
    observes = True
    weighted = True
    statistics = MappingProxyType({"loss": RelativeToBatch()})

    def select(self, history: History, k: int, *, cycle: int, epoch: int, seed: int) -> Selection:
        """k examples with weights, drawn from (seed, cycle)."""
        difference = history.value("loss").cpu()
        visits, seen = history.visits.cpu(), history.scored_epoch.cpu()
        resting = seen < seen.max()

        def drop(scored: Tensor, count: int) -> Selection:
            surplus = len(scored) - count
            candidates = resting[scored] | (difference[scored] < 0)
            missing = surplus - int(candidates.sum())
            if missing > 0:
                others = difference[scored].masked_fill(candidates, torch.inf)
                candidates[select_topk(others, missing, largest=False)] = True
            kept = drop_at_random(candidates, surplus, seed=seed, cycle=cycle).indices
            return Selection(kept, max(epoch, 1) / visits[scored][kept].float())

        return unscored_first(history, k, lambda scored, count: drop(scored.cpu(), count), cycle=cycle, seed=seed)
