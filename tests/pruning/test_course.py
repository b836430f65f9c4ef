"""The course of a metric: what began it, what it forgets, and that it is saved and the same on any number of ranks."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastprune.pruning import History, Latest
from fastprune.pruning.course import FIRST, RECENT, Course


def fed(n: int, values: torch.Tensor, batch: int = 32) -> Course:
    course = Course(n)
    for part in values.split(batch):
        course.update(part)
    return course


def test_it_has_fallen_by_what_the_mean_lost():
    values = torch.cat([torch.full((FIRST,), 0.8), torch.full((40 * RECENT,), 0.2)])
    assert fed(100_000, values, 512).fallen == pytest.approx(0.75)


def test_a_mean_that_stays_has_hardly_fallen():
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(9000, generator=generator)
    assert fed(9000, noise).fallen < 0.1


def test_hard_examples_afterwards_change_nothing():
    course = fed(4096, torch.cat([torch.full((512,), 0.8), torch.full((8000,), 0.2)]))
    before = course.fallen
    for _ in range(200):
        course.update(torch.full((32,), 0.7))
    assert course.fallen == before
    for _ in range(200):
        course.update(torch.full((32,), 0.1))
    assert course.fallen > before


def test_nothing_has_fallen_before_the_beginning_is_over():
    course = Course(4096)
    for _ in range((course.first + course.window) // 32):
        course.update(torch.full((32,), 0.5 if course.seen < course.first else 0.001))
        assert course.fallen == 0.0
    course.update(torch.full((32,), 0.001))
    assert course.fallen > 0.5


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
@pytest.mark.parametrize("at", [0, 300, 2000])
def test_a_step_that_is_not_finite_spoils_nothing(broken, at):
    values = torch.cat([torch.full((512,), 0.8), torch.full((8000,), 0.2)])
    spoiled = values.clone()
    spoiled[at] = broken
    found = fed(4096, spoiled).fallen
    assert found == pytest.approx(fed(4096, values).fallen, abs=0.02)


@pytest.mark.parametrize("steps", [1, 3])
def test_a_run_that_begins_with_broken_steps_begins_with_the_first_whole_one(steps):
    course = Course(100_000)
    for value in [float("nan")] * steps + [1.0] * 400:
        course.update(torch.full((32,), value))
    assert course.fallen == 0.0, "a constant has not fallen"
    for _ in range(400):
        course.update(torch.full((32,), 0.2))
    assert course.fallen > 0.7


def test_without_a_finite_score_nothing_has_fallen():
    assert fed(64, torch.full((200,), float("nan"))).fallen == 0.0


def test_the_beginning_counts_no_more_scores_of_a_large_step_than_it_has():
    course = Course(100_000)
    course.update(torch.full((FIRST - 12,), 0.8))
    course.update(torch.full((4096,), 0.2))
    for _ in range(20):
        course.update(torch.full((4096,), 0.2))
    assert course.fallen == pytest.approx(1 - 0.2 / (0.8 - 0.6 * 12 / FIRST))


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_a_mean_that_was_not_positive_does_not_fall(value):
    assert fed(64, torch.cat([torch.full((64,), value), torch.full((64,), -5.0)])).fallen == 0.0


@given(st.lists(st.floats(0, 2), min_size=1, max_size=300), st.integers(1, 64), st.integers(1, 2000))
def test_it_lies_between_0_and_1_and_is_saved(values, batch, n):
    found = torch.tensor(values)
    course = fed(n, found, batch)
    assert 0.0 <= course.fallen <= 1.0
    again = Course(n)
    again.load_state_dict(course.state_dict(), torch.device("cpu"))
    for one in (course, again):
        one.update(found)
    assert again.fallen == course.fallen and again.seen == course.seen


def test_the_scores_are_not_written_to_and_do_not_choose_the_device():
    values = torch.full((8,), 0.5)
    course = Course(8)
    with torch.device("meta"):
        course.update(values)
    assert torch.equal(values, torch.full((8,), 0.5)) and course.seen == 8


def test_a_history_follows_what_it_is_asked_to():
    history = History(64, {"el2n": Latest(), "loss": Latest()}, follows=("el2n",))
    for value in (0.8, 0.2, 0.2):
        history.update(torch.arange(64), {"el2n": torch.full((64,), value), "loss": torch.rand(64)}, epoch=0)
    assert list(history.courses) == ["el2n"] and history.courses["el2n"].fallen == pytest.approx(0.75)
    assert history.part(torch.arange(3)).courses["el2n"].fallen == pytest.approx(0.75), "a part knows the whole run's"
    again = History(64, {"el2n": Latest(), "loss": Latest()}, follows=("el2n",))
    again.load_state_dict(history.state_dict())
    assert again.courses["el2n"].fallen == history.courses["el2n"].fallen


def test_a_history_that_follows_nothing_has_the_state_that_it_always_had():
    history = History(4, {"el2n": Latest()})
    assert "courses" not in history.state_dict() and "follows" not in history.state_dict()
    with pytest.raises(ValueError, match="follows"):
        History(4, {"el2n": Latest()}, follows=("el2n",)).load_state_dict(history.state_dict())


def test_a_metric_without_a_statistic_is_refused():
    with pytest.raises(ValueError, match="follows names 'loss', which has no statistic"):
        History(4, {"el2n": Latest()}, follows=("loss",))


def test_small_is_hard_for_a_negated_metric():
    history = History(64, {"confidence": Latest()}, follows=("confidence",))
    for value in (0.2, 0.8, 0.8):
        history.update(torch.arange(64), {"confidence": torch.full((64,), value)}, epoch=0)
    assert history.courses["confidence"].fallen == 0.0, "its mean is below 0"
