"""Chunks read as the user's epochs: every end is found, and time goes on evenly."""

from __future__ import annotations

import pytest

from fastprune.pruning import Schedule
from fastprune.pruning.chunks import chunk_pieces
from fastprune.pruning.schedule import epoch_ends
from fastprune.pruning.user_epochs import UserEpochs


@pytest.mark.parametrize("keep", [0.1, 0.3, 0.5, 0.77])
@pytest.mark.parametrize("cycle", [1, 2, 3])
def test_positions_become_epochs(keep, cycle):
    pieces = chunk_pieces(Schedule(keep, 1, cycle).phases(1000, 6), 16)
    epochs = UserEpochs(pieces)
    total = sum(len(piece) for piece in pieces)
    times = [epochs.at(position) for position in range(total + 1)]
    assert times[0] == 0.0 and times[-1] == 6.0
    assert all(a < b for a, b in zip(times, times[1:], strict=False))
    for position, epoch in epoch_ends(pieces):
        assert times[position] == epoch + 1
        assert epochs.completed(position) == epoch + 1 and epochs.completed(position - 1) == epoch
    assert not epochs.aligned


def test_keeping_everything_leaves_nothing_to_translate():
    assert UserEpochs(chunk_pieces(Schedule(1.0).phases(50, 3), 8)).aligned
