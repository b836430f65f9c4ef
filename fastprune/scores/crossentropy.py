"""`cross_entropy`: the training loss that hands back the scores of its rows."""

from __future__ import annotations

from typing import overload

import torch
import torch.nn.functional as F
from torch import Tensor

from fastprune.scores.api import row_scores
from fastprune.scores.checks import check_metrics, check_rows
from fastprune.scores.definition import shifted_labels


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
    """torch.nn.functional.cross_entropy with classes last, and the rows' scores for the asking.

    Args:
        logits: (..., C), classes last; torch's (N, C, d) layout raises. Gradients flow to them.
        labels: (...) integer class indices.
        weight, ignore_index, reduction, label_smoothing: as torch's.
        shift: row t is scored against label t + shift along the last dimension of labels; rows without
            one are ignored. The logits are not copied for it.
        return_scores: "el2n" or "loss", or several of them.

    Returns:
        The loss: value, dtype and gradients are torch's on the flattened rows; with reduction "none"
        of labels.shape. With return_scores (loss, scores): fp32 scores of labels.shape on the detached
        logits, as `score` gives them (without weight and smoothing): a Tensor for a single string,
        otherwise a dict.

    Raises: as `score`, and what torch raises for weight, reduction and label_smoothing.

    Cost: torch's, plus one read of the logits if scores are asked for.
    """
    names = None if return_scores is None else check_metrics(return_scores)
    check_rows(logits, labels, ignore_index, shift)
    labels = labels.to(torch.int64)
    loss = F.cross_entropy(
        logits.reshape(-1, logits.shape[-1]),
        shifted_labels(labels, ignore_index, shift).reshape(-1),
        weight=weight,
        ignore_index=ignore_index,
        reduction=reduction,
        label_smoothing=label_smoothing,
    )
    if reduction == "none":
        loss = loss.reshape(labels.shape)
    if names is None:
        return loss
    scores = row_scores(logits, labels, names, ignore_index, shift)
    return (loss, scores[return_scores]) if isinstance(return_scores, str) else (loss, scores)
