"""Random layouts, labels and values through the C++ entry points, against the definition.

An ordinary test, and with `make sanitize` a search for reads and writes out of bounds: FASTPRUNE_FUZZ sets the
number of examples.
"""

from __future__ import annotations

import os

import row_score_cases as cases
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastprune.scores import cpu, cross_entropy

EXAMPLES = int(os.environ.get("FASTPRUNE_FUZZ", "150"))
VALUES = (float("nan"), float("inf"), -float("inf"), -float("inf"), 0.0, -0.0, 1e-30, 65504.0, -65504.0)


@st.composite
def batches(draw: st.DrawFn, dtypes: tuple[torch.dtype, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (B, T, C) as any view of an allocation that ends where the view does, and labels."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    batch, tokens = draw(st.integers(0, 5)), draw(st.integers(0, 40))
    classes = draw(st.one_of(st.integers(1, 40), st.integers(180, 210), st.integers(500, 530), st.integers(1000, 2100)))
    layout = draw(st.sampled_from(["contiguous", "offset", "padded", "transposed", "expanded", "every other batch"]))
    offset, padding = draw(st.integers(1, 7)), draw(st.integers(1, 9))
    scale = draw(st.sampled_from([0.0, 1.0, 4.0, 40.0]))

    def values(*shape: int) -> torch.Tensor:
        return (torch.randn(*shape, generator=generator) * scale).to(draw(st.sampled_from(dtypes)))

    if layout == "offset":
        flat = values(offset + batch * tokens * classes)
        logits = flat[offset:].view(batch, tokens, classes)
    elif layout == "padded":
        logits = values(batch, tokens, classes + padding)[..., padding:]
    elif layout == "transposed":
        logits = values(tokens, batch, classes).transpose(0, 1)
    elif layout == "expanded":
        logits = values(1, tokens, classes).expand(batch, tokens, classes)
    elif layout == "every other batch":
        logits = values(max(2 * batch, 1), tokens, classes)[::2][:batch]
    else:
        logits = values(batch, tokens, classes)
    for value in draw(st.lists(st.sampled_from(VALUES), max_size=4)):
        if logits.numel() and layout != "expanded":
            place = torch.randint(logits.numel(), (max(logits.numel() // 50, 1),), generator=generator)
            logits[torch.unravel_index(place, logits.shape)] = value
    labels = torch.randint(classes, (batch, tokens), generator=generator)
    labels[torch.rand(batch, tokens, generator=generator) < draw(st.sampled_from([0.0, 0.3, 1.0]))] = -100
    if draw(st.booleans()):
        labels = labels.t().contiguous().t()
    return logits, labels


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    batch=batches(cases.DTYPES),
    metrics=st.lists(st.sampled_from(cases.METRICS), min_size=1, unique=True),
    shift=st.integers(0, 45),
    threads=st.integers(0, 5),
)
def test_scores(batch: tuple[torch.Tensor, torch.Tensor], metrics: list[str], shift: int, threads: int) -> None:
    logits, labels = batch
    actual = cpu.row_scores(logits, labels, tuple(metrics), -100, shift, threads=threads)
    if not labels.numel():
        return
    expected = cases.definition.row_scores(logits, labels, tuple(metrics), -100, shift)
    for metric in metrics:
        assert cases.worst_error(actual[metric], expected[metric]) <= cases.BOUND


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    batch=batches((torch.float32, torch.bfloat16, torch.float16)),
    smoothing=st.sampled_from([0.0, 0.1, 1.0]),
    weighted=st.booleans(),
    reduction=st.sampled_from(["mean", "sum", "none"]),
    shift=st.integers(0, 45),
)
def test_loss(
    batch: tuple[torch.Tensor, torch.Tensor], smoothing: float, weighted: bool, reduction: str, shift: int
) -> None:
    """Against double precision, loosely: test_cross_entropy.py has the bounds."""
    logits, labels = batch
    weight = torch.linspace(0.1, 2.0, logits.shape[-1]) if weighted else None
    options = {"label_smoothing": smoothing, "reduction": reduction, "shift": shift}
    results = []
    for z, w in ((logits, weight), (logits.double(), None if weight is None else weight.double())):
        leaf = z.detach().requires_grad_()
        loss, scores = cross_entropy(leaf, labels, weight=w, return_scores=("el2n",), **options)
        loss.sum().backward()
        assert leaf.grad is not None and leaf.grad.shape == logits.shape
        results.append((loss.detach().double(), leaf.grad.double(), scores["el2n"].double()))
    finite = logits.isfinite().all(-1)
    for ours, exact in zip(*results, strict=True):
        if ours.ndim == 3:  # rows with infinities are test_special_logits' business
            ours, exact = ours[finite], exact[finite]
        elif ours.ndim == 2:
            ours, exact = ours[finite], exact[finite]
        elif not finite.all():
            continue
        limit = torch.finfo(logits.dtype).max
        usual = exact.isfinite() & (exact.abs() < limit)
        scale = max(exact[usual].abs().max().item(), 1e-3) if usual.any() else 1.0
        torch.testing.assert_close(ours[usual], exact[usual], rtol=2 * torch.finfo(logits.dtype).eps, atol=1e-3 * scale)
