"""The parts of the steps that need no GPU: what they hold rows to, and how they read other programs' output."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from gpu import lines_of_tests
from gpu.cases import ACCURACY, TOY_ACCURACY, Case, Size
from gpu.steps import accuracy, counters, peers

import fastprune


@pytest.mark.parametrize("case", TOY_ACCURACY, ids=str)
def test_right_scores_hold(case: Case) -> None:
    found = accuracy.check(case, "cpu")
    assert found["ok"], found


@pytest.mark.parametrize("broken", ["nan", "off"])
def test_wrong_scores_do_not_hold(broken: str, monkeypatch) -> None:
    right = fastprune.score

    def wrong(*arguments):
        scores = right(*arguments)
        scores["el2n"][3] = float("nan") if broken == "nan" else scores["el2n"][3] * 1.001
        return scores

    monkeypatch.setattr(accuracy.fastprune, "score", wrong)
    assert not accuracy.check(TOY_ACCURACY[0], "cpu")["ok"]


def test_a_nan_in_the_gradient_does_not_hold(monkeypatch) -> None:
    def wrong(logits, labels, **_):
        return logits.float().square().sum(1) * float("nan")

    monkeypatch.setattr(accuracy.fastprune, "cross_entropy", wrong)
    found = accuracy.check(TOY_ACCURACY[0], "cpu")
    assert not found["ok"] and found["gradient"] > 1


def test_masks_lie_where_they_should() -> None:
    for where, masked in (("tail", 10), ("head", 10), ("label", 19), ("all", 20)):
        logits, labels = accuracy.rows_of(Case(Size(5, 20, "fp32"), -1e10, where), "cpu")
        at = logits == -1e10
        assert at.sum(1).tolist() == [masked] * 5, where
        assert at.gather(1, labels[:, None]).all() == (where == "all")


def test_the_mask_that_gave_nan_is_among_the_cases() -> None:
    sizes = {(case.size.dtype, case.mask, case.where) for case in ACCURACY if case.size.classes > 65_536}
    assert {("bf16", mask, "tail") for mask in (-1e10, -1e20, -1e30)} <= sizes
    assert 20 <= len(ACCURACY) <= 30


def test_loads_are_counted_by_kernel() -> None:
    code = """
@triton.jit
def triton_red_fused_0(in_ptr0, out_ptr0):
    tmp0 = tl.load(in_ptr0 + (r0), mask)
    for offset in range(0, n):
        tmp1 = tl.load(in_ptr0 + (r0), mask)
    tmp2 = tl.load(in_ptr1 + (r0), mask)
''')
@triton.jit
def triton_poi_fused_1(in_out_ptr0):
    tmp0 = tl.load(in_out_ptr0 + (x0), None)
"""
    assert peers.reads_of_inputs(code) == {
        "triton_red_fused_0": {"in_ptr0": 2, "in_ptr1": 1},
        "triton_poi_fused_1": {"in_out_ptr0": 1},
    }


def test_ncu_is_read_past_the_program_s_own_lines() -> None:
    text = (
        '==PROF== Connected to process 7\nhello\n"ID","Kernel Name","Metric Name","Metric Unit","Metric Value"\n'
        '"0","long_rows_kernel","dram__bytes_read.sum","Gbyte","2.10"\n'
    )
    assert counters.parse(text) == {"dram__bytes_read.sum": "2.10 Gbyte"}
    assert counters.parse("==ERROR== ERR_NVGPUCTRPERM") == {}


def test_tests_are_counted_from_the_lines_they_leave(tmp_path: Path, monkeypatch) -> None:
    """By a pytest of its own, one of whose tests ends the process, as a kill would."""
    program = tmp_path / "test_made_up.py"
    program.write_text(
        "import os, pytest\ndef test_a(): pass\ndef test_b(): pytest.skip('no')\ndef test_c(): assert 1 == 2\n"
        "def test_d(): os._exit(9)\n"
    )
    lines = tmp_path / "lines"
    env = os.environ | {"GPU_TEST_LINES": str(lines), "PYTHONPATH": os.pathsep.join(sys.path)}
    env.pop("PYTEST_XDIST_WORKER", None)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "gpu.lines_of_tests", str(program)]
    assert subprocess.run(command, env=env, cwd=tmp_path, capture_output=True).returncode == 9
    found = lines_of_tests.counts(lines.read_text())
    assert (found["passed"], found["failed"], found["skipped"]) == (1, 1, 1)
    assert found["failures"] == ["test_c: assert 1 == 2"]


def test_the_training_step_alternates_and_learns_with_both(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    from gpu.cases import TOY_TRAINING
    from gpu.steps.training import Steps

    steps = Steps(TOY_TRAINING, "cpu")
    before = [p.detach().clone() for p in steps.model.parameters()]
    steps.without()
    steps.with_fastprune()
    assert len(steps.own) == 1
    assert any(not torch.equal(a, b) for a, b in zip(before, steps.model.parameters(), strict=True))
    assert steps.pruner.progress.position == TOY_TRAINING["batch"]
