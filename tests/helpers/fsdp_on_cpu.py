"""Lets Accelerate use FSDP on the CPU.  It looks for an FSDP plugin on a GPU alone, so nothing else could run it here.

What follows the decision is Accelerate's and Transformers' own code: wrapping, the optimizer's parameters, clipping,
checkpoints.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import DistributedType


@contextmanager
def allowed() -> Iterator[None]:
    """In it, an Accelerator on several CPU processes that gets an FSDP plugin uses it."""
    begin = AcceleratorState.__init__

    def decide(self: AcceleratorState, *arguments: Any, fsdp_plugin: Any = None, **named: Any) -> None:
        begin(self, *arguments, fsdp_plugin=fsdp_plugin, **named)
        if fsdp_plugin is not None and self.distributed_type == DistributedType.MULTI_CPU:
            self.fsdp_plugin = fsdp_plugin
            for state in (self, PartialState()):
                state.distributed_type = DistributedType.FSDP

    AcceleratorState.__init__ = decide  # type: ignore[method-assign]
    forget()
    try:
        yield
    finally:
        AcceleratorState.__init__ = begin  # type: ignore[method-assign]
        forget()


def forget() -> None:
    """Accelerate keeps one state a process, and says in the environment that it uses FSDP.  The next begins anew."""
    os.environ.pop("ACCELERATE_USE_FSDP", None)
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()
