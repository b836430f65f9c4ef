"""Facts about a device that both rooms with Triton kernels need."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec

import torch
from torch import Tensor

# Found once: torch.compile cannot trace the search.
HAS_TRITON = find_spec("triton") is not None


def runs_triton(tensor: Tensor) -> bool:
    """Return whether Triton kernels take this tensor: it is on a CUDA or ROCm device, and Triton is installed."""
    return tensor.is_cuda and HAS_TRITON


def num_warps(threads: int) -> int:
    """Return the warps of that many threads.  AMD's data centre GPUs have 64 threads a warp."""
    return max(1, threads // (64 if torch.version.hip else 32))


_HERE: AbstractContextManager[None] = nullcontext()


def on_device_of(tensor: Tensor) -> AbstractContextManager[object]:
    """Return a context in which the tensor's device is the current one.

    It does nothing if that is already so, and nothing on the CPU.
    """
    if not tensor.is_cuda or torch.cuda.current_device() == tensor.get_device():
        return _HERE
    return torch.cuda.device_of(tensor)
