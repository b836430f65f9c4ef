"""Scores and loss of DTensors whose rows are replicated or sharded over a device mesh.

The scores of a row need that row alone. So each rank computes on its local rows without communication. The results are
DTensors, placed as the rows are. Only the reduced loss is summed over the ranks, as in torch. Logits that are sharded
over the classes are refused, because their sums would have to be merged across ranks.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def is_sharded(logits: Tensor) -> bool:
    """Whether logits are a DTensor. The class is recognised by its name, because importing its module takes 0.3 s."""
    kind = type(logits)
    return kind.__name__ == "DTensor" and kind.__module__.startswith("torch.distributed")


def local_rows(logits: Any, labels: Any, *, across_tokens: bool) -> tuple[Tensor, Tensor]:
    """This rank's rows of (..., C) logits, and of their labels or targets. Both must be placed alike.

    Gradients flow back to the DTensor.

    Args:
        logits: A DTensor.
        labels: A DTensor.
        across_tokens: Whether a row needs the other tokens of its sample, to be shifted or reduced.

    Raises:
        TypeError: labels are no DTensor.
        ValueError: The two are placed differently, or a part of a row or a needed token lies on another rank.
    """
    for placement in logits.placements:
        if placement.is_partial():
            raise ValueError(
                f"logits are placed {_said(logits)}, so they are parts of a sum; add them up: .redistribute(...)"
            )
        if placement.is_shard() and _dimension(placement, logits) == logits.ndim - 1:
            raise ValueError(
                f"logits are placed {_said(logits)}, over the classes, which is not supported; gather the classes: "
                "logits.redistribute(placements=[Replicate()])"
            )
        if across_tokens and placement.is_shard() and _dimension(placement, logits) == logits.ndim - 2:
            raise ValueError(
                f"shift and reduce need a sample's other tokens, which are sharded: {_said(logits)}; shard the batch"
            )
    if not is_sharded(labels):
        raise TypeError(
            "logits are a DTensor and labels a plain tensor; use "
            "torch.distributed.tensor.distribute_tensor(labels, logits.device_mesh, logits.placements)"
        )
    if labels.device_mesh != logits.device_mesh or labels.placements != logits.placements:
        raise ValueError(
            f"logits are placed {_said(logits)} and labels {_said(labels)}; use "
            "labels.redistribute(logits.device_mesh, logits.placements)"
        )
    return logits.to_local(), labels.to_local()


def as_rows_of(rows: Tensor, logits: Any) -> Any:
    """Local results, one for each row or sample, as a DTensor that is placed as the rows are."""
    from torch.distributed.tensor import DTensor

    shape = logits.shape[: rows.ndim]
    stride = torch.empty(shape, device="meta").stride()
    return DTensor.from_local(rows, logits.device_mesh, logits.placements, run_check=False, shape=shape, stride=stride)


def reduced_over_ranks(losses: Any, weights: Any, reduction: str) -> Any:
    """The sum or the weighted mean of the rows' losses over all ranks."""
    total = losses.sum()
    return total / weights.sum() if reduction == "mean" else total


def _dimension(placement: Any, logits: Tensor) -> int:
    return placement.dim % logits.ndim


def _said(tensor: Any) -> str:
    return str(tuple(str(placement) for placement in tensor.placements))
