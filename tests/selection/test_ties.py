"""Equal scores at the cut: the seeded draw among them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastprune import select_topk
from fastprune.selection import easiest, hardest, random, stratified, window
from fastprune.selection.ties import split_tie, tie_note

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.uint8, torch.int32, torch.uint64)


def sorted_by_class():
    """Forgetting counts of 1,000 examples in order of their ten classes, most of them 0."""
    return torch.from_numpy(np.random.default_rng(0).poisson(0.1, 1000).astype(np.float32))


@settings(max_examples=150, deadline=None)
@given(
    values=st.lists(st.integers(0, 3), min_size=1, max_size=40),
    dtype=st.sampled_from(DTYPES),
    largest=st.booleans(),
    nan=st.sampled_from(["first", "last"]),
    missing=st.booleans(),
    seed=st.integers(0, 5),
    data=st.data(),
)
def test_the_same_scores_are_kept_whichever_of_the_equal_ones(values, dtype, largest, nan, missing, seed, data):
    scores = torch.tensor(values, dtype=torch.int64).to(dtype)
    if missing and dtype.is_floating_point:
        scores[: len(values) // 2] = torch.nan
    k = data.draw(st.integers(0, len(values)))
    by_index = select_topk(scores, k, largest=largest, nan=nan)
    drawn = select_topk(scores, k, largest=largest, nan=nan, ties="random", seed=seed)
    assert drawn.dtype == torch.int64 and len(drawn) == k
    assert drawn.tolist() == sorted(set(drawn.tolist()))
    numbers = scores.double() if dtype != torch.uint64 else scores.to(torch.int64)
    torch.testing.assert_close(numbers[drawn].sort().values, numbers[by_index].sort().values, equal_nan=True)
    again = select_topk(scores, k, largest=largest, nan=nan, ties="random", seed=seed)
    assert torch.equal(again, drawn)
    if dtype != torch.bfloat16:
        array = select_topk(scores.numpy(), k, largest=largest, nan=nan, ties="random", seed=seed)
        assert isinstance(array, np.ndarray) and array.tolist() == drawn.tolist()


def test_without_ties_at_the_cut_the_draw_changes_nothing():
    scores = torch.rand(500, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for k in (0, 1, 200, 500):
        assert torch.equal(select_topk(scores, k, ties="random", seed=3), select_topk(scores, k))


def test_each_of_the_equal_ones_is_kept_equally_often():
    scores = torch.tensor([1.0, 0.0, 1.0, 1.0, 2.0, -0.0, 1.0])
    rounds = 2000
    counts = torch.zeros(7)
    for round in range(rounds):
        counts[select_topk(scores, 3, ties="random", seed=1, round=round)] += 1
    assert counts[4] == rounds and counts[1] == counts[5] == 0
    assert (counts[[0, 2, 3, 6]] - rounds / 2).abs().max() < 5 * (rounds / 4) ** 0.5


def test_counts_in_order_of_class_keep_all_classes_alike():
    scores, label = sorted_by_class(), np.repeat(np.arange(10), 100)
    by_index = np.bincount(label[hardest(scores, 300).indices], minlength=10)
    assert by_index.max() > 80 and by_index.min() < 20, "the index decides the class"
    drawn = np.bincount(label[hardest(scores, 300, ties="random", seed=0).indices], minlength=10)
    assert drawn.min() >= 15 and drawn.max() <= 45


def test_the_draw_has_nothing_to_do_with_the_draws_of_strategies():
    """The same (seed, round): what the tie keeps and what a random subset keeps share what chance gives."""
    tied = select_topk(torch.zeros(4000), 2000, ties="random", seed=4, round=7)
    drawn = random(4000, 2000, 4, 7).indices
    assert abs(len(np.intersect1d(tied, drawn)) - 1000) < 5 * (4000 / 16) ** 0.5


def test_every_strategy_by_rank_takes_the_rule():
    scores = torch.zeros(400)
    for strategy in (
        lambda ties, seed: hardest(scores, 100, ties=ties, seed=seed),
        lambda ties, seed: easiest(scores, 100, ties=ties, seed=seed),
        lambda ties, seed: window(scores, 100, 0.25, ties=ties, seed=seed),
        lambda ties, seed: stratified(scores, 300, seed, 0, offset=0.25, ties=ties),
    ):
        kept = [strategy("random", seed).indices for seed in (0, 0, 1)]
        assert torch.equal(kept[0], kept[1]) and not torch.equal(kept[0], kept[2])
        assert not torch.equal(kept[0], strategy("index", 0).indices)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30), st.integers(0, 9), st.data())
def test_a_window_of_ties_is_as_large_as_one_without(values, seed, data):
    offset = data.draw(st.sampled_from([0.0, 0.1, 0.4]))
    scores, dropped = torch.tensor(values).float(), int(offset * len(values) + 1e-9)
    k = data.draw(st.integers(0, len(values) - dropped))
    kept = window(scores, k, offset, ties="random", seed=seed).indices
    assert len(set(kept.tolist())) == k
    assert scores[kept].sort().values.tolist() == scores[window(scores, k, offset).indices].sort().values.tolist()


def test_the_subset_does_not_depend_on_threads():
    scores = torch.from_numpy(np.random.default_rng(1).integers(0, 4, 300_000))
    threads = torch.get_num_threads()
    try:
        kept = []
        for number in (1, 3):
            torch.set_num_threads(number)
            kept.append(select_topk(scores, 100_000, ties="random", seed=2))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*kept)


def test_a_wrong_rule_is_named():
    with pytest.raises(ValueError, match="ties must be 'index' or 'random', got 'first'"):
        select_topk(torch.ones(3), 1, ties="first")
    with pytest.raises(ValueError, match=r"scores\[1\] is NaN"):
        select_topk(torch.tensor([1.0, float("nan")]), 1, ties="random")


@pytest.mark.parametrize(
    "values, kept, tied",
    [
        ([3, 2, 1, 0], [0, 1], 0),
        ([3, 2, 2, 0], [0, 1], 2),
        ([2, 2, 2, 0], [0, 1], 3),
        ([5, 5, 5, 1, 1], [2, 3], 3),  # a window, cut at both ends
        ([1, 1, 1], [0, 1, 2], 0),
        ([1, 1, 1], [], 0),
    ],
)
def test_the_tie_that_the_cut_divides_is_counted(values, kept, tied):
    assert split_tie(torch.tensor(values), torch.tensor(kept, dtype=torch.int64)) == tied


def test_a_note_appears_from_one_percent_on():
    scores = torch.arange(1000.0)
    scores[490:501] = 490.0  # 11 of 1,000
    kept = select_topk(scores, 505)
    assert tie_note(scores, kept, "index") == (
        "the cut falls into a tie: 11 of 1000 examples have the same score, and the smaller index decides "
        "which are kept"
    )
    scores[500] = 500.0  # 10 of 1,000
    assert tie_note(scores, select_topk(scores, 505), "random") is None
