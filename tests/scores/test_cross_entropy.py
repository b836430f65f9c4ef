"""fastprune.cross_entropy against torch.nn.functional.cross_entropy."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from fastprune.scores import cpu, cross_entropy, el2n, kernels, score
from fastprune.scores.options import LossOptions

HALF = {torch.float32: 2.0**-24, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}  # rounding of a result
# The same for the smallest results, whose digits end at a fixed place: subnormal ones in half precision.
HALF_SUBNORMAL = {torch.float32: 2.0**-44, torch.bfloat16: 2.0**-44, torch.float16: 2.0**-25}


def with_gradient(loss_fn, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss and the gradient of its sum, each row weighted differently."""
    leaf = logits.clone().requires_grad_()
    loss = loss_fn(leaf)
    weights = torch.tensor([0.5, 1.0, 1.5], dtype=loss.dtype)  # exact in every dtype
    (loss * weights[torch.arange(loss.numel()) % 3].view(loss.shape)).sum().backward()
    assert leaf.grad is not None
    return loss.detach(), leaf.grad


def torch_rows(logits: torch.Tensor, labels: torch.Tensor, shift: int, options: dict) -> torch.Tensor:
    """torch's own on flattened rows, with the labels moved by slicing."""
    labels = labels.clone()
    if shift:
        moved = torch.full_like(labels, options.get("ignore_index", -100))
        moved[..., :-shift] = labels[..., shift:]
        labels = moved
    loss = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1), **options)
    return loss.view(labels.shape) if options["reduction"] == "none" else loss


def check(logits: torch.Tensor, labels: torch.Tensor, shift: int = 0, **options) -> None:
    """No further from double precision than torch in the same dtype, or than the stated bound.

    The bound: 4e-6 of a row's loss, and of each gradient element 4e-6 of the element and 1e-6 of the row's
    factor, then the rounding to the dtype. NaN and infinities must be where double precision has them.
    """
    options = {"reduction": "mean"} | options
    weight = options.get("weight")
    exact_options = options | ({"weight": weight.double()} if weight is not None else {})
    exact = with_gradient(lambda z: torch_rows(z, labels, shift, exact_options), logits.double())
    same_options = options | ({"weight": weight.to(logits.dtype)} if weight is not None else {})
    theirs = with_gradient(lambda z: torch_rows(z, labels, shift, same_options), logits)
    ours = with_gradient(lambda z: cross_entropy(z, labels, shift=shift, **options), logits)
    for name, a, t, e in zip(("loss", "gradient"), ours, theirs, exact, strict=True):
        assert a.shape == t.shape and a.dtype == t.dtype == logits.dtype
        assert torch.equal(a.isnan(), e.isnan()) and torch.equal(a.isinf(), e.to(a.dtype).isinf()), name
        usual = e.isfinite() & a.isfinite()
        a, t, e = a[usual].double(), t[usual].double(), e[usual]
        torch_error = (t - e).abs()
        largest = e.abs().max().item() if e.numel() else 0.0
        allowed = (4e-6 + HALF[logits.dtype]) * e.abs() + (1e-6 if name == "gradient" else 0.0) * largest
        # The mean's factor, or a sum of rows, carries the errors of all of them; torch_error is one draw of those.
        allowed = torch.maximum(allowed, torch_error) + HALF_SUBNORMAL[logits.dtype]
        assert ((a - e).abs() <= allowed).all(), (name, ((a - e).abs() - allowed).max())


