"""`select_topk`: the indices of the k largest (or smallest) scores, exactly, in ascending order."""

from __future__ import annotations

import operator
from typing import Literal, overload

import numpy as np
import torch
from torch import Tensor

import fastprune._core as _core

NanPolicy = Literal["raise", "first", "last"]

_DTYPES = _core.DType.__members__
_NAN_POLICIES = _core.NanPolicy.__members__


@overload
def select_topk(scores: Tensor, k: int, *, largest: bool = True, nan: NanPolicy = "raise") -> Tensor: ...


@overload
def select_topk(scores: np.ndarray, k: int, *, largest: bool = True, nan: NanPolicy = "raise") -> np.ndarray: ...


def select_topk(
    scores: Tensor | np.ndarray, k: int, *, largest: bool = True, nan: NanPolicy = "raise"
) -> Tensor | np.ndarray:
    """The indices of the k largest scores, ascending.

    Args:
        scores: (n,) torch tensor or NumPy array, any stride, read-only too: float16, bfloat16, float32,
            float64, and signed or unsigned integers of 8 to 64 bits. It is not written to.
        k: how many, 0 <= k <= n.
        largest: False selects the k smallest.
        nan: what a NaN score means. "raise" refuses it, "first" selects it before every number (it may
            be what a broken example looks like), "last" after every number, whatever `largest` says.

    Returns:
        (k,) int64, strictly ascending; an array for an array, a tensor on the scores' device for a
        tensor. Of equal scores at the threshold those with the smaller index are selected; -0.0 equals
        0.0 and infinities are ordinary values.

    Raises:
        ValueError: a score is NaN (the first position is named), scores are not 1-D, k is out of range.
        TypeError: scores or k are of another type.

    Cost: O(n) whatever the values: the scores are read twice, the indices written once, and at most n / 8 bytes
    and 128 KiB a thread are used beside them (csrc/select_topk.h). Tensors on CUDA and ROCm devices are
    selected there (`triton_topk`); "raise" waits for the device. Those on other devices go through the CPU.
    """
    if nan not in _NAN_POLICIES:
        raise ValueError(f"nan must be 'raise', 'first' or 'last', got {nan!r}")
    if isinstance(scores, np.ndarray):
        return _select_numpy(scores, k, largest, nan).numpy()
    if isinstance(scores, Tensor):
        return _select_torch(scores.detach().resolve_neg(), k, largest, nan)
    raise TypeError(f"scores must be a torch.Tensor or numpy.ndarray, got {type(scores).__name__}; use numpy.asarray")


def _select_numpy(scores: np.ndarray, k: int, largest: bool, nan: str) -> Tensor:
    _check_scores(scores.dtype.name, scores.shape)
    if not scores.dtype.isnative:
        scores = scores.astype(scores.dtype.newbyteorder("="))
    address = scores.__array_interface__["data"][0]
    return _select(address, scores.dtype.name, scores.shape[0], scores.strides[0], k, largest, nan)


def _select_torch(scores: Tensor, k: int, largest: bool, nan: str) -> Tensor:
    dtype = str(scores.dtype).removeprefix("torch.")
    _check_scores(dtype, tuple(scores.shape))
    if scores.is_cuda:
        from fastprune.selection import triton_topk

        kept, first_nan = triton_topk.select_topk(scores, _check_k(k, len(scores)), largest=largest, nan=nan)
        if nan == "raise" and scores.is_floating_point():
            _refuse_nan(int(first_nan))
        return kept
    here = scores.cpu()
    stride = here.stride(0) * here.element_size()
    return _select(here.data_ptr(), dtype, here.shape[0], stride, k, largest, nan).to(scores.device)


def _check_scores(dtype: str, shape: tuple[int, ...]) -> None:
    if len(shape) != 1:
        raise ValueError(f"scores must be 1-D, got shape {shape}; use .reshape(-1)")
    if dtype not in _DTYPES:
        raise TypeError(f"scores of dtype {dtype} are not supported; convert them to float32 or int64")


def _check_k(k: int, n: int) -> int:
    if isinstance(k, (bool, np.bool_)) or not hasattr(k, "__index__"):
        raise TypeError(f"k must be an int, got {k!r}; round a fraction of n to a count")
    k = operator.index(k)
    if not 0 <= k <= n:
        raise ValueError(f"k must be in [0, {n}] for {n} scores, got {k}")
    return k


def _refuse_nan(position: int) -> None:
    if position >= 0:
        raise ValueError(
            f"scores[{position}] is NaN; drop or replace NaN scores, or say where they belong with nan='first' or 'last'"
        )


def _select(address: int, dtype: str, n: int, stride: int, k: int, largest: bool, nan: str) -> Tensor:
    k = _check_k(k, n)
    # On the CPU whatever the default device.
    out = torch.empty(k, dtype=torch.int64, device="cpu")
    threads = torch.get_num_threads()
    _refuse_nan(
        _core.select_topk(
            address, _DTYPES[dtype], n, stride, k, bool(largest), _NAN_POLICIES[nan], threads, out.data_ptr()
        )
    )
    return out
