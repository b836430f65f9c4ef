"""Exact top-k selection on the GPU: Triton kernels that find the threshold digit by digit, then write.

Ranks. A score of b bits becomes an unsigned integer of b bits, and smaller ones are selected first: rank = (largest
key) - key, with the keys of `keys.order_keys`. The ends of a float's range of ranks belong to NaN, and no number
reaches them. A last block may load past the end of the scores. What it loads there gets the last rank, and its indices
come after those of all scores. So it is never selected.

The threshold. A bracket (low, wanted) means that all ranks below low are selected. Some ranks share the digits of low
that are known so far. The first `wanted` of these are selected, too, by rank and then by index. The bracket starts as
(0, k). One reading of the scores counts the ranks in the bracket by their next 8 bits. The first digit d whose running
count reaches `wanted` narrows the bracket to low + d 2^shift, and `wanted` by the count of smaller digits. After b / 8
readings low is the threshold, and the first `wanted` scores equal to it are selected. If all ranks of a bin are
selected, the search ends. Then low becomes the end of the bin and `wanted` becomes 0, and all readings but the last
return at once.

Launches. There is one for each digit, and one that writes. A program takes several consecutive blocks, and adds its 256
counts to those of all programs. No other kernel runs between two readings. Every program narrows the bracket itself,
from the counts of all digits so far. These are 2 KB a digit, and the L2 cache holds them. The last reading leaves two
more counts for each
program and each of the 256 thresholds still possible: how many scores come before it, and how many equal it. Summed
over all programs before it, these tell a writing program where its first index goes. The host never waits. Programs add
up integers only, so their order changes no result.

Why 8 bits. Triton counts a histogram in shared memory (3.9), or with a ballot for each bit and a population count for
every 32 bins (3.2). 256 bins suit both. 2048 bins would save 32-bit scores one reading of five, but cost several with
ballots. Their cost does not depend on the scores. Many equal scores increment the same word of shared memory, but the
hardware adds the increments of a warp at once.

Bytes: n * itemsize * (itemsize + 1) read. That is 2 readings of 8-bit scores, 3 of 16, 5 of 32 and 9 of 64 bits. A
search that ends early needs fewer. 8 k are written. Each program writes 2 KB of counts and reads 2 KB for every digit
already counted. Before it writes, it reads 8 bytes for every program before it. These stay in the L2 cache. Contiguous
scores are loaded 16 bytes at a time (8-bit ones 8), strided ones one by one.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastprune.platform.gpu import num_warps, on_device_of
from fastprune.platform.triton_launch import Launch, Plans

# Programs that a multiprocessor holds at once: 6 of 128 threads with 80 registers each. With 64 registers Triton 3.6
# spills in the last digit's kernel. 6 programs have 24 KB of loads in flight, and an H200 needs some 20. The kernel
# that writes takes up to 128 registers and runs in two waves.
_THREADS = 128
_REGISTERS = 80
_RESIDENT = 6
# The size of a block is 32 bytes a thread, but at most 8 scores, because each takes registers for its counts.
_BLOCK_BYTES = 4096
_BLOCK = 1024

_SIGNED = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
# A float whose magnitude is larger than this is NaN. Integers have no NaN.
_INFINITY = {torch.float16: 0x7C00, torch.bfloat16: 0x7F80, torch.float32: 0x7F80_0000, torch.float64: 0x7FF0 << 48}

_BINS = tl.constexpr(256)
_NEVER = tl.constexpr(2**31 - 1)
_UNSPECIALISED = ["n", "k", "level", "blocks"]


@triton.jit
def _rank(
    bits, BITS: tl.constexpr, INF: tl.constexpr, UNSIGNED: tl.constexpr, LARGEST: tl.constexpr, NAN: tl.constexpr
):
    """The ranks of scores given as signed integers of the same bits: uint64 if BITS is 64, else uint32."""
    highest: tl.constexpr = (1 << (BITS - 1)) - 1
    lowest: tl.constexpr = -highest - 1
    if BITS == 64:
        key = bits
    else:
        key = bits.to(tl.int32)
    if INF:
        magnitude = key & highest
        sign = key >> (BITS - 1)
        key = (magnitude ^ sign) - sign
    elif UNSIGNED:
        key = key ^ lowest
    if LARGEST:
        key = highest - key
    else:
        key = key - lowest
    rank = key.to(tl.uint64 if BITS == 64 else tl.uint32, bitcast=True)
    if INF:
        rank = tl.where(magnitude > INF, NAN, rank)
    return rank


@triton.jit
def _load_ranks(
    scores,  # IN  (n,) int8/16/32/64: the scores' bits
    stride,
    start,  # int64, of the block
    n,
    BLOCK: tl.constexpr,
    BITS: tl.constexpr,
    INF: tl.constexpr,
    UNSIGNED: tl.constexpr,
    LARGEST: tl.constexpr,
    NAN: tl.constexpr,
):
    """The ranks of a block. Only the last block is masked, because a mask would split the loads."""
    lane = tl.arange(0, BLOCK)
    at = scores + (start + lane) * stride
    if start + BLOCK <= n:
        ranks = _rank(tl.load(at), BITS, INF, UNSIGNED, LARGEST, NAN)
    else:
        inside = start + lane < n
        ranks = _rank(tl.load(at, mask=inside, other=0), BITS, INF, UNSIGNED, LARGEST, NAN)
        ranks = tl.where(inside, ranks, (1 << BITS) - 1)
    return ranks


@triton.jit
def _bracket(
    histograms,  # IN  (BITS / 8, 256) int64
    k,
    levels,
    BITS: tl.constexpr,
):
    """(low, wanted) once the digits of that many levels are counted: a rank and an int64, both scalars."""
    bins = tl.arange(0, _BINS)
    low = tl.full((), 0, tl.uint64 if BITS == 64 else tl.uint32)
    wanted = tl.full((), 0, tl.int64) + k
    for level in range(levels):
        counts = tl.load(histograms + level * _BINS + bins)
        digit = tl.sum((tl.cumsum(counts) < wanted).to(tl.int32))
        wanted -= tl.sum(tl.where(bins < digit, counts, 0))
        size = tl.full((), 1, low.dtype) << (BITS - 8 - 8 * level)
        low += digit.to(low.dtype) * size
        # Not if the end of the bin is past the last rank. Not in the last level either, because there low must stay a
        # rank that was counted.
        whole = (wanted > 0) & (wanted == tl.sum(tl.where(bins == digit, counts, 0))) & (size > 1) & (low + size > low)
        low += tl.where(whole, size, 0)
        wanted = tl.where(whole, 0, wanted)
    return low, wanted


@triton.jit(do_not_specialize=_UNSPECIALISED, do_not_specialize_on_alignment=_UNSPECIALISED)
def digit_kernel(
    scores,  # IN  (n,) int8/16/32/64: the scores' bits
    histograms,  # INOUT (BITS / 8, 256) int64: those before `level` are read, `level` is added to
    earlier,  # OUT (256, programs) int32: scores of a program before a threshold, or None unless the digit is the last
    equal,  # OUT (256, programs) int32: scores of a program equal to a threshold, or None as `earlier`
    stride,  # of scores, in elements
    n,
    k,
    level,  # of the digit to count, 0 for the most significant
    blocks,  # of BLOCK scores, that a program counts
    BLOCK: tl.constexpr,
    BITS: tl.constexpr,
    INF: tl.constexpr,
    UNSIGNED: tl.constexpr,
    LARGEST: tl.constexpr,
    NAN: tl.constexpr,
):
    """Counts one digit of the ranks in the bracket."""
    program = tl.program_id(0)
    low, wanted = _bracket(histograms, k, level, BITS)
    shift = BITS - 8 - 8 * level
    bins = tl.arange(0, _BINS)
    counts = tl.zeros((_BINS,), tl.int32)
    outside = tl.zeros((BLOCK,), tl.int32)
    below = tl.zeros((BLOCK,), tl.int32)
    turns = blocks
    if earlier is None:
        turns = tl.where(wanted > 0, blocks, 0)
    for i in range(turns):
        start = (program.to(tl.int64) * blocks + i) * BLOCK
        ranks = _load_ranks(scores, stride, start, n, BLOCK, BITS, INF, UNSIGNED, LARGEST, NAN)
        # Below low the difference wraps around to a large one.
        digit = (ranks - low) >> shift
        inside = digit < _BINS
        # Triton 3.2 has no mask for histograms. So ranks outside the bracket are counted in bin 0, and subtracted
        # below.
        counts += tl.histogram(tl.where(inside, digit, 0).to(tl.int32), _BINS)
        outside += (digit >= _BINS).to(tl.int32)
        if earlier is not None:
            below += (ranks < low).to(tl.int32)
    counts = counts.to(tl.int64) - tl.where(bins == 0, tl.sum(outside), 0)
    tl.atomic_add(histograms + level * _BINS + bins, counts, mask=counts > 0, sem="relaxed")
    if earlier is not None:
        to = bins * tl.num_programs(0) + program
        tl.store(earlier + to, tl.cumsum(counts) - counts + tl.sum(below))
        tl.store(equal + to, counts)


@triton.jit(do_not_specialize=_UNSPECIALISED, do_not_specialize_on_alignment=_UNSPECIALISED)
def select_kernel(
    scores,  # IN  (n,) int8/16/32/64: the scores' bits
    histograms,  # IN  (BITS / 8, 256) int64
    earlier,  # IN  (256, programs) int32, as digit_kernel left them
    equal,  # IN  (256, programs) int32
    indices,  # OUT (k,) int64
    first_nan,  # INOUT () uint64: all ones if there is none, or None for integers
    stride,  # of scores, in elements
    n,
    k,
    blocks,  # as digit_kernel, with as many programs
    BLOCK: tl.constexpr,
    BITS: tl.constexpr,
    INF: tl.constexpr,
    UNSIGNED: tl.constexpr,
    LARGEST: tl.constexpr,
    NAN: tl.constexpr,
):
    """Writes the indices of the selected scores in their order."""
    program = tl.program_id(0)
    low, wanted = _bracket(histograms, k, BITS // 8, BITS)
    lane = tl.arange(0, BLOCK)
    row = (low % _BINS).to(tl.int32) * tl.num_programs(0)
    taken = tl.full((), 0, tl.int64)
    ties = tl.full((), 0, tl.int64)
    for first in range(0, program, BLOCK):
        ahead = first + lane < program
        taken += tl.sum(tl.load(earlier + row + first + lane, mask=ahead, other=0).to(tl.int64))
        ties += tl.sum(tl.load(equal + row + first + lane, mask=ahead, other=0).to(tl.int64))
    ties = tl.minimum(ties, wanted)
    taken += ties
    wanted -= ties
    chunk = program.to(tl.int64) * blocks * BLOCK
    nan_turn = tl.full((BLOCK,), _NEVER, tl.int32)
    for i in range(blocks):
        start = chunk + i * BLOCK
        ranks = _load_ranks(scores, stride, start, n, BLOCK, BITS, INF, UNSIGNED, LARGEST, NAN)
        if first_nan is not None:
            nan_turn = tl.where(ranks == NAN, tl.minimum(nan_turn, i), nan_turn)
        before = ranks < low
        tie = ranks == low
        # Both counts in one scan.
        both = before.to(tl.int32) + (tie.to(tl.int32) << 16)
        ahead = tl.cumsum(both) - both
        room = tl.minimum(wanted, BLOCK).to(tl.int32)
        to = (ahead & 0xFFFF) + tl.minimum(ahead >> 16, room)
        tl.store(indices + taken + to, start + lane, mask=before | (tie & (ahead >> 16 < room)))
        total = tl.sum(both)
        ties_taken = tl.minimum(total >> 16, room)
        taken += (total & 0xFFFF) + ties_taken
        wanted -= ties_taken
    if first_nan is not None:
        nan_at = chunk + tl.min(nan_turn.to(tl.int64) * BLOCK + lane)
        if nan_at < n:
            tl.atomic_min(first_nan, nan_at.to(tl.uint64), sem="relaxed")


def _most_programs(scores: Tensor) -> int:
    """The number of programs that the scores' device holds at once."""
    return _RESIDENT * torch.cuda.get_device_properties(scores.device).multi_processor_count


