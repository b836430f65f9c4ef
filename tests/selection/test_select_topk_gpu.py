"""select_topk on CUDA tensors; imports only what a bare GPU machine has."""

from __future__ import annotations

import pytest
import torch

from fastprune.selection import select_topk

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
UNSIGNED = (torch.uint8, torch.uint16, torch.uint32, torch.uint64)
DTYPES = (*FLOATS, torch.int8, torch.int16, torch.int32, torch.int64, *UNSIGNED)
INF, NAN = float("inf"), float("nan")


def made(n: int, dtype: torch.dtype, tied: float = 0.3) -> torch.Tensor:
    """Some scores are equal, and of floats some are zeros of both signs, infinite or NaN."""
    generator = torch.Generator().manual_seed(n)
    values = torch.randn(n, generator=generator, dtype=torch.float64) * 50
    values = values.masked_fill(torch.rand(n, generator=generator) < tied, 7.0)
    if not dtype.is_floating_point:
        return (values.abs() if dtype in UNSIGNED else values).long().to(dtype)
    special = torch.tensor([0.0, -0.0, INF, -INF, NAN], dtype=torch.float64)
    choice = special[torch.randint(len(special), (n,), generator=generator)]
    return torch.where(torch.rand(n, generator=generator) < 0.1, choice, values).to(dtype)


def check(scores: torch.Tensor, k: int, largest: bool, nan: str) -> None:
    """`scores` are on the CPU, where they are selected too."""
    got = select_topk(scores.cuda(), k, largest=largest, nan=nan)
    assert got.is_cuda
    assert torch.equal(got.cpu(), select_topk(scores, k, largest=largest, nan=nan))


def test_cuda_tensors_come_back_on_their_device() -> None:
    scores = torch.tensor([1.0, 3.0, 3.0], device="cuda")
    got = select_topk(scores, 1)
    assert got.device == scores.device and got.tolist() == [1]


@pytest.mark.parametrize("n", [0, 1, 1023, 1024, 1025, 100_003, 3_000_001])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_agrees_with_the_cpu_on_gpu(dtype: torch.dtype, n: int) -> None:
    scores = made(n, dtype)
    policies = ("first", "last") if dtype.is_floating_point else ("last",)
    for k in sorted({0, min(1, n), n // 3, max(n - 1, 0), n}):
        for largest in (True, False):
            for nan in policies:
                check(scores, k, largest, nan)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.int64])
def test_large_inputs_with_many_ties_on_gpu(dtype: torch.dtype) -> None:
    n = 2**24
    for scores in (made(n, dtype, 0.6), made(n, dtype).sort().values, torch.ones(n, dtype=dtype)):
        for k in (n // 1000, n // 2):
            check(scores, k, True, "last")


def test_strides_and_alignment_on_gpu() -> None:
    scores = made(200_001, torch.float32)
    on_gpu = scores.cuda()
    for view in (
        lambda x: x[::3],
        lambda x: x[1:],
        lambda x: x[5:6].expand(70_000),
        lambda x: x[:200_000].view(-1, 4).T[2],
    ):
        got = select_topk(view(on_gpu), 999, nan="last")
        assert torch.equal(got.cpu(), select_topk(view(scores), 999, nan="last"))


def test_nan_is_refused_on_gpu() -> None:
    scores = torch.ones(2_000_000, device="cuda")
    scores[[1_234_567, 1_999_999]] = NAN
    for k in (0, 5, len(scores)):
        with pytest.raises(ValueError, match=r"scores\[1234567\] is NaN"):
            select_topk(scores, k)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_no_synchronisation_and_the_same_every_time_on_gpu(dtype: torch.dtype) -> None:
    scores = made(1_000_003, dtype).cuda()
    first = select_topk(scores, 333_333, nan="last")  # compiles
    torch.cuda.set_sync_debug_mode("error")
    try:
        again = [select_topk(scores, 333_333, nan="last") for _ in range(20)]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(torch.equal(first, other) for other in again)


def test_offsets_beyond_32_bits_on_gpu() -> None:
    n = 2**31 + 5000
    scores = torch.zeros(n, dtype=torch.int8, device="cuda")
    scores[::1_000_003] = 1
    ones = torch.arange(0, n, 1_000_003, device="cuda")
    assert torch.equal(select_topk(scores, len(ones)), ones)
    scores[:] = 0
    scores[-1] = 1
    assert select_topk(scores, 3).tolist() == [0, 1, n - 1]
