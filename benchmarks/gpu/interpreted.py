"""A rehearsal's kernels: tensors on the CPU go through the Triton kernels, in Triton's interpreter.

Triton reads TRITON_INTERPRET when it is imported, so it must be set before this process starts.
"""

from __future__ import annotations

import os
from types import FunctionType

from helpers.interpreter_fixes import mend_interpreter

from fastprune.scores import kernels, linear_tiles, tile_sums
from fastprune.selection import topk, triton_topk


def take_over() -> None:
    """Send the CPU's tensors where a GPU's go."""
    if os.environ.get("TRITON_INTERPRET") != "1":
        raise RuntimeError("a rehearsal needs TRITON_INTERPRET=1 in its environment")
    mend_interpreter()
    for name in ("row_scores", "loss_forward", "loss_backward", "has_loss"):
        setattr(kernels, name, _not_on_the_cpu(getattr(kernels, name)))
    for name in ("add_tile", "close_sums", "gradient_in_place"):
        on_triton = _not_on_the_cpu(getattr(tile_sums, name))
        setattr(tile_sums, name, on_triton)
        setattr(linear_tiles, name, on_triton)
    tile_sums.runs_triton = kernels.runs_triton = topk.runs_triton = lambda tensor: True
    # A CPU has no multiprocessors; three programs of a few blocks each.
    triton_topk._most_programs = lambda scores: 3


def _not_on_the_cpu(function: FunctionType) -> FunctionType:
    """The same function, which asks `is_cuda` where it asks `is_cpu`: the answer is no, and it goes on."""
    names = tuple("is_cuda" if name == "is_cpu" else name for name in function.__code__.co_names)
    code = function.__code__.replace(co_names=names)
    return FunctionType(code, function.__globals__, function.__name__, function.__defaults__, function.__closure__)
