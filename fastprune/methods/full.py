"""The method ``full``."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fastprune.pruning.history import History
from fastprune.pruning.method import Method, register
from fastprune.selection import Selection


@register("full")
@dataclass(frozen=True)
class Full(Method):
    """All examples, always: the run that pruning is measured against.

    Rule: keep everything, whatever the keep_fraction.
    Reads: nothing.
    Cost: nothing.
    Memory: 8 bytes an example.
    """

    name = "full"
    blind = True
    keeps_all = True

    def select(self, history: History, k: int, *, cycle: int, epoch: int, seed: int) -> Selection:
        """Every example."""
        return Selection(torch.arange(history.n))
