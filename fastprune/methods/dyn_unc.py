"""The method ``dyn-unc``."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fastprune.methods.score_method import ScoreMethod
from fastprune.pruning.method import register
from fastprune.pruning.statistics import State, spread


@dataclass(frozen=True)
class WindowDeviation:
    """Mean over all windows of ``window`` successive values of their deviation."""

    window: int = 10

    def __post_init__(self) -> None:
        if self.window < 2:
            raise ValueError(f"window must be >= 2, got {self.window!r}")

    @property
    def bytes_per_example(self) -> int:
        """One window of values, and the sum of the deviations."""
        return 4 * self.window + 4

    def new_state(self, n: int) -> State:
        """A ring buffer of zeros, and a sum of 0."""
        return {"ring": torch.zeros(n, self.window, dtype=torch.float32), "sum": torch.zeros(n, dtype=torch.float32)}

    def update(self, state: State, index: Tensor, values: Tensor, visits: Tensor) -> None:
        """Overwrite the oldest value, and add the deviation of the window if it is full."""
        state["ring"][index, visits.long() % self.window] = values
        full = visits + 1 >= self.window
        state["sum"][index] += torch.where(full, self._deviation(state["ring"][index], visits + 1), 0.0)

    def value(self, state: State, visits: Tensor) -> Tensor:
        """The mean deviation of the full windows.  Before the first full window, that of the values so far."""
        windows = visits - self.window + 1
        early = self._deviation(state["ring"], visits)
        return torch.where(windows > 0, state["sum"] / windows.clamp_min(1), early)

    def _deviation(self, ring: Tensor, visits: Tensor) -> Tensor:
        """The deviation of the ring, or of its first ``visits`` entries while there are no more."""
        count = visits.clamp(0, self.window)
        return spread(ring, count) / (count - 1).clamp_min(1).sqrt()


@register("dyn-unc")
def dyn_unc(*, window: int = 10) -> ScoreMethod:
    """Dyn-Unc, dynamic uncertainty: how much the confidence moves within a window of epochs.

    Source: He et al. 2023 (arXiv 2306.05175), window and deviation as in their code.
    Rule: U = standard deviation (n − 1) of p(label) over the last ``window`` visits.  The score is the mean of U over
    all windows, one a visit.  Keep the k largest.  Before the first full window U is that of the visits there are.  The
    authors' code leaves the last window out of the mean.  Here it counts, so that the newest visits are used.
    Settings: ``window``, 10 as published: ``dyn_unc(window=10)``.  Advice: a window longer than the run never fills,
    and each visit in it costs 4 bytes an example.  So lower it to the number of epochs.
    Reads: ``confidence`` from ``observe``.
    Cost: nothing beyond the training step.
    Memory: 12 + 4 · window bytes an example, 52 for the published 10.
    When: runs of many epochs, or as a score file for ``static``, which is how it was published.
    When not: in runs of a few epochs it is nearly ``cartography``, at three times the memory.
    """
    smoothing = WindowDeviation(window)
    return ScoreMethod("dyn-unc", metric="confidence", source="step", smoothing=smoothing, least_warmup=2)
