"""Strategies that draw. Each is a function of its arguments alone: see `draws`."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fastprune.selection.by_rank import floor_of_share, hardest, ranks
from fastprune.selection.checks import as_tensor, finite
from fastprune.selection.draws import gumbel_keys, logarithms, uniforms
from fastprune.selection.topk import select_topk
from fastprune.selection.types import Selection


def random(n: int, k: int, seed: int, round: int, *, replacement: bool = True) -> Selection:
    """k of n examples, uniformly: RS2, repeated sampling of random subsets (Okanovic et al. 2024).

    Args:
        n: number of examples.
        k: how many to keep, 0 <= k <= n.
        seed, round: integers; each pair draws anew, the same pair the same.
        replacement: whether an example may come again in the next round, as RS2's variants differ. False: the rounds
            take consecutive pieces of one shuffle, floor(n / k) of them, and then of the next shuffle; what is
            left of a shuffle, fewer than k, is passed over.

    Raises:
        ValueError: k is not in [0, n].

    Cost: O(n): a draw for each example and a selection, or two, of the draws.
    """
    if not 0 <= k <= n:
        raise ValueError(f"k must be in [0, {n}] for n={n} examples, got {k}")
    if replacement or k == 0:
        return hardest(uniforms(n, seed, round), k)
    shuffle, piece = divmod(round, n // k)
    return Selection(ranks(uniforms(n, seed, shuffle), piece * k, (piece + 1) * k))


def probabilistic(
    scores: Tensor | np.ndarray, k: int, seed: int, round: int, *, power: float = 1.0, weighted: bool = False
) -> Selection:
    """k examples drawn one after the other without replacement, each in proportion to score ** power.

    Rule: Gumbel top-k (Kool et al. 2019, arXiv 1903.06059): the k largest of power * log(score_i) + G_i. In data
    pruning: sampling by score where a hard cut collapses classes (Anand et al. 2023, arXiv 2311.16298).

    Examples of score 0 have no chance beside the others: they are kept only if k exceeds the number of positive
    scores, and then uniformly among themselves.

    Args:
        scores: (n,) floats or integers, finite and not negative.
        k: how many to keep, 0 <= k <= n.
        seed, round: integers; the draw of example i depends on (seed, round, i) alone.
        power: 0 draws uniformly among the positive scores; the larger, the closer to `hardest`.
        weighted: whether the selection comes with weights k / (n q_i), where q_i = 1 - exp(-exp(phi_i - kappa)) is
            the chance of i given the other draws, phi_i = power * log(score_i) and kappa the largest
            perturbed phi that was not kept (the same paper's estimator). Their weighted mean loss is then an unbiased
            estimate of the mean loss of all n; where k leaves positive scores out, of that with the examples of
            score 0 counted as 0. The smaller the score the larger the weight: expect a noisier loss.

    Raises:
        ValueError: a score is negative, infinite or NaN, power is negative or not finite, k is out of range.

    Cost: O(n): two logarithms and a draw for each example, a selection.
    """
    if not 0 <= power < float("inf"):
        raise ValueError(f"power must be finite and at least 0, got {power}")
    scores = as_tensor(scores)
    values = finite(scores, "probabilistic", lowest=0.0)
    n = len(values)
    positive = values > 0
    count = int(positive.sum())
    log_weights = torch.full_like(values, -torch.inf)
    log_weights[positive] = (power * logarithms(values[positive])).clamp(-1e300, 1e300)
    if k > count:  # all positive scores, and a uniform draw of the zeros
        log_weights = torch.full_like(values, torch.inf).masked_fill_(~positive, 0.0)
    keys = gumbel_keys(log_weights, seed, round)
    kept = select_topk(keys, k)
    if not weighted:
        return Selection(kept).to(scores.device)
    chance = torch.ones_like(keys[kept])
    if k > count:
        chance[~positive[kept]] = (k - count) / max(n - count, 1)
    elif k < count:
        keys[kept] = -torch.inf
        chance = -torch.expm1(-torch.exp(log_weights[kept] - keys.max()))
    return Selection(kept, (k / (n * chance)).to(torch.float32)).to(scores.device)


def mean_in_order(values: Tensor) -> Tensor:
    """Added up in order, so that no bit depends on threads; within the values, whatever the rounding."""
    if len(values) == 0:
        return values.sum()
    return (values.cumsum(0)[-1] / len(values)).clamp(values.min(), values.max())


def below_mean(scores: Tensor | np.ndarray) -> Tensor:
    """Which scores are below the mean of all, (n,) bool: those of which `threshold_random` drops some.

    Raises:
        ValueError: a score is infinite or NaN.
    """
    values = finite(as_tensor(scores), "threshold_random")
    return values < mean_in_order(values)


def threshold_random(scores: Tensor | np.ndarray, drop: float, seed: int, round: int) -> Selection:
    """All examples not below the mean score, and a random part of those below, which then count for more.

    Rule: InfoBatch (Qin et al. 2024; its code for the count): of the m examples whose score
    is below the mean, floor((1 - drop) m) are kept and weigh 1 / (1 - drop), the others weigh 1. How many that are
    follows from the scores. The mean weighted loss over a *batch size*, not over the sum of weights, estimates
    that of all examples.

    Args:
        scores: (n,) floats or integers, finite; InfoBatch takes the last loss of each example.
        drop: share of those below the mean that is dropped, in [0, 1).
        seed, round: integers; each pair draws anew.

    Raises:
        ValueError: drop is out of range, a score is infinite or NaN.

    Cost: O(n): a mean in double precision, a draw for each example, a selection.
    """
    if not 0 <= drop < 1:
        raise ValueError(f"drop must be in [0, 1), got {drop}")
    scores = as_tensor(scores)
    values = finite(scores, "threshold_random")
    below = below_mean(scores)
    m = int(below.sum())
    # Those to drop have the smallest draws of all below.
    draws = uniforms(len(values), seed, round).masked_fill_(~below, 2.0)
    dropped = select_topk(draws, m - floor_of_share(1.0 - drop, m), largest=False)
    keep = torch.ones_like(below)
    keep[dropped] = False
    kept = keep.nonzero().squeeze(1)
    weights = torch.ones_like(values[kept], dtype=torch.float32).masked_fill_(below[kept], 1.0 / (1.0 - drop))
    return Selection(kept, weights).to(scores.device)
