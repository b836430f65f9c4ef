"""`select_topk`: the indices of the k largest (or smallest) scores, exactly, in ascending order."""

from __future__ import annotations

import operator
from typing import overload

import numpy as np
import torch
from torch import Tensor

import fastprune._core as _core
from fastprune.platform.gpu import runs_triton
from fastprune.platform.torch_private import dispatch_modes, is_functorch_active
from fastprune.selection.checks import (
    OF_TORCH,
    NanPolicy,
    as_tensor,
    check_count,
    check_nan_policy,
    check_scores,
    refuse_nan,
)
from fastprune.selection.ties import Ties, check_ties, redraw, tie_priorities

_NAN_POLICIES = _core.NanPolicy.__members__
_CPU = torch.device("cpu")


@overload
def select_topk(
    scores: Tensor,
    k: int,
    *,
    largest: bool = True,
    nan: NanPolicy = "raise",
    ties: Ties = "index",
    seed: int = 0,
    round: int = 0,
) -> Tensor: ...


@overload
def select_topk(
    scores: np.ndarray,
    k: int,
    *,
    largest: bool = True,
    nan: NanPolicy = "raise",
    ties: Ties = "index",
    seed: int = 0,
    round: int = 0,
) -> np.ndarray: ...


def select_topk(
    scores: Tensor | np.ndarray,
    k: int,
    *,
    largest: bool = True,
    nan: NanPolicy = "raise",
    ties: Ties = "index",
    seed: int = 0,
    round: int = 0,
) -> Tensor | np.ndarray:
    """The indices of the k largest scores, ascending.

    Args:
        scores: (n,) torch tensor or NumPy array, any stride, read-only too: float16, bfloat16, float32,
            float64, and signed or unsigned integers of 8 to 64 bits. It is not written to.
        k: how many, 0 <= k <= n.
        largest: False selects the k smallest.
        nan: what a NaN score means. "raise" refuses it, "first" selects it before every number (it may
            be what a broken example looks like), "last" after every number, whatever `largest` says.
        ties: which of the equal scores at the threshold are selected. "index": those with the smaller index.
            "random": a part of them drawn from (seed, round), each with the same chance. Use it for scores of few
            different values, such as counts: data are often sorted by class, and the index then decides the class.
        seed, round: integers, for ties="random" alone; each pair draws anew, the same pair the same.

    Returns:
        (k,) int64, strictly ascending; an array for an array, a tensor on the scores' device for a
        tensor. -0.0 equals 0.0 and infinities are ordinary values.

    Raises:
        ValueError: a score is NaN (the first position is named), scores are not 1-D, k is out of range.
        TypeError: scores or k are of another type.

    Cost: O(n) whatever the values: the scores are read twice, the indices written once, and at most n / 8 bytes
    and 128 KiB a thread are used beside them (csrc/select_topk.h). Tensors on CUDA and ROCm devices are
    selected there (`triton_topk`); "raise" waits for the device. Those on other devices, and
    without Triton, go through the CPU. ties="random" takes a key of 4 or 8 bytes a score more, and a draw for each
    score that is equal to the threshold.
    """
    if ties == "index" and (kept := _select_plainly(scores, k, largest, nan)) is not None:
        return kept
    check_nan_policy(nan)
    if ties != "index":
        check_ties(ties)
        return select_drawn(scores, k, largest, nan, seed, round)
    if isinstance(scores, np.ndarray):
        return _select_numpy(scores, k, largest, nan).numpy()
    if isinstance(scores, Tensor):
        return _select_torch(scores.detach().resolve_neg(), k, largest, nan)
    raise TypeError(f"scores must be a torch.Tensor or numpy.ndarray, got {type(scores).__name__}; use numpy.asarray")


def _select_plainly(scores: object, k: int, largest: bool, nan: str) -> Tensor | None:
    """Of what is usual, an ordinary CPU tensor without NaN; None for all else, which the other way looks at closely.

    For a thousand scores looking closely takes longer than selecting.
    """
    if torch.compiler.is_compiling() or dispatch_modes():
        return None
    if is_functorch_active() or type(scores) is not Tensor or type(k) is not int:
        return None
    if not scores.is_cpu or scores.layout is not torch.strided:
        return None
    dtype, policy = OF_TORCH.get(scores.dtype), _NAN_POLICIES.get(nan)
    if dtype is None or policy is None or scores.is_nested or scores.ndim != 1 or scores.is_neg():
        return None
    n, stride = scores.shape[0], scores.stride(0)
    size = scores.element_size()
    last = scores.storage_offset() + (n - 1) * stride + 1
    if not 0 <= k <= n or n == 0 or scores.untyped_storage().nbytes() < last * size:
        return None
    address, threads = scores.data_ptr(), torch.get_num_threads()
    if address == 0:  # a stand-in, such as a zero tensor
        return None
    out = torch.empty(k, dtype=torch.int64, device=_CPU)
    bad = _core.select_topk(address, dtype, n, stride * size, k, bool(largest), policy, threads, out.data_ptr())
    return out if bad < 0 else None


def select_drawn(
    scores: Tensor | np.ndarray,
    k: int,
    largest: bool,
    nan: NanPolicy,
    seed: int,
    round: int,
    ids: Tensor | None = None,
) -> Tensor | np.ndarray:
    """`select_topk` with ties="random"; ids, (n,) int64 and ascending, name the examples whose draws are taken."""
    kept = select_topk(scores, k, largest=largest, nan=nan)
    if not 0 < len(kept) < len(scores):
        return kept
    above, tied, wanted = redraw(as_tensor(scores), as_tensor(kept), largest=largest, nan=nan)
    if wanted < len(tied):
        priorities = tie_priorities(tied if ids is None else ids[tied], seed, round)
        drawn = tied[select_topk(priorities, wanted).to(tied.device)]
        chosen = torch.cat([above, drawn]).sort().values
        kept = chosen.numpy() if isinstance(kept, np.ndarray) else chosen
    return kept


def _check_k(k: int, n: int) -> int:
    if check_count(k) > n:
        raise ValueError(f"k must be in [0, {n}] for {n} scores, got {k}")
    return operator.index(k)


def _select_numpy(scores: np.ndarray, k: int, largest: bool, nan: NanPolicy) -> Tensor:
    if not scores.dtype.isnative:
        scores = scores.astype(scores.dtype.newbyteorder("="))
    dtype = check_scores(scores)
    return _select(scores.ctypes.data, dtype, scores.shape[0], scores.strides[0], k, largest, nan)


def _select_torch(scores: Tensor, k: int, largest: bool, nan: NanPolicy) -> Tensor:
    dtype = check_scores(scores)
    if runs_triton(scores):
        from fastprune.selection import triton_topk

        kept, first_nan = triton_topk.select_topk(scores, _check_k(k, len(scores)), largest=largest, nan=nan)
        if nan == "raise" and scores.is_floating_point():
            refuse_nan(int(first_nan))
        return kept
    here = scores.cpu()
    stride = here.stride(0) * here.element_size()
    kept = _select(here.data_ptr(), dtype, here.shape[0], stride, k, largest, nan)
    return kept if scores.is_cpu else kept.to(scores.device)


def _select(address: int, dtype: _core.DType, n: int, stride: int, k: int, largest: bool, nan: NanPolicy) -> Tensor:
    k = _check_k(k, n)
    # On the CPU whatever the default device.
    out = torch.empty(k, dtype=torch.int64, device="cpu")
    threads = torch.get_num_threads()
    refuse_nan(
        _core.select_topk(address, dtype, n, stride, k, bool(largest), _NAN_POLICIES[nan], threads, out.data_ptr())
    )
    return out
