"""How the scores an example got over time become the one score it is ranked by.

Each smoothing keeps a fixed number of floats per example and is updated in place of storing the whole
past.  ``visits`` (the number of scores each example has had) is kept once by `History` and handed in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

State = dict[str, Tensor]


class Smoothing(Protocol):
    """Streaming reduction of a score sequence; all tensors are fp32 with one row per example."""

    @property
    def bytes_per_example(self) -> int:
        """Memory of the state, in bytes an example."""
        ...

    def new_state(self, n: int) -> State:
        """Zeroed state for ``n`` examples."""
        ...

    def update(self, state: State, index: Tensor, scores: Tensor, visits: Tensor) -> None:
        """Take in ``scores[i]`` for example ``index[i]``, which had ``visits[i]`` scores before."""
        ...

    def value(self, state: State, visits: Tensor) -> Tensor:
        """The smoothed score of every example, fp32 (n,); meaningless where ``visits`` is 0."""
        ...


@dataclass(frozen=True)
class Latest:
    """The latest score only: the default of the paper's GLUE script."""

    @property
    def bytes_per_example(self) -> int:
        return 4

    def new_state(self, n: int) -> State:
        return {"latest": torch.zeros(n)}

    def update(self, state: State, index: Tensor, scores: Tensor, visits: Tensor) -> None:
        state["latest"][index] = scores

    def value(self, state: State, visits: Tensor) -> Tensor:
        return state["latest"].clone()


@dataclass(frozen=True)
class EMA:
    """Exponential moving mean plus ``deviation`` times its debiased standard deviation.

    The default of the paper's joint NLU script: pandas ``ewm(alpha=0.8, adjust=False)``, mean + 1.0 · std.
    ``alpha`` weighs the newest score.  The deviation of an example scored once counts as 0.

    With mean m and biased variance c, one score x moves them to
    m' = (1−α)m + αx and c' = (1−α)(c + (m−m')²) + α(x−m')².  The debiasing factor 1/(1 − Σw²) depends on the
    number of scores alone: Σw² after t scores is (1−α)^(2(t−1)) + α²·(1−(1−α)^(2(t−1)))/(1−(1−α)²).
    """

    alpha: float = 0.8
    deviation: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.alpha <= 1.0:
            raise ValueError(f"alpha weighs the newest score and must be in (0, 1], got {self.alpha!r}")

    @property
    def bytes_per_example(self) -> int:
        return 8

    def new_state(self, n: int) -> State:
        return {"mean": torch.zeros(n), "variance": torch.zeros(n)}

    def update(self, state: State, index: Tensor, scores: Tensor, visits: Tensor) -> None:
        old = 1.0 - self.alpha
        before = state["mean"][index]
        first = visits == 0
        mean = torch.where(first, scores, old * before + self.alpha * scores)
        variance = old * (state["variance"][index] + (before - mean) ** 2) + self.alpha * (scores - mean) ** 2
        state["mean"][index] = mean
        state["variance"][index] = torch.where(first, 0.0, variance)

    def value(self, state: State, visits: Tensor) -> Tensor:
        if self.deviation == 0.0 or self.alpha == 1.0:
            return state["mean"].clone()
        old = (1.0 - self.alpha) ** 2
        decay = old ** (visits.to(torch.float64) - 1.0).clamp_min(0.0)
        squares = decay + self.alpha**2 * (1.0 - decay) / (1.0 - old)
        debias = torch.where(visits > 1, 1.0 / (1.0 - squares), 0.0).to(torch.float32)
        return state["mean"] + self.deviation * (state["variance"] * debias).sqrt()


@dataclass(frozen=True)
class Mean:
    """The mean of the last ``last`` scores (of as many as there are, while there are fewer)."""

    last: int

    def __post_init__(self) -> None:
        if self.last < 1:
            raise ValueError(f"last must be >= 1, got {self.last!r}")

    @property
    def bytes_per_example(self) -> int:
        return 4 * self.last

    def new_state(self, n: int) -> State:
        return {"ring": torch.zeros(n, self.last)}

    def update(self, state: State, index: Tensor, scores: Tensor, visits: Tensor) -> None:
        state["ring"][index, visits.long() % self.last] = scores

    def value(self, state: State, visits: Tensor) -> Tensor:
        return state["ring"].sum(dim=1) / visits.clamp(1, self.last)
