"""`cross_entropy`: the training loss that also returns the scores of its rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

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
from fastprune.scores.class_parallel import loss_of_parts
from fastprune.scores.class_parts import agreed, check_offered, check_offered_loss
from fastprune.scores.definition import shifted_labels
from fastprune.scores.labels import class_indices, is_counted
from fastprune.scores.metrics import kernel_part
from fastprune.scores.options import LossOptions

if TYPE_CHECKING:
    import torch.distributed as dist


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
    group: dist.ProcessGroup | None = None,
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
    group: dist.ProcessGroup | None = None,
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
    group: dist.ProcessGroup | None = None,
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
    group: dist.ProcessGroup | None = None,
) -> Tensor | tuple[Tensor, Tensor] | tuple[Tensor, dict[str, Tensor]]:
    """torch.nn.functional.cross_entropy with classes last, and the scores of the rows with it.

    Args:
        logits: (..., C), classes last, or a DTensor as `score` takes it. Gradients flow to them. torch's layout (N, C,
            d) raises. If C == d it cannot be recognised, and the last dimension is read as the classes.
        labels: (...) integer class indices, or (..., C) floating point probabilities. A class with logit -inf and
            probability 0 adds 0 to the loss. In torch the loss is NaN then.
        weight: (C,) weights of the classes on the logits' device, or None.
        ignore_index: Rows with this label add nothing to the loss and score 0.
        reduction: "mean" (over the weights of the labels), "sum" or "none".
        label_smoothing: In [0, 1], as torch's.
        shift: Row t is scored against label t + shift along the last dimension of labels (1 for causal language
            models). Rows without one are ignored. The logits are not copied for it.
        return_scores: A metric of `score`, or several of them.
        group: As in `score`. Every rank gets the same loss, bit for bit, and the gradient of its own logits. It takes
            neither weight nor float64 logits.

    Returns:
        The loss. Value, dtype and gradient are torch's on the flattened rows (fp32 under autocast). With reduction
        "none" it has labels.shape. With return_scores the result is (loss, scores): a Tensor for a single string,
        otherwise a dict. The scores are fp32 and of the detached logits, as `score` gives them, without weight and
        smoothing. Scores never require grad.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument has the wrong shape, device or value.
        IndexError: A label is outside [0, C), on the CPU. On a GPU the loss and the gradient of that row are NaN, and
            `score(..., validate_labels=True)` finds it.
        RuntimeError: The gradient is differentiated again, where torch does not compute it.

    Accuracy: the loss of each row to 4e-6 relative. The error of the gradient is no larger than torch's in the same
    dtype.

    Cost: the forward pass reads the logits once (with label smoothing on the CPU twice). The backward pass reads them
    once and writes the gradient. Between them 12 bytes a row are kept. The logits are never copied to fp32 and never
    written. They are copied as `score` says. float64 logits, probabilities, torch.func, torch.jit.trace and
    forward-mode differentiation go through torch, with one more read for the scores. Where the classes are on several
    ranks, the forward pass sends what `score` says, and the backward pass sends nothing.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]], requires_grad=True)
        >>> loss, scores = cross_entropy(logits, torch.tensor([0, 0]), return_scores="el2n")
        >>> loss.backward()
        >>> scores  # the second row is wrong: it has the larger score
        tensor([0.1686, 1.0339])
    """
    soft = is_soft(logits, labels)
    names = () if return_scores is None else check_metrics(return_scores, per_class=soft)
    options = LossOptions(
        kernel_part(names),
        as_int("ignore_index", ignore_index),
        as_float("label_smoothing", label_smoothing),
        as_int("shift", shift),
        reduction,
    )
    if group is not None:
        loss, scores = _of_group(logits, labels, weight, names, options, group)
        return returned(loss, scores, return_scores)
    if sharded.is_sharded(logits):
        loss, scores = _sharded(logits, labels, weight, names, options)
        return returned(loss, scores, return_scores)
    check_loss(logits, weight, options, soft)
    (check_soft if soft else check_rows)(logits, labels, options.ignore_index, options.shift)

    direct = ops.direct(logits, labels, weight)
    if direct:
        check_data(logits=logits, labels=labels, weight=weight)
    if soft or not kernels.has_loss(logits) or ops.transformed() or torch.jit.is_tracing():
        loss = _by_torch(logits, labels, weight, options, direct)
        scores = score(logits, labels, names, ignore_index=options.ignore_index, shift=options.shift) if names else {}
    else:
        loss, scores = _by_kernels(logits, class_indices(labels), weight, names, options, direct)
    return returned(loss, scores, return_scores)


def returned(loss: Tensor, scores: dict[str, Tensor], return_scores: str | tuple[str, ...] | list[str] | None) -> Any:
    """What a loss with the argument ``return_scores`` returns."""
    if return_scores is None:
        return loss
    return (loss, scores[return_scores]) if isinstance(return_scores, str) else (loss, scores)


def _by_kernels(
    logits: Tensor,
    labels: Tensor,
    weight: Tensor | None,
    names: tuple[str, ...],
    options: LossOptions,
    direct: bool,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss, and the scores by name. ``options.metrics`` are those of the scores that the kernels compute."""
    if weight is not None:
        weight = weight.detach().to(torch.float32).resolve_neg().contiguous()
    fused = options.metrics
    if not direct:
        loss, _, rows = torch.ops.fastprune.cross_entropy(logits, labels, weight, *options)
        scores = dict(zip(fused, rows.detach(), strict=True))
    elif logits.requires_grad and torch.is_grad_enabled():
        loss, *rows = ops.differentiable_cross_entropy(logits, labels, weight, options)
        scores = dict(zip(fused, rows, strict=True))
    else:
        loss, _, scores = kernels.loss_forward(logits, labels, weight, options)
    if fused != names:
        scores = computed_rows(names, scores, logits, labels, options.ignore_index, options.shift)
    if logits.dtype != torch.float32 and not torch.is_autocast_enabled(logits.device.type):
        loss = loss.to(logits.dtype)
    return loss, scores


