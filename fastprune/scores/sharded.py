"""Scores and loss of DTensors whose rows or classes are replicated or sharded over a device mesh.

The scores of a row need that row alone. So each rank computes on its local rows without communication. The results are
DTensors, placed as the rows are. Only the reduced loss is summed over the ranks, as in torch. If one dimension of the
mesh shards the classes, the sums of its ranks are merged (`fastprune.scores.class_parallel`), and the results are
replicated on them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastprune.scores.class_parts import Parts


def is_sharded(logits: Tensor) -> bool:
    """Whether logits are a DTensor. The class is recognised by its name, because importing its module takes 0.3 s."""
    kind = type(logits)
    return kind.__name__ == "DTensor" and kind.__module__.startswith("torch.distributed")


def shards_classes(logits: Any) -> bool:
    """Whether the classes of a DTensor are spread over ranks."""
    return any(_shards(placement, logits, logits.ndim - 1) for placement in logits.placements)


class Local(NamedTuple):
    """What this rank holds.

    Attributes:
        logits: Of its rows and classes. Gradients flow back to the DTensor.
        labels: Of its rows, or their targets.
        parts: Where its classes are, or None if it has all of them.
    """

    logits: Tensor
    labels: Tensor
    parts: Parts | None


def local(logits: Any, labels: Any, *, across_tokens: bool) -> Local:
    """This rank's part of (..., C) logits, and of their labels or targets, which are placed as the rows are.

    Args:
        logits: A DTensor.
        labels: A DTensor. Where no rows are sharded and the classes are, a plain tensor is taken as replicated.
        across_tokens: Whether a row needs the other tokens of its sample, to be shifted or reduced.

    Raises:
        TypeError: labels are no DTensor.
        ValueError: The two are placed differently, or a needed token lies on another rank, or the logits are placed
            in a way that is not offered.
    """
    _check_placements(logits, across_tokens)
    wanted, mesh = _row_placements(logits), logits.device_mesh
    over_classes = [i for i, p in enumerate(logits.placements) if _shards(p, logits, logits.ndim - 1)]
    if not is_sharded(labels):
        if not over_classes or any(placement.is_shard() for placement in wanted):
            raise TypeError(
                "logits are a DTensor and labels a plain tensor; use torch.distributed.tensor.distribute_tensor("
                f"labels, logits.device_mesh, {list(wanted)})"
            )
        return Local(logits.to_local(), labels, _parts(logits, over_classes[0]))
    if labels.device_mesh != mesh or tuple(labels.placements) != wanted:
        raise ValueError(
            f"logits are placed {_said(logits.placements)} and labels {_said(labels.placements)}; use "
            f"labels.redistribute(logits.device_mesh, {list(wanted)})"
        )
    parts = _parts(logits, over_classes[0]) if over_classes else None
    return Local(logits.to_local(), labels.to_local(), parts)


def as_rows_of(rows: Tensor, logits: Any) -> Any:
    """Local results, one for each row or sample, as a DTensor that is placed as the rows are."""
    from torch.distributed.tensor import DTensor

    shape = logits.shape[: rows.ndim]
    stride = torch.empty(shape, device="meta").stride()
    placements = _row_placements(logits)
    return DTensor.from_local(rows, logits.device_mesh, placements, run_check=False, shape=shape, stride=stride)


def reduced_over_ranks(losses: Any, weights: Any, reduction: str) -> Any:
    """The sum or the weighted mean of the rows' losses over all ranks."""
    total = losses.sum()
    return total / weights.sum() if reduction == "mean" else total


def gathered(part: Any) -> Tensor:
    """The whole of a DTensor parameter. Its gradient goes back sharded, as the mean over the ranks of the mesh.

    The mean is what FSDP computes of ranks that hold different rows. Ranks that hold the same rows have the same
    gradient, which is also their mean.
    """
    from torch.distributed.tensor import Partial

    mesh = part.device_mesh
    whole = part.full_tensor(grad_placements=[Partial()] * mesh.ndim)
    if whole.requires_grad and mesh.size() > 1:
        whole.register_hook(lambda gradient: gradient / mesh.size())
    return whole


def _check_placements(logits: Any, across_tokens: bool) -> None:
    said, last = _said(logits.placements), logits.ndim - 1
    for placement in logits.placements:
        if placement.is_partial():
            raise ValueError(f"logits are placed {said}, so they are parts of a sum; add them up: .redistribute(...)")
        if across_tokens and _shards(placement, logits, last - 1):
            raise ValueError(
                f"shift and reduce need a sample's other tokens, which are sharded: {said}; shard the batch"
            )
    over_classes = [placement for placement in logits.placements if _shards(placement, logits, last)]
    if len(over_classes) > 1 or any(type(placement).__name__ != "Shard" for placement in over_classes):
        raise ValueError(
            f"logits are placed {said}, and only one dimension of the mesh may shard the classes, by Shard({last}); "
            "gather them: logits.redistribute(...)"
        )


def _parts(logits: Any, mesh_dim: int) -> Parts:
    """This rank's classes, by the rule of torch.chunk, by which DTensors are sharded."""
    mesh, classes = logits.device_mesh, logits.shape[-1]
    if bool((mesh.mesh.diff(dim=mesh_dim) < 0).any()):
        raise ValueError(
            f"the mesh of logits lists its ranks as {mesh.mesh.tolist()}, and PyTorch itself gathers tensors of such a "
            "mesh in another order than it shards them; make a mesh of ascending ranks"
        )
    chunk = -(-classes // mesh.size(mesh_dim))
    first = min(mesh.get_local_rank(mesh_dim) * chunk, classes)
    expected, here = min(chunk, classes - first), logits.to_local().shape[-1]
    if here != expected:
        raise ValueError(
            f"this rank holds {here} of {classes} classes, and a DTensor's part would be {expected}; use "
            "distribute_tensor, or pass plain logits with group="
        )
    return Parts(mesh.get_group(mesh_dim), first, classes)


def _row_placements(logits: Any) -> tuple[Any, ...]:
    """Where the rows are. The ranks that share the classes of a row have the row together."""
    from torch.distributed.tensor import Replicate

    return tuple(Replicate() if _shards(p, logits, logits.ndim - 1) else p for p in logits.placements)


def _shards(placement: Any, logits: Tensor, dimension: int) -> bool:
    return placement.is_shard() and placement.dim % logits.ndim == dimension


def _said(placements: Any) -> str:
    return str(tuple(str(placement) for placement in placements))
