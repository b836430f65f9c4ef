"""The picture of points lost against time saved compares the same data sets, and needs a calibration."""

from __future__ import annotations

import pytest
from helpers.made_up_lines import line_of
from helpers.tiny_runs import tiny_run
from test_timemodel import calibration

from benchmarks.evidence.frontier import draw_frontier, points_of

SEEDS = (0, 1)
CALIBRATIONS = {"some-cpu": calibration()}


def of(method, figure, scale=1.0, **arguments):
    return [line_of(tiny_run(method, seed=seed, **arguments), figure=figure, scale=scale) for seed in SEEDS]


def test_a_way_has_a_point_for_each_budget():
    lines = [*of("full", 0.8), *of("rs2", 0.79, 0.5, budget=0.5), *of("rs2", 0.7, 0.25, budget=0.25)]
    ((title, ways),) = points_of(lines, CALIBRATIONS).items()
    assert "3 epochs" in title and list(ways) == ["rs2"]
    (saved, lead, low, high), (more, less, *_) = ways["rs2"]
    assert (lead, less) == (pytest.approx(-1.0), pytest.approx(-10.0))
    assert low <= lead <= high and 40 < saved < more
    assert draw_frontier({title: ways}).axes[0].get_title() == title


def test_there_is_no_time_without_a_calibration():
    assert points_of([*of("full", 0.8), *of("rs2", 0.79, 0.5, budget=0.5)], {}) == {}


def test_rules_that_were_tried_are_not_drawn():
    lines = [*of("full", 0.8), *of("draw-by-score", 0.9, 0.5, budget=0.5)]
    assert points_of(lines, CALIBRATIONS) == {}


def test_one_seed_without_answers_can_be_drawn():
    lines = [
        line_of(tiny_run(method, data=data, **more), figure=figure, scale=scale)
        for data, figure in (("atis", 0.791), ("snips", 0.803), ("commands", 0.617))
        for method, more, scale in (("full", {}, 1.0), ("rs2", {"budget": 0.5}, 0.5))
    ]
    calibrated = calibration()
    curve = next(iter(calibrated["curves"].values()))
    calibrated["curves"] = {f"{data}, layers 0-1, batch 16": curve for data in ("atis", "snips", "commands")}
    points = points_of(lines, {"some-cpu": calibrated})
    (ways,) = points.values()
    ((_, lead, low, high),) = ways["rs2"]
    assert lead == pytest.approx(0.0) and low == pytest.approx(high), "one seed has no spread"
    assert len(draw_frontier(points).axes) == 1
