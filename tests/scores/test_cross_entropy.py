"""fastprune.cross_entropy against torch.nn.functional.cross_entropy."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from fastprune.scores import cross_entropy, el2n, score

OPTIONS = [
    {},
    {"label_smoothing": 0.1},
    {"weight": torch.linspace(0.5, 2.0, 7)},
    {"weight": torch.linspace(0.5, 2.0, 7), "label_smoothing": 0.2},
]


def with_gradient(loss_fn, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    leaf = logits.clone().requires_grad_()
    loss = loss_fn(leaf)
    loss.sum().backward()
    assert leaf.grad is not None
    return loss.detach(), leaf.grad


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("shape", [(), (6,), (3, 5), (2, 3, 4)])
def test_same_value_and_gradient(options: dict, reduction: str, shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(*shape, 7, generator=generator)
    labels = torch.randint(7, shape, generator=generator)
    if shape:
        labels[0] = -100
    options = options | {"reduction": reduction}
    ours = with_gradient(lambda z: cross_entropy(z, labels, **options), logits)
    theirs = with_gradient(lambda z: F.cross_entropy(z.reshape(-1, 7), labels.reshape(-1), **options), logits)
    assert ours[0].shape == (shape if reduction == "none" else ())
    assert torch.equal(ours[0].reshape(-1), theirs[0].reshape(-1))
    assert torch.equal(ours[1], theirs[1])


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("shift", [1, 2, 5])
def test_shift_is_the_loss_of_the_slices(reduction: str, shift: int) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 5, 7, generator=generator)
    labels = torch.randint(7, (3, 5), generator=generator)
    labels[0, 2] = -100
    loss, grad = with_gradient(lambda z: cross_entropy(z, labels, shift=shift, reduction=reduction), logits)
    sliced, sliced_grad = with_gradient(
        lambda z: F.cross_entropy(z[:, :-shift].reshape(-1, 7), labels[:, shift:].reshape(-1), reduction=reduction),
        logits,
    )
    if reduction == "none":
        assert loss.shape == (3, 5)
        assert (loss[:, -shift:] == 0).all()
        loss, sliced = loss[:, :-shift], sliced.view(3, 5 - shift)
    torch.testing.assert_close(loss, sliced, equal_nan=True)
    torch.testing.assert_close(grad, sliced_grad, equal_nan=True)


def test_all_ignored_is_what_torch_makes_of_it() -> None:
    logits, labels = torch.randn(4, 7, generator=torch.Generator().manual_seed(0)), torch.full((4,), -100)
    for reduction in ("mean", "sum"):
        ours = with_gradient(lambda z, r=reduction: cross_entropy(z, labels, reduction=r), logits)
        theirs = with_gradient(lambda z, r=reduction: F.cross_entropy(z, labels, reduction=r), logits)
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)
    assert (cross_entropy(logits, labels, return_scores="el2n")[1] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_scores_come_with_the_loss(dtype: torch.dtype) -> None:
    logits = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_()
    labels = torch.arange(15).view(3, 5).int() % 7
    loss, scores = cross_entropy(logits, labels, shift=1, return_scores="el2n")
    assert loss.dtype == dtype and loss.requires_grad
    assert scores.dtype == torch.float32 and not scores.requires_grad
    assert torch.equal(scores, el2n(logits, labels, shift=1))
    assert torch.equal(loss, cross_entropy(logits, labels, shift=1))
    _, by_name = cross_entropy(logits, labels, shift=1, return_scores=("loss", "el2n"))
    assert list(by_name) == ["loss", "el2n"]
    for name, tensor in score(logits, labels, shift=1).items():
        assert torch.equal(by_name[name], tensor)


def test_nothing_of_the_callers_is_written() -> None:
    logits, labels = torch.randn(3, 5, 7), torch.randint(7, (3, 5))
    before = logits.clone(), labels.clone()
    cross_entropy(logits, labels, shift=2, return_scores=("el2n", "loss"))
    assert torch.equal(logits, before[0]) and torch.equal(labels, before[1])
