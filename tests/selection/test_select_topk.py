"""select_topk against a stable sort."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastprune import _core
from fastprune.selection import select_topk

TORCH_DTYPES = (
    torch.float16, torch.bfloat16, torch.float32, torch.float64,
    torch.int8, torch.uint8, torch.int16, torch.uint16, torch.int32, torch.uint32, torch.int64, torch.uint64,
)  # fmt: skip
INF = float("inf")


def by_sorting(scores: torch.Tensor, k: int, largest: bool, nan: str = "last") -> torch.Tensor:
    """Stable sorts, so equal scores stay in order of index: by value, then by where NaN belongs."""
    wide = scores.double().numpy() if scores.dtype.is_floating_point else scores.numpy()
    missing = np.isnan(wide)
    wide = np.where(missing, 0, wide) + wide.dtype.type(0)  # -0.0 + 0 is 0.0
    # Reversing the bits of integers instead of negating them: -(-2^63) overflows.
    key = (-wide if scores.dtype.is_floating_point else ~wide) if largest else wide
    order = np.lexsort((np.arange(len(key)), key, missing if nan == "last" else ~missing))
    return torch.from_numpy(np.sort(order[:k]))


def integers(values: list[int], dtype: torch.dtype) -> torch.Tensor:
    """Also beyond the range of int64, where torch.tensor stops."""
    return torch.from_numpy(np.array(values, dtype=str(dtype).removeprefix("torch.")))


@settings(max_examples=200, deadline=None)
@given(data=st.data(), dtype=st.sampled_from(TORCH_DTYPES), largest=st.booleans())
def test_agrees_with_a_stable_sort(data: st.DataObject, dtype: torch.dtype, largest: bool) -> None:
    if dtype.is_floating_point:
        few = st.sampled_from([0.0, -0.0, 1.0, -1.0, 1.5, INF, -INF, 1e-7, -1e-7, 6e4])
        any_value = st.floats()
    else:
        info = torch.iinfo(dtype)
        few = st.sampled_from([0, 1, 2, info.min, info.max, info.max - 1])
        any_value = st.integers(info.min, info.max)
    values = data.draw(st.lists(st.one_of(few, any_value), max_size=60))
    scores = torch.tensor(values, dtype=torch.float64).to(dtype) if dtype.is_floating_point else integers(values, dtype)
    k = data.draw(st.integers(0, len(values)))
    nan = data.draw(st.sampled_from(["first", "last"]))
    got = select_topk(scores, k, largest=largest, nan=nan)
    assert got.dtype == torch.int64
    assert torch.equal(got, by_sorting(scores, k, largest, nan))
    if dtype != torch.bfloat16:
        array = select_topk(scores.numpy(), k, largest=largest, nan=nan)
        assert isinstance(array, np.ndarray) and array.dtype == np.int64
        assert np.array_equal(array, got.numpy())


@pytest.mark.parametrize("dtype", TORCH_DTYPES)
@pytest.mark.parametrize("largest", [True, False])
def test_large_inputs_with_many_ties(dtype: torch.dtype, largest: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    n = 20_000
    spread = torch.randn(n, generator=generator) * 50
    tied = spread.masked_fill(torch.rand(n, generator=generator) < 0.6, 0.0)
    for values in (spread, tied, torch.zeros(n), spread.abs() * 1e-6):
        unsigned = not dtype.is_signed
        scores = (values.abs() if unsigned else values).to(dtype)
        for k in (0, 1, 17, n // 3, n // 2, n - 1, n):
            assert torch.equal(select_topk(scores, k, largest=largest), by_sorting(scores, k, largest))


@pytest.mark.parametrize("step", [2, 3, -1, -2])
def test_strided_arrays(step: int) -> None:
    base = np.random.default_rng(0).normal(size=1001).astype(np.float32)
    view = base[::step]
    assert np.array_equal(select_topk(view, 100), select_topk(view.copy(), 100))
    if step > 0:
        tensor = torch.from_numpy(base)[::step]
        assert np.array_equal(select_topk(tensor, 100).numpy(), select_topk(view, 100))
    for dtype in TORCH_DTYPES:
        wide = torch.arange(30_000).remainder(251).to(dtype)
        assert torch.equal(select_topk(wide[1::3], 4000), select_topk(wide[1::3].clone(), 4000))
    column = np.random.default_rng(0).normal(size=(50, 4))[:, 2]
    assert np.array_equal(select_topk(column, 7), select_topk(column.copy(), 7))
    assert select_topk(torch.tensor([3.0]).expand(5), 2).tolist() == [0, 1]
    assert select_topk(np.broadcast_to(np.float32(3), 5), 2).tolist() == [0, 1]


def test_odd_arrays() -> None:
    scores = np.array([1.0, 5.0, 3.0, 4.0])
    readonly = scores.copy()
    readonly.flags.writeable = False
    assert select_topk(readonly, 2).tolist() == [1, 3]
    assert select_topk(scores.astype(">f8"), 2).tolist() == [1, 3]
    packed = np.zeros(4, dtype=[("flag", "i1"), ("score", "f8")])
    packed["score"] = scores
    assert select_topk(packed["score"], 2).tolist() == [1, 3]
    assert select_topk(torch.tensor(scores, requires_grad=True), np.int64(2)).tolist() == [1, 3]
    assert select_topk(np.zeros(0), 0).tolist() == [] == select_topk(torch.zeros(0), 0).tolist()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("largest", [True, False])
def test_nan_raises_and_names_the_first(dtype: torch.dtype, largest: bool) -> None:
    scores = torch.arange(10).to(dtype)
    scores[3], scores[7] = -torch.nan, torch.nan
    for k in (0, 4, 10):
        with pytest.raises(ValueError, match=r"scores\[3\] is NaN"):
            select_topk(scores, k, largest=largest)
    with pytest.raises(ValueError, match=r"scores\[1\] is NaN"):
        select_topk(scores[1::2].double().numpy(), 1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize("nan", ["first", "last"])
def test_nan_comes_where_the_policy_says(dtype: torch.dtype, largest: bool, nan: str) -> None:
    generator = torch.Generator().manual_seed(0)
    for n, share in ((12, 0.3), (3000, 0.001), (50_000, 0.3), (50_000, 1.0)):
        scores = torch.randn(n, generator=generator).to(dtype)
        scores[::7] = torch.inf
        missing = torch.rand(n, generator=generator) < share
        scores[missing] = torch.nan
        scores[missing & (torch.arange(n) % 2 == 0)] *= -1  # the sign of a NaN counts for nothing
        for k in (0, 1, int(missing.sum()), n // 2, n - 1, n):
            assert torch.equal(select_topk(scores, k, largest=largest, nan=nan), by_sorting(scores, k, largest, nan))


@pytest.mark.parametrize(
    ("scores", "k", "error", "message"),
    [
        (torch.zeros(3), 4, ValueError, r"k must be in \[0, 3\] for 3 scores, got 4"),
        (torch.zeros(3), -1, ValueError, "got -1"),
        (torch.zeros(3), 1.0, TypeError, "k must be an int, got 1.0"),
        (torch.zeros(3), True, TypeError, "k must be an int, got True"),
        (np.zeros(3), np.bool_(True), TypeError, "k must be an int"),
        (torch.zeros(3, 1), 1, ValueError, r"1-D, got shape \(3, 1\)"),
        (np.zeros(()), 0, ValueError, "1-D"),
        ([1.0, 2.0], 1, TypeError, "got list"),
        (torch.zeros(3, dtype=torch.bool), 1, TypeError, "bool"),
        (np.zeros(3, dtype=complex), 1, TypeError, "complex128"),
        (np.array(["a"]), 1, TypeError, "not supported"),
        (torch.zeros(0), 1, ValueError, r"k must be in \[0, 0\] for 0 scores, got 1"),
    ],
)
def test_errors(scores, k, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        select_topk(scores, k)


def test_unknown_nan_policy() -> None:
    with pytest.raises(ValueError, match="nan must be 'raise', 'first' or 'last', got 'omit'"):
        select_topk(torch.zeros(3), 1, nan="omit")  # type: ignore[call-overload]


def test_input_is_not_written_and_threads_do_not_meet() -> None:
    scores = np.random.default_rng(0).normal(size=50_000)
    before, expected = scores.copy(), select_topk(scores, 20_000)
    results: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: results.append(select_topk(scores, 20_000))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4 and all(np.array_equal(r, expected) for r in results)
    assert np.array_equal(scores, before)


def _values(kind: str, n: int, rng: np.random.Generator) -> np.ndarray:
    x = rng.standard_normal(n).astype(np.float32)
    if kind == "few values":
        x = np.round(x * 2) / 2
    elif kind == "mostly the smallest":
        x = np.where(rng.random(n) < 0.6, 0.0, np.abs(x)).astype(np.float32)
    elif kind == "mostly the largest":
        x = np.where(rng.random(n) < 0.6, 9.0, x).astype(np.float32)
    elif kind == "sorted":
        x.sort()
    elif kind == "reversed":
        x = np.sort(x)[::-1].copy()
    elif kind == "all equal":
        x[:] = -0.0
        x[::3] = 0.0
    elif kind == "infinities":
        x[rng.random(n) < 0.3] = np.inf
        x[rng.random(n) < 0.3] = -np.inf
    elif kind == "a period":  # one that a sample at equal steps would fall into
        x = np.resize(x[: max(n // 1265, 1)], n)
    elif kind == "two clusters":
        x = np.where(np.arange(n) < n // 2, x * 1e-6, 1e6 + x).astype(np.float32)
    return x


KINDS = [
    "normal", "few values", "mostly the smallest", "mostly the largest", "sorted", "reversed", "all equal",
    "infinities", "a period", "two clusters",
]  # fmt: skip


@settings(max_examples=int(os.environ.get("FASTPRUNE_FUZZ", "200")), deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    n=st.one_of(st.integers(1, 70), st.integers(4080, 4110), st.integers(3000, 140_000)),
    share=st.one_of(st.floats(0, 1), st.sampled_from([0.001, 0.01, 0.2, 0.4, 0.5, 0.6, 0.8, 0.999])),
    largest=st.booleans(),
    threads=st.integers(1, 5),
    seed=st.integers(0, 2**31),
)
def test_many_scores_of_any_shape(kind: str, n: int, share: float, largest: bool, threads: int, seed: int) -> None:
    scores = _values(kind, n, np.random.default_rng(seed))
    k = min(round(share * n), n)
    out = np.full(k + 1, -7, dtype=np.int64)
    nan = _core.NanPolicy.__members__["raise"]
    core = (scores.ctypes.data, _core.DType.float32, n, 4, k, largest, nan, threads, out.ctypes.data)
    assert _core.select_topk(*core) == -1
    order = np.lexsort((np.arange(n), -scores if largest else scores))
    assert np.array_equal(out[:-1], np.sort(order[:k]))
    assert out[-1] == -7


@settings(max_examples=40, deadline=None)
@given(n=st.integers(2048, 80_000), where=st.floats(0, 0.999), share=st.floats(0, 1), threads=st.integers(1, 4))
def test_a_nan_anywhere_is_found(n: int, where: float, share: float, threads: int) -> None:
    scores = np.random.default_rng(0).standard_normal(n).astype(np.float32)
    first = int(where * n)
    scores[first] = scores[-1] = np.nan
    out = np.empty(n, dtype=np.int64)
    nan = _core.NanPolicy.__members__["raise"]
    core = (scores.ctypes.data, _core.DType.float32, n, 4, int(share * n), True, nan, threads, out.ctypes.data)
    assert _core.select_topk(*core) == first


@pytest.mark.parametrize("name", _core.instruction_sets())
def test_every_instruction_set(name: str) -> None:
    """The tests above in a process that runs on this one; ours does on the best there is."""
    if name == _core.instruction_set():
        pytest.skip("this process has run them")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "not instruction_set", __file__],
        env=os.environ | {"FASTPRUNE_ISA": name, "FASTPRUNE_FUZZ": "60"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "RuntimeWarning" not in run.stderr
