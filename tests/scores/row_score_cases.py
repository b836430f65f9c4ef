"""Rows of logits that every implementation of the row scores is held to, and the comparison.

The bound is the documented one: 4e-6 relative to the double-precision definition on the same
(already rounded) logits.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fastprune.scores import definition

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
CLASSES = (1, 2, 3, 7, 33, 150, 1000, 32_000, 200_000)
METRICS = definition.METRICS
BOUND = 4e-6
SMALLEST = 1e-30
# What every metric is where only the label is left, where the label is masked, and where a row is ignored.
ALONE = {"el2n": 0.0, "loss": 0.0, "confidence": 1.0, "margin": float("inf"), "entropy": 0.0, "correct": 1.0}
MASKED = {"loss": float("inf"), "confidence": 0.0, "margin": -float("inf"), "correct": 0.0}
UNDEFINED = dict.fromkeys(METRICS, float("nan"))
IGNORED = dict.fromkeys(METRICS, 0.0)

# (logits, labels, metrics, ignore_index, shift) -> scores, as every implementation takes them.
Kernel = Callable[[Tensor, Tensor, tuple[str, ...], int, int], dict[str, Tensor]]


def rows(classes: int, dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random rows, then rows ever more confident: EL2N from about 1.4 down to 1e-12."""
    generator = torch.Generator().manual_seed(seed)
    lead = torch.tensor([-20.0, -5.0, 0.0, 2.0, 5.0, 9.0, 12.0, 16.0, 20.0, 24.0, 27.0])
    logits = torch.randn(len(lead), classes, generator=generator, dtype=torch.float64)
    logits *= torch.tensor([0.5, 2.0, 4.0], dtype=torch.float64).repeat(4)[: len(lead), None]
    labels = torch.randint(classes, (len(lead),), generator=generator)
    logits.scatter_(1, labels[:, None], logits.amax(1, keepdim=True) + lead[:, None])
    return logits.to(dtype), labels


def worst_error(actual: Tensor, expected: Tensor) -> float:
    """Largest relative error; zeros, NaNs and infinities must be in the same places.

    Below 1e-12 = e^-28 the rounding of a float exponent alone grows like the exponent, and counts for as much less.
    """
    actual, expected = actual.cpu(), expected.cpu()
    assert actual.dtype == torch.float32
    assert actual.shape == expected.shape
    # Terms near the smallest normal float may be taken for 0.
    actual, expected = (x.masked_fill(x.abs() < SMALLEST, 0.0) for x in (actual, expected))
    for same in (torch.isnan, torch.isinf, lambda x: x == 0):
        assert torch.equal(same(actual), same(expected)), (actual, expected)
    usual = expected.isfinite() & (expected != 0)
    error = (actual.double() - expected.double()).abs() / expected.double().abs()
    error *= (28 / expected.double().abs().log().abs()).clamp(max=1)
    return error[usual].max().item() if usual.any() else 0.0


def check(
    kernel: Kernel, logits: Tensor, labels: Tensor, *, ignore_index: int = -100, shift: int = 0
) -> dict[str, Tensor]:
    """Holds a kernel to the definition on these rows; returns the kernel's scores."""
    logits_before, labels_before = logits.clone(), labels.clone()
    actual = kernel(logits, labels, METRICS, ignore_index, shift)
    assert torch.equal(logits.nan_to_num(), logits_before.nan_to_num())
    assert torch.equal(labels, labels_before)
    expected = definition.row_scores(logits.cpu(), labels.cpu(), METRICS, ignore_index, shift)
    for metric in METRICS:
        assert worst_error(actual[metric], expected[metric]) <= BOUND, metric
    return actual


def check_accuracy(kernel: Kernel, classes: int, dtype: torch.dtype, device: str = "cpu") -> None:
    logits, labels = rows(classes, dtype)
    scores = check(kernel, logits.to(device), labels.to(device))
    if classes > 1:
        assert scores["el2n"].max() > 1.0
        assert 0 < scores["el2n"].min() < 5e-8 if classes > 1000 else scores["el2n"].min() < 1e-9


