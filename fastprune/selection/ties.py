"""Ties at the cut: which of the equal scores are kept, and how many there are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, get_args

import numpy as np
from torch import Tensor

from fastprune.selection.checks import as_tensor
from fastprune.selection.draws import uniforms_of
from fastprune.selection.keys import order_keys

Ties = Literal["index", "random"]
"""Which of the equal scores at the cut are kept: those with the smaller index, or a random part of them."""

STREAM = 2**63
"""Added to the round of a draw among ties. So it is independent of a strategy's draws from the same (seed, round)."""
NOTABLE = 0.01


def check_ties(ties: Ties) -> Ties:
    """The rule for ties itself. Raises if it is unknown."""
    if ties not in get_args(Ties):
        raise ValueError(f"ties must be 'index' or 'random', got {ties!r}")
    return ties


def tie_priorities(ids: Tensor, seed: int, round: int) -> Tensor:
    """The priority of each tied example, (n,) float64 on the CPU. The examples with the larger priority are kept.

    Args:
        ids: (n,) int64.
        seed: As for `uniforms`.
        round: As for `uniforms`.
    """
    return uniforms_of(ids, seed, round + STREAM)


def redraw(scores: Tensor, kept: Tensor, *, largest: bool, nan: str) -> tuple[Tensor, Tensor, int]:
    """The facts that a draw among the ties at the cut needs.

    Args:
        scores: (n,).
        kept: The selection in which ties go by index.
        largest: As for `select_topk`.
        nan: As for `select_topk`.

    Returns:
        (above, tied, wanted). First the kept examples that are better than the cut, then all examples equal to the cut.
        The last is how many of these are to be kept.
    """
    keys = order_keys(scores, largest=largest, nan=nan)
    of_kept = keys[kept]
    cut = of_kept.min()
    above = kept[of_kept != cut]
    return above, (keys == cut).nonzero().flatten(), len(kept) - len(above)


def split_tie(scores: Tensor | np.ndarray, kept: Tensor | np.ndarray) -> int:
    """How many examples share a score of which only some are kept, or 0 if there is no such score.

    Args:
        scores: (n,).
        kept: Indices of a selection by rank. If it is cut at both ends, the larger tie counts.

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


_noted: ContextVar[bool] = ContextVar("noted", default=True)


@contextmanager
def unnoted() -> Iterator[None]:
    """Inside the block `tie_note` says nothing, because the scores are those of a small part of the examples."""
    outer = _noted.set(False)
    try:
        yield
    finally:
        _noted.reset(outer)


def tie_note(scores: Tensor | np.ndarray, kept: Tensor | np.ndarray, ties: Ties) -> str | None:
    """One sentence if the cut falls into a tie of more than 1 % of the scores, otherwise None.

    Example:
        >>> import torch
        >>> forgotten = torch.tensor([2, 0, 0, 0, 1])
        >>> tie_note(forgotten, torch.tensor([0, 1, 4]), "index")  # one of three zeros is kept
        'the cut falls into a tie: 3 of 5 examples have the same score, and the smaller index decides which are kept'
    """
    if not _noted.get():
        return None
    n, tied = len(scores), split_tie(scores, kept)
    if tied <= NOTABLE * n:
        return None
    decides = "a seeded draw" if ties == "random" else "the smaller index"
    return f"the cut falls into a tie: {tied} of {n} examples have the same score, and {decides} decides which are kept"
