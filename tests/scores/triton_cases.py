"""What the Triton kernels are held to beyond row_score_cases, in the interpreter and on a GPU alike."""

from __future__ import annotations

import row_score_cases as cases
import torch
import torch.nn.functional as F
from torch import Tensor

from fastprune.scores import definition, triton_gradient, triton_reduction, triton_rows
from fastprune.scores.options import LossOptions
from fastprune.scores.triton_results import in_order

# Rounding to the nearest is 1/2 of these; the interpreter cuts bfloat16 off.
ULP = {torch.float32: 2.0**-23, torch.float16: 2.0**-10, torch.bfloat16: 2.0**-7}


def poisoned(
    logits: Tensor, labels: Tensor, metrics: tuple[str, ...], ignore_index: int, shift: int
) -> dict[str, Tensor]:
    """The launcher with outputs that show a row it does not write: no score has this value."""
    poison = -12345.0
    out = torch.full((len(metrics), *labels.shape), poison, device=logits.device)
    triton_rows.launch(logits, labels, out, LossOptions(metrics, ignore_index, shift=shift))
    return dict(zip(in_order(metrics), out, strict=True))


def check_sure_and_wrong(classes: int, dtype: torch.dtype, device: str = "cpu") -> None:
    generator = torch.Generator().manual_seed(3)
    leads = torch.tensor([1.0, 3.0, 6.0, 9.0, 12.0, 15.0, 17.0, 20.0, 24.0, 27.0])
    logits = torch.randn(len(leads), classes, generator=generator)
    spike = torch.arange(len(leads)) * 37 % classes
    labels = (spike + 1) % classes
    logits[torch.arange(len(leads)), spike] = logits.amax(1) + leads
    scores = cases.check(poisoned, logits.to(dtype).to(device), labels.to(device))
    assert 0 < scores["entropy"].min() < 1e-6


