"""The Triton kernels' own source in Triton's interpreter, on the CPU.

Triton reads TRITON_INTERPRET when it is imported, so an ordinary run skips this file, and
test_scores_triton.py runs it in a process of its own.  `make soak` tries more combinations.
"""

from __future__ import annotations

import itertools
import os

import pytest
import row_score_cases as cases
import torch
import triton_cases
from helpers.combinations import some

if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("run with TRITON_INTERPRET=1, as test_scores_triton.py does", allow_module_level=True)

from helpers.interpreter_fixes import mend_interpreter

from fastprune.scores import triton_long_rows, triton_reduction, triton_rows, triton_segment
from fastprune.scores.options import LossOptions

mend_interpreter()
LOSS_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@pytest.mark.parametrize(
    ("classes", "dtype"),
    # Whole segments in one dtype alone, and few, which takes long here: `test_segments_merge` has many small ones.
    [(c, d) for c in cases.CLASSES for d in cases.DTYPES if c < 100_000] + [(some(200_000, 70_001), torch.bfloat16)],
)
def test_accuracy(classes: int, dtype: torch.dtype) -> None:
    cases.check_accuracy(triton_cases.poisoned, classes, dtype)


@pytest.mark.parametrize(
    ("classes", "dtype"),
    [(7, torch.bfloat16), (40, torch.float32), (2500, torch.bfloat16), (2500, torch.float16), (2500, torch.float32)],
)
def test_accuracy_of_entropy_where_the_model_is_sure_and_wrong(classes: int, dtype: torch.dtype) -> None:
    """All but one logit far below it: what is left of S1 lies below its last digit."""
    triton_cases.check_sure_and_wrong(classes, dtype)


def test_strides_and_shift() -> None:
    cases.check_strides_and_shift(triton_cases.poisoned, torch.bfloat16, shifts=(0, 3))


@pytest.mark.parametrize(
    ("classes", "dtype"),
    [
        (3, torch.float32),
        (16, torch.float16),
        (2040, torch.float64),
        (9000, torch.bfloat16),
        (4000, torch.bfloat16),
        (5001, torch.float16),
        (5000, torch.float32),
        (5000, torch.float64),
    ],
)
def test_special_rows(classes: int, dtype: torch.dtype) -> None:
    cases.check_special_rows(triton_cases.poisoned, dtype, classes)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("classes", [5, 3000])
def test_masks_of_the_largest_negative_number(classes: int, dtype: torch.dtype) -> None:
    """Times log2(e) they overflow; rows of nothing else are uniform."""
    triton_cases.check_finfo_min(classes, dtype)


@pytest.mark.parametrize("classes", [3, 3000])
def test_labels_out_of_range_score_nan(classes: int) -> None:
    triton_cases.check_labels_out_of_range(classes)


@pytest.mark.parametrize(("classes", "dtype"), [(150, torch.float32), (3000, torch.bfloat16)])
def test_each_metric_alone(classes: int, dtype: torch.dtype) -> None:
    logits, labels = cases.rows(classes, dtype)
    together = triton_cases.poisoned(logits, labels, cases.METRICS, -100, 0)
    for metric in cases.METRICS:
        alone = triton_cases.poisoned(logits, labels, (metric,), -100, 0)
        assert torch.equal(alone[metric], together[metric]), metric


@pytest.mark.parametrize(("classes", "dtype"), [(150, torch.bfloat16), (5000, torch.float32), (2049, torch.float16)])
def test_bits_do_not_depend_on_the_batch(classes: int, dtype: torch.dtype) -> None:
    logits, labels = cases.rows(classes, dtype)
    whole = triton_cases.poisoned(logits, labels, cases.METRICS, -100, 0)
    part = triton_cases.poisoned(logits[3:5], labels[3:5], cases.METRICS, -100, 0)
    for metric in cases.METRICS:
        assert torch.equal(part[metric], whole[metric][3:5])


