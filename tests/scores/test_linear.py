"""Scores and loss of a linear head without its logits, against PyTorch with them."""

from __future__ import annotations

from typing import Any

import linear_cases
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from linear_cases import case, relative_error

import fastprune
from fastprune import linear_cross_entropy, linear_score

# A gradient is a sum of products of rounded factors: some roundings to the dtype of the tiles.
TOLERANCE = {torch.float32: 3e-6, torch.bfloat16: 2e-2, torch.float16: 3e-3, torch.float64: 1e-12}
HEADS: tuple[dict[str, Any], ...] = ({}, {"softcap": 3.0}, {"logit_scale": 0.5}, {"softcap": 5.0, "logit_scale": 2.0})


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_loss_and_gradients(data: st.DataObject) -> None:
    draw = data.draw
    dtype = draw(st.sampled_from(list(TOLERANCE)))
    rows, hidden, classes = draw(st.integers(1, 90)), draw(st.integers(1, 24)), draw(st.integers(2, 2600))
    given = case(rows, hidden, classes, dtype, bias=draw(st.booleans()), ignored=draw(st.sampled_from([0.0, 0.3])))
    given.labels[0] = 0  # the mean of no rows has a test of its own
    options: dict[str, Any] = {
        "reduction": draw(st.sampled_from(["mean", "sum", "none"])),
        "label_smoothing": draw(st.sampled_from([0.0, 0.1])),
        "row_weight": torch.rand(rows) if draw(st.booleans()) else None,
        **draw(st.sampled_from(HEADS)),
    }
    loss = linear_cross_entropy(given.hidden, given.weight, given.labels, bias=given.bias, **options)
    exact = linear_cases.wide(given)
    expected = linear_cases.expected_loss(exact, **options)
    up = torch.rand(expected.shape) if options["reduction"] == "none" else torch.tensor(1.7)
    found = torch.autograd.grad((loss * up.to(loss.dtype)).sum(), given.parts())
    wanted = torch.autograd.grad((expected * up.to(dtype).double()).sum(), exact.parts())
    assert loss.dtype == dtype and loss.shape == expected.shape
    assert relative_error(loss, expected) <= TOLERANCE[dtype]
    # Where the softcap saturates, its derivative 1 - (z / c)^2 magnifies the rounding of z, in PyTorch's way too.
    theirs = torch.autograd.grad((linear_cases.expected_loss(given, **options) * up.to(dtype)).sum(), given.parts())
    sizes = linear_cases.sizes_of_terms(exact, up.to(dtype).double(), **options)
    for gradient, reference, other, size in zip(found, wanted, theirs, sizes, strict=True):
        assert gradient.dtype == dtype
        error, allowed = relative_error(gradient, reference, size), 2 * TOLERANCE[dtype]
        assert error <= max(allowed, 3 * relative_error(other, reference, size) if "softcap" in options else 0.0)


@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("head", HEADS)
def test_scores_are_those_of_the_logits_as_rounded(dtype: torch.dtype, head: dict[str, Any]) -> None:
    """Within 4e-6 of `score` on the same rounded logits. Whole numbers make the product exact."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randint(-2, 3, (40, 8), generator=generator).to(dtype)
    weight = torch.randint(-2, 3, (3000, 8), generator=generator).to(dtype)
    labels = torch.randint(3000, (40,), generator=generator)
    logits = F.linear(hidden, weight) * head.get("logit_scale", 1.0)
    if cap := head.get("softcap"):
        logits = logits.div(cap).tanh().mul(cap)
    names = ("el2n", "loss", "confidence", "margin", "entropy", "correct")
    found = linear_score(hidden, weight, labels, names, **head)
    for name, rows in fastprune.score(logits, labels, names).items():
        torch.testing.assert_close(found[name], rows, rtol=8e-6, atol=0.0)


def test_confident_tokens_keep_their_digits() -> None:
    """EL2N and loss down to 1e-12, where TRL's two scalars lose all of them."""
    leads = torch.tensor([0.0, 5.0, 15.0, 27.0])
    weight = torch.cat([torch.eye(4), torch.zeros(2000, 4)])
    labels = torch.arange(4)
    hidden = torch.diag(leads)
    found = linear_score(hidden, weight, labels, ("el2n", "loss"))
    z = torch.zeros(4, 2004, dtype=torch.float64).scatter(1, labels[:, None], leads.double()[:, None])
    others = 2003 * torch.exp(-leads.double())
    loss = torch.log1p(others)
    el2n = torch.sqrt(others**2 + others**2 / 2003) / (1 + others)
    assert z.shape == (4, 2004)
    torch.testing.assert_close(found["loss"].double(), loss, rtol=4e-6, atol=0.0)
    torch.testing.assert_close(found["el2n"].double(), el2n, rtol=4e-6, atol=0.0)


