"""Strategies that split the kept examples among groups: strata of the score, or classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from fastprune.selection.by_rank import count_dropped, hardest
from fastprune.selection.checks import as_tensor, check_count, check_scores, finite
from fastprune.selection.draws import of_class, uniforms
from fastprune.selection.ties import Ties
from fastprune.selection.topk import select_topk
from fastprune.selection.types import Selection

Quota = Literal["proportional", "equal", "sqrt"]


def stratified(
    scores: Tensor | np.ndarray,
    k: int,
    seed: int,
    round: int,
    *,
    offset: float = 0.0,
    strata: int = 50,
    ties: Ties = "index",
) -> Selection:
    """Keep k examples spread over the range of the scores: CCS, coverage-centric coreset selection.

    Rule (Zheng et al. 2023, algorithm 1):

    1. Drop the hardest floor(offset * n) examples.
    2. Cut the range of the remaining scores into `strata` of equal width.
    3. Visit the strata from the fewest examples to the most. If two strata have equally many, visit the one with
       lower scores first.
    4. Divide the number still to keep by the number of strata left, including this one, and round down. Draw that
       many examples uniformly from this stratum, or take all if it has fewer.

    Args:
        scores: (n,) floats or integers, finite. A larger score is harder.
        k: How many to keep, at most n - floor(offset * n).
        seed: An integer. The same (seed, round) always gives the same draw.
        round: An integer. Each round draws anew.
        offset: Share of all n examples that is dropped from the hard end, in [0, 1). It is the paper's beta. The paper
            uses 0 to 0.3, and more if fewer examples are kept.
        strata: Number of strata, at least 1.
        ties: If scores are equal, this decides which examples the offset drops, as in `select_topk`.

    Raises:
        ValueError: offset or strata is out of range, fewer than k examples remain, or a score is infinite or NaN.

    Cost: O(n) and a sort by stratum.

    Example:
        >>> import torch
        >>> scores = torch.cat([torch.zeros(90), torch.linspace(0.1, 1.0, 10)])
        >>> kept = stratified(scores, 20, seed=0, round=0, strata=10).indices
        >>> int((kept >= 90).sum())  # the easy stratum of 90 does not crowd out the others
        10
    """
    k, strata = check_count(k), check_count(strata)
    if strata < 1:
        raise ValueError(f"strata must be at least 1, got {strata}")
    scores = as_tensor(scores)
    values = finite(scores, "stratified")
    n = len(values)
    dropped = count_dropped(n, offset)
    if k > n - dropped:
        raise ValueError(
            f"k must be in [0, {n - dropped}], got {k}: offset={offset} drops the hardest {dropped} of {n} examples"
        )
    if k == 0:
        return Selection(_join([])).to(scores.device)
    hard = select_topk(scores, dropped, ties=ties, seed=seed, round=round).cpu()
    # The dropped examples get the smallest value, so that they do not widen the range. Their stratum is one beyond the
    # others, so that they are the last group.
    numbers = _strata(values.index_fill(0, hard, values.min()), strata).index_fill_(0, hard, strata)
    members = _groups(numbers)[: -1 if dropped else None]
    draws = uniforms(n, seed, round)
    kept = []
    members.sort(key=len)  # a stable sort, so groups of equal size stay in order
    for done, stratum_members in enumerate(members):
        budget = min(len(stratum_members), k // (len(members) - done))
        k -= budget
        kept.append(stratum_members[select_topk(draws[stratum_members], budget, largest=False)])
    return Selection(_join(kept).sort().values).to(scores.device)


def class_balanced(
    scores: Tensor | np.ndarray,
    labels: Tensor | np.ndarray,
    k: int,
    *,
    quota: Quota = "proportional",
    inner: Callable[[Tensor, int], Selection] = hardest,
) -> Selection:
    """Keep k examples, split among the classes. `inner` selects within each class.

    A cut over all classes can drop a whole class (Fayyaz et al. 2022, Anand et al. 2023).

    Args:
        scores: (n,), as `inner` takes them.
        labels: (n,) integers, the class of each example.
        k: How many to keep, in [0, n].
        quota: Let n_c be the number of examples in a class. The share of the class is proportional to n_c
            ("proportional"), 1 ("equal"), or the square root of n_c ("sqrt"). If a class has fewer examples than
            its share, it gives all of them, and the other classes share the rest. Shares are rounded by largest
            remainder. If remainders are equal, the class with the smaller label gets the extra example.
        inner: A strategy ``(scores, k) -> Selection``, such as ``partial(window, offset=0.05)``. It sees the scores of
            one class, in index order. If it draws, the label is part of the counter, so that two classes draw
            independently. Its weights are passed on, and are 1 if it gives none. They estimate the mean loss of each
            class. That is the mean loss of all examples only with the proportional quota.

    Raises:
        ValueError: labels are not (n,) integers, the quota is unknown, or k is out of range. The errors of `inner` are
            raised too.

    Cost: O(n), a sort by class, and `inner` on each class.

    Example:
        >>> import torch
        >>> scores = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.2, 0.1])
        >>> labels = torch.tensor([0, 0, 0, 0, 1, 1])
        >>> hardest(scores, 3).indices  # class 1 is gone
        tensor([0, 1, 2])
        >>> class_balanced(scores, labels, 3).indices
        tensor([0, 1, 4])
    """
    scores, labels = as_tensor(scores), as_tensor(labels)
    check_scores(scores)
    if labels.shape != scores.shape or labels.is_floating_point() or labels.is_complex():
        raise ValueError(
            f"labels must be integers of the scores' shape {tuple(scores.shape)}, got {labels.dtype} of shape "
            f"{tuple(labels.shape)}"
        )
    n, k = len(scores), check_count(k)
    if k > n:
        raise ValueError(f"k must be in [0, {n}] for {n} scores, got {k}")
    classes = labels.to("cpu", torch.int64)
    members = _groups(classes)
    sizes = [len(m) for m in members]
    selections = []
    for m, count in zip(members, quotas(k, sizes, quota), strict=True):
        with of_class(int(classes[m[0]])):
            selections.append(inner(scores[m.to(scores.device)], count).to("cpu"))
    kept = _join([m[s.indices] for m, s in zip(members, selections, strict=True)])
    order = kept.argsort()
    if all(s.weights is None for s in selections):
        return Selection(kept[order]).to(scores.device)
    weights = [torch.ones_like(s.indices, dtype=torch.float32) if s.weights is None else s.weights for s in selections]
    return Selection(kept[order], torch.cat(weights)[order]).to(scores.device)


def quotas(k: int, sizes: list[int], quota: Quota) -> list[int]:
    """How many examples each group gives, k in total. The rule is that of `class_balanced`."""
    if quota not in ("proportional", "equal", "sqrt"):
        raise ValueError(f"quota must be 'proportional', 'equal' or 'sqrt', got {quota!r}")
    power = {"proportional": 1.0, "sqrt": 0.5, "equal": 0.0}[quota]
    weight = np.array([float(size) ** power if size else 0.0 for size in sizes])
    size = np.array(sizes, dtype=np.float64)
    share = np.zeros(len(sizes))
    open_ = size > 0
    # A group with fewer examples than its share gives all. That raises the share of the others, so repeat.
    while open_.any():
        rest = k - size[(~open_)].sum()
        share = np.where(open_, rest * weight / max(weight[open_].sum(), 1e-300), size)
        full = open_ & (share > size)
        if not full.any():
            break
        open_ &= ~full
    share = np.where(open_, share, size)
    count = np.floor(np.round(share, 9)).astype(np.int64)
    remainder = np.where(count < size, share - count, -1.0)
    # The remainders are rounded, so that a difference in only the last bit is ignored. If remainders are equal, the
    # smaller label comes first.
    for group in np.argsort(-np.round(remainder, 9), kind="stable")[: k - int(count.sum())]:
        count[group] += 1
    return [int(c) for c in count]


def _strata(values: Tensor, strata: int) -> Tensor:
    """The stratum of each value, (n,) int64. Strata have equal width, and the last one holds the highest value.

    If all values are equal, the stratum is 0.
    """
    if len(values) == 0 or values.min() == values.max():
        return torch.zeros_like(values, dtype=torch.int64)
    # Halved first, because the difference of two doubles can exceed the largest double.
    low, high = values.min() / 2, values.max() / 2
    return ((values / 2 - low) / (high - low) * strata).to(torch.int64).clamp_(max=strata - 1)


def _groups(numbers: Tensor) -> list[Tensor]:
    """Return one tensor of positions for each number that occurs.

    The tensors are in ascending order of the number, and the positions in each tensor are ascending.
    """
    if len(numbers) == 0:
        return []
    keys = numbers.numpy()
    if keys.min() >= 0 and keys.max() <= np.iinfo(np.uint16).max:
        keys = keys.astype(np.uint16)  # NumPy sorts uint16 by radix, in O(n)
        counts = np.bincount(keys)
        counts = counts[counts > 0]
    else:
        counts = np.unique(keys, return_counts=True)[1]
    order = torch.from_numpy(np.argsort(keys, kind="stable"))
    return list(order.split(counts.tolist()))


def _join(parts: list[Tensor]) -> Tensor:
    return torch.cat(parts) if parts else torch.empty(0, dtype=torch.int64, device="cpu")
