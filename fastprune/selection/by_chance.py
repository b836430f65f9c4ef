"""Strategies that draw at random. The result depends on the arguments alone, see `draws`."""

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
    """Choose k of n examples uniformly: RS2, repeated sampling of random subsets (Okanovic et al. 2024).

    Args:
        n: Number of examples.
        k: How many to keep, in [0, n].
        seed: An integer. The same (seed, round) always gives the same draw.
        round: An integer. Each round draws anew.
        replacement: Whether an example may come again in the next round. RS2 has both variants. With False, the rounds
            take consecutive pieces of one shuffle, floor(n / k) of them, and then of the next shuffle. The fewer than k
            examples at the end of a shuffle are skipped.

    Raises:
        ValueError: k is not in [0, n].

    Cost: O(n). Every example gets a draw, and one or two selections of the draws follow.

    Example:
        Two rounds without replacement visit different examples.

        >>> first = random(6, 3, seed=0, round=0, replacement=False).indices
        >>> second = random(6, 3, seed=0, round=1, replacement=False).indices
        >>> sorted(first.tolist() + second.tolist())
        [0, 1, 2, 3, 4, 5]
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
    """Draw k examples one after the other without replacement, each in proportion to ``score ** power``.

    Rule: Gumbel top-k (Kool et al. 2019, arXiv 1903.06059). It keeps the k largest values of
    ``power * log(score_i) + G_i``, where G_i is a Gumbel draw. In data pruning, sampling by score helps where a hard
    cut collapses classes (Anand et al. 2023, arXiv 2311.16298).

    Examples with score 0 are kept only if k exceeds the number of positive scores. They are then drawn uniformly among
    themselves.

    Args:
        scores: (n,) floats or integers, finite and not negative.
        k: How many to keep, in [0, n].
        seed: An integer. The draw of example i depends on (seed, round, i) alone.
        round: An integer. Each round draws anew.
        power: 0 draws uniformly among the positive scores. The larger it is, the closer the result is to `hardest`.
        weighted: Whether the selection has weights. They make its weighted mean loss an unbiased estimate of the mean
            loss of all n examples. If k leaves positive scores out, examples with score 0 count as 0 in that mean. A
            small score has a large weight, so expect a noisier loss.

    Raises:
        ValueError: A score is negative, infinite or NaN, power is negative or not finite, or k is out of range.

    Weights: the estimator of the same paper. Here kappa is the largest perturbed phi that was not kept, and q_i is the
    chance of example i given the other draws::

        phi_i = power * log(score_i)
        q_i = 1 - exp(-exp(phi_i - kappa))
        weight_i = k / (n q_i)

    Cost: O(n). Every example takes two logarithms and a draw, followed by one selection.

    Example:
        >>> import torch
        >>> scores = torch.tensor([0.0, 0.1, 0.9, 0.0, 0.8])
        >>> probabilistic(scores, 3, seed=0, round=0).indices  # three scores are positive
        tensor([1, 2, 4])
        >>> probabilistic(scores, 2, seed=0, round=0, weighted=True).weights.shape
        torch.Size([2])
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
    if k > count:  # keep all positive scores, and draw uniformly among the zeros
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
    """The mean, summed in index order so that no bit depends on threads. Rounding never moves it outside the values."""
    if len(values) == 0:
        return values.sum()
    return (values.cumsum(0)[-1] / len(values)).clamp(values.min(), values.max())


def below_mean(scores: Tensor | np.ndarray) -> Tensor:
    """Which scores are below the mean of all scores, (n,) bool. `threshold_random` drops some of these.

    Raises:
        ValueError: A score is infinite or NaN.

    Example:
        >>> import torch
        >>> below_mean(torch.tensor([0.1, 0.2, 3.0]))
        tensor([ True,  True, False])
    """
    values = finite(as_tensor(scores), "threshold_random")
    return values < mean_in_order(values)


def threshold_random(scores: Tensor | np.ndarray, drop: float, seed: int, round: int) -> Selection:
    """Keep all examples that reach the mean score, and a random part of the others with a larger weight.

    Rule: InfoBatch (Qin et al. 2024, and its code for the count). Let m be the number of examples with a score below
    the mean. Of these, floor((1 - drop) m) are kept with weight 1 / (1 - drop). All other examples are kept with weight
    1. The size of the selection follows from the scores. Divide the sum of the weighted losses by the *batch size*, not
    by the sum of the weights. That estimates the mean loss of all examples.

    Args:
        scores: (n,) floats or integers, finite. InfoBatch takes the last loss of each example.
        drop: Share of the examples below the mean that is dropped, in [0, 1).
        seed: An integer. The same (seed, round) always gives the same draw.
        round: An integer. Each round draws anew.

    Raises:
        ValueError: drop is out of range, or a score is infinite or NaN.

    Cost: O(n). It takes a mean in double precision, a draw for each example and one selection.

    Example:
        >>> import torch
        >>> losses = torch.tensor([0.1, 0.1, 0.1, 0.1, 2.0])
        >>> selection = threshold_random(losses, drop=0.5, seed=0, round=0)
        >>> len(selection)  # two of the four below the mean, and the hard one
        3
        >>> selection.weights
        tensor([2., 2., 1.])
    """
    if not 0 <= drop < 1:
        raise ValueError(f"drop must be in [0, 1), got {drop}")
    scores = as_tensor(scores)
    values = finite(scores, "threshold_random")
    below = below_mean(scores)
    m = int(below.sum())
    # Drop the examples with the smallest draws among those below the mean.
    draws = uniforms(len(values), seed, round).masked_fill_(~below, 2.0)
    dropped = select_topk(draws, m - floor_of_share(1.0 - drop, m), largest=False)
    keep = torch.ones_like(below)
    keep[dropped] = False
    kept = keep.nonzero().squeeze(1)
    weights = torch.ones_like(values[kept], dtype=torch.float32).masked_fill_(below[kept], 1.0 / (1.0 - drop))
    return Selection(kept, weights).to(scores.device)
