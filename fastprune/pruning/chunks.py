"""Chunks: how a run is cut up for a framework that freezes the number of steps of an epoch at its start.

All chunks of a run take equally many optimizer steps.  Where all epochs are of one size, each is a chunk.  Elsewhere
a chunk is a multiple of the optimizer step, so that no step is a short one.  The last chunk of a phase is topped up
from the next permutation of the same set.

A batch larger than an epoch would hold examples twice.  Such an epoch is a chunk of its own, of one short batch, and
all other chunks of the run are one batch.
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
    """The chunks of a run, in order; arguments as of `chunk_length`.

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
    """The examples of a chunk; an epoch smaller than a batch is a shorter one.

    The longest multiple of ``step`` is taken that is at most the smallest epoch, and that

    * takes at most `MORE_STEPS` more steps than a plain loop, in which the last step of every epoch may be short: none
      at all would make many runs one-step chunks, and a framework does much between two chunks;
    * tops up all phases together by at most 2 % of the budget, or each by less than a step.

    One step is always such a multiple.

    >>> from fastprune.pruning.schedule import Schedule
    >>> chunk_length(Schedule(0.5).phases(100, 3), 5)  # epochs of 100, 50 and 50
    50
    >>> chunk_length(Schedule(0.5).phases(117, 4), 32)  # 117, 58, 58 and 58
    32

    Args:
        phases: of the run.
        step: examples of an optimizer step, on all processes.
        batch: those of one of its micro-batches, on all processes; the whole step, unless it says otherwise.
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
        # A phase is read without waste where the steps of a chunk divide its own.
        parts = {-(-length // step // j) for length in lengths for j in range(1, PARTS + 1)}
        candidates |= {steps for steps in parts if steps <= longest}
    return step * next((steps for steps in sorted(candidates, reverse=True) if fits(steps)), 1)


def top_up(phases: Sequence[Phase], step: int = 1, batch: int | None = None) -> int:
    """Examples beyond the budget when the run is read in chunks; arguments as of `chunk_length`."""
    return sum(map(len, chunk_pieces(phases, step, batch))) - budget(phases)


def _of_one_size(phases: Sequence[Phase]) -> bool:
    return len({p.size for p in phases}) == 1
