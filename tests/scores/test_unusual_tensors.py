"""Tensors that other libraries hand around: without data, unsigned, nested, traced, faked, of huge doubles."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import row_score_cases as cases
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from plateau_cases import rows as plateau_rows
from tensors_without_data import freed, freed_view
from torch._subclasses.fake_tensor import FakeTensorMode

import fastprune
from fastprune import Head, Task, cross_entropy, el2n, grand, joint_el2n, score
from fastprune.scores import cpu

LOGITS, LABELS = torch.randn(4, 5), torch.tensor([0, 1, 2, 3])
FEATURES, PROBABILITIES = torch.randn(4, 3), torch.softmax(torch.randn(4, 5), -1)
ENTRIES: dict[str, Callable[..., object]] = {
    "score": lambda **k: score(k["logits"], k["labels"]),
    "el2n": lambda **k: el2n(k["logits"], k["labels"]),
    "el2n of double": lambda **k: el2n(k["logits"].double() if k["whole"] else k["logits"], k["labels"]),
    "el2n of int32": lambda **k: el2n(k["logits"], k["labels"].int() if k["whole"] else k["labels"]),
    "cross_entropy": lambda **k: cross_entropy(k["logits"], k["labels"], k["weight"], return_scores="el2n"),
    "joint_el2n": lambda **k: joint_el2n([(k["logits"], k["labels"])]),
    "grand": lambda **k: grand(k["logits"], k["labels"], k["features"]),
    "soft": lambda **k: el2n(k["logits"], k["probabilities"]),
    "soft loss": lambda **k: cross_entropy(k["logits"], k["probabilities"], k["weight"]),
    "multi_label": lambda **k: score(k["logits"], k["probabilities"], ("el2n", "loss"), multi_label=True),
    "operator": lambda **k: torch.ops.fastprune.row_scores(k["logits"], k["labels"], ["el2n"], -100, 0),
    "loss operator": lambda **k: torch.ops.fastprune.cross_entropy(
        k["logits"], k["labels"], k["weight"], [], -100, 0.0, 0, "mean"
    ),
    "task": lambda **k: Task().scores({"logits": k["logits"]}, {"labels": k["labels"]}, ("el2n", "loss")),
}
USES = {
    "logits": set(ENTRIES),
    "labels": set(ENTRIES) - {"soft", "soft loss", "multi_label"},
    "weight": {"cross_entropy", "soft loss", "loss operator"},
    "features": {"grand"},
    "probabilities": {"soft", "soft loss", "multi_label"},
}


def cut(tensor: torch.Tensor) -> torch.Tensor:
    tensor = tensor.clone()
    tensor.untyped_storage().resize_(tensor.element_size())
    return tensor


@pytest.mark.parametrize(
    ("argument", "entry"), [(argument, entry) for argument, entries in USES.items() for entry in sorted(entries)]
)
def test_a_tensor_without_data_raises(argument: str, entry: str) -> None:
    given_ = {
        "logits": LOGITS,
        "labels": LABELS,
        "weight": torch.ones(5),
        "features": FEATURES,
        "probabilities": PROBABILITIES,
    }
    ENTRIES[entry](**given_, whole=True)
    stand_ins = [freed(given_[argument]), freed_view(given_[argument]), cut(given_[argument])]
    if argument != "labels" and "operator" not in entry:
        stand_ins += [torch._efficientzerotensor(given_[argument].shape), torch._to_functional_tensor(LOGITS.clone())]
    for tensor in stand_ins:
        if tensor.shape == given_[argument].shape:
            with pytest.raises(ValueError, match="has no data"):
                ENTRIES[entry](**(given_ | {argument: tensor}), whole=False)


def test_logits_freed_before_the_backward_pass() -> None:
    logits = LOGITS.clone().requires_grad_()
    loss = cross_entropy(logits, LABELS)
    logits.untyped_storage().resize_(0)
    with pytest.raises(ValueError, match="logits .* has no data"):
        loss.backward()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.int8, torch.int32])
def test_labels_that_equal_ignore_index_modulo_their_range_count(dtype: torch.dtype) -> None:
    """In uint8, -100 is 156."""
    wrapped = {torch.uint8: 156, torch.uint16: 65436}.get(dtype, 100)
    classes = wrapped + 1
    logits = torch.randn(1, 4, classes, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[wrapped, 1, wrapped, 2]])
    narrow = labels.to(dtype)
    task = Task(Head(kind="tokens"))
    for reduce in ("mean", "norm"):
        assert torch.equal(el2n(logits, narrow, reduce=reduce), el2n(logits, labels, reduce=reduce))
    losses = task.losses({"logits": logits}, {"labels": narrow})
    assert losses.counts.tolist() == [4]
    assert torch.equal(losses.sums, task.losses({"logits": logits}, {"labels": labels}).sums)
    for metric in ("el2n", "loss", "correct"):
        scores = [task.scores({"logits": logits}, {"labels": y}, (metric,))[metric] for y in (narrow, labels)]
        assert torch.equal(*scores), metric
    features = torch.randn(1, 4, 3)
    expected = grand(logits, labels, features, shift=1)
    assert expected.isfinite().all() and torch.equal(grand(logits, narrow, features, shift=1), expected)
    assert torch.equal(grand(logits[0], narrow[0], features[0]), grand(logits[0], labels[0], features[0]))
    assert torch.equal(cross_entropy(logits, narrow), cross_entropy(logits, labels))


def test_unsigned_labels_of_several_yes_or_no_answers() -> None:
    logits, targets = torch.randn(2, 3), torch.tensor([[1, 0, 156], [0, 1, 1]])
    wide, narrow = (score(logits, y, ("el2n", "loss"), multi_label=True) for y in (targets, targets.to(torch.uint8)))
    assert torch.equal(wide["loss"], narrow["loss"]) and torch.equal(wide["el2n"], narrow["el2n"])


def test_token_grand_can_be_traced() -> None:
    logits, labels, features = torch.randn(3, 6, 5), torch.randint(5, (3, 6)), torch.randn(3, 6, 4)
    labels[0, 2] = -100
    expected = grand(logits, labels, features, shift=1)

    def call(z: torch.Tensor, y: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        return grand(z, y, h, shift=1)

    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(logits, labels, features), expected)
    with FakeTensorMode() as mode:
        fakes = [mode.from_tensor(x) for x in (logits, labels, features)]
        assert call(*fakes).shape == (3,)
    stacked = torch.func.vmap(call)(*(torch.stack([x, x.flip(0)]) for x in (logits, labels, features)))
    torch.testing.assert_close(stacked, torch.stack([expected, expected.flip(0)]))
    heads_alone = torch.func.vmap(call, in_dims=(None, 0, None))(logits, torch.stack([labels, labels]), features)
    torch.testing.assert_close(heads_alone, torch.stack([expected, expected]))


@pytest.mark.parametrize("classes", [3, 300, 3000])
def test_doubles_beyond_the_range_of_floats(classes: int) -> None:
    logits = torch.randn(5, classes, dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 0, 1])
    logits[0, 0], logits[1, 1], logits[2, 0] = 1e300, -1e300, 1e200
    logits[3:] = 0.0
    logits[3, 1], logits[4, 1] = 1e-50, 1e-50
    expected = fastprune.scores.definition.row_scores(logits, labels, cases.METRICS, -100, 0)
    actual = score(logits, labels, cases.METRICS)
    for metric in cases.METRICS:
        assert cases.worst_error(actual[metric], expected[metric]) <= cases.BOUND, metric
    assert actual["el2n"][0] == 0.0 and actual["confidence"][0] == 1.0
    assert actual["correct"].tolist() == [1.0, 0.0, 0.0, 0.0, 1.0]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("dtype", cases.DTYPES)
def test_plateaus_of_any_size(dtype: torch.dtype, data: st.DataObject) -> None:
    """What test_triton_plateaus.py holds the Triton kernels to."""
    logits, labels = data.draw(plateau_rows(dtype))
    cases.check(cpu.row_scores, logits, labels)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_no_tokens_of_very_many_batches(reduction: str) -> None:
    logits, labels = torch.empty(2**40, 0, 5), torch.empty(2**40, 0, dtype=torch.int64)
    loss = cross_entropy(logits, labels, reduction=reduction)
    if reduction == "none":
        assert loss.shape == labels.shape
    else:
        torch.testing.assert_close(loss, torch.tensor({"sum": 0.0, "mean": torch.nan}[reduction]), equal_nan=True)


def test_jit_trace() -> None:
    """It knows no list of strings, which the operators take; it follows plain PyTorch."""

    def call(z: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return cross_entropy(z, y, return_scores="el2n", label_smoothing=0.1)

    traced = torch.jit.trace(call, (LOGITS, LABELS))
    for z, y in ((LOGITS + 1, LABELS.flip(0)), (torch.randn(9, 5), torch.randint(5, (9,)))):
        for ours, theirs in zip(traced(z, y), call(z, y), strict=True):
            torch.testing.assert_close(ours, theirs)


def test_nested_sparse_meta_and_masked_input_gets_a_sentence() -> None:
    nested = torch.nested.nested_tensor([LOGITS, LOGITS[:2]])
    for call in (el2n, cross_entropy):
        with pytest.raises(TypeError, match="logits must be a dense tensor, got a nested one"):
            call(nested, LABELS)
        with pytest.raises(TypeError, match="dense"):
            call(LOGITS.to_sparse(), LABELS)
    scores = torch.rand(6)
    jagged = torch.nested.nested_tensor([scores, scores[:2]], layout=torch.jagged)
    for bad in (nested, scores.to_sparse(), jagged):
        with pytest.raises(TypeError, match="scores must be a dense tensor"):
            fastprune.select_topk(bad, 2)
    with pytest.raises(TypeError, match="meta device"):
        fastprune.select_topk(scores.to("meta"), 2)
    with pytest.raises(ValueError, match="scores have no data"):
        fastprune.select_topk(freed(scores), 2)
    with pytest.raises(TypeError, match="masked array"):
        fastprune.select_topk(np.ma.masked_array(scores.numpy(), scores.numpy() > 0.5), 2)


def test_arguments_as_torch_takes_them() -> None:
    weight = torch.rand(5)
    ours = cross_entropy(LOGITS, LABELS, weight, ignore_index=np.int64(2), label_smoothing=np.float32(0.25))
    theirs = F.cross_entropy(LOGITS, LABELS, weight, ignore_index=2, label_smoothing=0.25)
    torch.testing.assert_close(ours, theirs)
    ours = cross_entropy(LOGITS, LABELS, ignore_index=torch.tensor(2), label_smoothing=torch.tensor(0.25))
    torch.testing.assert_close(ours, F.cross_entropy(LOGITS, LABELS, ignore_index=2, label_smoothing=0.25))
    assert torch.equal(el2n(LOGITS, LABELS, ignore_index=np.int32(2)), el2n(LOGITS, LABELS, ignore_index=2))
    for bad in (2.0, "2", True, np.bool_(True), torch.tensor(True), torch.tensor([2]), None):
        with pytest.raises(TypeError, match="ignore_index must be an int"):
            cross_entropy(LOGITS, LABELS, ignore_index=bad)
    for bad in ("0.1", None, torch.tensor([0.1, 0.1]), 1.5, float("nan")):
        with pytest.raises(ValueError, match="label_smoothing must be a number"):
            cross_entropy(LOGITS, LABELS, label_smoothing=bad)


def test_a_weight_that_requires_grad() -> None:
    """torch refuses it for class indices, takes it without gradients, and differentiates it for probabilities."""
    weight = torch.rand(5, requires_grad=True)
    with pytest.raises(ValueError, match="no gradient with respect to weight"):
        cross_entropy(LOGITS, LABELS, weight)
    with torch.no_grad():
        torch.testing.assert_close(cross_entropy(LOGITS, LABELS, weight), F.cross_entropy(LOGITS, LABELS, weight))
    (ours,) = torch.autograd.grad(cross_entropy(LOGITS, PROBABILITIES, weight), weight)
    (theirs,) = torch.autograd.grad(F.cross_entropy(LOGITS, PROBABILITIES, weight), weight)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("call", [el2n, cross_entropy])
def test_probabilities_with_an_ignored_class_raise_as_in_torch(call: Callable[..., torch.Tensor]) -> None:
    with pytest.raises(ValueError, match="ignore_index=1 needs class indices"):
        call(LOGITS, PROBABILITIES, ignore_index=1)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("weighted", [False, True])
def test_probabilities_give_the_loss_and_gradient_of_torch(reduction: str, smoothing: float, weighted: bool) -> None:
    weight = torch.rand(5) if weighted else None
    options = {"reduction": reduction, "label_smoothing": smoothing}
    results = []
    for call in (cross_entropy, F.cross_entropy):
        z = LOGITS.clone().requires_grad_()
        loss = call(z, PROBABILITIES, weight, **options)
        loss.sum().backward()
        results.append((loss.detach(), z.grad))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_masked_class_of_probability_zero_adds_nothing() -> None:
    logits = LOGITS.clone()
    logits[:, 0] = -torch.inf
    target = F.one_hot(LABELS + 1, 5).float()
    z = logits.requires_grad_()
    loss, scores = cross_entropy(z, target, return_scores=("el2n", "loss"), reduction="none")
    expected = F.cross_entropy(logits.double(), LABELS + 1, reduction="none")
    torch.testing.assert_close(loss.double(), expected)
    torch.testing.assert_close(scores["loss"].double(), expected.detach())
    loss.sum().backward()
    assert z.grad is not None and z.grad.isfinite().all()
    assert cross_entropy(logits.detach(), target, label_smoothing=0.1) == torch.inf


def test_operators_check_their_arguments() -> None:
    operators = torch.ops.fastprune
    with pytest.raises(TypeError, match="must be int64, got torch.int32"):
        operators.row_scores(LOGITS, LABELS.int(), ["el2n"], -100, 0)
    with pytest.raises(ValueError, match="unknown metric 'el3n'"):
        operators.row_scores(LOGITS, LABELS, ["el3n"], -100, 0)
    with pytest.raises(ValueError, match="labels must have shape"):
        operators.row_scores(LOGITS, LABELS[:3], ["el2n"], -100, 0)
    forward = [LOGITS, LABELS, None, ["el2n"], -100, 0.0, 0, "mean"]
    for place, bad, error in (
        (0, LOGITS.double(), TypeError),
        (1, LABELS.short(), TypeError),
        (2, torch.ones(5).double(), TypeError),
        (2, torch.ones(4), ValueError),
        (3, ["x"], ValueError),
        (5, 2.0, ValueError),
        (6, -1, ValueError),
        (7, "max", ValueError),
    ):
        with pytest.raises(error):
            operators.cross_entropy(*forward[:place], bad, *forward[place + 1 :])
    _, state, _ = operators.cross_entropy(*forward)
    backward = [torch.ones(()), state, LOGITS, LABELS, None, -100, 0.0, 0]
    for place, bad in ((0, torch.ones(3)), (0, torch.ones((), dtype=torch.float64)), (1, state[:-1]), (3, LABELS[:2])):
        with pytest.raises(ValueError):
            operators.cross_entropy_backward(*backward[:place], bad, *backward[place + 1 :])
