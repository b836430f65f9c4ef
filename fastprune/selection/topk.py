"""`select_topk`: the indices of the k largest (or smallest) scores, exactly, in ascending order."""

from __future__ import annotations

import operator
from typing import overload

import numpy as np
import torch
from torch import Tensor

import fastprune._core as _core

# Narrower integers are widened to int32; anything else is refused.
_DTYPES = {
    "float16": _core.DType.float16,
    "bfloat16": _core.DType.bfloat16,
    "float32": _core.DType.float32,
    "float64": _core.DType.float64,
    "int32": _core.DType.int32,
    "int64": _core.DType.int64,
}
_WIDENED = ("int8", "int16", "uint8")


@overload
def select_topk(scores: Tensor, k: int, *, largest: bool = True) -> Tensor: ...


@overload
def select_topk(scores: np.ndarray, k: int, *, largest: bool = True) -> np.ndarray: ...


def select_topk(scores: Tensor | np.ndarray, k: int, *, largest: bool = True) -> Tensor | np.ndarray:
    """The indices of the k largest scores, ascending.

    Args:
        scores: (n,) torch tensor or NumPy array, any stride, read-only too: float16, bfloat16, float32,
            float64, int8, int16, int32, int64 or uint8. It is not written to.
        k: how many, 0 <= k <= n.
        largest: False selects the k smallest.

    Returns:
        (k,) int64, strictly ascending; an array for an array, a tensor on the scores' device for a
        tensor. Of equal scores at the threshold those with the smaller index are selected; -0.0 equals
        0.0 and infinities are ordinary values.

    Raises:
        ValueError: a score is NaN (the first position is named), scores are not 1-D, k is out of range.
        TypeError: scores or k are of another type.

    Cost: O(n) whatever the values; no copy of 32- and 64-bit scores (csrc/select_topk.h). Scores on
    another device go through the CPU.
    """
    if isinstance(scores, np.ndarray):
        return _select_numpy(scores, k, largest).numpy()
    if isinstance(scores, Tensor):
        return _select_torch(scores, k, largest).to(scores.device)
    raise TypeError(f"scores must be a torch.Tensor or numpy.ndarray, got {type(scores).__name__}; use numpy.asarray")


def _select_numpy(scores: np.ndarray, k: int, largest: bool) -> Tensor:
    dtype = _check_scores(scores.dtype.name, scores.shape)
    itemsize = scores.dtype.itemsize
    if dtype in _WIDENED:
        scores, dtype, itemsize = scores.astype(np.int32), "int32", 4
    elif not (scores.dtype.isnative and scores.flags.aligned and scores.strides[0] % itemsize == 0):
        scores = scores.astype(dtype)
    address = scores.__array_interface__["data"][0]
    return _select(address, dtype, scores.shape[0], scores.strides[0] // itemsize, k, largest)


def _select_torch(scores: Tensor, k: int, largest: bool) -> Tensor:
    dtype = _check_scores(str(scores.dtype).removeprefix("torch."), tuple(scores.shape))
    if dtype in _WIDENED:
        scores, dtype = scores.to(torch.int32), "int32"
    scores = scores.detach().cpu().resolve_neg()
    return _select(scores.data_ptr(), dtype, scores.shape[0], scores.stride(0), k, largest)


def _check_scores(dtype: str, shape: tuple[int, ...]) -> str:
    if len(shape) != 1:
        raise ValueError(f"scores must be 1-D, got shape {shape}; use .reshape(-1)")
    if dtype not in _DTYPES and dtype not in _WIDENED:
        raise TypeError(f"scores of dtype {dtype} are not supported; convert them to float32 or int64")
    return dtype


def _check_k(k: int, n: int) -> int:
    if isinstance(k, (bool, np.bool_)) or not hasattr(k, "__index__"):
        raise TypeError(f"k must be an int, got {k!r}; round a fraction of n to a count")
    k = operator.index(k)
    if not 0 <= k <= n:
        raise ValueError(f"k must be in [0, {n}] for {n} scores, got {k}")
    return k


def _select(address: int, dtype: str, n: int, stride: int, k: int, largest: bool) -> Tensor:
    out = torch.empty(_check_k(k, n), dtype=torch.int64)
    nan_at = _core.select_topk(
        scores=address,
        dtype=_DTYPES[dtype],
        n=n,
        stride=stride,
        k=out.shape[0],
        largest=bool(largest),
        threads=torch.get_num_threads(),
        out=out.data_ptr(),
    )
    if nan_at >= 0:
        raise ValueError(f"scores[{nan_at}] is NaN; drop or replace NaN scores before selecting")
    return out
