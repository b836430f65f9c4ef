"""Strategies by group, against plain NumPy statements of the published rules."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastprune.selection import (
    Selection,
    class_balanced,
    hardest,
    probabilistic,
    random,
    stratified,
    threshold_random,
    window,
)
from fastprune.selection.by_group import quotas


def ccs_budgets(scores: np.ndarray, k: int, offset: float, strata: int) -> list[tuple[set[int], int]]:
    """Algorithm 1 of Zheng et al. 2023: the members of each stratum and how many of them are drawn."""
    n = len(scores)
    order = np.argsort(-scores, kind="stable")
    rest = np.sort(order[int(round(offset * n, 6)) :])
    edges = np.linspace(scores[rest].min(), scores[rest].max(), strata + 1)
    bins = [set() for _ in range(strata)]
    for i in rest:
        last = np.searchsorted(edges, scores[i], side="right") - 1
        bins[min(max(last, 0), strata - 1) if edges[0] < edges[-1] else 0].add(int(i))
    bins = sorted(bins, key=len)
    budgets = []
    for done, members in enumerate(bins):
        budget = min(len(members), k // (strata - done))
        k -= budget
        budgets.append((members, budget))
    return budgets


@settings(deadline=None)
@given(
    # Multiples of 1/64 in [0, 1] with both ends: edges of 2, 4, … strata are exact.
    scores=st.lists(st.integers(0, 64).map(lambda x: x / 64), min_size=1, max_size=80).map(lambda x: [*x, 0.0, 1.0]),
    offset=st.sampled_from([0.0, 0.1, 0.3]),
    strata=st.sampled_from([1, 2, 4, 16]),
    seed=st.integers(0, 3),
    data=st.data(),
)
def test_stratified_is_ccs(scores: list[float], offset: float, strata: int, seed: int, data: st.DataObject) -> None:
    values = np.array(scores)
    n = len(scores)
    if offset and values[np.argsort(-values, kind="stable")[int(round(offset * n, 6)) :]].max() < 1.0:
        strata = 1  # the range has become another, and its edges inexact
    k = data.draw(st.integers(0, n - int(round(offset * n, 6))))
    kept = stratified(torch.tensor(scores), k, seed, 5, offset=offset, strata=strata)
    indices = set(kept.indices.tolist())
    assert len(indices) == k and kept.weights is None
    assert kept.indices.tolist() == sorted(indices)
    counts = [(len(members), len(members & indices)) for members, _ in ccs_budgets(values, k, offset, strata)]
    budgets = [(len(members), budget) for members, budget in ccs_budgets(values, k, offset, strata)]
    # Empty strata take nothing of the budget, so leaving them out changes nothing; among strata of equal
    # size the order is ours.
    assert sorted(c for c in counts if c[0]) == sorted(b for b in budgets if b[0])


def test_stratified_on_imbalanced_scores() -> None:
    """A thin tail is kept whole, and what it could not give comes from the crowd: k examples in all."""
    scores = torch.cat([torch.linspace(0, 0.1, 990), torch.linspace(0.9, 1.0, 10)])
    kept = stratified(scores, 200, 0, 0, strata=10)
    assert len(kept) == 200
    assert int((kept.indices >= 990).sum()) == 10
    skewed = torch.tensor([1e6, *[0.001 * i for i in range(99)]])
    assert len(stratified(skewed, 50, 0, 0)) == 50 and 0 in stratified(skewed, 50, 0, 0).indices


def test_stratified_draws_anew_each_round_and_takes_any_scores() -> None:
    scores = torch.rand(300, generator=torch.Generator().manual_seed(0))
    draws = {tuple(stratified(scores, 60, s, r).indices.tolist()) for s in range(3) for r in range(3)}
    assert len(draws) == 9
    assert torch.equal(stratified(scores, 60, 1, 2).indices, stratified(scores.numpy(), 60, 1, 2).indices)
    for odd in (torch.full((9,), 2.5), torch.tensor([-1e308, 1e308] * 5, dtype=torch.float64), torch.arange(-5, 5)):
        assert len(stratified(odd, 4, 0, 0)) == 4
    assert len(stratified(torch.zeros(0), 0, 0, 0)) == 0


def test_stratified_drops_the_hardest_of_integers_that_doubles_cannot_tell_apart() -> None:
    for seed in range(4):
        assert stratified(torch.tensor([2**53, 2**53 + 1]), 1, seed, 0, offset=0.5).indices.tolist() == [0]


def test_stratified_errors() -> None:
    with pytest.raises(TypeError, match="k must be an int, got 2.5"):
        stratified(torch.arange(10.0), 3, 0, 0, strata=2.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"k must be in \[0, 7\], got 8: offset=0.3 drops the hardest 3 of 10"):
        stratified(torch.arange(10.0), 8, 0, 0, offset=0.3)
    with pytest.raises(ValueError, match="strata must be at least 1, got 0"):
        stratified(torch.arange(10.0), 8, 0, 0, strata=0)
    with pytest.raises(ValueError, match=r"scores\[1\] is nan, and stratified needs finite"):
        stratified(torch.tensor([0.0, torch.nan]), 1, 0, 0)


def plain_quotas(k: int, sizes: list[int], quota: str) -> list[int]:
    """The definition, one class at a time: who has fewer than the share gives all, the others share the rest."""
    weight = {"proportional": lambda n: float(n), "equal": lambda n: 1.0, "sqrt": lambda n: n**0.5}[quota]
    given_: dict[int, float] = {i: 0.0 for i, size in enumerate(sizes) if size == 0}
    while len(given_) < len(sizes):
        rest = k - sum(given_.values())
        open_ = [i for i in range(len(sizes)) if i not in given_]
        total = sum(weight(sizes[i]) for i in open_)
        share = {i: rest * weight(sizes[i]) / total for i in open_}
        full = [i for i in open_ if share[i] > sizes[i] + 1e-9]
        if not full:
            given_ |= share
        given_ |= {i: float(sizes[i]) for i in full}
    counts = [int(np.floor(round(given_[i], 9))) for i in range(len(sizes))]
    by_remainder = sorted(
        (i for i in range(len(sizes)) if counts[i] < sizes[i]), key=lambda i: -round(given_[i] - counts[i], 9)
    )
    for i in by_remainder[: k - sum(counts)]:
        counts[i] += 1
    return counts


@given(
    sizes=st.lists(st.integers(0, 50), min_size=1, max_size=12),
    quota=st.sampled_from(["proportional", "equal", "sqrt"]),
    share=st.floats(0, 1),
)
def test_quotas(sizes: list[int], quota: str, share: float) -> None:
    k = round(share * sum(sizes))
    got = quotas(k, sizes, quota)  # type: ignore[arg-type]
    assert sum(got) == k and all(0 <= g <= size for g, size in zip(got, sizes, strict=True))
    assert got == plain_quotas(k, sizes, quota)


def test_quotas_by_hand() -> None:
    assert quotas(10, [100, 10, 0, 10], "proportional") == [8, 1, 0, 1]
    assert quotas(10, [100, 1, 50], "equal") == [5, 1, 4]
    assert quotas(12, [100, 25, 1], "sqrt") == [7, 4, 1]  # of 7.5, 3.75, 0.75


@pytest.mark.parametrize("names", [(-5, 0, 7), (0, 1, 2**16), (-(2**60), 3, 2**60), (0, 9, 2**16 - 1)])
def test_class_balanced_takes_any_integers_as_classes(names: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    scores, labels = torch.rand(200, generator=generator), torch.randint(3, (200,), generator=generator)
    kept = class_balanced(scores, torch.tensor(names)[labels], 60, quota="equal").indices
    best = [(labels == c).nonzero().flatten()[scores[labels == c].argsort(descending=True)[:20]] for c in range(3)]
    assert kept.tolist() == sorted(torch.cat(best).tolist())


def test_class_balanced() -> None:
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2])
    labels = torch.tensor([0, 0, 0, 0, 0, 0, 7, -3])
    assert class_balanced(scores, labels, 4, quota="equal").indices.tolist() == [0, 1, 6, 7]
    assert class_balanced(scores, labels.numpy(), 4).indices.tolist() == [
        0,
        1,
        2,
        7,
    ]  # of remainders 0.5 the smaller label
    assert class_balanced(scores, labels, 4, quota="equal", inner=partial(window, offset=0.2)).indices.tolist() == [
        1,
        2,
        6,
        7,
    ]
    weighted = class_balanced(scores, labels, 5, inner=partial(probabilistic, seed=0, round=0, weighted=True))
    assert weighted.weights is not None and len(weighted) == len(weighted.weights) == 5
    sizes = {0: 6, 7: 1, -3: 1}
    chosen = labels[weighted.indices]
    for label, size in sizes.items():
        if int((chosen == label).sum()) == size:
            assert bool((weighted.weights[chosen == label] == 1).all())
    assert len(class_balanced(torch.zeros(0), torch.zeros(0, dtype=torch.long), 0)) == 0


@pytest.mark.parametrize("names", [(0, 1, 2), (-1, 0, 7), (5, 5 + 2**31, 2**60)])
@pytest.mark.parametrize("inner", ["random", "probabilistic", "ties", "nested"])
def test_class_balanced_draws_apart_in_every_class(names: tuple[int, ...], inner: str) -> None:
    """The j-th members of two classes are kept together as often as chance has it, not always."""
    strategies = {
        "random": lambda s, k: random(len(s), k, 3, 1),
        "probabilistic": partial(probabilistic, seed=3, round=1),
        "ties": partial(hardest, ties="random", seed=3, round=1),
        "nested": lambda s, k: class_balanced(
            s, torch.arange(len(s)) % 2, k, inner=lambda t, j: random(len(t), j, 3, 1)
        ),
    }
    n = 2000
    labels = torch.tensor(names).repeat(n)  # class c has the examples c, c + 3, …
    kept = class_balanced(torch.ones(3 * n), labels, 3 * n // 2, inner=strategies[inner]).indices
    place = [set((kept[kept % 3 == c] // 3).tolist()) for c in range(3)]
    assert [len(p) for p in place] == [n // 2] * 3
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert abs(len(place[a] & place[b]) - n / 4) < 5 * (n / 16) ** 0.5
    if inner == "nested":
        even, odd = ({p // 2 for p in place[0] if p % 2 == rest} for rest in (0, 1))
        assert abs(len(even & odd) - n / 8) < 5 * (n / 32) ** 0.5
    again = class_balanced(torch.ones(3 * n), labels, 3 * n // 2, inner=strategies[inner]).indices
    assert torch.equal(again, kept)


def test_a_class_draws_the_same_whatever_other_classes_there_are() -> None:
    scores, labels = torch.ones(60), torch.arange(60) % 3
    inner = partial(probabilistic, seed=0, round=0)
    kept = class_balanced(scores, labels, 30, inner=inner).indices
    alone = class_balanced(scores[labels == 2], labels[labels == 2], 10, inner=inner).indices
    assert (kept[kept % 3 == 2] // 3).tolist() == alone.tolist()
    before = random(50, 20, 0, 0).indices
    with pytest.raises(ZeroDivisionError):
        class_balanced(scores, labels, 30, inner=lambda s, k: 1 / 0)  # type: ignore[arg-type, return-value]
    assert torch.equal(random(50, 20, 0, 0).indices, before), "after an error no class stays set"


def test_class_balanced_maps_weights_to_their_examples() -> None:
    scores = torch.tensor([5.0, 0.0, 5.0, 0.0, 5.0, 5.0])
    labels = torch.tensor([1, 1, 0, 0, 1, 0])
    kept = class_balanced(scores, labels, 6, inner=lambda s, k: threshold_random(s, 0.0, 0, 0))
    assert kept.indices.tolist() == [0, 1, 2, 3, 4, 5]
    doubled = class_balanced(
        scores, labels, 6, inner=lambda s, k: type(kept)(torch.arange(len(s)), s.to(torch.float32))
    )
    assert doubled.weights is not None and doubled.weights.tolist() == scores.tolist()


def test_class_balanced_where_some_classes_have_no_weights() -> None:
    def inner(scores: torch.Tensor, k: int) -> Selection:
        chosen = torch.arange(k)
        return Selection(chosen, torch.full((k,), 2.0)) if scores[0] > 1 else Selection(chosen)

    kept = class_balanced(torch.tensor([0.0, 5.0, 0.0, 5.0]), torch.tensor([0, 1, 0, 1]), 4, inner=inner)
    assert kept.weights is not None and kept.weights.tolist() == [1.0, 2.0, 1.0, 2.0]


def test_class_balanced_errors() -> None:
    with pytest.raises(ValueError, match=r"k must be in \[0, 3\] for 3 scores, got 4"):
        class_balanced(torch.ones(3), torch.zeros(3, dtype=torch.long), 4)
    with pytest.raises(ValueError, match="quota must be 'proportional', 'equal' or 'sqrt', got 'half'"):
        class_balanced(torch.ones(3), torch.zeros(3, dtype=torch.long), 1, quota="half")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"scores must be 1-D, got shape \(2, 3\)"):
        class_balanced(torch.ones(2, 3), torch.zeros(2, 3, dtype=torch.long), 1)
    for labels in (
        torch.zeros(3),
        torch.zeros(3, dtype=torch.complex64),
        torch.zeros(4, dtype=torch.long),
        torch.zeros(3, 1, dtype=torch.long),
    ):
        with pytest.raises(ValueError, match=r"labels must be integers of the scores' shape \(3,\)"):
            class_balanced(torch.ones(3), labels, 1)
