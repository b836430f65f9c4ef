"""Strategies that divide what they keep among groups of examples: strata of the score, or classes."""

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
    """k examples spread over the range of the scores: CCS, coverage-centric coreset selection.

    Rule (Zheng et al. 2023, algorithm 1): the hardest floor(offset * n) are dropped; the range of the remaining scores
    is cut into `strata` of equal width; beginning with the smallest, each stratum gives an equal part of what
    is still to be kept, or all it has, drawn uniformly. Strata of equal size go from the low scores up.

    Args:
        scores: (n,) floats or integers, finite; larger is harder.
        k: how many to keep; at most n - floor(offset * n).
        seed, round: integers; each pair draws anew.
        offset: share of all n examples that is dropped from the hard end, in [0, 1): the paper's beta, 0 to 0.3
            there, the larger the fewer are kept.
        strata: number of strata, at least 1.
        ties: which of equal scores the offset drops, as for `select_topk`.

    Raises:
        ValueError: offset or strata are out of range, fewer than k examples remain, a score is infinite or NaN.

    Cost: O(n) and a sort by stratum.
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
    # With the least value they do not widen the range; with a number beyond the others they are the last group.
    numbers = _strata(values.index_fill(0, hard, values.min()), strata).index_fill_(0, hard, strata)
    members = _groups(numbers)[: -1 if dropped else None]
    draws = uniforms(n, seed, round)
    kept = []
    members.sort(key=len)  # stable
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
    """k examples, divided among the classes, of which `inner` selects those of each class.

    A cut over all classes can drop one altogether (Fayyaz et al. 2022; Anand et al. 2023).

    Args:
        scores: (n,), as `inner` takes them.
        labels: (n,) integers, the class of each example.
        k: how many to keep, 0 <= k <= n.
        quota: what a class of n_c examples gets a share in proportion to: "proportional" n_c, "equal" 1,
            "sqrt" the root of n_c. A class that has fewer than its share gives all; the others share the rest.
            Shares are rounded by largest remainder, of equal remainders for the smaller label.
        inner: a strategy ``(scores, k) -> Selection``, e.g. ``partial(window, offset=0.05)``. It sees the scores
            of one class, in order of index. If it draws, the label is part of the counter, so that the j-th examples
            of two classes draw apart. Its weights are passed on: they stand for the mean loss of each class, and
            hence for that of all examples only under the proportional quota. Where it gives none they are 1.

    Raises:
        ValueError: labels are not (n,) integers, the quota is unknown, k is out of range; and as `inner`.

    Cost: O(n), a sort by class, and `inner` on each class.
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
    """How many each group of these sizes gives, k in all; see `class_balanced`."""
    if quota not in ("proportional", "equal", "sqrt"):
        raise ValueError(f"quota must be 'proportional', 'equal' or 'sqrt', got {quota!r}")
    power = {"proportional": 1.0, "sqrt": 0.5, "equal": 0.0}[quota]
    weight = np.array([float(size) ** power if size else 0.0 for size in sizes])
    size = np.array(sizes, dtype=np.float64)
    share = np.zeros(len(sizes))
    open_ = size > 0
    # Groups that have fewer than their share give all; that raises the share of the others, so again.
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
    # Rounded, so that shares which are equal but for the last bit go by label.
    for group in np.argsort(-np.round(remainder, 9), kind="stable")[: k - int(count.sum())]:
        count[group] += 1
    return [int(c) for c in count]


def _strata(values: Tensor, strata: int) -> Tensor:
    """(n,) int64 numbers of strata of equal width, the highest value in the last one; 0 if all are equal."""
    if len(values) == 0 or values.min() == values.max():
        return torch.zeros_like(values, dtype=torch.int64)
    # Halved first: the range of doubles may exceed the largest one.
    low, high = values.min() / 2, values.max() / 2
    return ((values / 2 - low) / (high - low) * strata).to(torch.int64).clamp_(max=strata - 1)


def _groups(numbers: Tensor) -> list[Tensor]:
    """For each number there is, the positions that have it, ascending."""
    if len(numbers) == 0:
        return []
    keys = numbers.numpy()
    if keys.min() >= 0 and keys.max() <= np.iinfo(np.uint16).max:
        keys = keys.astype(np.uint16)  # which NumPy sorts by radix, in O(n)
        counts = np.bincount(keys)
        counts = counts[counts > 0]
    else:
        counts = np.unique(keys, return_counts=True)[1]
    order = torch.from_numpy(np.argsort(keys, kind="stable"))
    return list(order.split(counts.tolist()))


def _join(parts: list[Tensor]) -> Tensor:
    return torch.cat(parts) if parts else torch.empty(0, dtype=torch.int64, device="cpu")
