"""Names all in one place that PyTorch promises to nobody, and that fast calls need.

torch 2.6 to 2.14 have all of them.  A torch that lacks a name is refused here, on import, by a sentence that says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

TESTED = "2.6 to 2.14"


def _private(path: str) -> Any:
    """Return what stands at this path below ``torch``.

    Raises:
        ImportError: this torch has nothing there.
    """
    found: Any = torch
    for name in path.split("."):
        found = getattr(found, name, None)
        if found is None:
            raise ImportError(
                f"torch {torch.__version__} has no torch.{path}, which fastprune needs; install one of torch {TESTED}, "
                "or a newer fastprune",
                name=f"torch.{path}",
            )
    return found


dispatch_modes: Callable[[], int] = _private("_C._len_torch_dispatch_stack")
"""How many modes, such as that of fake tensors, look at every operation."""

is_jit_tracing: Callable[[], bool] = _private("_C._is_tracing")
"""Whether torch.jit.trace records.  `torch.jit.is_tracing` asks more first."""

is_functorch_active: Callable[[], bool] = _private("_C._are_functorch_transforms_active")
"""Whether torch.func (grad, vmap, ...) transforms what is called."""

has_storage: Callable[[Tensor], bool] = _private("_C._has_storage")
"""Whether a tensor has memory.  One under torch.func's vmap has none."""

is_zero_tensor: Callable[[Tensor], bool] = _private("Tensor._is_zerotensor")
"""Whether a tensor stands for zeros without holding them."""

tree_map: Callable[..., Any] = _private("utils._pytree.tree_map")
"""A function applied to every tensor of nested dicts, lists and tuples."""

keeps_graph: Callable[[], bool] = _private("_C._autograd._get_current_graph_task_keep_graph")
"""Whether the backward pass that is under way was called with retain_graph=True."""

_private("autograd.forward_ad._current_level")
_private("autograd.function._SingleLevelFunction.apply")


def is_forward_mode() -> bool:
    """Return whether forward-mode differentiation is active."""
    return forward_ad._current_level >= 0


def apply_untransformed(function: type[torch.autograd.Function]) -> Callable[..., Any]:
    """Return ``function.apply`` for calls that torch.func does not transform.

    `torch.autograd.Function.apply` first asks whether torch.func does.  This is what it calls then, 1.3 us sooner.
    """
    return super(torch.autograd.Function, function).apply  # type: ignore[misc]
