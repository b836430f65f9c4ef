"""The goals are judged on the data sets that the way and both baselines have."""

from __future__ import annotations

import pytest
from helpers.made_up_lines import line_of
from helpers.tiny_runs import tiny_run

from benchmarks.evidence.goals import goals


def lines(data, method, points, seeds=(0, 1), **arguments):
    """Lines that are this many points over 80, and a little more or less on each seed."""
    little = len(method) / 1e5
    run = [tiny_run(method, data=data, seed=seed, **arguments) for seed in seeds]
    return [line_of(one, figure=0.8 + points / 100 + little * (2 * one.seed - 1)) for one in run]


def of_data(data, free, short, rs2, budget=0.5):
    return [
        *lines(data, "full", 0.0),
        *lines(data, "el2n-free", free, budget=budget),
        *lines(data, "full", short, budget=budget),
        *lines(data, "rs2", rs2, budget=budget),
    ]


def cells(lines):
    rows = [row for row in goals(lines).splitlines() if row.startswith("| ")][1:]
    return [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]


def test_a_way_that_meets_every_goal():
    (row,) = cells([*of_data("atis", 0.5, -1.0, -2.0), *of_data("trec", -0.5, -0.5, -1.5)])
    assert row[0] == "el2n-free" and row[1].startswith("+0.00")
    assert row[2] == "none" and row[3].startswith("+0.75") and row[4].startswith("+1.75")
    assert row[5] == "none" and row[6] == "+2.00 (atis)" and row[7] == "2"


def test_what_misses_a_goal_is_in_bold():
    (row,) = cells([*of_data("atis", -3.0, -1.0, -2.0), *of_data("trec", 0.0, 0.5, 0.5)])
    assert row[1].startswith("**-1.50") and row[2] == "**atis**"
    assert row[3].startswith("**-1.25") and row[4].startswith("**-0.75")
    assert row[5] == "**atis, trec**" and row[6] == "**-1.50 (atis)**"


def test_a_data_set_without_a_baseline_does_not_count():
    without = [line for line in of_data("trec", -9.0, 0.0, 0.0) if line["label"] != "rs2"]
    assert cells([*of_data("atis", 0.0, 0.0, 0.0), *without])[0][-1] == "1"
    assert goals(without) == ""


@pytest.mark.parametrize(("budget", "missed"), [(0.5, True), (0.3, False)])
def test_the_goal_over_full_follows_the_budget(budget, missed):
    (row,) = cells(of_data("atis", -0.6, -0.6, -0.6, budget=budget))
    assert row[1].startswith("**") is missed and row[6] == "none"


def test_one_seed_without_answers_is_not_sure_of_anything():
    found = [line for line in of_data("atis", -3.0, -1.0, -2.0) if line["arguments"]["seed"] == 0]
    (row,) = cells(found)
    assert row[2] == row[5] == "none" and "to" not in row[1]


def test_a_budget_without_goals_has_no_table():
    assert goals(of_data("atis", 0.0, 0.0, 0.0, budget=0.2)) == ""
