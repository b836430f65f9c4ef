"""Selects while some examples have no score yet.  They may be hard, so they are kept first."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fastprune.pruning.history import History
from fastprune.selection import Selection, random
from fastprune.selection.by_rank import floor_of_share


def unscored_first(
    history: History, k: int, choose: Callable[[Tensor, int], Selection], *, cycle: int, seed: int
) -> Selection:
    """The unscored examples, and for the rest ``choose(scored, count)``.

    If more than k examples have no score, k of them are drawn at random.

    Args:
        history: says which examples have a score.
        k: how many to keep.
        choose: is called with the scored examples (ascending int64 indices) and with how many of them to keep.  It
            returns *positions* among them, with weights or without.
        cycle: number of the cycle, which gives each cycle a draw of its own.
        seed: of the draw.

    Returns:
        Indices of examples.  An unscored one weighs 1.

    Example:
        >>> from fastprune.pruning import Latest
        >>> from fastprune.selection import hardest
        >>> history = History(4, {"loss": Latest()})
        >>> history.update(torch.tensor([0, 1, 3]), {"loss": torch.tensor([0.1, 0.7, 0.2])}, epoch=0)
        >>> value = history.value("loss")
        >>> unscored_first(history, 2, lambda scored, k: hardest(value[scored], k), cycle=1, seed=0).indices
        tensor([1, 2])
    """
    scored = (history.visits > 0).nonzero().flatten()
    if len(scored) == history.n:
        return choose(scored, k)
    unscored = (history.visits == 0).nonzero().flatten()
    drawn = random(len(unscored), min(k, len(unscored)), seed=seed, round=cycle).indices
    fresh = unscored[drawn.to(unscored.device)]
    rest = k - len(fresh)
    if not rest:
        return Selection(fresh)
    chosen = choose(scored, rest)
    indices, order = torch.cat([fresh, scored[chosen.indices.to(scored.device)]]).sort()
    if chosen.weights is None:
        return Selection(indices)
    weights = chosen.weights.to(scored.device)
    return Selection(indices, torch.cat([weights.new_ones(len(fresh)), weights])[order])


def finite_value(history: History, metric: str) -> Tensor:
    """The statistic of ``metric``, for methods that average scores or measure between them.

    Raises:
        ValueError: the statistic of a scored example is infinite.
    """
    value = history.value(metric)
    broken = (value.isinf() & (history.visits > 0)).nonzero().flatten()
    if len(broken):
        raise ValueError(
            f"{metric!r} of example {int(broken[0])} is infinite, and of {len(broken) - 1} others, which leaves no "
            "mean to compare with; leave them out, or take a method that goes by rank alone, such as el2n-free"
        )
    return value


def refuse_negative(method: str, metric: str, index: Tensor, values: Tensor) -> None:
    """Refuse scores below 0, for methods that draw in proportion to them.

    Args:
        method: its name, for the message.
        metric: what the scores measure, for the message.
        index: int64 (B,), the examples.
        values: (B,), a score for each.

    Raises:
        ValueError: a score is below 0.
    """
    broken = (values < 0).nonzero().flatten()
    if len(broken):
        first = int(broken[0])
        raise ValueError(
            f"method {method!r} draws in proportion to {metric!r}, and that of example {int(index[first])} is "
            f"{float(values[first]):g}; give scores of at least 0, or take a method that ranks, such as 'el2n-free'"
        )


def fitting_offset(offset: float, n: int, k: int) -> float:
    """The largest share, at most ``offset``, that can be dropped from ``n`` examples and leave ``k``.

    Example:
        >>> fitting_offset(0.3, n=100, k=80)  # dropping 30 would leave 70
        0.19...
    """
    return min(offset, 1.0 - k / n)


def check_fits(name: str, offset: float, n: int, k: int) -> None:
    """Refuse an offset that leaves fewer than ``k`` of ``n`` examples."""
    dropped = floor_of_share(offset, n)
    if k > n - dropped:
        raise ValueError(
            f"method {name!r} drops the hardest {dropped} of {n} examples (offset={offset:g}), which leaves "
            f"{n - dropped}, but {k} are to be kept; lower offset or keep_fraction"
        )


def check_offset(offset: float) -> None:
    """Refuse an offset out of range."""
    if not 0.0 <= offset < 1.0:
        raise ValueError(f"offset is the share dropped from the hard end and must be in [0, 1), got {offset!r}")
