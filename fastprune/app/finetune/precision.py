"""Tells where bf16 autocast is worth it."""

from __future__ import annotations

import torch


def fast_bf16() -> bool:
    """Return whether the device multiplies bf16 matrices in hardware.

    On a CPU with AVX512-BF16 or AMX, autocast about doubles the training speed.  On other CPUs it slows training down.
    """
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    supports = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(supports and supports())
