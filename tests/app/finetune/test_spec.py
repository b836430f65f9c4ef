"""Which runs a comparison makes, what they are called, and whose settings count."""

from dataclasses import replace

import pytest

from fastprune.app.finetune.spec import Training, plan_runs, resolve_method
from fastprune.errors import UsageError
from fastprune.methods.el2n import el2n
from fastprune.pruning import EMA, Latest

TRAINING = Training(6, None, None, 8, 3e-3, False, "ema", 0.0, 64)


def test_a_comparison_is_planned_seed_by_seed():
    training = Training(8, 1, 2, 32, 1e-4, False, "latest", 0.0, 128)
    specs = plan_runs(["el2n"], [0.5, 0.2], [0, 1], rows=range(100), training=training, compare=True)
    assert [s.name for s in specs if s.seed == 1] == [
        "full", "short full 0.5", "random 0.5", "el2n 0.5", "short full 0.2", "random 0.2", "el2n 0.2",
    ]  # fmt: skip
    assert {s.name: s.max_examples for s in specs if s.max_examples} == {
        "short full 0.5": 100 + 7 * 50,
        "short full 0.2": 100 + 7 * 20,
    }


def test_what_is_asked_for_twice_is_run_once():
    training = Training(6, 1, 2, 32, 3e-4, True, "latest", 0.0, 128)
    once = plan_runs(["el2n"], [0.5], [0, 1], rows=range(100), training=training, compare=False)
    assert (
        plan_runs(["el2n", "el2n"], ["0.5", "0.50"], [0, 1, 0], rows=range(100), training=training, compare=False)
        == once
    )
    near = plan_runs(["el2n"], [0.3333333, 0.3333334], [0], rows=range(100), training=training, compare=False)
    assert len({spec.name for spec in near}) == 3


def test_a_score_file_is_called_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.csv").write_text("index,score\n0,1\n1,2\n")
    training = Training(6, 1, 2, 32, 3e-4, True, "latest", 0.0, 128)
    for path in ("s.csv", str(tmp_path / "s.csv")):
        specs = plan_runs([f"static:{path}"], [0.5], [0], rows=range(2), training=training, compare=False)
        assert [spec.name for spec in specs] == ["full", "static:s.csv 0.5"]


def test_what_the_name_says_goes_before_what_the_run_says():
    moved = replace(TRAINING, offset=0.2)
    assert resolve_method("el2n(smoothing='latest')", moved) == el2n(offset=0.2)
    assert resolve_method("el2n(offset=0.1)", moved) == el2n(smoothing=EMA(deviation=1.0), offset=0.1)
    assert resolve_method("el2n", moved).smoothing == EMA(deviation=1.0) != Latest()


def test_runs_are_named_by_their_settings():
    specs = plan_runs(["orderdp(ratio=0.375)", "orderdp"], [0.3], [0], rows=range(50), training=TRAINING, compare=False)
    assert [spec.name for spec in specs] == ["full", "orderdp(ratio=0.375) 0.3", "orderdp 0.3"]
    with pytest.raises(UsageError, match="write method"):
        plan_runs(["orderdp(ratio=)"], [0.3], [0], rows=range(50), training=TRAINING, compare=False)
    with pytest.raises(UsageError, match="no setting 'rate'"):
        plan_runs(["orderdp(rate=1)"], [0.3], [0], rows=range(50), training=TRAINING, compare=False)