def _by_torch(logits: Tensor, labels: Tensor, weight: Tensor | None, options: LossOptions, direct: bool) -> Tensor:
    rows, classes, ignore_index = logits.shape[:-1], logits.shape[-1], options.ignore_index
    if labels.is_floating_point():
        target, ignore_index = labels.reshape(-1, classes), -100  # which torch refuses to change here
        if options.label_smoothing == 0:
            logits = _without_masked(logits, labels)
    else:
        if direct and logits.is_cpu:  # as the kernel does, so that the error names the position
            check_labels(labels, classes, ignore_index, options.shift)
        target = shifted_labels(labels, ignore_index, options.shift).reshape(-1)
    loss = F.cross_entropy(
        logits.reshape(-1, classes),
        target,
        weight=None if weight is None else weight.to(logits.dtype),
        ignore_index=ignore_index,
        reduction=options.reduction,
        label_smoothing=options.label_smoothing,
    )
    return loss.reshape(rows) if options.reduction == "none" else loss


def _without_masked(logits: Tensor, targets: Tensor) -> Tensor:
    """The logits, with a finite number for -inf where the target is 0.

    In torch's loss 0 times -inf would be NaN. The exponential of the finite number is still 0. Rows of only -inf stay
    as they are, because their loss is not defined.
    """
    some = logits.amax(-1, keepdim=True) > -torch.inf
    return torch.where((logits == -torch.inf) & (targets == 0) & some, torch.finfo(logits.dtype).min / 4, logits)


def _of_group(
    logits: Tensor,
    labels: Tensor,
    weight: Tensor | None,
    names: tuple[str, ...],
    options: LossOptions,
    group: dist.ProcessGroup,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of rows whose classes are spread over the ranks of the group."""

    def check() -> None:
        if sharded.is_sharded(logits):
            raise ValueError("logits are a DTensor, which knows where its classes are; leave group out")
        _check_parts(logits, labels, weight, names, options)

    _, parts = agreed(logits, labels, group, "cross_entropy", check, (names, options))
    return loss_of_parts(logits, labels, options, parts)


def _check_parts(
    logits: Tensor, labels: Tensor, weight: Tensor | None, names: tuple[str, ...], options: LossOptions
) -> None:
    """Raises unless the loss is offered where the classes of a row are spread over ranks."""
    check_offered(labels, names)
    check_offered_loss(logits, weight)
    check_rows(logits, labels, options.ignore_index, options.shift)
    check_loss(logits, None, options, soft=False)


def _sharded(
    logits: Any, labels: Tensor, weight: Tensor | None, names: tuple[str, ...], options: LossOptions
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a DTensor: of each rank's own rows, and added up over the ranks if the loss is reduced."""
    if sharded.shards_classes(logits):
        _check_parts(logits, labels, weight, names, options)
    z, y, parts = sharded.local(logits, labels, across_tokens=bool(options.shift))
    local_weight = weight.full_tensor() if weight is not None and sharded.is_sharded(weight) else weight  # type: ignore[attr-defined]
    if parts is None:
        losses, scores = _local_rows(z, y, local_weight, names, options)
    else:
        losses, scores = loss_of_parts(z, y, options._replace(reduction="none"), parts)
    loss = sharded.as_rows_of(losses, logits)
    if options.reduction != "none":
        weights = sharded.as_rows_of(_row_weights(z, y, local_weight, options), logits)
        loss = sharded.reduced_over_ranks(loss, weights, options.reduction)
    return loss, {name: sharded.as_rows_of(s, logits) for name, s in scores.items()}


def _local_rows(
    logits: Tensor, labels: Tensor, weight: Tensor | None, names: tuple[str, ...], options: LossOptions
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss and the scores of each row."""
    check_loss(logits, weight, options, is_soft(logits, labels))
    rows: Any = cross_entropy(
        logits,
        labels,
        weight,
        ignore_index=options.ignore_index,
        reduction="none",
        label_smoothing=options.label_smoothing,
        shift=options.shift,
        return_scores=names or None,
    )
    return rows if names else (rows, {})


def _row_weights(logits: Tensor, labels: Tensor, weight: Tensor | None, options: LossOptions) -> Tensor:
    """How much each row counts in the mean, in fp32: the weight of its label, or 1 for probabilities."""
    if labels.is_floating_point():
        return torch.ones(logits.shape[:-1], dtype=torch.float32, device=logits.device)
    moved = shifted_labels(labels, options.ignore_index, options.shift)
    counted = is_counted(moved, options.ignore_index)
    if weight is None:
        return counted.float()
    return torch.where(counted, weight.float()[moved.clamp(0, logits.shape[-1] - 1)], 0.0)
