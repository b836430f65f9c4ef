"""Phases, budget and epochs."""

import itertools
import math
from fractions import Fraction

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fastprune.pruning import Budget, CosineRamp, LinearRamp
from fastprune.pruning.chunks import chunk_pieces
from fastprune.pruning.schedule import Schedule, budget, epoch_ends, epoch_pieces, epochs_for

shares = st.floats(0.01, 1.0)
functions = st.builds(lambda peak, low: lambda p: 1.0 if abs(p - peak) < 0.1 else low, st.floats(0, 1), shares)
keeps = st.one_of(shares, st.builds(LinearRamp, shares, shares), st.builds(CosineRamp, shares, shares), functions)
schedules = st.builds(
    Schedule,
    keep_fraction=keeps,
    warmup_epochs=st.integers(0, 4),
    cycle_epochs=st.integers(1, 5),
    final_share=st.sampled_from([0.0, 0.125, 0.29, 0.5, 0.99]),
)


def test_phases_follow_the_paper():
    phases = Schedule(0.5, warmup_epochs=2, cycle_epochs=3).phases(100, 10)
    assert [(p.index, p.first_epoch, p.epochs, p.size) for p in phases] == [
        (0, 0, 2, 100),
        (1, 2, 3, 50),
        (2, 5, 3, 50),
        (3, 8, 2, 50),  # the rest runs as one shorter cycle
    ]
    assert budget(phases) == 2 * 100 + 8 * 50


def test_without_warmup_the_first_phase_is_a_cycle():
    phases = Schedule(0.2, warmup_epochs=0, cycle_epochs=4).phases(10, 4)
    assert [(p.index, p.size, p.epochs) for p in phases] == [(1, 2, 4)]


def test_a_warmup_longer_than_the_run_is_the_run():
    phases = Schedule(0.2, warmup_epochs=9).phases(10, 4)
    assert [(p.index, p.size, p.epochs) for p in phases] == [(0, 10, 4)]


@given(schedules, st.integers(1, 5000), st.integers(1, 20))
def test_every_user_epoch_is_in_exactly_one_phase(schedule, n, epochs):
    covered = [e for p in schedule.phases(n, epochs) for e in range(p.first_epoch, p.first_epoch + p.epochs)]
    assert covered == list(range(epochs))


@given(schedules, st.integers(1, 5000), st.integers(1, 20))
def test_epoch_pieces_waste_nothing(schedule, n, epochs):
    phases = schedule.phases(n, epochs)
    pieces = epoch_pieces(phases)
    assert [piece.epoch_at(0) for piece in pieces] == list(range(epochs))
    assert sum(map(len, pieces)) == budget(phases)


@given(schedules, st.integers(1, 5000), st.integers(1, 40))
def test_the_final_epochs_are_on_everything_and_as_many_as_their_share(schedule, n, epochs):
    phases = schedule.phases(n, epochs)
    stop = max(min(schedule.warmup_epochs, epochs), int((1 - schedule.final_share) * epochs + 1e-6))
    assert [(p.first_epoch, p.epochs, p.size) for p in phases if p.final] == (
        [(stop, epochs - stop, n)] * (stop < epochs)
    )
    assert [p.index for p in phases] == list(range(phases[0].index, phases[0].index + len(phases)))
    assert phases[0].index == (0 if schedule.warmup_epochs else 1)


@settings(deadline=None)
@given(schedules, st.integers(1, 200), st.floats(0.001, 4.0))
def test_epochs_for_is_the_fewest(schedule, n, full_epochs):
    examples = max(1, int(full_epochs * n))
    fewest = next(e for e in itertools.count(1) if budget(schedule.phases(n, e)) >= examples)
    assert epochs_for(schedule, n, examples) == fewest


def test_one_epoch_more_may_read_less_under_a_ramp():
    schedule = Schedule(LinearRamp(0.1, 1.0), warmup_epochs=0, cycle_epochs=3)
    assert [budget(schedule.phases(10, e)) for e in (2, 3, 4, 5)] == [20, 30, 13, 23]
    # Halving the interval from 2 to 8 would find 5.
    assert epochs_for(schedule, 10, 21) == 3
    assert epochs_for(schedule, 10, 31) == 6


@settings(deadline=None)
@given(st.integers(1, 20), st.integers(1, 200), st.integers(1, 500), st.integers(0, 2))
def test_epochs_for_a_budget_is_the_fewest(twentieths, n, examples, warmup):
    share = Fraction(twentieths, 20)
    schedule = Schedule(Budget(float(share)), warmup)
    least = math.ceil(examples / (share * n))  # fewer epochs hold fewer examples, whatever the cycles keep
    full = min(warmup, least)
    if share * least < full or share * least == full < least:
        with pytest.raises(ValueError, match="is spent by"):
            epochs_for(schedule, n, examples)
        return
    found = epochs_for(schedule, n, examples)
    assume(min(p.size for p in schedule.phases(n, found)) > 1)  # one example is kept even where it is too many
    assert found == next(e for e in itertools.count(least) if budget(schedule.phases(n, e)) >= examples)


@given(schedules, st.integers(1, 5000), st.integers(1, 20))
def test_every_user_epoch_ends_once_and_in_order(schedule, n, epochs):
    for pieces in (epoch_pieces(schedule.phases(n, epochs)), chunk_pieces(schedule.phases(n, epochs))):
        ends = list(epoch_ends(pieces))
        assert [epoch for _, epoch in ends] == list(range(epochs))
        positions = [position for position, _ in ends]
        assert positions == sorted(set(positions))
        assert positions[-1] == sum(map(len, pieces))


@pytest.mark.parametrize("keep", [0.0, -0.1, 1.0001, 50, float("nan")])
def test_keep_fraction_out_of_range_is_named(keep):
    with pytest.raises(ValueError, match=r"keep_fraction .* in \(0, 1\]"):
        Schedule(keep)


@pytest.mark.parametrize(
    "field, value",
    [
        ("warmup_epochs", -1),
        ("warmup_epochs", 1.5),
        ("cycle_epochs", 0),
        ("cycle_epochs", True),
        ("final_share", 1.0),
        ("final_share", -0.1),
        ("final_share", float("nan")),
    ],
)
def test_bad_epochs_are_named(field, value):
    with pytest.raises(ValueError, match=field):
        Schedule(0.5, **{field: value})