@pytest.mark.parametrize(
    ("classes", "dtype"),
    [
        (152, torch.bfloat16),
        (151, torch.bfloat16),
        (2049, torch.bfloat16),
        (4096, torch.bfloat16),
        (3001, torch.float32),
        (2051, torch.float64),
    ],
)
def test_bits_do_not_depend_on_the_address(classes: int, dtype: torch.dtype) -> None:
    """`make test` tests every fourth row, and `make soak` and a GPU all of them."""
    triton_cases.check_every_misalignment(classes, dtype, every=some(1, 4))


def test_bits_do_not_depend_on_what_lies_around_a_row() -> None:
    """The kernels load up to 15 bytes of a row's neighbours."""
    logits, labels = cases.rows(2049, torch.bfloat16)
    scores = triton_cases.poisoned(logits, labels, cases.METRICS, -100, 0)
    for noise in (float("nan"), float("inf"), -float("inf"), 1e4):
        around = torch.full((len(labels), 2049 + 22), noise, dtype=torch.bfloat16)
        around[:, 11:-11] = logits
        again = triton_cases.poisoned(around[:, 11:-11], labels, cases.METRICS, -100, 0)
        for metric in cases.METRICS:
            assert torch.equal(again[metric], scores[metric])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_segments_merge(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments small enough for some to hold no label, no large logit, or one class."""
    monkeypatch.setattr(triton_long_rows, "SEGMENT_BYTES", 1024 * dtype.itemsize)
    # The last segment has one class, or all of them.
    for classes in some((3073, 4096), (3073,) if dtype is torch.bfloat16 else (4096,)):
        cases.check(triton_cases.poisoned, *cases.rows(classes, dtype))
    cases.check_special_rows(triton_cases.poisoned, dtype, 4100)
    triton_cases.check_sure_and_wrong(3000, dtype)


def test_a_guess_far_off_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the second reading, a spike after the first block would overflow."""
    logits, labels = cases.rows(3000, torch.bfloat16)
    logits[:, 2000] = logits[:, :1500].amax(1) + torch.tensor([15.0, 17, 25, 50, 100, 200, 1000, 3, 0, 40, 60])
    labels[labels == 2000] = 7
    cases.check(triton_cases.poisoned, logits, labels)
    monkeypatch.setattr(triton_segment, "LAG", triton_segment.tl.constexpr(1e9))
    with pytest.raises(AssertionError):
        cases.check(triton_cases.poisoned, logits, labels)


def test_no_rows_and_no_metrics() -> None:
    empty = torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64)
    assert triton_rows.row_scores(*empty, ("el2n",), -100, 0)["el2n"].shape == (0,)
    assert triton_rows.row_scores(torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64), (), -100, 0) == {}
    losses, state, scores = triton_rows.loss_forward(*empty, None, LossOptions())
    assert losses.shape == (0,) and state.shape == (1,) and scores == {}


@pytest.mark.parametrize(
    ("classes", "dtype"),
    # Several blocks in one dtype alone, which takes long here.
    [(c, d) for c in (1, 3, 150, 1000, 2049) for d in LOSS_DTYPES] + [(6000, torch.bfloat16)],
)
def test_loss_and_gradient(classes: int, dtype: torch.dtype) -> None:
    """With a weight, with smoothing, with both and with neither: for each number of classes and for each dtype."""
    straight = (classes + LOSS_DTYPES.index(dtype)) % 2
    wanted = [(False, 0.0), (True, 0.1)] if straight else [(True, 0.0), (False, 0.1)]
    for weighted, smoothing in some(list(itertools.product((False, True), (0.0, 0.1))), wanted):
        triton_cases.check_loss(classes, dtype, weighted, smoothing)


