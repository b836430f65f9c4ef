"""A run's computed time follows from its counts and the machine's calibration, and from no other machine's."""

from __future__ import annotations

import pytest
import torch
from helpers.made_up_lines import line_of
from helpers.tiny_runs import tiny_run

from benchmarks.evidence.calibrate import Case, Firsts, batch_of_width, cases_of, curves_from, one_round, widths_of
from benchmarks.evidence.timemodel import compared, run_seconds, seconds_of, setting, slower, through_drift
from benchmarks.evidence.work import Place, Work


def calibration(kind: str = "some-cpu", threads: int = 1) -> dict:
    curve = {"8": 1e-3, "16": 0.75e-3}
    kinds = {"step": curve, "step_scored": {"8": 2e-3, "16": 1.5e-3}, "score": curve, "forward": curve}
    arguments = tiny_run("full").arguments
    machine = {"kind": kind, "threads": threads, "precision": "fp32"}
    return {"machine": machine, "curves": {setting(arguments): kinds}, "date": "2026-11-26", "confirmed": []}


def test_seconds_are_those_of_the_batches():
    curve = {"8": 1e-3, "16": 0.75e-3}  # 8 and 12 ms an example
    assert seconds_of(curve, {"8": [1, 10]}) == pytest.approx(0.08)
    assert seconds_of(curve, {"8": [1, 10], "16": [2, 20]}) == pytest.approx(0.08 + 0.24)
    assert seconds_of(curve, {"12": [1, 10]}) == pytest.approx(0.1), "half way between the two"
    assert seconds_of(curve, {}) == 0.0


def test_a_run_that_records_scores_has_its_own_curve():
    full, free = line_of(tiny_run("full")), line_of(tiny_run("el2n-free", budget=0.5))
    seconds = 320 * 8 * 1e-3 + 160 * 16 * 0.75e-3
    assert run_seconds(calibration(), full) == {"train": pytest.approx(seconds), "score": 0.0, "select": 0.1}
    assert run_seconds(calibration(), free)["train"] == pytest.approx(2 * seconds)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (calibration(kind="another"), "the calibration is of kind 'another'"),
        (calibration(threads=2), "the calibration is of threads 2"),
        ({**calibration(), "curves": {}}, "there is no calibration for atis"),
    ],
)
def test_a_calibration_of_something_else_is_refused(other, message):
    with pytest.raises(ValueError, match=message):
        run_seconds(other, line_of(tiny_run("full")))


def test_widths_and_batches_come_from_the_data(prepared):
    tokens = prepared.splits["train"]
    widths = widths_of(tokens)
    assert widths[0] == int(tokens.lengths.min()) and widths[-1] == int(tokens.lengths.max())
    for width in widths:
        index = batch_of_width(tokens, width, 200)
        assert len(index) == 200
        assert tokens.batch(index)["input_ids"].shape == (200, width)


@pytest.mark.usefixtures("own_random_state")
def test_every_kind_of_batch_is_timed_at_every_width(data_folder, tiny_model, tmp_path):
    threads = torch.get_num_threads()
    work = Work(Place("cpu", threads, data_folder, tmp_path, tiny_model))
    calls: list[int] = []

    def timer(call) -> float:
        call()
        calls.append(1)
        return float(len(calls))

    run = tiny_run("full")
    cases = cases_of(work, run)
    found = curves_from([one_round(cases, timer)])
    widths = [str(width) for width in widths_of(work.prepared(run).splits["train"])]
    assert {kind: list(curve) for kind, curve in found.items()} == {
        kind: widths for kind in ("step", "step_scored", "score", "forward")
    }
    assert all(seconds > 0 for curve in found.values() for seconds in curve.values())
    assert cases["step", int(widths[0])].rows == run.batch_size
    assert {kind for kind, _ in cases_of(work, run, ("step", "score"))} == {"step", "score"}


def test_seconds_of_a_token_are_those_of_a_round_through_width():
    rounds = [{("step", 8): 16.0, ("score", 4): 2.0}]
    assert curves_from(rounds) == {"step": {"8": 2.0}, "score": {"4": 0.5}}


# --- the first batch at a width ------------------------------------------------------------------


