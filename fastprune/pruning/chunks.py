"""Chunks: the pieces of a run for a framework that fixes the length of an epoch at the start.

All chunks of a run take the same number of optimizer steps.  If all epochs have the same size, each epoch is a chunk.
Otherwise the length of a chunk is a multiple of the optimizer step, so no step is short.  The last chunk of a phase is
topped up from the next permutation of the same set.

A batch that is larger than an epoch would hold examples twice.  So such an epoch is a chunk of its own, of one short
batch.  All other chunks of the run then hold one batch each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from fastprune.pruning.schedule import Phase, Piece, budget

TOP_UP_TOLERANCE = 0.02
MORE_STEPS = 0.005
MULTIPLES = 4096
PARTS = 256


def chunk_pieces(phases: Sequence[Phase], step: int = 1, batch: int | None = None) -> list[Piece]:
    """The chunks of a run, in order.  The arguments are those of `chunk_length`.

    >>> from fastprune.pruning.schedule import Schedule
    >>> [len(piece) for piece in chunk_pieces(Schedule(0.3).phases(103, 3), 32)]  # epochs of 103, 31 and 31
    [32, 32, 32, 32, 31, 31]
    """
    batch = step if batch is None else batch
    v = chunk_length(phases, step, batch)
    if _of_one_size(phases):
        return [Piece(p, start, start + v) for p in phases for start in range(0, p.length, v)]
    pieces = []
    for p in phases:
        length = min(v, p.size) if p.size < batch else v
        distinct = 1 if p.size < batch else batch if p.size < step else min(v, step)
        pieces += [Piece(p, start, start + length, distinct) for start in range(0, p.length, length)]
    return pieces


def chunk_length(phases: Sequence[Phase], step: int = 1, batch: int | None = None) -> int:
    """How many examples a chunk holds.  An epoch smaller than a batch is a shorter chunk.

    The length is a multiple of ``step`` and at most the smallest epoch.  It is the longest such multiple that meets two
    conditions:

    * The run takes at most `MORE_STEPS` more steps than a plain loop, in which the last step of every epoch may be
      short.  If no more steps were allowed, many runs would be cut into chunks of one step, and frameworks are slow
      between two chunks.
    * The top-ups of all phases together are at most 2 % of the budget, or each is less than a step.

    A chunk of one step always meets both.

    >>> from fastprune.pruning.schedule import Schedule
    >>> chunk_length(Schedule(0.5).phases(100, 3), 5)  # epochs of 100, 50 and 50
    50
    >>> chunk_length(Schedule(0.5).phases(117, 4), 32)  # 117, 58, 58 and 58
    32

    Args:
        phases: the run's phases.
        step: examples in an optimizer step, on all processes together.
        batch: examples in one micro-batch of a step, on all processes together.  None means the whole step.
    """
    batch = step if batch is None else batch
    smallest = min(p.size for p in phases)
    if _of_one_size(phases):
        return smallest
    if smallest < batch:
        return batch
    plain = sum(p.epochs * -(-p.size // step) for p in phases)
    most = plain + int(MORE_STEPS * plain)
    allowed = TOP_UP_TOLERANCE * budget(phases)
    lengths = Counter(p.length for p in phases)

    def fits(steps: int) -> bool:
        v = steps * step
        if steps * sum(count * -(-length // v) for length, count in lengths.items()) > most:
            return False
        excess = {length: -length % v for length in lengths}
        return sum(excess[length] * count for length, count in lengths.items()) <= allowed or (
            max(excess.values()) < step
        )

    longest = smallest // step
    candidates = set(range(2, min(longest, MULTIPLES) + 1))
    if longest > MULTIPLES:
        # A phase wastes nothing if the steps of a chunk divide its own steps.
        parts = {-(-length // step // j) for length in lengths for j in range(1, PARTS + 1)}
        candidates |= {steps for steps in parts if steps <= longest}
    return step * next((steps for steps in sorted(candidates, reverse=True) if fits(steps)), 1)


def top_up(phases: Sequence[Phase], step: int = 1, batch: int | None = None) -> int:
    """How many examples beyond the budget a run in chunks reads.  The arguments are those of `chunk_length`."""
    return sum(map(len, chunk_pieces(phases, step, batch))) - budget(phases)


def _of_one_size(phases: Sequence[Phase]) -> bool:
    return len({p.size for p in phases}) == 1
