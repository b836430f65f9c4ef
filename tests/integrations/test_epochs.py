"""Chunks read as the user's epochs: every end is found, and time goes on evenly."""

from __future__ import annotations

import pytest

from fastprune.integrations._epochs import UserEpochs
from fastprune.pruning import Schedule
from fastprune.pruning.schedule import chunk_pieces, epoch_ends


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


@pytest.mark.parametrize(
    ("n", "keep", "epochs", "step"), [(10_000, 0.3, 3, 32), (13_084, 0.5, 10, 32), (1000, 0.3, 3, 16)]
)
def test_chunks_suit_the_optimizer_step(n, keep, epochs, step):
    """Short last steps of chunks add at most 5 % to the number of steps, top-ups 2 %."""
    phases = Schedule(keep).phases(n, epochs)
    pieces = chunk_pieces(phases, step)
    steps = len(pieces) * -(-len(pieces[0]) // step)
    assert steps <= 1.05 * sum(phase.length for phase in phases) / step + 1
    assert sum(len(piece) for piece in pieces) <= 1.02 * sum(phase.length for phase in phases)
