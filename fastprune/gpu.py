"""What both rooms with Triton kernels need to know of a device."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor


def runs_triton(tensor: Tensor) -> bool:
    """Whether Triton kernels take this tensor: it is on a CUDA or ROCm device, and Triton is installed."""
    return tensor.is_cuda and _has_triton()


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None


def num_warps(threads: int) -> int:
    """Warps of that many threads; AMD's data centre GPUs have 64 threads a warp."""
    return max(1, threads // (64 if torch.version.hip else 32))
