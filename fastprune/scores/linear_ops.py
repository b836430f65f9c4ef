"""The loss of a linear head as operators of PyTorch, and with its gradients.

There are two operators. `linear_rows` gives the loss of each row, and its backward pass makes the logits again.
`linear_reduced` gives a weighted sum of the losses and computes the gradients with it, while each tile of logits is
there. `fastprune.scores.linear_tiles` says what each costs.

Ignored rows are dropped before the matrix products. Their number depends on data, so that happens in the operators,
where torch.compile does not look. On a GPU it waits for the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fastprune.platform.torch_private import apply_untransformed, has_storage, keeps_graph
from fastprune.scores.checks import check_data
from fastprune.scores.linear_head import LinearHead
from fastprune.scores.linear_tiles import (
    Gradients,
    Needed,
    folded,
    gradients_by_classes,
    loss_and_gradients_by_rows,
)
from fastprune.scores.tile_sums import Closed, Wanted

NO_SECOND_DERIVATIVE = (
    "fastprune.linear_cross_entropy has no second derivative; use torch.nn.functional.linear and cross_entropy where "
    "you need one"
)
GIVEN_AWAY = (
    "the gradients of fastprune.linear_cross_entropy were given away by the first backward pass; pass "
    "retain_graph=True to it"
)


class LinearOptions(NamedTuple):
    """Every argument of the loss of a linear head that is not a tensor.

    Attributes:
        metrics: The scores that the kernels compute beside the loss.
        ignore_index: Rows with this label have no loss and no gradient, and score 0.
        label_smoothing: In [0, 1].
        softcap: c of c * tanh(z / c), or 0 for none.
        logit_scale: A factor of the logits.
    """

    metrics: tuple[str, ...] = ()
    ignore_index: int = -100
    label_smoothing: float = 0.0
    softcap: float = 0.0
    logit_scale: float = 1.0

    def head(self, weight: Tensor, bias: Tensor | None) -> LinearHead:
        """The head with these weights."""
        return LinearHead(weight, bias, self.softcap, self.logit_scale)

    def wanted(self, *, loss: bool) -> Wanted:
        """What the kernels give."""
        return Wanted(self.metrics, loss, self.label_smoothing)


class Counted(NamedTuple):
    """The rows that count, of N.

    Attributes:
        hidden: (n, H) contiguous.
        labels: (n,) int64 contiguous.
        places: (n,) where the rows are among the N, or None if all count.
    """

    hidden: Tensor
    labels: Tensor
    places: Tensor | None

    def of(self, rows: Tensor) -> Tensor:
        """The counted ones of (..., N)."""
        return rows.contiguous() if self.places is None else rows[..., self.places]

    def spread(self, rows: Tensor, total: int) -> Tensor:
        """(..., n) as (..., N), with 0 in the other places."""
        if self.places is None:
            return rows
        return rows.new_zeros(*rows.shape[:-1], total).index_copy_(-1, self.places, rows)


def counted_rows(hidden: Tensor, labels: Tensor, ignore_index: int) -> Counted:
    """The rows whose label is not ignored. Nothing is copied if all count."""
    places = (labels != ignore_index).nonzero().squeeze(-1)
    if len(places) == len(labels):
        return Counted(hidden.contiguous(), labels.contiguous(), None)
    return Counted(hidden[places], labels[places], places)


def rows_of_head(
    hidden: Tensor, head: LinearHead, labels: Tensor, ignore_index: int, wanted: Wanted
) -> tuple[Closed, Counted]:
    """What `linear_tiles.folded` gives for the rows that count, as values of all N rows."""
    rows = counted_rows(hidden, labels, ignore_index)
    closed = _without_bad_labels(folded(rows.hidden, head, rows.labels, wanted), rows.labels, head.classes)
    total = len(labels)
    scores = {name: rows.spread(values, total) for name, values in closed.scores.items()}
    losses = None if closed.losses is None else rows.spread(closed.losses, total)
    state = None if closed.state is None else rows.spread(closed.state, total)
    return Closed(losses, state, scores), rows


def _without_bad_labels(closed: Closed, labels: Tensor, classes: int) -> Closed:
    """NaN in rows with a label out of range. On the CPU such labels have raised before."""
    if labels.is_cpu:
        return closed
    bad = (labels < 0) | (labels >= classes)

    def marked(values: Tensor | None) -> Tensor | None:
        return None if values is None else values.masked_fill(bad, torch.nan)

    scores = {name: values.masked_fill(bad, torch.nan) for name, values in closed.scores.items()}
    return Closed(marked(closed.losses), marked(closed.state), scores)


# --- the loss of each row --------------------------------------------------------------------------------------------

_OPTIONS = "str[] metrics, int ignore_index, float label_smoothing, float softcap, float logit_scale"


@torch.library.custom_op(
    "fastprune::linear_rows",
    mutates_args=(),
    schema=f"(Tensor hidden, Tensor weight, Tensor? bias, Tensor labels, {_OPTIONS}) "
    "-> (Tensor losses, Tensor state, Tensor scores)",
)
def linear_rows(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, metrics: Sequence[str], *others: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """The loss of each row (N,), the state for its gradient (3, N), and the scores (metrics, N), all fp32."""
    return _rows(hidden, weight, bias, labels, LinearOptions(tuple(metrics), *others))


def _rows(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, options: LinearOptions
) -> tuple[Tensor, Tensor, Tensor]:
    check_data(hidden=hidden, weight=weight, bias=bias, labels=labels)
    head, wanted = options.head(weight.detach(), bias), options.wanted(loss=True)
    closed, _ = rows_of_head(hidden.detach(), head, labels, options.ignore_index, wanted)
    assert closed.losses is not None and closed.state is not None
    return closed.losses, closed.state, _stacked(closed, options, closed.losses)


def _stacked(closed: Closed, options: LinearOptions, losses: Tensor) -> Tensor:
    rows = [closed.scores[name] for name in options.metrics]
    return torch.stack(rows) if rows else losses.new_empty(0, len(losses))


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
    f"bool[] needed, {_OPTIONS}) -> (Tensor hidden, Tensor weight, Tensor bias)",
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
    return _or_empty(found, hidden)


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
    g = rows.of(row_grad.to(torch.float32)).contiguous()
    found = gradients_by_classes(rows.hidden, head, rows.labels, rows.of(state), g, options.label_smoothing, needed)
    return _spread_gradients(found, rows, len(labels))


def _spread_gradients(found: Gradients, rows: Counted, total: int) -> Gradients:
    if found.hidden is None or rows.places is None:
        return found
    return found._replace(hidden=rows.spread(found.hidden.t(), total).t())


def _or_empty(found: Gradients, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    hidden, weight, bias = (like.new_empty(0) if gradient is None else gradient for gradient in found)
    return hidden.contiguous(), weight, bias


def _empty_gradients(
    hidden: Tensor, weight: Tensor, needed: Sequence[bool], dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    shapes = (hidden.shape, weight.shape, weight.shape[:1])
    first, second, third = (
        hidden.new_empty(shape if need else (0,), dtype=dtype) for shape, need in zip(shapes, needed, strict=True)
    )
    return first, second, third


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
    return _empty_gradients(hidden, weight, needed, hidden.dtype)


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
    return *_those_needed(found, ctx.needed), None, *(None for _ in ctx.options)


def _those_needed(found: Sequence[Tensor], needed: Sequence[bool]) -> list[Tensor | None]:
    return [gradient if need else None for gradient, need in zip(found, needed, strict=True)]


def _refuse(ctx: Any, *_: Any) -> None:
    raise RuntimeError(NO_SECOND_DERIVATIVE)


torch.library.register_autograd("fastprune::linear_rows", _differentiate_rows, setup_context=_save_rows)
torch.library.register_autograd("fastprune::linear_rows_backward", _refuse)


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
    @once_differentiable
    def backward(ctx: Any, grad_losses: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients with respect to hidden, weight and bias."""
        needed = Needed(*ctx.needs_input_grad[:3])
        state, hidden, weight, bias, labels = ctx.saved_tensors
        found = _rows_gradients(grad_losses, state, hidden, weight, bias, labels, needed, ctx.options)
        return *found, None, None


