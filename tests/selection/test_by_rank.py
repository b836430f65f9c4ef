"""Strategies by the order of the scores, against a stable sort."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastprune.selection import (
    Selection,
    TopK,
    class_balanced,
    easiest,
    hardest,
    probabilistic,
    random,
    stratified,
    threshold_random,
    window,
)

SCORES = torch.tensor([0.1, 0.9, 0.5, 0.9, 0.3, 0.7, 0.0, 0.2, 0.4, 0.6])


def test_hardest() -> None:
    selection = hardest(SCORES, 3)
    assert selection.indices.tolist() == [1, 3, 5]
    assert selection.weights is None
    assert len(selection) == 3
    assert hardest(SCORES.numpy(), 3).indices.tolist() == [1, 3, 5]


@pytest.mark.parametrize(
    ("k", "offset", "kept"),
    [
        (3, 0.0, [1, 3, 5]),
        (3, 0.1, [3, 5, 9]),  # of the two 0.9 the first is the harder one
        (3, 0.19, [3, 5, 9]),
        (3, 0.2, [2, 5, 9]),
        (8, 0.2, [0, 2, 4, 5, 6, 7, 8, 9]),
        (0, 0.5, []),
    ],
)
def test_window(k: int, offset: float, kept: list[int]) -> None:
    assert window(SCORES, k, offset).indices.tolist() == kept
    assert window(SCORES.numpy(), k, offset).indices.tolist() == kept


@given(
    scores=st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), max_size=40),
    offset=st.integers(0, 99),
    data=st.data(),
)
def test_window_is_part_of_the_stable_order(scores: list[float], offset: int, data: st.DataObject) -> None:
    n = len(scores)
    dropped = offset * n // 100
    k = data.draw(st.integers(0, n - dropped))
    order = np.argsort(-np.array(scores), kind="stable")
    selection = window(torch.tensor(scores), k, offset / 100)
    assert selection.indices.tolist() == sorted(order[dropped : dropped + k].tolist())


def test_window_errors() -> None:
    with pytest.raises(ValueError, match=r"k=9 .* offset=0.2 drops the hardest 2 of 10, which leaves 8"):
        window(SCORES, 9, 0.2)
    with pytest.raises(ValueError, match="k must be at least 0, got -2"):
        window(SCORES, -2, 0.5)
    for offset in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match="offset must be in"):
            window(SCORES, 1, offset)


def test_easiest() -> None:
    assert easiest(SCORES, 3).indices.tolist() == [0, 6, 7]
    assert easiest(torch.tensor([1.0, 0.0, 0.0]), 1).indices.tolist() == [1]


def test_another_default_device_and_a_negated_view() -> None:
    """Everything stays on the scores' device, and what is drawn and counted on the CPU."""
    scores, labels = torch.rand(500), torch.randint(3, (500,))
    calls = {
        "hardest": lambda s: hardest(s, 100),
        "easiest": lambda s: easiest(s, 100),
        "window": lambda s: window(s, 100, 0.1),
        "stratified": lambda s: stratified(s, 100, 0, 0, offset=0.1),
        "class_balanced": lambda s: class_balanced(s, labels, 100, quota="sqrt"),
        "probabilistic": lambda s: probabilistic(s, 100, np.int64(0), np.uint64(3), weighted=True),
        "random": lambda s: random(len(s), 100, 0, 3, replacement=False),
        "threshold_random": lambda s: threshold_random(s, 0.5, 0, 0),
    }
    for name, call in calls.items():
        expected = call(scores)
        with torch.device("meta"):
            here = call(scores)
            accumulator = TopK(100)
            empty = accumulator.result()[0]
            accumulator.push(np.arange(500), scores)
        assert torch.equal(here.indices, expected.indices), name
        assert torch.equal(call(torch._neg_view(-scores)).indices, expected.indices), name
        assert empty.is_cpu and torch.equal(accumulator.result()[0], calls["hardest"](scores).indices)


@pytest.mark.parametrize("array", [np.arange(5.0)[::-1], np.arange(5.0).astype(">f4"), np.broadcast_to(2.0, 5)])
def test_arrays_that_tensors_cannot_share(array: np.ndarray) -> None:
    packed = np.zeros(len(array), dtype=[("flag", "i1"), ("score", "f4")])
    packed["score"] = array
    assert torch.equal(hardest(packed["score"], 2).indices, hardest(array, 2).indices)
    array.flags.writeable = False
    assert hardest(array, 2).indices.tolist() == sorted(np.argsort(-array, kind="stable")[:2].tolist())
    assert len(window(array, 2, 0.2)) == 2


def test_selection_is_frozen() -> None:
    selection = Selection(torch.arange(2))
    with pytest.raises(AttributeError):
        selection.indices = torch.arange(3)  # type: ignore[misc]
