"""torch's own samples of cross_entropy and nll_loss, with classes last, against torch's functions.

Only for the torch that these tests are made with: its test module is not for others to use, and changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import fastprune

TESTED = "2.13"
OPERATORS = ("nn.functional.cross_entropy", "nn.functional.nll_loss")

if not torch.__version__.startswith(TESTED):
    pytest.skip(f"for torch {TESTED}", allow_module_level=True)
try:
    from torch.testing._internal.common_methods_invocations import op_db
except ImportError as error:
    pytest.skip(f"torch's test module needs {error.name}", allow_module_level=True)


def samples(name: str, dtype: torch.dtype) -> Iterator[tuple[Tensor, Tensor, dict[str, Any]]]:
    """(input, target, keywords) of an operator."""
    torch.manual_seed(0)
    for operator in op_db:
        if operator.name == name:
            for sample in operator.sample_inputs("cpu", dtype, requires_grad=False):
                yield sample.input, sample.args[0], sample.kwargs


def classes_last(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    moved = logits.movedim(1, -1) if logits.ndim > 1 else logits
    if target.is_floating_point():
        target = target.movedim(1, -1) if target.ndim > 1 else target
    return moved, target


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", OPERATORS)
def test_torchs_samples(name: str, dtype: torch.dtype) -> None:
    found = 0
    for logits, target, options in samples(name, dtype):
        # nll_loss takes log-probabilities: torch's cross_entropy is it after log_softmax.
        expected_of = F.cross_entropy if name.endswith("cross_entropy") else _nll_of_logits
        theirs, ours = (logits.double().clone().requires_grad_(), logits.clone().requires_grad_())
        wide = {key: value.double() if isinstance(value, Tensor) else value for key, value in options.items()}
        wanted = target.double() if target.is_floating_point() else target
        expected = expected_of(theirs, wanted, **wide)
        z, y = classes_last(ours, target)
        loss = fastprune.cross_entropy(z, y, **options)
        assert loss.dtype == dtype and loss.shape == expected.shape
        close = {"rtol": 8 * torch.finfo(dtype).eps + 4e-6, "atol": 8 * torch.finfo(dtype).eps, "equal_nan": True}
        torch.testing.assert_close(loss.double(), expected, **close)
        up = torch.ones_like(expected)
        (gradient,) = torch.autograd.grad(loss, ours, up.to(dtype), allow_unused=False)
        (reference,) = torch.autograd.grad(expected, theirs, up)
        largest = float(reference.abs().nan_to_num().amax()) if reference.numel() else 1.0
        close["atol"] *= max(largest, 1.0)
        torch.testing.assert_close(gradient.double(), reference, **close)
        found += 1
    assert found >= 20


def _nll_of_logits(logits: Tensor, target: Tensor, **options: Any) -> Tensor:
    axis = 1 if logits.ndim > 1 else 0
    return F.nll_loss(logits.log_softmax(axis), target, **options)
