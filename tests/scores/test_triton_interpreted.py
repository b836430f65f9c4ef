"""The Triton kernel's own source in Triton's interpreter, on the CPU.

Triton reads TRITON_INTERPRET when it is imported, so an ordinary run skips this file, and
test_scores_triton.py runs it in a process of its own.
"""

from __future__ import annotations

import os

import pytest
import row_score_cases as cases
import torch

if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("run with TRITON_INTERPRET=1, as test_scores_triton.py does", allow_module_level=True)

from fastprune.scores import triton_kernel


def poisoned(
    logits: torch.Tensor, labels: torch.Tensor, metrics: tuple[str, ...], ignore_index: int, shift: int
) -> dict[str, torch.Tensor]:
    """The launcher with outputs that show an unwritten row as infinity of the wrong sign."""
    out = {metric: torch.full(labels.shape, -torch.inf) for metric in metrics}
    triton_kernel.launch(logits, labels, out, ignore_index, shift)
    return out


@pytest.mark.parametrize("classes", cases.CLASSES)
@pytest.mark.parametrize("dtype", cases.DTYPES)
def test_accuracy(classes: int, dtype: torch.dtype) -> None:
    cases.check_accuracy(poisoned, classes, dtype)


def test_strides_and_shift() -> None:
    cases.check_strides_and_shift(poisoned, torch.bfloat16, shifts=(0, 3))


@pytest.mark.parametrize(
    ("classes", "dtype"),
    [(3, torch.float32), (16, torch.float16), (9000, torch.bfloat16), (5000, torch.float64)],
)
def test_special_rows(classes: int, dtype: torch.dtype) -> None:
    cases.check_special_rows(poisoned, dtype, classes)


def test_labels_out_of_range_score_nan() -> None:
    logits = torch.zeros(4, 3)
    scores = poisoned(logits, torch.tensor([0, 3, -1, -100]), ("el2n", "loss"), -100, 0)
    for metric in cases.METRICS:
        assert scores[metric].isnan().tolist() == [False, True, True, False]
        assert scores[metric][3] == 0


@pytest.mark.parametrize("metric", cases.METRICS)
def test_each_metric_alone(metric: str) -> None:
    logits, labels = cases.rows(150, torch.float32)
    both = poisoned(logits, labels, cases.METRICS, -100, 0)
    assert torch.equal(poisoned(logits, labels, (metric,), -100, 0)[metric], both[metric])


def test_bits_depend_on_the_row_alone() -> None:
    logits, labels = cases.rows(5000, torch.float32)
    whole = poisoned(logits, labels, cases.METRICS, -100, 0)
    part = poisoned(logits[3:5], labels[3:5], cases.METRICS, -100, 0)
    for metric in cases.METRICS:
        assert torch.equal(part[metric], whole[metric][3:5])


def test_no_rows() -> None:
    assert triton_kernel.row_scores(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), ("el2n",), -100, 0)[
        "el2n"
    ].shape == (0,)