@pytest.mark.parametrize("rows", [1, 2, 30, 130])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_reduction(rows: int, weighted: bool, reduction: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With these sizes the rows are one block, several blocks of one program, or three programs."""
    monkeypatch.setattr(triton_reduction, "ROWS", 128)
    monkeypatch.setattr(triton_reduction, "_BLOCK", 32)
    triton_cases.check_reduction(rows, reduction, weighted)


def test_reduction_of_no_rows() -> None:
    labels = torch.zeros(0, dtype=torch.int64)
    losses, state, _ = triton_rows.loss_forward(torch.zeros(0, 3), labels, None, LossOptions())
    assert triton_reduction.reduced(losses, state, labels, None, 3, LossOptions(reduction="sum")) == 0
    assert triton_reduction.reduced(losses, state, labels, None, 3, LossOptions(reduction="mean")).isnan()


def test_another_default_dtype() -> None:
    logits, labels = torch.randn(4, 7), torch.tensor([0, 1, 2, 3])
    torch.set_default_dtype(torch.float64)
    try:
        losses, state, scores = triton_rows.loss_forward(logits, labels, None, LossOptions(("el2n",)))
        loss = triton_reduction.reduced(losses, state, labels, None, 7, LossOptions())
    finally:
        torch.set_default_dtype(torch.float32)
    assert {x.dtype for x in (losses, state, scores["el2n"], loss)} == {torch.float32}


def test_loss_of_several_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_long_rows, "SEGMENT_BYTES", 2048)
    for weighted in (False, True):
        triton_cases.check_loss(3333, torch.bfloat16, weighted, 0.2)


# A shift of all labels out of the row is one piece of code for long rows and short ones, and takes long here.
@pytest.mark.parametrize(
    ("classes", "shifts", "shape"), [(20, (0, 1, 4, 5), (3, 4)), (2500, (0, 1), some((3, 4), (2, 3)))]
)
def test_loss_strides_shift_and_ignored_rows(classes: int, shifts: tuple[int, ...], shape: tuple[int, int]) -> None:
    triton_cases.check_loss_layouts(classes, torch.bfloat16, shifts=shifts, shape=shape)


@pytest.mark.parametrize("classes", [5, 2500])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_special_rows(classes: int, smoothing: float) -> None:
    triton_cases.check_loss_special_rows(classes, torch.float32, smoothing)


def test_scores_with_the_loss_are_those_without() -> None:
    for classes in (150, 3000):
        logits, labels = cases.rows(classes, torch.bfloat16)
        alone = triton_rows.row_scores(logits, labels, cases.METRICS, -100, 0)
        smoothed = LossOptions(cases.METRICS, label_smoothing=0.1)
        _, _, scores = triton_rows.loss_forward(logits, labels, torch.rand(classes), smoothed)
        losses, _, none = triton_rows.loss_forward(logits, labels, None, LossOptions())
        assert none == {}
        assert torch.equal(losses, alone["loss"])
        for metric in cases.METRICS:
            assert torch.equal(scores[metric], alone[metric])


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.1, 1.0])
@pytest.mark.parametrize("lead", [-1e5, -1e3, 1e3])
@pytest.mark.parametrize("classes", [1000, 3000])
def test_smoothing_keeps_its_digits(classes: int, lead: float, smoothing: float, weighted: bool) -> None:
    """The label far from the others, and of weight 0: what is left is a sum of small terms."""
    logits = torch.randn(3, classes, generator=torch.Generator().manual_seed(0))
    logits[:, 5] = lead
    weight = torch.rand(classes, generator=torch.Generator().manual_seed(1)) if weighted else None
    if weight is not None:
        weight[5] = 0.0
    labels = torch.full((3,), 5)
    losses, _, _ = triton_rows.loss_forward(logits, labels, weight, LossOptions(label_smoothing=smoothing))
    exact = torch.nn.functional.cross_entropy(
        logits.double(),
        labels,
        None if weight is None else weight.double(),
        label_smoothing=smoothing,
        reduction="none",
    )
    torch.testing.assert_close(losses.double(), exact, rtol=4e-6, atol=0)
