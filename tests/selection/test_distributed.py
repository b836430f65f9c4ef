"""fastprune.distributed: under torchrun on 1, 2 and 4 Gloo processes, and in one process without a group."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from distributed_worker import FLOATS, SIGNED, UNSIGNED, by_sorting, data_sets, failure
from helpers import under_torchrun
from hypothesis import given, settings
from hypothesis import strategies as st

import fastprune
from fastprune.distributed import select_topk
from fastprune.selection import distributed

needs_gloo = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()), reason="torch without the Gloo backend"
)


@needs_gloo
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_under_torchrun(ranks: int) -> None:
    output = under_torchrun.run(Path(__file__).with_name("distributed_worker.py"), ranks)
    assert output.count("all agree") == ranks, output


@pytest.mark.parametrize("dtype", (*FLOATS, *SIGNED, *UNSIGNED))
@pytest.mark.parametrize("largest", [True, False])
def test_one_process_without_a_group(dtype: torch.dtype, largest: bool) -> None:
    n = 3_000
    for name, scores in data_sets(dtype, n, np.random.default_rng(0)):
        for k in (0, 1, n // 3, n - 1, n):
            got = select_topk(scores, k, largest=largest)
            assert got.dtype == torch.int64
            assert np.array_equal(got, by_sorting(scores, k, largest)), (name, k)


@settings(max_examples=100, deadline=None)
@given(data=st.data(), dtype=st.sampled_from((torch.float16, torch.float32, torch.int64)), largest=st.booleans())
def test_ids_break_ties_in_any_order(data: st.DataObject, dtype: torch.dtype, largest: bool) -> None:
    values = data.draw(st.lists(st.integers(-2, 2), max_size=40))
    ids = data.draw(st.lists(st.integers(0, 2**63 - 1), min_size=len(values), max_size=len(values), unique=True))
    k = data.draw(st.integers(0, len(values)))
    by_id = np.argsort(np.array(ids, np.int64))
    wanted = by_id[by_sorting(torch.tensor(values, dtype=dtype)[by_id], k, largest)]
    got = select_topk(torch.tensor(values, dtype=dtype), k, ids=torch.tensor(ids, dtype=torch.int64), largest=largest)
    assert np.array_equal(got, np.sort(wanted))


@pytest.mark.parametrize("nan", ["first", "last"])
@pytest.mark.parametrize("largest", [True, False])
def test_nan_first_and_last(nan: str, largest: bool) -> None:
    scores = torch.tensor([1.0, float("nan"), float("inf"), -float("nan"), -float("inf"), 0.0])
    for k in range(7):
        assert np.array_equal(select_topk(scores, k, largest=largest, nan=nan), by_sorting(scores, k, largest, nan))


def test_repeated_ids_are_kept_or_dropped_together() -> None:
    ids = torch.tensor([7, 3, 3, 9])
    assert select_topk(torch.ones(4), 1, ids=ids).tolist() == [1, 2]
    assert select_topk(torch.ones(4), 2, ids=ids).tolist() == [1, 2]
    for seed in range(8):
        kept = select_topk(torch.ones(4), 2, ids=ids, ties="random", seed=seed).tolist()
        assert (1 in kept) == (2 in kept)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), seed=st.integers(-3, 3), largest=st.booleans())
def test_ties_are_drawn_as_in_one_process(data: st.DataObject, seed: int, largest: bool) -> None:
    scores = torch.tensor(data.draw(st.lists(st.integers(0, 2), max_size=40)), dtype=torch.float32)
    k = data.draw(st.integers(0, len(scores)))
    drawn = {"largest": largest, "ties": "random", "seed": seed, "round": 1}
    wanted = fastprune.select_topk(scores, k, **drawn)
    assert torch.equal(select_topk(scores, k, **drawn), wanted)
    order = torch.randperm(len(scores), generator=torch.Generator().manual_seed(0))
    got = order[select_topk(scores[order], k, ids=order, **drawn)].sort().values
    assert torch.equal(got, wanted)


def test_views_and_gradients_are_read_and_left_alone() -> None:
    whole = torch.tensor([3.0, 0.0, -1.0, 0.0, 5.0, 0.0, 4.0, 0.0], requires_grad=True)
    before = whole.detach().clone()
    assert select_topk(whole[::2], 2).tolist() == [2, 3]
    assert select_topk(torch._neg_view(whole[::2]), 1).tolist() == [1]
    assert torch.equal(whole.detach(), before)


def test_default_device_and_deterministic_algorithms() -> None:
    scores, ids = torch.tensor([2.0, 1.0, 2.0, 2.0]), torch.tensor([4, 3, 2, 1])
    torch.use_deterministic_algorithms(True)
    try:
        with torch.device("meta"):
            got = select_topk(scores, 2, ids=ids)
    finally:
        torch.use_deterministic_algorithms(False)
    assert got.tolist() == [2, 3] and got.device.type == "cpu"


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        ({"k": 4}, "ValueError", "k must be in [0, 3] for 3 scores over all ranks, got 4"),
        ({"k": True}, "TypeError", "k must be an int, got True; round a fraction of the number of scores to a count"),
        ({"k": np.True_}, "TypeError", "k must be an int, got "),
        ({"nan": 0}, "ValueError", "nan must be 'raise', 'first' or 'last', got 0"),
        ({"ties": "first"}, "ValueError", "ties must be 'index' or 'random', got 'first'"),
        ({"round": 0.5}, "TypeError", "round must be an int, got 0.5"),
        ({"ids": torch.tensor([1, 2])}, "ValueError", "ids must have the shape of local_scores, (3,), got (2,)"),
        ({"local_scores": torch.tensor([1.0, 2.0, float("nan")])}, "ValueError", "the score of id 2 is NaN; drop or"),
        ({"group": object()}, "ValueError", "group was given, but torch.distributed is not initialised"),
    ],
)
def test_errors_without_a_group(arguments: dict, kind: str, text: str) -> None:
    got = failure(**arguments)
    assert got[0] == kind and got[1].startswith(text)


def test_scores_that_the_backend_cannot_reduce_are_refused() -> None:
    assert distributed._check_device("cpu", ["cpu", "cuda"]) == distributed._check_device("cpu", ["cpu"]) == 0
    with pytest.raises(ValueError, match="local_scores are on cpu, but the backend of group reduces on cuda alone"):
        distributed._check_device("cpu", ["cuda"])


def test_without_torch_distributed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is not built, torch.distributed has no names but is_available."""
    with monkeypatch.context() as patch:
        patch.setattr(dist, "is_available", lambda: False)
        for name in ("ProcessGroup", "ReduceOp", "GroupMember", "group", "all_reduce", "is_initialized"):
            patch.delattr(dist, name, raising=False)
        module = importlib.reload(distributed)
        assert module.select_topk(torch.tensor([1.0, 3.0, 3.0]), 1).tolist() == [1]
    importlib.reload(distributed)