def test_tokens_are_shifted_and_reduced() -> None:
    given = case(24, 6, 50, torch.float32)
    hidden, labels = given.hidden.view(4, 6, 6), given.labels.view(4, 6)
    logits = linear_cases.logits_of(given).view(4, 6, 50)
    for reduce in (None, "norm", "mean", "sum", "max"):
        found = linear_score(hidden, given.weight, labels, "el2n", shift=1, reduce=reduce)
        expected = fastprune.score(logits, labels, "el2n", shift=1, reduce=reduce)
        torch.testing.assert_close(found, expected, rtol=2e-5, atol=1e-6)
    loss = linear_cross_entropy(hidden, given.weight, labels, shift=1)
    torch.testing.assert_close(loss, fastprune.cross_entropy(logits, labels, shift=1), rtol=1e-5, atol=1e-6)


def test_scores_come_with_the_loss_and_never_require_grad() -> None:
    given = case(30, 6, 70, torch.float32)
    loss, el2n = linear_cross_entropy(given.hidden, given.weight, given.labels, return_scores="el2n")
    both, scores = linear_cross_entropy(given.hidden, given.weight, given.labels, return_scores=("entropy", "el2n"))
    assert torch.equal(loss, both) and torch.equal(el2n, scores["el2n"])
    assert loss.requires_grad and not el2n.requires_grad and not scores["entropy"].requires_grad
    assert (el2n[given.labels == -100] == 0).all()


def test_a_metric_of_logits_takes_some_rows_at_a_time() -> None:
    from fastprune.scores.metrics import TABLE, Metric

    given = case(30, 6, 70, torch.float32)
    TABLE["gini"] = Metric("gini", "large", compute=lambda g: 1 - g.logits.softmax(-1).square().sum(-1))
    try:
        found = linear_score(given.hidden, given.weight, given.labels, ("gini", "el2n"))
        expected = fastprune.score(linear_cases.logits_of(given), given.labels, ("gini", "el2n"))
        _, rows = linear_cross_entropy(given.hidden, given.weight, given.labels, return_scores=("gini",))
    finally:
        del TABLE["gini"]
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-5, atol=1e-6)
    assert torch.equal(rows["gini"], found["gini"])


def test_a_frozen_head_gets_no_gradient_and_a_lora_part_does() -> None:
    given = case(30, 6, 70, torch.float32)
    frozen = given.weight.detach()
    down, up = torch.randn(2, 6, requires_grad=True), torch.zeros(70, 2, requires_grad=True)
    loss = linear_cross_entropy(given.hidden, frozen + up @ down, given.labels)
    expected = F.cross_entropy(given.hidden @ (frozen + up @ down).t(), given.labels)
    for found, wanted in zip(
        torch.autograd.grad(loss, [given.hidden, up, down]),
        torch.autograd.grad(expected, [given.hidden, up, down]),
        strict=True,
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)
    linear_cross_entropy(given.hidden, frozen, given.labels).backward()
    assert frozen.grad is None and given.hidden.grad is not None


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_a_head_tied_to_the_embedding_adds_up_both_gradients(reduction: str) -> None:
    table = torch.nn.Embedding(70, 6)
    tokens, labels = torch.randint(70, (20,)), torch.randint(70, (20,))
    linear_cross_entropy(table(tokens), table.weight, labels, reduction=reduction).sum().backward()
    found = table.weight.grad
    assert found is not None
    table.weight.grad = None
    F.cross_entropy(table(tokens) @ table.weight.t(), labels, reduction=reduction).sum().backward()
    torch.testing.assert_close(found, table.weight.grad, rtol=1e-4, atol=1e-6)


def test_gradients_are_kept_only_for_those_who_ask() -> None:
    given = case(30, 6, 70, torch.float32)
    loss = linear_cross_entropy(given.hidden, given.weight, given.labels)
    first = torch.autograd.grad(loss, given.parts(), retain_graph=True)
    second = torch.autograd.grad(loss, given.parts())
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    with pytest.raises(RuntimeError, match="second time|retain_graph=True"):
        torch.autograd.grad(loss, given.parts())


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_a_second_derivative_is_refused(reduction: str) -> None:
    given = case(30, 6, 70, torch.float32)
    loss = linear_cross_entropy(given.hidden, given.weight, given.labels, reduction=reduction).sum()
    (gradient,) = torch.autograd.grad(loss, given.hidden, create_graph=True)
    with pytest.raises(RuntimeError, match="has no second derivative"):
        gradient.sum().backward()


