"""The scores of a language model's tokens, and the scores of the examples that they belong to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastprune.integrations.causal_lm import counted_tokens
from fastprune.integrations.packed import Layout, pad_left
from fastprune.scores.api import score
from fastprune.scores.crossentropy import cross_entropy


class TokenRows(NamedTuple):
    """Token t of a row stands for the prediction of token t + 1.

    Attributes:
        values: (R, T) by metric.
        counted: (R, T), whether the token predicts a label.
    """

    values: Mapping[str, Tensor]
    counted: Tensor

    def of_examples(self, layout: Layout, reduce: str | None = None) -> dict[str, Tensor]:
        """(B,) by metric."""
        return {name: layout.of_examples(name, v, self.counted, reduce) for name, v in self.values.items()}

    def of_segments(self, layout: Layout, reduce: str | None = None) -> dict[str, Tensor]:
        """(S,) by metric."""
        return {name: layout.of_segments(name, v, self.counted, reduce) for name, v in self.values.items()}


def rows_of_logits(logits: Tensor, labels: Tensor, metrics: Sequence[str]) -> TokenRows:
    """From logits (R, T, V)."""
    width, logits = labels.shape[1], logits.detach()
    values: Any = score(logits, pad_left(labels.to(logits.device), logits.shape[1]), tuple(metrics), shift=1)
    return TokenRows({name: v[:, -width:] for name, v in values.items()}, counted_tokens(labels.to(logits.device)))


def losses_of_logits(logits: Tensor, labels: Tensor, label_smoothing: float) -> tuple[Tensor, Tensor]:
    """The differentiable loss of each token, (R, T), and whether it counts."""
    width = labels.shape[1]
    wide = pad_left(labels.to(logits.device), logits.shape[1])
    each = cross_entropy(logits, wide, reduction="none", shift=1, label_smoothing=label_smoothing)
    assert isinstance(each, Tensor)
    return each[:, -width:], counted_tokens(labels.to(logits.device))


def rows_of_predictions(rows: Mapping[str, Tensor], mask: Tensor, tokens: int) -> TokenRows:
    """From the scores of a head that was given the predicting tokens only, or all of them.

    Args:
        rows: (N,) by metric.
        mask: (R, T - 1), which predictions count.
        tokens: T of the batch.

    Raises:
        RuntimeError: N is neither the number of predictions nor of those that count.
    """
    values = {name: _last(_spread(row, mask), tokens) for name, row in rows.items()}
    return TokenRows(values, _last(mask, tokens))


def _spread(row: Tensor, mask: Tensor) -> Tensor:
    if len(row) == mask.numel():
        return row.reshape(mask.shape).masked_fill(~mask, 0.0)
    if len(row) != int(mask.sum()):
        raise RuntimeError(
            f"the fused head computed {len(row)} rows for {int(mask.sum())} labels of {mask.numel()} tokens, so scores "
            "find no token; use method='el2n', which scores in a pass of its own"
        )
    return torch.zeros(mask.shape, dtype=row.dtype, device=row.device).masked_scatter(mask, row)


def _last(values: Tensor, tokens: int) -> Tensor:
    """The last T - 1 predictions, and a last token that predicts nothing."""
    return torch.nn.functional.pad(values[:, values.shape[1] - (tokens - 1) :], (0, 1), value=0)
