"""Scores as integer keys in the order of selection, for code that uses tensor operations.

The C++ core and the Triton kernels form the same keys in registers (csrc/selection/keys.h).
"""

from __future__ import annotations

import torch
from torch import Tensor

_SIGNED = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def order_keys(scores: Tensor, *, largest: bool = True, nan: str = "last") -> Tensor:
    """Integer keys, of which a larger one is selected first.

    Floats are stored as sign and magnitude. In two's complement the magnitude orders them, and -0.0 equals 0.0.

    Args:
        scores: (n,) of a dtype that `select_topk` takes.
        largest: Whether larger scores come first.
        nan: "first" puts NaN before every number, and "last" or "raise" after every number.

    Returns:
        (n,) int64 for 64-bit scores, int32 for all others. The two ends of the range of keys belong to NaN. No number
        reaches them.
    """
    wide = torch.int64 if scores.dtype.itemsize == 8 else torch.int32
    bits = 8 * scores.dtype.itemsize
    if not scores.dtype.is_floating_point:
        if scores.dtype in (torch.uint32, torch.uint64):
            keys = scores.view(_SIGNED[scores.dtype.itemsize]) ^ torch.iinfo(wide).min
        elif scores.dtype == torch.uint16:
            keys = scores.view(torch.int16).to(wide) & 0xFFFF
        else:
            keys = scores.to(wide)
        return keys if largest else ~keys
    raw = scores.view(_SIGNED[scores.dtype.itemsize]).to(wide)
    sign = raw >> (bits - 1)
    keys = ((raw & ((1 << (bits - 1)) - 1)) ^ sign) - sign
    if not largest:
        keys = ~keys
    extreme = torch.iinfo(wide)
    return keys.masked_fill_(scores.isnan(), extreme.max if nan == "first" else extreme.min)
