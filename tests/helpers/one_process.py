"""What one process would have done with the steps of several: the plain statement that tests compare with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fastprune import DynamicPruner

Step = tuple[Tensor, dict[str, Tensor]]


def same(one: Any, other: Any) -> bool:
    """Equal to the last bit, NaN equal to itself, through dicts and sequences."""
    if isinstance(one, Tensor):
        return one.dtype == other.dtype and torch.equal(one.nan_to_num(1.5e300), other.nan_to_num(1.5e300))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other or (one != one and other != other)


def joined(steps: Sequence[Sequence[Step]]) -> list[Step]:
    """The steps of an epoch, given those of each rank: each step's batches together, repeats left out."""
    found = []
    seen: set[int] = set()
    for batches in zip(*steps, strict=True):
        index = torch.cat([index for index, _ in batches])
        scores = {m: torch.cat([s[m] for _, s in batches]) for m in batches[0][1]}
        fresh = [i for i, example in enumerate(index.tolist()) if example not in seen | set(index[:i].tolist())]
        seen |= set(index.tolist())
        if fresh:
            found.append((index[fresh], {m: values[fresh] for m, values in scores.items()}))
    return found


def replay(pruner: DynamicPruner, runs: Sequence[dict[str, Any]], epochs: int) -> dict[int, list[int]]:
    """Tell the pruner what the ranks of a run observed and scored; the kept set of each epoch.

    Args:
        runs: of each rank the steps by epoch under "steps", and (index, scores) by epoch under "rescored".
    """
    kept = {}
    for epoch in pruner.epochs(epochs):
        kept[epoch] = pruner.kept_indices.tolist()
        for index, scores in joined([run["steps"][epoch] for run in runs]):
            pruner.weights(index)
            pruner.observe(index, scores)
        if pruner.wants_scores:
            table = torch.full((pruner.n,), torch.nan)
            for run in reversed(runs):  # of a repeated example rank 0's score counts
                index, scores = run["rescored"][epoch]
                table[index] = scores
            pruner.rescore(lambda index, table=table: table[index])
    return kept
