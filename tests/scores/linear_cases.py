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


def product_of(given: Case) -> Tensor:
    """The product of head and states, in the dtype of the case."""
    return F.linear(given.hidden, given.weight, given.bias)


def logits_of(given: Case, softcap: float | None = None, logit_scale: float = 1.0) -> Tensor:
    """The logits of a head, in the dtype of the case."""
    return _transformed(product_of(given), softcap, logit_scale)


def _transformed(product: Tensor, softcap: float | None = None, logit_scale: float = 1.0) -> Tensor:
    z = product * logit_scale
    return softcap * torch.tanh(z / softcap) if softcap else z


def wide(given: Case) -> Case:
    """The same inputs in double precision, as leaves of their own."""
    hidden, weight, bias = (None if part is None else part.detach().double().requires_grad_() for part in given[:3])
    assert hidden is not None and weight is not None
    return Case(hidden, weight, bias, given.labels)


def expected_loss(given: Case, **options: Any) -> Tensor:
    """The loss by PyTorch, in the precision of the case."""
    return _loss_of(product_of(given), given.labels, **options)


def _loss_of(
    product: Tensor,
    labels: Tensor,
    *,
    row_weight: Tensor | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    **head: Any,
) -> Tensor:
    z = _transformed(product, **head)
    losses = F.cross_entropy(z, labels, reduction="none", label_smoothing=label_smoothing)
    if row_weight is not None:
        losses = losses * row_weight.to(losses.dtype)
    if reduction == "none":
        return losses
    return losses.sum() / (labels != -100).sum() if reduction == "mean" else losses.sum()


def sizes_of_terms(given: Case, up: Tensor, **options: Any) -> list[Tensor]:
    """What each gradient adds up, without signs. Where terms cancel, rounding is relative to these."""
    product = product_of(given).detach().requires_grad_()
    (g,) = torch.autograd.grad((_loss_of(product, given.labels, **options) * up).sum(), product)
    hidden, weight = given.hidden.detach().abs(), given.weight.detach().abs()
    sizes = [g.abs() @ weight, g.abs().t() @ hidden]
    return sizes if given.bias is None else [*sizes, g.abs().sum(0)]


def relative_error(actual: Tensor, expected: Tensor, size: Tensor | None = None) -> float:
    """Of the whole tensor, in the L2 norm. Relative to `size` if it is given."""
    scale = expected.detach() if size is None else size
    return float((actual.detach().double() - expected.detach()).norm() / scale.norm().clamp(min=1e-300))
