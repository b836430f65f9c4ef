"""Statistics: a fixed number of bytes an example that sums up the values of a metric over time.

A statistic is updated with every new value, and the whole past is not stored.  `History` counts how many values each
example has had, and passes that as ``visits``.  The statistics here serve several methods.  A statistic of one method
is in that method's file.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

State = dict[str, Tensor]


class Statistic(Protocol):
    """Streaming reduction of a sequence of values.  Every tensor of its state has one row per example.

    A class with ``oriented = True`` always gets values of which the largest are the hardest.  If small values of a
    metric are hard, as with confidence, they are negated first.  Without ``oriented`` it gets the metric's own values.

    Example:
        A statistic of your own, the largest value so far:

        >>> from fastprune.pruning import History
        >>> class Largest:
        ...     oriented = True
        ...     bytes_per_example = 4
        ...
        ...     def new_state(self, n: int) -> State:
        ...         return {"largest": torch.full((n,), -torch.inf)}
        ...
        ...     def update(self, state: State, index: Tensor, values: Tensor, visits: Tensor) -> None:
        ...         state["largest"][index] = torch.maximum(state["largest"][index], values)
        ...
        ...     def value(self, state: State, visits: Tensor) -> Tensor:
        ...         return state["largest"].clone()
        >>> largest: Statistic = Largest()
        >>> history = History(1, {"el2n": largest})
        >>> for epoch, score in enumerate([0.5, 0.9, 0.2]):
        ...     history.update(torch.tensor([0]), {"el2n": torch.tensor([score])}, epoch)
        >>> history.value("el2n")
        tensor([0.9000])
    """

    @property
    def bytes_per_example(self) -> int:
        """Memory of the state, in bytes an example."""
        ...

    def new_state(self, n: int) -> State:
        """The state of ``n`` examples that have no value yet."""
        ...

    def update(self, state: State, index: Tensor, values: Tensor, visits: Tensor) -> None:
        """Take in ``values[i]`` for example ``index[i]``, which had ``visits[i]`` values before.

        All values of one call come from one training step.  The code must not wait for the device.

        Args:
            state: what `new_state` returned.  It is changed in place.
            index: (B,) examples.
            values: fp32 (B,), or (B, C) for a metric with a vector per example.
            visits: (B,) how many values each example had before.
        """
        ...

    def value(self, state: State, visits: Tensor) -> Tensor:
        """One number per example, fp32 (n,), which is larger the more is left to learn.

        It means nothing if ``visits`` is 0.  Each number must depend on its own row alone, because `History` passes
        some rows at a time.
        """
        ...


@dataclass(frozen=True)
class Latest:
    """The latest value only: the default of the paper's GLUE script.

    Example:
        >>> from fastprune.pruning import History
        >>> history = History(1, {"el2n": Latest()})
        >>> for epoch, score in enumerate([0.9, 0.5]):
        ...     history.update(torch.tensor([0]), {"el2n": torch.tensor([score])}, epoch)
        >>> history.value("el2n")
        tensor([0.5000])
    """

    oriented = True

    @property
    def bytes_per_example(self) -> int:
        """One fp32 number."""
        return 4

    def new_state(self, n: int) -> State:
        """Zeros."""
        return {"latest": torch.zeros(n, dtype=torch.float32)}

    def update(self, state: State, index: Tensor, values: Tensor, visits: Tensor) -> None:
        """Overwrite the value before."""
        state["latest"][index] = values

    def value(self, state: State, visits: Tensor) -> Tensor:
        """The latest value."""
        return state["latest"].clone()


@dataclass(frozen=True)
class EMA:
    """Exponential moving mean plus ``deviation`` times its debiased standard deviation.

    ``EMA(deviation=0.0)`` is the mean alone.  ``EMA(deviation=1.0)`` is the default of the paper's joint NLU script:
    pandas ``ewm(alpha=0.8, adjust=False)``, mean + 1.0 · std.  If ``deviation`` is left out, it is 1.0, and a warning
    says so.  From version 0.3 on it will be 0.0.  ``alpha`` weighs the newest score.  The deviation of an example
    scored once counts as 0.

    With mean m and biased variance c, one score x moves them to m' = (1−α)m + αx and c' = (1−α)(c + (m−m')²) +
    α(x−m')².  The debiasing factor 1/(1 − Σw²) depends on the number of scores alone.  Σw² after t scores is
    (1−α)^(2(t−1)) + α²·(1−(1−α)^(2(t−1)))/(1−(1−α)²).

    Example:
        >>> from fastprune.pruning import History
        >>> history = History(1, {"el2n": EMA(alpha=0.8, deviation=0.0)})
        >>> for epoch, score in enumerate([0.9, 0.5]):
        ...     history.update(torch.tensor([0]), {"el2n": torch.tensor([score])}, epoch)
        >>> history.value("el2n")  # 0.2 * 0.9 + 0.8 * 0.5
        tensor([0.5800])
    """

    alpha: float = 0.8
    deviation: float = None  # type: ignore[assignment]
    oriented = True

    def __post_init__(self) -> None:
        if self.deviation is None:
            warnings.warn(
                "EMA without deviation adds one standard deviation to the mean, and from fastprune 0.3 on it will be "
                "the mean alone; say EMA(deviation=1.0) for the sum, or EMA(deviation=0.0) for the mean",
                DeprecationWarning,
                stacklevel=3,
            )
            object.__setattr__(self, "deviation", 1.0)
        if not 0.0 < self.alpha <= 1.0:
            raise ValueError(f"alpha weighs the newest score and must be in (0, 1], got {self.alpha!r}")

    @property
    def bytes_per_example(self) -> int:
        """The mean, and the variance if it is used."""
        return 8 if self._spreads else 4

    @property
    def _spreads(self) -> bool:
        # With alpha = 1 every value forgets those before it.
        return self.deviation != 0.0 and self.alpha < 1.0

    def new_state(self, n: int) -> State:
        """Zeros."""
        return {
            name: torch.zeros(n, dtype=torch.float32) for name in (("mean", "variance") if self._spreads else ("mean",))
        }

    def update(self, state: State, index: Tensor, values: Tensor, visits: Tensor) -> None:
        """Move the mean and the variance towards the value.  The first value is the mean."""
        old = 1.0 - self.alpha
        before = state["mean"][index]
        first = visits == 0
        mean = torch.where(first, values, old * before + self.alpha * values)
        state["mean"][index] = mean
        if self._spreads:
            variance = old * (state["variance"][index] + (before - mean) ** 2) + self.alpha * (values - mean) ** 2
            state["variance"][index] = torch.where(first, 0.0, variance)

    def value(self, state: State, visits: Tensor) -> Tensor:
        """The mean, plus ``deviation`` times the debiased standard deviation."""
        if not self._spreads:
            return state["mean"].clone()
        old = (1.0 - self.alpha) ** 2
        decay = old ** (visits.to(torch.float64) - 1.0).clamp_min(0.0)
        squares = decay + self.alpha**2 * (1.0 - decay) / (1.0 - old)
        debias = torch.where(visits > 1, 1.0 / (1.0 - squares), 0.0).to(torch.float32)
        return state["mean"] + self.deviation * (state["variance"] * debias).sqrt()


@dataclass(frozen=True)
class Mean:
    """The mean of the last ``last`` scores, or of all of them while there are fewer.

    Example:
        >>> from fastprune.pruning import History
        >>> history = History(1, {"el2n": Mean(last=2)})
        >>> for epoch, score in enumerate([0.9, 0.5, 0.3]):
        ...     history.update(torch.tensor([0]), {"el2n": torch.tensor([score])}, epoch)
        >>> history.value("el2n")
        tensor([0.4000])
    """

    last: int
    oriented = True

    def __post_init__(self) -> None:
        if self.last < 1:
            raise ValueError(f"last must be >= 1, got {self.last!r}")

    @property
    def bytes_per_example(self) -> int:
        """The last ``last`` values."""
        return 4 * self.last

    def new_state(self, n: int) -> State:
        """A ring buffer of zeros."""
        return {"ring": torch.zeros(n, self.last, dtype=torch.float32)}

    def update(self, state: State, index: Tensor, values: Tensor, visits: Tensor) -> None:
        """Overwrite the oldest value in the ring buffer."""
        state["ring"][index, visits.long() % self.last] = values

    def value(self, state: State, visits: Tensor) -> Tensor:
        """The mean of the values in the ring buffer."""
        return state["ring"].sum(dim=1) / visits.clamp(1, self.last)


@dataclass(frozen=True)
class Moments:
    """Mean and standard deviation of all values, by Welford's update.

    The deviation is that of the population, as ``np.std``.

    ``value`` is the deviation of the metric's values.  With ``of="mean"`` it is the mean of oriented values (see
    `Statistic`), which is the negated mean if small values are hard.

    Example:
        The variability of data maps, the deviation of the label's probability over epochs:

        >>> from fastprune.pruning import History
        >>> history = History(1, {"confidence": Moments("deviation")})
        >>> for epoch, score in enumerate([0.2, 0.8]):
        ...     history.update(torch.tensor([0]), {"confidence": torch.tensor([score])}, epoch)
        >>> history.value("confidence")
        tensor([0.3000])
    """

    of: str = "deviation"

    def __post_init__(self) -> None:
        if self.of not in ("deviation", "mean"):
            raise ValueError(f"of must be 'deviation' or 'mean', got {self.of!r}")

    @property
    def oriented(self) -> bool:
        """True for the mean.  A deviation has no direction, and the mean that is kept with it is not negated."""
        return self.of == "mean"

    @property
    def bytes_per_example(self) -> int:
        """The mean, and the sum of squares if the deviation is asked for."""
        return 8 if self.of == "deviation" else 4

    def new_state(self, n: int) -> State:
        """Zeros."""
        names = ("mean", "squares") if self.of == "deviation" else ("mean",)
        return {name: torch.zeros(n, dtype=torch.float32) for name in names}

    def update(self, state: State, index: Tensor, values: Tensor, visits: Tensor) -> None:
        """Welford's update."""
        before = state["mean"][index]
        mean = before + (values - before) / (visits + 1)
        state["mean"][index] = mean
        if self.of == "deviation":
            state["squares"][index] += (values - before) * (values - mean)

    def value(self, state: State, visits: Tensor) -> Tensor:
        """The mean or the deviation, whichever ``of`` names."""
        if self.of == "mean":
            return state["mean"].clone()
        return (state["squares"] / visits.clamp_min(1)).clamp_min(0.0).sqrt()


def is_oriented(statistic: Statistic) -> bool:
    """Whether the statistic takes values of which the largest are the hardest."""
    return bool(getattr(statistic, "oriented", False))


def as_statistic(smoothing: Statistic | str) -> Statistic:
    """Return the statistic itself, or make the one that the text names.

    Text is ``latest``, ``ema`` (the paper's joint NLU default, mean plus deviation), ``ema:ALPHA:DEVIATION``, or
    ``mean:M`` of the last M.

    Raises:
        ValueError: the text is none of these.

    Example:
        >>> as_statistic("mean:3")
        Mean(last=3)
    """
    if not isinstance(smoothing, str):
        return smoothing
    kind, *numbers = smoothing.split(":")
    try:
        if kind == "latest" and not numbers:
            return Latest()
        if kind == "ema" and not numbers:
            return EMA(alpha=0.8, deviation=1.0)
        if kind == "ema" and len(numbers) == 2:
            return EMA(*map(float, numbers))
        if kind == "mean" and len(numbers) == 1:
            return Mean(int(numbers[0]))
    except ValueError:
        pass
    raise ValueError(f"smoothing is latest, ema, ema:ALPHA:DEVIATION or mean:M with M >= 1, got {smoothing!r}")


def spread(values: Tensor, count: Tensor) -> Tensor:
    """sqrt(Σ (v − mean v)²) of the first ``count`` values of each row, (B,) of (B, W).

    If a row has fewer values, all of them count.
    """
    width = values.shape[1]
    valid = torch.arange(width, device=values.device) < count.unsqueeze(1)
    mean = torch.where(valid, values, 0.0).sum(dim=1) / count.clamp(1, width)
    return torch.where(valid, values - mean.unsqueeze(1), 0.0).norm(dim=1)
