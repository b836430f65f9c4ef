"""The shape most methods share: rank by one metric, keep the hardest k after an offset."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from fastprune.pruning.history import History
from fastprune.pruning.method import Source
from fastprune.pruning.smoothing import Latest, Smoothing
from fastprune.selection import Selection, random, window


@dataclass(frozen=True)
class ScoreMethod:
    """Keep the k examples with the largest ``metric`` after dropping the hardest ``offset`` share.

    Args:
        name: what tables and logs call it.
        metric: the score it ranks by; larger means more left to learn.
        source: where the scores come from, see `fastprune.pruning.method.Source`.
        smoothing: how scores over time become one.
        offset: share of all examples dropped from the hard end first (the paper's ``prune_offset``):
            mislabelled examples gather there.  In [0, 1).
    """

    name: str
    metric: str = "el2n"
    source: Source = "pass"
    smoothing: Smoothing = field(default_factory=Latest)
    offset: float = 0.0
    keeps_all: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        if not 0.0 <= self.offset < 1.0:
            raise ValueError(
                f"offset is the share dropped from the hard end and must be in [0, 1), got {self.offset!r}"
            )

    @property
    def reads(self) -> tuple[str, ...]:
        """The one metric it ranks by."""
        return (self.metric,)

    def select(self, history: History, k: int, *, cycle: int, seed: int) -> Selection:
        """The k hardest below the offset; O(n).

        Examples without a score yet come first, in random order: nothing says that they are easy.  The offset
        applies to the scored ones.
        """
        value = history.value(self.metric)
        unscored = (history.visits == 0).nonzero().flatten()
        if not len(unscored):
            return window(value, k, offset=self.offset)
        drawn = random(len(unscored), min(k, len(unscored)), seed=seed, round=cycle).indices
        chosen = unscored[drawn.to(unscored.device)]
        rest = k - len(chosen)
        if rest:
            scored = (history.visits > 0).nonzero().flatten()
            offset = min(self.offset, 1.0 - rest / len(scored))
            chosen = torch.cat([chosen, scored[window(value[scored], rest, offset=offset).indices]])
        return Selection(chosen.sort().values)
