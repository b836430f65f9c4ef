"""Where a run is.  Only `Progress` counts, and all other objects ask it.

A run reads the stream of its examples in pieces (`fastprune.pruning.schedule`).  Within a piece two numbers differ:

* ``handed_out`` counts what the sampler has given to the loader.  Loaders read ahead of training.
* ``trained`` counts what training has taken in.  It is None in a loop that does not report its steps.

Every position counts examples on all ranks together.  Frameworks count in steps or batches of their own.  An adapter
translates those into a piece number and a position, in one function.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fastprune.pruning.schedule import Piece
from fastprune.pruning.user_epochs import UserEpochs


@dataclass(frozen=True)
class Place:
    """Where a piece lies in its run.

    A run can resume under another plan if its current piece has the same place in both.

    Attributes:
        phase: the index of its phase.
        first_epoch: the user epoch with which the phase begins.
        kept: examples in one epoch of the phase.
        start: where the piece begins in the stream of the phase.
        length: examples in the piece.
        before: examples in all pieces before it.
    """

    phase: int
    first_epoch: int
    kept: int
    start: int
    length: int
    before: int

    @classmethod
    def of(cls, piece: Piece, before: int) -> Place:
        """The place of a piece with ``before`` examples in the pieces before it."""
        phase = piece.phase
        return cls(phase.index, phase.first_epoch, phase.size, piece.start, len(piece), before)


class Progress:
    """All positions of one run.

    Attributes:
        pieces: the plan.  It is () before there is one.
        epochs: where the user's epochs end in the plan.
        piece_number: the number of the current piece.
        begins_at: the position at which reading the piece begins, above 0 after a resume.  If a loop does not report
            its steps, it is the length of the piece once that has ended.
        handed_out: examples of the piece that the sampler has given out.
        trained: examples of the piece that training has taken in.  None if the loop does not report its steps.
        exchanged: the position up to which the history holds the scores of all ranks.
        chosen_for: index of the phase for which the current kept set was chosen.
        scored_for: index of the phase for which the newest scoring pass was made.  None before the first.
        epochs_closed: user epochs whose end the framework's callbacks have seen.  The last one may have been cut short.
        place: the place that the current piece had when it was entered.  None before that.

    Example:
        >>> from fastprune import DynamicPruner
        >>> pruner = DynamicPruner(100, keep_fraction=0.5, method="random")
        >>> for epoch in pruner.epochs(2):
        ...     indices = list(pruner.sampler)
        >>> progress: Progress = pruner.progress
        >>> progress.examples_seen, progress.describe()
        (150, 'epoch 2 of 2, cycle 1, 150 of 150 examples seen')
    """

    def __init__(self) -> None:
        self.pieces: Sequence[Piece] = ()
        self.epochs = UserEpochs(())
        self.restart()

    def restart(self) -> None:
        """Go back to the start, before any step.  The plan stays."""
        self.piece_number = 0
        self.trained: int | None = None
        self.begin_at(0)
        self.exchanged = 0
        self.chosen_for = 0
        self.scored_for: int | None = None
        self.epochs_closed = 0
        self.place: Place | None = None

    def plan(self, pieces: Sequence[Piece]) -> None:
        """Read the stream in these pieces from now on.

        Raises:
            ValueError: the current piece would not be the same in the new plan.
        """
        self.check_plan(self.place, pieces, self.piece_number)
        self.pieces = pieces
        self.epochs = UserEpochs(pieces)

    @property
    def piece(self) -> Piece:
        """The current piece.

        Raises:
            RuntimeError: there is no plan yet.
        """
        if not self.pieces:
            raise RuntimeError(
                "the sampler has no plan yet: iterate the loader inside `for epoch in pruner.epochs(E)`, "
                "or attach the pruner to a trainer"
            )
        return self.pieces[self.piece_number]

    # --- positions -----------------------------------------------------------------------------

    @property
    def position(self) -> int:
        """Examples of the piece that training has taken in.  A loop that reports no step counts those handed out."""
        return self.handed_out if self.trained is None else self.trained

    @property
    def observed_to(self) -> int:
        """The position that the next observed scores belong to.

        Examples that were handed out and not observed do not count.
        """
        return self.begins_at if self.trained is None else self.trained

    @property
    def examples_before(self) -> int:
        """Examples in all pieces before the current one.  It is 0 before the first piece is entered."""
        return 0 if self.place is None else self.place.before

    @property
    def examples_seen(self) -> int:
        """Training examples of the run so far."""
        return self.examples_before + self.position

    @property
    def complete(self) -> bool:
        """Whether the piece has been read to its end."""
        return 0 < len(self.piece) <= self.position

    @property
    def next_number(self) -> int:
        """The piece to enter next: the current one until it has been read to its end, then the following one."""
        return self.piece_number + self.complete

    @property
    def in_last_piece(self) -> bool:
        """Whether no piece follows the current one."""
        return self.piece_number + 1 >= len(self.pieces)

    @property
    def begins_phase(self) -> bool:
        """Whether the next example is the first of a phase after the warm-up."""
        return self.piece.phase.index > 0 and self.piece.start == 0 and self.position == 0

    @property
    def epochs_completed(self) -> int:
        """User epochs that are complete at the current position."""
        return self.epochs.completed(self.epochs.starts[self.piece_number] + self.position)

    @property
    def user_epoch(self) -> float:
        """The user epoch as a fractional number: 1.5 is the middle of the second."""
        return self.epochs.at(self.epochs.starts[self.piece_number] + self.position)

    @property
    def planned_epochs(self) -> int:
        """How many user epochs the plan holds."""
        last = self.pieces[-1].phase
        return last.first_epoch + last.epochs

    def describe(self) -> str:
        """The position in words, for people."""
        if not self.pieces:
            return "no epochs planned yet"
        phase, epochs = self.piece.phase, self.planned_epochs
        stretch = "warm-up" if phase.index == 0 else "final epochs" if phase.final else f"cycle {phase.index}"
        return (
            f"epoch {min(int(self.user_epoch), epochs - 1) + 1} of {epochs}, {stretch}, "
            f"{self.examples_seen} of {self.epochs.starts[-1]} examples seen"
        )

    # --- moves ---------------------------------------------------------------------------------

    def begin_at(self, position: int) -> None:
        """Begin reading the current piece after its first ``position`` examples."""
        self.begins_at = self.handed_out = position

    def enter(self, number: int) -> None:
        """Begin piece ``number``.  Nothing changes if it is the current one."""
        if number != self.piece_number:
            self.move_to(number, None if self.trained is None else 0)
        self.exchanged = self.observed_to
        self.place = Place.of(self.pieces[number], self.epochs.starts[number])

    def move_to(self, number: int, trained: int | None) -> None:
        """Move to piece ``number``, of which ``trained`` examples were trained on.

        The loader reads the piece from its start.
        """
        self.piece_number, self.trained = number, trained
        self.begin_at(0)

    def count_steps(self) -> None:
        """From now on the loop reports its steps.  Examples that a loader has read ahead do not count."""
        self.trained = self.position

    def take_in(self, examples: int) -> None:
        """Count ``examples`` that training has taken in.  Those that only fill up a batch do not count."""
        before = self.observed_to
        self.trained = min(before + examples, max(len(self.piece), before))

    def leave(self) -> None:
        """End the piece.  It counts as read to its end, even if ``drop_last`` has left out its last examples."""
        if self.trained is None:
            self.begin_at(len(self.piece))
        else:
            self.trained = len(self.piece)

    def close_epoch(self) -> None:
        """Note that a framework's callbacks have seen the end of a user epoch."""
        self.epochs_closed += 1

    # --- state ---------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """What a run needs in order to go on from here, in plain values."""
        return {
            "piece_number": self.piece_number,
            "position": self.position,
            "counts_steps": self.trained is not None,
            "chosen_for": self.chosen_for,
            "scored_for": self.scored_for,
            "place": None if self.place is None else asdict(self.place),
        }

    def check_state(self, state: Mapping[str, Any]) -> None:
        """Refuse the state of a run whose pieces were planned differently.

        Raises:
            ValueError: the state's piece is not the same in the present plan.
        """
        place = None if state["place"] is None else Place(**state["place"])
        self.check_plan(place, self.pieces, state["piece_number"])

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state_dict()``.  Reading the piece begins at its position."""
        self.piece_number = int(state["piece_number"])
        self.begin_at(int(state["position"]))
        self.trained = self.begins_at if state["counts_steps"] else None
        self.exchanged = self.begins_at
        self.chosen_for = int(state["chosen_for"])
        self.scored_for = state["scored_for"]
        self.place = None if state["place"] is None else Place(**state["place"])

    @staticmethod
    def check_plan(place: Place | None, pieces: Sequence[Piece], number: int) -> None:
        """Refuse a plan in which piece ``number`` does not lie at ``place``.

        Raises:
            ValueError: it lies elsewhere.  The message says where.
        """
        if place is None or number >= len(pieces):
            return
        planned = Place.of(pieces[number], sum(map(len, pieces[:number])))
        if place != planned:
            raise ValueError(
                f"the run is in phase {place.phase}, which keeps {place.kept} examples, {place.before} examples from "
                f"its start; this plan would put it in phase {planned.phase} with {planned.kept}, "
                f"{planned.before} from its start: go on with the number of epochs (and steps) that it was started with"
            )


class Cursor:
    """The place of one iterator over a piece.  The sampler has handed out what its newest iterator has given out.

    Loaders make iterators before they read them.  An iterator therefore begins when the first index is asked for.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._saved: Mapping[str, int] = {}
        self._place: tuple[int, int] | None = None
        self._length = 0

    def begin(self) -> int:
        """Take up the place, and return the position in the current piece."""
        self._place = self._beginning()
        self._length = len(self._progress.piece)
        return self._place[1]

    def hand_out(self, examples: int) -> None:
        """Count ``examples`` that the iterator gives out, on all ranks together."""
        assert self._place is not None
        number, position = self._place
        position = min(position + examples, self._length)
        self._place, self._progress.handed_out = (number, position), position

    def state_dict(self) -> dict[str, int]:
        """What the StatefulDataLoader of torchdata keeps of an iterator."""
        piece, position = self._place or self._beginning()
        return {"piece": piece, "position": position}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Begin at the saved place if its piece is still the current one.  Otherwise the pruner's position counts."""
        self._saved = dict(state)

    def _beginning(self) -> tuple[int, int]:
        number = self._progress.piece_number
        same = self._saved.get("piece") == number
        return number, self._saved["position"] if same else self._progress.begins_at