def check_finfo_min(classes: int, dtype: torch.dtype, device: str = "cpu") -> None:
    lowest = torch.finfo(dtype).min
    logits = torch.full((6, classes), lowest)
    logits[1, 1:3] = torch.tensor([1.0, 2.0])
    logits[2, -2:] = torch.tensor([1.0, 2.0])
    logits[3] = torch.linspace(-3, 3, classes)
    logits[3, : classes // 2] = lowest
    logits[4] = -lowest
    logits[5, 2] = -lowest
    labels = torch.tensor([0, 1, classes - 1, classes - 2, 1, 2])
    scores = cases.check(poisoned, logits.to(dtype).to(device), labels.to(device))
    torch.testing.assert_close(scores["confidence"][0].item(), 1 / classes)


WITHOUT_ENTROPY = tuple(metric for metric in cases.METRICS if metric != "entropy")
# What was NaN once: every value between -1.6e9 and -1e37.
MASKS = (-1e4, -1e9, -1e10, -1e20, -1e30, -3e38, 1e4, 1e10, 3e38)


def check_scores(logits: Tensor, labels: Tensor, device: str = "cpu") -> None:
    """The scores against their definition, and without the entropy the same bits."""
    logits, labels = logits.to(device), labels.to(device)
    with_entropy = cases.check(poisoned, logits, labels)
    without = poisoned(logits, labels, WITHOUT_ENTROPY, -100, 0)
    for metric in WITHOUT_ENTROPY:
        assert torch.equal(without[metric], with_entropy[metric]), metric


def check_masked_segment(mask: float, device: str = "cpu") -> None:
    """65,536 classes of 16 bits fill a segment; the few after them are the next one."""
    logits = torch.randn(2, 66_000, generator=torch.Generator().manual_seed(0))
    logits[0, 65_536:] = mask
    logits[1, :65_536] = mask
    labels = torch.tensor([7, 65_700])
    check_scores(logits.bfloat16(), labels, device)
    check_loss_of(logits.bfloat16(), labels, False, 0.1, device)


def check_labels_out_of_range(classes: int, device: str = "cpu") -> None:
    logits = torch.zeros(5, classes, device=device)
    labels = torch.tensor([0, classes, -1, -100, 2**40], device=device)
    scores = poisoned(logits, labels, cases.METRICS, -100, 0)
    losses, state, _ = triton_rows.loss_forward(logits, labels, None, LossOptions())
    ones = torch.ones(5, device=device)
    grad = triton_gradient.loss_backward(ones, state, logits, labels, None, LossOptions())
    for values in (*scores.values(), losses, *grad.T):
        assert values.isnan().tolist() == [False, True, True, False, True]
        assert values[3] == 0


def check_every_misalignment(classes: int, dtype: torch.dtype, device: str = "cpu", every: int = 1) -> None:
    """The same rows, or every so many of them, at every distance from a multiple of 16 bytes."""
    logits, labels = (x[::every].to(device) for x in cases.rows(classes, dtype))
    weight = torch.linspace(0.5, 1.5, classes, device=device)
    row_grads = torch.linspace(-1, 1, len(labels), device=device)
    options = LossOptions(label_smoothing=0.1)
    expected = None
    for offset in range(16 // dtype.itemsize):
        # The distance from one row to the next varies too.
        stride = classes + offset + (16 if offset % 2 else 3)
        moved = torch.zeros(len(labels), stride, dtype=dtype, device=device)[:, offset : offset + classes]
        moved.copy_(logits)
        scores = poisoned(moved, labels, cases.METRICS, -100, 0)
        losses, state, _ = triton_rows.loss_forward(moved, labels, weight, options)
        grad = triton_gradient.loss_backward(row_grads, state, moved, labels, weight, options)
        actual = [*scores.values(), losses, state, grad]
        expected = expected or actual
        assert all(torch.equal(x, y) for x, y in zip(actual, expected, strict=True)), offset


def check_loss(classes: int, dtype: torch.dtype, weighted: bool, smoothing: float, device: str = "cpu") -> None:
    logits, labels = cases.rows(classes, dtype)
    labels[2] = -100
    check_loss_of(logits, labels, weighted, smoothing, device)


def check_loss_of(logits: Tensor, labels: Tensor, weighted: bool, smoothing: float, device: str = "cpu") -> None:
    """Against F.cross_entropy in double precision on the same logits.

    Losses: relative error <= 4e-6, with smoothing too: it adds up M - z_i, which are positive. Below 2e-38 C the terms
    are no normal numbers, and the documented accuracy ends. Gradients: each
    entry, however small, within one rounding to the logits' dtype and 2e-6 + 2^-22 |z_i - M| (the rounding of
    fp32's exponent) of the sizes of what the smoothing adds up and of itself, so nothing else cancels. From
    |z_i - M| = 200 on the probability is 0 in both, and no more is allowed for it.
    """
    dtype, classes = logits.dtype, logits.shape[1]
    generator = torch.Generator().manual_seed(1)
    weight = torch.rand(classes, generator=generator) + 0.1 if weighted else None
    row_grads = torch.randn(len(labels), generator=generator)
    on_device = [None if x is None else x.to(device) for x in (logits, labels, weight)]
    before = logits.clone()
    options = LossOptions(label_smoothing=smoothing)
    losses, state, _ = triton_rows.loss_forward(*on_device, options)
    grad = triton_gradient.loss_backward(row_grads.to(device), state, *on_device, options)
    assert torch.equal(on_device[0].cpu(), before)
    assert grad.dtype == dtype and grad.is_contiguous()
    assert losses.dtype == state.dtype == torch.float32

    expected = _losses_in_double(logits, labels, weight, smoothing)
    losses = losses.cpu().double()
    infinite = expected > torch.finfo(torch.float32).max
    error = ((losses - expected).abs() - 2e-38 * classes).clamp(min=0) / expected
    assert not (error[~infinite] > 4e-6).any(), (error, losses, expected)
    assert (losses[infinite] == torch.inf).all(), (losses, expected)

    expected = _gradient_in_double(logits, labels, weight, smoothing, row_grads)
    error = (grad.cpu().double() - expected).abs()
    # Below it fp16 rounds absolutely, and the exponential's fp32 result is 0.
    smallest = max(torch.finfo(dtype).smallest_normal * ULP[dtype], torch.finfo(torch.float32).smallest_normal)
    # With smoothing W p_i and w_i cancel somewhere.
    z = _below_largest(logits)
    w = torch.ones(classes, dtype=torch.float64) if weight is None else weight.double()
    smoothed = smoothing / classes * (w.sum() * z.softmax(-1) + w)
    if smoothing == 1.0:
        # Nothing else is left at the label, and there the kernel takes W p_y from 1 - p_y.
        smoothed.scatter_(1, labels.clamp(min=0)[:, None], w.sum().item() / classes)
    terms = expected.abs() + row_grads.double().abs()[:, None] * smoothed
    allowed = (2e-6 + 2.0**-22 * (-z).clamp(max=200) + ULP[dtype]) * terms + smallest
    assert not (error > allowed).any(), (error / allowed).max()
    assert not grad.isnan().any()


def _gradient_in_double(
    logits: Tensor, labels: Tensor, weight: Tensor | None, smoothing: float, row_grads: Tensor
) -> Tensor:
    """The gradient of the rows' losses, with 1 - p_y as the other classes' share, which does not cancel.

    Against F.cross_entropy's in double, which takes p_y - 1: its error there is about C roundings of 1.
    """
    z = _below_largest(logits).requires_grad_()
    classes = z.shape[-1]
    w = torch.ones(classes, dtype=torch.float64) if weight is None else weight.double()
    at = labels.clamp(min=0)[:, None]
    p = z.detach().softmax(-1)
    others = p.scatter(1, at, 0.0).sum(-1, keepdim=True)
    hard = (w[at] * p).scatter(1, at, -w[at] * others)
    expected = (1 - smoothing) * hard + smoothing / classes * (w.sum() * p - w)
    expected = (expected * row_grads.double()[:, None]).masked_fill(labels[:, None] == -100, 0.0)
    loss = F.cross_entropy(z, labels, w, label_smoothing=smoothing, reduction="none")
    (theirs,) = torch.autograd.grad(loss, z, row_grads.double())
    assert not ((expected - theirs).abs() > 1e-12 * w.max()).any()
    return expected


def _below_largest(logits: Tensor) -> Tensor:
    """The logits less their largest, in double: beside 1e30 even double precision would lose log C."""
    z = logits.double()
    return z - z.amax(-1, keepdim=True).clamp(min=torch.finfo(z.dtype).min)


def _losses_in_double(logits: Tensor, labels: Tensor, weight: Tensor | None, smoothing: float) -> Tensor:
    """F.cross_entropy, with the loss of the label itself from the definition: it does not cancel at 1e-12."""
    z = _below_largest(logits)
    classes = z.shape[-1]
    w = torch.ones(classes, dtype=torch.float64) if weight is None else weight.double()
    hard = definition.row_scores(logits, labels, ("loss",), -100, 0)["loss"].double()
    at = labels.clamp(min=0)
    # The definition's is fp32: beyond its largest number it is infinite.
    hard = torch.where(hard.isinf(), z.logsumexp(-1) - z.gather(-1, at[:, None])[:, 0], hard)
    spread = (w * (z.logsumexp(-1, keepdim=True) - z)).sum(-1)
    expected = (1 - smoothing) * w[at] * hard + smoothing / classes * spread
    expected = expected.masked_fill(labels == -100, 0.0)
    theirs = F.cross_entropy(z, labels, w, label_smoothing=smoothing, reduction="none")
    torch.testing.assert_close(expected, theirs, atol=1e-6, rtol=1e-6)
    return expected


def check_loss_layouts(
    classes: int,
    dtype: torch.dtype,
    device: str = "cpu",
    shifts: tuple[int, ...] = (0, 1, 4, 5),
    shape: tuple[int, int] = (3, 4),
) -> None:
    """Views, shifted labels and ignored rows give what their contiguous copies give; what is not scored is 0."""
    generator = torch.Generator().manual_seed(1)
    whole = torch.randn(*shape, 2 * classes, generator=generator).to(dtype).to(device)
    labels = torch.randint(0, classes, shape, generator=generator).to(device)
    labels[0, -2] = labels[-2, -1] = labels[-1, 0] = -100
    row_grads = torch.randn(shape, generator=generator).to(device)
    weight = torch.rand(classes, generator=generator).to(device)
    views = {
        "contiguous": (whole[..., :classes].contiguous(), labels, row_grads),
        "offset": (whole[..., 3 : 3 + classes], labels, row_grads),
        "batch step": (whole[::2, :, :classes], labels[::2], row_grads[::2]),
        "transposed rows": (whole[..., :classes].transpose(0, 1), labels.T, row_grads.T),
        "expanded": (whole[:1, :, :classes].expand(*shape, classes), labels, row_grads),
        "strided classes": (whole[..., ::2], labels, row_grads),
        "one dimension": (whole[1, :, :classes], labels[1], row_grads[1]),
        "single row": (whole[0, 0, :classes], labels[0, 0], row_grads[0, 0]),
    }
    for name, (z, y, g) in views.items():
        for shift in shifts if y.ndim else (0,):
            moved = definition.shifted_labels(y, -100, shift)
            results = []
            for logits, targets, by in ((z, y, shift), (z.contiguous(), moved.contiguous(), 0)):
                options = LossOptions(("el2n",), -100, 0.1, by)
                losses, state, scores = triton_rows.loss_forward(logits, targets, weight, options)
                grad = triton_gradient.loss_backward(g, state, logits, targets, weight, options)
                results.append((losses, state, scores["el2n"], grad))
            for ours, contiguous in zip(*results, strict=True):
                assert torch.equal(ours, contiguous), (name, shift)
            losses, state, _, grad = results[0]
            unscored = moved == -100
            assert grad.shape == z.shape and grad.is_contiguous()
            statistics = state[:-1].view(3, *losses.shape)
            for values in (losses[unscored], grad[unscored], statistics[:, unscored]):
                assert (values == 0).all()
            assert state[-1] == 1
            assert losses[~unscored].isfinite().all() and grad[~unscored].isfinite().all()


def check_loss_special_rows(classes: int, dtype: torch.dtype, smoothing: float, device: str = "cpu") -> None:
    """-inf, +inf and NaN logits, each with what torch answers."""
    inf, nan = float("inf"), float("nan")
    ordinary = torch.linspace(-3, 3, classes)
    rows = [
        (ordinary, 1),
        (_put(ordinary, 2, -inf), 1),  # masked class: with smoothing the loss is inf
        (_put(ordinary, 1, -inf), 1),  # masked label: inf
        (torch.full((classes,), -inf), 1),
        (_put(torch.full((classes,), -inf), 1, 2.0), 1),  # only the label is left
        (_put(ordinary, 0, nan), 1),
        (_put(ordinary, 1, nan), 1),
        (_put(ordinary, classes - 1, inf), 1),
        (torch.full((classes,), nan), -100),
    ]
    logits = torch.stack([z for z, _ in rows]).to(dtype)
    labels = torch.tensor([y for _, y in rows])
    on_device = logits.to(device), labels.to(device), None
    options = LossOptions(label_smoothing=smoothing)
    losses, state, _ = triton_rows.loss_forward(*on_device, options)
    grad = triton_gradient.loss_backward(torch.ones(len(rows), device=device), state, *on_device, options)
    z = logits.double().requires_grad_()
    expected = F.cross_entropy(z, labels, label_smoothing=smoothing, reduction="none")
    (expected_grad,) = torch.autograd.grad(expected.sum(), z)
    undefined = expected_grad.isnan().any(1) & (labels != -100)
    expected_grad[labels == -100] = 0.0
    torch.testing.assert_close(losses.cpu().double(), expected.detach(), equal_nan=True, rtol=1e-6, atol=1e-6)
    assert grad.cpu()[undefined].isnan().all()
    torch.testing.assert_close(grad.cpu().double()[~undefined], expected_grad[~undefined], rtol=1e-5, atol=1e-6)


def _put(row: Tensor, index: int, value: float) -> Tensor:
    row = row.clone()
    row[index] = value
    return row


def check_reduction(rows: int, reduction: str, weighted: bool, device: str = "cpu") -> None:
    """The reduced loss and its gradient against F.cross_entropy in double, with ignored rows, shifts and strides.

    A sum of n non-negative fp32 numbers in lanes and a tree is right to n / 1024 + 10 roundings.
    """
    generator = torch.Generator().manual_seed(rows)
    classes = 5
    logits = torch.randn(2, rows, classes, generator=generator)
    labels = torch.randint(classes, (rows, 2), generator=generator).T  # (2, rows) with strides of its own
    labels[:, ::3] = -100
    weight = torch.rand(classes, generator=generator) + 0.1 if weighted else None
    z, y = logits.to(device), labels.to(device)
    w = None if weight is None else weight.to(device)
    for shift in (0, 1):
        options = LossOptions(shift=shift, reduction=reduction)
        losses, state, _ = triton_rows.loss_forward(z, y, w, options)
        loss = triton_reduction.reduced(losses, state, y, w, classes, options)
        upstream = torch.tensor(3.0, device=device)
        grad = triton_gradient.loss_backward(upstream, state, z, y, w, options)

        reference = logits.double().requires_grad_()
        moved = definition.shifted_labels(labels, -100, shift).reshape(-1)
        expected = F.cross_entropy(
            reference.view(-1, classes), moved, None if weight is None else weight.double(), reduction=reduction
        )
        assert loss.dtype == torch.float32 and loss.shape == ()
        if not (moved != -100).any():  # torch has no gradient then, and ours is 0
            assert loss.isnan() if reduction == "mean" else loss == 0
            assert (grad == 0).all()
            continue
        expected.backward(torch.tensor(3.0, dtype=torch.float64))
        allowed = 4e-6 + (rows / 512 + 20) * 2.0**-23
        assert (loss.cpu().double() - expected).abs() <= allowed * expected.abs(), (loss, expected)
        largest = reference.grad.abs().amax()
        assert (grad.cpu().double() - reference.grad).abs().amax() <= allowed * largest


def check_launches_again(classes: int, dtype: torch.dtype, device: str) -> None:
    """Other values in tensors of the same layout, which take the prepared launch, and other layouts in between."""
    for seed in range(4):
        logits, labels = cases.rows(classes, dtype, seed)
        logits[0, 0] += seed  # so that no two calls give the same
        check_scores(logits, labels, device)
        check_loss_of(logits, labels.clamp(min=0), seed % 2 == 0, 0.1 * (seed % 2), device)
        moved = torch.zeros(len(labels), classes + 1, dtype=dtype)[:, 1:]
        moved.copy_(logits)
        check_scores(moved, labels, device)
