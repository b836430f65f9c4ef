"""What the two operators of a linear head's loss share: options, the rows that count, and their gradients.

`fastprune.scores.linear_rows` gives the loss of each row, and its backward pass makes the logits again.
`fastprune.scores.linear_reduced` gives a weighted sum of the losses and computes the gradients with it, while each tile
of logits is there. `fastprune.scores.linear_tiles` says what each costs.

Ignored rows are dropped before the matrix products. Their number depends on data, so that happens in the operators,
where torch.compile does not look. On a GPU it waits for the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastprune.scores.checks import check_labels
from fastprune.scores.linear_head import LinearHead
from fastprune.scores.linear_tiles import Gradients, folded
from fastprune.scores.tile_sums import Closed, Wanted

NO_SECOND_DERIVATIVE = (
    "fastprune.linear_cross_entropy has no second derivative; use torch.nn.functional.linear and cross_entropy where "
    "you need one"
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
        """The counted ones of (..., N), contiguous."""
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


def rows_of_head(hidden: Tensor, head: LinearHead, labels: Tensor, ignore_index: int, wanted: Wanted) -> Closed:
    """What `linear_tiles.folded` gives for the rows that count, as values of all N rows."""
    rows = counted_rows(hidden, labels, ignore_index)
    closed = without_bad_labels(folded(rows.hidden, head, rows.labels, wanted), rows.labels, head.classes)
    total = len(labels)
    scores = {name: rows.spread(values, total) for name, values in closed.scores.items()}
    losses = None if closed.losses is None else rows.spread(closed.losses, total)
    state = None if closed.state is None else rows.spread(closed.state, total)
    return Closed(losses, state, scores)


def without_bad_labels(closed: Closed, labels: Tensor, classes: int) -> Closed:
    """NaN in rows with a label out of range. On the CPU such labels have raised before."""
    if labels.is_cpu:
        return closed
    bad = (labels < 0) | (labels >= classes)

    def marked(values: Tensor | None) -> Tensor | None:
        return None if values is None else values.masked_fill(bad, torch.nan)

    scores = {name: values.masked_fill(bad, torch.nan) for name, values in closed.scores.items()}
    return Closed(marked(closed.losses), marked(closed.state), scores)


# The fields of `LinearOptions`, as the operators take them.
OPTIONS_SCHEMA = "str[] metrics, int ignore_index, float label_smoothing, float softcap, float logit_scale"


def check_labels_on_cpu(labels: Tensor, weight: Tensor, ignore_index: int) -> None:
    """Raises for a label out of range, on the CPU. A direct call has looked before."""
    if labels.is_cpu:
        check_labels(labels, len(weight), ignore_index, 0)


def stacked_scores(closed: Closed, options: LinearOptions, losses: Tensor) -> Tensor:
    """The scores as (metrics, N), in the order of the options."""
    rows = [closed.scores[name] for name in options.metrics]
    return torch.stack(rows) if rows else losses.new_empty(0, len(losses))


def spread_gradients(found: Gradients, rows: Counted, total: int) -> Gradients:
    """The gradient of the rows that count, as that of all N rows. It is 0 in the others."""
    hidden = found.hidden
    if hidden is None or rows.places is None:
        return found
    return found._replace(hidden=hidden.new_zeros(total, hidden.shape[1]).index_copy_(0, rows.places, hidden))


def or_empty(found: Gradients, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients, and an empty tensor for each that is not needed. An operator has to return tensors."""
    hidden, weight, bias = (like.new_empty(0) if gradient is None else gradient for gradient in found)
    return hidden, weight, bias


def empty_gradients(
    hidden: Tensor, weight: Tensor, needed: Sequence[bool], dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Unwritten tensors of the shapes that `or_empty` gives."""
    shapes = (hidden.shape, weight.shape, weight.shape[:1])
    first, second, third = (
        hidden.new_empty(shape if need else (0,), dtype=dtype) for shape, need in zip(shapes, needed, strict=True)
    )
    return first, second, third


def those_needed(found: Sequence[Tensor], needed: Sequence[bool]) -> list[Tensor | None]:
    """What `or_empty` gave, with None for each gradient that is not needed."""
    return [gradient if need else None for gradient, need in zip(found, needed, strict=True)]


def refuse(ctx: Any, *_: Any) -> None:
    """The backward pass of what has no second derivative."""
    raise RuntimeError(NO_SECOND_DERIVATIVE)
