"""Strategies that go by the order of the scores alone. All read scores as "larger is harder"."""

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
    """The k examples of the largest scores (arXiv 2306.03208, with offset 0; Paul et al. 2021).

    Args, errors and cost: as `select_topk`.
    """
    return Selection(select_topk(as_tensor(scores), k, ties=ties, seed=seed, round=round))


def easiest(scores: Tensor | np.ndarray, k: int, *, ties: Ties = "index", seed: int = 0, round: int = 0) -> Selection:
    """The k examples of the smallest scores, which Sorscher et al. 2022 keep where data is scarce.

    Args, errors and cost: as `select_topk`.
    """
    return Selection(select_topk(as_tensor(scores), k, largest=False, ties=ties, seed=seed, round=round))


def window(
    scores: Tensor | np.ndarray, k: int, offset: float, *, ties: Ties = "index", seed: int = 0, round: int = 0
) -> Selection:
    """The k hardest examples after the hardest floor(offset * n), which are often mislabelled.

    Source: ``prune_offset`` of the authors' code for arXiv 2306.03208. The offset subsets of Paul et al. 2021 are not
    these: their offset counts from the other end, the easy one.

    Args:
        scores: (n,), as for `select_topk`.
        k: how many to keep; at most n - floor(offset * n).
        offset: share of all n examples that is dropped from the hard end, in [0, 1).
        ties, seed, round: as for `select_topk`, at both ends of the window.

    Raises:
        ValueError: offset is out of range, or fewer than k examples remain; and as `select_topk`.

    Cost: two selections, O(n).
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
    """How many examples an offset drops from the hard end."""
    if not 0 <= offset < 1:
        raise ValueError(f"offset must be in [0, 1), got {offset}")
    return floor_of_share(offset, n)


def floor_of_share(share: float, n: int) -> int:
    """floor(share * n) of the decimal share that is meant: 0.29 * 100 is 28.999999999999996, and means 29."""
    return math.floor(round(share * n, 6))


def ranks(
    scores: Tensor | np.ndarray, start: int, stop: int, *, ties: Ties = "index", seed: int = 0, round: int = 0
) -> Tensor:
    """The (stop - start,) indices, ascending, of what comes start-th to before stop-th from the hard end."""
    scores = as_tensor(scores)
    kept = select_topk(scores, stop, ties=ties, seed=seed, round=round)
    if start == 0:
        return kept
    # The same draws decide both ends, so the one selection holds the other.
    before = select_topk(scores, start, ties=ties, seed=seed, round=round)
    inside = torch.zeros_like(scores, dtype=torch.bool)
    inside[kept] = True
    inside[before] = False
    return inside.nonzero().squeeze(1)
