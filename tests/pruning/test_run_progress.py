"""Where a run is: positions, plans that do not fit, and cursors of several iterators."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastprune.pruning import DynamicPruner, Progress, Schedule
from fastprune.pruning.chunks import chunk_pieces
from fastprune.pruning.progress import Cursor
from fastprune.pruning.schedule import epoch_pieces

N = 40


def planned(epochs: int = 4, keep: float = 0.5) -> Progress:
    progress = Progress()
    progress.plan(epoch_pieces(Schedule(keep).phases(N, epochs)))
    progress.enter(0)
    return progress


@given(st.lists(st.integers(1, 15), max_size=12), st.integers(0, 3))
def test_positions_add_up(batches: list[int], number: int) -> None:
    progress = planned()
    progress.enter(number)
    length = len(progress.piece)
    for size in batches:
        before = progress.position
        progress.take_in(size)
        assert progress.position == min(before + size, length)
    assert progress.examples_seen == sum(map(len, progress.pieces[:number])) + progress.position
    assert progress.complete == (progress.position == length)
    assert progress.epochs_completed == number + progress.complete
    assert number <= progress.user_epoch <= number + 1


def test_what_is_handed_out_counts_only_where_training_says_nothing() -> None:
    progress = planned()
    cursor = Cursor(progress)
    assert cursor.begin() == 0
    cursor.hand_out(8)
    assert (progress.position, progress.observed_to) == (8, 0)
    progress.take_in(4)
    assert (progress.position, progress.observed_to, progress.handed_out) == (4, 4, 8)


def test_a_saved_position_goes_on_in_the_same_piece_alone() -> None:
    progress = planned()
    progress.enter(1)
    progress.take_in(6)
    state = progress.state_dict()
    same, shorter = planned(), planned(epochs=4, keep=0.25)
    same.load_state_dict(state)
    assert (same.piece_number, same.position, same.begins_at, same.observed_to) == (1, 6, 6, 6)
    assert same.state_dict() == state
    with pytest.raises(ValueError, match="in phase 1, which keeps 20 examples.* phase 1 with 10"):
        shorter.check_state(state)


def test_another_plan_is_refused_where_the_run_would_be_elsewhere() -> None:
    progress = planned()
    progress.enter(2)
    progress.plan(epoch_pieces(Schedule(0.5).phases(N, 6)))  # longer, and the same so far
    with pytest.raises(ValueError, match="go on with the number of epochs"):
        progress.plan(chunk_pieces(Schedule(0.5).phases(N, 4), 8))


def test_the_newest_of_several_iterators_is_the_one_that_counts() -> None:
    progress = planned()
    old, new = Cursor(progress), Cursor(progress)
    old.begin()
    old.hand_out(20)
    new.begin()
    new.hand_out(3)
    assert progress.handed_out == 3 and old.state_dict() == {"piece": 0, "position": 20}


def test_a_cursor_goes_on_only_in_the_piece_it_was_saved_in() -> None:
    progress = planned()
    progress.enter(1)
    cursor = Cursor(progress)
    cursor.load_state_dict({"piece": 1, "position": 5})
    assert cursor.begin() == 5
    cursor = Cursor(progress)
    cursor.load_state_dict({"piece": 0, "position": 5})
    assert cursor.begin() == 0


def test_a_pruner_says_what_it_is_and_where_it_stands() -> None:
    pruner = DynamicPruner(N, keep_fraction=0.5, method="random")
    assert repr(pruner) == (
        "DynamicPruner(n=40, method='random', keep_fraction=0.5; no epochs planned yet, 40 examples kept)"
    )
    for epoch in pruner.epochs(3):
        list(pruner.sampler)
        if epoch == 1:
            break
    assert repr(pruner) == (
        "DynamicPruner(n=40, method='random', keep_fraction=0.5; epoch 3 of 3, cycle 1, 60 of 80 examples seen, "
        "20 examples kept)"
    )
