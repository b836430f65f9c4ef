"""The specification itself, against the textbook formulas where those are well conditioned."""

from __future__ import annotations

import math

import mpmath
import pytest
import torch
import torch.nn.functional as F

from fastprune.scores import definition


def textbook(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    p = torch.softmax(logits.double(), -1)
    el2n = (p - F.one_hot(labels, logits.shape[-1])).norm(dim=-1)
    return el2n, -p.gather(-1, labels[..., None]).squeeze(-1).log()


@pytest.mark.parametrize("classes", [2, 3, 7, 150, 32_000])
@pytest.mark.parametrize("shape", [(), (5,), (3, 4), (2, 3, 4)])
def test_agrees_with_the_textbook(classes: int, shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(classes)
    logits = torch.randn(*shape, classes, generator=generator)
    labels = torch.randint(classes, shape, generator=generator)
    scores = definition.row_scores(logits, labels, ("el2n", "loss"), -100, 0)
    el2n, loss = textbook(logits, labels)
    torch.testing.assert_close(scores["el2n"], el2n.float(), rtol=2e-7, atol=0)
    torch.testing.assert_close(scores["loss"], loss.float(), rtol=2e-7, atol=0)


@pytest.mark.parametrize("lead", [0.0, 1.0, 10.0, 20.0, 28.0])
def test_agrees_with_50_digits_where_the_textbook_cancels(lead: float) -> None:
    logits = torch.tensor([[lead + 0.3, 0.1, -0.7, 0.2, -2.0]], dtype=torch.float64)
    with mpmath.workdps(50):
        e = [mpmath.e ** mpmath.mpf(z) for z in logits[0].tolist()]
        total = mpmath.fsum(e)
        el2n = mpmath.sqrt((1 - e[0] / total) ** 2 + mpmath.fsum((x / total) ** 2 for x in e[1:]))
        loss = -mpmath.log(e[0] / total)
    scores = definition.row_scores(logits, torch.tensor([0]), ("el2n", "loss"), -100, 0)
    assert math.isclose(scores["el2n"].item(), float(el2n), rel_tol=1e-7)
    assert math.isclose(scores["loss"].item(), float(loss), rel_tol=1e-7)


def test_labels_out_of_range_poison_their_row_alone() -> None:
    logits = torch.zeros(4, 3)
    el2n = definition.row_scores(logits, torch.tensor([0, 3, -1, -100]), ("el2n",), -100, 0)["el2n"]
    assert el2n.isnan().tolist() == [False, True, True, False]
    assert el2n[3] == 0


def test_shifted_labels_do_not_write_to_the_caller() -> None:
    labels = torch.arange(8).view(2, 4)
    before = labels.clone()
    assert definition.shifted_labels(labels, -100, 1).tolist() == [[1, 2, 3, -100], [5, 6, 7, -100]]
    assert definition.shifted_labels(labels, -1, 4).tolist() == [[-1] * 4] * 2
    assert definition.shifted_labels(labels, -1, 9).tolist() == [[-1] * 4] * 2
    assert torch.equal(labels, before)
