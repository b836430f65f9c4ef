"""Keeps an example from coming twice in one batch where one permutation ends and the next begins.

A stream of permutations is read in batches.  A batch that begins at the end of one permutation is filled from the
beginning of the next.  That beginning may hold some of the same examples.  These are moved to places after the batch.
"""

from __future__ import annotations

import torch
from torch import Tensor


def without(held: Tensor, order: Tensor, count: int) -> Tensor:
    """The permutation ``order``, changed so that it begins with ``count`` examples that are not among ``held``.

    Only the first ``len(held) + count`` places change, and those only if they must.

    >>> without(torch.tensor([3, 0]), torch.tensor([2, 0, 1, 3, 4]), 2)
    tensor([2, 1, 0, 3, 4])
    >>> without(torch.tensor([3, 0]), torch.tensor([2, 1, 0, 3, 4]), 2)
    tensor([2, 1, 0, 3, 4])
    """
    window, rest = order[: len(held) + count], order[len(held) + count :]
    again = torch.isin(window, held)
    return torch.cat([window[~again], window[again], rest]) if again[:count].any() else order


def first_needed(number: int, size: int, distinct: int) -> int:
    """The permutation from which to start computing permutation ``number`` of a stream in batches of ``distinct``.

    A permutation whose beginning is also that of a batch depends on no other.  The beginning of any other depends on
    the end of the one before.  If permutations are long enough, `without` does not change that end.

    >>> [first_needed(number, 10, 4) for number in range(5)]
    [0, 0, 2, 2, 4]
    >>> [first_needed(number, 5, 4) for number in range(6)]
    [0, 0, 0, 0, 4, 4]
    """
    while number * size % distinct:
        number -= 1
        if size >= 2 * distinct - 1:
            break
    return number
