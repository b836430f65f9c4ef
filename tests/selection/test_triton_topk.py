"""select_topk's Triton kernels: in Triton's interpreter against a stable sort, and compiled ahead of time.

Triton reads TRITON_INTERPRET when it is imported, so the interpreted tests run in a process of their own, which
`test_in_the_interpreter` starts. What runs on a GPU is in test_select_topk_gpu.py.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("triton")
from helpers import ahead_of_time
from helpers.combinations import some
from helpers.interpreter import run_interpreted
from helpers.interpreter_fixes import mend_interpreter

from fastprune.selection import triton_topk

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
UNSIGNED = (torch.uint8, torch.uint16, torch.uint32, torch.uint64)
DTYPES = (*FLOATS, torch.int8, torch.int16, torch.int32, torch.int64, *UNSIGNED)
INF, NAN = float("inf"), float("nan")
# Sizes for the interpreted kernels, so that few scores make several programs of several blocks.
BLOCK, PROGRAMS = 32, 3

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
if INTERPRETED:
    mend_interpreter()
interpreted = pytest.mark.skipif(not INTERPRETED, reason="run by test_in_the_interpreter")
compiled = pytest.mark.skipif(
    INTERPRETED or not ahead_of_time.SUPPORTED,
    reason="compiling ahead of time has another interface before Triton 3.3",
)


@pytest.mark.skipif(INTERPRETED, reason="is in the interpreter")
def test_in_the_interpreter() -> None:
    run_interpreted("-k", "test_interpreted", __file__)


@pytest.fixture(scope="module", autouse=True)
def small_programs() -> Iterator[None]:
    """A CPU has no multiprocessors."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(triton_topk, "_most_programs", lambda scores: PROGRAMS)
        if INTERPRETED:
            patch.setattr(triton_topk, "_BLOCK", BLOCK)
        yield


def by_sorting(scores: torch.Tensor, k: int, largest: bool, nan: str) -> np.ndarray:
    """A stable sort, so equal scores stay in order of index."""
    values = scores.double().numpy() if scores.dtype.is_floating_point else scores.numpy()
    is_nan = np.isnan(values)
    values = np.where(is_nan, 0, values)
    if largest:
        # Reversing the bits of integers instead of negating them: -(-2^63) overflows.
        values = -values if scores.dtype.is_floating_point else ~values
    return np.sort(np.lexsort((values, ~is_nan if nan == "first" else is_nan))[:k])


def check(scores: torch.Tensor, k: int, largest: bool, nan: str) -> None:
    before = scores.contiguous().view(torch.uint8).clone()
    indices, first_nan = poisoned(scores, k, largest, nan)
    assert indices.dtype == first_nan.dtype == torch.int64 and first_nan.shape == ()
    np.testing.assert_array_equal(indices.numpy(), by_sorting(scores, k, largest, nan))
    where = np.flatnonzero(scores.double().isnan().numpy()) if scores.dtype.is_floating_point else ()
    assert first_nan == (where[0] if len(where) else -1)
    assert torch.equal(scores.contiguous().view(torch.uint8), before)


