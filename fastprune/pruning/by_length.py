"""A budget of tokens: a cycle keeps as many texts of each length as the data have, in proportion.

A batch is as wide as its longest text.  So a method that prefers long texts reads more tokens than its share of the
examples.  Here the texts are put into groups of like length, and the method chooses in each group by itself.  The kept
texts then have the lengths of all texts, and so do their batches, however they are made up.  The number of examples,
of steps and the learning rate stay as they are.

The fewer examples there are, the wider is a group, and the less exact the share of the tokens: with some 300 examples
it is a few percent off.  A setting of the method that is a share, such as an offset, is rounded down in each group.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from fastprune.selection import Selection
from fastprune.selection.draws import of_class, uniforms
from fastprune.selection.ties import unnoted

WIDTHS = (1.02, 1.05, 1.1, 1.25, 1.5, 2.0)
"""How far the lengths of a group may lie apart: the longest over the shortest.  The first that leaves enough choice."""

ENOUGH = 16
"""How many examples a group must hold on average, so that the method has a choice."""

Choose = Callable[[Tensor, int], Selection]
"""Gives the positions that are kept, from the examples of a group (ascending int64) and their number."""


def digest(groups: Sequence[Tensor]) -> str:
    """A text that is equal for equal groups, for checkpoints."""
    found = hashlib.sha256()
    for group in groups:
        found.update(len(group).to_bytes(8, "little") + group.numpy().tobytes())
    return found.hexdigest()[:16]


def length_groups(lengths: Sequence[int] | Tensor, n: int) -> list[Tensor]:
    """The examples by length: groups of ascending int64 indices, the shortest texts first.

    Raises:
        ValueError: there is not one whole number >= 0 for each of the ``n`` examples.

    Example:
        >>> [len(group) for group in length_groups([5] * 40 + [100, 101] + [7] * 70, 112)]
        [40, 70, 2]
    """
    found = torch.as_tensor(lengths, device="cpu")
    if found.shape != (n,) or found.is_floating_point() or found.is_complex() or bool((found < 0).any()):
        raise ValueError(
            f"lengths must be {n} whole numbers >= 0, one for each example, got {found.dtype} of shape "
            f"{tuple(found.shape)}"
        )
    values, counts = (column.tolist() for column in found.unique(return_counts=True))
    for width in WIDTHS:
        sizes = _sizes(values, counts, width)
        if n >= ENOUGH * len(sizes):
            break
    else:  # as many groups of equal size as leave a choice
        whole, rest = divmod(n, max(n // ENOUGH, 1))
        sizes = [whole + (number < rest) for number in range(max(n // ENOUGH, 1))]
    return [group.sort().values for group in found.argsort(stable=True).split(sizes)]


def _sizes(values: Sequence[int], counts: Sequence[int], width: float) -> list[int]:
    """How many examples each group has, of these lengths in ascending order."""
    sizes: list[int] = []
    most = -1.0
    for value, count in zip(values, counts, strict=True):
        if value > most:
            sizes.append(0)
            most = max(value, 1) * width
        sizes[-1] += count
    return sizes


def choose_in_groups(groups: Sequence[Tensor], k: int, choose: Choose, *, seed: int, cycle: int) -> Selection:
    """Keep ``k`` examples, of each group in proportion to its size.

    Args:
        groups: ascending int64 indices, which together hold every example once.
        k: how many to keep, at least one and at most all.
        choose: is asked in each group that keeps some examples and not all of them.  What it draws at random is
            independent between groups.
        seed: of the draw of which groups are rounded up.
        cycle: number of the cycle, which gives each cycle a draw of its own.
    """
    kept = []
    counts = shares([len(group) for group in groups], k, float(uniforms(1, seed, cycle)))
    with unnoted():  # one tie is much in a small group
        for number, (group, count) in enumerate(zip(groups, counts, strict=True)):
            if 0 < count < len(group):
                with of_class(number):
                    kept.append(group[choose(group, count).indices.to("cpu")])
            elif count:
                kept.append(group)
    return Selection(torch.cat(kept).sort().values)


def shares(sizes: Sequence[int], k: int, start: float) -> list[int]:
    """How many each group gives, ``k`` in total: systematic sampling with a random start in [0, 1).

    Any groups next to each other give their share, to within one example.  Over many starts every group does.

    Example:
        >>> shares([10, 1, 1, 8], 10, start=0.6), shares([10, 1, 1, 8], 10, start=0.1)
        ([5, 1, 0, 4], [5, 0, 1, 4])
    """
    n = sum(sizes)
    ends = [0, *accumulate(sizes)]
    # In whole numbers, so that no rounding makes a group give more than it has.
    part = math.floor(start * n)
    before = [(k * end + part) // n for end in ends]
    return [after - first for first, after in pairwise(before)]
