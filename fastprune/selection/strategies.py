"""Strategies: pure functions from scores to the examples that are kept.

All give exactly k indices, ascending, and read scores as "larger is harder". Equal scores go to the
smaller index first.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
import torch
from torch import Tensor

from fastprune.selection.topk import select_topk
from fastprune.selection.types import Selection


def hardest(scores: Tensor | np.ndarray, k: int) -> Selection:
    """The k examples of the largest scores (arXiv 2306.03208, with offset 0).

    Args, errors and cost: as `select_topk`.
    """
    return Selection(_indices(scores, k))


def window(scores: Tensor | np.ndarray, k: int, offset: float) -> Selection:
    """The k hardest examples after the hardest floor(offset * n), which are often mislabelled.

    Args:
        scores: (n,), as for `select_topk`.
        k: how many to keep; at most n - floor(offset * n).
        offset: share of all n examples that is dropped from the hard end, in [0, 1).

    Raises:
        ValueError: offset is out of range, or fewer than k examples remain; and as `select_topk`.

    Cost: two selections, O(n).
    """
    if not 0 <= offset < 1:
        raise ValueError(f"offset must be in [0, 1), got {offset}")
    n = len(scores)
    # Rounding first: 0.29 * 100 is 28.999999999999996 in floating point, and means 29.
    dropped = math.floor(round(offset * n, 6))
    if k > n - dropped:
        raise ValueError(
            f"k={k} examples cannot be kept: offset={offset} drops the hardest {dropped} of {n}, "
            f"which leaves {n - dropped}; lower k or offset"
        )
    kept = _indices(scores, k + dropped)
    if dropped:
        kept = kept[~torch.isin(kept, _indices(scores, dropped), assume_unique=True)]
    return Selection(kept)


def random(n: int, k: int, seed: int, round: int) -> Selection:
    """k of n examples, uniformly, a function of (seed, round) alone.

    Args:
        n: number of examples.
        k: how many to keep, 0 <= k <= n.
        seed, round: integers; each pair draws anew. The global random state is neither read nor moved.

    Raises:
        ValueError: k is not in [0, n].

    Cost: O(n) for a permutation, O(k log k) to sort it.
    """
    if not 0 <= k <= n:
        raise ValueError(f"k must be in [0, {n}] for n={n} examples, got {k}")
    # Hashed, so that neighbouring seeds and rounds start unrelated generators.
    digest = hashlib.blake2b(f"{seed}:{round}".encode(), digest_size=8).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
    return Selection(torch.randperm(n, generator=generator)[:k].sort().values)


def _indices(scores: Tensor | np.ndarray, k: int) -> Tensor:
    return torch.as_tensor(select_topk(scores, k))
