"""When to score and how much to keep: phases, user epochs and chunks.

The examples of a run form one *stream*: ``warmup_epochs`` permutations of all N examples, then
``cycle_epochs`` permutations of each kept set (arXiv 2306.03208, Figure 1).  A loop reads the stream
in *pieces*:

* a plain loop reads one user epoch per piece (N examples in warm-up, k after it);
* a framework that freezes the length of an epoch at the start reads *chunks* of one constant length v.
  The last chunk of a phase is topped up from the next permutation of the same set, and v is chosen so
  that all top-ups together cost at most 2 % of the budget.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

TOP_UP_TOLERANCE = 0.02
SHORT_STEP_TOLERANCE = 0.05
MULTIPLES = 4096


@dataclass(frozen=True)
class Phase:
    """A stretch of the run over one set of examples.

    ``index`` 0 is the warm-up (absent when ``warmup_epochs`` is 0), 1, 2, … are the cycles.
    ``size`` is the number of examples in one epoch of the phase.
    """

    index: int
    first_epoch: int
    epochs: int
    size: int

    @property
    def length(self) -> int:
        """Examples in the whole phase."""
        return self.epochs * self.size


@dataclass(frozen=True)
class Piece:
    """Positions ``start … stop - 1`` of the stream of ``phase``: one pass over the sampler."""

    phase: Phase
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def epoch(self) -> int:
        """The user epoch (0-based) in which the piece starts."""
        return self.phase.first_epoch + min(self.start // self.phase.size, self.phase.epochs - 1)


@dataclass(frozen=True)
class Schedule:
    """The paper's schedule: τ epochs on everything, then cycles of T epochs on the kept share.

    Args:
        keep_fraction: share of the examples *kept*, in (0, 1] (the paper's 1 − ρ).
        warmup_epochs: τ ≥ 0, epochs on all examples before the first selection.
        cycle_epochs: T ≥ 1, epochs between two selections.  A rest shorter than T runs as one last,
            shorter cycle, as in the authors' code.

    Raises:
        ValueError: an argument is out of range; the message names it and the range.
    """

    keep_fraction: float
    warmup_epochs: int = 1
    cycle_epochs: int = 1

    def __post_init__(self) -> None:
        if not 0.0 < self.keep_fraction <= 1.0:
            raise ValueError(
                f"keep_fraction is the share of examples kept and must be in (0, 1], got {self.keep_fraction!r}; "
                "to drop 80 % of the data pass keep_fraction=0.2"
            )
        for name, value, least in (
            ("warmup_epochs", self.warmup_epochs, 0),
            ("cycle_epochs", self.cycle_epochs, 1),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be a whole number >= {least}, got {value!r}")

    def kept(self, n: int) -> int:
        """How many of ``n`` examples a cycle keeps (at least one)."""
        return max(1, round(self.keep_fraction * n))

    def phases(self, n: int, epochs: int) -> list[Phase]:
        """The phases of a run of ``epochs`` user epochs over ``n`` examples, in order."""
        if n < 1:
            raise ValueError(f"the data set must hold at least one example, got {n}")
        if epochs < 1:
            raise ValueError(f"epochs must be >= 1, got {epochs!r}")
        warmup = min(self.warmup_epochs, epochs)
        phases = [Phase(0, 0, warmup, n)] if warmup else []
        first = warmup
        while first < epochs:
            length = min(self.cycle_epochs, epochs - first)
            phases.append(Phase(phases[-1].index + 1 if phases else 1, first, length, self.kept(n)))
            first += length
        return phases


def budget(phases: Sequence[Phase]) -> int:
    """Training examples of a whole run: τN + Σ k_t."""
    return sum(phase.length for phase in phases)


def epoch_pieces(phases: Sequence[Phase]) -> list[Piece]:
    """One piece per user epoch: nothing is topped up."""
    return [Piece(p, e * p.size, (e + 1) * p.size) for p in phases for e in range(p.epochs)]


def chunk_pieces(phases: Sequence[Phase], step: int = 1) -> list[Piece]:
    """Pieces of one constant length; the last of a phase may run into the next permutation.

    ``step`` is the number of examples of an optimizer step, see `chunk_length`.
    """
    v = chunk_length(phases, step)
    return [Piece(p, start, start + v) for p in phases for start in range(0, p.length, v)]


def top_up(phases: Sequence[Phase], v: int) -> int:
    """Examples beyond the budget when every phase is read in chunks of ``v``."""
    return sum(-p.length % v for p in phases)


def chunk_length(phases: Sequence[Phase], step: int = 1) -> int:
    """The longest chunk, at most the smallest epoch, whose top-ups cost at most 2 % of the budget.

    A phase is read without waste exactly when v divides its length, so the candidates are the phases'
    lengths divided by small whole numbers, rounded up.  A chunk of ``2 % · budget / len(phases)``
    always qualifies, because each phase wastes less than one chunk.

    The last optimizer step of a chunk is a short one unless ``step`` divides v.  Where all epochs are of one
    size that is as without chunks; elsewhere v is chosen so that short steps add at most 5 % to the number of
    steps, if there is such a v; multiples of ``step`` are candidates, too.
    """
    smallest = min(p.size for p in phases)
    if all(p.size == smallest for p in phases):
        return smallest
    total = budget(phases)
    allowed = TOP_UP_TOLERANCE * total
    candidates = {math.ceil(length / j) for length in {p.length for p in phases} for j in range(1, 257)}
    candidates.add(max(1, int(allowed // len(phases))))
    if step > 1:
        candidates.update(step * j for j in range(1, min(smallest // step, MULTIPLES) + 1))
    fitting = [v for v in sorted(candidates, reverse=True) if v <= smallest and top_up(phases, v) <= allowed]

    def excess(v: int) -> float:
        return (total + top_up(phases, v)) / v * math.ceil(v / step) * step / total - 1.0

    return next((v for v in fitting if excess(v) <= SHORT_STEP_TOLERANCE), min(fitting, key=excess, default=1))


def epoch_ends(pieces: Sequence[Piece]) -> Iterator[tuple[int, int]]:
    """Where user epochs end in a run read piece by piece.

    Yields ``(position, epoch)``: after ``position`` examples of the whole run the user epoch with the
    0-based number ``epoch`` is complete.  The last epoch of a phase ends with the phase's last piece.
    """
    offset = 0
    for phase in dict.fromkeys(piece.phase for piece in pieces):
        length = sum(len(piece) for piece in pieces if piece.phase == phase)
        for e in range(phase.epochs - 1):
            yield offset + (e + 1) * phase.size, phase.first_epoch + e
        yield offset + length, phase.first_epoch + phase.epochs - 1
        offset += length
