"""When to score and how much to keep: phases and user epochs.

The examples of a run form one *stream*.  It begins with ``warmup_epochs`` permutations of all N examples.  Then come
``cycle_epochs`` permutations of each kept set (arXiv 2306.03208, Figure 1).  With a ``final_share``, permutations of
all examples follow at the end.  A loop reads the stream in *pieces*:

* A plain loop reads one user epoch per piece: N examples in the warm-up, k after it.
* A framework that freezes the length of an epoch at the start reads *chunks*, see `fastprune.pruning.chunks`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from fastprune.pruning.keep import Budget, KeepFraction, check_fraction, check_keep_fraction, describe
from fastprune.selection.by_rank import floor_of_share


@dataclass(frozen=True)
class Phase:
    """A stretch of the run over one set of examples.

    Attributes:
        index: 0 is the warm-up, which is absent when ``warmup_epochs`` is 0.  1, 2, … are the cycles.
        first_epoch: the user epoch with which it begins.
        epochs: how many user epochs it has.
        size: examples in one of its epochs.
        final: whether it reads all examples at the end of the run.

    Example:
        >>> Phase(index=1, first_epoch=1, epochs=2, size=50).length
        100
    """

    index: int
    first_epoch: int
    epochs: int
    size: int
    final: bool = False

    @property
    def length(self) -> int:
        """Examples in the whole phase."""
        return self.epochs * self.size


@dataclass(frozen=True, slots=True)
class Piece:
    """One pass over the sampler: positions ``start … stop - 1`` of the stream of ``phase``.

    Attributes:
        phase: the phase that it is a part of.
        start: where it begins in the stream of the phase.
        stop: where it ends.
        distinct: length of the blocks into which the phase's stream is cut.  No block holds an example twice.  It is at
            most the size of the phase.

    Example:
        >>> cycle = Phase(index=1, first_epoch=1, epochs=2, size=50)
        >>> second = Piece(cycle, start=50, stop=100)
        >>> len(second), second.epoch_at(0)
        (50, 2)
    """

    phase: Phase
    start: int
    stop: int
    distinct: int = 1

    def __len__(self) -> int:
        return self.stop - self.start

    def epoch_at(self, position: int) -> int:
        """The user epoch (0-based) of the example at ``position`` of the piece.  A top-up belongs to the last epoch."""
        return self.phase.first_epoch + min((self.start + position) // self.phase.size, self.phase.epochs - 1)


@dataclass(frozen=True)
class Schedule:
    """The paper's schedule: τ epochs on everything, then cycles of T epochs on the kept share.

    Args:
        keep_fraction: share of the examples *kept*, in (0, 1] (the paper's 1 − ρ).  It is a number, a `LinearRamp`, a
            `CosineRamp`, a `Budget`, or a function of progress.  Progress is 0 in the first cycle, and 1 in the last or
            only one.
        warmup_epochs: τ ≥ 0, epochs on all examples before the first selection.
        cycle_epochs: T ≥ 1, epochs between two selections.  If fewer than T epochs are left, they are one last, shorter
            cycle, as in the authors' code.
        final_share: share of the epochs that are at the end and on all examples (InfoBatch's 1 − δ), in [0, 1).  These
            are the epochs after the first floor((1 − final_share) · E) of E.
        drops_warmup: whether the warm-up is left out where it would take more than two thirds of a `Budget`.  It is
            False with any other ``keep_fraction``.

    Raises:
        ValueError: an argument is out of range.  The message names it and the range.

    Example:
        >>> schedule = Schedule(keep_fraction=0.5, warmup_epochs=1, cycle_epochs=2)
        >>> [(phase.first_epoch, phase.epochs, phase.size) for phase in schedule.phases(100, epochs=4)]
        [(0, 1, 100), (1, 2, 50), (3, 1, 50)]
    """

    keep_fraction: KeepFraction
    warmup_epochs: int = 1
    cycle_epochs: int = 1
    final_share: float = 0.0
    drops_warmup: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "keep_fraction", check_keep_fraction(self.keep_fraction))
        # So a schedule that cannot differ has one form, and checkpoints compare equal.
        object.__setattr__(self, "drops_warmup", self.drops_warmup and isinstance(self.keep_fraction, Budget))
        for name, value, least in (
            ("warmup_epochs", self.warmup_epochs, 0),
            ("cycle_epochs", self.cycle_epochs, 1),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be a whole number >= {least}, got {value!r}")
        if not 0.0 <= self.final_share < 1.0:
            raise ValueError(
                f"final_share is the share of the epochs at the end on all examples and must be in [0, 1), got "
                f"{self.final_share!r}"
            )

    @property
    def keeps_all(self) -> bool:
        """True when every epoch of every run is on all examples."""
        return self.keep_fraction == 1.0

    def constant_size(self, n: int) -> int | None:
        """How many of ``n`` examples every cycle keeps, if that is known without the number of epochs."""
        return max(1, round(self.keep_fraction * n)) if isinstance(self.keep_fraction, float) else None

    def phases(self, n: int, epochs: int) -> list[Phase]:
        """The phases of a run of ``epochs`` user epochs over ``n`` examples, in order."""
        if n < 1:
            raise ValueError(f"the data set must hold at least one example, got {n}")
        if epochs < 1:
            raise ValueError(f"epochs must be >= 1, got {epochs!r}")
        warmup = min(self._warmup(epochs), epochs)
        stop = max(warmup, floor_of_share(1.0 - self.final_share, epochs))
        phases = [Phase(0, 0, warmup, n)] if warmup else []
        starts = range(warmup, stop, self.cycle_epochs)
        sizes = self._sizes(n, len(starts), epochs, warmup + epochs - stop)
        for index, (first, size) in enumerate(zip(starts, sizes, strict=True), start=1):
            phases.append(Phase(index, first, min(self.cycle_epochs, stop - first), max(1, size)))
        if stop < epochs:
            phases.append(Phase(len(starts) + 1, stop, epochs - stop, n, final=True))
        return phases

    def describe(self) -> dict[str, object]:
        """Plain values that are equal for two runs with the same schedule."""
        return {
            "keep_fraction": describe(self.keep_fraction),
            "warmup_epochs": self.warmup_epochs,
            "cycle_epochs": self.cycle_epochs,
            "final_share": self.final_share,
            **({"drops_warmup": True} if self.drops_warmup else {}),  # older states do not have it
        }

    def _warmup(self, epochs: int) -> int:
        keep, warmup = self.keep_fraction, self.warmup_epochs
        dropped = self.drops_warmup and isinstance(keep, Budget) and 3 * warmup > round(2 * keep.share * epochs, 9)
        return 0 if dropped else warmup

    def _sizes(self, n: int, cycles: int, epochs: int, full_epochs: int) -> list[int]:
        keep = self.keep_fraction
        if isinstance(keep, Budget):
            return [floor_of_share(keep.fraction(epochs, full_epochs), n)] * cycles
        if not callable(keep):
            return [round(keep * n)] * cycles
        progress = [c / (cycles - 1) if cycles > 1 else 1.0 for c in range(cycles)]
        return [round(check_fraction(keep(p), f"keep_fraction({p:.3g})") * n) for p in progress]


def budget(phases: Sequence[Phase]) -> int:
    """Training examples of a whole run: τN + Σ k_t."""
    return sum(phase.length for phase in phases)


def epochs_until(schedule: Schedule, n: int, examples: int, enough: Callable[[int], bool]) -> int:
    """The number of user epochs that ``enough`` accepts, at least that of `epochs_for`.

    Args:
        schedule: the run's schedule.
        n: examples in the data set.
        examples: how many examples the run must read.
        enough: tells whether a number of epochs makes as many steps as wanted.  It must be asked, because the last step
            of an epoch may be short.
    """
    epochs = epochs_for(schedule, n, examples)
    while not enough(epochs):
        epochs += -(-epochs // 8)
    return epochs


def epochs_for(schedule: Schedule, n: int, examples: int) -> int:
    """The smallest number of user epochs in which a run reads at least ``examples`` examples.

    Raises:
        ValueError: with that many epochs, the ones on all examples alone spend the `Budget`.
    """
    keep = schedule.keep_fraction
    most = keep.share * n if isinstance(keep, Budget) else n
    epochs = max(1, math.ceil(round(examples / most, 6)))
    while (missing := examples - budget(schedule.phases(n, epochs))) > 0:
        # With a constant share one epoch more reads at most n examples more.  A ramp is spread anew over the cycles,
        # and one epoch more may even read less.  So every number of epochs must be tried.
        epochs += -(-missing // n) if isinstance(keep, float) else 1
    return epochs


def epoch_pieces(phases: Sequence[Phase]) -> list[Piece]:
    """One piece per user epoch: nothing is topped up."""
    return [Piece(p, e * p.size, (e + 1) * p.size) for p in phases for e in range(p.epochs)]


def epoch_ends(pieces: Sequence[Piece]) -> Iterator[tuple[int, int]]:
    """The positions at which user epochs end in a run that is read piece by piece.

    Yields:
        ``(position, epoch)``: after ``position`` examples of the whole run the user epoch with the 0-based number
        ``epoch`` is complete.  The last epoch of a phase ends with the phase's last piece.
    """
    offset = 0
    for phase, stretch in groupby(pieces, key=lambda piece: piece.phase):
        length = sum(map(len, stretch))
        for e in range(phase.epochs - 1):
            yield offset + (e + 1) * phase.size, phase.first_epoch + e
        yield offset + length, phase.first_epoch + phase.epochs - 1
        offset += length
