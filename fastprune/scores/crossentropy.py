"""`cross_entropy`: the training loss that hands back the scores of its rows."""

from __future__ import annotations

from typing import overload

import torch
import torch.nn.functional as F
from torch import Tensor

from fastprune.scores import kernels, ops
from fastprune.scores.api import is_soft, score
from fastprune.scores.checks import check_labels, check_loss, check_metrics, check_rows, check_soft
from fastprune.scores.definition import TARGET_METRICS, shifted_labels


@overload
def cross_entropy(
    logits: Tensor,
    labels: Tensor,
    *,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    shift: int = 0,
    return_scores: None = None,
) -> Tensor: ...


@overload
def cross_entropy(
    logits: Tensor,
    labels: Tensor,
    *,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    shift: int = 0,
    return_scores: str,
) -> tuple[Tensor, Tensor]: ...


@overload
def cross_entropy(
    logits: Tensor,
    labels: Tensor,
    *,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    shift: int = 0,
    return_scores: tuple[str, ...] | list[str],
) -> tuple[Tensor, dict[str, Tensor]]: ...


def cross_entropy(
    logits: Tensor,
    labels: Tensor,
    *,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    shift: int = 0,
    return_scores: str | tuple[str, ...] | list[str] | None = None,
) -> Tensor | tuple[Tensor, Tensor] | tuple[Tensor, dict[str, Tensor]]:
    """torch.nn.functional.cross_entropy with classes last, and the rows' scores with it.

    Args:
        logits: (..., C), classes last; torch's (N, C, d) layout raises. Gradients flow to them.
        labels: (...) integer class indices, or (..., C) floating point probabilities.
        weight: (C,) weights of the classes on the logits' device, or None.
        ignore_index: rows with this label add nothing to the loss and score 0.
        reduction: "mean" (over the weights of the labels), "sum" or "none".
        label_smoothing: in [0, 1], as torch's.
        shift: row t is scored against label t + shift along the last dimension of labels (1 for causal
            language models); rows without one are ignored. The logits are not copied for it.
        return_scores: a metric of `score`, or several of them.

    Returns:
        The loss: value, dtype and gradient as torch's on the flattened rows (fp32 under autocast); with
        reduction "none" of labels.shape. With return_scores (loss, scores): fp32 scores of the
        detached logits as `score` gives them (without weight and smoothing), a Tensor for a single
        string, otherwise a dict. Scores never require grad.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape, device or value.
        IndexError: on the CPU, a label outside [0, C); on a GPU that row's loss and gradient are NaN, and
            `score(..., validate_labels=True)` finds it.
        RuntimeError: on differentiating the gradient again (where torch does not compute it).

    Accuracy: each row's loss to 4e-6 relative (with label smoothing on a GPU, relative to the largest
    |logit| where that is more); the gradient's error is no larger than torch's in the same dtype.
    Cost: the forward pass reads the logits once (with label smoothing on the CPU twice), the backward pass
    reads them once and writes the gradient; 12 bytes a row are kept between. The logits are never copied
    to fp32 and never written. They are copied as `score` says. float64 logits, probabilities, torch.func
    and forward-mode differentiation go through torch, with one more read for the scores.
    """
    check_loss(logits, weight, reduction, label_smoothing)
    soft = is_soft(logits, labels)
    if soft:
        check_soft(logits, labels, shift)
    else:
        check_rows(logits, labels, ignore_index, shift)
    names = () if return_scores is None else check_metrics(return_scores, TARGET_METRICS if soft else None)

    if soft or not kernels.has_loss(logits) or ops.transformed():
        loss = _by_torch(logits, labels, weight, ignore_index, reduction, label_smoothing, shift)
        scores = score(logits, labels, names, ignore_index=ignore_index, shift=shift) if names else {}
    else:
        labels = labels if labels.dtype == torch.int64 else labels.to(torch.int64)
        if weight is not None:
            weight = weight.detach().to(torch.float32).resolve_neg().contiguous()
        options = ops.LossOptions(names, ignore_index, label_smoothing, shift, reduction)
        if not ops.direct(logits, labels, weight):
            loss, _, rows = torch.ops.fastprune.cross_entropy(logits, labels, weight, *options)
            scores = dict(zip(names, rows.detach(), strict=True))
        elif logits.requires_grad and torch.is_grad_enabled():
            loss, *rows = ops.differentiable_cross_entropy(logits, labels, weight, options)
            scores = dict(zip(names, rows, strict=True))
        else:
            loss, _, scores = kernels.loss_forward(logits, labels, weight, *options)
        if logits.dtype != torch.float32 and not torch.is_autocast_enabled(logits.device.type):
            loss = loss.to(logits.dtype)
    if return_scores is None:
        return loss
    return (loss, scores[return_scores]) if isinstance(return_scores, str) else (loss, scores)


def _by_torch(
    logits: Tensor,
    labels: Tensor,
    weight: Tensor | None,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
    shift: int,
) -> Tensor:
    rows, classes = logits.shape[:-1], logits.shape[-1]
    if labels.is_floating_point():
        target, ignore_index = labels.reshape(-1, classes), -100  # which torch refuses to change here
    else:
        if logits.is_cpu and ops.direct(logits, labels):  # as the kernel does, with the position
            check_labels(labels, classes, ignore_index, shift)
        target = shifted_labels(labels.to(torch.int64), ignore_index, shift).reshape(-1)
    loss = F.cross_entropy(
        logits.reshape(-1, classes),
        target,
        weight=None if weight is None else weight.to(logits.dtype),
        ignore_index=ignore_index,
        reduction=reduction,
        label_smoothing=label_smoothing,
    )
    return loss.reshape(rows) if reduction == "none" else loss
