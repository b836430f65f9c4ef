"""The public scores: results, reductions, joint scores and errors."""

from __future__ import annotations

import inspect
import math

import pytest
import torch

from fastprune.scores import cross_entropy, definition, el2n, joint_el2n, score
from fastprune.scores.checks import check_labels


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(9, (4, 6), generator=generator)
    labels[1, 2:] = labels[3] = -100
    return torch.randn(4, 6, 9, generator=generator), labels


def test_what_comes_back(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, labels = batch
    expected = definition.row_scores(logits, labels, ("el2n", "loss"), -100, 1)
    both = score(logits, labels, shift=1)
    assert list(both) == ["el2n", "loss"]
    for name, tensor in both.items():
        torch.testing.assert_close(tensor, expected[name], rtol=4e-6, atol=0)
        assert torch.equal(score(logits, labels, name, shift=1), tensor)
        assert torch.equal(score(logits, labels, [name], shift=1)[name], tensor)
    assert torch.equal(el2n(logits, labels, shift=1), both["el2n"])


@pytest.mark.parametrize(
    "dtype", [torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8, torch.uint16, torch.uint32]
)
def test_any_integer_labels(dtype: torch.dtype) -> None:
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 6, 3, 2, 1])
    assert torch.equal(el2n(logits, labels.to(dtype)), el2n(logits, labels))