def _register_limit(itemsize: int) -> dict[str, int]:
    """The limit on registers, as a launch option. Triton 3.6 needs some more to unpack 8-bit scores from words."""
    return {} if torch.version.hip else {"maxnreg": _REGISTERS + (16 if itemsize == 1 else 0)}


def select_topk(scores: Tensor, k: int, *, largest: bool, nan: str) -> tuple[Tensor, Tensor]:
    """The indices of the k scores selected first, by the Triton kernels.

    Args:
        scores: (n,) float16, bfloat16, float32, float64 or an integer type of 8 to 64 bits on a GPU, any stride,
            without a pending negation (`resolve_neg`). At most 2^34 a multiprocessor.
        k: 0 <= k <= n.
        largest: Whether larger scores come first.
        nan: "first" puts NaN before every number, "last" and "raise" after every number.

    Returns:
        indices: (k,) int64, ascending. Among equal scores the smaller indices are selected.
        first_nan: () int64, the position of the first NaN or -1.

    Cost: two launches and one for each 8 bits of a score. No synchronisation and no copy of the scores.
    """
    n, itemsize = scores.shape[0], scores.element_size()
    indices = torch.empty(k, dtype=torch.int64, device=scores.device)
    first_nan = torch.full((), -1, dtype=torch.int64, device=scores.device)
    if n == 0:
        return indices, first_nan
    bits = scores.view(_SIGNED[itemsize])
    key = (n, k, bits.stride(0), scores.dtype, bool(largest), nan, scores.get_device(), scores.data_ptr() % 16)
    plan = _PLANS.get(key)
    if plan is None:
        plan = _planned(bits, k, scores.dtype, bool(largest), nan)
        if scores.is_cuda:
            _PLANS.keep(key, plan)
    with on_device_of(scores):
        histograms = torch.zeros((itemsize, _BINS.value), dtype=torch.int64, device=scores.device)
        earlier, equal = torch.empty((2, _BINS.value, plan.programs), dtype=torch.int32, device=scores.device)
        for count in plan.digits:
            count(bits, histograms, None, None)
        plan.last_digit(bits, histograms, earlier, equal)
        unsigned = first_nan.view(torch.uint64) if scores.dtype in _INFINITY else None
        plan.select(bits, histograms, earlier, equal, indices, unsigned)
    return indices, first_nan


