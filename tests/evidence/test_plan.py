"""The plan file says each run once, the most useful first, at the budgets that it names."""

from __future__ import annotations

import pytest
from helpers.made_up_lines import line_of

from benchmarks.evidence.overview import overview
from benchmarks.evidence.plan import read_plan
from benchmarks.evidence.spec import Run, examples_of, run_of

SMALL = """
held_back = ["loss"]
[data.atis]
train = 81
examples_per_second = 100
lr = 1e-3
smoothing = "ema"
[data.trec]
train = 50
examples_per_second = 100
[[block]]
name = "second"
data = ["atis"]
epochs = 5
seeds = [0, 1]
priority = 2
runs = [{ method = "full" }, { method = "loss", budgets = [0.5] }]
[[block]]
name = "first"
data = ["atis", "trec"]
epochs = 5
seeds = [0]
priority = 1
runs = [{ method = "full" }, { method = "el2n-free", budgets = [0.5, 0.3], priority = 3 }]
"""


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text(SMALL)
    return read_plan(path)


def names(planned) -> list[tuple[str, float | None, int]]:
    return [(p.run.method, p.run.budget, p.run.seed) for p in planned]


def test_one_seed_of_everything_comes_before_a_second_seed(small):
    assert names(small.runs) == [
        ("full", None, 0),
        ("loss", 0.5, 0),
        ("el2n-free", 0.5, 0),
        ("el2n-free", 0.3, 0),
        ("full", None, 1),
        ("loss", 0.5, 1),
    ]


def test_methods_that_are_held_back_do_not_run(small):
    assert {p.run.method for p in small.allowed()} == {"full", "el2n-free"}


def test_data_without_a_learning_rate_waits(small):
    assert small.waiting == [("first", "trec")]
    assert {p.run.data for p in small.runs} == {"atis"}


def test_defaults_of_the_data_set_reach_the_run_where_they_matter(small):
    smoothing = {p.run.method: p.run.smoothing for p in small.runs}
    assert smoothing == {"full": "latest", "loss": "ema", "el2n-free": "ema"}


def test_the_overview_counts_what_is_done(small):
    lines = [line_of(p.run) for p in small.runs if p.run.method == "full"]
    row = next(row for row in overview(small, lines).splitlines() if row.startswith("second"))
    assert row.split()[1:3] == ["4", "2"]
    assert "2 of these runs are held back" in overview(small, lines)


def test_core_hours_follow_the_lines_once_there_are_some(small):
    run = small.runs[0].run  # full: 5 epochs of 81 examples, guessed at 100 a second
    assert small.core_seconds(run) == pytest.approx(4.05)
    lines = [line_of(run), line_of(run, scale=2.0)]  # 160 examples a CPU second, with two of three layers
    lines = [{**line, "arguments": {**line["arguments"], "layers": [0, 1]}} for line in lines]
    rate = 160 * 2 / 3
    assert small.measured(lines).core_seconds(run) == pytest.approx(405 / rate)
    assert small.measured([]).core_seconds(run) == pytest.approx(4.05)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("epocs = 5", "a block has no 'epocs'"),
        ('runs = [{ method = "full", keep_fraction = 0.5 }]', "a run has no 'keep_fraction'"),
        ('runs = [{ method = "fool" }]', "'fool' is unknown"),
        ('runs = [{ method = "el2n", budgets = [1.5] }]', "budget is a share"),
        ('runs = [{ method = "el2n", budgets = [0.5], keeps = ["0.5"] }]', "not both"),
    ],
)
def test_a_mistake_in_the_plan_is_named(wrong, message, tmp_path):
    path = tmp_path / "plan.toml"
    name = wrong.partition(" ")[0]
    lines = SMALL.splitlines()
    last = len(lines) - 1 - next(i for i, line in enumerate(reversed(lines)) if line == "[[block]]")
    kept = [line for line in lines[last:] if not line.startswith(name + " ")]
    path.write_text("\n".join([*lines[:last], *kept, wrong]))
    with pytest.raises(ValueError, match=message) as caught:
        read_plan(path)
    assert "block 'first'" in str(caught.value)


def test_the_committed_plan_can_be_read_and_its_budgets_are_kept():
    plan = read_plan()
    keys = [p.run.key for p in plan.runs]
    assert len(set(keys)) == len(keys)
    for planned in plan.runs:
        run = planned.run
        assert run_of(run.arguments) == run
        if run.budget is not None:
            wanted = run.budget * run.epochs
            found = examples_of(run, 10_000) / 10_000
            assert found == pytest.approx(wanted, rel=0.01), run


def test_schedules_that_are_compared_read_equally_much():
    for share, block in ((0.5, "c: schedules at 0.5"), (0.3, "c: schedules at 0.3")):
        keeps = _keeps_of(block)
        assert keeps
        for keep in keeps:
            run = Run("atis", "el2n-free", 10, 1e-3, keep=keep)
            assert examples_of(run, 10_000) / 100_000 == pytest.approx(share, rel=0.005), keep


def _keeps_of(name: str) -> list[str]:
    import tomllib

    from benchmarks.evidence.plan import PLAN

    block = next(b for b in tomllib.loads(PLAN.read_text())["block"] if b["name"] == name)
    return [keep for entry in block["runs"] for keep in entry.get("keeps", ())]


def test_a_new_argument_with_its_default_keeps_old_keys():
    # The keys of committed lines: a changed key would make every result unfinished.
    assert Run("atis", "full", 5, 1e-3).key == Run("atis", "full", 5, 1e-3, noise=0.0, split="test").key
    assert Run("atis", "full", 3, 3e-4, split="validation").key == "9b85cd27953a7055"


def test_runs_are_one_group_if_only_the_pruning_differs():
    full = Run("atis", "full", 5, 1e-3)
    pruned = Run("atis", "el2n", 5, 1e-3, budget=0.5, cycle_epochs=2, smoothing="ema", settings={"offset": 0.02})
    assert full.group == pruned.group != full.key
    assert Run("atis", "full", 10, 1e-3).group != full.group
    assert Run("atis", "full", 5, 1e-3, seed=1).group != full.group
