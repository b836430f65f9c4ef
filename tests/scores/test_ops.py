"""The scores and the loss as operators: torch.compile, fake tensors, autocast, torch.func."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode

import fastprune
from fastprune.scores import cross_entropy, el2n, ops, score

OPS = torch.ops.fastprune


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(9, (4, 6), generator=generator)
    labels[0, 1] = -100
    return torch.randn(4, 6, 9, generator=generator), labels


def test_opcheck_scores(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    torch.library.opcheck(OPS.row_scores, (*batch, ["el2n", "margin"], -100, 1))


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("weighted", [False, True])
def test_opcheck_loss(batch: tuple[torch.Tensor, torch.Tensor], reduction: str, weighted: bool) -> None:
    logits, labels = batch
    weight = torch.rand(9) if weighted else None
    arguments = logits.requires_grad_(), labels, weight, ["el2n"], -100, 0.1, 1, reduction
    torch.library.opcheck(OPS.cross_entropy, arguments)
    loss, state, _ = OPS.cross_entropy(logits.detach(), *arguments[1:])
    backward = torch.ones_like(loss), state, logits.detach(), labels, weight, -100, 0.1, 1
    torch.library.opcheck(OPS.cross_entropy_backward, backward)


def train_step(z: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    loss, scores = fastprune.cross_entropy(z * 2, labels, shift=1, return_scores=("el2n", "entropy"))
    return loss + fastprune.el2n(z, labels, reduce="norm").sum(), scores


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiles_without_a_graph_break(batch: tuple[torch.Tensor, torch.Tensor], backend: str) -> None:
    logits, labels = batch
    compiled = torch.compile(train_step, fullgraph=True, backend=backend)
    results = []
    for step in (train_step, compiled):
        leaf = logits.clone().requires_grad_()
        loss, scores = step(leaf, labels)
        loss.backward()
        assert not scores["el2n"].requires_grad
        results.append((loss.detach(), leaf.grad, scores["el2n"], scores["entropy"]))
    for eager, traced in zip(*results, strict=True):
        assert torch.equal(eager, traced)


def test_compiles_for_any_batch_size() -> None:
    compiled = torch.compile(train_step, fullgraph=True, backend="aot_eager", dynamic=True)
    for rows in (3, 8):
        logits, labels = torch.randn(rows, 5, 7), torch.randint(7, (rows, 5))
        assert torch.equal(compiled(logits, labels)[0], train_step(logits, labels)[0])


def test_fake_tensors_see_the_right_shapes() -> None:
    with FakeTensorMode():
        logits, labels = torch.empty(4, 6, 9, dtype=torch.bfloat16), torch.zeros(4, 6, dtype=torch.int64)
        scores = score(logits, labels, ("el2n", "margin"), shift=1)
        loss, s = cross_entropy(logits.requires_grad_(), labels, return_scores="el2n", reduction="none")
        loss.sum().backward()
        assert logits.grad is not None and logits.grad.shape == (4, 6, 9) and logits.grad.dtype == torch.bfloat16
    assert {t.shape for t in (*scores.values(), loss, s)} == {(4, 6)}
    assert loss.dtype == torch.bfloat16 and s.dtype == torch.float32


def test_eager_calls_take_the_direct_path(batch: tuple[torch.Tensor, torch.Tensor], monkeypatch) -> None:
    logits, labels = batch
    assert ops.direct(torch.nn.Parameter(logits), labels)

    def refuse(*_):
        raise AssertionError("went through the dispatcher")

    monkeypatch.setattr(torch.ops, "fastprune", type("Refuse", (), {"row_scores": refuse, "cross_entropy": refuse}))
    el2n(logits, labels)
    cross_entropy(logits.requires_grad_(), labels, return_scores="el2n")[0].backward()


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_autocast_gives_torchs_dtype(
    batch: tuple[torch.Tensor, torch.Tensor], dtype: torch.dtype, enabled: bool
) -> None:
    logits, labels = batch[0].to(dtype).requires_grad_(), batch[1]
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
        loss, scores = cross_entropy(logits, labels, return_scores="el2n")
        theirs = F.cross_entropy(logits.view(-1, 9), labels.view(-1))
    assert loss.dtype == theirs.dtype and scores.dtype == torch.float32
    loss.backward()
    assert logits.grad is not None and logits.grad.dtype == dtype
    torch.testing.assert_close(loss, theirs)
    assert torch.equal(scores, el2n(logits, labels))


@pytest.mark.parametrize("traced", [False, True])
def test_a_second_derivative_is_refused(batch: tuple[torch.Tensor, torch.Tensor], traced: bool) -> None:
    logits, labels = batch[0].requires_grad_(), batch[1]
    if traced:
        loss = OPS.cross_entropy(logits, labels, None, [], -100, 0.0, 0, "mean")[0]
    else:
        loss = cross_entropy(logits, labels)
    (gradient,) = torch.autograd.grad(loss, logits, create_graph=True)
    (first,) = torch.autograd.grad(F.cross_entropy(logits.view(-1, 9), labels.view(-1)), logits)
    torch.testing.assert_close(gradient, first)
    with pytest.raises(RuntimeError, match="no second derivative; use torch.nn.functional.cross_entropy"):
        gradient.sum().backward()


def test_under_torch_func(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, labels = batch
    gradient = torch.func.grad(lambda z: cross_entropy(z, labels))(logits)
    expected = torch.func.grad(lambda z: F.cross_entropy(z.view(-1, 9), labels.view(-1)))(logits)
    torch.testing.assert_close(gradient, expected)
    each = torch.func.vmap(lambda z, y: cross_entropy(z, y))(logits, labels)
    torch.testing.assert_close(each, torch.stack([cross_entropy(z, y) for z, y in zip(*batch, strict=True)]))


class TestTargetsPerClass:
    """Soft labels and independent labels, against the textbook and where it cancels."""

    def test_one_hot_probabilities_score_as_their_label(self) -> None:
        logits = torch.randn(5, 9, generator=torch.Generator().manual_seed(0))
        logits[torch.arange(5), torch.arange(5)] += torch.tensor([0.0, 5.0, 15.0, 25.0, 28.0])
        by_index = score(logits, torch.arange(5))
        by_target = score(logits, F.one_hot(torch.arange(5), 9).float())
        for name in by_index:
            torch.testing.assert_close(by_target[name], by_index[name], rtol=4e-6, atol=0)

    def test_probabilities(self) -> None:
        generator = torch.Generator().manual_seed(0)
        logits = torch.randn(3, 4, 9, generator=generator)
        target = torch.randn(3, 4, 9, generator=generator).softmax(-1)
        p = logits.double().softmax(-1)
        scores = score(logits, target)
        torch.testing.assert_close(scores["el2n"], (p - target).norm(dim=-1).float(), rtol=1e-6, atol=0)
        torch.testing.assert_close(scores["loss"], -(target * p.log()).sum(-1).float(), rtol=1e-6, atol=0)
        close = score(logits.double(), p + 1e-8 * torch.randn(p.shape, generator=generator), "el2n")
        assert (close < 1e-7).all() and (close > 1e-9).all()

    def test_masked_classes(self) -> None:
        logits = torch.tensor([[0.0, 1.0, -torch.inf]])
        target = torch.tensor([[0.25, 0.75, 0.0]])
        expected = score(logits[:, :2], target[:, :2])
        for name, s in score(logits, target).items():
            torch.testing.assert_close(s, expected[name])
        for target in ([0.0, 0.5, 0.5], [0.0, 0.4, 0.6]):
            assert score(logits, torch.tensor([target]), "loss").item() == torch.inf
        assert score(logits, torch.tensor([[0.0, 0.0, 0.0]]), "loss").item() == 0
        assert score(torch.full((1, 3), -torch.inf), torch.tensor([[1.0, 0.0, 0.0]]), "loss").isnan()

    def test_independent_labels(self) -> None:
        generator = torch.Generator().manual_seed(0)
        logits = torch.randn(6, 3, 5, generator=generator) * 3
        labels = torch.randint(2, (6, 3, 5), generator=generator)
        p = logits.double().sigmoid()
        scores = score(logits, labels, multi_label=True)
        bce = F.binary_cross_entropy_with_logits(logits.double(), labels.double(), reduction="none").sum(-1)
        torch.testing.assert_close(scores["el2n"], (p - labels).norm(dim=-1).float(), rtol=1e-6, atol=0)
        torch.testing.assert_close(scores["loss"], bce.float(), rtol=1e-6, atol=0)
        assert torch.equal(score(logits, labels.bool(), "el2n", multi_label=True), scores["el2n"])
        reduced = el2n(logits, labels, multi_label=True, reduce="norm")
        torch.testing.assert_close(reduced, (p - labels).flatten(1).norm(dim=-1).float(), rtol=1e-6, atol=0)

    def test_a_sure_binary_head_keeps_its_digits(self) -> None:
        s = el2n(torch.tensor([[30.0], [-30.0]]), torch.tensor([[1], [0]]), multi_label=True)
        torch.testing.assert_close(s, torch.full((2,), 9.357622968840175e-14), rtol=1e-6, atol=0)

    def test_ignored_labels_add_nothing(self) -> None:
        logits, labels = torch.randn(4, 5), torch.ones(4, 5)
        labels[:, 2:] = -100
        whole, part = score(logits, labels, multi_label=True), score(logits[:, :2], labels[:, :2], multi_label=True)
        assert torch.equal(whole["el2n"], part["el2n"]) and torch.equal(whole["loss"], part["loss"])

    def test_pieces_are_put_together(self, monkeypatch: pytest.MonkeyPatch) -> None:
        logits, target = torch.randn(7, 3, 4), torch.randn(7, 3, 4).softmax(-1)
        whole = score(logits, target)
        monkeypatch.setattr("fastprune.scores.api._PIECE", 20)
        for name, s in score(logits, target).items():
            assert torch.equal(s, whole[name])
        assert score(torch.zeros(0, 4), torch.zeros(0, 4), "el2n").shape == (0,)
