"""Which micro-batch a forward pass is over, if a training step runs the model on its batches more than once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class Passes:
    """The micro-batches of the current optimizer step.

    Adversarial training runs the model a second time on a micro-batch.  SAM runs it again on all of the step.
    """

    def __init__(self) -> None:
        self._seen: list[tuple[int, dict[str, Tensor]]] = []

    def first(self, micro: int, inputs: Mapping[str, Any], accumulation: int) -> int:
        """Note the first pass over micro-batch ``micro``, and return its number.

        Args:
            micro: the number of the micro-batch.
            inputs: of the model.
            accumulation: micro-batches of a step.  Steps begin at its multiples.
        """
        start = micro - micro % accumulation
        self._seen = [(number, fields) for number, fields in self._seen if start <= number < micro]
        self._seen.append((micro, _tensors(inputs)))
        return micro

    def further(self, inputs: Mapping[str, Any], default: int) -> int:
        """The micro-batch of a further pass, or ``default`` if its inputs are those of none."""
        fields = _tensors(inputs)
        return next((micro for micro, seen in reversed(self._seen) if _same(seen, fields)), default)

    def forget(self) -> None:
        """Let go of the batches."""
        self._seen = []


def _tensors(inputs: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: value for name, value in inputs.items() if isinstance(value, Tensor)}


def _same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether all fields that both have are equal.  Waits for the device unless they are the same tensors."""
    common = one.keys() & other.keys()
    return bool(common) and all(one[name] is other[name] or torch.equal(one[name], other[name]) for name in common)