def poisoned(scores: torch.Tensor, k: int, largest: bool, nan: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Whatever the launcher leaves to be written holds something else first."""
    empty = torch.empty
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "empty", lambda *args, **kwargs: empty(*args, **kwargs).fill_(-(2**31)))
        return triton_topk.select_topk(scores, k, largest=largest, nan=nan)


def made(kind: str, n: int, dtype: torch.dtype) -> torch.Tensor:
    generator = torch.Generator().manual_seed(n)
    spread = torch.randn(n, generator=generator, dtype=torch.float64) * 50
    values = {
        "spread": spread,
        "tied": spread.masked_fill(torch.rand(n, generator=generator) < 0.6, 7.0),
        "sorted": spread.sort().values,
        "equal": torch.full_like(spread, 3.0),
        "special": spread.sign() * torch.arange(n) % 5,
    }[kind]
    if not dtype.is_floating_point:
        return (values.abs() if dtype in UNSIGNED else values).long().to(dtype)
    if kind == "special":
        choice = torch.tensor([0.0, -0.0, INF, -INF, NAN, -NAN, 1e-7, -1e-7], dtype=torch.float64)
        values = choice[torch.randint(len(choice), (n,), generator=generator)]
    return values.to(dtype)


@interpreted
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_interpreted_agrees_with_a_stable_sort(dtype: torch.dtype) -> None:
    """The largest or the smallest, in turn; in `make soak` both."""
    n = 3 * BLOCK + 9
    for turn, kind in enumerate(("spread", "tied", "sorted", "equal", "special"), start=DTYPES.index(dtype)):
        scores = made(kind, n, dtype)
        ks = (0, 1, n // 2, n - 1, n)
        for largest in some((True, False), (turn % 2 == 0,)):
            check(scores, ks[(turn + largest) % 5], largest, "last")
            if scores.dtype.is_floating_point and kind == "special":
                check(scores, n // 2, largest, "first")


@interpreted
@pytest.mark.parametrize("n", [1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 3 * BLOCK + 1, 6 * BLOCK, 6 * BLOCK + 1])
def test_interpreted_around_the_ends_of_blocks(n: int) -> None:
    for k in {0, 1, n // 2, n - 1, n}:
        check(made("tied", n, torch.float16), k, True, "raise")


@interpreted
@settings(max_examples=40, deadline=None)
@given(data=st.data(), dtype=st.sampled_from((*FLOATS, torch.int8, torch.int32, torch.int64)), largest=st.booleans())
def test_interpreted_on_any_values(data: st.DataObject, dtype: torch.dtype, largest: bool) -> None:
    if dtype.is_floating_point:
        few = st.sampled_from([0.0, -0.0, 1.0, -1.0, 1.5, INF, -INF, NAN, 1e-7, 6e4])
        values = data.draw(st.lists(st.one_of(few, st.floats()), max_size=70))
    else:
        info = torch.iinfo(dtype)
        few = st.sampled_from([0, 1, 2, info.min, info.max, info.max - 1])
        values = data.draw(st.lists(st.one_of(few, st.integers(info.min, info.max)), max_size=70))
    scores = torch.tensor(values, dtype=torch.float64 if dtype.is_floating_point else torch.int64).to(dtype)
    check(scores, data.draw(st.integers(0, len(values))), largest, data.draw(st.sampled_from(("first", "last"))))


@interpreted
@pytest.mark.parametrize("dtype", [torch.float32, torch.int8])
def test_interpreted_strides(dtype: torch.dtype) -> None:
    n = 3 * BLOCK + 5
    scores = made("tied", n, dtype)
    for step in (2, 5):
        apart = torch.zeros(n * step, dtype=dtype)[::step]
        apart.copy_(scores)
        check(apart, n // 3, True, "last")
    check(scores[3:], n // 3, False, "last")
    check(scores[:1].expand(n), n // 3, True, "last")


@interpreted
@pytest.mark.parametrize(("k", "nan"), [(0, "raise"), (9, "first"), (4 * BLOCK, "last")])
def test_interpreted_first_nan(k: int, nan: str) -> None:
    for at in ([0], [BLOCK + 7, 2 * BLOCK], [4 * BLOCK - 1], range(4 * BLOCK)):
        scores = torch.ones(4 * BLOCK)
        scores[list(at)] = NAN
        check(scores, k, True, nan)


@interpreted
def test_interpreted_a_search_ends_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """No digit is counted once a bin is wanted whole."""
    counts = []
    zeros = torch.zeros
    monkeypatch.setattr(torch, "zeros", lambda *args, **kwargs: counts.append(zeros(*args, **kwargs)) or counts[-1])
    scores = torch.arange(3 * BLOCK) << 48
    check(scores, 50, True, "last")
    assert counts[0].sum(1).tolist() == [3 * BLOCK, 3 * BLOCK, *[0] * 6]


@interpreted
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32])
def test_interpreted_all_of_the_last_rank(dtype: torch.dtype) -> None:
    """The whole bin is wanted, but there is no rank after its end."""
    n = 6 * BLOCK
    check(torch.full((n,), torch.iinfo(dtype).min, dtype=dtype), n, True, "last")


@interpreted
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_interpreted_no_scores(dtype: torch.dtype) -> None:
    check(torch.empty(0, dtype=dtype), 0, True, "raise")


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Launches are kept instead of run; compiled code goes to a cache of its own."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    for name in ("digit_kernel", "select_kernel"):
        monkeypatch.setattr(triton_topk, name, ahead_of_time.Recorder(getattr(triton_topk, name)))


def launches(scores: torch.Tensor, k: int = 99) -> dict[str, Any]:
    """One recorder for the first digit, the last one and the writing."""
    triton_topk.select_topk(scores, k, largest=True, nan="last")
    digit, select = triton_topk.digit_kernel, triton_topk.select_kernel
    first, last = ahead_of_time.Recorder(digit.kernel), ahead_of_time.Recorder(digit.kernel)
    first.launches, last.launches = digit.launches[:1], digit.launches[-1:]
    return {"first digit": first, "last digit": last, "select": select}


@compiled
@pytest.mark.parametrize(
    ("arch", "dtype"),
    some(
        list(itertools.product((80, 90, 100), (torch.float32, torch.bfloat16))),
        [(80, torch.float32), (90, torch.bfloat16), (100, torch.float32)],
    )
    + [(90, torch.float64), (90, torch.int8)],
)
def test_compiled(arch: int, dtype: torch.dtype, recorded: None, tmp_path: Path) -> None:
    # 16 bytes a load, the counts of an earlier digit the same.
    vectors = 1 + min(triton_topk._BLOCK * dtype.itemsize, triton_topk._BLOCK_BYTES) // (128 * 16)
    for name, recorder in launches(torch.zeros(100_000, dtype=dtype)).items():
        kernel = ahead_of_time.disassemble(ahead_of_time.compile_launch(recorder, ahead_of_time.CUDA[arch]), tmp_path)
        assert kernel.spilled == 0, name
        assert kernel.registers <= (128 if name == "select" else 96 if dtype == torch.int8 else 80), name
        if name == "select":
            assert kernel.operations["LDG.E.128"] >= vectors
        else:
            assert kernel.operations["LDG.E.128"] == vectors


@compiled
@pytest.mark.parametrize("dtype", some([torch.float32, torch.bfloat16, torch.float64], [torch.float32, torch.float64]))
def test_compiled_for_amd(dtype: torch.dtype, recorded: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "hip", "6.4")
    for name, recorder in launches(torch.zeros(100_000, dtype=dtype)).items():
        assembly = ahead_of_time.compile_launch(recorder, ahead_of_time.AMD).asm["amdgcn"]
        for spill in ("vgpr_spill_count", "sgpr_spill_count", "private_segment_fixed_size"):
            assert re.search(rf"\.{spill}: +(\d+)", assembly)[1] == "0", (name, spill)


@compiled
def test_compiled_with_strides_and_arguments_that_are_one(recorded: None) -> None:
    """Triton makes a constant of a one where it may, which does not have a tensor's methods."""
    for scores in (torch.zeros(1), torch.zeros(300)[::3], torch.zeros(1, dtype=torch.int64)):
        for recorder in launches(scores, k=1).values():
            assert ahead_of_time.compile_launch(recorder, ahead_of_time.CUDA[90]).asm["cubin"]
