"""`select_topk`: the exact indices of the k largest or smallest scores, in ascending order."""

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
    """The indices of the k largest scores, in ascending order.

    Args:
        scores: (n,) torch tensor or NumPy array with any stride, which may be read-only. The dtype is float16,
            bfloat16, float32, float64, or a signed or unsigned integer of 8 to 64 bits. It is not written to.
        k: How many to select, in [0, n].
        largest: False selects the k smallest.
        nan: What a NaN score means. With "raise" it is an error. With "first" it is selected before every number,
            because it may come from a broken example. With "last" it is selected after every number. `largest` does not
            change that.
        ties: Which of the equal scores at the threshold are selected. With "index", those with the smaller index. With
            "random", a part of them, drawn from (seed, round), each with the same chance. Use "random" for scores with
            few distinct values, such as counts. Data is often sorted by class, and then the index would decide the
            class.
        seed: An integer, used by ties="random" alone. The same (seed, round) always gives the same draw.
        round: An integer, used by ties="random" alone. Each round draws anew.

    Returns:
        (k,) int64, strictly ascending. It is an array for an array, and a tensor on the scores' device for a tensor.
        Here -0.0 equals 0.0, and infinities are ordinary values.

    Raises:
        ValueError: A score is NaN (the error names the first position), scores are not 1-D, or k is out of range.
        TypeError: scores or k have another type.

    Cost: O(n) for any values. The scores are read twice and the indices are written once. Besides them it needs at most
    n / 8 bytes, and 128 KiB a thread (csrc/selection/select_topk.h). With ties="random" it also needs a key of 4 or 8
    bytes for each score, and a draw for each score at the threshold.

    Devices: tensors on CUDA and ROCm devices are selected there (`triton_topk`), and "raise" waits for the device.
    Without Triton and on other devices the scores go through the CPU.

    Example:
        >>> import torch
        >>> scores = torch.tensor([0.3, 0.9, 0.1, 0.9, 0.5])
        >>> select_topk(scores, 3)
        tensor([1, 3, 4])
        >>> select_topk(scores, 2, largest=False)
        tensor([0, 2])
        >>> select_topk(scores, 1)  # the tie goes to the smaller index
        tensor([1])
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
    """The selection in the usual case, or None in every other case. Then the general path checks and selects.

    The usual case is an ordinary CPU tensor without NaN. For a thousand scores the general checks take longer than the
    selection.
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
    if address == 0:  # a placeholder without memory, such as a zero tensor
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
    """`select_topk` with ties="random".

    Args:
        scores: As for `select_topk`.
        k: As for `select_topk`.
        largest: As for `select_topk`.
        nan: As for `select_topk`.
        seed: As for `select_topk`.
        round: As for `select_topk`.
        ids: (n,) int64, ascending. They name the examples whose draws are used, instead of the indices.
    """
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
    # On the CPU, whatever the default device is.
    out = torch.empty(k, dtype=torch.int64, device="cpu")
    threads = torch.get_num_threads()
    refuse_nan(
        _core.select_topk(address, dtype, n, stride, k, bool(largest), _NAN_POLICIES[nan], threads, out.data_ptr())
    )
    return out
