"""Strategies that draw, against plain statements of the published rules and against chance."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastprune.selection import hardest, probabilistic, random, threshold_random
from fastprune.selection.draws import uniforms


def test_random_is_a_function_of_seed_and_round() -> None:
    state = torch.get_rng_state()
    draws = {(s, r): tuple(random(100, 30, s, r).indices.tolist()) for s in range(4) for r in range(4)}
    assert len(set(draws.values())) == 16
    assert random(100, 30, 2, 3).indices.tolist() == list(draws[2, 3])
    assert torch.equal(torch.get_rng_state(), state)
    for draw in draws.values():
        assert len(draw) == 30 and sorted(set(draw)) == list(draw) and 0 <= draw[0] and draw[-1] < 100
    assert random(5, 5, 0, 0).indices.tolist() == [0, 1, 2, 3, 4]
    for replacement in (True, False):
        assert len(random(5, 0, 0, 0, replacement=replacement)) == 0
        with pytest.raises(ValueError, match=r"\[0, 5\]"):
            random(5, 6, 0, 0, replacement=replacement)


def test_random_is_uniform() -> None:
    for replacement in (True, False):
        counts = torch.zeros(20)
        for round in range(400):
            counts[random(20, 5, 0, round, replacement=replacement).indices] += 1
        # With replacement each is binomial(400, 1/4): mean 100, deviation 8.7. Without, four rounds take each once.
        assert counts.min() > 60 and counts.max() < 140
        assert replacement or bool((counts == 100).all())


@given(n=st.integers(1, 60), data=st.data(), seed=st.integers(0, 9))
def test_random_without_replacement_takes_pieces_of_shuffles(n: int, data: st.DataObject, seed: int) -> None:
    k = data.draw(st.integers(1, n))
    rounds = n // k
    first, second = (
        [random(n, k, seed, r, replacement=False).indices.tolist() for r in range(start, start + rounds)]
        for start in (0, rounds)
    )
    for shuffle in (first, second):
        seen = list(itertools.chain(*shuffle))
        assert len(seen) == len(set(seen)) == rounds * k
        assert all(piece == sorted(piece) for piece in shuffle)
    # The rule itself: the examples in the order of their draws, cut into pieces of k.
    order = np.argsort(-uniforms(n, seed, 0).numpy(), kind="stable")
    assert first == [sorted(order[r * k : (r + 1) * k].tolist()) for r in range(rounds)]


def test_probabilistic_is_gumbel_top_k() -> None:
    scores = torch.rand(500, generator=torch.Generator().manual_seed(0)) + 0.01
    for power in (0.0, 1.0, 2.5):
        keys = power * scores.double().log() - torch.log(-torch.log(uniforms(500, 7, 8)))
        expected = np.sort(np.argsort(-keys.numpy(), kind="stable")[:100])
        assert probabilistic(scores, 100, 7, 8, power=power).indices.tolist() == expected.tolist()
    assert torch.equal(probabilistic(scores, 100, 0, 0, power=1e6).indices, hardest(scores, 100).indices)


def test_probabilistic_draws_in_proportion() -> None:
    scores, rounds = torch.tensor([4.0, 2.0, 1.0, 1.0]), 4000
    firsts = torch.zeros(4)
    pairs: dict[tuple[int, ...], int] = {}
    for round in range(rounds):
        firsts[probabilistic(scores, 1, 0, round).indices] += 1
        pair = tuple(probabilistic(scores, 2, 1, round).indices.tolist())
        pairs[pair] = pairs.get(pair, 0) + 1
    p = (scores / 8).tolist()
    for i in range(4):
        assert abs(firsts[i] / rounds - p[i]) < 4 * math.sqrt(p[i] * (1 - p[i]) / rounds)
    for i, j in itertools.combinations(range(4), 2):  # one after the other, in either order
        chance = p[i] * p[j] / (1 - p[i]) + p[j] * p[i] / (1 - p[j])
        assert abs(pairs.get((i, j), 0) / rounds - chance) < 4 * math.sqrt(chance * (1 - chance) / rounds)


@pytest.mark.parametrize(("k", "zeros"), [(1, 0), (5, 0), (5, 4), (11, 0), (12, 0), (14, 5)])
def test_weights_make_the_mean_unbiased(k: int, zeros: int) -> None:
    generator = torch.Generator().manual_seed(1)
    n = 12 + zeros
    scores = torch.rand(n, generator=generator) + 0.1
    scores[:zeros] = 0.0
    losses = torch.rand(n, generator=generator) + 0.5
    estimates = []
    for round in range(3000):
        kept = probabilistic(scores, k, 2, round, weighted=True)
        assert kept.weights is not None and kept.weights.dtype == torch.float32 and len(kept.weights) == k
        estimates.append((kept.weights * losses[kept.indices]).sum().item() / k)
    counted = losses if k > 12 else losses * (scores > 0)
    error = np.std(estimates) / math.sqrt(len(estimates))
    assert abs(np.mean(estimates) - counted.mean().item()) < 4 * error + 1e-6
    if k == n:
        assert bool((kept.weights == 1).all())


def test_zero_scores_come_last() -> None:
    scores = torch.tensor([0.0, 1.0, 0.0, 1e-30, 0.0, 0.0])
    counts = torch.zeros(6)
    for round in range(600):
        assert probabilistic(scores, 2, 0, round).indices.tolist() == [1, 3]
        counts[probabilistic(scores, 3, 0, round).indices] += 1
    assert counts[[1, 3]].tolist() == [600, 600]
    assert counts[[0, 2, 4, 5]].min() > 100  # uniform among themselves: mean 150, deviation 10.6
    assert probabilistic(torch.zeros(4), 4, 0, 0).indices.tolist() == [0, 1, 2, 3]
    assert len(probabilistic(torch.zeros(0), 0, 0, 0, weighted=True)) == 0
    assert probabilistic(torch.tensor([0.0, 1e-10]), 1, 0, 0, power=1e308).indices.tolist() == [1]


@given(
    scores=st.lists(st.integers(-20, 20).map(lambda x: x / 4), max_size=40),
    drop=st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.7, 0.9]),
    seed=st.integers(0, 3),
)
def test_threshold_random_is_infobatch(scores: list[float], drop: float, seed: int) -> None:
    kept = threshold_random(torch.tensor(scores), drop, seed, 1)
    values = np.array(scores)
    below = np.flatnonzero(values < values.mean()) if scores else np.zeros(0, dtype=int)
    count = int(round((1 - drop) * len(below), 6))
    chosen = set(kept.indices.tolist())
    assert kept.weights is not None
    assert set(range(len(scores))) - set(below.tolist()) <= chosen
    assert len(chosen & set(below.tolist())) == count
    assert kept.indices.tolist() == sorted(chosen)
    expected = np.where(np.isin(kept.indices.numpy(), below), 1 / (1 - drop), 1.0).astype(np.float32)
    assert kept.weights.tolist() == expected.tolist()


@pytest.mark.parametrize("value", [0.1, 0.7, 1e308])
def test_threshold_random_keeps_equal_scores(value: float) -> None:
    """Nothing is below the mean of equal scores, though their rounded sum may say so."""
    for n in (3, 6, 1000, 10_000):
        kept = threshold_random(torch.full((n,), value, dtype=torch.float64), 0.5, 0, 0)
        assert len(kept) == n and kept.weights is not None and bool((kept.weights == 1).all())


def test_threshold_random_drops_by_chance() -> None:
    scores = torch.cat([torch.zeros(10), torch.ones(10)])
    counts = torch.zeros(20)
    for round in range(400):
        counts[threshold_random(scores, 0.3, 0, round).indices] += 1
    assert bool((counts[10:] == 400).all())
    assert counts[:10].min() > 240 and counts[:10].max() < 320  # binomial(400, 0.7): mean 280, deviation 9.2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: probabilistic(torch.tensor([1.0, -1.0]), 1, 0, 0), r"scores\[1\] is -1.0, and probabilistic"),
        (lambda: probabilistic(torch.tensor([1.0, torch.nan]), 1, 0, 0), r"scores\[1\] is nan"),
        (lambda: probabilistic(torch.tensor([torch.inf]), 1, 0, 0), r"scores\[0\] is inf"),
        (lambda: probabilistic(torch.ones(2), 3, 0, 0), r"k must be in \[0, 2\] for 2 scores, got 3"),
        (lambda: probabilistic(torch.ones(2), 1, 0, 0, power=-1), "power must be finite and at least 0, got -1"),
        (lambda: probabilistic(torch.ones(2), 1, 0, 0, power=math.nan), "power must be"),
        (lambda: probabilistic(torch.ones(2, 2), 1, 0, 0), r"1-D, got shape \(2, 2\)"),
        (lambda: threshold_random(torch.ones(2), 1.0, 0, 0), r"drop must be in \[0, 1\), got 1.0"),
        (lambda: threshold_random(torch.tensor([-torch.inf]), 0.5, 0, 0), r"scores\[0\] is -inf"),
    ],
)
def test_errors(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
