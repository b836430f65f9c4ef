"""Equal scores at the cut: which of them are kept, and how many there are."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from torch import Tensor

from fastprune.selection.checks import as_tensor
from fastprune.selection.draws import uniforms_of
from fastprune.selection.keys import order_keys

Ties = Literal["index", "random"]
"""Which of the equal scores at the cut are kept: those with the smaller index, or a random part of them."""

STREAM = 2**63
"""Added to the round: a draw among ties has nothing to do with what a strategy draws from the same (seed, round)."""
NOTABLE = 0.01


def check_ties(ties: Ties) -> Ties:
    """ties; raises if it is no rule."""
    if ties not in get_args(Ties):
        raise ValueError(f"ties must be 'index' or 'random', got {ties!r}")
    return ties


def tie_priorities(ids: Tensor, seed: int, round: int) -> Tensor:
    """(n,) float64 on the CPU, for ids (n,) int64: of equal scores those of larger priority are kept."""
    return uniforms_of(ids, seed, round + STREAM)


def redraw(scores: Tensor, kept: Tensor, *, largest: bool, nan: str) -> tuple[Tensor, Tensor, int]:
    """What a draw among the ties at the cut has to decide.

    Args:
        scores: (n,).
        kept: the selection in which ties go by index.

    Returns:
        Of ``kept`` those that are better than the cut; all that are equal to it; how many of these are wanted.
    """
    keys = order_keys(scores, largest=largest, nan=nan)
    of_kept = keys[kept]
    cut = of_kept.min()
    above = kept[of_kept != cut]
    return above, (keys == cut).nonzero().flatten(), len(kept) - len(above)


def split_tie(scores: Tensor | np.ndarray, kept: Tensor | np.ndarray) -> int:
    """How many examples share a score of which some are kept and some are not; 0 if there is no such score.

    Args:
        scores: (n,).
        kept: indices of a selection by rank; it may be cut at both ends, and then the larger tie counts.

    Cost: O(n).
    """
    scores, kept = as_tensor(scores), as_tensor(kept)
    if len(kept) == 0 or len(kept) == len(scores):
        return 0
    values = scores[kept]
    most = 0
    for end in (values.min(), values.max()):
        everywhere, inside = int((scores == end).sum()), int((values == end).sum())
        if inside < everywhere:
            most = max(most, everywhere)
    return most


def tie_note(scores: Tensor | np.ndarray, kept: Tensor | np.ndarray, ties: Ties) -> str | None:
    """One sentence if the cut falls into a tie of more than 1 % of the scores, otherwise None."""
    n, tied = len(scores), split_tie(scores, kept)
    if tied <= NOTABLE * n:
        return None
    decides = "a seeded draw" if ties == "random" else "the smaller index"
    return f"the cut falls into a tie: {tied} of {n} examples have the same score, and {decides} decides which are kept"
