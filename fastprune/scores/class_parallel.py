"""Scores and loss of rows whose classes are spread over ranks, as those of a tensor-parallel head are.

    local logits -> sums of each row over the local classes   (`fastprune.scores.tile_sums`)
                 -> the sums of all ranks, merged in their order
                 -> scores, losses, and the state from which each rank computes the gradient of its own logits

So 56 bytes for each row and rank are sent, and no logits. All ranks merge the same numbers in the same order, so they
have the same result, bit for bit. It is not bit for bit that of one process: a part ends where one process goes on with
its block of 1,024 classes, so the partial sums are rounded in other places. Both are within 4e-6.

The gradient of a rank's logits needs the state and these logits. Nothing is sent for it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastprune.platform.collectives import gather_alike
from fastprune.scores.checks import check_labels
from fastprune.scores.class_parts import Parts, uncompiled
from fastprune.scores.cpu import writable_copy
from fastprune.scores.definition import shifted_labels
from fastprune.scores.no_second_derivative import once_only
from fastprune.scores.ops import NO_SECOND_DERIVATIVE
from fastprune.scores.options import LossOptions
from fastprune.scores.reduce import reduce_tokens
from fastprune.scores.tile_sums import Closed, Wanted, add_tile, close_sums, empty_sums, gradient_in_place, merged


class _Rows(NamedTuple):
    """The rows as the kernels take them.

    Attributes:
        labels: (n,) int64 contiguous, among all classes. It is -1 where there is none, which is in no part.
        counted: (n,) bool, whether the row has a label that is not ignored.
        wrong: (n,) bool, whether that label is no class.
    """

    labels: Tensor
    counted: Tensor
    wrong: Tensor


@uncompiled
def scores_of_parts(
    logits: Tensor,
    labels: Tensor,
    names: tuple[str, ...],
    parts: Parts,
    ignore_index: int,
    shift: int,
    reduce: str | None,
    validate_labels: bool,
) -> dict[str, Tensor]:
    """The scores of `fastprune.score` by name. A collective call of the group of the parts.

    Args:
        logits: IN (..., V) of this rank's classes, any strides.
        labels: IN (...) among all classes.
        names: Metrics of the kernels.
        parts: Who holds which classes.
        ignore_index: As in `fastprune.score`.
        shift: As in `fastprune.score`.
        reduce: As in `fastprune.score`.
        validate_labels: As in `fastprune.score`.
    """
    rows = _rows(labels, ignore_index, shift, parts, validate_labels)
    closed = _closed(logits, rows, Wanted(names), parts)
    scores = {name: values.reshape(labels.shape) for name, values in closed.scores.items()}
    if reduce:
        valid = rows.counted.reshape(labels.shape)
        scores = {name: reduce_tokens(values, valid, reduce) for name, values in scores.items()}
    return scores


@uncompiled
def loss_of_parts(
    logits: Tensor, labels: Tensor, options: LossOptions, parts: Parts
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of `fastprune.cross_entropy` in the logits' dtype, and the scores by name. A collective call.

    Args:
        logits: As in `scores_of_parts`. Gradients flow to them.
        labels: As in `scores_of_parts`.
        options: Of the loss, and the metrics.
        parts: Who holds which classes.
    """
    rows = _rows(labels, options.ignore_index, options.shift, parts, validate=False)
    losses, *scores = _Losses.apply(logits, rows, options, parts)
    if options.reduction == "none":
        loss = losses.reshape(labels.shape)
    else:
        loss = losses.sum(dtype=torch.float64) if logits.device.type != "mps" else losses.sum()
        loss = (loss / rows.counted.sum() if options.reduction == "mean" else loss).to(torch.float32)
    if logits.dtype != torch.float32 and not torch.is_autocast_enabled(logits.device.type):
        loss = loss.to(logits.dtype)
    return loss, {name: values.reshape(labels.shape) for name, values in zip(options.metrics, scores, strict=True)}


