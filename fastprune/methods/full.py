"""All examples, always: the run that pruning is measured against.

Rule: keep everything, whatever the keep_fraction.  Reads: nothing.  Cost: nothing.  Memory: 8 bytes an example.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from fastprune.pruning.history import History
from fastprune.pruning.method import Source, register
from fastprune.pruning.smoothing import Latest, Smoothing
from fastprune.selection import Selection


@dataclass(frozen=True)
class Full:
    """Never drops an example."""

    name: str = field(default="full", init=False)
    reads: tuple[str, ...] = field(default=(), init=False)
    source: Source = field(default="none", init=False)
    smoothing: Smoothing = field(default_factory=Latest, init=False)
    keeps_all: bool = field(default=True, init=False)

    def select(self, history: History, k: int, *, cycle: int, seed: int) -> Selection:
        """Every example."""
        return Selection(torch.arange(history.n), None)


register("full", Full)
