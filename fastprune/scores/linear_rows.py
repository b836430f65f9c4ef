"""The loss of each row of a linear head: an operator whose backward pass makes the logits again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fastprune.platform.torch_private import apply_untransformed
from fastprune.scores.checks import check_data
from fastprune.scores.linear_ops import (
    NO_SECOND_DERIVATIVE,
    OPTIONS_SCHEMA,
    LinearOptions,
    check_labels_on_cpu,
    counted_rows,
    empty_gradients,
    or_empty,
    refuse,
    rows_of_head,
    spread_gradients,
    stacked_scores,
    those_needed,
)
from fastprune.scores.linear_tiles import Gradients, Needed, gradients_by_classes
from fastprune.scores.no_second_derivative import once_only


@torch.library.custom_op(
    "fastprune::linear_rows",
    mutates_args=(),
    schema=f"(Tensor hidden, Tensor weight, Tensor? bias, Tensor labels, {OPTIONS_SCHEMA}) "
    "-> (Tensor losses, Tensor state, Tensor scores)",
)
def linear_rows(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, metrics: Sequence[str], *others: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """The loss of each row (N,), the state for its gradient (3, N), and the scores (metrics, N), all fp32."""
    check_labels_on_cpu(labels, weight, others[0])
    return _rows(hidden, weight, bias, labels, LinearOptions(tuple(metrics), *others))


def _rows(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, options: LinearOptions
) -> tuple[Tensor, Tensor, Tensor]:
    check_data(hidden=hidden, weight=weight, bias=bias, labels=labels)
    head, wanted = options.head(weight.detach(), bias), options.wanted(loss=True)
    closed = rows_of_head(hidden.detach(), head, labels, options.ignore_index, wanted)
    assert closed.losses is not None and closed.state is not None
    return closed.losses, closed.state, stacked_scores(closed, options, closed.losses)


@linear_rows.register_fake
def _(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, metrics: Sequence[str], *others: Any
) -> tuple[Tensor, Tensor, Tensor]:
    n = labels.shape[0]
    empty = [hidden.new_empty(shape, dtype=torch.float32) for shape in ((n,), (3, n), (len(metrics), n))]
    return empty[0], empty[1], empty[2]


@torch.library.custom_op(
    "fastprune::linear_rows_backward",
    mutates_args=(),
    schema="(Tensor row_grad, Tensor state, Tensor hidden, Tensor weight, Tensor? bias, Tensor labels, "
    f"bool[] needed, {OPTIONS_SCHEMA}) -> (Tensor hidden, Tensor weight, Tensor bias)",
)
def linear_rows_backward(
    row_grad: Tensor,
    state: Tensor,
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    needed: Sequence[bool],
    metrics: Sequence[str],
    *others: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients with respect to hidden, weight and bias. One that is not needed is empty."""
    options = LinearOptions(tuple(metrics), *others)
    found = _rows_gradients(row_grad, state, hidden, weight, bias, labels, Needed(*needed), options)
    return or_empty(found, hidden)


def _rows_gradients(
    row_grad: Tensor,
    state: Tensor,
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    needed: Needed,
    options: LinearOptions,
) -> Gradients:
    check_data(row_grad=row_grad, hidden=hidden, weight=weight, bias=bias, labels=labels)
    head = options.head(weight.detach(), bias)
    rows = counted_rows(hidden.detach(), labels, options.ignore_index)
    g = rows.of(row_grad.to(torch.float32))
    found = gradients_by_classes(rows.hidden, head, rows.labels, rows.of(state), g, options.label_smoothing, needed)
    return spread_gradients(found, rows, len(labels))


@linear_rows_backward.register_fake
def _(
    row_grad: Tensor,
    state: Tensor,
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    needed: Sequence[bool],
    metrics: Sequence[str],
    *others: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    return empty_gradients(hidden, weight, needed, hidden.dtype)


def _save_rows(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    hidden, weight, bias, labels, metrics, *others = inputs
    ctx.options = LinearOptions(tuple(metrics), *others)
    ctx.needed = ctx.needs_input_grad[:3]
    ctx.save_for_backward(output[1], hidden, weight, bias, labels)


def _differentiate_rows(ctx: Any, grad_losses: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    state, hidden, weight, bias, labels = ctx.saved_tensors
    found = torch.ops.fastprune.linear_rows_backward(
        grad_losses, state, hidden, weight, bias, labels, list(ctx.needed), *ctx.options
    )
    return *those_needed(found, ctx.needed), None, *(None for _ in ctx.options)


torch.library.register_autograd("fastprune::linear_rows", _differentiate_rows, setup_context=_save_rows)
torch.library.register_autograd("fastprune::linear_rows_backward", refuse)


class DirectRows(torch.autograd.Function):
    """`linear_rows` without the dispatcher, as (losses, scores)."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, options: LinearOptions
    ) -> tuple[Tensor, Tensor]:
        """The losses and the scores. Autograd gives no gradient to the scores."""
        losses, state, scores = _rows(hidden, weight, bias, labels, options)
        ctx.save_for_backward(state, hidden, weight, bias, labels)
        ctx.options = options
        ctx.mark_non_differentiable(scores)
        return losses, scores

    @staticmethod
    def backward(ctx: Any, grad_losses: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients with respect to hidden, weight and bias."""
        needed = Needed(*ctx.needs_input_grad[:3])
        state, hidden, weight, bias, labels = ctx.saved_tensors
        found = _rows_gradients(grad_losses.detach(), state, hidden, weight, bias, labels, needed, ctx.options)
        return *once_only(found, (grad_losses, hidden, weight, bias), NO_SECOND_DERIVATIVE), None, None


rows_with_gradient = apply_untransformed(DirectRows)
