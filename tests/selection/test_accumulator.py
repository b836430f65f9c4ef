"""TopK against one selection of everything."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastprune.selection import TopK, select_topk

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int32, torch.int64, torch.uint8)


@settings(max_examples=150, deadline=None)
@given(
    n=st.integers(0, 6000),
    share=st.sampled_from([0.0, 0.001, 0.1, 0.5, 1.0, 1.5]),
    dtype=st.sampled_from(DTYPES),
    largest=st.booleans(),
    nan=st.sampled_from(["first", "last"]),
    ties=st.sampled_from([{}, {"ties": "random"}, {"ties": "random", "seed": -3, "round": 2}]),
    in_order=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_is_one_selection_whatever_the_chunks(n, share, dtype, largest, nan, ties, in_order, seed) -> None:
    rng = np.random.default_rng(seed)
    k = int(share * n)
    scores = torch.from_numpy(np.round(rng.random(n) * 40)).to(dtype)
    if dtype.is_floating_point:
        scores[torch.from_numpy(rng.random(n) < 0.05)] = torch.nan
    parts = [TopK(k, largest=largest, nan=nan, **ties) for _ in range(rng.integers(1, 4))]
    order = torch.arange(n) if in_order else torch.from_numpy(rng.permutation(n))
    at = 0
    while at < n:
        chunk = order[at : at + rng.integers(1, 1500)]
        at += len(chunk)
        parts[rng.integers(len(parts))].push(chunk, scores[chunk])
    whole = parts[0]
    for part in parts[1:]:
        whole.merge(part)
    ids, kept = whole.result()
    expected = select_topk(scores, min(k, n), largest=largest, nan=nan, **ties)
    assert torch.equal(ids, expected) and whole.pushed == n
    if n:
        assert torch.equal(kept.nan_to_num(-1), scores[ids].nan_to_num(-1))
    if len(ids):
        assert kept.dtype == dtype


def test_state_dict_goes_through_a_file() -> None:
    scores = torch.rand(10_000, generator=torch.Generator().manual_seed(0))
    first = TopK(100, largest=False)
    first.push(torch.arange(5000), scores[:5000])
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = TopK(1)
    second.load_state_dict(torch.load(file))
    for accumulator in (first, second):
        accumulator.push(torch.arange(5000, 10_000), scores[5000:])
        assert torch.equal(accumulator.result()[0], select_topk(scores, 100, largest=False))
        assert accumulator.pushed == 10_000
    drawing = TopK(100, ties="random", seed=5, round=1)
    drawing.push(torch.arange(5000), torch.zeros(5000))
    second.load_state_dict(drawing.state_dict())
    second.push(torch.arange(5000, 10_000), torch.zeros(5000))
    assert torch.equal(second.result()[0], select_topk(torch.zeros(10_000), 100, ties="random", seed=5, round=1))
    empty = TopK(3)
    before_there_were_ties = {n: v for n, v in empty.state_dict().items() if n not in ("ties", "seed", "round")}
    second.load_state_dict(before_there_were_ties)
    assert second.ties == "index"
    second.load_state_dict(empty.state_dict())
    second.push([4], torch.tensor([1.0]))
    assert second.result()[0].tolist() == [4]


def test_memory_stays_within_k() -> None:
    accumulator = TopK(50)
    for chunk in range(200):
        accumulator.push(
            torch.arange(100) + 100 * chunk, torch.arange(100.0) + 100 * chunk
        )  # each better than all before
        held = sum(len(part) for part in accumulator._scores)
        assert held <= 2 * 50 + 1024 + 100
    assert accumulator.result()[0].tolist() == list(range(19_950, 20_000))
    for chunk in range(2000):  # each worse than all that is kept: nothing of them stays
        accumulator.push(torch.arange(100) + 100_000 + 100 * chunk, torch.zeros(100))
    assert len(accumulator._scores) == 1
    many = TopK(5000)
    for one in range(4000):
        many.push(torch.tensor([one]), torch.tensor([1.0]))
        assert len(many._scores) <= 257
    assert many.result()[0].tolist() == list(range(4000))


def test_chunks_are_copied_and_results_too() -> None:
    accumulator, chunk = TopK(2), torch.tensor([3.0, 1.0, 2.0])
    accumulator.push(np.array([0, 1, 2]), chunk)
    chunk.fill_(9.0)
    ids, scores = accumulator.result()
    assert ids.tolist() == [0, 2] and scores.tolist() == [3.0, 2.0]
    scores.fill_(0.0)
    assert accumulator.result()[1].tolist() == [3.0, 2.0]


def test_errors_leave_it_as_it_was() -> None:
    accumulator = TopK(2)
    accumulator.push(torch.arange(3), torch.tensor([1.0, 2.0, 3.0]))
    for ids, scores, error, message in (
        (torch.tensor([7, 8]), torch.tensor([1.0, torch.nan]), ValueError, r"scores\[1\] \(id 8\) is NaN"),
        (torch.arange(2), torch.ones(3), ValueError, r"ids must have the scores' shape \(3,\), got \(2,\)"),
        (torch.ones(3), torch.ones(3), TypeError, "ids must be integers, got torch.float32"),
        (torch.arange(3), torch.ones(3, dtype=torch.float64), ValueError, "scores are torch.float64 on cpu"),
        (torch.arange(3), torch.ones(3, dtype=torch.bool), TypeError, "bool are not supported"),
        (torch.zeros(1, 1, dtype=torch.long), torch.ones(1, 1), ValueError, "1-D"),
        (np.array([2**63 + 1], dtype=np.uint64), torch.ones(1), ValueError, r"ids must be in \[0, 2\^63\)"),
    ):
        with pytest.raises(error, match=message):
            accumulator.push(ids, scores)
    assert accumulator.result()[0].tolist() == [1, 2] and accumulator.pushed == 3
    for other, differs in ((TopK(3), "'k': 3"), (TopK(2, ties="random"), "'ties': 'random'"), (TopK(2, seed=1), "1")):
        with pytest.raises(ValueError, match=f"the same settings {{'k': 2, .*, got {{.*{differs}"):
            accumulator.merge(other)
    with pytest.raises(ValueError, match="other must be another accumulator"):
        accumulator.merge(accumulator)
    accumulator.push([], [])
    accumulator.push(torch.tensor([2]), torch.tensor([5.0]))
    with pytest.raises(ValueError, match="id 2 was pushed twice"):
        accumulator.result()
    for k, error in ((-1, ValueError), (1.5, TypeError), (True, TypeError)):
        with pytest.raises(error, match="k must be"):
            TopK(k)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="nan must be"):
        TopK(1, nan="omit")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="ties must be 'index' or 'random', got 'first'"):
        TopK(1, ties="first")  # type: ignore[arg-type]


def test_ids_are_what_is_drawn_and_need_not_begin_at_zero() -> None:
    """Each id of a mass of equal scores is kept as often as the others, up to the last one that there can be."""
    ids, rounds = torch.tensor([2**63 - 1, 7, 10**12, 0, 2**32]), 1000
    counts = torch.zeros(len(ids))
    for round in range(rounds):
        accumulator = TopK(2, ties="random", seed=3, round=round)
        accumulator.push(ids, torch.ones(len(ids)))
        counts += torch.isin(ids, accumulator.result()[0])
    assert (counts - rounds * 2 / 5).abs().max() < 5 * (rounds * 6 / 25) ** 0.5
