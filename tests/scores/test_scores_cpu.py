"""The C++ kernel against the definition."""

from __future__ import annotations

import functools
import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
import row_score_cases as cases
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastprune import _core
from fastprune.scores import cpu


@pytest.mark.parametrize("classes", cases.CLASSES)
@pytest.mark.parametrize("dtype", cases.DTYPES)
def test_accuracy(classes: int, dtype: torch.dtype) -> None:
    cases.check_accuracy(cpu.row_scores, classes, dtype)


@pytest.mark.parametrize("dtype", cases.DTYPES)
def test_strides_and_shift(dtype: torch.dtype) -> None:
    cases.check_strides_and_shift(cpu.row_scores, dtype)


@pytest.mark.parametrize("classes", [3, 5, 16, 40, 192, 193, 512, 513, 1025, 5000])
@pytest.mark.parametrize("dtype", cases.DTYPES)
def test_special_rows(classes: int, dtype: torch.dtype) -> None:
    cases.check_special_rows(cpu.row_scores, dtype, classes)


@settings(max_examples=60, deadline=None)
@given(
    classes=st.integers(1, 1100),
    scale=st.sampled_from([0.0, 1e-3, 1.0, 30.0, 1e4]),
    offset=st.sampled_from([0.0, 100.0, -1000.0]),
    seed=st.integers(0, 2**31),
)
def test_any_number_of_classes(classes: int, scale: float, offset: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(4, classes, generator=generator) * scale + offset
    labels = torch.randint(classes, (4,), generator=generator)
    scores = cpu.row_scores(logits, labels, cases.METRICS, -100, 0)
    expected = cases.definition.row_scores(logits, labels, cases.METRICS, -100, 0)
    for metric in cases.METRICS:
        assert cases.worst_error(scores[metric], expected[metric]) <= cases.BOUND


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_16_bit_value_is_read_exactly(dtype: torch.dtype) -> None:
    bits = torch.arange(2**16, dtype=torch.int32).to(torch.int16)
    values = bits.view(dtype)
    values = values[values.isfinite()]
    # Two classes, the other one 0: the loss shows each value to full precision.
    logits = torch.stack([values, torch.zeros_like(values)], -1)
    cases.check(cpu.row_scores, logits, torch.zeros(len(values), dtype=torch.int64))
    padded = torch.cat([logits, torch.full((len(values), 20), -torch.inf, dtype=dtype)], -1)
    cases.check(cpu.row_scores, padded, torch.zeros(len(values), dtype=torch.int64))


def test_exact_values_are_exact() -> None:
    logits = torch.zeros(1, 4)
    scores = cpu.row_scores(logits, torch.tensor([2]), cases.METRICS, -100, 0)
    assert scores["el2n"].item() == pytest.approx((0.75**2 + 3 / 16) ** 0.5, rel=1e-7)
    assert scores["loss"].item() == pytest.approx(1.3862943611198906, rel=1e-7)


@pytest.mark.parametrize("dtype", cases.DTYPES)
@pytest.mark.parametrize("classes", [2, 7, 150, 200, 1000, 5000])
def test_bits_depend_on_the_row_alone(dtype: torch.dtype, classes: int) -> None:
    rows = 400 if classes <= 1000 else 100
    generator = torch.Generator().manual_seed(3)
    logits = (torch.randn(rows, classes, generator=generator) * 3).to(dtype)
    labels = torch.randint(classes, (rows,), generator=generator)
    alone = cpu.row_scores(logits, labels, cases.METRICS, -100, 0, threads=1)
    for threads in (2, 3, 7):
        many = cpu.row_scores(logits, labels, cases.METRICS, -100, 0, threads=threads)
        for metric in cases.METRICS:
            assert torch.equal(many[metric], alone[metric])
    order = torch.randperm(rows, generator=generator)
    shuffled = cpu.row_scores(logits[order], labels[order], cases.METRICS, -100, 0, threads=2)
    part = cpu.row_scores(logits[11:14], labels[11:14], cases.METRICS, -100, 0)
    single = cpu.row_scores(logits, labels, ("el2n",), -100, 0)
    for metric in cases.METRICS:
        assert torch.equal(shuffled[metric], alone[metric][order])
        assert torch.equal(part[metric], alone[metric][11:14])
    assert torch.equal(single["el2n"], alone["el2n"])


def _run_core(logits: torch.Tensor, labels: torch.Tensor, out: torch.Tensor, shift: int) -> int:
    strides = logits.stride()[:2]
    rows = (logits.data_ptr(), _core.DType.float32, *logits.shape, *strides, labels.data_ptr(), *labels.stride())
    return _core.row_scores((*rows, shift, -100, 2), [metric.data_ptr() for metric in out])


@pytest.mark.parametrize("classes", [3, 200, 600])
@pytest.mark.parametrize("shift", [0, 1, 5, 6])
def test_every_output_row_is_written(shift: int, classes: int) -> None:
    logits = torch.randn(3, 5, classes, generator=torch.Generator().manual_seed(0))
    labels = torch.full((3, 5), -100)
    labels[1] = torch.arange(5) % 3
    out = torch.full((len(cases.METRICS) + 1, 3, 5), torch.nan)
    assert _run_core(logits, labels, out[:-1], shift) == -1
    assert not out[:-1].isnan().any()
    assert out[-1].isnan().all()  # and nothing after them


def test_the_first_bad_label_is_reported() -> None:
    logits = torch.zeros(40, 30, 4)
    labels = torch.zeros(40, 30, dtype=torch.int64)
    labels[7, 3], labels[7, 9], labels[20, 0] = 4, -1, 2**40
    out = torch.empty(len(cases.METRICS), 40, 30)
    assert _run_core(logits, labels, out, 0) == 7 * 30 + 3
    # Labels that the shift leaves unused are not looked at.
    labels[7, 3], labels[7, 9], labels[20, 0] = 0, 0, 99
    assert _run_core(logits, labels, out, 1) == -1


_SAVE = """
import sys, torch, row_score_cases as cases
from fastprune import _core
from fastprune.scores import cpu
saved = [_core.instruction_set()]
for classes in (2, 16, 150, 193, 600, 3000):
    for dtype in cases.DTYPES:
        logits, labels = cases.rows(classes, dtype)
        saved.append(cases.check(cpu.row_scores, logits, labels))
    cases.check_special_rows(cpu.row_scores, torch.float16, max(classes, 3))
cases.check_strides_and_shift(cpu.row_scores, torch.bfloat16)
leaf = torch.randn(50, 77, generator=torch.Generator().manual_seed(0)).bfloat16()
labels = torch.arange(50) % 77
loss, state, _ = cpu.loss_forward(leaf, labels, torch.arange(77.0), (), -100, 0.1, 0, "mean")
saved.append(cpu.loss_backward(torch.ones(()), state, leaf, labels, torch.arange(77.0), -100, 0.1, 0))
torch.save(saved, sys.argv[1])
"""


def test_every_instruction_set(tmp_path: Path) -> None:
    """Each is accurate, and those with fused multiply-adds agree to the last bit."""
    saved = {}
    for name in _core.instruction_sets():
        path = tmp_path / f"{name}.pt"
        run = subprocess.run(
            [sys.executable, "-c", _SAVE, path],
            env=os.environ | {"FASTPRUNE_ISA": name},
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0, run.stderr
        assert "RuntimeWarning" not in run.stderr
        saved[name] = torch.load(path)
        assert saved[name][0] == name
    fused = [saved[name] for name in ("avx2", "avx512") if name in saved]
    for one, other in itertools.pairwise(fused):
        for a, b in zip(one[1:-1], other[1:-1], strict=True):
            for metric in cases.METRICS:
                assert torch.equal(a[metric].nan_to_num(), b[metric].nan_to_num())
        assert torch.equal(one[-1], other[-1])


def test_an_instruction_set_that_is_not_there_is_named() -> None:
    run = subprocess.run(
        [sys.executable, "-c", "import fastprune"],
        env=os.environ | {"FASTPRUNE_ISA": "sse9"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert "FASTPRUNE_ISA=sse9 is not available here, using" in run.stderr


@pytest.mark.parametrize(
    ("labels", "where", "value"),
    [
        (torch.tensor([0, 7, 1]), r"labels\[1\]", "7"),
        (torch.tensor([[0, 1], [1, -3]]), r"labels\[1, 1\]", "-3"),
        (torch.tensor([[[0, 1], [1, 4]]]), r"labels\[0, 1, 1\]", "4"),
        (torch.tensor(9), "labels", "9"),
    ],
)
def test_a_bad_label_is_named(labels: torch.Tensor, where: str, value: str) -> None:
    logits = torch.zeros(*labels.shape, 4)
    with pytest.raises(IndexError, match=rf"{where} is {value}, but logits have 4 classes"):
        cpu.row_scores(logits, labels, ("el2n",), -100, 0)


def test_flushing_subnormals_changes_nothing() -> None:
    logits, labels = cases.rows(33, torch.float16)
    logits[:, 5] = 3e-7  # subnormal in half precision
    before = cpu.row_scores(logits, labels, cases.METRICS, -100, 0)
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush subnormals")
    try:
        after = cpu.row_scores(logits, labels, cases.METRICS, -100, 0)
    finally:
        torch.set_flush_denormal(False)
    for metric in cases.METRICS:
        assert torch.equal(before[metric], after[metric])


def test_more_threads_than_torch_has_are_not_started() -> None:
    kernel = functools.partial(cpu.row_scores, threads=0)
    logits, labels = cases.rows(7, torch.float32)
    cases.check(kernel, logits, labels)


_FORK = """
import os, sys, torch, fastprune
torch.set_num_threads(2)
logits, labels = torch.randn(3000, 300), torch.zeros(3000, dtype=torch.int64)
torch.softmax(logits, -1)  # PyTorch's threads come to life
if "used" in sys.argv:
    fastprune.el2n(logits, labels)
child = os.fork()
if child == 0:
    fastprune.el2n(logits, labels)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("used", ["used", "not used"])
def test_threads_in_a_forked_child(used: str) -> None:
    """The parent's OpenMP threads do not live on in it; a DataLoader's workers are such children."""
    run = subprocess.run([sys.executable, "-c", _FORK, used], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
