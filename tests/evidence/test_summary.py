"""The summary compares like with like, and leaves out what it cannot compare."""

from __future__ import annotations

from helpers.made_up_lines import line_of
from helpers.tiny_runs import tiny_run
from test_timemodel import calibration

from benchmarks.evidence.__main__ import main
from benchmarks.evidence.compare import tables
from benchmarks.evidence.results import append
from benchmarks.evidence.summary import regimes, summary

SEEDS = (0, 1)
FULL = [line_of(tiny_run("full", seed=seed), figure=0.8 + 0.02 * seed) for seed in SEEDS]
SHORT = [line_of(tiny_run("full", seed=seed, budget=0.5), figure=0.7, scale=0.5) for seed in SEEDS]
FREE = [line_of(tiny_run("el2n-free", seed=seed, budget=0.5), figure=0.81, scale=0.5) for seed in SEEDS]


def rows(lines, calibrations=None, figure="figure"):
    text = summary(lines, calibrations or {}, figure)
    return [[cell.strip() for cell in row.split("|")[1:-1]] for row in text.splitlines() if row.startswith("| ")][1:]


def test_a_row_says_how_far_a_way_is_ahead_of_each_baseline():
    free, short = rows([*FULL, *SHORT, *FREE])
    assert free[:2] == ["el2n-free", ""] and short[0] == "short full"
    assert free[2].startswith("+0.00 (-1.41 to +1.41)"), "the mean of +1 and -1, and the seeds that were drawn"
    assert free[3].startswith("+11.00")
    assert free[4:7] == ["+11.00", "", ""], "equal tokens; no time without a calibration, and no rs2"
    assert free[7:] == ["1.0", "1", "2", "atis +0.0"]
    assert short[3:6] == ["", "", ""] and short[7] == "2.0", "a way is not compared with itself"


def test_lengths_of_training_are_not_mixed():
    longer = [line_of(tiny_run("full", epochs=9, seed=seed), figure=0.1) for seed in SEEDS]
    assert [regime.epochs for regime in regimes([*longer, *FULL])] == [3, 9]
    assert rows([*longer, *FULL, *FREE]) == rows([*FULL, *FREE])


def on(kind, line, points):
    return {**line, "machine": {**line["machine"], "kind": kind}, "figure": line["figure"] + points / 100}


def test_seeds_of_several_machine_kinds_are_one_row():
    lines = [on("some-cpu" if line["arguments"]["seed"] else "other-cpu", line, 0) for line in [*FULL, *FREE]]
    assert rows(lines)[0][2:] == rows([*FULL, *FREE])[0][2:]
    free = rows(lines, {"some-cpu": calibration()})[0]
    assert free[1] == "100", "the time of the seeds whose machine is calibrated"


def test_a_seed_is_taken_from_the_machine_kind_that_has_most_of_it():
    """A run of another kind is not compared with the full run of this one."""
    once_more = [on("other-cpu", line, 50) for line in [FULL[0], FULL[1], FREE[1]]]
    lines = [*once_more, *FULL, *SHORT, *FREE]
    assert rows(lines) == rows(lines[::-1]) == rows([*FULL, *SHORT, *FREE])


def test_a_machine_kind_without_full_takes_no_seed_from_another():
    more = [on("other-cpu", line_of(tiny_run(m, seed=s, budget=0.5)), 0) for m in ("loss", "ccs", "rs2") for s in SEEDS]
    assert rows([*more, *FULL, *FREE]) == rows([*FULL, *FREE])


def test_a_way_without_full_is_left_out():
    assert rows([*SHORT, *FREE]) == []


def test_time_is_a_share_of_that_of_full():
    free, _ = rows([*FULL, *SHORT, *FREE], {"some-cpu": calibration()})
    assert free[1] == "100", "a step with scores takes twice as long there, and half as many were made"


def test_the_figure_of_the_validation_split_is_shown_alone(tmp_path, capsys):
    judged = [{**line, "validation": 0.4} for line in FULL] + [{**line, "validation": 0.5} for line in FREE]
    for line in judged:
        append(tmp_path / "some-cpu.jsonl", line)
    main(["leads", "--results", str(tmp_path), "--figure", "validation"])
    assert "atis +10.0" in capsys.readouterr().out
    assert rows([*FULL, *FREE], figure="validation") == []


def test_rules_that_were_tried_show_their_validation_alone():
    tried = [line_of(tiny_run("draw-by-score", seed=seed, budget=0.5), figure=0.9) for seed in SEEDS]
    assert rows([*FULL, *tried]) == []
    assert all(not row.pairs for table in tables([*FULL, *tried], {}) for row in table.rows)
    judged = [{**line, "validation": 0.5} for line in [*FULL, *tried]]
    assert [row[0] for row in rows(judged, figure="validation")] == ["draw-by-score"]