def test_without_a_row_that_counts_the_mean_is_nan_and_the_gradient_zero_as_in_torch() -> None:
    given = case(12, 6, 70, torch.float32, ignored=1.1)
    loss, el2n = linear_cross_entropy(given.hidden, given.weight, given.labels, return_scores="el2n")
    assert loss.isnan() and (el2n == 0).all()
    assert all((g == 0).all() for g in torch.autograd.grad(loss, given.parts()))
    assert linear_cross_entropy(given.hidden, given.weight, given.labels, reduction="sum") == 0


def test_a_state_with_nan_spoils_its_own_row_alone() -> None:
    given = case(12, 6, 70, torch.float32, ignored=0.0)
    hidden = given.hidden.detach().clone()
    hidden[3, 2] = torch.nan
    found = linear_score(hidden, given.weight, given.labels, "el2n")
    assert found[3].isnan() and found.isnan().sum() == 1
    losses = linear_cross_entropy(hidden, given.weight, given.labels, reduction="none")
    assert losses[3].isnan() and losses.isnan().sum() == 1


def test_nothing_of_the_caller_is_written() -> None:
    given = case(30, 6, 70, torch.bfloat16, bias=True)
    before = [part.detach().clone() for part in (*given.parts(), given.labels)]
    state = torch.get_rng_state()
    linear_cross_entropy(given.hidden, given.weight, given.labels, bias=given.bias, softcap=3.0).backward()
    assert all(torch.equal(a, b) for a, b in zip(before, (*given.parts(), given.labels), strict=True))
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_autocast_multiplies_in_its_dtype(reduction: str) -> None:
    given = case(30, 6, 70, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        loss = linear_cross_entropy(given.hidden, given.weight, given.labels, reduction=reduction)
        expected = F.cross_entropy(F.linear(given.hidden, given.weight), given.labels, reduction=reduction)
    assert loss.dtype == expected.dtype == torch.float32
    torch.testing.assert_close(loss, expected, rtol=2e-2, atol=2e-2)
    loss.sum().backward()
    assert given.weight.grad is not None and given.weight.grad.dtype == torch.float32


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"weight": torch.zeros(9, 5)}, ValueError, r"hidden must be \(..., H\) and weight \(V, H\), got \(4, 6\) and"),
    ({"weight": torch.zeros(1, 6)}, ValueError, "V = 1 classes"),
    ({"weight": torch.zeros(9, 6, dtype=torch.bfloat16)}, ValueError, r"weight is torch.bfloat16 and hidden"),
    ({"weight": torch.zeros(9, 6, dtype=torch.int8)}, TypeError, "weight must be float16"),
    ({"hidden": [1.0]}, TypeError, "hidden must be a torch.Tensor, got list"),
    ({"labels": torch.zeros(3, dtype=torch.long)}, ValueError, r"labels must have shape \(4,\)"),
    ({"labels": torch.zeros(4)}, TypeError, "labels must be integer class indices"),
    ({"labels": torch.tensor([0, 1, 9, 2])}, IndexError, r"labels\[2\] is 9, but logits have 9 classes"),
    ({"bias": torch.zeros(8)}, ValueError, r"bias must have shape \(9,\)"),
    ({"bias": torch.zeros(9, dtype=torch.float16)}, ValueError, "bias is torch.float16 and hidden"),
    ({"softcap": 0.0}, ValueError, "softcap must be larger than 0"),
    ({"logit_scale": float("inf")}, ValueError, "logit_scale must be finite"),
    ({"shift": -1}, ValueError, "shift must be 0 or more"),
    ({"reduction": "avg"}, ValueError, "unknown reduction 'avg'"),
    ({"label_smoothing": 2.0}, ValueError, "label_smoothing must be a number from 0 to 1"),
    ({"row_weight": torch.ones(3)}, ValueError, r"row_weight must have the labels' shape \(4,\)"),
    ({"row_weight": torch.ones(4, dtype=torch.int64)}, TypeError, "row_weight must be a floating point"),
    ({"return_scores": "el2"}, ValueError, "unknown metric 'el2'"),
]


@pytest.mark.parametrize(("change", "error", "says"), BAD)
def test_bad_input_gets_one_sentence(change: dict[str, Any], error: type[Exception], says: str) -> None:
    good = {"hidden": torch.zeros(4, 6), "weight": torch.zeros(9, 6), "labels": torch.tensor([0, 1, -100, 8])}
    with pytest.raises(error, match=says):
        linear_cross_entropy(**(good | change))