OPTIONS = [
    {},
    {"label_smoothing": 0.1},
    {"label_smoothing": 1.0},
    {"weight": torch.linspace(0.5, 2.0, 7)},
    {"weight": torch.linspace(0.0, 2.0, 7), "label_smoothing": 0.2},
    {"ignore_index": 3},
]


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("shape", [(), (6,), (3, 5), (2, 3, 4)])
def test_value_and_gradient(options: dict, reduction: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = (torch.randn(*shape, 7, generator=generator) * 3).to(dtype)
    labels = torch.randint(7, shape, generator=generator)
    if shape:
        labels[0] = options.get("ignore_index", -100)
    elif int(labels) == options.get("ignore_index"):
        labels = labels - 1
    check(logits, labels, reduction=reduction, **options)


@settings(max_examples=80, deadline=None)
@given(
    classes=st.integers(1, 1200),
    rows=st.integers(1, 40),
    scale=st.sampled_from([0.0, 1e-2, 1.0, 20.0]),
    offset=st.sampled_from([0.0, 200.0, -200.0]),
    smoothing=st.sampled_from([0.0, 0.1]),
    weighted=st.booleans(),
    reduction=st.sampled_from(["mean", "sum", "none"]),
    dtype=st.sampled_from(list(HALF)),
    seed=st.integers(0, 2**31),
)
def test_any_size(
    classes: int,
    rows: int,
    scale: float,
    offset: float,
    smoothing: float,
    weighted: bool,
    reduction: str,
    dtype: torch.dtype,
    seed: int,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = (torch.randn(rows, classes, generator=generator) * scale + offset).to(dtype)
    labels = torch.randint(classes, (rows,), generator=generator)
    labels[torch.rand(rows, generator=generator) < 0.2] = -100
    labels[-1] = seed % classes
    options = {"weight": torch.rand(classes, generator=generator) + 0.1} if weighted else {}
    check(logits, labels, reduction=reduction, label_smoothing=smoothing, **options)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("shift", [1, 2, 5, 9])
def test_shift_is_the_loss_of_the_slices(reduction: str, shift: int) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 5, 7, generator=generator)
    labels = torch.randint(7, (3, 5), generator=generator)
    labels[0, 2] = -100
    check(logits, labels, min(shift, 5), reduction=reduction)
    loss, gradient = with_gradient(lambda z: cross_entropy(z, labels, shift=shift, reduction="none"), logits)
    assert (loss[:, -shift:] == 0).all() and (gradient[:, -shift:] == 0).all()


@pytest.mark.parametrize("dtype", HALF)
def test_confident_rows_keep_their_gradient(dtype: torch.dtype) -> None:
    """torch's p - 1 is 0 here in every dtype; the true one is about -1e-9."""
    logits = torch.zeros(2, 40, dtype=dtype)
    logits[:, 3] = 24.0
    _, gradient = with_gradient(lambda z: cross_entropy(z, torch.tensor([3, 3]), reduction="sum"), logits)
    _, exact = with_gradient(lambda z: F.cross_entropy(z, torch.tensor([3, 3]), reduction="sum"), logits.double())
    if dtype != torch.float16:  # where 1e-9 is 0
        assert gradient[0, 3] < 0
        torch.testing.assert_close(gradient.double(), exact, rtol=1e-6 + HALF[dtype], atol=0)


def test_all_ignored_is_what_torch_makes_of_it() -> None:
    logits, labels = torch.randn(4, 7, generator=torch.Generator().manual_seed(0)), torch.full((4,), -100)
    for reduction in ("mean", "sum", "none"):
        for smoothing in (0.0, 0.1):
            options = {"reduction": reduction, "label_smoothing": smoothing}
            ours = with_gradient(lambda z, o=options: cross_entropy(z, labels, **o), logits)
            theirs = with_gradient(lambda z, o=options: F.cross_entropy(z, labels, **o), logits)
            for a, b in zip(ours, theirs, strict=True):
                torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)
    assert (cross_entropy(logits, labels, return_scores="el2n")[1] == 0).all()
    nothing = torch.zeros(0, 7), torch.zeros(0, dtype=torch.int64)
    for reduction in ("mean", "sum", "none"):
        torch.testing.assert_close(
            cross_entropy(*nothing, reduction=reduction), F.cross_entropy(*nothing, reduction=reduction), equal_nan=True
        )


def test_special_logits() -> None:
    inf, nan = torch.inf, torch.nan
    logits = torch.tensor(
        [
            [0.0, 1.0, -inf, 2.0],  # a masked class
            [0.0, 1.0, -inf, 2.0],  # a masked label: infinite loss, finite gradient
            [-inf, -inf, 3.0, -inf],  # alone
            [nan, 0.0, 0.0, 0.0],
            [inf, 0.0, 0.0, 0.0],
            [-inf, -inf, -inf, -inf],
            [nan, inf, -inf, 0.0],  # ignored
        ]
    )
    labels = torch.tensor([1, 2, 2, 1, 1, 1, -100])
    for smoothing in (0.0, 0.1):
        options = {"reduction": "none", "label_smoothing": smoothing}
        ours = with_gradient(lambda z, o=options: cross_entropy(z, labels, **o), logits)
        theirs = with_gradient(lambda z, o=options: F.cross_entropy(z, labels, **o), logits)
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a[:-1], b[:-1], rtol=1e-5, atol=1e-7, equal_nan=True)
            assert (a[-1] == 0).all()  # torch's gradient is NaN there: 0 times NaN


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_scores_come_with_the_loss(dtype: torch.dtype) -> None:
    logits = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_()
    labels = torch.arange(15).view(3, 5).int() % 7
    loss, scores = cross_entropy(logits, labels, shift=1, return_scores="el2n")
    assert loss.dtype == dtype and loss.requires_grad
    assert scores.dtype == torch.float32 and not scores.requires_grad
    assert torch.equal(scores, el2n(logits, labels, shift=1))
    assert torch.equal(loss, cross_entropy(logits, labels, shift=1))
    names = ("loss", "entropy", "el2n")
    _, by_name = cross_entropy(logits, labels, shift=1, label_smoothing=0.1, return_scores=names)
    assert tuple(by_name) == names
    for name, tensor in score(logits, labels, names, shift=1).items():
        assert torch.equal(by_name[name], tensor)


