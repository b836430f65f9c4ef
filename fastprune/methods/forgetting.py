"""The method ``forgetting``."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from fastprune.methods.ranking import note_ties
from fastprune.methods.unscored import unscored_first
from fastprune.pruning.history import History
from fastprune.pruning.method import Method, register
from fastprune.pruning.statistics import State
from fastprune.selection import Selection, hardest
from fastprune.selection.draws import uniforms

NEVER_LEARNED = 2.0**20


@dataclass(frozen=True)
class ForgettingEvents:
    """Transitions from right to wrong, of 0/1 values."""

    @property
    def bytes_per_example(self) -> int:
        """A count in fp32, and a flag."""
        return 5

    def new_state(self, n: int) -> State:
        """No event, and no example right yet."""
        return {"events": torch.zeros(n, dtype=torch.float32), "was_right": torch.zeros(n, dtype=torch.bool)}

    def update(self, state: State, index: Tensor, values: Tensor, visits: Tensor) -> None:
        """Count an event where an example that was right is wrong now."""
        right = values > 0.5
        event = state["was_right"][index] & ~right
        # NaN is neither right nor wrong.  It is remembered, and refused when the cut is made.
        state["events"][index] += torch.where(values.isnan(), values, event.float())
        state["was_right"][index] = right

    def value(self, state: State, visits: Tensor) -> Tensor:
        """The number of events, or 2^20 for an example that was never right."""
        never = ~state["was_right"] & (state["events"] == 0)
        return torch.where(never, NEVER_LEARNED, state["events"])


@register("forgetting")
@dataclass(frozen=True)
class Forgetting(Method):
    """Forgetting events: how often an example that was right became wrong.

    Source: Toneva et al. 2019 (arXiv 1812.05159).
    Rule: count the steps at which an example is wrong that was right at its visit before.  One that was never right
    ranks above all.  Keep the k most often forgotten, with ties drawn at random.  In finetuning most examples are never
    forgotten (Anand et al. 2023), so the cut usually falls among equals.  For joint heads right means all heads and
    tokens.
    Reads: ``correct`` from ``observe``.
    Cost: nothing beyond the training step.
    Memory: 13 bytes an example.
    When: several epochs have been trained on everything (raise ``warmup_epochs``), or as a score file for ``static``.
    When not: in short runs, where hardly anything has been forgotten yet.
    """

    name = "forgetting"
    observes = True
    least_warmup = 2
    statistics = MappingProxyType({"correct": ForgettingEvents()})

    def select(self, history: History, k: int, *, cycle: int, epoch: int, seed: int) -> Selection:
        """The k largest counts, equal ones by a draw from (seed, cycle)."""
        events = history.value("correct").cpu()
        keys = events.double() + uniforms(history.n, seed, cycle)

        def most_forgotten(scored: Tensor, count: int) -> Selection:
            kept = hardest(keys[scored.cpu()], count)
            note_ties(self.name, events[scored.cpu()], kept.indices, "random")
            return kept

        return unscored_first(history, k, most_forgotten, cycle=cycle, seed=seed)
