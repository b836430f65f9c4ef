"""Linear heads of random weights, and the loss that they must have."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Case(NamedTuple):
    """Inputs of a linear head. All that are floating point require grad."""

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None
    labels: Tensor

    def parts(self) -> list[Tensor]:
        """What gradients flow to."""
        return [part for part in (self.hidden, self.weight, self.bias) if part is not None]


def case(
    rows: int, hidden: int, classes: int, dtype: torch.dtype, *, bias: bool = False, ignored: float = 0.2, seed: int = 0
) -> Case:
    """Random inputs, some of whose rows are ignored."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(dtype).requires_grad_()

    labels = torch.randint(classes, (rows,), generator=generator)
    labels[torch.rand(rows, generator=generator) < ignored] = -100
    return Case(normal(rows, hidden), normal(classes, hidden), normal(classes) if bias else None, labels)


def logits_of(given: Case, softcap: float | None = None, logit_scale: float = 1.0) -> Tensor:
    """The logits of a head, in the dtype of the case."""
    z = F.linear(given.hidden, given.weight, given.bias) * logit_scale
    return softcap * torch.tanh(z / softcap) if softcap else z


def wide(given: Case) -> Case:
    """The same inputs in double precision, as leaves of their own."""
    hidden, weight, bias = (None if part is None else part.detach().double().requires_grad_() for part in given[:3])
    assert hidden is not None and weight is not None
    return Case(hidden, weight, bias, given.labels)


def expected_loss(
    given: Case, *, row_weight: Tensor | None = None, reduction: str = "mean", label_smoothing: float = 0.0, **head: Any
) -> Tensor:
    """The loss by PyTorch, in the precision of the case."""
    losses = F.cross_entropy(logits_of(given, **head), given.labels, reduction="none", label_smoothing=label_smoothing)
    if row_weight is not None:
        losses = losses * row_weight.to(losses.dtype)
    if reduction == "none":
        return losses
    return losses.sum() / (given.labels != -100).sum() if reduction == "mean" else losses.sum()


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """Of the whole tensor, in the L2 norm."""
    return float((actual.detach().double() - expected.detach()).norm() / expected.detach().norm().clamp(min=1e-300))