# --- the weighted sum of the losses ----------------------------------------------------------------------------------


@torch.library.custom_op(
    "fastprune::linear_reduced",
    mutates_args=(),
    schema="(Tensor hidden, Tensor weight, Tensor? bias, Tensor labels, Tensor row_weight, Tensor factor, "
    f"bool[] needed, {_OPTIONS}) "
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
    loss, scores, found = _reduced(hidden, weight, bias, labels, row_weight, factor, Needed(*needed), options)
    return loss, scores, *_or_empty(found, hidden)


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
    weights = rows.of(row_weight).contiguous()
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
    closed = _without_bad_labels(closed, rows.labels, head.classes)
    assert closed.losses is not None
    if late:
        for gradient in found:
            if gradient is not None:
                gradient.mul_(factor)
    loss = (closed.losses.double() * weights).sum() * factor
    scores = rows.spread(_stacked(closed, options, closed.losses), len(labels))
    return loss.to(torch.float32), scores, _spread_gradients(found, rows, len(labels))


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
    return loss, scores, *_empty_gradients(hidden, weight, needed, dtype)


def _save_reduced(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.needed, ctx.dtype, ctx.options = tuple(inputs[6]), inputs[0].dtype, len(inputs) - 7
    ctx.save_for_backward(*output[2:])


def _differentiate_reduced(ctx: Any, grad_loss: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    if torch.is_grad_enabled() and grad_loss.requires_grad:
        raise RuntimeError(NO_SECOND_DERIVATIVE)
    found = [(gradient * grad_loss).to(ctx.dtype) for gradient in ctx.saved_tensors]
    return *_those_needed(found, ctx.needed), None, None, None, None, *(None for _ in range(ctx.options))


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
        ctx.mark_non_differentiable(scores)
        return loss, scores

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients with respect to hidden, weight and bias."""
        if ctx.gradients is None:
            raise RuntimeError(GIVEN_AWAY)
        found: Gradients = ctx.gradients
        keep = keeps_graph() or not has_storage(grad_loss)
        if not keep:
            ctx.gradients = None
        plain = grad_loss.is_cpu and not keep and float(grad_loss) == 1.0
        scaled = (None if g is None else g if plain else g * grad_loss if keep else g.mul_(grad_loss) for g in found)
        gradients = (None if g is None else g.to(ctx.dtype) for g in scaled)
        return *gradients, None, None, None, None


rows_with_gradient = apply_untransformed(DirectRows)
reduced_with_gradient = apply_untransformed(DirectReduced)
