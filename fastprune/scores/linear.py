"""Scores and loss of a linear head, from the hidden states that the head is given.

Provisional: it makes the logits of a few rows at a time.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fastprune.scores.api import score
from fastprune.scores.crossentropy import cross_entropy
from fastprune.scores.definition import shifted_labels

_ROWS = 256


def linear_score(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    metrics: str | tuple[str, ...] | list[str] = ("el2n", "loss"),
    *,
    bias: Tensor | None = None,
    ignore_index: int = -100,
    shift: int = 0,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    reduce: str | None = None,
) -> Tensor | dict[str, Tensor]:
    """`fastprune.score` of the logits ``softcap(logit_scale * (hidden @ weight.T + bias))``, which are never stored whole.

    Args:
        hidden: (N, H) or (B, T, H).
        weight: (V, H), the head.
        labels: (N,) or (B, T).
        metrics: As in `score`.
        bias: (V,) or None.
        ignore_index: As in `score`.
        shift: As in `score`.
        softcap: c in c * tanh(z / c), or None.
        logit_scale: Multiplies the logits, before the softcap.
        reduce: As in `score`.

    Returns:
        What `score` returns.
    """
    names = (metrics,) if isinstance(metrics, str) else tuple(metrics)
    moved = shifted_labels(labels, ignore_index, shift)
    flat, y = hidden.detach().reshape(-1, hidden.shape[-1]), moved.reshape(-1)
    pieces = [
        score(
            _logits(flat[i : i + _ROWS], weight, bias, softcap, logit_scale),
            y[i : i + _ROWS],
            names,
            ignore_index=ignore_index,
        )
        for i in range(0, max(len(flat), 1), _ROWS)
    ]
    rows = {name: torch.cat([piece[name] for piece in pieces]).reshape(labels.shape) for name in names}
    if reduce:
        from fastprune.scores.reduce import reduce_tokens

        rows = {name: reduce_tokens(s, moved != ignore_index, reduce) for name, s in rows.items()}
    return rows[metrics] if isinstance(metrics, str) else rows


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    *,
    bias: Tensor | None = None,
    row_weight: Tensor | None = None,
    ignore_index: int = -100,
    shift: int = 0,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    return_scores: str | tuple[str, ...] | list[str] | None = None,
) -> Tensor | tuple[Tensor, Tensor] | tuple[Tensor, dict[str, Tensor]]:
    """The mean, sum or rows of `fastprune.cross_entropy` of the head's logits.

    ``row_weight`` (of the labels' shape) multiplies each row's loss. "mean" divides by the number of counted rows.
    """
    logits = _logits(hidden, weight, bias, softcap, logit_scale)
    found = cross_entropy(
        logits,
        labels,
        ignore_index=ignore_index,
        shift=shift,
        reduction="none",
        label_smoothing=label_smoothing,
        return_scores=return_scores or "loss",
    )
    losses, scores = found
    if row_weight is not None:
        losses = losses * row_weight
    if reduction == "sum":
        losses = losses.sum()
    if reduction == "mean":
        losses = losses.sum() / (shifted_labels(labels, ignore_index, shift) != ignore_index).sum()
    return (losses, scores) if return_scores else losses


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, softcap: float | None, scale: float) -> Tensor:
    logits = F.linear(hidden, weight, bias)
    if scale != 1.0:
        logits = logits * scale
    return softcap * torch.tanh(logits / softcap) if softcap else logits
