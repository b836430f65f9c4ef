"""The method ``tdds``."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fastprune.methods.score_method import ScoreMethod
from fastprune.pruning.method import register
from fastprune.pruning.statistics import State, spread

MOST_CLASSES = 1024
TINY = 1e-8


@dataclass(frozen=True)
class PredictionMoves:
    """The published score of a sequence of probability vectors, window by window."""

    window: int = 10
    decay: float = 0.9
    most_classes = MOST_CLASSES

    def __post_init__(self) -> None:
        if self.window < 3 or not 0.0 < self.decay <= 1.0:
            raise ValueError(f"window must be >= 3 and decay in (0, 1], got {self.window!r} and {self.decay!r}")

    @property
    def bytes_per_example(self) -> int:
        """Bytes without the 4 · C of the last probabilities, because C is known from the first batch."""
        return 4 * (self.window - 1) + 4

    def new_state(self, n: int) -> State:
        """A ring buffer of zeros, and a score of 0.  `update` adds the last probabilities when C is known."""
        return {
            "moves": torch.zeros(n, self.window - 1, dtype=torch.float32),
            "score": torch.zeros(n, dtype=torch.float32),
        }

    def update(self, state: State, index: Tensor, values: Tensor, visits: Tensor) -> None:
        """Store how far the probabilities moved.  If the window is full, move the score towards its spread.

        Raises:
            ValueError: there are more than 1,024 classes, or values that are not vectors.
        """
        if values.ndim != 2 or values.shape[1] > MOST_CLASSES:
            raise ValueError(
                f"probabilities must be (B, C) with C <= {MOST_CLASSES}, got {tuple(values.shape)}: the method keeps C "
                "numbers an example; choose another one, for instance dyn-unc"
            )
        if "last" not in state:
            state["last"] = values.new_zeros(len(state["score"]), values.shape[1])
        logs = (values + TINY).log() - (state["last"][index] + TINY).log()
        move = (values * logs).abs().sum(dim=1)
        state["last"][index] = values
        # The first visit has no move, but may be NaN.  The second visit writes column 0 again.
        move = torch.where(visits > 0, move, 0.0 * move)
        column = (visits.long() - 1).clamp_min(0) % (self.window - 1)
        state["moves"][index, column] = move
        newest = spread(state["moves"][index], visits)
        score = state["score"][index]
        full = visits + 1 >= self.window
        state["score"][index] = torch.where(full, self.decay * newest + (1.0 - self.decay) * score, score)

    def value(self, state: State, visits: Tensor) -> Tensor:
        """The score.  Before the first full window, the spread of the moves so far."""
        early = spread(state["moves"], (visits - 1).clamp_min(1))
        return torch.where(visits >= self.window, state["score"], early)


@register("tdds")
def tdds(*, window: int = 10, decay: float = 0.9) -> ScoreMethod:
    """TDDS, temporal dual-depth scoring: how unevenly the predictions move.

    Source: Zhang et al. 2024 (CVPR), the rule from their code.
    Rule: d_t = Σ_c |p_t,c (ln p_t,c − ln p_{t−1},c)| between successive visits, with 1e-8 added inside the logarithms.
    In a window of ``window`` visits R = sqrt(Σ (d − mean d)²) over its window − 1 differences.  The score moves by
    decay · R + (1 − decay) · score with each full window.  Keep the k largest.  Before the first full window the score
    is the R of the differences there are.
    Settings: ``window``, 10, and ``decay``, 0.9, as published.  Advice: if the run has fewer epochs than the window,
    lower the window.  It would never fill.
    Reads: ``probabilities`` from ``observe``.
    Cost: nothing beyond the training step.
    Memory: 12 + 4 · (window − 1) + 4 · C bytes an example (48 + 4 · C as published).  More than 1,024 classes are
    refused.
    When: runs of many epochs, or as a score file for ``static``, which is how it was published.
    When not: many classes, tokens, or few epochs.
    """
    smoothing = PredictionMoves(window, decay)
    return ScoreMethod("tdds", metric="probabilities", source="step", smoothing=smoothing, least_warmup=3)
