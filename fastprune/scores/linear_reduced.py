"""A weighted sum of the losses of a linear head: an operator that computes the gradients with the loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fastprune.platform.torch_private import apply_untransformed, has_storage, keeps_graph
from fastprune.scores.checks import check_data
from fastprune.scores.linear_ops import (
    NO_SECOND_DERIVATIVE,
    OPTIONS_SCHEMA,
    LinearOptions,
    check_labels_on_cpu,
    counted_rows,
    empty_gradients,
    or_empty,
    spread_gradients,
    stacked_scores,
    those_needed,
    without_bad_labels,
)
from fastprune.scores.linear_tiles import Gradients, Needed, folded, gradients_by_classes, loss_and_gradients_by_rows
from fastprune.scores.no_second_derivative import once_only

GIVEN_AWAY = (
    "the gradients of fastprune.linear_cross_entropy were given away by the first backward pass; pass "
    "retain_graph=True to it"
)


@torch.library.custom_op(
    "fastprune::linear_reduced",
    mutates_args=(),
    schema="(Tensor hidden, Tensor weight, Tensor? bias, Tensor labels, Tensor row_weight, Tensor factor, "
    f"bool[] needed, {OPTIONS_SCHEMA}) "
    "-> (Tensor loss, Tensor scores, Tensor grad_hidden, Tensor grad_weight, Tensor grad_bias)",
)
def linear_reduced(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    row_weight: Tensor,
    factor: Tensor,
    needed: Sequence[bool],
    metrics: Sequence[str],
    *others: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """factor times the sum of the weighted losses (), the scores (metrics, N), and the gradients of that sum.

    The gradients of float16 stay in float32, because they would underflow before they are scaled.
    """
    options = LinearOptions(tuple(metrics), *others)
    check_labels_on_cpu(labels, weight, options.ignore_index)
    loss, scores, found = _reduced(hidden, weight, bias, labels, row_weight, factor, Needed(*needed), options)
    return loss, scores, *or_empty(found, hidden)


def _reduced(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    row_weight: Tensor,
    factor: Tensor,
    needed: Needed,
    options: LinearOptions,
) -> tuple[Tensor, Tensor, Gradients]:
    check_data(hidden=hidden, weight=weight, bias=bias, labels=labels, row_weight=row_weight)
    head, wanted = options.head(weight.detach(), bias), options.wanted(loss=True)
    rows = counted_rows(hidden.detach(), labels, options.ignore_index)
    weights = rows.of(row_weight)
    late = hidden.dtype == torch.float16
    g = weights if late else weights * factor
    if len(rows.labels) < 2:  # a tile of all classes would be the whole matrix of logits
        closed = folded(rows.hidden, head, rows.labels, wanted)
        assert closed.state is not None
        found = gradients_by_classes(
            rows.hidden, head, rows.labels, closed.state, g, options.label_smoothing, needed, wide=late
        )
    else:
        closed, found = loss_and_gradients_by_rows(rows.hidden, head, rows.labels, g, wanted, needed, wide=late)
    closed = without_bad_labels(closed, rows.labels, head.classes)
    assert closed.losses is not None
    if late:
        for gradient in found:
            if gradient is not None:
                gradient.mul_(factor)
    loss = (closed.losses.double() * weights).sum() * factor
    scores = rows.spread(stacked_scores(closed, options, closed.losses), len(labels))
    return loss.to(torch.float32), scores, spread_gradients(found, rows, len(labels))


@linear_reduced.register_fake
def _(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    row_weight: Tensor,
    factor: Tensor,
    needed: Sequence[bool],
    metrics: Sequence[str],
    *others: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    dtype = torch.float32 if hidden.dtype == torch.float16 else hidden.dtype
    loss = hidden.new_empty((), dtype=torch.float32)
    scores = hidden.new_empty((len(metrics), labels.shape[0]), dtype=torch.float32)
    return loss, scores, *empty_gradients(hidden, weight, needed, dtype)


def _save_reduced(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.needed, ctx.dtype, ctx.options = tuple(inputs[6]), inputs[0].dtype, len(inputs) - 7
    ctx.save_for_backward(*output[2:])


def _differentiate_reduced(ctx: Any, grad_loss: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    found = [(gradient * grad_loss).to(ctx.dtype) for gradient in ctx.saved_tensors]
    return *those_needed(found, ctx.needed), None, None, None, None, *(None for _ in range(ctx.options))


torch.library.register_autograd("fastprune::linear_reduced", _differentiate_reduced, setup_context=_save_reduced)


class DirectReduced(torch.autograd.Function):
    """`linear_reduced` without the dispatcher, as (loss, scores).

    The gradients are given away in the backward pass. Nothing is copied then, which takes time for a head of 100 MB.
    Only with retain_graph=True they are kept.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        row_weight: Tensor,
        factor: Tensor,
        options: LinearOptions,
    ) -> tuple[Tensor, Tensor]:
        """The loss and the scores. Autograd gives no gradient to the scores."""
        needed = Needed(*ctx.needs_input_grad[:3])
        loss, scores, ctx.gradients = _reduced(hidden, weight, bias, labels, row_weight, factor, needed, options)
        ctx.dtype = hidden.dtype
        ctx.save_for_backward(hidden, weight, bias)
        ctx.mark_non_differentiable(scores)
        return loss, scores

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients with respect to hidden, weight and bias."""
        if ctx.gradients is None:
            raise RuntimeError(GIVEN_AWAY)
        found: Gradients = ctx.gradients
        keep = keeps_graph() or not has_storage(grad_loss)
        if not keep:
            ctx.gradients = None
        with torch.no_grad():
            scaled = [None if g is None else _scaled(g, grad_loss, keep=keep).to(ctx.dtype) for g in found]
        return *once_only(scaled, (grad_loss, *ctx.saved_tensors), NO_SECOND_DERIVATIVE), None, None, None, None


def _scaled(gradient: Tensor, factor: Tensor, *, keep: bool) -> Tensor:
    """The gradient times a factor, which is often 1. It is written over, unless it is kept."""
    if keep:
        return gradient * factor
    return gradient if factor.is_cpu and float(factor) == 1.0 else gradient.mul_(factor)


reduced_with_gradient = apply_untransformed(DirectReduced)
