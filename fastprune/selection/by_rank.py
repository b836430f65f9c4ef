"""Strategies that use only the order of the scores. A larger score means a harder example."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from fastprune.selection.checks import as_tensor, check_count
from fastprune.selection.ties import Ties
from fastprune.selection.topk import select_topk
from fastprune.selection.types import Selection


def hardest(scores: Tensor | np.ndarray, k: int, *, ties: Ties = "index", seed: int = 0, round: int = 0) -> Selection:
    """Keep the k examples with the largest scores (arXiv 2306.03208 with offset 0, and Paul et al. 2021).

    The arguments, errors and cost are those of `select_topk`.

    Example:
        >>> import torch
        >>> hardest(torch.tensor([0.1, 0.9, 0.4, 0.7]), 2).indices
        tensor([1, 3])
    """
    return Selection(select_topk(as_tensor(scores), k, ties=ties, seed=seed, round=round))


def easiest(scores: Tensor | np.ndarray, k: int, *, ties: Ties = "index", seed: int = 0, round: int = 0) -> Selection:
    """Keep the k examples with the smallest scores. Sorscher et al. 2022 keep these where data is scarce.

    The arguments, errors and cost are those of `select_topk`.

    Example:
        >>> import torch
        >>> easiest(torch.tensor([0.1, 0.9, 0.4, 0.7]), 2).indices
        tensor([0, 2])
    """
    return Selection(select_topk(as_tensor(scores), k, largest=False, ties=ties, seed=seed, round=round))


def window(
    scores: Tensor | np.ndarray, k: int, offset: float, *, ties: Ties = "index", seed: int = 0, round: int = 0
) -> Selection:
    """Keep the k hardest examples after dropping the very hardest, which are often mislabelled.

    The hardest floor(offset * n) examples are dropped.

    Source: ``prune_offset`` of the authors' code for arXiv 2306.03208. The offset subsets of Paul et al. 2021 differ,
    because their offset counts from the easy end.

    Args:
        scores: (n,), as for `select_topk`.
        k: How many to keep, at most n - floor(offset * n).
        offset: Share of all n examples that is dropped from the hard end, in [0, 1).
        ties: As for `select_topk`, at both ends of the window.
        seed: As for `select_topk`.
        round: As for `select_topk`.

    Raises:
        ValueError: offset is out of range, or fewer than k examples remain. The errors of `select_topk` are raised too.

    Cost: O(n) for two selections.

    Example:
        >>> import torch
        >>> window(torch.tensor([0.1, 0.9, 0.4, 0.7]), 2, offset=0.25).indices  # without 0.9
        tensor([2, 3])
    """
    k = check_count(k)
    dropped = count_dropped(len(scores), offset)
    if k > len(scores) - dropped:
        raise ValueError(
            f"k={k} examples cannot be kept: offset={offset} drops the hardest {dropped} of {len(scores)}, "
            f"which leaves {len(scores) - dropped}; lower k or offset"
        )
    return Selection(ranks(scores, dropped, dropped + k, ties=ties, seed=seed, round=round))


def count_dropped(n: int, offset: float) -> int:
    """How many examples an offset drops from the hard end.

    Example:
        >>> count_dropped(100, offset=0.29)
        29
    """
    if not 0 <= offset < 1:
        raise ValueError(f"offset must be in [0, 1), got {offset}")
    return floor_of_share(offset, n)


def floor_of_share(share: float, n: int) -> int:
    """floor(share * n) of the decimal that the share was written as.

    As floats 0.29 * 100 is 28.999999999999996, but the result here is 29.
    """
    return math.floor(round(share * n, 6))


def ranks(
    scores: Tensor | np.ndarray, start: int, stop: int, *, ties: Ties = "index", seed: int = 0, round: int = 0
) -> Tensor:
    """The indices from rank ``start`` up to, but without, rank ``stop``, counted from the hard end.

    Returns:
        (stop - start,) int64, ascending.
    """
    scores = as_tensor(scores)
    kept = select_topk(scores, stop, ties=ties, seed=seed, round=round)
    if start == 0:
        return kept
    # The same draws decide both ends, so the larger selection contains the smaller one.
    before = select_topk(scores, start, ties=ties, seed=seed, round=round)
    inside = torch.zeros_like(scores, dtype=torch.bool)
    inside[kept] = True
    inside[before] = False
    return inside.nonzero().squeeze(1)
