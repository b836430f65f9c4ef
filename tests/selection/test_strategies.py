"""The strategies, against what they say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastprune.selection import Selection, hardest, random, window

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
    for offset in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match="offset must be in"):
            window(SCORES, 1, offset)


def test_random_is_a_function_of_seed_and_round() -> None:
    state = torch.get_rng_state()
    draws = {(s, r): tuple(random(100, 30, s, r).indices.tolist()) for s in range(4) for r in range(4)}
    assert len(set(draws.values())) == 16
    assert random(100, 30, 2, 3).indices.tolist() == list(draws[2, 3])
    assert torch.equal(torch.get_rng_state(), state)
    for draw in draws.values():
        assert len(draw) == 30 and sorted(set(draw)) == list(draw) and 0 <= draw[0] and draw[-1] < 100
    assert random(5, 5, 0, 0).indices.tolist() == [0, 1, 2, 3, 4]
    assert len(random(5, 0, 0, 0)) == 0
    with pytest.raises(ValueError, match=r"\[0, 5\]"):
        random(5, 6, 0, 0)


def test_random_is_uniform() -> None:
    counts = torch.zeros(20)
    for round in range(400):
        counts[random(20, 5, 0, round).indices] += 1
    # Each count is binomial(400, 1/4): mean 100, deviation 8.7.
    assert counts.min() > 60 and counts.max() < 140


def test_selection_is_frozen() -> None:
    selection = Selection(torch.arange(2))
    with pytest.raises(AttributeError):
        selection.indices = torch.arange(3)  # type: ignore[misc]
