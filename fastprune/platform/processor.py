"""Which instruction sets of the processor the C++ core uses."""

from __future__ import annotations

import fastprune._core as _core


def instruction_set() -> str:
    """The name of the one in use, such as ``avx2``."""
    return _core.instruction_set()


def instruction_sets() -> list[str]:
    """The names of all that the core has kernels for and this processor has."""
    return list(_core.instruction_sets())
