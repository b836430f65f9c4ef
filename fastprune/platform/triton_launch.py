"""Starts Triton kernels again without Triton's checks of every argument.

A launch through Triton binds names.  It finds the type of each argument, whether it is 1, and whether 16 divides it.
From the answers it makes a key.  For a small batch that costs more than the kernel.  A training loop starts the same
kernels again and again, on tensors of the same layout.  So the first launch for a layout goes through Triton, which
compiles.  `Launch` keeps the compiled kernel with its grid and its numbers, and later launches only fill in the
addresses.

The caller makes the key of a layout.  It holds everything that decides about grid, numbers and options, and the
alignment of the addresses.  `Plans` keeps launches by such keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
from torch import Tensor

# From this version on, a compiled kernel's arguments include the constants.
_FIRST_VERSION = (3, 3)


class Launch:
    """One prepared launch.  Grid, numbers and options stay the same, and only the tensors change.

    Args:
        kernel: a function of `triton.jit`, whose parameters are pointers, then numbers, then constants.
        grid: one to three numbers of programs.
        numbers: the arguments after the pointers.
        options: the constants by name, and Triton's own (num_warps, ...).
    """

    __slots__ = ("_again", "_grid", "_kernel", "_numbers", "_options", "_tail")

    def __init__(
        self, kernel: Any, grid: tuple[int, ...], numbers: Sequence[int | float | None], options: dict[str, Any]
    ) -> None:
        self._kernel, self._grid, self._options = kernel, grid, options
        self._numbers = tuple(numbers)
        self._again: Any = None
        self._tail: tuple[Any, ...] = ()

    def __call__(self, *pointers: Tensor | None) -> None:
        """Start the kernel on the current stream of the current device, where the tensors must be."""
        if self._again is None:
            self._first(pointers)
            return
        run, grid, function, metadata = self._again
        stream = torch._C._cuda_getCurrentRawStream(torch._C._cuda_getDevice())
        addresses = [None if pointer is None else pointer.data_ptr() for pointer in pointers]
        run(*grid, stream, function, metadata, None, None, None, *addresses, *self._tail)

    def _first(self, pointers: tuple[Tensor | None, ...]) -> None:
        compiled = self._kernel[self._grid](*pointers, *self._numbers, **self._options)
        version = tuple(int(part) for part in triton.__version__.split(".")[:2])
        if compiled is None or version < _FIRST_VERSION or torch.version.hip:  # the interpreter returns none
            return
        constants = self._kernel.arg_names[len(pointers) + len(self._numbers) :]
        self._tail = (*self._numbers, *(self._options[name] for name in constants))
        grid = (*self._grid, 1, 1)[:3]
        self._again = compiled.run, grid, compiled.function, compiled.packed_metadata


class Plans(dict[Any, Any]):
    """Keeps what was prepared for each layout, by its key.  With too many layouts it forgets all of them."""

    LIMIT = 4096

    def keep(self, key: Any, plan: Any) -> Any:
        """Store a plan, and return it."""
        if len(self) >= self.LIMIT:
            self.clear()
        self[key] = plan
        return plan
