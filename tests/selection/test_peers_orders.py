"""The inputs that sorting libraries test their selection with, as cases of our own.

What NumPy, torch, x86-simd-sort and Highway look at and our other tests do not: every k, sizes around each power of
two, and orders that are made to lead a choice of pivots astray. The reference is a stable sort.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from fastprune.selection import TopK, select_topk

DTYPES = (np.float16, np.float32, np.float64, np.int8, np.uint16, np.int32, np.uint32, np.int64, np.uint64)


def wanted(values: np.ndarray, k: int, largest: bool) -> np.ndarray:
    """Ascending indices of the first k by value, then by index. Ranks stand for the values: they can be negated."""
    _, ranks = np.unique(values, return_inverse=True)
    return np.sort(np.argsort(-ranks if largest else ranks, kind="stable")[:k])


def against_the_median_of_three(n: int) -> np.ndarray:
    """Musser's sequence: of the first, the middle and the last of what is left, two are always among the smallest."""
    order = np.arange(n)
    order[: n // 2 : 2] = np.arange(1, n // 2 + 1, 2)
    order[1 : n // 2 : 2] = np.arange(n // 2 + 1, n + 1, 2)[: len(order[1 : n // 2 : 2])]
    return order


ORDERS: dict[str, Callable[[int, np.random.Generator], np.ndarray]] = {
    "shuffled": lambda n, rng: rng.permutation(n),
    "sorted": lambda n, rng: np.arange(n),
    "reversed": lambda n, rng: np.arange(n)[::-1],
    "constant": lambda n, rng: np.full(n, 7),
    "organ pipe": lambda n, rng: np.minimum(np.arange(n), np.arange(n)[::-1]),
    "valley": lambda n, rng: np.maximum(np.arange(n), np.arange(n)[::-1]),
    "sawtooth": lambda n, rng: np.arange(n) % 17,
    "interleaved": lambda n, rng: np.where(np.arange(n) % 2, np.arange(n), n - np.arange(n)),
    "median of three": lambda n, rng: against_the_median_of_three(n),
    "one out of place": lambda n, rng: np.roll(np.arange(n), 1),
    "the largest last": lambda n, rng: np.append(rng.integers(0, 3, n - 1), 100),
    "one of few": lambda n, rng: rng.integers(0, 2, n),
    "blocks": lambda n, rng: np.arange(n) // 512 % 5,
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)
def test_sizes_around_powers_of_two(order: str, dtype: type) -> None:
    rng = np.random.default_rng(0)
    for power in range(1, 16, 2) if dtype in (np.float16, np.int64) else range(0, 16, 2):
        for n in {max(2**power + step, 1) for step in (-1, 0, 1)}:
            values = (ORDERS[order](n, rng) % 30_000).astype(dtype)  # int8 wraps around, and has ties
            for k in {1, n // 100, n // 2, n - 1} - {0} if n < 4000 else {int(rng.integers(1, n))}:
                largest = bool(rng.integers(2))
                got = select_topk(values, min(k, n), largest=largest)
                assert np.array_equal(got, wanted(values, min(k, n), largest)), (n, k, largest)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 129])
def test_every_k(order: str, n: int) -> None:
    values = ORDERS[order](n, np.random.default_rng(n)).astype(np.float32)
    for largest in (True, False):
        whole = np.argsort(-values if largest else values, kind="stable")
        for k in range(n + 1):
            assert np.array_equal(select_topk(values, k, largest=largest), np.sort(whole[:k])), (k, largest)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)
def test_the_ends_of_the_range(dtype: type) -> None:
    """The smallest and the largest numbers of a type, subnormal ones and both zeros, many of each."""
    if np.issubdtype(dtype, np.floating):
        info = np.finfo(dtype)
        ends = [0.0, -0.0, info.max, info.min, np.inf, -np.inf, info.tiny, info.smallest_subnormal, -info.eps]
    else:
        ends = [np.iinfo(dtype).min, np.iinfo(dtype).max, np.iinfo(dtype).max - 1, 0, 1]
    values = np.array(ends, dtype)[np.random.default_rng(0).integers(0, len(ends), 5000)]
    for k in (1, 50, 1250, 2500, 4999):
        for largest in (True, False):
            assert np.array_equal(select_topk(values, k, largest=largest), wanted(values, k, largest)), (k, largest)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99, 1.0])
def test_nan_and_infinities_at_the_cut(dtype: torch.dtype, share: float) -> None:
    """k of exactly the numbers, one fewer and one more, with NaN at either end of the order."""
    rng = np.random.default_rng(1)
    n = 6000
    scores = torch.from_numpy(rng.integers(-3, 4, n)).to(dtype)
    scores[torch.from_numpy(rng.random(n) < 0.2)] = torch.inf
    scores[torch.from_numpy(rng.random(n) < 0.2)] = -torch.inf
    missing = torch.from_numpy(rng.random(n) < share)
    scores[missing] = torch.nan
    count = int(missing.sum())
    numbers = scores.double().numpy()
    for largest in (True, False):
        by_value = np.where(np.isnan(numbers), 0.0, -numbers if largest else numbers)
        for nan, edge in (("first", count), ("last", n - count)):
            order = np.lexsort((np.arange(n), by_value, np.isnan(numbers) == (nan == "last")))
            for k in {max(edge - 1, 0), edge, min(edge + 1, n)}:
                got = select_topk(scores, k, largest=largest, nan=nan)
                assert np.array_equal(got, np.sort(order[:k])), (nan, k, largest)


@pytest.mark.parametrize("order", ORDERS)
def test_pieces_of_each_order(order: str) -> None:
    values = torch.from_numpy(ORDERS[order](9000, np.random.default_rng(2)).astype(np.float32))
    for ties in ("index", "random"):
        whole = TopK(700, ties=ties)
        for start in range(0, 9000, 1000):
            whole.push(torch.arange(start, start + 1000), values[start : start + 1000])
        assert torch.equal(whole.result()[0], select_topk(values, 700, ties=ties))
