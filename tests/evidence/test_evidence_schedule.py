"""Which run comes next, and when another worker is worth it."""

from __future__ import annotations

from helpers.made_up_lines import line_of
from helpers.tiny_runs import tiny_run

from benchmarks.evidence.plan import Planned
from benchmarks.evidence.schedule import Growth, choose, unfinished

FULL, FREE, FULL_1, FREE_1 = (
    tiny_run(method, seed=seed, budget=budget)
    for seed in (0, 1)
    for method, budget in (("full", None), ("el2n-free", 0.5))
)
PLANNED = [Planned(run, "b", 1.0, i, run.seed) for i, run in enumerate((FULL, FREE, FULL_1, FREE_1))]


def keys(planned) -> list[str]:
    return [p.run.key for p in planned]


def test_what_has_a_line_is_done():
    assert keys(unfinished(PLANNED, [line_of(FULL)])) == keys(PLANNED[1:])


def test_a_group_that_another_machine_kind_began_comes_last():
    others = [line_of(FULL, kind="gpu")]
    assert keys(unfinished(PLANNED, [], others)) == keys([*PLANNED[2:], *PLANNED[:2]])


def test_a_group_that_both_began_is_gone_on_with():
    others = [line_of(FULL, kind="gpu")]
    assert keys(unfinished(PLANNED, [line_of(FULL)], others)) == keys(PLANNED[1:])


def test_runs_that_do_not_fit_before_the_deadline_are_passed_over():
    seconds = {FULL.key: 100.0, FREE.key: 40.0}
    assert choose(PLANNED[:2], seconds, 50.0) == PLANNED[1]
    assert choose(PLANNED[:2], seconds, 10.0) is None
    assert choose(PLANNED[:2], {}, 10.0) == PLANNED[0]
    assert choose([], seconds, 50.0) is None


def test_workers_are_added_while_the_rate_grows_by_a_tenth():
    growth = Growth(16)
    assert [growth.measured(rate) for rate in (100.0, 180.0, 230.0, 260.0, 280.0, 900.0)] == [2, 3, 4, 6, 6, 6]


def test_no_more_workers_than_allowed():
    growth = Growth(2)
    assert [growth.measured(rate) for rate in (100.0, 200.0, 400.0)] == [2, 2, 2]
    assert Growth(1).measured(100.0) == 1
