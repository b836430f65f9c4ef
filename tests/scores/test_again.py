"""A layout that was checked before: the same scores, and what can be wrong with the next tensors is still refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tensors_without_data import freed, freed_view
from torch._subclasses.fake_tensor import FakeTensorMode

from fastprune import el2n, score
from fastprune.scores import again, definition
from fastprune.scores.definition import METRICS

LOGITS, LABELS = torch.randn(4, 5), torch.tensor([0, 1, 2, 3])


@pytest.fixture(autouse=True)
def remembered() -> None:
    again._CHECKED.clear()
    el2n(LOGITS, LABELS)
    assert len(again._CHECKED) == 1 and again.scores_again(LOGITS, LABELS, "el2n", -100, 0) is not None


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_the_second_call_gives_what_a_first_one_would(data: st.DataObject) -> None:
    draw = data.draw
    dtype = draw(st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]))
    shape = draw(st.sampled_from([(3,), (1, 4), (2, 3), (2, 2, 3)]))
    classes, offset = draw(st.integers(1, 40)), draw(st.integers(0, 3))
    metric, shift = draw(st.sampled_from(METRICS)), draw(st.integers(0, 3))
    step = draw(st.sampled_from([1, 2]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    for _ in range(3):
        whole = torch.randn(*shape, step * (classes + offset), generator=generator).to(dtype)
        logits = whole[..., offset * step :: step][..., :classes]
        labels = torch.randint(-1, classes, shape, generator=generator)
        found = score(logits, labels, metric, ignore_index=-1, shift=shift)
        again._CHECKED.clear()
        fresh = score(logits, labels, metric, ignore_index=-1, shift=shift)
        assert torch.equal(found, fresh) and found.is_contiguous() and found.dtype == torch.float32
        expected = definition.row_scores(logits, labels, (metric,), -1, shift)[metric]
        torch.testing.assert_close(found, expected.float(), rtol=1e-5, atol=1e-6)


def shrunk(tensor: torch.Tensor) -> torch.Tensor:
    tensor = tensor.clone()
    tensor.untyped_storage().resize_(tensor.element_size() * (tensor.numel() - 1))
    return tensor


def zero_tensor(tensor: torch.Tensor) -> torch.Tensor:
    return torch._efficientzerotensor(tensor.shape, dtype=tensor.dtype)


@pytest.mark.parametrize("broken", [freed, shrunk, freed_view, zero_tensor])
@pytest.mark.parametrize("which", ["logits", "labels"])
def test_a_tensor_without_its_memory_is_refused(broken: Callable[..., torch.Tensor], which: str) -> None:
    tensors = {"logits": LOGITS, "labels": LABELS}
    tensors[which] = broken(tensors[which])
    with pytest.raises(ValueError, match=f"{which} .* has no data"):
        el2n(**tensors)


@pytest.mark.parametrize(
    ("logits", "labels", "options", "error"),
    [
        (LOGITS, torch.tensor([0, 1, 9, 3]), {}, IndexError),
        (LOGITS, LABELS.tolist(), {}, TypeError),
        (LOGITS.to_sparse(), LABELS, {}, TypeError),
        (LOGITS.long(), LABELS, {}, TypeError),
        (LOGITS, LABELS[:3], {}, ValueError),
        (LOGITS, LABELS, {"shift": 0.0}, TypeError),
        (LOGITS, LABELS, {"ignore_index": -100.0}, TypeError),
    ],
)
def test_what_is_wrong_is_still_refused(logits: torch.Tensor, labels: object, options: dict, error: type) -> None:
    with pytest.raises(error):
        el2n(logits, labels, **options)  # type: ignore[arg-type]


def test_what_is_not_ordinary_goes_the_other_way() -> None:
    expected = el2n(LOGITS, LABELS)
    negative = torch._neg_view(-LOGITS)
    assert negative.is_neg() and torch.equal(el2n(negative, LABELS), expected)
    for labels in (LABELS.int(), LABELS.to(torch.uint8)):
        assert torch.equal(el2n(LOGITS, labels), expected)
    assert torch.equal(el2n(LOGITS, LABELS, ignore_index=np.int64(-100)), expected)  # type: ignore[arg-type]
    assert torch.equal(el2n(torch.nn.Parameter(LOGITS), LABELS), expected)
    batched = torch.func.vmap(el2n)(LOGITS[:, None], LABELS[:, None])
    torch.testing.assert_close(batched[:, 0], expected)
    with FakeTensorMode():
        assert el2n(torch.empty(4, 5), torch.empty(4, dtype=torch.int64)).shape == (4,)
    assert el2n(LOGITS.to("meta"), LABELS.to("meta")).is_meta
    assert not el2n(LOGITS.clone().requires_grad_(), LABELS).requires_grad


def test_neither_the_default_dtype_nor_the_default_device_matters() -> None:
    expected = el2n(LOGITS, LABELS)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            found = el2n(LOGITS, LABELS)
    finally:
        torch.set_default_dtype(torch.float32)
    assert found.dtype == torch.float32 and torch.equal(found, expected)


def test_layouts_are_forgotten_when_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(again, "LIMIT", 3)
    for rows in range(2, 9):
        el2n(torch.randn(rows, 5), torch.zeros(rows, dtype=torch.int64))
        assert 1 <= len(again._CHECKED) <= 3


def test_callers_tensors_are_only_read() -> None:
    logits, labels = LOGITS.clone(), LABELS.clone()
    el2n(logits, labels)
    assert torch.equal(logits, LOGITS) and torch.equal(labels, LABELS)
