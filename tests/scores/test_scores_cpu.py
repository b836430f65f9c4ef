"""The C++ kernel against the definition."""

from __future__ import annotations

import functools

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


@pytest.mark.parametrize("classes", [3, 5, 6, 16, 40, 512, 1025, 5000])
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
        # Scores under the smallest normal float may be rounded away.
        tiny = expected[metric] < 1e-37
        assert (scores[metric][tiny] < 2e-37).all()
        zero = torch.zeros(())
        assert (
            cases.worst_error(torch.where(tiny, zero, scores[metric]), torch.where(tiny, zero, expected[metric]))
            <= cases.BOUND
        )


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
@pytest.mark.parametrize("classes", [2, 7, 1000, 5000])
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
    return _core.row_scores(
        logits=logits.data_ptr(),
        dtype=_core.DType.float32,
        batch=logits.shape[0],
        tokens=logits.shape[1],
        classes=logits.shape[2],
        logits_batch_stride=logits.stride(0),
        logits_token_stride=logits.stride(1),
        labels=labels.data_ptr(),
        labels_batch_stride=labels.stride(0),
        labels_token_stride=labels.stride(1),
        shift=shift,
        ignore_index=-100,
        el2n=out[0].data_ptr(),
        loss=out[1].data_ptr(),
        threads=2,
    )


@pytest.mark.parametrize("shift", [0, 1, 5, 6])
def test_every_output_row_is_written(shift: int) -> None:
    logits = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.full((3, 5), -100)
    labels[1] = torch.arange(5)
    out = torch.full((2, 3, 5), torch.nan)
    assert _run_core(logits, labels, out, shift) == -1
    assert not out.isnan().any()


def test_a_bad_label_leaves_the_output_alone() -> None:
    logits = torch.zeros(2, 3, 4)
    labels = torch.tensor([[0, 1, 2], [3, 4, 0]])
    out = torch.full((2, 2, 3), torch.nan)
    assert _run_core(logits, labels, out, 0) == 4
    assert out.isnan().all()
    # Labels that the shift leaves unused are not looked at.
    labels[1, 1], labels[:, 0] = 0, 99
    assert _run_core(logits, labels, out, 1) == -1


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