def test_each_width_of_a_run_costs_a_first_batch():
    line = line_of(tiny_run("full"))  # two widths of training
    line["counts"]["score"] = {**line["counts"]["score"], "widths": {"8": [3, 96]}}
    plain = run_seconds(calibration(), line)
    found = run_seconds({**calibration(), "first": {"batch 16": {"train": 0.05, "score": 0.02}}}, line)
    assert found["train"] - plain["train"] == pytest.approx(2 * 0.05)
    assert found["score"] - plain["score"] == pytest.approx(0.02)
    of_another_size = {**calibration(), "first": {"batch 64": {"train": 0.05}}}
    assert run_seconds(of_another_size, line) == plain


def test_a_width_is_new_once_whatever_kind_or_data_set_it_belongs_to():
    taken = {
        "fresh": iter([0.15, 0.1]),
        "known": iter([0.2, 0.2]),
        "again": iter([0.9, 0.1]),
        "other": iter([0.13, 0.1]),
    }
    firsts = Firsts()

    def timer(call) -> float:
        return next(taken[call()])

    firsts.measure(
        "batch 16", {("step", 8): Case(16, lambda: "fresh"), ("step_scored", 8): Case(16, lambda: "known")}, timer
    )
    firsts.measure("batch 16", {("step", 8): Case(16, lambda: "again"), ("step", 9): Case(16, lambda: "other")}, timer)
    assert firsts.means() == {"batch 16": {"train": pytest.approx((0.05 + 0.03) / 2)}}


# --- a machine that changes its speed ------------------------------------------------------------


def test_drift_slows_every_case_alike():
    base = {"a": 0.1, "b": 0.3, "c": 2.0}
    slowness = [1.0, 1.0, 1.8, 1.0, 1.8]
    rounds = [{case: seconds * slow for case, seconds in base.items()} for slow in slowness]
    # The work done in five equal stretches of time is 3 + 2 / 1.8.
    mean = 5 / (3 + 2 / 1.8)
    assert through_drift(rounds) == {case: pytest.approx(seconds * mean) for case, seconds in base.items()}


def test_a_single_slow_moment_is_no_drift():
    rounds = [{"a": 0.1, "b": 0.3, "c": 2.0} for _ in range(3)]
    rounds[1] = {**rounds[1], "a": 1.0}
    assert through_drift(rounds) == {"a": pytest.approx(0.1), "b": pytest.approx(0.3), "c": pytest.approx(2.0)}


def test_a_run_on_a_slower_machine_agrees_with_figures_measured_beside_it():
    known = {**calibration(), "first": {"batch 16": {"train": 0.05}}}
    line = line_of(tiny_run("full"))
    curve = known["curves"][setting(line["arguments"])]["step"]
    beside = {"step": {width: 1.8 * seconds for width, seconds in curve.items()}}
    idle = run_seconds(known, line)["train"]
    line["counts"]["cpu_seconds"] = {"train": 1.8 * idle, "score": 0.0, "select": 0.2}
    assert slower(beside, {"step": curve}) == pytest.approx(1.8)
    assert compared(known, beside, line) == {
        "measured_seconds": pytest.approx(1.8 * idle + 0.2, abs=0.005),
        "computed_seconds": pytest.approx(1.8 * idle + 0.2, abs=0.005),
        "error": 0.0,
        "slower": pytest.approx(1.8),
        "error_of_the_file": 0.0,
    }


def test_a_curve_of_another_shape_is_seen_in_the_files_error_alone():
    known, line = calibration(), line_of(tiny_run("full"))
    # Narrow batches twice as slow, wide ones not: the median case is one and a half times as slow.
    beside = {"step": {"8": 2e-3, "16": 0.75e-3}}
    train = 2 * 320 * 8 * 1e-3 + 160 * 16 * 0.75e-3
    line["counts"]["cpu_seconds"] = {"train": train, "score": 0.0, "select": 0.0}
    found = compared(known, beside, line)
    assert found["error"] == 0.0 and found["slower"] == 1.5
    assert found["error_of_the_file"] == pytest.approx(1.5 * run_seconds(known, line)["train"] / train - 1, abs=1e-4)