class _Losses(torch.autograd.Function):
    """The loss of each row (n,) fp32, and the scores."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, rows: _Rows, options: LossOptions, parts: Parts) -> tuple[Tensor, ...]:
        """The losses and the scores. Autograd gives no gradient to the scores."""
        wanted = Wanted(options.metrics, loss=True, label_smoothing=options.label_smoothing)
        closed = _closed(logits, rows, wanted, parts)
        assert closed.losses is not None
        ctx.save_for_backward(logits, closed.state, rows.labels, rows.counted)
        ctx.smoothing, ctx.parts = options.label_smoothing, parts
        scores = tuple(closed.scores[name] for name in options.metrics)
        ctx.mark_non_differentiable(*scores)
        return closed.losses, *scores

    @staticmethod
    def backward(ctx: Any, grad_losses: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient with respect to this rank's logits."""
        logits, state, labels, counted = ctx.saved_tensors
        with torch.no_grad():
            tile = _copy_of_counted(_flat(logits, len(labels)), counted)
            g = torch.where(counted, grad_losses, 0.0).to(torch.float32).contiguous()
            if tile.numel():
                first, classes = ctx.parts.first_class, ctx.parts.classes
                gradient_in_place(tile, first, labels, classes, state, g, ctx.smoothing, 1.0, 0.0)
        gradient = tile.reshape(logits.shape)
        return *once_only([gradient], [logits], NO_SECOND_DERIVATIVE), None, None, None


def _rows(labels: Tensor, ignore_index: int, shift: int, parts: Parts, validate: bool) -> _Rows:
    """The labels as the kernels take them.

    Raises:
        IndexError: One is no class. It is looked for on the CPU, or if told to.
    """
    if labels.is_cpu or validate:
        try:
            check_labels(labels, parts.classes, ignore_index, shift)
        except IndexError as error:
            held = f"; the ranks of group hold {', '.join(map(str, parts.sizes))} classes" if parts.sizes else ""
            raise IndexError(f"{error}{held}") from None
    y = shifted_labels(labels, ignore_index, shift).reshape(-1)
    counted = y != ignore_index
    wrong = counted & ((y < 0) | (y >= parts.classes))
    return _Rows(torch.where(counted & ~wrong, y, -1), counted, wrong)


def _flat(logits: Tensor, rows: int) -> Tensor:
    """(n, V). There may be no V, so n is not found from it."""
    return logits.detach().reshape(rows, logits.shape[-1])


def _copy_of_counted(rows: Tensor, counted: Tensor) -> Tensor:
    """A copy to write in. Rows that do not count are 0 in it, because NaN times a gradient of 0 would be NaN."""
    if not rows.is_cpu:
        return torch.where(counted.unsqueeze(-1), rows, 0.0).contiguous()
    copy = writable_copy(rows)
    if not bool(counted.all()):
        copy[~counted] = 0.0
    return copy


def _closed(logits: Tensor, rows: _Rows, wanted: Wanted, parts: Parts) -> Closed:
    """Losses, state and scores of the rows, of the classes of all ranks. A collective call.

    The logits are copied only if their strides are not those of a tile.
    """
    tile = _flat(logits, len(rows.labels)).resolve_neg().contiguous()
    sums = empty_sums(len(tile), tile.device)
    if tile.numel():
        add_tile(sums, tile, parts.first_class, rows.labels, wanted, begins=True)
    else:
        sums.zero_()[:, 1] = -torch.inf  # the largest of no logits
    everyone = gather_alike(sums, parts.group) if len(tile) else sums.unsqueeze(0)
    closed = close_sums(merged(everyone), parts.classes, wanted)

    def marked(values: Tensor) -> Tensor:
        return values.masked_fill(rows.wrong, torch.nan).masked_fill(~rows.counted, 0.0)

    losses, state = (None if values is None else marked(values) for values in (closed.losses, closed.state))
    return Closed(losses, state, {name: marked(values) for name, values in closed.scores.items()})