def test_modes(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, labels = batch
    plain = el2n(logits, labels, reduce="norm")
    leaf = logits.clone().requires_grad_()
    hidden = leaf * 1.0
    assert not el2n(hidden, labels).requires_grad
    assert torch.equal(el2n(hidden, labels, reduce="norm"), plain)
    with torch.inference_mode():
        assert torch.equal(el2n(logits, labels, reduce="norm"), plain)
        assert torch.equal(el2n(logits.clone(), labels.clone(), reduce="norm"), plain)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(el2n(logits, labels, reduce="norm"), plain)
        assert torch.equal(joint_el2n([(logits, labels)]), plain)
    state = torch.get_rng_state()
    score(logits, labels)
    assert torch.equal(torch.get_rng_state(), state)


def test_devices_without_a_kernel_use_the_definition(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, labels = (tensor.to("meta") for tensor in batch)
    scores = score(logits, labels, shift=1)
    assert {(s.shape, s.dtype, s.device.type) for s in scores.values()} == {((4, 6), torch.float32, "meta")}


@pytest.mark.parametrize("reduce", ["norm", "mean", "sum", "max"])
@pytest.mark.parametrize("shift", [0, 1])
def test_reductions(batch: tuple[torch.Tensor, torch.Tensor], reduce: str, shift: int) -> None:
    logits, labels = batch
    tokens = el2n(logits, labels, shift=shift)
    by_hand = []
    for b in range(4):
        s = [tokens[b, t].item() for t in range(6) if t + shift < 6 and labels[b, t + shift].item() != -100]
        by_hand.append(
            0.0
            if not s
            else {
                "norm": math.sqrt(sum(x * x for x in s)),
                "mean": sum(s) / len(s),
                "sum": sum(s),
                "max": max(s),
            }[reduce]
        )
    reduced = el2n(logits, labels, shift=shift, reduce=reduce)
    torch.testing.assert_close(reduced, torch.tensor(by_hand), rtol=1e-6, atol=0)
    assert reduced[3] == 0


def test_the_norm_of_tiny_scores_does_not_vanish() -> None:
    logits = torch.zeros(1, 2, 2)
    logits[..., 0] = 60.0
    labels = torch.zeros(1, 2, dtype=torch.int64)
    tokens = el2n(logits, labels)
    assert tokens[0, 0] < 1e-25
    torch.testing.assert_close(el2n(logits, labels, reduce="norm"), tokens[:, 0] * 2**0.5, rtol=1e-6, atol=0)


@pytest.mark.parametrize("reduce", ["norm", "mean", "sum", "max"])
def test_joint_of_the_papers_two_heads(batch: tuple[torch.Tensor, torch.Tensor], reduce: str) -> None:
    slot_logits, slot_labels = batch
    slot_labels = slot_labels.masked_fill(slot_labels == -100, -1)
    generator = torch.Generator().manual_seed(1)
    intent_logits, intent_labels = torch.randn(4, 3, generator=generator), torch.tensor([0, 2, 1, 1])
    s, slots = el2n(intent_logits, intent_labels), el2n(slot_logits, slot_labels, ignore_index=-1)
    valid = (slot_labels != -1).sum(-1).clamp(min=1)
    expected = {
        "norm": (s**2 + (slots**2).sum(-1)).sqrt(),
        "mean": (s + slots.sum(-1) / valid) / 2,
        "sum": s + slots.sum(-1),
        "max": torch.maximum(s, slots.amax(-1)),
    }[reduce]
    heads = {"intent": (intent_logits, intent_labels), "slots": (slot_logits, slot_labels, -1)}
    torch.testing.assert_close(joint_el2n(heads, reduce=reduce), expected, rtol=1e-6, atol=0)
    assert torch.equal(joint_el2n(list(heads.values()), reduce=reduce), joint_el2n(heads, reduce=reduce))


def test_empty_batches() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    assert el2n(torch.zeros(0, 3), none).shape == (0,)
    assert el2n(torch.zeros(0, 5, 3), torch.zeros(0, 5, dtype=torch.int64), reduce="max").shape == (0,)
    no_tokens = torch.zeros(2, 0, dtype=torch.int64)
    for reduce in ("norm", "mean", "sum", "max"):
        assert el2n(torch.zeros(2, 0, 3), no_tokens, reduce=reduce, shift=1).tolist() == [0, 0]
        assert joint_el2n([(torch.zeros(2, 0, 3), no_tokens)], reduce=reduce).tolist() == [0, 0]
    assert el2n(torch.zeros(2, 4, 0, 3), torch.zeros(2, 4, 0, dtype=torch.int64)).shape == (2, 4, 0)


Z, Y = torch.zeros(2, 5, 3), torch.zeros(2, 5, dtype=torch.int64)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: score(Z, Y, "error"), ValueError, "unknown metric 'error'; choose from el2n, loss, conf"),
        (lambda: score(Z, Y, ()), ValueError, "metrics is empty"),
        (lambda: score(Z, Y, None), TypeError, "metrics must be a name or a tuple of names, got None"),
        (lambda: score(Z, Z.to(torch.complex64), multi_label=True), TypeError, "labels must be real"),
        (lambda: el2n(Z.movedim(-1, 1), Y), ValueError, r"\(N, C, d\) layout.*movedim\(1, -1\)"),
        (lambda: el2n(Z, Y[0]), ValueError, r"labels must have shape \(2, 5\).*got \(5,\).*movedim"),
        (lambda: el2n(torch.zeros(2, 0), Y[:, 0]), ValueError, "at least one class"),
        (lambda: el2n(torch.zeros(()), torch.tensor(0)), ValueError, "0-dim"),
        (lambda: el2n(Z.long(), Y), TypeError, "logits must be float16.*int64"),
        (lambda: el2n(Z, Y.float()), TypeError, r"labels must be integer.*\(2, 5\).*float32.*long"),
        (lambda: el2n(Z, Y.bool()), TypeError, "labels must be integer.*bool"),
        (lambda: el2n(Z, Y.tolist()), TypeError, "labels must be a torch.Tensor, got list"),
        (lambda: el2n(Z, Y.to("meta")), ValueError, "logits are on cpu and labels on meta"),
        (lambda: el2n(Z, Y, shift=-1), ValueError, "shift must be 0 or more, got -1"),
        (lambda: el2n(Z, Y, shift=1.0), TypeError, "shift must be an int, got 1.0"),  # type: ignore[arg-type]
        (lambda: el2n(Z, Y, ignore_index=None), TypeError, "ignore_index"),  # type: ignore[arg-type]
        (lambda: el2n(Z[0, 0], Y[0, 0], shift=1), ValueError, "labels have none"),
        (lambda: el2n(Z, Y, reduce="median"), ValueError, "unknown reduce 'median'; choose from norm"),
        (lambda: el2n(Z[0], Y[0], reduce="norm"), ValueError, "last dimension"),
        (lambda: el2n(Z, Y + 3), IndexError, r"labels\[0, 0\] is 3, but logits have 3 classes"),
        (lambda: joint_el2n([]), ValueError, "heads is empty"),
        (lambda: joint_el2n({"a": (Z, Y), "b": (Z[:1], Y[:1])}), ValueError, "same batch size.*'a': 2"),
        (lambda: joint_el2n([(Z[None], Y[None])]), ValueError, r"heads\[0\].*\(1, 2, 5\)"),
        (lambda: joint_el2n([Z]), TypeError, r"heads\[0\] must be"),  # type: ignore[list-item]
        (lambda: joint_el2n([(Z, Y)], reduce="all"), ValueError, "unknown reduce"),
        (lambda: cross_entropy(Z.movedim(-1, 1), Y), ValueError, "movedim"),
        (lambda: cross_entropy(Z, Y, return_scores="error"), ValueError, "choose from el2n, loss"),
        (lambda: cross_entropy(Z, Y.float()), TypeError, "labels must be integer"),
        (lambda: cross_entropy(Z, Y, reduction="max"), ValueError, "unknown reduction 'max'; choose from mean"),
        (lambda: cross_entropy(Z, Y, label_smoothing=2), ValueError, "from 0 to 1, got 2"),
        (lambda: cross_entropy(Z, Y, weight=torch.ones(3).requires_grad_()), ValueError, "weight.detach"),
        (lambda: cross_entropy(Z, Y, weight=torch.ones(4)), ValueError, r"weight must have shape \(3,\).*\(4,\)"),
        (lambda: cross_entropy(Z, Y, weight=torch.ones(3).long()), TypeError, "weight must be.*int64"),
        (lambda: cross_entropy(Z, Y, weight=torch.ones(3, device="meta")), ValueError, "weight is on meta"),
        (lambda: cross_entropy(Z, Y + 3), IndexError, r"labels\[0, 0\] is 3"),
        (lambda: score(Z, Z, "margin"), ValueError, "'margin' needs class indices.*el2n, loss"),
        (lambda: score(Z, Z, shift=1), ValueError, "shift=1 needs class indices"),
        (
            lambda: score(Z, Y, multi_label=True),
            ValueError,
            r"shape of the logits.*got \(2, 5\).*unsqueeze",
        ),
        (lambda: score(Z, Z.long(), multi_label=True, shift=1), ValueError, "multi_label=True leave it 0"),
    ],
)
def test_errors_name_the_argument_and_the_fix(call, error, message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_labels_are_looked_for_where_the_kernel_does_not() -> None:
    labels = torch.zeros(2, 5, dtype=torch.int64)
    check_labels(labels, 3, -100, 0)
    labels[1, 0], labels[1, 3], labels[0, 2] = 7, -1, -100
    with pytest.raises(IndexError, match=r"labels\[1, 0\] is 7, but logits have 3 classes"):
        check_labels(labels, 3, -100, 0)
    with pytest.raises(IndexError, match=r"labels\[1, 3\] is -1"):
        check_labels(labels, 3, -100, 2)
    check_labels(labels, 3, -100, 4)
    with pytest.raises(IndexError, match="labels is 3"):
        check_labels(torch.tensor(3), 3, -100, 0)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16, torch.uint16, torch.uint8])
def test_labels_are_compared_as_they_are(dtype: torch.dtype) -> None:
    check_labels(torch.tensor([4, 3, 127]).to(dtype), 50_257, -100, 0)
    with pytest.raises(IndexError, match=r"labels\[2\] is 127"):
        check_labels(torch.tensor([4, 3, 127]).to(dtype), 100, -100, 1)


def test_el2n_is_score_with_one_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict] = []
    monkeypatch.setattr("fastprune.scores.api.score", lambda *_, **options: given.append(options))
    options = {
        name: object() for name in inspect.signature(score).parameters if name not in ("logits", "labels", "metrics")
    }
    el2n(Z, Y, **options)  # type: ignore[arg-type]
    assert given == [options]
