"""`cross_entropy`: the training loss that hands back the scores of its rows."""

from __future__ import annotations

from typing import Any, overload

import torch
import torch.nn.functional as F
from torch import Tensor

from fastprune.scores import kernels, ops, sharded
from fastprune.scores.api import computed_rows, is_soft, score
from fastprune.scores.checks import (
    as_float,
    as_int,
    check_data,
    check_labels,
    check_loss,
    check_metrics,
    check_rows,
    check_soft,
)
from fastprune.scores.definition import shifted_labels
from fastprune.scores.labels import class_indices, is_counted
from fastprune.scores.metrics import kernel_part


@overload
def cross_entropy(
    logits: Tensor,
    labels: Tensor,
    weight: Tensor | None = None,
    *,
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
    weight: Tensor | None = None,
    *,
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
    weight: Tensor | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    shift: int = 0,
    return_scores: tuple[str, ...] | list[str],
) -> tuple[Tensor, dict[str, Tensor]]: ...


def cross_entropy(
    logits: Tensor,
    labels: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    shift: int = 0,
    return_scores: str | tuple[str, ...] | list[str] | None = None,
) -> Tensor | tuple[Tensor, Tensor] | tuple[Tensor, dict[str, Tensor]]:
    """torch.nn.functional.cross_entropy with classes last, and the rows' scores with it.

    Args:
        logits: (..., C), classes last; a DTensor as `score` takes it. Gradients flow to them. torch's (N, C, d)
            layout raises; where C == d nothing tells it apart, and the last dimension is taken for the classes.
        labels: (...) integer class indices, or (..., C) floating point probabilities. A class of logit -inf and
            probability 0 adds 0 to the loss, where torch's is NaN.
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

    Accuracy: each row's loss to 4e-6 relative; the gradient's error is no larger than torch's in the same dtype.
    Cost: the forward pass reads the logits once (with label smoothing on the CPU twice), the backward pass
    reads them once and writes the gradient; 12 bytes a row are kept between. The logits are never copied
    to fp32 and never written. They are copied as `score` says. float64 logits, probabilities, torch.func,
    torch.jit.trace and forward-mode differentiation go through torch, with one more read for the scores.
    """
    soft = is_soft(logits, labels)
    ignore_index, shift = as_int("ignore_index", ignore_index), as_int("shift", shift)
    label_smoothing = as_float("label_smoothing", label_smoothing)
    if sharded.is_sharded(logits):
        return _sharded(logits, labels, weight, ignore_index, reduction, label_smoothing, shift, return_scores)
    check_loss(logits, weight, reduction, label_smoothing, soft)
    if soft:
        check_soft(logits, labels, ignore_index, shift)
    else:
        check_rows(logits, labels, ignore_index, shift)
    names = () if return_scores is None else check_metrics(return_scores, per_class=soft)

    direct = ops.direct(logits, labels, weight)
    if direct:
        check_data(logits=logits, labels=labels, weight=weight)
    if soft or not kernels.has_loss(logits) or ops.transformed() or torch.jit.is_tracing():
        loss = _by_torch(logits, labels, weight, ignore_index, reduction, label_smoothing, shift, direct)
        scores = score(logits, labels, names, ignore_index=ignore_index, shift=shift) if names else {}
    else:
        labels = class_indices(labels)
        if weight is not None:
            weight = weight.detach().to(torch.float32).resolve_neg().contiguous()
        fused = kernel_part(names)
        options = ops.LossOptions(fused, ignore_index, label_smoothing, shift, reduction)
        if not direct:
            loss, _, rows = torch.ops.fastprune.cross_entropy(logits, labels, weight, *options)
            scores = dict(zip(fused, rows.detach(), strict=True))
        elif logits.requires_grad and torch.is_grad_enabled():
            loss, *rows = ops.differentiable_cross_entropy(logits, labels, weight, options)
            scores = dict(zip(fused, rows, strict=True))
        else:
            loss, _, scores = kernels.loss_forward(logits, labels, weight, *options)
        if fused != names:
            scores = computed_rows(names, scores, logits, labels, ignore_index, shift)
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
    direct: bool,
) -> Tensor:
    rows, classes = logits.shape[:-1], logits.shape[-1]
    if labels.is_floating_point():
        target, ignore_index = labels.reshape(-1, classes), -100  # which torch refuses to change here
        if label_smoothing == 0:
            logits = _without_masked(logits, labels)
    else:
        if direct and logits.is_cpu:  # as the kernel does, with the position
            check_labels(labels, classes, ignore_index, shift)
        target = shifted_labels(labels, ignore_index, shift).reshape(-1)
    loss = F.cross_entropy(
        logits.reshape(-1, classes),
        target,
        weight=None if weight is None else weight.to(logits.dtype),
        ignore_index=ignore_index,
        reduction=reduction,
        label_smoothing=label_smoothing,
    )
    return loss.reshape(rows) if reduction == "none" else loss


def _without_masked(logits: Tensor, targets: Tensor) -> Tensor:
    """The logits with a finite number for -inf where the target is 0, as 0 times -inf would be NaN in torch's loss.

    Its exponential is 0 all the same. Rows of only -inf stay as they are: their loss is not defined.
    """
    some = logits.amax(-1, keepdim=True) > -torch.inf
    return torch.where((logits == -torch.inf) & (targets == 0) & some, torch.finfo(logits.dtype).min / 4, logits)


def _sharded(
    logits: Any,
    labels: Tensor,
    weight: Tensor | None,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
    shift: int,
    return_scores: Any,
) -> Any:
    """The loss of a DTensor: each rank's own rows, added up over the ranks if the loss is reduced."""
    z, y = sharded.local_rows(logits, labels, across_tokens=bool(shift))
    local_weight = weight.full_tensor() if weight is not None and sharded.is_sharded(weight) else weight  # type: ignore[attr-defined]
    names = check_metrics(return_scores) if return_scores is not None else ()
    check_loss(z, local_weight, reduction, label_smoothing, is_soft(z, y))
    rows: Any = cross_entropy(
        z,
        y,
        local_weight,
        ignore_index=ignore_index,
        reduction="none",
        label_smoothing=label_smoothing,
        shift=shift,
        return_scores=names or None,
    )
    losses, scores = rows if names else (rows, {})
    loss = sharded.as_rows_of(losses, logits)
    if reduction != "none":
        weights = sharded.as_rows_of(_row_weights(z, y, local_weight, ignore_index, shift), logits)
        loss = sharded.reduced_over_ranks(loss, weights, reduction)
    if return_scores is None:
        return loss
    placed = {name: sharded.as_rows_of(s, logits) for name, s in scores.items()}
    return (loss, placed[return_scores]) if isinstance(return_scores, str) else (loss, placed)


def _row_weights(logits: Tensor, labels: Tensor, weight: Tensor | None, ignore_index: int, shift: int) -> Tensor:
    """What each row counts in the mean: the weight of its label, or 1 for probabilities, in fp32."""
    if labels.is_floating_point():
        return torch.ones(logits.shape[:-1], dtype=torch.float32, device=logits.device)
    moved = shifted_labels(labels, ignore_index, shift)
    counted = is_counted(moved, ignore_index)
    if weight is None:
        return counted.float()
    return torch.where(counted, weight.float()[moved.clamp(0, logits.shape[-1] - 1)], 0.0)
