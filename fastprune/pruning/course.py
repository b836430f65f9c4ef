"""The course of a metric: where its mean began, where it is now, and how low it has been.

A method decides by it whether the model has learned enough for a score to say something.  It is one number for all
examples, and costs a few operations on single numbers a step.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

FIRST = 512
"""How many scores at most make up the beginning.  Enough for a mean, and too few to learn much from.

Of a larger step the mean counts.
"""

RECENT = 4096
"""How many scores at most the present mean goes back, in the sense of an exponential mean."""

SHARE = 8
"""In a data set of less than 8 times as many examples, an eighth of them takes the place of these numbers."""


class Course:
    """The mean of a metric over the training steps of a run.

    Args:
        n: number of training examples.

    Attributes:
        seen: how many scores have come.

    Example:
        >>> course = Course(64)
        >>> for value in [0.8] * 4 + [0.2] * 12:
        ...     course.update(torch.full((8,), value))
        >>> round(course.fallen, 2)
        0.75
    """

    def __init__(self, n: int) -> None:
        self.first = min(FIRST, max(n // SHARE, 1))
        self.window = min(RECENT, max(n // SHARE, 1))
        self.seen = 0
        with torch.device("cpu"):  # whatever the default device
            self._begin = torch.zeros((), dtype=torch.float64)
            self._recent = torch.zeros((), dtype=torch.float64)
            self._least = torch.full((), torch.inf, dtype=torch.float64)

    def update(self, values: Tensor) -> None:
        """Take in the scores of a training step, fp32 (B,) with B >= 1.  It does not wait for the device."""
        mean = _wide(values).mean()
        if not self.seen:
            self._begin = self._recent = torch.full_like(mean, torch.nan)
            self._least = torch.full_like(mean, torch.inf)
        # One step whose scores are not finite says nothing, and spoils nothing.  Both means are NaN until one is.
        mean = torch.where(mean.isfinite(), mean, self._recent)
        before, self.seen = self.seen, self.seen + len(values)
        if before < self.first:
            counted = min(len(values), self.first - before)
            self._begin = _towards(self._begin, mean, counted / (before + counted))
        self._recent = _towards(self._recent, mean, min(1.0, len(values) / self.window))
        if before >= self.first + self.window:
            self._least = torch.fmin(self._least, self._recent)

    @property
    def fallen(self) -> float:
        """By which share of its beginning the mean has fallen at its lowest, in [0, 1].  Waits for the device.

        It never falls again: a subset of hard examples has a larger mean, and tells nothing of what was learned.  It
        is 0 until the beginning is over, and for a mean that was not finite or not above 0.
        """
        begin, least = float(self._begin), float(self._least)
        return max(0.0, 1.0 - least / begin) if begin > 0.0 and least < begin else 0.0

    def state_dict(self) -> dict[str, Any]:
        """Plain tensors on the CPU, and the number of scores."""
        return {"seen": self.seen, **{name: getattr(self, f"_{name}").cpu().clone() for name in _TENSORS}}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Go on from ``state_dict()``."""
        self.seen = state["seen"]
        for name in _TENSORS:
            value = state[name].float() if device.type == "mps" else state[name]
            setattr(self, f"_{name}", value.to(device, copy=True))


_TENSORS = ("begin", "recent", "least")


def _towards(mean: Tensor, value: Tensor, share: float) -> Tensor:
    """A mean of which the value becomes this share.  The first value becomes all of it."""
    return torch.where(mean.isnan(), value, mean + (value - mean) * share)


def _wide(values: Tensor) -> Tensor:
    """The values in fp64, or in fp32 on a device that has no fp64."""
    return values.float() if values.device.type == "mps" else values.double()
