"""A run's computed time follows from its counts and the machine's calibration, and from no other machine's."""

from __future__ import annotations

import pytest
import torch
from made_up_lines import line_of
from tiny_runs import tiny_run

from benchmarks.evidence.calibrate import batch_of_width, curves, widths_of
from benchmarks.evidence.timemodel import run_seconds, seconds_of, setting
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
    found = curves(work, run, timer)
    widths = [str(width) for width in widths_of(work.prepared(run).splits["train"])]
    assert {kind: list(curve) for kind, curve in found.items()} == {
        kind: widths for kind in ("step", "step_scored", "score", "forward")
    }
    assert all(seconds > 0 for curve in found.values() for seconds in curve.values())
