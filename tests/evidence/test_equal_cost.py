"""A way is compared with a shorter full run of the same cost, and with none where no cost is near."""

from __future__ import annotations

import pytest
from helpers.made_up_lines import line_of
from helpers.tiny_runs import tiny_run
from test_timemodel import calibration

from benchmarks.evidence.equal_cost import leads_at_equal_cost
from benchmarks.evidence.paired import Way

FULL = line_of(tiny_run("full"), figure=0.8)
SHORT = [line_of(tiny_run("full", budget=share), figure=0.8 - (1 - share), scale=share) for share in (0.5, 0.3)]
WAY = Way("el2n-free", 0.5)


def free(scale, figure=0.7, seed=0):
    return line_of(tiny_run("el2n-free", budget=0.5, seed=seed), figure=figure, scale=scale)


@pytest.mark.parametrize(
    ("scale", "points"),
    [
        (0.5, 70 - 30.0),  # as long as the run of 0.5
        (0.4, 70 - 20.0),  # half way between both
        (0.75, 70 - 55.0),  # half way between 0.5 and full
        (0.28, 70 - 10.0),  # just below the shortest
    ],
)
def test_a_short_run_of_the_same_tokens_lies_on_the_line_between_its_neighbours(scale, points):
    found = leads_at_equal_cost([FULL, *SHORT, free(scale)], WAY, {}, "padded")
    assert found == {"atis": pytest.approx(points, abs=0.2)}


def test_far_from_every_short_run_nothing_is_said():
    assert leads_at_equal_cost([FULL, *SHORT, free(0.2)], WAY, {}, "padded") == {}
    assert leads_at_equal_cost([FULL, free(0.5)], WAY, {}, "padded") == {}, "full alone is no line"


def test_equal_time_needs_a_calibration_and_counts_what_scores_cost():
    lines = [FULL, *SHORT, free(0.3)]
    assert leads_at_equal_cost(lines, WAY, {}, "seconds") == {}
    # A step with scores takes twice as long there, so it is as long as a short run of 0.6.
    found = leads_at_equal_cost(lines, WAY, {"some-cpu": calibration()}, "seconds")
    assert found == {"atis": pytest.approx(70 - 40.0, abs=0.3)}


def test_seeds_are_compared_with_their_own_runs():
    other = [
        line_of(tiny_run("full", seed=1), figure=0.6),
        line_of(tiny_run("full", budget=0.5, seed=1), figure=0.5, scale=0.5),
        free(0.5, 0.5, seed=1),
        free(0.5, 0.9, seed=2),
    ]
    found = leads_at_equal_cost([FULL, *SHORT, free(0.5), *other], WAY, {}, "padded")
    assert found == {"atis": pytest.approx((40 + 0) / 2)}, "seed 2 has no full run"
