"""Which kernel computes: C++ on the CPU, Triton on CUDA and ROCm devices, the definition elsewhere.

Every function takes checked arguments and int64 labels, and records nothing for autograd.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fastprune.gpu import runs_triton
from fastprune.scores import cpu, definition

# In double precision the gradient must be exact to double, which is what torch's own is for.
LOSS_DTYPES = (torch.float16, torch.bfloat16, torch.float32)


def row_scores(
    logits: Tensor, labels: Tensor, metrics: tuple[str, ...], ignore_index: int, shift: int
) -> dict[str, Tensor]:
    """Scores of every row; the contract of `definition.row_scores`."""
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
    logits: Tensor,
    labels: Tensor,
    weight: Tensor | None,
    metrics: tuple[str, ...],
    ignore_index: int,
    label_smoothing: float,
    shift: int,
    reduction: str,
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """The loss and the scores from one read of the logits; the contract of `cpu.loss_forward`."""
    if logits.is_cpu:
        return cpu.loss_forward(logits, labels, weight, metrics, ignore_index, label_smoothing, shift, reduction)
    from fastprune.scores import triton_rows

    losses, stats, scores = triton_rows.loss_forward(
        logits, labels, weight, metrics, ignore_index, label_smoothing, shift
    )
    loss, factor = losses, torch.ones((), dtype=torch.float32, device=logits.device)
    if reduction != "none":
        loss = losses.sum()
    if reduction == "mean":
        factor = 1.0 / _label_weights(logits, labels, weight, ignore_index, shift)
        loss = loss * factor
    return loss, torch.cat([stats.view(-1), factor.view(1)]), scores


def _label_weights(logits: Tensor, labels: Tensor, weight: Tensor | None, ignore_index: int, shift: int) -> Tensor:
    used = definition.shifted_labels(labels, ignore_index, shift)
    counted = used != ignore_index
    if weight is None:
        return counted.sum().to(torch.float32)
    return torch.where(counted, weight[used.clamp(0, logits.shape[-1] - 1)], 0.0).sum()


def loss_backward(
    grad_loss: Tensor,
    state: Tensor,
    logits: Tensor,
    labels: Tensor,
    weight: Tensor | None,
    ignore_index: int,
    label_smoothing: float,
    shift: int,
) -> Tensor:
    """The gradient with respect to the logits; the contract of `cpu.loss_backward`."""
    if logits.is_cpu:
        return cpu.loss_backward(grad_loss, state, logits, labels, weight, ignore_index, label_smoothing, shift)
    from fastprune.scores import triton_gradient

    stats, factor = state[:-1].view(3, *labels.shape), state[-1]
    row_grads = (grad_loss * factor).expand(labels.shape)
    return triton_gradient.loss_backward(row_grads, logits, labels, weight, stats, ignore_index, label_smoothing, shift)
