"""The Triton kernels of tiles in Triton's interpreter. test_scores_triton.py runs this file in a process of its own."""

from __future__ import annotations

import os

import pytest
import row_score_cases as cases
import tile_cases
import torch
import torch.nn.functional as F

if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("run with TRITON_INTERPRET=1, as test_scores_triton.py does", allow_module_level=True)

from helpers.interpreter_fixes import mend_interpreter

from fastprune.scores import class_parallel, definition, triton_tile_sums
from fastprune.scores.class_parts import Parts
from fastprune.scores.options import LossOptions

mend_interpreter()
LOSS_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@pytest.mark.parametrize(
    ("classes", "dtype"),
    [(1, torch.float32), (7, torch.bfloat16), (150, torch.float16), (1000, torch.float32), (7000, torch.bfloat16)],
)
def test_scores_of_tiles(classes: int, dtype: torch.dtype) -> None:
    cases.check_accuracy(tile_cases.by_tiles(triton_tile_sums.add_tile, triton_tile_sums.close_sums), classes, dtype)


@pytest.mark.parametrize(("dtype", "smoothing"), list(zip(LOSS_DTYPES, (0.0, 0.1, 1.0), strict=True)))
def test_losses_and_gradients(dtype: torch.dtype, smoothing: float) -> None:
    for classes in (2, 33, 3000):
        tile_cases.check_losses_and_gradients(triton_tile_sums, classes, dtype, smoothing)


def test_masked_classes_and_nan() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(12, 90, generator=generator) * 5
    logits[0, 3], logits[1, 50], logits[2] = torch.nan, torch.inf, -torch.inf
    logits[3, :60], logits[4, 1:] = -torch.inf, -torch.inf
    labels = torch.randint(90, (12,), generator=generator)
    labels[4], labels[5], logits[5, 7] = 0, 7, -torch.inf
    tile_cases.check_against_definition(
        logits, labels, [30, 30, 30], triton_tile_sums.add_tile, triton_tile_sums.close_sums
    )


def test_classes_on_several_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ranks take turns. In the first round each tells its sums, and in the second it gets those of all."""
    told: list[torch.Tensor] = []
    for name in ("add_tile", "close_sums", "gradient_in_place"):
        monkeypatch.setattr(class_parallel, name, getattr(triton_tile_sums, name))
    monkeypatch.setattr(class_parallel, "gather_alike", lambda sums, group: told.append(sums) or torch.stack(told[:3]))

    generator = torch.Generator().manual_seed(4)
    logits, labels = torch.randn(6, 40, generator=generator), torch.tensor([0, 7, -100, 39, 20, 19])
    logits[2] = torch.nan
    logits[3, :30] = -torch.inf
    exact = logits.double().requires_grad_()
    F.cross_entropy(exact, labels).backward()
    for begin, end in ((0, 1), (1, 30), (30, 40)) * 2:
        part = logits[:, begin:end].clone().requires_grad_()
        options = LossOptions(definition.METRICS)
        loss, scores = class_parallel.loss_of_parts(part, labels, options, Parts(None, begin, 40))
        if len(told) > 3:
            loss.backward()
            torch.testing.assert_close(part.grad, exact.grad[:, begin:end].float().nan_to_num())
            expected = definition.row_scores(logits, labels, definition.METRICS, -100, 0)
            for name, values in scores.items():
                assert cases.worst_error(values, expected[name]) <= cases.BOUND, name
    assert len(told) == 6