def test_probabilities_as_labels() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 5, 7, generator=generator)
    target = torch.randn(3, 5, 7, generator=generator).softmax(-1)
    loss, gradient = with_gradient(lambda z: cross_entropy(z, target), logits)
    theirs = with_gradient(lambda z: F.cross_entropy(z.view(15, 7), target.view(15, 7)), logits)
    assert torch.equal(loss, theirs[0]) and torch.equal(gradient, theirs[1])
    _, scores = cross_entropy(logits, target, return_scores="el2n")
    torch.testing.assert_close(scores, (logits.softmax(-1) - target).norm(dim=-1), rtol=1e-5, atol=0)


@pytest.mark.parametrize("layout", ["padded", "offset", "strided classes", "expanded", "not collapsible"])
def test_any_layout(layout: str) -> None:
    generator = torch.Generator().manual_seed(0)
    whole = torch.randn(4, 6, 40, generator=generator)
    labels = torch.randint(20, (4, 6), generator=generator)
    view = {
        "padded": whole[..., :20],
        "offset": whole[..., 3:23],
        "strided classes": whole[..., ::2],
        "expanded": whole[:1, :, :20].expand(4, 6, 20),
        "not collapsible": whole[..., :20].unflatten(0, (2, 2)).transpose(0, 1),
    }[layout]
    labels = labels.view(2, 2, 6) if layout == "not collapsible" else labels
    contiguous = with_gradient(lambda z: cross_entropy(z, labels, shift=1), view.contiguous())
    leaf = view.detach().requires_grad_()
    loss = cross_entropy(leaf, labels, shift=1)
    loss.backward()
    assert leaf.grad is not None
    assert torch.equal(loss.detach(), contiguous[0])
    torch.testing.assert_close(leaf.grad, contiguous[1] / 0.5, rtol=1e-6, atol=0)


def test_nothing_of_the_callers_is_written() -> None:
    logits, labels = torch.randn(3, 5, 7, requires_grad=True), torch.randint(7, (3, 5))
    weight = torch.rand(7)
    before = logits.detach().clone(), labels.clone(), weight.clone()
    loss, _ = cross_entropy(logits, labels, weight=weight, shift=2, return_scores=("el2n", "loss"))
    loss.backward()
    for now, then in zip((logits.detach(), labels, weight), before, strict=True):
        assert torch.equal(now, then)
    with torch.no_grad():
        logits.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss = cross_entropy(logits, labels)
        with torch.no_grad():
            logits.mul_(2)
        loss.backward()


def test_every_gradient_element_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    real = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *a, **k: real(*a, **k).fill_(torch.nan))
    for classes in (3, 40, 700):
        logits = torch.randn(5, 4, classes, generator=torch.Generator().manual_seed(0))
        labels = torch.zeros(5, 4, dtype=torch.int64)
        labels[2] = -100
        loss, state, scores = cpu.loss_forward(logits, labels, None, ("el2n",), -100, 0.0, 1, "none")
        grad = cpu.loss_backward(torch.ones(5, 4), state, logits, labels, None, -100, 0.0, 1)
        for written in (loss, state, scores["el2n"], grad):
            assert not written.isnan().any()


