"""Gradients that refuse to be differentiated, where a second derivative has no formula here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor


class _Once(torch.autograd.Function):
    """A gradient that autograd takes for a function of tensors. Otherwise it would pass for a constant."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, message: str, *depends_on: Tensor | None) -> Tensor:
        ctx.message, ctx.others = message, len(depends_on)
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[None, ...]:
        raise RuntimeError(ctx.message)


def once_only(
    gradients: Iterable[Tensor | None], depends_on: Sequence[Tensor | None], message: str
) -> list[Tensor | None]:
    """The gradients. Under create_graph=True they raise ``RuntimeError(message)`` when they are differentiated.

    Args:
        gradients: What a backward pass has computed.
        depends_on: The tensors that they were computed from.
        message: Says what to use instead.
    """
    if not torch.is_grad_enabled():
        return list(gradients)
    return [None if gradient is None else _Once.apply(gradient, message, *depends_on) for gradient in gradients]
