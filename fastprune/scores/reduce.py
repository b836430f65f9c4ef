"""From the scores of tokens to the score of a sample, and from heads to a joint score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from fastprune.scores.definition import accumulator_dtype

Reduction = Literal["norm", "mean", "sum", "max"]
REDUCTIONS: tuple[Reduction, ...] = get_args(Reduction)


def reduce_tokens(scores: Tensor, valid: Tensor, reduce: str) -> Tensor:
    """The score of each sample, from the scores of its tokens.

    Sums are in double precision, so that the square of a small score does not vanish.

    Args:
        scores: (..., T) fp32, and 0 where not valid.
        valid: (..., T) bool, whether the token has a label that is not ignored.
        reduce: Use "norm" for sqrt(sum s^2), the default of arXiv 2306.03208. It is meant for scores >= 0. Use "mean"
            for the mean over the valid tokens, "sum" or "max".

    Returns:
        (...) fp32. It is 0 for a sample with no valid token.
    """
    return reduce_heads([(scores, valid)], reduce)


def reduce_heads(heads: Sequence[tuple[Tensor, Tensor]], reduce: str) -> Tensor:
    """The joint score of each sample over heads of (scores, valid), each (..., T_head).

    The reductions "norm", "sum" and "max" are over all heads and tokens. With "mean" it is the mean over heads of each
    head's mean over its valid tokens. A head with no valid token in a sample counts as 0.
    """
    wide = [(s.to(accumulator_dtype(s.device)), valid) for s, valid in heads]
    if reduce == "norm":
        joint = _total([s.square().sum(-1) for s, _ in wide]).sqrt()
    elif reduce == "sum":
        joint = _total([s.sum(-1) for s, _ in wide])
    elif reduce == "mean":
        joint = _total([s.sum(-1) / valid.sum(-1).clamp(min=1) for s, valid in wide]) / len(wide)
    else:
        joint = torch.stack([_max(s, valid) for s, valid in wide]).amax(0)
        joint = torch.where(joint == -torch.inf, 0.0, joint)  # no valid token in any head
    return joint.to(torch.float32)


def _total(terms: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(terms)).sum(0)


def _max(scores: Tensor, valid: Tensor) -> Tensor:
    # amax refuses an empty dimension. Margins are negative where the model is wrong, so 0 cannot stand for "not valid".
    known = scores.masked_fill(~valid, -torch.inf)
    return known.amax(-1) if scores.shape[-1] else scores.sum(-1) - torch.inf
