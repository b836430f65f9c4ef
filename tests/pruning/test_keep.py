"""How much is kept: ramps, functions of progress, budgets, and the texts a checkpoint compares."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fastprune.pruning import Budget, CosineRamp, LinearRamp, Schedule
from fastprune.pruning.keep import describe, parse_keep_fraction
from fastprune.pruning.schedule import budget

shares = st.floats(0.01, 1.0)


def sizes(keep, n=1000, epochs=7, **options):
    """Examples of an epoch of each cycle."""
    return [p.size for p in Schedule(keep, **options).phases(n, epochs) if p.index and not p.final]


def test_a_linear_ramp_goes_in_equal_steps_from_the_first_cycle_to_the_last():
    assert sizes(LinearRamp(1.0, 0.5), epochs=7) == [1000, 900, 800, 700, 600, 500]
    assert sizes(LinearRamp(0.2, 0.4), epochs=4) == [200, 300, 400]


def test_a_cosine_ramp_starts_and_ends_flat():
    found = sizes(CosineRamp(1.0, 0.2), epochs=6)
    assert found == [round(1000 * (0.6 + 0.4 * math.cos(math.pi * c / 4))) for c in range(5)]
    assert found[0] == 1000 and found[2] == 600 and found[-1] == 200


@pytest.mark.parametrize("ramp", [LinearRamp(0.9, 0.3), CosineRamp(0.9, 0.3)])
def test_a_single_cycle_is_the_end_of_the_ramp(ramp):
    assert sizes(ramp, epochs=2) == [300]


def test_progress_runs_over_cycles_not_epochs():
    seen = []
    Schedule(lambda p: seen.append(p) or 0.5, warmup_epochs=2, cycle_epochs=3, final_share=0.25).phases(10, 16)
    # 12 epochs before the final ones, 10 of them in cycles of 3, 3, 3 and 1; before that the function was tried.
    assert seen[-4:] == [0.0, 1 / 3, 2 / 3, 1.0]


@given(shares, shares, st.integers(1, 300), st.integers(2, 20), st.sampled_from([LinearRamp, CosineRamp]))
def test_ramps_stay_between_their_ends(start, end, n, epochs, ramp):
    found = sizes(ramp(start, end), n, epochs)
    low, high = sorted((start, end))
    assert all(max(1, math.floor(low * n)) <= k <= math.ceil(high * n) for k in found)
    assert found == sorted(found, reverse=start > end)


# --- budgets ---------------------------------------------------------------------------------------


@given(
    shares,
    st.integers(1, 3000),
    st.integers(1, 25),
    st.integers(0, 3),
    st.integers(1, 4),
    st.sampled_from([0.0, 0.125, 0.3]),
)
def test_a_budget_is_never_exceeded_and_spent_but_for_rounding(share, n, epochs, warmup, cycle, final_share):
    schedule = Schedule(Budget(share), warmup, cycle, final_share)
    full = Schedule(0.5, warmup, cycle, final_share).phases(n, epochs)
    full_epochs = sum(p.epochs for p in full if p.index == 0 or p.final)
    cycles = epochs - full_epochs
    left = share * epochs - full_epochs
    assume(left == 0 or abs(left) > 1e-6)  # a billionth of an epoch is rounding, not a budget
    if left < 0 or (left == 0 and cycles):
        with pytest.raises(ValueError, match="raise it above"):
            schedule.phases(n, epochs)
        return
    allowed = share * epochs * n
    assume(cycles == 0 or allowed - full_epochs * n >= cycles)  # else a cycle keeps its one example regardless
    read = budget(schedule.phases(n, epochs))
    # A fraction within a millionth of an example below a whole one counts as that.
    assert allowed - cycles - 1e-6 * n < read <= allowed + 1e-6 * max(cycles, 1)


def test_a_budget_counts_the_warm_up_and_the_final_epochs():
    phases = Schedule(Budget(0.5), warmup_epochs=1, final_share=0.2).phases(100, 10)
    assert [(p.size, p.epochs) for p in phases] == [(100, 1)] + [(28, 1)] * 7 + [(100, 2)]
    assert budget(phases) == 100 + 7 * 28 + 200 <= 500


@pytest.mark.parametrize("epochs, warmup", [(1, 1), (2, 1), (4, 3)])
def test_a_budget_that_full_epochs_spend_says_how_much_is_needed(epochs, warmup):
    with pytest.raises(ValueError, match=f"spent by the {warmup} epochs .* above {warmup / epochs:.3g}"):
        Schedule(Budget(0.5), warmup_epochs=warmup).phases(100, epochs)


def test_a_budget_of_everything_keeps_everything():
    assert budget(Schedule(Budget(1.0), warmup_epochs=2).phases(7, 5)) == 35
    assert budget(Schedule(Budget(1.0), warmup_epochs=5).phases(7, 5)) == 35


# --- bad values ------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.0, -1.0, 1.5, float("nan"), None, "0.5", True, [0.5]])
def test_bad_numbers_are_named(value):
    with pytest.raises(ValueError, match="keep_fraction is the share"):
        Schedule(value)
    for make, name in ((LinearRamp, "start"), (CosineRamp, "start")):
        with pytest.raises(ValueError, match=name):
            make(value, 0.5)
        with pytest.raises(ValueError, match="end"):
            make(0.5, value)
    with pytest.raises(ValueError, match="share"):
        Budget(value)


@pytest.mark.parametrize(
    "function, where",
    [
        (lambda p: 1.0 - p, "keep_fraction\\(1\\)"),
        (lambda p: 2 * p + 0.1, "keep_fraction\\(0.5\\)"),
        (lambda p: None, "keep_fraction\\(0\\)"),
        (lambda p: 50, "keep_fraction\\(0\\)"),
    ],
)
def test_a_function_is_tried_before_the_run(function, where):
    with pytest.raises(ValueError, match=where):
        Schedule(function)


def test_a_function_that_fails_between_the_trials_is_named_where_it_does():
    schedule = Schedule(lambda p: 2.0 if p == 1 / 3 else 0.5)
    with pytest.raises(ValueError, match=r"keep_fraction\(0.333\)"):
        schedule.phases(100, 5)


def test_numpy_numbers_are_numbers():
    assert sizes(np.float32(0.5)) == sizes(0.5)
    assert sizes(lambda p: np.float32(0.25)) == sizes(0.25)


# --- texts -----------------------------------------------------------------------------------------

KEEPS = [
    0.5,
    0.25,
    1.0,
    LinearRamp(1.0, 0.5),
    LinearRamp(0.5, 1.0),
    CosineRamp(1.0, 0.5),
    Budget(0.5),
    lambda p: 1.0 - 0.5 * p**2,
    lambda p: 1.0 - 0.5 * p**3,
]


def test_different_schedules_have_different_descriptions():
    schedules = [Schedule(keep) for keep in KEEPS]
    schedules += [Schedule(0.5, 2), Schedule(0.5, 1, 2), Schedule(0.5, final_share=0.25)]
    assert len({str(s.describe()) for s in schedules}) == len(schedules)


@pytest.mark.parametrize(
    "one, other",
    [
        (1, 1.0),
        (0.5, np.float64(0.5)),
        (LinearRamp(1, 0.5), LinearRamp(1.0, np.float64(0.5))),
        (Budget(1), Budget(1.0)),
        (lambda p: 1.0 - p / 2, lambda progress: 1.0 - 0.5 * progress),
    ],
)
def test_equal_schedules_have_one_description(one, other):
    assert Schedule(one).describe() == Schedule(other).describe()
    assert "0x" not in str(describe(Schedule(one).keep_fraction)), "no address, which another process does not share"


@pytest.mark.parametrize(
    "text, keep",
    [
        ("0.5", 0.5),
        ("1", 1.0),
        ("linear:1.0:0.3", LinearRamp(1.0, 0.3)),
        ("cosine:0.2:1", CosineRamp(0.2, 1.0)),
        ("budget:0.6", Budget(0.6)),
    ],
)
def test_texts_of_the_command_line(text, keep):
    assert parse_keep_fraction(text) == keep


@pytest.mark.parametrize(
    "text", ["", "half", "linear:1", "linear:1:0.5:0.2", "cosine:a:b", "budget:", "budget:0.1:0.2", "0"]
)
def test_other_texts_are_refused(text):
    with pytest.raises(ValueError, match="keep_fraction"):
        parse_keep_fraction(text)


@pytest.mark.parametrize("text, name", [("linear:2:0.5", "start"), ("cosine:1:0", "end"), ("budget:1.5", "share")])
def test_texts_out_of_range_are_named(text, name):
    with pytest.raises(ValueError, match=name):
        parse_keep_fraction(text)


def test_a_budget_of_tokens_is_read_and_a_budget_of_examples_looks_as_before():
    assert parse_keep_fraction("budget:0.6:tokens") == Budget(0.6, of="tokens")
    assert describe(parse_keep_fraction("budget:0.6")) == "Budget(share=0.6)", "checkpoints hold this text"
    assert describe(Budget(0.6, of="tokens")) == "Budget(share=0.6, of='tokens')"
    for wrong in ("budget:0.6:words", "linear:0.6:tokens", "budget:tokens"):
        with pytest.raises(ValueError, match="budget:X or budget:X:tokens, got"):
            parse_keep_fraction(wrong)