def check_strides_and_shift(
    kernel: Kernel, dtype: torch.dtype, device: str = "cpu", shifts: tuple[int, ...] = (0, 1, 3, 5, 6)
) -> None:
    """Every layout must score as its contiguous copy does, shifted or not."""
    generator = torch.Generator().manual_seed(1)
    whole = torch.randn(6, 5, 40, generator=generator).to(dtype).to(device)
    labels = torch.randint(0, 20, (6, 5), generator=generator).to(device)
    labels[1, 3] = labels[2, 4] = labels[4, 0] = -100
    views = {
        "contiguous": (whole[..., :20].contiguous(), labels),
        "padded classes": (whole[..., :20], labels),
        "offset": (whole[..., 3:23], labels),
        "batch step": (whole[::2, :, :20], labels[::2]),
        "transposed rows": (whole[..., :20].transpose(0, 1), labels.transpose(0, 1)),
        "expanded": (whole[:1, :, :20].expand(6, 5, 20), labels),
        "strided classes": (whole[..., ::2], labels),
        "one dimension": (whole[0, :, :20], labels[0]),
        "three dimensions": (whole[..., :20].unflatten(0, (2, 3)), labels.unflatten(0, (2, 3))),
        "not collapsible": (whole[..., :20].unflatten(0, (2, 3)).transpose(0, 1), labels.view(3, 2, 5)),
        "single row": (whole[0, 0, :20], labels[0, 0]),
    }
    for name, (z, y) in views.items():
        for shift in shifts if y.ndim else (0,):
            scores = check(kernel, z, y, shift=shift)
            contiguous = kernel(z.contiguous(), y.contiguous(), METRICS, -100, shift)
            for metric in METRICS:
                assert torch.equal(scores[metric], contiguous[metric]), (name, shift)
                if shift:
                    assert (scores[metric][..., -shift:] == 0).all(), (name, shift)


def check_special_rows(kernel: Kernel, dtype: torch.dtype, classes: int, device: str = "cpu") -> None:
    """-inf, +inf, NaN and ignored rows, with the answer of each written out."""
    inf, nan = float("inf"), float("nan")
    label = classes - 1
    ordinary = torch.linspace(-3, 3, classes)
    far = ordinary.clone()
    far[: classes - 2] = -inf  # whole blocks of -inf, the last two classes are left
    cases: list[tuple[Tensor, int, dict[str, float]]] = [
        (ordinary, label, {}),
        (far, label, {}),
        (far, classes - 2, {}),
        (far, 0, MASKED),
        (torch.full((classes,), -inf), label, UNDEFINED),
        (_put(torch.full((classes,), -inf), label, 1.0), label, ALONE),
        (_put(torch.full((classes,), -inf), 0, 1.0), label, MASKED),
        (_put(ordinary, 0, nan), label, UNDEFINED),
        (_put(ordinary, label, nan), label, UNDEFINED),
        (_put(far, 0, nan), label, UNDEFINED),
        (_put(torch.full((classes,), -inf), 0, nan), label, UNDEFINED),
        (_put(ordinary, 0, inf), label, UNDEFINED),
        (_put(ordinary, label, inf), label, UNDEFINED),
        (torch.full((classes,), nan), label, UNDEFINED),
        (torch.full((classes,), nan), -100, IGNORED),
        (torch.full((classes,), -inf), -100, IGNORED),
        (_put(ordinary * 20, 0, -60.0), label, {}),
        (torch.full((classes,), 5.0), label, {"margin": 0.0, "correct": 1.0}),
        (torch.linspace(0, 600, classes), 0, {}),  # every block raises the maximum
        (torch.linspace(600, 0, classes), 0, {}),
        (_put(_put(torch.full((classes,), -30.0), 0, 5.0), 1, 5.0), 0, {"margin": 0.0}),
        (_put(torch.full((classes,), -30.0), 0, 5.0), 1, {"margin": -35.0}),  # sure and wrong: entropy ~ 1e-13
    ]
    logits = torch.stack([z for z, _, _ in cases]).to(dtype).to(device)
    labels = torch.tensor([y for _, y, _ in cases], device=device)
    scores = check(kernel, logits, labels)
    for i, (_, _, wanted) in enumerate(cases):
        for metric, value in wanted.items():
            got = scores[metric][i].item()
            assert got == value or (got != got and value != value), (i, metric, got)


def _put(row: Tensor, index: int, value: float) -> Tensor:
    row = row.clone()
    row[index] = value
    return row
