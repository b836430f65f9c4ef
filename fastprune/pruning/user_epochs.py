"""Translates positions in a run that is read in chunks into the user's epochs."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from fastprune.pruning.schedule import Piece, epoch_ends


class UserEpochs:
    """Translates "examples read so far" into the user's epochs.

    Args:
        pieces: what `chunk_pieces` or `epoch_pieces` returned.
    """

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self.starts = [0, *accumulate(map(len, pieces))]
        self._bounds = [0, *(position for position, _ in epoch_ends(pieces))]

    @property
    def aligned(self) -> bool:
        """True when every chunk is exactly one user epoch: there is nothing to translate."""
        return self._bounds == self.starts

    def end_of(self, epochs: int) -> int:
        """How many examples have been read when ``epochs`` user epochs are complete."""
        return self._bounds[epochs]

    def completed(self, position: int) -> int:
        """How many user epochs are complete after ``position`` examples."""
        return bisect_right(self._bounds, position) - 1

    def at(self, position: int) -> float:
        """The user epoch as a fractional number, like ``TrainerState.epoch``."""
        done = self.completed(position)
        if done == len(self._bounds) - 1:
            return float(done)
        start, end = self._bounds[done], self._bounds[done + 1]
        return done + (position - start) / (end - start)
