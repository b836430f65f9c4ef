"""The cases of other libraries' loss kernels, as shapes and settings of our own tests.

What Liger-Kernel, Cut Cross Entropy, QuACK and flash-attention look at and our other tests do not: row counts that no
block divides, vocabularies of real models, patterns of ignored labels, an ignore_index that is a class, the scale and
the offset of the logits, and a loss that is not the last operation. The reference is the definition in double
precision.
"""

from __future__ import annotations

import pytest
import row_score_cases as cases
import torch
from torch import Tensor

from fastprune.scores import cpu, cross_entropy, el2n, score

ROUNDING = {torch.float32: 2.0**-24, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}
# The smallest results end at a fixed place: those of half precision are subnormal.
LAST_PLACE = {torch.float32: 2.0**-44, torch.bfloat16: 2.0**-44, torch.float16: 2.0**-25}
# A power of two, its neighbours, and the vocabularies of BERT, GPT-2, Llama 2 and 3, Gemma.
VOCABULARIES = (63, 64, 65, 255, 760, 1023, 1128, 2049, 4097, 30_522, 50_257, 32_003, 128_256, 256_128)


def drawn(rows: int, classes: int, dtype: torch.dtype, scale: float = 2.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = (torch.randn(rows, classes, generator=generator) * scale).to(dtype)
    return logits, torch.randint(classes, (rows,), generator=generator)


def defined(
    logits: Tensor,
    labels: Tensor,
    *,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    """(1 - s) w_y (-log p_y) + s / C sum_i w_i (-log p_i) of each row, in double precision."""
    counted = labels != ignore_index
    own = labels.where(counted, 0)
    surprise = -torch.log_softmax(logits.double(), -1)
    w = torch.ones(logits.shape[-1], dtype=torch.float64) if weight is None else weight.double()
    loss = (1 - label_smoothing) * w[own] * surprise.gather(-1, own[..., None])[..., 0]
    if label_smoothing:
        loss = loss + (surprise * w).sum(-1) * (label_smoothing / len(w))
    loss = torch.where(counted, loss, 0.0)
    if reduction == "none":
        return loss
    return loss.sum() / (w[own] * counted).sum() if reduction == "mean" else loss.sum()


def check_loss(logits: Tensor, labels: Tensor, **options) -> None:
    """4e-6 of the loss, and of each gradient element 4e-6 and 1e-6 of the largest; then the rounding to the dtype."""
    mine, exact = logits.clone().requires_grad_(), logits.double().requires_grad_()
    loss, wanted = cross_entropy(mine, labels, **options), defined(exact, labels, **options)
    # Not the last operation, so that what comes down to the kernel is not 1.
    upstream = torch.linspace(0.5, 2.0, loss.numel(), dtype=torch.float64).view(loss.shape).to(loss.dtype)
    (loss * upstream).sum().backward()
    (wanted * upstream.double()).sum().backward()
    assert mine.grad is not None and exact.grad is not None
    assert loss.dtype == mine.grad.dtype == logits.dtype and torch.equal(loss.isnan(), wanted.isnan())
    usual, own = ~wanted.isnan(), 4e-6 + ROUNDING[logits.dtype]
    bound = own * wanted.abs() + LAST_PLACE[logits.dtype]
    assert ((loss.double() - wanted).abs() <= bound)[usual].all()
    assert torch.equal(mine.grad.isnan(), exact.grad.isnan())
    g, e = mine.grad.double().nan_to_num(), exact.grad.nan_to_num()
    bound = own * e.abs() + 1e-6 * e.abs().max() + LAST_PLACE[logits.dtype]
    assert ((g - e).abs() <= bound).all()


@pytest.mark.parametrize("classes", VOCABULARIES)
@pytest.mark.parametrize("dtype", ROUNDING)
def test_vocabularies(classes: int, dtype: torch.dtype) -> None:
    """Rows that begin anywhere in memory; labels at both ends of the vocabulary; a padded vocabulary."""
    rows = 17 if classes < 3000 else 3
    logits, labels = drawn(rows, classes, dtype)
    labels[0], labels[1], labels[2] = 0, classes - 1, -100
    cases.check(cpu.row_scores, logits, labels)
    logits[:, classes - classes // 20 : classes - 1] = -torch.inf  # but for the last class, which is a label
    labels.clamp_(max=classes - classes // 20 - 1)[1] = classes - 1
    cases.check(cpu.row_scores, logits, labels)
    if classes < 40_000:
        check_loss(logits, labels)


@pytest.mark.parametrize("rows", [1, 15, 17, 77, 289])
@pytest.mark.parametrize("classes", [2, 7, 40, 150, 193, 760])
def test_rows_that_no_block_divides(rows: int, classes: int) -> None:
    logits, labels = drawn(rows, classes, torch.float32, seed=rows)
    whole = torch.full((rows + 2, classes), torch.nan)
    whole[1:-1] = logits  # whatever is read beside the rows shows
    cases.check(cpu.row_scores, whole[1:-1], labels)
    check_loss(logits, labels, reduction="none")


def patterns(rows: int) -> dict[str, Tensor]:
    """Which rows are ignored."""
    at = torch.arange(rows)
    generator = torch.Generator().manual_seed(0)
    return {
        "none": at < 0,
        "a third": torch.rand(rows, generator=generator) < 1 / 3,
        "every other": at % 2 == 0,
        "the prompt": at < rows // 2,
        "the padding": at >= rows // 2,
        "all but the last": at < rows - 1,
        "all": at >= 0,
    }


@pytest.mark.parametrize("ignore_index", [-100, 0, 42, -42, -(2**63)])
@pytest.mark.parametrize("pattern", patterns(1))
def test_ignored_labels(pattern: str, ignore_index: int) -> None:
    rows, classes = 43, 60
    logits, labels = drawn(rows, classes, torch.float32)
    labels = labels.masked_fill(labels == ignore_index, 1)
    ignored = patterns(rows)[pattern]
    labels[ignored] = ignore_index
    logits[ignored, 3] = torch.nan  # nobody looks there
    scores = cases.check(cpu.row_scores, logits, labels, ignore_index=ignore_index)
    assert all((scores[metric][ignored] == 0).all() for metric in ("el2n", "loss", "entropy"))
    logits = logits.nan_to_num(1.0)
    for reduction, smoothing, weight in (
        ("mean", 0.0, None), ("mean", 0.1, torch.linspace(0.5, 2, classes)), ("sum", 0.2, None), ("none", 0.1, None)
    ):  # fmt: skip
        check_loss(
            logits, labels, ignore_index=ignore_index, reduction=reduction, label_smoothing=smoothing, weight=weight
        )


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("scale", [0.01, 0.1, 10.0, 100.0])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_scales_of_the_logits(scale: float, dtype: torch.dtype, label_smoothing: float) -> None:
    for classes in (50, 523):
        logits, labels = drawn(9, classes, dtype, scale)
        cases.check(cpu.row_scores, logits, labels)
        check_loss(logits, labels, label_smoothing=label_smoothing)


@pytest.mark.parametrize("classes", [5, 192, 1030])
def test_an_offset_of_a_row_changes_nothing(classes: int) -> None:
    """Rows of logits, with offsets that fp32 adds without rounding."""
    logits, labels = drawn(20, classes, torch.float32)
    logits = (logits * 256).round() / 256
    before = score(logits, labels, cases.METRICS)
    for offset in (-16.0, 64.0, 1024.0):
        after = score(logits + offset, labels, cases.METRICS)
        for metric in cases.METRICS:
            assert torch.equal(before[metric], after[metric]), (metric, offset)


@pytest.mark.parametrize("label_dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
@pytest.mark.parametrize("shape", [(2, 3, 31), (7, 1, 100), (1, 64, 100), (3, 423, 32)])
def test_batches_of_tokens(shape: tuple[int, int, int], label_dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(*shape, generator=generator)
    labels = torch.randint(shape[-1], shape[:2], generator=generator)
    shift = min(1, shape[1] - 1)
    moved = torch.full_like(labels, -100)
    moved[:, : shape[1] - shift] = labels[:, shift:]
    wanted = cases.definition.row_scores(logits, moved, ("el2n",), -100, 0)["el2n"]
    got = el2n(logits, labels.to(label_dtype), shift=shift)
    assert cases.worst_error(got, wanted) <= cases.BOUND
    loss = cross_entropy(logits, labels.to(label_dtype), shift=shift)
    exact = defined(logits.flatten(0, 1), moved.flatten())
    assert abs(loss.double() - exact) <= (4e-6 + 2.0**-24) * exact
