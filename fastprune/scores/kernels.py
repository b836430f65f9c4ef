"""Which kernel computes: C++ on the CPU, Triton on CUDA and ROCm devices, the definition elsewhere.

Every function takes checked arguments and int64 labels, and records nothing for autograd.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fastprune.platform.gpu import runs_triton
from fastprune.scores import cpu, definition
from fastprune.scores.options import LossOptions

# A gradient in double precision must be accurate to double precision. torch computes that one.
LOSS_DTYPES = (torch.float16, torch.bfloat16, torch.float32)


def row_scores(
    logits: Tensor, labels: Tensor, metrics: tuple[str, ...], ignore_index: int, shift: int
) -> dict[str, Tensor]:
    """Scores of every row, with the contract of `definition.row_scores`."""
    if logits.is_cpu:
        return cpu.row_scores(logits, labels, metrics, ignore_index, shift)
    if runs_triton(logits):
        from fastprune.scores import triton_rows

        return triton_rows.row_scores(logits, labels, metrics, ignore_index, shift)
    return definition.row_scores(logits, labels, metrics, ignore_index, shift)


def has_loss(logits: Tensor) -> bool:
    """Whether `loss_forward` and `loss_backward` take these logits."""
    return logits.dtype in LOSS_DTYPES and (logits.is_cpu or runs_triton(logits))


def loss_forward(
    logits: Tensor, labels: Tensor, weight: Tensor | None, options: LossOptions
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """The loss and the scores from one read of the logits, with the contract of `cpu.loss_forward`."""
    if logits.is_cpu:
        return cpu.loss_forward(logits, labels, weight, *options)
    from fastprune.scores import triton_reduction, triton_rows

    losses, state, scores = triton_rows.loss_forward(logits, labels, weight, options)
    if options.reduction == "none":
        return losses, state, scores
    loss = triton_reduction.reduced(losses, state, labels, weight, logits.shape[-1], options)
    return loss, state, scores


def loss_backward(
    grad_loss: Tensor, state: Tensor, logits: Tensor, labels: Tensor, weight: Tensor | None, options: LossOptions
) -> Tensor:
    """The gradient with respect to the logits, with the contract of `cpu.loss_backward`."""
    if logits.is_cpu:
        _, ignore_index, label_smoothing, shift, _ = options
        return cpu.loss_backward(grad_loss, state, logits, labels, weight, ignore_index, label_smoothing, shift)
    from fastprune.scores import triton_gradient

    return triton_gradient.loss_backward(grad_loss, state, logits, labels, weight, options)
