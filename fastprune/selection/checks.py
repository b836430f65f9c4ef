"""Checks of the arguments that all selections share. Each error names the argument, its value and the fix."""

from __future__ import annotations

import operator
from typing import Literal

import numpy as np
import torch
from torch import Tensor

import fastprune._core as _core

NanPolicy = Literal["raise", "first", "last"]

# The keys are dtype objects, because forming a dtype's name takes as long as a small selection.
OF_TORCH = {getattr(torch, name): dtype for name, dtype in _core.DType.__members__.items()}
_OF_NUMPY = {np.dtype(name): dtype for name, dtype in _core.DType.__members__.items() if name != "bfloat16"}


def as_tensor(values: Tensor | np.ndarray) -> Tensor:
    """The values as a detached tensor. An array whose memory a tensor cannot share is copied.

    Such arrays are read-only, reversed, packed or of foreign byte order.
    """
    if isinstance(values, Tensor):
        return values.detach().resolve_neg()
    if isinstance(values, np.ndarray):
        whole = all(stride >= 0 and stride % values.itemsize == 0 for stride in values.strides)
        if not (values.flags.writeable and values.flags.aligned and values.dtype.isnative and whole):
            values = values.astype(values.dtype.newbyteorder("="))
    # On the CPU, whatever the default device is.
    return torch.as_tensor(values, device="cpu")


def check_scores(scores: Tensor | np.ndarray) -> _core.DType:
    """The core's name for the dtype of the scores. Raises unless they are (n,) of a dtype that the core takes."""
    if isinstance(scores, Tensor):
        if scores.is_nested or scores.layout != torch.strided:
            raise TypeError(f"scores must be a dense tensor, got layout {scores.layout}; use .to_dense()")
        if scores.is_meta:
            raise TypeError("scores are on the meta device and have no values; pass a tensor that holds them")
        if scores.numel() and scores.untyped_storage().nbytes() == 0:
            raise ValueError("scores have no data: their storage was freed; pass a tensor that holds its values")
    elif isinstance(scores, np.ma.MaskedArray):
        raise TypeError(
            "scores are a masked array, and their mask is not supported; pass scores.compressed() or .filled()"
        )
    if scores.ndim != 1:
        raise ValueError(f"scores must be 1-D, got shape {tuple(scores.shape)}; use .reshape(-1)")
    dtype = (OF_TORCH if isinstance(scores, Tensor) else _OF_NUMPY).get(scores.dtype)
    if dtype is None:
        raise TypeError(f"scores of dtype {scores.dtype} are not supported; convert them to float32 or int64")
    return dtype


def check_count(k: int) -> int:
    """The count k as an int. Raises if it is no integer, or negative."""
    if isinstance(k, (bool, np.bool_)) or not hasattr(k, "__index__"):
        raise TypeError(f"k must be an int, got {k!r}; round a fraction of n to a count")
    if (count := operator.index(k)) < 0:
        raise ValueError(f"k must be at least 0, got {k}")
    return count


def check_nan_policy(nan: NanPolicy) -> NanPolicy:
    """The NaN policy itself. Raises if it is unknown."""
    if nan not in _core.NanPolicy.__members__:
        raise ValueError(f"nan must be 'raise', 'first' or 'last', got {nan!r}")
    return nan


def refuse_nan(position: int, name: str | None = None) -> None:
    """Raises the error about the NaN at this position. A negative position means that there is none."""
    if position >= 0:
        raise ValueError(
            f"{name or f'scores[{position}]'} is NaN; drop or replace NaN scores, or choose their place with "
            "nan='first' or nan='last'"
        )


def finite(scores: Tensor, strategy: str, lowest: float = -float("inf")) -> Tensor:
    """The scores as (n,) float64 on the CPU. Raises unless all are finite and at least `lowest`."""
    check_scores(scores)
    values = scores.to("cpu", torch.float64)
    bad = ~torch.isfinite(values) | (values < lowest)
    if bool(bad.any()):
        at = int(bad.to(torch.uint8).argmax())
        wanted = "finite" if lowest < 0 else f"finite and at least {lowest:g}"
        raise ValueError(f"scores[{at}] is {values[at].item()}, and {strategy} needs {wanted} scores; drop or clamp it")
    return values