def test_memory_is_a_few_numbers_a_row() -> None:
    """The forward pass saves the logits themselves and 3 floats a row; nothing of the logits' size."""
    saved: list[torch.Tensor] = []
    logits = torch.randn(8, 5000, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        cross_entropy(logits, torch.zeros(8, dtype=torch.int64), return_scores="el2n")
    large = [t for t in saved if t.numel() > 100]
    assert len(large) == 1 and large[0].data_ptr() == logits.data_ptr()


def test_bits_do_not_depend_on_threads_or_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(300, 700, generator=generator)
    labels = torch.randint(700, (300,), generator=generator)
    results = []
    threads = torch.get_num_threads()
    for n in (1, 2, 5):
        torch.set_num_threads(n)
        try:
            results.append(with_gradient(lambda z: cross_entropy(z, labels), logits))
        finally:
            torch.set_num_threads(threads)
    for loss, gradient in results[1:]:
        assert torch.equal(loss, results[0][0]) and torch.equal(gradient, results[0][1])
    part = cross_entropy(logits[7:9], labels[7:9], reduction="none")
    assert torch.equal(part, cross_entropy(logits, labels, reduction="none")[7:9])


def test_kernels_are_used_where_they_exist() -> None:
    assert kernels.has_loss(torch.zeros(1, 2)) and kernels.has_loss(torch.zeros(1, 2).bfloat16())
    assert not kernels.has_loss(torch.zeros(1, 2).double())
    assert not kernels.has_loss(torch.zeros(1, 2, device="meta"))


def test_another_default_device() -> None:
    logits, labels = torch.randn(4, 7), torch.tensor([0, 1, 2, 3])
    expected = with_gradient(lambda z: cross_entropy(z, labels), logits)
    with torch.device("meta"):
        leaf = logits.clone().requires_grad_()
        loss, scores = cross_entropy(leaf, labels, return_scores="el2n")
        loss.backward()
        with pytest.raises(IndexError, match=r"labels\[0\] is 7"):
            el2n(logits, labels + 7)
    assert torch.equal(loss.detach(), expected[0]) and leaf.grad is not None
    assert torch.equal(scores, el2n(logits, labels))


def test_tensors_with_the_negative_bit() -> None:
    logits, labels = torch.randn(4, 7), torch.tensor([0, 1, 2, 3])
    minus = torch.complex(torch.zeros(4), torch.ones(4)).conj().imag  # -1, by a bit of its own
    assert minus.is_neg()
    gradients = []
    for loss_fn in (cross_entropy, F.cross_entropy):
        leaf = logits.clone().requires_grad_()
        loss_fn(leaf, labels, reduction="none").backward(minus)
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients)
    weight = torch._neg_view(torch.full((7,), -0.5))
    torch.testing.assert_close(
        cross_entropy(logits, labels, weight=weight), F.cross_entropy(logits, labels, weight=weight)
    )
    assert torch.equal(el2n(torch._neg_view(-logits), torch._neg_view(-labels)), el2n(logits, labels))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.1, 1.0])
@pytest.mark.parametrize("lead", [-1e5, -1e3, 1e3])
def test_smoothing_keeps_its_digits(lead: float, smoothing: float, weighted: bool) -> None:
    logits = torch.randn(3, 1000, generator=torch.Generator().manual_seed(0))
    logits[:, 5] = lead
    weight = torch.rand(1000, generator=torch.Generator().manual_seed(1)) if weighted else None
    if weight is not None:
        weight[5] = 0.0
    labels = torch.full((3,), 5)
    options = {"label_smoothing": smoothing, "reduction": "none"}
    ours = cross_entropy(logits, labels, weight=weight, **options)
    wide = None if weight is None else weight.double()
    exact = F.cross_entropy(logits.double(), labels, weight=wide, **options)
    torch.testing.assert_close(ours.double(), exact, rtol=4e-6, atol=0)


def test_what_goes_through_torch() -> None:
    logits, labels = torch.randn(4, 7, requires_grad=True), torch.tensor([0, 1, 2, 3])
    with pytest.raises(IndexError, match=r"labels\[0\] is 7, but logits have 7"):
        cross_entropy(logits.double(), labels + 7)
    cross_entropy(logits.double(), labels, weight=torch.rand(7))
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(logits.detach(), torch.ones(4, 7))
        tangents = [
            torch.autograd.forward_ad.unpack_dual(f(dual, labels)).tangent for f in (cross_entropy, F.cross_entropy)
        ]
    torch.testing.assert_close(*tangents)
    jacobian = torch.autograd.functional.jacobian
    for vectorize in (False, True):
        ours = jacobian(lambda z: cross_entropy(z, labels, reduction="none"), logits.detach(), vectorize=vectorize)
        theirs = jacobian(lambda z: F.cross_entropy(z, labels, reduction="none"), logits.detach(), vectorize=vectorize)
        torch.testing.assert_close(ours, theirs)


def test_any_shift() -> None:
    logits, labels = torch.randn(2, 3, 7), torch.zeros(2, 3, dtype=torch.int64)
    for shift in (3, 2**40, 2**63 - 1):
        assert (cross_entropy(logits, labels, shift=shift, reduction="none") == 0).all()
    for name in ("shift", "ignore_index"):
        with pytest.raises(ValueError, match=f"{name} must fit 64 bits, got 9223372036854775808"):
            cross_entropy(logits, labels, **{name: 2**63})


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_another_default_dtype(reduction: str) -> None:
    """What the backward pass is left is fp32."""
    logits, labels = torch.randn(4, 7), torch.tensor([0, 1, 2, 3])
    expected, _, _ = kernels.loss_forward(logits, labels, None, LossOptions(("el2n",), reduction=reduction))
    torch.set_default_dtype(torch.float64)
    try:
        loss, state, scores = kernels.loss_forward(logits, labels, None, LossOptions(("el2n",), reduction=reduction))
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(loss, expected)
    assert {x.dtype for x in (loss, state, scores["el2n"])} == {torch.float32}