class _Plan(NamedTuple):
    """The launches for scores of one layout."""

    programs: int
    digits: tuple[Launch, ...]  # all but the last
    last_digit: Launch
    select: Launch


_PLANS = Plans()


def _planned(bits: Tensor, k: int, dtype: torch.dtype, largest: bool, nan: str) -> _Plan:
    n, itemsize = bits.shape[0], bits.element_size()
    block = min(_BLOCK_BYTES // itemsize, _BLOCK)
    blocks = triton.cdiv(n, block * _most_programs(bits))
    programs = triton.cdiv(n, block * blocks)
    options = {
        "BLOCK": block,
        "BITS": 8 * itemsize,
        "INF": _INFINITY.get(dtype, 0),
        "UNSIGNED": not dtype.is_signed,
        "LARGEST": largest,
        "NAN": 0 if nan == "first" else (1 << 8 * itemsize) - 1,
        "num_warps": num_warps(_THREADS),
    }
    numbers = (bits.stride(0), n, k)
    *digits, last_digit = (
        Launch(digit_kernel, (programs,), (*numbers, level, blocks), options | _register_limit(itemsize))
        for level in range(itemsize)
    )
    return _Plan(programs, tuple(digits), last_digit, Launch(select_kernel, (programs,), (*numbers, blocks), options))
