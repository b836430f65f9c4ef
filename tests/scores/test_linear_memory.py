"""The matrix of logits is never made: every tensor of a step is looked at, and the live ones are added up."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import linear_cases
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import fastprune
from fastprune.scores import ops


class Watch(TorchDispatchMode):
    """Counts the elements of the largest new tensor, and the bytes of all that live at once."""

    def __init__(self, known: list[Tensor]) -> None:
        super().__init__()
        self.largest = self.live = self.peak = 0
        self._seen = {tensor.untyped_storage()._cdata for tensor in known}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._meet(tensor)
        return result

    def _meet(self, tensor: Tensor) -> None:
        self.largest = max(self.largest, tensor.numel())
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._seen:
            return
        self._seen.add(key)
        size = storage.nbytes()
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.live -= size


Watching = Callable[[Callable[[], object], list[Tensor]], Watch]


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watching:
    """Runs a call as one that nothing watches, so that its tensors can be watched. The inputs do not count."""
    monkeypatch.setattr(ops, "dispatch_modes", lambda: 0)

    def run(call: Callable[[], object], known: list[Tensor]) -> Watch:
        with Watch(known) as found:
            call()
        return found

    return run


@pytest.mark.parametrize("rows", [2, 40, 700])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_tensor_has_as_many_elements_as_the_logits(
    rows: int, reduction: str, dtype: torch.dtype, watch: Watching
) -> None:
    given = linear_cases.case(rows, 4, 5000, dtype, ignored=0.0)

    def step() -> None:
        loss, _ = fastprune.linear_cross_entropy(
            given.hidden, given.weight, given.labels, reduction=reduction, return_scores=("el2n", "entropy")
        )
        loss.sum().backward()

    weights = given.weight.numel()  # more than the logits of two rows
    inputs = [*given.parts(), given.labels]
    assert watch(step, inputs).largest < max(rows * 5000, weights + 1)
    scoring = watch(lambda: fastprune.linear_score(given.hidden, given.weight, given.labels, "el2n"), inputs)
    assert scoring.largest < rows * 5000


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [2560, 18_000])
def test_a_step_takes_a_twentieth_of_the_logits_beside_the_gradients(
    rows: int, dtype: torch.dtype, watch: Watching
) -> None:
    hidden, classes = 8, 20_000
    given = linear_cases.case(rows, hidden, classes, dtype, ignored=0.0)
    inputs = [*given.parts(), given.labels]
    found = watch(lambda: fastprune.linear_cross_entropy(given.hidden, given.weight, given.labels).backward(), inputs)
    logits = rows * classes * dtype.itemsize
    gradients = sum(part.numel() * (dtype.itemsize + 4 * (dtype.itemsize < 4)) for part in given.parts())
    # What is kept of each row: sums, losses, state, labels and weights, and a label's comparison.
    of_rows = rows * (7 * 8 + 12 * 4 + 4 * 8)
    assert found.peak <= max(logits / 20, 2**25) + gradients + of_rows
    assert logits / 20 > 2**25 or rows == 2560
