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
    """The score of each sample from its tokens'.

    Args:
        scores: (..., T) fp32, and 0 where not valid.
        valid: (..., T) bool: the token has a label that is not ignored.
        reduce: "norm" sqrt(sum s^2) (the default of arXiv 2306.03208), "mean" over valid tokens,
            "sum" or "max".  "norm" is meant for scores that are >= 0.

    Returns:
        (...) fp32; 0 for a sample with no valid token.

    Summed in double, so that the square of a small score does not vanish.
    """
    return reduce_heads([(scores, valid)], reduce)


def reduce_heads(heads: Sequence[tuple[Tensor, Tensor]], reduce: str) -> Tensor:
    """The joint score of each sample over heads of (scores, valid), each (..., T_head).

    "norm" and "sum" run over all heads and tokens, "max" too; "mean" is the mean over heads of each
    head's mean over its valid tokens (a head with none in a sample counts as 0).
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
    # amax refuses an empty dimension; margins are negative where the model is wrong, and 0 would exceed them.
    known = scores.masked_fill(~valid, -torch.inf)
    return known.amax(-1) if scores.shape[-1] else scores.sum(-1) - torch.inf
